"""Asking a person before something happens that can't be taken back."""

from __future__ import annotations

import sys

from mioesim_async.cli.outputs import printable
from mioesim_async.errors import InvalidRequest, MioEsimError

__all__ = ["Declined", "confirm"]


class Declined(MioEsimError):
    """A person said no."""


def confirm(question: str) -> None:
    """Ask on the terminal; only ``y`` or ``yes`` is a yes.

    It blocks, and Ctrl-C must be able to end it: call it where no event loop runs.

    Raises:
        Declined: If the answer is another.
        InvalidRequest: If there is nobody to ask.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InvalidRequest("there is no terminal to ask on; add --yes if it is meant")
    print(f"{printable(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Declined("nothing was done")

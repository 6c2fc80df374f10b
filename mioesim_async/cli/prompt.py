"""Asking a person before something happens that can't be taken back."""

from __future__ import annotations

import signal
import sys
from typing import IO, Any

from mioesim_async.cli.printing import printable
from mioesim_async.cli.signals import handled
from mioesim_async.errors import InvalidRequest, MioEsimError

__all__ = ["Declined", "Interrupted", "check_can_ask", "confirm"]


class Declined(MioEsimError):
    """A person said no."""


class Interrupted(Declined):
    """A person pressed Ctrl-C instead of an answer."""


def check_can_ask() -> None:
    """Find out early whether there is somebody to ask.

    Raises:
        InvalidRequest: If there is no terminal.
    """
    if not (_is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
        raise InvalidRequest(
            "there is no terminal to ask on, so nothing was done; add --yes if it is meant"
        )


def confirm(question: str) -> None:
    """Ask on the terminal; only ``y`` or ``yes`` is a yes, and Ctrl-C and Ctrl-D are a no.

    It blocks, and may do so inside an event loop that has nothing else to do.

    Raises:
        Declined: If the answer is another.
        Interrupted: At Ctrl-C, so that it looks the same inside an event loop and outside.
        InvalidRequest: If there is nobody to ask.
    """
    check_can_ask()
    if _answer(f"{printable(question)} [y/N] ").strip().lower() not in ("y", "yes"):
        raise Declined("nothing was done")


def _is_terminal(stream: IO[Any] | None) -> bool:
    return stream is not None and stream.isatty()


def _answer(question: str) -> str:
    # The event loop's own handler would wait until the line has been read.
    try:
        with handled(signal.default_int_handler):
            print(question, end="", file=sys.stderr, flush=True)
            answer = sys.stdin.readline()
    except UnicodeDecodeError:
        answer = ""
    except KeyboardInterrupt:
        print(file=sys.stderr)
        raise Interrupted("nothing was done") from None
    if not answer.endswith("\n"):
        print(file=sys.stderr)
    return answer

"""Asks the user before something that can't be undone."""

from __future__ import annotations

import signal
import sys
from typing import IO, Any

from mioesim_async.cli.printing import printable
from mioesim_async.cli.signals import handling_signals
from mioesim_async.errors import InvalidRequest, MioEsimError

__all__ = ["Declined", "Interrupted", "check_can_ask", "confirm"]


class Declined(MioEsimError):
    """The user answered no."""


class Interrupted(Declined):
    """The user pressed Ctrl-C instead of answering."""


def check_can_ask() -> None:
    """Check early that there is a terminal to ask on.

    Raises:
        InvalidRequest: If there is no terminal.
    """
    if not (_is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
        raise InvalidRequest(
            "there is no terminal to ask on, so nothing was done; add --yes to go on without asking"
        )


def confirm(question: str) -> None:
    """Ask on the terminal; go on only if the answer is ``y`` or ``yes``.

    It blocks, also inside an event loop: nothing else may run there meanwhile.

    Raises:
        Declined: If the answer is anything else, or Ctrl-D.
        Interrupted: At Ctrl-C, inside an event loop and outside.
        InvalidRequest: If there is no terminal.
    """
    check_can_ask()
    if _answer(f"{printable(question)} [y/N] ").strip().lower() not in ("y", "yes"):
        raise Declined("nothing was done")


def _is_terminal(stream: IO[Any] | None) -> bool:
    return stream is not None and stream.isatty()


def _answer(question: str) -> str:
    # The event loop's handler would run only after the line has been read.
    try:
        with handling_signals(signal.default_int_handler):
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

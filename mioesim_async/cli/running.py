"""Runs a command line: the app, exit statuses, and errors as one line."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sys
import traceback
from collections.abc import Callable, Coroutine
from contextlib import suppress
from importlib import import_module
from typing import IO, Any

from cyclopts import App, CycloptsError, Parameter, UnknownCommandError
from rich.console import Console

from mioesim_async import __version__, errors
from mioesim_async.cli.exit_status import FAILED, INTERRUPTED, OK, USAGE, EndedEarly
from mioesim_async.cli.printing import print_text, printable
from mioesim_async.cli.prompt import Interrupted
from mioesim_async.cli.signals import stoppable
from mioesim_async.transport.failures import meaning_of
from mioesim_async.wording import in_words

__all__ = [
    "AboveZero",
    "Flag",
    "NotNegative",
    "Port",
    "Positive",
    "app",
    "guarded",
    "one_line",
    "run",
    "say",
    "status_of",
]

app = App(
    name="mioesim",
    help="Query, buy and manage eSIMs and physical SIMs of the MIOeSIM reseller API.",
    version=__version__,
)

app.register_install_completion_command(
    help="Install completion for bash, zsh, fish or PowerShell (--shell chooses another shell)."
)

MODULES = (
    "query",
    "catalogue",
    "cards",
    "buying.commands",
    "orders",
    "sandbox",
)
"""Modules that register commands when they are imported."""

WRONG_USAGE = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)

COMMANDS = {
    "call orders.reconcile()": "run: mioesim orders reconcile",
    "take orders.new_reference() for": "take another reference for",
    "read it with orders.get()": "read it with: mioesim orders show ORDER",
    " (see .data)": "",
    " (.report has what was read)": "",
    "start": "--from",
    "end": "--to",
    "give other_order_id, start or end": "give --reference, --from or --to",
    "pass assume_absent_after=": "pass --assume-absent-after",
    "pass allow_insecure_http=True": "add --allow-insecure-http",
    "Pass account=": "Set MIOESIM_ACCOUNT, or account in the profile, to ",
    " or account=": " or to ",
    "Pass iter(...)": "Give them in a file (-f)",
    "raise Timeouts(read=...)": "raise --timeout",
    "raise Timeouts(attempt=...)": "raise --timeout",
    "raise Timeouts(money=...)": "look whether it was bought",
    "Dialect({name}={value})": "{name} = {value} in the account's profile",
}
"""Texts in messages that name Python code, and what the command says instead."""

Flag = Parameter(negative="", show_default=False)
"""An option without a value and without a ``--no-`` form."""
Positive = Parameter(validator=lambda _, value: _check_positive(value))
AboveZero = Parameter(validator=lambda _, value: _check_above(value, or_zero=False))
NotNegative = Parameter(validator=lambda _, value: _check_above(value, or_zero=True))
Port = Parameter(validator=lambda _, value: _check_port(value))


def _check_port(value: int) -> None:
    if not 0 <= value <= 65535:
        raise ValueError("must be 0 to 65535.")


def _check_positive(value: Any) -> None:
    if value is not None and value < 1:
        raise ValueError("must be 1 or more.")


def _check_above(value: float | None, *, or_zero: bool) -> None:
    if value is not None and not (0 < value < math.inf or (or_zero and value == 0)):
        raise ValueError("must be 0 or more." if or_zero else "must be more than 0.")


def guarded(work: Callable[[], Coroutine[Any, Any, int]], *, debug: bool) -> int:
    """Run a command, and turn an error into one line and an exit status."""
    logger = logging.getLogger(None if debug else "mioesim_async")
    logger.addHandler(_PrintableLogs(logging.BASIC_FORMAT if debug else None))
    if debug:
        logger.setLevel(logging.DEBUG)
    try:
        return _in_a_loop(work)
    except (KeyboardInterrupt, asyncio.CancelledError):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of the output has ended, such as head.
        return FAILED
    except (errors.MioEsimError, OSError) as error:
        if debug:
            for line in traceback.format_exc().splitlines():
                print_text(line, file=sys.stderr)
        else:
            say(one_line(error))
        return status_of(error)
    finally:
        _discard_unwritten_output()


class _PrintableLogs(logging.Handler):
    """Writes log records to standard error, without characters that a terminal would obey."""

    def __init__(self, format: str | None) -> None:  # noqa: A002 - the name that logging uses
        super().__init__(logging.NOTSET if format else logging.WARNING)
        self.setFormatter(logging.Formatter(format))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        with suppress(OSError, ValueError):
            for line in self.format(record).splitlines():
                # Looked up each time, so that warnings appear above a progress bar.
                print_text(line, file=sys.stderr)


def _in_a_loop(work: Callable[[], Coroutine[Any, Any, int]]) -> int:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(stoppable(work()))


def _discard_unwritten_output() -> None:
    """Throw away buffered output that can't be written, so that the interpreter ends cleanly."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def status_of(error: errors.MioEsimError | OSError) -> int:
    """Return the exit status that an error means."""
    if isinstance(error, Interrupted):
        return INTERRUPTED
    if isinstance(error, EndedEarly):
        return error.exit_status
    if isinstance(error, errors.MioEsimError):
        return meaning_of(error).exit_status
    return USAGE if isinstance(error, WRONG_USAGE) else FAILED


def one_line(error: Exception) -> str:
    """Say in one line what an error says, with its notes."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = ". ".join([str(error), *getattr(error, "__notes__", [])])
    return printable(text) or ""


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def say(message: str) -> None:
    """Print one line on standard error; ignore it if that is closed."""
    with suppress(OSError):
        print_text(f"mioesim: {' '.join(message.split())}", file=sys.stderr)


def _devnull(mode: str) -> IO[str]:
    # Nobody closes it, as nobody closes the streams of the interpreter.
    handle = os.open(os.devnull, os.O_RDWR)
    return open(handle, mode, encoding="utf-8", closefd=False)


def _fill_closed_streams() -> bool:
    """Put an empty input in the place of a closed one; return whether there is an output.

    Otherwise the next file or socket would get the descriptor of the closed stream, and uvloop
    ends the process when it closes such a one.
    """
    # In the type they are never None, but a stream that was closed before the start is.
    closed = {name for name in ("stdin", "stdout", "stderr") if getattr(sys, name) is None}
    if "stdin" in closed:
        sys.stdin = _devnull("r")
    if "stderr" in closed:
        sys.stderr = _devnull("w")
    return "stdout" not in closed


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit status."""
    if not _fill_closed_streams():
        say("standard output is closed; to do without it, add >/dev/null")
        return USAGE
    for module in MODULES:
        import_module(f"mioesim_async.cli.{module}")
    try:
        with in_words(COMMANDS):
            # A console keeps the width that it had at first, and this may be called again.
            result = app(
                arguments,
                console=Console(),
                exit_on_error=False,
                print_error=False,
                result_action="return_value",
            )
    except CycloptsError as error:
        say(_usage(error))
        return USAGE
    except BrokenPipeError:
        return FAILED
    except OSError as error:
        # From installing the completion, the only command that runs without guarded().
        say(one_line(error))
        return status_of(error)
    finally:
        _discard_unwritten_output()
    return result if isinstance(result, int) else OK


def _usage(error: CycloptsError) -> str:
    """Say what is wrong with a command line, and where to look."""
    text = " ".join(str(error).split())
    if isinstance(error, UnknownCommandError) and error.app is not None:
        names = ", ".join(name for name in error.app if not name.startswith("-"))
        text = f"{text.partition(' Available commands: ')[0]} The commands are {names}."
    command = " ".join(["mioesim", *(error.command_chain or ())])
    return f"{text} Try '{command} --help'."

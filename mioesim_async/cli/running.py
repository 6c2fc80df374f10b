"""Runs a command line: the app, exit statuses, and errors as one line."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import traceback
from collections.abc import Callable, Coroutine
from contextlib import suppress
from importlib import import_module
from typing import Any

from cyclopts import App, CycloptsError, Parameter

from mioesim_async import __version__, errors
from mioesim_async.cli.exit_status import FAILED, INTERRUPTED, NOT_LOGGED_IN, OK, USAGE, NotLoggedIn
from mioesim_async.cli.printing import printable
from mioesim_async.cli.prompt import Interrupted
from mioesim_async.cli.signals import stoppable
from mioesim_async.transport.failures import meaning_of
from mioesim_async.wording import in_words

__all__ = ["Flag", "Port", "Positive", "app", "guarded", "run", "say"]

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

IMPORTED_ALONE = {"query": "query", "sandbox": "sandbox"}
"""Commands whose module is imported alone: importing all takes a quarter of a second."""

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
    "Dialect({name}={value})": "{name} = {value} in the account's profile",
}
"""Texts in messages that name Python code, and what the command says instead."""

Flag = Parameter(negative="", show_default=False)
"""An option without a value and without a ``--no-`` form."""
Positive = Parameter(validator=lambda _, value: _check_positive(value))
Port = Parameter(validator=lambda _, value: _check_port(value))


def _check_port(value: int) -> None:
    if not 0 <= value <= 65535:
        raise ValueError("must be 0 to 65535.")


def _check_positive(value: Any) -> None:
    if value is not None and value < 1:
        raise ValueError("must be 1 or more.")


def guarded(work: Callable[[], Coroutine[Any, Any, int]], *, debug: bool) -> int:
    """Run a command, and turn an error into one line and an exit status."""
    if debug:
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    elif logging.lastResort is not None:
        # It looks up sys.stderr at each warning, so that warnings appear above a progress bar.
        logging.getLogger("mioesim_async").addHandler(logging.lastResort)
    try:
        return _in_a_loop(work)
    except (KeyboardInterrupt, asyncio.CancelledError):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of the output has ended, such as head.
        return FAILED
    except (errors.MioEsimError, OSError) as error:
        if debug:
            traceback.print_exc()
        else:
            say(_one_line(error))
        return _status_of(error)
    finally:
        _discard_unwritten_output()


def _in_a_loop(work: Callable[[], Coroutine[Any, Any, int]]) -> int:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(stoppable(work()))


def _discard_unwritten_output() -> None:
    """Throw away buffered output that can't be written, so that the interpreter ends cleanly."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _status_of(error: errors.MioEsimError | OSError) -> int:
    if isinstance(error, Interrupted):
        return INTERRUPTED
    if isinstance(error, NotLoggedIn):
        return NOT_LOGGED_IN
    if isinstance(error, errors.MioEsimError):
        return meaning_of(error).exit_status
    return USAGE if isinstance(error, WRONG_USAGE) else FAILED


def _one_line(error: Exception) -> str:
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
        print(f"mioesim: {printable(' '.join(message.split()))}", file=sys.stderr)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit status."""
    first = arguments[0] if arguments else ""
    for module in (IMPORTED_ALONE[first],) if first in IMPORTED_ALONE else MODULES:
        import_module(f"mioesim_async.cli.{module}")
    try:
        with in_words(COMMANDS):
            result = app(
                arguments, exit_on_error=False, print_error=False, result_action="return_value"
            )
    except CycloptsError as error:
        say(f"{' '.join(str(error).split())} Try 'mioesim --help'.")
        return USAGE
    except OSError as error:
        # From installing the completion, the only command that runs without guarded().
        say(_one_line(error))
        return _status_of(error)
    return result if isinstance(result, int) else OK

"""Commands, exit statuses, and how errors look to a person."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from mioesim_async import __version__, errors
from mioesim_async.cli.outputs import printable
from mioesim_async.cli.query import Format, QueryOptions, query_cards
from mioesim_async.cli.status import FAILED, INTERRUPTED, NOT_LOGGED_IN, OK, USAGE, NotLoggedIn
from mioesim_async.sandbox import Sandbox
from mioesim_async.sandbox.specs import parse_fault

__all__ = ["run"]

app = App(
    name="mioesim",
    help="Query eSIMs and physical SIMs of the MIOeSIM reseller API.",
    version=__version__,
)

WRONG_USAGE = (
    errors.InvalidRequest,
    errors.ConfigurationError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)
OnFile = Parameter(allow_leading_hyphen=True)
Positive = Parameter(validator=lambda _, value: _check_positive(value))


Port = Parameter(validator=lambda _, value: _check_port(value))


def _check_port(value: int) -> None:
    if not 0 <= value <= 65535:
        raise ValueError("must be 0 to 65535.")


def _check_positive(value: Any) -> None:
    if value is not None and value < 1:
        raise ValueError("must be 1 or more.")


@app.command
def query(
    *iccids: str,
    file: Annotated[
        Path | None, Parameter(name=["--file", "-f"], allow_leading_hyphen=True)
    ] = None,
    column: Annotated[str | None, Parameter(name=["--column", "-c"])] = None,
    sandbox: Annotated[int | None, Positive] = None,
    output: Annotated[
        Path | None, Parameter(name=["--output", "-o"], allow_leading_hyphen=True)
    ] = None,
    format: Format | None = None,  # noqa: A002 - it is the option's name
    concurrency: Annotated[int, Positive] = 8,
    debug: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Query status and usage of any number of cards.

    Takes ICCIDs from the arguments, else from --file, else from standard input. The account
    comes from MIOESIM_PHONE_NUMBER, MIOESIM_PASSWORD, MIOESIM_SECRET_KEY and MIOESIM_BASE_URL.

    Exit status: 0 all found, 1 some missing or failed, 2 wrong usage, 3 not logged in,
    130 interrupted.

    Args:
        iccids: ICCIDs to query.
        file: A text file with one ICCID per line, or a CSV file.
        column: The CSV column that holds the ICCIDs.
        sandbox: Start a sandbox with that many cards and query it; no account, no network.
        output: Write the result to a file; its ending chooses the format.
        format: How to write the result.
        concurrency: How many batches of 100 are under way at once.
        debug: Show logs and tracebacks.
    """
    options = QueryOptions(iccids, file, column, sandbox, output, format, concurrency)
    return _guarded(lambda: query_cards(options), debug=debug)


@app.command(name="sandbox")
def serve_sandbox(
    *,
    cards: Annotated[int, Positive] = 1000,
    seed: int = 0,
    host: str = "127.0.0.1",
    port: Annotated[int, Port] = 0,
    fault: Annotated[tuple[str, ...], Parameter(negative="", allow_leading_hyphen=True)] = (),
    capacity: Annotated[int | None, Positive] = None,
    debug: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Run a sandbox by itself, and print the environment variables that lead to it.

    Args:
        cards: How many cards its account has.
        seed: Another seed makes other cards.
        host: Address to listen on.
        port: Port to listen on; 0 for a free one.
        fault: What shall go wrong, as ``name[=value][@endpoint][*times]``, such as
            ``http=503@queryIccidInformation*10``; without times, for ever. May be repeated.
        capacity: Answer 429 to more calls at once than that.
        debug: Show logs and tracebacks.
    """

    def serve() -> Coroutine[Any, Any, int]:
        sandbox = Sandbox(cards, seed, host=host, port=port, record=False, capacity=capacity)
        for spec in map(parse_fault, fault):
            sandbox.faults.add(spec.fault, spec.endpoint, times=spec.times)
        return _serve(sandbox)

    status = _guarded(serve, debug=debug)
    # Ctrl-C is how a server is stopped.
    return OK if status == INTERRUPTED else status


async def _serve(sandbox: Sandbox) -> int:
    async with sandbox:
        account = sandbox.credentials
        variables = {
            "MIOESIM_BASE_URL": sandbox.url,
            "MIOESIM_PHONE_NUMBER": account.phone_number,
            "MIOESIM_PASSWORD": account.password,
            "MIOESIM_SECRET_KEY": account.secret_key,
        }
        for name, value in variables.items():
            print(f"export {name}={shlex.quote(value)}")
        print(
            f"# {len(sandbox.iccids)} cards, the first is {sandbox.iccids[0]}; Ctrl-C stops",
            flush=True,
        )
        await asyncio.Event().wait()
    return OK


def _guarded(work: Callable[[], Coroutine[Any, Any, int]], *, debug: bool) -> int:
    """Run a command, and turn what goes wrong into one line and an exit status."""
    if debug:
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    elif logging.lastResort is not None:
        # Looks sys.stderr up each time, so that warnings stand above a progress bar.
        logging.getLogger("mioesim_async").addHandler(logging.lastResort)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(work())
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has gone, as head does.
        return FAILED
    except (errors.MioEsimError, OSError) as error:
        if debug:
            traceback.print_exc()
        else:
            _say(_one_line(error))
        return _status_of(error)
    finally:
        _drop_what_cannot_be_written()


def _drop_what_cannot_be_written() -> None:
    """Keep the interpreter from failing over what is still buffered when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _status_of(error: Exception) -> int:
    if isinstance(error, WRONG_USAGE):
        return USAGE
    if isinstance(error, NotLoggedIn | errors.AuthenticationError | errors.PermissionDenied):
        return NOT_LOGGED_IN
    return NOT_LOGGED_IN if isinstance(error, errors.SignatureError) else FAILED


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = ". ".join([str(error), *getattr(error, "__notes__", [])])
    return printable(" ".join(text.split())) or ""


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _say(message: str) -> None:
    print(f"mioesim: {message}", file=sys.stderr)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit status."""
    try:
        result = app(
            arguments, exit_on_error=False, print_error=False, result_action="return_value"
        )
    except CycloptsError as error:
        _say(f"{' '.join(str(error).split())} Try 'mioesim --help'.")
        return USAGE
    return result if isinstance(result, int) else OK

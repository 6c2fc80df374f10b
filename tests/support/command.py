"""Runs the ``mioesim`` command, in the test's own process or in one of its own.

Tests of output and exit status run it in their own process, which takes a twentieth of the time.
Tests of signals, terminals, broken pipes or the end of a process start a process.
"""

from __future__ import annotations

import io
import logging
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from unittest.mock import patch

from attrs import define
from waiting import SECONDS, read_to_end

from mioesim_async.cli.running import run
from mioesim_async.cli.signals import SIGNALS
from mioesim_async.rows import layout
from mioesim_async.sandbox import Sandbox

PYTHON = [sys.executable, "-W", "error"]
COMMAND = [*PYTHON, "-m", "mioesim_async.cli"]
DEBUGS = ("PYTHONDEVMODE", "PYTHONASYNCIODEBUG")
"""In debug mode, asyncio logs slow callbacks, and these lines would be among the command's."""

CHOOSES_STYLE = ("COLUMNS", "LINES", "TERM", "NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE")


@define
class Done:
    """A command that has ended."""

    status: int
    out: str
    err: str


def environment(sandbox: Sandbox | None = None, **more: str) -> dict[str, str]:
    """Return an environment with this sandbox's account, or with none."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MIOESIM_", "TTY_")) and name not in {*CHOOSES_STYLE, *DEBUGS}
    }
    if sandbox is not None:
        account = sandbox.credentials
        clean |= {
            "MIOESIM_BASE_URL": sandbox.url,
            "MIOESIM_PHONE_NUMBER": account.phone_number,
            "MIOESIM_PASSWORD": account.password,
            "MIOESIM_SECRET_KEY": account.secret_key,
        }
    return clean | {"TERM": "xterm-256color"} | more


def mioesim(
    *arguments: object,
    sandbox: Sandbox | None = None,
    typed: str | bytes | None = None,
    stdin: int | IO[Any] | None = None,
    **more: str,
) -> Done:
    """Call the command as its process would, and leave this process as it was.

    Args:
        arguments: The command's arguments.
        sandbox: The sandbox whose account is in the environment; None for no account.
        typed: Text that is piped to standard input.
        stdin: Standard input if no text is piped; None for ``/dev/null``.
        more: More environment variables.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with (
            _input(typed, stdin) as given,
            _streams(given, out, err),
            _logging_as_at_the_start(),
            _handlers_put_back(),
            _limited(),
            patch.dict(os.environ, environment(sandbox, **more), clear=True),
            patch.object(sys, "argv", ["mioesim", *map(str, arguments)]),
        ):
            layout._reported.clear()
            status = run(sys.argv[1:])
        out.seek(0)
        err.seek(0)
        return Done(status, out.read().decode(), err.read().decode())


@contextmanager
def _input(typed: str | bytes | None, given: int | IO[Any] | None) -> Iterator[int]:
    """Open the command's standard input; if it is a pipe, write the text to it."""
    if typed is None:
        with Path(os.devnull).open("rb") as nothing:
            yield given if isinstance(given, int) else (given or nothing).fileno()
        return
    content = typed.encode() if isinstance(typed, str) else typed
    reads, writes = os.pipe()

    def write() -> None:
        # The command need not read all of it.
        with suppress(BrokenPipeError), os.fdopen(writes, "wb") as pipe:
            pipe.write(content)

    typing = threading.Thread(target=write, name="typing")
    typing.start()
    try:
        yield reads
    finally:
        os.close(reads)
        typing.join(SECONDS)


@contextmanager
def _streams(given: int, out: IO[bytes], err: IO[bytes]) -> Iterator[None]:
    """Use these as standard input, output and error within the block, as a shell does."""
    with ExitStack() as stack:
        for number, descriptor in enumerate((given, out.fileno(), err.fileno())):
            stack.callback(_move, os.dup(number), number)
            os.dup2(descriptor, number)
        for name, stream in {
            "stdin": io.TextIOWrapper(io.BufferedReader(_raw(0, "stdin")), "utf-8"),
            "stdout": io.TextIOWrapper(io.BufferedWriter(_raw(1, "stdout")), "utf-8"),
            "stderr": io.TextIOWrapper(
                io.BufferedWriter(_raw(2, "stderr")),
                "utf-8",
                "backslashreplace",
                line_buffering=True,
            ),
        }.items():
            stack.enter_context(patch.object(sys, name, stack.enter_context(stream)))
        yield


def _move(descriptor: int, number: int) -> None:
    os.dup2(descriptor, number)
    os.close(descriptor)


def _raw(number: int, name: str) -> io.FileIO:
    raw = io.FileIO(number, "rb" if number == 0 else "wb", closefd=False)
    raw.name = f"<{name}>"
    return raw


def _is_no_slowness(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("Executing ")


@contextmanager
def _logging_as_at_the_start() -> Iterator[None]:
    """Remove pytest's handlers from the loggers within the block, and the command's after it."""
    root, own = logging.getLogger(), logging.getLogger("mioesim_async")
    loops = logging.getLogger("asyncio")
    before = [(logger, logger.level, logger.handlers) for logger in (root, own)]
    try:
        root.handlers, own.handlers = [], own.handlers[:]
        root.setLevel(logging.WARNING)
        own.setLevel(logging.NOTSET)
        loops.addFilter(_is_no_slowness)
        yield
    finally:
        loops.removeFilter(_is_no_slowness)
        for logger, level, handlers in before:
            logger.setLevel(level)
            logger.handlers = handlers


@contextmanager
def _handlers_put_back() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _limited() -> Iterator[None]:
    """Press Ctrl-C until the command ends if it takes too long; uvloop reacts to nothing else."""
    ended, pressed = threading.Event(), 0

    def watch() -> None:
        nonlocal pressed
        while not ended.wait(1 if pressed else SECONDS):
            pressed += 1
            os.kill(os.getpid(), signal.SIGINT)

    watching = threading.Thread(target=watch, name="limit of a command")
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join()
        assert not pressed, f"the command didn't end within {SECONDS} s"


@contextmanager
def started(
    *arguments: object,
    sandbox: Sandbox | None = None,
    command: Iterable[str] = COMMAND,
    **streams: Any,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command in a process of its own, which is ended at the end of the block."""
    streams = {
        "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
    } | streams  # fmt: skip
    line = [*command, *map(str, arguments)]
    with subprocess.Popen(line, env=environment(sandbox), **streams) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[bytes]) -> Done:
    """Wait until the command has ended, and return its result."""
    out, err = process.communicate(timeout=SECONDS)
    return Done(process.returncode, (out or b"").decode(), (err or b"").decode())


def interrupted(process: subprocess.Popen[bytes]) -> Done:
    """Press Ctrl-C, wait until the command has ended, and return its result."""
    process.send_signal(signal.SIGINT)
    return ended(process)


def on_terminal(*arguments: object, sandbox: Sandbox) -> Done:
    """Run the command with a terminal as its standard error."""
    ours, theirs = pty.openpty()
    try:
        with tempfile.TemporaryFile() as out:
            with started(*arguments, sandbox=sandbox, stdout=out, stderr=theirs) as process:
                os.close(theirs)
                shown = read_to_end(ours)
                process.wait(SECONDS)
            out.seek(0)
            return Done(process.returncode, out.read().decode(), shown)
    finally:
        os.close(ours)


def rows_of(table: str) -> dict[str, str]:
    """Read the lines of a summary: the last column, by the text before it."""
    lines = [re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in table.splitlines()]
    return {parts[0]: parts[1] for parts in lines if len(parts) == 2}


def lines_of(iccids: Iterable[str]) -> str:
    """Write one ICCID a line."""
    return "".join(f"{iccid}\n" for iccid in iccids)

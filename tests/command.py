"""The ``mioesim`` command as a real process, for the tests of the command line."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from attrs import define
from waiting import SECONDS, read_to_end

from mioesim_async.sandbox import Sandbox

PYTHON = [sys.executable, "-W", "error"]
COMMAND = [*PYTHON, "-m", "mioesim_async.cli"]
CHOOSES_STYLE = ("COLUMNS", "LINES", "TERM", "NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE")


@define
class Done:
    """A process that has ended."""

    status: int
    out: str
    err: str


def environment(sandbox: Sandbox | None = None, **more: str) -> dict[str, str]:
    """Return an environment with this sandbox's account, or with none."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MIOESIM_", "TTY_")) and name not in CHOOSES_STYLE
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
    stdin: int | IO[Any] | None = subprocess.DEVNULL,
    **more: str,
) -> Done:
    """Run the command to its end.

    Args:
        arguments: Of the command.
        sandbox: Whose account the environment holds.
        typed: What comes through a pipe on standard input.
        stdin: Standard input, where nothing is piped.
        more: More environment variables.
    """
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        env=environment(sandbox, **more),
        input=typed.encode() if isinstance(typed, str) else typed,
        stdin=None if typed is not None else stdin,
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


@contextmanager
def started(
    *arguments: object,
    sandbox: Sandbox | None = None,
    command: Iterable[str] = COMMAND,
    **streams: Any,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command in a process while the test goes on; it is ended with the block."""
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
    """Wait for the end."""
    out, err = process.communicate(timeout=SECONDS)
    return Done(process.returncode, (out or b"").decode(), (err or b"").decode())


def interrupted(process: subprocess.Popen[bytes]) -> Done:
    """Press Ctrl-C and wait for the end."""
    process.send_signal(signal.SIGINT)
    return ended(process)


def on_terminal(*arguments: object, sandbox: Sandbox) -> Done:
    """Run the command with a terminal for its standard error."""
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
    """Read the summary's lines: what stands in the last column, by what stands before it."""
    lines = [re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in table.splitlines()]
    return {parts[0]: parts[1] for parts in lines if len(parts) == 2}


def lines_of(iccids: Iterable[str]) -> str:
    """Write one ICCID a line."""
    return "".join(f"{iccid}\n" for iccid in iccids)

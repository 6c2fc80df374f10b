"""Runs the ``mioesim`` command on a terminal, and types for it."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios

from command import COMMAND, Done, environment
from waiting import SECONDS, read_to_end, read_until

from mioesim_async.sandbox import Sandbox

__all__ = ["at_terminal"]

ON_ITS_TERMINAL = ["sh", "-c", 'exec "$@" < "$0"']
"""Opens the terminal as the first one of a session, which then gets its Ctrl-C."""


def at_terminal(
    *arguments: object, sandbox: Sandbox, typed: str = "", asked: str = "", columns: int = 80
) -> Done:
    """Run the command with one terminal for everything; ``out`` is what it shows.

    Args:
        arguments: The command's arguments.
        sandbox: The sandbox whose account is in the environment; None for no account.
        typed: What is typed, which may contain Ctrl-C and Ctrl-D.
        asked: The text that must be on the screen before anything is typed.
        columns: How wide the terminal is.
    """
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        process = subprocess.Popen(
            [*ON_ITS_TERMINAL, os.ttyname(theirs), *COMMAND, *map(str, arguments)],
            env=environment(sandbox),
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        with process:
            try:
                shown = _talk(ours, typed, asked)
                process.wait(SECONDS)
            finally:
                process.kill()
        return Done(process.returncode, shown.replace("\r\n", "\n"), "")
    finally:
        os.close(ours)


def _talk(terminal: int, typed: str, asked: str) -> str:
    shown = read_until(terminal, asked)
    if typed:
        os.write(terminal, typed.encode())
    return shown + read_to_end(terminal)

"""Runs the ``mioesim`` command on a pseudo-terminal and answers its questions."""

from __future__ import annotations

import os
import pty
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from attrs import define
from command import Done, started
from waiting import SECONDS, read_to_end, read_until

from mioesim_async.sandbox import Sandbox

QUESTION = "[y/N]"
END_OF_FILE = "\x04"


@define
class Terminal:
    """A running command, and the terminal that it asks on.

    Attributes:
        process: The command.
        shown: What the terminal has shown so far.
    """

    process: subprocess.Popen[bytes]
    out: IO[bytes]
    ours: int
    shown: str = ""

    def wait_for(self, text: str) -> None:
        """Read on until the terminal shows a text."""
        if text not in self.shown:
            self.shown += read_until(self.ours, text)

    def type(self, text: str) -> None:
        """Type a text."""
        os.write(self.ours, text.encode())

    def done(self) -> Done:
        """Wait until the command has ended, and return its result."""
        self.shown += read_to_end(self.ours)
        self.process.wait(SECONDS)
        self.out.seek(0)
        return Done(self.process.returncode, self.out.read().decode(), self.shown)


@contextmanager
def at_terminal(*arguments: object, sandbox: Sandbox) -> Iterator[Terminal]:
    """Run the command with a terminal for all but its standard output."""
    ours, theirs = pty.openpty()
    try:
        with (
            tempfile.TemporaryFile() as out,
            started(*arguments, sandbox=sandbox, stdin=theirs, stdout=out, stderr=theirs) as child,
        ):
            os.close(theirs)
            yield Terminal(child, out, ours)
    finally:
        os.close(ours)


def answered(*arguments: object, sandbox: Sandbox, answer: str) -> Done:
    """Run the command, and answer its question."""
    with at_terminal(*arguments, sandbox=sandbox) as terminal:
        terminal.wait_for(QUESTION)
        terminal.type(answer)
        return terminal.done()

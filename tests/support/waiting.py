"""Waits with a limit, so that a test fails instead of hanging."""

from __future__ import annotations

import asyncio
import os
import selectors
import time
from collections.abc import Callable
from typing import IO

__all__ = ["SECONDS", "line_of", "read_to_end", "read_until", "until", "wait_until"]

SECONDS = 60
"""Seconds that a test waits for one thing; pytest's limit for a whole test is longer."""


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until another thread or process has made a condition true."""
    ends = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < ends, f"it did not happen within {SECONDS} s"
        time.sleep(0.005)


async def until(condition: Callable[[], object], pause: float = 0.001) -> None:
    """Wait until another task, thread or process has made a condition true.

    Args:
        condition: Whether it has happened.
        pause: Seconds between two looks; 0 looks once a turn of the loop.
    """
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(pause)


def read_until(source: IO[bytes] | int, text: str) -> str:
    """Read from a child until a text appears, and no further.

    What follows the text stays in the pipe, for ``communicate`` or the next call.

    Args:
        source: The reading end of a pipe, or a terminal.
        text: What has to appear.

    Returns:
        What was read, the text included.
    """
    seen, wanted, ends = b"", text.encode(), time.monotonic() + SECONDS
    while not seen.endswith(wanted):
        # One byte at a time takes nothing of what follows.
        byte = _read(source, 1, ends)
        assert byte, f"{text!r} did not come, but {_shown(seen, byte)}"
        seen += byte
    return seen.decode()


def read_to_end(source: IO[bytes] | int) -> str:
    """Read what a child writes until it closes its end."""
    seen, ends = b"", time.monotonic() + SECONDS
    while chunk := _read(source, 65536, ends):
        seen += chunk
    assert chunk is not None, f"the end did not come, but {_shown(seen, chunk)}"
    return seen.decode()


async def line_of(process: asyncio.subprocess.Process) -> str:
    """Read one line of a child's standard output, without its end."""
    assert process.stdout is not None
    async with asyncio.timeout(SECONDS):
        line = await process.stdout.readline()
    assert line.endswith(b"\n"), f"the output ended with {line!r}"
    return line.decode().removesuffix("\n")


def _read(source: IO[bytes] | int, size: int, ends: float) -> bytes | None:
    """Read what was written; b"" at the end of the output, None if the time is over."""
    with selectors.DefaultSelector() as readable:
        readable.register(source, selectors.EVENT_READ)
        if not readable.select(max(0, ends - time.monotonic())):
            return None
    try:
        return os.read(source if isinstance(source, int) else source.fileno(), size)
    except OSError:
        # A terminal whose other end is closed.
        return b""


def _shown(seen: bytes, last: bytes | None) -> str:
    how = f"{SECONDS} s without more" if last is None else "the end of the output"
    return f"{seen.decode(errors='replace')!r} and {how}"

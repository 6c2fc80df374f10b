"""Token stores under test, and processes of their own that hold locks."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from waiting import SECONDS, line_of

from mioesim_async import Dialect, FileTokenStore, StoredToken
from mioesim_async.tokens.redis import RedisTokenStore
from mioesim_async.wire.account import account_key

__all__ = ["KEY", "LEASE", "TOKEN", "at", "held_elsewhere", "spawned"]

KEY = account_key("13900000000", "host.example")
TOKEN = StoredToken("made-up-token", 1_700_000_000.5, Dialect("encoded", "json", "POST", "ids"))
LEASE = 1.0

HOLD = """
import asyncio, sys
from stores import KEY, at

async def main():
    async with at(sys.argv[1]).lock(KEY):
        print("held", flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


def at(place: str, lease: float = LEASE) -> FileTokenStore | RedisTokenStore:
    """Open the store at a path or URL."""
    return RedisTokenStore(place, lease=lease) if "://" in place else FileTokenStore(place)


@asynccontextmanager
async def spawned(code: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run Python code in a process of its own, which doesn't outlive the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parent,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        # Ends the transport too, so that nothing is left to the garbage collector.
        async with asyncio.timeout(SECONDS):
            await process.communicate()


@asynccontextmanager
async def held_elsewhere(place: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Hold the lock of ``KEY`` in another process."""
    async with spawned(HOLD, place) as process:
        assert await line_of(process) == "held"
        yield process

"""Token stores for tests, and processes that hold their locks."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from redis_server import PASSWORD
from waiting import SECONDS, line_of

from mioesim_async import Dialect, FileTokenStore, MemoryTokenStore, StoredToken
from mioesim_async.sandbox import Sandbox
from mioesim_async.tokens.redis import RedisTokenStore
from mioesim_async.wire.account import account_key, label_of_host

__all__ = ["KEY", "LEASE", "TOKEN", "FlakyStore", "at", "held_elsewhere", "key_of", "spawned"]

KEY = account_key("13900000000", "host.example")
TOKEN = StoredToken("made-up-token", 1_700_000_000.5, Dialect("encoded", "json", "POST", "ids"))
LEASE = 1.0

HOLD = """
import asyncio, sys
from stores import at

async def main():
    async with at(sys.argv[1]).lock(sys.argv[2]):
        print("held", flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


class FlakyStore(MemoryTokenStore):
    """A store in memory that can be down, and that counts calls.

    Attributes:
        down: Whether it fails, with a message that must not be logged.
        loads: How often a token was loaded.
        locks: How often the lock was requested.
    """

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.loads = self.locks = 0

    def check(self) -> None:
        if self.down:
            raise OSError(f"made-up outage of redis://:{PASSWORD}@host")

    async def load(self, key: str) -> StoredToken | None:
        self.loads += 1
        self.check()
        return await super().load(key)

    async def save(self, key: str, token: StoredToken) -> None:
        self.check()
        await super().save(key, token)

    def lock(self, key: str) -> AbstractAsyncContextManager[None]:
        self.locks += 1
        self.check()
        return super().lock(key)


def at(place: str, lease: float = LEASE) -> FileTokenStore | RedisTokenStore:
    """Open the store at a path or URL."""
    return RedisTokenStore(place, lease=lease) if "://" in place else FileTokenStore(place)


def key_of(sandbox: Sandbox) -> str:
    """Return the key of a sandbox's account."""
    return account_key(sandbox.credentials.phone_number, label_of_host(sandbox.url))


@asynccontextmanager
async def spawned(
    code: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    run_by: Sequence[str] = (),
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run Python code in a process, which is ended at the end of the block.

    ``run_by`` is a command that replaces itself with the one that follows it.
    """
    process = await asyncio.create_subprocess_exec(
        *run_by, sys.executable, "-c", code, *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parent, env={**os.environ, **(environment or {})},
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
async def held_elsewhere(place: str, key: str = KEY) -> AsyncIterator[asyncio.subprocess.Process]:
    """Hold an account's lock in another process."""
    async with spawned(HOLD, place, key) as process:
        assert await line_of(process) == "held"
        yield process

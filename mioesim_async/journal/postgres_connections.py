"""Connections to one PostgreSQL database, for one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

from mioesim_async.closing import run_to_end

__all__ = ["ERRORS", "Connections"]

ERRORS = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""What asyncpg raises; a ``TimeoutError`` is an ``OSError``."""

MAX_CONNECTIONS = 5
"""Connections of one journal in one event loop; each is busy for one statement."""
CONNECT_SECONDS = 5
CLOSE_SECONDS = 1.0
IDLE_SECONDS = 30.0
"""Seconds until a connection that isn't used is closed."""
STATEMENT_SECONDS = 15.0
"""Seconds until the server ends a statement: it is over before its caller gives up."""


class Connections:
    """Opens connections when they are needed, and keeps them for a while.

    asyncpg's own pool asks the server to reset a connection after each use, which takes as long as
    a statement, and can't close only what is idle.
    """

    def __init__(self, url: str) -> None:
        """Keep the URL; nothing is opened yet."""
        self._url = url
        self._free = asyncio.Semaphore(MAX_CONNECTIONS)
        self._idle: list[tuple[float, Any]] = []
        self._closing: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def acquire(self) -> AsyncGenerator[Any]:
        """Yield a connection; it is kept for others if the block ends without an error.

        Raises:
            OSError: If the database can't be reached.
            asyncpg.PostgresError: If it refuses the connection.
            asyncpg.InterfaceError: If the URL can't be read.
        """
        async with self._free:
            db = self._take() or await self._connect()
            try:
                yield db
            except BaseException:
                # It may be in the middle of a statement.
                db.terminate()
                raise
            self._idle.append((asyncio.get_running_loop().time(), db))
            self._watch()

    async def close_idle(self) -> None:
        """Close the connections that nobody uses."""
        await run_to_end(self._close([db for _, db in self._idle]))
        if self._closing:
            await asyncio.wait(self._closing)

    def drop_idle(self) -> None:
        """Close the connections that nobody uses at once: the server is gone, or was restarted."""
        for _, db in self._idle:
            db.terminate()
        self._idle.clear()

    def _take(self) -> Any:
        while self._idle:
            _, db = self._idle.pop()
            if not db.is_closed():
                return db
        return None

    async def _connect(self) -> Any:
        settings = {"statement_timeout": str(int(STATEMENT_SECONDS * 1000))}
        if "application_name=" not in self._url:
            settings["application_name"] = "mioesim_async"
        try:
            return await asyncpg.connect(
                self._url, timeout=CONNECT_SECONDS, server_settings=settings
            )
        except TimeoutError:
            fault: Exception = OSError("it doesn't answer")
        except (ValueError, *ERRORS) as error:
            fault = error
        if isinstance(fault, ValueError):
            # Raised outside the handler, since the text may repeat the URL and its password.
            raise asyncpg.ClientConfigurationError("the URL can't be read")
        raise fault

    def _watch(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(IDLE_SECONDS, self._expire)

    def _expire(self) -> None:
        self._timer = None
        until = asyncio.get_running_loop().time() - IDLE_SECONDS / 2
        old = [db for since, db in self._idle if since <= until]
        closing = asyncio.create_task(self._close(old), name="mioesim_async journal")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        if len(old) < len(self._idle):
            self._watch()

    async def _close(self, these: list[Any]) -> None:
        self._idle = [(since, db) for since, db in self._idle if db not in these]
        if not self._idle and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for db in these:
            with suppress(*ERRORS):
                await db.close(timeout=CLOSE_SECONDS)

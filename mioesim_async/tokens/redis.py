"""Tokens in Redis, for the processes of many hosts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import orjson
from redis.asyncio import Redis
from redis.asyncio.lock import Lock
from redis.exceptions import LockError, RedisError

from mioesim_async.tokens.codec import decode, encode, loads
from mioesim_async.tokens.store import StoredToken

__all__ = ["RedisTokenStore"]

logger = logging.getLogger("mioesim_async")

PREFIX = "mioesim_async"
SCHEMES = ("redis://", "rediss://", "unix://")
KEPT_SECONDS = 3 * 60 * 60
"""Longer than a token lives; Redis forgets it then."""

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0


class RedisTokenStore:
    """One key for each account in Redis, with a lock that a dead holder loses.

    The lock has a lease that is extended while its holder logs in. When the holder dies,
    the others go on within the lease.
    """

    def __init__(self, url: str, *, lease: float = 15.0) -> None:
        """Keep tokens in a Redis server; nothing is opened yet.

        Args:
            url: Such as ``redis://:password@host:6379/0`` or ``rediss://...`` for TLS.
            lease: Seconds after which the lock of a dead holder is free.

        Raises:
            ValueError: If the URL is none of Redis.
        """
        if not url.startswith(SCHEMES):
            raise ValueError("the URL must start with redis://, rediss:// or unix://")
        self._lease = lease
        self._redis: Redis = Redis.from_url(
            url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=ANSWER_SECONDS
        )

    async def load(self, key: str) -> StoredToken | None:
        """Return the account's token, or None.

        Raises:
            RedisError: If Redis doesn't answer.
            ValueError: If the key holds something else.
        """
        text = await self._redis.get(f"{PREFIX}:token:{key}")
        return None if text is None else decode(loads(text))

    async def save(self, key: str, token: StoredToken) -> None:
        """Replace the account's token.

        Raises:
            RedisError: If Redis doesn't answer.
        """
        await self._redis.set(f"{PREFIX}:token:{key}", orjson.dumps(encode(token)), ex=KEPT_SECONDS)

    @asynccontextmanager
    async def lock(self, key: str) -> AsyncGenerator[None]:
        """Hold the account's lock.

        Raises:
            RedisError: If Redis doesn't answer.
        """
        lock = Lock(
            self._redis,
            f"{PREFIX}:lock:{key}",
            timeout=self._lease,
            sleep=self._lease / 100,
            thread_local=False,
        )
        if not await lock.acquire():
            raise LockError("the lock could not be had")
        extending = asyncio.create_task(self._extend(lock), name="mioesim_async lease")
        try:
            yield
        finally:
            extending.cancel()
            # A lease that ran out, or a server that went away, took the lock with it.
            with suppress(RedisError):
                await lock.release()

    async def _extend(self, lock: Lock) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            try:
                await lock.extend(self._lease, replace_ttl=True)
            except RedisError as error:
                logger.warning("the token store's lock can't be kept: %s", type(error).__name__)

    async def aclose(self) -> None:
        """Close the connections to Redis."""
        await self._redis.aclose()

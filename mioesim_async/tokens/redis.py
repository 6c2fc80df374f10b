"""Tokens in Redis, for the processes of many hosts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import orjson
from redis.asyncio import Redis
from redis.asyncio.lock import Lock
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError, LockError, RedisError

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
POLLS_PER_LEASE = 100


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
        made = None
        with suppress(ValueError):
            made = Redis.from_url(
                url,
                socket_connect_timeout=CONNECT_SECONDS,
                socket_timeout=ANSWER_SECONDS,
                # Once more, for a pooled connection that died with a server that is back.
                # Callers wait for this, so no more than that: a client does without a store.
                retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
                retry_on_error=[RedisConnectionError],
            )
        if made is None:
            # The reason that was given may repeat the password.
            raise ValueError("the URL of the Redis server can't be read")
        self._redis: Redis = made

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
            thread_local=False,
        )
        while True:
            if await _take(lock):
                break
            await asyncio.sleep(self._lease / POLLS_PER_LEASE)
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
            except LockError:
                # It is somebody else's by now, or nobody's.
                return
            except RedisError as error:
                # The server may be back before the lease ends; saving tells if it is not.
                logger.debug("the token store's lock can't be kept: %s", type(error).__name__)

    async def aclose(self) -> None:
        """Close the connections to Redis."""
        await self._redis.aclose()


async def _take(lock: Lock) -> bool:
    """Try once for the lock, so that a caller who is cancelled meanwhile holds nothing."""
    trying = asyncio.ensure_future(lock.acquire(blocking=False))
    try:
        return await asyncio.shield(trying)
    except asyncio.CancelledError:
        # Redis may be giving it at this moment.
        with suppress(RedisError):
            if await trying:
                await lock.release()
        raise

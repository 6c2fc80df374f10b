"""Tokens in Redis, for the processes of many hosts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson

from mioesim_async.tokens.store import StoredToken, decode, encode, loads, to_its_end

try:
    from redis.asyncio import Redis
    from redis.asyncio.lock import Lock
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import LockError, RedisError
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "RedisTokenStore needs redis; install it with: pip install 'mioesim_async[redis]'",
        name=error.name,
    ) from None

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

    The lock has a lease that is extended while its holder logs in. When the holder dies or is
    stopped, the others go on within the lease.

    A connection is open only while a method runs or a lock is held. So one store serves any
    number of event loops, such as those of an ``asyncio.run`` for each task of a worker, and
    a loop that ends leaves nothing open.
    """

    # What is asked of redis-py runs in tasks of its own (`to_its_end`): until Python 3.12
    # asyncio.wait_for, which redis-py uses, now and then loses a cancellation.

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
        self._url = url
        self._lease = lease
        made = None
        with suppress(ValueError):
            made = self._client()
        if made is None:
            # The reason that was given may repeat the password.
            raise ValueError("the URL of the Redis server can't be read")

    async def load(self, key: str) -> StoredToken | None:
        """Return the account's token, or None.

        Raises:
            RedisError: If Redis doesn't answer.
            ValueError: If the key holds something else.
        """
        text = await to_its_end(self._get(key), stop=True)
        return None if text is None else decode(loads(text))

    async def save(self, key: str, token: StoredToken) -> None:
        """Replace the account's token.

        Raises:
            RedisError: If Redis doesn't answer.
        """
        await to_its_end(self._set(key, token), stop=True)

    @asynccontextmanager
    async def lock(self, key: str) -> AsyncGenerator[None]:
        """Hold the account's lock.

        Raises:
            RedisError: If Redis doesn't answer.
        """
        async with self._connected() as redis:
            lock = Lock(redis, f"{PREFIX}:lock:{key}", timeout=self._lease, thread_local=False)
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
                    await to_its_end(_release(lock, extending))

    async def _extend(self, lock: Lock) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            try:
                await to_its_end(lock.extend(self._lease, replace_ttl=True), stop=True)
            except LockError:
                # It is somebody else's by now, or nobody's.
                return
            except RedisError as error:
                # The server may be back before the lease ends; saving tells if it is not.
                logger.debug("the token store's lock can't be kept: %s", type(error).__name__)

    async def _get(self, key: str) -> Any:
        async with self._connected() as redis:
            return await redis.get(f"{PREFIX}:token:{key}")

    async def _set(self, key: str, token: StoredToken) -> None:
        async with self._connected() as redis:
            await redis.set(f"{PREFIX}:token:{key}", orjson.dumps(encode(token)), ex=KEPT_SECONDS)

    async def aclose(self) -> None:
        """Do nothing: between two calls nothing is open."""

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[Redis]:
        """Lend a client of the running loop, whose connections end with the block."""
        redis = self._client()
        try:
            yield redis
        finally:
            with suppress(RedisError):
                await to_its_end(redis.aclose())

    def _client(self) -> Redis:
        # Callers wait for this: it is tried once, for a client does without a store.
        return Redis.from_url(
            self._url,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )


async def _release(lock: Lock, extending: asyncio.Task[None]) -> None:
    await asyncio.wait([extending])
    await lock.release()


async def _take(lock: Lock) -> bool:
    """Try once for the lock, so that a caller who is cancelled meanwhile holds nothing."""
    trying = asyncio.ensure_future(lock.acquire(blocking=False))
    try:
        return await to_its_end(trying)
    except asyncio.CancelledError:
        # Redis may have given it at this moment.
        with suppress(RedisError):
            if await trying:
                await to_its_end(lock.release())
        raise

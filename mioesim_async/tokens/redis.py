"""A token store in Redis, for the processes of many hosts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson

from mioesim_async.closing import run_to_end
from mioesim_async.tokens.store import StoredToken, decode, encode, loads

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
"""Seconds until Redis deletes a token; longer than a token is valid."""

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0
POLLS_PER_LEASE = 100


class RedisTokenStore:
    """A token store in Redis, with one key for each account.

    The lock has a lease, which its holder extends while it logs in. If the holder is killed or
    stopped, the lock is free again when the lease ends.

    A connection is open only while a method runs or a lock is held. So one store can be used in
    any number of event loops, such as one ``asyncio.run`` for each task of a worker.
    """

    # Commands run in tasks of their own (`run_to_end`): before Python 3.12 asyncio.wait_for,
    # which redis-py uses, may lose a cancellation.

    def __init__(self, url: str, *, lease: float = 15.0) -> None:
        """Keep tokens in a Redis server; nothing is opened yet.

        Args:
            url: Such as ``redis://:password@host:6379/0`` or ``rediss://...`` for TLS.
            lease: Seconds until the lock of a client that was killed is free again.

        Raises:
            ValueError: If the URL is not a Redis URL.
        """
        if not url.startswith(SCHEMES):
            raise ValueError("the URL must start with redis://, rediss:// or unix://")
        self._url = url
        self._lease = lease
        made = None
        with suppress(ValueError):
            made = self._client()
        if made is None:
            # Raised outside the handler, since redis-py's error may hold the password.
            raise ValueError("the URL of the Redis server can't be read")

    async def load(self, key: str) -> StoredToken | None:
        """Return the account's token, or None.

        Raises:
            RedisError: If Redis doesn't answer.
            ValueError: If the value in Redis is not a token.
        """
        text = await run_to_end(self._get(key), stop=True)
        return None if text is None else decode(loads(text))

    async def save(self, key: str, token: StoredToken) -> None:
        """Replace the account's token.

        Raises:
            RedisError: If Redis doesn't answer.
        """
        await run_to_end(self._set(key, token), stop=True)

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
                # Ignore errors: the lease ends by itself if the lock can't be released.
                with suppress(RedisError):
                    await run_to_end(_release(lock, extending))

    async def _extend(self, lock: Lock) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            try:
                await run_to_end(lock.extend(self._lease, replace_ttl=True), stop=True)
            except LockError:
                # The lease ended, and another client may hold the lock now.
                return
            except RedisError as error:
                # Try again: the server may be back before the lease ends.
                logger.debug("the token store's lock can't be extended: %s", type(error).__name__)

    async def _get(self, key: str) -> Any:
        async with self._connected() as redis:
            return await redis.get(f"{PREFIX}:token:{key}")

    async def _set(self, key: str, token: StoredToken) -> None:
        async with self._connected() as redis:
            await redis.set(f"{PREFIX}:token:{key}", orjson.dumps(encode(token)), ex=KEPT_SECONDS)

    async def aclose(self) -> None:
        """Do nothing, since no connection stays open between two calls."""

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[Redis]:
        """Yield a Redis client for the running loop, and close its connections afterwards."""
        redis = self._client()
        try:
            yield redis
        finally:
            with suppress(RedisError):
                await run_to_end(redis.aclose())

    def _client(self) -> Redis:
        # No retries: callers wait, and a client can go on without the store.
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
    """Try once to get the lock; if the caller is cancelled meanwhile, give it back."""
    trying = asyncio.ensure_future(lock.acquire(blocking=False))
    try:
        return await run_to_end(trying)
    except asyncio.CancelledError:
        # The lock may have been acquired all the same.
        with suppress(RedisError):
            if await trying:
                await run_to_end(lock.release())
        raise

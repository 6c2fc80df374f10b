"""One limit of requests a second for all processes and hosts of an account, kept in Redis."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from contextlib import suppress
from itertools import count
from typing import Any, cast

from attrs import field, frozen

from mioesim_async.clock import Clock
from mioesim_async.closing import run_to_end
from mioesim_async.errors import ConfigurationError

__all__ = ["SharedLimiter", "SharedRateLimit"]

logger = logging.getLogger("mioesim_async")

PREFIX = "mioesim_async:rate"
SCHEMES = ("redis://", "rediss://", "unix://")
CLOSEST = 0.95
"""Least share of the rate that a window of whole requests and seconds must allow."""

NO_LIMIT = 2**31
"""The limit for requests that are counted and never refused."""

TRIES_PER_REQUEST = 4
"""How often a read asks for its turn in the time of one request."""

LONGEST_PAUSE = 1.0
"""Longest wait between two such tries, in seconds."""

ANSWER_SECONDS = 1.0
"""Seconds that Redis has for an answer; a read waits so long once, when Redis goes down."""

LOOK_SECONDS = 1.0
"""Seconds between two looks whether Redis is back."""


@frozen
class SharedRateLimit:
    """A limit of requests a second that all processes and hosts of an account keep together.

    Pass it as ``MioEsimClient(rate_limit=...)`` in each of them. The requests are counted in Redis,
    by account and by the clock of Redis. A read waits for its turn. Purchases and logins are
    counted and never wait. For a moment, up to one second's requests may be sent at once.

    While Redis doesn't answer, reads go on: each process keeps to ``alone_per_second``, and the
    log says so once.

    Args:
        redis_url: Such as ``redis://:password@host:6379/0`` or ``rediss://...`` for TLS.
        per_second: Requests a second, for all together.
        alone_per_second: Requests a second of one process while Redis is down; None for
            ``per_second``. Set it to ``per_second`` divided by the number of processes.

    Raises:
        ConfigurationError: If a value can't be used.
    """

    redis_url: str = field(repr=False)
    per_second: float = field(kw_only=True)
    alone_per_second: float | None = field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        """Check the values."""
        if type(self.redis_url) is not str or not self.redis_url.startswith(SCHEMES):
            raise ConfigurationError(
                "SharedRateLimit: the URL must start with redis://, rediss:// or unix://"
            )
        rates: dict[str, object] = {"per_second": self.per_second}
        if self.alone_per_second is not None:
            rates["alone_per_second"] = self.alone_per_second
        for name, rate in rates.items():
            if type(rate) not in (int, float) or not 0 < cast("float", rate) < math.inf:
                raise ConfigurationError(
                    f"SharedRateLimit: {name} must be more than 0, not {rate!r}"
                )


class _Turns:
    """The pace of this process for one account, over all its clients, threads and loops.

    Attributes:
        is_alone: Whether the log says that the process keeps its own pace.
    """

    def __init__(self) -> None:
        self.is_alone = False
        self._next = -math.inf
        self._lock = threading.Lock()

    def take(self, now: float, interval: float) -> float:
        """Take the next turn; return the seconds until then."""
        with self._lock:
            start = max(now, self._next)
            self._next = start + interval
        return start - now


_turns: dict[str, _Turns] = {}
"""By account."""


class SharedLimiter:
    """Keeps the requests of one client within the limit that its account shares."""

    def __init__(self, limit: SharedRateLimit, account: str, clock: Clock) -> None:
        """Use a limit; nothing is opened yet.

        Args:
            limit: The limit.
            account: The account's key, which holds no secret.
            clock: The source of time for waits; requests are counted by the clock of Redis.

        Raises:
            ConfigurationError: If the extra ``redis`` is missing, or the URL can't be used.
        """
        self._account = account
        self._turns = _turns.setdefault(account, _Turns())
        self._clock = clock
        self._requests, self._seconds = _window(limit.per_second)
        self._pause = min(LONGEST_PAUSE, 1 / limit.per_second / TRIES_PER_REQUEST)
        self._alone_rate = limit.alone_per_second or limit.per_second
        self._pool, self._storage, self._failures = _connect(limit.redis_url)
        self._is_down = False
        self._look_at = -math.inf
        self._looking: asyncio.Task[None] | None = None
        self._counting: set[asyncio.Task[None]] = set()

    async def acquire(self) -> None:
        """Wait until the limit allows a request, and count it."""
        while not self._is_down:
            try:
                if await run_to_end(self._hit(self._requests), stop=True):
                    return
            except self._failures as error:
                self._went_down(error)
            else:
                await self._clock.sleep(self._pause)
        wait = self._reserve_alone()
        if wait > 0:
            await self._clock.sleep(wait)

    def count(self) -> None:
        """Count a request that must not wait, such as a purchase."""
        if self._is_down:
            self._reserve_alone()
            return
        task = asyncio.create_task(self._count(), name="mioesim_async rate")
        self._counting.add(task)
        task.add_done_callback(self._counting.discard)

    async def aclose(self) -> None:
        """Close the connections to Redis."""
        if self._counting:
            await asyncio.wait(self._counting, timeout=ANSWER_SECONDS)
        tasks = {*self._counting, *([self._looking] if self._looking else [])}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        with suppress(*self._failures):
            await run_to_end(self._pool.aclose())

    async def _hit(self, limit: int, requests: int = 1) -> bool:
        """Count requests, unless there would be more than ``limit`` in the window."""
        allowed: bool = await self._storage.acquire_sliding_window_entry(
            self._account, limit, self._seconds, requests
        )
        return allowed

    async def _count(self) -> None:
        try:
            await self._hit(NO_LIMIT)
        except self._failures as error:
            self._went_down(error)

    def _reserve_alone(self) -> float:
        """Take the next turn of this process; return the seconds until then."""
        now = self._clock.monotonic()
        if self._looking is None and now >= self._look_at:
            self._looking = asyncio.create_task(self._look(), name="mioesim_async rate")
        return self._turns.take(now, 1 / self._alone_rate)

    async def _look(self) -> None:
        """Find out whether Redis is back."""
        try:
            await self._hit(NO_LIMIT, requests=0)
        except self._failures:
            self._look_at = self._clock.monotonic() + LOOK_SECONDS
        else:
            self._is_down = False
            if self._turns.is_alone:
                self._turns.is_alone = False
                logger.info("the shared rate limit's Redis answers again")
        finally:
            self._looking = None

    def _went_down(self, error: BaseException) -> None:
        if self._is_down:
            return
        self._is_down = True
        self._look_at = self._clock.monotonic() + LOOK_SECONDS
        if self._turns.is_alone:
            return
        self._turns.is_alone = True
        # The error itself may name the host or the user.
        logger.warning(
            "the shared rate limit's Redis doesn't answer (%s); until it does, this process makes "
            "at most %g requests a second by itself",
            type(error).__name__,
            self._alone_rate,
        )


def _window(per_second: float) -> tuple[int, int]:
    """Return a rate as whole requests in the fewest whole seconds, and at most 5 % slower."""
    for seconds in count(1):
        requests = math.floor(per_second * seconds)
        if requests >= CLOSEST * per_second * seconds and requests:
            return requests, seconds
    raise AssertionError("there is always such a window")


def _connect(url: str) -> tuple[Any, Any, tuple[type[BaseException], ...]]:
    """Return a pool of connections, the storage that uses it, and the errors of an outage."""
    try:
        from limits.aio.storage import RedisStorage  # noqa: PLC0415 - an extra
        from redis.asyncio import ConnectionPool  # noqa: PLC0415
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.exceptions import RedisError  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"SharedRateLimit needs {(error.name or 'redis').partition('.')[0]}; install it with: "
            "pip install 'mioesim_async[redis]'"
        ) from None
    pool = None
    with suppress(ValueError):
        pool = ConnectionPool.from_url(
            url,
            socket_connect_timeout=ANSWER_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
    if pool is None:
        # Raised outside the handler, since redis-py's error may hold the password.
        raise ConfigurationError("SharedRateLimit: the URL of the Redis server can't be read")
    options: dict[str, Any] = {"connection_pool": pool}
    storage = RedisStorage("redis://", implementation="redispy", key_prefix=PREFIX, **options)
    return pool, storage, (RedisError, OSError)

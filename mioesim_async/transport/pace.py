"""How fast: a sweep's own concurrency, and how many retries a client may make."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from mioesim_async.clock import Clock

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

__all__ = ["Pace", "RetryBudget", "limiter", "sweep_slots"]

MINUTE = 60.0
FREE_RETRIES = 10
RETRIES_PER_CALL = 0.2


def sweep_slots(max_in_flight: int, pool_size: int) -> int:
    """Return how many slots sweeps may take, so that other calls always find a free one.

    Args:
        max_in_flight: Slots of the client's gate.
        pool_size: Connections of the pool; 0 for no limit.
    """
    slots = min(max_in_flight, pool_size) if pool_size else max_in_flight
    return max(1, slots - max(1, slots // 4))


class Pace:
    """How many calls of one sweep may be under way: halved by a throttle, climbing back.

    Attributes:
        most: Where it starts, and the most it climbs to.
        limit: What it is now.
        round: Counts the halvings. A throttle is only news to calls that were sent after
            the last one: a host that refuses eight calls at once asked for one step back.
    """

    __slots__ = ("_answers", "limit", "most", "round")

    def __init__(self, most: int) -> None:
        """Start at full speed."""
        self.most = most
        self.limit = most
        self.round = 0
        self._answers = 0

    def throttled(self, sent_in: int) -> None:
        """Halve the limit, unless the call was sent before the last halving."""
        if sent_in == self.round:
            self.round += 1
            self.limit = max(1, self.limit // 2)
            self._answers = 0

    def answered(self) -> None:
        """Climb by one after as many answers as there are slots."""
        if self.limit < self.most:
            self._answers += 1
            if self._answers >= self.limit:
                self.limit += 1
                self._answers = 0


class RetryBudget:
    """Retries of a client: at most 10, plus a fifth of the last minute's calls.

    A host that fails every call gets little more than the calls themselves.
    """

    __slots__ = ("_calls", "_clock", "_retries", "_seconds")

    def __init__(self, clock: Clock) -> None:
        """Start with nothing used."""
        self._clock = clock
        self._calls = 0
        self._retries = 0
        self._seconds: deque[list[int]] = deque()

    def count_call(self) -> None:
        """Count a call, retries not included."""
        self._now()[1] += 1
        self._calls += 1

    @property
    def has_room(self) -> bool:
        """Whether there may be a retry now."""
        self._now()
        return self._retries + 1 <= FREE_RETRIES + RETRIES_PER_CALL * self._calls

    def take_retry(self) -> bool:
        """Count a retry, if there may be one."""
        if not self.has_room:
            return False
        self.charge()
        return True

    def charge(self) -> None:
        """Count a request that was made again."""
        self._now()[2] += 1
        self._retries += 1

    def _now(self) -> list[int]:
        """Return this second's counts, after forgetting those of a minute ago."""
        second = int(self._clock.monotonic())
        seconds = self._seconds
        if seconds and seconds[-1][0] == second:
            return seconds[-1]
        while seconds and seconds[0][0] <= second - MINUTE:
            _, calls, retries = seconds.popleft()
            self._calls -= calls
            self._retries -= retries
        seconds.append([second, 0, 0])
        return seconds[-1]


def limiter(rate: float) -> AsyncLimiter:
    """Make what bounds the requests a second."""
    # Few need it, and it takes longer to import than most of this package.
    from aiolimiter import AsyncLimiter  # noqa: PLC0415

    # One call per so many seconds, and no burst at the start.
    return AsyncLimiter(1, 1 / rate)

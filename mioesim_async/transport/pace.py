"""How fast: a sweep's own concurrency, and how many retries a client may make."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

__all__ = ["Pace", "limiter", "sweep_slots"]


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


def limiter(rate: float) -> AsyncLimiter:
    """Make what bounds the requests a second."""
    # Few need it, and it takes longer to import than most of this package.
    from aiolimiter import AsyncLimiter  # noqa: PLC0415

    # One call per so many seconds, and no burst at the start.
    return AsyncLimiter(1, 1 / rate)

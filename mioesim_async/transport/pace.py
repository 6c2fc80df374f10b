"""The limits of speed: slots for sweeps, a sweep's concurrency, and requests a second."""

from __future__ import annotations

import asyncio
from operator import attrgetter
from typing import TYPE_CHECKING

from attrs import Factory, define, field

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

__all__ = ["Pace", "Slots", "limiter", "sweep_slots"]


class Slots(asyncio.Semaphore):
    """A semaphore that tells how many slots are taken, and how many tasks wait for one."""

    def __init__(self, size: int) -> None:
        """Start with free slots."""
        super().__init__(size)
        self._size = size

    @property
    def taken(self) -> int:
        """How many slots are taken."""
        return self._size - self._value

    @property
    def queued(self) -> int:
        """How many tasks wait for a slot."""
        return sum(not waiter.done() for waiter in self._waiters or ())


def sweep_slots(max_in_flight: int, pool_size: int) -> int:
    """Return how many slots sweeps may use, so that other calls always find a free one.

    Args:
        max_in_flight: Slots of the client for reads.
        pool_size: Connections of the pool; 0 for no limit.
    """
    slots = min(max_in_flight, pool_size) if pool_size else max_in_flight
    return max(1, slots - max(1, slots // 4))


@define
class Pace:
    """The concurrency of one sweep: halved when the host throttles, then raised one by one.

    Attributes:
        cap: The concurrency at the start, and its maximum.
        limit: The concurrency now.
        round: How often it was halved. Only calls that were sent after the last halving can
            halve it again, so that eight calls that are refused at once halve it once.
    """

    cap: int
    limit: int = field(init=False, default=Factory(attrgetter("cap"), takes_self=True))
    round: int = field(default=0, init=False)
    _answers: int = field(default=0, init=False)

    def throttled(self, sent_in: int) -> None:
        """Halve the limit, unless the throttled call was sent before the last halving."""
        if sent_in == self.round:
            self.round += 1
            self.limit = max(1, self.limit // 2)
            self._answers = 0

    def answered(self) -> None:
        """Count an answer; raise the limit by one after ``limit`` answers."""
        if self.limit < self.cap:
            self._answers += 1
            if self._answers >= self.limit:
                self.limit += 1
                self._answers = 0


def limiter(rate: float) -> AsyncLimiter:
    """Return a limiter of ``rate`` requests a second."""
    # Imported only if it is needed, since importing it is slow.
    from aiolimiter import AsyncLimiter  # noqa: PLC0415

    # A limit of one call per period avoids a burst at the start.
    return AsyncLimiter(1, 1 / rate)

"""Attempts that take too long, and hosts that fall silent, seen by one timer for all of them.

A timer for each attempt and one for each piece that aiohttp reads would be four for most calls,
almost all to be cancelled: 15 us of the 223 that a single call took.
"""

from __future__ import annotations

import math

from mioesim_async.clock import Clock, TimeLimit, Timer
from mioesim_async.transport.http import Progress

__all__ = ["AttemptLimit", "Watch"]

LOOKS = 8
"""So many looks make up the limit of silence; it is noticed one look late at most."""


class AttemptLimit(TimeLimit):
    """The block in which one attempt is made.

    Attributes:
        was_silent: It was ended because nothing came for too long.
    """

    __slots__ = ("ends_at", "heard", "progress", "quiet", "was_silent")

    def __init__(self, clock: Clock, progress: Progress) -> None:
        """Limit the block as soon as a watch is told of it."""
        super().__init__(clock)
        self.progress = progress
        self.was_silent = False
        self.ends_at = math.inf
        self.heard = 0
        self.quiet = 0.0


class Watch:
    """Ends attempts, by limits that they have in common."""

    def __init__(self, clock: Clock, *, whole: float, silence: float) -> None:
        """Start with none.

        Args:
            clock: Where time comes from.
            whole: Seconds that an attempt may take.
            silence: Seconds until the head of a reply, and between two pieces of its body.
        """
        self.whole = whole
        self.silence = silence
        self._clock = clock
        self._pause = min(whole, silence / LOOKS)
        # In the order in which they end.
        self._limits: dict[AttemptLimit, None] = {}
        self._timer: Timer | None = None
        self._looked_at = 0.0

    def add(self, limit: AttemptLimit) -> float:
        """Start to watch an attempt, and return the time."""
        now = self._clock.monotonic()
        limit.ends_at = now + self.whole
        self._limits[limit] = None
        if self._timer is None and self._pause != math.inf:
            self._timer = self._clock.call_later(self._pause, self._look)
            self._looked_at = now
        limit.quiet = self._looked_at - now
        return now

    def remove(self, limit: AttemptLimit) -> None:
        """Forget an attempt, watched or not."""
        self._limits.pop(limit, None)

    def close(self) -> None:
        """Forget all."""
        self._limits.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        now = self._clock.monotonic()
        # While the loop was held up nobody listened: the host may have answered long ago.
        passed = min(now - self._looked_at, self._pause)
        self._looked_at = now
        for limit in [*self._limits]:
            heard = limit.progress.heard
            limit.quiet = 0.0 if heard > limit.heard else limit.quiet + passed
            limit.heard = heard
            is_over = now >= limit.ends_at
            limit.was_silent = limit.quiet >= self.silence and not is_over
            if is_over or limit.was_silent:
                del self._limits[limit]
                limit.expire()
        first = next(iter(self._limits), None)
        if first is None:
            self._timer = None
        else:
            pause = max(0.0, min(self._pause, first.ends_at - now))
            self._timer = self._clock.call_later(pause, self._look)

"""How far an attempt has come, and one timer that ends those that take too long.

A timer for each attempt and one for each piece that aiohttp reads would be four for most calls,
almost all of them cancelled unused.
"""

from __future__ import annotations

import math

import aiohttp
from attrs import define, field

from mioesim_async.clock import Clock, TimeLimit, Timer

__all__ = ["AttemptTimer", "Progress"]

CHECKS = 8
"""So many checks make up the limit of silence; it is noticed one check late at most."""


@define(eq=False, repr=False)
class Progress(TimeLimit):
    """The block in which one attempt is made, and how far the attempt has come.

    Attributes:
        timer: Limits the attempt from the moment it has its connection.
        connect: Seconds for connecting through a proxy.
        sent: A byte may have left.
        was_told: aiohttp told that it had its connection.
        sent_at: When that was, on the clock's monotonic time.
        status: HTTP status of the reply.
        size: Size of the reply's body.
        code: The vendor's code.
        content: The reply's body, while it is read.
        was_silent: It was ended because nothing came for too long.
        ends_at: When the timer ends it, on the clock's monotonic time.
    """

    timer: AttemptTimer = field(kw_only=True)
    connect: float = field(default=math.inf, kw_only=True)
    sent: bool = field(default=False, init=False)
    was_told: bool = field(default=False, init=False)
    sent_at: float = field(default=0.0, init=False)
    status: int | None = field(default=None, init=False)
    size: int = field(default=0, init=False)
    code: int | str | None = field(default=None, init=False)
    content: aiohttp.StreamReader | None = field(default=None, init=False)
    was_silent: bool = field(default=False, init=False)
    ends_at: float = field(default=math.inf, init=False)
    received_before: int = field(default=0, init=False)
    silent_for: float = field(default=0.0, init=False)

    def leaves(self) -> None:
        """Note that it has its connection, so that a byte may leave from now on."""
        self.sent = True
        if self._timer is not None:
            self.set(math.inf)
        self.sent_at = self.timer.add(self)

    def connects(self) -> None:
        """Note that it waits for a connection that is being made, so that no byte has left."""
        self.sent = False
        self.timer.remove(self)
        self.set(self.connect)

    @property
    def received(self) -> int:
        """How much of a reply has come so far: its head counts as one, as soon as it is whole."""
        return 0 if self.content is None else 1 + self.content.total_bytes


class AttemptTimer:
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
        self._pause = min(whole, silence / CHECKS)
        # In the order in which they end.
        self._attempts: dict[Progress, None] = {}
        self._timer: Timer | None = None
        self._checked_at = 0.0

    def add(self, attempt: Progress) -> float:
        """Start to time an attempt, anew if it was timed before, and return the time."""
        now = self._clock.monotonic()
        attempt.ends_at = now + self.whole
        self._attempts.pop(attempt, None)
        self._attempts[attempt] = None
        if self._timer is None and self._pause != math.inf:
            self._timer = self._clock.call_later(self._pause, self._check)
            self._checked_at = now
        attempt.silent_for = self._checked_at - now
        return now

    def remove(self, attempt: Progress) -> None:
        """Forget an attempt, timed or not."""
        self._attempts.pop(attempt, None)

    def close(self) -> None:
        """Forget all."""
        self._attempts.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        now = self._clock.monotonic()
        # While the loop was held up nobody listened: the host may have answered long ago.
        passed = min(now - self._checked_at, self._pause)
        self._checked_at = now
        for attempt in [*self._attempts]:
            received = attempt.received
            more = received > attempt.received_before
            attempt.silent_for = 0.0 if more else attempt.silent_for + passed
            attempt.received_before = received
            is_over = now >= attempt.ends_at
            attempt.was_silent = attempt.silent_for >= self.silence and not is_over
            if is_over or attempt.was_silent:
                del self._attempts[attempt]
                attempt.expire()
        first = next(iter(self._attempts), None)
        if first is None:
            self._timer = None
        else:
            pause = max(0.0, min(self._pause, first.ends_at - now))
            self._timer = self._clock.call_later(pause, self._check)

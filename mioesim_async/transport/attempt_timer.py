"""The progress of an attempt, and one shared timer that ends attempts that take too long.

With aiohttp's own limits, most calls would start four timers and cancel almost all of them.
"""

from __future__ import annotations

import math

import aiohttp
from attrs import define, field

from mioesim_async.clock import Clock, TimeLimit, Timer

__all__ = ["AttemptTimer", "Progress"]

CHECKS_PER_SILENCE = 8
"""Checks within the limit of silence; the limit is noticed at most one check late."""


@define(eq=False, repr=False)
class Progress(TimeLimit):
    """The progress of one attempt, and the time limit of its block.

    Attributes:
        timer: Limits the attempt once it has a connection.
        connect: Seconds for connecting through a proxy.
        sent: Whether a byte of the request may have been sent.
        was_reported: Whether aiohttp reported that the request has a connection.
        sent_at: When the attempt got its connection, on the monotonic clock.
        status: HTTP status of the reply.
        size: Size of the reply's body.
        code: The vendor's code.
        content: The reply's body, while it is read.
        was_silent: Whether the timer ended the attempt because the host sent nothing.
        ends_at: When the timer ends the attempt, on the monotonic clock.
        received_before: ``received`` at the last check.
        silent_for: Seconds without new data, as of the last check.
    """

    timer: AttemptTimer = field(kw_only=True)
    connect: float = field(default=math.inf, kw_only=True)
    sent: bool = field(default=False, init=False)
    was_reported: bool = field(default=False, init=False)
    sent_at: float = field(default=0.0, init=False)
    status: int | None = field(default=None, init=False)
    size: int = field(default=0, init=False)
    code: int | str | None = field(default=None, init=False)
    content: aiohttp.StreamReader | None = field(default=None, init=False)
    was_silent: bool = field(default=False, init=False)
    ends_at: float = field(default=math.inf, init=False)
    received_before: int = field(default=0, init=False)
    silent_for: float = field(default=0.0, init=False)

    def mark_connecting(self) -> None:
        """Note that the attempt waits for a new connection, so that nothing was sent."""
        self.sent = False
        self.timer.attempts.pop(self, None)
        self.set(self.connect)

    @property
    def received(self) -> int:
        """How much of the reply has come: 1 for all headers, plus the bytes of the body."""
        return 0 if self.content is None else 1 + self.content.total_bytes


class AttemptTimer:
    """Ends attempts that exceed the limits that they share.

    Attributes:
        attempts: The attempts that are timed, in the order in which their time will be over.
            Whoever starts one removes it when it has ended.
    """

    def __init__(self, clock: Clock, *, whole: float, silence: float) -> None:
        """Start without attempts.

        Args:
            clock: The source of time.
            whole: Seconds that an attempt may take.
            silence: Seconds until the headers of a reply, and between two pieces of its body.
        """
        self.whole = whole
        self.silence = silence
        self._clock = clock
        self._pause = min(whole, silence / CHECKS_PER_SILENCE)
        self.attempts: dict[Progress, None] = {}
        self._timer: Timer | None = None
        self._checked_at = 0.0

    def start(self, attempt: Progress) -> None:
        """Note that an attempt has a connection, so that bytes may be sent, and time it from now.

        An attempt that is timed already starts again.
        """
        attempt.sent = True
        if attempt.pending is not None:
            attempt.set(math.inf)
        now = attempt.sent_at = self._clock.monotonic()
        attempt.ends_at = now + self.whole
        self.attempts.pop(attempt, None)
        self.attempts[attempt] = None
        if self._timer is None and self._pause != math.inf:
            self._timer = self._clock.call_later(self._pause, self._check)
            self._checked_at = now
        attempt.silent_for = self._checked_at - now

    def close(self) -> None:
        """Stop timing all attempts."""
        self.attempts.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        now = self._clock.monotonic()
        # While the loop was blocked nothing was read, so that time doesn't count as silence.
        passed = min(now - self._checked_at, self._pause)
        self._checked_at = now
        for attempt in [*self.attempts]:
            received = attempt.received
            more = received > attempt.received_before
            attempt.silent_for = 0.0 if more else attempt.silent_for + passed
            attempt.received_before = received
            is_over = now >= attempt.ends_at
            attempt.was_silent = attempt.silent_for >= self.silence and not is_over
            if is_over or attempt.was_silent:
                del self.attempts[attempt]
                attempt.expire()
        first = next(iter(self.attempts), None)
        if first is None:
            self._timer = None
        else:
            pause = max(0.0, min(self._pause, first.ends_at - now))
            self._timer = self._clock.call_later(pause, self._check)

"""A clock that tests move."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable

from attrs import define

__all__ = ["SandboxClock"]


@define(eq=False)
class _Timer:
    clock: SandboxClock
    number: int
    due: float
    callback: Callable[[], object]
    loop: asyncio.AbstractEventLoop
    handle: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        self.clock.forget(self)

    def fire(self) -> None:
        if self.clock.forget(self):
            self.callback()

    def arm(self) -> None:
        """Wait in real time for what is left; called in the timer's own loop."""
        if self.handle is not None:
            self.handle.cancel()
        if self.clock.expects(self):
            left = self.due - self.clock.monotonic()
            if left <= 0:
                self.fire()
            else:
                self.handle = self.loop.call_later(left, self.fire)


class SandboxClock:
    """Real time, plus the seconds that a test adds.

    Give the sandbox's clock to the client under test, ``MioEsimClient(...,
    clock=sandbox.clock)``; then ``sandbox.clock.advance(7200)`` moves both by two hours.

    Attributes:
        slept: The seconds of every ``sleep``.
    """

    def __init__(self, *, skip_sleeps: bool = False) -> None:
        """Start at the present.

        Args:
            skip_sleeps: ``sleep`` moves the clock instead of waiting, so that back-off and
                pauses cost no real time.
        """
        self.slept: list[float] = []
        self._skip = skip_sleeps
        self._offset = 0.0
        self._timers: dict[int, _Timer] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic() + self._offset

    def time(self) -> float:
        """Return seconds since the epoch (UTC)."""
        return time.time() + self._offset

    def advance(self, seconds: float) -> None:
        """Move the clock forward, and run what is due by then. Any thread may call it.

        Raises:
            ValueError: If time would go back.
        """
        if seconds < 0:
            raise ValueError("time can't go back")
        with self._lock:
            self._offset += seconds
            timers = list(self._timers.values())
        # In the order in which they are due, so that a retry comes before a later deadline.
        for timer in sorted(timers, key=lambda timer: timer.due):
            timer.loop.call_soon_threadsafe(timer.arm)

    async def sleep(self, seconds: float) -> None:
        """Wait for so much of this clock's time."""
        self.slept.append(seconds)
        due = self.monotonic() + seconds
        if self._skip:
            # Waits that overlap must not add up: another one may have moved the clock already.
            await asyncio.sleep(0)
            self.advance(max(0.0, due - self.monotonic()))
            await asyncio.sleep(0)
            return
        woken = asyncio.Event()
        timer = self.call_later(seconds, woken.set)
        try:
            await woken.wait()
        finally:
            timer.cancel()

    def call_later(self, seconds: float, callback: Callable[[], object]) -> _Timer:
        """Run a callback in the running loop after so much of this clock's time."""
        loop = asyncio.get_running_loop()
        timer = _Timer(self, next(self._numbers), self.monotonic() + seconds, callback, loop)
        with self._lock:
            self._timers[timer.number] = timer
        timer.arm()
        return timer

    def expects(self, timer: _Timer) -> bool:
        """Tell whether a timer is still to fire."""
        return timer.number in self._timers

    def forget(self, timer: _Timer) -> bool:
        """Drop a timer; tell whether it was still to fire."""
        if timer.handle is not None:
            timer.handle.cancel()
        with self._lock:
            return self._timers.pop(timer.number, None) is not None

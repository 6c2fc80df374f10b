"""Time as something that can be handed in, so that tests can hold it."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self

from attrs import define, field

__all__ = ["GMT8", "Clock", "SystemClock", "TimeLimit", "Timer"]

GMT8 = dt.timezone(dt.timedelta(hours=8), "GMT+8")
"""The time zone of every time that the vendor sends (vendor-documented)."""


class Timer(Protocol):
    """Something that was scheduled."""

    def cancel(self) -> None:
        """Don't run it."""


class Clock(Protocol):
    """Where the client gets its time from."""

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        ...

    def time(self) -> float:
        """Return seconds since the epoch (UTC)."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Run a callback in the running loop after so many seconds."""
        ...


class SystemClock:
    """The machine's own clock."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Run a callback in the running loop after so many seconds."""
        return asyncio.get_running_loop().call_later(seconds, callback)


@define(eq=False, repr=False)
class TimeLimit:
    """A block that ends when its time has passed, by a clock that can be handed in.

    As in ``asyncio.timeout``, a cancellation from outside always passes through. Nothing is
    raised at the end: what follows the block runs, and ``cut_short`` tells.

    Attributes:
        clock: Where time comes from.
        seconds: How long the block may take from its start; None: until ``set`` says.
        among: Holds the block while it runs, or None.
        expires: When these seconds have passed, on the clock's monotonic time.
        cut_short: The block was ended before it had finished, by time or by ``stop``.
        stopped: It was ended by ``stop``, and not by time.
    """

    clock: Clock
    seconds: float | None = None
    among: set[TimeLimit] | None = None
    expires: float = field(default=math.inf, init=False)
    cut_short: bool = field(default=False, init=False)
    stopped: bool = field(default=False, init=False)
    _task: asyncio.Task[Any] | None = field(default=None, init=False)
    _cancelling: int = field(default=0, init=False)
    _expired: bool = field(default=False, init=False)
    _timer: Timer | None = field(default=None, init=False)
    _ended: asyncio.Future[None] | None = field(default=None, init=False)

    def stop(self) -> asyncio.Future[None]:
        """End the block now, and return what tells that it has ended."""
        self.stopped = True
        self.expire()
        return self.end()

    def end(self) -> asyncio.Future[None]:
        """Return what is done when the block has ended."""
        if self._ended is None:
            self._ended = asyncio.get_running_loop().create_future()
        return self._ended

    def set(self, seconds: float) -> None:
        """Limit the block to so many seconds from now."""
        if self._timer is not None:
            self._timer.cancel()
        if seconds != math.inf:
            self._timer = self.clock.call_later(max(seconds, 0.0), self.expire)

    def expire(self) -> None:
        """End the block, as its time has passed."""
        if self._task is not None and not self._expired:
            self._expired = True
            self._task.cancel()

    def __enter__(self) -> Self:
        """Start."""
        # Not an asyncio.timeout inside: there are two such blocks a call, so they must be cheap.
        task = self._task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a time limit needs a task")
        self._cancelling = task.cancelling()
        if self.seconds is not None:
            self.expires = self.clock.monotonic() + self.seconds
            self.set(self.seconds)
        if self.among is not None:
            self.among.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Stop, and go on behind the block if the time had passed."""
        if self._timer is not None:
            self._timer.cancel()
        if self.among is not None:
            self.among.discard(self)
        if self._ended is not None:
            self._ended.set_result(None)
        task, self._task = self._task, None
        if self._expired and task is not None:
            others = task.uncancel() > self._cancelling
            self.cut_short = not others and isinstance(error, asyncio.CancelledError)
        return self.cut_short

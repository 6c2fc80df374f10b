"""Clocks, which tests can replace, and what is measured with them."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self

from attrs import define, field

__all__ = ["GMT8", "Clock", "SystemClock", "TellsTime", "TimeLimit", "Timer", "Uptime"]

GMT8 = dt.timezone(dt.timedelta(hours=8), "GMT+8")
"""The time zone of every time that the vendor sends (vendor-documented)."""


class Timer(Protocol):
    """A callback that was scheduled."""

    def cancel(self) -> None:
        """Cancel the callback."""


class TellsTime(Protocol):
    """A source of time, such as the ``time`` module or a client's clock."""

    def time(self) -> float:
        """Return seconds since the epoch (UTC)."""
        ...


class Clock(TellsTime, Protocol):
    """The source of time of a client."""

    def monotonic(self) -> float:
        """Return seconds from a clock that never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds."""

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Run a callback in the running loop after so many seconds."""
        ...


class SystemClock:
    """The clock of this machine."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds."""
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Run a callback in the running loop after so many seconds."""
        return asyncio.get_running_loop().call_later(seconds, callback)


@define(eq=False)
class Uptime:
    """Whether something works, such as a store, and since when that is known.

    Attributes:
        clock: The source of time.
        is_up: Whether it worked when it was last used; None before that.
        since: Since when that has been so, on the monotonic clock; None before the first use.
    """

    clock: Clock
    is_up: bool | None = None
    since: float | None = None

    def mark(self, is_up: bool) -> None:
        """Note whether it worked now."""
        if is_up is not self.is_up:
            self.is_up, self.since = is_up, self.clock.monotonic()


@define(eq=False, repr=False)
class TimeLimit:
    """A context manager that ends its block after some seconds of a replaceable clock.

    As with ``asyncio.timeout``, a cancellation from outside passes through. But an expired limit
    raises nothing: the code after the block runs, and can look at ``cut_short``.

    Attributes:
        clock: The source of time.
        seconds: How long the block may take; None for no limit before ``set`` is called.
        among: A set that contains this limit while the block runs, or None.
        expires: When ``seconds`` will have passed, on the monotonic clock.
        cut_short: Whether the block was ended early, by its limit or by ``stop``.
        stopped: Whether ``stop`` was called.
        pending: The timer that will end the block, or None.
    """

    clock: Clock
    seconds: float | None = None
    among: set[TimeLimit] | None = None
    expires: float = field(default=math.inf, init=False)
    cut_short: bool = field(default=False, init=False)
    stopped: bool = field(default=False, init=False)
    pending: Timer | None = field(default=None, init=False)
    _task: asyncio.Task[Any] | None = field(default=None, init=False)
    _cancelling: int = field(default=0, init=False)
    _expired: bool = field(default=False, init=False)
    _ended: asyncio.Future[None] | None = field(default=None, init=False)

    def stop(self) -> asyncio.Future[None]:
        """End the block now, and return a future that is done when it has ended."""
        self.stopped = True
        self.expire()
        return self.end()

    @property
    def has_expired(self) -> bool:
        """Whether its time was over, or ``stop`` was called, before its block ended."""
        return self._expired

    def end(self) -> asyncio.Future[None]:
        """Return a future that is done when the block has ended."""
        if self._ended is None:
            self._ended = asyncio.get_running_loop().create_future()
        return self._ended

    def set(self, seconds: float) -> None:
        """Limit the block to so many seconds from now."""
        if self.pending is not None:
            self.pending.cancel()
        if seconds != math.inf:
            self.pending = self.clock.call_later(max(seconds, 0.0), self.expire)

    def expire(self) -> None:
        """End the block now, as if its time had passed."""
        if self._task is not None and not self._expired:
            self._expired = True
            self._task.cancel()

    def __enter__(self) -> Self:
        """Start the limit."""
        # Doesn't use asyncio.timeout, which costs more: each call enters two such blocks.
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
        """Stop the limit; suppress the cancellation if the limit caused it."""
        if self.pending is not None:
            self.pending.cancel()
        if self.among is not None:
            self.among.discard(self)
        if self._ended is not None:
            self._ended.set_result(None)
        task, self._task = self._task, None
        if self._expired and task is not None:
            others = task.uncancel() > self._cancelling
            self.cut_short = not others and isinstance(error, asyncio.CancelledError)
        return self.cut_short

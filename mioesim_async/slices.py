"""Long work in short slices, so that other tasks of the event loop can run in between.

Work that grows with its input is written as a generator that yields after each small piece
(``Steps``). Synchronous code runs it ``at_once``; coroutines run it ``in_slices``.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
import time
from collections.abc import Callable, Generator
from heapq import heappop, heappush
from typing import TypeVar
from weakref import ref

__all__ = ["SharedSlice", "Steps", "at_once", "in_slices", "shared_slice"]

T = TypeVar("T")

Steps = Generator[None, None, T]
"""A generator that yields after each piece of work and returns the result."""

SLICE_SECONDS = 0.002
"""Seconds of work until the loop must run other tasks; a piece must take much less.

This is wall time, since CPU time takes much longer to read. When other processes take the CPU,
work is interrupted more often than it needs to be.
"""

IDLE_SECONDS = 0.02
"""After so many seconds without such work, the loop has certainly run other tasks."""

MAX_WOKEN = 8
"""How many waiting coroutines may go on in one slice; it usually has time for all of them."""

now = time.perf_counter


class SharedSlice:
    """The slice of time that all coroutines of one event loop share.

    Its time runs from the first piece of work until the loop runs other tasks.
    """

    __slots__ = ("_ends", "_is_scheduled", "_numbers", "_queue")

    def __init__(self) -> None:
        """Start with an unused slice."""
        self._ends = -math.inf
        self._queue: list[tuple[int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._is_scheduled = False

    def is_used_up(self) -> bool:
        """Tell whether the caller must let the loop run other tasks."""
        left = self._ends - now()
        if left > SLICE_SECONDS / 2:
            return False
        if left > 0:
            # The loop may run other tasks by itself before the slice is used up. Only now is that
            # worth watching: a callback in every iteration of the loop would cost more.
            self._schedule()
            return False
        if left > -IDLE_SECONDS:
            return True
        self._ends = now() + SLICE_SECONDS
        return False

    def _schedule(self) -> None:
        """Call ``_begin`` in the next iteration of the loop."""
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._begin)

    async def wait_for_next(self) -> None:
        """Wait for a slice with time left; first come, first served."""
        loop = asyncio.get_running_loop()
        number = next(self._numbers)
        while True:
            waiter = loop.create_future()
            heappush(self._queue, (number, waiter))
            self._schedule()
            await waiter
            if not self.is_used_up():
                return

    def _begin(self) -> None:
        """Begin a slice, and let the first waiting coroutines go on."""
        self._ends = -math.inf
        if not self._queue:
            self._is_scheduled = False
            return
        # Begin another slice right before they go on, so that they get all of its time.
        asyncio.get_running_loop().call_soon(self._begin)
        for _ in range(min(MAX_WOKEN, len(self._queue))):
            _, waiter = heappop(self._queue)
            if not waiter.done():
                waiter.set_result(None)


class _UnlimitedSlice(SharedSlice):
    """Used where no asyncio loop runs, as under trio: there are no other tasks to wait for."""

    __slots__ = ()

    def is_used_up(self) -> bool:
        return False


class _Latest(threading.local):
    """The slice of the loop that last asked for one in this thread."""

    loop: Callable[[], asyncio.AbstractEventLoop | None] = staticmethod(lambda: None)
    shared = SharedSlice()


_latest = _Latest()
_unlimited = _UnlimitedSlice()


def shared_slice() -> SharedSlice:
    """Return the slice of the running loop; without an asyncio loop, one without an end."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _unlimited
    if _latest.loop() is not loop:
        _latest.loop, _latest.shared = ref(loop), SharedSlice()
    return _latest.shared


def at_once(steps: Steps[T]) -> T:
    """Run work to its end without a pause, and return its result."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: T = done.value
            return result


async def in_slices(steps: Generator[object, None, T]) -> T:
    """Run work to its end, let other tasks run in between, and return its result."""
    shared = shared_slice()
    try:
        while True:
            next(steps)
            if shared.is_used_up():
                await shared.wait_for_next()
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        steps.close()

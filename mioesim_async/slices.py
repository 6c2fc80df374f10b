"""Work that grows with its input, done in slices, so that the event loop goes on turning.

Such work is written as a generator that stops after each small piece of it (``Steps``). Who has
the time runs it ``at_once``; coroutines run it ``in_slices``.
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

__all__ = ["Steps", "Turns", "at_once", "in_slices", "turns"]

T = TypeVar("T")

Steps = Generator[None, None, T]
"""Work that stops after each piece; what it returns is its result."""

SLICE = 0.002
"""Seconds after which the loop gets its turn; a piece of work must be much shorter.

They are seconds of the clock. Where other processes take the processor meanwhile, the loop turns
more often than it has to, and reading the clock costs a tenth of asking for the CPU time.
"""

PAUSE = 0.02
"""Seconds without such work after which the loop has surely turned."""

WOKEN = 8
"""So many who wait go on in one turn; as a rule it has time for all of them."""

now = time.perf_counter


class Turns:
    """For how long all who ask have worked since the event loop surely turned."""

    __slots__ = ("_ends", "_is_turning", "_line", "_places")

    def __init__(self) -> None:
        """Start with a turn in which nobody has worked."""
        self._ends = -math.inf
        self._line: list[tuple[int, asyncio.Future[None]]] = []
        self._places = itertools.count()
        self._is_turning = False

    def is_over(self) -> bool:
        """Tell whether it is time for a turn of the loop."""
        left = self._ends - now()
        if left > SLICE / 2:
            return False
        if left > 0:
            # The loop may turn by itself, and then there is time again. To be told of every turn,
            # also of those in which little is done, would cost more.
            self._tell()
            return False
        if left > -PAUSE:
            return True
        self._ends = now() + SLICE
        return False

    def _tell(self) -> None:
        """Be told when the loop turns."""
        if not self._is_turning:
            self._is_turning = True
            asyncio.get_running_loop().call_soon(self._turned)

    async def next(self) -> None:
        """Wait until there is time left in a turn, behind those who have waited for longer."""
        loop = asyncio.get_running_loop()
        place = next(self._places)
        while True:
            waiter = loop.create_future()
            heappush(self._line, (place, waiter))
            self._tell()
            await waiter
            if not self.is_over():
                return

    def _turned(self) -> None:
        """Start a turn, and let the first of the line go on in the next."""
        self._ends = -math.inf
        if not self._line:
            self._is_turning = False
            return
        # Again right before they go on, so that the turn is theirs.
        asyncio.get_running_loop().call_soon(self._turned)
        for _ in range(min(WOKEN, len(self._line))):
            _, waiter = heappop(self._line)
            if not waiter.done():
                waiter.set_result(None)


class _NoTurns(Turns):
    """Of a thread in which no event loop of asyncio runs: there is nothing to give a turn to."""

    __slots__ = ()

    def is_over(self) -> bool:
        """Return False."""
        return False


class _Last(threading.local):
    """The turns of the loop that ran last in this thread."""

    loop: Callable[[], asyncio.AbstractEventLoop | None] = staticmethod(lambda: None)
    turns = Turns()


_last = _Last()
_none = _NoTurns()


def turns() -> Turns:
    """Return the turns of the running loop; without one, as under trio, they are never over."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _none
    if _last.loop() is not loop:
        _last.loop, _last.turns = ref(loop), Turns()
    return _last.turns


def at_once(steps: Steps[T]) -> T:
    """Run work to its end, and return its result."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: T = done.value
            return result


async def in_slices(steps: Steps[T]) -> T:
    """Run work to its end, with turns of the event loop in between, and return its result."""
    turn = turns()
    try:
        while True:
            next(steps)
            if turn.is_over():
                await turn.next()
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        steps.close()

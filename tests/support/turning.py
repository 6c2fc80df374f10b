"""Counts the turns of the event loop, with a clock that advances each time it is read."""

from __future__ import annotations

import asyncio
import itertools
from types import TracebackType
from typing import Self

import pytest

from mioesim_async import slices

__all__ = ["Counted", "slow_steps"]


class Counted:
    """Counts the turns of the loop while its block runs.

    Attributes:
        turns: How many turns there were so far.
    """

    def __init__(self) -> None:
        """Start at 0."""
        self.turns = 0
        self._running = False

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._running = True
        self._loop.call_soon(self._turned)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._running = False

    def _turned(self) -> None:
        if self._running:
            self.turns += 1
            self._loop.call_soon(self._turned)


def slow_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the clock of the time slices advance 0.9 ms each time it is read, as in a long step.

    Then the loop must turn after about every third step, however fast the machine is.
    """
    looks = itertools.count()
    monkeypatch.setattr(slices, "now", lambda: next(looks) * 0.0009)

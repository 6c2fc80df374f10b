"""Counts the turns of the event loop, on a clock that every look at it moves on."""

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
        turns: How many there were so far.
    """

    def __init__(self) -> None:
        """Start with none."""
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
    """Let each look at the clock come 0.9 ms after the one before, as after a long step.

    The loop must then turn after every third step or so, however fast the machine is.
    """
    looks = itertools.count()
    monkeypatch.setattr(slices, "now", lambda: next(looks) * 0.0009)

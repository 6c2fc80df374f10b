"""The reads under way, which are stopped when the client closes."""

from __future__ import annotations

import asyncio

from mioesim_async import errors
from mioesim_async.clock import Clock, TimeLimit

__all__ = ["Reads"]


class Reads:
    """The reads of one client.

    Attributes:
        under_way: The time limits of reads that have not ended.
        closed: Whether the client is being closed, so that no read may start.
    """

    def __init__(self, clock: Clock) -> None:
        """Start without reads."""
        self.under_way: set[TimeLimit] = set()
        self.closed = False
        self._clock = clock

    def was_closed(self) -> errors.ClientClosed:
        """Make the error for a read that was stopped."""
        return errors.ClientClosed("the client was closed during the call")

    async def aclose(self, grace: float) -> None:
        """Wait ``grace`` seconds for the reads, and stop those that have not ended."""
        self.closed = True
        try:
            if self.under_way and grace > 0:
                with TimeLimit(self._clock, grace):
                    await asyncio.wait([read.end() for read in self.under_way])
        finally:
            stopped = [read.stop() for read in self.under_way]
        if stopped:
            await asyncio.wait(stopped)

"""The reads under way, which end when the client closes."""

from __future__ import annotations

import asyncio

from mioesim_async import errors
from mioesim_async.clock import Clock, TimeLimit

__all__ = ["Reads"]


class Reads:
    """The reads of one client.

    Attributes:
        under_way: The blocks of those that have not ended.
        closed: No more may start.
    """

    def __init__(self, clock: Clock) -> None:
        """Start with none."""
        self.under_way: set[TimeLimit] = set()
        self.closed = False
        self._clock = clock

    def check_open(self) -> None:
        """Refuse to start a read in a client that is being closed.

        Raises:
            ClientClosed: Then.
        """
        if self.closed:
            raise self.was_closed()

    def was_closed(self) -> errors.ClientClosed:
        """Make the error of a read that was ended."""
        return errors.ClientClosed("the client was closed during the call")

    async def aclose(self, grace: float) -> None:
        """Let them finish for so many seconds, and end those that don't."""
        self.closed = True
        try:
            if self.under_way and grace > 0:
                with TimeLimit(self._clock, grace):
                    await asyncio.wait([read.end() for read in self.under_way])
        finally:
            stopped = [read.stop() for read in self.under_way]
        if stopped:
            await asyncio.wait(stopped)

"""The reads under way: each ends by its deadline, and all of them when the client closes."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from mioesim_async import errors
from mioesim_async.clock import Clock, TimeLimit
from mioesim_async.transport.call import Call, too_late

__all__ = ["Read", "Reads"]


class Read(TimeLimit):
    """A block that reads; ``raise read.error()`` behind it says why it was cut short."""

    __slots__ = ("_call", "_reads")

    def __init__(self, reads: Reads, call: Call | None, seconds: float | None) -> None:
        """Limit a call's block, or one that belongs to no call."""
        super().__init__(reads.clock, seconds)
        self._reads = reads
        self._call = call

    def __enter__(self) -> Self:
        """Start.

        Raises:
            ClientClosed: In a client that was closed.
        """
        if self._reads.closed:
            raise self._closed()
        super().__enter__()
        if self._call is not None and self._seconds is not None:
            self._call.expires = self._clock.monotonic() + self._seconds
        self._reads.under_way.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Stop, and go on behind the block if it was cut short."""
        self._reads.ended(self)
        return super().__exit__(kind, error, traceback)

    def error(self) -> errors.MioEsimError:
        """Make the error of a block that was cut short."""
        if self.stopped or self._call is None:
            return self._closed()
        return too_late(self._call)

    def _closed(self) -> errors.ClientClosed:
        return errors.ClientClosed("the client was closed during the call")


class Reads:
    """The reads of one client.

    Attributes:
        under_way: Those that have not ended.
        closed: No more may start.
    """

    def __init__(self, clock: Clock) -> None:
        """Start with none."""
        self.clock = clock
        self.under_way: set[Read] = set()
        self.closed = False
        self._idle = asyncio.Event()

    def ended(self, read: Read) -> None:
        """Forget one that has ended."""
        self.under_way.discard(read)
        if not self.under_way:
            self._idle.set()

    async def aclose(self, grace: float) -> None:
        """Let them finish for so many seconds, and end those that don't."""
        self.closed = True
        try:
            if self.under_way and grace > 0:
                with TimeLimit(self.clock, grace):
                    await self._until_idle()
        finally:
            for read in self.under_way:
                read.stop()
        await self._until_idle()

    async def _until_idle(self) -> None:
        while self.under_way:
            self._idle.clear()
            await self._idle.wait()

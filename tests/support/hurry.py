"""Runs the time of a sandbox and its client a hundred times faster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from mioesim_async.sandbox import SandboxClock


@asynccontextmanager
async def hurried(
    clock: SandboxClock, seconds: float = 0.1, *, watch: Callable[[], object] = lambda: None
) -> AsyncIterator[None]:
    """Move a clock forward by so many seconds about every millisecond, while the block runs.

    While the event loop is blocked, the clock stands still. So the same calls overlap on a slow
    machine as on a fast one. ``watch`` is called at every step.
    """

    async def tick() -> None:
        while True:
            watch()
            clock.advance(seconds)
            await asyncio.sleep(0.001)

    ticking = asyncio.create_task(tick())
    try:
        yield
    finally:
        ticking.cancel()
        with suppress(asyncio.CancelledError):
            await ticking

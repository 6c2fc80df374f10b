"""What must be closed, and work that must end, also if its task is cancelled."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeVar

__all__ = ["Closing", "is_being_cancelled", "run_to_end"]

T = TypeVar("T")


def is_being_cancelled() -> bool:
    """Tell whether the running task itself was asked to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def run_to_end(work: Awaitable[T], *, stop: bool = False) -> T:
    """Run work in a task and wait until it has ended, even if the caller is cancelled.

    Args:
        work: The work.
        stop: Cancel the work when the caller is cancelled.

    Raises:
        asyncio.CancelledError: If the caller was cancelled; after the end of the work.
    """
    working = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        if stop:
            working.cancel()
        while not working.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([working])
        if not working.cancelled():
            working.exception()
        raise


class Closing(abc.ABC):
    """An async context manager that calls ``aclose`` at its end."""

    @abc.abstractmethod
    async def aclose(self) -> None:
        """Close it; may be called more than once."""

    async def __aenter__(self) -> Self:
        """Return the object itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        await self.aclose()

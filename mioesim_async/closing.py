"""What is opened is closed, in the event loop that opened it."""

from __future__ import annotations

import abc
import asyncio
from types import TracebackType
from typing import Self

from mioesim_async.errors import WrongLoop

__all__ = ["Closing", "running_loop"]


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop of the running task.

    Raises:
        WrongLoop: If no asyncio task runs, as under trio.
    """
    try:
        if asyncio.current_task() is not None:
            return asyncio.get_running_loop()
    except RuntimeError:
        pass
    raise WrongLoop(
        "mioesim_async works on asyncio only, and this is no asyncio task (trio?); call it from "
        "asyncio.run(), or from a thread that runs an asyncio event loop"
    )


class Closing(abc.ABC):
    """An async context manager that closes itself."""

    @abc.abstractmethod
    async def aclose(self) -> None:
        """Close it; may be called again."""

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

"""The base class of what must be closed, and the check for a cancelled task."""

from __future__ import annotations

import abc
import asyncio
from types import TracebackType
from typing import Self

__all__ = ["Closing", "is_being_cancelled"]


def is_being_cancelled() -> bool:
    """Tell whether the running task itself was asked to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


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

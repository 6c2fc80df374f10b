"""What is opened is closed: ``async with`` for everything that has an ``aclose``."""

from __future__ import annotations

import abc
from types import TracebackType
from typing import Self

__all__ = ["Closing"]


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

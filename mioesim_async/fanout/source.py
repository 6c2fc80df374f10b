"""The items of a fan-out, read as they are needed."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import abc
from typing import Generic, TypeVar

__all__ = ["Source", "is_being_cancelled"]

logger = logging.getLogger("mioesim_async")

T = TypeVar("T")


class Source(Generic[T]):
    """Cuts an iterable or async iterable into lists.

    Attributes:
        exhausted: Nothing more will be read.
        error: What the iterable itself raised, or None.
    """

    def __init__(
        self,
        items: abc.Iterable[T] | abc.AsyncIterable[T],
        size: int,
        wake: abc.Callable[[], object],
    ) -> None:
        """Start to iterate.

        Args:
            items: What is cut.
            size: Most items in a list.
            wake: Called when a read that took its time is done.
        """
        self.exhausted = False
        self.error: BaseException | None = None
        self._size = size
        self._wake = wake
        self._items = aiter(items) if isinstance(items, abc.AsyncIterable) else iter(items)
        self._ready: list[T] = []
        self._reading: asyncio.Task[None] | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether a read is under way."""
        return self._reading is not None

    def read(self) -> None:
        """Read the next list: at once, or in a task from an async iterable."""
        if isinstance(self._items, abc.Iterator):
            try:
                self._ready.extend(itertools.islice(self._items, self._size))
            except Exception as error:
                self.error = error
            self.exhausted = self.error is not None or len(self._ready) < self._size
        else:
            self._reading = asyncio.create_task(self._read(), name="mioesim_async source")
            self._reading.add_done_callback(lambda _: self._was_read())

    def take(self) -> list[T]:
        """Return the list that was read; empty where there is none."""
        ready, self._ready = self._ready, []
        return ready

    async def _read(self) -> None:
        items: list[T] = []
        try:
            while len(items) < self._size and isinstance(self._items, abc.AsyncIterator):
                items.append(await anext(self._items))
        except StopAsyncIteration:
            self.exhausted = True
        except (Exception, asyncio.CancelledError) as error:
            if is_being_cancelled():
                raise
            self.error, self.exhausted = error, True
        self._ready = items

    def _was_read(self) -> None:
        self._reading = None
        self._wake()

    async def aclose(self) -> None:
        """Stop reading and close a generator."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        try:
            if isinstance(self._items, abc.AsyncGenerator):
                await self._items.aclose()
            elif isinstance(self._items, abc.Generator):
                self._items.close()
        except Exception as fault:
            # It runs elsewhere, or its own clean-up failed: no reason to lose another error.
            logger.warning("the source could not be closed: %s", type(fault).__name__)


def is_being_cancelled() -> bool:
    """Tell whether the running task itself was asked to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

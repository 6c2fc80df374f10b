"""The input of a fan-out, read as items are needed."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import abc, deque
from typing import Generic, Protocol, TypeVar

from attrs import define, field

from mioesim_async.closing import is_being_cancelled
from mioesim_async.errors import InvalidRequest
from mioesim_async.slices import Steps, in_slices

__all__ = ["Checked", "SizedIterable", "Source"]

logger = logging.getLogger("mioesim_async")

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Pieces = deque[list[T]]


class SizedIterable(Protocol[T_co]):
    """An input that has a length and can be read more than once."""

    def __len__(self) -> int:
        """Return how many items there are."""
        ...

    def __iter__(self) -> abc.Iterator[T_co]:
        """Return an iterator over the items."""
        ...


@define(eq=False)
class Checked(Generic[T]):
    """A sized input that is checked and copied as a whole before it is read.

    Iteration removes the items, so that their memory is freed while a sweep runs.

    Args:
        given: The input.
        check: Checks the input in steps, and returns a copy in pieces.
    """

    _given: SizedIterable[T] | None
    _check: abc.Callable[[abc.Iterable[T]], Steps[Pieces[T]]]
    _pieces: Pieces[T] = field(factory=deque, init=False)
    _checking: asyncio.Lock = field(factory=asyncio.Lock, init=False)

    async def check(self) -> None:
        """Check and copy the input, unless that was done before.

        Raises:
            InvalidRequest: If an item is wrong, or if the input changed during the check.
        """
        async with self._checking:
            if (given := self._given) is None:
                return
            size = len(given)
            try:
                self._pieces = await in_slices(self._check(given))
                copied = sum(map(len, self._pieces))
            except RuntimeError:
                # A set or a dict raises this itself if it is changed.
                copied = len(given)
                if copied == size:
                    raise
            if copied != size:
                raise InvalidRequest(
                    f"the input was changed during the check: it had {size} items, then {copied}; "
                    "don't change it before the first outcome, or pass a copy"
                )
            self._given = None

    def __iter__(self) -> abc.Iterator[T]:
        """Iterate over the items, and remove them."""
        return itertools.chain.from_iterable(self._taken())

    async def drop(self) -> None:
        """Free the items that were not read."""
        await in_slices(self._taken())

    def _taken(self) -> abc.Generator[list[T], None, None]:
        while self._pieces:
            yield self._pieces.popleft()


class Source(Generic[T]):
    """Splits an iterable or async iterable into lists.

    Attributes:
        ready: The list that was read, or an empty list; whoever uses it puts an empty one here.
        reading: The task that reads from an async iterable, while it runs; else None.
        exhausted: Whether the last item was read.
        error: The error that the iterable itself raised, or None.
    """

    def __init__(
        self,
        items: abc.Iterable[T] | abc.AsyncIterable[T],
        size: int,
        wake: abc.Callable[[], object],
    ) -> None:
        """Take the iterable's iterator.

        Args:
            items: The iterable.
            size: How many items a list may have.
            wake: Called when a read from an async iterable is done.
        """
        self.exhausted = False
        self.error: BaseException | None = None
        self._size = size
        self._wake = wake
        self._items = aiter(items) if isinstance(items, abc.AsyncIterable) else iter(items)
        self.ready: list[T] = []
        self.reading: asyncio.Task[None] | None = None

    def read(self) -> None:
        """Read the next list: now, or in a task if the iterable is async."""
        if isinstance(self._items, abc.Iterator):
            try:
                self.ready.extend(itertools.islice(self._items, self._size))
            except Exception as error:
                self.error = error
            self.exhausted = self.error is not None or len(self.ready) < self._size
        else:
            self.reading = asyncio.create_task(self._read(), name="mioesim_async source")
            self.reading.add_done_callback(lambda _: self._was_read())

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
        self.ready = items

    def _was_read(self) -> None:
        self.reading = None
        self._wake()

    async def aclose(self) -> None:
        """Stop reading and close a generator."""
        if self.reading is not None:
            self.reading.cancel()
            await asyncio.wait([self.reading])
        try:
            if isinstance(self._items, abc.AsyncGenerator):
                await self._items.aclose()
            elif isinstance(self._items, abc.Generator):
                self._items.close()
        except Exception as fault:
            # The generator is running, or its clean-up failed. To raise would hide another error.
            logger.warning("the input's generator could not be closed: %s", type(fault).__name__)

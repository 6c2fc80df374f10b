"""The items of a fan-out, read as they are needed."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import abc, deque
from typing import Generic, Protocol, TypeVar

from mioesim_async.closing import is_being_cancelled
from mioesim_async.errors import InvalidRequest
from mioesim_async.slices import Steps, in_slices

__all__ = ["Checked", "SizedIterable", "Source"]

logger = logging.getLogger("mioesim_async")

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Pieces = deque[list[T]]


class SizedIterable(Protocol[T_co]):
    """What has a length, and can be read more than once."""

    def __len__(self) -> int:
        """Return how many items there are."""
        ...

    def __iter__(self) -> abc.Iterator[T_co]:
        """Start to read."""
        ...


class Checked(Generic[T]):
    """A sized input that is checked and copied whole before it is read.

    Reading takes the items out, so that they are freed as a sweep goes on.
    """

    def __init__(
        self, given: SizedIterable[T], check: abc.Callable[[abc.Iterable[T]], Steps[Pieces[T]]]
    ) -> None:
        """Take an input that is not looked at yet.

        Args:
            given: The input.
            check: Checks it in steps, and returns a copy in pieces.
        """
        self._given: SizedIterable[T] | None = given
        self._check = check
        self._pieces: Pieces[T] = deque()
        self._checking = asyncio.Lock()

    async def check(self) -> None:
        """Check and copy it, once.

        Raises:
            InvalidRequest: If anything is wrong with it, or it has changed meanwhile.
        """
        async with self._checking:
            if (given := self._given) is None:
                return
            size = len(given)
            try:
                self._pieces = await in_slices(self._check(given))
                copied = sum(map(len, self._pieces))
            except RuntimeError:
                # A set or a dict says so itself.
                copied = len(given)
                if copied == size:
                    raise
            if copied != size:
                raise InvalidRequest(
                    f"the input was changed while it was checked: it had {size} items, and then "
                    f"{copied}; leave it as it is until the first outcome is there, or pass a copy"
                )
            self._given = None

    def __iter__(self) -> abc.Iterator[T]:
        """Take the items out."""
        return itertools.chain.from_iterable(self._taken())

    async def drop(self) -> None:
        """Free what was not read."""
        await in_slices(self._dropped())

    def _taken(self) -> abc.Iterator[list[T]]:
        while self._pieces:
            yield self._pieces.popleft()

    def _dropped(self) -> Steps[None]:
        for _ in self._taken():
            yield


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

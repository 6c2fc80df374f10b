"""Split any number of items into batches, run them concurrently, stream what becomes of them.

One task (the pump) reads the source and starts one task a batch. Nothing is yielded inside
a task group or a time-out scope, and memory is bounded: a batch is started only while fewer
than ``concurrency`` + 2 batches are under way or not yet taken by the consumer.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import abc, deque
from contextlib import suppress
from typing import Any, Generic, Self, TypeVar

from attrs import define

from mioesim_async import errors
from mioesim_async.transport.clock import Clock, SystemClock
from mioesim_async.transport.lifetime import Closing
from mioesim_async.transport.outage import HostHealth, is_fatal, is_outage

__all__ = ["BatchOutcome", "BatchStream", "fan_out"]

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 2
"""How many batches more than may be under way may wait for the consumer."""

MAX_ASKS = 3
"""How often a batch is asked that keeps failing in transport, outages apart."""


@define
class BatchOutcome(Generic[T, R]):
    """What became of one batch.

    Attributes:
        items: The batch.
        result: What the call returned, or None.
        error: What it raised, or None.
    """

    items: list[T]
    result: R | None = None
    error: Exception | None = None


@define(eq=False)
class _Batch(Generic[T]):
    """A batch on its way.

    Attributes:
        number: Its place in the input.
        items: What it asks for.
        asks: How often it was asked.
        heard: The stream's count of answers when it was last asked or deferred.
        error: What it failed with, while it is deferred.
    """

    number: int
    items: list[T]
    asks: int = 0
    heard: int = 0
    error: Exception | None = None


class BatchStream(Closing, Generic[T, R]):
    """The outcomes of a fan-out: an async iterator and an async context manager.

    ``async with``, exhaustion, an error and ``aclose()`` leave no task behind. An error that
    no batch can survive is raised from the stream, after what was done has been handed out.
    When several batches in a row fail in transport, the stream pauses and probes with one
    batch until the host answers, or ``max_outage`` passes and the error is raised.
    """

    def __init__(
        self,
        items: abc.Iterable[T] | abc.AsyncIterable[T],
        call: abc.Callable[[list[T]], abc.Awaitable[R]],
        *,
        batch_size: int = 100,
        concurrency: int = 8,
        ordered: bool = False,
        max_outage: float = 120.0,
        probe: abc.Callable[[list[T]], abc.Awaitable[R]] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Prepare the stream; nothing runs until it is iterated. See ``fan_out``."""
        faults = [
            f"{name} must be a whole number of 1 or more, not {value!r}"
            for name, value in (("batch_size", batch_size), ("concurrency", concurrency))
            if type(value) is not int or value < 1
        ]
        if not hasattr(items, "__aiter__") and not hasattr(items, "__iter__"):
            faults.append(f"the items must be iterable, not {type(items).__name__}")
        if not max_outage >= 0:
            faults.append(f"max_outage must be 0 seconds or more, not {max_outage!r}")
        if faults:
            raise errors.InvalidRequest(*faults)
        self._items = items
        self._call = call
        self._probe = probe or call
        self._batch_size = batch_size
        self._concurrency = concurrency
        self._ordered = ordered
        self._health = HostHealth(clock or SystemClock(), max_outage)
        self._source: abc.Iterator[T] | abc.AsyncIterator[T] | None = None
        self._reading: asyncio.Task[_Batch[T] | None] | None = None
        self._pump: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._deferred: deque[_Batch[T]] = deque()
        self._finished: dict[int, BatchOutcome[T, R]] = {}
        self._started = self._untaken = self._next = 0
        self._good: list[T] = []
        self._error: BaseException | None = None
        self._closed = self._exhausted = False
        self._to_pump = asyncio.Event()
        self._to_consumer = asyncio.Event()

    def __aiter__(self) -> Self:
        """Return the stream itself."""
        return self

    async def __anext__(self) -> BatchOutcome[T, R]:
        """Return the next outcome.

        Raises:
            MioEsimError: That ends the whole fan-out.
        """
        if self._pump is None and not self._closed:
            self._pump = asyncio.create_task(self._run(), name="mioesim_async fan-out")
            self._pump.add_done_callback(self._pump_ended)
        while (outcome := self._take()) is None:
            if self._closed or self._pump is None or self._pump.done():
                await self.aclose()
                error, self._error = self._error, None
                if error is not None:
                    raise error
                raise StopAsyncIteration
            self._to_consumer.clear()
            await self._to_consumer.wait()
        return outcome

    def _take(self) -> BatchOutcome[T, R] | None:
        if not self._finished or self._closed:
            return None
        number = self._next
        if not self._ordered:
            number = next(iter(self._finished))
        elif number not in self._finished:
            if self._pump is not None and not self._pump.done():
                return None
            # It ended early: what is done is handed out all the same, over the gaps.
            number = min(self._finished)
        self._next = number + 1
        self._untaken -= 1
        self._to_pump.set()
        return self._finished.pop(number)

    async def aclose(self) -> None:
        """Cancel what is under way and wait for its end; may be called again."""
        self._closed = True
        while tasks := self._tasks():
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        source, self._source = self._source, None
        # A generator that is running elsewhere is not ours to close.
        with suppress(RuntimeError, ValueError):
            if isinstance(source, abc.AsyncGenerator):
                await source.aclose()
            elif isinstance(source, abc.Generator):
                source.close()
        self._finished.clear()
        self._deferred.clear()
        self._to_consumer.set()

    def _tasks(self) -> list[asyncio.Task[Any]]:
        tasks = (self._pump, self._reading, *self._running)
        return [task for task in tasks if task is not None and not task.done()]

    def _end(self, error: BaseException) -> None:
        """End the whole fan-out; the first error counts."""
        if self._error is None:
            self._error = error
        for task in self._tasks():
            task.cancel()

    def _pump_ended(self, pump: asyncio.Task[None]) -> None:
        if not pump.cancelled() and (error := pump.exception()) is not None:
            self._end(error)
        self._to_consumer.set()

    async def _run(self) -> None:
        items = self._items
        self._source = aiter(items) if isinstance(items, abc.AsyncIterable) else iter(items)
        while True:
            if self._health.in_doubt:
                await self._health.wait_out(self._probe_once)
            if (batch := self._startable()) is not None:
                self._start(batch)
            elif not self._exhausted and self._has_room():
                await self._read()
            elif self._exhausted and not self._running and not self._deferred:
                return
            elif self._deferred and not self._running and self._is_stuck():
                await self._settle_deferred()
            else:
                self._to_pump.clear()
                await self._to_pump.wait()

    def _is_stuck(self) -> bool:
        """Tell whether only the deferred batches can bring the stream on."""
        if self._exhausted:
            return True
        return not self._finished or (self._ordered and self._next not in self._finished)

    def _has_room(self) -> bool:
        return len(self._running) < self._concurrency and self._untaken < self._concurrency + AHEAD

    def _startable(self) -> _Batch[T] | None:
        """Return the next batch that is at hand and may be started now."""
        if len(self._running) >= self._concurrency:
            return None
        for batch in self._deferred:
            if self._health.answers > batch.heard:
                self._deferred.remove(batch)
                return batch
        if self._reading is None or not self._reading.done():
            return None
        reading, self._reading = self._reading, None
        return reading.result()

    async def _read(self) -> None:
        """Have the next batch read; an async source may take its time meanwhile."""
        if isinstance(self._source, abc.Iterator):
            batch = self._filled(self._source)
            if batch is not None:
                self._start(batch)
            return
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_async())
            self._reading.add_done_callback(lambda _: self._to_pump.set())
        self._to_pump.clear()
        if not self._reading.done():
            await self._to_pump.wait()

    def _filled(self, source: abc.Iterator[T]) -> _Batch[T] | None:
        items: list[T] = []
        try:
            items.extend(itertools.islice(source, self._batch_size))
        except Exception as error:
            self._source_failed(error)
        self._exhausted = self._exhausted or len(items) < self._batch_size
        return self._batch_of(items)

    async def _read_async(self) -> _Batch[T] | None:
        items: list[T] = []
        source = self._source
        try:
            while len(items) < self._batch_size and isinstance(source, abc.AsyncIterator):
                items.append(await anext(source))
        except StopAsyncIteration:
            self._exhausted = True
        except Exception as error:
            self._source_failed(error)
        return self._batch_of(items)

    def _source_failed(self, error: Exception) -> None:
        """Finish what was read, then raise the error of the caller's own iterable."""
        self._exhausted = True
        self._error = error

    def _batch_of(self, items: list[T]) -> _Batch[T] | None:
        if not items:
            return None
        batch = _Batch(self._started, items)
        self._started += 1
        self._untaken += 1
        return batch

    def _start(self, batch: _Batch[T]) -> None:
        batch.asks += 1
        batch.heard = self._health.answers
        task = asyncio.create_task(self._ask(batch))
        self._running.add(task)
        task.add_done_callback(self._batch_ended)

    def _batch_ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._to_pump.set()

    async def _ask(self, batch: _Batch[T]) -> None:
        try:
            result = await self._call(batch.items)
        except errors.MioEsimError as error:
            # Its traceback would keep every frame, and so the whole reply, alive.
            self._failed(batch, error.with_traceback(None))
        except Exception as error:
            self._deliver(batch, None, error)
        else:
            self._health.answered()
            self._good = batch.items[:1]
            self._deliver(batch, result, None)

    def _deliver(self, batch: _Batch[T], result: R | None, error: Exception | None) -> None:
        self._finished[batch.number] = BatchOutcome(batch.items, result, error)
        self._to_consumer.set()

    def _failed(self, batch: _Batch[T], error: errors.MioEsimError) -> None:
        if is_fatal(error):
            self._end(error)
        elif not is_outage(error):
            if isinstance(error, errors.ApiError):
                self._health.answered()
            self._deliver(batch, None, error)
        else:
            self._health.failed(error)
            others_were_answered = batch.asks > 1 and self._health.answers > batch.heard
            if others_were_answered or batch.asks >= MAX_ASKS:
                self._deliver(batch, None, error)
            else:
                self._defer(batch, error)

    def _defer(self, batch: _Batch[T], error: Exception) -> None:
        """Keep a batch back until the host is known to answer again."""
        batch.error = error
        batch.heard = self._health.answers
        self._deferred.append(batch)

    async def _settle_deferred(self) -> None:
        """Deal with the batches that failed last, with nothing else left to ask."""
        if self._health.answers:
            await self._health.wait_out(self._probe_once)
            return
        # The host never answered, and too few batches failed to call it an outage.
        while self._deferred:
            batch = self._deferred.popleft()
            self._deliver(batch, None, batch.error)

    async def _probe_once(self) -> None:
        """Ask for an item that the host is known to stand, or else for a deferred batch."""
        batch = None if self._good or not self._deferred else self._deferred.popleft()
        result: R | None = None
        failure: Exception | None = None
        try:
            if items := batch.items if batch else self._good:
                result = await self._probe(items)
        except Exception as error:
            failure = error
        if isinstance(failure, errors.MioEsimError):
            if is_fatal(failure):
                raise failure
            if is_outage(failure):
                self._health.failed(failure.with_traceback(None))
                if batch is not None:
                    self._defer(batch, failure)
                return
        self._health.answered()
        if batch is not None:
            self._deliver(batch, result, failure)


def fan_out(
    items: abc.Iterable[T] | abc.AsyncIterable[T],
    call: abc.Callable[[list[T]], abc.Awaitable[R]],
    *,
    batch_size: int = 100,
    concurrency: int = 8,
    ordered: bool = False,
    max_outage: float = 120.0,
) -> BatchStream[T, R]:
    """Run a batch coroutine over any number of items, and stream the batches' outcomes.

    Args:
        items: Any iterable or async iterable, of any size; read as it is needed.
        call: Takes a list of up to ``batch_size`` items. What it returns is the outcome's
            ``result``; an ``Exception`` that it raises is the outcome's ``error``.
        batch_size: Most items in a batch.
        concurrency: Most batches under way at once.
        ordered: Hand outcomes out in the order of the input, not as they complete.
        max_outage: Seconds that the host may be down before its error is raised.

    Returns:
        A stream of ``BatchOutcome``, to be used with ``async with`` and ``async for``.

    Raises:
        InvalidRequest: If an argument can't work.
    """
    return BatchStream(
        items,
        call,
        batch_size=batch_size,
        concurrency=concurrency,
        ordered=ordered,
        max_outage=max_outage,
    )

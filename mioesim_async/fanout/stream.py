"""The stream of batches: one task (the pump) reads the source and starts a task a batch.

Nothing is yielded inside a task group or a time-out scope, and memory is bounded: a batch
is started only while fewer than ``concurrency`` + 2 are under way or not yet taken.
"""

from __future__ import annotations

import asyncio
from collections import abc, deque
from typing import Any, Generic, Self, TypeVar

from attrs import define

from mioesim_async import errors
from mioesim_async.clock import Clock, SystemClock
from mioesim_async.closing import Closing, is_being_cancelled, running_loop
from mioesim_async.fanout.outage import HostHealth
from mioesim_async.fanout.source import Checked, Source
from mioesim_async.slices import shared_slice
from mioesim_async.transport.failures import is_fatal, is_outage
from mioesim_async.transport.pace import Pace

__all__ = ["BatchOutcome", "BatchStream", "fan_out"]

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 2
"""How many batches beyond the concurrency may wait for the consumer."""
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
    error: BaseException | None = None


@define(eq=False)
class _Batch(Generic[T]):
    """A batch on its way; ``heard`` counts the host's answers when it was last asked."""

    number: int
    items: list[T]
    asks: int = 0
    heard: int = 0
    error: BaseException | None = None


class BatchStream(Closing, Generic[T, R]):
    """The outcomes of a fan-out: an async iterator and an async context manager.

    ``async with``, exhaustion, an error and ``aclose()`` leave no task behind. An error that
    no batch can survive is raised from the stream, after what was done has been handed out.
    With ``max_outage``, batches may be asked again: when several in a row fail in transport,
    the stream pauses and probes until the host answers, or the time is up.
    """

    def __init__(
        self,
        items: abc.Iterable[T] | abc.AsyncIterable[T],
        call: abc.Callable[[list[T]], abc.Awaitable[R]],
        *,
        batch_size: int = 100,
        concurrency: int = 8,
        ordered: bool = False,
        max_outage: float | None = None,
        probe: abc.Callable[[list[T]], abc.Awaitable[R]] | None = None,
        heard: abc.Callable[[R], tuple[bool, T | None]] | None = None,
        pace: Pace | None = None,
        clock: Clock | None = None,
        registry: set[BatchStream[Any, Any]] | None = None,
        checked: Checked[Any] | None = None,
        refused: abc.Callable[[errors.MioEsimError], errors.MioEsimError] | None = None,
    ) -> None:
        """Prepare the stream; nothing runs until it is iterated.

        Args:
            items: As ``call``, ``batch_size``, ``concurrency`` and ``ordered``: see ``fan_out``.
            call: See there.
            batch_size: See there.
            concurrency: See there.
            ordered: See there.
            max_outage: Seconds that the host may be down; None never asks a batch again.
            probe: Asks once whether the host answers; ``call`` if None.
            heard: Tells of a result whether the host answered, and an item that it knows.
            pace: Changes the concurrency while the stream runs.
            clock: Where time comes from.
            registry: Holds the stream while it runs.
            checked: An input that is checked before anything runs.
            refused: Makes the error that ends the stream, of what the host answers to every
                batch; None never ends it for that.
        """
        faults = [
            f"{name} must be a whole number of 1 or more, not {value!r}"
            for name, value in (("batch_size", batch_size), ("concurrency", concurrency))
            if type(value) is not int or value < 1
        ]
        if not hasattr(items, "__aiter__") and not hasattr(items, "__iter__"):
            faults.append(f"the items must be iterable, not {type(items).__name__}")
        if max_outage is not None and not max_outage >= 0:
            faults.append(f"max_outage must be 0 seconds or more, not {max_outage!r}")
        if faults:
            raise errors.InvalidRequest(*faults)
        self._items = items
        self._call = call
        self._probe = probe or call
        self._batch_size = batch_size
        self._pace = pace or Pace(concurrency)
        self._ordered = ordered
        self._repeats = max_outage is not None
        self._health = HostHealth(clock or SystemClock(), max_outage or 0.0)
        self._heard = heard or (lambda _: (True, None))
        self._registry = set() if registry is None else registry
        self._checked = self._unchecked = checked
        self._refused = refused
        self._source: Source[T] | None = None
        self._pump: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._deferred: deque[_Batch[T]] = deque()
        self._finished: dict[int, BatchOutcome[T, R]] = {}
        self._started = self._untaken = self._next = 0
        self._good: list[T] = []
        self._error: BaseException | None = None
        self._hopeless: errors.MioEsimError | None = None
        self._closed = False
        self._to_pump = asyncio.Event()
        self._to_consumer = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Check an input that has to be checked, and return the stream itself.

        Raises:
            InvalidRequest: If anything is wrong with it.
        """
        await self.check()
        return self

    @property
    def is_unchecked(self) -> bool:
        """Whether it has an input that has to be checked, and was not yet."""
        return self._unchecked is not None

    async def check(self) -> None:
        """Check an input that has to be checked, if that was not done yet.

        Raises:
            InvalidRequest: If anything is wrong with it; then the stream is closed.
            WrongLoop: If no asyncio task runs.
        """
        running_loop()
        if self._unchecked is not None:
            try:
                await self._unchecked.check()
            except errors.InvalidRequest:
                await self.aclose()
                raise
            self._unchecked = None

    def __aiter__(self) -> Self:
        """Return the stream itself."""
        return self

    async def __anext__(self) -> BatchOutcome[T, R]:
        """Return the next outcome.

        Raises:
            InvalidRequest: As ``async with``, if the stream was not entered.
            MioEsimError: That ends the whole fan-out.
        """
        running_loop()
        if self._unchecked is not None:
            await self.check()
        shared = shared_slice()
        if shared.is_used_up():
            # Whoever takes outcomes that are at hand does not suspend on its own.
            await shared.wait_for_next()
        if self._pump is None and not self._closed:
            self._pump = asyncio.create_task(self._run(), name="mioesim_async fan-out")
            self._pump.add_done_callback(self._pump_ended)
            self._registry.add(self)
        while (outcome := self._take()) is None:
            if self._closed or self._pump is None or self._pump.done():
                if self._pump is not None and self._pump.done():
                    self._pump_ended(self._pump)  # its callback may not have run yet
                await self.aclose()
                error, self._error = self._error, None
                if error is not None:
                    raise error
                raise StopAsyncIteration
            self._to_consumer.clear()
            await self._to_consumer.wait()
        return outcome

    def _take(self) -> BatchOutcome[T, R] | None:
        number = self._next
        if not self._finished:
            return None
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

    async def aclose(self, error: errors.MioEsimError | None = None) -> None:
        """Cancel what is under way and wait for its end; may be called again.

        Args:
            error: Tells the consumer that the stream ended early, after what was done.
        """
        if not self._closed and self._pump is not None and not self._pump.done():
            self._error = self._error or error
        self._closed = True
        while tasks := self._tasks():
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if error is None:
            self._finished.clear()
        self._deferred.clear()
        self._registry.discard(self)
        self._to_consumer.set()
        source, self._source = self._source, None
        if source is not None:
            await source.aclose()
        checked, self._checked = self._checked, None
        self._unchecked = None
        if checked is not None:
            await checked.drop()

    def _tasks(self) -> list[asyncio.Task[Any]]:
        tasks = (self._pump, *self._running)
        return [task for task in tasks if task is not None and not task.done()]

    def _end(self, error: BaseException) -> None:
        """End the whole fan-out; the first error counts."""
        if self._error is None:
            self._error = error
        for task in self._tasks():
            task.cancel()

    def _pump_ended(self, pump: asyncio.Task[None]) -> None:
        if pump.cancelled():
            if not self._closed:
                self._end(errors.ClientClosed("the sweep was stopped before its end"))
        elif (error := pump.exception()) is not None:
            self._end(error)
        self._to_consumer.set()

    async def _run(self) -> None:
        source = self._source = Source(self._items, self._batch_size, self._to_pump.set)
        shared = shared_slice()
        while True:
            if self._hopeless is not None and not await self._is_hopeful(self._hopeless):
                continue
            if self._health.in_doubt and self._deferred:
                await self._wait_out()
            if (batch := self._startable(source)) is not None:
                self._start(batch)
            elif self._deferred and not self._running and self._is_stuck(source):
                await self._settle_deferred(source)
            elif not source.exhausted and not source.is_waiting and self._has_room():
                if shared.is_used_up():
                    await shared.wait_for_next()
                source.read()
            elif source.exhausted and not self._running and not self._deferred:
                break
            else:
                self._to_pump.clear()
                await self._to_pump.wait()
        # Not raised here: a cancellation inside the source would read as one of the pump.
        self._error = self._error or source.error

    async def _is_hopeful(self, ending: errors.MioEsimError) -> bool:
        """Wait for what is under way, since one success is enough to go on.

        Raises:
            MioEsimError: That ends the whole fan-out, when nothing is under way any more.
        """
        if self._health.has_succeeded:
            self._hopeless = None
            return True
        if not self._running:
            raise ending
        self._to_pump.clear()
        await self._to_pump.wait()
        return False

    def _has_room(self) -> bool:
        return len(self._running) < self._pace.limit and self._untaken < self._pace.cap + AHEAD

    def _is_stuck(self, source: Source[T]) -> bool:
        """Tell whether only the deferred batches can bring the stream on."""
        if source.exhausted or source.is_waiting:
            return True
        blocked = not self._finished or (self._ordered and self._next not in self._finished)
        return blocked and not self._has_room()

    def _startable(self, source: Source[T]) -> _Batch[T] | None:
        """Return the next batch that is at hand and may be started now."""
        if len(self._running) >= self._pace.limit:
            return None
        for batch in self._deferred:
            if self._health.answers > batch.heard:
                self._deferred.remove(batch)
                return batch
        items = source.take()
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
        except (Exception, asyncio.CancelledError) as error:
            # The call may have awaited something that was cancelled, and not this task.
            if is_being_cancelled():
                raise
            self._deliver(batch, None, error)
        else:
            self._note_answer(result)
            self._deliver(batch, result, None)

    def _note_answer(self, result: R) -> None:
        answered, known = self._heard(result)
        if answered:
            self._health.succeeded()
        if known is not None:
            self._good = [known]

    def _deliver(self, batch: _Batch[T], result: R | None, error: BaseException | None) -> None:
        self._finished[batch.number] = BatchOutcome(batch.items, result, error)
        self._to_consumer.set()

    def _failed(self, batch: _Batch[T], error: errors.MioEsimError) -> None:
        if is_fatal(error):
            self._end(error)
        elif not (self._repeats and is_outage(error)):
            if isinstance(error, errors.ApiError):
                self._health.answered()
            self._deliver(batch, None, error)
            self._note_refusal(error)
        else:
            self._health.failed(error)
            self._hopeless = None
            others_were_answered = batch.asks > 1 and self._health.answers > batch.heard
            if others_were_answered or batch.asks >= MAX_ASKS:
                self._deliver(batch, None, error)
            else:
                self._defer(batch, error)

    def _defer(self, batch: _Batch[T], error: BaseException) -> None:
        """Keep a batch back until the host is known to answer again."""
        batch.error = error
        batch.heard = self._health.answers
        self._deferred.append(batch)

    async def _settle_deferred(self, source: Source[T]) -> None:
        """Deal with the batches that failed last, with nothing else left to ask."""
        hopeless = source.exhausted and not self._health.answers
        if hopeless or not self._health.max_outage:
            # Too few batches failed, of a host that never answered, to call it an outage.
            self._give_up()
        else:
            await self._wait_out()

    def _give_up(self) -> None:
        while self._deferred:
            batch = self._deferred.popleft()
            self._deliver(batch, None, batch.error)

    async def _wait_out(self) -> None:
        try:
            await self._health.wait_out(self._probe_once)
        except errors.MioEsimError:
            self._give_up()
            raise

    async def _probe_once(self) -> None:
        """Ask for an item that the host is known to stand, or else for a deferred batch."""
        batch = None if self._good else self._deferred.popleft()
        result: R | None = None
        failure: BaseException | None = None
        try:
            result = await self._probe(batch.items if batch else self._good)
        except Exception as error:
            failure = error.with_traceback(None)
        except asyncio.CancelledError:
            if batch is not None:
                self._deferred.append(batch)
            raise
        self._probed(batch, result, failure)

    def _probed(
        self, batch: _Batch[T] | None, result: R | None, failure: BaseException | None
    ) -> None:
        """Note what a probe came to; raise what ends the whole fan-out."""
        if isinstance(failure, errors.MioEsimError):
            if is_fatal(failure):
                raise failure
            if is_outage(failure):
                self._health.failed(failure)
                if batch is not None:
                    self._defer(batch, failure)
                return
        if failure is None and result is not None:
            self._note_answer(result)
        else:
            self._health.answered()
        if batch is not None:
            self._deliver(batch, result, failure)
        self._note_refusal(failure)

    def _note_refusal(self, failure: BaseException | None) -> None:
        """Keep the error that ends the fan-out, if every batch was refused as this one was."""
        if self._refused is None or not isinstance(failure, errors.MioEsimError):
            return
        is_hopeless = self._health.refuses_all(failure)
        self._hopeless = self._refused(failure) if is_hopeless else None


def fan_out(
    items: abc.Iterable[T] | abc.AsyncIterable[T],
    call: abc.Callable[[list[T]], abc.Awaitable[R]],
    *,
    batch_size: int = 100,
    concurrency: int = 8,
    ordered: bool = False,
) -> BatchStream[T, R]:
    """Run a batch coroutine over any number of items, and stream the batches' outcomes.

    Each batch is asked exactly once, so the coroutine may place orders.

    Args:
        items: Any iterable or async iterable, of any size; read as it is needed.
        call: Takes a list of up to ``batch_size`` items. What it returns is the outcome's
            ``result``; what it raises is the outcome's ``error``.
        batch_size: Most items in a batch.
        concurrency: Most batches under way at once.
        ordered: Hand outcomes out in the order of the input, not as they complete.

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
    )

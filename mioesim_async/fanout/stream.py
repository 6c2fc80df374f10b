"""The stream of batches: one task, the pump, reads the source and starts a task for each batch.

The stream yields outside any task group or time-out scope. Memory is bounded: the pump starts a
batch only while fewer than ``concurrency`` + 2 batches are running or wait for the consumer.
"""

from __future__ import annotations

import asyncio
from collections import abc, deque
from typing import Any, Generic, Self, TypeVar

from attrs import define

from mioesim_async import errors
from mioesim_async.clock import Clock, SystemClock
from mioesim_async.closing import Closing, is_being_cancelled
from mioesim_async.fanout.outage import HostHealth
from mioesim_async.fanout.source import Checked, Source
from mioesim_async.slices import shared_slice
from mioesim_async.transport.failures import is_fatal, is_outage
from mioesim_async.transport.pace import Pace
from mioesim_async.transport.pool import running_loop

__all__ = ["BatchOutcome", "BatchStream", "fan_out"]

T = TypeVar("T")
R = TypeVar("R")

MAX_AHEAD = 2
"""Batches beyond the concurrency that may wait for the consumer."""

MAX_CALLS = 3
"""Calls for a batch that fails in transport every time."""


@define
class BatchOutcome(Generic[T, R]):
    """The outcome of one batch.

    Attributes:
        items: The batch's items.
        result: The value that the call returned, or None.
        error: The exception that the call raised, or None.
    """

    items: list[T]
    result: R | None = None
    error: BaseException | None = None


@define(eq=False)
class _Batch(Generic[T]):
    """A batch; ``answers_before`` is ``HostHealth.answers`` when the batch was last called."""

    number: int
    items: list[T]
    calls: int = 0
    answers_before: int = 0
    error: BaseException | None = None


class BatchStream(Closing, Generic[T, R]):
    """The outcomes of a fan-out: an async iterator and an async context manager.

    No task is left after ``async with``, the last outcome, an error or ``aclose()``. An error
    that ends all batches is raised from the stream, after the outcomes of finished batches.
    With ``max_outage``, batches may be called again: if several in a row fail in transport, the
    stream pauses, and probes until the host answers or the time is over.
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
        answer_of: abc.Callable[[R], tuple[bool, T | None]] | None = None,
        pace: Pace | None = None,
        clock: Clock | None = None,
        registry: set[BatchStream[Any, Any]] | None = None,
        checked: Checked[Any] | None = None,
        stop_error: abc.Callable[[errors.MioEsimError], errors.MioEsimError] | None = None,
    ) -> None:
        """Prepare the stream; nothing runs until it is iterated.

        Args:
            items: See ``fan_out``.
            call: See ``fan_out``.
            batch_size: See ``fan_out``.
            concurrency: See ``fan_out``.
            ordered: See ``fan_out``.
            max_outage: Seconds that the host may be down; with None, no batch is called again.
            probe: Called for a probe, with one attempt; ``call`` if None.
            answer_of: Returns, for a result, whether the host answered, and an item that the host
                knows or None. Probes ask for that item.
            pace: Changes the concurrency while the stream runs.
            clock: The source of time.
            registry: A set that contains the stream while it runs.
            checked: An input that must be checked before the first batch.
            stop_error: Returns the error that ends the stream, for a refusal that every batch
                gets. With None, refusals don't end the stream.
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
        self._answer_of = answer_of or (lambda _: (True, None))
        self._registry = set() if registry is None else registry
        self._checked = checked
        self.is_unchecked = checked is not None
        self._to_stop_error = stop_error
        self._source: Source[T] | None = None
        self._pump: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._deferred: deque[_Batch[T]] = deque()
        self._finished: dict[int, BatchOutcome[T, R]] = {}
        self._started = self._untaken = self._next = 0
        self._probe_items: list[T] = []
        self._error: BaseException | None = None
        self._stop_error: errors.MioEsimError | None = None
        self._closed = False
        self._to_pump = asyncio.Event()
        self._to_consumer = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Check the input, if it must be checked, and return the stream itself.

        Raises:
            InvalidRequest: If an item is wrong.
        """
        await self.check()
        return self

    async def check(self) -> None:
        """Check the input, if it must still be checked.

        Raises:
            InvalidRequest: If an item is wrong; the stream is then closed.
            WrongLoop: If this is not called from an asyncio task.
        """
        running_loop()
        if self.is_unchecked and self._checked is not None:
            try:
                await self._checked.check()
            except errors.InvalidRequest:
                await self.aclose()
                raise
            self.is_unchecked = False

    def __aiter__(self) -> Self:
        """Return the stream itself."""
        return self

    async def __anext__(self) -> BatchOutcome[T, R]:
        """Return the next outcome.

        Raises:
            InvalidRequest: If an item is wrong, and the stream was not entered before.
            MioEsimError: If an error ends the whole fan-out.
        """
        running_loop()
        if self.is_unchecked:
            await self.check()
        shared = shared_slice()
        if shared.is_used_up():
            # A consumer of finished outcomes doesn't suspend, and would block the loop.
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
            # The pump ended early. Return the outcomes there are, and skip the missing ones.
            number = min(self._finished)
        self._next = number + 1
        self._untaken -= 1
        self._to_pump.set()
        return self._finished.pop(number)

    async def aclose(self, error: errors.MioEsimError | None = None) -> None:
        """Cancel all tasks and wait for their end; may be called again.

        Args:
            error: Raised from the stream after the finished outcomes, to tell the consumer that it
                ended early.
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
        self.is_unchecked = False
        if checked is not None:
            await checked.drop()

    def _tasks(self) -> list[asyncio.Task[Any]]:
        tasks = (self._pump, *self._running)
        return [task for task in tasks if task is not None and not task.done()]

    def _end(self, error: BaseException) -> None:
        """End the whole fan-out; only the first error is kept."""
        if self._error is None:
            self._error = error
        for task in self._tasks():
            task.cancel()

    def _pump_ended(self, pump: asyncio.Task[None]) -> None:
        if pump.cancelled():
            if not self._closed:
                self._end(errors.ClientClosed("the sweep was cancelled before its end"))
        elif (error := pump.exception()) is not None:
            self._end(error)
        self._to_consumer.set()

    async def _run(self) -> None:
        source = self._source = Source(self._items, self._batch_size, self._to_pump.set)
        shared = shared_slice()
        while True:
            if self._stop_error is not None and not await self._may_continue(self._stop_error):
                continue
            if self._deferred and self._health.seems_down:
                await self._wait_out()
            if self._start_next(source):
                continue
            if self._deferred and not self._running and self._needs_deferred(source):
                await self._settle_deferred(source)
            elif not source.exhausted and source.reading is None and self._has_room():
                if shared.is_used_up():
                    await shared.wait_for_next()
                source.read()
            elif source.exhausted and not self._running and not self._deferred:
                break
            else:
                self._to_pump.clear()
                await self._to_pump.wait()
        # Not raised here: a CancelledError from the source would look like the pump's own.
        self._error = self._error or source.error

    async def _may_continue(self, error: errors.MioEsimError) -> bool:
        """Wait for the next running batch; one success is enough to continue.

        Raises:
            MioEsimError: The given error, if no batch is running any more.
        """
        if self._health.has_succeeded:
            self._stop_error = None
            return True
        if not self._running:
            raise error
        self._to_pump.clear()
        await self._to_pump.wait()
        return False

    def _has_room(self) -> bool:
        return len(self._running) < self._pace.limit and self._untaken < self._pace.cap + MAX_AHEAD

    def _needs_deferred(self, source: Source[T]) -> bool:
        """Tell whether the stream can't continue without the deferred batches."""
        if source.exhausted or source.reading is not None:
            return True
        blocked = not self._finished or (self._ordered and self._next not in self._finished)
        return blocked and not self._has_room()

    def _start_next(self, source: Source[T]) -> bool:
        """Start the next batch, if one may be started now; tell whether it was."""
        if len(self._running) >= self._pace.limit:
            return False
        for batch in self._deferred:
            if self._health.answers > batch.answers_before:
                self._deferred.remove(batch)
                break
        else:
            if not source.ready:
                return False
            batch = _Batch(self._started, source.ready)
            source.ready = []
            self._started += 1
            self._untaken += 1
        batch.calls += 1
        batch.answers_before = self._health.answers
        task = asyncio.create_task(self._run_batch(batch))
        self._running.add(task)
        task.add_done_callback(self._batch_ended)
        return True

    def _batch_ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._to_pump.set()

    async def _run_batch(self, batch: _Batch[T]) -> None:
        try:
            result = await self._call(batch.items)
        except errors.MioEsimError as error:
            # A traceback refers to frames, and would keep the whole reply in memory.
            self._failed(batch, error.with_traceback(None))
        except (Exception, asyncio.CancelledError) as error:
            # A CancelledError may come from something that the call awaited.
            if is_being_cancelled():
                raise
            self._deliver(batch, None, error)
        else:
            self._note_answer(result)
            self._deliver(batch, result, None)

    def _note_answer(self, result: R) -> None:
        answered, known = self._answer_of(result)
        if answered:
            self._health.succeeded()
        if known is not None:
            self._probe_items = [known]

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
            self._stop_error = None
            others_were_answered = batch.calls > 1 and self._health.answers > batch.answers_before
            if others_were_answered or batch.calls >= MAX_CALLS:
                self._deliver(batch, None, error)
            else:
                self._defer(batch, error)

    def _defer(self, batch: _Batch[T], error: BaseException) -> None:
        """Keep a batch until the host answers again."""
        batch.error = error
        batch.answers_before = self._health.answers
        self._deferred.append(batch)

    async def _settle_deferred(self, source: Source[T]) -> None:
        """Probe for the deferred batches, or give them up, when no other batch is left."""
        never_answered = source.exhausted and not self._health.answers
        if never_answered or not self._health.max_outage:
            # The host answered no batch of a small input, or max_outage is 0: don't wait for it.
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
        """Probe with an item that the host knows, or else with a deferred batch."""
        batch = None if self._probe_items else self._deferred.popleft()
        result: R | None = None
        failure: BaseException | None = None
        try:
            result = await self._probe(batch.items if batch else self._probe_items)
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
        """Note the result of a probe; raise an error that ends the whole fan-out."""
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
        """Set the error that ends the fan-out, if every batch got this refusal."""
        if self._to_stop_error is None or not isinstance(failure, errors.MioEsimError):
            return
        refuses_all = self._health.refuses_all(failure)
        self._stop_error = self._to_stop_error(failure) if refuses_all else None


def fan_out(
    items: abc.Iterable[T] | abc.AsyncIterable[T],
    call: abc.Callable[[list[T]], abc.Awaitable[R]],
    *,
    batch_size: int = 100,
    concurrency: int = 8,
    ordered: bool = False,
) -> BatchStream[T, R]:
    """Run a coroutine function over batches of any number of items, and stream the outcomes.

    It is called exactly once for each batch, so it may place orders.

    Args:
        items: Any iterable or async iterable, of any size; read as items are needed.
        call: Takes a list of up to ``batch_size`` items. Its return value is the outcome's
            ``result``; its exception is the outcome's ``error``.
        batch_size: How many items a batch may have.
        concurrency: How many batches may run at once.
        ordered: Return outcomes in the order of the input, not as they complete.

    Returns:
        A stream of ``BatchOutcome``; use it with ``async with`` and ``async for``.

    Raises:
        InvalidRequest: If an argument is invalid.
    """
    return BatchStream(
        items,
        call,
        batch_size=batch_size,
        concurrency=concurrency,
        ordered=ordered,
    )

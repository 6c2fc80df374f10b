"""Runs calls that must not be repeated, in tasks that outlive their callers."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from attrs import define, field

from mioesim_async.clock import Clock, TimeLimit
from mioesim_async.closing import is_being_cancelled
from mioesim_async.transport.call import (
    Call,
    abandoned_error,
    deadline_exceeded,
    order_num_of,
    unfinished_error,
)
from mioesim_async.wire.endpoints import Safety
from mioesim_async.wire.envelope import Envelope

__all__ = ["Detached", "Exchange", "LateAnswer", "exchange_ended"]

logger = logging.getLogger("mioesim_async")

LateAnswer = Callable[[Any], object]
R = TypeVar("R")

LONGEST_STOP = 1.0
"""Seconds that a caller waits for a call to end that was stopped before it was sent."""


@define(eq=False)
class Exchange(Generic[R]):
    """A call that must not be repeated, in a task that outlives its callers.

    Attributes:
        call: The call.
        task: Sends it, and does what comes before and after.
        waiting: The time limits of the callers that wait for its result.
        is_stopped: Whether it was stopped before it was sent, since no caller was left.
        is_abandoned: Whether the client was closed, and didn't wait for its end.
        is_answered: Whether a caller got its result.
        is_logged: Whether it was logged that a caller had left.
        is_told: Whether ``on_late_order`` was called.
    """

    call: Call
    task: asyncio.Task[R]
    waiting: set[TimeLimit] = field(factory=set)
    is_stopped: bool = False
    is_abandoned: bool = False
    is_answered: bool = False
    is_logged: bool = False
    is_told: bool = False

    def add(self, limit: TimeLimit) -> None:
        """Let one more caller wait."""
        self.waiting.add(limit)
        self._move_deadline()

    def remove(self, limit: TimeLimit) -> None:
        """Let a caller wait no longer."""
        self.waiting.discard(limit)
        self._move_deadline()

    def _move_deadline(self) -> None:
        # An attempt is worth making as long as any caller waits.
        if self.waiting:
            self.call.expires = max(limit.expires for limit in self.waiting)


class Detached:
    """The tasks of calls that must not be repeated. They go on if their callers are cancelled."""

    def __init__(self, on_late: LateAnswer | None, on_stopped: Callable[[Call], object]) -> None:
        """Start without tasks.

        Args:
            on_late: Called with the order or the error of a purchase for which no caller waited.
            on_stopped: Called with a call that was stopped before it was sent, when it has ended.
        """
        self._on_late = on_late
        self._on_stopped = on_stopped
        self._tasks: set[asyncio.Task[Any]] = set()
        self._exchanges: set[Exchange[Any]] = set()

    def start(self, call: Call, work: Coroutine[Any, Any, R]) -> Exchange[R]:
        """Do the work of a call in a task of its own."""
        task = self._keep(asyncio.create_task(work, name="mioesim_async purchase"))
        exchange = Exchange(call, task)
        self._exchanges.add(exchange)
        task.add_done_callback(lambda _: self._exchanges.discard(exchange))
        return exchange

    async def wait_for(self, exchange: Exchange[R], deadline: float | None) -> R:
        """Wait for the result; several callers may.

        Args:
            exchange: The exchange.
            deadline: Seconds that this caller waits.

        Raises:
            OutcomeUnknown: If the deadline passed, and the call was sent or goes on for others.
            OrderIncomplete: If the deadline passed when the order number was known.
            DeadlineExceeded: If the deadline passed before the call was sent.
            MioEsimError: If the work raises it.
        """
        call, task = exchange.call, exchange.task
        limit = TimeLimit(call.clock, deadline)
        with limit:
            exchange.add(limit)
            try:
                result = await asyncio.shield(task)
            except asyncio.CancelledError:
                is_mine = limit.has_expired or is_being_cancelled()
                if exchange.is_abandoned and task.cancelled() and not is_mine:
                    raise abandoned_error(call) from None
                self._on_leaving(exchange, limit)
                raise
            except BaseException:
                exchange.is_answered = True
                raise
            else:
                exchange.is_answered = True
                return result
            finally:
                exchange.remove(limit)
        if call.was_sent or call.order_num is not None or exchange.waiting:
            raise unfinished_error(call)
        # The call was stopped. Wait for its end, so that the caller may try again at once.
        await exchange_ended(exchange)
        raise deadline_exceeded(call)

    def _keep(self, task: asyncio.Task[R]) -> asyncio.Task[R]:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    @property
    def are_under_way(self) -> bool:
        """Whether any call is under way, beside the task that asks."""
        return bool(self._others())

    async def wait(self, seconds: float | None, clock: Clock) -> None:
        """Wait for all calls; each ends by its own time-out.

        Args:
            seconds: After so many, leave the calls that have not ended.
            clock: The source of time.
        """
        if not self._others():
            return
        with TimeLimit(clock, seconds):
            while tasks := self._others():
                await asyncio.wait(tasks)
            return
        tasks = self._others()
        for task in tasks - {exchange.task for exchange in self._exchanges}:
            # An ``on_late_order`` may take for ever.
            task.cancel()
        for exchange in [*self._exchanges]:
            self._abandon(exchange)
        if tasks:
            await asyncio.wait(tasks, timeout=LONGEST_STOP)

    def _abandon(self, exchange: Exchange[Any]) -> None:
        """End an exchange although its outcome isn't known; the journal has its intent."""
        call = exchange.call
        exchange.is_abandoned = True
        logger.warning(
            "the client was closed while %s was under way, so nobody here will learn its outcome; "
            "find out before you repeat it (otherOrderId %s, orderNum %s, call %s)",
            call.endpoint.path,
            call.texts.get("otherOrderId"),
            call.order_num or order_num_of(call),
            call.id,
        )
        call.stopped = True
        exchange.task.add_done_callback(lambda _: self._on_stopped(call))
        exchange.task.cancel()

    def _others(self) -> set[asyncio.Task[Any]]:
        # ``on_late_order`` may close the client, and its task must not wait for itself.
        return {task for task in self._tasks if task is not asyncio.current_task()}

    def _on_leaving(self, exchange: Exchange[Any], limit: TimeLimit) -> None:
        exchange.remove(limit)
        task = exchange.task
        if exchange.waiting or task.done() or exchange.call.was_sent:
            task.add_done_callback(lambda _: self._report(exchange))
        else:
            exchange.is_stopped = True
            exchange.call.is_late = limit.has_expired
            task.add_done_callback(lambda _: self._on_stopped(exchange.call))
            task.cancel()

    def _report(self, exchange: Exchange[Any]) -> None:
        call, task = exchange.call, exchange.task
        if task.cancelled():
            return
        error = task.exception()
        if not exchange.is_logged:
            exchange.is_logged = True
            logger.warning(
                "%s ended after its caller had stopped waiting: %s "
                "(otherOrderId %s, orderNum %s, call %s)",
                call.endpoint.path,
                "success" if error is None else f"{type(error).__name__}: {error}",
                call.texts.get("otherOrderId"),
                call.order_num or order_num_of(call),
                call.id,
            )
        if exchange.waiting or exchange.is_answered or exchange.is_told:
            return
        exchange.is_told = True
        if self._on_late is not None and call.endpoint.safety is Safety.MONEY:
            telling = self._call_on_late(self._on_late, task.result() if error is None else error)
            self._keep(asyncio.create_task(telling, name="mioesim_async on_late_order"))

    async def _call_on_late(self, on_late: LateAnswer, result: Any) -> None:
        try:
            told = on_late(result.data if isinstance(result, Envelope) else result)
            if inspect.isawaitable(told):
                await told
        except asyncio.CancelledError:
            logger.warning("on_late_order had not ended when the client was closed")
            raise
        except Exception:
            logger.exception("on_late_order raised")


async def exchange_ended(exchange: Exchange[Any]) -> None:
    """Wait a short time for the end of an exchange that was stopped."""
    await asyncio.wait([exchange.task], timeout=LONGEST_STOP)

"""Runs calls that must not be repeated, in tasks that outlive their callers."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from mioesim_async.transport.call import Call, deadline_exceeded, order_num_of, unfinished_error
from mioesim_async.wire.endpoints import Safety
from mioesim_async.wire.envelope import Envelope

__all__ = ["Detached", "LateAnswer"]

logger = logging.getLogger("mioesim_async")

LateAnswer = Callable[[Any], object]
R = TypeVar("R")

LONGEST_STOP = 1.0
"""Seconds that a caller waits for a call to end that was stopped before it was sent."""


class Detached:
    """The tasks of calls that must not be repeated. They go on if their callers are cancelled."""

    def __init__(self, on_late: LateAnswer | None) -> None:
        """Start without tasks.

        Args:
            on_late: Called with the order or the error of a purchase whose caller didn't wait.
        """
        self._on_late = on_late
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, call: Call, work: Coroutine[Any, Any, R]) -> R:
        """Do the work of a call in a task of its own, and wait for it.

        Raises:
            OutcomeUnknown: If the deadline passed after the call was sent.
            OrderIncomplete: If the deadline passed when the order number was known.
            MioEsimError: If the work raises it.
        """
        task = self._keep(asyncio.create_task(work, name="mioesim_async purchase"))
        with call:
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                self._on_cancelled_caller(call, task)
                raise
        if call.was_sent or call.order_num is not None:
            raise unfinished_error(call)
        # The call was stopped. Wait for its end, so that the caller may try again at once.
        await asyncio.wait([task], timeout=LONGEST_STOP)
        raise deadline_exceeded(call)

    def _keep(self, task: asyncio.Task[R]) -> asyncio.Task[R]:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    @property
    def are_under_way(self) -> bool:
        """Whether any call is under way, beside the task that asks."""
        return bool(self._others())

    async def wait(self) -> None:
        """Wait for all calls; each ends by its own time-out."""
        while tasks := self._others():
            await asyncio.wait(tasks)

    def _others(self) -> set[asyncio.Task[Any]]:
        # ``on_late_order`` may close the client, and its task must not wait for itself.
        return {task for task in self._tasks if task is not asyncio.current_task()}

    def _on_cancelled_caller(self, call: Call, task: asyncio.Task[Any]) -> None:
        if task.done() or call.was_sent:
            task.add_done_callback(lambda done: self._report(call, done))
        else:
            task.cancel()

    def _report(self, call: Call, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        logger.warning(
            "%s ended after its caller had stopped waiting: %s (otherOrderId %s, orderNum %s)",
            call.endpoint.path,
            "success" if error is None else f"{type(error).__name__}: {error}",
            call.texts.get("otherOrderId"),
            call.order_num or order_num_of(call),
        )
        if self._on_late is not None and call.endpoint.safety is Safety.MONEY:
            telling = self._call_on_late(self._on_late, task.result() if error is None else error)
            self._keep(asyncio.create_task(telling, name="mioesim_async on_late_order"))

    async def _call_on_late(self, on_late: LateAnswer, result: Any) -> None:
        try:
            told = on_late(result.data if isinstance(result, Envelope) else result)
            if inspect.isawaitable(told):
                await told
        except Exception:
            logger.exception("on_late_order raised")

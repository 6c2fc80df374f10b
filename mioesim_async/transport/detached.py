"""Calls that must not be repeated, in tasks that outlive their callers."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from mioesim_async.transport.call import Call, cut_short, order_asked_about, too_late
from mioesim_async.wire.endpoints import Safety
from mioesim_async.wire.envelope import Envelope

__all__ = ["Detached", "LateAnswer"]

logger = logging.getLogger("mioesim_async")

LateAnswer = Callable[[Any], object]
R = TypeVar("R")

SECONDS_TO_END = 1.0
"""How long a caller waits for the end of a call that was stopped before it was sent."""


class Detached:
    """The tasks of calls that must not be repeated; their callers may go."""

    def __init__(self, on_late: LateAnswer | None) -> None:
        """Start with none.

        Args:
            on_late: Called with what a purchase came to whose caller had gone.
        """
        self._on_late = on_late
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, call: Call, work: Coroutine[Any, Any, R]) -> R:
        """Do the work of a call in a task of its own, and wait for it.

        Raises:
            OutcomeUnknown: If the deadline passed after the call was sent.
            OrderIncomplete: If the deadline passed after the order number had come.
            MioEsimError: As the work itself.
        """
        task = self._own(asyncio.create_task(work, name="mioesim_async purchase"))
        with call:
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                self._leave(call, task)
                raise
        if call.was_sent or call.order_num is not None:
            raise cut_short(call)
        # It ends at once, and whoever tries again must find it ended.
        await asyncio.wait([task], timeout=SECONDS_TO_END)
        raise too_late(call)

    def _own(self, task: asyncio.Task[R]) -> asyncio.Task[R]:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    @property
    def are_under_way(self) -> bool:
        """Whether there are any."""
        return bool(self._tasks)

    async def wait(self) -> None:
        """Wait for all of them; each ends by its own time-out."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _leave(self, call: Call, task: asyncio.Task[Any]) -> None:
        if task.done() or call.was_sent:
            task.add_done_callback(lambda done: self._report(call, done))
        else:
            task.cancel()

    def _report(self, call: Call, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        logger.warning(
            "%s: the caller had gone when the answer came: %s (otherOrderId %s, orderNum %s)",
            call.endpoint.path,
            "success" if error is None else f"{type(error).__name__}: {error}",
            call.texts.get("otherOrderId"),
            call.order_num or order_asked_about(call),
        )
        if self._on_late is not None and call.endpoint.safety is Safety.MONEY:
            telling = self._tell(self._on_late, task.result() if error is None else error)
            self._own(asyncio.create_task(telling, name="mioesim_async on_late_order"))

    async def _tell(self, on_late: LateAnswer, result: Any) -> None:
        try:
            told = on_late(result.data if isinstance(result, Envelope) else result)
            if inspect.isawaitable(told):
                await told
        except Exception:
            logger.exception("on_late_order raised")

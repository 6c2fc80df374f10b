"""Calls that must not be repeated, in tasks that outlive their callers."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from mioesim_async.clock import Clock, TimeLimit
from mioesim_async.transport.call import Call, cut_short, order_asked_about, too_late
from mioesim_async.wire.endpoints import Endpoint, Safety
from mioesim_async.wire.envelope import Envelope
from mioesim_async.wire.signing import Value, canonical

__all__ = ["Exchange", "LateAnswer", "Purchases"]

logger = logging.getLogger("mioesim_async")

LateAnswer = Callable[[Any], object]
R = TypeVar("R")

SECONDS_TO_END = 1.0
"""How long a caller waits for the end of an exchange that was stopped before it was sent."""

Send = Callable[[Call], Coroutine[Any, Any, Envelope]]


class Purchases:
    """The exchanges under way whose callers may go."""

    def __init__(self, clock: Clock, on_late: LateAnswer | None) -> None:
        """Start with none.

        Args:
            clock: Where time comes from.
            on_late: Called with what a purchase came to whose caller had gone.
        """
        self._clock = clock
        self._on_late = on_late
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, call: Call, work: Coroutine[Any, Any, R], deadline: float | None) -> R:
        """Run one exchange, with what belongs to it, and wait for it.

        A caller who is cancelled, or whose deadline passes, leaves an exchange that was sent
        to its own time-out, and stops one that was not.

        Raises:
            OutcomeUnknown: If the deadline passed after it was sent.
            OrderIncomplete: If the deadline passed after the order number had come.
            MioEsimError: As the exchange itself.
        """
        task = self._own(asyncio.create_task(work, name="mioesim_async purchase"))
        if deadline is not None:
            call.expires = self._clock.monotonic() + deadline
        with TimeLimit(self._clock, deadline):
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                self._leave(call, task)
                raise
        if call.progress.sent or call.order_num is not None:
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
        if task.done() or call.progress.sent:
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


class Exchange:
    """A purchase that is sent once, and what is read after it.

    It goes on while the client closes, since an order that was paid for must be read.
    """

    def __init__(self, call: Call, send: Send) -> None:
        """Prepare; nothing is sent yet."""
        self._call = call
        self._send = send

    @property
    def was_sent(self) -> bool:
        """Whether a byte may have left, and was not proven to have done nothing."""
        return self._call.progress.sent

    def placed(self, order_num: str) -> None:
        """Tell the order's number, as soon as it is known."""
        self._call.order_num = order_num

    async def send(self) -> Envelope:
        """Send the purchase.

        Raises:
            MioEsimError: As the tree of errors says.
        """
        return await self._send(self._call)

    async def read(self, endpoint: Endpoint, params: Mapping[str, Value]) -> Envelope:
        """Read what belongs to the purchase, with the retries of a read.

        Raises:
            MioEsimError: As the tree of errors says.
        """
        texts = canonical(params)
        return await self._send(Call(endpoint, texts, self._call.policy, reserved=True))

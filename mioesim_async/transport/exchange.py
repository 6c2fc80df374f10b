"""One purchase as the code that conducts it sees it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from mioesim_async.transport.call import Call
from mioesim_async.wire.endpoints import Endpoint
from mioesim_async.wire.envelope import Envelope
from mioesim_async.wire.signing import Value, canonical

__all__ = ["Exchange"]

Send = Callable[[Call], Coroutine[Any, Any, Envelope]]


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

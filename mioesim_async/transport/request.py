"""One request, its reply, and how far it has come, as plain values."""

from __future__ import annotations

from collections.abc import Callable

import aiohttp
from attrs import define, field

__all__ = ["FORM", "Progress", "RawReply", "Request"]

FORM = "application/x-www-form-urlencoded"


@define
class Request:
    """One request, ready to be sent.

    Attributes:
        method: GET or POST.
        url: The whole URL, already encoded.
        body: The body of a POST.
        content_type: What the body is.
        timeout: Limits of the sockets.
        sign: The signature in it, to be masked.
        max_bytes: Most bytes that its reply may have.
        is_purchase: It must not be sent twice, and its reply is worth reading to the end.
        reserved: Send it over a connection of its own, that no number of reads can take.
    """

    method: str
    url: str = field(repr=False)
    body: bytes | None = field(repr=False)
    content_type: str
    timeout: aiohttp.ClientTimeout
    sign: str = field(repr=False)
    max_bytes: int
    is_purchase: bool = False
    reserved: bool = False


@define
class RawReply:
    """One reply, read to its end.

    Attributes:
        status: HTTP status.
        retry_after: The header of this name, where the status isn't 200.
        body: The whole body; may hold activation codes.
        date: The header ``Date``, or None.
    """

    status: int
    retry_after: str | None
    body: bytes = field(repr=False)
    date: str | None = None


@define
class Progress:
    """How far an attempt has come.

    Attributes:
        on_sent: Called when it has its connection.
        on_connecting: Called when a connection is being made through a proxy.
        sent: A byte may have left.
        was_told: aiohttp told that it had its connection.
        sent_at: When that was, on the clock's monotonic time.
        status: HTTP status of the reply.
        size: Size of the reply's body.
        code: The vendor's code.
        content: The reply's body, while it is read.
    """

    on_sent: Callable[[], None] | None = None
    on_connecting: Callable[[], None] | None = None
    sent: bool = False
    was_told: bool = False
    sent_at: float = 0.0
    status: int | None = None
    size: int = 0
    code: int | str | None = None
    content: aiohttp.StreamReader | None = None

    def leaves(self) -> None:
        """Note that a byte may leave from now on."""
        self.sent = True
        if self.on_sent is not None:
            self.on_sent()

    def connects(self) -> None:
        """Note that it waits for a connection that is being made, so that no byte has left."""
        self.sent = False
        if self.on_connecting is not None:
            self.on_connecting()

    @property
    def heard(self) -> int:
        """How much of a reply has come so far: its head counts as one, as soon as it is whole."""
        return 0 if self.content is None else 1 + self.content.total_bytes

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
        fresh: Send it over a connection that nothing was sent on before.
    """

    method: str
    url: str = field(repr=False)
    body: bytes | None = field(repr=False)
    content_type: str
    timeout: aiohttp.ClientTimeout
    sign: str = field(repr=False)
    fresh: bool = False


@define
class RawReply:
    """One reply, read to its end."""

    status: int
    retry_after: str | None
    body: bytes


@define
class Progress:
    """How far an attempt has come.

    Attributes:
        on_sent: Called when it has its connection.
        on_connecting: Called when a connection is being made through a proxy.
        sent: It has its connection, so a byte may have left.
        sent_at: When that was, on the clock's monotonic time.
        status: HTTP status of the reply.
        size: Size of the reply's body.
        code: The vendor's code.
        content: The reply's body, while it is read.
    """

    on_sent: Callable[[], None] | None = None
    on_connecting: Callable[[], None] | None = None
    sent: bool = False
    sent_at: float = 0.0
    status: int | None = None
    size: int = 0
    code: int | str | None = None
    content: aiohttp.StreamReader | None = None

    @property
    def heard(self) -> int:
        """How much of a reply has come so far: its head counts as one, as soon as it is whole."""
        return 0 if self.content is None else 1 + self.content.total_bytes

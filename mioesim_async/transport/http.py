"""HTTP requests and replies, what is kept of unreadable ones, and errors that contain no URLs."""

from __future__ import annotations

import os
import re
from typing import TypeGuard

import aiohttp
from attrs import define, field
from yarl import URL

from mioesim_async.errors import (
    ConfigurationError,
    ConnectError,
    ConnectionLost,
    MioEsimError,
)
from mioesim_async.slices import Steps, at_once

__all__ = [
    "FORM",
    "Excerpts",
    "RawReply",
    "Request",
    "excerpts_of",
    "explain",
    "unusable_url",
]

MAX_KEPT_BYTES = 64 * 1024
"""How many bytes from the start of an unreadable reply to a purchase its error keeps."""

ORDER_NUM = re.compile(rb"rder_?[nN]um")
MAX_EXCERPTS = 500
PIECE_BYTES = 64 * 1024
EXCERPT_BYTES = (16, 96)
"""How many bytes an excerpt has before and after the start of the name ``orderNum``."""

FORM = "application/x-www-form-urlencoded"


def excerpts_of(body: bytes) -> str:
    """Return the parts of an unreadable reply that may contain the order number."""
    excerpts = Excerpts()
    at_once(excerpts.feed(body))
    return excerpts.text()


class Excerpts:
    """Collects the parts of an unreadable reply that may contain the order number.

    These are its start, and the text around each ``orderNum``.
    """

    def __init__(self) -> None:
        """Start without text."""
        self._begun = bytearray()
        self._found: list[bytes] = []
        self._last = b""

    def feed(self, reply: bytes) -> Steps[None]:
        """Search the next part of the reply; it may have any size."""
        for start in range(0, len(reply), PIECE_BYTES):
            self._feed(reply[start : start + PIECE_BYTES])
            yield

    def _feed(self, piece: bytes) -> None:
        self._begun += piece[: max(0, MAX_KEPT_BYTES - len(self._begun))]
        # The name may be at the end of this piece, and the number in the next.
        text, last = self._last + piece, 0
        before, after = EXCERPT_BYTES
        for match in ORDER_NUM.finditer(text):
            if len(self._found) == MAX_EXCERPTS:
                break
            if match.start() + after <= len(text):
                self._found.append(text[max(0, match.start() - before) : match.start() + after])
                last = match.start() + 1
        self._last = text[max(last, len(text) - sum(EXCERPT_BYTES)) :]

    def text(self) -> str:
        """Return the collected parts."""
        return b"\n".join([self._begun, *self._found, self._last]).decode(errors="replace")


def explain(
    error: aiohttp.ClientError | TimeoutError | OSError, request: Request, *, sent: bool
) -> MioEsimError:
    """Make an error of the SDK from one of aiohttp.

    Args:
        error: The error of aiohttp.
        request: The request.
        sent: Whether a byte may have been sent.
    """
    host = URL(request.url).authority
    name = type(error).__name__
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return ConnectError(
            f"no connection to {host} within {request.timeout.sock_connect:g} s; "
            "check base_url, the network and the proxy"
        )
    why = _reason(error)
    if _is_of_proxy(error, URL(request.url)):
        # error.host is the proxy's host, without user name and password.
        proxy = f"[{error.host}]" if ":" in error.host else error.host
        return ConnectError(
            f"can't connect to the proxy {proxy}:{error.port}: {why} ({name}); "
            "check the proxy's URL and the network"
        )
    if isinstance(error, aiohttp.ClientConnectorError) or not sent:
        return ConnectError(
            f"can't connect to {host}: {why} ({name}); check base_url, the network and the proxy"
        )
    return ConnectionLost(f"the connection to {host} broke: {why} ({name})")


def _is_of_proxy(error: BaseException, asked: URL) -> TypeGuard[aiohttp.ClientConnectorError]:
    """Tell whether connecting to the proxy failed, or looking up its name."""
    if not isinstance(error, aiohttp.ClientConnectorError):
        return False
    is_host = error.host in (asked.host, asked.raw_host) and error.port == asked.port
    return not is_host or isinstance(error, aiohttp.ClientProxyConnectionError)


def unusable_url(error: BaseException) -> ConfigurationError:
    """Make the error for a URL that aiohttp refuses before anything is sent."""
    # The URL may hold a password and is left out; the description holds none.
    why = getattr(error, "description", None) or "is not valid"
    return ConfigurationError(f"base_url or proxy can't be used: its host {why}")


def _reason(error: BaseException) -> str:
    """Return the reason of an error, without a URL."""
    certificate = getattr(error, "certificate_error", None)
    system = certificate or getattr(error, "os_error", None) or error
    if isinstance(system, ConnectionError) and system.errno is not None:
        # asyncio's own message only repeats the address.
        return os.strerror(system.errno)
    for attribute in ("verify_message", "strerror"):
        text = getattr(system, attribute, None)
        if isinstance(text, str) and text:
            return text
    status = getattr(error, "status", None)
    return f"the host's answer is not HTTP, or status {status}" if status else "no reason given"


@define
class Request:
    """One signed request.

    Attributes:
        method: GET or POST.
        url: The URL, already encoded.
        body: The body of a POST.
        content_type: Type of the body.
        timeout: Time limits for connecting.
        sign: The signature in it; must be masked in messages.
        max_bytes: Limit of the size of the reply's body.
        is_purchase: Whether it must not be sent twice, and a reply that is too large is searched
            for the order number.
        reserved: Whether to send it over a connection that reads can't use.
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
    """One complete reply.

    Attributes:
        status: HTTP status.
        retry_after: The header ``Retry-After``, unless the status is 200; else None.
        body: The body; may hold activation codes. Empty for an error status.
        date: The header ``Date``, or None.
    """

    status: int
    retry_after: str | None
    body: bytes = field(repr=False)
    date: str | None = None

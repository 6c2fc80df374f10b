"""A request and its reply over HTTP: bodies within their limit, aiohttp's errors without URLs."""

from __future__ import annotations

import os
import re
from contextlib import suppress
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
from mioesim_async.slices import Steps, at_once, in_slices
from mioesim_async.wire.envelope import too_large

__all__ = [
    "FORM",
    "RawReply",
    "Request",
    "clues_in",
    "explain",
    "read_body",
    "unusable",
]

ERROR_BODY_BYTES = 64 * 1024
KEPT_OF_A_REPLY = 64 * 1024
"""How many bytes of an unreadable reply to a purchase are kept on its error."""

MOST_OF_A_PURCHASE = 32 * 1024 * 1024
"""So many bytes of a reply to a purchase are searched for the order's number."""

ORDER_NUM = re.compile(rb"rder_?[nN]um")
MOST_CLUES = 500
PIECE = 64 * 1024
AROUND = (16, 96)
"""Bytes before and after the name of an order number that are kept of a reply that is too large."""

FORM = "application/x-www-form-urlencoded"


async def read_body(response: aiohttp.ClientResponse, request: Request) -> bytes:
    """Read a body, but never more than the limit, and of an error page only a small one.

    Raises:
        ProtocolError: If it is larger. Of a purchase, its ``data`` has the beginning of the
            reply and whatever may be an order number.
    """
    length, headers = response.content_length, response.headers
    if not 200 <= response.status < 300:
        small = length is not None and length <= ERROR_BODY_BYTES
        if small and "Content-Encoding" not in headers:
            # Read only so that the connection can be used again; the status says it all.
            with suppress(aiohttp.ClientError):
                await response.read()
        else:
            response.close()
        return b""
    limit = request.max_bytes
    if length is not None and length <= limit and "Content-Encoding" not in headers:
        return await response.read()
    pieces: list[bytes] = []
    size = 0
    too_long = length is not None and length > limit
    if not too_long or request.is_purchase:
        async for piece in response.content.iter_any():
            size += len(piece)
            pieces.append(piece)
            if size > limit:
                break
        else:
            return b"".join(pieces)
    fault = too_large(limit)
    if request.is_purchase:
        clues = Clues()
        for piece in pieces:
            await in_slices(clues.feed(piece))
        with suppress(aiohttp.ClientError):
            while size < MOST_OF_A_PURCHASE and (piece := await response.content.readany()):
                size += len(piece)
                await in_slices(clues.feed(piece))
        fault.data = clues.text()
    response.close()
    raise fault


def clues_in(body: bytes) -> str:
    """Return what may tell the order's number, out of a reply that can't be read."""
    clues = Clues()
    at_once(clues.feed(body))
    return clues.text()


class Clues:
    """What may tell the order's number, out of a reply to a purchase that can't be read.

    That is the beginning of the reply, and what stands around each name of an order number.
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self._begun = bytearray()
        self._found: list[bytes] = []
        self._last = b""

    def feed(self, reply: bytes) -> Steps[None]:
        """Take the next part of the reply, of any size."""
        for start in range(0, len(reply), PIECE):
            self._feed(reply[start : start + PIECE])
            yield

    def _feed(self, piece: bytes) -> None:
        self._begun += piece[: max(0, KEPT_OF_A_REPLY - len(self._begun))]
        # A name may stand at the very end, with its number in the next piece.
        text, last = self._last + piece, 0
        before, after = AROUND
        for match in ORDER_NUM.finditer(text):
            if len(self._found) == MOST_CLUES:
                break
            if match.start() + after <= len(text):
                self._found.append(text[max(0, match.start() - before) : match.start() + after])
                last = match.start() + 1
        self._last = text[max(last, len(text) - sum(AROUND)) :]

    def text(self) -> str:
        """Return what was found."""
        return b"\n".join([self._begun, *self._found, self._last]).decode(errors="replace")


def explain(
    error: aiohttp.ClientError | TimeoutError | OSError, request: Request, *, sent: bool
) -> MioEsimError:
    """Turn an error of aiohttp into one of ours.

    Args:
        error: What aiohttp raised.
        request: What was to be sent.
        sent: A byte may have left.
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
        # The host of the error is the proxy, without its user.
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
    """Tell whether it is the proxy that can't be reached, or whose name can't be looked up."""
    if not isinstance(error, aiohttp.ClientConnectorError):
        return False
    is_host = error.host in (asked.host, asked.raw_host) and error.port == asked.port
    return not is_host or isinstance(error, aiohttp.ClientProxyConnectionError)


def unusable(error: BaseException) -> ConfigurationError:
    """Make the error for a URL that aiohttp refuses before anything is sent."""
    # Its URL may hold a password, so it is not repeated; the description has none.
    why = getattr(error, "description", None) or "is none"
    return ConfigurationError(f"base_url or proxy can't be used: its host {why}")


def _reason(error: BaseException) -> str:
    """Say why, in words that can't hold a URL."""
    certificate = getattr(error, "certificate_error", None)
    system = certificate or getattr(error, "os_error", None) or error
    if isinstance(system, ConnectionError) and system.errno is not None:
        # asyncio's own words for it don't say what happened.
        return os.strerror(system.errno)
    for attribute in ("verify_message", "strerror"):
        text = getattr(system, attribute, None)
        if isinstance(text, str) and text:
            return text
    status = getattr(error, "status", None)
    return f"the host's answer is not HTTP, or status {status}" if status else "no reason given"


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

"""Bodies within their limit, and aiohttp's errors in words that hold no URL."""

from __future__ import annotations

import os
from contextlib import suppress

import aiohttp
from yarl import URL

from mioesim_async.errors import ConnectError, ConnectionLost, MioEsimError
from mioesim_async.transport.request import Progress, Request
from mioesim_async.wire.envelope import MAX_BODY_BYTES, too_large

__all__ = ["explain", "read_body"]

ERROR_BODY_BYTES = 64 * 1024


async def read_body(response: aiohttp.ClientResponse) -> bytes:
    """Read a body, but never more than the limit, and of an error page only a small one."""
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
    if length is not None and length <= MAX_BODY_BYTES and "Content-Encoding" not in headers:
        return await response.read()
    pieces: list[bytes] = []
    size = 0
    if length is None or length <= MAX_BODY_BYTES:
        async for piece in response.content.iter_any():
            size += len(piece)
            if size > MAX_BODY_BYTES:
                break
            pieces.append(piece)
        else:
            return b"".join(pieces)
    response.close()
    raise too_large(MAX_BODY_BYTES)


def explain(
    error: aiohttp.ClientError | TimeoutError | OSError, progress: Progress, request: Request
) -> MioEsimError:
    """Make our error of aiohttp's, before or after a byte may have left."""
    host = URL(request.url).authority
    name = type(error).__name__
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return ConnectError(
            f"no connection to {host} within {request.timeout.sock_connect:g} s; "
            "check base_url, the network and the proxy"
        )
    why = _reason(error)
    if isinstance(error, aiohttp.ClientConnectorError) or not progress.sent:
        return ConnectError(
            f"can't connect to {host}: {why} ({name}); check base_url, the network and the proxy"
        )
    return ConnectionLost(f"the connection to {host} broke: {why} ({name})")


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

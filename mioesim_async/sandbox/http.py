"""How the sandbox reads a request, and the unusual ways in which it sends a reply."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

import orjson
from aiohttp import HttpVersion11, web

from mioesim_async.sandbox.faults import Fault

__all__ = ["abort", "disconnected", "read_params", "send", "send_huge"]

BLOCK = 64 * 1024
POLL_SECONDS = 0.01


async def read_params(request: web.Request) -> dict[str, str]:
    """Return what was sent: in the query of a GET, else in a form or as JSON."""
    if request.method == "GET":
        return dict(request.query)
    if request.content_type == "application/json":
        try:
            body = orjson.loads(await request.read())
        except orjson.JSONDecodeError:
            return {}
        return {str(k): str(v) for k, v in body.items()} if isinstance(body, dict) else {}
    return {name: value for name, value in (await request.post()).items() if isinstance(value, str)}


def abort(request: web.Request) -> web.Response:
    """Close the connection at once, with nothing sent."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def disconnected(request: web.Request) -> None:
    """Wait until the client has closed the connection."""
    while not _is_disconnected(request):  # noqa: ASYNC110 - aiohttp has no event for it
        await asyncio.sleep(POLL_SECONDS)


def _is_disconnected(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


async def send(
    request: web.Request, body: bytes, fault: Fault, pause: Callable[[], Awaitable[None]]
) -> web.StreamResponse:
    """Send a body as a fault says: a part of it, in pieces, or both.

    Args:
        request: The request that is answered.
        body: The whole body.
        fault: What goes wrong.
        pause: Waits between two pieces.
    """
    part = body[: int(len(body) * fault.keep)]
    response = _response(request, None if fault.chunk else len(body))
    with suppress(ConnectionError):
        # The client may hang up before the end.
        await response.prepare(request)
        size = fault.chunk or max(1, -(-len(part) // fault.pieces))
        for start in range(0, len(part), size):
            if start:
                await (pause() if fault.pause else asyncio.sleep(0))
            await response.write(part[start : start + size])
    transport = request.transport
    if transport is not None and fault.half_close and transport.can_write_eof():
        transport.write_eof()
        await disconnected(request)
    elif transport is not None and fault.keep < 1:
        transport.close()
    return response


async def send_huge(request: web.Request, fault: Fault) -> web.StreamResponse:
    """Send a reply of any size, of which only one block is ever held in memory."""
    response = _response(request, fault.size if fault.declared else None)
    with suppress(ConnectionError):
        await response.prepare(request)
        for block in _json_blocks(fault.size):
            await response.write(block)
    return response


def _response(request: web.Request, length: int | None) -> web.StreamResponse:
    response = web.StreamResponse()
    response.content_type = "application/json"
    if length is not None:
        response.content_length = length
    elif request.version >= HttpVersion11:
        response.enable_chunked_encoding()
    return response


def _json_blocks(size: int) -> Iterator[memoryview | bytes]:
    """Make JSON of so many bytes, block by block: an envelope whose data is one long text."""
    head, tail = b'{"code":0,"message":"success","data":"', b'"}'
    filler = size - len(head) - len(tail)
    if filler < 0:
        yield b"0" * size
        return
    yield head
    block = memoryview(b"9" * BLOCK)
    for start in range(0, filler, BLOCK):
        yield block[: min(BLOCK, filler - start)]
    yield tail

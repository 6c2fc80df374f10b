"""The unusual ways in which the sandbox sends a reply, as they look on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp
import pytest
from plain_caller import Wire, http, wire
from waiting import until

from mioesim_async.sandbox import Fault

__all__ = ["http", "wire"]

QUERY = "queryIccidInformation"


async def raw(wire: Wire, fault: Fault, version: str = "1.1") -> tuple[bytes, bytes]:
    """Send a GET over a plain socket; return the head and all of the body as it came."""
    wire.sandbox.faults.add(fault, QUERY)
    host, port = wire.sandbox.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    path = f"/api_esim/{QUERY}?token=none"
    writer.write(f"GET {path} HTTP/{version}\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    reply = await asyncio.wait_for(reader.read(-1), 10)
    writer.close()
    await writer.wait_closed()
    head, _, body = reply.partition(b"\r\n\r\n")
    return head, body


async def whole(wire: Wire) -> bytes:
    return (await raw(wire, Fault.evict_token()))[1]


@pytest.mark.parametrize("pieces", [2, 5, 1000])
async def test_slow_body_comes_whole_with_pauses_between_its_pieces(
    wire: Wire, pieces: int
) -> None:
    body = await whole(wire)
    head, sent = await raw(wire, Fault.slow_body(3, pieces=pieces))
    assert sent == body
    assert f"Content-Length: {len(body)}".encode() in head
    pauses = wire.sandbox.clock.slept
    assert {*pauses} == {3}
    assert len(pauses) < min(pieces, len(body))


@pytest.mark.parametrize("size", [1, 10, 10_000])
async def test_tiny_chunks_are_http_chunks_of_that_size(wire: Wire, size: int) -> None:
    body = await whole(wire)
    head, sent = await raw(wire, Fault.tiny_chunks(size))
    assert b"Transfer-Encoding: chunked" in head
    sizes = [int(line, 16) for line in sent.split(b"\r\n")[::2] if line]
    assert sizes[0] == min(size, len(body))
    assert (max(sizes), sum(sizes), sizes[-1]) == (sizes[0], len(body), 0)


async def test_tiny_chunks_end_with_the_connection_for_http_1_0(wire: Wire) -> None:
    body = await whole(wire)
    head, sent = await raw(wire, Fault.tiny_chunks(3), version="1.0")
    assert b"chunked" not in head
    assert sent == body


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("size", [1, 39, 40, 41, 42, 65_536, 1_000_000])
async def test_huge_has_exactly_so_many_bytes(wire: Wire, size: int, declared: bool) -> None:
    wire.sandbox.faults.add(Fault.huge(size, declared=declared), QUERY)
    reply = await wire.query(wire.sandbox.iccids[0])
    assert len(reply.body) == size
    assert ("Content-Length" in reply.headers) is declared
    if size > 41:
        assert reply.json["code"] == 0


async def test_half_closed_keeps_the_connection_until_the_client_ends_it(wire: Wire) -> None:
    body = await whole(wire)
    wire.sandbox.faults.add(Fault.half_closed(0.5), QUERY)
    host, port = wire.sandbox.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET /api_esim/{QUERY}?token=none HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    sent = (await reader.read(-1)).partition(b"\r\n\r\n")[2]
    assert sent == body[: len(body) // 2]
    assert wire.sandbox.under_way == 1, "the sandbox still holds the connection"
    writer.close()
    await writer.wait_closed()
    await until(lambda: wire.sandbox.under_way == 0)


async def test_silence_ends_with_the_client_or_the_sandbox(wire: Wire) -> None:
    wire.sandbox.faults.add(Fault.silence(), QUERY, times=None)
    calls = [asyncio.create_task(wire.query(wire.sandbox.iccids[0])) for _ in range(3)]
    await until(lambda: wire.sandbox.under_way == 3)
    calls[0].cancel()
    await until(lambda: wire.sandbox.under_way == 2)
    await wire.sandbox.aclose()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert all(isinstance(result, aiohttp.ClientError) for result in results[1:])
    assert wire.sandbox.under_way == 0


@pytest.mark.parametrize("capacity", [0, 2])
async def test_capacity_counts_every_call_under_way(wire: Wire, capacity: int) -> None:
    wire.sandbox.faults.add(Fault.silence(), QUERY, times=capacity)
    wire.sandbox.capacity = capacity
    calls = [
        asyncio.create_task(wire.query(wire.sandbox.iccids[0], method="POST"))
        for _ in range(capacity)
    ]
    await until(lambda: wire.sandbox.under_way == capacity)
    assert (await wire.query(wire.sandbox.iccids[0])).status == 429
    assert (await wire.login()).status == 429
    wire.sandbox.capacity = None
    assert (await wire.query(wire.sandbox.iccids[0])).code == 0
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Fault.slow_body(pieces=1),
        lambda: Fault.tiny_chunks(0),
        lambda: Fault.huge(0),
        lambda: Fault.slow(-1),
        lambda: Fault.slow(float("nan")),
        lambda: Fault.missing_cards(-1),
    ],
)
def test_a_fault_that_would_be_none_is_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match="or more"):
        make()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Fault.http(99), "status must be"),
        (lambda: Fault.html(600), "status must be"),
        (lambda: Fault.http(429, retry_after="7\r\nSet-Cookie: a=b"), "Retry-After must be"),
        (lambda: Fault.redirect(""), "Location must be"),
        (lambda: Fault.cut(1), "keep must be"),
        (lambda: Fault.half_closed(-0.5), "keep must be"),
        (lambda: Fault.refuse(""), "code must not"),
        (lambda: Fault.refuse(1, "{0.a}"), "message '{0.a}' can't"),
        (
            lambda: Fault.after_effect(Fault.after_effect(Fault.html())),
            "goes wrong after the effect",
        ),
    ],
)
def test_a_fault_that_could_not_be_served_is_refused(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()

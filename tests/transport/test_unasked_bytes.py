"""A reply that nobody asked for is never taken for the reply to the next call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from shopping import PLAN

from mioesim_async import (
    Credentials,
    Dialect,
    MioEsimClient,
    OrderJournal,
    RetryPolicy,
    SessionManager,
    errors,
)
from mioesim_async.sandbox import SandboxClock
from mioesim_async.wire.dialect import READ_METHODS, ReadMethod

ACCOUNT = Credentials(phone_number="13800000000", password="made-up", secret_key="made-up-key")
ICCIDS = [f"8985{number:015d}" for number in range(5)]


class Talkative:
    """A host that sends one reply more than it was asked for, whenever ``extra`` is set."""

    def __init__(self) -> None:
        self.url = ""
        self.extra: bytes | None = None
        self.connections = 0
        self.asked: list[str] = []
        self.extra_was_sent = asyncio.Event()
        self.late = asyncio.Event()
        self.greeting = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.write(self.greeting)
        try:
            while (head := await reader.readuntil(b"\r\n\r\n")) is not None:
                path = head.split(b" ")[1].decode()
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                body = await reader.readexactly(int(length or 0))
                name = path.partition("?")[0].rpartition("/")[2]
                self.asked.append(name)
                about = (path + body.decode()).partition("iccid=")[2].partition("&")[0]
                writer.write(reply(name, about))
                if self.extra is not None and name != "login":
                    extra, self.extra = self.extra, None
                    await self.late.wait()
                    writer.write(extra)
                    await writer.drain()
                    self.extra_was_sent.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def http(reply: Any) -> bytes:
    body = json.dumps(reply).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def reply(name: str, about: str) -> bytes:
    if name == "login":
        return http({"code": 1, "data": {"token": "1-MADEUP"}})
    if name == "addEsimOrder":
        card = {"iccid": ICCIDS[0]}
        return http({"code": 0, "data": {"orderNum": "EP1", "cardApiDtoList": [card]}})
    return http({"code": 0, "data": [{"orderNum": f"EP-{about[-2:]}"}]})


@pytest.fixture
async def host() -> AsyncIterator[Talkative]:
    talkative = Talkative()
    server = await asyncio.start_server(talkative.serve, "127.0.0.1", 0)
    talkative.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield talkative
    talkative.late.set()
    server.close()
    await server.wait_closed()


def client_of(host: Talkative, method: ReadMethod = "GET", **arguments: Any) -> MioEsimClient:
    return MioEsimClient(
        ACCOUNT,
        base_url=host.url,
        dialect=Dialect(signature="plain", login_encoding="form", read_method=method),
        retry=RetryPolicy(max_attempts=1),
        clock=SandboxClock(skip_sleeps=True),
        **arguments,
    )


async def until_it_came(host: Talkative) -> None:
    """Let the extra bytes arrive at the client."""
    host.late.set()
    await asyncio.wait_for(host.extra_was_sent.wait(), 20)
    # The host's bytes are in the socket; a few turns of the loop read them.
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("method", READ_METHODS)
@pytest.mark.parametrize("when", ["at once", "on an idle connection"])
async def test_no_read_gets_the_reply_to_another(
    host: Talkative, method: ReadMethod, when: str
) -> None:
    if when == "at once":
        host.late.set()
    async with client_of(host, method) as client:
        host.extra = http({"code": 0, "data": [{"orderNum": "EP-OF-NOBODY"}]})
        await client.cards.history(ICCIDS[1])
        await until_it_came(host)
        for iccid in ICCIDS[2:]:
            (past,) = await client.cards.history(iccid)
            assert past.order_num == f"EP-{iccid[-2:]}"
    # The one that was talked on was closed; the next is kept.
    assert host.connections == 2


async def test_a_purchase_over_a_lent_session_does_not_take_a_stale_refusal_for_its_answer(
    host: Talkative, journal: OrderJournal
) -> None:
    async with (
        aiohttp.ClientSession() as lent,
        SessionManager(session=lent) as manager,
        client_of(host, session_manager=manager, order_journal=journal) as client,
    ):
        host.extra = http({"code": 4, "message": "stale refusal"})
        await client.cards.history(ICCIDS[1])
        await until_it_came(host)
        order = await client.orders.place(**PLAN, count=1, other_order_id="shop-1")
        assert order.order_num == "EP1"
    assert host.asked.count("addEsimOrder") == 1
    assert not await journal.open_entries()


async def test_a_host_that_talks_before_it_is_asked_is_a_connect_error(host: Talkative) -> None:
    host.greeting = http({"code": 0, "data": None})
    async with client_of(host) as client:
        # Bytes that come later than the request can't be told from its reply.
        with pytest.raises((errors.ConnectError, errors.ApiError)):
            await client.login()
    assert host.connections <= 20

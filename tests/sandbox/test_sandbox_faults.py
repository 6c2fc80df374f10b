"""Each fault does what it says, for the calls that it was meant for."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from plain_caller import DETAIL, Wire, http, wire
from waiting import until

from mioesim_async.sandbox import Fault, Sandbox, SandboxClock

__all__ = ["http", "wire"]

QUERY = "queryIccidInformation"


async def ask(wire: Wire, fault: Fault, *, count: int = 2, **arguments: Any) -> Any:
    """Add a fault and ask for some cards."""
    wire.sandbox.faults.add(fault, QUERY, **arguments)
    return await wire.query(*wire.sandbox.iccids[:count])


# Instead of the answer.


@pytest.mark.parametrize("status", [429, 500, 503, 404])
async def test_http_answers_with_the_status_and_does_nothing(wire: Wire, status: int) -> None:
    reply = await ask(wire, Fault.http(status))
    assert (reply.status, "Retry-After" in reply.headers) == (status, False)
    wire.sandbox.faults.add(Fault.http(status), "login")
    assert (await wire.login()).status == status
    assert wire.sandbox.logins == 1


@pytest.mark.parametrize("wait", ["7", "Wed, 21 Oct 2026 07:28:00 GMT"])
async def test_http_carries_retry_after(wire: Wire, wait: str) -> None:
    reply = await ask(wire, Fault.http(429, retry_after=wait))
    assert (reply.status, reply.headers["Retry-After"]) == (429, wait)


async def test_redirect_is_a_307_to_that_place(wire: Wire) -> None:
    reply = await ask(wire, Fault.redirect("http://127.0.0.1:1/elsewhere"))
    assert (reply.status, reply.body) == (307, b"")
    assert reply.headers["Location"] == "http://127.0.0.1:1/elsewhere"


@pytest.mark.parametrize("status", [200, 503])
async def test_html_is_a_page(wire: Wire, status: int) -> None:
    reply = await ask(wire, Fault.html(status))
    assert (reply.status, reply.headers["Content-Type"][:9]) == (status, "text/html")
    assert reply.body.startswith(b"<!DOCTYPE html>")


@pytest.mark.parametrize("fault", [Fault.malformed(), Fault.malformed(b"nope"), Fault.truncate()])
async def test_malformed_and_truncated_bodies_are_whole_by_http_and_no_json(
    wire: Wire, fault: Fault
) -> None:
    reply = await ask(wire, fault)
    assert (reply.status, reply.body) == (200, fault.body)
    assert reply.headers["Content-Type"].startswith("application/json")
    assert reply.headers["Content-Length"] == str(len(reply.body))
    with pytest.raises(json.JSONDecodeError):
        _ = reply.json


async def test_truncate_stops_in_the_middle_of_json(wire: Wire) -> None:
    body = (await ask(wire, Fault.truncate())).body
    assert body.startswith(b'{"code":0')
    assert body.count(b"{") > body.count(b"}")


async def test_empty_has_no_body(wire: Wire) -> None:
    reply = await ask(wire, Fault.empty())
    assert (reply.status, reply.body) == (200, b"")


async def test_replaced_answers_with_that_body(wire: Wire) -> None:
    reply = await ask(wire, Fault.replaced(b'{"code":"0"}'))
    assert (reply.status, reply.json) == (200, {"code": "0"})


@pytest.mark.parametrize("code", [-8, 4711, "E_STOCK"])
async def test_refuse_answers_with_the_code_and_does_nothing(wire: Wire, code: int | str) -> None:
    reply = await ask(wire, Fault.refuse(code, "no such luck"))
    assert reply.json == {"code": code, "message": "no such luck", "data": None}
    assert wire.sandbox.requests[-1].code == code
    wire.sandbox.faults.add(Fault.refuse(code), "login")
    assert (await wire.login()).code == code
    assert wire.sandbox.logins == 1
    assert (await wire.query(wire.sandbox.iccids[0])).code == 0, "the token is still alive"


async def test_refuse_echoes_what_was_sent(wire: Wire) -> None:
    reply = await ask(wire, Fault.refuse(-8, "bad: {token} {sign} {iccids}"), count=1)
    sent = wire.sandbox.requests[-1].params
    assert reply.json["message"] == f"bad: {wire.token} {sent['sign']} {wire.sandbox.iccids[0]}"


async def test_refuse_can_name_what_was_not_sent(wire: Wire) -> None:
    wire.sandbox.faults.add(Fault.refuse(-1, "no {token} in a login"), "login")
    reply = await wire.login()
    assert (reply.status, reply.code) == (200, -1)


# The connection.


async def test_lose_request_closes_before_the_login_took_effect(wire: Wire) -> None:
    wire.sandbox.faults.add(Fault.lose_request(), "login")
    with pytest.raises(aiohttp.ClientConnectionError):
        await wire.login()
    assert wire.sandbox.logins == 1
    assert wire.sandbox.requests[-1].fault == "lose request"
    assert (await wire.query(wire.sandbox.iccids[0])).code == 0


async def test_lose_reply_closes_after_the_login_took_effect(wire: Wire) -> None:
    wire.sandbox.faults.add(Fault.lose_reply(), "login")
    with pytest.raises(aiohttp.ClientConnectionError):
        await wire.login()
    assert wire.sandbox.logins == 2
    assert wire.sandbox.requests[-1].code == 1
    assert (await wire.query(wire.sandbox.iccids[0])).code == -1, "the lost login evicted it"


@pytest.mark.parametrize("fault", [Fault.lose_request(), Fault.lose_reply()])
async def test_a_lost_connection_loses_only_its_own_call(wire: Wire, fault: Fault) -> None:
    wire.sandbox.faults.add(fault, QUERY)
    with pytest.raises(aiohttp.ClientConnectionError):
        # By POST: aiohttp itself sends a lost GET a second time.
        await wire.query(wire.sandbox.iccids[0], method="POST")
    assert (await wire.query(wire.sandbox.iccids[0])).code == 0


@pytest.mark.parametrize("keep", [0.0, 0.25, 0.5, 0.99])
async def test_cut_sends_a_part_and_closes(wire: Wire, keep: float) -> None:
    whole = (await wire.query(*wire.sandbox.iccids[:100])).body
    wire.sandbox.faults.add(Fault.cut(keep), QUERY)
    request = wire.sandbox.requests[-1].params
    async with wire.http.get(f"{wire.sandbox.url}/api_esim/{QUERY}", params=request) as response:
        assert response.headers["Content-Length"] == str(len(whole))
        part = b""
        with pytest.raises(aiohttp.ClientPayloadError):
            async for chunk in response.content.iter_any():
                part += chunk
    assert part == whole[: int(len(whole) * keep)]


async def test_cut_lets_the_login_take_effect(wire: Wire) -> None:
    wire.sandbox.faults.add(Fault.cut(), "login")
    with pytest.raises(aiohttp.ClientPayloadError):
        await wire.login()
    assert wire.sandbox.logins == 2


# The answer itself.


async def test_evict_token_kills_it_before_the_call(wire: Wire) -> None:
    assert (await ask(wire, Fault.evict_token())).code == -1
    assert (await wire.query(wire.sandbox.iccids[0])).code == -1, "it stays dead"
    await wire.login()
    assert (await wire.query(wire.sandbox.iccids[0])).code == 0


@pytest.mark.parametrize("count", [1, 3, 50])
async def test_missing_cards_leaves_so_many_out(wire: Wire, count: int) -> None:
    rows = (await ask(wire, Fault.missing_cards(count), count=10)).data
    asked = wire.sandbox.iccids[:10]
    assert len(rows) == max(0, 10 - count)
    assert {row["iccid"] for row in rows} <= {*asked}


async def test_extra_cards_adds_strangers(wire: Wire) -> None:
    rows = (await ask(wire, Fault.extra_cards(3), count=2)).data
    assert [row["iccid"] for row in rows[:2]] == wire.sandbox.iccids[:2]
    strangers = {row["iccid"] for row in rows[2:]}
    assert len(strangers) == 3
    assert not strangers & {*wire.sandbox.iccids}


async def test_unknown_values_adds_statuses_and_fields(wire: Wire) -> None:
    usual = (await wire.query(*wire.sandbox.iccids[:2])).data
    strange = (await ask(wire, Fault.unknown_values())).data
    known = {"ACTIVE", "Enable", "Disable", "Delete"}
    assert not {row["dpStatus"] for row in strange} & known
    assert all(row.keys() > before.keys() for row, before in zip(strange, usual, strict=True))


@pytest.mark.parametrize("shape", ["map", "map in object"])
async def test_missing_and_extra_cards_fit_every_shape(
    http: aiohttp.ClientSession, shape: str
) -> None:
    async with Sandbox(4, shape=shape) as sandbox:
        caller = Wire(http, sandbox)
        await caller.login()
        for fault, left in ((Fault.missing_cards(), 3), (Fault.extra_cards(2), 6)):
            sandbox.faults.add(fault, QUERY)
            data = (await caller.query(*sandbox.iccids)).data
            assert len(data if shape == "map" else data["cards"]) == left


# Time.


async def test_slow_waits_for_the_sandboxs_clock(http: aiohttp.ClientSession) -> None:
    async with Sandbox(1, clock=SandboxClock()) as sandbox:
        caller = Wire(http, sandbox)
        await caller.login()
        sandbox.faults.add(Fault.slow(3600), QUERY)
        call = asyncio.create_task(caller.query(*sandbox.iccids))
        await until(lambda: sandbox.clock.slept)
        sandbox.clock.advance(3590)
        assert (await caller.query(*sandbox.iccids)).code == 0
        assert not call.done()
        sandbox.clock.advance(10)
        reply = await asyncio.wait_for(call, 10)

    assert (reply.code, len(reply.data)) == (0, 1)


async def test_slow_moves_a_clock_that_skips_sleeps(wire: Wire) -> None:
    before = wire.sandbox.clock.monotonic()
    assert (await ask(wire, Fault.slow(3600))).code == 0
    assert wire.sandbox.clock.monotonic() - before >= 3600
    assert wire.sandbox.clock.slept == [3600]


# Which calls.


async def fates(wire: Wire, calls: int) -> list[str | None]:
    """Make calls and tell which faults they met."""
    for _ in range(calls):
        await wire.query(wire.sandbox.iccids[0])
    return [request.fault for request in wire.sandbox.requests[-calls:]]


async def test_a_fault_strikes_once_unless_told_otherwise(wire: Wire) -> None:
    wire.sandbox.faults.add(Fault.http(503))
    assert await fates(wire, 3) == ["http 503", None, None]


async def test_times_says_how_often(wire: Wire) -> None:
    wire.sandbox.faults.add(Fault.http(503), QUERY, times=2)
    assert await fates(wire, 4) == ["http 503", "http 503", None, None]


async def test_times_none_is_for_ever_until_cleared(wire: Wire) -> None:
    wire.sandbox.faults.add(Fault.http(503), QUERY, times=None)
    assert await fates(wire, 5) == ["http 503"] * 5
    wire.sandbox.faults.clear()
    assert await fates(wire, 2) == [None, None]


async def test_after_lets_so_many_calls_of_the_endpoint_go_well(wire: Wire) -> None:
    wire.sandbox.faults.add(Fault.http(503), QUERY, after=2)
    assert (await wire.read(DETAIL, iccid=wire.sandbox.iccids[0])).code == 0
    assert await fates(wire, 4) == [None, None, "http 503", None]


async def test_only_the_named_endpoint_is_struck(wire: Wire) -> None:
    wire.sandbox.faults.add(Fault.http(503), "getESIMDetail", times=None)
    assert await fates(wire, 1) == [None]
    assert (await wire.read(DETAIL, iccid=wire.sandbox.iccids[0])).status == 503
    assert (await wire.login()).code == 1


async def test_without_an_endpoint_every_call_is_struck(wire: Wire) -> None:
    wire.sandbox.faults.add(Fault.http(503), times=None)
    replies = [
        await wire.query(wire.sandbox.iccids[0]),
        await wire.read(DETAIL, iccid=wire.sandbox.iccids[0]),
        await wire.login(),
        await wire.read("/api_esim/noSuchThing"),
    ]
    assert [reply.status for reply in replies] == [503] * 4


async def test_each_call_meets_the_first_fault_that_fits(wire: Wire) -> None:
    wire.sandbox.faults.add(Fault.http(503), QUERY)
    wire.sandbox.faults.add(Fault.html(), QUERY, times=2)
    assert await fates(wire, 4) == ["http 503", "html", "html", None]

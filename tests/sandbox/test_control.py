"""The sandbox's control: what a test in another process reads and steers over HTTP."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from command import interrupted, started
from shopping import buy
from waiting import read_until

from mioesim_async import DpStatus, MioEsimClient, errors
from mioesim_async.sandbox import Sandbox, SandboxControl


@pytest.fixture
async def control(sandbox: Sandbox) -> AsyncIterator[SandboxControl]:
    async with SandboxControl(sandbox) as control:
        yield control


@pytest.fixture
async def http(control: SandboxControl) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {control.token}"}
    async with aiohttp.ClientSession(control.url, headers=headers) as session:
        yield session


async def ask(http: aiohttp.ClientSession, method: str, path: str, body: Any = None) -> Any:
    """Send a request; return the status and the JSON of the reply."""
    data = None if body is None else json.dumps(body)
    async with http.request(method, path, data=data) as reply:
        return reply.status, await reply.json()


async def test_orders_and_requests_are_read_without_secrets(
    sandbox: Sandbox, http: aiohttp.ClientSession
) -> None:
    async with sandbox.client() as client:
        order = await buy(client, "shop-1")
    status, orders = await ask(http, "GET", "/orders")
    assert (status, [one["order_num"] for one in orders]) == (200, [order.order_num])
    assert (orders[0]["other_order_id"], orders[0]["status"]) == ("shop-1", "PAID")
    status, seen = await ask(http, "GET", "/requests")
    assert [one["endpoint"] for one in seen] == ["login", "addEsimOrder"]
    assert seen[1]["params"]["otherOrderId"] == "shop-1"
    account, token = sandbox.credentials, sandbox.requests[1].params["token"]
    for secret in (account.password, account.secret_key, token, sandbox.requests[0].params["sign"]):
        assert secret not in json.dumps([orders, seen])
    assert (await ask(http, "GET", "/requests?after=1"))[1] == seen[1:]


async def test_the_clock_is_read_and_moved(sandbox: Sandbox, http: aiohttp.ClientSession) -> None:
    before = sandbox.clock.time()
    status, told = await ask(http, "POST", "/clock", {"advance": 7200})
    assert (status, told["time"] - before) == (200, pytest.approx(7200, abs=60))
    assert (await ask(http, "POST", "/clock", {"advance": -1}))[0] == 400


async def test_faults_are_added_and_removed(sandbox: Sandbox, http: aiohttp.ClientSession) -> None:
    assert (await ask(http, "POST", "/faults", {"fault": "refuse=-8@getSkus"}))[0] == 200
    async with sandbox.client() as client:
        with pytest.raises(errors.QueryFailed):
            await client.ping()
        assert (await ask(http, "DELETE", "/faults"))[0] == 200
        await client.ping()
    status, told = await ask(http, "POST", "/faults", {"fault": "made-up"})
    assert status == 400
    assert "wrong fault 'made-up'" in told["error"]


async def test_a_card_is_set(sandbox: Sandbox, http: aiohttp.ClientSession) -> None:
    iccid, end = sandbox.iccids[0], dt.datetime(2027, 3, 1, 12, tzinfo=dt.UTC)
    async with sandbox.client() as client:
        (before,) = await client.cards.query([iccid])
        values = {"used_mb": 12.5, "dp_status": "Disable", "ends_at": end.isoformat()}
        assert (await ask(http, "PATCH", f"/cards/{iccid}", values))[0] == 200
        (after,) = await client.cards.query([iccid])
        detail = await client.cards.detail(iccid)
    assert (after.used_mb, after.dp_status, after.ends_at) == (12.5, DpStatus.DISABLE, end)
    assert before.used_mb is not None
    assert before.remaining_mb is not None
    assert after.remaining_mb == pytest.approx(before.used_mb + before.remaining_mb - 12.5)
    assert detail.used_mb == 12.5
    assert (await ask(http, "PATCH", "/cards/8985", values))[0] == 400
    assert (await ask(http, "PATCH", f"/cards/{iccid}", {"colour": "red"}))[0] == 400


async def test_the_token_is_ended(sandbox: Sandbox, http: aiohttp.ClientSession) -> None:
    async with sandbox.client() as client:
        await client.ping()
        assert (await ask(http, "POST", "/evict"))[0] == 200
        await client.ping()
    assert sandbox.logins == 2


async def test_nobody_gets_in_without_the_token_or_under_another_name(
    control: SandboxControl,
) -> None:
    good = {"Authorization": f"Bearer {control.token}"}
    port = control.url.rpartition(":")[2]
    async with aiohttp.ClientSession(control.url) as http:
        for headers, expected in [
            ({}, 401),
            ({"Authorization": "Bearer made-up"}, 401),
            (good | {"Host": f"evil.example:{port}"}, 421),
            (good | {"Host": f"localhost:{port}"}, 421),
            (good, 200),
        ]:
            async with http.get("/orders", headers=headers) as reply:
                assert reply.status == expected
                assert "Access-Control-Allow-Origin" not in reply.headers
        async with http.options("/orders", headers=good) as reply:
            assert reply.status == 405


async def test_what_it_can_t_read_is_refused(http: aiohttp.ClientSession) -> None:
    for body in (
        "{",
        "[]",
        "{}",
        '{"advance": "x"}',
        '{"advance": null}',
        '{"advance": NaN}',
        "9" * 100_000,
    ):
        async with http.post("/clock", data=body) as reply:
            assert reply.status in (400, 413)
            assert "error" in await reply.json()
    assert (await ask(http, "GET", "/made-up"))[0] == 404


async def test_from_env_takes_the_sandbox_s_environment(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in sandbox.environ.items():
        monkeypatch.setenv(name, value)
    async with MioEsimClient.from_env() as client:
        await client.ping()


async def test_the_command_prints_where_its_control_is() -> None:
    with started("sandbox", "--control", "--cards", "3") as process:
        assert process.stdout is not None
        told = read_until(process.stdout, "Ctrl-C stops\n")
        found = dict(re.findall(r"^export (MIOESIM_SANDBOX_\w+)=(\S+)$", told, re.MULTILINE))
        headers = {"Authorization": f"Bearer {found['MIOESIM_SANDBOX_TOKEN']}"}
        async with aiohttp.ClientSession(found["MIOESIM_SANDBOX_CONTROL"], headers=headers) as http:
            assert await ask(http, "GET", "/orders") == (200, [])
        assert interrupted(process).status == 0

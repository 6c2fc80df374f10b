"""What can be seen of the attempts: hooks and their sums."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from attrs import evolve
from attrs.exceptions import FrozenInstanceError
from shopping import buy
from waiting import until

from mioesim_async import MioEsimClient, Order, Safety, errors
from mioesim_async.sandbox import Fault, Sandbox, SandboxClock

QUERY = "/api_esim/queryIccidInformation"
BUY = "/api_esim/addEsimOrder"


async def test_a_hook_sees_a_record_of_each_attempt(sandbox: Sandbox) -> None:
    records: list[Any] = []
    async with sandbox.client(hooks=[records.append]) as client:
        sandbox.faults.add(Fault.http(503), "queryIccidInformation")
        sandbox.faults.add(Fault.refuse(-1), "queryIccidInformation")
        sandbox.faults.add(Fault.lose_reply(), "addEsimOrder")
        await client.cards.query(sandbox.iccids[:10])
        with pytest.raises(errors.OutcomeUnknown):
            await client.call(BUY, safety=Safety.MONEY)
    seen = [(r.endpoint, r.safety, r.attempt, r.status, r.code, r.error) for r in records]
    login = ("/api_order/login", Safety.AUTH, 1, 200, 1, None)
    assert seen == [
        login,
        (QUERY, Safety.READ, 1, 503, None, "HttpStatusError"),
        (QUERY, Safety.READ, 2, 200, -1, "TokenExpired"),
        login,
        (QUERY, Safety.READ, 2, 200, 0, None),
        (BUY, Safety.MONEY, 1, None, None, "ConnectionLost"),
    ]
    assert all(record.duration > 0 and record.waited >= 0 for record in records)
    assert [record.bytes > 0 for record in records] == [True, False, True, True, True, False]


async def test_an_attempt_without_a_connection_only_waited(clock: SandboxClock) -> None:
    records: list[Any] = []
    async with Sandbox(1) as gone:
        url, credentials = gone.url, gone.credentials
    async with MioEsimClient(
        credentials, base_url=url, clock=clock, hooks=[records.append]
    ) as client:
        with pytest.raises(errors.ConnectError):
            await client.login()
    assert [(r.attempt, r.status, r.error, r.duration, r.bytes) for r in records] == [
        (number, None, "ConnectError", 0, 0) for number in (1, 2, 3, 4)
    ]


async def test_a_record_can_t_be_changed_and_holds_no_secret(sandbox: Sandbox) -> None:
    records: list[Any] = []
    async with sandbox.client(hooks=[records.append]) as client:
        await client.cards.query(sandbox.iccids[:10])
        sandbox.faults.add(Fault.refuse("{token} {sign}", "{token}"), "getESIMDetail")
        with pytest.raises(errors.ApiError):
            await client.cards.detail(sandbox.iccids[0])
    with pytest.raises(FrozenInstanceError):
        records[0].status = 500
    shown = repr(records)
    account = sandbox.credentials
    secrets = {account.password, account.secret_key, account.phone_number}
    for request in sandbox.requests:
        secrets |= {request.params.get("token", "?"), request.params["sign"]}
    assert not [secret for secret in secrets if secret != "?" and secret in shown]


async def test_a_hook_that_raises_is_logged_and_breaks_nothing(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    records: list[Any] = []

    def broken(record: Any) -> None:
        raise RuntimeError("no such metric")

    async with sandbox.client(hooks=[broken, records.append]) as client:
        assert len(await client.cards.query(sandbox.iccids[:10])) == 10
    assert len(records) == 2
    assert [r.getMessage() for r in caplog.records].count("a hook raised") == 2
    assert sandbox.requests[-1].params["token"] not in caplog.text


async def test_stats_are_the_sums_of_the_records(sandbox: Sandbox) -> None:
    records: list[Any] = []
    async with sandbox.client(hooks=[records.append]) as client:
        sandbox.faults.add(Fault.http(503), "queryIccidInformation", times=2)
        sandbox.faults.add(Fault.refuse(-1), "queryIccidInformation")
        await client.cards.query_all(sandbox.iccids, concurrency=2)
        with pytest.raises(errors.NotFound):
            await client.cards.detail("8999000000000000001")
        stats = client.stats()
    assert stats.requests == len(records) == len(sandbox.requests)
    assert stats.failures == sum(record.error is not None for record in records)
    assert stats.retries == sum(record.error == "HttpStatusError" for record in records) == 2
    assert stats.replays == sum(record.error == "TokenExpired" for record in records)
    assert stats.logins == sum(record.safety is Safety.AUTH for record in records) == 2
    assert stats.seconds == pytest.approx(sum(record.duration for record in records))
    assert stats.waited == pytest.approx(sum(record.waited for record in records))
    assert stats.bytes == sum(record.bytes for record in records)


async def coroutine(_: object) -> None: ...


class Later:
    """An object whose call is a coroutine."""

    async def __call__(self, _: object) -> None: ...


@pytest.mark.parametrize(
    "hook",
    [
        coroutine, partial(coroutine), Later(), partial(Later()), partial(partial(Later()), 1),
        "no function",
    ],
)  # fmt: skip
def test_a_hook_that_would_never_be_awaited_is_refused(sandbox: Sandbox, hook: Any) -> None:
    with pytest.raises(errors.ConfigurationError, match="hook"):
        sandbox.client(hooks=[hook])


@pytest.mark.parametrize("hooks", [print, None, 7, "abc"])
def test_hooks_that_are_no_list_of_functions_are_refused(sandbox: Sandbox, hooks: Any) -> None:
    with pytest.raises(errors.ConfigurationError, match="hooks takes "):
        sandbox.client(hooks=hooks)


@pytest.mark.parametrize("taken", ["x", 7, []])
def test_an_on_late_order_that_can_t_be_called_is_refused(sandbox: Sandbox, taken: Any) -> None:
    with pytest.raises(errors.ConfigurationError, match="on_late_order takes a function"):
        sandbox.client(on_late_order=taken)


def returns_a_coroutine(record: object) -> object:
    return coroutine(record)


async def test_a_hook_that_returns_a_coroutine_all_the_same_is_told_in_the_log(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    async with sandbox.client(hooks=[returns_a_coroutine]) as client:
        await client.catalogue.skus()
    assert "hooks are not awaited" in caplog.text


@pytest.mark.parametrize("fault", [None, Fault.lose_reply()], ids=["order", "error"])
async def test_an_async_on_late_order_is_awaited_before_the_client_closes(
    sandbox: Sandbox, fault: Fault | None
) -> None:
    sandbox.clock._skip = False
    told: list[object] = []

    async def on_late(result: object) -> None:
        await asyncio.sleep(0)
        told.append(result)

    async with sandbox.client(on_late_order=on_late) as client:
        await client.login()
        sandbox.faults.add(evolve(fault or Fault.slow(0), delay=5), "addEsimOrder")
        call = asyncio.create_task(buy(client, "shop-1"))
        await until(lambda: sandbox.under_way, pause=0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        sandbox.clock.advance(5)
    (result,) = told
    assert isinstance(result, Order if fault is None else errors.OutcomeUnknown)


async def test_an_on_late_order_that_raises_is_logged_and_breaks_nothing(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.clock._skip = False

    async def on_late(_: object) -> None:
        raise ValueError("no such shop")

    async with sandbox.client(on_late_order=on_late) as client:
        await client.login()
        sandbox.faults.add(Fault.slow(5), "addEsimOrder")
        call = asyncio.create_task(buy(client, "shop-1"))
        await until(lambda: sandbox.under_way, pause=0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        sandbox.clock.advance(5)
    assert "on_late_order raised" in caplog.text

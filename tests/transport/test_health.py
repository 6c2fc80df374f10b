"""What a client says of itself: its health, the ids of its calls, and calls that never left."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from shopping import PLAN, buy
from waiting import until

from mioesim_async import (
    AttemptRecord,
    MemoryTokenStore,
    MioEsimClient,
    OrderJournal,
    RetryPolicy,
    Safety,
    StoredToken,
    errors,
)
from mioesim_async.sandbox import Fault, Sandbox

DETAIL = "getESIMDetail"


@pytest.fixture
def records() -> list[AttemptRecord]:
    return []


@pytest.fixture
async def client(sandbox: Sandbox, records: list[AttemptRecord]) -> AsyncIterator[MioEsimClient]:
    """A client with one slot, that is logged in, on a clock that stands."""
    async with sandbox.client(hooks=[records.append], max_in_flight=1) as client:
        await client.login()
        sandbox.clock._skip = False
        records.clear()
        yield client


async def under_way(sandbox: Sandbox, client: MioEsimClient, endpoint: str = DETAIL) -> Any:
    """Make a call that takes the slot for 20 s."""
    sandbox.faults.add(Fault.slow(20), endpoint)
    before = len(sandbox.requests)
    work = (
        client.cards.detail(sandbox.iccids[0])
        if endpoint == DETAIL
        else client.orders.place(**PLAN, count=1, other_order_id="first")
    )
    task = asyncio.create_task(work)
    await until(lambda: len(sandbox.requests) > before, pause=0)
    await turns()
    return task


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0.001)


# Health.


async def test_health_before_anything_was_done_knows_nothing(sandbox: Sandbox) -> None:
    async with sandbox.client() as client:
        health = client.health()
    assert (health.token_expires_at, health.store_is_up, health.journal_is_up) == (None, None, None)
    assert (health.last_success_at, health.last_failure_at) == (None, None)
    assert (health.is_contended, health.in_flight, health.queued) == (False, 0, 0)
    assert not sandbox.requests


async def test_health_tells_until_when_the_token_is_valid_and_what_came_last(
    sandbox: Sandbox,
) -> None:
    async with sandbox.client(retry=RetryPolicy(max_attempts=1)) as client:
        now = dt.datetime.fromtimestamp(sandbox.clock.time(), dt.UTC)
        await client.ping()
        sandbox.clock.advance(60)
        sandbox.faults.add(Fault.http(503), DETAIL)
        with pytest.raises(errors.HttpStatusError):
            await client.cards.detail(sandbox.iccids[0])
        sandbox.clock.advance(30)
        health, asked = client.health(), len(sandbox.requests)
    assert health.token_expires_at == pytest.approx(
        now + dt.timedelta(hours=2), abs=dt.timedelta(seconds=5)
    )
    assert health.last_success_at is not None
    assert health.last_failure_at is not None
    assert health.last_success_at.tzinfo is dt.UTC
    apart = health.last_failure_at - health.last_success_at
    assert dt.timedelta(seconds=60) <= apart <= dt.timedelta(seconds=65)
    assert (health.store_is_up, asked) == (True, 3)


async def test_health_tells_what_is_under_way_and_what_waits(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    first = await under_way(sandbox, client)
    waiting = [asyncio.create_task(client.cards.detail(one)) for one in sandbox.iccids[1:4]]
    buying = await under_way(sandbox, client, "addEsimOrder")
    health = client.health()
    assert (health.in_flight, health.queued) == (2, 3)
    sandbox.clock.advance(20)
    await asyncio.gather(first, buying, *waiting)
    assert (client.health().in_flight, client.health().queued) == (0, 0)


class Store(MemoryTokenStore):
    """A token store that can be down."""

    is_down = False

    async def load(self, key: str) -> StoredToken | None:
        if self.is_down:
            raise OSError("made up")
        return await super().load(key)


async def test_health_tells_that_the_store_is_down_and_since_when(sandbox: Sandbox) -> None:
    store = Store()
    async with sandbox.client(token_store=store) as client:
        await client.ping()
        up = client.health()
        sandbox.clock.advance(60)
        store.is_down = True
        sandbox.faults.add(Fault.evict_token(), "getSkus")
        await client.ping()
        down = client.health()
    assert (up.store_is_up, down.store_is_up) == (True, False)
    assert up.store_since is not None
    assert down.store_since is not None
    assert down.store_since - up.store_since >= dt.timedelta(seconds=59)


async def test_health_tells_of_the_journal(
    sandbox: Sandbox, journal: OrderJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sandbox.client(order_journal=journal) as client:
        assert client.health().journal_is_up is None
        await buy(client)
        assert client.health().journal_is_up is True

        async def down(_: object) -> None:
            raise OSError("made up")

        monkeypatch.setattr(journal, "begin", down)
        with pytest.raises(errors.JournalUnavailable):
            await buy(client)
        health = client.health()
    assert health.journal_is_up is False
    assert health.journal_since is not None


async def test_health_tells_that_somebody_else_keeps_logging_in(sandbox: Sandbox) -> None:
    async with sandbox.client() as client:
        sandbox.faults.add(Fault.evict_token(), "getSkus", times=None)
        with pytest.raises(errors.TokenContention):
            await client.ping()
        contended = client.health()
        sandbox.clock.advance(61)
        later = client.health()
    assert (contended.is_contended, contended.token_expires_at) == (True, None)
    assert not later.is_contended


async def test_ping_raises_what_a_call_would(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault.refuse(-8, "made up"), "getSkus")
    async with sandbox.client() as client:
        with pytest.raises(errors.QueryFailed):
            await client.ping()


# Ids.


async def test_the_records_the_log_and_the_error_of_a_call_have_its_id(
    sandbox: Sandbox, records: list[AttemptRecord], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with sandbox.client(hooks=[records.append]) as client:
        await client.login()
        sandbox.faults.add(Fault.http(503), DETAIL, times=None)
        with pytest.raises(errors.HttpStatusError) as caught:
            await client.cards.detail(sandbox.iccids[0])
        await client.ping()
    login, *tries, ping = records
    ids = {one.call_id for one in tries}
    assert len(tries) > 1
    assert ids == {caught.value.call_id}
    assert f"(call {caught.value.call_id})" in caplog.text
    assert len({login.call_id, ping.call_id, *ids}) == 3


async def test_the_id_of_a_login_that_fails_is_that_of_its_records(
    sandbox: Sandbox, records: list[AttemptRecord]
) -> None:
    sandbox.faults.add(Fault.refuse(-1), "login", times=None)
    async with sandbox.client(hooks=[records.append]) as client:
        with pytest.raises(errors.AuthenticationError) as caught:
            await client.cards.detail(sandbox.iccids[0])
    assert caught.value.call_id in {record.call_id for record in records}


async def test_the_id_of_a_purchase_is_in_its_error_its_records_and_the_late_line(
    sandbox: Sandbox, records: list[AttemptRecord], caplog: pytest.LogCaptureFixture
) -> None:
    async with sandbox.client(hooks=[records.append]) as client:
        sandbox.faults.add(Fault.lose_reply(), "addEsimOrder")
        with pytest.raises(errors.OutcomeUnknown) as caught:
            await buy(client, "shop-1")
        assert records[-1].call_id == caught.value.call_id
        sandbox.clock._skip = False
        buying = await under_way(sandbox, client, "addEsimOrder")
        buying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await buying
        sandbox.clock.advance(20)
        await until(lambda: "stopped waiting" in caplog.text)
    assert records[-1].safety is Safety.MONEY
    assert f"call {records[-1].call_id})" in caplog.text


# Calls that wait, and never leave.


@pytest.mark.parametrize("way", ["deadline", "cancelled", "closed"])
async def test_a_call_that_ends_in_the_queue_leaves_a_record_that_says_so(
    sandbox: Sandbox, client: MioEsimClient, records: list[AttemptRecord], way: str
) -> None:
    first = await under_way(sandbox, client)
    deadline = 5 if way == "deadline" else None
    queued = asyncio.create_task(client.cards.detail(sandbox.iccids[1], deadline=deadline))
    await turns()
    if way == "deadline":
        sandbox.clock.advance(6)
    elif way == "cancelled":
        queued.cancel()
    else:
        closing = asyncio.create_task(client.aclose())
    await asyncio.wait([queued])
    (record,) = [one for one in records if not one.attempt]
    name = {"deadline": "DeadlineExceeded", "cancelled": "CancelledError"}.get(way, "ClientClosed")
    assert (record.error, record.status, record.duration) == (name, None, 0)
    assert record.endpoint == "/api_esim/getESIMDetail"
    if way != "cancelled":
        failed = queued.exception()
        assert isinstance(failed, errors.MioEsimError)
        assert (type(failed).__name__, failed.call_id) == (name, record.call_id)
    if way == "deadline":
        assert 5 <= record.waited <= 7
    sandbox.clock.advance(20)
    await asyncio.wait([first])
    if way == "closed":
        await closing


async def test_an_attempt_that_a_deadline_cuts_off_is_recorded_once_and_says_so(
    sandbox: Sandbox, client: MioEsimClient, records: list[AttemptRecord]
) -> None:
    sandbox.faults.add(Fault.slow(20), DETAIL)
    cut = asyncio.create_task(client.cards.detail(sandbox.iccids[0], deadline=5))
    await until(lambda: sandbox.requests[-1].endpoint == DETAIL, pause=0)
    await turns()
    sandbox.clock.advance(6)
    with pytest.raises(errors.DeadlineExceeded) as caught:
        await cut
    assert [(one.attempt, one.error, one.call_id) for one in records] == [
        (1, "DeadlineExceeded", caught.value.call_id)
    ]
    sandbox.clock.advance(20)


@pytest.mark.parametrize("way", ["deadline", "cancelled"])
async def test_a_purchase_that_ends_in_the_queue_leaves_a_record_that_says_so(
    sandbox: Sandbox, client: MioEsimClient, records: list[AttemptRecord], way: str
) -> None:
    first = await under_way(sandbox, client, "addEsimOrder")
    deadline = 5 if way == "deadline" else None
    queued = asyncio.create_task(
        client.orders.place(**PLAN, count=1, other_order_id="second", deadline=deadline)
    )
    await turns()
    if way == "deadline":
        sandbox.clock.advance(6)
    else:
        queued.cancel()
    await asyncio.wait([queued])
    await turns()
    (record,) = records
    name = {"deadline": "DeadlineExceeded", "cancelled": "CancelledError"}[way]
    assert (record.attempt, record.error, record.safety) == (0, name, Safety.MONEY)
    sandbox.clock.advance(20)
    await first


# Closing.


@pytest.mark.parametrize("kept", [True, False])
async def test_closing_leaves_a_purchase_to_its_journal_entry_after_its_seconds(
    sandbox: Sandbox, journal: OrderJournal, caplog: pytest.LogCaptureFixture, kept: bool
) -> None:
    client = sandbox.client(order_journal=journal if kept else None)
    await client.login()
    sandbox.clock._skip = False
    buying = await under_way(sandbox, client, "addEsimOrder")
    closing = asyncio.create_task(client.aclose(grace=0, purchases=5))
    await turns()
    assert not closing.done()
    sandbox.clock.advance(6)
    await closing
    with pytest.raises(errors.OutcomeUnknown, match="client was closed") as caught:
        await buying
    assert (caught.value.was_placed, caught.value.other_order_id) == (None, "first")
    assert caplog.text.count("so nobody here will learn its outcome") == 1
    assert "otherOrderId first" in caplog.text
    if kept:
        assert [entry.other_order_id for entry in await journal.open_entries()] == ["first"]
    sandbox.clock.advance(20)


async def test_closing_waits_for_a_purchase_that_ends_in_time(sandbox: Sandbox) -> None:
    client = sandbox.client()
    await client.login()
    sandbox.clock._skip = False
    buying = await under_way(sandbox, client, "addEsimOrder")
    closing = asyncio.create_task(client.aclose(purchases=25))
    await turns()
    sandbox.clock.advance(20)
    assert (await buying).other_order_id == "first"
    await closing


async def test_closing_tells_the_number_of_an_order_that_is_known(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    client = sandbox.client()
    await client.login()
    sandbox.clock._skip = False
    sandbox.faults.add(Fault.replaced(b'{"code":0,"data":"EP77"}'), "addEsimOrder")
    sandbox.faults.add(Fault.silence(), "getOrderInfo", times=None)
    buying = asyncio.create_task(buy(client, "shop-1"))
    await until(lambda: sandbox.requests[-1].endpoint == "getOrderInfo", pause=0)
    await turns()
    closing = asyncio.create_task(client.aclose(purchases=1))
    await turns()
    sandbox.clock.advance(2)
    await closing
    with pytest.raises(errors.OrderIncomplete) as caught:
        await buying
    assert (caught.value.order_num, caught.value.was_placed) == ("EP77", True)
    assert "orderNum EP77" in caplog.text


async def test_closing_in_time_closes_all_though_a_callback_never_ends(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    async def for_ever(_: object) -> None:
        await asyncio.Event().wait()

    client = sandbox.client(on_late_order=for_ever)
    await client.login()
    sandbox.clock._skip = False
    buying = await under_way(sandbox, client, "addEsimOrder")
    buying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await buying
    sandbox.clock.advance(20)
    await until(lambda: "stopped waiting" in caplog.text)
    await turns()
    closing = asyncio.create_task(client.aclose(purchases=1))
    await turns()
    sandbox.clock.advance(2)
    await closing
    assert "on_late_order had not ended" in caplog.text
    with pytest.raises(errors.ClientClosed):
        client._manager.check_usable()


async def test_a_call_that_gives_up_before_its_deadline_has_a_record_of_that(
    sandbox: Sandbox, records: list[AttemptRecord]
) -> None:
    async with sandbox.client(hooks=[records.append]) as client:
        await client.login()
        sandbox.faults.add(Fault.http(503, retry_after="30"), DETAIL)
        with pytest.raises(errors.DeadlineExceeded):
            await client.cards.detail(sandbox.iccids[0], deadline=5)
    assert [one.error for one in records[1:]] == ["HttpStatusError", "DeadlineExceeded"]

"""Reconciling adopts what carries exactly our reference, and concludes nothing else."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest
from both import kept_in, odd
from shopping import buy, lose
from waiting import until

from mioesim_async import MioEsimClient, OrderJournal, errors
from mioesim_async.journal import EntryState
from mioesim_async.sandbox import Fault, Sandbox, SandboxClock

__all__ = ["kept_in", "odd"]

HOUR = timedelta(hours=1)


async def test_an_order_with_exactly_our_reference_is_adopted(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal
) -> None:
    await lose(sandbox, buyer, Fault.lose_reply(), "shop-1")
    report = await buyer.orders.reconcile()
    (order,) = report.adopted
    assert (order.order_num, order.other_order_id) == (sandbox.orders[0].order_num, "shop-1")
    assert order.cards[0].activation is not None
    assert not report.still_open
    assert not report.candidates
    assert not await journal.open_entries()
    again = await buy(buyer, "shop-1")
    assert again.order_num == order.order_num
    assert len(sandbox.orders) == 1


async def test_what_is_not_found_stays_open_until_the_operator_says_so(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal
) -> None:
    await lose(sandbox, buyer, Fault.lose_request(), "shop-1")
    sandbox.clock.advance(1800)
    for _ in range(2):
        report = await buyer.orders.reconcile(assume_absent_after=HOUR)
        (entry,) = report.still_open
        assert entry.other_order_id == "shop-1"
        assert "assume_absent_after" in entry.reason
        assert not report.absent
    sandbox.clock.advance(1801)
    (entry,) = (await buyer.orders.reconcile()).still_open
    report = await buyer.orders.reconcile(assume_absent_after=HOUR)
    assert [entry.other_order_id for entry in report.absent] == ["shop-1"]
    assert not report.still_open
    order = await buy(buyer, "shop-1")
    assert [placed.order_num for placed in sandbox.orders] == [order.order_num]


async def test_a_search_without_references_leaves_entries_open_with_candidates(
    clock: SandboxClock, journal: OrderJournal
) -> None:
    async with (
        Sandbox(10, clock=clock, search="ignores references") as sandbox,
        sandbox.client(order_journal=journal) as client,
    ):
        mine = await buy(client, "another")
        await lose(sandbox, client, Fault.lose_reply(), "shop-1")
        clock.advance(7200)
        report = await client.orders.reconcile(assume_absent_after=HOUR)
        assert not report.adopted
        assert not report.absent
        (candidate,) = report.candidates
        assert candidate.entry.other_order_id == "shop-1"
        numbers = [order.order_num for order in candidate.orders]
        assert numbers == [sandbox.orders[1].order_num]
        assert mine.order_num not in numbers
        assert [entry.other_order_id for entry in report.still_open] == ["shop-1"]
        assert (await journal.open_entries())[0].state is EntryState.UNKNOWN


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"total":3,"rows":[]}', "more orders than its search shows"),
        (b'{"rows":[7]}', "can't be read"),
        (b'{"rows":[{"orderNum":"EP20200101000001","purchaseDate":"2020-01-01"}]}', "without ref"),
    ],
)
async def test_nothing_is_concluded_to_be_absent_from_a_doubtful_search(
    sandbox: Sandbox, buyer: MioEsimClient, body: bytes, reason: str
) -> None:
    await lose(sandbox, buyer, Fault.lose_request(), "shop-1")
    sandbox.faults.add(Fault.replaced(b'{"code":0,"data":%s}' % body), "queryOrder", times=None)
    report = await buyer.orders.reconcile(assume_absent_after=timedelta(0))
    assert reason in report.still_open[0].reason
    assert not report.absent


async def test_a_search_that_lists_all_orders_adopts_only_ours(
    clock: SandboxClock, journal: OrderJournal
) -> None:
    async with (
        Sandbox(10, clock=clock, search="lists all") as sandbox,
        sandbox.client(order_journal=journal) as client,
        sandbox.client() as elsewhere,
    ):
        await buy(elsewhere, "shop-10")
        await lose(sandbox, client, Fault.lose_reply(), "shop-1")
        await buy(elsewhere, "SHOP-1")
        report = await client.orders.reconcile()
        assert [order.order_num for order in report.adopted] == [sandbox.orders[1].order_num]


async def test_an_order_that_carries_another_entry_s_reference_is_no_candidate(
    sandbox: Sandbox, buyer: MioEsimClient
) -> None:
    await lose(sandbox, buyer, Fault.lose_request(), "shop-1")
    await lose(sandbox, buyer, Fault.lose_reply(), "shop-2")
    # Their lookups run side by side, so neither is settled when the other is looked up.
    report = await buyer.orders.reconcile(assume_absent_after=timedelta(0))
    assert [order.other_order_id for order in report.adopted] == ["shop-2"]
    assert [entry.other_order_id for entry in report.absent] == ["shop-1"]


async def test_two_orders_with_one_reference_are_left_to_a_person(
    sandbox: Sandbox, buyer: MioEsimClient
) -> None:
    await lose(sandbox, buyer, Fault.lose_reply(), "shop-1")
    async with sandbox.client() as careless:
        await buy(careless, "shop-1")
    report = await buyer.orders.reconcile(assume_absent_after=timedelta(0))
    assert not report.adopted
    assert len(report.candidates[0].orders) == 2
    assert "several orders" in report.still_open[0].reason


@pytest.mark.parametrize(("spelled", "count"), [(b"1017", 1), (b'"1017"', 5)])
async def test_a_number_of_the_vendor_s_in_the_place_of_the_reference_is_not_ours(
    sandbox: Sandbox, buyer: MioEsimClient, spelled: bytes, count: int
) -> None:
    await lose(sandbox, buyer, Fault.lose_request(), "1017")
    body = (
        b'{"code":0,"data":[{"orderNum":"EP20240124000013","outerOrderid":%s,"count":%d,'
        b'"skuId":45,"priceId":441}]}' % (spelled, count)
    )
    sandbox.faults.add(Fault.replaced(body), "queryOrder", times=None)
    report = await buyer.orders.reconcile()
    assert not report.adopted
    assert report.still_open


@pytest.mark.parametrize("whose", ["its own", "another client's"])
async def test_an_order_under_way_is_not_touched(
    sandbox: Sandbox, journal: OrderJournal, whose: str
) -> None:
    sandbox.clock._skip = False
    sandbox.faults.add(Fault.slow(100), "addEsimOrder")
    async with (
        sandbox.client(order_journal=journal) as client,
        sandbox.client(order_journal=journal) as another,
    ):
        task = asyncio.create_task(buy(client, "shop-1"))
        await until(
            lambda: any(seen.endpoint == "addEsimOrder" for seen in sandbox.requests), pause=0
        )
        looking = client if whose == "its own" else another
        report = await looking.orders.reconcile(assume_absent_after=timedelta(0))
        assert "under way" in report.still_open[0].reason
        sandbox.clock.advance(100)
        order = await task
    assert order.order_num == sandbox.orders[0].order_num


async def test_a_lookup_that_fails_leaves_its_entry_open_and_goes_on(
    sandbox: Sandbox, buyer: MioEsimClient
) -> None:
    await lose(sandbox, buyer, Fault.lose_reply(), "shop-1")
    await lose(sandbox, buyer, Fault.lose_reply(), "shop-2")
    sandbox.faults.add(Fault.refuse(-3), "queryOrder")
    report = await buyer.orders.reconcile(assume_absent_after=timedelta(0))
    assert len(report.adopted) == len(report.still_open) == 1
    assert "lookup failed" in report.still_open[0].reason
    assert len((await buyer.orders.reconcile()).adopted) == 1


async def test_a_refused_login_ends_it_with_the_report_so_far(
    sandbox: Sandbox, buyer: MioEsimClient
) -> None:
    await lose(sandbox, buyer, Fault.lose_reply(), "shop-1")
    sandbox.evict()
    sandbox.faults.add(Fault.refuse(-1), "login", times=None)
    with pytest.raises(errors.AuthenticationError) as caught:
        await buyer.orders.reconcile()
    assert caught.value.report is not None


async def test_reconciling_needs_a_journal(client: MioEsimClient, sandbox: Sandbox) -> None:
    with pytest.raises(errors.ConfigurationError, match="order_journal"):
        await client.orders.reconcile()
    assert not sandbox.requests


async def test_half_a_character_in_a_number_of_the_vendor_s_hinders_nothing(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal
) -> None:
    odd = "EP20260101\ud83d"
    for reference in ("shop-1", "shop-2"):
        await lose(sandbox, buyer, Fault.lose_reply(), reference)
        # The same order under either reference; it can only be one's.
        row = {"orderNum": odd, "otherOrderId": reference, "count": 1}
        found = Fault.replaced(json.dumps({"code": 0, "data": [row]}).encode())
        sandbox.faults.add(found, "queryOrder", times=None)
        report = await buyer.orders.reconcile()
        assert len(report.adopted) == (reference == "shop-1")
        sandbox.faults.clear()
    entry = await journal.find_order(buyer.account, odd)
    assert entry is not None
    assert (entry.other_order_id, entry.state) == ("shop-1", EntryState.PLACED)
    assert entry.order_num == "EP20260101\ufffd"
    assert [entry.other_order_id for entry in await journal.open_entries()] == ["shop-2"]

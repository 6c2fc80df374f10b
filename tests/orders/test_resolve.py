"""``orders.resolve`` finds out what one reference became, and buys nothing."""

from __future__ import annotations

import asyncio
import datetime as dt

import pytest
from shopping import buy, lose
from waiting import until

from mioesim_async import MioEsimClient, OrderJournal, errors
from mioesim_async.journal import EntryState
from mioesim_async.sandbox import Fault, Sandbox

BUY = "addEsimOrder"


def sent(sandbox: Sandbox) -> int:
    return sum(seen.endpoint == BUY for seen in sandbox.requests)


async def test_a_recorded_order_is_returned_without_a_call(
    sandbox: Sandbox, buyer: MioEsimClient
) -> None:
    order = await buy(buyer, "shop-1")
    before = len(sandbox.requests)
    found = await buyer.orders.resolve("shop-1")
    assert (found.order_num, found.is_recorded) == (order.order_num, True)
    assert len(sandbox.requests) == before
    whole = await buyer.orders.resolve("shop-1", whole=True)
    assert whole.cards == order.cards


async def test_an_order_whose_answer_was_lost_is_found(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal
) -> None:
    await lose(sandbox, buyer, Fault.lose_reply(), "shop-1")
    found = await buyer.orders.resolve("shop-1")
    assert (found.order_num, found.other_order_id) == (sandbox.orders[0].order_num, "shop-1")
    assert found.cards[0].activation
    assert not await journal.open_entries()
    assert sent(sandbox) == 1


async def test_an_order_that_is_not_found_stays_unknown(
    sandbox: Sandbox, buyer: MioEsimClient
) -> None:
    await lose(sandbox, buyer, Fault.lose_request(), "shop-1")
    with pytest.raises(errors.OutcomeUnknown, match="shop-1") as caught:
        await buyer.orders.resolve("shop-1")
    assert (caught.value.was_placed, caught.value.other_order_id) == (None, "shop-1")
    assert [entry.other_order_id for entry in caught.value.report.still_open] == ["shop-1"]


async def test_a_refused_order_was_not_placed(sandbox: Sandbox, buyer: MioEsimClient) -> None:
    sandbox.faults.add(Fault.refuse(4, "made up"), BUY)
    with pytest.raises(errors.ApiError):
        await buy(buyer, "shop-1")
    with pytest.raises(errors.MioEsimError, match="was not bought") as caught:
        await buyer.orders.resolve("shop-1")
    assert (caught.value.was_placed, caught.value.other_order_id) == (False, "shop-1")


async def test_an_order_of_which_only_the_number_is_known_is_read(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal
) -> None:
    order = await buy(buyer, "elsewhere")
    await lose(sandbox, buyer, Fault.lose_request(), "shop-1")
    (entry,) = await journal.open_entries()
    await journal.settle(
        entry.account, "shop-1", entry.attempt, EntryState.PLACED,
        at=dt.datetime.now(dt.UTC), order_num=order.order_num,
    )  # fmt: skip
    found = await buyer.orders.resolve("shop-1")
    assert (found.order_num, found.other_order_id) == (order.order_num, "shop-1")
    assert found.cards == order.cards


async def test_a_purchase_of_this_client_is_waited_for(
    sandbox: Sandbox, buyer: MioEsimClient
) -> None:
    await buyer.login()
    sandbox.clock._skip = False
    sandbox.faults.add(Fault.slow(20), BUY)
    buying = asyncio.create_task(buy(buyer, "shop-1"))
    await until(lambda: sent(sandbox), pause=0)
    short = asyncio.create_task(buyer.orders.resolve("shop-1", deadline=5))
    resolving = asyncio.create_task(buyer.orders.resolve("shop-1"))
    await asyncio.sleep(0.01)
    sandbox.clock.advance(6)
    with pytest.raises(errors.DeadlineExceeded) as caught:
        await short
    assert caught.value.was_placed is None
    sandbox.clock.advance(20)
    assert (await resolving).order_num == (await buying).order_num


async def test_without_a_journal_the_vendor_is_asked(sandbox: Sandbox) -> None:
    async with sandbox.client() as client:
        order = await buy(client, "shop-1")
        found = await client.orders.resolve("shop-1")
        assert (found.order_num, found.other_order_id) == (order.order_num, "shop-1")
        assert found.cards == order.cards
        with pytest.raises(errors.OutcomeUnknown, match="no order has it") as caught:
            await client.orders.resolve("shop-2")
        assert caught.value.was_placed is None
        assert sent(sandbox) == 1


async def test_an_order_that_is_found_and_can_t_be_read_was_placed(sandbox: Sandbox) -> None:
    async with sandbox.client() as client:
        order = await buy(client, "shop-1")
        sandbox.faults.add(Fault.http(404), "getOrderInfo", times=None)
        with pytest.raises(errors.OrderIncomplete) as caught:
            await client.orders.resolve("shop-1")
    assert (caught.value.order_num, caught.value.was_placed) == (order.order_num, True)


async def test_orders_with_other_references_are_no_candidates() -> None:
    async with Sandbox(5, search="lists all") as sandbox, sandbox.client() as client:
        await buy(client, "other-1")
        with pytest.raises(errors.OutcomeUnknown) as caught:
            await client.orders.resolve("mine")
    assert caught.value.report == []


async def test_a_reference_that_is_no_text_is_refused_before_anything_is_sent(
    sandbox: Sandbox, buyer: MioEsimClient
) -> None:
    with pytest.raises(errors.InvalidRequest, match="other_order_id"):
        await buyer.orders.resolve("")
    assert not sandbox.requests

"""One reference in one client is one purchase, however many callers want it and leave."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from shopping import PLAN, buy
from waiting import until

from mioesim_async import (
    FileTokenStore,
    MioEsimClient,
    Order,
    OrderJournal,
    customer_sheets,
    errors,
)
from mioesim_async.journal import EntryState
from mioesim_async.sandbox import Fault, Sandbox

BUY = "addEsimOrder"


def sent(sandbox: Sandbox) -> int:
    return sum(seen.endpoint == BUY for seen in sandbox.requests)


@pytest.fixture(params=["journal", "no journal"])
async def shop(
    request: pytest.FixtureRequest, sandbox: Sandbox, journal: OrderJournal, late: list[Any]
) -> AsyncIterator[MioEsimClient]:
    """A client that is logged in, on a clock that stands."""
    sandbox.clock._skip = False
    kept = journal if request.param == "journal" else None
    async with sandbox.client(
        order_journal=kept, on_late_order=late.append, max_in_flight=1
    ) as client:
        await client.login()
        yield client


@pytest.fixture
def late() -> list[Any]:
    """What ``on_late_order`` was told."""
    return []


async def under_way(sandbox: Sandbox, client: MioEsimClient, callers: int) -> list[Any]:
    """Start purchases of one reference, whose one request is answered 20 s later."""
    sandbox.faults.add(Fault.slow(20), BUY)
    tasks = [asyncio.create_task(buy(client, "shop-1")) for _ in range(callers)]
    await until(lambda: sent(sandbox), pause=0)
    await turns()
    return tasks


async def in_line(sandbox: Sandbox, client: MioEsimClient) -> asyncio.Task[Order]:
    """Have another purchase take the only slot, for 20 s."""
    sandbox.faults.add(Fault.slow(20), BUY)
    first = asyncio.create_task(buy(client, "first"))
    await until(lambda: sent(sandbox), pause=0)
    await turns()
    return first


async def turns() -> None:
    """Let the loop and the journal's thread get as far as they can."""
    for _ in range(20):
        await asyncio.sleep(0.001)


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_all_callers_get_the_same_order_and_one_is_sent(
    sandbox: Sandbox, shop: MioEsimClient, late: list[Any]
) -> None:
    tasks = await under_way(sandbox, shop, 5)
    sandbox.clock.advance(20)
    orders = await asyncio.gather(*tasks)
    assert {order.order_num for order in orders} == {sandbox.orders[0].order_num}
    assert all(order.cards[0].activation for order in orders)
    assert (sent(sandbox), late) == (1, [])


async def test_a_second_caller_joins_although_the_first_has_left(
    sandbox: Sandbox, shop: MioEsimClient, late: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    (first,) = await under_way(sandbox, shop, 1)
    await cancelled(first)
    second = asyncio.create_task(buy(shop, "shop-1"))
    await turns()
    sandbox.clock.advance(20)
    assert (await second).order_num == sandbox.orders[0].order_num
    assert (sent(sandbox), late) == (1, [])
    assert caplog.text.count("ended after its caller had stopped waiting: success") == 1


async def test_the_order_is_told_once_if_every_caller_has_left(
    sandbox: Sandbox, shop: MioEsimClient, late: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    tasks = await under_way(sandbox, shop, 3)
    for task in tasks:
        await cancelled(task)
    sandbox.clock.advance(20)
    await until(lambda: late, pause=0)
    assert [order.other_order_id for order in late] == ["shop-1"]
    assert caplog.text.count("ended after its caller had stopped waiting") == 1


async def test_a_caller_that_leaves_at_the_answer_has_its_order_told(
    sandbox: Sandbox, shop: MioEsimClient, late: list[Any]
) -> None:
    first, second = await under_way(sandbox, shop, 2)
    (exchange,) = shop.orders._purchaser._under_way.values()
    for task in (first, second):
        exchange.task.add_done_callback(lambda _, task=task: task.cancel())
    sandbox.clock.advance(20)
    await asyncio.wait([first, second])
    await turns()
    assert first.cancelled()
    assert second.cancelled()
    assert [order.other_order_id for order in late] == ["shop-1"]


async def test_other_parameters_are_no_second_purchase(
    sandbox: Sandbox, shop: MioEsimClient
) -> None:
    (first,) = await under_way(sandbox, shop, 1)
    with pytest.raises(errors.DuplicateOrder, match="shop-1") as caught:
        await shop.orders.place(**PLAN, count=2, other_order_id="shop-1")
    assert caught.value.was_placed is None
    sandbox.clock.advance(20)
    assert (await first).count == 1
    assert sent(sandbox) == 1


async def test_a_deadline_ends_its_own_caller_only(
    sandbox: Sandbox, shop: MioEsimClient, late: list[Any]
) -> None:
    (first,) = await under_way(sandbox, shop, 1)
    second = asyncio.create_task(
        shop.orders.place(**PLAN, count=1, other_order_id="shop-1", deadline=5)
    )
    await turns()
    sandbox.clock.advance(6)
    with pytest.raises(errors.OutcomeUnknown, match="shop-1") as caught:
        await second
    assert (caught.value.is_under_way, caught.value.was_placed) == (True, None)
    sandbox.clock.advance(20)
    assert (await first).order_num == sandbox.orders[0].order_num
    assert late == []


async def test_a_purchase_in_line_goes_on_for_the_caller_that_is_left(
    sandbox: Sandbox, shop: MioEsimClient, late: list[Any]
) -> None:
    before = await in_line(sandbox, shop)
    leaves = asyncio.create_task(buy(shop, "shop-1"))
    short = asyncio.create_task(
        shop.orders.place(**PLAN, count=1, other_order_id="shop-1", deadline=5)
    )
    stays = asyncio.create_task(buy(shop, "shop-1"))
    await turns()
    await cancelled(leaves)
    sandbox.clock.advance(6)
    with pytest.raises(errors.OutcomeUnknown) as caught:
        await short
    assert (caught.value.is_under_way, caught.value.was_placed) == (True, None)
    sandbox.clock.advance(20)
    assert (await stays).other_order_id == "shop-1"
    await before
    assert (sent(sandbox), late) == (2, [])


async def test_a_purchase_in_line_that_nobody_wants_is_never_sent_and_may_be_bought_at_once(
    sandbox: Sandbox, shop: MioEsimClient, late: list[Any]
) -> None:
    before = await in_line(sandbox, shop)
    tasks = [asyncio.create_task(buy(shop, "shop-1")) for _ in range(2)]
    await turns()
    for task in tasks:
        await cancelled(task)
    again = asyncio.create_task(buy(shop, "shop-1"))
    await turns()
    sandbox.clock.advance(20)
    await before
    assert (await again).other_order_id == "shop-1"
    assert (sent(sandbox), late) == (2, [])


async def test_resolve_waits_for_a_purchase_but_doesn_t_want_it(
    sandbox: Sandbox, shop: MioEsimClient, late: list[Any]
) -> None:
    before = await in_line(sandbox, shop)
    buyer = asyncio.create_task(buy(shop, "shop-1"))
    await turns()
    resolver = asyncio.create_task(shop.orders.resolve("shop-1"))
    await turns()
    await cancelled(buyer)
    with pytest.raises(errors.MioEsimError):
        await resolver
    sandbox.clock.advance(20)
    await before
    assert (sent(sandbox), late) == (1, [])


async def test_an_order_that_only_a_resolver_waits_for_is_told(
    sandbox: Sandbox, shop: MioEsimClient, late: list[Any]
) -> None:
    (buyer,) = await under_way(sandbox, shop, 1)
    resolver = asyncio.create_task(shop.orders.resolve("shop-1"))
    await turns()
    await cancelled(buyer)
    sandbox.clock.advance(20)
    assert (await resolver).other_order_id == "shop-1"
    await until(lambda: late, pause=0)
    assert [order.other_order_id for order in late] == ["shop-1"]


async def test_not_bought_is_never_said_of_a_reference_that_is_under_way(
    sandbox: Sandbox, shop: MioEsimClient
) -> None:
    (first,) = await under_way(sandbox, shop, 1)
    with pytest.raises(errors.InvalidRequest) as wrong:
        await shop.orders.place(**PLAN, count=0, other_order_id="shop-1")
    closing = asyncio.create_task(shop.aclose())
    await turns()
    with pytest.raises(errors.ClientClosed) as closed:
        await buy(shop, "shop-1")
    assert (wrong.value.was_placed, closed.value.was_placed) == (None, None)
    sandbox.clock.advance(20)
    await first
    await closing


# In another client, on another host.


async def test_a_purchase_that_is_under_way_elsewhere_is_told_as_a_guess(
    sandbox: Sandbox, journal: OrderJournal, tmp_path: Path
) -> None:
    sandbox.clock._skip = False
    store = FileTokenStore(tmp_path / "tokens.json")
    async with (
        sandbox.client(order_journal=journal, token_store=store) as here,
        sandbox.client(order_journal=journal, token_store=store) as there,
    ):
        (first,) = await under_way(sandbox, here, 1)
        with pytest.raises(errors.OutcomeUnknown, match="probably under way") as young:
            await buy(there, "shop-1")
        with pytest.raises(errors.OutcomeUnknown, match="under way in this process"):
            await there.orders.resolve("shop-1")
        sandbox.clock.advance(20)
        await first
    assert (young.value.is_under_way, young.value.was_placed) == (True, None)


async def test_an_intent_that_is_older_than_a_purchase_takes_is_not_under_way(
    sandbox: Sandbox, journal: OrderJournal
) -> None:
    async with sandbox.client(order_journal=journal) as client:
        order = await buy(client, "shop-1")
        entry = await client.orders.entry_of("shop-1")
        assert entry is not None
        now = dt.datetime.fromtimestamp(sandbox.clock.time(), dt.UTC)
        # As a process leaves it that is killed.
        left = evolve(
            entry, other_order_id="shop-2", attempt="made-up", state=EntryState.OPEN,
            created_at=now, updated_at=now, order=None, order_num=None,
        )  # fmt: skip
        assert await journal.begin(left) is None
        with pytest.raises(errors.OutcomeUnknown) as young:
            await buy(client, "shop-2")
        sandbox.clock.advance(121)
        with pytest.raises(errors.OutcomeUnknown) as old:
            await buy(client, "shop-2")
    assert (young.value.is_under_way, old.value.is_under_way) == (True, False)
    assert [one.order_num for one in sandbox.orders] == [order.order_num]


# Orders that were placed before.


async def test_a_recorded_order_says_so_and_whole_reads_its_codes(
    sandbox: Sandbox, buyer: MioEsimClient
) -> None:
    first = await buy(buyer, "shop-1")
    recorded = await buy(buyer, "shop-1")
    whole = await buyer.orders.place(**PLAN, count=1, other_order_id="shop-1", whole=True)
    assert (first.is_recorded, recorded.is_recorded, whole.is_recorded) == (False, True, False)
    assert recorded.cards[0].activation is None
    assert whole.cards == first.cards
    assert (whole.other_order_id, sent(sandbox)) == ("shop-1", 1)


async def test_a_recorded_order_that_can_t_be_read_was_placed(
    sandbox: Sandbox, buyer: MioEsimClient
) -> None:
    order = await buy(buyer, "shop-1")
    sandbox.faults.add(Fault.http(404), "getOrderInfo", times=None)
    with pytest.raises(errors.OrderIncomplete, match=order.order_num) as caught:
        await buyer.orders.place(**PLAN, count=1, other_order_id="shop-1", whole=True)
    assert (caught.value.was_placed, caught.value.other_order_id) == (True, "shop-1")


async def test_the_customer_s_sheets_of_a_recorded_order_say_what_to_call(
    buyer: MioEsimClient,
) -> None:
    order = await buy(buyer, "shop-1")
    recorded = await buy(buyer, "shop-1")
    with pytest.raises(errors.InvalidRequest, match=rf"orders\.get\('{order.order_num}'\)"):
        customer_sheets(recorded)

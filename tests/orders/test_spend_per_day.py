"""``max_spend_per_day``: what all hosts together spend in a day of GMT+8 stays within the limit."""

from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from shopping import PLAN, buy, lose, plan
from waiting import until

from mioesim_async import MemoryTokenStore, MioEsimClient, OrderJournal, OrderLine, errors
from mioesim_async.clock import GMT8
from mioesim_async.journal import Journal
from mioesim_async.sandbox import Fault, Sandbox

PRICE = Decimal("12.1")
"""What the plan costs in the sandbox."""


def limited(sandbox: Sandbox, journal: Journal, cards: float, **options: Any) -> MioEsimClient:
    """A client that may spend what so many cards cost."""
    limit = PRICE * Decimal(str(cards))
    return sandbox.client(order_journal=journal, max_spend_per_day=limit, **options)


def sent(sandbox: Sandbox) -> int:
    return sum(seen.endpoint == "addEsimOrder" for seen in sandbox.requests)


async def test_an_order_over_the_limit_is_refused_before_anything_is_sent(
    sandbox: Sandbox, journal: OrderJournal
) -> None:
    async with limited(sandbox, journal, 2.5) as client:
        assert (await plan(client)).price == PRICE
        await buy(client)
        await buy(client)
        with pytest.raises(errors.SpendLimitReached, match="over the limit") as caught:
            await buy(client, "shop-3")
    assert (caught.value.was_placed, caught.value.other_order_id) == (False, "shop-3")
    assert (caught.value.spent, caught.value.max_spend) == (2 * PRICE, PRICE * Decimal("2.5"))
    assert sent(sandbox) == 2
    assert not await journal.open_entries()


async def test_of_orders_at_once_on_several_hosts_only_as_many_are_sent_as_fit(
    sandbox: Sandbox, journal: OrderJournal
) -> None:
    path, store = journal.path, MemoryTokenStore()
    clients = [limited(sandbox, OrderJournal(path), 5, token_store=store) for _ in range(3)]
    results = await asyncio.gather(
        *[buy(clients[number % 3]) for number in range(12)], return_exceptions=True
    )
    refused = [one for one in results if isinstance(one, errors.SpendLimitReached)]
    others = [one for one in results if isinstance(one, Exception) and one not in refused]
    assert (len(refused), others, sent(sandbox)) == (7, [], 5)
    for client in clients:
        await client.aclose()


async def test_what_may_have_been_bought_counts_and_what_was_refused_does_not(
    sandbox: Sandbox, journal: OrderJournal
) -> None:
    async with limited(sandbox, journal, 2) as client:
        sandbox.faults.add(Fault.refuse(4), "addEsimOrder")
        with pytest.raises(errors.OrderStateError):
            await buy(client, "refused")
        await lose(sandbox, client, Fault.lose_request(), "lost")
        await buy(client)
        with pytest.raises(errors.SpendLimitReached):
            await buy(client)


async def test_a_refund_is_not_given_back(sandbox: Sandbox, journal: OrderJournal) -> None:
    async with limited(sandbox, journal, 1) as client:
        order = await buy(client)
        await client.orders.cancel(order.order_num, [card.iccid for card in order.cards])
        with pytest.raises(errors.SpendLimitReached):
            await buy(client)


async def test_an_order_that_was_placed_before_is_returned_whatever_was_spent(
    sandbox: Sandbox, journal: OrderJournal
) -> None:
    async with limited(sandbox, journal, 1) as client:
        order = await buy(client, "shop-1")
        again = await buy(client, "shop-1")
    assert (again.order_num, again.is_recorded, sent(sandbox)) == (order.order_num, True, 1)


async def test_the_day_begins_at_midnight_in_gmt8(sandbox: Sandbox, journal: OrderJournal) -> None:
    async with limited(sandbox, journal, 1) as client:
        now = dt.datetime.fromtimestamp(sandbox.clock.time(), GMT8)
        midnight = (now + dt.timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        sandbox.clock.advance((midnight - now).total_seconds() - 60)
        await buy(client)
        with pytest.raises(errors.SpendLimitReached):
            await buy(client)
        sandbox.clock.advance(120)
        await buy(client)


async def test_the_price_of_the_package_counts_for_all_cards(
    sandbox: Sandbox, journal: OrderJournal
) -> None:
    async with limited(sandbox, journal, 3) as client:
        package = await plan(client)
        before = len(sandbox.requests)
        await client.orders.place(**PLAN, count=2, package=package)
        assert {seen.endpoint for seen in sandbox.requests[before:]} == {"addEsimOrder"}
        with pytest.raises(errors.SpendLimitReached):
            await client.orders.place(**PLAN, count=2, package=package)


async def test_an_order_whose_price_is_not_known_is_refused(
    sandbox: Sandbox, journal: OrderJournal
) -> None:
    async with limited(sandbox, journal, 99) as client:
        with pytest.raises(errors.InvalidRequest, match="price isn't known") as caught:
            await client.orders.place_by_api_code(api_code="made-up", count=1)
        assert caught.value.was_placed is False
        with pytest.raises(errors.InvalidRequest, match="price isn't known"):
            await client.orders.place(sku_id=45, price_id=99999, count=1)
    assert sent(sandbox) == 0


async def test_a_deadline_limits_the_look_for_the_price_too(
    sandbox: Sandbox, journal: OrderJournal
) -> None:
    async with limited(sandbox, journal, 9) as client:
        await client.login()
        sandbox.clock._skip = False
        sandbox.faults.add(Fault.slow(20), "getPackages", times=None)
        before = len(sandbox.requests)
        buying = asyncio.create_task(
            client.orders.place(**PLAN, count=1, other_order_id="shop-1", deadline=5)
        )
        await until(lambda: len(sandbox.requests) > before, pause=0)
        sandbox.clock.advance(6)
        with pytest.raises(errors.DeadlineExceeded, match="price of reference shop-1") as caught:
            await buying
        sandbox.clock.advance(20)
    assert (caught.value.was_placed, sent(sandbox)) == (False, 0)


async def test_lines_of_a_bulk_order_count_too(sandbox: Sandbox, journal: OrderJournal) -> None:
    lines = [OrderLine(**PLAN, count=1) for _ in range(4)]
    async with (
        limited(sandbox, journal, 2) as client,
        client.orders.place_many(lines, max_spend=None) as outcomes,
    ):
        ended = [outcome async for outcome in outcomes]
    kinds = sorted(type(outcome.error).__name__ for outcome in ended)
    assert kinds == ["NoneType", "NoneType", "SpendLimitReached", "SpendLimitReached"]
    assert sent(sandbox) == 2


class Bare:
    """A journal without the optional methods."""

    def __init__(self, journal: OrderJournal) -> None:
        for name in ("begin", "settle", "find", "find_order", "open_entries", "prune"):
            setattr(self, name, getattr(journal, name))


@pytest.mark.parametrize("limit", [Decimal(-1), Decimal("NaN"), 5, 5.0, "5"])
async def test_a_limit_that_is_no_amount_is_refused(
    sandbox: Sandbox, journal: OrderJournal, limit: Any
) -> None:
    with pytest.raises(errors.ConfigurationError, match="max_spend_per_day"):
        sandbox.client(order_journal=journal, max_spend_per_day=limit)


async def test_a_limit_needs_a_journal_that_can_keep_it(
    sandbox: Sandbox, journal: OrderJournal
) -> None:
    with pytest.raises(errors.ConfigurationError, match="give order_journal="):
        sandbox.client(max_spend_per_day=PRICE)
    with pytest.raises(errors.ConfigurationError, match="begin_within"):
        sandbox.client(order_journal=Bare(journal), max_spend_per_day=PRICE)

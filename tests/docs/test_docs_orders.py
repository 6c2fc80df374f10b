"""README's examples of the catalogue and of orders work as shown."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from shopping import PLAN, fill, plan
from test_docs import names_of

from mioesim_async import MioEsimClient, OrderJournal, OrderLine, errors
from mioesim_async.sandbox import Fault, Sandbox, SandboxClock


async def test_the_crawl_example_gives_plans_or_says_that_half_is_missing(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    plans_on_sale = names_of("plans_on_sale")["plans_on_sale"]
    plans = await plans_on_sale(client)
    assert PLAN["price_id"] in {sold.price_id for sold in plans}
    sandbox.faults.add(Fault.http(404), "getPackages")
    with pytest.raises(SystemExit, match="half a catalogue"):
        await plans_on_sale(client)


async def test_the_offer_example_says_what_lines_would_come_to(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    lines = [OrderLine(**PLAN, count=2, other_order_id="shop-1")]
    offered = await names_of("def offer(")["offer"](client, lines)
    assert offered == [(Decimal("24.2"), True, False, None)]
    assert sandbox.orders == []


STATUSES = [Fault.http(status) for status in (301, 400, 403, 404, 408, 413, 451, 499, 500, 503)]
FAULTS = [
    *STATUSES,
    Fault.redirect("/elsewhere"),
    Fault.html(),
    Fault.html(403),
    Fault.empty(),
    Fault.malformed(),
    Fault.truncate(),
    Fault.cut(),
    Fault.half_closed(),
    Fault.lose_reply(),
    Fault.huge(2 * 1024 * 1024),
    Fault.replaced(b"true"),
    *[Fault.refuse(code) for code in (-8, -3, 51, 99, 77, "odd")],
]
"""Whatever a host, or a gateway before it, may answer although the order took effect."""


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_the_order_example_never_says_not_placed_of_an_order_that_was_bought(
    sandbox: Sandbox, buyer: MioEsimClient, capsys: pytest.CaptureFixture[str], fault: Fault
) -> None:
    sell = names_of("def sell(")["sell"]
    package = await plan(buyer)
    sandbox.faults.add(Fault.after_effect(fault), "addEsimOrder")
    for _ in range(2):
        assert await sell(buyer, "shop-1", package) is None
        assert capsys.readouterr().out.startswith("may have been placed: shop-1 ")
    assert len(sandbox.orders) == 1


async def test_the_order_example_sells_and_tells_each_end(
    clock: SandboxClock, journal: OrderJournal, capsys: pytest.CaptureFixture[str]
) -> None:
    sell = names_of("def sell(")["sell"]
    async with (
        Sandbox(10, clock=clock, order_form="number") as sandbox,
        sandbox.client(order_journal=journal) as client,
    ):
        package = await plan(client)
        order = await sell(client, "shop-1", package)
        assert order.order_num == sandbox.orders[0].order_num
        for code in (-10, -2, 3, 4, 22):
            sandbox.faults.add(Fault.refuse(code), "addEsimOrder")
            assert await sell(client, "shop-2", package) is None
            assert capsys.readouterr().out.startswith("not placed: shop-2 ")
        sandbox.faults.add(Fault.http(429), "addEsimOrder")
        assert await sell(client, "shop-2", package) is None
        assert capsys.readouterr().out.startswith("not placed: shop-2 ")
        sandbox.faults.add(Fault.refuse(3), "getOrderInfo")
        assert await sell(client, "shop-3", package) is None
        number = sandbox.orders[1].order_num
        assert capsys.readouterr().out == f"placed: shop-3 {number}\n"
        journal.path.rename(journal.path.with_name("moved.db"))
        assert await sell(client, "shop-4", package) is None
        assert capsys.readouterr().out.startswith("try later: shop-4 ")
        assert len(sandbox.orders) == 2


async def test_the_journal_and_reconcile_examples_find_what_was_lost(
    sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    careful_client = names_of("careful_client")["careful_client"]
    options = {"base_url": sandbox.url, "clock": sandbox.clock}
    async with careful_client(sandbox.credentials, tmp_path / "orders.db", **options) as client:
        for fault, reference in ((Fault.lose_reply(), "one"), (Fault.lose_request(), "two")):
            sandbox.faults.add(fault, "addEsimOrder")
            with pytest.raises(errors.OutcomeUnknown):
                await client.orders.place(**PLAN, count=1, other_order_id=reference)
        sandbox.clock.advance(timedelta(days=1).total_seconds())
        report = await names_of("morning_round")["morning_round"](client)
    assert f"was placed: {sandbox.orders[0].order_num}" in capsys.readouterr().out
    assert [entry.other_order_id for entry in report.still_open] == ["two"]


async def test_the_search_example_lists_all_orders_or_says_how_many_it_lacks(
    sandbox: Sandbox, client: MioEsimClient, capsys: pytest.CaptureFixture[str]
) -> None:
    orders_between = names_of("orders_between")["orders_between"]
    fill(sandbox, 250)
    today = sandbox.orders[0].purchased_at.date()
    assert len(await orders_between(client, today, today)) == 250
    assert capsys.readouterr().out.count(" one of 250") == 250
    rows = [{"orderNum": f"EP20260101{place:06}"} for place in range(100)]
    body = json.dumps({"code": 0, "data": {"total": 250, "rows": rows}}).encode()
    sandbox.faults.add(Fault.replaced(body), "queryOrder", times=None)
    with pytest.raises(SystemExit, match="100 of 250 orders were shown"):
        await orders_between(client, today, today)


async def test_the_bulk_example_places_its_lines(
    sandbox: Sandbox, client: MioEsimClient, capsys: pytest.CaptureFixture[str]
) -> None:
    restock = names_of("restock")["restock"]
    await restock(client, [("a", 45, 441, 1), ("b", 45, 441, 2)])
    assert [order.count for order in sandbox.orders] == [1, 2]
    with pytest.raises(errors.SpendLimitReached):
        await restock(client, [("c", 45, 441, 100)])
    assert len(sandbox.orders) == 2

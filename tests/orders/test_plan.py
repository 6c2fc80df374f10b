"""What a purchase would come to is known before anybody is asked to pay, and nothing is bought."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from mioesim_async import OrderJournal, OrderLine, PlannedLine, RenewalLine, errors
from mioesim_async.sandbox import Fault, Sandbox

BUYING = {"addEsimOrder", "addEsimOrderByApiCode", "renewCard", "renewCardByApiCode"}


def line(reference: str, *, count: int = 1, price_id: int = 441) -> OrderLine:
    return OrderLine(sku_id=45, price_id=price_id, count=count, other_order_id=reference)


async def test_a_plan_has_price_stock_and_package_of_each_line_and_buys_nothing(
    sandbox: Sandbox,
) -> None:
    sandbox.stock[45, 441] = 3
    async with sandbox.client() as client:
        planned = await client.orders.plan([line("a", count=2), line("b"), line("c")])
    assert [(one.number, one.price) for one in planned] == [
        (1, Decimal("24.2")), (2, Decimal("12.1")), (3, Decimal("12.1")),
    ]  # fmt: skip
    assert {one.in_stock for one in planned} == {False}, "there are 3 for the 4 of all lines"
    assert all(one.line.package is not None and one.is_new for one in planned)
    assert not BUYING & {seen.endpoint for seen in sandbox.requests}
    assert sandbox.orders == []


async def test_a_plan_tells_what_the_journal_knows_of_each_reference(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    journal = OrderJournal(tmp_path / "orders.db")
    async with sandbox.client(order_journal=journal) as client:
        bought = line("bought")
        await client.orders.place(sku_id=45, price_id=441, count=1, other_order_id="bought")
        sandbox.faults.add(Fault.lose_reply(), "addEsimOrder")
        with pytest.raises(errors.OutcomeUnknown):
            await client.orders.place(sku_id=45, price_id=441, count=1, other_order_id="open")
        clash = line("bought", count=5)
        planned = await client.orders.plan([bought, line("open"), clash, line("new")])
    first, unclear, other, new = planned
    assert (first.was_placed, first.is_new, first.spent) == (True, False, Decimal("12.1"))
    assert (unclear.is_open, unclear.is_new) == (True, False)
    assert isinstance(other.fault, errors.DuplicateOrder)
    assert (other.is_new, other.was_placed) == (False, False)
    assert (new.is_new, new.entry) == (True, None)
    assert len(sandbox.orders) == 2


async def test_a_line_that_cannot_be_had_says_why_and_leaves_the_others(sandbox: Sandbox) -> None:
    renewal = RenewalLine(sku_id=45, price_id=443, iccid=sandbox.iccids[0], other_order_id="r")
    async with sandbox.client() as client:
        planned = await client.orders.plan(
            [OrderLine(sku_id=999_999, price_id=1, count=1, other_order_id="x"), renewal, line("y")]
        )
    faulty, renewed, good = planned
    assert faulty.fault is not None or faulty.price is None
    assert isinstance(renewed.fault, errors.InvalidRequest), "this plan can't be renewed"
    assert good.is_new
    assert good.price == Decimal("12.1")


async def test_lines_that_cannot_be_meant_are_refused_whole_before_a_byte_is_sent(
    sandbox: Sandbox,
) -> None:
    bad = [line("a", count=0), line("b"), "no line", line("c", count=-1)]
    async with sandbox.client() as client:
        with pytest.raises(errors.InvalidRequest) as caught:
            await client.orders.plan(bad)  # type: ignore[arg-type]
    assert [fault.split(":")[0].split(" is")[0] for fault in caught.value.faults] == [
        "line 1", "line 3", "line 4",
    ]  # fmt: skip
    assert sandbox.requests == []


async def test_a_plan_without_stock_asks_for_each_sku_once(sandbox: Sandbox) -> None:
    async with sandbox.client() as client:
        await client.login()
        sandbox.requests.clear()
        planned = await client.orders.plan([line(str(n)) for n in range(50)], stock=False)
    assert [type(one) for one in planned] == [PlannedLine] * 50
    assert {one.in_stock for one in planned} == {None}
    assert [seen.endpoint for seen in sandbox.requests] == ["getPackages"]

"""Many orders: an outcome for each line, a limit that holds, and nothing bought twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from both import odd
from shopping import PLAN, buy
from waiting import until

from mioesim_async import (
    MioEsimClient,
    OrderJournal,
    OrderLine,
    Package,
    RenewalLine,
    errors,
)
from mioesim_async.sandbox import Fault, Sandbox

__all__ = ["odd"]


def package(price: str = "10", **changes: Any) -> Package:
    fields: dict[str, Any] = {**PLAN, "price": Decimal(price), "is_renewable": True}
    return Package(**fields | changes)


def lines(count: int, price: str = "10") -> list[OrderLine]:
    return [
        OrderLine(**PLAN, package=package(price), other_order_id=f"line-{number}")
        for number in range(count)
    ]


def sent(sandbox: Sandbox) -> int:
    paid = ("addEsimOrder", "addEsimOrderByApiCode", "renewCard", "renewCardByApiCode")
    return sum(seen.endpoint in paid for seen in sandbox.requests)


async def test_every_line_has_an_outcome_and_failures_stop_nothing(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    base = await buy(client)
    sandbox.faults.add(Fault.refuse(4), "addEsimOrder", after=1)
    sandbox.faults.add(Fault.lose_reply(), "addEsimOrder", after=2)
    mixed = [
        *lines(6),
        RenewalLine(**PLAN, order_num=base.order_num, package=package()),
    ]
    stream = client.orders.place_many(mixed, max_spend=None, concurrency=3)
    async with stream:
        outcomes = [outcome async for outcome in stream]
    assert sorted(outcome.position for outcome in outcomes) == list(range(7))
    failed = {type(outcome.error) for outcome in outcomes if outcome.error}
    assert failed == {errors.OrderStateError, errors.OutcomeUnknown}
    assert [o.line for o in sorted(outcomes, key=lambda o: o.position)] == mixed
    assert all(o.order and o.order.cards for o in outcomes if not o.error and o.position < 6)
    assert (stream.stats.placed, stream.stats.failed, stream.stats.unknown) == (5, 1, 1)
    assert stream.stats.spent == 60


async def test_one_wrong_signature_after_a_good_login_belongs_to_its_line(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    await client.login()
    for after in (0, 4):
        sandbox.faults.add(Fault.refuse(-30), "addEsimOrder", after=after, times=4)
    stream = client.orders.place_many(lines(12), max_spend=None, concurrency=1)
    outcomes = [outcome async for outcome in stream]
    assert {type(outcome.error) for outcome in outcomes if outcome.error} == {errors.SignatureError}
    assert all(outcome.error.was_placed is False for outcome in outcomes if outcome.error)
    assert stream.stats.placed == len(sandbox.orders) > 0
    assert stream.stats.placed + stream.stats.failed == 12


async def test_lines_that_are_all_signed_wrongly_end_after_five(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    await client.login()
    sandbox.faults.add(Fault.refuse(-30), "addEsimOrder", times=None)
    stream = client.orders.place_many(lines(100), max_spend=None, concurrency=4)
    outcomes = []
    with pytest.raises(errors.SignatureError) as caught:
        async for outcome in stream:
            outcomes.append(outcome)
    assert 5 <= len(outcomes) == sent(sandbox) <= 5 + 4
    assert caught.value.tally.failed == len(outcomes)
    assert not sandbox.orders


@pytest.mark.parametrize("concurrency", [1, 4, 50])
async def test_the_limit_is_never_passed_whatever_the_concurrency(
    sandbox: Sandbox, client: MioEsimClient, concurrency: int
) -> None:
    stream = client.orders.place_many(lines(10), max_spend=Decimal("45.5"), concurrency=concurrency)
    seen = []
    async with stream:
        with pytest.raises(errors.SpendLimitReached) as caught:
            async for outcome in stream:
                seen.append(outcome)
    assert sorted(outcome.position for outcome in seen) == [0, 1, 2, 3]
    assert sent(sandbox) == len(sandbox.orders) == 4
    assert caught.value.spent == 40
    assert caught.value.line.other_order_id == "line-4"
    assert caught.value.tally.placed == 4


async def test_an_unknown_outcome_counts_as_spent_and_a_refusal_does_not(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sandbox.faults.add(Fault.lose_request(), "addEsimOrder")
    sandbox.faults.add(Fault.refuse(4), "addEsimOrder")
    stream = client.orders.place_many(lines(5), max_spend=Decimal(30), concurrency=1)
    seen = []
    with pytest.raises(errors.SpendLimitReached):
        async for outcome in stream:
            seen.append(outcome)
    assert [type(outcome.error) for outcome in seen] == [
        errors.OutcomeUnknown, errors.OrderStateError, type(None), type(None),
    ]  # fmt: skip


async def test_a_price_is_looked_up_once_and_an_unknown_one_is_not_sent(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    wanted = [OrderLine(**PLAN) for _ in range(3)]
    wanted.append(OrderLine(sku_id=PLAN["sku_id"], price_id=999_999))
    wanted.append(OrderLine(api_code="392-0-7-1-G"))
    stream = client.orders.place_many(wanted, max_spend=Decimal(1000))
    outcomes = sorted([outcome async for outcome in stream], key=lambda o: o.position)
    assert all(outcome.order for outcome in outcomes[:3])
    for outcome in outcomes[3:]:
        assert isinstance(outcome.error, errors.InvalidRequest)
        assert "price" in str(outcome.error)
    assert sent(sandbox) == 3
    assert sum(seen.endpoint == "getPackages" for seen in sandbox.requests) == 1


async def test_a_dry_run_checks_prices_and_stock_and_buys_nothing(
    sandbox: Sandbox, client: MioEsimClient, tmp_path: Path
) -> None:
    sandbox.stock[PLAN["sku_id"], PLAN["price_id"]] = 2
    wanted = [OrderLine(**PLAN, count=count) for count in (1, 3)]
    wanted.append(OrderLine(sku_id=PLAN["sku_id"], price_id=999_999))
    stream = client.orders.place_many(wanted, max_spend=None, dry_run=True)
    one, three, none = sorted([o async for o in stream], key=lambda o: o.position)
    assert (one.in_stock, three.in_stock, none.in_stock) == (True, False, None)
    assert one.price is not None
    assert three.price == 3 * one.price
    assert none.error is not None
    assert not sent(sandbox)
    limited = client.orders.place_many(wanted[:2], max_spend=one.price, dry_run=True)
    with pytest.raises(errors.SpendLimitReached):
        _ = [outcome async for outcome in limited]


async def test_a_dry_run_says_what_a_run_would_of_references_that_the_journal_knows(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    async with sandbox.client(order_journal=OrderJournal(tmp_path / "orders.db")) as client:
        await client.orders.place(**PLAN, count=1, other_order_id="bought")
        wanted = [
            OrderLine(**PLAN, other_order_id="new"),
            OrderLine(**PLAN, count=2, other_order_id="bought"),
        ]
        ends = []
        for dry_run in (True, False):
            stream = client.orders.place_many(wanted, max_spend=Decimal(99), dry_run=dry_run)
            new, clash = sorted([o async for o in stream], key=lambda o: o.position)
            assert new.error is None
            assert isinstance(clash.error, errors.DuplicateOrder)
            assert clash.in_stock is None
            ends.append((str(clash.error), clash.error.was_placed, clash.price, stream.stats))
        assert ends[0] == ends[1]
        same = [OrderLine(**PLAN, other_order_id="bought")]
        (again,) = [o async for o in client.orders.place_many(same, max_spend=None, dry_run=True)]
        assert (again.error, again.in_stock) == (None, None)
    assert sent(sandbox) == 2


async def test_a_dry_run_says_that_a_reference_is_open(sandbox: Sandbox, tmp_path: Path) -> None:
    async with sandbox.client(order_journal=OrderJournal(tmp_path / "orders.db")) as client:
        sandbox.faults.add(Fault.lose_reply(), "addEsimOrder")
        with pytest.raises(errors.OutcomeUnknown):
            await client.orders.place(**PLAN, count=1, other_order_id="open")
        ends = []
        for dry_run in (True, False):
            wanted = [OrderLine(**PLAN, other_order_id="open")]
            (one,) = [
                o async for o in client.orders.place_many(wanted, max_spend=None, dry_run=dry_run)
            ]
            assert isinstance(one.error, errors.OutcomeUnknown)
            ends.append((str(one.error), one.error.was_placed, one.in_stock))
        assert ends[0] == ends[1]
    assert sent(sandbox) == 1


@pytest.mark.parametrize("count", [1, 3])
async def test_what_no_line_can_survive_is_raised_also_if_it_comes_with_the_last_line(
    sandbox: Sandbox, count: int
) -> None:
    async with sandbox.client() as client:
        await client.login()
        sandbox.faults.add(Fault.evict_token(), "addEsimOrder", times=None)
        sandbox.faults.add(Fault.refuse(-3, "no API"), "login", times=None)
        stream = client.orders.place_many(lines(count), max_spend=None, concurrency=1)
        outcomes = []
        with pytest.raises(errors.PermissionDenied) as caught:
            async for outcome in stream:
                outcomes.append(outcome)
        assert [type(outcome.error) for outcome in outcomes] == [errors.PermissionDenied]
        assert caught.value.tally.placed == 0
        assert [outcome async for outcome in stream] == []


async def test_lines_of_a_run_without_a_limit_come_back_as_they_were_given(
    client: MioEsimClient,
) -> None:
    wanted = lines(3)
    outcomes = [o async for o in client.orders.place_many(wanted, max_spend=None)]
    assert all(o.line is wanted[o.position] for o in outcomes)


async def test_a_list_is_checked_whole_before_a_byte_is_sent(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    bad: list[Any] = [*lines(2), OrderLine(**PLAN, count=0), lines(1)[0], {"sku_id": 1}]
    with pytest.raises(errors.InvalidRequest) as caught:
        async with client.orders.place_many(bad, max_spend=None):
            pass
    stream = client.orders.place_many(bad, max_spend=None)
    with pytest.raises(errors.InvalidRequest):
        await anext(stream)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    assert [fault.partition(":")[0] for fault in caught.value.faults] == [
        "line 2", "line 3", "line 4",
    ]  # fmt: skip
    for wrong in (Decimal(-1), 10, 1.5):
        with pytest.raises(errors.InvalidRequest, match="max_spend"):
            client.orders.place_many([], max_spend=wrong)  # type: ignore[arg-type]
    assert not sandbox.requests


async def test_a_bad_line_of_a_stream_is_a_failed_outcome(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    async def source() -> AsyncIterator[OrderLine]:
        yield lines(1)[0]
        yield OrderLine(**PLAN, count=0)
        yield lines(1)[0]
        yield lines(2)[1]

    stream = client.orders.place_many(source(), max_spend=None)
    outcomes = sorted([o async for o in stream], key=lambda o: o.position)
    assert [type(o.error) for o in outcomes] == [
        type(None), errors.InvalidRequest, errors.InvalidRequest, type(None),
    ]  # fmt: skip
    assert len(sandbox.orders) == 2


async def test_with_a_journal_a_run_resumes_without_repeating_a_line(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    journal = OrderJournal(tmp_path / "orders.db")
    sandbox.faults.add(Fault.lose_reply(), "addEsimOrder", after=2)
    async with sandbox.client(order_journal=journal) as client:
        stream = client.orders.place_many(lines(8), max_spend=None, concurrency=2)
        async with stream:
            async for outcome in stream:
                if outcome.position >= 4:
                    break
    async with sandbox.client(order_journal=journal) as client:
        await client.orders.reconcile()
        again = client.orders.place_many(lines(8), max_spend=Decimal(80))
        outcomes = [outcome async for outcome in again]
    assert [outcome.error for outcome in outcomes] == [None] * 8
    references = [order.other_order_id for order in sandbox.orders]
    assert sorted(references) == sorted({f"line-{number}" for number in range(8)})
    async with sandbox.client(order_journal=journal) as client:
        stream = client.orders.place_many(lines(9), max_spend=Decimal(80))
        with pytest.raises(errors.SpendLimitReached):
            _ = [outcome async for outcome in stream]
    assert len(sandbox.orders) == 8


async def test_a_refused_login_ends_the_stream_after_the_outcomes(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault.refuse(-1), "login", times=None)
    async with sandbox.client() as client:
        stream = client.orders.place_many(lines(200), max_spend=None)
        outcomes = []
        with pytest.raises(errors.AuthenticationError):
            async for outcome in stream:
                outcomes.append(outcome)
    assert outcomes
    assert all(isinstance(o.error, errors.AuthenticationError) for o in outcomes)
    assert len(outcomes) < 50
    assert sandbox.logins == 0


async def test_closing_the_client_sends_no_further_line_and_loses_no_order(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    journal = OrderJournal(tmp_path / "orders.db")
    sandbox.clock._skip = False
    sandbox.faults.add(Fault.slow(10), "addEsimOrder", times=None)
    client = sandbox.client(order_journal=journal)
    stream = client.orders.place_many(lines(20), max_spend=None, concurrency=3)
    first = asyncio.create_task(anext(stream))
    await until(lambda: sent(sandbox) >= 3, pause=0)
    closing = asyncio.create_task(client.aclose())
    await asyncio.sleep(0)
    sandbox.clock.advance(10)
    await closing
    await asyncio.gather(first, return_exceptions=True)
    assert sent(sandbox) == len(sandbox.orders) == 3
    assert not await journal.open_entries()
    with pytest.raises(errors.ClientClosed):
        while True:
            await anext(stream)

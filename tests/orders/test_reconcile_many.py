"""Reconciling many entries beside many orders: what is asked, who is a candidate, which clock."""

from __future__ import annotations

import asyncio
import datetime as dt
import email.utils
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from attrs import define, evolve, field
from journals import intent
from order_host import OrderHost, Params, host
from shopping import buy, fill, lose

from mioesim_async import MioEsimClient, OrderJournal, errors
from mioesim_async.journal import EntryState, JournalEntry
from mioesim_async.sandbox import Fault, Sandbox, SandboxClock

__all__ = ["host"]

AT_ONCE = timedelta(0)


def answer(data: Any) -> Fault:
    return Fault.replaced(json.dumps({"code": 0, "data": data}).encode())


def searches(sandbox: Sandbox) -> list[dict[str, str]]:
    return [seen.params for seen in sandbox.requests if seen.endpoint == "queryOrder"]


async def record(
    journal: OrderJournal, client: MioEsimClient, *references: str, **changes: Any
) -> None:
    """Have open entries of an account in a journal, as lost orders leave them."""
    now = dt.datetime.fromtimestamp(client._caller.clock.time(), dt.UTC)
    for reference in references:
        entry = intent(
            reference,
            account=client.account,
            params={"skuId": "45", "priceId": "441", "count": "1"},
            expected_price=None,
            created_at=now,
            updated_at=now,
        )
        assert await journal.begin(evolve(entry, **changes)) is None


@define
class Counting:
    """A journal of a user's that counts what it is asked."""

    inner: OrderJournal
    asked: list[str] = field(factory=list)
    lacks: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        if name in self.lacks:
            raise AttributeError(name)
        method = getattr(self.inner, name)

        def counted(*arguments: Any, **named: Any) -> Any:
            self.asked.append(name)
            return method(*arguments, **named)

        return counted

    async def begin(self, entry: JournalEntry) -> Any:
        return await self.inner.begin(entry)

    async def settle(self, *arguments: Any, **named: Any) -> Any:
        return await self.inner.settle(*arguments, **named)

    async def find(self, *arguments: Any) -> Any:
        self.asked.append("find")
        return await self.inner.find(*arguments)

    async def find_order(self, *arguments: Any) -> Any:
        self.asked.append("find_order")
        return await self.inner.find_order(*arguments)

    async def open_entries(self, *arguments: Any) -> Any:
        return await self.inner.open_entries(*arguments)

    async def prune(self, **named: Any) -> Any:
        return await self.inner.prune(**named)


# Candidates.


async def test_an_order_with_another_s_reference_is_no_candidate(
    clock: SandboxClock, journal: OrderJournal
) -> None:
    async with (
        Sandbox(10, clock=clock, search="lists all") as sandbox,
        sandbox.client(order_journal=journal) as client,
    ):
        # None of them is in the journal.
        fill(sandbox, 319)
        for number in range(6):
            await lose(sandbox, client, Fault.lose_request(), f"lost-{number}")
        report = await client.orders.reconcile()
        assert report.candidates == []
        assert len(report.still_open) == 6
        assert {entry.other_order_id for entry in report.still_open} == {
            f"lost-{number}" for number in range(6)
        }


@pytest.mark.parametrize("number", [1017, "1017"])
async def test_a_number_in_place_of_the_reference_makes_no_other_order_of_it(
    sandbox: Sandbox, buyer: MioEsimClient, number: int | str
) -> None:
    await lose(sandbox, buyer, Fault.lose_reply(), "shop-1")
    row = sandbox._vendor.orders.whole_order(sandbox.orders[0]) | {"outerOrderid": number}
    sandbox.faults.add(answer([row]), "queryOrder", times=None)
    report = await buyer.orders.reconcile(assume_absent_after=AT_ONCE)
    assert not report.absent
    (candidate,) = report.candidates
    assert [order.order_num for order in candidate.orders] == [sandbox.orders[0].order_num]


async def test_a_number_that_is_a_reference_of_ours_makes_another_order_of_it(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal
) -> None:
    await record(journal, buyer, "1017", "1018")
    row = {"orderNum": "EP20240124000013", "otherOrderId": "1018", "count": 1}
    (now,) = {entry.created_at for entry in (await journal.open_entries())[:1]}
    row["purchaseDate"] = f"{now + timedelta(hours=8):%Y-%m-%d %H:%M:%S}"
    sandbox.faults.add(answer({"total": 1, "rows": [row]}), "queryOrder", times=None)
    report = await buyer.orders.reconcile()
    assert [order.order_num for order in report.adopted] == ["EP20240124000013"]
    assert report.candidates == []


async def test_numbers_alone_do_not_show_that_a_search_shows_references(
    sandbox: Sandbox, buyer: MioEsimClient
) -> None:
    await lose(sandbox, buyer, Fault.lose_request(), "shop-1")
    row = {"orderNum": "EP20200101000001", "outerOrderid": "1017", "purchaseDate": "2020-01-01"}
    sandbox.faults.add(answer({"total": 1, "rows": [row]}), "queryOrder", times=None)
    report = await buyer.orders.reconcile(assume_absent_after=AT_ONCE)
    assert not report.absent
    assert "without references" in report.still_open[0].reason


async def test_an_order_that_carries_two_references_is_left_to_a_person(
    sandbox: Sandbox, buyer: MioEsimClient
) -> None:
    await lose(sandbox, buyer, Fault.lose_request(), "shop-1")
    row = {"orderNum": "EP20240124000013", "outerOrderid": "shop-1", "otherOrderId": "other"}
    sandbox.faults.add(answer([row]), "queryOrder", times=None)
    report = await buyer.orders.reconcile(assume_absent_after=AT_ONCE)
    assert not report.adopted
    assert not report.absent
    assert [len(candidate.orders) for candidate in report.candidates] == [1]


# How much is asked.


async def test_entries_of_the_same_days_share_one_listing_and_one_look_up(
    sandbox: Sandbox, journal: OrderJournal
) -> None:
    fill(sandbox, 120)
    counting = Counting(journal)
    async with sandbox.client(order_journal=counting) as client:
        await record(journal, client, *(f"lost-{number}" for number in range(20)))
        report = await client.orders.reconcile(assume_absent_after=AT_ONCE)
    assert len(report.absent) == 20
    asked = searches(sandbox)
    listings = [params for params in asked if "outerOrderId" not in params]
    # The second is for one order only: it tells whether the first counted all.
    assert [params["pageSize"] for params in listings] == ["1000", "1"]
    assert len(asked) == 22
    assert counting.asked == ["find_orders", "close_idle"]


async def test_entries_of_other_days_have_a_listing_of_their_own(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal
) -> None:
    now = dt.datetime.fromtimestamp(sandbox.clock.time(), dt.UTC)
    for ago in (0, 10, 20):
        at = now - timedelta(days=ago)
        for name in ("a", "b"):
            await record(journal, buyer, f"{name}-{ago}", created_at=at, updated_at=at)
    report = await buyer.orders.reconcile()
    assert len(report.still_open) == 6
    listings = [params for params in searches(sandbox) if "outerOrderId" not in params]
    assert len(listings) == 3


@pytest.mark.parametrize("search", ["lists all", "ignores references"])
async def test_a_search_that_ignores_references_is_asked_for_one_of_them(
    clock: SandboxClock, journal: OrderJournal, search: str
) -> None:
    async with (
        Sandbox(10, clock=clock, search=search) as sandbox,
        sandbox.client(order_journal=journal) as client,
    ):
        fill(sandbox, 200)
        clock.advance(7200)
        await record(journal, client, *(f"lost-{number}" for number in range(20)))
        await lose(sandbox, client, Fault.lose_reply(), "mine")
        report = await client.orders.reconcile(assume_absent_after=AT_ONCE)
        references = [params.get("outerOrderId") for params in searches(sandbox)]
        assert references == [None, None, "lost-0"]
        if search == "lists all":
            assert [order.other_order_id for order in report.adopted] == ["mine"]
            assert len(report.absent) == 20
        else:
            assert not report.absent
            assert len(report.candidates) == 21


async def test_a_journal_without_the_look_up_of_many_is_asked_for_each_row_once(
    sandbox: Sandbox, journal: OrderJournal
) -> None:
    fill(sandbox, 12)
    counting = Counting(journal, lacks=("find_orders",))
    async with sandbox.client(order_journal=counting) as client:
        mine = await buy(client, "mine")
        counting.asked.clear()
        await record(journal, client, "lost-1", "lost-2")
        await lose(sandbox, client, Fault.lose_reply(), "lost-3")
        counting.asked.clear()
        report = await client.orders.reconcile(assume_absent_after=AT_ONCE)
    assert mine.order_num not in [order.order_num for order in report.adopted]
    assert [order.other_order_id for order in report.adopted] == ["lost-3"]
    assert len(report.absent) == 2
    assert counting.asked.count("find_order") == 14
    assert counting.asked.count("find") == 14


async def test_more_orders_than_a_reply_shows_leave_no_doubt_where_all_are_listed(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal
) -> None:
    now = dt.datetime.fromtimestamp(sandbox.clock.time(), dt.UTC)
    await record(journal, buyer, "lost")
    fill(sandbox, 1203)
    for place, order in enumerate(sandbox.orders):
        order.purchased_at = (now - timedelta(days=place % 2)).astimezone(order.purchased_at.tzinfo)
    report = await buyer.orders.reconcile(assume_absent_after=AT_ONCE)
    assert [entry.other_order_id for entry in report.absent] == ["lost"]


async def test_a_day_that_can_t_be_listed_whole_leaves_its_entries_open(
    host: OrderHost, journal: OrderJournal
) -> None:
    def caps(params: Params) -> Any:
        rows = [{"orderNum": f"EP2024012400{n:04}", "otherOrderId": f"x-{n}"} for n in range(90)]
        return {"total": 0, "rows": []} if "outerOrderId" in params else {"total": 99, "rows": rows}

    host.answer = caps
    async with host.client(order_journal=journal) as client:
        await record(journal, client, "lost")
        report = await client.orders.reconcile(assume_absent_after=AT_ONCE)
    assert not report.absent
    assert "more orders than its search shows" in report.still_open[0].reason
    assert report.still_open[0].other_order_id == "lost"


# What can't be read.


@pytest.mark.parametrize("levels", [100, 400, 900])
async def test_rows_that_are_nested_too_deeply_count_as_unreadable(
    sandbox: Sandbox, buyer: MioEsimClient, levels: int
) -> None:
    await lose(sandbox, buyer, Fault.lose_request(), "shop-1")
    row = b'{"orderNum":"EP20200101000001","otherOrderId":"another","note":%s%s}' % (
        b"[" * levels, b"]" * levels,
    )  # fmt: skip
    body = b'{"code":0,"data":{"total":1,"rows":[%s]}}' % row
    sandbox.faults.add(Fault.replaced(body), "queryOrder", times=None)
    report = await buyer.orders.reconcile(assume_absent_after=AT_ONCE)
    assert not report.absent
    assert "can't be read" in report.still_open[0].reason


async def test_half_a_character_in_a_number_or_reference_of_the_vendor_s_stops_nothing(
    sandbox: Sandbox, buyer: MioEsimClient
) -> None:
    await lose(sandbox, buyer, Fault.lose_reply(), "shop-1")
    row = {"orderNum": "EP1\ud83d", "otherOrderId": "\ud83d\x00", "purchaseDate": "2020-01-01"}
    mine = {"orderNum": sandbox.orders[0].order_num, "otherOrderId": "shop-1"}
    sandbox.faults.add(answer({"total": 2, "rows": [row, mine]}), "queryOrder", times=None)
    report = await buyer.orders.reconcile()
    assert [order.order_num for order in report.adopted] == [sandbox.orders[0].order_num]


# Clocks.


def dated(apart: timedelta) -> Callable[[], str]:
    """Return a host's ``Date`` that is so much apart from this machine's clock."""
    return lambda: email.utils.formatdate(
        dt.datetime.now(dt.UTC).timestamp() + apart.total_seconds(), usegmt=True
    )


@pytest.mark.parametrize(
    ("date", "reason"),
    [
        (dated(timedelta(0)), None),
        (dated(timedelta(minutes=4)), None),
        (dated(timedelta(minutes=-4)), None),
        (dated(timedelta(minutes=6)), "behind the vendor's"),
        (dated(timedelta(days=-3)), "3 days, 0:00:0"),
        (lambda: None, "have no Date header"),
        (lambda: "yesterday", "have no Date header"),
    ],
)
async def test_an_entry_is_only_absent_where_the_clocks_agree(
    host: OrderHost, journal: OrderJournal, date: Callable[[], str | None], reason: str | None
) -> None:
    host.date = date
    async with host.client(order_journal=journal) as client:
        await record(journal, client, "lost")
        report = await client.orders.reconcile(assume_absent_after=AT_ONCE)
        assert len(report.absent) == (reason is None)
        if reason is not None:
            assert reason in report.still_open[0].reason
            assert (await journal.open_entries())[0].state is EntryState.OPEN


async def test_the_last_date_that_can_be_read_counts_and_so_does_a_clock_that_was_set(
    host: OrderHost, journal: OrderJournal
) -> None:
    async with host.client(order_journal=journal) as client:
        assert client._caller.clock_ahead is None
        await client.login()
        assert abs(client._caller.clock_ahead or 99) < 2
        host.date = lambda: "no date"
        await record(journal, client, "lost-1")
        assert len((await client.orders.reconcile(assume_absent_after=AT_ONCE)).absent) == 1
        frozen = email.utils.formatdate(host.clock.time(), usegmt=True)
        host.date = lambda: frozen
        await record(journal, client, "lost-2")
        await client.orders.reconcile()
        host.clock.advance(3600)
        report = await client.orders.reconcile(assume_absent_after=AT_ONCE)
        assert "ahead of the vendor's" in report.still_open[0].reason


async def test_a_sandbox_dates_its_replies_by_its_own_clock(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sandbox.clock.advance(timedelta(days=40).total_seconds())
    await client.login()
    ahead = client._caller.clock_ahead
    assert ahead is not None
    assert abs(ahead) < 2


async def test_a_purchase_is_adopted_whatever_the_clocks_say(
    sandbox: Sandbox, journal: OrderJournal
) -> None:
    class Off(SandboxClock):
        def time(self) -> float:
            return sandbox.clock.time() + 3600

    async with sandbox.client(order_journal=journal, clock=Off(skip_sleeps=True)) as client:
        await lose(sandbox, client, Fault.lose_reply(), "shop-1")
        await lose(sandbox, client, Fault.lose_request(), "shop-2")
        report = await client.orders.reconcile(assume_absent_after=AT_ONCE)
    assert [order.other_order_id for order in report.adopted] == ["shop-1"]
    assert [entry.other_order_id for entry in report.still_open] == ["shop-2"]


async def test_searching_and_reconciling_say_nothing_of_a_purchase(
    sandbox: Sandbox, buyer: MioEsimClient
) -> None:
    await lose(sandbox, buyer, Fault.lose_request(), "shop-1")
    sandbox.evict()
    sandbox.faults.add(Fault.refuse(-1), "login", times=None)
    calls = [
        buyer.orders.reconcile,
        lambda: buyer.orders.search(other_order_id="shop-1"),
    ]
    for call in calls:
        with pytest.raises(errors.AuthenticationError) as caught:
            await asyncio.ensure_future(call())
        assert caught.value.was_placed is None

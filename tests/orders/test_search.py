"""A search shows all orders that there are, or says that it doesn't."""

from __future__ import annotations

import asyncio
import datetime as dt
import pickle
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given, settings, strategies as st
from order_host import DAY, OrderHost, Rows, Vendor, asked_day, day_of, host, rows
from shopping import fill
from waiting import until

from mioesim_async import MioEsimClient, Order, errors
from mioesim_async.api.orders import search as search_module
from mioesim_async.api.orders.search import OrderSearch
from mioesim_async.clock import SystemClock
from mioesim_async.sandbox import Sandbox

__all__ = ["host"]

WEEK = {"start": DAY - dt.timedelta(days=6), "end": DAY}
TODAY = {"start": DAY, "end": DAY}


def numbers(orders: list[Order]) -> list[str]:
    return [order.order_num for order in orders]


def of(made: Rows) -> list[str]:
    return [row["orderNum"] for row in made]


async def incomplete(search: OrderSearch) -> errors.ProtocolError:
    """Search to the end, which is an error that says that orders are missing."""
    with pytest.raises(errors.ProtocolError) as caught:
        await search
    assert caught.value.reason == "incomplete"
    assert caught.value.endpoint == "/api_esim/queryOrder"
    assert caught.value.was_placed is None
    return caught.value


# All orders.


async def test_awaited_it_gives_all_orders_of_the_days(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    fill(sandbox, 250)
    today = sandbox.orders[0].purchased_at.date()
    search = client.orders.search(start=today, end=today)
    orders = await search
    assert numbers(orders) == [order.order_num for order in reversed(sandbox.orders)]
    assert search.total == 250
    asked = [seen.params for seen in sandbox.requests if seen.endpoint == "queryOrder"]
    assert [params["pageSize"] for params in asked] == ["100", "250"]


async def test_iterated_it_gives_the_same_orders_and_its_total_from_the_first_on(
    host: OrderHost,
) -> None:
    made = rows(3, 2)
    host.answer = Vendor(made)
    async with host.client() as client:
        search = client.orders.search(**WEEK)
        assert search.total is None
        assert host.asked == []
        seen = []
        async for order in search:
            seen.append(order.order_num)
            assert search.total == 5
        assert seen == of(made)
        # Five of five may be a part; one of five shows that all are counted.
        assert [params["pageSize"] for params in host.asked] == ["100", "1"]
        # Those that were handed out are in the list, too, and nothing is asked again.
        assert numbers(await search) == seen
        assert len(host.asked) == 2


async def test_a_list_after_some_orders_has_them_all(host: OrderHost) -> None:
    host.answer = Vendor(rows(3, 2))
    async with host.client() as client, client.orders.search(**WEEK) as search:
        first = await anext(search)
        assert numbers(await search) == of(rows(3, 2))
        assert first.order_num == of(rows(3, 2))[0]
        assert len([order async for order in search]) == 4


async def test_more_than_fit_in_a_reply_are_asked_for_by_halves_of_the_days(
    host: OrderHost,
) -> None:
    made = rows(300, 0, 603, 0, 0, 290, 10)
    host.answer = Vendor(made, cap=1000)
    async with host.client() as client:
        search = client.orders.search(**WEEK)
        orders = await search
    assert numbers(orders) == of(made)
    assert search.total == 1203
    assert [params["pageSize"] for params in host.asked] == ["100", "1000", "1000", "1000"]
    days = [(params["startDate"], params["endDate"]) for params in host.asked]
    assert days == [
        ("03/25/2026", "03/31/2026"),
        ("03/25/2026", "03/31/2026"),
        ("03/29/2026", "03/31/2026"),
        ("03/25/2026", "03/28/2026"),
    ]


async def test_no_page_number_is_guessed(host: OrderHost) -> None:
    host.answer = Vendor(rows(*[40] * 7), cap=50)
    async with host.client() as client:
        assert len(await client.orders.search(**WEEK)) == 280
    known = {"token", "sign", "startDate", "endDate", "pageSize"}
    assert all(params.keys() == known for params in host.asked)


async def test_the_newest_days_come_first_also_where_the_vendor_sorts_the_other_way(
    host: OrderHost,
) -> None:
    made = rows(*[40] * 4)[::-1]
    host.answer = Vendor(made, cap=80)
    async with host.client() as client:
        orders = await client.orders.search(start=DAY - dt.timedelta(days=3), end=DAY)
    assert numbers(orders) == of(made[80:] + made[:80])


async def test_the_page_size_is_how_many_are_asked_for_at_first(host: OrderHost) -> None:
    host.answer = Vendor(rows(30))
    async with host.client() as client:
        assert len(await client.orders.search(**TODAY, page_size=10)) == 30
    assert [params["pageSize"] for params in host.asked] == ["10", "30"]


@pytest.mark.parametrize(
    "arguments", [{"other_order_id": "shop-1"}, {"start": DAY}, {"end": DAY}], ids=str
)
async def test_without_both_ends_a_larger_reply_is_asked_for_and_the_days_are_left_alone(
    host: OrderHost, arguments: dict[str, Any]
) -> None:
    host.answer = Vendor(rows(250))
    async with host.client() as client:
        assert len(await client.orders.search(**arguments)) == 250
        host.answer = Vendor(rows(250), cap=100)
        error = await incomplete(client.orders.search(**arguments))
    assert "shows 100 of 250 orders" in str(error)
    assert "give both start and end" in str(error)
    assert numbers(error.report) == of(rows(250))[:100]


# Not all of them.


async def test_a_day_that_shows_fewer_than_its_total_is_an_error_with_what_was_read(
    host: OrderHost,
) -> None:
    made = rows(5, 120, 30)
    host.answer = Vendor(made, cap=100)
    async with host.client() as client:
        search = client.orders.search(start=DAY - dt.timedelta(days=2), end=DAY)
        error = await incomplete(search)
    assert "shows 100 of 120 orders of 2026-03-30" in str(error)
    assert numbers(error.report) == of(made)[:130]
    assert numbers(pickle.loads(pickle.dumps(error)).report) == of(made)[:130]
    assert search.total == 155


async def test_the_orders_that_were_read_are_handed_out_before_the_error(host: OrderHost) -> None:
    host.answer = Vendor(rows(250), cap=100)
    async with host.client() as client:
        search = client.orders.search(**TODAY)
        seen: list[str] = []
        for _ in range(2):
            # The error comes again: the end of the loop never looks like the end of the orders.
            with pytest.raises(errors.ProtocolError, match="100 of 250"):
                async for order in search:
                    seen.append(order.order_num)
        assert seen == of(rows(250))[:100]
        asked = len(host.asked)
        await incomplete(search)
        assert len(host.asked) == asked


def grows(found: Rows, call: int) -> Rows:
    """One more order comes with each call."""
    return rows(250 + call)


def shrinks(found: Rows, call: int) -> Rows:
    """An order is there no more when the days are asked for apart."""
    return found if call < 3 else found[1:]


def no_total(*_: int) -> None:
    """Say nothing of how many there are."""


def as_shown(_: int, shown: int) -> int:
    """Count what is shown, as if there were no more."""
    return shown


ONE_DAY, SEVEN_DAYS, TEN_DAYS = rows(250), rows(*[40] * 6, 10), rows(*[25] * 10)

VENDORS: list[tuple[str, Rows, dict[str, Any], int | None]] = [
    ("heeds the size", ONE_DAY, {}, None),
    ("caps", ONE_DAY, {"cap": 100}, 100),
    ("caps, several days", SEVEN_DAYS, {"cap": 100}, None),
    ("ignores the size", SEVEN_DAYS, {"fixed": 50}, None),
    ("ignores the size, one day", ONE_DAY, {"fixed": 10}, 10),
    ("ignores the days", SEVEN_DAYS, {"heeds_days": False}, None),
    ("ignores days and size", SEVEN_DAYS, {"heeds_days": False, "fixed": 100}, 100),
    ("ignores days and caps", SEVEN_DAYS, {"heeds_days": False, "cap": 249}, 249),
    ("text", SEVEN_DAYS, {"total": lambda n, _: str(n)}, None),
    ("text, caps", ONE_DAY, {"total": lambda n, _: str(n), "cap": 100}, 100),
    ("no total", ONE_DAY, {"total": no_total}, None),
    ("no total, few", rows(7), {"total": no_total}, None),
    ("no total, one", rows(1), {"total": no_total}, None),
    ("no total, none", [], {"total": no_total}, None),
    ("no total, caps", ONE_DAY, {"total": no_total, "cap": 100}, 100),
    ("no total, caps, several days", SEVEN_DAYS, {"total": no_total, "cap": 100}, None),
    ("no total, ten of one day", rows(25), {"total": no_total, "fixed": 10}, 10),
    ("no total, ten of some days", rows(9, 9, 9), {"total": no_total, "fixed": 10}, None),
    ("no total, at most 40", TEN_DAYS, {"total": no_total, "cap": 40}, None),
    ("no total, at most 20", TEN_DAYS, {"total": no_total, "cap": 20}, 20),
    ("no total, always one", TEN_DAYS, {"total": no_total, "fixed": 1}, 1),
    ("no total, ten of one of the days", rows(0, 25, 0), {"total": no_total, "fixed": 10}, 10),
    ("counts what it shows", TEN_DAYS, {"total": as_shown}, None),
    ("counts what it shows, one day", ONE_DAY, {"total": as_shown}, None),
    ("counts what it shows and caps", TEN_DAYS, {"total": as_shown, "cap": 100}, None),
    ("counts what it shows, always 50", TEN_DAYS, {"total": as_shown, "fixed": 50}, None),
    ("counts what it shows, ten", rows(9, 9, 25), {"total": as_shown, "fixed": 10}, 28),
    ("shows all at once", SEVEN_DAYS, {"fixed": 10**9}, None),
    ("shows all at once, of one day", rows(0, 0, 7), {"fixed": 10**9}, None),
    ("counts less than it shows", ONE_DAY, {"total": lambda _, n: n - 1, "cap": 100}, 100),
    ("counts in words", ONE_DAY, {"total": lambda *_: "many", "cap": 100}, 100),
    ("counts below 0", ONE_DAY, {"total": lambda *_: -1, "cap": 100}, 100),
    ("counts far too many", ONE_DAY, {"total": lambda *_: 10**9}, 250),
    ("counts and shows nothing", [], {"total": lambda *_: 3}, 0),
    ("grows", ONE_DAY, {"change": grows}, None),
    ("shrinks", SEVEN_DAYS, {"change": shrinks, "cap": 249}, 249),
]


@pytest.mark.parametrize("case", VENDORS, ids=lambda case: case[0])
async def test_whatever_a_vendor_does_a_part_is_never_called_all(
    host: OrderHost, case: tuple[str, Rows, dict[str, Any], int | None]
) -> None:
    _, made, manner, part = case
    host.answer = vendor = Vendor(made, **manner)
    oldest = min(map(day_of, made), default=DAY)
    days = TODAY if oldest == DAY and made else WEEK | {"start": min(WEEK["start"], oldest)}
    async with host.client() as client:
        search = client.orders.search(**days)
        if part is None:
            found = numbers(await search)
            assert {*found} >= {*of(made)}
            assert len({*found}) == len(found) == search.total
        else:
            read = numbers((await incomplete(search)).report)
            assert len(read) >= part
            assert {*read} <= {*of(made)}
    assert vendor.calls <= 20


@pytest.mark.parametrize(
    ("vendor", "most"),
    [
        (Vendor(rows(3, 2)), 2),
        (Vendor(rows(3, 0, 0)), 2),
        (Vendor(rows(1)), 1),
        (Vendor(rows(100)), 2),
    ],
    ids=["days", "one of the days", "one order", "as many as were asked for"],
)
async def test_a_doubt_costs_a_usual_search_one_call(
    host: OrderHost, vendor: Vendor, most: int
) -> None:
    host.answer = vendor
    async with host.client() as client:
        assert len(await client.orders.search(**WEEK)) == len(vendor.rows)
        assert vendor.calls == most
        vendor.rows, vendor.calls = rows(1), 0
        assert len(await client.orders.search(**TODAY)) == 1
        assert vendor.calls == 1


async def test_halves_that_show_fewer_orders_than_the_whole_are_an_error(host: OrderHost) -> None:
    def reads_the_last_day_as_its_beginning(params: dict[str, str]) -> Any:
        last = asked_day(params, "endDate", DAY) - dt.timedelta(days=1)
        return vendor(params | {"endDate": f"{last:%m/%d/%Y}"})

    vendor = Vendor(rows(*[40] * 6, 0), cap=100)
    host.answer = reads_the_last_day_as_its_beginning
    async with host.client() as client:
        error = await incomplete(client.orders.search(**WEEK))
    assert "when asked for each half of these days" in str(error)


@settings(max_examples=150, deadline=None)
@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=12),
    cap=st.integers(1, 120),
    fixed=st.none() | st.integers(1, 40),
    heeds_days=st.booleans(),
    too_many=st.sampled_from([0, 0, 5]),
    page_size=st.integers(1, 40),
)
def test_it_finds_all_orders_or_says_that_it_does_not(
    counts: list[int], cap: int, fixed: int | None, heeds_days: bool, too_many: int, page_size: int
) -> None:
    made = rows(*counts)
    vendor = Vendor(
        made, cap=cap, fixed=fixed, heeds_days=heeds_days, total=lambda n, _: n + too_many
    )

    class Caller:
        clock = SystemClock()

        async def call(self, _: Any, params: dict[str, Any], **__: Any) -> Any:
            texts = {name: str(value) for name, value in params.items() if value is not None}
            return type("Envelope", (), {"data": vendor(texts)})

    async def run() -> tuple[list[Order], bool]:
        search = OrderSearch(
            Caller(), None, DAY - dt.timedelta(days=len(counts) - 1), DAY,
            page_size=page_size, deadline=None,
        )  # fmt: skip
        try:
            return await search, True
        except errors.ProtocolError as error:
            return error.report, False

    orders, is_all = asyncio.run(run())
    assert {*numbers(orders)} <= {*of(made)}
    assert len({*numbers(orders)}) == len(orders)
    assert not is_all or len(orders) == len(made)
    assert vendor.calls <= 6 * len(counts) + 6


# What it is asked, and how it ends.


async def test_the_total_is_known_from_the_first_reply_on(host: OrderHost) -> None:
    def fails_later(params: dict[str, str]) -> Any:
        return vendor(params) if not vendor.calls else web.Response(status=404)

    vendor = Vendor(rows(250))
    host.answer = fails_later
    async with host.client() as client:
        search = client.orders.search(**TODAY)
        with pytest.raises(errors.HttpStatusError):
            await search
        assert search.total == 250


async def test_who_closes_a_search_that_is_read_elsewhere_ends_it_there(host: OrderHost) -> None:
    host.answer = Vendor(rows(3))
    host.held.clear()
    async with host.client() as client:
        search = client.orders.search(**TODAY)
        task = asyncio.ensure_future(anext(search))
        await until(lambda: host.asked)
        await search.aclose()
        host.held.set()
        with pytest.raises(StopAsyncIteration):
            await task


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"start": dt.date(2026, 2, 1), "end": dt.date(2026, 1, 1)},
        {"start": "2026-01-01"},
        {"other_order_id": ""},
        {"start": DAY, "page_size": 0},
        {"start": DAY, "page_size": 1001},
        {"start": DAY, "deadline": 0},
    ],
    ids=str,
)
async def test_a_wrong_argument_is_refused_by_the_call_itself(
    host: OrderHost, arguments: dict[str, Any]
) -> None:
    async with host.client() as client:
        with pytest.raises(errors.InvalidRequest):
            client.orders.search(**arguments)
    assert host.asked == []


async def test_the_deadline_is_for_all_calls_together(host: OrderHost) -> None:
    def slow(params: dict[str, str]) -> Any:
        host.clock.advance(40)
        return vendor(params)

    vendor = Vendor(rows(*[40] * 7), cap=100)
    host.answer = slow
    async with host.client() as client:
        with pytest.raises(errors.DeadlineExceeded):
            await client.orders.search(**WEEK, deadline=100)
        assert 2 <= vendor.calls <= 4
        assert len(await client.orders.search(**WEEK, deadline=1000)) == 280


async def test_a_call_that_fails_tells_what_was_read_and_the_next_goes_on_there(
    host: OrderHost,
) -> None:
    def fails_once(params: dict[str, str]) -> Any:
        if vendor.calls == 4:
            vendor.calls += 1
            return web.Response(status=404)
        return vendor(params)

    made = rows(*[40] * 7)
    vendor = Vendor(made, cap=160)
    host.answer = fails_once
    async with host.client() as client:
        search = client.orders.search(**WEEK, page_size=160)
        with pytest.raises(errors.HttpStatusError) as caught:
            await search
        assert numbers(caught.value.report) == of(made)[:120]
        assert numbers(await search) == of(made)
        assert vendor.calls == 6


async def test_a_search_that_is_cancelled_goes_on_where_it_was(host: OrderHost) -> None:
    made = rows(*[40] * 7)
    host.answer = Vendor(made, cap=160)
    async with host.client() as client:
        search = client.orders.search(**WEEK)
        seen = [(await anext(search)).order_num]
        for _ in range(119):
            seen.append((await anext(search)).order_num)
        host.held.clear()
        asked = len(host.asked)
        task = asyncio.ensure_future(anext(search))
        await until(lambda: len(host.asked) > asked)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        host.held.set()
        seen += [order.order_num async for order in search]
    assert seen == of(made)


async def test_two_tasks_share_one_search(host: OrderHost) -> None:
    made = rows(*[40] * 7)
    host.answer = Vendor(made, cap=160)
    async with host.client() as client:
        search = client.orders.search(**WEEK)

        async def consume() -> list[str]:
            return [order.order_num async for order in search]

        one, other = await asyncio.gather(consume(), consume())
        assert sorted(one + other) == sorted(of(made))
        assert numbers(await asyncio.ensure_future(search)) == of(made)


async def test_the_end_of_the_client_ends_it(host: OrderHost) -> None:
    host.answer = Vendor(rows(*[40] * 7), cap=160)
    client = host.client()
    search, waiting = client.orders.search(**WEEK), client.orders.search(**WEEK)
    await anext(search)
    asked = len(host.asked)
    host.held.clear()
    task = asyncio.ensure_future(waiting)
    await until(lambda: len(host.asked) > asked)
    await client.aclose()
    with pytest.raises(errors.ClientClosed):
        await task
    with pytest.raises(errors.ClientClosed):
        assert [order async for order in search]


async def test_a_search_that_was_closed_never_looks_whole(host: OrderHost) -> None:
    host.answer = Vendor(rows(*[40] * 7), cap=160)
    async with host.client() as client:
        async with client.orders.search(**WEEK) as search:
            await anext(search)
        assert [order async for order in search] == []
        with pytest.raises(errors.ClientClosed, match="search again"):
            await search
        async with client.orders.search(**WEEK) as whole:
            orders = await whole
        assert await whole == orders


async def test_a_vendor_that_refuses_a_larger_reply_is_asked_by_halves(host: OrderHost) -> None:
    vendor = Vendor(rows(*[40] * 7))

    def refuses(params: dict[str, str]) -> Any:
        return vendor(params) if int(params["pageSize"]) <= 100 else -8

    host.answer = refuses
    async with host.client() as client:
        assert len(await client.orders.search(**WEEK)) == 280
        assert len([params for params in host.asked if params["pageSize"] != "100"]) == 1


async def test_a_vendor_that_shows_fewer_when_more_are_asked_for_loses_no_order(
    host: OrderHost,
) -> None:
    vendor = Vendor(rows(*[40] * 7))

    def takes_some_sizes(params: dict[str, str]) -> Any:
        return vendor(params if params["pageSize"] == "100" else params | {"pageSize": "10"})

    host.answer = takes_some_sizes
    async with host.client() as client:
        assert len(await client.orders.search(**WEEK)) == 280
    assert vendor.calls <= 12


async def test_nothing_found_may_be_said_with_a_code(host: OrderHost) -> None:
    vendor = Vendor(rows(60, 0, 60), cap=100)

    def coded(params: dict[str, str]) -> Any:
        data = vendor(params)
        return data if data["rows"] else 3

    host.answer = coded
    async with host.client() as client:
        days = {"start": DAY - dt.timedelta(days=2), "end": DAY}
        assert len(await client.orders.search(**days)) == 120
        search = client.orders.search(start=DAY + dt.timedelta(days=1))
        assert await search == []
        assert search.total == 0


async def test_rows_that_can_t_be_read_are_told_and_an_order_without_a_number_is_kept(
    host: OrderHost, caplog: pytest.LogCaptureFixture
) -> None:
    (row,) = rows(1)
    host.answer = lambda _: {"total": 4, "rows": [7, row, {"orderNo": "EP1"}, row]}
    async with host.client() as client:
        search = client.orders.search(**TODAY)
        orders = await search
    assert numbers(orders) == [row["orderNum"], ""]
    assert orders[1].extra == {"orderNo": "EP1"}
    assert len(search.bad_rows) == 1
    assert "a row of a search was left out" in caplog.text


async def test_a_search_ends_after_so_many_calls_whatever_the_vendor_says(
    host: OrderHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "MAX_CALLS", 50)
    host.answer = vendor = Vendor(rows(*[2] * 400), fixed=1)
    vendor.rows = vendor.rows[::2]
    async with host.client() as client:
        days = {"start": DAY - dt.timedelta(days=399), "end": DAY}
        error = await incomplete(client.orders.search(**days))
    assert "50 calls" in str(error)
    assert len(error.report) > 10
    assert vendor.calls <= 55


async def test_other_work_goes_on_while_a_large_reply_is_read(host: OrderHost) -> None:
    host.answer = Vendor(rows(1000))
    turns = 0

    async def work() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with host.client() as client:
        worker = asyncio.create_task(work())
        page_rows = rows(1000)
        before = turns
        orders, _ = await search_module.read_orders(page_rows)
        assert turns - before >= 1000 // search_module.ROWS_PER_SLICE
        worker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await worker
        assert len(await client.orders.search(**TODAY)) == len(orders)

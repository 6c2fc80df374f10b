"""Odd replies, clocks and histories: no order is lost in them, and none bought on a guess."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from shopping import PLAN, buy, lose
from waiting import until

from mioesim_async import MioEsimClient, OrderJournal, OrderLine, Package, errors
from mioesim_async.journal import EntryState
from mioesim_async.models.orders import Order
from mioesim_async.rows.layout import read_row
from mioesim_async.sandbox import Fault, Sandbox, SandboxClock

OLD, NEW = "EP20260101000001", "EP20260101000002"


def answer(data: Any) -> Fault:
    return Fault.replaced(json.dumps({"code": 0, "data": data}).encode())


ROW = {"orderNum": NEW, "otherOrderId": "shop-1", "count": 1}
SEARCHES: list[Any] = [
    {"total": 1, "items": [ROW]},
    {"pageInfo": {"list": [ROW]}},
    {NEW: ROW},
    [{"orderNum": None, "otherOrderId": "shop-1"}],
    [{"orderNo": NEW, "otherOrderId": "shop-1"}],
    [{"orderNum": NEW, "note": "reference shop-1"}],
    {"total": 1, "rows": None},
    {"total": 5000, "rows": [{"orderNum": OLD, "otherOrderId": "another"}]},
]


@pytest.mark.parametrize("data", SEARCHES, ids=lambda data: json.dumps(data)[:40])
async def test_an_order_that_can_t_be_read_in_a_search_is_never_absent(
    sandbox: Sandbox, buyer: MioEsimClient, data: Any
) -> None:
    await lose(sandbox, buyer, Fault.lose_reply(), "shop-1")
    sandbox.faults.add(answer(data), "queryOrder", times=None)
    report = await buyer.orders.reconcile(assume_absent_after=timedelta(0))
    assert not report.absent
    assert not report.adopted
    with pytest.raises(errors.OutcomeUnknown):
        await buy(buyer, "shop-1")
    assert len(sandbox.orders) == 1


@pytest.mark.parametrize("hours", [-26, 26])
async def test_a_clock_that_is_a_day_off_hides_no_order(
    sandbox: Sandbox, journal: OrderJournal, hours: int
) -> None:
    class Off(SandboxClock):
        def time(self) -> float:
            return sandbox.clock.time() + hours * 3600

    async with sandbox.client(order_journal=journal, clock=Off(skip_sleeps=True)) as client:
        await lose(sandbox, client, Fault.lose_reply(), "shop-1")
        report = await client.orders.reconcile(assume_absent_after=timedelta(0))
    assert [order.order_num for order in report.adopted] == [sandbox.orders[0].order_num]


async def test_a_search_that_answers_no_such_data_has_found_nothing(
    sandbox: Sandbox, buyer: MioEsimClient
) -> None:
    await lose(sandbox, buyer, Fault.lose_request(), "shop-1")
    sandbox.faults.add(Fault.refuse(3), "queryOrder", times=None)
    report = await buyer.orders.reconcile(assume_absent_after=timedelta(0))
    assert len(report.absent) == 1


async def test_another_s_order_is_not_adopted_for_a_number_in_the_wrong_place(
    sandbox: Sandbox, buyer: MioEsimClient
) -> None:
    other = await buy(buyer, "another")
    await lose(sandbox, buyer, Fault.lose_request(), "1017")
    for row in (
        {"orderNum": NEW, "outerOrderid": "1017", "otherOrderId": "OTHER"},
        {"orderNum": NEW, "outerOrderid": "1017", "purchaseDate": "2020-01-01"},
        {"orderNum": other.order_num, "outerOrderid": "1017"},
    ):
        sandbox.faults.clear()
        sandbox.faults.add(answer([row]), "queryOrder", times=None)
        report = await buyer.orders.reconcile(assume_absent_after=timedelta(0))
        assert not report.adopted
        assert not report.absent


@pytest.mark.parametrize(
    "data", [OLD, {"orderNum": OLD}, {"mainOrder": {"orderNum": OLD}, "ok": True}, [OLD]]
)
async def test_a_renewal_is_never_recorded_as_the_order_that_it_renews(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal, data: Any
) -> None:
    sandbox.faults.add(answer(data), "renewCard")
    arguments: dict[str, Any] = {**PLAN, "order_num": OLD, "other_order_id": "shop-1"}
    for _ in range(2):
        with pytest.raises(errors.OutcomeUnknown) as caught:
            await buyer.orders.renew(**arguments)
        assert caught.value.order_num is None
    (entry,) = await journal.open_entries()
    assert entry.order_num is None


LOST: list[tuple[bytes, str | None]] = [
    (b'{"data":{"orderNum":"%s"}}' % NEW.encode(), NEW),
    (b'{"code":null,"data":"%s"}' % NEW.encode(), NEW),
    (b'[{"orderNum":"%s"}]' % NEW.encode(), NEW),
    (b'{"orderNum":"EP-7"}', "EP-7"),
    (b'{"code":99,"data":{"orderNum":"%s"}}' % NEW.encode(), NEW),
    (b'{"code":-3,"data":"%s"}' % NEW.encode(), NEW),
    (b'{"code":"success","data":{"orderNum":"%s"}}' % NEW.encode(), NEW),
    (b'{"code":0,"data":{"orderNum":"%s","cardApiDto' % NEW.encode(), NEW),
    (b'{"code":0,"data":["%s","%s"]}' % (NEW.encode(), OLD.encode()), None),
    (b'{"code":0,"data":"{\\"orderNum\\":\\"%s\\"}"}' % NEW.encode(), NEW),
]


@pytest.mark.parametrize(("body", "number"), LOST)
async def test_an_order_number_is_found_in_whatever_came_after_money_was_spent(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal, body: bytes, number: str
) -> None:
    sandbox.faults.add(Fault.replaced(body), "addEsimOrder")
    with pytest.raises((errors.OutcomeUnknown, errors.OrderIncomplete)) as caught:
        await buy(buyer, "shop-1")
    assert caught.value.order_num == number
    assert caught.value.data is not None
    entry = await journal.find(buyer._caller.account, "shop-1")
    assert entry is not None
    assert entry.order_num == number


async def test_what_was_bought_before_counts_when_a_run_resumes(
    clock: SandboxClock, journal: OrderJournal
) -> None:
    clock._skip = False
    package = Package(**PLAN, price=Decimal(10))
    lines = [OrderLine(**PLAN, package=package, other_order_id=name) for name in ("a", "b")]
    async with (
        Sandbox(10, clock=clock, order_form="number") as sandbox,
        sandbox.client(order_journal=journal) as client,
    ):
        sandbox.faults.add(Fault.http(404), "getOrderInfo")
        with pytest.raises(errors.OrderIncomplete):
            await client.orders.place(**PLAN, count=1, package=package, other_order_id="a")
        sandbox.faults.add(Fault.slow(1000), "getOrderInfo")
        stream = client.orders.place_many(lines, max_spend=Decimal(10), deadline=5)
        first = asyncio.create_task(anext(stream))
        await until(
            lambda: sum(seen.endpoint == "getOrderInfo" for seen in sandbox.requests) >= 2, pause=0
        )
        clock.advance(5)
        assert isinstance((await first).error, errors.OrderIncomplete)
        with pytest.raises(errors.SpendLimitReached):
            await anext(stream)
        assert len(sandbox.orders) == 1


@pytest.mark.parametrize("code", [-3, 77])
async def test_an_activation_code_in_a_message_of_the_vendor_s_is_masked(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal, code: int,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    sandbox.faults.add(
        Fault.refuse(code, "done: LPA:1$rsp.example$K2-SECRET, 1$rsp.example$K2-SECRET"),
        "addEsimOrder",
    )
    with pytest.raises(errors.OutcomeUnknown) as caught:
        await buy(buyer, "shop-1")
    (entry,) = await journal.open_entries()
    assert "K2-SECRET" not in entry.reason + str(caught.value) + caplog.text
    assert "***" in entry.reason


def test_cards_are_read_from_every_form_and_no_code_is_lost_or_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    iccid, code = "8985000000000000001", "LPA:1$rsp.example$K2-SECRET"
    rows: list[Any] = [
        {"cardApiDtoList": [{"iccid": iccid, "code": code}]},
        {"cardApiVoList": {iccid: {"code": code}}},
        {"cardapidtolist": {iccid: {"iccid": None, "code": code}}},
        {"cardApiDtoList": {iccid: code}},
        {
            "cardApiDtoList": [{"iccid": iccid, "code": code}],
            "cardApiVoList": [{"iccid": iccid, "code": code}],
        },
    ]
    for row in rows:
        (card,) = read_row({"orderNum": NEW, **row}, Order).cards
        assert (card.iccid, str(card.activation)) == (iccid, code)
    (card,) = read_row({"orderNum": NEW, "cardApiDtoList": [{"iccid": "K2-SECRET"}]}, Order).cards
    assert card.extra["iccid"] == "K2-SECRET"
    assert "K2-SECRET" not in caplog.text


async def test_every_error_of_an_order_has_its_reference(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    for fault in (Fault.http(404), Fault.http(429), Fault.refuse(4), Fault.lose_reply()):
        sandbox.faults.add(fault, "addEsimOrder")
        with pytest.raises(errors.MioEsimError) as caught:
            await client.orders.place(**PLAN, count=1)
        sent = [seen for seen in sandbox.requests if seen.endpoint == "addEsimOrder"][-1]
        assert caught.value.other_order_id == sent.params["otherOrderId"]


async def test_a_day_pass_that_only_its_code_tells_is_priced_as_one(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    plan = {"priceid": 1, "price": 2, "apiCode": "392-0-?-500-M-D"}
    sandbox.faults.add(answer({"skuid": 45, "esimPackageDtoList": [plan]}), "getPackages")
    (package,) = (await client.catalogue.packages(45)).packages
    assert package.is_day_pass
    assert package.total_price(days=3) == 6


async def test_a_day_pass_without_a_longest_stay_can_be_ordered(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    package = Package(**PLAN, price=Decimal(1), is_day_pass=True, min_days=1, max_days=0)
    with pytest.raises(errors.InvalidRequest, match="out of range: 1 to any"):
        await client.orders.place(**PLAN, count=1, package=package, daypass_days=0)
    line = OrderLine(**PLAN, package=package, daypass_days=9)
    stream = client.orders.place_many([line], max_spend=Decimal(9), dry_run=True)
    assert (await anext(stream)).price == 9
    await stream.aclose()


async def test_a_day_that_has_passed_stops_a_list_and_shows_in_a_dry_run(
    sandbox: Sandbox, client: MioEsimClient, buyer: MioEsimClient
) -> None:
    past = OrderLine(**PLAN, begin_date=dt.date(2020, 1, 1))
    with pytest.raises(errors.InvalidRequest, match=r"line 1: .*past"):
        await anext(client.orders.place_many([OrderLine(**PLAN), past], max_spend=None))
    stream = buyer.orders.place_many([past], max_spend=None, dry_run=True)
    (outcome,) = [outcome async for outcome in stream]
    assert isinstance(outcome.error, errors.InvalidRequest)


async def test_a_dry_run_of_a_plan_named_by_its_code_says_that_its_price_is_not_known(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    stream = client.orders.place_many(
        [OrderLine(api_code="392-0-7-1-G")], max_spend=None, dry_run=True
    )
    (outcome,) = [outcome async for outcome in stream]
    assert (outcome.error, outcome.price, outcome.in_stock) == (None, None, None)


async def test_a_journal_that_breaks_in_its_own_way_stops_the_order(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal
) -> None:
    async def broken(_: Any) -> None:
        raise OSError("the database is away")

    journal.begin = broken  # type: ignore[method-assign]
    with pytest.raises(errors.JournalUnavailable, match="nothing was sent, try later") as caught:
        await buy(buyer, "shop-1")
    assert caught.value.was_placed is None, "the journal may know an earlier order"
    assert not sandbox.orders


FAULTY: list[tuple[str, dict[str, Any], int]] = [
    ("place", {"sku_id": None, "price_id": None, "count": 0}, 3),
    ("place_by_api_code", {"api_code": None, "count": 0}, 2),
    ("email_pdf", {"order_num": "", "email": "bad", "iccids": []}, 3),
    ("cancel", {"order_num": "", "iccids": [], "remark": ""}, 3),
    ("search", {"start": "2024-01-01", "page_size": 0}, 2),
    ("search", {"start": dt.date(2024, 1, 1), "end": dt.datetime(2024, 1, 1, tzinfo=dt.UTC)}, 1),
    ("place", {**PLAN, "count": 1, "other_order_id": "a\ud800"}, 1),
    ("place", {**PLAN, "count": 1, "other_order_id": " a"}, 1),
    ("check_stock", {"sku_id": 0, "price_id": 0, "count": 0}, 3),
]


@pytest.mark.parametrize(("name", "arguments", "faults"), FAULTY)
async def test_all_faults_come_in_one_error_before_a_byte_is_sent(
    sandbox: Sandbox, client: MioEsimClient, name: str, arguments: dict[str, Any], faults: int
) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        await getattr(client.orders, name)(**arguments)
    assert len(caught.value.faults) == faults
    assert not sandbox.requests


async def test_arguments_that_look_odd_and_are_right_are_taken(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    await client.orders.place(**PLAN, count=1, customer_email="o'brien@example.com")
    for bad in (Decimal("NaN"), Decimal("Infinity")):
        with pytest.raises(errors.InvalidRequest, match="max_spend"):
            client.orders.place_many([], max_spend=bad)
    with pytest.raises(errors.InvalidRequest, match="iterable"):
        client.orders.place_many(OrderLine(**PLAN), max_spend=None)  # type: ignore[arg-type]


async def test_half_a_catalogue_is_not_complete(sandbox: Sandbox, client: MioEsimClient) -> None:
    one = {"skuid": 45, "display": "Japan"}
    for endpoint, data in (
        ("getSkus", {"total": 170, "rows": [one]}),
        ("getPackages", {"skuid": 45, "plans": [{"priceid": 1, "price": 1}]}),
    ):
        sandbox.faults.add(answer(data), endpoint)
        crawl = client.catalogue.crawl()
        async with crawl:
            _ = [outcome async for outcome in crawl]
        assert crawl.stats.bad_rows == 1
        assert not crawl.stats.is_complete


async def test_forgetting_needs_an_age_and_an_entry_is_settled_by_hand(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal
) -> None:
    with pytest.raises(ValueError, match="negative"):
        await journal.prune(older_than=timedelta(days=-1))
    await lose(sandbox, buyer, Fault.lose_request(), "shop-1")
    (entry,) = await journal.open_entries()
    now = dt.datetime.now(dt.UTC)
    await journal.settle(
        entry.account, entry.other_order_id, entry.attempt, EntryState.ABSENT, at=now
    )
    await buy(buyer, "shop-1")
    assert len(sandbox.orders) == 1


def test_a_port_that_is_the_usual_one_makes_no_other_account(sandbox: Sandbox) -> None:
    accounts = {
        MioEsimClient(sandbox.credentials, base_url=url)._caller.account
        for url in ("https://example.com", "https://example.com:443", "https://EXAMPLE.com/")
    }
    assert len(accounts) == 1

"""Orders through the public face, against the sandbox."""

from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from both import odd
from shopping import PLAN, buy, plan
from waiting import until

from mioesim_async import MioEsimClient, Order, Package, errors
from mioesim_async.sandbox import Fault, Sandbox

__all__ = ["odd"]


def sent(sandbox: Sandbox, endpoint: str = "addEsimOrder") -> list[dict[str, str]]:
    return [seen.params for seen in sandbox.requests if seen.endpoint == endpoint]


async def test_an_order_comes_back_whole_with_all_its_cards(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    order = await client.orders.place(**PLAN, count=3, other_order_id="shop-1")
    assert [card.iccid for card in order.cards] == sandbox.orders[0].iccids
    assert all(str(card.activation).startswith("LPA:1$") for card in order.cards)
    assert order.order_num == sandbox.orders[0].order_num
    assert (order.count, order.status, order.other_order_id) == (3, 0, "shop-1")
    assert order.purchased_at is not None
    assert order.purchased_at.utcoffset() == dt.timedelta(hours=8)
    assert isinstance(order.price, Decimal)
    assert not order.is_renewal
    (params,) = sent(sandbox)
    assert params["backInfo"] == "1"


@pytest.mark.parametrize("form", ["order", "number", "object with number only", "list"])
async def test_every_known_form_of_a_reply_gives_the_same_order(form: str, clock: Any) -> None:
    async with Sandbox(10, clock=clock, order_form=form) as sandbox, sandbox.client() as client:
        order = await client.orders.place(**PLAN, count=2, other_order_id="shop-1")
        again = await client.orders.get(order.order_num)
        # The vendor has a small number of its own in the place of the reference (observed).
        assert again.other_order_id is None
        assert again.extra["outerOrderid"] == 1
        again.extra, again.other_order_id = order.extra, order.other_order_id
        assert again == order
        assert len(order.cards) == 2


async def test_a_bare_number_whose_order_can_t_be_read_is_in_the_error(clock: Any) -> None:
    async with Sandbox(10, clock=clock, order_form="number") as sandbox, sandbox.client() as client:
        sandbox.faults.add(Fault.http(503), "getOrderInfo", times=None)
        with pytest.raises(errors.OrderIncomplete) as caught:
            await client.orders.place(**PLAN, count=1, other_order_id="shop-1")
        assert caught.value.order_num == sandbox.orders[0].order_num
        assert caught.value.other_order_id == "shop-1"
        assert isinstance(caught.value.last_error, errors.HttpStatusError)
        assert len(sandbox.orders) == 1


async def test_an_odd_reply_after_money_was_spent_is_kept_with_its_order_number(
    clock: Any,
) -> None:
    async with Sandbox(10, clock=clock, order_form="strange") as sandbox:
        async with sandbox.client() as client:
            with pytest.raises(errors.OrderIncomplete) as caught:
                await client.orders.place(**PLAN, count=1)
        number = sandbox.orders[0].order_num
        assert caught.value.order_num == number
        assert number in str(caught.value.data)
        activation = caught.value.data and str(caught.value.data)
        assert "LPA:1$" in activation
        assert "LPA:1$" not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        b'{"code":0,"message":"success"}',
        b'{"code":0,"data":""}',
        b'{"code":0,"data":{"note":"thank you"}}',
        b'{"code":0,"data":"thank you"}',
        b'{"code":0,"data":[{"orderNum":"EP20260101000001"},{"orderNum":"EP20260101000002"}]}',
    ],
)
async def test_success_without_one_order_number_is_an_unknown_outcome(
    sandbox: Sandbox, client: MioEsimClient, body: bytes
) -> None:
    sandbox.faults.add(Fault.replaced(body), "addEsimOrder")
    with pytest.raises(errors.OutcomeUnknown) as caught:
        await client.orders.place(**PLAN, count=1, other_order_id="shop-1")
    assert caught.value.other_order_id == "shop-1"
    assert caught.value.data["code"] == 0
    assert len(sent(sandbox)) == 1


async def test_every_order_has_a_reference_made_once(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sandbox.faults.add(Fault.evict_token(), "addEsimOrder")
    order = await client.orders.place(**PLAN, count=1)
    first, second = sent(sandbox)
    assert first["otherOrderId"] == second["otherOrderId"] == order.other_order_id
    assert len(sandbox.orders) == 1
    other = await client.orders.place(**PLAN, count=1)
    assert other.other_order_id != order.other_order_id
    assert client.orders.new_reference() != client.orders.new_reference()


@pytest.mark.parametrize(
    "fault",
    [
        Fault.lose_request(), Fault.lose_reply(), Fault.http(500), Fault.html(), Fault.empty(),
        Fault.truncate(), Fault.malformed(), Fault.refuse(-3), Fault.refuse(99), Fault.refuse(12),
        Fault.cut(),
    ],
    ids=lambda fault: fault.name,
)  # fmt: skip
async def test_whatever_may_have_bought_is_unknown_and_sent_once(
    sandbox: Sandbox, client: MioEsimClient, fault: Fault
) -> None:
    sandbox.faults.add(fault, "addEsimOrder")
    with pytest.raises(errors.OutcomeUnknown) as caught:
        await client.orders.place(**PLAN, count=1, other_order_id="shop-1")
    assert caught.value.other_order_id == "shop-1"
    assert "shop-1" in str(caught.value)
    assert len(sent(sandbox)) == 1


@pytest.mark.parametrize("code", [-2, -10, -30, 3, 4, 22])
async def test_a_definite_refusal_is_its_own_error(
    sandbox: Sandbox, client: MioEsimClient, code: int
) -> None:
    sandbox.faults.add(Fault.refuse(code), "addEsimOrder")
    with pytest.raises(errors.ApiError) as caught:
        await client.orders.place(**PLAN, count=1)
    assert caught.value.code == code
    assert not sandbox.orders


def day_pass(**changes: Any) -> Package:
    fields: dict[str, Any] = {
        "sku_id": 45, "price_id": 441, "price": Decimal("1.15"), "is_day_pass": True,
        "is_renewable": False, "needs_begin_date": True, "min_days": 3, "max_days": 30,
    }  # fmt: skip
    return Package(**fields | changes)


BAD_ORDERS: list[tuple[dict[str, Any], str]] = [
    ({"count": 0}, "count"),
    ({"count": True}, "count"),
    ({"count": "2"}, "count"),
    ({"sku_id": "45"}, "sku_id"),
    ({"price_id": -1}, "price_id"),
    ({"daypass_days": 0}, "daypass_days"),
    ({"dp_id": 7}, "iccids"),
    ({"iccids": ["8985000000000000001"]}, "dp_id"),
    ({"dp_id": 7, "iccids": ["8985000000000000001"], "count": 2}, "as many"),
    ({"dp_id": 7, "iccids": ["8985000000000000001"] * 2, "count": 2}, "twice"),
    ({"dp_id": 7, "iccids": ["nonsense"]}, "ICCID"),
    ({"dp_id": 7, "iccids": "8985000000000000001"}, "list"),
    ({"customer_email": "no address"}, "e-mail"),
    ({"customer_email": "a@b"}, "e-mail"),
    ({"send_email": True}, "customer_email"),
    ({"begin_date": "2026-12-01"}, "begin_date"),
    ({"begin_date": dt.datetime(2026, 12, 1, tzinfo=dt.UTC)}, "begin_date"),
    ({"begin_date": dt.date(2020, 1, 1)}, "past"),
    ({"other_order_id": " "}, "other_order_id"),
    ({"remark": "a\nb"}, "remark"),
    ({"package": day_pass()}, "daypass_days"),
    ({"package": day_pass(), "daypass_days": 3}, "begin_date"),
    ({"package": day_pass(needs_begin_date=False), "daypass_days": 2}, "out of range: 3 to 30"),
    ({"package": day_pass(needs_begin_date=False), "daypass_days": 31}, "out of range"),
    ({"package": day_pass(is_day_pass=False, needs_begin_date=False), "daypass_days": 5}, "no day"),
    ({"package": day_pass(needs_begin_date=False, sku_id=46), "daypass_days": 5}, "sku_id"),
]


@pytest.mark.parametrize(("changes", "word"), BAD_ORDERS, ids=lambda value: str(value)[:50])
async def test_a_bad_order_is_refused_before_a_byte_is_sent(
    sandbox: Sandbox, client: MioEsimClient, changes: dict[str, Any], word: str
) -> None:
    with pytest.raises(errors.InvalidRequest, match=word):
        await client.orders.place(**{"sku_id": 45, "price_id": 441, "count": 1} | changes)
    assert not sandbox.requests


async def test_all_faults_of_an_order_come_in_one_error(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        await client.orders.place(
            sku_id=0, price_id=0, count=0, customer_email="x", begin_date=dt.date(2020, 1, 1)
        )
    assert len(caught.value.faults) == 5
    assert not sandbox.requests


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, "exactly one"),
        ({"order_num": "EP1", "iccid": "8985000000000000001"}, "exactly one"),
        ({"iccid": "8.98E+18"}, "spreadsheet"),
        ({"order_num": "EP1", "package": day_pass(is_day_pass=False)}, "can't be renewed"),
    ],
)
async def test_a_bad_renewal_is_refused_before_a_byte_is_sent(
    sandbox: Sandbox, client: MioEsimClient, changes: dict[str, Any], word: str
) -> None:
    with pytest.raises(errors.InvalidRequest, match=word):
        await client.orders.renew(sku_id=45, price_id=441, **changes)
    assert not sandbox.requests


async def test_the_first_day_is_judged_in_gmt_8(sandbox: Sandbox, client: MioEsimClient) -> None:
    gmt8 = dt.timezone(dt.timedelta(hours=8))
    now = dt.datetime.fromtimestamp(sandbox.clock.time(), gmt8)
    # Half an hour into a new day of GMT+8, when it is still yesterday in London.
    midnight = (now + dt.timedelta(days=1)).replace(hour=0, minute=30, second=0)
    sandbox.clock.advance((midnight - now).total_seconds())
    yesterday = midnight.date() - dt.timedelta(days=1)
    with pytest.raises(errors.InvalidRequest, match="past"):
        await client.orders.place(**PLAN, count=1, begin_date=yesterday)
    await client.orders.place(**PLAN, count=1, begin_date=midnight.date())
    (params,) = sent(sandbox)
    assert params["beginDate"] == f"{midnight:%m/%d/%Y}"


async def test_a_renewal_is_a_new_order_that_names_the_old_one(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    order = await buy(client)
    package = await plan(client, renewable=True)
    ids = {"sku_id": package.sku_id, "price_id": package.price_id}
    by_number = await client.orders.renew(**ids, order_num=order.order_num, package=package)
    by_iccid = await client.orders.renew(**ids, iccid=order.cards[0].iccid, package=package)
    for renewal in (by_number, by_iccid):
        assert renewal.is_renewal
        assert renewal.main_order_num == order.order_num
    history = await client.cards.history(order.cards[0].iccid)
    assert {by_number.order_num, by_iccid.order_num} <= {past.order_num for past in history}


async def test_orders_and_renewals_by_api_code_are_like_those_by_ids(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    package = await plan(client, renewable=True)
    assert package.api_code is not None
    order = await client.orders.place_by_api_code(
        api_code=package.api_code, count=1, package=package
    )
    assert order.cards[0].activation is not None
    renewal = await client.orders.renew_by_api_code(
        api_code=package.api_code, order_num=order.order_num
    )
    assert renewal.main_order_num == order.order_num


async def test_a_refund_goes_from_cancelling_to_cancelled(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    order = await client.orders.place(**PLAN, count=2)
    cards = [card.iccid for card in order.cards]
    await client.orders.cancel(order.order_num, cards[:1], remark="wrong country")
    assert (await client.orders.get(order.order_num)).status == 7
    sandbox.clock.advance(3600)
    assert (await client.orders.get(order.order_num)).status == 4
    with pytest.raises(errors.OrderStateError):
        await client.orders.cancel(order.order_num, cards[:1])
    with pytest.raises(errors.NotYourOrder):
        await client.orders.cancel(sandbox.foreign_order_num, cards)
    with pytest.raises(errors.InvalidRequest, match="iccids is empty"):
        await client.orders.cancel(order.order_num, [])


async def test_a_refund_whose_reply_is_lost_is_sent_once_and_names_its_order(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    order = await buy(client)
    sandbox.faults.add(Fault.lose_reply(), "refundOrder")
    with pytest.raises(errors.OutcomeUnknown) as caught:
        await client.orders.cancel(order.order_num, order.cards[0].iccid)
    assert caught.value.order_num == order.order_num
    assert len(sent(sandbox, "refundOrder")) == 1


async def test_pdf_links_are_read_again_after_a_failure_and_mail_is_not(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    order = await buy(client)
    sandbox.faults.add(Fault.http(503), "handlerEsimPdf")
    links = await client.orders.pdf_links(order.order_num)
    assert list(links) == [card.iccid for card in order.cards]
    assert all(link.startswith("http") for link in links.values())
    await client.orders.email_pdf(order.order_num, "customer@example.com")
    assert len(sandbox.mails) == 1
    sandbox.faults.add(Fault.http(503), "handlerEsimPdf")
    with pytest.raises(errors.OutcomeUnknown):
        await client.orders.email_pdf(order.order_num, "customer@example.com")
    sandbox.faults.add(Fault.refuse(99), "handlerEsimPdf", times=2)
    with pytest.raises(errors.PdfFailed):
        await client.orders.pdf_links(order.order_num, order.cards[0].iccid)
    with pytest.raises(errors.PdfFailed):
        await client.orders.email_pdf(order.order_num, "customer@example.com")
    with pytest.raises(errors.InvalidRequest, match="e-mail"):
        await client.orders.email_pdf(order.order_num, "customer")


async def test_stock_is_told_and_a_fault_is_not_taken_for_no_stock(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sandbox.stock[PLAN["sku_id"], PLAN["price_id"]] = 2
    assert await client.orders.check_stock(**PLAN, count=2)
    assert not await client.orders.check_stock(**PLAN, count=3)
    for code, cls in ((-2, errors.MissingParameter), (-8, errors.QueryFailed)):
        sandbox.faults.add(Fault.refuse(code), "verifyResource")
        with pytest.raises(cls):
            await client.orders.check_stock(**PLAN, count=1)


async def test_orders_are_found_by_reference_and_by_day(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    order = await client.orders.place(**PLAN, count=1, other_order_id="shop-1")
    await client.orders.place(**PLAN, count=1, other_order_id="shop-2")
    (found,) = await client.orders.search(other_order_id="shop-1")
    assert (found.order_num, found.other_order_id) == (order.order_num, "shop-1")
    assert order.purchased_at is not None
    day = order.purchased_at.date()
    assert len(await client.orders.search(start=day, end=day)) == 2
    assert not await client.orders.search(start=day + dt.timedelta(days=1))
    with pytest.raises(errors.InvalidRequest):
        await client.orders.search()


async def test_usage_is_told_by_card_and_by_order(sandbox: Sandbox, client: MioEsimClient) -> None:
    order = await buy(client)
    iccid = order.cards[0].iccid
    for page in (
        await client.orders.usage(iccid=iccid),
        await client.orders.usage(order_num=order.order_num),
    ):
        (row,) = page
        assert row.order_num == order.order_num
        assert isinstance(row.price, Decimal)
        assert [used.iccid for used in row.plans] == [iccid]
        assert page.total == 1
    assert not (await client.orders.usage(iccid=sandbox.iccids[5])).rows
    with pytest.raises(errors.InvalidRequest, match="exactly one"):
        await client.orders.usage()


async def test_an_order_that_is_not_there_or_not_yours_is_told(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    with pytest.raises(errors.NotFound):
        await client.orders.get("EP20200101000001")
    with pytest.raises(errors.NotYourOrder):
        await client.orders.get(sandbox.foreign_order_num)


async def test_a_cancelled_caller_leaves_an_order_to_its_end(sandbox: Sandbox, clock: Any) -> None:
    late: list[Any] = []
    reached = asyncio.Event()
    async with sandbox.client(on_late_order=late.append, hooks=[lambda _: reached.set()]) as client:
        await client.login()
        reached.clear()
        sandbox.faults.add(Fault.slow(5), "addEsimOrder")
        sandbox.clock._skip = False
        task = asyncio.create_task(client.orders.place(**PLAN, count=1, other_order_id="shop-1"))
        await until(lambda: sent(sandbox), pause=0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not late
        sandbox.clock.advance(5)
        await reached.wait()
    (order,) = late
    assert isinstance(order, Order)
    assert order.order_num == sandbox.orders[0].order_num
    assert order.cards[0].activation is not None


async def test_a_time_out_of_the_caller_s_own_is_a_time_out(sandbox: Sandbox) -> None:
    late: list[Any] = []
    sandbox.clock._skip = False
    async with sandbox.client(on_late_order=late.append) as client:
        sandbox.faults.add(Fault.slow(5), "addEsimOrder")
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(None) as limit:
                task = asyncio.create_task(buy(client))
                await until(lambda: sent(sandbox), pause=0)
                limit.reschedule(asyncio.get_running_loop().time())
                await task
        assert not isinstance(caught.value, errors.MioEsimError)
        sandbox.clock.advance(5)
    assert isinstance(late[0], Order)


async def test_a_deadline_after_the_number_came_is_an_incomplete_order(clock: Any) -> None:
    clock._skip = False
    async with Sandbox(10, clock=clock, order_form="number") as sandbox, sandbox.client() as client:
        sandbox.faults.add(Fault.slow(60), "getOrderInfo")
        task = asyncio.create_task(client.orders.place(**PLAN, count=1, deadline=30))
        await until(lambda: sent(sandbox, "getOrderInfo"), pause=0)
        clock.advance(30)
        with pytest.raises(errors.OrderIncomplete) as caught:
            await task
        assert caught.value.order_num == sandbox.orders[0].order_num
        clock.advance(30)


async def test_no_activation_code_is_in_a_repr_or_a_log(
    sandbox: Sandbox, client: MioEsimClient, caplog: pytest.LogCaptureFixture
) -> None:
    order = await buy(client)
    code = order.cards[0].activation
    assert code is not None
    shown = repr(order) + str(order) + caplog.text
    assert code.matching_id not in shown
    assert "LPA" not in shown

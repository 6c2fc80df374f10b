"""The sandbox's orders: what is bought there exists, and nothing else happens."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from typing import Any

import pytest
from buying import DAY, DAY_PASS, NOT_RENEWABLE, place, read, renew, spend

from mioesim_async import MioEsimClient, Safety, errors
from mioesim_async.clock import GMT8
from mioesim_async.models.orders import Order
from mioesim_async.rows.layout import read_row
from mioesim_async.sandbox import Sandbox, SandboxMail

# Buying.


async def test_back_info_says_what_comes_back(sandbox: Sandbox, client: MioEsimClient) -> None:
    number = await place(client, backInfo=0)
    day = f"{dt.datetime.fromtimestamp(sandbox.clock.time(), GMT8):%Y%m%d}"
    assert re.fullmatch(r"EP\d{14}", number)
    assert number == f"EP{day}000001"
    whole = await place(client)
    assert whole["orderNum"] == f"EP{day}000002"
    assert len(whole["cardApiDtoList"]) == 1
    pdfs = await place(client, backInfo=2)
    assert pdfs["cardApiDtoList"][0]["pdfUrl"].startswith("http://127.0.0.1//")
    assert [order.order_num[-1] for order in sandbox.orders] == ["1", "2", "3"]


async def test_an_order_has_all_its_cards_and_they_exist_everywhere(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    before = sandbox.iccids[:]
    whole = await place(client, count=3)
    iccids = [card["iccid"] for card in whole["cardApiDtoList"]]
    assert iccids == sandbox.orders[0].iccids == sandbox.iccids[len(before) :]
    assert len({*iccids, *before}) == len(before) + 3
    cards = await client.cards.query(iccids)
    assert [card.order_num for card in cards] == [whole["orderNum"]] * 3
    detail = await client.cards.detail(iccids[0])
    assert detail is not None
    assert str(detail.activation) == whole["cardApiDtoList"][0]["code"]
    (past,) = await client.cards.history(iccids[0])
    assert (past.order_num, past.display) == (whole["orderNum"], "Japan 1GB 7 days")
    (sku,) = await client.cards.renewal_packages(iccids[0])
    assert sku.sku_id == 45
    assert all(plan.is_renewable for plan in sku.packages)


async def test_the_whole_order_reads_as_an_order(sandbox: Sandbox, client: MioEsimClient) -> None:
    order = read_row(await place(client, count=3, otherOrderId="shop-1"), Order)
    placed = sandbox.orders[0]
    assert (order.order_num, order.count, order.price) == (placed.order_num, 3, Decimal("36.3"))
    assert order.purchased_at == placed.purchased_at.replace(microsecond=0)
    assert (order.status, order.is_renewal) == (0, False)
    assert all(card.activation and card.pdf_url for card in order.cards)
    assert (placed.other_order_id, placed.price) == ("shop-1", Decimal("36.3"))


async def test_one_reference_twice_is_two_orders(sandbox: Sandbox, client: MioEsimClient) -> None:
    for _ in range(2):
        await place(client, otherOrderId="same")
    assert [order.other_order_id for order in sandbox.orders] == ["same", "same"]
    assert len({order.order_num for order in sandbox.orders}) == 2


async def test_a_day_pass_costs_its_days_and_a_fee(sandbox: Sandbox, client: MioEsimClient) -> None:
    whole = await place(client, **DAY_PASS, daypassDays=3, count=2)
    assert whole["price"] == 2 * (3 * Decimal("1.15") + Decimal("0.5"))
    assert whole["startDate"] == "2030-12-27 00:00:00.0"
    assert whole["endDate"] == "2030-12-30 00:00:00.0"
    (card,) = await client.cards.query(sandbox.orders[0].iccids[0])
    assert card.dp_status == "Enable"


async def test_an_api_code_buys_the_first_sku_that_has_it(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    await spend(client, "addEsimOrderByApiCode", apiCode="392-0-7-1-G", count=1)
    await spend(client, "addEsimOrderByApiCode", apiCode="99001-0-?-1-G-D", count=1, daypassDays=5)
    bought = [(order.sku_id, order.price_id) for order in sandbox.orders]
    assert bought == [(45, 441), (201, 444)]


async def test_physical_sims_are_those_that_were_named(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sims = ["8988000000000000001", "8988000000000000002"]
    whole = await place(client, dpId=11, iccids=",".join(sims), count=2)
    assert [card["iccid"] for card in whole["cardApiDtoList"]] == sims
    assert not any(card.get("code") for card in whole["cardApiDtoList"])
    assert [card.iccid for card in await client.cards.query(sims)] == sims
    assert sandbox.orders[0].dp_id == 11


WRONG: list[tuple[dict[str, Any], int]] = [
    ({"skuId": None}, -2),
    ({"priceId": None}, -2),
    ({"count": None}, -2),
    ({"count": 0}, -2),
    ({"count": 1001}, -2),
    ({"count": "x"}, -2),
    ({"skuId": 999}, 3),
    ({"priceId": 446}, 3),
    ({**DAY_PASS, "beginDate": None, "daypassDays": 3}, -2),
    ({**DAY_PASS, "beginDate": "2030-12-27", "daypassDays": 3}, -2),
    ({**DAY_PASS, "beginDate": "13/41/2030", "daypassDays": 3}, -2),
    (DAY_PASS, -2),
    ({**DAY_PASS, "daypassDays": 2}, -2),
    ({"skuId": 46, "priceId": 444, "daypassDays": 6}, -2),
    ({"iccids": "8988000000000000001"}, -10),
    ({"dpId": 11}, -2),
    ({"dpId": 11, "iccids": "8988000000000000001", "count": 2}, -2),
    ({"dpId": 11, "iccids": "8988,8988", "count": 2}, -2),
    ({"dpId": 99, "iccids": "8988000000000000001"}, 3),
    ({"dpId": 12, "iccids": "8988000000000000001"}, 3),
]


@pytest.mark.parametrize(("params", "code"), WRONG)
async def test_a_wrong_order_is_refused_and_nothing_happens(
    sandbox: Sandbox, client: MioEsimClient, params: dict[str, Any], code: int
) -> None:
    cards = sandbox.iccids[:]
    sandbox.stock[45, 441] = 5
    with pytest.raises(errors.ApiError) as caught:
        await place(client, **params)
    assert caught.value.code == code
    assert (sandbox.orders, sandbox.iccids, sandbox.stock) == ([], cards, {(45, 441): 5})


async def test_an_order_beyond_the_stock_is_refused_whole(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sandbox.stock[45, 441] = 3
    await place(client, count=2)
    for count, is_enough in ((1, True), (2, False)):
        check = read(client, "verifyResource", skuid=45, priceid=441, count=count)
        if is_enough:
            assert await check is None
        else:
            with pytest.raises(errors.ApiError, match="code 51"):
                await check
    with pytest.raises(errors.OutcomeUnknown):
        await place(client, count=2)
    assert (len(sandbox.orders), sandbox.stock) == (1, {(45, 441): 1})
    await place(client)
    await place(client, skuId=71)
    assert (len(sandbox.orders), sandbox.stock) == (3, {(45, 441): 0})
    with pytest.raises(errors.NotFound):
        await read(client, "verifyResource", skuid=45, priceid=1, count=1)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("number", "{number}"),
        ("object with number only", {"orderNum": "{number}"}),
        ("list", ["{order}"]),
        ("strange", {"result": {"list": ["{order}"]}}),
        ("nothing", None),
    ],
)
async def test_the_reply_has_the_form_that_was_asked_for(form: str, expected: Any) -> None:
    async with Sandbox(1, order_form=form) as sandbox, sandbox.client() as client:
        replies = [await place(client), await renew(client, iccid=sandbox.iccids[0])]
        for reply, order in zip(replies, sandbox.orders, strict=True):
            whole = await read(client, "getOrderInfo", orderNum=order.order_num)
            known = {"'{number}'": repr(order.order_num), "'{order}'": repr(whole)}
            text = repr(expected)
            for name, value in known.items():
                text = text.replace(name, value)
            assert repr(reply) == text


@pytest.mark.parametrize("name", ["shape", "order_form", "search"])
def test_an_unknown_form_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=f"^{name} must be one of .*, .*'nope'"):
        Sandbox(**{name: "nope"})  # type: ignore[arg-type]


# Renewals.


async def test_a_renewal_is_a_new_order_that_names_the_first(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    first = await place(client, count=2)
    iccid = sandbox.orders[0].iccids[1]
    by_order = await renew(client, orderNum=first["orderNum"], otherOrderId="again")
    by_card = await renew(client, iccid=iccid)
    of_renewal = await renew(client, orderNum=by_order["orderNum"], iccid=iccid)
    for renewal, count in ((by_order, 2), (by_card, 1), (of_renewal, 1)):
        assert (renewal["renewal"], renewal["renew"]) == (True, 1)
        assert (renewal["mainOrderNum"], renewal["count"]) == (first["orderNum"], count)
        assert renewal["price"] == count * Decimal("12.1")
    alone = await renew(client, orderNum=by_card["orderNum"])
    assert [card["iccid"] for card in alone["cardApiDtoList"]] == [iccid]
    main = await read(client, "getOrderInfo", orderNum=first["orderNum"])
    assert main["renewOrderNum"] == [order.order_num for order in sandbox.orders[1:]]
    assert [order.is_renewal for order in sandbox.orders] == [False, True, True, True, True]
    history = await client.cards.history(iccid)
    assert [past.order_num for past in history] == [order.order_num for order in sandbox.orders]
    ends = [past.ends_at for past in history]
    assert [past.starts_at for past in history[1:]] == ends[:-1]


async def test_a_renewal_by_api_code_renews_a_card_that_was_there(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    iccid = sandbox.iccids[0]
    (old,) = await client.cards.history(iccid)
    code = "392-0-?-500-M-D"
    await spend(client, "renewCardByApiCode", apiCode=code, iccid=iccid, daypassDays=4)
    assert sandbox.orders[0].main_order_num == old.order_num
    assert [past.order_num for past in await client.cards.history(iccid)] == [
        old.order_num,
        sandbox.orders[0].order_num,
    ]
    main = await read(client, "getOrderInfo", orderNum=old.order_num)
    assert (main["display"], main["status"]) == (old.display, old.status)
    assert [card["iccid"] for card in main["cardApiDtoList"]] == [iccid]
    assert main["renewOrderNum"] == [sandbox.orders[0].order_num]


async def test_what_cannot_be_renewed_is_refused(sandbox: Sandbox, client: MioEsimClient) -> None:
    fixed = await place(client, **NOT_RENEWABLE)
    whole = await place(client, count=2)
    ours = sandbox.orders[1].iccids
    await spend(client, "refundOrder", orderNum=whole["orderNum"], iccids=ours[0])
    refusals: list[tuple[dict[str, Any], type[errors.ApiError]]] = [
        ({"orderNum": fixed["orderNum"]}, errors.OrderStateError),
        ({"iccid": sandbox.iccids[0], **NOT_RENEWABLE}, errors.OrderStateError),
        ({"iccid": ours[0]}, errors.OrderStateError),
        ({"iccid": "8999000000000000000"}, errors.NotFound),
        ({"orderNum": "EP1"}, errors.NotFound),
        ({"orderNum": whole["orderNum"], "iccid": sandbox.iccids[0]}, errors.NotFound),
        ({"orderNum": sandbox.foreign_order_num}, errors.NotYourOrder),
        ({}, errors.MissingParameter),
    ]
    for params, error in refusals:
        with pytest.raises(error):
            await renew(client, **params)
    assert len(sandbox.orders) == 2
    await renew(client, orderNum=whole["orderNum"])
    assert sandbox.orders[2].iccids == ours[1:]


# Afterwards.


async def test_refunds_take_a_minute_and_happen_once(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    whole = await place(client, count=2)
    number, (first, second) = whole["orderNum"], sandbox.orders[0].iccids

    async def status() -> int:
        shown = (await read(client, "getOrderInfo", orderNum=number))["status"]
        assert shown == sandbox.orders[0].status
        return int(shown)

    assert await spend(client, "refundOrder", orderNum=number, iccids=first) is None
    assert await status() == 7
    sandbox.clock.advance(60)
    assert await status() == 4
    with pytest.raises(errors.OrderStateError):
        await spend(client, "refundOrder", orderNum=number, iccids=first)
    await spend(client, "refundOrder", orderNum=number, iccids=second)
    assert await status() == 6
    sandbox.clock.advance(60)
    assert await status() == 2
    with pytest.raises(errors.OrderStateError):
        await spend(client, "refundOrder", orderNum=number, iccids=f"{first},{second}")


async def test_an_order_ends_with_its_plans(sandbox: Sandbox, client: MioEsimClient) -> None:
    number = (await place(client))["orderNum"]
    sandbox.clock.advance(7 * DAY - 60)
    assert sandbox.orders[0].status == 0
    sandbox.clock.advance(60)
    assert (await read(client, "getOrderInfo", orderNum=number))["status"] == 5
    with pytest.raises(errors.OrderStateError):
        await spend(client, "refundOrder", orderNum=number, iccids=sandbox.orders[0].iccids[0])
    (card,) = await client.cards.query(sandbox.orders[0].iccids)
    assert card.dp_status == "Disable"


async def test_pdfs_are_links_or_a_mail(sandbox: Sandbox, client: MioEsimClient) -> None:
    number = (await place(client, count=2))["orderNum"]
    iccids = sandbox.orders[0].iccids
    links = await read(client, "handlerEsimPdf", type="link", orderId=number)
    assert [*links] == iccids
    assert all(re.fullmatch(r"http://.+//.+\.pdf", url) for url in links.values())
    assert [
        *await read(client, "handlerEsimPdf", type="link", orderId=number, iccids=iccids[1])
    ] == [iccids[1]]
    assert sandbox.mails == []
    asked = {"type": "email", "orderId": number, "email": "user@example.com"}
    assert await client.call("/api_esim/handlerEsimPdf", asked, safety=Safety.WRITE) is None
    assert sandbox.mails == [SandboxMail(number, "user@example.com", (*iccids,))]
    await place(client, customerEmail="other@example.com", isSendEmail=1)
    assert sandbox.mails[1].email == "other@example.com"


@pytest.mark.parametrize(
    ("name", "number", "more"),
    [
        ("getOrderInfo", "orderNum", {}),
        ("refundOrder", "orderNum", {"iccids": "1"}),
        ("handlerEsimPdf", "orderId", {"type": "link"}),
    ],
)
async def test_orders_that_are_not_there_or_not_ours_are_refused(
    sandbox: Sandbox, client: MioEsimClient, name: str, number: str, more: dict[str, Any]
) -> None:
    with pytest.raises(errors.MissingParameter):
        await read(client, name, **more)
    with pytest.raises(errors.NotFound):
        await read(client, name, **{number: "EP20240124999999"}, **more)
    with pytest.raises(errors.NotYourOrder):
        await read(client, name, **{number: sandbox.foreign_order_num}, **more)


async def test_cards_of_another_order_are_refused(sandbox: Sandbox, client: MioEsimClient) -> None:
    number, other = (await place(client))["orderNum"], sandbox.iccids[0]
    with pytest.raises(errors.NotFound):
        await spend(client, "refundOrder", orderNum=number, iccids=other)
    with pytest.raises(errors.NotFound):
        await read(client, "handlerEsimPdf", type="link", orderId=number, iccids=other)
    assert sandbox.orders[0].status == 0

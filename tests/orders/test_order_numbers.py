"""The order number of an error, and of the journal, is that of the new order, or there is none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from shopping import PLAN, buy

from mioesim_async import MioEsimClient, OrderJournal, Safety, errors
from mioesim_async.rows.orders import new_order_num
from mioesim_async.sandbox import Fault, Sandbox

NEW, OLD = "EP20260101000002", "EP20260101000001"
ICCID = "8985000000000000001"
BY_ORDER = {"skuId": 45, "priceId": 441}
WHOLE: dict[str, Any] = {
    "code": 0,
    "message": "success",
    "data": {
        "mainOrderNum": OLD,
        "orderNum": NEW,
        "status": 0,
        "cardApiDtoList": [{"iccid": ICCID, "data": "6GB"}],
    },
}


async def told(
    client: MioEsimClient, journal: OrderJournal, reference: str, **renewed: str
) -> str | None:
    """Buy, and return the number that the error has; the journal must have the same."""
    arguments: dict[str, Any] = {**PLAN, "other_order_id": reference, **renewed}
    buying = client.orders.renew if renewed else client.orders.place
    with pytest.raises((errors.OutcomeUnknown, errors.OrderIncomplete)) as caught:
        await buying(**arguments, **({} if renewed else {"count": 1}))
    entry = await journal.find(client.account, reference)
    assert entry is not None
    assert entry.order_num == caught.value.order_num
    return caught.value.order_num


@pytest.mark.parametrize("renewed", [{}, {"iccid": ICCID}, {"order_num": OLD}], ids=str)
async def test_a_reply_that_is_cut_off_at_any_byte_gives_the_whole_number_or_none(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal, renewed: dict[str, str]
) -> None:
    body = json.dumps(WHOLE).encode()
    number_ends = body.index(NEW.encode()) + len(NEW) + 1
    await buyer.login()
    for cut in (*range(number_ends - 20, number_ends + 4), len(body) - 1):
        endpoint = "renewCard" if renewed else "addEsimOrder"
        sandbox.faults.add(Fault.truncate(body[:cut]), endpoint)
        expected = NEW if cut >= number_ends else None
        assert await told(buyer, journal, f"cut {cut}", **renewed) == expected, body[:cut]


FOREIGN: list[Any] = [
    {"mainOrderNum": OLD, "renewal": True},
    {"x": 1, "renewOrderNum": [OLD, NEW]},
    {"result": {"mainOrderNum": OLD}},
    {"note": f"see order {OLD}"},
    {"orderNum": OLD, "other": {"orderNum": NEW}},
    [OLD, NEW],
    {"orderNum": "no digits"},
    None,
]


@pytest.mark.parametrize("code", [0, -3, 99])
@pytest.mark.parametrize("data", FOREIGN, ids=str)
async def test_a_number_that_may_be_another_order_s_is_none(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal, data: Any, code: int
) -> None:
    body = json.dumps({"code": code, "message": "x", "data": data}).encode()
    for reference, renewed in (("renewed by card", {"iccid": ICCID}), ("placed", {})):
        if code == 0 and isinstance(data, dict) and "orderNum" in data:
            continue  # A success in the form of an order says which number is its own.
        sandbox.faults.add(Fault.replaced(body), "renewCard" if renewed else "addEsimOrder")
        assert await told(buyer, journal, reference, **renewed) is None


@pytest.mark.parametrize("data", [OLD, {"orderNum": OLD}])
async def test_what_an_unclear_reply_to_a_renewal_names_alone_may_be_the_renewed_order(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal, data: Any
) -> None:
    body = json.dumps({"code": -3, "message": "x", "data": data}).encode()
    for renewed in ({"iccid": ICCID}, {"order_num": OLD}, {"order_num": NEW}):
        sandbox.faults.add(Fault.replaced(body), "renewCard")
        assert await told(buyer, journal, str(renewed), **renewed) is None


RENEWED: list[dict[str, Any]] = [
    {"orderNum": OLD, "mainOrderNum": OLD, "renewal": True, "status": 0},
    {"orderNum": OLD, "renewOrderNum": [NEW], "renewal": False, "status": 0},
    {"orderNum": OLD, "renew_order_num": NEW, "mainOrderNum": "EP20250101000001", "status": 0},
    {"order": {"orderNum": OLD, "renewOrderNum": [NEW], "mainOrderNum": "EP20250101000001"}},
]


@pytest.mark.parametrize("code", [0, -3])
@pytest.mark.parametrize("in_a_list", [False, True])
@pytest.mark.parametrize("row", RENEWED, ids=str)
async def test_the_row_of_the_renewed_order_is_not_taken_for_the_new_one(
    sandbox: Sandbox,
    buyer: MioEsimClient,
    journal: OrderJournal,
    row: dict[str, Any],
    in_a_list: bool,
    code: int,
) -> None:
    body = json.dumps({"code": code, "message": "x", "data": [row] if in_a_list else row})
    for cut in (0, 2):
        text = body[: len(body) - cut].encode()
        fault = Fault.truncate(text) if cut else Fault.replaced(text)
        sandbox.faults.add(fault, "renewCard")
        assert await told(buyer, journal, f"cut by {cut}", iccid=ICCID) is None


@pytest.mark.parametrize("renewals", [None, [], "", "[]"])
async def test_a_renewal_without_renewals_of_its_own_is_the_new_order(
    sandbox: Sandbox, buyer: MioEsimClient, renewals: Any
) -> None:
    data = {**WHOLE["data"], "renewOrderNum": renewals, "renewal": True}
    body = json.dumps({"code": 0, "message": "success", "data": data}).encode()
    sandbox.faults.add(Fault.replaced(body), "renewCard")
    assert (await buyer.orders.renew(**PLAN, iccid=ICCID)).order_num == NEW


async def test_a_new_order_may_name_itself_as_its_main_order(
    sandbox: Sandbox, buyer: MioEsimClient
) -> None:
    data = {**WHOLE["data"], "mainOrderNum": NEW}
    body = json.dumps({"code": 0, "message": "success", "data": data}).encode()
    sandbox.faults.add(Fault.replaced(body), "addEsimOrder")
    assert (await buy(buyer, "shop-1")).order_num == NEW


async def test_the_generic_call_names_no_order_that_it_renews_and_the_one_that_it_refunds(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    for name, expected in (("renewCard", None), ("anythingElse", None), ("refundOrder", OLD)):
        sandbox.faults.add(Fault.lose_reply(), name)
        with pytest.raises(errors.OutcomeUnknown) as caught:
            await client.call(
                f"/api_esim/{name}", {**BY_ORDER, "orderNum": OLD}, safety=Safety.MONEY
            )
        assert caught.value.order_num == expected


@pytest.mark.parametrize("where", ["at the start", "at the end", "nowhere"])
@pytest.mark.parametrize("size", [300_000, 3_000_000])
async def test_a_reply_over_the_limit_is_searched_for_its_number(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal, where: str, size: int
) -> None:
    number = {} if where == "nowhere" else {"orderNum": NEW}
    filler = {"cards": ["8985" * 5] * (size // 23)}
    data = {**number, **filler} if where == "at the start" else {**filler, **number}
    body = json.dumps({"code": 0, "message": "success", "data": data}).encode()
    sandbox.faults.add(Fault.replaced(body), "addEsimOrder")
    assert await told(buyer, journal, "shop-1") == (None if where == "nowhere" else NEW)
    assert len([one for one in sandbox.requests if one.endpoint == "addEsimOrder"]) == 1


async def test_a_reply_of_a_million_values_is_searched_for_its_number(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal
) -> None:
    body = b'{"code":0,"data":{"x":[%s1],"orderNum":"%s"}}' % (b"1," * 120_000, NEW.encode())
    sandbox.faults.add(Fault.replaced(body), "addEsimOrder")
    assert await told(buyer, journal, "shop-1") == NEW


async def test_a_large_order_is_read_whole(sandbox: Sandbox, buyer: MioEsimClient) -> None:
    order = await buyer.orders.place(**PLAN, count=1000)
    assert len(order.cards) == 1000
    assert len((await buyer.orders.get(order.order_num)).cards) == 1000


TEXTS = {
    f'{{"orderNum":"{NEW}"': NEW,
    f'{{"order_num" : "{NEW}"}}': NEW,
    f'{{\\"orderNum\\":\\"{NEW}\\"': NEW,
    f"{{'orderNum':'{NEW}'": NEW,
    f'"data":"{NEW}"': NEW,
    '"orderNum":20260101000002,': "20260101000002",
    '"orderNum":20260101000002': None,
    f'"orderNum":"{NEW}': None,
    f'"orderNum":"{NEW},{OLD}"': None,
    '"data":"6GB"': None,
    f'"mainOrderNum":"{OLD}"': None,
    f'"renewOrderNum":["{OLD}"]': None,
    f'"orderNum":"{NEW}","renewOrderNum":["{OLD}"]': NEW,
    f"see {OLD}": None,
    NEW: None,
}


@pytest.mark.parametrize("text", TEXTS)
def test_text_gives_a_number_only_where_it_is_named_and_whole(text: str) -> None:
    assert new_order_num(text, is_text=True) == TEXTS[text]


async def test_an_order_that_could_not_be_placed_twice_keeps_its_number(
    sandbox: Sandbox, buyer: MioEsimClient
) -> None:
    order = await buy(buyer, "shop-1")
    assert (await buy(buyer, "shop-1")).order_num == order.order_num

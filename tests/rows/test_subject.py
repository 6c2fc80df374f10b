"""A reply that is about something else than what was asked is never handed out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from shopping import PLAN, buy

from mioesim_async import MioEsimClient, errors
from mioesim_async.sandbox import Fault, Sandbox

CARD, OTHER = "8985000000000000001", "8985000000000000002"
ORDER, FOREIGN = "EP20260101000001", "EP20260101000002"


def answer(data: Any) -> Fault:
    return Fault.replaced(json.dumps({"code": 0, "data": data}).encode())


def usage(order_num: str, *iccids: str) -> dict[str, Any]:
    return {"orderNum": order_num, "packageList": [{"iccid": iccid} for iccid in iccids]}


def ask(client: MioEsimClient, name: str) -> Any:
    calls: dict[str, Any] = {
        "usage of an order": lambda: client.orders.usage(order_num=ORDER),
        "usage of a card": lambda: client.orders.usage(iccid=CARD),
        "links": lambda: client.orders.pdf_links(ORDER, [CARD]),
        "all links": lambda: client.orders.pdf_links(ORDER),
        "stock": lambda: client.orders.check_stock(**PLAN, count=1),
        "order": lambda: client.orders.get(ORDER),
        "history": lambda: client.cards.history(CARD),
        "renewal SKUs": lambda: client.cards.renewal_skus(CARD),
        "renewal packages": lambda: client.cards.renewal_packages(CARD),
    }
    return calls[name]()


ENDPOINTS = {
    "usage of an order": "queryEsimOrder",
    "usage of a card": "queryEsimOrder",
    "links": "handlerEsimPdf",
    "all links": "handlerEsimPdf",
    "stock": "verifyResource",
    "order": "getOrderInfo",
    "history": "getHistoryDetail",
    "renewal SKUs": "getIccidSupportSku",
    "renewal packages": "getIccidSupportPackageInfo",
}

PACKAGES = {"skuid": 45, "esimPackageDtoList": []}
OTHERS: list[tuple[str, Any]] = [
    ("usage of an order", {"total": 1, "rows": [usage(FOREIGN, CARD)]}),
    ("usage of an order", [usage(FOREIGN), usage("EP20260101000003")]),
    ("usage of a card", {"total": 1, "rows": [usage(ORDER, OTHER)]}),
    ("links", {OTHER: "http://x"}),
    ("links", {CARD: "http://x", OTHER: "http://x"}),
    ("stock", {"skuid": 46, "priceid": 441}),
    ("stock", {"skuId": "45", "price_id": "442"}),
    ("order", {"orderNum": FOREIGN, "status": 0}),
    ("history", [{"orderNum": ORDER, "iccid": OTHER}]),
    ("history", [{"orderNum": ORDER, "iccid": CARD}, {"orderNum": FOREIGN, "ICCID": OTHER}]),
    ("history", [{"orderNum": ORDER, "iccId": int(OTHER)}]),
    ("history", {"iccid": OTHER, "rows": [{"orderNum": ORDER}]}),
    ("history", {OTHER: [{"orderNum": ORDER}]}),
    ("renewal SKUs", [{"skuid": 45, "iccid": OTHER}]),
    ("renewal packages", PACKAGES | {"iccid": OTHER}),
    ("renewal packages", [PACKAGES | {"iccid": f" {OTHER[:4]} {OTHER[4:]}F"}]),
]


@pytest.mark.parametrize(("name", "data"), OTHERS)
async def test_a_reply_about_something_else_is_an_error(
    sandbox: Sandbox, client: MioEsimClient, name: str, data: Any
) -> None:
    sandbox.faults.add(answer(data), ENDPOINTS[name], times=None)
    with pytest.raises(errors.ProtocolError, match="about another") as caught:
        await ask(client, name)
    assert caught.value.endpoint == f"/api_esim/{ENDPOINTS[name]}"
    assert OTHER not in str(caught.value)
    assert len([seen for seen in sandbox.requests if seen.endpoint == ENDPOINTS[name]]) == 1


SAME: list[tuple[str, Any, Any]] = [
    ("usage of an order", {"total": 1, "rows": [usage(ORDER, OTHER)]}, 1),
    ("usage of an order", [usage(ORDER), usage(FOREIGN)], 2),
    ("usage of an order", [{"status": 0}], 1),
    ("usage of an order", {"total": 0}, 0),
    ("usage of a card", [usage(ORDER, OTHER, CARD)], 1),
    ("usage of a card", [usage(ORDER)], 1),
    ("links", {CARD: "http://x"}, 1),
    ("links", {}, 0),
    ("all links", {OTHER: "http://x"}, 1),
    ("stock", None, True),
    ("stock", "enough", True),
    ("stock", {"skuid": "45", "priceId": 441, "count": 1}, True),
    ("stock", {"skuid": None, "priceid": "?"}, True),
    ("history", [{"orderNum": ORDER, "iccid": CARD}, {"orderNum": FOREIGN, "iccid": None}], 2),
    ("history", [{"orderNum": ORDER, "iccid": "8985****0002"}], 1),
    ("renewal SKUs", [{"skuid": 45, "iccid": int(CARD)}], 1),
    ("renewal packages", PACKAGES | {"iccid": CARD}, 1),
]


@pytest.mark.parametrize(("name", "data", "expected"), SAME)
async def test_a_reply_that_names_what_was_asked_for_or_nothing_is_taken(
    sandbox: Sandbox, client: MioEsimClient, name: str, data: Any, expected: Any
) -> None:
    sandbox.faults.add(answer(data), ENDPOINTS[name])
    found = await ask(client, name)
    assert (found if isinstance(found, bool) else len(found)) == expected


async def test_a_search_that_ignores_the_reference_is_no_error(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sandbox.faults.add(answer([{"orderNum": FOREIGN, "otherOrderId": "another"}]), "queryOrder")
    (order,) = await client.orders.search(other_order_id="shop-1")
    assert order.order_num == FOREIGN


async def test_what_the_sandbox_says_of_a_card_is_about_that_card(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    order = await buy(client)
    (card,) = order.cards
    assert len(await client.orders.usage(iccid=card.iccid)) == 1
    assert [*await client.orders.pdf_links(order.order_num, card.iccid)] == [card.iccid]
    assert len(await client.cards.history(card.iccid)) == 1

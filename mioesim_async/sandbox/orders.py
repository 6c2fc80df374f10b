"""The sandbox's orders: how they are placed, renewed, refunded and looked up.

An order takes effect as a whole or not at all. The codes of refusals are the vendor's, with
these assumptions: -2 also refuses a value that can't be right, ``OUT_OF_STOCK`` an order for more
cards than are left, -10 physical SIMs without ``dpId``, 3 what does not exist. A reference
(``otherOrderId``) may be used again, and makes another order (assumed). A plan starts on its
first day, or when it is bought; a renewal starts when the card's last plan ends. A refunded card
keeps its plans, and can't be renewed (all assumed).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

from mioesim_async.clock import GMT8
from mioesim_async.models.orders import OrderStatus
from mioesim_async.sandbox import catalogue
from mioesim_async.sandbox.cards import AccountCards, pdf_url
from mioesim_async.sandbox.clock import SandboxClock
from mioesim_async.sandbox.order_rows import card_rows, order_row, usage_row
from mioesim_async.sandbox.params import Params, Refusal, day, items, number, number_or_none, text
from mioesim_async.sandbox.recorded import SandboxMail, SandboxOrder, vendor_now
from mioesim_async.wire.endpoints import (
    ADD_ESIM_ORDER,
    ADD_ESIM_ORDER_BY_API_CODE,
    GET_ORDER_INFO,
    HANDLER_ESIM_PDF_LINK,
    QUERY_ESIM_ORDER,
    QUERY_ORDER,
    REFUND_ORDER,
    RENEW_CARD,
    RENEW_CARD_BY_API_CODE,
    VERIFY_RESOURCE,
)

__all__ = ["FOREIGN_ORDER_NUM", "FORMS", "ORDER_HANDLERS", "SEARCHES", "AccountOrders"]

OUT_OF_STOCK = 51
"""Code of an order for more cards than are left (assumed; the vendor lists none)."""

FOREIGN_ORDER_NUM = "EP20240124000013"
MAX_COUNT = 1000
PAGE_SIZE = 10
SEARCHES = ("by reference", "ignores references", "lists all")
REFUNDABLE = (OrderStatus.PAID, OrderStatus.PARTLY_CANCELLED, OrderStatus.PARTLY_CANCELLING)

SkuAndPlan = tuple[catalogue.SandboxSku, catalogue.Plan]


def _by_ids(params: Params) -> SkuAndPlan:
    return catalogue.find_plan(number(params, "skuId"), number(params, "priceId"))


def _by_api_code(params: Params) -> SkuAndPlan:
    return catalogue.find_plan_by_api_code(text(params, "apiCode"))


class AccountOrders:
    """The account's orders.

    Attributes:
        placed: Orders and renewals that were placed, oldest first.
        mails: Mails with PDFs, oldest first.
        stock: Cards left, by SKU and price id; a plan that is not listed is unlimited.
        cards: The cards.
        clock: The sandbox's time.
    """

    def __init__(self, cards: AccountCards, clock: SandboxClock, *, form: str, search: str) -> None:
        """Start without an order."""
        self.placed: list[SandboxOrder] = []
        self.mails: list[SandboxMail] = []
        self.stock: dict[tuple[int, int], int] = {}
        self.cards = cards
        self.clock = clock
        self._form = FORMS[form]
        self._search = search
        self._by_num: dict[str, SandboxOrder] = {}

    # Buying.

    def place(self, params: Params, item: Callable[[Params], SkuAndPlan]) -> Any:
        """Place an order for new eSIMs, or for physical SIMs."""
        sku, plan = item(params)
        count = number(params, "count")
        if not 1 <= count <= MAX_COUNT:
            raise Refusal(-2, f"count must be 1 to {MAX_COUNT}")
        first_day = day(params, "beginDate")
        if plan.must_date and first_day is None:
            raise Refusal(-2, "beginDate is missing")
        days = _daypass_days(params, plan)
        sims = _ordered_sims(params, sku, count)
        self._take_stock(sku, plan, count)
        now = vendor_now(self.clock)
        starts_at = now if first_day is None else dt.datetime.combine(first_day, dt.time(), GMT8)
        for iccid in sims:
            self.cards.add_sim(iccid)
        iccids = sims or [self.cards.add_esim() for _ in range(count)]
        order = self._add_order(params, sku, plan, days, iccids, starts_at)
        order.dp_id = number_or_none(params, "dpId")
        if params.get("isSendEmail") in ("1", "true") and params.get("customerEmail"):
            self.mails.append(SandboxMail(order.order_num, params["customerEmail"], (*iccids,)))
        return self._reply(order, params)

    def renew(self, params: Params, item: Callable[[Params], SkuAndPlan]) -> Any:
        """Renew one card, or all cards of an order."""
        sku, plan = item(params)
        if not params.get("orderNum") and not params.get("iccid"):
            raise Refusal(-2, "orderNum or iccid is missing")
        iccid = params.get("iccid", "")
        if iccid and iccid not in self.cards:
            raise Refusal(3, "no such card")
        named = self._find_order(params.get("orderNum") or self.cards.first_order_num(iccid))
        if iccid and iccid not in named.iccids:
            raise Refusal(3, "the card is not of this order")
        main = named if named.main_order_num is None else self._find_order(named.main_order_num)
        iccids = [
            card
            for card in ([iccid] if iccid else named.iccids)
            if card not in named.refunds and card not in main.refunds
        ]
        if not iccids or plan.flow_type or catalogue.PLANS[main.price_id].flow_type:
            raise Refusal(4, "the order can't be renewed")
        days = _daypass_days(params, plan)
        self._take_stock(sku, plan, len(iccids))
        starts_at = max(vendor_now(self.clock), *(self.cards.ends_at(card) for card in iccids))
        order = self._add_order(params, sku, plan, days, iccids, starts_at, main)
        main.renewals.append(order.order_num)
        return self._reply(order, params)

    def _take_stock(self, sku: catalogue.SandboxSku, plan: catalogue.Plan, count: int) -> None:
        key = (sku.sku_id, plan.price_id)
        if key in self.stock:
            if count > self.stock[key]:
                raise Refusal(OUT_OF_STOCK, "out of stock")
            self.stock[key] -= count

    def _add_order(
        self,
        params: Params,
        sku: catalogue.SandboxSku,
        plan: catalogue.Plan,
        days: int | None,
        iccids: list[str],
        starts_at: dt.datetime,
        main: SandboxOrder | None = None,
    ) -> SandboxOrder:
        now = vendor_now(self.clock)
        length = days or plan.days
        order = SandboxOrder(
            order_num=f"EP{now:%Y%m%d}{len(self.placed) + 1:06d}",
            other_order_id=params.get("otherOrderId") or None,
            sku_id=sku.sku_id,
            price_id=plan.price_id,
            display=catalogue.show_name(sku, plan),
            data=plan.data,
            total_mb=plan.size_mb * (days or 1),
            days=length,
            daypass_days=days,
            count=len(iccids),
            iccids=iccids,
            dp_id=None,
            is_renewal=main is not None,
            main_order_num=None if main is None else main.order_num,
            price=plan.cost(days) * len(iccids),
            purchased_at=now,
            starts_at=starts_at,
            ends_at=starts_at + dt.timedelta(days=length),
            clock=self.clock,
        )
        self.placed.append(order)
        self._by_num[order.order_num] = order
        for iccid in iccids:
            self.cards.orders_by_iccid.setdefault(iccid, []).append(order)
        return order

    def _reply(self, order: SandboxOrder, params: Params) -> Any:
        return self._form(self, order, params.get("backInfo", ""))

    # Orders that were placed.

    def _find_order(self, order_num: str) -> SandboxOrder:
        """Return an order of the account, also one that a seeded card came with, or refuse."""
        if order_num == FOREIGN_ORDER_NUM:
            raise Refusal(22, "the order is not yours")
        order = self._by_num.get(order_num) or self._seeded_order(order_num)
        if order is None:
            raise Refusal(3, "no such order")
        return order

    def _seeded_order(self, order_num: str) -> SandboxOrder | None:
        iccid = self.cards.seeded_card(order_num)
        if iccid is None:
            return None
        sku, plan = catalogue.find_plan(self.cards.seeded_sku(iccid), catalogue.SEEDED_PRICE)
        ends_at = self.cards.seeded_end(iccid)
        order = self._by_num[order_num] = SandboxOrder(
            order_num=order_num,
            other_order_id=None,
            sku_id=sku.sku_id,
            price_id=plan.price_id,
            display=catalogue.show_name(sku, plan),
            data=plan.data,
            total_mb=plan.size_mb,
            days=plan.days,
            daypass_days=None,
            count=1,
            iccids=[iccid],
            dp_id=None,
            is_renewal=False,
            main_order_num=None,
            price=plan.cost(None),
            purchased_at=dt.datetime(2025, 12, 24, 17, 30, 14, tzinfo=GMT8),
            starts_at=ends_at - dt.timedelta(days=31),
            ends_at=ends_at,
            clock=self.clock,
        )
        return order

    def whole_order(self, order: SandboxOrder) -> dict[str, Any]:
        """Return an order with its cards, as the vendor writes it."""
        return order_row(order) | {
            "outerOrderid": int(order.order_num[-6:]),
            "cardApiDtoList": card_rows(order, self.cards),
        }

    def info(self, params: Params) -> Any:
        """Answer ``getOrderInfo``."""
        return self.whole_order(self._find_order(text(params, "orderNum")))

    def refund(self, params: Params) -> None:
        """Refund cards of an order, each at most once."""
        text(params, "iccids")
        order = self._find_order(text(params, "orderNum"))
        asked = _cards_of(order, params)
        if order.status not in REFUNDABLE or any(iccid in order.refunds for iccid in asked):
            raise Refusal(4, "the order's status does not allow it")
        order.refunds |= dict.fromkeys(asked, self.clock.time())

    def pdf(self, params: Params) -> dict[str, str] | None:
        """Give links to PDFs, or remember the mail that would be sent."""
        kind = text(params, "type")
        order = self._find_order(text(params, "orderId"))
        asked = _cards_of(order, params)
        if kind == "link":
            return {iccid: pdf_url(iccid) for iccid in asked}
        if kind != "email":
            raise Refusal(-2, "type must be link or email")
        email = text(params, "email")
        self.mails.append(SandboxMail(order.order_num, email, (*asked,)))
        return None

    def verify(self, params: Params) -> None:
        """Refuse where there is not enough stock."""
        sku, plan = catalogue.find_plan(number(params, "skuid"), number(params, "priceid"))
        if number(params, "count") > self.stock.get((sku.sku_id, plan.price_id), MAX_COUNT):
            raise Refusal(OUT_OF_STOCK, "out of stock")

    # Lists of orders.

    def search(self, params: Params) -> dict[str, Any]:
        """Search orders, newest first; both days, GMT+8, are included (assumed)."""
        first = day(params, "startDate", -8, forms=2) or dt.date.min
        last = day(params, "endDate", -8, forms=2) or dt.date.max
        wanted = params.get("outerOrderId", "") if self._search == SEARCHES[0] else ""
        found = [
            order
            for order in reversed(self.placed)
            if first <= order.purchased_at.date() <= last and wanted in ("", order.other_order_id)
        ]
        size = number_or_none(params, "pageSize") or PAGE_SIZE
        return {"total": len(found), "rows": [self._search_row(order) for order in found[:size]]}

    def _search_row(self, order: SandboxOrder) -> dict[str, Any]:
        row = self.whole_order(order)
        if self._search != "ignores references":
            # Two fields whose names differ only in case; a row of a search has one of them.
            del row["outerOrderid"]
            row["outerOrderId"] = order.other_order_id
        return row

    def usage(self, params: Params) -> dict[str, Any]:
        """Return a page of orders with the usage of their plans, newest first."""
        order_num, iccid = params.get("orderNum", ""), params.get("iccid", "")
        if not order_num and not iccid:
            raise Refusal(-2, "iccid or orderNum is missing")
        if order_num == FOREIGN_ORDER_NUM:
            raise Refusal(22, "the order is not yours")
        found = [
            order
            for order in reversed(self.placed)
            if order_num in ("", order.order_num) and (not iccid or iccid in order.iccids)
        ]
        page = number_or_none(params, "pageNo") or 1
        size = number_or_none(params, "pageSize") or PAGE_SIZE
        rows = [
            usage_row(order, self.cards, [iccid] if iccid else order.iccids)
            for order in found[(page - 1) * size : page * size]
        ]
        return {"total": len(found), "page": page, "rows": rows}


def _daypass_days(params: Params, plan: catalogue.Plan) -> int | None:
    if not plan.daypass:
        return None
    days = number(params, "daypassDays")
    allowed = plan.choices or range(plan.min_day, plan.max_day + 1)
    if days not in allowed:
        raise Refusal(-2, "daypassDays is not allowed")
    return days


def _ordered_sims(params: Params, sku: catalogue.SandboxSku, count: int) -> list[str]:
    iccids = items(params, "iccids")
    if not iccids and not params.get("dpId"):
        return []
    if sku.sku_id not in catalogue.partner_skus(number(params, "dpId", -10)):
        raise Refusal(3, "the partner's SIMs don't support this SKU")
    if len(iccids) != count or not all(iccid.isascii() and iccid.isdigit() for iccid in iccids):
        raise Refusal(-2, "iccids must be as many as count")
    return iccids


def _cards_of(order: SandboxOrder, params: Params) -> list[str]:
    asked = items(params, "iccids") or list(order.iccids)
    if not set(asked) <= set(order.iccids):
        raise Refusal(3, "a card is not of this order")
    return asked


def _by_back_info(orders: AccountOrders, order: SandboxOrder, back_info: str) -> Any:
    if back_info == "1":
        return orders.whole_order(order)
    if back_info == "2":
        pdfs = [{"iccid": iccid, "pdfUrl": pdf_url(iccid)} for iccid in order.iccids]
        return {"orderNum": order.order_num, "cardApiDtoList": pdfs}
    return order.order_num


FORMS: Mapping[str, Callable[[AccountOrders, SandboxOrder, str], Any]] = {
    "order": _by_back_info,
    "number": lambda _, order, __: order.order_num,
    "object with number only": lambda _, order, __: {"orderNum": order.order_num},
    "list": lambda orders, order, _: [orders.whole_order(order)],
    "strange": lambda orders, order, _: {"result": {"list": [orders.whole_order(order)]}},
    "nothing": lambda _, __, ___: None,
}
"""Makes the reply to an order or renewal, by ``order_form``."""

ORDER_HANDLERS: Mapping[str, Callable[[AccountOrders, Params], Any]] = {
    ADD_ESIM_ORDER.path: lambda orders, params: orders.place(params, _by_ids),
    ADD_ESIM_ORDER_BY_API_CODE.path: lambda orders, params: orders.place(params, _by_api_code),
    RENEW_CARD.path: lambda orders, params: orders.renew(params, _by_ids),
    RENEW_CARD_BY_API_CODE.path: lambda orders, params: orders.renew(params, _by_api_code),
    REFUND_ORDER.path: AccountOrders.refund,
    HANDLER_ESIM_PDF_LINK.path: AccountOrders.pdf,
    GET_ORDER_INFO.path: AccountOrders.info,
    VERIFY_RESOURCE.path: AccountOrders.verify,
    QUERY_ORDER.path: AccountOrders.search,
    QUERY_ESIM_ORDER.path: AccountOrders.usage,
}
"""The handler of each endpoint for orders, by path."""

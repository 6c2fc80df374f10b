"""The sandbox's order book: what is bought, renewed, refunded and looked up.

An order takes effect as a whole or not at all. The codes of refusals are the vendor's, with
these assumptions: -2 also refuses a value that can't be right, ``OUT_OF_STOCK`` an order beyond
the stock, -10 physical SIMs without ``dpId``, 3 what does not exist. A reference
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
from mioesim_async.sandbox.cards import World, pdf_url
from mioesim_async.sandbox.clock import SandboxClock
from mioesim_async.sandbox.order_rows import card_rows, order_row, usage_row
from mioesim_async.sandbox.params import Params, Refusal, day, names, need, whole, whole_or_none
from mioesim_async.sandbox.recorded import SandboxMail, SandboxOrder, now_at
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

__all__ = ["FOREIGN_ORDER_NUM", "FORMS", "ORDERS", "OUT_OF_STOCK", "SEARCHES", "OrderBook"]

OUT_OF_STOCK = 51
"""Code of an order beyond the stock (assumed; the vendor lists none)."""

FOREIGN_ORDER_NUM = "EP20240124000013"
MAX_COUNT = 1000
PAGE_SIZE = 10
SEARCHES = ("by reference", "ignores references", "lists all")
LIVE = (OrderStatus.PAID, OrderStatus.PARTLY_CANCELLED, OrderStatus.PARTLY_CANCELLING)

Item = tuple[catalogue.SkuLine, catalogue.Plan]


def _by_ids(params: Params) -> Item:
    return catalogue.find(whole(params, "skuId"), whole(params, "priceId"))


def _by_api_code(params: Params) -> Item:
    return catalogue.by_api_code(need(params, "apiCode"))


class OrderBook:
    """The account's orders.

    Attributes:
        orders: Orders and renewals, oldest first.
        mails: Mails with PDFs, oldest first.
        stock: Cards left, by SKU and price id; absent is unlimited.
        world: The cards.
        clock: The sandbox's time.
    """

    def __init__(self, world: World, clock: SandboxClock, *, form: str, search: str) -> None:
        """Start without an order."""
        self.orders: list[SandboxOrder] = []
        self.mails: list[SandboxMail] = []
        self.stock: dict[tuple[int, int], int] = {}
        self.world = world
        self.clock = clock
        self._form = FORMS[form]
        self._search = search
        self._by_num: dict[str, SandboxOrder] = {}

    # Buying.

    def place(self, params: Params, item: Callable[[Params], Item]) -> Any:
        """Place an order for new eSIMs, or for physical SIMs."""
        sku, plan = item(params)
        count = whole(params, "count")
        if not 1 <= count <= MAX_COUNT:
            raise Refusal(-2, f"count must be 1 to {MAX_COUNT}")
        first_day = day(params, "beginDate")
        if plan.must_date and first_day is None:
            raise Refusal(-2, "beginDate is missing")
        days = _daypass_days(params, plan)
        sims = _sims(params, sku, count)
        self._take_stock(sku, plan, count)
        now = now_at(self.clock)
        starts_at = now if first_day is None else dt.datetime.combine(first_day, dt.time(), GMT8)
        for iccid in sims:
            self.world.add_sim(iccid)
        iccids = sims or [self.world.add_esim() for _ in range(count)]
        order = self._enter(params, sku, plan, days, iccids, starts_at)
        order.dp_id = whole_or_none(params, "dpId")
        if params.get("isSendEmail") in ("1", "true") and params.get("customerEmail"):
            self.mails.append(SandboxMail(order.order_num, params["customerEmail"], (*iccids,)))
        return self._reply(order, params)

    def renew(self, params: Params, item: Callable[[Params], Item]) -> Any:
        """Renew one card, or all cards of an order."""
        sku, plan = item(params)
        if not params.get("orderNum") and not params.get("iccid"):
            raise Refusal(-2, "orderNum or iccid is missing")
        iccid = params.get("iccid", "")
        if iccid and iccid not in self.world:
            raise Refusal(3, "no such card")
        named = self._order(params.get("orderNum") or self.world.first_order_num(iccid))
        if iccid and iccid not in named.iccids:
            raise Refusal(3, "the card is not of this order")
        main = named if named.main_order_num is None else self._order(named.main_order_num)
        iccids = [
            card
            for card in ([iccid] if iccid else named.iccids)
            if card not in named.refunds and card not in main.refunds
        ]
        if not iccids or plan.flow_type or catalogue.PLANS[main.price_id].flow_type:
            raise Refusal(4, "the order can't be renewed")
        days = _daypass_days(params, plan)
        self._take_stock(sku, plan, len(iccids))
        starts_at = max(now_at(self.clock), *(self.world.ends_at(card) for card in iccids))
        order = self._enter(params, sku, plan, days, iccids, starts_at, main)
        main.renewals.append(order.order_num)
        return self._reply(order, params)

    def _take_stock(self, sku: catalogue.SkuLine, plan: catalogue.Plan, count: int) -> None:
        key = (sku.sku_id, plan.price_id)
        if key in self.stock:
            if count > self.stock[key]:
                raise Refusal(OUT_OF_STOCK, "out of stock")
            self.stock[key] -= count

    def _enter(
        self,
        params: Params,
        sku: catalogue.SkuLine,
        plan: catalogue.Plan,
        days: int | None,
        iccids: list[str],
        starts_at: dt.datetime,
        main: SandboxOrder | None = None,
    ) -> SandboxOrder:
        now = now_at(self.clock)
        length = days or plan.days
        order = SandboxOrder(
            order_num=f"EP{now:%Y%m%d}{len(self.orders) + 1:06d}",
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
        self.orders.append(order)
        self._by_num[order.order_num] = order
        for iccid in iccids:
            self.world.plans.setdefault(iccid, []).append(order)
        return order

    def _reply(self, order: SandboxOrder, params: Params) -> Any:
        return self._form(self, order, params.get("backInfo", ""))

    # After an order.

    def _order(self, order_num: str) -> SandboxOrder:
        """Return an order of the account, also one that a seeded card came with, or refuse."""
        if order_num == FOREIGN_ORDER_NUM:
            raise Refusal(22, "the order is not yours")
        order = self._by_num.get(order_num) or self._seeded(order_num)
        if order is None:
            raise Refusal(3, "no such order")
        return order

    def _seeded(self, order_num: str) -> SandboxOrder | None:
        iccid = self.world.seeded_card(order_num)
        if iccid is None:
            return None
        sku, plan = catalogue.find(self.world.seeded_sku(iccid), catalogue.SEEDED_PRICE)
        ends_at = self.world.seeded_end(iccid)
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
            "cardApiDtoList": card_rows(order, self.world),
        }

    def info(self, params: Params) -> Any:
        """Answer ``getOrderInfo``."""
        return self.whole_order(self._order(need(params, "orderNum")))

    def refund(self, params: Params) -> None:
        """Refund cards of an order, each at most once."""
        need(params, "iccids")
        order = self._order(need(params, "orderNum"))
        asked = _cards_of(order, params)
        if order.status not in LIVE or any(iccid in order.refunds for iccid in asked):
            raise Refusal(4, "the order's status does not allow it")
        order.refunds |= dict.fromkeys(asked, self.clock.time())

    def pdf(self, params: Params) -> dict[str, str] | None:
        """Give links to PDFs, or remember the mail that would be sent."""
        kind = need(params, "type")
        order = self._order(need(params, "orderId"))
        asked = _cards_of(order, params)
        if kind == "link":
            return {iccid: pdf_url(iccid) for iccid in asked}
        if kind != "email":
            raise Refusal(-2, "type must be link or email")
        email = need(params, "email")
        self.mails.append(SandboxMail(order.order_num, email, (*asked,)))
        return None

    def verify(self, params: Params) -> None:
        """Refuse where there is not enough stock."""
        sku, plan = catalogue.find(whole(params, "skuid"), whole(params, "priceid"))
        if whole(params, "count") > self.stock.get((sku.sku_id, plan.price_id), MAX_COUNT):
            raise Refusal(OUT_OF_STOCK, "out of stock")

    # Lists of orders.

    def search(self, params: Params) -> dict[str, Any]:
        """Search orders, newest first; days are GMT+8 and included (assumed)."""
        first = day(params, "startDate", -8, forms=2) or dt.date.min
        last = day(params, "endDate", -8, forms=2) or dt.date.max
        wanted = params.get("outerOrderId", "") if self._search == SEARCHES[0] else ""
        found = [
            order
            for order in reversed(self.orders)
            if first <= order.purchased_at.date() <= last and wanted in ("", order.other_order_id)
        ]
        size = whole_or_none(params, "pageSize") or PAGE_SIZE
        return {"total": len(found), "rows": [self._found(order) for order in found[:size]]}

    def _found(self, order: SandboxOrder) -> dict[str, Any]:
        row = self.whole_order(order)
        if self._search != "ignores references":
            # The names of the two fields differ in case alone; a row of a search has one of them.
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
            for order in reversed(self.orders)
            if order_num in ("", order.order_num) and (not iccid or iccid in order.iccids)
        ]
        page = whole_or_none(params, "pageNo") or 1
        size = whole_or_none(params, "pageSize") or PAGE_SIZE
        rows = [
            usage_row(order, self.world, [iccid] if iccid else order.iccids)
            for order in found[(page - 1) * size : page * size]
        ]
        return {"total": len(found), "page": page, "rows": rows}


def _daypass_days(params: Params, plan: catalogue.Plan) -> int | None:
    if not plan.daypass:
        return None
    days = whole(params, "daypassDays")
    allowed = plan.choices or range(plan.min_day, plan.max_day + 1)
    if days not in allowed:
        raise Refusal(-2, "daypassDays is not allowed")
    return days


def _sims(params: Params, sku: catalogue.SkuLine, count: int) -> list[str]:
    """Return the physical SIMs that are ordered; none for eSIMs."""
    iccids = names(params, "iccids")
    if not iccids and not params.get("dpId"):
        return []
    if sku.sku_id not in catalogue.partner_skus(whole(params, "dpId", -10)):
        raise Refusal(3, "the partner's SIMs don't support this SKU")
    if len(iccids) != count or not all(iccid.isascii() and iccid.isdigit() for iccid in iccids):
        raise Refusal(-2, "iccids must be as many as count")
    return iccids


def _cards_of(order: SandboxOrder, params: Params) -> list[str]:
    asked = names(params, "iccids") or list(order.iccids)
    if not set(asked) <= set(order.iccids):
        raise Refusal(3, "a card is not of this order")
    return asked


def _as_asked(book: OrderBook, order: SandboxOrder, back_info: str) -> Any:
    if back_info == "1":
        return book.whole_order(order)
    if back_info == "2":
        pdfs = [{"iccid": iccid, "pdfUrl": pdf_url(iccid)} for iccid in order.iccids]
        return {"orderNum": order.order_num, "cardApiDtoList": pdfs}
    return order.order_num


FORMS: Mapping[str, Callable[[OrderBook, SandboxOrder, str], Any]] = {
    "order": _as_asked,
    "number": lambda _, order, __: order.order_num,
    "object with number only": lambda _, order, __: {"orderNum": order.order_num},
    "list": lambda book, order, _: [book.whole_order(order)],
    "strange": lambda book, order, _: {"result": {"list": [book.whole_order(order)]}},
    "nothing": lambda _, __, ___: None,
}
"""What the reply to an order or renewal may look like."""

ORDERS: Mapping[str, Callable[[OrderBook, Params], Any]] = {
    ADD_ESIM_ORDER.path: lambda book, params: book.place(params, _by_ids),
    ADD_ESIM_ORDER_BY_API_CODE.path: lambda book, params: book.place(params, _by_api_code),
    RENEW_CARD.path: lambda book, params: book.renew(params, _by_ids),
    RENEW_CARD_BY_API_CODE.path: lambda book, params: book.renew(params, _by_api_code),
    REFUND_ORDER.path: OrderBook.refund,
    HANDLER_ESIM_PDF_LINK.path: OrderBook.pdf,
    GET_ORDER_INFO.path: OrderBook.info,
    VERIFY_RESOURCE.path: OrderBook.verify,
    QUERY_ORDER.path: OrderBook.search,
    QUERY_ESIM_ORDER.path: OrderBook.usage,
}
"""The answer of each endpoint of orders."""

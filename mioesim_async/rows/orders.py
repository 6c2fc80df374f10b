"""How the vendor's rows about orders are read."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any

from attrs import define, field

from mioesim_async.errors import ProtocolError
from mioesim_async.models.iccid import clean_iccid
from mioesim_async.models.orders import (
    Order,
    OrderCard,
    OrderStatus,
    OrderUsage,
    PlanUsage,
    UsagePage,
)
from mioesim_async.rows import scalars
from mioesim_async.rows.cards import read_activation
from mioesim_async.rows.catalogue import read_size
from mioesim_async.rows.layout import (
    LAYOUTS,
    Layout,
    Wire,
    normalised,
    rows_of,
    sort_in_steps,
    structure_in_steps,
    structure_rows,
)
from mioesim_async.rows.subject import check_about, iccid_in, names_another
from mioesim_async.slices import Steps
from mioesim_async.wire.depth import cut

__all__ = [
    "OrderPage",
    "Placed",
    "is_renewed_order",
    "new_order_num",
    "read_links",
    "read_order",
    "read_page",
    "read_placed",
    "read_usage",
    "references_of",
    "texts_of",
]

CARD_LISTS = frozenset(
    {"cardapidtolist", "cardapivolist", "carddtolist", "cardvolist", "cards", "cardlist"}
)

REFERENCES = ("otherorderid", "outerorderid")

logger = logging.getLogger("mioesim_async")

ORDER_NUMBER = re.compile(r"(?=[^0-9]*[0-9])[A-Za-z0-9][A-Za-z0-9_-]{2,63}")
QUOTE = r"""\\?["']"""
NAMED_IN_TEXT = re.compile(
    rf"rder_?[nN]um{QUOTE}\s*:\s*(?P<quote>{QUOTE})?(?P<number>[\w-]+)"
    rf"(?(quote){QUOTE}|(?=\s*[,}}\]]))"
)
"""Whole numbers in text: a number at the end of a cut reply may be a part of a longer one."""

NAME_BEFORE = re.compile(rf"{QUOTE}(?P<main>main_?)?o$", re.IGNORECASE)
RENEWALS_IN_TEXT = re.compile(
    rf"renew_?order_?num{QUOTE}\s*:[\s\[]*(?:{QUOTE})?[a-z]{{0,4}}[0-9]", re.IGNORECASE
)
BARE_IN_TEXT = re.compile(
    rf"data{QUOTE}\s*:\s*{QUOTE}(?P<number>[A-Z]{{1,4}}[0-9]{{14,20}}){QUOTE}"
)
LONGEST_NAME = 8

LEVELS = 8
"""So deep in a reply an order's number is looked for."""

MOST_LEVELS = 64


def _order_status(value: object) -> OrderStatus | None:
    number = scalars.integer(value)
    return None if number is None else OrderStatus(number)


def _iccid(value: object) -> str | None:
    digits = scalars.digits(value)
    try:
        return None if digits is None else clean_iccid(digits)
    except ValueError:
        # The value may be an activation code in the wrong place, so it is not repeated.
        raise ValueError("expected an ICCID") from None


def _plans(values: dict[str, Any], extra: dict[str, Any]) -> Steps[None]:
    """Read the plans of an order with its usage."""
    rows = extra.get("packageList")
    if isinstance(rows, list):
        del extra["packageList"]
        values["plans"], _ = yield from sort_in_steps(rows, PlanUsage)


def _reference(values: dict[str, Any], extra: dict[str, Any]) -> None:
    """Read our reference. A number in its place is the vendor's own (observed), and is kept."""
    for wanted in REFERENCES:
        for key, value in list(extra.items()):
            if normalised(key) == wanted and isinstance(value, str) and value:
                values["other_order_id"] = value
                del extra[key]
                return


def _cards(values: dict[str, Any], extra: dict[str, Any]) -> Steps[None]:
    """Read all cards of an order; one that can't be read is kept, with its row."""
    cards: list[OrderCard] = []
    known: set[str] = set()
    for name in [name for name in extra if normalised(name) in CARD_LISTS]:
        rows = extra[name]
        if isinstance(rows, dict):
            rows = [_named(iccid, row) for iccid, row in rows.items()]
        if isinstance(rows, list):
            del extra[name]
            for row in rows:
                card = _card(row)
                if card.iccid not in known:
                    cards.append(card)
                    known |= {card.iccid} - {""}
                yield
    values["cards"] = cards


def _named(iccid: str, row: Any) -> Any:
    """Return a row of a map by ICCID; bare text in it is taken for the activation code."""
    if not isinstance(row, dict):
        return {"iccid": iccid, "code": row}
    if iccid_in(row) is None:
        return row | {"iccid": iccid}
    # Whose code is in a row that says it is about another card can't be told.
    return [iccid, row] if names_another(row, iccid) else row


def _card(row: Any) -> OrderCard:
    if isinstance(row, str | int):
        row = {"iccid": row}
    cards = structure_rows([row], OrderCard)
    return cards[0] if cards else OrderCard(extra={"unreadable": cut(row)})


ORDER_NUM = Wire(("orderNum",), scalars.text)
STATUS = Wire(("status",), _order_status)

LAYOUTS.update(
    {
        OrderCard: Layout(
            {
                "iccid": Wire(("iccid",), _iccid),
                "pdf_url": Wire(("pdfUrl",), scalars.text),
                "used_mb": Wire(("usedMB",), scalars.number),
            },
            read_activation,
        ),
        # Nothing is strict: money was spent, and an odd field must not lose the order number.
        Order: Layout(
            {
                "order_num": ORDER_NUM,
                "status": STATUS,
                "count": Wire(("count",), scalars.integer),
                "price": Wire(("price",), scalars.decimal),
                "purchased_at": Wire(("purchaseDate", "createTime"), scalars.start_time),
                "is_renewal": Wire(("renewal",), scalars.flag),
                "main_order_num": Wire(("mainOrderNum",), scalars.text),
                "sku_id": Wire(("skuId",), scalars.integer),
                "price_id": Wire(("priceId",), scalars.integer),
            },
            _reference,
            nested=_cards,
        ),
        PlanUsage: Layout(
            {
                "iccid": Wire(("iccid",), _iccid),
                "name": Wire(("name",), scalars.text),
                "price_id": Wire(("priceId",), scalars.integer),
                "status": Wire(("status",), scalars.integer),
                "used_mb": Wire(("usedMB",), scalars.number),
                "days": Wire(("days",), scalars.integer),
                "starts_at": Wire(("beginDate", "startDate"), scalars.start_time),
                "ends_at": Wire(("endDate",), scalars.end_time),
            },
            read_size,
        ),
        OrderUsage: Layout(
            {
                "order_num": ORDER_NUM,
                "sku_id": Wire(("skuId",), scalars.integer),
                "display": Wire(("skuName", "display"), scalars.text),
                "status": STATUS,
                "count": Wire(("count",), scalars.integer),
                "daypass_days": Wire(("daypassDay", "daypassDays"), scalars.integer),
                "price": Wire(("totle", "total", "price"), scalars.decimal),
                "purchased_at": Wire(("createTime", "purchaseDate"), scalars.start_time),
            },
            nested=_plans,
        ),
    }
)


@define
class Placed:
    """What a successful reply to an order or renewal says.

    Attributes:
        order_num: The order's number, or None if there is none, or more than one.
        order: The order, where the reply has the form of one.
        is_odd: The reply has neither of the forms that are known.
    """

    order_num: str | None = None
    order: Order | None = None
    is_odd: bool = False


@define
class OrderPage:
    """One reply to a search.

    Attributes:
        rows: The orders, as they came.
        total: How many there are, or None where the reply doesn't say, or names fewer than it
            shows.
        data: The reply's data, as it came.
    """

    rows: list[Any] = field(factory=list, repr=False)
    total: int | None = None
    data: Any = field(default=None, repr=False)


def read_placed(data: Any) -> Steps[Placed]:
    """Read the reply to an order or renewal; never raises, since money was spent.

    A bare order number and the order as an object are known (vendor-documented). A list of
    one of these is taken for it (assumed). In anything else, an order number is looked for.
    """
    if isinstance(data, list) and len(data) == 1:
        data = data[0]
    if (number := _bare_number(data)) is not None:
        return Placed(number)
    if isinstance(data, dict):
        try:
            order = yield from _structured(data)
        except ProtocolError as error:
            # Such as a field that is nested too deeply; whoever asks for the order sees it again.
            logger.warning("the reply to a purchase can't be read: %s", error)
            order = None
        if order is not None:
            return Placed(order.order_num, order)
    return Placed(new_order_num(data), is_odd=True)


def read_order(data: Any, order_num: str) -> Steps[Order]:
    """Read the reply to a question about one order.

    Raises:
        ProtocolError: If it is no order, or another one than was asked for.
    """
    if isinstance(data, list) and len(data) == 1:
        data = data[0]
    order = (yield from _structured(data)) if isinstance(data, dict) else None
    if order is None and isinstance(data, dict):
        order = yield from structure_in_steps(data, Order)
        if not (order.cards or order.status is not None):
            order = None
    if order is None:
        raise ProtocolError(f"expected an order, got {_kind(data)}")
    check_about("order", [order_num], [order.order_num])
    order.order_num = order_num
    return order


def new_order_num(
    data: Any, *, renewed: str | None = None, renews: bool = False, is_text: bool = False
) -> str | None:
    """Return the number that surely is the new order's, wherever it is in a reply, or None.

    Only a whole value under the name of an order number counts, and only if there is no other.

    Args:
        data: The reply's data as parsed, or the text of a reply that could not be parsed.
        renewed: The order that is renewed, where the call named it.
        renews: The call was a renewal. Then a number counts only where the reply names the
            renewed order too, apart from it: alone it may be the renewed order's. Nor does one
            count of an order that lists its own renewals.
        is_text: It is text that could not be parsed.
    """
    found: set[str] = set()
    main: set[str] = set()
    bare = None if is_text else _bare_number(data)
    if bare is not None:
        found.add(bare)
    lists_renewals = _collect(data, found, main, LEVELS)
    if renews and lists_renewals:
        return None
    new = found - main - {renewed}
    return new.pop() if len(new) == 1 and (main or not renews) else None


def is_renewed_order(order: Order) -> bool:
    """Tell whether the order in a reply to a renewal may be the one that was renewed.

    Such a one names itself as the main order, or lists its own renewals.
    """
    return order.main_order_num == order.order_num or any(
        _is_filled_list(name, value) for name, value in order.extra.items()
    )


def read_links(data: Any, asked: Collection[str] | None = None) -> Steps[dict[str, str]]:
    """Read where PDFs are: a map by ICCID (vendor-documented).

    Args:
        data: The reply's data.
        asked: The cards that were asked for; None for all of the order.

    Raises:
        ProtocolError: If it is none, or has a card that was not asked for.
    """
    if not isinstance(data, dict):
        raise ProtocolError(f"expected links by ICCID, got {_kind(data)}")
    links: dict[str, str] = {}
    wanted = None if asked is None else frozenset(asked)
    with suppress(ValueError):
        for key, link in data.items():
            iccid = clean_iccid(key)
            links[iccid] = scalars.text(link) or ""
            if wanted is not None:
                check_about("card", wanted, [iccid])
            yield
        return links
    raise ProtocolError("the links are not by ICCID, or one of them is no text")


def read_usage(
    data: Any, *, order_num: str | None = None, iccid: str | None = None
) -> Steps[UsagePage]:
    """Read a page of orders with their usage; its rows may be missing (observed).

    Args:
        data: The reply's data.
        order_num: The order that was asked for, or None.
        iccid: The card that was asked for, or None.

    Raises:
        ProtocolError: If it is no page, or is about other orders or cards.
    """
    rows, _ = yield from sort_in_steps(rows_of(data), OrderUsage)
    if order_num is not None:
        check_about("order", [order_num], [row.order_num for row in rows])
    if iccid is not None:
        check_about("card", [iccid], [plan.iccid for row in rows for plan in row.plans])
    return UsagePage(rows, _number(data, "total"), _number(data, "page"))


def read_page(data: Any) -> OrderPage:
    """Read what a search found (the shape is assumed).

    Raises:
        ProtocolError: If it holds no rows.
    """
    rows = rows_of(data)
    try:
        total = _number(data, "total")
    except ProtocolError:
        total = None
    return OrderPage(rows, None if total is None or total < len(rows) else total, data)


def texts_of(data: Any) -> Iterator[str]:
    """Give every name and value of a reply as text, in no order.

    Raises:
        ProtocolError: If it is nested deeper than orders are.
    """
    level = [data]
    for _ in range(MOST_LEVELS):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                yield from value
                inner += value.values()
            elif isinstance(value, list):
                inner += value
            elif value is not None:
                yield str(value)
        if not inner:
            return
        level = inner
    raise ProtocolError("the reply is nested too deeply to be orders")


def _number(data: Any, name: str) -> int | None:
    try:
        return scalars.integer(data.get(name)) if isinstance(data, dict) else None
    except ValueError:
        raise ProtocolError(f"{name} is no number") from None


def references_of(order: Order) -> set[str]:
    """Return every reference that a row carries, in whichever spelling."""
    spelled = {
        value
        for key, value in order.extra.items()
        if normalised(key) in REFERENCES and isinstance(value, str)
    }
    return spelled | ({order.other_order_id} if order.other_order_id else set())


def _structured(row: dict[str, Any]) -> Steps[Order | None]:
    order = yield from structure_in_steps(row, Order)
    return order if order.order_num else None


def _bare_number(data: Any) -> str | None:
    if type(data) is int:
        data = str(data)
    if isinstance(data, str) and ORDER_NUMBER.fullmatch(data.strip()):
        return data.strip()
    return None


def _is_filled_list(name: str, value: Any) -> bool:
    """Tell whether a field lists renewals of an order, and has any."""
    if isinstance(value, str):
        value = value.strip(" []")
    return normalised(name) == "renewordernum" and bool(value)


def _collect(data: Any, found: set[str], main: set[str], depth: int) -> bool:
    """Collect the numbers of orders, and of orders that were renewed.

    Returns:
        Whether an order in it lists its own renewals.
    """
    lists_renewals = False
    if isinstance(data, dict):
        for key, value in data.items():
            name = normalised(key)
            if name in ("ordernum", "mainordernum"):
                number = _bare_number(value)
                (found if name == "ordernum" else main).update({number} if number else ())
            elif name == "renewordernum":
                lists_renewals |= _is_filled_list(key, value)
            elif depth:
                lists_renewals |= _collect(value, found, main, depth - 1)
    elif isinstance(data, list) and depth:
        for item in data:
            lists_renewals |= _collect(item, found, main, depth - 1)
    elif isinstance(data, str):
        lists_renewals = _collect_from_text(data, found, main)
    return lists_renewals


def _collect_from_text(text: str, found: set[str], main: set[str]) -> bool:
    """Do so in text that could not be parsed."""
    # An order of a thousand cards may name its number a thousand times.
    named = {
        (text[max(0, match.start() - LONGEST_NAME) : match.start()], match["number"])
        for match in NAMED_IN_TEXT.finditer(text)
    }
    for name, value in named:
        before = NAME_BEFORE.search(name)
        number = _bare_number(value)
        if before is not None and number is not None:
            (found if before["main"] is None else main).add(number)
    found.update(match["number"] for match in BARE_IN_TEXT.finditer(text))
    return RENEWALS_IN_TEXT.search(text) is not None


def _kind(data: Any) -> str:
    return "nothing" if data is None else f"a JSON {type(data).__name__}"

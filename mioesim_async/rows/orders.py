"""Reads the vendor's rows about orders."""

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
    Rule,
    normalised,
    read_good_rows,
    read_row_in_steps,
    read_rows_in_steps,
    rows_of,
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
NUMBER_IN_TEXT = re.compile(
    rf"rder_?[nN]um{QUOTE}\s*:\s*(?P<quote>{QUOTE})?(?P<number>[\w-]+)"
    rf"(?(quote){QUOTE}|(?=\s*[,}}\]]))"
)
"""A whole order number in text.

Something must follow the number: at the end of a cut-off reply, its last digits may be missing.
"""

START_OF_NAME = re.compile(rf"{QUOTE}(?P<main>main_?)?o$", re.IGNORECASE)
RENEWALS_IN_TEXT = re.compile(
    rf"renew_?order_?num{QUOTE}\s*:[\s\[]*(?:{QUOTE})?[a-z]{{0,4}}[0-9]", re.IGNORECASE
)
BARE_NUMBER_IN_TEXT = re.compile(
    rf"data{QUOTE}\s*:\s*{QUOTE}(?P<number>[A-Z]{{1,4}}[0-9]{{14,20}}){QUOTE}"
)
NAME_CHARS = 8
"""Characters before ``rder_num`` that ``START_OF_NAME`` looks at."""

MAX_SEARCH_LEVELS = 8
"""Levels of a reply in which an order number is searched for."""

MAX_LEVELS = 64


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


def _read_plans(values: dict[str, Any], extra: dict[str, Any]) -> Steps[None]:
    """Read the plans of an order's usage."""
    rows = extra.get("packageList")
    if isinstance(rows, list):
        del extra["packageList"]
        values["plans"], _ = yield from read_rows_in_steps(rows, PlanUsage)


def _read_reference(values: dict[str, Any], extra: dict[str, Any]) -> None:
    """Read our reference; a number in its field is the vendor's own (observed), and is kept."""
    for wanted in REFERENCES:
        for key, value in list(extra.items()):
            if normalised(key) == wanted and isinstance(value, str) and value:
                values["other_order_id"] = value
                del extra[key]
                return


def _read_cards(values: dict[str, Any], extra: dict[str, Any]) -> Steps[None]:
    """Read all cards of an order; a card that can't be read has its row in ``extra``."""
    cards: list[OrderCard] = []
    known: set[str] = set()
    for name in [name for name in extra if normalised(name) in CARD_LISTS]:
        rows = extra[name]
        if isinstance(rows, dict):
            rows = [_with_iccid(iccid, row) for iccid, row in rows.items()]
        if isinstance(rows, list):
            del extra[name]
            for row in rows:
                card = _read_card(row)
                if card.iccid not in known:
                    cards.append(card)
                    known |= {card.iccid} - {""}
                yield
    values["cards"] = cards


def _with_iccid(iccid: str, row: Any) -> Any:
    """Add the ICCID to a row of a map by ICCID; a row of bare text is an activation code."""
    if not isinstance(row, dict):
        return {"iccid": iccid, "code": row}
    if iccid_in(row) is None:
        return row | {"iccid": iccid}
    # The row names another card, and its activation code may belong to either. A list can't be
    # read as a card, so the row is kept as unreadable.
    return [iccid, row] if names_another(row, iccid) else row


def _read_card(row: Any) -> OrderCard:
    if isinstance(row, str | int):
        row = {"iccid": row}
    cards = read_good_rows([row], OrderCard)
    return cards[0] if cards else OrderCard(extra={"unreadable": cut(row)})


ORDER_NUM = Rule(("orderNum",), scalars.text)
STATUS = Rule(("status",), _order_status)

LAYOUTS.update(
    {
        OrderCard: Layout(
            {
                "iccid": Rule(("iccid",), _iccid),
                "pdf_url": Rule(("pdfUrl",), scalars.text),
                "used_mb": Rule(("usedMB",), scalars.number),
            },
            read_activation,
        ),
        # No field is strict: money was spent, so an odd field must not hide the order number.
        Order: Layout(
            {
                "order_num": ORDER_NUM,
                "status": STATUS,
                "count": Rule(("count",), scalars.integer),
                "price": Rule(("price",), scalars.decimal),
                "purchased_at": Rule(("purchaseDate", "createTime"), scalars.time_or_day_start),
                "is_renewal": Rule(("renewal",), scalars.flag),
                "main_order_num": Rule(("mainOrderNum",), scalars.text),
                "sku_id": Rule(("skuId",), scalars.integer),
                "price_id": Rule(("priceId",), scalars.integer),
            },
            _read_reference,
            read_nested=_read_cards,
        ),
        PlanUsage: Layout(
            {
                "iccid": Rule(("iccid",), _iccid),
                "name": Rule(("name",), scalars.text),
                "price_id": Rule(("priceId",), scalars.integer),
                "status": Rule(("status",), scalars.integer),
                "used_mb": Rule(("usedMB",), scalars.number),
                "days": Rule(("days",), scalars.integer),
                "starts_at": Rule(("beginDate", "startDate"), scalars.time_or_day_start),
                "ends_at": Rule(("endDate",), scalars.time_or_day_end),
            },
            read_size,
        ),
        OrderUsage: Layout(
            {
                "order_num": ORDER_NUM,
                "sku_id": Rule(("skuId",), scalars.integer),
                "display": Rule(("skuName", "display"), scalars.text),
                "status": STATUS,
                "count": Rule(("count",), scalars.integer),
                "daypass_days": Rule(("daypassDay", "daypassDays"), scalars.integer),
                "price": Rule(("totle", "total", "price"), scalars.decimal),
                "purchased_at": Rule(("createTime", "purchaseDate"), scalars.time_or_day_start),
            },
            read_nested=_read_plans,
        ),
    }
)


@define
class Placed:
    """What a successful reply to an order or renewal says.

    Attributes:
        order_num: The new order's number; None if the reply has none or more than one.
        order: The order, if the reply has the form of one.
        is_odd: The reply has none of the known forms.
    """

    order_num: str | None = None
    order: Order | None = None
    is_odd: bool = False


@define
class OrderPage:
    """One reply to a search.

    Attributes:
        rows: The orders, as they came.
        total: How many orders match; None if the reply doesn't say, or if its number is less
            than its count of rows.
        data: The reply's data, as it came.
    """

    rows: list[Any] = field(factory=list, repr=False)
    total: int | None = None
    data: Any = field(default=None, repr=False)


def read_placed(data: Any) -> Steps[Placed]:
    """Read the reply to an order or renewal; never raises, since money was spent.

    The reply is a bare order number or the order as an object (vendor-documented), or a list
    with one of these (assumed). In any other reply, an order number is searched for.
    """
    if isinstance(data, list) and len(data) == 1:
        data = data[0]
    if (number := _bare_number(data)) is not None:
        return Placed(number)
    if isinstance(data, dict):
        try:
            order = yield from _read_numbered_order(data)
        except ProtocolError as error:
            # For example, a field is nested too deeply. Asking for the order raises the same error.
            logger.warning("the reply to a purchase can't be read: %s", error)
            order = None
        if order is not None:
            return Placed(order.order_num, order)
    return Placed(new_order_num(data), is_odd=True)


def read_order(data: Any, order_num: str) -> Steps[Order]:
    """Read the reply to a query for one order.

    Raises:
        ProtocolError: If the reply is not an order, or is another order.
    """
    if isinstance(data, list) and len(data) == 1:
        data = data[0]
    order = (yield from _read_numbered_order(data)) if isinstance(data, dict) else None
    if order is None and isinstance(data, dict):
        order = yield from read_row_in_steps(data, Order)
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
    """Return the new order's number from a reply of any form; None if it is not certain.

    It is certain if exactly one whole value stands in a field for order numbers.

    Args:
        data: The reply's data as parsed, or the text of a reply that could not be parsed.
        renewed: The number of the renewed order, if the call named it.
        renews: Whether the call was a renewal. The reply must then also name the renewed order
            as the main order, since a single number may be the renewed order's. A reply with an
            order that lists its own renewals has no certain number.
        is_text: Whether ``data`` is text that could not be parsed.
    """
    found: set[str] = set()
    main: set[str] = set()
    bare = None if is_text else _bare_number(data)
    if bare is not None:
        found.add(bare)
    lists_renewals = _add_numbers(data, found, main, MAX_SEARCH_LEVELS)
    if renews and lists_renewals:
        return None
    new = found - main - {renewed}
    return new.pop() if len(new) == 1 and (main or not renews) else None


def is_renewed_order(order: Order) -> bool:
    """Tell whether the order in a reply to a renewal may be the renewed order, not the new one.

    A renewed order names itself as the main order, or lists its own renewals.
    """
    return order.main_order_num == order.order_num or any(
        _lists_renewals(name, value) for name, value in order.extra.items()
    )


def read_links(data: Any, asked: Collection[str] | None = None) -> Steps[dict[str, str]]:
    """Read the links to PDFs: a map by ICCID (vendor-documented).

    Args:
        data: The reply's data.
        asked: The ICCIDs that were asked for; None for all cards of the order.

    Raises:
        ProtocolError: If the data is not such a map, or has a card that was not asked for.
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
    raise ProtocolError("a link has no valid ICCID, or is not text")


def read_usage(
    data: Any, *, order_num: str | None = None, iccid: str | None = None
) -> Steps[UsagePage]:
    """Read a page of orders with their usage; the page may have no ``rows`` (observed).

    Args:
        data: The reply's data.
        order_num: The order that was asked for, or None.
        iccid: The card that was asked for, or None.

    Raises:
        ProtocolError: If the data is not a page, or is about other orders or cards.
    """
    rows, _ = yield from read_rows_in_steps(rows_of(data), OrderUsage)
    if order_num is not None:
        check_about("order", [order_num], [row.order_num for row in rows])
    if iccid is not None:
        check_about("card", [iccid], [plan.iccid for row in rows for plan in row.plans])
    return UsagePage(rows, _number(data, "total"), _number(data, "page"))


def read_page(data: Any) -> OrderPage:
    """Read one page of a search (its form is assumed).

    Raises:
        ProtocolError: If the data can't hold rows.
    """
    rows = rows_of(data)
    try:
        total = _number(data, "total")
    except ProtocolError:
        total = None
    return OrderPage(rows, None if total is None or total < len(rows) else total, data)


def texts_of(data: Any) -> Iterator[str]:
    """Yield every name and value of a reply as text, in any order.

    Raises:
        ProtocolError: If the reply has more than 64 levels.
    """
    level = [data]
    for _ in range(MAX_LEVELS):
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
        raise ProtocolError(f"{name} is not a number") from None


def references_of(order: Order) -> set[str]:
    """Return every reference in an order's row, under any spelling of the field."""
    spelled = {
        value
        for key, value in order.extra.items()
        if normalised(key) in REFERENCES and isinstance(value, str)
    }
    return spelled | ({order.other_order_id} if order.other_order_id else set())


def _read_numbered_order(row: dict[str, Any]) -> Steps[Order | None]:
    order = yield from read_row_in_steps(row, Order)
    return order if order.order_num else None


def _bare_number(data: Any) -> str | None:
    if type(data) is int:
        data = str(data)
    if isinstance(data, str) and ORDER_NUMBER.fullmatch(data.strip()):
        return data.strip()
    return None


def _lists_renewals(name: str, value: Any) -> bool:
    """Tell whether a field is a list of an order's renewals that is not empty."""
    if isinstance(value, str):
        value = value.strip(" []")
    return normalised(name) == "renewordernum" and bool(value)


def _add_numbers(data: Any, found: set[str], main: set[str], depth: int) -> bool:
    """Add the order numbers in a reply to ``found``, and those of main orders to ``main``.

    Returns:
        Whether an order in the reply lists its own renewals.
    """
    lists_renewals = False
    if isinstance(data, dict):
        for key, value in data.items():
            name = normalised(key)
            if name in ("ordernum", "mainordernum"):
                number = _bare_number(value)
                (found if name == "ordernum" else main).update({number} if number else ())
            elif name == "renewordernum":
                lists_renewals |= _lists_renewals(key, value)
            elif depth:
                lists_renewals |= _add_numbers(value, found, main, depth - 1)
    elif isinstance(data, list) and depth:
        for item in data:
            lists_renewals |= _add_numbers(item, found, main, depth - 1)
    elif isinstance(data, str):
        lists_renewals = _add_numbers_of_text(data, found, main)
    return lists_renewals


def _add_numbers_of_text(text: str, found: set[str], main: set[str]) -> bool:
    """Do what ``_add_numbers`` does, for text that could not be parsed."""
    # A set, since an order of a thousand cards may repeat its number a thousand times.
    named = {
        (text[max(0, match.start() - NAME_CHARS) : match.start()], match["number"])
        for match in NUMBER_IN_TEXT.finditer(text)
    }
    for name, value in named:
        before = START_OF_NAME.search(name)
        number = _bare_number(value)
        if before is not None and number is not None:
            (found if before["main"] is None else main).add(number)
    found.update(match["number"] for match in BARE_NUMBER_IN_TEXT.finditer(text))
    return RENEWALS_IN_TEXT.search(text) is not None


def _kind(data: Any) -> str:
    return "nothing" if data is None else f"a JSON {type(data).__name__}"

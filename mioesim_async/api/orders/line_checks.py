"""Checks of arguments, before anything is sent; makes the parameters of orders and renewals."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import date, datetime
from decimal import Decimal
from itertools import chain

from attrs import evolve, frozen

from mioesim_async.clock import GMT8
from mioesim_async.errors import InvalidRequest
from mioesim_async.models.catalogue import Package
from mioesim_async.models.iccid import check_iccids, check_in_steps as iccids_in_steps
from mioesim_async.models.order_lines import OrderLine, RenewalLine
from mioesim_async.slices import Steps, at_once
from mioesim_async.wire.endpoints import (
    ADD_ESIM_ORDER,
    ADD_ESIM_ORDER_BY_API_CODE,
    RENEW_CARD,
    RENEW_CARD_BY_API_CODE,
    Endpoint,
)
from mioesim_async.wire.signing import MAX_ITEMS, Value
from mioesim_async.wording import worded

__all__ = [
    "Purchase",
    "check_all",
    "check_cards",
    "check_days",
    "check_email",
    "check_in_steps",
    "check_line",
    "check_page_size",
    "check_plan",
    "check_plan_in_steps",
    "check_text",
    "day_in_gmt8",
    "expected_price",
    "is_by_code_of_sku",
    "pdf_params",
    "run_checks",
    "with_package",
]

WHOLE_ORDER = 1
"""``backInfo``: the reply has the whole order (vendor-documented)."""

EMAIL = re.compile(r"[^@\s,;<>\"]{1,64}@(?:[^@\s.,;<>\"']+\.)+[^@\s.,;<>\"'0-9][^@\s.,;<>\"']+")
MAX_TEXT = 500

Line = OrderLine | RenewalLine


@frozen
class Purchase:
    """A checked order or renewal.

    Attributes:
        endpoint: The endpoint.
        params: The parameters, without token and signature.
        other_order_id: The reference.
        price: What it should cost in all; None if its package is not known.
        cards: How many cards the reply must have; 0 for a renewal, whose reply may have none.
        passed_day: Says that the first day has passed, if that is the only fault; else empty.
    """

    endpoint: Endpoint
    params: dict[str, Value]
    other_order_id: str
    price: Decimal | None
    cards: int
    passed_day: str = ""

    @property
    def is_renewal(self) -> bool:
        """Whether it renews a card."""
        return self.endpoint in (RENEW_CARD, RENEW_CARD_BY_API_CODE)


class _Faults(list[str]):
    """Collects the faults of a line."""

    def add(self, fault: str, /, **values: object) -> None:
        """Add a fault; see ``worded`` for what a ``{name}`` in it stands for."""
        self.append(worded(fault, **values))

    def of(self, check: Callable[[], object]) -> None:
        """Run a check, and add the faults of the ``InvalidRequest`` that it raises."""
        try:
            check()
        except InvalidRequest as error:
            self.extend(error.faults)

    def whole(self, name: str, value: object, *, required: bool = False) -> None:
        """Check for a whole number of 1 or more."""
        if value is None and not required:
            return
        if type(value) is not int or value < 1:
            self.append(f"{worded(name)} must be a whole number of 1 or more, not {value!r}")

    def text(
        self, name: str, value: object, *, most: int = MAX_TEXT, required: bool = False
    ) -> None:
        """Check for text that is not blank."""
        if value is None:
            if required:
                self.append(f"{worded(name)} is missing")
        elif not isinstance(value, str) or not value.strip():
            self.append(f"{worded(name)} must be text that is not blank, not {value!r}")
        elif value != value.strip():
            self.append(f"{worded(name)} must not begin or end with a space")
        elif len(value) > most or not value.isprintable():
            self.append(f"{worded(name)} must be at most {most} printable characters")


def day_in_gmt8(now: float) -> date:
    """Return today's date in GMT+8, from seconds since the epoch (UTC)."""
    return datetime.fromtimestamp(now, GMT8).date()


def check_line(line: Line, *, today: date) -> Purchase:
    """Check a line without a pause; see ``check_in_steps``."""
    return at_once(check_in_steps(line, today=today))


def check_in_steps(line: Line, *, today: date) -> Steps[Purchase]:
    """Check a line, and return it as a purchase.

    Args:
        line: The order or renewal.
        today: Today's date in GMT+8.

    Raises:
        InvalidRequest: If the line has faults; it lists all. A first day that has passed is no
            error if it is the only fault, since the line may have been placed before that day.
    """
    _check_kind(line)
    faults = _Faults()
    params: dict[str, Value] = {}
    by_code = _check_plan(line, faults, params)
    if isinstance(line, OrderLine):
        endpoint = ADD_ESIM_ORDER_BY_API_CODE if by_code else ADD_ESIM_ORDER
        yield from _check_order(line, faults, params)
        late = _in_the_past(line.begin_date, today)
        cards = line.count
    else:
        endpoint = RENEW_CARD_BY_API_CODE if by_code else RENEW_CARD
        _check_renewal(line, faults, params)
        late, cards = "", 0
    faults.whole("daypass_days", line.daypass_days)
    faults.text("other_order_id", line.other_order_id, most=64, required=True)
    for name in ("other_item_id", "pdf_language", "remark"):
        faults.text(name, getattr(line, name))
    if line.package is not None:
        _check_package(line, line.package, faults)
    if faults:
        raise InvalidRequest(*faults, *filter(None, [late]))
    params |= {
        "daypassDays": line.daypass_days,
        "backInfo": WHOLE_ORDER,
        "pdfLanguage": line.pdf_language,
        "otherOrderId": line.other_order_id,
        "otherItemId": line.other_item_id,
        "remark": line.remark,
    }
    return Purchase(endpoint, params, line.other_order_id, expected_price(line), cards, late)


def check_all(
    lines: Iterable[Line], check: Callable[[Line], Steps[object]], *, first: int
) -> Steps[list[Line]]:
    """Check lines, and return them as a list.

    Args:
        lines: The lines.
        check: Checks one line.
        first: The number of the first line, for the messages.

    Raises:
        InvalidRequest: If any line has a fault; it lists all faults of all lines.
    """
    checked: list[Line] = []
    faults: list[str] = []
    for number, line in enumerate(lines, first):
        try:
            _check_kind(line)
            yield from check(line)
        except InvalidRequest as error:
            faults += [f"line {number}: {fault}" for fault in error.faults]
        checked.append(line)
        yield
    if faults:
        raise InvalidRequest(*faults)
    return checked


def with_package(purchase: Purchase, line: Line) -> Purchase:
    """Return the purchase of a checked line that now has its package.

    Raises:
        InvalidRequest: If the line does not fit the package.
    """
    faults = _Faults()
    if line.package is not None:
        _check_package(line, line.package, faults)
    if faults:
        raise InvalidRequest(*faults)
    return evolve(purchase, price=expected_price(line))


def _check_kind(line: object) -> None:
    if not isinstance(line, OrderLine | RenewalLine):
        raise InvalidRequest(
            f"a line must be an OrderLine or a RenewalLine, not {type(line).__name__}"
        )


def _in_the_past(begin: date | None, today: date) -> str:
    """Return a fault if the first day has passed, else an empty text."""
    if not isinstance(begin, date) or isinstance(begin, datetime) or begin >= today:
        return ""
    return f"{worded('begin_date')} {begin} is in the past: in GMT+8 it is {today}"


def expected_price(line: Line) -> Decimal | None:
    """Return what a line should cost in all, or None if its package or price isn't known."""
    package = line.package
    if package is None or package.price is None:
        return None
    count = line.count if isinstance(line, OrderLine) else 1
    return package.total_price(days=line.daypass_days) * count


def check_plan(line: Line, *, now: float) -> Purchase:
    """Check what can be checked without the vendor.

    Args:
        line: The line.
        now: The present, in seconds since the epoch (UTC).

    Raises:
        InvalidRequest: If the line has faults; it lists all.
    """
    return at_once(check_plan_in_steps(line, today=day_in_gmt8(now)))


def check_plan_in_steps(line: Line, *, today: date) -> Steps[Purchase]:
    """Do what ``check_plan`` does, and stop after each piece of it."""
    if is_by_code_of_sku(line):
        # The price id is a placeholder until the catalogue gives the real one.
        line = evolve(line, api_code=None, price_id=1)
    return (yield from check_in_steps(line, today=today))


def is_by_code_of_sku(line: Line) -> bool:
    """Tell whether a plan is named by its SKU and its API code.

    Several SKUs may have the same code. With the SKU, the catalogue tells plan and price.
    """
    return line.api_code is not None and line.sku_id is not None and line.price_id is None


def _check_plan(line: Line, faults: _Faults, params: dict[str, Value]) -> bool:
    """Check how the plan is named; return whether by its API code."""
    if line.api_code is not None:
        faults.text("api_code", line.api_code)
        if line.sku_id is not None or line.price_id is not None:
            faults.add("give either {api_code}, or {sku_id} and {price_id}")
        params["apiCode"] = line.api_code
        return True
    faults.whole("sku_id", line.sku_id, required=True)
    faults.whole("price_id", line.price_id, required=True)
    params |= {"skuId": line.sku_id, "priceId": line.price_id}
    return False


def _check_order(line: OrderLine, faults: _Faults, params: dict[str, Value]) -> Steps[None]:
    faults.whole("count", line.count, required=True)
    faults.whole("dp_id", line.dp_id)
    iccids = yield from _check_physical(line, faults)
    begin: object = line.begin_date
    is_day = isinstance(begin, date) and not isinstance(begin, datetime)
    if begin is not None and not is_day:
        kind = type(begin).__name__
        faults.add("{begin_date} must be a datetime.date (a day in GMT+8), not {kind}", kind=kind)
    if line.customer_email is not None:
        faults.of(lambda: check_email(line.customer_email))
    send: object = line.send_email
    if type(send) is not bool:
        faults.add("{send_email} must be True or False, not {sent!r}", sent=send)
    elif send and line.customer_email is None:
        faults.add("{send_email} needs {customer_email}")
    params |= {
        "count": line.count,
        "beginDate": f"{begin:%m/%d/%Y}" if is_day else None,
        "dpId": line.dp_id,
        "iccids": ",".join(iccids) or None,
        "customerEmail": line.customer_email,
        "isSendEmail": None if line.customer_email is None else line.send_email,
    }


def _check_physical(line: OrderLine, faults: _Faults) -> Steps[list[str]]:
    """Check the physical SIMs of an order, and return their ICCIDs."""
    if line.iccids is None:
        if line.dp_id is not None:
            faults.add("{dp_id} is for physical SIMs: give their {iccids} as well")
        return []
    if isinstance(line.iccids, str) or not isinstance(line.iccids, Iterable):
        faults.add("{iccids} must be a list of ICCIDs")
        return []
    try:
        iccids = yield from _check_iccids(line.iccids)
    except InvalidRequest as error:
        faults.extend(error.faults)
        return []
    if line.dp_id is None:
        faults.add("physical SIMs ({iccids}) need {dp_id}, their partner")
    if len(iccids) != line.count:
        wanted = f"{worded('count')}={line.count}"
        faults.append(f"{len(iccids)} ICCIDs for {wanted}; there must be as many")
    if len(set(iccids)) != len(iccids):
        faults.add("{iccids} names a card twice")
    return iccids


def _check_renewal(line: RenewalLine, faults: _Faults, params: dict[str, Value]) -> None:
    if (line.order_num is None) == (line.iccid is None):
        faults.add("give exactly one of {order_num} and {iccid}")
    faults.text("order_num", line.order_num, most=64)
    iccid = None
    if line.iccid is not None:
        try:
            (iccid,) = check_iccids([line.iccid])
        except InvalidRequest as error:
            faults.extend(error.faults)
    params |= {"orderNum": line.order_num, "iccid": iccid}


def _check_package(line: Line, package: Package, faults: _Faults) -> None:
    """Check a line against its package."""
    for name in ("sku_id", "price_id", "api_code"):
        wanted, known = getattr(line, name), getattr(package, name)
        if wanted is not None and known is not None and wanted != known:
            faults.append(f"{worded(name)} is {wanted!r}, but the package's is {known!r}")
    days = line.daypass_days
    if package.is_day_pass and days is None:
        faults.add("this package is a day pass: give {daypass_days}")
    elif days is not None and not package.is_day_pass:
        faults.add("this package is no day pass and takes no {daypass_days}")
    elif type(days) is int:
        low, high = package.min_days or 1, package.max_days or None
        if days < low or (high is not None and days > high):
            most = high or "any"
            faults.append(f"{worded('daypass_days')}={days} is out of range: {low} to {most}")
    if isinstance(line, RenewalLine):
        if not package.is_renewable:
            faults.append("this package can't be renewed")
    elif package.needs_begin_date and line.begin_date is None:
        faults.add("this package needs {begin_date}")


def check_email(address: object) -> None:
    """Check an e-mail address.

    Raises:
        InvalidRequest: If it can't be one; the message does not contain it.
    """
    is_one = isinstance(address, str) and len(address) <= 254 and EMAIL.fullmatch(address)
    if not is_one:
        raise InvalidRequest("the e-mail address must look like name@example.com")


def check_text(name: str, value: str) -> str:
    """Check a text that identifies something, such as an order number, and return it.

    Raises:
        InvalidRequest: If it is missing, blank, too long or not text.
    """
    faults = _Faults()
    faults.text(name, value, most=64, required=True)
    if faults:
        raise InvalidRequest(*faults)
    return value


def run_checks(*checks: Callable[[], object]) -> None:
    """Run checks, and raise one error for the faults of all.

    Raises:
        InvalidRequest: With the faults of all checks.
    """
    faults = _Faults()
    for check in checks:
        faults.of(check)
    if faults:
        raise InvalidRequest(*faults)


def check_days(start: object, end: object) -> None:
    """Check a range of days.

    Raises:
        InvalidRequest: If a day is not a ``datetime.date``, or ``start`` is after ``end``.
    """
    days = [day for day in (start, end) if day is not None]
    if any(isinstance(day, datetime) or not isinstance(day, date) for day in days):
        raise InvalidRequest(worded("{start} and {end} must be datetime.date, days in GMT+8"))
    if isinstance(start, date) and isinstance(end, date) and start > end:
        raise InvalidRequest(f"{worded('start')} {start} is after {worded('end')} {end}")


def _check_iccids(iccids: Iterable[str]) -> Steps[list[str]]:
    cleaned = [*chain.from_iterable((yield from iccids_in_steps(iccids)))]
    if len(cleaned) > MAX_ITEMS:
        raise InvalidRequest(
            f"{len(cleaned):,} ICCIDs are more than one request takes ({MAX_ITEMS:,})"
        )
    return cleaned


def check_cards(
    order_num: str, iccids: str | Iterable[str], *checks: Callable[[], object]
) -> Steps[list[str]]:
    """Check an order number and the ICCIDs of its cards, and return each ICCID once.

    Args:
        order_num: The order number.
        iccids: The ICCIDs.
        checks: More checks to run.

    Raises:
        InvalidRequest: If there are faults; it lists those of all checks.
    """
    faults = _Faults()
    faults.of(lambda: check_text("order_num", order_num))
    cards: list[str] = []
    try:
        cards = yield from _check_iccids([iccids] if isinstance(iccids, str) else iccids)
    except InvalidRequest as error:
        faults.extend(error.faults)
    else:
        if not cards:
            faults.add("{iccids} is empty; name the cards")
    for check in checks:
        faults.of(check)
    if faults:
        raise InvalidRequest(*faults)
    return list(dict.fromkeys(cards))


def check_page_size(size: int) -> int:
    """Check a page size, and return it.

    Raises:
        InvalidRequest: If it is not 1 to 1000.
    """
    if type(size) is not int or not 1 <= size <= 1000:
        raise InvalidRequest(f"page_size must be 1 to 1000, not {size!r}")
    return size


def pdf_params(
    kind: str,
    order_num: str,
    iccids: str | Iterable[str] | None,
    *checks: Callable[[], object],
) -> Steps[tuple[dict[str, Value], list[str] | None]]:
    """Return the parameters of a call about PDFs, and its ICCIDs; None for the whole order.

    Raises:
        InvalidRequest: If there are faults; it lists those of all checks.
    """
    cards: list[str] | None = None
    if iccids is None:
        run_checks(lambda: check_text("order_num", order_num), *checks)
    else:
        cards = yield from check_cards(order_num, iccids, *checks)
    # The parameter orderId takes the order number (vendor-documented).
    return {"type": kind, "orderId": order_num, "iccids": cards}, cards

"""What a customer needs to know of a card, and the functions that write it out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import define, field

from mioesim_async.clock import GMT8
from mioesim_async.delivery.brand import Brand
from mioesim_async.delivery.page import QR_SCALE, page
from mioesim_async.delivery.plain import plain_text
from mioesim_async.delivery.texts import Overrides, Texts, texts_for
from mioesim_async.delivery.views import CardView, ManualField
from mioesim_async.errors import InvalidRequest
from mioesim_async.models.activation import ActivationCode, InstallLinks
from mioesim_async.models.cards import CardDetail
from mioesim_async.models.hiding import HIDDEN
from mioesim_async.models.orders import Order, OrderCard

__all__ = ["CustomerSheet", "Source", "customer_html", "customer_sheets", "customer_text"]

NO_CODE = (
    "has no activation code: it is a physical SIM, or the code was not issued yet, or it came "
    "in a form that can't be read"
)
TOO_LONG = "has an activation code that is too long for a QR code"

SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(MB|GB)", re.IGNORECASE)
MB = {"mb": 1, "gb": 1024}
DATE_CHARS, MOMENT_CHARS = len("2026-01-31"), len("2026-01-31 23:59:59")


@define
class CustomerSheet:
    """What to send to the customer for one card.

    Everything that leads to the activation code is masked in ``repr``. All attributes can be
    changed before the sheet is written out, for example ``plan``, to the shop's own name of it.

    Attributes:
        iccid: The ICCID; empty if the vendor's row could not be read.
        activation: The activation code, or None.
        manual: The fields to enter by hand, as label (in English) and value, for a layout of your
            own; the page makes its own of ``activation`` and ``apn``.
        links: Links that start the installation on the phone itself, or None.
        pdf_url: URL of the vendor's PDF, or None.
        problem: Why there is no QR code; empty if there is one. A code that is too long for a
            QR code still has ``links`` and ``manual``.
        plan: Name of the plan, as the vendor wrote it with the order, or None.
        data: Data, in MB (1 GB = 1024 MB), or the vendor's text if it is no number, or None. Of
            a day pass it may be the data of one day.
        days: Length of the plan in days, or None.
        ends_at: End of the plan, GMT+8, or None; a date alone means the end of that day.
        activate_before: Until when the eSIM may be installed (vendor-documented; its exact
            meaning is assumed), GMT+8, or None.
        apn: The APN, or empty.
    """

    iccid: str
    activation: ActivationCode | None = field(default=None, metadata=HIDDEN)
    manual: dict[str, str] = field(factory=dict, repr=False, metadata=HIDDEN)
    links: InstallLinks | None = field(default=None, metadata=HIDDEN)
    pdf_url: str | None = field(default=None, repr=False, metadata=HIDDEN)
    problem: str = ""
    plan: str | None = None
    data: float | str | None = None
    days: int | None = None
    ends_at: datetime | None = None
    activate_before: datetime | None = None
    apn: str = ""

    @property
    def qr_svg(self) -> str:
        """The QR code as an SVG element; empty if there is a ``problem``.

        Raises:
            ConfigurationError: If the extra ``qr`` is not installed.
        """
        if self.activation is None or self.problem:
            return ""
        return self.activation.qr_svg(scale=QR_SCALE)

    def to_html(
        self,
        *,
        brand: Brand | None = None,
        language: str = "en",
        texts: Overrides | None = None,
        pdf_links: bool = False,
    ) -> str:
        """Return what ``customer_html`` returns for this card alone."""
        return customer_html(self, brand=brand, language=language, texts=texts, pdf_links=pdf_links)

    def to_text(
        self,
        *,
        brand: Brand | None = None,
        language: str = "en",
        texts: Overrides | None = None,
        pdf_links: bool = False,
    ) -> str:
        """Return what ``customer_text`` returns for this card alone."""
        return customer_text(self, brand=brand, language=language, texts=texts, pdf_links=pdf_links)


Source = CardDetail | OrderCard | Order | CustomerSheet | Sequence[CustomerSheet]
"""What a page or a text can be made of."""


def customer_sheets(source: CardDetail | OrderCard | Order) -> list[CustomerSheet]:
    """Return a sheet for a card, or for each card of an order.

    Args:
        source: A card from ``client.cards.detail``, an order, or a card of an order. A card
            without an activation code in an order with others gets a sheet with a ``problem``,
            and so does a code that is too long for a QR code.

    Raises:
        InvalidRequest: If no card has an activation code; it names the ICCIDs. Also if the order
            comes from the order journal; it says how to read the order.
    """
    order = source if isinstance(source, Order) else None
    cards = source.cards if isinstance(source, Order) else [source]
    if order is not None and order.is_recorded:
        raise InvalidRequest(
            f"order {order.order_num} comes from the order journal, which keeps no activation "
            f"codes; read it first: await client.orders.get({order.order_num!r})"
        )
    if not cards:
        raise InvalidRequest("the order names no cards yet; read it again later")
    if not any(card.activation for card in cards):
        raise InvalidRequest(*(f"card {card.iccid or '(unreadable)'} {NO_CODE}" for card in cards))
    return [_sheet(card, order) for card in cards]


def customer_html(
    source: Source,
    *,
    brand: Brand | None = None,
    language: str = "en",
    texts: Overrides | None = None,
    pdf_links: bool = False,
) -> str:
    """Return one HTML page for the customer, with all cards of an order.

    It says what was bought and what to do now. On a phone that can install by itself (an iPhone
    with iOS 17.4 or later, or an Android phone) it has a button for that, elsewhere the QR code;
    the other ways and the values to enter by hand are a tap away. The page loads nothing else but
    a logo that the brand gives as an ``https://`` address, and sends no referrer. Its one script
    copies values; the page works without it. Printed, each eSIM begins on a page of its own.

    Drawing a QR code takes some milliseconds of CPU, so in an event loop use
    ``await asyncio.to_thread(customer_html, order)``. A card whose code is too long for a QR code
    is shown with links and fields for manual entry.

    Args:
        source: A card from ``client.cards.detail``, an order, a card of an order, or sheets from
            ``customer_sheets``, which may have been changed.
        brand: The shop.
        language: The language's tag: ``de``, ``en``, ``es``, ``fr``, ``ja``, ``zh``, one of these
            with a region, or one that ``texts`` has.
        texts: Texts of the shop's own, by language and key, in place of those that
            ``customer_texts`` returns or for a new language. They are plain text, not HTML.
        pdf_links: Whether to show the vendor's link to a PDF. It is plain ``http`` and shows the
            activation code to whoever opens it.

    Raises:
        InvalidRequest: If no card has an activation code; it names the ICCIDs. Also if there are
            no texts in this language, or ``texts`` has a fault; it names all of them.
        ConfigurationError: If the extra ``qr`` is not installed.
    """
    words = texts_for(language, texts)
    return page(_views(source, words, pdf_links=pdf_links), words, brand)


def customer_text(
    source: Source,
    *,
    brand: Brand | None = None,
    language: str = "en",
    texts: Overrides | None = None,
    pdf_links: bool = False,
) -> str:
    """Return plain text for an e-mail or a terminal, with all cards of an order; no QR codes.

    The arguments are those of ``customer_html``; of the brand it has name and support address.

    Raises:
        InvalidRequest: If no card has an activation code; it names the ICCIDs. Also if there are
            no texts in this language, or ``texts`` has a fault; it names all of them.
    """
    words = texts_for(language, texts)
    return plain_text(_views(source, words, pdf_links=pdf_links), words, brand)


def _sheet(card: CardDetail | OrderCard, order: Order | None) -> CustomerSheet:
    code, own = card.activation, _Extra(card.extra)
    both = _Extra(order.extra if order else {}, card.extra)
    size = ends_at = pdf_url = None
    if isinstance(card, CardDetail):
        size, ends_at = card.total_mb, card.ends_at
    else:
        pdf_url = card.pdf_url
    sheet = CustomerSheet(
        _printable(card.iccid),
        code,
        pdf_url=_printable(pdf_url or own.text("pdfurl")) or None,
        plan=_printable(both.text("display")) or None,
        data=size or both.data(),
        days=both.number("validity") or both.number("days") or both.number("daypassdays"),
        ends_at=ends_at or both.moment("enddate"),
        activate_before=both.moment("activatebefore"),
        apn=_printable(own.text("apn")),
    )
    if code is None:
        sheet.problem = NO_CODE
        return sheet
    english = texts_for("en")
    sheet.manual = {field.label: field.value for field in _manual(sheet, english)}
    sheet.links = code.install_links()
    sheet.problem = "" if code.is_drawable else TOO_LONG
    return sheet


class _Extra:
    """Reads fields that the models keep in ``extra``; a later one goes before an earlier one."""

    def __init__(self, *extras: Mapping[str, Any]) -> None:
        # The vendor writes names in several ways.
        self._values = {
            key.replace("_", "").lower(): value
            for extra in extras
            for key, value in extra.items()
            if value not in (None, "")
        }

    def text(self, name: str) -> str:
        value = self._values.get(name)
        return value.strip() if isinstance(value, str) else ""

    def number(self, name: str) -> int | None:
        value = self._values.get(name)
        text = str(value).strip() if type(value) in (int, str) else ""
        return int(text) if re.fullmatch("[1-9][0-9]{0,3}", text) else None

    def data(self) -> float | str | None:
        text = _printable(self.text("data"))
        size = SIZE.fullmatch(text)
        return float(size[1]) * MB[size[2].lower()] if size else text or None

    def moment(self, name: str) -> datetime | None:
        text = self.text(name)
        if len(text) == DATE_CHARS:
            text += " 23:59:59"
        try:
            moment = datetime.fromisoformat(text[:MOMENT_CHARS])
        except ValueError:
            return None
        return moment.replace(tzinfo=GMT8)


def _printable(text: str | None) -> str:
    # Control characters in the vendor's text could harm a terminal or an e-mail.
    return "".join(char for char in text or "" if char.isprintable())


def _manual(sheet: CustomerSheet, texts: Texts) -> list[ManualField]:
    code = sheet.activation
    if code is None:
        return []
    values = {
        "smdp_address": code.smdp_address,
        "matching_id": code.matching_id,
        "whole_code": str(code),
        "confirmation": texts("confirmation_note") * code.confirmation_required,
        "apn": sheet.apn,
    }
    return [
        ManualField(key, texts(key), value, is_copied=key != "confirmation")
        for key, value in values.items()
        if value
    ]


def _views(source: Source, texts: Texts, *, pdf_links: bool) -> list[CardView]:
    if isinstance(source, CustomerSheet):
        sheets: Sequence[CustomerSheet] = [source]
    elif isinstance(source, Sequence):
        sheets = source
    else:
        sheets = customer_sheets(source)
    if not sheets:
        raise InvalidRequest("there is no sheet to show; give at least one")
    count = len(sheets)
    return [
        CardView(
            _heading(sheet, number, count, texts),
            list(_facts(sheet, count, texts)),
            sheet.activation,
            sheet.links,
            _manual(sheet, texts),
            sheet.pdf_url if pdf_links else None,
        )
        for number, sheet in enumerate(sheets, 1)
    ]


def _heading(sheet: CustomerSheet, number: int, count: int, texts: Texts) -> str:
    if not sheet.iccid:
        return texts("unreadable")
    if count > 1:
        return texts("number", number=number, count=count)
    return sheet.plan or "eSIM"


def _facts(sheet: CustomerSheet, count: int, texts: Texts) -> list[tuple[str, str]]:
    """Return what was bought; the plan of a single card is its heading."""
    values = {
        "plan": sheet.plan if count > 1 or not sheet.iccid else None,
        "data": None if sheet.data is None else texts.amount(sheet.data),
        "days": str(sheet.days) if sheet.days else None,
        "ends": sheet.ends_at and texts.moment(sheet.ends_at),
        "activate_before": sheet.activate_before and texts.moment(sheet.activate_before),
        "iccid": sheet.iccid,
    }
    return [(texts(key), value) for key, value in values.items() if value]

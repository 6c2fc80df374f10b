"""What to send to the customer of an eSIM: QR code, fields for manual entry, links.

All of it contains the activation code, and whoever sees that can use the customer's eSIM. Send
it to the customer only, and keep it out of logs and caches.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from html import escape
from pathlib import Path
from string import Template

from attrs import define, field

from mioesim_async.errors import InvalidRequest
from mioesim_async.models.activation import ActivationCode, InstallLinks
from mioesim_async.models.cards import CardDetail
from mioesim_async.models.hiding import HIDDEN
from mioesim_async.models.orders import Order, OrderCard
from mioesim_async.private_file import replace_file

__all__ = ["CustomerSheet", "customer_html", "customer_sheets", "customer_text", "save"]

NO_CODE = (
    "has no activation code: it is a physical SIM, or the code was not issued yet, or it came "
    "in a form that can't be read"
)
TOO_LONG = "has an activation code that is too long for a QR code"
PIXELS = 6
"""Pixels of a QR code's module; large enough to scan it from a screen."""

PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta name="referrer" content="no-referrer">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>$title</title>
<style>
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: auto; padding: 1rem; }
section { break-inside: avoid; }
svg { max-width: 100%; height: auto; }
dt { font-weight: bold; }
dd { margin: 0 0 .5rem; overflow-wrap: anywhere; }
</style>
</head>
<body>
<main>
<h1>$title</h1>
$sections
</main>
</body>
</html>
""")
SECTION = Template("""\
<section>
<h2>$heading</h2>
$content
</section>""")
PROBLEM = Template("<p>This card $problem.</p>")
QR = Template("""\
<p>Scan this QR code with the phone that gets the eSIM:</p>
<div role="img" aria-label="QR code with the activation code">$qr</div>""")
BY_HAND = Template("""\
<p>On the phone itself, tap a link:</p>
<ul>
$links
</ul>
<p>Or enter by hand, in the phone's settings for eSIMs:</p>
<dl>
$manual
</dl>""")


@define
class CustomerSheet:
    """What to send to the customer for one card.

    Everything but the ICCID is secret, and is masked in ``repr``.

    Attributes:
        iccid: The ICCID; empty if the vendor's row could not be read.
        activation: The activation code, or None.
        manual: The fields to enter by hand, as label and value.
        links: Links that start the installation on the phone itself, or None.
        pdf_url: URL of the vendor's PDF, or None.
        problem: Why there is no QR code; empty if there is one. A code that is too long for a
            QR code still has ``links`` and ``manual``.
    """

    iccid: str
    activation: ActivationCode | None = field(default=None, metadata=HIDDEN)
    manual: dict[str, str] = field(factory=dict, repr=False, metadata=HIDDEN)
    links: InstallLinks | None = field(default=None, metadata=HIDDEN)
    pdf_url: str | None = field(default=None, repr=False, metadata=HIDDEN)
    problem: str = ""

    @property
    def qr_svg(self) -> str:
        """The QR code as an SVG element; empty if there is a ``problem``.

        Raises:
            ConfigurationError: If the extra ``qr`` is not installed.
        """
        if self.activation is None or self.problem:
            return ""
        return self.activation.qr_svg(scale=PIXELS)

    def to_html(self) -> str:
        """Return an HTML page that loads nothing else, such as images or scripts.

        Raises:
            ConfigurationError: If the extra ``qr`` is not installed.
        """
        return _page([self])

    def to_text(self) -> str:
        """Return plain text for an e-mail or a terminal, without the QR code."""
        lines = [_heading(self)]
        if self.problem:
            lines.append(f"This card {self.problem}.")
        entries = [*self.manual.items(), *_links(self)]
        return "\n".join([*lines, *(f"{label}: {value}" for label, value in entries)]) + "\n"


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
    cards = source.cards if isinstance(source, Order) else [source]
    if isinstance(source, Order) and source.is_recorded:
        raise InvalidRequest(
            f"order {source.order_num} comes from the order journal, which keeps no activation "
            f"codes; read it first: await client.orders.get({source.order_num!r})"
        )
    if not cards:
        raise InvalidRequest("the order names no cards yet; read it again later")
    if not any(card.activation for card in cards):
        raise InvalidRequest(*(f"card {card.iccid or '(unreadable)'} {NO_CODE}" for card in cards))
    return [_sheet(card) for card in cards]


def customer_html(source: CardDetail | OrderCard | Order) -> str:
    """Return one HTML page for the customer, with all cards of an order.

    The page loads nothing else and sends no referrer. Drawing a QR code takes some milliseconds
    of CPU, so in an event loop use ``await asyncio.to_thread(customer_html, order)``. A card
    whose code is too long for a QR code is shown with links and fields for manual entry.

    Raises:
        InvalidRequest: If no card has an activation code; it names the ICCIDs.
        ConfigurationError: If the extra ``qr`` is not installed.
    """
    return _page(customer_sheets(source))


def customer_text(source: CardDetail | OrderCard | Order) -> str:
    """Return plain text for an e-mail or a terminal, with all cards of an order; no QR codes.

    Raises:
        InvalidRequest: If no card has an activation code; it names the ICCIDs.
    """
    return "\n".join(sheet.to_text() for sheet in customer_sheets(source))


def save(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Create or replace a file atomically; only its owner may read it (mode 0600).

    Text is written as UTF-8. This blocks, so use ``asyncio.to_thread`` in an event loop.

    Raises:
        OSError: If the file can't be written; it names ``path``.
    """
    target = Path(path)
    data = content.encode() if isinstance(content, str) else content
    try:
        replace_file(target, data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from None


def _sheet(card: CardDetail | OrderCard) -> CustomerSheet:
    code, iccid = card.activation, _printable(card.iccid)
    pdf_url = (card.pdf_url if isinstance(card, OrderCard) else None) or _extra(card, "pdfurl")
    if code is None:
        return CustomerSheet(iccid, pdf_url=_printable(pdf_url) or None, problem=NO_CODE)
    manual = {
        "SM-DP+ address": code.smdp_address,
        "Activation code": code.matching_id,
        "Both in one (Android)": str(code),
        "Confirmation code": "asked for; it comes separately" * code.confirmation_required,
        "APN": _printable(_extra(card, "apn")),
    }
    return CustomerSheet(
        iccid,
        code,
        {label: value for label, value in manual.items() if value},
        code.install_links(),
        _printable(pdf_url) or None,
        "" if code.is_drawable else TOO_LONG,
    )


def _extra(card: CardDetail | OrderCard, name: str) -> str:
    """Return a text from ``extra``, or ""; the vendor writes its name in several ways."""
    found = (card.extra[key] for key in card.extra if key.replace("_", "").lower() == name)
    return next((value.strip() for value in found if isinstance(value, str)), "")


def _printable(text: str | None) -> str:
    # Control characters in the vendor's text could harm a terminal or an e-mail.
    return "".join(char for char in text or "" if char.isprintable())


def _heading(sheet: CustomerSheet) -> str:
    return f"eSIM {sheet.iccid}" if sheet.iccid else "A card that could not be read"


def _links(sheet: CustomerSheet) -> list[tuple[str, str]]:
    links = [("The vendor's PDF", sheet.pdf_url)] if sheet.pdf_url else []
    if sheet.links is not None:
        links[:0] = [
            ("Install on an iPhone (iOS 17.4 or later)", sheet.links.ios),
            ("Install on Android (not on every phone)", sheet.links.android),
        ]
    return links


def _page(sheets: Iterable[CustomerSheet]) -> str:
    sections = [
        SECTION.substitute(heading=escape(_heading(sheet)), content=_content(sheet))
        for sheet in sheets
    ]
    title = "Your eSIM" if len(sections) == 1 else "Your eSIMs"
    return PAGE.substitute(title=title, sections="\n".join(sections))


def _content(sheet: CustomerSheet) -> str:
    links = "\n".join(_item(label, url) for label, url in _links(sheet))
    problem = PROBLEM.substitute(problem=escape(sheet.problem))
    if sheet.activation is None:
        return f"{problem}\n<ul>\n{links}\n</ul>" if links else problem
    manual = "\n".join(
        f"<dt>{escape(label)}</dt><dd>{escape(value)}</dd>" for label, value in sheet.manual.items()
    )
    head = problem if sheet.problem else QR.substitute(qr=sheet.qr_svg)
    return f"{head}\n{BY_HAND.substitute(links=links, manual=manual)}"


def _item(label: str, url: str) -> str:
    if url.lower().startswith(("https://", "http://")):
        return f'<li><a href="{escape(url)}" rel="noreferrer">{escape(label)}</a></li>'
    return f"<li>{escape(label)}: {escape(url)}</li>"

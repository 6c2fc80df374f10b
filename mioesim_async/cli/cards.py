"""``mioesim card``, ``history``, ``qr`` and ``pdf``: one card, and what to give its customer."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from mioesim_async.api.orders.line_checks import check_email, check_text, run_checks
from mioesim_async.cli.examples import examples
from mioesim_async.cli.exit_status import FAILED, OK
from mioesim_async.cli.options import COMMON, Common
from mioesim_async.cli.printing import (
    amount,
    card_status,
    fixed,
    moment,
    order_status,
    print_json,
    print_lines,
    print_table,
    print_text,
)
from mioesim_async.cli.prompt import confirm
from mioesim_async.cli.running import Flag, app, say
from mioesim_async.delivery import (
    CustomerSheet,
    customer_html,
    customer_sheets,
    customer_text,
    customer_texts,
    languages,
    save,
)
from mioesim_async.errors import InvalidRequest, MioEsimError, OutcomeUnknown
from mioesim_async.models.activation import ActivationCode
from mioesim_async.models.cards import CardDetail
from mioesim_async.models.iccid import clean_iccid
from mioesim_async.models.orders import Order

if TYPE_CHECKING:
    from mioesim_async.client import MioEsimClient

__all__: list[str] = []

HIDDEN = "hidden; --show-activation shows it"
ORDER = "the order number"
ENDINGS = {".svg": "svg", ".png": "png", ".html": "html", ".htm": "html", ".txt": "text"}


class NothingToShow(MioEsimError):
    """No card has an activation code that can be shown; the command line itself is right."""


@app.command(help_epilogue=examples("card"))
def card(
    iccid: str, *, show_activation: Annotated[bool, Flag] = False, common: Common = COMMON
) -> int:
    """Show everything about one card.

    Args:
        iccid: The card.
        show_activation: Show the activation code too; whoever sees it can use the eSIM.
        common: Options of every command.
    """

    async def work(client: MioEsimClient) -> int:
        found = await client.cards.detail(clean_iccid(iccid))
        if common.json:
            print_json(found, show_activation=show_activation)
        else:
            print_lines(_lines(found, show_activation=show_activation))
        return OK

    return common.run(work)


def _lines(found: CardDetail, *, show_activation: bool) -> list[tuple[str, Any]]:
    code = found.activation
    return [
        ("ICCID", found.iccid),
        ("Status", card_status(found.dp_status)),
        ("Data used", amount(found.used_mb)),
        ("Data left", amount(found.remaining_mb)),
        ("Data of the plan", amount(found.total_mb)),
        ("Starts (GMT+8)", moment(found.starts_at)),
        ("Ends (GMT+8)", moment(found.ends_at)),
        ("Order", found.order_num),
        ("SKU", found.sku_id),
        ("Activation code", "none" if code is None else code if show_activation else HIDDEN),
    ]


@app.command(help_epilogue=examples("history"))
def history(iccid: str, *, common: Common = COMMON) -> int:
    """List the plans that a card has had.

    Args:
        iccid: The card.
        common: Options of every command.
    """

    async def work(client: MioEsimClient) -> int:
        plans = await client.cards.history(clean_iccid(iccid))
        if common.json:
            print_json(plans)
        elif not plans:
            say("the card had no plans")
        else:
            columns = (fixed("Order"), "Plan", "Status", fixed("Starts (GMT+8)"))
            print_table(
                (*columns, fixed("Ends (GMT+8)")),
                [
                    (
                        plan.order_num,
                        plan.display,
                        order_status(plan.status),
                        moment(plan.starts_at),
                        moment(plan.ends_at),
                    )
                    for plan in plans
                ],
            )
        return OK

    return common.run(work)


@app.command(help_epilogue=examples("qr"))
def qr(
    card_or_order: str,
    /,
    *,
    output: Annotated[
        Path | None, Parameter(name=["--output", "-o"], allow_leading_hyphen=True)
    ] = None,
    text: Annotated[bool, Flag] = False,
    html: Annotated[bool, Flag] = False,
    language: str | None = None,
    show_activation: Annotated[bool, Flag] = False,
    common: Common = COMMON,
) -> int:
    """Show the QR code of a card, or of each card of an order, for the customer to scan.

    Whoever sees it can use the eSIM. A file gets the code even without --show-activation, and
    has mode 0600.

    Args:
        card_or_order: An ICCID or an order number. Order numbers start with a letter.
        output: Write to a file: .svg or .png for one card's QR code, .html for a page for the
            customer, .txt for a text for the customer.
        text: Make a text for the customer, with codes and links. To print it, add
            --show-activation.
        html: Make a page for the customer. To print it, add --show-activation.
        language: Language of the page or text: de, en, es, fr, ja or zh. By default en.
        show_activation: Print activation codes as text too.
        common: Options of every command.
    """

    async def work(client: MioEsimClient) -> int:
        kind = _kind(output, text=text, html=html)
        _check_language(language, kind)
        write = partial(_content, kind, language=language or "en")
        if output is None and kind is not None and not show_activation:
            raise InvalidRequest(
                f"--{kind} shows the activation code as text: add --show-activation, or write "
                "it to a file with --output"
            )
        source = await _card_or_order(client, card_or_order.strip())
        sheets = _sheets(source)
        if output is not None and kind is not None:
            content = await asyncio.to_thread(write, source)
            await asyncio.to_thread(save, output, content)
        if common.json:
            print_json(sheets, show_activation=show_activation)
        elif output is not None:
            say(f"wrote {output}; whoever opens it can use the eSIM")
        elif kind is not None:
            print(write(source))
        else:
            for sheet in sheets:
                _print_qr(sheet, show_activation=show_activation)
        return _report_problems(sheets)

    return common.run(work)


def _kind(output: Path | None, *, text: bool, html: bool) -> str | None:
    """Return what to make; None for a QR code in the terminal."""
    if text and html:
        raise InvalidRequest("--text and --html can't be used together; give one of them")
    asked = "text" if text else "html" if html else None
    if output is None or asked is not None:
        return asked
    ending = output.suffix.lower()
    if ending not in ENDINGS:
        raise InvalidRequest(f"{output.name} must end in one of {', '.join(ENDINGS)}")
    return ENDINGS[ending]


async def _card_or_order(client: MioEsimClient, name: str) -> CardDetail | Order:
    if name[:1].isalpha():
        check_text(ORDER, name)
        return await client.orders.get(name)
    return await client.cards.detail(clean_iccid(name))


def _sheets(source: CardDetail | Order) -> list[CustomerSheet]:
    try:
        return customer_sheets(source)
    except InvalidRequest as error:
        raise NothingToShow(str(error)) from None


def _only_code(source: CardDetail | Order) -> ActivationCode:
    sheets = _sheets(source)
    if len(sheets) != 1:
        raise InvalidRequest(
            f"the order has {len(sheets)} cards, and an image has one QR code: name a card by "
            "its ICCID, or write a page with --output FILE.html"
        )
    (sheet,) = sheets
    if sheet.activation is None or sheet.problem:
        raise NothingToShow(
            f"card {sheet.iccid} {sheet.problem}: write a page with --output FILE.html"
        )
    return sheet.activation


def _report_problems(sheets: list[CustomerSheet]) -> int:
    """Name the cards without a QR code, and return the exit status."""
    with_problems = [sheet for sheet in sheets if sheet.problem]
    for what, cards in (
        ("without an activation code", [s for s in with_problems if s.activation is None]),
        ("too long for a QR code", [s for s in with_problems if s.activation is not None]),
    ):
        if cards:
            say(f"{what}: {', '.join(card.iccid or '?' for card in cards)}")
    return FAILED if with_problems else OK


def _content(kind: str | None, source: CardDetail | Order, *, language: str) -> str | bytes:
    if kind in FOR_CUSTOMERS:
        return FOR_CUSTOMERS[kind](source, language=language)
    code = _only_code(source)
    return code.qr_png() if kind == "png" else code.qr_svg()


def _check_language(language: str | None, kind: str | None) -> None:
    if language is not None:
        if kind not in FOR_CUSTOMERS:
            raise InvalidRequest(
                "--language is for a page or a text: add --html or --text, or write to a file "
                "that ends in .html or .txt"
            )
        if language.partition("-")[0].lower() not in languages():
            known = ", ".join(languages())
            raise InvalidRequest(f"there is no text in {language!r}, only in {known}")
        customer_texts(language)


FOR_CUSTOMERS = {"html": customer_html, "text": customer_text}
"""Writes what the customer reads, by its kind."""


def _print_qr(sheet: CustomerSheet, *, show_activation: bool) -> None:
    code = sheet.activation
    if code is None or sheet.problem:
        return
    console = Console()
    plain = code.qr_terminal(color=False)
    width = len(plain.partition("\n")[0])
    if console.is_terminal and console.width < width:
        raise InvalidRequest(
            f"the QR code is {width} columns wide and the terminal {console.width}: make it "
            "wider, or write a file with --output FILE.png"
        )
    print_text(f"eSIM {sheet.iccid}")
    print(code.qr_terminal() if console.color_system else plain)
    if show_activation:
        print(code)


@app.command(help_epilogue=examples("pdf"))
def pdf(
    order_num: str,
    *iccids: str,
    email: str | None = None,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"], negative="", show_default=False)] = False,
    common: Common = COMMON,
) -> int:
    """Print links to the PDFs of an order's cards, or have the vendor mail them.

    Whoever opens a link or gets the mail sees the activation code and can use the eSIM. Links
    are printed in full, with --json too. The command asks before it has a mail sent, and never
    sends it twice.

    Args:
        order_num: The order.
        iccids: Only the PDFs of these cards.
        email: Have the vendor mail the PDFs to this address.
        yes: Mail without asking.
        common: Options of every command.
    """

    async def work(client: MioEsimClient) -> int:
        if email is None:
            links = await client.orders.pdf_links(order_num, iccids or None)
            if common.json:
                print_json(links)
            else:
                print_table((fixed("ICCID"), fixed("PDF")), links.items())
            return OK
        try:
            await client.orders.email_pdf(order_num, email, iccids or None)
        except OutcomeUnknown as error:
            raise MioEsimError(
                "the mail may or may not have been sent, and was not sent again; ask whether it "
                f"came before you repeat it. The cause: {error.last_error}"
            ) from None
        if common.json:
            print_json({"order_num": order_num, "email": email, "sent": True})
        else:
            print_text(f"The vendor mails the PDFs of order {order_num} to {email}.")
        return OK

    def first() -> None:
        run_checks(
            partial(check_text, ORDER, order_num),
            *[partial(clean_iccid, iccid) for iccid in iccids],
            *[partial(check_email, address) for address in (email,) if address is not None],
        )
        if email is not None and not yes:
            cards = f"{len(iccids):,} cards" if iccids else "all cards"
            confirm(f"Mail the PDFs of {cards} of order {order_num} to {email}?")

    return common.run(work, first=first)

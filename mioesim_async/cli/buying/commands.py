"""``mioesim order``, ``renew`` and ``cancel``."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from cyclopts import Parameter

from mioesim_async import errors
from mioesim_async.api.orders.line_checks import Line
from mioesim_async.cli.buying.bulk import BulkOptions, buy_file
from mioesim_async.cli.buying.cancel import cancel_cards
from mioesim_async.cli.buying.order import Mode, buy_one
from mioesim_async.cli.buying.order_files import FIELDS
from mioesim_async.cli.examples import examples
from mioesim_async.cli.options import COMMON, Common
from mioesim_async.cli.running import Flag, Positive, app, guarded
from mioesim_async.models.order_lines import OrderLine, RenewalLine, new_reference
from mioesim_async.wording import in_words

__all__: list[str] = []

File = Parameter(name=["--file", "-f"], allow_leading_hyphen=True)
Days = Parameter(name=["--days", "--daypass-days"])
DEFAULT_CONCURRENCY = 4
EachIccid = Parameter(name="--iccid", negative="")

OPTIONS = {
    **{name: f"--{name.replace('_', '-')}" for name in (*FIELDS[OrderLine], *FIELDS[RenewalLine])},
    "sku_id": "SKU_ID",
    "price_id": "PRICE_ID",
    "daypass_days": "--days",
    "iccids": "--iccid",
    "order_num": "--order",
    "other_order_id": "--reference",
    "other_item_id": "--item-reference",
}
"""What messages about one line call its fields; for a file they name its columns."""


@app.command(help_epilogue=examples("order"))
def order(
    sku_id: int | None = None,
    price_id: int | None = None,
    /,
    *,
    api_code: str | None = None,
    count: int | None = None,
    days: Annotated[int | None, Days] = None,
    begin_date: date | None = None,
    dp_id: int | None = None,
    iccids: Annotated[tuple[str, ...], EachIccid] = (),
    customer_email: str | None = None,
    send_email: Annotated[bool, Flag] = False,
    pdf_language: str | None = None,
    remark: str | None = None,
    reference: str | None = None,
    item_reference: str | None = None,
    file: Annotated[Path | None, File] = None,
    max_spend: str | None = None,
    result: Path | None = None,
    batch: str | None = None,
    concurrency: Annotated[int | None, Positive] = None,
    yes: Annotated[bool, Flag] = False,
    dry_run: Annotated[bool, Flag] = False,
    show_activation: Annotated[bool, Flag] = False,
    common: Common = COMMON,
) -> int:
    """Order eSIMs or physical SIMs: one plan, or each line of a CSV file.

    Shows what it will buy and its price, and asks. It writes every order to a journal before it
    sends it, and never buys a reference twice. So if no answer came, you can repeat the same
    command with the same --reference. Without --reference it makes a new one, and prints it
    before the order is sent.

    With --file, the columns are named like the fields of OrderLine: sku_id, price_id, api_code,
    count, reference (or other_order_id), other_item_id, dp_id, iccids, begin_date,
    daypass_days (or days), customer_email (or email), send_email, pdf_language, remark. A line
    without a reference gets one, made of the file's name and of the line's content. So you can
    correct the file and run it again: no line is bought twice. To buy the same lines once more,
    give another --batch.

    Exit status: 0 done, 1 failed or answered with no, 2 wrong usage, 3 not logged in, 4 it may
    have been bought, or was bought but could not be read: check before you repeat it, 5 the host
    was not reached, 130 interrupted.

    Args:
        sku_id: The SKU, a country or region.
        price_id: The plan of that SKU.
        api_code: The plan's code, instead of PRICE_ID. Without a SKU_ID its price is unknown,
            since several SKUs may have a plan of this code, and --yes is refused.
        count: How many cards; 1, or as many as --iccid.
        days: Days of a day pass.
        begin_date: First day of the plan in GMT+8, such as 2027-01-31.
        dp_id: The partner whose physical SIMs these are.
        iccids: ICCID of a physical SIM; may be repeated.
        customer_email: The customer's mail address.
        send_email: Have the vendor send the customer a mail.
        pdf_language: Language of the PDF, as the vendor names it.
        remark: A note for yourself.
        reference: Your reference of the order; it is never bought twice.
        item_reference: Your reference of the item.
        file: A CSV file with one order per line.
        max_spend: Most that all lines of --file may cost; lines bought in earlier runs count.
        result: Write one row for each line of --file to this file (mode 0600); without it, to
            standard output.
        batch: Name of this batch of --file, instead of the file's name.
        concurrency: How many orders of --file to send at once; 4 if not given.
        yes: Buy without asking.
        dry_run: Show the price and whether it is in stock, and buy nothing.
        show_activation: Print activation codes; whoever has one can use the eSIM.
        common: Options of every command.
    """
    given: dict[str, Any] = {
        "sku_id": sku_id,
        "price_id": price_id,
        "api_code": api_code,
        "count": count,
        "daypass_days": days,
        "begin_date": begin_date,
        "dp_id": dp_id,
        "iccids": list(iccids) or None,
        "customer_email": customer_email,
        "send_email": send_email or None,
        "pdf_language": pdf_language,
        "remark": remark,
        "other_order_id": reference,
        "other_item_id": item_reference,
    }
    if count is None and iccids:
        given["count"] = len(iccids)
    mode = Mode(common, yes, dry_run, show_activation)
    bulk = _Bulk(file, max_spend, result, batch, concurrency)
    return guarded(lambda: _buy(OrderLine, given, bulk, mode), debug=common.debug)


@app.command(help_epilogue=examples("renew"))
def renew(
    sku_id: int | None = None,
    price_id: int | None = None,
    /,
    *,
    api_code: str | None = None,
    iccid: str | None = None,
    order_num: Annotated[str | None, Parameter(name=["--order", "--order-num"])] = None,
    days: Annotated[int | None, Days] = None,
    pdf_language: str | None = None,
    remark: str | None = None,
    reference: str | None = None,
    item_reference: str | None = None,
    file: Annotated[Path | None, File] = None,
    max_spend: str | None = None,
    result: Path | None = None,
    batch: str | None = None,
    concurrency: Annotated[int | None, Positive] = None,
    yes: Annotated[bool, Flag] = False,
    dry_run: Annotated[bool, Flag] = False,
    show_activation: Annotated[bool, Flag] = False,
    common: Common = COMMON,
) -> int:
    """Renew a card, or the card of an order: one, or each line of a CSV file.

    Shows what it will buy and its price, and asks. It writes every renewal to a journal before it
    sends it, and never buys a reference twice. So if no answer came, you can repeat the same
    command with the same --reference. Without --reference it makes a new one, and prints it
    before the renewal is sent.

    With --file, the columns are named like the fields of RenewalLine: sku_id, price_id,
    api_code, iccid, order_num, reference (or other_order_id), other_item_id, daypass_days (or
    days), pdf_language, remark. A line without a reference gets one, made of the file's name
    and of the line's content. So you can correct the file and run it again: no line is bought
    twice. To buy the same lines once more, give another --batch.

    Exit status: 0 done, 1 failed or answered with no, 2 wrong usage, 3 not logged in, 4 it may
    have been bought, or was bought but could not be read: check before you repeat it, 5 the host
    was not reached, 130 interrupted.

    Args:
        sku_id: The SKU, a country or region.
        price_id: The plan of that SKU.
        api_code: The plan's code, instead of PRICE_ID. Without a SKU_ID its price is unknown,
            since several SKUs may have a plan of this code, and --yes is refused.
        iccid: The card to renew.
        order_num: The order to renew, instead of a card.
        days: Days of a day pass.
        pdf_language: Language of the PDF, as the vendor names it.
        remark: A note for yourself.
        reference: Your reference of the renewal; it is never bought twice.
        item_reference: Your reference of the item.
        file: A CSV file with one renewal per line.
        max_spend: Most that all lines of --file may cost; lines bought in earlier runs count.
        result: Write one row for each line of --file to this file (mode 0600); without it, to
            standard output.
        batch: Name of this batch of --file, instead of the file's name.
        concurrency: How many renewals of --file to send at once; 4 if not given.
        yes: Buy without asking.
        dry_run: Show the price, and buy nothing.
        show_activation: Print activation codes; whoever has one can use the eSIM.
        common: Options of every command.
    """
    given: dict[str, Any] = {
        "sku_id": sku_id,
        "price_id": price_id,
        "api_code": api_code,
        "iccid": iccid,
        "order_num": order_num,
        "daypass_days": days,
        "pdf_language": pdf_language,
        "remark": remark,
        "other_order_id": reference,
        "other_item_id": item_reference,
    }
    mode = Mode(common, yes, dry_run, show_activation)
    bulk = _Bulk(file, max_spend, result, batch, concurrency)
    return guarded(lambda: _buy(RenewalLine, given, bulk, mode), debug=common.debug)


@app.command(help_epilogue=examples("cancel"))
def cancel(
    order_num: str,
    /,
    *iccids: str,
    all_cards: Annotated[bool, Parameter(name="--all", negative="")] = False,
    remark: str | None = None,
    yes: Annotated[bool, Flag] = False,
    dry_run: Annotated[bool, Flag] = False,
    common: Common = COMMON,
) -> int:
    """Ask the vendor to cancel cards of an order and to refund them.

    Shows the order, and asks. To see later whether the cards were cancelled, run
    'mioesim orders show'.

    Exit status: 0 done, 1 failed or answered with no, 2 wrong usage, 3 not logged in, 4 it may
    have happened: check before you repeat it, 5 the host was not reached, 130 interrupted.

    Args:
        order_num: The vendor's order number.
        iccids: The cards to cancel.
        all_cards: Cancel all cards of the order.
        remark: A note for yourself.
        yes: Cancel without asking.
        dry_run: Show the order, and cancel nothing.
        common: Options of every command.
    """
    mode = Mode(common, yes, dry_run)
    return guarded(
        lambda: cancel_cards(order_num, iccids, mode, all_cards=all_cards, remark=remark),
        debug=common.debug,
    )


class _Bulk(NamedTuple):
    file: Path | None
    max_spend: str | None
    result: Path | None
    batch: str | None
    concurrency: int | None


async def _buy(kind: type[Line], given: dict[str, Any], bulk: _Bulk, mode: Mode) -> int:
    values = {name: value for name, value in given.items() if value is not None}
    if bulk.file is None:
        if any(option is not None for option in bulk):
            raise errors.InvalidRequest(
                "--max-spend, --result, --batch and --concurrency go with --file"
            )
        if not {"sku_id", "price_id", "api_code"} & values.keys():
            raise errors.InvalidRequest("give SKU_ID and PRICE_ID, or --api-code, or --file")
        values.setdefault("other_order_id", new_reference())
        with in_words(OPTIONS):
            return await buy_one(kind(**values), mode)
    if values:
        raise errors.InvalidRequest(f"with --file, these go into its columns: {', '.join(values)}")
    concurrency = DEFAULT_CONCURRENCY if bulk.concurrency is None else bulk.concurrency
    options = BulkOptions(
        bulk.file, kind, bulk.max_spend, bulk.result, bulk.batch, concurrency, mode
    )
    return await buy_file(options)

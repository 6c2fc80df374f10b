"""``mioesim orders``: look up orders, and find out what happened to open ones."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Annotated, Any

from cyclopts import App, Parameter

from mioesim_async import errors
from mioesim_async.cli.accounts import client_for, logged_in
from mioesim_async.cli.buying.preview import money
from mioesim_async.cli.examples import examples
from mioesim_async.cli.exit_status import FAILED, OK, UNKNOWN
from mioesim_async.cli.options import COMMON, Common
from mioesim_async.cli.printing import (
    amount,
    fixed,
    moment,
    number,
    order_status,
    print_json,
    print_lines,
    print_table,
    print_text,
)
from mioesim_async.cli.running import Flag, app, guarded, say
from mioesim_async.clock import GMT8
from mioesim_async.journal.entry import JournalEntry
from mioesim_async.models.orders import Order, OrderUsage, PlanUsage
from mioesim_async.models.plain import to_dict

__all__ = ["open_orders", "reconcile_orders", "search_orders", "show_order"]

group = App(
    name="orders",
    help="Look up orders, and find out what happened to open ones.",
    help_epilogue=examples("orders"),
)
app.command(group)

INTERNAL_FIELDS = ("account", "attempt", "fingerprint")
"""Fields of an entry that only the journal needs; they are not printed."""


@group.command(help_epilogue=examples("orders show"))
def show(
    order_num: str,
    /,
    *,
    show_activation: Annotated[bool, Flag] = False,
    common: Common = COMMON,
) -> int:
    """Show an order with its cards and their data usage.

    Exit status: 0 done, 1 failed, 2 wrong usage, 3 not logged in, 5 the host was not reached, 130
    interrupted.

    Args:
        order_num: The vendor's order number.
        show_activation: Print activation codes; whoever has one can use the eSIM.
        common: Options of every command.
    """
    return guarded(
        lambda: show_order(order_num, common, show_activation=show_activation),
        debug=common.debug,
    )


@group.command(help_epilogue=examples("orders search"))
def search(
    *,
    reference: str | None = None,
    start: Annotated[date | None, Parameter(name="--from")] = None,
    end: Annotated[date | None, Parameter(name="--to")] = None,
    show_activation: Annotated[bool, Flag] = False,
    common: Common = COMMON,
) -> int:
    """List all orders with a reference or of some days; the vendor may ignore the reference.

    If the vendor doesn't return all orders, the command says how many it shows.

    Exit status: 0 done, 1 failed or not all shown, 2 wrong usage, 3 not logged in, 5 the host was
    not reached, 130 interrupted.

    Args:
        reference: Your reference.
        start: First day in GMT+8, such as 2027-01-31.
        end: Last day in GMT+8.
        show_activation: Print activation codes; whoever has one can use the eSIM.
        common: Options of every command.
    """
    return guarded(
        lambda: search_orders(reference, start, end, common, show_activation=show_activation),
        debug=common.debug,
    )


@group.command(help_epilogue=examples("orders reconcile"))
def reconcile(
    *,
    assume_absent_after: timedelta | None = None,
    common: Common = COMMON,
) -> int:
    """Find out what happened to the journal's open orders; buys nothing.

    An order counts as yours only if it has exactly your reference. Orders that are not found stay
    open, because the vendor's search may ignore references.

    Exit status: 0 nothing is open any more, 1 failed, 2 wrong usage, 3 not logged in, 4 some stay
    open, 5 the host was not reached, 130 interrupted.

    Args:
        assume_absent_after: Treat an order that was not found as never bought if it is older than
            this, such as 24h or 2d. It may then be sent again, at your own risk.
        common: Options of every command.
    """
    return guarded(
        lambda: reconcile_orders(assume_absent_after, common),
        debug=common.debug,
    )


@group.command(name="open", help_epilogue=examples("orders open"))
def list_open(
    *,
    common: Common = COMMON,
) -> int:
    """List the journal's open orders, which may have been bought; sends nothing.

    Exit status: 0 done, 1 failed, 2 wrong usage.

    Args:
        common: Options of every command.
    """
    return guarded(lambda: open_orders(common), debug=common.debug)


async def show_order(order_num: str, common: Common, *, show_activation: bool) -> int:
    """Show an order with the usage of its plans; return the exit status.

    Raises:
        MioEsimError: If the order can't be read.
    """
    usage: list[OrderUsage] | None = None
    async with client_for(common) as client:
        await logged_in(client)
        order = await client.orders.get(order_num)
        if (entry := await client.orders.entry_of_order(order.order_num)) is not None:
            from mioesim_async.api.orders.purchase import set_reference

            set_reference(order, entry.other_order_id)
        try:
            usage = (await client.orders.usage(order_num=order_num)).rows
        except errors.MioEsimError as error:
            say(f"the usage could not be read: {error}")
    if common.json:
        print_json({"order": order, "usage": usage}, show_activation=show_activation)
    else:
        _print_order(order, usage or [], show_activation=show_activation)
    return FAILED if usage is None else OK


def _print_order(order: Order, usage: list[OrderUsage], *, show_activation: bool) -> None:
    print_lines(
        [
            ("Order", order.order_num),
            ("Status", order_status(order.status)),
            ("Reference", order.other_order_id),
            ("Renews order", order.main_order_num),
            ("Bought (GMT+8)", moment(order.purchased_at)),
            ("Price", None if order.price is None else money(order.price)),
            ("Cards", order.count),
        ]
    )
    print()
    plans = [plan for row in usage for plan in row.plans]
    known = {plan.iccid for plan in plans}
    plans += [
        PlanUsage(iccid=card.iccid, used_mb=card.used_mb)
        for card in order.cards
        if card.iccid not in known
    ]
    print_table(
        (fixed("ICCID"), "Plan", number("Used"), number("Of"), fixed("Ends (GMT+8)")),
        [
            (
                plan.iccid,
                plan.name,
                amount(plan.used_mb),
                amount(plan.data_mb),
                moment(plan.ends_at),
            )
            for plan in plans
        ],
    )
    if show_activation:
        _print_codes([order])


def _print_codes(orders: Iterable[Order]) -> None:
    cards = [card for order in orders for card in order.cards]
    if cards:
        print_lines((card.iccid, card.activation or "no activation code") for card in cards)


async def search_orders(
    reference: str | None,
    start: date | None,
    end: date | None,
    common: Common,
    *,
    show_activation: bool,
) -> int:
    """List all orders that are found; return the exit status.

    Raises:
        MioEsimError: If not all orders could be read, after those that were read are printed.
    """
    failed: errors.MioEsimError | None = None
    async with client_for(common) as client:
        await logged_in(client)
        search = client.orders.search(other_order_id=reference, start=start, end=end)
        try:
            orders = await search
        except errors.MioEsimError as error:
            if not error.report:
                raise
            failed, orders = error, error.report
    if common.json:
        print_json(orders, show_activation=show_activation)
    else:
        _print_orders(orders)
        if show_activation:
            _print_codes(orders)
    if failed is not None or search.bad_rows:
        total = "an unknown number" if search.total is None else search.total
        say(f"{len(orders)} of {total} shown")
    if failed is not None:
        raise failed
    return FAILED if search.bad_rows else OK


def _print_orders(orders: Iterable[Order]) -> None:
    print_table(
        (
            fixed("Order"),
            fixed("Status"),
            number("Cards"),
            number("Price"),
            fixed("Bought (GMT+8)"),
            "Reference",
        ),
        [
            (
                order.order_num,
                order_status(order.status),
                order.count,
                None if order.price is None else money(order.price),
                moment(order.purchased_at),
                order.other_order_id,
            )
            for order in orders
        ],
    )


async def reconcile_orders(assume_absent_after: timedelta | None, common: Common) -> int:
    """Find out what happened to open entries; return the exit status.

    Raises:
        MioEsimError: If the search fails.
    """
    async with client_for(common) as client:
        await logged_in(client)
        report = await client.orders.reconcile(assume_absent_after=assume_absent_after)
    if common.json:
        print_json(report)
        return UNKNOWN if report.still_open else OK
    for order in report.adopted:
        cards = ", ".join(card.iccid for card in order.cards)
        print_text(f"{order.other_order_id}: bought, as order {order.order_num}: {cards}")
    for entry in report.absent:
        print_text(f"{entry.other_order_id}: treated as never bought; it may be sent again")
    for entry in report.still_open:
        print_text(f"{entry.other_order_id}: still open: {entry.reason}")
    for candidate in report.candidates:
        print()
        print_text(f"Orders that may be {candidate.entry.other_order_id}; look at each:")
        _print_orders(candidate.orders)
    if not (report.adopted or report.absent or report.still_open):
        print("Nothing was open.")
    return UNKNOWN if report.still_open else OK


async def open_orders(common: Common) -> int:
    """List open entries; return the exit status.

    Raises:
        MioEsimError: If the journal can't be read.
    """
    async with client_for(common) as client:
        entries = await client.orders.open_entries()
    if common.json:
        print_json([_without_internal(to_dict(one)) for one in entries])
    elif not entries:
        print("Nothing is open.")
    else:
        print_table(
            (fixed("Reference"), fixed("State"), fixed("Since (GMT+8)"), "What", number("Price")),
            [_open_row(one) for one in entries],
        )
        say("to find out what happened to them, run: mioesim orders reconcile")
    return OK


def _without_internal(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in INTERNAL_FIELDS}


def _open_row(entry: JournalEntry) -> tuple[str, ...]:
    since = moment(entry.created_at.astimezone(GMT8))
    what = " ".join(f"{name}={text}" for name, text in entry.params.items())
    return (entry.other_order_id, entry.state.value, since or "", what, money(entry.expected_price))

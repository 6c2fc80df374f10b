"""``mioesim orders``: look orders up, and find out what became of open ones."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated

from cyclopts import App, Parameter

from mioesim_async.cli import order_views
from mioesim_async.cli.common import COMMON, Common
from mioesim_async.cli.running import Flag, app, guarded

__all__: list[str] = []


orders = App(name="orders", help="Look orders up, and find out what became of open ones.")
app.command(orders)


@orders.command
def show(
    order_num: str,
    /,
    *,
    show_activation: Annotated[bool, Flag] = False,
    common: Common = COMMON,
) -> int:
    """Show an order with its cards, and what was used of their plans.

    Exit status: 0 done, 1 failed, 2 wrong usage, 3 not logged in, 130 interrupted.

    Args:
        order_num: The vendor's order number.
        show_activation: Print activation codes; whoever has one can take the line.
        common: Options of every command.
    """
    return guarded(
        lambda: order_views.show_order(order_num, common, show_activation=show_activation),
        debug=common.debug,
    )


@orders.command
def search(
    *,
    reference: str | None = None,
    start: Annotated[date | None, Parameter(name="--from")] = None,
    end: Annotated[date | None, Parameter(name="--to")] = None,
    show_activation: Annotated[bool, Flag] = False,
    common: Common = COMMON,
) -> int:
    """List all orders of a reference or of some days; the vendor may ignore the reference.

    Where the vendor doesn't show all that there are, it says how many are shown.

    Exit status: 0 done, 1 failed or not all shown, 2 wrong usage, 3 not logged in, 130 interrupted.

    Args:
        reference: Your reference.
        start: First day in GMT+8, as 2027-01-31.
        end: Last day in GMT+8.
        show_activation: Print activation codes; whoever has one can take the line.
        common: Options of every command.
    """
    return guarded(
        lambda: order_views.search_orders(
            reference, start, end, common, show_activation=show_activation
        ),
        debug=common.debug,
    )


@orders.command
def reconcile(
    *,
    assume_absent_after: timedelta | None = None,
    common: Common = COMMON,
) -> int:
    """Find out what became of the journal's open orders; buys nothing.

    An order is taken for ours only if it carries exactly our reference. What is not found
    stays open, since the vendor's search may not heed references.

    Exit status: 0 nothing is open any more, 1 failed, 2 wrong usage, 3 not logged in,
    4 some stay open, 130 interrupted.

    Args:
        assume_absent_after: Take what was not found for never bought once it is so old, such
            as 24h or 2d, so that it may be sent again. Your risk.
        common: Options of every command.
    """
    return guarded(
        lambda: order_views.reconcile_orders(assume_absent_after, common),
        debug=common.debug,
    )


@orders.command(name="open")
def list_open(
    *,
    common: Common = COMMON,
) -> int:
    """List the journal's open orders, which may have been bought; asks the vendor nothing.

    Exit status: 0 done, 1 failed, 2 wrong usage.

    Args:
        common: Options of every command.
    """
    return guarded(lambda: order_views.list_open(common), debug=common.debug)

"""Finds out what became of one reference."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from mioesim_async import errors
from mioesim_async.api.orders.journalling import open_error
from mioesim_async.api.orders.purchase import Purchaser
from mioesim_async.api.orders.reconcile import Get, reconcile_one
from mioesim_async.api.orders.search import MAX_ROWS, ask_for_orders, read_orders
from mioesim_async.journal.entry import REPEATABLE, UNSETTLED, JournalEntry
from mioesim_async.journal.order_record import order_of
from mioesim_async.models.orders import Order
from mioesim_async.wire.endpoints import QUERY_ORDER

__all__ = ["resolve"]

EntryOf = Callable[[str], Awaitable[JournalEntry | None]]


async def resolve(purchaser: Purchaser, entry_of: EntryOf, get: Get, reference: str) -> Order:
    """Find out what became of a reference; see ``Orders.resolve``."""
    exchange = await purchaser.under_way(reference)
    if exchange is not None and (order := await purchaser.observed(exchange)) is not None:
        return order
    entry = await entry_of(reference)
    if entry is None:
        return await _search(purchaser, reference)
    if entry.state in UNSETTLED and purchaser.journalling is not None:
        report = await reconcile_one(purchaser.journalling, get, entry)
        if report.adopted:
            return report.adopted[0]
        if report.still_open:
            error = open_error(report.still_open[0], purchaser.caller)
            error.report = report
            raise error
        # Another process has settled it meanwhile.
        entry = await entry_of(reference) or entry
    return await _outcome_of(purchaser, entry)


async def _outcome_of(purchaser: Purchaser, entry: JournalEntry) -> Order:
    if entry.state in REPEATABLE:
        why = f": {entry.reason}" if entry.reason else ""
        error = errors.MioEsimError(
            f"reference {entry.other_order_id} was not bought; the order journal says that it is "
            f"{entry.state.value}{why}"
        )
        error.was_placed = False
        raise error.at(entry.endpoint)
    if entry.order is not None:
        return order_of(entry.order)
    if entry.order_num is None:
        raise open_error(entry, purchaser.caller)
    return await purchaser.read_whole(Order(order_num=entry.order_num), entry.other_order_id, None)


async def _search(purchaser: Purchaser, reference: str) -> Order:
    """Ask the vendor for a reference that no journal has."""
    page = await ask_for_orders(
        purchaser.caller, reference, None, None, size=MAX_ROWS, deadline=None
    )
    orders, _ = await read_orders(page.rows)
    found = [order for order in orders if order.other_order_id == reference]
    numbers = {order.order_num for order in found}
    # A number as reference may be the vendor's own.
    if len(numbers) == 1 and not reference.isdecimal():
        return await purchaser.read_whole(found[0], reference, None)
    seen = f"it may be order {' or '.join(sorted(numbers))}" if numbers else "no order has it"
    known = "" if purchaser.journalling is None else "the order journal has no entry of it, and "
    error = errors.OutcomeUnknown(
        f"reference {reference}: {known}by the vendor's search {seen}; the vendor may not search "
        "by reference, so look at the account's orders before you buy again",
        other_order_id=reference,
    )
    error.report = found
    raise error.at(QUERY_ORDER.path)

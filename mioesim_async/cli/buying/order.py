"""One order or one renewal: show it, ask, buy it, print the result."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from attrs import fields, frozen

from mioesim_async import errors
from mioesim_async.api.orders.line_checks import Line, check_plan
from mioesim_async.cli.accounts import client_for, logged_in
from mioesim_async.cli.buying.preview import money, show_plan
from mioesim_async.cli.buying.results import (
    Result,
    advise,
    from_error,
    from_journal,
    from_order,
    show,
    try_print,
)
from mioesim_async.cli.exit_status import FAILED, OK, UNKNOWN
from mioesim_async.cli.options import Common
from mioesim_async.cli.printing import print_json
from mioesim_async.cli.prompt import check_can_ask, confirm
from mioesim_async.cli.running import say
from mioesim_async.cli.signals import cancel_and_close
from mioesim_async.models.order_lines import OrderLine
from mioesim_async.models.orders import Order

if TYPE_CHECKING:
    from mioesim_async.api.orders.planning import PlannedLine
    from mioesim_async.client import MioEsimClient

__all__ = ["Mode", "buy_one", "with_codes"]


@frozen
class Mode:
    """Options of the commands that cost money.

    Attributes:
        common: Options of every command.
        yes: Go on without asking.
        dry_run: Show what would be done, and send nothing that costs money.
        show_activation: Print activation codes.
    """

    common: Common
    yes: bool = False
    dry_run: bool = False
    show_activation: bool = False

    def check(self) -> None:
        """Check that there is a terminal to ask on, if it will be needed.

        Raises:
            InvalidRequest: If there is no terminal, and no ``--yes``.
        """
        if not (self.yes or self.dry_run):
            check_can_ask()

    def confirm(self, question: str) -> None:
        """Ask, unless ``--yes`` was given.

        Raises:
            Declined: If the answer is no.
        """
        if not self.yes:
            confirm(question)


async def buy_one(line: Line, mode: Mode) -> int:
    """Run ``mioesim order`` or ``mioesim renew`` for one line, and return the exit status.

    Raises:
        MioEsimError: If nothing was bought.
    """
    check_plan(line, now=time.time())
    mode.check()
    late: list[Any] = []
    under_way: list[PlannedLine] = []
    client = client_for(mode.common, on_late_order=late.append)
    try:
        async with client:
            await logged_in(client)
            (planned,) = await client.orders.plan([line], stock=mode.dry_run)
            planned.number = 0
            if mode.dry_run:
                return _dry_run(planned, mode)
            result = await _bought(client, planned, mode, under_way)
    except asyncio.CancelledError:
        left = await _interrupted_result(client, under_way, late)
        if left is None:
            say("interrupted; nothing was bought")
            raise
        if _report(left, mode) == UNKNOWN:
            return UNKNOWN
        raise
    return _report(result, mode)


async def _interrupted_result(
    client: MioEsimClient, under_way: list[PlannedLine], late: list[Any]
) -> Result | None:
    """Return the result of a purchase that was interrupted; None if nothing was bought."""
    # The client has waited for what was sent, unless it was interrupted again.
    await cancel_and_close(client)
    if not under_way:
        return None
    if late:
        return _result_of(under_way[0], late[0])
    entry = await client.orders.entry_of(under_way[0].line.other_order_id)
    left = from_journal(under_way[0], entry, reason="interrupted while it was under way")
    return left if left.is_done or left.is_unclear else None


async def _bought(
    client: MioEsimClient, planned: PlannedLine, mode: Mode, under_way: list[PlannedLine]
) -> Result:
    """Ask, and buy.

    Raises:
        InvalidRequest: If the price is unknown and ``--yes`` was given.
    """
    reference = planned.line.other_order_id
    if planned.is_open:
        return from_journal(planned, planned.entry, reason="no answer was recorded")
    if planned.was_placed:
        say(f"reference {reference} was placed before; nothing is bought again")
    else:
        _show(planned)
        if planned.price is None and mode.yes:
            raise errors.InvalidRequest(
                "--yes can't be used if the price is unknown; leave it out, and answer the question"
            )
        mode.confirm(_question(planned))
    # Printed before the order is sent, so that the user can look for it if the command is killed.
    say(f"the reference is {reference}")
    under_way.append(planned)
    try:
        order = await _send(client, planned.line)
    except (errors.OutcomeUnknown, errors.OrderIncomplete) as error:
        return from_error(planned, error)
    except asyncio.CancelledError:
        say(f"interrupted; waiting for the outcome of reference {reference}")
        raise
    return from_order(planned, await with_codes(client, order, mode))


async def with_codes(client: MioEsimClient, order: Order, mode: Mode) -> Order:
    """Read an order from the vendor if its codes shall be shown: the journal has none."""
    if not mode.show_activation or any(card.activation for card in order.cards):
        return order
    try:
        return await client.orders.get(order.order_num)
    except errors.MioEsimError as error:
        say(f"the activation codes of order {order.order_num} could not be read: {error}")
        return order


def _show(planned: PlannedLine, *, stock: bool = False) -> None:
    if planned.fault is not None:
        raise planned.fault
    show_plan([planned], stock=stock)
    if planned.price is None:
        say(
            "the price is unknown: "
            + (
                "several SKUs may have this code; give SKU_ID as well"
                if planned.line.api_code
                else "the catalogue does not have this plan, or names no price"
            )
        )


def _question(planned: PlannedLine) -> str:
    line = planned.line
    cost = "at an UNKNOWN price" if planned.price is None else f"for {money(planned.price)}"
    if isinstance(line, OrderLine):
        return f"Order {line.count} card{'s' * (line.count != 1)} {cost}?"
    return f"Renew {line.iccid or f'order {line.order_num}'} {cost}?"


def _dry_run(planned: PlannedLine, mode: Mode) -> int:
    _show(planned, stock=True)
    if planned.was_placed and planned.entry is not None:
        say(f"it was placed before, as order {planned.entry.order_num}; it would not be sent again")
    elif planned.is_open:
        say("it is open in the journal; it would not be sent. Run: mioesim orders reconcile")
    say("dry run: nothing was bought")
    if mode.common.json:
        print_json(
            {
                "reference": planned.line.other_order_id,
                "price": planned.price,
                "in_stock": planned.in_stock,
                "would_send": planned.is_new,
            }
        )
    return FAILED if planned.in_stock is False else OK


async def _send(client: MioEsimClient, line: Line) -> Order:
    orders, by_code = client.orders, line.api_code is not None
    unused = ("sku_id", "price_id") if by_code else ("api_code",)
    asked = {
        one.name: getattr(line, one.name) for one in fields(type(line)) if one.name not in unused
    }
    if isinstance(line, OrderLine):
        return await (orders.place_by_api_code if by_code else orders.place)(**asked)
    return await (orders.renew_by_api_code if by_code else orders.renew)(**asked)


def _result_of(planned: PlannedLine, late: Any) -> Result:
    if isinstance(late, errors.MioEsimError):
        return from_error(planned, late)
    if isinstance(late, Order):
        return from_order(planned, late)
    return from_journal(planned, None, reason=f"{type(late).__name__}: {late}")


def _report(result: Result, mode: Mode) -> int:
    is_told = try_print(lambda: _print(result, mode))
    if not is_told and result.order_num:
        say(f"reference {result.reference} is {result.status}: order {result.order_num}")
    if result.error:
        say(result.error)
    advise(result, mode.common.profile)
    if result.is_unclear or (result.is_done and not is_told):
        return UNKNOWN
    return OK if result.is_done else FAILED


def _print(result: Result, mode: Mode) -> None:
    if mode.common.json:
        print_json(result.record(), show_activation=mode.show_activation)
    elif result.is_done:
        show(result, show_activation=mode.show_activation)

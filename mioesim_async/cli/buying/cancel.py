"""``mioesim cancel``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mioesim_async import errors
from mioesim_async.cli.accounts import client_for, logged_in
from mioesim_async.cli.buying.order import Mode
from mioesim_async.cli.buying.preview import money
from mioesim_async.cli.buying.results import for_account, try_print
from mioesim_async.cli.exit_status import FAILED, OK, UNKNOWN
from mioesim_async.cli.printing import print_json, print_text, printable
from mioesim_async.cli.running import say
from mioesim_async.cli.signals import cancel_and_close
from mioesim_async.models.iccid import check_iccids
from mioesim_async.models.orders import Order, OrderStatus

if TYPE_CHECKING:
    from mioesim_async.client import MioEsimClient

__all__ = ["cancel_cards"]

CANCELLED_STATUSES = (OrderStatus.CANCELLING, OrderStatus.CANCELLED)
"""All cards of an order with one of these statuses are cancelled, or soon will be."""


async def cancel_cards(
    order_num: str, iccids: tuple[str, ...], mode: Mode, *, all_cards: bool, remark: str | None
) -> int:
    """Run ``mioesim cancel`` and return its exit status.

    Raises:
        MioEsimError: If nothing was cancelled.
    """
    if all_cards == bool(iccids):
        raise errors.InvalidRequest("name the cards to cancel, or give --all")
    named = list(dict.fromkeys(check_iccids(iccids)))
    mode.check()
    late: list[object] = []
    cards = named
    asked = False
    client = client_for(mode.common, on_late_order=late.append)
    try:
        async with client:
            await logged_in(client)
            order = await client.orders.get(order_num)
            cards = _cards(order, named)
            _show(order, cards)
            if order.status in CANCELLED_STATUSES:
                say("its status says that it was cancelled before; nothing was sent")
                return FAILED
            if mode.dry_run:
                say("dry run: nothing was cancelled")
                return _print(mode, order_num, cards, "dry run", None)
            mode.confirm(f"Cancel {_counted(cards)} of order {order_num}?")
            asked = True
            answer = await _ask(client, order_num, cards, remark)
    except errors.OutcomeUnknown as error:
        return _unclear(mode, order_num, cards, error)
    except asyncio.CancelledError:
        # The client has waited for what was sent, unless it was interrupted again.
        was_cut = await cancel_and_close(client) and asked
        if was_cut and not late:
            late.append(errors.OutcomeUnknown("interrupted while the cancellation was under way"))
        if late and isinstance(late[0], errors.OutcomeUnknown):
            return _unclear(mode, order_num, cards, late[0])
        if not late or isinstance(late[0], errors.MioEsimError):
            say(f"interrupted; nothing was cancelled{f': {late[0]}' if late else ''}")
        else:
            _print(mode, order_num, cards, "asked", str(late[0] or "") or None)
        raise
    return _print(mode, order_num, cards, "asked", answer)


async def _ask(
    client: MioEsimClient, order_num: str, cards: list[str], remark: str | None
) -> str | None:
    try:
        return await client.orders.cancel(order_num, cards, remark=remark)
    except asyncio.CancelledError:
        say(f"interrupted; waiting for the answer to the cancellation of order {order_num}")
        raise


def _cards(order: Order, named: list[str]) -> list[str]:
    known = [card.iccid for card in order.cards if card.iccid]
    if not named:
        if not known:
            raise errors.InvalidRequest(
                f"order {order.order_num} names no cards; give their ICCIDs instead of --all"
            )
        return known
    if foreign := [iccid for iccid in named if known and iccid not in known]:
        raise errors.InvalidRequest(f"not in order {order.order_num}: {', '.join(foreign)}")
    return named


def _counted(cards: list[str]) -> str:
    return f"{len(cards)} card{'s' * (len(cards) != 1)}"


def _show(order: Order, cards: list[str]) -> None:
    status = "" if order.status is None else f", {order.status.name}"
    price = "" if order.price is None else f", price {money(order.price)}"
    say(f"order {order.order_num}{status}{price}: {_counted(cards)} to cancel and refund")
    for iccid in cards:
        say(f"card {iccid}")


def _unclear(mode: Mode, order_num: str, cards: list[str], error: errors.OutcomeUnknown) -> int:
    _print(mode, order_num, cards, "unknown", None)
    account = for_account(mode.common.profile)
    say(str(error))
    say(f"it may have happened. To find out, run: mioesim orders show {order_num}{account}")
    return UNKNOWN


def _print(mode: Mode, order_num: str, cards: list[str], status: str, answer: str | None) -> int:
    asked_for = f"sked for a refund of {_counted(cards)} of order {order_num}"

    def tell() -> None:
        if mode.common.json:
            told = {"order_num": order_num, "iccids": cards, "status": status}
            print_json(told | {"answer": printable(answer)})
        elif status == "asked":
            print_text(f"A{asked_for}{f': {answer}' if answer else ''}")
            print_text(f"To see its status later, run: mioesim orders show {order_num}")

    if not try_print(tell) and status == "asked":
        say(f"a{asked_for}")
        return UNKNOWN
    return OK

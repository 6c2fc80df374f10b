"""One purchase: record the intent, send it, record the outcome, and read the order."""

from __future__ import annotations

import asyncio
from decimal import Decimal

from mioesim_async import errors
from mioesim_async.api.orders.journalling import Journalling, duplicate_error, open_error, reason_of
from mioesim_async.api.orders.line_checks import Purchase
from mioesim_async.closing import is_being_cancelled
from mioesim_async.journal.entry import EntryState, Journal, JournalEntry, fingerprint
from mioesim_async.journal.order_record import order_of
from mioesim_async.models.orders import Order
from mioesim_async.rows.orders import (
    Placed,
    is_renewed_order,
    new_order_num,
    read_order,
    read_placed,
)
from mioesim_async.slices import in_slices
from mioesim_async.transport.call import Call
from mioesim_async.transport.caller import Caller
from mioesim_async.transport.detached import Exchange, exchange_ended
from mioesim_async.transport.failures import Bought, meaning_of, was_placed
from mioesim_async.wire.endpoints import GET_ORDER_INFO
from mioesim_async.wire.envelope import Envelope
from mioesim_async.wording import worded

__all__ = ["Purchaser", "set_reference"]


class Purchaser:
    """Buys for one account.

    Attributes:
        caller: Sends the calls.
        journalling: Records purchases in the journal; None without a journal.
        needs_price: Whether every purchase must have a price, since there is a limit.
    """

    def __init__(
        self, caller: Caller, journal: Journal | None, max_spend_per_day: Decimal | None
    ) -> None:
        """Buy through a caller, with a journal or without.

        Raises:
            ConfigurationError: If there is a limit for a day, and no journal that can keep it.
        """
        if journal is None and max_spend_per_day is not None:
            raise errors.ConfigurationError(
                "max_spend_per_day counts in the order journal: give order_journal="
            )
        self.caller = caller
        self.needs_price = max_spend_per_day is not None
        self.journalling = (
            None if journal is None else Journalling(caller, journal, max_spend_per_day)
        )
        self._under_way: dict[str, Exchange[Order]] = {}

    async def aclose(self, *, in_a_hurry: bool) -> None:
        """Write to the journal what could not be written so far. All purchases have ended."""
        if self.journalling is not None:
            await self.journalling.aclose(in_a_hurry=in_a_hurry)

    async def buy(
        self, purchase: Purchase, deadline: float | None, *, whole: bool = False
    ) -> Order:
        """Place an order or a renewal, and return it with its cards.

        If the same reference is under way in this client, wait for that purchase instead.

        Args:
            purchase: What to buy.
            deadline: Seconds for the whole call.
            whole: Read a recorded order back from the vendor, with its activation codes.

        Raises:
            MioEsimError: As ``Orders.place``, with ``other_order_id`` and ``was_placed``.
        """
        clock, reference = self.caller.clock, purchase.other_order_id
        began = clock.monotonic()
        try:
            call = self.caller.prepare(
                purchase.endpoint, purchase.params, deadline=deadline, items=max(1, purchase.cards)
            )
            exchange = await self.under_way(reference)
            if exchange is None:
                # The client may have been closed meanwhile.
                self.caller.check_usable()
                exchange = self._start(purchase, call)
            elif fingerprint(exchange.call.endpoint.path, exchange.call.texts) != fingerprint(
                call.endpoint.path, call.texts
            ):
                raise _other_parameters(reference).at(call.endpoint.path)
            order = await self.caller.wait_for(exchange, deadline)
            if whole and order.is_recorded:
                left = None if deadline is None else deadline - (clock.monotonic() - began)
                return await self.read_whole(order, reference, left)
        except errors.MioEsimError as error:
            if error.other_order_id is None or error.was_placed is None:
                await self.tell_of(error, reference)
            raise
        return order

    async def under_way(self, reference: str) -> Exchange[Order] | None:
        """Return the purchase of a reference that is under way in this client, or None."""
        while (exchange := self._under_way.get(reference)) is not None and exchange.is_stopped:
            # It will not be sent any more. Wait until the journal says so.
            await exchange_ended(exchange)
            self._forget(reference, exchange)
        return exchange

    async def observed(self, exchange: Exchange[Order]) -> Order | None:
        """Wait for a purchase without wanting it: it doesn't go on because of this caller.

        Returns:
            The order; None if the purchase was given up, or left when the client was closed.

        Raises:
            MioEsimError: If it failed.
        """
        try:
            return await asyncio.shield(exchange.task)
        except asyncio.CancelledError:
            if is_being_cancelled() or not exchange.task.cancelled():
                raise
        return None

    async def read_whole(self, order: Order, reference: str, deadline: float | None) -> Order:
        """Read a recorded order from the vendor, with its activation codes.

        Raises:
            OrderIncomplete: If it can't be read.
        """
        number, path = order.order_num, GET_ORDER_INFO.path
        try:
            if deadline is not None and deadline <= 0:
                raise errors.DeadlineExceeded("the deadline passed before it was asked for")
            params = {"orderNum": number}
            reply = await self.caller.call(GET_ORDER_INFO, params, deadline=deadline)
            read = await in_slices(read_order(reply.data, number))
        except errors.MioEsimError as error:
            failed = error
        else:
            set_reference(read, reference)
            return read
        why = f"but reading it failed ({failed})"
        raise _incomplete_error(path, reference, number, why, None, failed)

    def _start(self, purchase: Purchase, call: Call) -> Exchange[Order]:
        reference = purchase.other_order_id
        exchange = self._under_way[reference] = self.caller.start(call, self._buy(purchase, call))
        exchange.task.add_done_callback(lambda _: self._forget(reference, exchange))
        return exchange

    def _forget(self, reference: str, exchange: Exchange[Order]) -> None:
        if self._under_way.get(reference) is exchange:
            del self._under_way[reference]

    async def tell_of(self, error: errors.MioEsimError, reference: object) -> None:
        """Set ``other_order_id`` and ``was_placed`` of a purchase's error."""
        if isinstance(reference, str):
            error.other_order_id = reference
        if meaning_of(error).bought is not Bought.AS_IT_SAYS:
            # It was refused or never sent, but its reference may have been placed before.
            journalling = self.journalling
            may_exist = isinstance(reference, str) and (
                self._is_bought_by_another(reference)
                or (
                    journalling is not None
                    and await journalling.may_be_placed_or_unreadable(reference)
                )
            )
            error.was_placed = None if may_exist else False

    def _is_bought_by_another(self, reference: str) -> bool:
        """Tell whether another task of this client is buying a reference."""
        exchange = self._under_way.get(reference)
        if exchange is None or exchange.is_stopped:
            return False
        return exchange.task is not asyncio.current_task()

    async def _buy(self, purchase: Purchase, call: Call) -> Order:
        """Do all steps of a purchase, in a task that outlives the caller's.

        Without a journal, ``entry`` is None and nothing is recorded.
        """
        journalling, reference = self.journalling, purchase.other_order_id
        entry = None if journalling is None else journalling.entry(purchase, call.texts)
        try:
            existing = await self._begin(purchase, entry)
            if existing is not None:
                return await self._answer_again(purchase, existing, call)
            try:
                envelope = await self.caller.send(call)
            except BaseException as error:
                state, reason = _came_to(error, sent=call.was_sent)
                number = getattr(error, "order_num", None)
                await self._settle(entry, state, reason, order_num=number)
                raise
            try:
                placed = await in_slices(read_placed(envelope.data))
            except asyncio.CancelledError:
                # The event loop is being stopped. Record the outcome before that.
                number = _unclear_order_error(purchase, envelope).order_num
                state = EntryState.UNKNOWN if number is None else EntryState.PLACED
                reason = "stopped while the reply was read"
                await self._settle(entry, state, reason, order_num=number)
                raise
            if placed.order_num is None or _may_name_renewed_order(placed, purchase):
                unknown = _unclear_order_error(purchase, envelope)
                number = unknown.order_num
                await self._settle(entry, EntryState.UNKNOWN, str(unknown), order_num=number)
                raise unknown
            number = call.order_num = placed.order_num
            order = placed.order
            if order is not None:
                set_reference(order, reference)
            whole = order if order is not None and _is_whole(order, purchase) else None
            await self._settle(entry, EntryState.PLACED, order_num=number, order=whole)
            if whole is not None:
                return whole
            if placed.is_odd:
                why = f"but the reply has an unknown form{worded(' (see .data)')}"
                raise _incomplete_error(purchase.endpoint.path, reference, number, why, envelope)
            return await self._read_back(purchase, entry, call, number, order, envelope)
        except errors.MioEsimError as error:
            error.call_id = error.call_id or call.id
            # Set this here too, since on_late_order gets this error without `buy`.
            await self.tell_of(error, reference)
            raise
        finally:
            if journalling is not None and entry is not None:
                journalling.under_way.discard(entry.attempt)

    async def _begin(self, purchase: Purchase, entry: JournalEntry | None) -> JournalEntry | None:
        """Record the intent to buy; return the existing entry if the reference is used."""
        journalling, reference = self.journalling, purchase.other_order_id
        if purchase.passed_day and not (
            journalling and await journalling.may_be_placed(self.caller.account, reference)
        ):
            # Only an order that was placed before that day may be asked for again.
            raise errors.InvalidRequest(purchase.passed_day)
        if self.needs_price and purchase.price is None:
            raise errors.InvalidRequest(
                f"reference {reference}: its price isn't known, so max_spend_per_day can't be "
                "kept; give package="
            )
        if journalling is None or entry is None:
            return None
        existing = await journalling.begin(entry)
        if (
            existing is not None
            and (error := duplicate_error(existing, entry.fingerprint)) is not None
        ):
            raise error.at(purchase.endpoint.path)
        return existing

    async def _settle(
        self,
        entry: JournalEntry | None,
        state: EntryState,
        reason: str = "",
        *,
        order_num: str | None = None,
        order: Order | None = None,
    ) -> None:
        if self.journalling is not None and entry is not None:
            await self.journalling.settle(entry, state, reason, order_num=order_num, order=order)

    async def _answer_again(self, purchase: Purchase, existing: JournalEntry, call: Call) -> Order:
        """Return the order of a reference that was used before, without buying again."""
        if existing.state is not EntryState.PLACED or existing.order_num is None:
            raise open_error(existing, self.caller)
        if existing.order is not None:
            return order_of(existing.order)
        number = call.order_num = existing.order_num
        return await self._read_back(purchase, existing, call, number, None, None)

    async def _read_back(
        self,
        purchase: Purchase,
        entry: JournalEntry | None,
        call: Call,
        number: str,
        first: Order | None,
        envelope: Envelope | None,
    ) -> Order:
        """Read an order of which the first reply had only the number, or only a part."""
        try:
            reply = await self.caller.read_for(call, GET_ORDER_INFO, {"orderNum": number})
            order = _with_more_cards(await in_slices(read_order(reply.data, number)), first)
        except errors.MioEsimError as error:
            failed = error
        else:
            set_reference(order, purchase.other_order_id)
            if _is_whole(order, purchase):
                await self._settle(entry, EntryState.PLACED, order_num=number, order=order)
            return order
        why = f"but reading it failed ({failed})"
        path, reference = purchase.endpoint.path, purchase.other_order_id
        raise _incomplete_error(path, reference, number, why, envelope, failed)


def _is_whole(order: Order, purchase: Purchase) -> bool:
    """Tell whether an order has all its cards, or a renewal has any details."""
    if purchase.is_renewal:
        return bool(order.cards) or order.status is not None or order.purchased_at is not None
    return len(order.cards) >= purchase.cards


def _with_more_cards(read: Order, first: Order | None) -> Order:
    """Return the order that was read, with the cards of the first reply if it had more."""
    if first is not None and len(first.cards) > len(read.cards):
        read.cards = first.cards
    return read


def set_reference(order: Order, reference: str) -> None:
    """Set our reference; the vendor may write its own number there (observed)."""
    if order.other_order_id not in (None, reference):
        order.extra["otherOrderId"] = order.other_order_id
    order.other_order_id = reference


def _came_to(error: BaseException, *, sent: bool) -> tuple[EntryState, str]:
    """Return the journal state and the reason of a purchase that failed."""
    reason = reason_of(getattr(error, "last_error", None) or error)
    if not sent:
        return EntryState.NOT_SENT, reason
    # transport/caller.py has raised OutcomeUnknown for a code that proves nothing.
    if isinstance(error, errors.MioEsimError) and was_placed(error, sent=True) is False:
        return EntryState.REFUSED, reason
    return EntryState.UNKNOWN, reason


def _may_name_renewed_order(placed: Placed, purchase: Purchase) -> bool:
    """Tell whether the order in a renewal's reply may be the order that was renewed."""
    return purchase.is_renewal and (
        placed.is_odd
        or placed.order_num == purchase.params.get("orderNum")
        or (placed.order is not None and is_renewed_order(placed.order))
    )


def _unclear_order_error(purchase: Purchase, envelope: Envelope) -> errors.OutcomeUnknown:
    renewed = purchase.params.get("orderNum")
    number = new_order_num(
        envelope.data,
        renewed=renewed if isinstance(renewed, str) else None,
        renews=purchase.is_renewal,
    )
    return errors.OutcomeUnknown(
        f"{purchase.endpoint.path} answered success, but its reply does not say clearly which "
        f"order it made{worded(' (see .data)')}; look for reference "
        f"{purchase.other_order_id} before you repeat it",
        other_order_id=purchase.other_order_id,
        order_num=number,
        data=envelope.raw(),
    ).at(purchase.endpoint.path)


def _other_parameters(reference: str) -> errors.DuplicateOrder:
    return errors.DuplicateOrder(
        f"reference {reference} is under way in this client with other parameters; "
        f"{worded('take orders.new_reference() for')} another order",
        other_order_id=reference,
    )


def _incomplete_error(
    path: str,
    reference: str,
    number: str,
    why: str,
    envelope: Envelope | None,
    last_error: errors.MioEsimError | None = None,
) -> errors.OrderIncomplete:
    return errors.OrderIncomplete(
        f"order {number} was placed, {why}; {worded('read it with orders.get()')}, and don't "
        "place it again",
        order_num=number,
        other_order_id=reference,
        data=None if envelope is None else envelope.raw(),
        last_error=last_error,
    ).at(path)

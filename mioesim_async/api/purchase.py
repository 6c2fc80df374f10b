"""One purchase from its intent to the whole order, journalled on the way."""

from __future__ import annotations

import asyncio
import logging
import uuid
from datetime import UTC, datetime

from mioesim_async import errors
from mioesim_async.api.order_checks import Purchase
from mioesim_async.api.recorded import order_of, recorded
from mioesim_async.journal.entry import (
    REPEATABLE,
    EntryState,
    Journal,
    JournalEntry,
    fingerprint,
)
from mioesim_async.models.order_replies import Placed, numbers_in, read_order, read_placed
from mioesim_async.models.orders import Order
from mioesim_async.transport.caller import Caller
from mioesim_async.transport.exchange import Exchange
from mioesim_async.wire.endpoints import GET_ORDER_INFO
from mioesim_async.wire.envelope import Envelope
from mioesim_async.wire.signing import canonical

__all__ = ["Purchaser", "claim", "fingerprint_of"]

logger = logging.getLogger("mioesim_async")

KEPT = frozenset(
    {
        "skuId", "priceId", "apiCode", "count", "orderNum", "iccid", "iccids", "dpId",
        "daypassDays", "beginDate", "otherItemId",
    }
)  # fmt: skip
"""Parameters that a journal keeps as text; a customer's address is none of them."""


class Purchaser:
    """Buys for one account, with or without a journal.

    Attributes:
        caller: Sends the calls.
        journal: Where intents and outcomes are kept, or None.
        under_way: Attempts of this process that have not come to an end.
    """

    def __init__(self, caller: Caller, journal: Journal | None) -> None:
        """Buy through a caller."""
        self.caller = caller
        self.journal = journal
        self.under_way: set[str] = set()

    async def buy(self, purchase: Purchase, deadline: float | None) -> Order:
        """Place an order or a renewal, and return it whole.

        Raises:
            MioEsimError: As ``Orders.place`` says.
        """
        entry = self._entry(purchase)
        if purchase.passed_day and not await self._is_placed(entry):
            raise errors.InvalidRequest(purchase.passed_day)

        async def conduct(exchange: Exchange) -> Order:
            self.under_way.add(entry.attempt)
            try:
                return await self._conduct(purchase, entry, exchange)
            finally:
                self.under_way.discard(entry.attempt)

        try:
            return await self.caller.purchase(
                purchase.endpoint, purchase.params, conduct, deadline=deadline
            )
        except errors.MioEsimError as error:
            error.other_order_id = purchase.other_order_id
            raise

    def now(self) -> datetime:
        """Return the present, in UTC."""
        return datetime.fromtimestamp(self.caller.clock.time(), UTC)

    async def _conduct(self, purchase: Purchase, entry: JournalEntry, exchange: Exchange) -> Order:
        standing = await self._begin(entry)
        if standing is not None:
            return await self._repeated(purchase, entry, standing, exchange)
        try:
            envelope = await exchange.send()
        except BaseException as error:
            state, reason = _came_to(error, sent=exchange.was_sent)
            number = getattr(error, "order_num", None)
            await self._settle(entry, state, reason, order_num=number)
            raise
        return await self._placed(purchase, entry, exchange, envelope)

    async def _begin(self, entry: JournalEntry) -> JournalEntry | None:
        """Record the intent; return the entry that stands in its way, if there is one."""
        if self.journal is None:
            return None
        try:
            return await self.journal.begin(entry)
        except asyncio.CancelledError:
            # It may have been recorded; then it is this attempt's, and nothing was sent.
            await self._settle(entry, EntryState.NOT_SENT, "cancelled before it was sent")
            raise
        except errors.MioEsimError:
            raise
        except Exception as error:
            raise errors.ConfigurationError(
                f"the order journal failed ({type(error).__name__}); nothing was sent"
            ) from error

    async def _settle(
        self,
        entry: JournalEntry,
        state: EntryState,
        reason: str = "",
        *,
        order_num: str | None = None,
        order: Order | None = None,
    ) -> None:
        """Record what it came to; a journal that fails now must not lose the order."""
        if self.journal is None:
            return
        try:
            changed = await self.journal.settle(
                entry.account,
                entry.other_order_id,
                entry.attempt,
                state,
                at=self.now(),
                reason=reason,
                order_num=order_num,
                order=None if order is None else recorded(order),
            )
        except Exception:
            logger.exception(
                "the order journal could not record that reference %s is %s (order %s)",
                entry.other_order_id,
                state.value,
                order_num,
            )
            return
        if not changed and order_num is not None:
            logger.warning(
                "the order journal has another attempt of reference %s, so that it is %s as order "
                "%s is recorded nowhere",
                entry.other_order_id,
                state.value,
                order_num,
            )

    async def _repeated(
        self, purchase: Purchase, entry: JournalEntry, standing: JournalEntry, exchange: Exchange
    ) -> Order:
        """Answer a reference that was used before, without sending anything that costs."""
        reference = entry.other_order_id
        if standing.fingerprint != entry.fingerprint:
            raise errors.DuplicateOrder(
                f"reference {reference} was used before with other parameters "
                f"(order {standing.order_num or 'not known'}); take orders.new_reference() "
                "for another order",
                other_order_id=reference,
                order_num=standing.order_num,
            ).at(purchase.endpoint.path)
        if standing.state is not EntryState.PLACED or standing.order_num is None:
            raise errors.OutcomeUnknown(
                f"reference {reference} is {standing.state.value} in the order journal: it may "
                "be under way or may have been placed, and was not sent again; call "
                f"orders.reconcile() ({standing.reason or 'no answer was recorded'})",
                other_order_id=reference,
                order_num=standing.order_num,
            ).at(purchase.endpoint.path)
        if standing.order is not None:
            return order_of(standing.order)
        exchange.placed(standing.order_num)
        return await self._read_back(purchase, standing, exchange, standing.order_num, None, None)

    async def _placed(
        self, purchase: Purchase, entry: JournalEntry, exchange: Exchange, envelope: Envelope
    ) -> Order:
        """Make the most of a reply that says success."""
        placed = read_placed(envelope.data)
        if placed.order_num is None or _is_old(placed, purchase):
            unknown = _no_number(purchase, envelope)
            await self._settle(entry, EntryState.UNKNOWN, str(unknown), order_num=unknown.order_num)
            raise unknown
        number, order = placed.order_num, placed.order
        exchange.placed(number)
        if order is not None:
            claim(order, purchase.other_order_id)
        whole = order if order is not None and _is_whole(order, purchase) else None
        await self._settle(entry, EntryState.PLACED, order_num=number, order=whole)
        if whole is not None:
            return whole
        if placed.is_odd:
            raise errors.OrderIncomplete(
                f"order {number} was placed, but the reply has an unknown form (see .data); "
                "read it with orders.get(), and don't place it again",
                order_num=number,
                other_order_id=purchase.other_order_id,
                data=envelope.raw(),
            ).at(purchase.endpoint.path)
        return await self._read_back(purchase, entry, exchange, number, order, envelope)

    async def _read_back(
        self,
        purchase: Purchase,
        entry: JournalEntry,
        exchange: Exchange,
        number: str,
        first: Order | None,
        envelope: Envelope | None,
    ) -> Order:
        """Read an order whole of which only the number, or a part, came back."""
        try:
            reply = await exchange.read(GET_ORDER_INFO, {"orderNum": number})
            order = _complete(read_order(reply.data, number), first)
        except errors.MioEsimError as error:
            failed = error
        else:
            claim(order, purchase.other_order_id)
            if _is_whole(order, purchase):
                await self._settle(entry, EntryState.PLACED, order_num=number, order=order)
            return order
        raise errors.OrderIncomplete(
            f"order {number} was placed, but reading it failed ({failed}); read it with "
            "orders.get(), and don't place it again",
            order_num=number,
            other_order_id=purchase.other_order_id,
            data=None if envelope is None else envelope.raw(),
            last_error=failed,
        ).at(purchase.endpoint.path)

    def _entry(self, purchase: Purchase) -> JournalEntry:
        texts = canonical(purchase.params)
        now = self.now()
        return JournalEntry(
            account=self.caller.account,
            other_order_id=purchase.other_order_id,
            endpoint=purchase.endpoint.path,
            params={name: text for name, text in texts.items() if name in KEPT},
            fingerprint=fingerprint(purchase.endpoint.path, texts),
            expected_price=purchase.price,
            attempt=uuid.uuid4().hex,
            created_at=now,
            updated_at=now,
        )

    async def _is_placed(self, entry: JournalEntry) -> bool:
        """Tell whether an order that could not be sent any more was placed before."""
        if self.journal is None:
            return False
        known = await self.journal.find(entry.account, entry.other_order_id)
        return known is not None and known.state not in REPEATABLE


def fingerprint_of(purchase: Purchase) -> str:
    """Return the fingerprint that a journal keeps of a purchase."""
    return fingerprint(purchase.endpoint.path, canonical(purchase.params))


def _is_whole(order: Order, purchase: Purchase) -> bool:
    """Tell whether an order has all that a caller needs: its cards, or a renewal's state."""
    if purchase.is_renewal:
        return bool(order.cards) or order.status is not None or order.purchased_at is not None
    return len(order.cards) >= purchase.cards


def _complete(read: Order, first: Order | None) -> Order:
    """Return what was read back, with the cards of the first reply where those are more."""
    if first is not None and len(first.cards) > len(read.cards):
        read.cards = first.cards
    return read


def claim(order: Order, reference: str) -> None:
    """Set our reference; the vendor may have a number of its own there (observed)."""
    if order.other_order_id not in (None, reference):
        order.extra["otherOrderId"] = order.other_order_id
    order.other_order_id = reference


def _came_to(error: BaseException, *, sent: bool) -> tuple[EntryState, str]:
    """Say what an exchange that failed leaves behind."""
    cause = getattr(error, "last_error", None) or error
    reason = f"{type(cause).__name__}: {cause}".removesuffix(": ")
    if not sent:
        return EntryState.NOT_SENT, reason
    # A code that proves nothing was made an OutcomeUnknown by transport/retry.py.
    if isinstance(error, errors.RateLimited | errors.ApiError):
        return EntryState.REFUSED, reason
    return EntryState.UNKNOWN, reason


def _is_old(placed: Placed, purchase: Purchase) -> bool:
    """Tell whether a renewal's reply names no order but the one that is renewed, or may do so."""
    return purchase.is_renewal and (
        placed.is_odd or placed.order_num == purchase.params.get("orderNum")
    )


def _no_number(purchase: Purchase, envelope: Envelope) -> errors.OutcomeUnknown:
    asked = purchase.params.get("orderNum")
    numbers = [number for number in numbers_in(envelope.data) if number != asked]
    what = "does not say clearly which order it made" if numbers else "names no new order"
    return errors.OutcomeUnknown(
        f"{purchase.endpoint.path} answered success, but its reply {what} (see .data); look for "
        f"reference {purchase.other_order_id} before you repeat it",
        other_order_id=purchase.other_order_id,
        order_num=numbers[0] if numbers else None,
        data=envelope.raw(),
    ).at(purchase.endpoint.path)

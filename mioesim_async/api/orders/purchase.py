"""One purchase from its intent to the whole order, journalled on the way."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime

from attrs import evolve

from mioesim_async import errors
from mioesim_async.api.orders.line_checks import Purchase
from mioesim_async.api.orders.settlements import Settlement, Settlements
from mioesim_async.clock import TimeLimit
from mioesim_async.journal.entry import (
    REPEATABLE,
    EntryState,
    Journal,
    JournalEntry,
    fingerprint,
    recordable,
)
from mioesim_async.journal.order_record import order_of, recorded
from mioesim_async.models.orders import Order
from mioesim_async.rows.orders import (
    Placed,
    is_renewed_order,
    new_order_num,
    read_order,
    read_placed,
)
from mioesim_async.slices import in_slices
from mioesim_async.transport.caller import Caller
from mioesim_async.transport.detached import Exchange
from mioesim_async.wire.account import other_labels
from mioesim_async.wire.endpoints import GET_ORDER_INFO
from mioesim_async.wire.envelope import Envelope
from mioesim_async.wire.signing import canonical

__all__ = ["Purchaser", "claim", "fingerprint_of"]

KEPT = frozenset(
    {
        "skuId", "priceId", "apiCode", "count", "orderNum", "iccid", "iccids", "dpId",
        "daypassDays", "beginDate", "otherItemId",
    }
)  # fmt: skip
"""Parameters that a journal keeps as text; a customer's address is none of them."""


LOOK_SECONDS = 1.0
"""How long a purchase that failed waits to learn what the journal knows of its reference."""

SAYS_ITSELF = (
    errors.OutcomeUnknown,
    errors.OrderIncomplete,
    errors.JournalUnavailable,
    errors.DuplicateOrder,
)
"""Errors that are raised with ``was_placed`` as it is."""


class Purchaser:
    """Buys for one account, with or without a journal.

    Attributes:
        caller: Sends the calls.
        journal: Where intents and outcomes are kept, or None.
        under_way: Attempts of this process that have not come to an end.
        settlements: What became of purchases, and the journal may lack; None without a journal.
    """

    def __init__(self, caller: Caller, journal: Journal | None) -> None:
        """Buy through a caller."""
        self.caller = caller
        self.journal = journal
        self.under_way: set[str] = set()
        self.settlements = None if journal is None else Settlements(journal, caller.clock)
        self._is_account_known = caller.is_account_named
        self._has_begun = False

    async def aclose(self) -> None:
        """Bring to the journal what it lacks; purchases have ended by now."""
        if self.settlements is not None:
            await self.settlements.aclose()

    async def buy(self, purchase: Purchase, deadline: float | None) -> Order:
        """Place an order or a renewal, and return it whole.

        Raises:
            MioEsimError: As ``Orders.place`` says, with its reference and ``was_placed``.
        """
        entry = self._entry(purchase)

        async def conduct(exchange: Exchange) -> Order:
            self.under_way.add(entry.attempt)
            try:
                # An order that was placed in time may be asked for again.
                if purchase.passed_day and not await self._stands(
                    entry.account, entry.other_order_id
                ):
                    raise errors.InvalidRequest(purchase.passed_day)
                return await self._conduct(purchase, entry, exchange)
            except errors.MioEsimError as error:
                # Whoever is told of it late gets it from here.
                await self.tell_of(error, purchase.other_order_id)
                raise
            finally:
                self.under_way.discard(entry.attempt)

        try:
            return await self.caller.purchase(
                purchase.endpoint,
                purchase.params,
                conduct,
                items=max(1, purchase.cards),
                deadline=deadline,
            )
        except errors.MioEsimError as error:
            if error.other_order_id is None or error.was_placed is None:
                await self.tell_of(error, purchase.other_order_id)
            raise

    async def tell_of(self, error: errors.MioEsimError, reference: object) -> None:
        """Write on an error of a purchase its reference, and what the purchase came to."""
        if isinstance(reference, str):
            error.other_order_id = reference
        if not isinstance(error, SAYS_ITSELF):
            # It was refused or never sent. But an earlier order of its reference may stand.
            stands = isinstance(reference, str) and await self._may_stand(reference)
            error.was_placed = None if stands else False

    async def _may_stand(self, reference: str) -> bool:
        """Tell whether the journal has an order of a reference, or can't tell at this moment."""
        if self.journal is None:
            return False
        try:
            with TimeLimit(self.caller.clock, LOOK_SECONDS):
                accounts = {self.caller.account, *await self._known_accounts()}
                return any([await self._stands(account, reference) for account in accounts])
        except Exception:
            return True
        # The journal took too long.
        return True

    async def _stands(self, account: str, reference: str) -> bool:
        """Tell whether the journal has an order of a reference that may have been placed."""
        if self.journal is None:
            return False
        try:
            known = await self.journal.find(account, reference)
        except Exception as error:
            fault = error
        else:
            return known is not None and known.state not in REPEATABLE
        raise _unavailable(fault)

    async def _known_accounts(self) -> list[str]:
        """Return the accounts of this phone number that the journal knows."""
        # Journals of users may lack it; then each URL is an account of its own.
        list_accounts = getattr(self.journal, "accounts", None)
        known: list[str] = [] if list_accounts is None else await list_accounts()
        phone = self.caller.account.partition("@")[0]
        return [account for account in known if account.partition("@")[0] == phone]

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
        if self.journal is None or self.settlements is None:
            return None
        asked = begun = False
        try:
            late = await self.settlements.catch_up(entry.account, entry.other_order_id)
            if late is not None:
                return late
            await self._check_account()
            self._has_begun = asked = True
            standing = await self.journal.begin(entry)
            if standing is not None:
                return self.settlements.known(standing)
            begun = True
            # Two that begin at once see each other here, at the latest.
            await self._check_account()
            return None
        except asyncio.CancelledError:
            # It may have been recorded; then it is this attempt's, and nothing was sent.
            if asked:
                await self.settlements.record(
                    self._not_sent(entry, "cancelled before it was sent", begun=begun)
                )
            raise
        except errors.ConfigurationError as error:
            # Refused by the journal itself, it was not recorded.
            if begun:
                await self.settlements.record(self._not_sent(entry, _reason(error), begun=True))
            raise
        except Exception as error:
            fault = error
        if asked:
            # The journal may have recorded the intent and failed to say so.
            self.settlements.record_later(
                self._not_sent(entry, "the order journal failed before it", begun=begun)
            )
        raise _unavailable(fault)

    def _not_sent(self, entry: JournalEntry, reason: str, *, begun: bool) -> Settlement:
        settlement = self._settlement(entry, EntryState.NOT_SENT, reason)
        return evolve(settlement, is_begun=begun)

    async def _check_account(self) -> None:
        """Refuse to buy for an account that may be one that the journal knows by another name.

        Raises:
            ConfigurationError: If the journal knows this phone number, but not so.
        """
        if self._is_account_known:
            return
        account, known = self.caller.account, await self._known_accounts()
        # An entry of this client proves nothing until it was sent: others may be buying at once
        # by another name, and it may be about to be refused.
        if account in known and not self._has_begun:
            self._is_account_known = True
        elif labels := other_labels(known, account):
            raise _another_account(account, labels)

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
        if state is not EntryState.NOT_SENT:
            # It was sent, so no other name stood in its way, and none will: each sees its entry.
            self._is_account_known = True
        if self.settlements is not None:
            await self.settlements.record(self._settlement(entry, state, reason, order_num, order))

    def _settlement(
        self,
        entry: JournalEntry,
        state: EntryState,
        reason: str,
        order_num: str | None = None,
        order: Order | None = None,
    ) -> Settlement:
        number = None if order_num is None else recordable(order_num)
        kept = None if order is None else recorded(order)
        return Settlement(entry, state, self.now(), recordable(reason), number, kept)

    async def _repeated(
        self, purchase: Purchase, entry: JournalEntry, standing: JournalEntry, exchange: Exchange
    ) -> Order:
        """Answer a reference that was used before, without sending anything that costs."""
        reference = entry.other_order_id
        if standing.fingerprint != entry.fingerprint:
            clash = errors.DuplicateOrder(
                f"reference {reference} was used before with other parameters "
                f"(order {standing.order_num or 'not known'}); take orders.new_reference() "
                "for another order",
                other_order_id=reference,
                order_num=standing.order_num,
            )
            clash.was_placed = False if standing.state in REPEATABLE else None
            raise clash.at(purchase.endpoint.path)
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
        try:
            placed = await in_slices(read_placed(envelope.data))
        except asyncio.CancelledError:
            # The program is being stopped. What it came to is written down all the same.
            unread = _no_number(purchase, envelope)
            number = unread.order_num
            state = EntryState.UNKNOWN if number is None else EntryState.PLACED
            await self._settle(entry, state, "stopped while the reply was read", order_num=number)
            raise
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
            order = _complete(await in_slices(read_order(reply.data, number)), first)
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
    reason = _reason(getattr(error, "last_error", None) or error)
    if not sent:
        return EntryState.NOT_SENT, reason
    # A code that proves nothing was made an OutcomeUnknown by transport/retry.py.
    if isinstance(error, errors.RateLimited | errors.ApiError):
        return EntryState.REFUSED, reason
    return EntryState.UNKNOWN, reason


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def _unavailable(fault: Exception) -> errors.MioEsimError:
    """Return a journal's own error, or make one of what a journal of the user's raised."""
    if isinstance(fault, errors.MioEsimError):
        return fault
    unavailable = errors.JournalUnavailable(
        f"the order journal failed ({type(fault).__name__}); nothing was sent, try later"
    )
    unavailable.__cause__ = fault
    return unavailable


def _another_account(account: str, labels: list[str]) -> errors.ConfigurationError:
    label, known = account.partition("@")[2], " and ".join(map(repr, labels))
    return errors.ConfigurationError(
        f"the order journal knows this phone number as account {known}, but not as {label!r}, "
        f"which is what base_url says; nothing was sent. Pass account={labels[0]!r} if it is the "
        f"same account, so that nothing is bought twice, or account={label!r} if it is another"
    )


def _is_old(placed: Placed, purchase: Purchase) -> bool:
    """Tell whether a renewal's reply names no order but the one that is renewed, or may do so."""
    return purchase.is_renewal and (
        placed.is_odd
        or placed.order_num == purchase.params.get("orderNum")
        or (placed.order is not None and is_renewed_order(placed.order))
    )


def _no_number(purchase: Purchase, envelope: Envelope) -> errors.OutcomeUnknown:
    renewed = purchase.params.get("orderNum")
    number = new_order_num(
        envelope.data,
        renewed=renewed if isinstance(renewed, str) else None,
        renews=purchase.is_renewal,
    )
    return errors.OutcomeUnknown(
        f"{purchase.endpoint.path} answered success, but its reply does not say clearly which "
        f"order it made (see .data); look for reference {purchase.other_order_id} before you "
        "repeat it",
        other_order_id=purchase.other_order_id,
        order_num=number,
        data=envelope.raw(),
    ).at(purchase.endpoint.path)

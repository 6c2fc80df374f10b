"""Records a purchase in the journal, before it is sent and after."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from attrs import evolve

from mioesim_async import errors
from mioesim_async.api.orders.line_checks import Purchase
from mioesim_async.api.orders.settlements import Settlement, Settlements
from mioesim_async.clock import GMT8, TimeLimit
from mioesim_async.journal.entry import (
    REPEATABLE,
    EntryState,
    Journal,
    JournalEntry,
    fingerprint,
    recordable,
)
from mioesim_async.journal.order_record import recorded
from mioesim_async.models.orders import Order
from mioesim_async.transport.caller import Caller
from mioesim_async.wire.account import other_labels
from mioesim_async.wire.signing import canonical
from mioesim_async.wording import worded

__all__ = ["Journalling", "duplicate_error", "fingerprint_of", "open_error", "reason_of"]

KEPT_PARAMETERS = frozenset(
    {
        "skuId", "priceId", "apiCode", "count", "orderNum", "iccid", "iccids", "dpId",
        "daypassDays", "beginDate", "otherItemId",
    }
)  # fmt: skip
"""Parameters that a journal keeps; the customer's e-mail address is not one of them."""

LONGEST_LOOKUP = 1.0
"""Seconds that a failed purchase waits to look up its reference in the journal."""

_under_way: set[str] = set()


class Journalling:
    """Records the purchases of one client.

    Attributes:
        caller: Sends the client's calls.
        journal: The journal.
        max_spend_per_day: What the account may spend in a day of GMT+8; None for no limit.
        settlements: Outcomes that may not be in the journal yet.
        under_way: Ids of this process's attempts that have not ended, of all its clients.
    """

    def __init__(self, caller: Caller, journal: Journal, max_spend_per_day: Decimal | None) -> None:
        """Record the purchases of a caller in a journal.

        Raises:
            ConfigurationError: If the journal can't keep the limit.
        """
        self.caller = caller
        self.journal = journal
        self.max_spend_per_day = max_spend_per_day
        # This method is optional.
        self._begin_within: Any = getattr(journal, "begin_within", None)
        if max_spend_per_day is not None and self._begin_within is None:
            raise errors.ConfigurationError(
                f"max_spend_per_day needs a journal with begin_within, which "
                f"{type(journal).__name__} doesn't have"
            )
        self.settlements = Settlements(journal, caller.clock)
        self.under_way = _under_way
        self._is_label_known = caller.is_account_named
        self._has_begun = False

    async def aclose(self, *, in_a_hurry: bool) -> None:
        """Write what is not written yet, and close what the journal keeps open for nothing.

        Args:
            in_a_hurry: Spend no more than two or three seconds on it.
        """
        await self.settlements.aclose(in_a_hurry=in_a_hurry)
        if (close_idle := getattr(self.journal, "close_idle", None)) is None:
            return
        if not in_a_hurry:
            await close_idle()
            return
        with TimeLimit(self.caller.clock, LONGEST_LOOKUP):
            await close_idle()

    def now(self) -> datetime:
        """Return the present, in UTC."""
        return datetime.fromtimestamp(self.caller.clock.time(), UTC)

    def entry(self, purchase: Purchase, texts: Mapping[str, str]) -> JournalEntry:
        """Make the entry of a new attempt.

        Args:
            purchase: The purchase.
            texts: Its parameters, as they are sent.
        """
        now = self.now()
        return JournalEntry(
            account=self.caller.account,
            other_order_id=purchase.other_order_id,
            endpoint=purchase.endpoint.path,
            params={name: text for name, text in texts.items() if name in KEPT_PARAMETERS},
            fingerprint=fingerprint(purchase.endpoint.path, texts),
            expected_price=purchase.price,
            attempt=uuid.uuid4().hex,
            created_at=now,
            updated_at=now,
        )

    async def begin(self, entry: JournalEntry) -> JournalEntry | None:
        """Record the intent to buy; return the existing entry if the reference is used.

        Raises:
            SpendLimitReached: If its price doesn't fit the day's limit.
            JournalUnavailable: If the journal can't be used now; nothing was sent.
            ConfigurationError: If the journal may know the account by another label.
        """
        self.under_way.add(entry.attempt)
        asked = begun = False
        try:
            late = await self.settlements.catch_up(entry.account, entry.other_order_id)
            if late is not None:
                return late
            await self._check_account()
            self._has_begun = asked = True
            existing = await self._begin(entry)
            self.settlements.uptime.mark(True)
            if existing is not None:
                return self.settlements.complete(existing)
            begun = True
            # Check again: another client may have begun with another label at the same time.
            await self._check_account()
            return None
        except asyncio.CancelledError:
            # The intent may have been recorded, and nothing was sent.
            if asked:
                await self.settlements.record(
                    self._not_sent(entry, "cancelled before it was sent", begun=begun)
                )
            raise
        except (errors.ConfigurationError, errors.SpendLimitReached) as error:
            # If the journal itself raised this, the intent was not recorded.
            if begun:
                await self.settlements.record(self._not_sent(entry, reason_of(error), begun=True))
            raise
        except Exception as error:
            self.settlements.uptime.mark(False)
            fault = error
        if asked:
            # The journal may have recorded the intent all the same.
            self.settlements.record_later(
                self._not_sent(entry, "the order journal failed before it was sent", begun=begun)
            )
        raise _journal_error(fault)

    async def _begin(self, entry: JournalEntry) -> JournalEntry | None:
        if self.max_spend_per_day is None:
            return await self.journal.begin(entry)
        today = self.now().astimezone(GMT8).replace(hour=0, minute=0, second=0, microsecond=0)
        existing: JournalEntry | None = await self._begin_within(
            entry, limit=self.max_spend_per_day, since=today.astimezone(UTC)
        )
        return existing

    async def settle(
        self,
        entry: JournalEntry,
        state: EntryState,
        reason: str = "",
        *,
        order_num: str | None = None,
        order: Order | None = None,
    ) -> None:
        """Record the outcome now, or later if the journal fails now."""
        if state is not EntryState.NOT_SENT:
            # It was sent, so no other label was in the journal; clients that use one see its entry.
            self._is_label_known = True
        await self.settlements.record(
            Settlement(
                entry,
                state,
                self.now(),
                recordable(reason),
                None if order_num is None else recordable(order_num),
                None if order is None else recorded(order),
            )
        )

    async def may_be_placed(self, account: str, reference: str) -> bool:
        """Tell whether the journal has an entry of a reference that may have been placed.

        Raises:
            JournalUnavailable: If the journal can't be read now.
        """
        try:
            known = await self.journal.find(account, reference)
        except Exception as error:
            fault = error
        else:
            return known is not None and known.state not in REPEATABLE
        raise _journal_error(fault)

    async def may_be_placed_or_unreadable(self, reference: str) -> bool:
        """Tell whether ``may_be_placed`` is true for any label, or the journal can't tell now."""
        try:
            with TimeLimit(self.caller.clock, LONGEST_LOOKUP):
                accounts = {self.caller.account, *await self._known_accounts()}
                return any([await self.may_be_placed(account, reference) for account in accounts])
        except Exception:
            return True
        # The journal took too long.
        return True

    def _not_sent(self, entry: JournalEntry, reason: str, *, begun: bool) -> Settlement:
        settlement = Settlement(entry, EntryState.NOT_SENT, self.now(), recordable(reason))
        return evolve(settlement, is_begun=begun)

    async def _known_accounts(self) -> list[str]:
        """Return the accounts of this phone number that the journal knows."""
        # This method is optional. Without it, each label counts as an account of its own.
        list_accounts = getattr(self.journal, "accounts", None)
        known: list[str] = [] if list_accounts is None else await list_accounts()
        phone = self.caller.account.partition("@")[0]
        return [account for account in known if account.partition("@")[0] == phone]

    async def _check_account(self) -> None:
        """Check that the journal doesn't know the account by another label.

        Raises:
            ConfigurationError: If the journal has this phone number only with other labels.
        """
        if self._is_label_known:
            return
        account, known = self.caller.account, await self._known_accounts()
        # This client's own entry proves nothing before it was sent: another client may be
        # buying with another label at the same time, and this purchase may still be refused.
        if account in known and not self._has_begun:
            self._is_label_known = True
        elif labels := other_labels(known, account):
            raise _other_label_error(account, labels)


def fingerprint_of(purchase: Purchase) -> str:
    """Return the fingerprint that a journal keeps of a purchase."""
    return fingerprint(purchase.endpoint.path, canonical(purchase.params))


def duplicate_error(existing: JournalEntry, fingerprint: str) -> errors.DuplicateOrder | None:
    """Return the error if an entry has other parameters than the fingerprint's; else None."""
    if existing.fingerprint == fingerprint:
        return None
    error = errors.DuplicateOrder(
        f"reference {existing.other_order_id} was used before with other parameters "
        f"(order {existing.order_num or 'not known'}); "
        f"{worded('take orders.new_reference() for')} another order",
        other_order_id=existing.other_order_id,
        order_num=existing.order_num,
    )
    error.was_placed = False if existing.state in REPEATABLE else None
    return error


def open_error(existing: JournalEntry, caller: Caller) -> errors.OutcomeUnknown:
    """Make the error for a reference whose entry in the journal is open.

    Args:
        existing: The entry.
        caller: Whose limit for a purchase tells whether it may still be under way. Whoever wrote
            the entry may have another limit.
    """
    age = caller.clock.time() - existing.created_at.timestamp()
    is_under_way = existing.state is EntryState.OPEN and age < caller.longest_purchase
    if is_under_way:
        state = (
            f"was recorded in the order journal {max(0, age):.0f} s ago and has no outcome yet, so "
            f"it is probably under way (a guess: here a purchase takes at most "
            f"{caller.longest_purchase:g} s)"
        )
    else:
        state = (
            f"is {existing.state.value} in the order journal: it may be under way or may have been "
            "placed"
        )
    text = (
        f"{state}, and was not sent again; {worded('call orders.reconcile()')} "
        f"({existing.reason or 'no answer was recorded'})"
    )
    return errors.OutcomeUnknown(
        f"reference {existing.other_order_id} {text}",
        other_order_id=existing.other_order_id,
        order_num=existing.order_num,
        is_under_way=is_under_way,
    ).at(existing.endpoint)


def reason_of(error: BaseException) -> str:
    """Return an error as the reason of an entry."""
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def _journal_error(fault: Exception) -> errors.MioEsimError:
    """Return the error of the SDK, or a ``JournalUnavailable`` for another error of a journal."""
    if isinstance(fault, errors.MioEsimError):
        return fault
    unavailable = errors.JournalUnavailable(
        f"the order journal failed ({type(fault).__name__}); nothing was sent, try later"
    )
    unavailable.__cause__ = fault
    return unavailable


def _other_label_error(account: str, labels: list[str]) -> errors.ConfigurationError:
    label, known = account.partition("@")[2], " and ".join(map(repr, labels))
    return errors.ConfigurationError(
        f"the order journal knows this phone number as account {known}, but not as {label!r}, "
        f"the label that base_url gives; nothing was sent. {worded('Pass account=')}{labels[0]!r} "
        "if it is the same account, so that nothing is bought twice,"
        f"{worded(' or account=')}{label!r} if it is another"
    )

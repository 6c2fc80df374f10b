"""What a purchase writes to the journal before it is sent, and after it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
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
from mioesim_async.journal.order_record import recorded
from mioesim_async.models.orders import Order
from mioesim_async.transport.caller import Caller
from mioesim_async.wire.account import other_labels
from mioesim_async.wire.signing import canonical
from mioesim_async.wording import worded

__all__ = ["Journalling", "clash_of", "fingerprint_of", "reason_of"]

KEPT = frozenset(
    {
        "skuId", "priceId", "apiCode", "count", "orderNum", "iccid", "iccids", "dpId",
        "daypassDays", "beginDate", "otherItemId",
    }
)  # fmt: skip
"""Parameters that a journal keeps as text; a customer's address is none of them."""

LOOK_SECONDS = 1.0
"""How long a purchase that failed waits to learn what the journal knows of its reference."""


class Journalling:
    """Records the purchases of one client.

    Attributes:
        caller: Sends the client's calls.
        journal: Where intents and outcomes are kept.
        settlements: What became of purchases, and the journal may lack.
        under_way: Attempts of this process that have not come to an end.
    """

    def __init__(self, caller: Caller, journal: Journal) -> None:
        """Record in a journal."""
        self.caller = caller
        self.journal = journal
        self.settlements = Settlements(journal, caller.clock)
        self.under_way: set[str] = set()
        self._is_account_known = caller.is_account_named
        self._has_begun = False

    def now(self) -> datetime:
        """Return the present, in UTC."""
        return datetime.fromtimestamp(self.caller.clock.time(), UTC)

    def entry(self, purchase: Purchase, texts: Mapping[str, str]) -> JournalEntry:
        """Make the entry of a new attempt.

        Args:
            purchase: What is bought.
            texts: Its parameters, as they are sent.
        """
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

    async def begin(self, entry: JournalEntry) -> JournalEntry | None:
        """Record the intent; return the entry that stands in its way, if there is one.

        Raises:
            JournalUnavailable: If that can't be done now; nothing was sent.
            ConfigurationError: If the journal may know the account by another name.
        """
        self.under_way.add(entry.attempt)
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
                await self.settlements.record(self._not_sent(entry, reason_of(error), begun=True))
            raise
        except Exception as error:
            fault = error
        if asked:
            # The journal may have recorded the intent and failed to say so.
            self.settlements.record_later(
                self._not_sent(entry, "the order journal failed before it", begun=begun)
            )
        raise _unavailable(fault)

    async def settle(
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

    async def stands(self, account: str, reference: str) -> bool:
        """Tell whether the journal has an order of a reference that may have been placed.

        Raises:
            JournalUnavailable: If the journal can't be read now.
        """
        try:
            known = await self.journal.find(account, reference)
        except Exception as error:
            fault = error
        else:
            return known is not None and known.state not in REPEATABLE
        raise _unavailable(fault)

    async def may_stand(self, reference: str) -> bool:
        """Tell whether the journal has an order of a reference, or can't tell at this moment."""
        try:
            with TimeLimit(self.caller.clock, LOOK_SECONDS):
                accounts = {self.caller.account, *await self._known_accounts()}
                return any([await self.stands(account, reference) for account in accounts])
        except Exception:
            return True
        # The journal took too long.
        return True

    def _not_sent(self, entry: JournalEntry, reason: str, *, begun: bool) -> Settlement:
        settlement = Settlement(entry, EntryState.NOT_SENT, self.now(), recordable(reason))
        return evolve(settlement, is_begun=begun)

    async def _known_accounts(self) -> list[str]:
        """Return the accounts of this phone number that the journal knows."""
        # Journals of users may lack it; then each URL is an account of its own.
        list_accounts = getattr(self.journal, "accounts", None)
        known: list[str] = [] if list_accounts is None else await list_accounts()
        phone = self.caller.account.partition("@")[0]
        return [account for account in known if account.partition("@")[0] == phone]

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


def fingerprint_of(purchase: Purchase) -> str:
    """Return the fingerprint that a journal keeps of a purchase."""
    return fingerprint(purchase.endpoint.path, canonical(purchase.params))


def clash_of(standing: JournalEntry, fingerprint: str) -> errors.DuplicateOrder | None:
    """Return the error of a purchase whose reference is that of another order, or None."""
    if standing.fingerprint == fingerprint:
        return None
    clash = errors.DuplicateOrder(
        f"reference {standing.other_order_id} was used before with other parameters "
        f"(order {standing.order_num or 'not known'}); "
        f"{worded('take orders.new_reference() for')} another order",
        other_order_id=standing.other_order_id,
        order_num=standing.order_num,
    )
    clash.was_placed = False if standing.state in REPEATABLE else None
    return clash


def reason_of(error: BaseException) -> str:
    """Say in a journal what went wrong."""
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
        f"which is what base_url says; nothing was sent. {worded('Pass account=')}{labels[0]!r} "
        "if it is the same account, so that nothing is bought twice,"
        f"{worded(' or account=')}{label!r} if it is another"
    )

"""What became of purchases, brought to a journal that may fail at that moment."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
from contextlib import suppress
from datetime import datetime
from typing import Any

from attrs import frozen

from mioesim_async.clock import Clock, TimeLimit
from mioesim_async.errors import MioEsimError
from mioesim_async.journal.entry import (
    REPEATABLE,
    EntryState,
    Journal,
    JournalEntry,
    settled,
)
from mioesim_async.waits import doubling

__all__ = ["Settlement", "Settlements"]

logger = logging.getLogger("mioesim_async")

LOOK_SECONDS = 1.0
"""How long the end of the loop waits to learn whether an answer was written."""

LONGEST_PAUSE = 60.0
"""Longest wait between two tries to write what could not be written, in seconds."""


@frozen
class Settlement:
    """What became of one attempt.

    Attributes:
        entry: The attempt's entry.
        state: What is known now.
        at: When that became known; with a time zone, UTC.
        reason: Why it is unknown or refused; empty otherwise.
        order_num: The vendor's order number, or None.
        order: The order, JSON-ready, or None.
        is_begun: The journal has the attempt's intent; False if it failed, and may have it.
    """

    entry: JournalEntry
    state: EntryState
    at: datetime
    reason: str = ""
    order_num: str | None = None
    order: dict[str, Any] | None = None
    is_begun: bool = True

    def __str__(self) -> str:
        """Say what is known, in words for a log."""
        number = "" if self.order_num is None else f" as order {self.order_num}"
        return f"reference {self.entry.other_order_id} is {self.state.value}{number}"


class Settlements:
    """Writes what became of purchases, and tries again what could not be written.

    An answer was paid for: it is kept until the journal has it. What the journal still lacks
    when the client closes, or when the process ends, is told in the log.
    """

    def __init__(self, journal: Journal, clock: Clock) -> None:
        """Start with nothing to write."""
        self._journal = journal
        self._clock = clock
        self._unwritten: dict[str, Settlement] = {}
        self._writing: dict[str, asyncio.Task[Exception | None]] = {}
        self._trying: asyncio.Task[None] | None = None
        self._pause: asyncio.Task[None] | None = None
        self._closed = False

    async def record(self, settlement: Settlement) -> bool:
        """Write what became of an attempt; what can't be written now is tried again later.

        Returns:
            Whether it stands in the journal.
        """
        attempt = settlement.entry.attempt
        if attempt in self._unwritten:
            # The journal has just failed. Asked again, it might wait as long again.
            self.record_later(settlement)
            return False
        # Kept first: a cancellation may end the writing, too.
        self._keep(settlement)
        return await self._try(settlement, is_late=False) is None

    def record_later(self, settlement: Settlement) -> None:
        """Write what became of an attempt when a journal that has just failed can be used."""
        self._keep(settlement)
        self._start()

    async def catch_up(self, account: str, other_order_id: str) -> JournalEntry | None:
        """Try now to write what the journal lacks of a reference.

        Returns:
            Its entry, with what the journal still lacks, if an order may stand under it; else None.

        Raises:
            Exception: If the reference is free, and the journal can't be told so.
        """
        for one in [*self._unwritten.values()]:
            if (one.entry.account, one.entry.other_order_id) == (account, other_order_id):
                fault = await self._try(one)
                # Asked for anything else, the journal might wait as long again.
                if fault is not None and one.state in REPEATABLE:
                    raise fault
                if fault is not None:
                    return self.known(one.entry)
        return None

    async def write_all(self) -> None:
        """Try now to write all that the journal lacks."""
        if self._unwritten:
            await self._try_all()

    def lacking(self, attempt: str) -> Settlement | None:
        """Return what the journal lacks of an attempt, if it lacks anything."""
        return self._unwritten.get(attempt)

    def of_order(self, account: str, order_num: str) -> JournalEntry | None:
        """Return the entry of an order whose number the journal lacks, or None."""
        for one in self._unwritten.values():
            if (one.entry.account, one.order_num) == (account, order_num):
                return self.known(one.entry)
        return None

    def known(self, entry: JournalEntry) -> JournalEntry:
        """Return an entry of the journal with what it still lacks."""
        late = self._unwritten.get(entry.attempt)
        if late is None:
            return entry
        told = settled(
            entry,
            late.state,
            at=late.at,
            reason=late.reason,
            order_num=late.order_num,
            order=late.order,
        )
        return told or entry

    async def aclose(self) -> None:
        """Try once more, and tell what the journal lacks."""
        self._closed = True
        if self._pause is not None:
            self._pause.cancel()
        # What is being written is waited for, and not tried once more behind it.
        await self.write_all()
        left = [task for task in (self._trying, *self._writing.values()) if task is not None]
        if left:
            await asyncio.wait(left)
        self.tell()

    def tell(self) -> None:
        """Tell in the log what the journal lacks, for the last time."""
        kept = self._unwritten.values()
        for settlement in kept:
            if settlement.is_begun:
                logger.error(
                    "the order journal was never told that %s; settle its entry by hand, with "
                    "journal.settle() or orders.reconcile()",
                    settlement,
                )
        for reference in dict.fromkeys(
            one.entry.other_order_id for one in kept if not one.is_begun
        ):
            logger.warning(
                "the order journal failed before reference %s was sent, and may have an open "
                "entry of it; nothing was sent",
                reference,
            )
        self._unwritten.clear()
        _with_unwritten.discard(self)

    def _keep(self, settlement: Settlement) -> None:
        self._unwritten[settlement.entry.attempt] = settlement
        _with_unwritten.add(self)

    def _start(self) -> None:
        if self._trying is None and not self._closed:
            self._trying = asyncio.create_task(self._try_again(), name="mioesim_async journal")

    async def _try(self, settlement: Settlement, *, is_late: bool = True) -> Exception | None:
        """Write it; return why it can't be written, or None.

        What is being written of its attempt is waited for instead, so that nobody waits twice.
        """
        attempt, fault = settlement.entry.attempt, None
        while fault is None and self._unwritten.get(attempt) is settlement:
            writing = self._writing.get(attempt)
            if writing is None or writing.done():
                work = self._write(settlement, is_late)
                writing = asyncio.create_task(work, name="mioesim_async journal")
                self._writing[attempt] = writing
                writing.add_done_callback(self._ended)
            # Who is cancelled doesn't end the writing: nobody would know if it was written.
            fault = await asyncio.shield(writing)
        return fault

    def _ended(self, writing: asyncio.Task[Exception | None]) -> None:
        self._writing = {key: task for key, task in self._writing.items() if task is not writing}

    async def _write(self, settlement: Settlement, is_late: bool) -> Exception | None:
        entry = settlement.entry
        try:
            changed = await self._journal.settle(
                entry.account,
                entry.other_order_id,
                entry.attempt,
                settlement.state,
                at=settlement.at,
                reason=settlement.reason,
                order_num=settlement.order_num,
                order=settlement.order,
            )
            is_lost = (
                not changed
                and settlement.order_num is not None
                and not await self._is_recorded(settlement)
            )
        except asyncio.CancelledError:
            # The loop ends. It may have been written all the same.
            with suppress(Exception), TimeLimit(self._clock, LOOK_SECONDS):
                if await self._is_recorded(settlement):
                    self._forget(settlement)
            raise
        except Exception as error:
            if not is_late and settlement.is_begun:
                logger.error(
                    "the order journal could not record that %s: %s; it is tried again until it "
                    "can",
                    settlement,
                    _told(error),
                )
            self._start()
            return error
        self._forget(settlement)
        if is_lost:
            logger.warning(
                "the order journal's entry of this reference is of another attempt or names "
                "another order, so that %s is recorded nowhere",
                settlement,
            )
        elif changed and is_late:
            logger.warning("the order journal was told at last that %s", settlement)
        return None

    async def _is_recorded(self, settlement: Settlement) -> bool:
        """Tell whether the journal has what counts: the order's number, or else the state."""
        entry = settlement.entry
        found = await self._journal.find(entry.account, entry.other_order_id)
        if settlement.order_num is not None:
            return found is not None and found.order_num == settlement.order_num
        if found is None or found.attempt != entry.attempt:
            return True
        return found.state is not EntryState.OPEN

    def _forget(self, settlement: Settlement) -> None:
        """Keep it no longer, unless more is known by now."""
        if self._unwritten.get(settlement.entry.attempt) is settlement:
            del self._unwritten[settlement.entry.attempt]
        if not self._unwritten:
            _with_unwritten.discard(self)

    async def _try_all(self) -> None:
        """Try to write all that is kept."""
        # At once, since each may wait for a journal that is locked.
        await asyncio.gather(*map(self._try, [*self._unwritten.values()]))

    async def _try_again(self) -> None:
        try:
            for pause in doubling(longest=LONGEST_PAUSE):
                self._pause = asyncio.create_task(self._clock.sleep(pause))
                await asyncio.wait([self._pause])
                if not self._closed:
                    await self._try_all()
                if self._closed or not self._unwritten:
                    return
        finally:
            self._trying = None


def _told(fault: Exception) -> str:
    # A journal of the user's may name anything in its text.
    return str(fault) if isinstance(fault, MioEsimError) else type(fault).__name__


_with_unwritten: set[Settlements] = set()
"""Alive until they have told, also if nobody closes the client."""

if hasattr(os, "register_at_fork"):
    # A child has nothing to tell of its parent's purchases.
    os.register_at_fork(after_in_child=_with_unwritten.clear)


@atexit.register
def _tell_all() -> None:
    for settlements in [*_with_unwritten]:
        settlements.tell()

"""Writes the outcomes of purchases to a journal, again and again if it fails."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
from contextlib import suppress
from datetime import datetime
from typing import Any

from attrs import frozen

from mioesim_async.clock import Clock, TimeLimit, Uptime
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

LONGEST_CHECK = 1.0
"""Seconds to check, at the end of the event loop, whether an outcome was written."""

LONGEST_LAST_TRY = 1.0
"""Seconds to write outcomes when the client is closed in a hurry."""

LONGEST_PAUSE = 60.0
"""Longest wait between two tries to write an outcome, in seconds."""


@frozen
class Settlement:
    """The outcome of one attempt.

    Attributes:
        entry: The attempt's entry.
        state: The new state of the entry.
        at: When that became known, in UTC.
        reason: Why the state is unknown or refused; empty otherwise.
        order_num: The vendor's order number, or None.
        order: The order, JSON-ready, or None.
        is_begun: Whether the journal has the attempt's intent for certain; False if recording
            the intent failed, so that the journal may have it or not.
    """

    entry: JournalEntry
    state: EntryState
    at: datetime
    reason: str = ""
    order_num: str | None = None
    order: dict[str, Any] | None = None
    is_begun: bool = True

    def __str__(self) -> str:
        """Describe the outcome for a log message."""
        number = "" if self.order_num is None else f" as order {self.order_num}"
        return f"reference {self.entry.other_order_id} is {self.state.value}{number}"


class Settlements:
    """Writes outcomes to the journal, and keeps each until it is written.

    Outcomes that are not written when the client closes, or when the process ends, are logged.

    Attributes:
        uptime: Whether the journal works, and since when.
    """

    def __init__(self, journal: Journal, clock: Clock) -> None:
        """Start without outcomes."""
        self.uptime = Uptime(clock)
        self._journal = journal
        self._clock = clock
        self._unwritten: dict[str, Settlement] = {}
        self._writing: dict[str, asyncio.Task[Exception | None]] = {}
        self._trying: asyncio.Task[None] | None = None
        self._pause: asyncio.Task[None] | None = None
        self._closed = False

    async def record(self, settlement: Settlement) -> bool:
        """Write an outcome; if that fails, try again later.

        Returns:
            Whether it was written.
        """
        attempt = settlement.entry.attempt
        if attempt in self._unwritten:
            # The journal has just failed, and a new try might take as long.
            self.record_later(settlement)
            return False
        # Keep it first, in case this is cancelled.
        self._keep(settlement)
        return await self._try(settlement, is_late=False) is None

    def record_later(self, settlement: Settlement) -> None:
        """Write an outcome later, since the journal has just failed."""
        self._keep(settlement)
        self._start()

    async def catch_up(self, account: str, other_order_id: str) -> JournalEntry | None:
        """Try now to write the outcome of a reference, if there is an unwritten one.

        Returns:
            None if the reference has no unwritten outcome any more. Else its entry, which
            includes the outcome; the reference can't be used.

        Raises:
            Exception: If the outcome would free the reference, but can't be written.
        """
        for one in [*self._unwritten.values()]:
            if (one.entry.account, one.entry.other_order_id) == (account, other_order_id):
                fault = await self._try(one)
                # Raise or return now: another use of the journal might take as long to fail.
                if fault is not None and one.state in REPEATABLE:
                    raise fault
                if fault is not None:
                    return self.complete(one.entry)
        return None

    async def write_all(self) -> None:
        """Try now to write all unwritten outcomes."""
        if self._unwritten:
            await self._try_all()

    def unwritten_of(self, attempt: str) -> Settlement | None:
        """Return the unwritten outcome of an attempt, or None."""
        return self._unwritten.get(attempt)

    def entry_of_order(self, account: str, order_num: str) -> JournalEntry | None:
        """Return the entry of an order number that is not written yet, or None."""
        for one in self._unwritten.values():
            if (one.entry.account, one.order_num) == (account, order_num):
                return self.complete(one.entry)
        return None

    def complete(self, entry: JournalEntry) -> JournalEntry:
        """Return an entry of the journal with its unwritten outcome, if there is one."""
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

    async def aclose(self, *, in_a_hurry: bool = False) -> None:
        """Try once more to write all outcomes, and log those that can't be written.

        Args:
            in_a_hurry: Try for a second only, and then stop what is being written.
        """
        self._closed = True
        if self._pause is not None:
            self._pause.cancel()
        if self._unwritten:
            with TimeLimit(self._clock, LONGEST_LAST_TRY if in_a_hurry else None):
                # For outcomes that are just being written, this only waits.
                await self._try_all()
        left = [task for task in (self._trying, *self._writing.values()) if task is not None]
        if in_a_hurry:
            for task in left:
                task.cancel()
        if left:
            await asyncio.wait(left, timeout=LONGEST_LAST_TRY if in_a_hurry else None)
        self.log_unwritten()

    def log_unwritten(self) -> None:
        """Log the outcomes that were never written, and drop them."""
        kept = self._unwritten.values()
        for settlement in kept:
            if settlement.is_begun:
                logger.error(
                    "the order journal has not recorded that %s; settle its entry by hand, with "
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
        """Write an outcome; return the error if that fails, else None.

        If an outcome of the same attempt is just being written, wait for that first.
        """
        attempt, fault = settlement.entry.attempt, None
        while fault is None and self._unwritten.get(attempt) is settlement:
            writing = self._writing.get(attempt)
            if writing is None or writing.done():
                work = self._write(settlement, is_late)
                writing = asyncio.create_task(work, name="mioesim_async journal")
                self._writing[attempt] = writing
                writing.add_done_callback(self._ended)
            # Shielded: if writing were cancelled, it would not be known whether it was written.
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
            # The event loop ends. The outcome may have been written all the same.
            with suppress(Exception), TimeLimit(self._clock, LONGEST_CHECK):
                if await self._is_recorded(settlement):
                    self._forget(settlement)
            raise
        except Exception as error:
            self.uptime.mark(False)
            if not is_late and settlement.is_begun:
                logger.error(
                    "the order journal could not record that %s: %s; trying again until it can",
                    settlement,
                    _safe_text(error),
                )
            self._start()
            return error
        self.uptime.mark(True)
        self._forget(settlement)
        if is_lost:
            logger.warning(
                "the order journal's entry of this reference belongs to another attempt or order, "
                "so it is not recorded that %s",
                settlement,
            )
        elif changed and is_late:
            logger.warning("the order journal has now recorded that %s", settlement)
        return None

    async def _is_recorded(self, settlement: Settlement) -> bool:
        """Tell whether the journal has the order number, or else another state than open."""
        entry = settlement.entry
        found = await self._journal.find(entry.account, entry.other_order_id)
        if settlement.order_num is not None:
            return found is not None and found.order_num == settlement.order_num
        if found is None or found.attempt != entry.attempt:
            return True
        return found.state is not EntryState.OPEN

    def _forget(self, settlement: Settlement) -> None:
        """Drop an outcome, unless there is a newer one of the same attempt."""
        if self._unwritten.get(settlement.entry.attempt) is settlement:
            del self._unwritten[settlement.entry.attempt]
        if not self._unwritten:
            _with_unwritten.discard(self)

    async def _try_all(self) -> None:
        # Concurrently, since each may wait for a locked journal.
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


def _safe_text(fault: Exception) -> str:
    # The text of an error of another journal may hold secrets.
    return str(fault) if isinstance(fault, MioEsimError) else type(fault).__name__


_with_unwritten: set[Settlements] = set()
"""Kept alive until their outcomes are written or logged, even if the client isn't closed."""

if hasattr(os, "register_at_fork"):
    # A child process must not log its parent's outcomes.
    os.register_at_fork(after_in_child=_with_unwritten.clear)


@atexit.register
def _log_all_unwritten() -> None:
    for settlements in [*_with_unwritten]:
        settlements.log_unwritten()

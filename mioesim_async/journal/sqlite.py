"""The order journal in an SQLite file."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from mioesim_async.clock import TellsTime
from mioesim_async.journal import table
from mioesim_async.journal.entry import (
    SETTLED,
    UNSETTLED,
    EntryState,
    JournalEntry,
    check_outcome,
    may_begin,
    recordable,
    settled,
    spend_limit_error,
    time_before,
)
from mioesim_async.journal.sqlite_worker import Job, Worker

__all__ = ["OrderJournal"]

T = TypeVar("T")

BUSY_SECONDS = 30.0
"""Seconds that a call waits for other processes that lock the file."""


class OrderJournal:
    """Records what became of each order, in one SQLite file for the processes of one machine.

    The file has mode 0600, and a directory that is made here has mode 0700. It must be on a
    local disk, since SQLite's WAL doesn't work on network file systems. When a method returns,
    its changes are on disk (``synchronous=FULL``). If the process is killed, each change is
    either complete or not made at all.

    Only a journal or an empty file is written to or gets another mode. A symbolic link as the
    last part of the path is not followed. If the file is deleted, moved or replaced while an
    ``OrderJournal`` object uses it, the object refuses to work until the same file is back. Only
    a new object, such as after a restart, makes a new file.

    All methods run in one thread of the journal and don't block the event loop. Those that wait at
    the same time share one transaction and one commit. The thread closes the file when it has had
    nothing to do for a second, when a client or ``aclose`` closes it, and before a fork: a copy of
    the closed file is whole. Each method waits up to 30 seconds from its call for other
    processes, and is tried at least once.

    All methods raise ``JournalUnavailable`` if the file can't be used now: it is locked, missing
    or damaged, the disk is full or read-only, or permissions or file descriptors are missing. The
    message says which file is at fault, why, and what to do. All raise ``ConfigurationError`` if
    another path is needed: this one names a directory, a device, a pipe, a symbolic link, or a
    file of another program or of a later version, or its file system doesn't support WAL.
    """

    def __init__(self, path: str | os.PathLike[str], *, clock: TellsTime = time) -> None:
        """Keep the journal in a file, which is made when it is needed.

        Args:
            path: The file; ``~`` is the home directory.
            clock: The source of the present time for ``prune``.
        """
        self.path = Path(path).expanduser().absolute()
        self._clock = clock
        self._worker: tuple[int, Worker] | None = None

    async def begin(self, entry: JournalEntry) -> JournalEntry | None:
        """Record the intent to buy, unless its reference is used; see ``Journal.begin``.

        Returns:
            None if the intent was recorded, else the existing entry, unchanged.

        Raises:
            JournalUnavailable: If the file can't be used now; the intent may be recorded or not.
            ConfigurationError: If the path can't be that of a journal.
            asyncio.CancelledError: If the caller was cancelled. By then the intent is recorded,
                or never will be. In both cases the attempt may be settled as ``NOT_SENT``.
        """
        row = table.encode(entry)

        def work(db: sqlite3.Connection) -> JournalEntry | None:
            existing = table.find(db, entry.account, entry.other_order_id)
            if may_begin(existing, entry):
                table.put(db, row)
                return None
            return existing

        return await self._run(work, writes=True)

    async def begin_within(
        self, entry: JournalEntry, *, limit: Decimal, since: datetime
    ) -> JournalEntry | None:
        """Record the intent to buy if its price fits a limit of spending; see ``Journal``.

        Args:
            entry: The intent, with its ``expected_price``.
            limit: What the account may spend, in the vendor's currency.
            since: From when on intents count; with a time zone.

        Returns:
            As ``begin``.

        Raises:
            SpendLimitReached: If the price doesn't fit; nothing was recorded.
            MioEsimError: As ``begin``.
        """
        row, price = table.encode(entry), entry.expected_price or Decimal(0)

        def work(db: sqlite3.Connection) -> JournalEntry | Decimal | None:
            existing = table.find(db, entry.account, entry.other_order_id)
            if not may_begin(existing, entry):
                return existing
            # The transaction is immediate, so no other process begins meanwhile.
            spent = table.spent(db, entry.account, since)
            if spent + price > limit:
                return spent
            table.put(db, row)
            return None

        came_to = await self._run(work, writes=True)
        if isinstance(came_to, Decimal):
            raise spend_limit_error(entry, limit, came_to)
        return came_to

    async def settle(
        self,
        account: str,
        other_order_id: str,
        attempt: str,
        state: EntryState,
        *,
        at: datetime,
        reason: str = "",
        order_num: str | None = None,
        order: dict[str, Any] | None = None,
    ) -> bool:
        """Record the outcome of an attempt; see ``Journal.settle``.

        If the caller is cancelled, the outcome is recorded before ``CancelledError`` is raised.

        Returns:
            Whether the entry was changed.

        Raises:
            JournalUnavailable: If the file can't be used now.
            ConfigurationError: If the path can't be that of a journal.
            ValueError: If ``at`` has no time zone.
            TypeError: If ``order`` is not JSON-ready.
        """
        check_outcome(at, order)

        def work(db: sqlite3.Connection) -> bool:
            entry = table.find(db, account, other_order_id)
            if entry is None or entry.attempt != recordable(attempt):
                return False
            changed = settled(entry, state, at=at, reason=reason, order_num=order_num, order=order)
            if changed is None:
                return False
            table.put(db, table.encode(changed))
            return True

        return await self._run(work, writes=True, must_finish=True)

    async def find(self, account: str, other_order_id: str) -> JournalEntry | None:
        """Return the entry of a reference, or None.

        Raises:
            JournalUnavailable: If the file can't be used now.
            ConfigurationError: If the path can't be that of a journal.
        """
        return await self._run(lambda db: table.find(db, account, other_order_id))

    async def find_order(self, account: str, order_num: str) -> JournalEntry | None:
        """Return the entry that was placed as this order number, or None.

        Raises:
            JournalUnavailable: If the file can't be used now.
            ConfigurationError: If the path can't be that of a journal.
        """
        return await self._run(lambda db: table.find_order(db, account, order_num))

    async def find_orders(
        self, account: str, *, order_nums: Collection[str] = (), references: Collection[str] = ()
    ) -> list[JournalEntry]:
        """Return the entries of many orders at once.

        Args:
            account: As in the entries.
            order_nums: Return the entries that were placed as these order numbers.
            references: Return also the entries of these references.

        Raises:
            JournalUnavailable: If the file can't be used now.
            ConfigurationError: If the path can't be that of a journal.
        """
        return await self._run(lambda db: table.find_orders(db, account, order_nums, references))

    async def accounts(self) -> list[str]:
        """Return the keys of the accounts for which something was, or may have been, sent.

        Raises:
            JournalUnavailable: If the file can't be used now.
            ConfigurationError: If the path can't be that of a journal.
        """
        return await self._run(table.accounts)

    async def open_entries(self, account: str | None = None) -> list[JournalEntry]:
        """Return the entries of orders that may have been placed, oldest first.

        Args:
            account: Only those of this account, as ``JournalEntry.account`` names it.

        Raises:
            JournalUnavailable: If the file can't be used now.
            ConfigurationError: If the path can't be that of a journal.
        """
        return await self._run(lambda db: table.in_states(db, UNSETTLED, account))

    async def prune(self, *, older_than: timedelta) -> int:
        """Delete settled entries that have not changed for a time; open ones are kept.

        A reference whose entry was deleted may be bought again, so choose months, not hours.

        Args:
            older_than: Minimum time since the last change.

        Returns:
            How many entries were deleted.

        Raises:
            JournalUnavailable: If the file can't be used now.
            ConfigurationError: If the path can't be that of a journal.
            ValueError: If ``older_than`` is negative.
        """
        before = time_before(self._clock, older_than)
        return await self._run(lambda db: table.forget(db, SETTLED, before), writes=True)

    async def close_idle(self) -> None:
        """Close the file as soon as nothing is under way, also that of other event loops."""
        if self._worker is not None and self._worker[0] == os.getpid():
            await asyncio.wrap_future(self._worker[1].close())

    async def aclose(self) -> None:
        """Close the file. A later call opens it again."""
        await self.close_idle()

    async def _run(
        self,
        work: Callable[[sqlite3.Connection], T],
        *,
        writes: bool = False,
        must_finish: bool = False,
    ) -> T:
        """Run a job in the thread; return or raise only after the end of its transaction."""
        # Counted from the call, so that the waits of calls made at once don't add up.
        job = Job(work, time.monotonic() + BUSY_SECONDS, writes, must_finish)
        self._thread().submit(job)
        working = asyncio.wrap_future(job.future)
        try:
            await asyncio.wait([working])
        except asyncio.CancelledError:
            if not must_finish:
                job.is_given_up = True
                if job.future.cancel():
                    raise
            while not working.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([working])
            working.exception()
            raise
        done: T = working.result()
        return done

    def _thread(self) -> Worker:
        # A forked child needs another worker, since threads don't survive a fork.
        if self._worker is None or self._worker[0] != os.getpid():
            known = None if self._worker is None else self._worker[1].known
            self._worker = os.getpid(), Worker(self.path, known)
        return self._worker[1]

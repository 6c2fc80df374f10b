"""The order journal in an SQLite file."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from mioesim_async.clock import TellsTime
from mioesim_async.journal import faults, files, forks, table
from mioesim_async.journal.entry import (
    SETTLED,
    UNSETTLED,
    EntryState,
    JournalEntry,
    check_outcome,
    may_begin,
    recordable,
    settled,
    time_before,
)
from mioesim_async.journal.unusable import Fault, Unusable, refusal

__all__ = ["OrderJournal"]

T = TypeVar("T")

BUSY_SECONDS = 30.0
"""Seconds that a call waits for other processes that lock the file."""
STEP_SECONDS = 0.1
"""Seconds that SQLite waits for a lock before the journal checks if its caller was cancelled."""
PAUSE_SECONDS = 0.01
"""Seconds between two tries, since SQLite doesn't wait for every kind of lock."""

BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}


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

    A connection is open only during a method, so there is nothing to close; a fork waits for its
    end. All methods run in one thread of the journal, one after the other, and don't block the
    event loop. Each waits up to 30 seconds from its call for other processes, and is tried at
    least once.

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
        self._thread: tuple[int, ThreadPoolExecutor] | None = None
        self._known: tuple[files.Identity, str] | None = None

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

    async def _run(
        self,
        work: Callable[[sqlite3.Connection], T],
        *,
        writes: bool = False,
        must_finish: bool = False,
    ) -> T:
        """Run one transaction in the thread; return or raise only after its end."""
        cancelled = threading.Event()
        # Counted from the call, so that the waits of calls made at once don't add up.
        until = time.monotonic() + BUSY_SECONDS
        job = self._executor().submit(self._retry, work, writes, must_finish, until, cancelled)
        working = asyncio.wrap_future(job)
        try:
            await asyncio.wait([working])
        except asyncio.CancelledError:
            if not must_finish:
                cancelled.set()
                if job.cancel():
                    raise
            while not working.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([working])
            working.exception()
            raise
        return working.result()

    def _executor(self) -> ThreadPoolExecutor:
        # A forked child needs a new executor, since threads don't survive a fork.
        if self._thread is None or self._thread[0] != os.getpid():
            self._thread = os.getpid(), ThreadPoolExecutor(1, "mioesim_async journal")
        return self._thread[1]

    def _retry(
        self,
        work: Callable[[sqlite3.Connection], T],
        writes: bool,
        must_finish: bool,
        until: float,
        cancelled: threading.Event,
    ) -> T:
        """Run a transaction at least once, and again while other processes lock the file."""
        while True:
            left = min(STEP_SECONDS, max(0.0, until - time.monotonic()))
            try:
                return self._transact(work, writes, left)
            except (Unusable, sqlite3.Error, OSError) as error:
                if not (_is_busy(error) and left and not cancelled.is_set()):
                    raise refusal(
                        f"at {self.path}", self._fault(error), was_asked_to_settle=must_finish
                    ) from error
            cancelled.wait(PAUSE_SECONDS)

    def _transact(
        self, work: Callable[[sqlite3.Connection], T], writes: bool, patience: float
    ) -> T:
        with forks.no_fork():
            known = self._known
            file = files.prepare_file(self.path, known and known[0])
            # mode=rw, since SQLite would make a missing file with the mode of the umask.
            uri = f"{self.path.as_uri()}?mode=rw"
            with closing(
                sqlite3.connect(uri, uri=True, timeout=patience, isolation_level=None)
            ) as db:
                db.execute("PRAGMA synchronous=FULL")
                table.prepare(db)
                files.restrict_access(self.path)
                db.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
                found = file, table.file_id(db)
                if known not in (None, found):
                    # The inode alone doesn't tell: a new file may get that of the deleted one.
                    raise Unusable(faults.FILE_GONE)
                result = work(db)
                db.execute("COMMIT")
                self._known = found
                # If the file is gone by now, what was written is lost.
                files.check_identity(self.path, file)
            return result

    def _fault(self, error: Exception) -> Fault:
        if self._known:
            try:
                files.check_identity(self.path, self._known[0])
            except (Unusable, OSError) as gone:
                error = gone
        fault = faults.fault_of(error, self.path)
        # The file was a journal before, so another program has overwritten it.
        return faults.FILE_GONE if fault.is_lasting and self._known else fault


def _is_busy(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in BUSY

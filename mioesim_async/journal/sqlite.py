"""The journal in an SQLite file."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

from mioesim_async.errors import ConfigurationError, JournalUnavailable, MioEsimError
from mioesim_async.journal import faults, files, forks, table
from mioesim_async.journal.entry import (
    SETTLED,
    UNSETTLED,
    EntryState,
    JournalEntry,
    may_begin,
    recordable,
    settled,
)

__all__ = ["OrderJournal"]

T = TypeVar("T")

BUSY_SECONDS = 30.0
"""How long a caller waits for others to give the file free, from when it asked."""
STEP_SECONDS = 0.1
"""How long SQLite itself waits before the journal looks whether its caller has gone."""
PAUSE_SECONDS = 0.01
"""Pause between two tries, since SQLite doesn't wait for every lock."""

BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}


class TellsTime(Protocol):
    """Anything that tells the time, such as the ``time`` module or a client's clock."""

    def time(self) -> float:
        """Return seconds since the epoch (UTC)."""
        ...


class OrderJournal:
    """What became of each order, in one SQLite file for the processes of one machine.

    The file has mode 0600, and its directory 0700 if it is made here. It must be on a local
    disk: what SQLite needs (WAL) doesn't work on network file systems. When a method
    returns, what it wrote is on disk (``synchronous=FULL``), and a process that is killed at
    any moment leaves the file as it was before or after.

    Only a journal's file, or an empty one, is written to or gets another mode. A symbolic link
    as the last part of the path is not followed. The file must stay the same while an object
    uses it: one that was deleted, moved or replaced is not made anew, and the object refuses to
    work until the same file is back. A new object, such as after a restart, makes a new file.

    A connection is open only during a method, so there is nothing to close, and a fork waits
    for its end. All methods work off the loop, in a thread of the journal's own, one after the
    other. They wait up to 30 seconds for other processes, counted from the call, so that
    calls made at once don't add up their waits; each is tried at least once.

    All methods raise ``JournalUnavailable`` if the file can't be used at the moment, or until
    a person mends it: it is locked, has vanished or is damaged, the disk is full or read-only,
    permissions or file descriptors are missing. The message says which, names the file that
    is at fault with its mode and owner, and says what to do. All raise ``ConfigurationError``
    if the path must be another: it names a directory, a device, a pipe, a symbolic link or
    another program's file, or a later version's, or its file system can't do WAL.
    """

    def __init__(self, path: str | os.PathLike[str], *, clock: TellsTime = time) -> None:
        """Keep the journal in a file, which is made when it is needed.

        Args:
            path: The file; ``~`` is the home directory.
            clock: Where the present comes from that ``prune`` counts from.
        """
        self.path = Path(path).expanduser().absolute()
        self._clock = clock
        self._thread: tuple[int, ThreadPoolExecutor] | None = None
        self._known: tuple[files.Identity, str] | None = None

    async def begin(self, entry: JournalEntry) -> JournalEntry | None:
        """Record an intent, unless its reference is taken; see ``Journal.begin``.

        Returns:
            None if the intent was recorded, else the entry that is there, unchanged.

        Raises:
            JournalUnavailable: If the file can't be used at the moment; the intent may or may
                not be in it.
            ConfigurationError: If the path can't be that of a journal.
            asyncio.CancelledError: If the caller was cancelled. The intent may be recorded by
                then, or not, and nothing happens any more. Settling the attempt as
                ``NOT_SENT`` is right in both cases.
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
        """Record what became of an attempt; see ``Journal.settle``.

        An answer was paid for: who is cancelled here gets the ``CancelledError`` when it has
        been recorded.

        Returns:
            Whether the entry was changed.

        Raises:
            JournalUnavailable: If the file can't be used at the moment.
            ConfigurationError: If the path can't be that of a journal.
            ValueError: If ``at`` has no time zone.
            TypeError: If ``order`` is not JSON-ready.
        """
        table.checked(at, order)

        def work(db: sqlite3.Connection) -> bool:
            entry = table.find(db, account, other_order_id)
            if entry is None or entry.attempt != recordable(attempt):
                return False
            changed = settled(entry, state, at=at, reason=reason, order_num=order_num, order=order)
            if changed is None:
                return False
            table.put(db, table.encode(changed))
            return True

        return await self._run(work, writes=True, insists=True)

    async def find(self, account: str, other_order_id: str) -> JournalEntry | None:
        """Return the entry of a reference, or None.

        Raises:
            JournalUnavailable: If the file can't be used at the moment.
            ConfigurationError: If the path can't be that of a journal.
        """
        return await self._run(lambda db: table.find(db, account, other_order_id))

    async def find_order(self, account: str, order_num: str) -> JournalEntry | None:
        """Return the entry that was placed as this order of the vendor's, or None.

        Raises:
            JournalUnavailable: If the file can't be used at the moment.
            ConfigurationError: If the path can't be that of a journal.
        """
        return await self._run(lambda db: table.find_order(db, account, order_num))

    async def find_orders(
        self, account: str, *, order_nums: Collection[str] = (), references: Collection[str] = ()
    ) -> list[JournalEntry]:
        """Return what is known of many orders, in one look-up.

        Args:
            account: As in the entries.
            order_nums: Numbers of the vendor's; the entries that were placed as these.
            references: The entries of these references.

        Raises:
            JournalUnavailable: If the file can't be used at the moment.
            ConfigurationError: If the path can't be that of a journal.
        """
        return await self._run(lambda db: table.find_orders(db, account, order_nums, references))

    async def accounts(self) -> list[str]:
        """Return the keys of the accounts that something was, or may have been, sent for.

        Raises:
            JournalUnavailable: If the file can't be used at the moment.
            ConfigurationError: If the path can't be that of a journal.
        """
        return await self._run(table.accounts)

    async def open_entries(self, account: str | None = None) -> list[JournalEntry]:
        """Return the entries of orders that may have been placed, oldest first.

        Args:
            account: Only those of this account, as ``JournalEntry.account`` names it.

        Raises:
            JournalUnavailable: If the file can't be used at the moment.
            ConfigurationError: If the path can't be that of a journal.
        """
        return await self._run(lambda db: table.in_states(db, UNSETTLED, account))

    async def prune(self, *, older_than: timedelta) -> int:
        """Forget settled entries that have not changed for a time; open ones are kept.

        A forgotten reference may be sent again, so choose months and not hours.

        Args:
            older_than: How long ago they last changed, at least.

        Returns:
            How many were forgotten.

        Raises:
            JournalUnavailable: If the file can't be used at the moment.
            ConfigurationError: If the path can't be that of a journal.
            ValueError: If ``older_than`` is negative.
        """
        if older_than < timedelta(0):
            raise ValueError("older_than can't be negative")
        before = datetime.fromtimestamp(self._clock.time(), UTC) - older_than
        return await self._run(lambda db: table.forget(db, SETTLED, before), writes=True)

    async def _run(
        self,
        work: Callable[[sqlite3.Connection], T],
        *,
        writes: bool = False,
        insists: bool = False,
    ) -> T:
        """Run one transaction in the thread, and end only when nothing happens any more."""
        gone = threading.Event()
        # From now on, since those who ask at once wait at once, one behind the other.
        until = time.monotonic() + BUSY_SECONDS
        job = self._executor().submit(self._try, work, writes, insists, until, gone)
        working = asyncio.wrap_future(job)
        try:
            await asyncio.wait([working])
        except asyncio.CancelledError:
            if not insists:
                gone.set()
                if job.cancel():
                    raise
            while not working.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([working])
            working.exception()
            raise
        return working.result()

    def _executor(self) -> ThreadPoolExecutor:
        # A fork has no threads, whatever its copy of the executor believes.
        if self._thread is None or self._thread[0] != os.getpid():
            self._thread = os.getpid(), ThreadPoolExecutor(1, "mioesim_async journal")
        return self._thread[1]

    def _try(
        self,
        work: Callable[[sqlite3.Connection], T],
        writes: bool,
        insists: bool,
        until: float,
        gone: threading.Event,
    ) -> T:
        """Run a transaction, at least once, and again while others hold the file."""
        while True:
            left = min(STEP_SECONDS, max(0.0, until - time.monotonic()))
            try:
                return self._transact(work, writes, left)
            except (faults.Unfit, sqlite3.Error, OSError) as error:
                if not (_is_busy(error) and left and not gone.is_set()):
                    raise self._refusal(error, was_asked_to_settle=insists) from error
            gone.wait(PAUSE_SECONDS)

    def _transact(
        self, work: Callable[[sqlite3.Connection], T], writes: bool, patience: float
    ) -> T:
        with forks.none_meanwhile():
            known = self._known
            file = files.ready(self.path, known and known[0])
            # SQLite must not make the file: it would give it whatever mode the umask leaves.
            uri = f"{self.path.as_uri()}?mode=rw"
            with closing(
                sqlite3.connect(uri, uri=True, timeout=patience, isolation_level=None)
            ) as db:
                db.execute("PRAGMA synchronous=FULL")
                table.prepare(db)
                files.close_to_others(self.path)
                db.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
                found = file, table.mark(db)
                if known not in (None, found):
                    # The system gives the number of a deleted file to the next one.
                    raise faults.Unfit(faults.VANISHED)
                result = work(db)
                db.execute("COMMIT")
                self._known = found
                # What was written to a file that has vanished meanwhile is lost.
                files.check_same(self.path, file)
            return result

    def _refusal(self, error: Exception, *, was_asked_to_settle: bool) -> MioEsimError:
        fault = self._fault(error)
        if fault.is_lasting:
            return ConfigurationError(
                f"the order journal can't be at {self.path}: {fault.what}; {fault.advice}"
            )
        came_to = "" if was_asked_to_settle else "; nothing was sent, try later"
        return JournalUnavailable(
            f"the order journal at {self.path} can't be used now{came_to}: {fault.what}; "
            f"{fault.advice}"
        )

    def _fault(self, error: Exception) -> faults.Fault:
        if self._known:
            try:
                files.check_same(self.path, self._known[0])
            except (faults.Unfit, OSError) as gone:
                error = gone
        fault = faults.fault_of(error, self.path)
        # It was a journal before, so somebody wrote over it.
        return faults.VANISHED if fault.is_lasting and self._known else fault


def _is_busy(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in BUSY

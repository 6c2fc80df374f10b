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

from mioesim_async.errors import ConfigurationError, JournalUnavailable
from mioesim_async.journal import rows
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
STEP_SECONDS = 0.1
"""How long SQLite itself waits before the journal looks whether its caller has gone."""

BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}

ADVICE = {
    sqlite3.SQLITE_BUSY: "find out which process has had its lock for so long, and end it",
    sqlite3.SQLITE_CANTOPEN: "its directory and the file must be writable for this user",
    sqlite3.SQLITE_READONLY: "its directory and the file must be writable for this user",
    sqlite3.SQLITE_FULL: "make room on the disk",
    sqlite3.SQLITE_NOTADB: "give the path of a new file",
    sqlite3.SQLITE_CORRUPT: "compare the vendor's list of orders with yours before you move "
    "the file away and start a new one",
}
OTHER_ADVICE = "it needs a file on a local disk that this user can write"

_making = threading.Lock()


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

    A connection is open only during a method, so there is nothing to close. All methods work
    off the loop, in a thread of the journal's own, one after the other. They wait up to 30
    seconds for other processes. All raise ``ConfigurationError`` if the file can't be used.
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

    async def begin(self, entry: JournalEntry) -> JournalEntry | None:
        """Record an intent, unless its reference is taken; see ``Journal.begin``.

        Returns:
            None if the intent was recorded, else the entry that is there, unchanged.

        Raises:
            ConfigurationError: If the file can't be used; the intent may or may not be in it.
            asyncio.CancelledError: If the caller was cancelled. The intent may be recorded by
                then, or not, and nothing happens any more. Settling the attempt as
                ``NOT_SENT`` is right in both cases.
        """
        row = rows.encode(entry)

        def work(db: sqlite3.Connection) -> JournalEntry | None:
            existing = rows.find(db, entry.account, entry.other_order_id)
            if may_begin(existing, entry):
                rows.put(db, row)
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
            ConfigurationError: If the file can't be used.
            ValueError: If ``at`` has no time zone.
            TypeError: If ``order`` is not JSON-ready.
        """
        rows.checked(at, order)

        def work(db: sqlite3.Connection) -> bool:
            entry = rows.find(db, account, other_order_id)
            if entry is None or entry.attempt != recordable(attempt):
                return False
            changed = settled(entry, state, at=at, reason=reason, order_num=order_num, order=order)
            if changed is None:
                return False
            rows.put(db, rows.encode(changed))
            return True

        return await self._run(work, writes=True, insists=True)

    async def find(self, account: str, other_order_id: str) -> JournalEntry | None:
        """Return the entry of a reference, or None.

        Raises:
            ConfigurationError: If the file can't be used.
        """
        return await self._run(lambda db: rows.find(db, account, other_order_id))

    async def find_order(self, account: str, order_num: str) -> JournalEntry | None:
        """Return the entry that was placed as this order of the vendor's, or None.

        Raises:
            ConfigurationError: If the file can't be used.
        """
        return await self._run(lambda db: rows.find_order(db, account, order_num))

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
        return await self._run(lambda db: rows.find_orders(db, account, order_nums, references))

    async def accounts(self) -> list[str]:
        """Return the keys of the accounts that something was, or may have been, sent for.

        Raises:
            JournalUnavailable: If the file can't be used at the moment.
            ConfigurationError: If the path can't be that of a journal.
        """
        return await self._run(rows.accounts)

    async def open_entries(self, account: str | None = None) -> list[JournalEntry]:
        """Return the entries of orders that may have been placed, oldest first.

        Args:
            account: Only those of this account, as ``JournalEntry.account`` names it.

        Raises:
            ConfigurationError: If the file can't be used.
        """
        return await self._run(lambda db: rows.in_states(db, UNSETTLED, account))

    async def prune(self, *, older_than: timedelta) -> int:
        """Forget settled entries that have not changed for a time; open ones are kept.

        A forgotten reference may be sent again, so choose months and not hours.

        Args:
            older_than: How long ago they last changed, at least.

        Returns:
            How many were forgotten.

        Raises:
            ConfigurationError: If the file can't be used.
            ValueError: If ``older_than`` is negative.
        """
        if older_than < timedelta(0):
            raise ValueError("older_than can't be negative")
        before = datetime.fromtimestamp(self._clock.time(), UTC) - older_than
        return await self._run(lambda db: rows.forget(db, SETTLED, before), writes=True)

    async def _run(
        self,
        work: Callable[[sqlite3.Connection], T],
        *,
        writes: bool = False,
        insists: bool = False,
    ) -> T:
        """Run one transaction in the thread, and end only when nothing happens any more."""
        gone = threading.Event()
        job = self._executor().submit(self._try, work, writes, gone)
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
        self, work: Callable[[sqlite3.Connection], T], writes: bool, gone: threading.Event
    ) -> T:
        """Run a transaction, again while others hold the file."""
        until = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                return self._transact(work, writes)
            except sqlite3.Error as error:
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if code not in BUSY or gone.is_set() or time.monotonic() > until:
                    if code == sqlite3.SQLITE_NOTADB:
                        raise self._unusable(str(error), ADVICE[code]) from error
                    advice = ADVICE.get(code, OTHER_ADVICE)
                    raise self._unavailable(str(error), advice) from error
            except OSError as error:
                raise self._unavailable(error.strerror or str(error), OTHER_ADVICE) from error

    def _transact(self, work: Callable[[sqlite3.Connection], T], writes: bool) -> T:
        self._make()
        # SQLite must not make the file: it would give it whatever mode the umask leaves.
        uri = f"{self.path.as_uri()}?mode=rw"
        with closing(
            sqlite3.connect(uri, uri=True, timeout=STEP_SECONDS, isolation_level=None)
        ) as db:
            db.execute("PRAGMA synchronous=FULL")
            fault = rows.prepare(db)
            if fault:
                raise self._unusable(*fault)
            db.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            result = work(db)
            db.execute("COMMIT")
            return result

    def _make(self) -> None:
        # Whoever closes a file that SQLite has open in the same process takes SQLite's locks
        # with it. So it is only ever opened here when it is new, and by one thread at a time.
        with _making:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(FileExistsError):
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        if self.path.is_dir():
            raise self._unusable("it is a directory", "give the path of a file in it")
        for path in (self.path, *(Path(f"{self.path}{end}") for end in ("-wal", "-shm"))):
            with suppress(FileNotFoundError):
                if path.stat().st_mode & 0o077 and os.name == "posix":
                    path.chmod(0o600)

    def _unusable(self, why: str, advice: str) -> ConfigurationError:
        return ConfigurationError(f"the order journal can't be at {self.path}: {why}; {advice}")

    def _unavailable(self, why: str, advice: str) -> JournalUnavailable:
        return JournalUnavailable(
            f"the order journal at {self.path} can't be used now: {why}; {advice}"
        )

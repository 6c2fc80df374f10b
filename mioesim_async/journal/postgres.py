"""The order journal in a PostgreSQL database, for the processes of many hosts."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from attrs import evolve

from mioesim_async.clock import TellsTime
from mioesim_async.closing import run_to_end
from mioesim_async.errors import ConfigurationError
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
from mioesim_async.journal.unusable import Fault, Unusable, refusal

try:
    from mioesim_async.journal.postgres_connections import Connections
    from mioesim_async.journal.postgres_faults import EXPECTED, MAY_PASS, fault_of
    from mioesim_async.journal.postgres_table import LATER_VERSION, LAYOUTS, Table, encode
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "PostgresOrderJournal needs asyncpg; install it with: "
        "pip install 'mioesim_async[postgres]'",
        name=error.name,
    ) from None

__all__ = ["PostgresOrderJournal"]

T = TypeVar("T")
Work = Callable[[Any, str], Awaitable[T]]
"""Takes a connection and the journal's mark."""

LONGEST_CALL = 20.0
"""Seconds that a method takes, at most, its wait for a connection included."""

SCHEMES = ("postgresql://", "postgres://")
HOSTS = re.compile(r"((\[[^]]*\]|[^/?#@:,]*)(:\d+)?,?)*(/[^?#]*)?(?=[?#]|$)")


class PostgresOrderJournal:
    """Records what became of each order, in one PostgreSQL database for processes of many hosts.

    The tables ``mioesim_orders`` and ``mioesim_journal`` are made at the first use, and upgraded,
    under an advisory lock. When a method returns, its changes are durable on the server
    (``synchronous_commit=on``). A failover to a standby that is replicated asynchronously may lose
    the newest intents, whose references could then be bought again.

    With a URL, one object works in any number of event loops and threads, and in forked
    processes. Each loop opens up to five connections when it needs them, and closes them after
    30 seconds without use, or by ``aclose`` or ``client.aclose``. A call takes 20 seconds at most.
    A pool is used as it is, in its own loop; behind PgBouncer it needs
    ``statement_cache_size=0``.

    All methods raise ``JournalUnavailable`` if the database can't be used now: it is down or
    read-only, its disk is full, it has no connection left, or the tables that this object used
    have vanished. All raise ``ConfigurationError`` if trying later can't help, unless the journal
    has worked before: user, password, database or permissions are wrong, its encoding is not
    UTF8, or a later version of mioesim_async wrote it. No message holds the password.
    """

    def __init__(
        self, url_or_pool: Any, *, schema: str = "public", clock: TellsTime = time
    ) -> None:
        """Keep the journal in a database; nothing is opened yet.

        Args:
            url_or_pool: A URL such as ``postgresql://user:password@host:5432/database``, with all
                that asyncpg takes, such as ``sslmode=verify-full`` and several hosts. Or a pool
                of asyncpg, which is not closed here.
            schema: The schema of the tables; it is made if it doesn't exist.
            clock: The source of the present time for ``prune``.

        Raises:
            ConfigurationError: If URL or schema can't be used.
        """
        self._url: str | None = None
        self._given: Any = None
        if isinstance(url_or_pool, str):
            self._url = url_or_pool
            self._place = f"in the database {_hosts_of(url_or_pool)}"
        elif hasattr(url_or_pool, "acquire"):
            self._given = url_or_pool
            self._place = "in the database of the given pool"
        else:
            raise ConfigurationError("PostgresOrderJournal takes a postgresql:// URL, or a pool")
        self._table = Table(schema)
        self._clock = clock
        self._mark: str | None = None
        # Those of a parent process are kept: if a child closed them, it would disturb its parent.
        self._of_loop: dict[tuple[int, asyncio.AbstractEventLoop], Connections] = {}

    def __repr__(self) -> str:
        """Tell where the journal is, without the password."""
        return f"<PostgresOrderJournal {self._place}, schema {self._table.schema!r}>"

    async def begin(self, entry: JournalEntry) -> JournalEntry | None:
        """Record the intent to buy, unless its reference is used; see ``Journal.begin``.

        Returns:
            None if the intent was recorded, else the existing entry, unchanged.

        Raises:
            JournalUnavailable: If the database can't be used now; the intent may be recorded or
                not.
            ConfigurationError: If the database can't be that of a journal.
            ValueError: If a time has no time zone.
            asyncio.CancelledError: If the caller was cancelled. By then the intent is recorded,
                or never will be. In both cases the attempt may be settled as ``NOT_SENT``.
        """
        return await self._run(self._beginning(entry), must_finish=True)

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
        begin, price = self._beginning(entry), entry.expected_price or Decimal(0)

        async def work(db: Any, mark: str) -> JournalEntry | Decimal | None:
            # Under a stricter level, the statement that waits for the lock would take the snapshot.
            async with db.transaction(isolation="read_committed"):
                # Until the end of the transaction, so that each host sees what the others spent.
                await self._table.lock_account(db, entry.account)
                found = await self._table.look(db, mark, entry.account, entry.other_order_id)
                is_ours = found.entry is not None and found.entry.attempt == entry.attempt
                if not is_ours and may_begin(found.entry, entry):
                    spent = await self._table.spent(db, entry.account, since)
                    if spent + price > limit:
                        return spent
                return await begin(db, mark)

        came_to = await self._run(work, must_finish=True)
        if isinstance(came_to, Decimal):
            raise spend_limit_error(entry, limit, came_to)
        return came_to

    def _beginning(self, entry: JournalEntry) -> Work[JournalEntry | None]:
        """Return the statements that record an intent."""
        row = encode(entry)
        attempt, was_tried = recordable(entry.attempt), False

        async def work(db: Any, mark: str) -> JournalEntry | None:
            nonlocal was_tried
            # After a lost answer, this attempt may be the one that is recorded.
            may_be_there, was_tried = was_tried, True
            while not await self._table.insert(db, mark, row):
                found = await self._table.look(db, mark, entry.account, entry.other_order_id)
                if found.version > len(LAYOUTS):
                    raise Unusable(LATER_VERSION)
                existing = found.entry
                if existing is None:
                    # It was pruned meanwhile.
                    continue
                if may_be_there and existing.attempt == attempt:
                    return None
                if not may_begin(existing, entry):
                    return existing
                if await self._table.replace(db, found, row):
                    return None
            return None

        return work

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
            JournalUnavailable: If the database can't be used now.
            ConfigurationError: If the database can't be that of a journal.
            ValueError: If ``at`` has no time zone.
            TypeError: If ``order`` is not JSON-ready.
        """
        known: dict[str, Any] = {"reason": reason, "order_num": order_num, "order": order}
        check_outcome(at, order)
        tried: JournalEntry | None = None

        async def work(db: Any, mark: str) -> bool:
            nonlocal tried
            while True:
                found = await self._table.look(db, mark, account, other_order_id)
                entry = found.entry
                if entry is None or entry.attempt != recordable(attempt):
                    return False
                if tried is not None and entry == tried:
                    # It was written, but the answer was lost.
                    return True
                tried = settled(entry, state, at=at, **known)
                if tried is None:
                    return False
                if await self._table.replace(db, found, encode(tried)):
                    return True

        return await self._run(work, must_finish=True, settles=True)

    async def find(self, account: str, other_order_id: str) -> JournalEntry | None:
        """Return the entry of a reference, or None.

        Raises:
            JournalUnavailable: If the database can't be used now.
            ConfigurationError: If the database can't be that of a journal.
        """

        async def work(db: Any, mark: str) -> JournalEntry | None:
            return (await self._table.look(db, mark, account, other_order_id)).entry

        return await self._run(work)

    async def find_order(self, account: str, order_num: str) -> JournalEntry | None:
        """Return the entry that was placed as this order number, or None.

        Raises:
            JournalUnavailable: If the database can't be used now.
            ConfigurationError: If the database can't be that of a journal.
        """
        return await self._run(lambda db, _: self._table.find_order(db, account, order_num))

    async def find_orders(
        self, account: str, *, order_nums: Collection[str] = (), references: Collection[str] = ()
    ) -> list[JournalEntry]:
        """Return the entries of many orders at once.

        Args:
            account: As in the entries.
            order_nums: Return the entries that were placed as these order numbers.
            references: Return also the entries of these references.

        Raises:
            JournalUnavailable: If the database can't be used now.
            ConfigurationError: If the database can't be that of a journal.
        """
        return await self._run(
            lambda db, _: self._table.find_orders(db, account, order_nums, references)
        )

    async def accounts(self) -> list[str]:
        """Return the keys of the accounts for which something was, or may have been, sent.

        Raises:
            JournalUnavailable: If the database can't be used now.
            ConfigurationError: If the database can't be that of a journal.
        """
        return await self._run(lambda db, _: self._table.accounts(db))

    async def open_entries(self, account: str | None = None) -> list[JournalEntry]:
        """Return the entries of orders that may have been placed, oldest first.

        Args:
            account: Only those of this account, as ``JournalEntry.account`` names it.

        Raises:
            JournalUnavailable: If the database can't be used now.
            ConfigurationError: If the database can't be that of a journal.
        """
        return await self._run(lambda db, _: self._table.in_states(db, UNSETTLED, account))

    async def prune(self, *, older_than: timedelta) -> int:
        """Delete settled entries that have not changed for a time; open ones are kept.

        A reference whose entry was deleted may be bought again, so choose months, not hours.

        Args:
            older_than: Minimum time since the last change.

        Returns:
            How many entries were deleted.

        Raises:
            JournalUnavailable: If the database can't be used now.
            ConfigurationError: If the database can't be that of a journal.
            ValueError: If ``older_than`` is negative.
        """
        before = time_before(self._clock, older_than)
        return await self._run(lambda db, _: self._table.forget(db, SETTLED, before))

    async def close_idle(self) -> None:
        """Close the connections that the running loop keeps and doesn't use; none of a pool."""
        key = os.getpid(), asyncio.get_running_loop()
        if key in self._of_loop:
            await self._of_loop[key].close_idle()

    async def aclose(self) -> None:
        """Close the running loop's connections. A later call opens new ones."""
        await self.close_idle()

    async def _run(self, work: Work[T], *, must_finish: bool = False, settles: bool = False) -> T:
        """Run statements, in a task that is not cancelled with its caller if it must finish."""
        try:
            return await run_to_end(self._finish(work, must_finish), stop=not must_finish)
        except EXPECTED as error:
            fault = error
        # Some tools collect the variables of a traceback's frames, which may hold the password.
        raise refusal(
            self._place, self._fault(fault), was_asked_to_settle=settles
        ) from fault.with_traceback(None)

    async def _finish(self, work: Work[T], must_finish: bool) -> T:
        try:
            return await self._bounded(work)
        except asyncio.CancelledError:
            if not must_finish:
                raise
        # The event loop is ending and has cancelled all tasks. It waits for those that go on.
        return await self._bounded(work)

    async def _bounded(self, work: Work[T]) -> T:
        async with asyncio.timeout(LONGEST_CALL):
            try:
                return await self._work(work)
            except MAY_PASS:
                # The connection may have been idle while the server was restarted.
                if self._given is None:
                    self._connections().drop_idle()
            return await self._work(work)

    async def _work(self, work: Work[T]) -> T:
        async with self._acquired() as db:
            if self._mark is None:
                self._mark = await self._table.prepare(db)
            return await work(db, self._mark)

    def _acquired(self) -> AbstractAsyncContextManager[Any]:
        if self._given is not None:
            acquired: AbstractAsyncContextManager[Any] = self._given.acquire()
            return acquired
        return self._connections().acquire()

    def _connections(self) -> Connections:
        process, _ = key = os.getpid(), asyncio.get_running_loop()
        for other in [*self._of_loop]:
            if other[0] == process and other[1].is_closed():
                del self._of_loop[other]
        if key not in self._of_loop and self._url is not None:
            self._of_loop[key] = Connections(self._url)
        return self._of_loop[key]

    def _fault(self, error: Exception) -> Fault:
        fault = fault_of(error)
        # It has worked before, so somebody is changing the server, and may be done later.
        return evolve(fault, is_lasting=False) if self._mark is not None else fault


def _hosts_of(url: str) -> str:
    """Return hosts, ports and database of a URL, and neither user nor password.

    Raises:
        ConfigurationError: If it isn't such a URL. Its text never repeats the URL.
    """
    if not url.startswith(SCHEMES):
        raise ConfigurationError("the URL of the order journal must start with postgresql://")
    user, _, rest = url.partition("://")[2].rpartition("@")
    hosts = HOSTS.match(rest)
    if hosts is None or re.search("[/?#@]", user):
        raise ConfigurationError(
            "the URL of the order journal can't be read; write "
            "postgresql://user:password@host:5432/database, and in user and password "
            "%2F %3F %23 %40 for / ? # @"
        )
    return hosts[0] or "that the environment names"

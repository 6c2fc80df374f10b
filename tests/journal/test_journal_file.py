"""The file of the order journal: who can read it, what is refused, and waiting for others."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import stat
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from journals import ACCOUNT, NOW, files_beside, intent, placed, write_locked
from shopping import buy
from stores import spawned
from waiting import SECONDS, until

from mioesim_async import EntryState, JournalEntry, OrderJournal
from mioesim_async.errors import ConfigurationError, JournalUnavailable
from mioesim_async.journal import sqlite, sqlite_worker, table
from mioesim_async.sandbox import Sandbox

posix = pytest.mark.skipif(sys.platform == "win32", reason="no modes there")


@posix
async def test_only_the_owner_can_read_the_files(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        journal = OrderJournal(tmp_path / "state" / "orders.db")
        await journal.begin(intent())
        with closing(sqlite3.connect(journal.path)) as db:
            db.execute("SELECT * FROM entries").fetchone()
            await journal.begin(intent("ref-2"))
            modes = {
                path.name: stat.S_IMODE(path.stat().st_mode)
                for path in journal.path.parent.iterdir()
            }
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("orders.db", "orders.db-wal", "orders.db-shm"), 0o600)
    assert stat.S_IMODE(journal.path.parent.stat().st_mode) == 0o700


@posix
async def test_a_new_file_is_never_open_to_others(
    journal: OrderJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def watched(*args: Any, **options: Any) -> sqlite3.Connection:
        seen.append(stat.S_IMODE(journal.path.stat().st_mode))
        return sqlite3.Connection(*args, **options)

    monkeypatch.setattr(sqlite.sqlite3, "connect", watched)
    before = os.umask(0)
    try:
        await journal.begin(intent())
    finally:
        os.umask(before)
    assert seen == [0o600]


@posix
async def test_a_file_that_others_can_read_is_closed_to_them(journal: OrderJournal) -> None:
    await journal.begin(intent())
    journal.path.chmod(0o644)
    assert await journal.find(ACCOUNT, "ref-1") is not None
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600


async def test_what_is_written_is_on_disk(journal: OrderJournal) -> None:
    seen = []

    def look(db: sqlite3.Connection) -> None:
        for pragma in ("journal_mode", "synchronous"):
            seen.append(db.execute(f"PRAGMA {pragma}").fetchone()[0])

    await journal._run(look)
    assert seen == ["wal", 2]


@pytest.mark.parametrize("by", ["itself", "aclose", "a client"])
async def test_the_file_is_closed_when_it_has_had_nothing_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, by: str
) -> None:
    monkeypatch.setattr(sqlite_worker, "IDLE_SECONDS", 0.05 if by == "itself" else 600.0)
    others = threading.enumerate()
    journal = OrderJournal(tmp_path / "orders.db")
    async with sandbox.client(order_journal=journal) as client:
        await buy(client, "shop-1")
        assert "orders.db-wal" in files_beside(journal.path) or by == "itself"
        if by == "aclose":
            await journal.aclose()
    await until(lambda: {*threading.enumerate()} <= {*others})
    assert files_beside(tmp_path / "orders.db") == ["orders.db"]
    copy = tmp_path / "copy.db"
    copy.write_bytes(journal.path.read_bytes())
    assert len(await OrderJournal(copy).accounts()) == 1, "a copy of the file is whole"
    gone = weakref.ref(journal)
    del journal, client

    def collected() -> bool:
        gc.collect()
        return gone() is None

    await until(collected)


async def test_nobody_who_stops_waiting_stops_the_thread(
    journal: OrderJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    await journal.begin(intent())
    put, inside, go_on = table.put, threading.Event(), threading.Event()

    def slow(db: sqlite3.Connection, row: tuple[Any, ...]) -> None:
        put(db, row)
        inside.set()
        go_on.wait(20)

    monkeypatch.setattr(table, "put", slow)
    beginning = asyncio.create_task(journal.begin(intent("ref-2")))
    await asyncio.to_thread(inside.wait, 20)
    closing_it = asyncio.create_task(journal.close_idle())
    queued = asyncio.create_task(journal.begin(intent("ref-3")))
    await asyncio.sleep(0)
    for task in (closing_it, queued):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    go_on.set()
    assert await beginning is None
    assert await journal.find(ACCOUNT, "ref-3") is None
    assert await journal.begin(intent("ref-4")) is None


async def test_an_error_of_any_kind_reaches_the_caller_and_the_next_one_is_served(
    journal: OrderJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(*_: Any) -> None:
        raise ZeroDivisionError

    await journal.begin(intent())
    with monkeypatch.context() as patch:
        patch.setattr(table, "put", odd)
        with pytest.raises(ZeroDivisionError):
            await journal.begin(intent("ref-2"))
    await until(lambda: not journal._thread()._is_running)
    with monkeypatch.context() as patch:

        def no_thread(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(RuntimeError, match="can't start"):
            await journal.begin(intent("ref-2"))
    assert await journal.begin(intent("ref-2")) is None


async def test_a_process_that_ends_does_not_wait_for_the_file_to_be_idle(tmp_path: Path) -> None:
    code = """
import asyncio, sys
from journals import intent
from mioesim_async import OrderJournal
from mioesim_async.journal import sqlite_worker

sqlite_worker.IDLE_SECONDS = 600.0
asyncio.run(OrderJournal(sys.argv[1]).begin(intent()))
"""
    async with spawned(code, str(tmp_path / "orders.db")) as process, asyncio.timeout(SECONDS):
        assert await process.wait() == 0
    assert files_beside(tmp_path / "orders.db") == ["orders.db"]


async def test_what_waits_together_is_committed_together(
    journal: OrderJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits: list[str] = []
    connect = sqlite3.connect

    def counted(*args: Any, **options: Any) -> sqlite3.Connection:
        db = connect(*args, **options)
        db.set_trace_callback(lambda text: commits.append(text) if text == "COMMIT" else None)
        return db

    monkeypatch.setattr(sqlite3, "connect", counted)
    await journal.find(ACCOUNT, "nobody")
    commits.clear()
    entries = [intent(f"ref-{number:02}") for number in range(50)]
    assert {*await asyncio.gather(*map(journal.begin, entries))} == {None}
    assert {*await asyncio.gather(*(placed(journal, entry) for entry in entries))} == {True}
    # The first of each may go before the others have come.
    assert len(commits) <= 4


async def test_one_of_those_committed_together_fails_alone(journal: OrderJournal) -> None:
    await journal.begin(intent("unreadable"))
    with closing(sqlite3.connect(journal.path, isolation_level=None)) as db:
        db.execute("UPDATE entries SET created_at = 'noon'")
    works = [journal.begin(intent(name)) for name in ("a", "unreadable", "b")]
    came = await asyncio.gather(*works, return_exceptions=True)
    assert [type(one) for one in came] == [type(None), JournalUnavailable, type(None)]
    assert await journal.find(ACCOUNT, "a") is not None
    assert await journal.find(ACCOUNT, "b") is not None


def make_directory(path: Path) -> None:
    path.mkdir()


def write_text(path: Path) -> None:
    path.write_text("dear diary")


def make_other(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE customers (name)")


def make_later(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA application_id={table.APPLICATION}")
        db.execute(f"PRAGMA user_version={table.VERSION + 1}")


def make_dangling(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere" / "orders.db")


REFUSED: list[tuple[Callable[[Path], None], str]] = [
    (make_directory, "it is a directory; give the path of a file"),
    (write_text, "file is not a database; give the path of a new file"),
    (make_other, "another program's database; give"),
    (make_later, "later version of mioesim_async wrote it; update"),
    (make_dangling, "it is a symbolic link to .*/nowhere/orders.db; give that path"),
]


@pytest.mark.parametrize(("make", "why"), REFUSED)
async def test_a_file_that_can_t_be_a_journal_is_refused_and_left_as_it_was(
    journal: OrderJournal, make: Callable[[Path], None], why: str
) -> None:
    make(journal.path)
    before = journal.path.read_bytes() if journal.path.is_file() else b""
    with pytest.raises(ConfigurationError, match=why) as caught:
        await journal.begin(intent())
    assert str(journal.path) in str(caught.value)
    assert before == (journal.path.read_bytes() if journal.path.is_file() else b"")


async def test_a_place_that_can_t_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalUnavailable, match=r"file/orders\.db can't be used.*disk"):
        await OrderJournal(tmp_path / "file" / "orders.db").begin(intent())


async def test_a_full_disk_is_told_and_nothing_is_recorded(
    journal: OrderJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    await journal.begin(intent())
    put = table.put

    def full(db: sqlite3.Connection, row: tuple[Any, ...]) -> None:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count={pages}")
        put(db, row)

    monkeypatch.setattr(table, "put", full)
    with pytest.raises(JournalUnavailable, match="disk is full; make room"):
        await journal.begin(intent("ref-2", params={"skuId": "7" * 100_000}))
    assert await journal.find(ACCOUNT, "ref-2") is None


async def test_a_read_only_file_is_told(
    journal: OrderJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    await journal.begin(intent())
    prepare = table.prepare

    def read_only(db: sqlite3.Connection) -> Any:
        db.execute("PRAGMA query_only=1")
        return prepare(db)

    await journal.close_idle()
    monkeypatch.setattr(table, "prepare", read_only)
    with pytest.raises(JournalUnavailable, match="readonly database; its directory"):
        await journal.begin(intent("ref-2"))


AS_EVER = (
    "api-key", "ref\ufffd", "/api_esim/renew", '{"skuId": "45"}', "f" * 64, "1.50", "attempt-1",
    "2026-01-01T00:00:00.000000+00:00", "2026-01-02T00:00:00.000001+00:00", "placed", "", "EP1",
    '{"order_num": "EP1", "iccids": ["8985000000000000000"]}',
)  # fmt: skip
"""A row as every version wrote it."""


async def test_an_entry_is_kept_in_the_form_that_every_version_wrote_and_reads(
    journal: OrderJournal,
) -> None:
    moment = datetime(2026, 1, 2, microsecond=1, tzinfo=UTC)
    entry = JournalEntry(
        account="api-key",
        other_order_id="ref\x00",
        endpoint="/api_esim/renew",
        params={"skuId": "45"},
        fingerprint="f" * 64,
        expected_price=Decimal("1.50"),
        attempt="attempt-1",
        created_at=datetime(2026, 1, 1, 8, tzinfo=timezone(timedelta(hours=8))),
        updated_at=moment,
        state=EntryState.PLACED,
        order_num="EP1",
        order={"order_num": "EP1", "iccids": ["8985000000000000000"]},
    )
    assert table.encode(entry) == AS_EVER
    assert {type(value) for value in AS_EVER} == {type(value) for value in table.encode(entry)}
    await journal.begin(intent())
    with closing(sqlite3.connect(journal.path)) as db:
        db.execute(table.PUT, AS_EVER)
        db.commit()
    found = await journal.find("api-key", "ref\ufffd")
    assert found == evolve(entry, other_order_id="ref\ufffd")
    assert type(found.state) is EntryState


async def test_an_entry_that_can_t_be_read_is_told(journal: OrderJournal) -> None:
    await journal.begin(intent())
    with closing(sqlite3.connect(journal.path, isolation_level=None)) as db:
        db.execute("UPDATE entries SET created_at = 'noon'")
    with pytest.raises(JournalUnavailable, match="an entry in it can't be read"):
        await journal.open_entries()


async def test_a_relative_path_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    journal = OrderJournal("100% ?#.db")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    await journal.begin(intent())
    assert (tmp_path / "100% ?#.db").is_file()


# Waiting.


async def test_the_loop_goes_on_while_others_hold_the_file(journal: OrderJournal) -> None:
    await journal.begin(intent())
    with write_locked(journal.path):
        beginning = asyncio.create_task(journal.begin(intent("ref-2")))
        for _ in range(50):
            await asyncio.sleep(0.01)
            assert not beginning.done()
        assert await OrderJournal(journal.path).find(ACCOUNT, "ref-1") is not None
    assert await beginning is None


async def test_a_file_that_is_held_too_long_is_told(
    journal: OrderJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    await journal.begin(intent())
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.0)
    with write_locked(journal.path), pytest.raises(JournalUnavailable, match="locked; find out"):
        await journal.begin(intent("ref-2"))


async def test_those_who_ask_at_once_wait_at_once_and_each_tries(
    journal: OrderJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, waits, tries = 0.0, 0.0, 0
    connect = sqlite3.connect

    class Time:
        """Passes only while SQLite would wait."""

        @staticmethod
        def monotonic() -> float:
            return now

    def waiting(*args: Any, timeout: float, **options: Any) -> sqlite3.Connection:
        nonlocal now, waits, tries
        now, waits, tries = now + timeout, waits + timeout, tries + 1
        return connect(*args, timeout=0, **options)

    await journal.begin(intent())
    await journal.close_idle()
    monkeypatch.setattr(sqlite, "time", Time)
    monkeypatch.setattr(journal._thread(), "_clock", Time)
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 1.0)
    monkeypatch.setattr(sqlite.sqlite3, "connect", waiting)
    with closing(connect(journal.path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        came = await asyncio.gather(
            *(journal.begin(intent(f"late-{n}")) for n in range(4)), return_exceptions=True
        )
        db.execute("ROLLBACK")
    assert [type(error) for error in came] == [JournalUnavailable] * 4
    # The first may have waited for a step before the others asked.
    assert waits <= sqlite.BUSY_SECONDS + 2 * sqlite_worker.STEP_SECONDS
    assert tries >= sqlite.BUSY_SECONDS / sqlite_worker.STEP_SECONDS

    # Who comes late in the row is served all the same where nobody holds the file.
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", -1.0)
    assert await journal.begin(intent("ref-2")) is None


async def test_who_is_cancelled_while_others_hold_the_file_goes_at_once_and_records_nothing(
    journal: OrderJournal,
) -> None:
    await journal.begin(intent())
    with write_locked(journal.path):
        waiting = [asyncio.create_task(journal.begin(intent(f"late-{n}"))) for n in range(5)]
        await asyncio.sleep(0.05)
        for task in waiting:
            task.cancel()
        async with asyncio.timeout(sqlite.BUSY_SECONDS / 2):
            await asyncio.wait(waiting)
        assert all(task.cancelled() for task in waiting)
    assert len(await journal.open_entries()) == 1


async def test_a_cancelled_begin_has_happened_or_not_when_its_caller_goes_on(
    journal: OrderJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    await journal.begin(intent())
    put, inside, go_on = table.put, threading.Event(), threading.Event()

    def slow(db: sqlite3.Connection, row: tuple[Any, ...]) -> None:
        inside.set()
        go_on.wait(20)
        put(db, row)

    monkeypatch.setattr(table, "put", slow)
    entry = intent("ref-2")
    beginning = asyncio.create_task(journal.begin(entry))
    await asyncio.to_thread(inside.wait, 20)
    for _ in range(3):
        beginning.cancel()
        await asyncio.sleep(0.01)
        assert not beginning.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await beginning
    assert await journal.find(ACCOUNT, "ref-2") == entry
    assert await placed(journal, entry, EntryState.NOT_SENT)
    assert not await placed(journal, intent("never begun"), EntryState.NOT_SENT)


async def test_an_answer_is_recorded_though_its_caller_was_cancelled(
    journal: OrderJournal,
) -> None:
    entry = intent()
    await journal.begin(entry)
    for turns in range(4):
        at = NOW + timedelta(seconds=turns)
        settling = asyncio.create_task(placed(journal, entry, EntryState.UNKNOWN, at=at))
        for _ in range(turns + 1):
            await asyncio.sleep(0)
        settling.cancel()
        await asyncio.wait([settling])
        found = await journal.find(ACCOUNT, "ref-1")
        assert found is not None
        assert (found.state, found.updated_at) == (EntryState.UNKNOWN, at)

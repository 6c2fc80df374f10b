"""Paths that name something else than a journal: it is refused, and left exactly as it was."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from journals import ACCOUNT, begun, intent, write_locked
from users import plain_user

from mioesim_async import OrderJournal
from mioesim_async.errors import ConfigurationError, JournalUnavailable
from mioesim_async.journal import table

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no modes there")

SECONDS = 20

TRY_TO_WRITE = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
try:
    db.execute("BEGIN IMMEDIATE")
except sqlite3.OperationalError as error:
    print(error)
else:
    print("free")
"""


def state_of(path: Path) -> dict[str, Any]:
    """All that a look must not change, of a path and of what lies beside it."""
    found: dict[str, Any] = {}
    for place in [path, *path.parent.glob(f"{path.name}?*")]:
        state = place.lstat()
        found[place.name] = (
            state.st_mode, state.st_ino, state.st_uid, state.st_size, state.st_mtime_ns,
            state.st_ctime_ns, place.read_bytes() if place.is_file() else None,
        )  # fmt: skip
    return found


def make_text(path: Path) -> None:
    path.write_text("dear diary\n" * 100)


def make_one_byte(path: Path) -> None:
    path.write_bytes(b"x")


def make_zeros(path: Path) -> None:
    path.write_bytes(bytes(8192))


def make_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE customers (name)")


def make_database_without_tables(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode=WAL")


def make_killed_database(path: Path) -> None:
    """A WAL database whose program was killed: what it wrote last is in the -wal alone."""
    original = Path(f"{path}.original")
    with closing(sqlite3.connect(original, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE customers (name)")
        for end in ("", "-wal", "-shm"):
            shutil.copy(f"{original}{end}", f"{path}{end}")


def make_half_written_database(path: Path) -> None:
    """A database whose program was killed while it was being written: it has to be rolled back."""
    original = Path(f"{path}.original")
    with closing(sqlite3.connect(original, isolation_level=None)) as db:
        db.execute("CREATE TABLE customers (name)")
        db.execute("PRAGMA cache_size=1")
        db.execute("BEGIN")
        db.execute("INSERT INTO customers VALUES (randomblob(100000))")
        for end in ("", "-journal"):
            shutil.copy(f"{original}{end}", f"{path}{end}")


def make_later(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA application_id={table.APPLICATION}")
        db.execute(f"PRAGMA user_version={table.VERSION + 1}")


REGULAR: list[tuple[Callable[[Path], None], str]] = [
    (make_text, "not a database; give the path of a new file"),
    (make_one_byte, "give the path of a new file"),
    (make_zeros, "not a database; give the path of a new file"),
    (make_database, "another program's database; give the path of a new file"),
    (make_database_without_tables, "another program's database"),
    (make_killed_database, "another program's database"),
    (make_half_written_database, "another program's database"),
    (make_later, "later version of mioesim_async wrote it; update"),
]


@pytest.mark.parametrize(("make", "why"), REGULAR)
async def test_a_file_of_somebody_else_is_refused_and_left_exactly_as_it_was(
    tmp_path: Path, make: Callable[[Path], None], why: str
) -> None:
    path = tmp_path / "orders.db"
    make(path)
    path.chmod(0o664)
    before = state_of(path)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=why) as caught:
            await OrderJournal(path).begin(intent())
        assert str(path) in str(caught.value)
        assert state_of(path) == before


OTHERS: list[tuple[Callable[[Path], None], str]] = [
    (Path.mkdir, "it is a directory; give the path of a file in it"),
    (os.mkfifo, "it is a pipe; give the path of a file"),
]


@pytest.mark.parametrize(("make", "why"), OTHERS)
async def test_what_is_no_file_is_refused_at_once_and_left_as_it_was(
    tmp_path: Path, make: Callable[[Path], None], why: str
) -> None:
    path = tmp_path / "orders.db"
    make(path)
    path.chmod(0o775)
    before = state_of(path)
    async with asyncio.timeout(SECONDS):
        with pytest.raises(ConfigurationError, match=why):
            await OrderJournal(path).begin(intent())
    assert state_of(path) == before


async def test_a_device_is_refused_and_left_as_it_was() -> None:
    before = os.lstat("/dev/null")
    with pytest.raises(ConfigurationError, match="it is a device; give the path of a file"):
        await OrderJournal("/dev/null").begin(intent())
    after = os.lstat("/dev/null")
    assert (after.st_mode, after.st_ctime_ns) == (before.st_mode, before.st_ctime_ns)


async def test_a_file_that_only_looks_empty_is_left_as_it_was() -> None:
    before = os.lstat("/proc/version")
    assert before.st_size == 0
    with pytest.raises(JournalUnavailable):
        await OrderJournal("/proc/version").begin(intent())
    assert os.lstat("/proc/version").st_mode == before.st_mode


@pytest.mark.parametrize("kind", ["journal", "text", "empty", "nothing", "directory"])
async def test_a_symbolic_link_is_not_followed_and_its_target_is_named(
    tmp_path: Path, kind: str
) -> None:
    target = tmp_path / "elsewhere" / "real.db"
    target.parent.mkdir()
    if kind == "journal":
        await OrderJournal(target).begin(intent())
    elif kind == "text":
        target.write_text("dear diary")
    elif kind == "empty":
        target.touch()
    elif kind == "directory":
        target.mkdir()
    if target.exists():
        target.chmod(0o664)
    path = tmp_path / "orders.db"
    path.symlink_to(Path("elsewhere") / "real.db")
    before = state_of(target) if target.exists() else None
    with pytest.raises(ConfigurationError, match=r"symbolic link to .*; give that path") as caught:
        await OrderJournal(path).find(ACCOUNT, "ref-1")
    assert str(target.resolve()) in str(caught.value)
    assert before == (state_of(target) if target.exists() else None)
    assert path.is_symlink()


async def test_a_directory_of_the_path_may_be_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    await OrderJournal(tmp_path / "link" / "orders.db").begin(intent())
    assert (tmp_path / "real" / "orders.db").is_file()


async def test_an_empty_file_becomes_a_journal_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "orders.db"
    path.touch(0o664)
    assert await OrderJournal(path).begin(intent()) is None
    assert path.stat().st_mode & 0o777 == 0o600
    assert await OrderJournal(path).find(ACCOUNT, "ref-1") is not None


async def test_no_mode_is_ever_widened() -> None:
    with plain_user() as place:
        path = place / "orders.db"
        path.touch()
        path.chmod(0o444)
        with pytest.raises(JournalUnavailable, match=r"can't read and write .*0444"):
            await OrderJournal(path).begin(intent())
        assert path.stat().st_mode & 0o777 == 0o444


@pytest.mark.parametrize("end", ["-wal", "-shm", "-journal"])
async def test_a_link_beside_a_journal_is_named_and_its_target_left_as_it_was(
    tmp_path: Path, end: str
) -> None:
    path, target, beside = (tmp_path / name for name in ("orders.db", "diary", f"orders.db{end}"))
    await begun(path)
    target.write_text("dear diary")
    target.chmod(0o664)
    beside.symlink_to(target)
    before = state_of(target)
    with pytest.raises(JournalUnavailable, match=f"orders.db{end} .* is not a file; move it away"):
        await OrderJournal(path).begin(intent("ref-2"))
    assert state_of(target) == before


async def test_a_journal_whose_newest_entries_are_in_its_wal_alone_is_known_by_its_first_page(
    tmp_path: Path,
) -> None:
    original, path = tmp_path / "original.db", tmp_path / "orders.db"
    with closing(sqlite3.connect(original, isolation_level=None)) as db:
        await OrderJournal(original).begin(intent())
        db.execute("SELECT * FROM entries").fetchone()
        await OrderJournal(original).begin(intent("ref-2"))
        for end in ("", "-wal", "-shm"):
            shutil.copy(f"{original}{end}", f"{path}{end}")
    assert len(await OrderJournal(path).open_entries()) == 2


async def test_a_journal_that_is_shorter_than_its_first_page_says_is_known_as_one(
    tmp_path: Path,
) -> None:
    # So a process leaves it that is killed while it copies the -wal into it.
    original, path = tmp_path / "original.db", tmp_path / "orders.db"
    await OrderJournal(original).begin(intent())
    with closing(sqlite3.connect(original, isolation_level=None)) as db:
        db.execute("PRAGMA wal_autocheckpoint=0")
        db.execute("VACUUM")
        shutil.copy(f"{original}-wal", f"{path}-wal")
        path.write_bytes(original.read_bytes()[:4096])
    assert len(await OrderJournal(path).open_entries()) == 1


@pytest.mark.parametrize("content", [None, b""])
async def test_a_wal_without_its_journal_is_not_given_to_a_new_file(
    tmp_path: Path, content: bytes | None
) -> None:
    # SQLite deletes a -wal that lies beside an empty file, and with it the newest entries.
    path, wal = tmp_path / "orders.db", tmp_path / "orders.db-wal"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        await OrderJournal(path).begin(intent())
        db.execute("SELECT * FROM entries").fetchone()
        await OrderJournal(path).begin(intent("ref-2"))
        whole, newest = path.read_bytes(), wal.read_bytes()
    wal.write_bytes(newest)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(JournalUnavailable, match=r"missing or empty, but .*-wal holds the newest"):
        await OrderJournal(path).begin(intent("ref-2"))
    assert wal.read_bytes() == newest
    path.write_bytes(whole)
    assert len(await OrderJournal(path).open_entries()) == 2


async def test_looking_at_a_file_takes_no_lock_from_the_connections_of_the_process(
    tmp_path: Path,
) -> None:
    def written_elsewhere() -> str:
        done = subprocess.run(
            [sys.executable, "-c", TRY_TO_WRITE, str(path)],
            capture_output=True, text=True, timeout=SECONDS, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    path = tmp_path / "app.db"
    make_database(path)
    with write_locked(path):
        with pytest.raises(ConfigurationError):
            await OrderJournal(path).begin(intent())
        assert written_elsewhere() == "database is locked"
    assert written_elsewhere() == "free"

    path = tmp_path / "orders.db"
    await OrderJournal(path).begin(intent())
    with write_locked(path):
        for _ in range(3):
            path.chmod(0o644)
            assert await OrderJournal(path).find(ACCOUNT, "ref-1") is not None
        assert written_elsewhere() == "database is locked"
    assert written_elsewhere() == "free"


async def test_a_journal_of_an_earlier_version_is_taken_on(tmp_path: Path) -> None:
    path = tmp_path / "orders.db"
    entry = intent()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in table.LAYOUTS[0]:
            db.execute(statement)
        db.execute("PRAGMA user_version=1")
        table.put(db, table.encode(entry))
    journal = OrderJournal(path)
    assert await journal.find(ACCOUNT, "ref-1") == entry
    assert await journal.begin(intent("ref-2")) is None
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (table.VERSION,)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)

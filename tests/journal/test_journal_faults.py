"""What keeps a journal from being written: each cause has its own sentence, and what to do."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from journals import ACCOUNT, begun, intent
from spoiling import CAUSES, SELL, SPOILT
from stores import spawned
from users import plain_user

from mioesim_async import OrderJournal
from mioesim_async.errors import ConfigurationError, JournalUnavailable
from mioesim_async.journal import faults

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no modes there")

SECONDS = 60


async def refused(path: Path, why: str) -> str:
    """Return what a journal says that can't be used at the moment."""
    with pytest.raises(JournalUnavailable, match=why) as caught:
        await OrderJournal(path).begin(intent("refused"))
    return str(caught.value)


async def output_of(code: str, *arguments: str) -> str:
    async with asyncio.timeout(SECONDS), spawned(code, *arguments) as process:
        out, _ = await process.communicate()
    return out.decode()


def placed_number(out: str) -> str:
    """Return the number of the order that a process says it placed."""
    (number,) = re.findall(r"^placed (\S+)$", out, re.MULTILINE)
    return str(number)


# Permissions.


async def test_a_file_that_this_user_can_t_write_is_named_and_nothing_is_left_beside_it() -> None:
    with plain_user() as place:
        path = place / "orders.db"
        await begun(path)
        path.chmod(0o400)
        said = await refused(path, "this user can't read and write .*; let this user do so")
        assert f"{path} (mode 0400, owner {path.owner()})" in said
        with pytest.raises(JournalUnavailable):
            await OrderJournal(path).find(ACCOUNT, "ref-1")
        # SQLite would make a -wal and a -shm with this mode, which nobody could write later.
        assert [file.name for file in place.iterdir()] == ["orders.db"]
        path.chmod(0o600)
        assert await OrderJournal(path).begin(intent("ref-2")) is None


@pytest.mark.parametrize("end", ["-wal", "-shm"])
async def test_a_file_beside_it_that_this_user_can_t_write_is_named(end: str) -> None:
    with plain_user() as place:
        path = place / "orders.db"
        await begun(path)
        beside = place / f"orders.db{end}"
        with closing(sqlite3.connect(path)) as db:
            db.execute("SELECT * FROM entries").fetchone()
            beside.chmod(0o400)
            said = await refused(path, "this user can't read and write")
            assert f"{beside} (mode 0400, owner {path.owner()})" in said
            beside.chmod(0o600)
            assert await OrderJournal(path).begin(intent("ref-2")) is None


async def test_a_directory_that_this_user_can_t_write_is_named() -> None:
    with plain_user() as place:
        path = place / "orders.db"
        await begun(path)
        place.chmod(0o500)
        named = f"{place} (mode 0500, owner {place.owner()})"
        assert named in await refused(path, "this user can't read and write")
        assert named in await refused(place / "new" / "orders.db", "this user can't read and write")


async def test_a_directory_that_this_user_can_t_enter_is_named() -> None:
    with plain_user() as place:
        path = place / "state" / "orders.db"
        await begun(path)
        path.parent.chmod(0o000)
        said = await refused(path, "this user can't read and write")
        assert f"{path.parent} (mode 0000" in said
        path.parent.chmod(0o700)


async def test_a_file_in_the_place_of_its_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch(0o600)
    for path in (tmp_path / "file" / "orders.db", tmp_path / "file" / "deep" / "orders.db"):
        said = await refused(path, "is no directory; put a directory of a local disk")
        assert f"{tmp_path / 'file'} (mode 0600" in said


async def test_a_name_that_no_file_can_have_is_a_matter_of_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="its name is too long; give a shorter path"):
        await OrderJournal(tmp_path / ("x" * 300)).begin(intent())


# What a process, or the machine, has run out of.

SAID = {
    "locked": "database is locked; find out which process holds its lock for so long",
    "no room": "there is no room: this process may not write larger files; raise that limit",
    "no descriptors": r"this process has no file descriptors left; raise its limit \(ulimit -n\)",
    "no permission": r"this user can't read and write .* \(mode \d{4}, owner \w+\); let this user",
}


@pytest.mark.parametrize("cause", ["no room", "no descriptors"])
async def test_a_limit_of_the_process_is_told(tmp_path: Path, cause: str) -> None:
    said = await output_of(SPOILT, cause, str(tmp_path / "orders.db"))
    assert re.search(SAID[cause], said)
    assert "this user can write" not in said


def coded(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("what SQLite says")
    error.sqlite_errorcode = code
    return error


def sentence(error: Exception, path: Path) -> str:
    fault = faults.fault_of(error, path)
    return f"{fault.what}; {fault.advice}"


SYSTEM = {
    errno.ENOSPC: "the disk is full; make room on the disk",
    errno.EDQUOT: "this user's disk quota is used up; make room, or raise the quota",
    errno.EFBIG: "there is no room: .* larger files; raise that limit",
    errno.EPERM: "this user can't change the mode of .*; give it to this user",
    errno.EMFILE: "this process has no file descriptors left; raise its limit",
    errno.ENFILE: "this machine has no file descriptors left; end what",
    errno.EROFS: "is on a file system that is mounted read-only; mount it for writing",
    errno.EACCES: "this user can't read and write .*; let this user",
    errno.EIO: "the disk could not read or write .*; look for the disk",
    errno.ENOENT: "was just deleted",
    errno.ENOMEM: "there is no memory left",
    errno.ESTALE: "Stale file handle; it needs a file on a local disk",
}
HIDING = [
    sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC,
    sqlite3.SQLITE_READONLY_DIRECTORY,
]  # fmt: skip


@pytest.mark.parametrize("number", SYSTEM)
def test_what_the_system_says_is_told_also_where_sqlite_keeps_it_to_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "orders.db"
    said = OSError(number, os.strerror(number))
    assert re.search(SYSTEM[number], sentence(said, path))

    def refuse(*_: Any, **__: Any) -> Any:
        raise said

    monkeypatch.setattr(faults.tempfile, "TemporaryFile", refuse)
    for code in HIDING:
        assert re.search(SYSTEM[number], sentence(coded(code), path)), code


CODES = {
    sqlite3.SQLITE_FULL: "the disk is full; make room on the disk",
    sqlite3.SQLITE_BUSY_RECOVERY: "what SQLite says; find out which process",
    sqlite3.SQLITE_IOERR_READ: "the disk could not read or write .*orders.db",
    sqlite3.SQLITE_IOERR_SHMSIZE: "the disk could not read or write .*orders.db-shm",
    sqlite3.SQLITE_IOERR_NOMEM: "there is no memory left",
    sqlite3.SQLITE_NOMEM: "there is no memory left",
    sqlite3.SQLITE_CORRUPT_INDEX: "what SQLite says; compare the vendor's list of orders",
    sqlite3.SQLITE_READONLY: "what SQLite says; its directory and the file must be writable",
    sqlite3.SQLITE_CANTOPEN: "what SQLite says; its directory and the file must be writable",
    sqlite3.SQLITE_ERROR: "what SQLite says; it needs a file on a local disk",
}


@pytest.mark.parametrize("code", CODES)
def test_what_sqlite_says_is_told_where_nothing_else_is_found(tmp_path: Path, code: int) -> None:
    path = tmp_path / "orders.db"
    for end in ("", "-shm"):
        Path(f"{path}{end}").touch(0o600)
    assert re.search(CODES[code], sentence(coded(code), path))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["orders.db", "orders.db-shm"]


# An answer that comes when the journal can't be written.


@pytest.mark.parametrize("cause", CAUSES)
async def test_an_answer_that_can_t_be_written_is_kept_and_written_later(
    tmp_path: Path, cause: str
) -> None:
    out = await output_of(SELL, cause, "mended", str(tmp_path / "orders.db"))
    number = placed_number(out)
    kept = f"could not record that reference late is placed as order {number}: .*{SAID[cause]}"
    assert re.search(kept, out), out
    assert f"has now recorded that reference late is placed as order {number}" in out
    assert f"recorded placed {number}" in out
    assert "has not recorded" not in out


async def test_an_answer_that_can_t_be_written_until_the_client_closes_is_told_in_the_log(
    tmp_path: Path,
) -> None:
    out = await output_of(SELL, "locked", "closed", str(tmp_path / "orders.db"))
    number = placed_number(out)
    told = f"has not recorded that reference late is placed as order {number}; settle its entry"
    assert told in out.partition("closed")[0]
    assert out.count("has not recorded") == 1


async def test_an_answer_is_told_in_the_log_when_a_process_ends_that_never_closed_its_client(
    tmp_path: Path,
) -> None:
    out = await output_of(SELL, "locked", "left", str(tmp_path / "orders.db"))
    number = placed_number(out)
    told = f"has not recorded that reference late is placed as order {number}; settle its entry"
    assert told in out
    assert out.count("has not recorded") == 1


async def test_a_child_of_a_process_tells_nothing_of_its_parent_s_answers(tmp_path: Path) -> None:
    out = await output_of(SELL, "locked", "forked", str(tmp_path / "orders.db"))
    assert f"recorded placed {placed_number(out)}" in out
    assert "has not recorded" not in out


def test_a_file_that_comes_back_while_it_is_looked_at_is_not_called_forbidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As SQLite's -shm does, when the last process closes it and another one opens it.
    file = tmp_path / "orders.db-shm"
    answers = [False, True]

    def access(*_: object, **__: object) -> bool:
        file.touch()
        return answers.pop(0)

    monkeypatch.setattr(faults.os, "access", access)
    monkeypatch.setattr(faults.os, "supports_effective_ids", set())
    faults.check_access(file)
    assert answers == []

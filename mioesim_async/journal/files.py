"""The journal's file and those beside it: whose they are, and that they stay the same."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from contextlib import closing, suppress
from pathlib import Path

from mioesim_async.journal import table
from mioesim_async.journal.faults import (
    VANISHED,
    Fault,
    Unfit,
    check_access,
    described,
    files_of,
)

__all__ = ["Identity", "check_same", "close_to_others", "ready"]

Identity = tuple[int, int]
"""Device and inode."""

OTHER_KINDS = {
    stat.S_IFDIR: ("it is a directory", "give the path of a file in it"),
    stat.S_IFIFO: ("it is a pipe", "give the path of a file"),
    stat.S_IFSOCK: ("it is a socket", "give the path of a file"),
    stat.S_IFCHR: ("it is a device", "give the path of a file"),
    stat.S_IFBLK: ("it is a device", "give the path of a file"),
}

_making = threading.Lock()


def ready(path: Path, known: Identity | None) -> Identity:
    """Make sure that a journal's file is there, and is a journal or empty; return which it is.

    Nothing that is there is changed, or opened but by SQLite: whoever closes a file that SQLite
    has open in the same process takes SQLite's locks with it.

    Args:
        path: The file.
        known: Which file it was before; None if there was none yet, and a new one may be made.

    Raises:
        Unfit: If it can't be used.
        OSError: If the system refuses.
    """
    state = _made(path) if known is None else _same(path, known)
    if not stat.S_ISREG(state.st_mode):
        raise Unfit(_of_kind(path, state.st_mode))
    if state.st_size and known is None:
        _check_ours(path)
    for file in files_of(path):
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(file.lstat().st_mode):
                raise Unfit(Fault(f"{described(file)} is no file", "move it away"))
            # SQLite would go on reading, and make its files with a mode that nobody can write.
            check_access(file)
    return state.st_dev, state.st_ino


def close_to_others(path: Path) -> None:
    """Take from others the right to read a journal, which SQLite has found to be ours."""
    for file in files_of(path) if os.name == "posix" else ():
        with suppress(FileNotFoundError):
            mode = file.lstat().st_mode
            if stat.S_ISREG(mode) and mode & 0o077:
                file.chmod(mode & 0o600)


def check_same(path: Path, known: Identity) -> None:
    """Make sure that a file is still the one that it was.

    Raises:
        Unfit: If it was deleted, moved or replaced.
    """
    _same(path, known)


def _same(path: Path, known: Identity) -> os.stat_result:
    with suppress(FileNotFoundError):
        state = path.lstat()
        # The system gives the inode of a deleted file to the next one, which is empty at first.
        if (state.st_dev, state.st_ino) == known and state.st_size:
            return state
    raise Unfit(VANISHED)


def _made(path: Path) -> os.stat_result:
    """Return the state of what is there, or of a new file."""
    # Looked at first: whoever makes the file at this moment has no -wal before the file.
    has_entries = _has_entries(path)
    # Another thread must not have SQLite open the new file before it is closed here.
    with _making:
        try:
            state = path.lstat()
        except FileNotFoundError:
            if not has_entries:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with suppress(FileExistsError):
                    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
                return path.lstat()
        else:
            if state.st_size or not has_entries:
                return state
    # SQLite would delete it, and what it holds.
    raise Unfit(
        Fault(
            f"its file is missing or empty, but {path}-wal holds the newest entries",
            "put the file back; if it is lost, compare the vendor's list of orders with yours "
            f"before you move {path}-wal away",
        )
    )


def _has_entries(path: Path) -> bool:
    try:
        return Path(f"{path}-wal").lstat().st_size > 0
    except FileNotFoundError:
        return False


def _of_kind(path: Path, mode: int) -> Fault:
    if stat.S_ISLNK(mode):
        target = os.path.realpath(path)
        return Fault(f"it is a symbolic link to {target}", "give that path", is_lasting=True)
    what, advice = OTHER_KINDS.get(stat.S_IFMT(mode), ("it is no file", "give the path of a file"))
    return Fault(what, advice, is_lasting=True)


def _check_ours(path: Path) -> None:
    """Look whose a file is, without a lock and without a trace.

    Raises:
        Unfit: If it is somebody else's.
        sqlite3.Error: If it is no database, or can't be read.
    """
    uri = f"{path.as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as db:
        # A process that was killed may have left the file shorter than its first page says.
        db.execute("PRAGMA writable_schema=1")
        table.check_owner(*table.header(db))

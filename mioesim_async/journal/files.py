"""Checks of the journal's file, and of the files that SQLite puts beside it."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from contextlib import closing, suppress
from pathlib import Path

from mioesim_async.journal import table
from mioesim_async.journal.faults import FILE_GONE, check_access, describe, files_of
from mioesim_async.journal.unusable import Fault, Unusable

__all__ = ["Identity", "check_identity", "prepare_file", "restrict_access"]

Identity = tuple[int, ...]
"""Device and inode of a file."""

OTHER_KINDS = {
    stat.S_IFDIR: ("it is a directory", "give the path of a file in it"),
    stat.S_IFIFO: ("it is a pipe", "give the path of a file"),
    stat.S_IFSOCK: ("it is a socket", "give the path of a file"),
    stat.S_IFCHR: ("it is a device", "give the path of a file"),
    stat.S_IFBLK: ("it is a device", "give the path of a file"),
}

_making = threading.Lock()


def prepare_file(path: Path, known: Identity | None) -> Identity:
    """Check that a file is a journal or empty, make it if it is missing, and return its identity.

    Existing files are not changed, and are opened only by SQLite: closing a file that SQLite has
    open in the same process would drop SQLite's locks on it.

    Args:
        path: The file.
        known: The identity of the file before; None at first, when a new file may be made.

    Raises:
        Unusable: If the file can't be used.
        OSError: If the system refuses access.
    """
    state = _find_or_make(path) if known is None else _identical(path, known)
    if not stat.S_ISREG(state.st_mode):
        raise Unusable(_wrong_kind(path, state.st_mode))
    if state.st_size and known is None:
        _check_ours(path)
    for file in files_of(path):
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(file.lstat().st_mode):
                raise Unusable(Fault(f"{describe(file)} is not a file", "move it away"))
            # Without write access SQLite would still read, and make files that nobody can write.
            check_access(file)
    return state.st_dev, state.st_ino


def restrict_access(path: Path) -> None:
    """Remove other users' access to a journal, once SQLite has found it to be one."""
    for file in files_of(path) if os.name == "posix" else ():
        with suppress(FileNotFoundError):
            mode = file.lstat().st_mode
            if stat.S_ISREG(mode) and mode & 0o077:
                file.chmod(mode & 0o600)


def check_identity(path: Path, known: Identity) -> None:
    """Check that a file has not been deleted, moved or replaced.

    Raises:
        Unusable: If it has.
    """
    _identical(path, known)


def _identical(path: Path, known: Identity) -> os.stat_result:
    with suppress(FileNotFoundError):
        state = path.lstat()
        # A new file may get the inode of the deleted one, but is empty at first.
        if (state.st_dev, state.st_ino) == known and state.st_size:
            return state
    raise Unusable(FILE_GONE)


def _find_or_make(path: Path) -> os.stat_result:
    """Return the state of the existing file, or of a new one."""
    # Look for the -wal first: a process that makes the journal just now makes its -wal last.
    has_entries = _has_entries(path)
    # The lock keeps SQLite in other threads from opening the new file before it is closed here.
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
    # With an empty file, SQLite would delete the -wal and the entries in it.
    raise Unusable(
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


def _wrong_kind(path: Path, mode: int) -> Fault:
    if stat.S_ISLNK(mode):
        target = os.path.realpath(path)
        return Fault(f"it is a symbolic link to {target}", "give that path", is_lasting=True)
    other = "it is not a regular file", "give the path of a file"
    return Fault(*OTHER_KINDS.get(stat.S_IFMT(mode), other), is_lasting=True)


def _check_ours(path: Path) -> None:
    """Check that a database is a journal, without locking or changing anything.

    Raises:
        Unusable: If it belongs to another program, or to a later version.
        sqlite3.Error: If it is not a database, or can't be read.
    """
    uri = f"{path.as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as db:
        # Accept a file that is shorter than its first page says, after a process was killed.
        db.execute("PRAGMA writable_schema=1")
        table.check_owner(*table.header(db))

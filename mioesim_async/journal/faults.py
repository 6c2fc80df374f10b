"""Why a journal's file can't be used, and what to do about it."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

from mioesim_async.journal.unusable import Fault, Unusable

__all__ = ["FILE_GONE", "check_access", "describe", "fault_of", "files_of"]

MAX_HANDLES = 4
"""How many files SQLite opens for one transaction, at most."""
TRANSACTION_BYTES = 64 * 1024
"""Bytes of disk space that one transaction needs, at most."""


FILE_GONE = Fault(
    "the file that was here has vanished: it was deleted, moved or replaced by another",
    "put that file back, with its -wal if there is one; if it is lost, compare the vendor's list "
    "of orders with yours before you restart, since a restart begins a new file",
)

NO_DIRECTORY = Fault("{file} is no directory", "put a directory of a local disk in its place")

BY_ERRNO = {
    errno.ENOSPC: Fault("the disk is full", "make room on the disk"),
    errno.EDQUOT: Fault("this user's disk quota is used up", "make room, or raise the quota"),
    errno.EFBIG: Fault(
        "there is no room: this process may not write larger files",
        "raise that limit (ulimit -f)",
    ),
    errno.EMFILE: Fault(
        "this process has no file descriptors left",
        "raise its limit (ulimit -n), or open fewer connections and files",
    ),
    errno.ENFILE: Fault(
        "this machine has no file descriptors left", "end what holds so many files open"
    ),
    errno.EACCES: Fault(
        "this user can't read and write {file}", "let this user do so (chown, chmod)"
    ),
    errno.EPERM: Fault(
        "this user can't change the mode of {file}", "give it to this user, or give it mode 0600"
    ),
    errno.EROFS: Fault(
        "{file} is on a file system that is mounted read-only", "mount it for writing"
    ),
    errno.EIO: Fault(
        "the disk could not read or write {file}",
        "look for the disk in the kernel's log, and check it before you go on",
    ),
    errno.ENOENT: Fault(
        "it, or its directory, was just deleted", "find out by whom, and try again"
    ),
    errno.ENOTDIR: NO_DIRECTORY,
    errno.EEXIST: NO_DIRECTORY,
    errno.ENAMETOOLONG: Fault("its name is too long", "give a shorter path", is_lasting=True),
    errno.ENOMEM: Fault("there is no memory left", "free some"),
}

LOCKED = "find out which process holds its lock for so long, and end it"
WRITABLE = "its directory and the file must be writable for this user"
BY_CODE = {
    sqlite3.SQLITE_BUSY: LOCKED,
    sqlite3.SQLITE_LOCKED: LOCKED,
    sqlite3.SQLITE_PROTOCOL: LOCKED,
    sqlite3.SQLITE_CANTOPEN: WRITABLE,
    sqlite3.SQLITE_READONLY: WRITABLE,
    sqlite3.SQLITE_NOTADB: "give the path of a new file",
    sqlite3.SQLITE_CORRUPT: "compare the vendor's list of orders with yours before you move the "
    "file away and start a new one",
}
OTHER_ADVICE = "it needs a file on a local disk that this user can write"

ERRNO_OF = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_IOERR_NOMEM: errno.ENOMEM,
    sqlite3.SQLITE_NOMEM: errno.ENOMEM,
}
"""The system's error, by SQLite's extended code, or else by the primary code in its first byte."""
MANY_CAUSES = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR}
"""Codes of SQLite that don't tell the system's error."""
SHARED_MEMORY = {
    sqlite3.SQLITE_IOERR_SHMLOCK,
    sqlite3.SQLITE_IOERR_SHMMAP,
    sqlite3.SQLITE_IOERR_SHMOPEN,
    sqlite3.SQLITE_IOERR_SHMSIZE,
}
"""Codes about the -shm file."""


ACCESS_TRIES = 10
"""Tries to access a file, which another process may be deleting and making again."""


def files_of(path: Path) -> list[Path]:
    """Return the journal's file and the files that SQLite puts beside it."""
    return [path, *(Path(f"{path}{end}") for end in ("-journal", "-wal", "-shm"))]


def describe(file: Path) -> str:
    """Return path, mode and owner of a file, or of its directory if the file is missing."""
    for place in (file, *file.parents):
        with suppress(OSError):
            state = place.lstat()
            owner = str(state.st_uid)
            with suppress(KeyError, NotImplementedError):
                owner = place.owner()
            return f"{place} (mode {stat.S_IMODE(state.st_mode):04o}, owner {owner})"
    return str(file)


def check_access(file: Path) -> None:
    """Check that this user may read and write a file.

    Raises:
        OSError: With ``EROFS`` or ``EACCES`` if not, with ``ENOENT`` if it is missing.
    """
    by_effective_ids = os.access in os.supports_effective_ids
    for _ in range(ACCESS_TRIES):
        if os.access(file, os.R_OK | os.W_OK, effective_ids=by_effective_ids):
            return
        # Raises if the file is missing. If it has been made again, the next try succeeds.
        file.lstat()
    number = errno.EACCES
    if hasattr(os, "statvfs") and os.statvfs(file).f_flag & os.ST_RDONLY:
        number = errno.EROFS
    raise OSError(number, os.strerror(number), str(file))


def fault_of(error: Exception, path: Path) -> Fault:
    """Return why a journal's file can't be used, and what to do.

    Args:
        error: An ``Unusable``, or an error of SQLite or the system.
        path: The journal's file.
    """
    if isinstance(error, Unusable):
        return error.fault
    if isinstance(error, OSError):
        return _of_os_error(error, path)
    code = getattr(error, "sqlite_errorcode", 0)
    first = code & 0xFF
    cause = _find_cause(path) if first in MANY_CAUSES else None
    if cause is not None:
        return _of_os_error(cause, path)
    number = ERRNO_OF.get(code, ERRNO_OF.get(first))
    if number is not None:
        file = f"{path}-shm" if code in SHARED_MEMORY else str(path)
        return _of_os_error(OSError(number, str(error), file), path)
    is_lasting = first == sqlite3.SQLITE_NOTADB
    return Fault(str(error), BY_CODE.get(first, OTHER_ADVICE), is_lasting)


def _of_os_error(error: OSError, path: Path) -> Fault:
    fault = BY_ERRNO.get(error.errno or 0)
    if fault is None:
        return Fault(error.strerror or str(error), OTHER_ADVICE)
    named = describe(Path(os.fsdecode(error.filename or path)))
    return Fault(fault.what.replace("{file}", named), fault.advice, fault.is_lasting)


def _find_cause(path: Path) -> OSError | None:
    """Find out the system's error by doing what SQLite does; None if all of it works."""
    largest = 0
    try:
        with ExitStack() as opened:
            for _ in range(MAX_HANDLES):
                opened.enter_context(Path(os.devnull).open("rb"))
        for file in files_of(path):
            with suppress(FileNotFoundError):
                largest = max(largest, file.lstat().st_size)
                check_access(file)
        with tempfile.TemporaryFile(dir=path.parent) as probe:
            # Write where the largest file ends, to find out whether it may grow (ulimit -f).
            probe.seek(largest)
            probe.write(b"\1" * TRANSACTION_BYTES)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        return error
    return None

"""Files that take the place of others when they are whole, and not before."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from mioesim_async.errors import InvalidRequest

__all__ = ["OutputFile", "part_of", "refuse_one_target", "refuse_same"]

NONBLOCK = getattr(os, "O_NONBLOCK", 0)
CLOEXEC = getattr(os, "O_CLOEXEC", 0)
NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
PART_FLAGS = (
    os.O_RDWR | os.O_CREAT | os.O_APPEND | NONBLOCK | CLOEXEC | NOFOLLOW
    | getattr(os, "O_BINARY", 0)
)  # fmt: skip
"""How ``FILE.part`` is opened: what is in it stays, and a pipe of that name is no trap."""


def part_of(target: Path) -> Path:
    """Return where a file is written until it is whole: ``FILE.part``, beside it."""
    return target.with_name(f"{target.name}.part")


def refuse_same(target: Path, source: Path | None, option: str) -> None:
    """Refuse to write a file that is read, also through links.

    Args:
        target: What is written.
        source: What is read; None for standard input.
        option: Which option named the target.

    Raises:
        InvalidRequest: If they are one file.
    """
    for one in (target, part_of(target), part_of(part_of(target))):
        if _are_same(one, source):
            raise InvalidRequest(
                f"{option} {target} would overwrite the file that the ICCIDs come from; "
                "name another file"
            )


def refuse_one_target(first: Path, second: Path) -> None:
    """Refuse two outputs that would be written over each other, by any path.

    Raises:
        InvalidRequest: If they would.
    """
    if not {*_names_of(first)}.isdisjoint(_names_of(second)):
        raise InvalidRequest(
            f"--summary {second} would overwrite the --output {first}, or its .part; name another "
            "file"
        )


def _names_of(target: Path) -> list[Path]:
    whole = target.resolve()
    return [whole, part_of(whole), part_of(part_of(whole))]


def _are_same(target: Path, source: Path | None) -> bool:
    try:
        read = os.fstat(sys.stdin.fileno()) if source is None else source.stat()
        return target.is_file() and os.path.samestat(read, target.stat())
    except (OSError, ValueError):
        # One of them isn't there, or standard input is no file.
        return False


class OutputFile:
    """A file that is written as ``FILE.part``, and gets its name when it is whole.

    Nothing is changed before its first row is written. What is no regular file, such as a pipe or
    a terminal, is written to as it is.

    Attributes:
        target: The file.
        part: Where it is written until it is whole.
    """

    def __init__(self, target: Path) -> None:
        """Write a file."""
        self.target = target
        self._is_regular = target.is_file() or not target.exists()
        self.part = part_of(target) if self._is_regular else target
        self._file: IO[Any] | None = None
        self._is_begun = False

    def claim(self) -> IO[Any]:
        """Open it and keep other runs out of it; its content stays as it is.

        Raises:
            InvalidRequest: If another run is writing it, or it isn't safe to write there.
            OSError: If it can't be written.
        """
        handle = self._open()
        try:
            if self._is_regular:
                self._check(handle)
                self._lock(handle)
                self._take_mode_and_owner(handle)
        except BaseException:
            os.close(handle)
            raise
        self._file = os.fdopen(handle, "wb")
        return self._file

    def begin(self, *, binary: bool = False) -> IO[Any]:
        """Empty it, and write it from its beginning.

        Args:
            binary: Write bytes; otherwise text in UTF-8.

        Raises:
            InvalidRequest: As for ``claim``.
            OSError: If it can't be written.
        """
        file = self._file or self.claim()
        self._is_begun = True
        if self._is_regular:
            file.truncate(0)
        if not binary:
            file = self._file = io.TextIOWrapper(file, "utf-8", newline="")
        return file

    def go_on_with(self, successor: OutputFile) -> IO[Any] | None:
        """Put a file in the place of ``FILE.part``, and go on writing at its end.

        Args:
            successor: It writes to ``FILE.part``, and is whole.

        Returns:
            The file; None if this one was closed meanwhile.

        Raises:
            OSError: If what was written last can't be.
        """
        old, new = self._file, successor._file
        if old is None:
            return None
        successor._put_in_place()
        self._file, successor._file = new, None
        self._is_begun = True
        old.close()
        return new

    def commit(self) -> None:
        """Give the file its name, now that it is whole.

        Raises:
            InvalidRequest: If somebody has replaced ``FILE.part`` meanwhile.
            OSError: If what was written last can't be.
        """
        if self._file is None:
            return
        self._put_in_place()
        self._file.close()
        self._file = None

    def close(self, *, keep: bool = True) -> Path | None:
        """Close a file that didn't get whole.

        Args:
            keep: Leave what was written as ``FILE.part``.

        Returns:
            Where what was written is; None if that is nowhere.
        """
        file, self._file = self._file, None
        if file is None:
            return None
        kept = None
        with suppress(OSError):
            file.flush()
        with suppress(OSError):
            if self._is_regular and self._is_ours(file.fileno()):
                # Removed before it is closed, since another run may write it from then on.
                if not os.fstat(file.fileno()).st_size or (self._is_begun and not keep):
                    self.part.unlink()
                elif self._is_begun:
                    kept = self.part
        with suppress(OSError):
            file.close()
        return kept

    def _open(self) -> int:
        if self._is_regular:
            if self.part.is_symlink():
                raise self._unsafe()
            return os.open(self.part, PART_FLAGS, 0o666)
        try:
            # Without this flag it would wait for whatever reads a named pipe, and not be stoppable.
            handle = os.open(self.target, os.O_WRONLY | NONBLOCK | CLOEXEC)
        except OSError as error:
            if error.errno == errno.ENXIO:
                raise InvalidRequest(
                    f"nothing reads {self.target}; start what reads it first"
                ) from None
            raise
        if NONBLOCK:
            os.set_blocking(handle, True)
        return handle

    def _check(self, handle: int) -> None:
        seen = os.fstat(handle)
        if not stat.S_ISREG(seen.st_mode) or seen.st_nlink > 1:
            raise self._unsafe()

    def _unsafe(self) -> InvalidRequest:
        return InvalidRequest(
            f"{self.part} is a link or no regular file, so it is not written to; it is where "
            f"{self.target.name} is written until it is whole: move it away"
        )

    def _take_mode_and_owner(self, handle: int) -> None:
        if sys.platform == "win32":
            return
        with suppress(OSError):
            # A file that only its owner may read stays so, also if root writes it.
            before = self.target.stat()
            os.fchmod(handle, before.st_mode & 0o777)
            os.fchown(handle, before.st_uid, before.st_gid)

    def _put_in_place(self) -> None:
        if self._file is None:
            return
        self._file.flush()
        if not self._is_regular:
            return
        os.fsync(self._file.fileno())
        if not self._is_ours(self._file.fileno()):
            raise InvalidRequest(
                f"{self.part} was removed or replaced while it was written, so {self.target} was "
                "not touched; run the command again"
            )
        self.part.replace(self.target)

    def _is_ours(self, handle: int) -> bool:
        try:
            return os.path.samestat(os.fstat(handle), self.part.lstat())
        except FileNotFoundError:
            return False

    def _lock(self, handle: int) -> None:
        if sys.platform == "win32":
            return
        import fcntl

        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another run may have finished since it was opened: then it is the whole file by now.
            is_ours = self._is_ours(handle)
        except BlockingIOError:
            is_ours = False
        except OSError:
            # The file system has no locks.
            return
        if not is_ours:
            raise InvalidRequest(f"another run is writing {self.part}; wait for its end")

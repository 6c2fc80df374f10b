"""Files that take the place of others when they are whole, and not before."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from mioesim_async.errors import InvalidRequest

__all__ = ["OutputFile", "part_of", "refuse_same", "write_whole"]


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
    for one in (target, part_of(target)):
        if _are_same(one, source):
            raise InvalidRequest(
                f"{option} {target} would overwrite the file that the ICCIDs come from; "
                "name another file"
            )


def _are_same(target: Path, source: Path | None) -> bool:
    try:
        read = os.fstat(sys.stdin.fileno()) if source is None else source.stat()
        return target.is_file() and os.path.samestat(read, target.stat())
    except (OSError, ValueError):
        # One of them isn't there, or standard input is no file.
        return False


class OutputFile:
    """A file that is written as ``FILE.part``, and gets its name when it is whole.

    Nothing is touched before it is opened. What is no regular file, such as a pipe or a
    terminal, is written to as it is.

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

    def open(self, *, binary: bool = False, append: bool = False) -> IO[Any]:
        """Open it.

        Args:
            binary: Write bytes; otherwise text in UTF-8.
            append: Go on behind what an earlier run left in ``FILE.part``.

        Raises:
            InvalidRequest: If another run is writing it.
            OSError: If it can't be written.
        """
        # Not "w": a file that another run has locked must keep its content.
        mode = "a" if self._is_regular else "w"
        file: IO[Any] = (
            self.part.open(f"{mode}b")
            if binary
            else self.part.open(mode, encoding="utf-8", newline="")
        )
        try:
            if self._is_regular:
                self._lock(file)
                if not append:
                    file.truncate(0)
                with suppress(OSError):
                    # A file that only its owner may read stays so.
                    self.part.chmod(self.target.stat().st_mode & 0o777)
        except BaseException:
            file.close()
            raise
        self._file = file
        return file

    def commit(self) -> None:
        """Give the file its name, now that it is whole.

        Raises:
            OSError: If what was written last can't be.
        """
        if self._file is None:
            return
        self._file.flush()
        if self._is_regular:
            os.fsync(self._file.fileno())
            self.part.replace(self.target)
        self._file.close()
        self._file = None

    def close(self, *, keep: bool = True) -> Path | None:
        """Close a file that didn't get whole.

        Args:
            keep: Leave what was written as ``FILE.part``.

        Returns:
            Where what was written is; None if that is nowhere.
        """
        if self._file is None:
            return None
        with suppress(OSError):
            self._file.close()
        self._file = None
        if not self._is_regular:
            return None
        if not keep:
            self.part.unlink(missing_ok=True)
            return None
        return self.part

    def _lock(self, file: IO[Any]) -> None:
        if sys.platform == "win32":
            return
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another run may have finished since it was opened: then it is the whole file by now.
            is_ours = os.path.samestat(os.fstat(file.fileno()), self.part.stat())
        except (BlockingIOError, FileNotFoundError):
            is_ours = False
        except OSError:
            # The file system has no locks.
            return
        if not is_ours:
            raise InvalidRequest(f"another run is writing {self.part}; wait for its end")


def write_whole(target: Path, text: str) -> None:
    """Write a small text file in the place of whatever file is there, whole or not at all.

    Raises:
        OSError: If it can't be written.
    """
    output = OutputFile(target)
    try:
        output.open().write(text)
        output.commit()
    finally:
        output.close(keep=False)

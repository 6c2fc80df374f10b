"""The files that a command writes: checks their path, and opens private ones."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import IO

from mioesim_async.errors import InvalidRequest
from mioesim_async.private_file import new_beside

__all__ = ["check_private", "open_private", "target_of"]


def target_of(path: Path, option: str) -> Path:
    """Return the file that a path leads to.

    A path to something that is no regular file, such as a pipe or a terminal, is returned as it is:
    ``/dev/stdout`` and a shell's ``>(...)`` are links to one.

    Args:
        path: The path on the command line.
        option: The option that has it, for the message.

    Raises:
        InvalidRequest: If it is a symbolic link that leads out of its folder.
    """
    if not path.is_symlink() or (path.exists() and not path.is_file()):
        return path
    target = path.resolve()
    if target.parent != path.parent.resolve():
        raise InvalidRequest(
            f"{option} {path} is a link to {target}; to write there, give that path itself"
        )
    return target


def check_private(target: Path) -> None:
    """Check that ``open_private`` will be able to write; change nothing.

    Raises:
        OSError: If it will not.
    """
    if target.is_file() or not target.exists():
        handle, name = new_beside(target)
        os.close(handle)
        Path(name).unlink()


def open_private(target: Path) -> IO[str]:
    """Open a new file of mode 0600, which replaces a file that is there.

    A target that is no regular file, such as a terminal or a pipe, is not replaced but written to.

    Raises:
        OSError: If it can't be written.
    """
    if target.exists() and not target.is_file():
        return target.open("w", encoding="utf-8", newline="")
    handle, name = new_beside(target)
    try:
        Path(name).replace(target)
    except BaseException:
        os.close(handle)
        with suppress(OSError):
            Path(name).unlink()
        raise
    return os.fdopen(handle, "w", encoding="utf-8", newline="")

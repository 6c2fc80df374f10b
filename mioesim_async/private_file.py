"""Files that only their owner may read (mode 0600)."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

__all__ = ["new_beside", "replace_file"]


def new_beside(target: Path) -> tuple[int, str]:
    """Open a new file beside another, to take its place; return its descriptor and its path.

    Raises:
        OSError: If it can't be made; it names ``target``.
    """
    try:
        # It has mode 0600 from the start.
        return tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from None


def replace_file(target: Path, data: bytes) -> None:
    """Write a file in the place of whatever file is there, whole or not at all.

    Raises:
        OSError: If it can't be written.
    """
    handle, name = new_beside(target)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            # Else a power cut may leave it half written.
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

"""Files that only their owner may read (mode 0600)."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

__all__ = ["new_beside", "replace_file"]


def new_beside(target: Path) -> tuple[int, str]:
    """Create a temporary file in the directory of ``target``; return its descriptor and path.

    Raises:
        OSError: If the file can't be created; it names ``target``.
    """
    try:
        # mkstemp creates the file with mode 0600.
        return tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from None


def replace_file(target: Path, data: bytes) -> None:
    """Create or replace a file atomically.

    Raises:
        OSError: If the file can't be written.
    """
    handle, name = new_beside(target)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            # Without this, a power failure may leave an incomplete file.
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

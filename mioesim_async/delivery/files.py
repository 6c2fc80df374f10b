"""Writes what only the customer may see to a file."""

from __future__ import annotations

import os
from pathlib import Path

from mioesim_async.private_file import replace_file

__all__ = ["save"]


def save(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Create or replace a file atomically; only its owner may read it (mode 0600).

    Text is written as UTF-8. This blocks, so use ``asyncio.to_thread`` in an event loop.

    Raises:
        OSError: If the file can't be written; it names ``path``.
    """
    target = Path(path)
    data = content.encode() if isinstance(content, str) else content
    try:
        replace_file(target, data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from None

"""Runs code as a user without root's permissions, even if the tests run as root."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["plain_user"]

NOBODY = 65534


@contextmanager
def plain_user() -> Iterator[Path]:
    """Run the block as a plain user, with a directory that belongs to that user."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        is_root = os.geteuid() == 0
        if is_root:
            os.chown(place, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        try:
            yield place
        finally:
            if is_root:
                os.seteuid(0)
            place.chmod(0o700)

"""Keeping forks out of transactions."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["none_meanwhile"]

LONGEST_WAIT = 30.0
"""How long a fork waits for transactions to end, in seconds."""


class _Gate:
    """Lets no transaction begin while a fork waits, and the fork wait for those under way."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Begin anew, as in a child, which has none of its parent's other threads."""
        self._open = threading.Lock()
        self._under_way = 0
        self._changed = threading.Condition()

    def enter(self) -> None:
        with self._open, self._changed:
            self._under_way += 1

    def leave(self) -> None:
        with self._changed:
            self._under_way -= 1
            self._changed.notify_all()

    def close(self) -> None:
        self._open.acquire()
        with self._changed:
            self._changed.wait_for(lambda: not self._under_way, LONGEST_WAIT)

    def reopen(self) -> None:
        self._open.release()


_gate = _Gate()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_gate.close,
        after_in_parent=_gate.reopen,
        after_in_child=_gate.renew,
    )


@contextmanager
def none_meanwhile() -> Generator[None]:
    """Let this process fork before the block or after it.

    A child would take over SQLite's list of the locks that its parent holds, believe that it
    holds them too, and wait for ever for its own.
    """
    _gate.enter()
    try:
        yield
    finally:
        _gate.leave()

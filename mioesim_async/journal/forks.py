"""Keeps this process from forking during a transaction."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["no_fork"]

LONGEST_FORK_WAIT = 30.0
"""Seconds that a fork waits for transactions to end, at most."""


class _ForkGuard:
    """Makes a fork wait for transactions under way, and new transactions wait for the fork."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Reset the state; used in a child, which doesn't have its parent's other threads."""
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
            self._changed.wait_for(lambda: not self._under_way, LONGEST_FORK_WAIT)

    def reopen(self) -> None:
        self._open.release()


_guard = _ForkGuard()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_guard.close,
        after_in_parent=_guard.reopen,
        after_in_child=_guard.renew,
    )


@contextmanager
def no_fork() -> Generator[None]:
    """Delay a fork of this process until the end of the block.

    The child would copy SQLite's list of the parent's locks without holding them, and then wait
    for ever for locks of its own.
    """
    _guard.enter()
    try:
        yield
    finally:
        _guard.leave()

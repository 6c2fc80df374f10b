"""Keeps this process from forking while it has a journal's file open."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

__all__ = ["hold", "let_go"]

LONGEST_FORK_WAIT = 30.0
"""Seconds that a fork waits for files to be closed, at most."""

Close = Callable[[], object]
"""Asks another thread to close a file soon."""


class _ForkGuard:
    """Makes a fork wait until all files are closed, and files that would be opened wait for it."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Reset the state; used in a child, which doesn't have its parent's other threads."""
        self._open = threading.Lock()
        self._holders: list[Close] = []
        self._changed = threading.Condition()

    def enter(self, close: Close) -> None:
        with self._open, self._changed:
            self._holders.append(close)

    def leave(self, close: Close) -> None:
        with self._changed:
            self._holders.remove(close)
            self._changed.notify_all()

    def close(self) -> None:
        self._open.acquire()
        with self._changed:
            holders = [*self._holders]
        for close in holders:
            close()
        with self._changed:
            self._changed.wait_for(lambda: not self._holders, LONGEST_FORK_WAIT)

    def reopen(self) -> None:
        self._open.release()


_guard = _ForkGuard()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_guard.close,
        after_in_parent=_guard.reopen,
        after_in_child=_guard.renew,
    )


def hold(close: Close) -> None:
    """Delay a fork of this process until ``let_go``; wait for one that is under way.

    The child would copy SQLite's list of the parent's locks without holding them, and then wait
    for ever for locks of its own.

    Args:
        close: Called in the forking thread; asks for ``let_go`` soon.
    """
    _guard.enter(close)


def let_go(close: Close) -> None:
    """End the delay that ``hold`` began."""
    _guard.leave(close)

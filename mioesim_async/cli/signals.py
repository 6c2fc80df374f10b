"""Signals: at Ctrl-C, SIGTERM or SIGHUP a command is cancelled and can clean up."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mioesim_async.client import MioEsimClient

__all__ = ["SIGNALS", "cancel_and_close", "handling_signals", "stoppable"]

SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
"""Signals that ask a command to end."""

MAX_CANCELS = 2
"""Signals that cancel the command: the first its work, the second its clean-up. A third ends it."""


@contextmanager
def handling_signals(handler: Any) -> Generator[None]:
    """Handle these signals, except those that the process was started to ignore, as by nohup."""
    before = {one: signal.getsignal(one) for one in SIGNALS}
    taken = {one: known for one, known in before.items() if known is not signal.SIG_IGN}
    try:
        for one in taken:
            signal.signal(one, handler)
        yield
    finally:
        for one, known in taken.items():
            signal.signal(one, known)


async def stoppable(work: Coroutine[Any, Any, int]) -> int:
    """Run a command; each of the first two signals cancels it, a third interrupts it."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    count = 0

    def stop(*_: object) -> None:
        nonlocal count
        count += 1
        if count > MAX_CANCELS or task is None:
            raise KeyboardInterrupt
        task.cancel()
        # Wakes the loop up, if it waits for events.
        loop.call_soon_threadsafe(lambda: None)

    with handling_signals(stop):
        return await work


async def cancel_and_close(client: MioEsimClient) -> bool:
    """Cancel all other tasks and close the client; the journal keeps what was sent.

    Returns:
        Whether there were other tasks.
    """
    for one in SIGNALS:
        # The rest is quick, and must not be interrupted before the result is printed.
        signal.signal(one, signal.SIG_IGN)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others)
    await client.aclose()
    return bool(others)

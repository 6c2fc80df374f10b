"""Ctrl-C, a terminal that goes away, and being told to end: a command is cancelled, not killed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mioesim_async.client import MioEsimClient

__all__ = ["STOPS", "end_now", "handled", "stoppable"]

STOPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Signals that ask a command to end."""

PATIENCE = 2
"""So many of them cancel the command: the first what it does, the second its waiting."""


@contextmanager
def handled(handler: Any) -> Generator[None]:
    """Handle these signals, but those that the process was started to ignore, as by nohup."""
    before = {one: signal.getsignal(one) for one in STOPS}
    taken = {one: known for one, known in before.items() if known is not signal.SIG_IGN}
    try:
        for one in taken:
            signal.signal(one, handler)
        yield
    finally:
        for one, known in taken.items():
            signal.signal(one, known)


async def stoppable(work: Coroutine[Any, Any, int]) -> int:
    """Run a command; a signal cancels it, and a second one cancels it once more."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    count = 0

    def stop(*_: object) -> None:
        nonlocal count
        count += 1
        if count > PATIENCE or task is None:
            raise KeyboardInterrupt
        task.cancel()
        # The loop may be asleep.
        loop.call_soon_threadsafe(lambda: None)

    with handled(stop):
        return await work


async def end_now(client: MioEsimClient) -> bool:
    """End what is under way without waiting for it; the journal notes what was sent.

    Returns:
        Whether anything was under way.
    """
    for one in STOPS:
        # What is left to do takes no time, and must be told.
        signal.signal(one, signal.SIG_IGN)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others)
    await client.aclose()
    return bool(others)

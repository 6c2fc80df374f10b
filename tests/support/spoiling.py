"""Ways to make a real journal impossible to write, and processes that try to write it."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from journals import write_locked
from users import NOBODY

__all__ = ["CAUSES", "SELL", "SPOILT"]


@contextmanager
def limited(which: int, most: int) -> Iterator[None]:
    """Lower a limit of this process."""
    soft, hard = resource.getrlimit(which)
    resource.setrlimit(which, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(which, (soft, hard))


def no_room(path: Path) -> AbstractContextManager[None]:
    # SQLite's -shm is larger.
    return limited(resource.RLIMIT_FSIZE, 8192)


def no_descriptors(path: Path) -> AbstractContextManager[None]:
    # What is open stays so.
    return limited(resource.RLIMIT_NOFILE, 0)


@contextmanager
def no_permission(path: Path) -> Iterator[None]:
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    else:
        path.chmod(0o400)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        else:
            path.chmod(0o600)


CAUSES: dict[str, Callable[[Path], AbstractContextManager[None]]] = {
    "locked": write_locked,
    "no room": no_room,
    "no descriptors": no_descriptors,
    "no permission": no_permission,
}

SPOILT = """
import asyncio, sys
from journals import intent
from mioesim_async import OrderJournal
from mioesim_async.errors import JournalUnavailable
from spoiling import CAUSES

async def main(cause, path):
    journal = OrderJournal(path)
    await journal.begin(intent())
    # What is open needs neither permission nor descriptors any more.
    await journal.close_idle()
    with CAUSES[cause](journal.path):
        try:
            await journal.begin(intent("ref-2"))
        except JournalUnavailable as error:
            said = str(error)
    print(said)
    assert await journal.begin(intent("ref-2")) is None

asyncio.run(main(*sys.argv[1:]))
"""
"""Makes the journal impossible to write in one way, and prints the journal's error."""

SELL = """
import asyncio, atexit, logging, os, sys
from contextlib import ExitStack
from shopping import buy
from spoiling import CAUSES
from mioesim_async import OrderJournal
from mioesim_async.journal import sqlite
from mioesim_async.sandbox import Sandbox, SandboxClock

logging.basicConfig(format="%(message)s", stream=sys.stdout)
sqlite.BUSY_SECONDS = 0.2
spoilt = ExitStack()

async def main(cause, end, path):
    journal = OrderJournal(path)
    async with Sandbox(10, clock=SandboxClock()) as sandbox:
        client = sandbox.client(order_journal=journal)
        await buy(client, "before")
        answer = sandbox._vendor.answer

        def spoil(path, params, fault):
            if path.endswith("addEsimOrder"):
                # What is open needs neither permission nor descriptors any more.
                journal._thread().close().result(30)
                spoilt.enter_context(CAUSES[cause](journal.path))
            return answer(path, params, fault)

        sandbox._vendor.answer = spoil
        order = await buy(client, "late")
        print("placed", order.order_num, flush=True)
        if end == "left":
            return
        if end == "forked":
            if not (child := os.fork()):
                atexit._run_exitfuncs()
                os._exit(0)
            os.waitpid(child, 0)
            end = "mended"
        if end == "mended":
            spoilt.close()
            entry = None
            async with asyncio.timeout(30):
                while entry is None or entry.order_num is None:
                    sandbox.clock.advance(5)
                    await asyncio.sleep(0.01)
                    entry = await journal.find(client.account, "late")
            print("recorded", entry.state.value, entry.order_num)
        await client.aclose()
        print("closed")
        spoilt.close()

asyncio.run(main(*sys.argv[1:]))
"""
"""Buys one eSIM whose outcome can't be written; the cause ends before the client closes, or not."""

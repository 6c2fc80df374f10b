"""One journal in many processes, and what a killed one leaves."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import sys
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest
from both import kept_in
from journals import ACCOUNT, BEGIN, STORM, intent, place_of, placed
from stores import spawned
from waiting import SECONDS, line_of

from mioesim_async import EntryState, OrderJournal

__all__ = ["kept_in"]


def tell(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.write(b"go\n")


@pytest.mark.parametrize("count", [3, pytest.param(8, marks=pytest.mark.slow)])
async def test_of_many_processes_that_begin_at_once_one_wins(
    journal: OrderJournal, count: int
) -> None:
    async with AsyncExitStack() as stack:
        processes = [
            await stack.enter_async_context(spawned(BEGIN, place_of(journal), "ref-1"))
            for _ in range(count)
        ]
        assert [await line_of(process) for process in processes] == ["ready"] * count
        for process in processes:
            tell(process)
        came = [await line_of(process) for process in processes]
    assert sorted(came) == ["lost"] * (count - 1) + ["won"]


async def test_a_process_killed_when_it_has_begun_leaves_an_open_entry(
    journal: OrderJournal,
) -> None:
    async with spawned(BEGIN, place_of(journal), "ref-1") as process:
        await line_of(process)
        tell(process)
        assert await line_of(process) == "won"
        process.kill()
        async with asyncio.timeout(SECONDS):
            await process.wait()
    [entry] = await journal.open_entries(ACCOUNT)
    assert (entry.other_order_id, entry.state) == ("ref-1", EntryState.OPEN)
    assert await journal.begin(intent()) == entry


@pytest.mark.parametrize("rounds", [3, pytest.param(20, marks=pytest.mark.slow)])
async def test_processes_killed_while_they_write_lose_nothing_and_break_nothing(
    journal: OrderJournal, rounds: int
) -> None:
    chance = random.Random(1)
    for number in range(rounds):
        async with (
            spawned(STORM, place_of(journal), f"{number}a") as killed,
            spawned(STORM, place_of(journal), f"{number}b") as other,
        ):
            said = [await line_of(killed)]
            await line_of(other)
            await asyncio.sleep(chance.random() / 20)
            killed.kill()
            async with asyncio.timeout(SECONDS):
                rest, _ = await killed.communicate()
            # What follows the last line's end was cut off.
            said += rest.decode().split("\n")[:-1]
            # The other one is not held up by what the killed one left.
            mine = intent(f"{number}c")
            assert await journal.begin(mine) is None
            assert other.returncode is None
            assert await placed(journal, mine, order_num="N-2")
        for word, reference in (text.split() for text in said):
            entry = await journal.find(ACCOUNT, reference)
            assert entry is not None, f"{word} {reference}"
            known = (
                {EntryState.PLACED} if word == "placed" else {EntryState.OPEN, EntryState.PLACED}
            )
            assert entry.state in known
    if isinstance(journal, OrderJournal):
        with closing(sqlite3.connect(journal.path)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    # At most one that was under way in each of the killed.
    assert len(await journal.open_entries()) <= 2 * rounds


LAY_OUT = """
import asyncio, os, signal, sqlite3, sys
from journals import intent
from mioesim_async import OrderJournal
from mioesim_async.journal import sqlite

class Dying(sqlite3.Connection):
    left = 0

    def execute(self, *args):
        if not Dying.left:
            os.kill(os.getpid(), signal.SIGKILL)
        Dying.left -= 1
        return super().execute(*args)

def first_begin(path, statements):
    connect = sqlite3.connect
    Dying.left = statements
    sqlite3.connect = lambda *args, **options: connect(*args, factory=Dying, **options)
    asyncio.run(OrderJournal(path).begin(intent()))

for statements in range(1000):
    if not (child := os.fork()):
        first_begin(f"{sys.argv[1]}/{statements}.db", statements)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        print(statements)
        break
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork there")
async def test_a_process_killed_at_any_step_of_a_new_file_leaves_one_that_others_can_use(
    tmp_path: Path,
) -> None:
    async with spawned(LAY_OUT, str(tmp_path)) as process, asyncio.timeout(60):
        statements = int(await line_of(process))
    assert statements > 15
    begun = 0
    for number in range(statements + 1):
        journal = OrderJournal(tmp_path / f"{number}.db")
        begun += await journal.begin(intent()) is not None
        assert len(await journal.open_entries()) == 1
        with closing(sqlite3.connect(journal.path)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert begun == 1, "only the one that was not killed"


FORK = """
import asyncio, os, sys, threading
from journals import intent
from mioesim_async import OrderJournal
from mioesim_async.journal import forks, sqlite, sqlite_worker, table

sqlite.BUSY_SECONDS = 5.0
# Long, so that the fork doesn't just wait for one of them.
sqlite_worker.IDLE_SECONDS = forks.LONGEST_FORK_WAIT = 600.0
put, inside, go_on = table.put, threading.Event(), threading.Event()

def slow(db, row):
    put(db, row)
    inside.set()
    assert go_on.wait(20)

async def main():
    journal = OrderJournal(sys.argv[1])
    await journal.begin(intent())
    table.put = slow
    # The newest of such hooks is called first: the transaction ends while the fork waits.
    os.register_at_fork(before=go_on.set)
    beginning = asyncio.create_task(journal.begin(intent("ref-2")))
    assert await asyncio.to_thread(inside.wait, 20)
    if not (child := os.fork()):
        table.put = put
        result = []
        thread = threading.Thread(
            target=lambda: result.append(asyncio.run(journal.begin(intent("ref-3"))))
        )
        thread.start()
        thread.join()
        os._exit(result != [None])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert await beginning is None

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork there")
async def test_a_fork_in_the_middle_of_a_transaction_waits_for_its_end(tmp_path: Path) -> None:
    # A child would believe that it holds the locks of its parent.
    async with spawned(FORK, str(tmp_path / "orders.db")) as process, asyncio.timeout(60):
        assert await process.wait() == 0
    assert len(await OrderJournal(tmp_path / "orders.db").open_entries()) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="no fork there")
async def test_a_fork_of_a_process_that_used_the_journal_can_use_it_too(tmp_path: Path) -> None:
    code = """
import asyncio, os, sys
from journals import intent
from mioesim_async import OrderJournal

journal = OrderJournal(sys.argv[1])
assert asyncio.run(journal.begin(intent())) is None
if child := os.fork():
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
assert asyncio.run(journal.begin(intent("ref-2"))) is None
"""
    async with spawned(code, str(tmp_path / "orders.db")) as process:
        async with asyncio.timeout(SECONDS):
            assert await process.wait() == 0
    assert len(await OrderJournal(tmp_path / "orders.db").open_entries()) == 2

"""How fast the order journals are, against the same rows written by hand.

So many buyers begin and settle orders at once; no vendor is asked. The file is compared with a
bare loop that groups the same rows, and with one connection for each operation; the disk is
tried as it is, and as one whose flush takes longer (a small library delays it). PostgreSQL is
compared with bare asyncpg that does the same statements. Contenders take turns; a ratio is the
median of its rounds. With ``--check`` a figure that misses its aim ends the run with 1.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import queue
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from attrs import define

from mioesim_async import EntryState, JournalEntry, OrderJournal
from mioesim_async.journal import fingerprint, settled, table

SUPPORT = Path(__file__).parents[1] / "tests" / "support"
ORDER = {"order_num": "EP20240501000001", "price": "12.50", "iccids": ["8985200000000000001"]}
PARAMS = {"skuId": "7", "priceId": "9", "count": "1"}

DELAY = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static int delayed(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    usleep((useconds_t)atoi(getenv("FLUSH_MICROSECONDS")));
    return real(fd);
}
int fdatasync(int fd) { return delayed("fdatasync", fd); }
int fsync(int fd) { return delayed("fsync", fd); }
"""

Buy = Callable[[JournalEntry, JournalEntry], Awaitable[object]]
"""Begins the first entry, and settles it as the second."""


@define
class Round:
    """What one contender did in one round.

    Attributes:
        rate: Orders a second.
        commits: Commits for each order.
    """

    rate: float
    commits: float


class Commits:
    """Counts the commits of all connections that are opened while it patches ``connect``."""

    def __init__(self) -> None:
        self.count = 0
        self._connect = sqlite3.connect

    def __enter__(self) -> Commits:
        sqlite3.connect = self._counted
        return self

    def __exit__(self, *_: object) -> None:
        sqlite3.connect = self._connect

    def _counted(self, *args: Any, **options: Any) -> sqlite3.Connection:
        db = self._connect(*args, **options)
        db.set_trace_callback(self._see)
        return db

    def _see(self, statement: str) -> None:
        self.count += statement == "COMMIT"


def entry_of(number: int) -> tuple[JournalEntry, JournalEntry]:
    """Return the intent of an order, and its entry when it is placed."""
    now = datetime.now(UTC)
    intent = JournalEntry(
        "f" * 64, f"order-{number}", "/api/order", dict(PARAMS), fingerprint("/api/order", PARAMS),
        Decimal("12.50"), uuid.uuid4().hex, now, now,
    )  # fmt: skip
    placed = settled(
        intent, EntryState.PLACED, at=now, order_num=str(ORDER["order_num"]), order=ORDER
    )
    assert placed is not None
    return intent, placed


async def run(buy: Buy, buyers: int, orders: int) -> float:
    """Have so many buyers place so many orders each; return orders a second."""
    entries = [[entry_of(buyer * orders + n) for n in range(orders)] for buyer in range(buyers)]

    async def one(mine: list[tuple[JournalEntry, JournalEntry]]) -> None:
        for intent, placed in mine:
            await buy(intent, placed)

    began = time.perf_counter()
    await asyncio.gather(*map(one, entries))
    return buyers * orders / (time.perf_counter() - began)


async def ours(journal: Any, buyers: int, orders: int) -> float:
    async def buy(intent: JournalEntry, placed: JournalEntry) -> None:
        assert await journal.begin(intent) is None
        assert await journal.settle(
            placed.account, placed.other_order_id, placed.attempt, placed.state,
            at=placed.updated_at, order_num=placed.order_num, order=placed.order,
        )  # fmt: skip

    rate = await run(buy, buyers, orders)
    await journal.aclose()
    return rate


# The file.


async def kept(path: Path, buyers: int, orders: int) -> float:
    return await ours(OrderJournal(path), buyers, orders)


async def bare(path: Path, buyers: int, orders: int) -> float:
    """Write the same rows by one thread, which commits what waits together."""
    waiting: queue.SimpleQueue[tuple[Any, Future[None]] | None] = queue.SimpleQueue()

    def serve() -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("PRAGMA synchronous=FULL")
            table.prepare(db)
            while (first := waiting.get()) is not None:
                group = [first]
                while not waiting.empty() and (another := waiting.get()) is not None:
                    group.append(another)
                db.execute("BEGIN IMMEDIATE")
                for row, _ in group:
                    db.execute(table.PUT, row)
                db.execute("COMMIT")
                for _, done in group:
                    done.set_result(None)

    async def put(entry: JournalEntry) -> None:
        done: Future[None] = Future()
        waiting.put((table.encode(entry), done))
        await asyncio.wrap_future(done)

    async def buy(intent: JournalEntry, placed: JournalEntry) -> None:
        await put(intent)
        await put(placed)

    thread = threading.Thread(target=serve)
    thread.start()
    rate = await run(buy, buyers, orders)
    waiting.put(None)
    await asyncio.to_thread(thread.join)
    return rate


async def alone(path: Path, buyers: int, orders: int) -> float:
    """Write the same rows by one thread, with a connection for each."""
    waiting: queue.SimpleQueue[tuple[Any, Future[None]] | None] = queue.SimpleQueue()

    def serve() -> None:
        while (one := waiting.get()) is not None:
            row, done = one
            with closing(sqlite3.connect(path, isolation_level=None)) as db:
                db.execute("PRAGMA synchronous=FULL")
                db.execute("BEGIN IMMEDIATE")
                db.execute(table.PUT, row)
                db.execute("COMMIT")
            done.set_result(None)

    async def put(entry: JournalEntry) -> None:
        done: Future[None] = Future()
        waiting.put((table.encode(entry), done))
        await asyncio.wrap_future(done)

    async def buy(intent: JournalEntry, placed: JournalEntry) -> None:
        await put(intent)
        await put(placed)

    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        table.prepare(db)
    thread = threading.Thread(target=serve)
    thread.start()
    rate = await run(buy, buyers, orders)
    waiting.put(None)
    await asyncio.to_thread(thread.join)
    return rate


def commit_milliseconds(folder: Path) -> float:
    """Return how long one commit takes on an open connection, at the median."""
    took = []
    with closing(sqlite3.connect(folder / "commits.db", isolation_level=None)) as db:
        db.execute("PRAGMA synchronous=FULL")
        table.prepare(db)
        for number in range(50):
            row = table.encode(entry_of(number)[0])
            began = time.perf_counter()
            db.execute("BEGIN IMMEDIATE")
            db.execute(table.PUT, row)
            db.execute("COMMIT")
            took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


FILES = {"kept": kept, "bare": bare, "alone": alone}


async def measure_file(folder: Path, buyers: int, orders: int, rounds: int) -> bool:
    """Compare the contenders for the file; return whether all aims were met."""
    commit = commit_milliseconds(folder)
    results: dict[str, list[Round]] = {name: [] for name in FILES}
    for number in range(rounds):
        for name, contender in FILES.items():
            with Commits() as commits:
                rate = await contender(folder / f"{name}-{number}.db", buyers, orders)
            # Making the tables takes one.
            results[name].append(Round(rate, (commits.count - 1) / (buyers * orders)))
    print(f"\nFile: a commit takes {commit:.2f} ms; {buyers} buyers, {orders} orders each")
    for name, each in results.items():
        rate = statistics.median(one.rate for one in each)
        count = statistics.median(one.commits for one in each)
        print(f"  {name:6} {rate:>10,.0f} orders/s {count:>8.3f} commits/order")
    pairs = [*zip(results["kept"], results["bare"], results["alone"], strict=True)]
    return all(
        [
            told("commits, times bare", [ours.commits / b.commits for ours, b, _ in pairs], 1.2),
            told(
                "orders a second, times one connection for each",
                [ours.rate / one.rate for ours, _, one in pairs],
                4 if commit >= 2 else 1,
                at_least=True,
            ),
        ]
    )


def told(what: str, ratios: list[float], aim: float, *, at_least: bool = False) -> bool:
    middle = statistics.median(ratios)
    met = middle >= aim if at_least else middle <= aim
    sign = "≥" if at_least else "≤"
    print(
        f"  {what}: {middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f}), aim {sign} {aim:g}"
        f"{'' if met else ': MISSED'}"
    )
    return met


def measure_slow_disk(folder: Path, arguments: argparse.Namespace) -> bool:
    """Compare the contenders in a process whose flushes take longer."""
    compiler = shutil.which("cc")
    if compiler is None:
        print("\nNo C compiler, so no slow disk is tried")
        return True
    source, library = folder / "delay.c", folder / "delay.so"
    source.write_text(DELAY)
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    again = [sys.executable, "-m", "benchmarks.journal", "--only", "file"]
    for name in ("buyers", "orders", "rounds"):
        again += [f"--{name}", str(getattr(arguments, name))]
    more = {"LD_PRELOAD": str(library), "FLUSH_MICROSECONDS": str(arguments.flush)}
    done = subprocess.run([*again, "--check"], env=os.environ | more, check=False)
    return done.returncode == 0


# PostgreSQL.


async def bare_asyncpg(url: str, schema: str, buyers: int, orders: int) -> float:
    """Do the statements of the journal on as many connections, without its checks."""
    import asyncpg

    from mioesim_async.journal.postgres_connections import MAX_CONNECTIONS
    from mioesim_async.journal.postgres_table import LAYOUTS, Table, encode

    sql = Table(schema).sql
    free: asyncio.Queue[Any] = asyncio.Queue()
    for _ in range(MAX_CONNECTIONS):
        free.put_nowait(await asyncpg.connect(url))
    db = await free.get()
    mark = await Table(schema).prepare(db)
    free.put_nowait(db)

    async def buy(intent: JournalEntry, placed: JournalEntry) -> None:
        db = await free.get()
        await db.execute(sql["insert"], *encode(intent), mark, len(LAYOUTS))
        free.put_nowait(db)
        db = await free.get()
        await db.fetchrow(sql["look"], placed.account, placed.other_order_id)
        await db.execute(sql["update"], *encode(placed), placed.attempt, 0)
        free.put_nowait(db)

    rate = await run(buy, buyers, orders)
    while not free.empty():
        await free.get_nowait().close()
    return rate


async def measure_postgres(url: str, buyers: int, orders: int, rounds: int) -> bool:
    from mioesim_async import PostgresOrderJournal

    journal_rates, bare_rates = [], []
    for _ in range(rounds):
        names = [f"bench_{uuid.uuid4().hex}" for _ in range(2)]
        journal = PostgresOrderJournal(url, schema=names[0])
        # Opens the connections, as is done below.
        await asyncio.gather(*(journal.find("nobody", "nothing") for _ in range(buyers)))
        journal_rates.append(await ours(journal, buyers, orders))
        bare_rates.append(await bare_asyncpg(url, names[1], buyers, orders))
    print(f"\nPostgreSQL: {buyers} buyers, {orders} orders each")
    for name, rates in (("journal", journal_rates), ("asyncpg", bare_rates)):
        print(f"  {name:8} {statistics.median(rates):>8,.0f} orders/s")
    ratios = [mine / bare for mine, bare in zip(journal_rates, bare_rates, strict=True)]
    return told("orders a second, times bare asyncpg", ratios, 0.6, at_least=True)


def with_postgres(arguments: argparse.Namespace) -> bool:
    numbers = arguments.buyers, arguments.orders, arguments.rounds
    if arguments.postgres:
        return asyncio.run(measure_postgres(arguments.postgres, *numbers))
    sys.path.insert(0, str(SUPPORT))
    from postgres_server import programs, running_postgres

    if programs() is None:
        print("\nPostgreSQL is not installed")
        return True
    with running_postgres(fsync="on") as server:
        return asyncio.run(measure_postgres(server.url, *numbers))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--buyers", type=int, default=50)
    parser.add_argument("--orders", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--flush", type=int, default=2000, help="microseconds of the slow disk")
    parser.add_argument("--postgres", help="URL of a server; without it, one is started")
    parser.add_argument("--only", choices=["file", "postgres"])
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    met = True
    with tempfile.TemporaryDirectory() as name:
        if arguments.only != "postgres":
            numbers = arguments.buyers, arguments.orders, arguments.rounds
            met &= asyncio.run(measure_file(Path(name), *numbers))
        if arguments.only is None:
            sys.stdout.flush()
            met &= measure_slow_disk(Path(name), arguments)
        if arguments.only != "file":
            met &= with_postgres(arguments)
    return 1 if arguments.check and not met else 0


if __name__ == "__main__":
    sys.exit(main())

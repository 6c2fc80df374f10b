"""Makes journal entries, and starts processes that write to a journal."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from postgres_server import psql

from mioesim_async import OrderJournal, PostgresOrderJournal
from mioesim_async.testing.journal_contract import ACCOUNT, NOW, ORDER, intent, settle as placed

__all__ = [
    "ACCOUNT", "BEGIN", "NOW", "ORDER", "STORM", "begun", "committed", "files_beside",
    "intent", "opened", "place_of", "placed", "write_locked", "written",
]  # fmt: skip

BEGIN = """
import asyncio, sys
from journals import intent, opened

async def main():
    journal = opened(sys.argv[1])
    print("ready", flush=True)
    sys.stdin.readline()
    print("won" if await journal.begin(intent(sys.argv[2])) is None else "lost", flush=True)
    sys.stdin.readline()

asyncio.run(main())
"""

STORM = """
import asyncio, sys
from journals import ACCOUNT, NOW, ORDER, intent, opened
from mioesim_async import EntryState

async def main():
    journal = opened(sys.argv[1])
    for number in range(100_000):
        entry = intent(f"{sys.argv[2]}-{number}")
        assert await journal.begin(entry) is None
        print("begun", entry.other_order_id, flush=True)
        assert await journal.settle(
            ACCOUNT, entry.other_order_id, entry.attempt, EntryState.PLACED,
            at=NOW, order_num="N-1", order=ORDER,
        )
        print("placed", entry.other_order_id, flush=True)

asyncio.run(main())
"""


@contextmanager
def write_locked(path: Path) -> Iterator[None]:
    """Hold SQLite's write lock on a separate connection within the block."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


async def begun(path: Path, reference: str = "ref-1") -> None:
    """Begin an intent in a file, and close it."""
    journal = OrderJournal(path)
    await journal.begin(intent(reference))
    await journal.aclose()


def files_beside(path: Path) -> list[str]:
    """Return the names of all files in the directory of a file."""
    return sorted(file.name for file in path.parent.iterdir())


def place_of(journal: OrderJournal | PostgresOrderJournal) -> str:
    """Return where a journal is, for ``opened`` in another process."""
    if isinstance(journal, OrderJournal):
        return str(journal.path)
    return f"{journal._url}#{journal._table.schema}"


def opened(place: str) -> OrderJournal | PostgresOrderJournal:
    """Open the journal of another process."""
    url, _, schema = place.partition("#")
    return PostgresOrderJournal(url, schema=schema) if schema else OrderJournal(place)


def committed(journal: OrderJournal | PostgresOrderJournal) -> list[tuple[str, ...]]:
    """Return reference and state of each entry, as another connection reads them."""
    query = "SELECT other_order_id, state FROM"
    if isinstance(journal, OrderJournal):
        with closing(sqlite3.connect(journal.path)) as db:
            return list(db.execute(f"{query} entries"))
    return [tuple(row.split("|")) for row in _rows(journal, query)]


def written(journal: OrderJournal | PostgresOrderJournal) -> bytes:
    """Return all that a journal has written."""
    if isinstance(journal, OrderJournal):
        place = journal.path.parent
        return b"".join(path.read_bytes() for path in place.iterdir() if path.is_file())
    return "\n".join(_rows(journal, "SELECT orders::text FROM", "orders")).encode()


def _rows(journal: PostgresOrderJournal, query: str, name: str = "") -> list[str]:
    table = f'"{journal._table.schema}".mioesim_orders {name}'
    return psql(str(journal._url), f"{query} {table}").splitlines()

"""Makes journal entries, and starts processes that write to a journal."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from attrs import evolve

from mioesim_async import EntryState, JournalEntry, OrderJournal
from mioesim_async.journal import fingerprint

__all__ = ["ACCOUNT", "BEGIN", "NOW", "ORDER", "STORM", "intent", "placed", "write_locked"]

ACCOUNT = "f" * 64
NOW = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
ORDER = {"order_num": "N-1", "price": "12.50", "cards": [{"iccid": "8985200000000000001"}]}
PARAMS = {"skuId": "7", "priceId": "9", "count": "2"}

BEGIN = """
import asyncio, sys
from journals import intent
from mioesim_async import OrderJournal

async def main():
    journal = OrderJournal(sys.argv[1])
    print("ready", flush=True)
    sys.stdin.readline()
    print("won" if await journal.begin(intent(sys.argv[2])) is None else "lost", flush=True)
    sys.stdin.readline()

asyncio.run(main())
"""

STORM = """
import asyncio, sys
from journals import ACCOUNT, NOW, ORDER, intent
from mioesim_async import EntryState, OrderJournal

async def main():
    journal = OrderJournal(sys.argv[1])
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


def intent(reference: str = "ref-1", **changes: Any) -> JournalEntry:
    """Make an intent with a new attempt."""
    entry = JournalEntry(
        account=ACCOUNT,
        other_order_id=reference,
        endpoint="/api/order",
        params=dict(PARAMS),
        fingerprint=fingerprint("/api/order", PARAMS),
        expected_price=Decimal("12.50"),
        attempt=uuid.uuid4().hex,
        created_at=NOW,
        updated_at=NOW,
    )
    return evolve(entry, **changes)


async def placed(
    journal: OrderJournal,
    entry: JournalEntry,
    state: EntryState = EntryState.PLACED,
    *,
    at: datetime = NOW + timedelta(seconds=1),
    **known: Any,
) -> bool:
    """Settle an entry's attempt."""
    return await journal.settle(
        entry.account, entry.other_order_id, entry.attempt, state, at=at, **known
    )


@contextmanager
def write_locked(path: Path) -> Iterator[None]:
    """Hold SQLite's write lock on a separate connection within the block."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")

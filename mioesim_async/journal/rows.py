"""The journal's table: its layout, and entries as its rows."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import attrs

from mioesim_async.journal.entry import EntryState, JournalEntry, recordable

__all__ = [
    "accounts",
    "checked",
    "encode",
    "find",
    "find_order",
    "find_orders",
    "forget",
    "in_states",
    "prepare",
    "put",
]

APPLICATION = 0x6D696F65
VERSION = 1

COLUMNS = tuple(attrs.fields_dict(JournalEntry))
QUOTED = ", ".join(f'"{name}"' for name in COLUMNS)
LAYOUT = (
    f'CREATE TABLE entries ({QUOTED}, PRIMARY KEY ("account", "other_order_id"))',
    'CREATE INDEX entries_state ON entries ("state", "created_at")',
    'CREATE INDEX entries_order ON entries ("account", "order_num")',
    f"PRAGMA application_id={APPLICATION}",
    f"PRAGMA user_version={VERSION}",
)
# One statement, and so one moment: another process may be laying the file out.
KIND = """
    SELECT application_id, user_version, things FROM pragma_application_id, pragma_user_version,
        (SELECT count(*) AS things FROM sqlite_master)
"""
SELECT = f"SELECT {QUOTED} FROM entries"  # noqa: S608 - only names of our own
MOST_MARKS = 500
"""SQLite takes so many parameters in one statement, and more."""

MARKS = ", ".join("?" * len(COLUMNS))
PUT = f"INSERT OR REPLACE INTO entries VALUES ({MARKS})"  # noqa: S608


def prepare(db: sqlite3.Connection) -> tuple[str, str] | None:
    """Lay out a new file; tell what is wrong with one of somebody else, and what to do."""
    found = _kind(db)
    if found == (0, 0, 0):
        mode = db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            return "its file system can't do WAL", "put it on a local disk"
        db.execute("BEGIN IMMEDIATE")
        # Another process may have been faster.
        for statement in LAYOUT if _kind(db) == found else ():
            db.execute(statement)
        db.execute("COMMIT")
        found = _kind(db)
    application, version, _ = found
    if application != APPLICATION:
        return "it is another program's database", "give the path of a new file"
    if version > VERSION:
        return "a later version of mioesim_async wrote it", "update mioesim_async here too"
    return None


def _kind(db: sqlite3.Connection) -> tuple[int, int, int]:
    """Return whose file it is, the version of its layout, and how many things are in it."""
    application, version, things = db.execute(KIND).fetchone()
    return application, version, things


def find(db: sqlite3.Connection, account: str, other_order_id: str) -> JournalEntry | None:
    """Return the entry of a reference, or None."""
    query = f"{SELECT} WHERE account = ? AND other_order_id = ?"
    row = db.execute(query, (recordable(account), recordable(other_order_id))).fetchone()
    return None if row is None else _decode(row)


def find_order(db: sqlite3.Connection, account: str, order_num: str) -> JournalEntry | None:
    """Return the entry that was placed as an order, or None."""
    query = f"{SELECT} WHERE account = ? AND order_num = ? AND state = ?"
    values = (recordable(account), recordable(order_num), EntryState.PLACED)
    row = db.execute(query, values).fetchone()
    return None if row is None else _decode(row)


def find_orders(
    db: sqlite3.Connection, account: str, order_nums: Collection[str], references: Collection[str]
) -> list[JournalEntry]:
    """Return the entries that were placed as one of these orders, or have one of the references."""
    found: dict[str, JournalEntry] = {}
    for column, wanted in (("order_num", order_nums), ("other_order_id", references)):
        values = [*map(recordable, wanted)]
        for start in range(0, len(values), MOST_MARKS):
            some = values[start : start + MOST_MARKS]
            query = f"{SELECT} WHERE account = ? AND {column} IN ({_marks(some)})"
            for entry in map(_decode, db.execute(query, (recordable(account), *some))):
                if column == "other_order_id" or entry.state is EntryState.PLACED:
                    found[entry.other_order_id] = entry
    return [*found.values()]


def accounts(db: sqlite3.Connection) -> list[str]:
    """Return the accounts that something was, or may have been, sent for."""
    query = "SELECT DISTINCT account FROM entries WHERE state != ? ORDER BY account"
    return [account for (account,) in db.execute(query, (EntryState.NOT_SENT,))]


def in_states(
    db: sqlite3.Connection, states: Collection[EntryState], account: str | None
) -> list[JournalEntry]:
    """Return the entries in some states, oldest first."""
    query = (
        f"{SELECT} WHERE state IN ({_marks(states)}) AND (? IS NULL OR account = ?)"
        " ORDER BY created_at, account, other_order_id"
    )
    whose = None if account is None else recordable(account)
    return [_decode(row) for row in db.execute(query, (*states, whose, whose))]


def put(db: sqlite3.Connection, row: tuple[Any, ...]) -> None:
    """Write a row, in place of the one with its reference."""
    db.execute(PUT, row)


def forget(db: sqlite3.Connection, states: Collection[EntryState], before: datetime) -> int:
    """Delete the entries in some states that have not changed since; return how many."""
    query = f"DELETE FROM entries WHERE state IN ({_marks(states)}) AND updated_at <= ?"  # noqa: S608
    return db.execute(query, (*states, _moment(before))).rowcount


def checked(at: datetime, order: dict[str, Any] | None) -> None:
    """Refuse what can't be written, before anything is.

    Raises:
        ValueError: If the time has no time zone.
        TypeError: If the order is not JSON-ready.
    """
    _moment(at)
    json.dumps(order)


def encode(entry: JournalEntry) -> tuple[Any, ...]:
    """Write an entry as a row.

    Raises:
        ValueError: If a time has no time zone.
        TypeError: If the order is not JSON-ready.
    """
    values = {
        name: recordable(value) if isinstance(value, str) else value
        for name, value in attrs.asdict(entry, recurse=False).items()
    }
    price, order = entry.expected_price, entry.order
    values |= {
        "params": json.dumps(entry.params),
        "expected_price": None if price is None else str(price),
        "created_at": _moment(entry.created_at),
        "updated_at": _moment(entry.updated_at),
        "order": None if order is None else json.dumps(order),
    }
    return tuple(values.values())


def _decode(row: tuple[Any, ...]) -> JournalEntry:
    values = dict(zip(COLUMNS, row, strict=True))
    price, order = values["expected_price"], values["order"]
    try:
        values |= {
            "params": json.loads(values["params"]),
            "expected_price": None if price is None else Decimal(price),
            "created_at": datetime.fromisoformat(values["created_at"]),
            "updated_at": datetime.fromisoformat(values["updated_at"]),
            "state": EntryState(values["state"]),
            "order": None if order is None else json.loads(order),
        }
    except (ArithmeticError, TypeError, ValueError) as error:
        raise sqlite3.DatabaseError("an entry in it can't be read") from error
    return JournalEntry(**values)


def _moment(at: datetime) -> str:
    # Always of one length, so that texts sort as the moments do.
    if at.tzinfo is None:
        raise ValueError("a time in the journal needs a time zone")
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _marks(values: Collection[object]) -> str:
    return ", ".join("?" * len(values))

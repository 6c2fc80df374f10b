"""The journal's SQL tables, and how entries are read and written."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from datetime import datetime
from decimal import Decimal
from typing import Any, get_origin

import attrs
import cattrs

from mioesim_async.journal.entry import SPENT, EntryState, JournalEntry, aware, recordable
from mioesim_async.journal.unusable import UNREADABLE, Fault, Unusable

__all__ = [
    "accounts",
    "check_owner",
    "encode",
    "file_id",
    "find",
    "find_order",
    "find_orders",
    "forget",
    "header",
    "in_states",
    "prepare",
    "put",
    "spent",
]

APPLICATION = 0x6D696F65

COLUMNS = tuple(attrs.fields_dict(JournalEntry))
QUOTED = ", ".join(f'"{name}"' for name in COLUMNS)
LAYOUTS = (
    (
        f'CREATE TABLE entries ({QUOTED}, PRIMARY KEY ("account", "other_order_id"))',
        'CREATE INDEX entries_state ON entries ("state", "created_at")',
        'CREATE INDEX entries_order ON entries ("account", "order_num")',
        f"PRAGMA application_id={APPLICATION}",
    ),
    (
        "CREATE TABLE journal (mark)",
        "INSERT INTO journal VALUES (hex(randomblob(16)))",
    ),
)
"""The statements that each version of the layout adds to the version before."""
VERSION = len(LAYOUTS)
# One statement, so that all values are read at the same moment.
KIND = """
    SELECT application_id, user_version, things FROM pragma_application_id, pragma_user_version,
        (SELECT count(*) AS things FROM sqlite_master)
"""
SELECT = f"SELECT {QUOTED} FROM entries"  # noqa: S608 - only names of our own
MAX_PLACEHOLDERS = 500
"""Parameters in one statement; SQLite accepts more."""

PLACEHOLDERS = ", ".join("?" * len(COLUMNS))
PUT = f"INSERT OR REPLACE INTO entries VALUES ({PLACEHOLDERS})"  # noqa: S608


FOREIGN = Fault("it is another program's database", "give the path of a new file", is_lasting=True)
LATER_VERSION = Fault(
    "a later version of mioesim_async wrote it", "update mioesim_async here too", is_lasting=True
)
NO_WAL = Fault("its file system doesn't support WAL", "use a local disk", is_lasting=True)


def prepare(db: sqlite3.Connection) -> None:
    """Create the tables in an empty file, or update those of an earlier version.

    Raises:
        Unusable: If the file can't be a journal.
    """
    if _missing_statements(*_kind(db)):
        db.execute("BEGIN IMMEDIATE")
        # Check again, since another process may have been faster. This is done before WAL is
        # enabled, so that the first commit writes application_id to the file itself.
        for statement in _missing_statements(*_kind(db)):
            db.execute(statement)
        db.execute("COMMIT")
    application, version, _ = _kind(db)
    check_owner(application, version)
    if db.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
        raise Unusable(NO_WAL)


def header(db: sqlite3.Connection) -> tuple[int, int]:
    """Return application id and layout version; reads only the file's first page."""
    names = ("application_id", "user_version")
    application, version = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
    return application, version


def check_owner(application: int, version: int) -> None:
    """Check that a file is a journal of this version or an earlier one.

    Raises:
        Unusable: If it is not.
    """
    if application != APPLICATION:
        raise Unusable(FOREIGN)
    if version > VERSION:
        raise Unusable(LATER_VERSION)


def file_id(db: sqlite3.Connection) -> str:
    """Return the unique id of this journal's file."""
    found: str = db.execute("SELECT mark FROM journal").fetchone()[0]
    return found


def _missing_statements(application: int, version: int, things: int) -> tuple[str, ...]:
    """Return the statements to run on a file; none if it is neither empty nor a journal."""
    is_ours = application == APPLICATION or (application, version, things) == (0, 0, 0)
    if not is_ours or version >= VERSION:
        return ()
    added = [statement for layout in LAYOUTS[version:] for statement in layout]
    return (*added, f"PRAGMA user_version={VERSION}")


def _kind(db: sqlite3.Connection) -> tuple[int, int, int]:
    """Return application id, layout version, and the number of tables and indexes."""
    application, version, things = db.execute(KIND).fetchone()
    return application, version, things


def find(db: sqlite3.Connection, account: str, other_order_id: str) -> JournalEntry | None:
    """Return the entry of a reference, or None."""
    query = f"{SELECT} WHERE account = ? AND other_order_id = ?"
    row = db.execute(query, (recordable(account), recordable(other_order_id))).fetchone()
    return None if row is None else _decode(row)


def find_order(db: sqlite3.Connection, account: str, order_num: str) -> JournalEntry | None:
    """Return the entry that was placed as an order number, or None."""
    query = f"{SELECT} WHERE account = ? AND order_num = ? AND state = ?"
    values = (recordable(account), recordable(order_num), EntryState.PLACED)
    row = db.execute(query, values).fetchone()
    return None if row is None else _decode(row)


def find_orders(
    db: sqlite3.Connection, account: str, order_nums: Collection[str], references: Collection[str]
) -> list[JournalEntry]:
    """Return the entries that were placed as these order numbers, or have these references."""
    found: dict[str, JournalEntry] = {}
    for column, wanted in (("order_num", order_nums), ("other_order_id", references)):
        values = [*map(recordable, wanted)]
        for start in range(0, len(values), MAX_PLACEHOLDERS):
            some = values[start : start + MAX_PLACEHOLDERS]
            query = f"{SELECT} WHERE account = ? AND {column} IN ({_placeholders(some)})"
            for entry in map(_decode, db.execute(query, (recordable(account), *some))):
                if column == "other_order_id" or entry.state is EntryState.PLACED:
                    found[entry.other_order_id] = entry
    return [*found.values()]


def accounts(db: sqlite3.Connection) -> list[str]:
    """Return the accounts for which something was, or may have been, sent."""
    query = "SELECT DISTINCT account FROM entries WHERE state != ? ORDER BY account"
    return [account for (account,) in db.execute(query, (EntryState.NOT_SENT,))]


def in_states(
    db: sqlite3.Connection, states: Collection[EntryState], account: str | None
) -> list[JournalEntry]:
    """Return the entries in some states, oldest first."""
    query = (
        f"{SELECT} WHERE state IN ({_placeholders(states)}) AND (? IS NULL OR account = ?)"
        " ORDER BY created_at, account, other_order_id"
    )
    whose = None if account is None else recordable(account)
    return [_decode(row) for row in db.execute(query, (*states, whose, whose))]


def spent(db: sqlite3.Connection, account: str, since: datetime) -> Decimal:
    """Return what an account's entries cost that count as spent since then."""
    query = (
        f"SELECT expected_price FROM entries WHERE state IN ({_placeholders(SPENT)})"  # noqa: S608
        " AND created_at >= ? AND account = ? AND expected_price IS NOT NULL"
    )
    rows = db.execute(query, (*SPENT, _moment(since), recordable(account)))
    return sum((Decimal(price) for (price,) in rows), Decimal(0))


def put(db: sqlite3.Connection, row: tuple[Any, ...]) -> None:
    """Insert an entry, or replace the one with its reference."""
    db.execute(PUT, row)


def forget(db: sqlite3.Connection, states: Collection[EntryState], before: datetime) -> int:
    """Delete entries that have not changed since ``before``; return how many."""
    query = f"DELETE FROM entries WHERE state IN ({_placeholders(states)}) AND updated_at <= ?"  # noqa: S608
    return db.execute(query, (*states, _moment(before))).rowcount


def _moment(at: datetime) -> str:
    # Always with microseconds, so that the texts sort in the order of time.
    return aware(at).isoformat(timespec="microseconds")


def _is_dict(kind: Any) -> bool:
    return get_origin(kind) is dict


# Made at import, since making it is slow and would block an event loop.
_rows = cattrs.Converter(detailed_validation=False)
_rows.register_unstructure_hook(str, recordable)
_rows.register_unstructure_hook(Decimal, str)
_rows.register_unstructure_hook(datetime, _moment)
_rows.register_unstructure_hook_func(_is_dict, json.dumps)
_rows.register_structure_hook(Decimal, lambda text, _: Decimal(text))
_rows.register_structure_hook(datetime, lambda text, _: datetime.fromisoformat(text))
_rows.register_structure_hook_func(_is_dict, lambda text, _: json.loads(text))
_write = _rows.get_unstructure_hook(JournalEntry)
_read = _rows.get_structure_hook(JournalEntry)


def encode(entry: JournalEntry) -> tuple[Any, ...]:
    """Return an entry as the values of its columns.

    Raises:
        ValueError: If a time has no time zone.
        TypeError: If the order is not JSON-ready.
    """
    return tuple(_write(entry).values())


def _decode(row: tuple[Any, ...]) -> JournalEntry:
    try:
        entry: JournalEntry = _read(dict(zip(COLUMNS, row, strict=True)), JournalEntry)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise Unusable(UNREADABLE) from error
    return entry


def _placeholders(values: Collection[object]) -> str:
    return ", ".join("?" * len(values))

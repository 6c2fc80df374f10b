"""The journal's tables in PostgreSQL, and how entries are read and written.

Each change of an entry is one statement, which commits by itself. It asks for
``synchronous_commit=on`` itself too, since a session's setting would not hold behind a pooler.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import attrs
from attrs import frozen

from mioesim_async.errors import ConfigurationError
from mioesim_async.journal.entry import SPENT, EntryState, JournalEntry, aware, recordable
from mioesim_async.journal.unusable import UNREADABLE, Fault, Unusable

__all__ = ["GONE", "LATER_VERSION", "LAYOUTS", "Found", "Table", "encode"]

VERSION_1 = (
    """
    CREATE TABLE {orders} (
        account text NOT NULL,
        other_order_id text NOT NULL,
        endpoint text NOT NULL,
        params json NOT NULL,
        fingerprint text NOT NULL,
        expected_price numeric,
        attempt text NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        state text NOT NULL,
        reason text NOT NULL,
        order_num text,
        "order" json,
        revision bigint NOT NULL DEFAULT 0,
        PRIMARY KEY (account, other_order_id)
    )
    """,
    "CREATE INDEX ON {orders} (state, created_at)",
    # A hash takes a number of any length.
    "CREATE INDEX ON {orders} USING hash (order_num)",
    "CREATE TABLE {journal} (version integer NOT NULL, mark text NOT NULL)",
    "INSERT INTO {journal} VALUES (0, md5(random()::text || clock_timestamp()::text))",
)
LAYOUTS: tuple[tuple[str, ...], ...] = (VERSION_1,)
"""The statements that each version of the layout adds to the version before."""

LOCK = 0x6D696F65
"""First half of the advisory lock's key; the other is made of the schema's name."""

COLUMNS = tuple(attrs.fields_dict(JournalEntry))
QUOTED = ", ".join(f'"{name}"' for name in COLUMNS)
TYPES = {"params": "json", "order": "json", "expected_price": "numeric"} | dict.fromkeys(
    ("created_at", "updated_at"), "timestamptz"
)
VALUES = ", ".join(
    f"${place}::{TYPES.get(name, 'text')}" for place, name in enumerate(COLUMNS, start=1)
)
AFTER = len(COLUMNS) + 1
"""Place of the first parameter after those of an entry's columns."""

# remote_apply is stricter than on.
DURABLY = """
    set_config('synchronous_commit', CASE current_setting('synchronous_commit')
        WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, true) AS durably
"""
STATEMENTS = {
    "kind": "SELECT current_setting('server_encoding') AS encoding, "
    "to_regclass($2) IS NOT NULL AS is_there, "
    "EXISTS (SELECT FROM pg_namespace WHERE nspname = $1) AS has_schema",
    "header": "SELECT version, mark FROM {journal}",
    "look": """
        SELECT journal.version, journal.mark, orders.*
        FROM {journal} journal LEFT JOIN {orders} orders
            ON orders.account = $1 AND orders.other_order_id = $2
    """,
    "insert": """
        INSERT INTO {orders} ({columns}) SELECT {values} FROM {journal} journal, {durably}
        WHERE journal.mark = ${after} AND journal.version <= ${after_that}
        ON CONFLICT (account, other_order_id) DO NOTHING
    """,
    "update": """
        UPDATE {orders} AS orders SET ({columns}, revision) = ({values}, revision + 1)
        FROM {durably}
        WHERE orders.account = $1 AND orders.other_order_id = $2
            AND orders.attempt = ${after} AND orders.revision = ${after_that}
    """,
    "placed": "SELECT {columns} FROM {orders} WHERE account = $1 AND order_num = $2 AND state = $3",
    "many": """
        SELECT {columns} FROM {orders} WHERE account = $1
            AND (order_num = ANY($2::text[]) AND state = $3 OR other_order_id = ANY($4::text[]))
    """,
    "accounts": "SELECT DISTINCT account FROM {orders} WHERE state <> $1",
    "in_states": """
        SELECT {columns} FROM {orders}
        WHERE state = ANY($1::text[]) AND ($2::text IS NULL OR account = $2)
        ORDER BY created_at, account, other_order_id
    """,
    "forget": """
        DELETE FROM {orders} AS orders USING {durably}
        WHERE orders.state = ANY($1::text[]) AND orders.updated_at <= $2
    """,
    "upgraded": "UPDATE {journal} SET version = $1",
    "lock": "SELECT pg_advisory_xact_lock($1, hashtext($2))",
    "schema": "CREATE SCHEMA {schema}",
    "spent": """
        SELECT coalesce(sum(expected_price), 0) FROM {orders}
        WHERE account = $1 AND state = ANY($2::text[]) AND created_at >= $3
    """,
}

NOT_UTF8 = Fault(
    "its encoding is not UTF8, so that it can't keep every text that the vendor sends",
    "make a database with: createdb --encoding=UTF8 --template=template0 NAME",
    is_lasting=True,
)
LATER_VERSION = Fault(
    "a later version of mioesim_async wrote it", "update mioesim_async here too", is_lasting=True
)
GONE = Fault(
    "its tables have vanished: they were dropped, emptied or replaced by others",
    "restore them; if they are lost, compare the vendor's list of orders with yours before you "
    "restart, since a restart begins a new journal",
)
LONGEST_NAME = 63


@frozen
class Found:
    """What a look-up found.

    Attributes:
        entry: The entry of the reference, or None.
        revision: How often the entry was changed.
        version: The layout's version.
    """

    entry: JournalEntry | None
    revision: int
    version: int


class Table:
    """The tables in one schema.

    Methods take a connection of asyncpg.

    Attributes:
        schema: The schema's name.
        sql: The statements, by name.
    """

    def __init__(self, schema: str) -> None:
        """Name the tables.

        Raises:
            ConfigurationError: If the schema's name can't be one.
        """
        if not 0 < len(schema.encode()) <= LONGEST_NAME or "\0" in schema:
            # PostgreSQL would cut a longer name, so that two journals could become one.
            raise ConfigurationError(f"schema must be a name of 1 to {LONGEST_NAME} bytes, no NUL")
        self.schema = schema
        quoted = '"' + schema.replace('"', '""') + '"'
        self._names = {
            "schema": quoted,
            "orders": f"{quoted}.mioesim_orders",
            "journal": f"{quoted}.mioesim_journal",
            "columns": QUOTED,
            "values": VALUES,
            "durably": DURABLY,
            "after": str(AFTER),
            "after_that": str(AFTER + 1),
        }
        self.sql = {name: self._named(text) for name, text in STATEMENTS.items()}

    def _named(self, statement: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda found: self._names[found[1]], statement)

    async def prepare(self, db: Any) -> str:
        """Make the tables, or upgrade those of an earlier version; return the journal's mark.

        Raises:
            Unusable: If the database can't hold the journal.
        """
        version, mark = await self._header(db)
        if version < len(LAYOUTS):
            # Under a stricter level, the statement that waits for the lock would take the snapshot.
            async with db.transaction(isolation="read_committed"):
                await db.execute(self.sql["lock"], LOCK, self.schema)
                # Again: another process may have been faster.
                version, _ = await self._header(db)
                await self._upgrade(db, version)
            version, mark = await self._header(db)
        if version > len(LAYOUTS):
            raise Unusable(LATER_VERSION)
        return mark

    async def _header(self, db: Any) -> tuple[int, str]:
        """Return version and mark; version 0 if there is no table."""
        kind = await self._kind(db)
        if kind["encoding"] != "UTF8":
            raise Unusable(NOT_UTF8)
        if not kind["is_there"]:
            return 0, ""
        found = await db.fetchrow(self.sql["header"])
        if found is None:
            raise Unusable(GONE)
        return found["version"], found["mark"]

    async def _kind(self, db: Any) -> Any:
        return await db.fetchrow(self.sql["kind"], self.schema, self._names["journal"])

    async def _upgrade(self, db: Any, version: int) -> None:
        steps = LAYOUTS[version:]
        if not steps:
            return
        kind = await self._kind(db)
        if not kind["has_schema"]:
            await db.execute(self.sql["schema"])
        for step in steps:
            for statement in step:
                await db.execute(self._named(statement))
        await db.execute(self.sql["upgraded"], len(LAYOUTS))

    async def look(self, db: Any, mark: str, account: str, other_order_id: str) -> Found:
        """Find the entry of a reference.

        Raises:
            Unusable: If this is not the journal of that mark.
        """
        keys = recordable(account), recordable(other_order_id)
        row = await db.fetchrow(self.sql["look"], *keys)
        if row is None or row["mark"] != mark:
            raise Unusable(GONE)
        if row["revision"] is None:
            return Found(None, 0, row["version"])
        return Found(_decode(row), row["revision"], row["version"])

    async def insert(self, db: Any, mark: str, row: tuple[Any, ...]) -> bool:
        """Insert an entry if its reference has none and the journal has this mark; tell if so."""
        return _count(await db.execute(self.sql["insert"], *row, mark, len(LAYOUTS))) == 1

    async def replace(self, db: Any, found: Found, row: tuple[Any, ...]) -> bool:
        """Replace an entry unless it was changed since it was found; tell if so."""
        if found.entry is None:
            return False
        attempt = recordable(found.entry.attempt)
        return _count(await db.execute(self.sql["update"], *row, attempt, found.revision)) == 1

    async def lock_account(self, db: Any, account: str) -> None:
        """Keep other hosts from beginning orders of an account under a limit, in a transaction."""
        await db.execute(self.sql["lock"], LOCK, f"{self.schema} {recordable(account)}")

    async def spent(self, db: Any, account: str, since: datetime) -> Decimal:
        """Return what an account's entries cost that count as spent since then."""
        states = [state.value for state in SPENT]
        total: Decimal = await db.fetchval(
            self.sql["spent"], recordable(account), states, aware(since)
        )
        return total

    async def find_order(self, db: Any, account: str, order_num: str) -> JournalEntry | None:
        """Return the entry that was placed as an order number, or None."""
        values = recordable(account), recordable(order_num), EntryState.PLACED.value
        row = await db.fetchrow(self.sql["placed"], *values)
        return None if row is None else _decode(row)

    async def find_orders(
        self, db: Any, account: str, order_nums: Collection[str], references: Collection[str]
    ) -> list[JournalEntry]:
        """Return the entries that were placed as these order numbers, or have these references."""
        numbers, known = ([*map(recordable, wanted)] for wanted in (order_nums, references))
        values = recordable(account), numbers, EntryState.PLACED.value, known
        return [*map(_decode, await db.fetch(self.sql["many"], *values))]

    async def accounts(self, db: Any) -> list[str]:
        """Return the accounts for which something was, or may have been, sent."""
        rows = await db.fetch(self.sql["accounts"], EntryState.NOT_SENT.value)
        return sorted(row["account"] for row in rows)

    async def in_states(
        self, db: Any, states: Collection[EntryState], account: str | None
    ) -> list[JournalEntry]:
        """Return the entries in some states, oldest first."""
        whose = None if account is None else recordable(account)
        values = [state.value for state in states], whose
        return [*map(_decode, await db.fetch(self.sql["in_states"], *values))]

    async def forget(self, db: Any, states: Collection[EntryState], before: datetime) -> int:
        """Delete entries that have not changed since ``before``; return how many."""
        values = [state.value for state in states], before
        return _count(await db.execute(self.sql["forget"], *values))


def _count(status: str) -> int:
    """Return how many rows a statement changed, from its status such as ``UPDATE 1``."""
    return int(status.rpartition(" ")[2])


def encode(entry: JournalEntry) -> tuple[Any, ...]:
    """Return an entry as the values of its columns.

    Raises:
        ValueError: If a time has no time zone.
        TypeError: If the order is not JSON-ready.
    """
    values = {name: _column(getattr(entry, name)) for name in COLUMNS}
    return tuple(values.values())


def _column(value: Any) -> Any:
    match value:
        case EntryState():
            return value.value
        case str():
            return recordable(value)
        case datetime():
            return aware(value)
        case dict():
            # All but ASCII is escaped, and PostgreSQL takes every escape in a `json`.
            return json.dumps(value)
        case _:
            return value


def _decode(row: Mapping[str, Any]) -> JournalEntry:
    try:
        values = {name: row[name] for name in COLUMNS}
        for name in ("params", "order"):
            values[name] = None if values[name] is None else json.loads(values[name])
        for name in ("created_at", "updated_at"):
            values[name] = values[name].astimezone(UTC)
        values["state"] = EntryState(values["state"])
        return JournalEntry(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise Unusable(UNREADABLE) from error

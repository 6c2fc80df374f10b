"""Why a journal in PostgreSQL can't be used, and what to do about it."""

from __future__ import annotations

import ssl

import asyncpg

from mioesim_async.journal.postgres_connections import ERRORS
from mioesim_async.journal.postgres_table import GONE
from mioesim_async.journal.unusable import Fault, Unusable

__all__ = ["EXPECTED", "MAY_PASS", "fault_of"]

EXPECTED = (Unusable, *ERRORS)
"""What may be raised by the use of a database."""

MAY_PASS = (
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    ConnectionError,
)
"""Errors after which a new connection, or a second try, may work at once."""

NO_ANSWER = Fault("it doesn't answer", "look whether it runs and can be reached from here")
NO_TLS = Fault("no TLS connection to it can be made", "check sslmode and certificates in the URL")
BAD_URL = Fault(
    "its URL can't be read", "write postgresql://user:password@host:5432/database", is_lasting=True
)
REFUSED = Fault(
    "it refuses this user or this password",
    "check them in the URL, and pg_hba.conf of the server",
    is_lasting=True,
)

BY_STATE = {
    "08": Fault("the connection to it broke", "look whether it runs and can be reached from here"),
    "25006": Fault("it is read-only, as a standby is", "give the URL of the primary"),
    "28": REFUSED,
    "3D000": Fault("there is no such database", "make it, or correct the URL", is_lasting=True),
    "3F000": GONE,
    "40": Fault("others change the same entries all the time", "find out who"),
    "42501": Fault(
        "this user may not do there what a journal needs",
        "let it make tables in the schema, or own those that are there",
        is_lasting=True,
    ),
    "42P01": GONE,
    "42703": GONE,
    "53100": Fault("its disk is full", "make room on the disk"),
    "53200": Fault("it has no memory left", "free some"),
    "53300": Fault("it has no connection left", "raise max_connections, or put a pooler before it"),
    "57014": Fault(
        "it took too long", "find out what holds a lock on the journal's tables, or slows its disk"
    ),
    "57": Fault("it is starting or being shut down", "wait until it is up"),
    "58": Fault("its disk could not be read or written", "look into the server's log"),
}
"""By SQLSTATE, or else by its class, the first two characters."""


def fault_of(error: Exception) -> Fault:
    """Return why the database can't be used; the text never holds the URL or its password."""
    match error:
        case Unusable():
            return error.fault
        case ssl.SSLError():
            return NO_TLS
        case TimeoutError():
            return BY_STATE["57014"]
        case OSError():
            return NO_ANSWER
        case asyncpg.ClientConfigurationError():
            return BAD_URL
        case asyncpg.PostgresError():
            state = getattr(error, "sqlstate", None) or ""
            known = BY_STATE.get(state) or BY_STATE.get(state[:2])
            said = str(error).partition("\n")[0][:200]
            return known or Fault(f"it says: {said} ({state})", "look into the server's log")
        case _:
            # asyncpg raises various errors of its own when a connection ends.
            return BY_STATE["08"]

"""The order journal: records each purchase durably, before it is sent and after.

``Journal`` is the protocol for a journal of your own; ``may_begin`` and ``settled`` are its rules.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from mioesim_async.journal.entry import (
    REPEATABLE,
    SETTLED,
    UNSETTLED,
    EntryState,
    Journal,
    JournalEntry,
    fingerprint,
    may_begin,
    settled,
)

if TYPE_CHECKING:
    from mioesim_async.journal.postgres import PostgresOrderJournal
    from mioesim_async.journal.sqlite import OrderJournal

__all__ = [
    "REPEATABLE",
    "SETTLED",
    "UNSETTLED",
    "EntryState",
    "Journal",
    "JournalEntry",
    "OrderJournal",
    "PostgresOrderJournal",
    "fingerprint",
    "may_begin",
    "settled",
]

if not TYPE_CHECKING:

    def __getattr__(name):
        """Import a journal at its first use: not everybody has the library for each."""
        modules = {"OrderJournal": "sqlite", "PostgresOrderJournal": "postgres"}
        if name not in modules:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{modules[name]}"), name)

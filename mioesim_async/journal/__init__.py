"""What became of each order, kept where a killed process can't lose it."""

from mioesim_async.journal.entry import (
    REPEATABLE,
    SETTLED,
    UNSETTLED,
    EntryState,
    Journal,
    JournalEntry,
    fingerprint,
)

__all__ = [
    "REPEATABLE",
    "SETTLED",
    "UNSETTLED",
    "EntryState",
    "Journal",
    "JournalEntry",
    "fingerprint",
]

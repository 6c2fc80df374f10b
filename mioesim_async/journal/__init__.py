"""The order journal: records each purchase on disk, before it is sent and after."""

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

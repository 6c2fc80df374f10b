"""Opens the journal that a setting names."""

from __future__ import annotations

from mioesim_async.errors import ConfigurationError
from mioesim_async.journal.entry import Journal

__all__ = ["journal_at"]


def journal_at(place: str, setting: str) -> Journal:
    """Return the journal at a path, or at a ``postgresql://`` URL; nothing is opened yet.

    Args:
        place: The path or URL.
        setting: Where it was set, for the error, which never repeats the place.

    Raises:
        ConfigurationError: If it is another URL, or asyncpg is not installed.
    """
    scheme, is_url, _ = place.partition("://")
    if not is_url:
        if scheme.startswith(("postgresql:", "postgres:")):
            raise ConfigurationError(
                f"{setting} looks like a PostgreSQL URL; write "
                "postgresql://user:password@host:5432/database"
            )
        # Imported late, as below: most programs use one of the two, or none.
        from mioesim_async.journal.sqlite import OrderJournal  # noqa: PLC0415

        return OrderJournal(place)
    if scheme not in ("postgresql", "postgres"):
        raise ConfigurationError(f"{setting} must be a path, or start with postgresql://")
    try:
        from mioesim_async.journal.postgres import PostgresOrderJournal  # noqa: PLC0415

        return PostgresOrderJournal(place)
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"{setting} is a PostgreSQL URL, but {error}") from None

"""Stored tokens as plain values and JSON, for stores outside this process."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import attrs
import orjson

from mioesim_async.tokens.store import StoredToken
from mioesim_async.wire.dialect import Dialect

__all__ = ["decode", "encode", "loads", "records_in"]


def encode(stored: StoredToken) -> dict[str, Any]:
    """Write a token, when it was obtained, and its dialect, as plain values."""
    return attrs.asdict(stored)


def decode(record: Any) -> StoredToken:
    """Read what ``encode`` wrote; fields that a later version added are passed over.

    Raises:
        ValueError: If it is something else; the message does not repeat it.
    """
    try:
        dialect = record["dialect"]
        known = {name: dialect[name] for name in attrs.fields_dict(Dialect) if name in dialect}
        token, obtained_at = record["token"], float(record["obtained_at"])
        if isinstance(token, str) and token:
            return StoredToken(token, obtained_at, Dialect(**known))
    except (KeyError, TypeError, ValueError):
        pass
    raise ValueError("what the token store holds can't be read")


def records_in(content: bytes) -> dict[str, Any] | None:
    """Return the records in a token file by account, or None if it is not a token file.

    A token file is empty, or a JSON object whose every value looks like what ``encode`` writes.
    A record of a later version does, too, so a file that has one is not refused.
    """
    if not content:
        return {}
    with suppress(ValueError):
        records = loads(content)
        if isinstance(records, dict) and all(map(_is_record, records.values())):
            return records
    return None


def _is_record(value: object) -> bool:
    match value:
        case {"token": str(), "obtained_at": int() | float(), "dialect": dict()}:
            return True
        case _:
            return False


def loads(text: bytes | str) -> Any:
    """Parse JSON text.

    Raises:
        ValueError: If it is none; the message and its causes do not repeat it.
    """
    with suppress(orjson.JSONDecodeError):
        return orjson.loads(text)
    raise ValueError("what the token store holds is not JSON")

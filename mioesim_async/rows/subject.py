"""What a reply is about, compared with what was asked.

A reply may be about something else: one that comes late over a kept connection, or one of a
host that ignores a parameter. What names nothing is taken, since replies may leave it out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from mioesim_async.errors import ProtocolError
from mioesim_async.models.iccid import iccid_or_none
from mioesim_async.rows import scalars
from mioesim_async.rows.layout import normalised

__all__ = ["cards_named", "check_about", "iccid_in", "ids_named", "names_another"]


def check_about(what: str, asked: Collection[str], named: Iterable[str]) -> None:
    """Refuse a reply, or a row of one, that names things and none that was asked for.

    Args:
        what: What kind of things these are.
        asked: What was asked for.
        named: What is named; empty text names nothing.

    Raises:
        ProtocolError: If it is about something else.
    """
    names = {*named} - {""}
    if names and names.isdisjoint(asked):
        raise ProtocolError(f"the reply is about another {what} than the one that was asked for")


def iccid_in(row: Mapping[str, object]) -> object:
    """Return the ICCID that a row of the vendor's is about, as it came; None if it names none."""
    value = row.get("iccid")
    if value is None or value == "":
        others = [value for key, value in row.items() if normalised(key) == "iccid"]
        value = next((other for other in others if other is not None and other != ""), None)
    return value


def names_another(row: Mapping[str, object], iccid: object) -> bool:
    """Tell whether a row says that it is about another card than the one it is filed under."""
    named = iccid_or_none(iccid_in(row))
    return named is not None and named != iccid_or_none(iccid)


def cards_named(row: Any) -> list[str]:
    """Return the ICCIDs that a row, or a map by ICCID, says that it is about."""
    if not isinstance(row, dict):
        return []
    return [iccid for raw in (*row, *_values(row, "iccid")) if (iccid := _iccid(raw))]


def ids_named(row: Any, name: str) -> list[str]:
    """Return the ids that a row has under a name, given in small letters and without underscores.

    What is no id is left out.
    """
    return [] if not isinstance(row, dict) else [*filter(None, map(_id, _values(row, name)))]


def _values(row: dict[str, Any], name: str) -> list[Any]:
    return [value for key, value in row.items() if normalised(key) == name]


def _iccid(raw: object) -> str:
    return iccid_or_none(raw) or ""


def _id(raw: object) -> str:
    try:
        number = scalars.integer(raw)
    except ValueError:
        return ""
    return "" if number is None else str(number)

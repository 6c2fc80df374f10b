"""Checks that a reply is about what was asked for.

It may be about something else if it comes late over a kept connection, or if the host ignores a
parameter. A reply that names nothing is accepted, since the vendor may leave names out.
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
    """Refuse a reply, or a row, that names things but none that was asked for.

    Args:
        what: The kind of thing, such as ``card``; used in the message.
        asked: The names that were asked for.
        named: The names in the reply; empty text is ignored.

    Raises:
        ProtocolError: If the reply names only other things.
    """
    names = {*named} - {""}
    if names and names.isdisjoint(asked):
        raise ProtocolError(f"the reply is about another {what} than the one that was asked for")


def iccid_in(row: Mapping[str, object]) -> object:
    """Return the ICCID of a row, under any spelling of the field, as it came; or None."""
    value = row.get("iccid")
    if value is None or value == "":
        others = [value for key, value in row.items() if normalised(key) == "iccid"]
        value = next((other for other in others if other is not None and other != ""), None)
    return value


def names_another(row: Mapping[str, object], iccid: object) -> bool:
    """Tell whether a row has an ICCID that is not the given one."""
    named = iccid_or_none(iccid_in(row))
    return named is not None and named != iccid_or_none(iccid)


def cards_named(row: Any) -> list[str]:
    """Return the ICCIDs of a row, or the keys of a map by ICCID."""
    if not isinstance(row, dict):
        return []
    return [iccid for raw in (*row, *_values(row, "iccid")) if (iccid := _iccid(raw))]


def ids_named(row: Any, name: str) -> list[str]:
    """Return the ids in a row's field, under any spelling; values that are no ids are left out.

    Args:
        row: The row.
        name: The name of the field, normalised.
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

"""Checks parsed JSON strictly against a schema.

A schema is a type (exactly that, so that no ``True`` passes for an int), None, a pattern that a
text must match whole, a set of constants, a list of one schema (for each item), a tuple of
schemas (one of them), ``Map`` (for each value), or a dict: an object with these fields, no more
and no less.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from attrs import frozen

__all__ = ["Map", "faults"]


@frozen
class Map:
    """An object whose keys are data."""

    keys: Any
    values: Any


def faults(value: Any, schema: Any, where: str = "data") -> Iterator[str]:
    """Return what a schema doesn't allow, with its place."""
    if isinstance(schema, tuple):
        found = [list(faults(value, one, where)) for one in schema]
        if all(found):
            yield from min(found, key=len)
    elif isinstance(schema, dict | Map) and isinstance(value, dict):
        if isinstance(schema, Map):
            schema, keys = dict.fromkeys(value, schema.values), schema.keys
            yield from (fault for key in value for fault in faults(key, keys, f"{where}, key"))
        for name in value.keys() ^ schema.keys():
            yield f"{where}: {name} is {'missing' if name in schema else 'unknown'}"
        for name in value.keys() & schema.keys():
            yield from faults(value[name], schema[name], f"{where}.{name}")
    elif isinstance(schema, list) and isinstance(value, list):
        for item in value:
            yield from faults(item, schema[0], f"{where}[]")
    elif not _is(value, schema):
        yield f"{where}: {value!r} is not {schema!r}"


def _is(value: Any, schema: Any) -> bool:
    if isinstance(schema, re.Pattern):
        return isinstance(value, str) and schema.fullmatch(value) is not None
    if isinstance(schema, set):
        return any(type(value) is type(one) and value == one for one in schema)
    return value is None if schema is None else type(value) is schema

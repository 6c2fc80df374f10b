"""Parses large JSON in steps.

The parser of the standard library can't be interrupted. This module splits the outer lists and
objects of a reply, and gives that parser the values in them, one row at a time.
"""

from __future__ import annotations

import json
import re
from typing import Any

from mioesim_async.slices import Steps

__all__ = ["load_in_steps"]

WHITESPACE = re.compile(r"[ \t\n\r]*")
SPLIT_LEVELS = 4
"""Levels that are split: the envelope, its data, a map or list in the data, and the rows."""


def load_in_steps(text: str, decoder: json.JSONDecoder) -> Steps[Any]:
    """Parse a text in steps, with the decoder's result.

    Raises:
        ValueError: If the text is not JSON; the decoder may raise another ``ValueError``.
    """
    value, end = yield from _value(text, _skip(text, 0), SPLIT_LEVELS, decoder)
    if _skip(text, end) < len(text):
        raise ValueError("there is more than one value")
    return value


def _value(text: str, at: int, levels: int, decoder: json.JSONDecoder) -> Steps[tuple[Any, int]]:
    """Parse the value at position ``at``; return it and the position after it."""
    if levels > 1 and text.startswith("{", at):
        return (yield from _object(text, at, levels, decoder))
    if levels and text.startswith("[", at):
        return (yield from _list(text, at, levels, decoder))
    return decoder.raw_decode(text, at)


def _object(
    text: str, at: int, levels: int, decoder: json.JSONDecoder
) -> Steps[tuple[dict[str, Any], int]]:
    pairs: dict[str, Any] = {}
    at = _skip(text, at + 1)
    if text.startswith("}", at):
        return pairs, at + 1
    while True:
        name, at = decoder.raw_decode(text, at)
        if not isinstance(name, str):
            raise ValueError("a name must be text")
        at = _skip(text, _after(":", text, at))
        if text.startswith(("{", "["), at):
            pairs[name], at = yield from _value(text, at, levels - 1, decoder)
        else:
            pairs[name], at = decoder.raw_decode(text, at)
        yield
        at = _skip(text, at)
        if text.startswith("}", at):
            return pairs, at + 1
        at = _skip(text, _after(",", text, at))


def _list(
    text: str, at: int, levels: int, decoder: json.JSONDecoder
) -> Steps[tuple[list[Any], int]]:
    first = _skip(text, at + 1)
    if not text.startswith(("{", "["), first):
        # A list of numbers or texts is parsed faster than it would be split.
        return decoder.raw_decode(text, at)
    items: list[Any] = []
    at = first
    while True:
        if text.startswith("[", at):
            item, at = yield from _value(text, at, levels - 1, decoder)
        else:
            item, at = decoder.raw_decode(text, at)
        items.append(item)
        yield
        at = _skip(text, at)
        if text.startswith("]", at):
            return items, at + 1
        at = _skip(text, _after(",", text, at))


def _after(mark: str, text: str, at: int) -> int:
    at = _skip(text, at)
    if not text.startswith(mark, at):
        raise ValueError(f"expected {mark!r}")
    return at + 1


def _skip(text: str, at: int) -> int:
    """Return the position of the next character that is not white space."""
    found = WHITESPACE.match(text, at)
    return at if found is None else found.end()

"""Cleans ICCIDs, as people paste them, to the digits that the vendor accepts."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import TypeGuard, cast

from mioesim_async.errors import InvalidRequest
from mioesim_async.slices import Steps, at_once
from mioesim_async.wording import worded

__all__ = [
    "are_clean", "check_iccids", "check_in_steps", "clean_iccid", "iccid_or_none",
    "is_clean", "shown",
]  # fmt: skip

MIN_DIGITS, MAX_DIGITS = 16, 22
"""Digits of an ICCID. Samples have 16 to 20 (observed); E.118 padding may add two."""

LONGEST_ITEM = 1000
"""Characters in an item, before it is cleaned."""

PIECE = 1000
"""Items that are checked in one step."""

SMALL_PIECE = 100
"""Items that are cleaned in one step, if any item of a piece is not clean."""

# White space, hyphens and dashes, and invisible marks that come with text from spreadsheets.
NOISE = re.compile(r"[\s\-\u2010-\u2015\u2212\u200b\u200e\u200f\u2060\ufeff]+")


def clean_iccid(raw: object) -> str:
    """Return the digits of one ICCID.

    Spaces, dashes and trailing ``F`` padding are removed. The prefix 89 and the Luhn digit are not
    checked, since the vendor's own samples have neither (observed).

    Raises:
        InvalidRequest: If the rest is not text of 16 to 22 ASCII digits.
    """
    if is_clean(raw):
        return raw
    if not isinstance(raw, str):
        raise InvalidRequest(
            f"{shown(raw)} is a {type(raw).__name__}; pass ICCIDs as text, numbers lose digits"
        )
    if len(raw) > LONGEST_ITEM:
        raise InvalidRequest(f"{shown(raw)} is not an ICCID: it has {len(raw):,} characters")
    text = NOISE.sub("", raw).rstrip("Ff")
    if _is_digits(text):
        if MIN_DIGITS <= len(text) <= MAX_DIGITS:
            return text
        raise InvalidRequest(
            f"{shown(raw)} has {len(text)} digits; an ICCID has {MIN_DIGITS} to {MAX_DIGITS}"
        )
    if re.fullmatch(r"[0-9]+([.,][0-9]+)?[eE]\+?[0-9]+", text):
        raise InvalidRequest(
            f"{shown(raw)} was turned into a number by a spreadsheet and lost digits; "
            "export the column as text"
        )
    raise InvalidRequest(f"{shown(raw)} is not an ICCID: only digits may remain")


def iccid_or_none(raw: object) -> str | None:
    """Return the digits of an ICCID, given as text or a whole number; None if it is no ICCID."""
    if type(raw) is int and raw.bit_length() < LONGEST_ITEM:
        raw = str(raw)
    # Fast, since most callers pass names of fields.
    if not isinstance(raw, str) or not MIN_DIGITS <= len(raw) <= LONGEST_ITEM:
        return None
    if is_clean(raw):
        return raw
    text = NOISE.sub("", raw).rstrip("Ff")
    return text if _is_digits(text) and MIN_DIGITS <= len(text) <= MAX_DIGITS else None


def is_clean(raw: object) -> TypeGuard[str]:
    """Tell whether a value is an ICCID that needs no cleaning."""
    return type(raw) is str and MIN_DIGITS <= len(raw) <= MAX_DIGITS and _is_digits(raw)


def _is_digits(text: str) -> bool:
    return text.isdigit() and text.isascii()


def shown(raw: object) -> str:
    """Return an item's text for messages; an activation code is not shown."""
    if not isinstance(raw, str):
        return "the item"
    text = raw if len(raw) <= 40 else raw[:37] + "..."
    looked_at = raw[:LONGEST_ITEM].upper()
    is_code = "$" in looked_at or "LPA" in looked_at
    return "an activation code" if is_code else repr(text)


def are_clean(items: Sequence[object]) -> bool:
    """Tell whether all items need no cleaning; faster than ``is_clean`` for each."""
    if {*map(type, items)} != {str}:
        return False
    texts = cast("Sequence[str]", items)
    sizes = {*map(len, texts)}
    return (
        min(sizes) >= MIN_DIGITS
        and max(sizes) <= MAX_DIGITS
        and not "".join(texts).encode(errors="replace").translate(None, b"0123456789")
    )


def check_iccids(items: Iterable[object]) -> list[str]:
    """Clean every ICCID.

    Raises:
        InvalidRequest: With a fault for each item that is no ICCID, and its position from 0.
    """
    items = list(items)
    if len(items) <= PIECE and are_clean(items):
        return cast("list[str]", items)
    return list(chain.from_iterable(at_once(check_in_steps(items))))


def check_in_steps(items: Iterable[object], *, lenient_way: str = "") -> Steps[deque[list[str]]]:
    """Clean every ICCID in steps, and return them in pieces.

    Args:
        items: The ICCIDs.
        lenient_way: What to do to get a failed outcome for each bad item, in Python's words; it
            is added to the error as a note.

    Raises:
        InvalidRequest: With a fault for each item that is no ICCID, and its position from 0.
    """
    pieces: deque[list[str]] = deque()
    faults: list[str] = []
    position = 0
    left = iter(items)
    while piece := list(islice(left, PIECE)):
        # Most lists are clean, and a call for each item is much slower.
        if are_clean(piece):
            pieces.append(cast("list[str]", piece))
        else:
            for start in range(0, len(piece), SMALL_PIECE):
                pieces.append(
                    _cleaned(piece[start : start + SMALL_PIECE], position + start, faults)
                )
                yield
        position += len(piece)
        yield
    if faults:
        error = InvalidRequest(*faults)
        if lenient_way:
            way = worded(lenient_way)
            error.add_note(f"{way} to get a failed outcome for each bad item instead.")
        raise error
    return pieces


def _cleaned(items: Sequence[object], first: int, faults: list[str]) -> list[str]:
    """Clean items one by one, and add a fault for each that is no ICCID."""
    cleaned: list[str] = []
    for position, item in enumerate(items, first):
        try:
            cleaned.append(clean_iccid(item))
        except InvalidRequest as error:
            faults.append(f"item {position}: {error}")
    return cleaned

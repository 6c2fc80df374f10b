"""ICCIDs as people paste them, cleaned to the digits that the vendor takes."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import TypeGuard, cast

from mioesim_async.errors import InvalidRequest
from mioesim_async.slices import Steps, at_once

__all__ = [
    "are_clean", "check_iccids", "check_in_steps", "clean_iccid", "iccid_or_none",
    "is_clean", "shown",
]  # fmt: skip

MIN_DIGITS, MAX_DIGITS = 16, 22
"""Samples have 16 to 20 digits (observed); E.118 padding may add two."""

LONGEST = 1000
"""So many characters an item may have, with all that is cleaned away."""

PIECE, FEW = 1000, 100
"""So many items are checked at once, and so many where some are not clean."""

# White space, hyphens and dashes, and the invisible marks that spreadsheets paste along.
NOISE = re.compile(r"[\s\-\u2010-\u2015\u2212\u200b\u200e\u200f\u2060\ufeff]+")


def clean_iccid(raw: object) -> str:
    """Return the digits of one ICCID.

    Spaces, dashes and trailing ``F`` padding are dropped. Neither the prefix 89 nor the
    Luhn digit is asked for: the vendor's own samples break both (observed).

    Raises:
        InvalidRequest: If it is not text of 16 to 22 ASCII digits.
    """
    if is_clean(raw):
        return raw
    if not isinstance(raw, str):
        raise InvalidRequest(
            f"{shown(raw)} is a {type(raw).__name__}; pass ICCIDs as text, numbers lose digits"
        )
    if len(raw) > LONGEST:
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
    """Return the digits of what may be an ICCID, a whole number too, or None."""
    if type(raw) is int and raw.bit_length() < LONGEST:
        raw = str(raw)
    # Most of what is asked about here is the name of a field.
    if not isinstance(raw, str) or not MIN_DIGITS <= len(raw) <= LONGEST:
        return None
    if is_clean(raw):
        return raw
    text = NOISE.sub("", raw).rstrip("Ff")
    return text if _is_digits(text) and MIN_DIGITS <= len(text) <= MAX_DIGITS else None


def is_clean(raw: object) -> TypeGuard[str]:
    """Tell whether it is an ICCID with nothing to clean."""
    return type(raw) is str and MIN_DIGITS <= len(raw) <= MAX_DIGITS and _is_digits(raw)


def _is_digits(text: str) -> bool:
    return text.isdigit() and text.isascii()


def shown(raw: object) -> str:
    """Return how a message may show an item: it may be anything, an activation code too."""
    if not isinstance(raw, str):
        return "the item"
    text = raw if len(raw) <= 40 else raw[:37] + "..."
    looked_at = raw[:LONGEST].upper()
    is_code = "$" in looked_at or "LPA" in looked_at
    return "an activation code" if is_code else repr(text)


def are_clean(items: Sequence[object]) -> bool:
    """Tell of many items at once, in less than half the time of one after the other."""
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
    """Clean every ICCID, or name all that are wrong with their positions.

    Raises:
        InvalidRequest: With one fault for each bad item, positions counted from 0.
    """
    items = list(items)
    if len(items) <= PIECE and are_clean(items):
        return cast("list[str]", items)
    return list(chain.from_iterable(at_once(check_in_steps(items))))


def check_in_steps(items: Iterable[object]) -> Steps[deque[list[str]]]:
    """Do the same a piece at a time, and return the pieces.

    Raises:
        InvalidRequest: With one fault for each bad item, positions counted from 0.
    """
    pieces: deque[list[str]] = deque()
    faults: list[str] = []
    position = 0
    left = iter(items)
    while piece := list(islice(left, PIECE)):
        # Most lists are clean, and a call for each item takes ten times as long.
        if are_clean(piece):
            pieces.append(cast("list[str]", piece))
        else:
            for start in range(0, len(piece), FEW):
                pieces.append(_cleaned(piece[start : start + FEW], position + start, faults))
                yield
        position += len(piece)
        yield
    if faults:
        raise InvalidRequest(*faults)
    return pieces


def _cleaned(items: Sequence[object], first: int, faults: list[str]) -> list[str]:
    """Clean items one by one, and add what is wrong with them to the faults."""
    cleaned: list[str] = []
    for position, item in enumerate(items, first):
        try:
            cleaned.append(clean_iccid(item))
        except InvalidRequest as error:
            faults.append(f"item {position}: {error}")
    return cleaned

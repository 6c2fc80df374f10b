"""Strict readers of single values.

Each reader takes a value as the vendor may send it. It returns the value in Python's type, None
for "no value" (``null``, ``""``, ``NaN``), or raises ``ValueError``. No reader guesses: ``"0"`` is
not True, and None is not ``"None"``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from functools import wraps
from typing import Any, TypeVar

from mioesim_async.clock import GMT8

__all__ = [
    "DECIMAL_TEXT",
    "RETURNED_UNCHANGED",
    "decimal",
    "digits",
    "flag",
    "integer",
    "megabytes",
    "number",
    "text",
    "texts",
    "time_or_day_end",
    "time_or_day_start",
]

NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
AMOUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT])B?", re.IGNORECASE | re.ASCII)
MEGABYTES = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0 * 1024.0}
NO_VALUE = frozenset({"", "nan", "null", "none", "inf", "+inf", "-inf", "infinity", "-infinity"})
TIMESTAMP = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[ T](\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,6})\d*)?)?)?"
    r"\s*(?:\(GMT\+0?8(?::00)?\)|\+08:?00)?",
    re.ASCII,
)
US_DATE = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})(?:\s*\(GMT\+8\))?", re.ASCII)
NOT_READ = datetime.min.replace(tzinfo=GMT8)
DAY_END = time(23, 59, 59, 999999)

Reader = Callable[[Any], Any]
V = TypeVar("V")
MAX_CACHED = 512
"""Texts in one cache. A larger cache leaves the processor's cache, and then saves no time."""


class ReadCache(dict[Any, Any]):
    """The results of a reader by value; only results for texts are kept."""

    __slots__ = ("_read",)

    def __init__(self, read: Reader) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, value: Any) -> Any:
        found = self._read(value)
        if found is not None and type(value) is str:
            if len(self) == MAX_CACHED:
                # Clearing everything is cheaper than tracking which entries are used.
                self.clear()
            self[value] = found
        return found


def cached(read: Callable[[Any], V]) -> Callable[[Any], V]:
    """Make a reader cache its results for texts, since many cards have the same dates."""
    cache = ReadCache(read)

    @wraps(read)
    def read_cached(value: Any) -> V:
        found: V = cache[value] if type(value) is str else read(value)
        return found

    CACHES[read_cached] = cache
    return read_cached


CACHES: dict[Reader, ReadCache] = {}
"""The caches by reader, for ``compiled``, which looks values up without the reader's call."""


def text(value: object) -> str | None:
    """Read text; a number becomes its decimal digits."""
    if type(value) is str:
        return value or None
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError("expected text")
    return str(value)


def texts(value: object) -> list[str] | None:
    """Read a list of texts, or one text with commas; empty items are dropped."""
    if isinstance(value, str):
        value = value.split(",")
    if value is None:
        return None
    if not isinstance(value, list):
        raise ValueError("expected a list")
    return [item.strip() for raw in value if (item := text(raw)) and item.strip()]


def digits(value: object) -> str | None:
    """Read an identifier of digits, from text or a JSON integer; a fraction is refused."""
    if type(value) is str:
        return value.strip() or None
    if value is None:
        return None
    if type(value) is int:
        return str(value)
    raise ValueError("expected digits")


def number(value: object) -> float | None:
    """Read a number, also from text; infinities and NaN are no value."""
    if value is None:
        return None
    if isinstance(value, str):
        value = value.strip()
        if value.lower() in NO_VALUE:
            return None
        if not NUMBER.fullmatch(value):
            raise ValueError("expected a number")
    elif isinstance(value, bool) or not isinstance(value, float | int | Decimal):
        raise ValueError("expected a number")
    try:
        result = float(value)
    except OverflowError:
        return None
    return result if math.isfinite(result) else None


def integer(value: object) -> int | None:
    """Read a whole number, also from text or ``5.0``."""
    if type(value) is int:
        return value
    result = number(value)
    if result is None:
        return None
    if not result.is_integer() or abs(result) >= 2**53:
        raise ValueError("expected a whole number")
    return int(result)


def decimal(value: object) -> Decimal | None:
    """Read a price as the decimal number that its text shows."""
    result = number(value)
    if result is None:
        return None
    # repr() of a float is the shortest text for it, so 0.1 doesn't become 0.1000000000000000055.
    return Decimal(repr(value) if isinstance(value, float) else str(value).strip())


def flag(value: object) -> bool | None:
    """Read a yes or no: a JSON boolean, 0 or 1, or these as text."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, str):
        value = {"true": 1, "false": 0}.get(value.strip().lower(), value)
    result = integer(value)
    if result is None:
        return None
    if result not in (0, 1):
        raise ValueError("expected a yes or no")
    return result == 1


@cached
def megabytes(value: object) -> float | None:
    """Read an amount of data with a unit, such as ``6GB``, as megabytes (1 GB = 1024 MB).

    A bare number is refused, since its unit is unknown.
    """
    if value is None or value == "":
        return None
    match = AMOUNT.fullmatch(value.strip()) if isinstance(value, str) else None
    if not match:
        raise ValueError("expected an amount such as '6GB'")
    amount = number(match[1])
    return None if amount is None else amount * MEGABYTES[match[2].upper()]


def megabytes_or_number(value: object) -> float | None:
    """Read an amount with a unit, or a bare number, which is taken for megabytes."""
    if isinstance(value, str) and AMOUNT.fullmatch(value.strip()):
        return megabytes(value)
    return number(value)


@cached
def time_or_day_start(value: object) -> datetime | None:
    """Read a time in GMT+8; a date alone is the start of that day."""
    return _read_time(value, time())


@cached
def time_or_day_end(value: object) -> datetime | None:
    """Read a time in GMT+8; a date alone is the end of that day."""
    return _read_time(value, DAY_END)


RETURNED_UNCHANGED: dict[Reader, type] = {text: str, integer: int}
"""Readers that return every value of this type unchanged, except empty text."""

DECIMAL_TEXT: frozenset[Reader] = frozenset({number, megabytes_or_number})
"""Readers that return ``float(value)`` for text of digits with at most one point."""


def _read_time(value: object, time_if_missing: time) -> datetime | None:
    if type(value) is str and len(value) == 21 and value[4:20:3] == "-- ::.":
        # The usual form, "2024-12-24 17:30:14.0", is read without the slower regular expression.
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = NOT_READ
        if moment.tzinfo is None:
            # combine() is faster than replace(tzinfo=) in Python 3.11.
            return datetime.combine(moment, moment.time(), GMT8)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ValueError("expected a date")
    stripped = value.strip()
    if stripped.lower() in NO_VALUE:
        return None
    if match := TIMESTAMP.fullmatch(stripped):
        year, month, day = int(match[1]), int(match[2]), int(match[3])
        if match[4] is None:
            return _on_day(year, month, day, time_if_missing)
        micro = int((match[7] or "0").ljust(6, "0"))
        clock = (int(match[4]), int(match[5]), int(match[6] or 0), micro)
        return datetime(year, month, day, *clock, tzinfo=GMT8)
    if match := US_DATE.fullmatch(stripped):
        return _on_day(int(match[3]), int(match[1]), int(match[2]), time_if_missing)
    raise ValueError("expected a date such as '2024-12-24 17:30:14'")


def _on_day(year: int, month: int, day: int, at: time) -> datetime:
    return datetime.combine(date(year, month, day), at, tzinfo=GMT8)

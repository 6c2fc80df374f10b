"""Strict, deliberate readers of single values.

Each takes what the vendor may send and returns the value, or None for "no value"
(``null``, ``""``, ``NaN``), or raises ``ValueError``. Nothing is guessed: ``"0"`` is not
True, and None is not ``"None"``.
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
    "AS_IT_IS",
    "DECIMAL_TEXT",
    "decimal",
    "digits",
    "end_time",
    "flag",
    "integer",
    "megabytes",
    "number",
    "start_time",
    "text",
    "texts",
]

NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
AMOUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT])B?", re.IGNORECASE | re.ASCII)
MEGABYTES = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0 * 1024.0}
NO_VALUE = frozenset({"", "nan", "null", "none", "inf", "+inf", "-inf", "infinity", "-infinity"})
STAMP = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[ T](\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,6})\d*)?)?)?"
    r"\s*(?:\(GMT\+0?8(?::00)?\)|\+08:?00)?",
    re.ASCII,
)
AMERICAN = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})(?:\s*\(GMT\+8\))?", re.ASCII)
NOT_USUAL = datetime.min.replace(tzinfo=GMT8)
LAST_MOMENT = time(23, 59, 59, 999999)

Reader = Callable[[Any], Any]
V = TypeVar("V")
MAX_SEEN = 512
"""Larger ones don't stay in the processor's cache, and then remembering costs what it saves."""


class Memo(dict[Any, Any]):
    """What a reader gives, by what it was given; texts that it has read are remembered."""

    __slots__ = ("_read",)

    def __init__(self, read: Reader) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, value: Any) -> Any:
        found = self._read(value)
        if found is not None and type(value) is str:
            if len(self) == MAX_SEEN:
                # Forgetting all is cheaper than to keep track of which are used.
                self.clear()
            self[value] = found
        return found


def remembered(read: Callable[[Any], V]) -> Callable[[Any], V]:
    """Make a reader remember some hundred texts that it has read; cards share their dates."""
    memo = Memo(read)

    @wraps(read)
    def remember(value: Any) -> V:
        found: V = memo[value] if type(value) is str else read(value)
        return found

    MEMOS[remember] = memo
    return remember


MEMOS: dict[Reader, Memo] = {}
"""What readers remember, for those who look it up themselves."""


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
    """Read an identifier of digits; a JSON integer keeps all of them, a fraction is refused."""
    if type(value) is str:
        return value.strip() or None
    if value is None:
        return None
    if type(value) is int:
        return str(value)
    raise ValueError("expected digits")


def number(value: object) -> float | None:
    """Read a number, also from text; the infinities and NaN count as no value."""
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
    """Read a price from its text, never from a float's noise."""
    result = number(value)
    if result is None:
        return None
    # repr() of a float is the shortest text that means it, so no noise comes in.
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


@remembered
def megabytes(value: object) -> float | None:
    """Read an amount of data with its unit, such as ``6GB``, as megabytes (1 GB = 1024 MB).

    A bare number is refused: its unit would be a guess.
    """
    if value is None or value == "":
        return None
    match = AMOUNT.fullmatch(value.strip()) if isinstance(value, str) else None
    if not match:
        raise ValueError("expected an amount such as '6GB'")
    amount = number(match[1])
    return None if amount is None else amount * MEGABYTES[match[2].upper()]


def megabytes_or_number(value: object) -> float | None:
    """Read megabytes from a field whose name says so, with or without a unit."""
    if isinstance(value, str) and AMOUNT.fullmatch(value.strip()):
        return megabytes(value)
    return number(value)


@remembered
def start_time(value: object) -> datetime | None:
    """Read a time in GMT+8; a date alone is the start of that day."""
    return _moment(value, None)


@remembered
def end_time(value: object) -> datetime | None:
    """Read a time in GMT+8; a date alone is the end of that day."""
    return _moment(value, LAST_MOMENT)


AS_IT_IS: dict[Reader, type] = {text: str, integer: int}
"""Readers that give a value of this type back as it came, unless it is empty text."""

DECIMAL_TEXT: frozenset[Reader] = frozenset({number, megabytes_or_number})
"""Readers that give a ``float`` of text that is digits with at most one point."""


def _moment(value: object, of_day: time | None) -> datetime | None:
    if type(value) is str and len(value) == 21 and value[4:20:3] == "-- ::.":
        # The usual "2024-12-24 17:30:14.0", in a sixth of the pattern's time.
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = NOT_USUAL
        if moment.tzinfo is None:
            # replace(tzinfo=) takes three times as long in Python 3.11.
            return datetime.combine(moment, moment.time(), GMT8)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ValueError("expected a date")
    stripped = value.strip()
    if stripped.lower() in NO_VALUE:
        return None
    if match := STAMP.fullmatch(stripped):
        year, month, day = int(match[1]), int(match[2]), int(match[3])
        if match[4] is None:
            return _whole_day(year, month, day, of_day)
        micro = int((match[7] or "0").ljust(6, "0"))
        clock = (int(match[4]), int(match[5]), int(match[6] or 0), micro)
        return datetime(year, month, day, *clock, tzinfo=GMT8)
    if match := AMERICAN.fullmatch(stripped):
        return _whole_day(int(match[3]), int(match[1]), int(match[2]), of_day)
    raise ValueError("expected a date such as '2024-12-24 17:30:14'")


def _whole_day(year: int, month: int, day: int, of_day: time | None) -> datetime:
    return datetime.combine(date(year, month, day), of_day or time(), tzinfo=GMT8)

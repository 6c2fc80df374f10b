"""A slow and plain reader of a card's row, which the package's readers are compared with."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from mioesim_async.models.cards import CardStatus, DpStatus
from mioesim_async.rows import scalars

__all__ = ["slow_card"]

DAY = timedelta(days=1) - timedelta(microseconds=1)


def slow_time(value: Any, of_day: timedelta) -> datetime | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ValueError
    if value.strip().lower() in scalars.NO_VALUE:
        return None
    for form in ("%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f"):
        try:
            return datetime.strptime(value.strip(), form).replace(tzinfo=scalars.GMT8)
        except ValueError:
            continue
    for form in ("%Y-%m-%d", "%m/%d/%Y"):
        try:
            return datetime.strptime(value.strip(), form).replace(tzinfo=scalars.GMT8) + of_day
        except ValueError:
            continue
    raise ValueError


def slow_size(value: Any) -> float | None:
    if value is None or value == "":
        return None
    if isinstance(value, str) and value.endswith("GB"):
        return float(value[:-2]) * 1024
    raise ValueError


def slow_status(value: Any) -> DpStatus | None:
    text = scalars.text(value)
    return None if text is None else DpStatus(text)


def slow_amount(value: Any) -> float | None:
    try:
        return slow_size(value)
    except ValueError:
        return scalars.number(value)


def slow_start(value: Any) -> datetime | None:
    return slow_time(value, timedelta())


def slow_end(value: Any) -> datetime | None:
    return slow_time(value, DAY)


REMAINING = [
    "remainingMB",
    "remainMB",
    "surplusMB",
    "leftMB",
    "remainingData",
    "remainData",
    "surplusData",
    "remainFlow",
    "remainingFlow",
    "surplusFlow",
    "remaining",
]

# Field, spellings with the preferred one first, how it is read, and whether it must be readable.
RULES: list[tuple[str, list[str], Callable[[Any], Any], bool]] = [
    ("iccid", ["iccid"], lambda value: value if isinstance(value, str) and value else None, False),
    ("dp_status", ["dpStatus"], slow_status, True),
    ("used_mb", ["usedMB"], scalars.number, True),
    ("remaining_mb", REMAINING, slow_amount, False),
    ("total_mb", ["totalMB"], slow_amount, False),
    ("total_mb", ["data"], slow_size, False),
    ("starts_at", ["startDate", "startTime", "beginDate"], slow_start, False),
    ("ends_at", ["endDate", "endTime"], slow_end, False),
    ("order_num", ["orderNum"], scalars.text, False),
    ("sku_id", ["skuId"], scalars.integer, False),
]


def alike(one: str, other: str) -> bool:
    return one.replace("_", "").lower() == other.replace("_", "").lower()


def slow_card(row: dict[str, Any]) -> CardStatus | None:
    """Read a row; None if a strict field can't be read."""
    card = CardStatus()
    left = dict(row)
    filled: set[str] = set()
    for field, spellings, read, strict in RULES:
        for spelling in spellings:
            for key, raw in row.items():
                if not alike(key, spelling):
                    continue
                try:
                    value = read(raw)
                except ValueError:
                    if strict:
                        return None
                    continue
                if value is None:
                    del left[key]
                elif field not in filled:
                    filled.add(field)
                    setattr(card, field, value)
                    del left[key]
    card.extra = left
    return card

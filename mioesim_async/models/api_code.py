"""Parses the vendor's codes of packages."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Self

from attrs import frozen

from mioesim_async.errors import InvalidRequest
from mioesim_async.models.coverage import alpha2, is_region

__all__ = ["ApiCode"]

WHOLE = "0|[1-9][0-9]{0,8}"
PARTS = (
    ("country", "[0-9]{1,5}", "a number of 1 to 5 digits"),
    ("flag", "[01]", "0 or 1"),
    ("days", rf"\?|{WHOLE}", "a whole number without leading zeros, or '?'"),
    ("amount", rf"(?:{WHOLE})(?:\.[0-9]{{1,9}})?", "a number without leading zeros"),
    ("unit", "[GM]", "G or M"),
)
MEGABYTES = {"M": 1.0, "G": 1024.0}
DAY_SUFFIX = "-D"
MAX_SHOWN = 60


@frozen
class ApiCode:
    """One ``apiCode``: ``<country>-<0|1>-<days or ?>-<amount>-<G|M>[-D]`` (observed).

    ``ApiCode.parse(text)`` reads a code, and ``str()`` returns the same text. A code is unique
    only within its SKU.

    Attributes:
        country: ISO 3166-1 number without leading zeros, or 99xxx for a region (observed).
        flag: 0 or 1; what it means is not known.
        days: Length of the plan in days; None if the code has ``?``.
        amount: Amount of data, in ``unit``; per day for a day pass (assumed).
        unit: ``G`` or ``M``.
        day_suffix: Whether the code ends in ``-D``.
    """

    country: str
    flag: int
    days: int | None
    amount: Decimal
    unit: str
    day_suffix: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a code.

        Raises:
            InvalidRequest: If the text doesn't have this form; the message names the wrong part.
        """
        if not isinstance(text, str):
            raise InvalidRequest(f"an apiCode is text, not {type(text).__name__}")
        body = text.removesuffix(DAY_SUFFIX)
        parts = body.split("-")
        if len(parts) != len(PARTS):
            raise InvalidRequest(
                f"apiCode {text[:MAX_SHOWN]!r} is not "
                "<country>-<0|1>-<days or ?>-<amount>-<G|M>[-D]"
            )
        faults = [
            f"{name} of apiCode {text[:MAX_SHOWN]!r} must be {rule}"
            for part, (name, pattern, rule) in zip(parts, PARTS, strict=True)
            if not re.fullmatch(pattern, part)
        ]
        if faults:
            raise InvalidRequest(*faults)
        country, flag, days, amount, unit = parts
        length = None if days == "?" else int(days)
        return cls(country, int(flag), length, Decimal(amount), unit, body != text)

    def __str__(self) -> str:
        """Return the code as the vendor writes it."""
        days = "?" if self.days is None else self.days
        tail = DAY_SUFFIX if self.day_suffix else ""
        return f"{self.country}-{self.flag}-{days}-{self.amount:f}-{self.unit}{tail}"

    @property
    def is_day_pass(self) -> bool:
        """Whether the package is a day pass: its code has ``?`` or ends in ``-D`` (observed)."""
        return self.day_suffix or self.days is None

    @property
    def data_mb(self) -> float:
        """Amount of data in MB (1 GB = 1024 MB)."""
        return float(self.amount) * MEGABYTES[self.unit]

    @property
    def country_alpha2(self) -> str | None:
        """The country as ISO 3166-1 alpha-2; None for a region and an unknown number.

        Raises:
            ConfigurationError: If the extra ``coverage`` is not installed; never for a region.
        """
        return alpha2(self.country)

    @property
    def is_region(self) -> bool:
        """Whether the code is for one of the vendor's regions, 99xxx (observed)."""
        return is_region(self.country)

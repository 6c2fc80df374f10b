"""Reads the parameters of a call, and refuses those that are missing or wrong."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping

__all__ = ["Params", "Refusal", "day", "items", "number", "number_or_none", "text"]

Params = Mapping[str, str]
DAYS = (("%m/%d/%Y", r"\d{2}/\d{2}/\d{4}"), ("%Y-%m-%d", r"\d{4}-\d{2}-\d{2}"))


class Refusal(Exception):
    """The answer to the call is a code that is not success."""

    def __init__(self, code: int, message: str) -> None:
        """Keep the code and the message."""
        super().__init__(message)
        self.code = code
        self.message = message


def text(params: Params, name: str, code: int = -2) -> str:
    """Return a parameter; refuse if it is missing."""
    value = params.get(name, "")
    if not value:
        raise Refusal(code, f"{name} is missing")
    return value


def number_or_none(params: Params, name: str) -> int | None:
    """Return a whole number, or None if it was not sent; refuse anything else (assumed)."""
    value = params.get(name, "")
    if value and not re.fullmatch("[0-9]{1,9}", value):
        raise Refusal(-2, f"{name} is no number")
    return int(value) if value else None


def number(params: Params, name: str, code: int = -2) -> int:
    """Return a whole number; refuse if it is missing or anything else."""
    text(params, name, code)
    return number_or_none(params, name) or 0


def items(params: Params, name: str) -> list[str]:
    """Return the items of a comma-separated list, each once."""
    return list(dict.fromkeys(part for part in params.get(name, "").split(",") if part))


def day(params: Params, name: str, code: int = -2, forms: int = 1) -> dt.date | None:
    """Return a day, or None if it was not sent; refuse anything else.

    Args:
        params: What was sent.
        name: Name of the parameter.
        code: The code to refuse with (assumed).
        forms: 1 takes ``MM/dd/yyyy`` alone, 2 also ``yyyy-MM-dd``.
    """
    value = params.get(name, "")
    for form, pattern in DAYS[:forms]:
        if re.fullmatch(pattern, value, re.ASCII):
            try:
                return dt.datetime.strptime(value, form).date()  # noqa: DTZ007 - a day has no zone
            except ValueError:
                break
    if value:
        raise Refusal(code, f"{name} is no date")
    return None

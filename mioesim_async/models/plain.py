"""Models as plain data, ready for JSON."""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import attrs

from mioesim_async.errors import MioEsimError
from mioesim_async.models.activation import ActivationCode
from mioesim_async.models.api_code import ApiCode
from mioesim_async.wire.depth import CUT, MAX_DEPTH

__all__ = ["to_dict"]

CONTAINERS = (dict, list, tuple)
LEVELS = 2 * MAX_DEPTH
"""So deep a model is written out; no reply fills it deeper."""


def to_dict(model: Any) -> Any:
    """Turn a model, or a list or dict of them, into what ``json.dumps`` takes.

    Times become ISO 8601 text with their offset, money becomes text, statuses the vendor's
    spelling. The activation code is written out: whoever gets the result can use the eSIM.
    What is nested deeper than 128 levels is left out; no reply fills a model deeper than 64.
    """
    return _plain(model, LEVELS)


def _plain(model: Any, levels: int) -> Any:
    write, fields = _kind(model.__class__)
    if write is not None:
        return write(model)
    if fields is None and not isinstance(model, CONTAINERS):
        return model
    if not levels:
        return CUT
    if fields is not None:
        return {name: _plain(getattr(model, name), levels - 1) for name in fields}
    if isinstance(model, dict):
        return {str(key): _plain(item, levels - 1) for key, item in model.items()}
    return [_plain(item, levels - 1) for item in model]


@lru_cache(maxsize=256)
def _kind(kind: type) -> tuple[Callable[[Any], Any] | None, tuple[str, ...] | None]:
    """Return what writes values of a type whole, or None, and the fields of a model, or None."""
    write = next((write for known, write in PLAIN.items() if issubclass(kind, known)), None)
    return write, tuple(attrs.fields_dict(kind)) if attrs.has(kind) else None


PLAIN: dict[type, Callable[[Any], Any]] = {
    enum.Enum: lambda member: member.value,
    Decimal: str,
    datetime: datetime.isoformat,
    ActivationCode: str,
    ApiCode: str,
    MioEsimError: lambda error: {"type": type(error).__name__, "message": str(error)},
}

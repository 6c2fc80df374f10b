"""Turns models into plain data for JSON."""

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
MAX_LEVELS = 2 * MAX_DEPTH
"""Levels of a model that are written. A model from a reply has fewer."""


def to_dict(model: Any) -> Any:
    """Turn a model, or a list or dict of models, into data for ``json.dumps``.

    Times become ISO 8601 text with their offset, prices become text, and statuses the vendor's
    spelling. The activation code is not masked: anyone who has the result can use the eSIM.
    Values below 128 levels are left out; no reply has more than 64.
    """
    return _plain(model, MAX_LEVELS)


def _plain(model: Any, levels: int) -> Any:
    write, fields = _writer_and_fields(model.__class__)
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
def _writer_and_fields(kind: type) -> tuple[Callable[[Any], Any] | None, tuple[str, ...] | None]:
    """Return the writer for values of a type, or None, and the fields of a model, or None."""
    write = next((write for known, write in WRITERS.items() if issubclass(kind, known)), None)
    return write, tuple(attrs.fields_dict(kind)) if attrs.has(kind) else None


WRITERS: dict[type, Callable[[Any], Any]] = {
    enum.Enum: lambda member: member.value,
    Decimal: str,
    datetime: datetime.isoformat,
    ActivationCode: str,
    ApiCode: str,
    MioEsimError: lambda error: {"type": type(error).__name__, "message": str(error)},
}

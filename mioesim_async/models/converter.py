"""The one converter between the vendor's rows, the models, and plain data."""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import attrs

from mioesim_async.errors import MioEsimError
from mioesim_async.models import (
    card_rows,
    catalogue_rows,
    order_rows,
)
from mioesim_async.models.activation import ActivationCode
from mioesim_async.models.api_code import ApiCode
from mioesim_async.models.reader import hook_for, sort_rows, structure, structure_rows

__all__ = ["hook_for", "sort_rows", "structure", "structure_rows", "to_dict"]

TABLES = (card_rows, catalogue_rows, order_rows)
"""Importing them fills the layouts."""


def to_dict(model: Any) -> Any:
    """Turn a model, or a list or dict of them, into what ``json.dumps`` takes.

    Times become ISO 8601 text with their offset, money becomes text, statuses the vendor's
    spelling. The activation code is written out: whoever gets the result can take the line.
    """
    for kind, write in PLAIN.items():
        if isinstance(model, kind):
            return write(model)
    if attrs.has(type(model)):
        return {name: to_dict(getattr(model, name)) for name in attrs.fields_dict(type(model))}
    if isinstance(model, dict):
        return {str(key): to_dict(item) for key, item in model.items()}
    if isinstance(model, list | tuple):
        return [to_dict(item) for item in model]
    return model


PLAIN: dict[type, Callable[[Any], Any]] = {
    enum.Enum: lambda member: member.value,
    Decimal: str,
    datetime: datetime.isoformat,
    ActivationCode: str,
    ApiCode: str,
    MioEsimError: lambda error: {"type": type(error).__name__, "message": str(error)},
}

"""JSON Schemas of the models, made of their types."""

from __future__ import annotations

import enum
import types
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import attrs

from mioesim_async.errors import InvalidRequest, MioEsimError
from mioesim_async.models.activation import ActivationCode
from mioesim_async.models.api_code import ApiCode
from mioesim_async.models.cards import DpStatus
from mioesim_async.models.orders import OrderStatus
from mioesim_async.models.plain import is_hidden

__all__ = ["json_schema"]

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
SCALARS: Mapping[Any, Schema] = {
    Any: {},
    str: TEXT,
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    type(None): {"type": "null"},
    datetime: {"type": "string", "format": "date-time"},
    date: {"type": "string", "format": "date"},
    Decimal: {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?(E[+-]?[0-9]+)?$"},
    ActivationCode: TEXT,
    ApiCode: TEXT,
    # Examples and no "enum", since statuses that the vendor adds are kept.
    DpStatus: {"type": "string", "examples": [status.value for status in DpStatus]},
    OrderStatus: {"type": "integer", "examples": [status.value for status in OrderStatus]},
}
"""Schemas of what ``to_dict`` writes, by type."""

ERROR: Schema = {
    "title": "Error",
    "type": "object",
    "properties": {"type": TEXT, "message": TEXT},
    "required": ["type", "message"],
}


def json_schema(model: type, *, activation: bool = False) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of what ``to_dict`` returns for a model.

    All fields are required, since ``to_dict`` writes each; other fields are allowed, so that
    later versions of the SDK may add some.

    Args:
        model: The class of the model, such as ``CardStatus``.
        activation: Describe ``to_dict(model, activation=True)``, with activation codes.

    Raises:
        InvalidRequest: If it is not a class of a model, or has a field that JSON can't hold.
    """
    if not attrs.has(model) or model in SCALARS:
        raise InvalidRequest("json_schema takes the class of a model, such as CardStatus")
    definitions: dict[str, Schema] = {}
    reference = _of_model(model, definitions, activation=activation)
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {**dialect, **reference, "$defs": definitions}


def _of_model(model: type, definitions: dict[str, Schema], *, activation: bool) -> Schema:
    name = model.__name__
    if name not in definitions:
        definitions[name] = {}
        hints = get_type_hints(model)
        properties = {
            field.name: _of_type(hints[field.name], definitions, activation=activation)
            for field in attrs.fields(model)
            if activation or not is_hidden(field)
        }
        definitions[name] = {
            "title": name,
            "type": "object",
            "properties": properties,
            "required": list(properties),
        }
    return {"$ref": f"#/$defs/{name}"}


def _of_type(kind: Any, definitions: dict[str, Schema], *, activation: bool) -> Schema:
    """Return the schema of a type, and add those of models in it to the definitions."""

    def inner(part: Any) -> Schema:
        return _of_type(part, definitions, activation=activation)

    if kind in SCALARS:
        return dict(SCALARS[kind])
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return {"anyOf": [inner(part) for part in parts]}
    if origin in (list, tuple, Sequence):
        return {"type": "array", "items": inner(parts[0])}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": inner(parts[1])}
    if isinstance(kind, TypeVar):
        return inner(kind.__bound__)
    if isinstance(kind, type) and issubclass(kind, MioEsimError):
        definitions["Error"] = dict(ERROR)
        return {"$ref": "#/$defs/Error"}
    if isinstance(kind, type) and attrs.has(kind):
        return _of_model(kind, definitions, activation=activation)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return {"enum": [member.value for member in kind]}
    raise InvalidRequest(f"json_schema doesn't know how JSON holds {kind!r}")

"""Turns models into plain data for JSON."""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import Any

import attrs

from mioesim_async.errors import MioEsimError
from mioesim_async.models.activation import ActivationCode, InstallLinks
from mioesim_async.models.api_code import ApiCode
from mioesim_async.models.hiding import HIDDEN, without_codes, without_lpa
from mioesim_async.wire.depth import CUT, MAX_DEPTH

__all__ = ["is_hidden", "to_dict", "written", "written_extra"]

CONTAINERS = (dict, list, tuple)
MAX_LEVELS = 2 * MAX_DEPTH
"""Levels of a model that are written. A model from a reply has fewer."""


SECRETS = (ActivationCode, InstallLinks)

InPlace = Callable[[str, Any], dict[str, Any]]
"""What to write in place of a field that leads to an activation code, by its name and value."""


def to_dict(model: Any, *, activation: bool = False) -> Any:
    """Turn a model, or a list or dict of models, into data for ``json.dumps``.

    Times become ISO 8601 text with their offset, prices become text, and statuses the vendor's
    spelling. Values below 128 levels are left out; no reply has more than 64.

    Activation codes are left out, since anyone who has one can use the eSIM: the fields
    ``activation``, ``pdf_url`` and ``links`` of models, and from their ``extra`` every URL, every
    LPA text, and every field whose name says that it holds a code or an address, nested ones too.
    In other text an LPA text becomes ``***``. A dict of your own keeps its fields and its URLs, so
    pass the card, not ``card.extra``.

    Args:
        model: What to turn into data.
        activation: Leave nothing out. Whoever gets the data can then use the eSIMs.
    """
    return written(model, None if activation else _left_out)


def written(model: Any, in_place: InPlace | None) -> Any:
    """Do the work of ``to_dict``.

    Args:
        model: What to turn into data.
        in_place: Returns what to write in place of a hidden field; None hides nothing.
    """
    if in_place is not None and isinstance(model, SECRETS):
        return None
    return _plain(model, MAX_LEVELS, in_place)


def written_extra(extra: Any) -> Any:
    """Turn the ``extra`` of a model into data for JSON, without codes and what leads to one."""
    return _without_codes(extra, MAX_LEVELS)


def is_hidden(attribute: attrs.Attribute[Any]) -> bool:
    """Tell whether a model's field holds an activation code, or leads to one."""
    return HIDDEN.keys() <= attribute.metadata.keys()


def _left_out(_name: str, _value: Any) -> dict[str, Any]:
    return {}


def _without_codes(extra: Any, levels: int) -> Any:
    # Written whole at first: a field that holds an LPA text is left out, not masked.
    return without_codes(_plain(extra, levels, None))


def _plain(model: Any, levels: int, in_place: InPlace | None) -> Any:
    write, fields = _writer_and_fields(model.__class__)
    if write is not None:
        model = write(model)
    elif fields is not None or isinstance(model, CONTAINERS):
        return _nested(model, fields, levels - 1, in_place) if levels else CUT
    return without_lpa(model) if in_place is not None and isinstance(model, str) else model


def _nested(
    model: Any, fields: dict[str, bool] | None, levels: int, in_place: InPlace | None
) -> Any:
    if fields is not None:
        return _fields_of(model, fields, levels, in_place)
    secrets = () if in_place is None else SECRETS
    if isinstance(model, dict):
        return {
            _plain(str(key), levels, in_place): _plain(item, levels, in_place)
            for key, item in model.items()
            if not isinstance(item, secrets)
        }
    return [_plain(item, levels, in_place) for item in model if not isinstance(item, secrets)]


def _fields_of(
    model: Any, fields: dict[str, bool], levels: int, in_place: InPlace | None
) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, hides in fields.items():
        value = getattr(model, name)
        if in_place is None:
            kept[name] = _plain(value, levels, None)
        elif hides:
            kept |= in_place(name, value)
        elif name == "extra":
            kept[name] = _without_codes(value, levels)
        else:
            kept[name] = _plain(value, levels, in_place)
    return kept


@lru_cache(maxsize=256)
def _writer_and_fields(
    kind: type,
) -> tuple[Callable[[Any], Any] | None, dict[str, bool] | None]:
    """Return the writer for values of a type, or None, and the fields of a model, or None.

    Each field comes with whether it is hidden.
    """
    write = next((write for known, write in WRITERS.items() if issubclass(kind, known)), None)
    if not attrs.has(kind):
        return write, None
    return write, {name: is_hidden(field) for name, field in attrs.fields_dict(kind).items()}


WRITERS: dict[type, Callable[[Any], Any]] = {
    enum.Enum: lambda member: member.value,
    Decimal: str,
    date: lambda moment: moment.isoformat(),
    ActivationCode: str,
    ApiCode: str,
    MioEsimError: lambda error: {"type": type(error).__name__, "message": without_lpa(str(error))},
}

"""Straight-line readers of rows: one function for each shape of row that comes.

The rows of a reply have the same keys in the same order, with few exceptions. Which value fills
which field is decided once a shape, and not again for each of a million rows: that makes reading
a card five times cheaper. Such a function is sure of what it reads, or it raises ``ValueError``
or ``TypeError``, and the plain reader has the last word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import repeat
from operator import itemgetter
from typing import Any

import attrs

from mioesim_async.rows.scalars import AS_IT_IS, DECIMAL_TEXT, MEMOS
from mioesim_async.wire.depth import CONTAINERS, is_too_deep

__all__ = ["Reader", "ShapeReaders"]

Reader = Callable[[Any], Any]
ManyReader = Callable[[list[dict[str, Any]]], list[Any]]
Spelling = tuple[str, Reader, bool, int]
"""Field, reader, strict, rank."""

MAX_SHAPES = 64
MAX_KEYS = 64
LONGEST_NUMBER = 300
"""A longer one may be too large for a float."""


NONE_USUAL: tuple[int, ManyReader] = (-1, list)


class ShapeReaders(dict[tuple[str, ...], ManyReader | None]):
    """By shape, what reads many rows of it; None where only the plain rules can tell."""

    def __init__(self, cls: type, spellings: Mapping[str, Spelling | None]) -> None:
        """Read rows of a model."""
        super().__init__()
        self._cls = cls
        self._spellings = spellings
        self._usual = NONE_USUAL

    def __missing__(self, shape: tuple[str, ...]) -> ManyReader | None:
        """Make the reader of a new shape, as long as there are not too many."""
        if len(self) == MAX_SHAPES or not 0 < len(shape) <= MAX_KEYS:
            return None
        found = [self._spellings[key] for key in shape]
        fields = [spelling[0] for spelling in found if spelling is not None]
        # Which of two spellings wins depends on the values.
        twice = len(set(fields)) < len(fields)
        reader = self[shape] = None if twice else _compiled(self._cls, shape, found)
        return reader

    def read(self, rows: list[Any]) -> list[Any] | None:
        """Read rows that hold no surprise, in no order; None where one does."""
        if {*map(type, rows)} != {dict}:
            return None
        try:
            size, reader = self._usual
            if {*map(len, rows)} == {size}:
                # Rows of the usual keys need no further look at their shape.
                return reader(rows)
        except (KeyError, TypeError, ValueError):
            pass
        return self._read_by_shape(rows)

    def _read_by_shape(self, rows: list[dict[str, Any]]) -> list[Any] | None:
        by_shape: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for row in rows:
            by_shape.setdefault(tuple(row), []).append(row)
        models: list[Any] = []
        for shape, alike in by_shape.items():
            reader = self[shape]
            if reader is None:
                return None
            try:
                models += reader(alike)
            except (TypeError, ValueError):
                return None
            self._usual = (len(shape), reader) if len(by_shape) == 1 else NONE_USUAL
        return models


def _compiled(cls: type, shape: tuple[str, ...], found: list[Spelling | None]) -> ManyReader:
    """Write the reader of a shape down; no word of the host's gets into its source."""
    names: dict[str, Any] = {
        "check": _check_depth,
        "containers": CONTAINERS,
        "blank": partial(repeat, cls),
        "never": object(),
        "new": object.__new__,
        "values": _values_of(*shape),
    }
    values = "".join(f"v{i}, " for i in range(len(shape)))
    before: list[str] = []
    position = {spelling[0]: i for i, spelling in enumerate(found) if spelling is not None}
    lines = [f"{values}= values(row)"]
    for name, field in attrs.fields_dict(cls).items():
        default = f"d_{name}"
        names[default] = field.default
        if name == "extra":
            rest = [i for i, spelling in enumerate(found) if spelling is None]
            names |= {f"k{i}": shape[i] for i in rest}
            lines += [f"if type(v{i}) in containers: check(v{i})" for i in rest]
            value = f"{{{', '.join(f'k{i}: v{i}' for i in rest)}}}"
        elif (spelling := found[position[name]] if name in position else None) is not None:
            i, read = position[name], spelling[1]
            value = _expression(i, read, names)
            if read in MEMOS:
                # Rows that follow each other often say the same, of one order's times above all.
                before.append(f"p{i} = never")
                lines.append(
                    f"if v{i} != p{i}: s{i} = {value}; p{i} = v{i} if type(v{i}) is str else never"
                )
                value = f"s{i}"
            if field.default is not None:
                value = f"{default} if (value := {value}) is None else value"
        elif (factory := getattr(field.default, "factory", None)) is not None:
            names[default], value = factory, f"{default}()"
        else:
            value = default
        lines.append(f"model.{name} = {value}")
    source = "\n".join(
        [
            "def read(rows):",
            # Setting slots takes half the time of calling the class.
            *[f" {line}" for line in before],
            " models = [*map(new, blank(len(rows)))]",
            " for model, row in zip(models, rows):",
            *[f"  {line}" for line in lines],
            " return models",
        ]
    )
    exec(source, names)  # noqa: S102 - of our own names only
    reader: ManyReader = names["read"]
    return reader


def _check_depth(value: object) -> None:
    if is_too_deep(value):
        raise ValueError("it is nested too deeply")


def _values_of(first: str, *others: str) -> Reader:
    # With a single key, itemgetter gives no tuple.
    return itemgetter(first, *others) if others else lambda row: (row[first],)


def _expression(i: int, read: Reader, names: dict[str, Any]) -> str:
    """Write how one value is read, with a call only where it is no plain case."""
    names[f"r{i}"] = read
    if read in AS_IT_IS:
        names[f"t{i}"] = AS_IT_IS[read]
        full = f" and v{i}" if AS_IT_IS[read] is str else ""
        return f"v{i} if type(v{i}) is t{i}{full} else r{i}(v{i})"
    if read in MEMOS:
        names[f"m{i}"] = MEMOS[read]
        return f"m{i}[v{i}]"
    if read in DECIMAL_TEXT:
        digits = f"v{i}.isascii() and v{i}.replace('.', '', 1).isdigit()"
        text = f"float(v{i}) if type(v{i}) is str and {digits} and len(v{i}) < {LONGEST_NUMBER}"
        return f"v{i} if type(v{i}) is float and v{i} - v{i} == 0 else {text} else r{i}(v{i})"
    return f"r{i}(v{i})"

"""Reads many rows at once, column by column. This module exists for speed only.

Most rows of a reply have the same keys in the same order: the same shape. Which key fills which
field is decided once for each shape, and a column of plain values is read by a few calls that
loop in C. The reader of a shape raises ``KeyError``, ``TypeError`` or ``ValueError`` for any
unusual row or value; the caller then reads every row with ``layout.RowReader``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import repeat
from math import isfinite
from operator import itemgetter
from typing import Any

import attrs

from mioesim_async.rows.scalars import CACHES, DECIMAL_TEXT, RETURNED_UNCHANGED
from mioesim_async.wire.depth import CONTAINERS, is_too_deep

__all__ = ["Reader", "ShapeReaders"]

Reader = Callable[[Any], Any]
ManyReader = Callable[[list[dict[str, Any]]], list[Any]]
ColumnReader = Callable[[Sequence[Any]], Sequence[Any]]
Spelling = tuple[str, Reader, bool, int]
"""The field, its reader, whether the rule is strict, and the rank of the spelling."""

MAX_SHAPES = 64
MAX_KEYS = 64

NO_USUAL_SHAPE: tuple[int, ManyReader] = (-1, list)


class ShapeReaders(dict[tuple[str, ...], ManyReader | None]):
    """Readers of many rows by shape; None for a shape that ``RowReader`` must read."""

    def __init__(self, cls: type, spellings: Mapping[str, Spelling | None]) -> None:
        """Read rows of a model."""
        super().__init__()
        self._cls = cls
        self._spellings = spellings
        self._usual = NO_USUAL_SHAPE

    def __missing__(self, shape: tuple[str, ...]) -> ManyReader | None:
        """Make the reader of a new shape, unless there are too many shapes or keys."""
        if len(self) == MAX_SHAPES or not 0 < len(shape) <= MAX_KEYS:
            return None
        found = [self._spellings[key] for key in shape]
        fields = [spelling[0] for spelling in found if spelling is not None]
        # Two keys fill one field, and which of them wins depends on the values.
        twice = len(set(fields)) < len(fields)
        reader = self[shape] = None if twice else _shape_reader(self._cls, shape, found)
        return reader

    def read(self, rows: list[Any]) -> list[Any] | None:
        """Read rows, and return their models in any order; None if any row is unusual."""
        if not rows:
            return []
        if {*map(type, rows)} != {dict}:
            return None
        try:
            size, reader = self._usual
            if {*map(len, rows)} == {size}:
                # The reader raises KeyError if the keys are not those of its shape.
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
            self._usual = (len(shape), reader) if len(by_shape) == 1 else NO_USUAL_SHAPE
        return models


def _shape_reader(cls: type, shape: tuple[str, ...], found: list[Spelling | None]) -> ManyReader:
    """Compile the reader of a shape. Its source contains no text from the host."""
    position = {spelling[0]: i for i, spelling in enumerate(found) if spelling is not None}
    readers = [_check_column if one is None else _column_reader(one[1]) for one in found]
    names: dict[str, Any] = {
        "blank": partial(repeat, cls),
        "new": object.__new__,
        "readers": readers,
        "values": _values_of(*shape),
        **{f"k{i}": key for i, key in enumerate(shape)},
    }
    lines: list[str] = []
    for name, field in attrs.fields_dict(cls).items():
        default = f"d_{name}"
        names[default] = field.default
        if name == "extra":
            rest = [i for i, spelling in enumerate(found) if spelling is None]
            value = f"{{{', '.join(f'k{i}: v{i}' for i in rest)}}}"
        elif name in position:
            value = f"v{position[name]}"
            if field.default is not None:
                value = f"{default} if {value} is None else {value}"
        elif (factory := getattr(field.default, "factory", None)) is not None:
            names[default], value = factory, f"{default}()"
        else:
            value = default
        lines.append(f"  model.{name} = {value}")
    each = "".join(f"v{i}, " for i in range(len(shape)))
    source = "\n".join(
        [
            "def read(rows):",
            " columns = zip(*map(values, rows))",
            " columns = [read(column) for read, column in zip(readers, columns)]",
            # Setting the slots is faster than calling the class.
            " models = [*map(new, blank(len(rows)))]",
            f" for model, {each}in zip(models, *columns):",
            *lines,
            " return models",
        ]
    )
    exec(source, names)  # noqa: S102 - the source has only our own names
    reader: ManyReader = names["read"]
    return reader


def _values_of(first: str, *others: str) -> Reader:
    # With a single key, itemgetter returns no tuple.
    return itemgetter(first, *others) if others else lambda row: (row[first],)


def _check_column(column: Sequence[Any]) -> Sequence[Any]:
    """Check and return a column of a field that the layout doesn't name."""
    if not CONTAINERS.isdisjoint(map(type, column)) and any(map(is_too_deep, column)):
        raise ValueError("it is nested too deeply")
    return column


def _column_reader(read: Reader) -> ColumnReader:
    """Return a reader of columns that gives the results of a reader of values."""
    if read in CACHES:
        read = CACHES[read].__getitem__
    elif read in RETURNED_UNCHANGED:
        return partial(_unchanged_column, read, {RETURNED_UNCHANGED[read]})
    elif read in DECIMAL_TEXT:
        return partial(_number_column, read)
    return lambda column: [*map(read, column)]


def _unchanged_column(read: Reader, kinds: set[type], column: Sequence[Any]) -> Sequence[Any]:
    is_plain = {*map(type, column)} == kinds and "" not in column
    return column if is_plain else [*map(read, column)]


def _number_column(read: Reader, column: Sequence[Any]) -> Sequence[Any]:
    kinds = {*map(type, column)}
    found = column
    if kinds == {str}:
        digits = "".join(column)
        # float() also accepts blanks and underscores, which the reader refuses.
        if digits.isascii() and digits.replace(".", "").isdigit():
            found, kinds = [*map(float, column)], {float}
    is_plain = kinds == {float} and isfinite(sum(found))
    return found if is_plain else [*map(read, column)]

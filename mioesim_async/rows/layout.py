"""The one machine that turns the vendor's rows into models.

Which spellings fill which field is a table per model (a layout); everything else of a row
goes to ``extra``. Spellings match without regard to case and underscores. The reader is our own
and not cattrs: it reads several spellings of a field, keeps unknown fields, and is faster.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import attrs

from mioesim_async.errors import ProtocolError
from mioesim_async.models.iccid import iccid_or_none
from mioesim_async.rows.compiled import Reader, ShapeReaders
from mioesim_async.slices import Steps, at_once
from mioesim_async.wire.depth import CONTAINERS, MAX_DEPTH, is_too_deep

__all__ = [
    "LAYOUTS",
    "Layout",
    "RowReader",
    "Wire",
    "clean_rows",
    "is_wrapper",
    "normalised",
    "reader_of",
    "report_once",
    "rows_of",
    "sort_in_steps",
    "sort_rows",
    "structure",
    "structure_in_steps",
    "structure_rows",
]

logger = logging.getLogger("mioesim_async")

T = TypeVar("T")
Finish = Callable[[dict[str, Any], dict[str, Any]], None]
Nested = Callable[[dict[str, Any], dict[str, Any]], Steps[None]]

MOST_FIELDS = 2000
"""More fields make a row unreadable; rows were seen with up to 40."""


WRAPPED = ("rows", "list", "records", "data")


@attrs.frozen
class Wire:
    """How one field is read.

    Attributes:
        names: The vendor's spellings, the preferred one first.
        read: Reads the value.
        strict: A value that can't be read makes the row unreadable; else it stays in
            ``extra`` and is reported once.
        other: Less preferred spellings whose values are read in another way.
    """

    names: tuple[str, ...]
    read: Reader
    strict: bool = False
    other: Mapping[str, Reader] = attrs.field(factory=dict)

    def readers(self) -> Iterator[tuple[str, Reader]]:
        """Give each spelling with its reader, the preferred one first."""
        yield from ((name, self.read) for name in self.names)
        yield from self.other.items()


@attrs.frozen
class Layout:
    """How one model is read.

    Attributes:
        fields: The fields, by name.
        finish: Fills more fields from what is left.
        nested: Reads rows that are in a row, in steps, before ``finish``.
    """

    fields: Mapping[str, Wire]
    finish: Finish | None = None
    nested: Nested | None = None


LAYOUTS: dict[type, Layout] = {}
"""Filled by the modules that hold the tables."""

MOST_REPORTED = 1000
"""What is reported once has names that come from outside, so there may be any number of them."""

_reported: set[tuple[str, str]] = set()


def report_once(model: str, name: str, problem: str) -> None:
    """Tell once per process that a field can't be read, and no more than 1,000 of them.

    The value may be a secret.
    """
    if (model, name) not in _reported and len(_reported) < MOST_REPORTED:
        _reported.add((model, name))
        logger.warning("%s: %s %s; kept in extra, reported once", model, name, problem)


def normalised(name: str) -> str:
    """Return the name of a field without what the vendor's spellings of it differ in."""
    return name.replace("_", "").lower()


MAX_SPELLINGS = 1024


class Spellings(dict[str, tuple[str, Reader, bool, int] | None]):
    """Field by the vendor's spelling; a new spelling is normalised once."""

    def __init__(self, fields: Mapping[str, Wire]) -> None:
        self._known = {
            normalised(name): (field, read, wire.strict, rank)
            for field, wire in fields.items()
            for rank, (name, read) in enumerate(wire.readers())
        }

    def __missing__(self, key: str) -> tuple[str, Reader, bool, int] | None:
        found = self._known.get(normalised(key))
        if len(self) < MAX_SPELLINGS:
            self[key] = found
        return found


class RowReader:
    """Reads any row of one model in a single pass over it."""

    def __init__(self, cls: type) -> None:
        """Read by the model's layout."""
        layout = LAYOUTS[cls]
        self._cls = cls
        self._model = cls.__name__
        self._spellings = Spellings(layout.fields)
        self._finish = layout.finish
        self._nested = layout.nested

    def __call__(self, row: Any) -> Any:
        """Read one row.

        Raises:
            ProtocolError: If the row can't be read; the message names the field.
        """
        values, extra = self._sorted(row)
        if self._nested is not None:
            at_once(self._nested(values, extra))
        return self._made(values, extra)

    def in_steps(self, row: Any) -> Steps[Any]:
        """Do the same, and stop after each row in the row."""
        values, extra = self._sorted(row)
        if self._nested is not None:
            yield from self._nested(values, extra)
        return self._made(values, extra)

    def _sorted(self, row: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        if type(row) is not dict:
            raise ProtocolError(f"{self._model}: expected an object, got {type(row).__name__}")
        if len(row) > MOST_FIELDS:
            raise ProtocolError(f"{self._model}: a row has {len(row):,} fields")
        values: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        if not self._fill(row, values, extra):
            # One field came in two spellings: the preferred one wins, the other is kept.
            values, extra = {}, {}
            self._fill(dict(sorted(row.items(), key=self._rank)), values, extra, first_wins=True)
        return values, extra

    def _made(self, values: dict[str, Any], extra: dict[str, Any]) -> Any:
        if self._finish is not None:
            self._finish(values, extra)
        for key, value in extra.items():
            if type(value) in CONTAINERS and is_too_deep(value):
                raise ProtocolError(
                    f"{self._model}: field {key!r} is nested deeper than {MAX_DEPTH} levels"
                )
        return self._cls(**values, extra=extra)

    def _fill(
        self,
        row: dict[str, Any],
        values: dict[str, Any],
        extra: dict[str, Any],
        *,
        first_wins: bool = False,
    ) -> bool:
        """Sort a row's values to fields and extra; stop with False at a field that comes twice."""
        spellings = self._spellings
        for key, raw in row.items():
            found = spellings[key]
            if found is None:
                extra[key] = raw
                continue
            name, read, strict, _rank = found
            try:
                value = read(raw)
            except ValueError as error:
                value, fault = None, str(error)
            else:
                if value is None:
                    continue
                if name not in values:
                    values[name] = value
                    continue
                if not first_wins:
                    return False
                fault = ""
            if fault and strict:
                break
            extra[key] = raw
            if fault:
                report_once(self._model, key, f"can't be read: {fault}")
        else:
            return True
        # Raised outside the handler: the reader's error is no news to anybody.
        raise ProtocolError(f"{self._model}: field {key!r} can't be read: {fault}")

    def _rank(self, item: tuple[str, Any]) -> int:
        found = self._spellings[item[0]]
        return -1 if found is None else found[3]


_readers: dict[type, RowReader] = {}


def reader_of(cls: type) -> RowReader:
    """Return what reads the rows of a model; for loops over many rows."""
    if cls not in _readers:
        _readers[cls] = RowReader(cls)
    return _readers[cls]


_shapes: dict[type, ShapeReaders] = {}


def clean_rows(rows: list[Any], cls: type[T]) -> list[T] | None:
    """Read rows that hold no surprise all at once, in no order.

    Returns:
        The models; None where any row needs the plain rules, so that ``structure`` has to tell.
    """
    if not rows:
        return []
    if cls not in _shapes:
        layout = LAYOUTS[cls]
        if layout.nested is not None or layout.finish is not None:
            return None
        _shapes[cls] = ShapeReaders(cls, Spellings(layout.fields))
    return _shapes[cls].read(rows)


def structure(row: Any, cls: type[T]) -> T:
    """Read one row.

    Raises:
        ProtocolError: If the row can't be read; the message names the field.
    """
    return reader_of(cls)(row)  # type: ignore[no-any-return]


def structure_in_steps(row: Any, cls: type[T]) -> Steps[T]:
    """Read one row, and stop after each row that is in it.

    Raises:
        ProtocolError: If the row can't be read; the message names the field.
    """
    model: T = yield from reader_of(cls).in_steps(row)
    return model


def structure_rows(rows: list[Any], cls: type[T]) -> list[T]:
    """Read a list of rows; a bad one is reported and skipped."""
    return sort_rows(rows, cls)[0]


def sort_rows(rows: list[Any], cls: type[T]) -> tuple[list[T], list[ProtocolError]]:
    """Read a list of rows, and return what was read and what is wrong with the others."""
    return at_once(sort_in_steps(rows, cls))


def sort_in_steps(rows: list[Any], cls: type[T]) -> Steps[tuple[list[T], list[ProtocolError]]]:
    """Do the same, and stop after each row."""
    reader = reader_of(cls)
    results: list[T] = []
    bad: list[ProtocolError] = []
    for position, row in enumerate(rows):
        try:
            results.append((yield from reader.in_steps(row)))
        except ProtocolError as error:
            logger.warning("row %d was skipped: %s", position, error)
            error.add_note(f"It is row {position} of its list.")
            # Its traceback would keep every frame, and so the whole reply, alive.
            bad.append(error.with_traceback(None))
        yield
    return results, bad


def rows_of(data: Any) -> list[Any]:
    """Return the rows of a reply that is a list, one object, or a list inside an object.

    Raises:
        ProtocolError: If it is none of these.
    """
    if data is None:
        return []
    if isinstance(data, list):
        return data
    if isinstance(data, dict):
        for name in WRAPPED:
            if isinstance(data.get(name), list):
                return list(data[name])
        return [] if not data or "total" in data or is_wrapper(data) else [data]
    raise ProtocolError(f"expected a list of rows, got {type(data).__name__}")


def is_wrapper(data: dict[str, Any]) -> bool:
    """Tell whether an object only holds rows, and is none itself."""
    holds_rows = any(isinstance(data.get(name), list) for name in WRAPPED)
    return holds_rows or any(iccid_or_none(key) for key in data)

"""Turns the vendor's rows into models.

Each model has a layout: a table of its fields and of the vendor's spellings for each. Fields of a
row that the layout doesn't name go to ``extra``. Case and underscores in spellings don't matter.
cattrs is not used: it reads one spelling for each field, drops unknown fields, and is slower.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import attrs

from mioesim_async.errors import ProtocolError
from mioesim_async.models.iccid import iccid_or_none
from mioesim_async.rows.compiled import Reader
from mioesim_async.slices import Steps, at_once
from mioesim_async.wire.depth import CONTAINERS, MAX_DEPTH, is_too_deep

__all__ = [
    "LAYOUTS",
    "Layout",
    "RowReader",
    "Rule",
    "is_wrapper",
    "normalised",
    "read_good_rows",
    "read_row",
    "read_row_in_steps",
    "read_rows_in_steps",
    "reader_of",
    "report_once",
    "rows_of",
]

logger = logging.getLogger("mioesim_async")

T = TypeVar("T")
ExtraReader = Callable[[dict[str, Any], dict[str, Any]], None]
NestedReader = Callable[[dict[str, Any], dict[str, Any]], Steps[None]]

MAX_FIELDS = 2000
"""Fields in a row. A row with more is refused; rows with up to 40 were observed."""

WRAPPER_KEYS = ("rows", "list", "records", "data")


@attrs.frozen
class Rule:
    """How one field is read.

    Attributes:
        names: The vendor's spellings, the preferred one first.
        read: Reads the value.
        strict: Whether a value that can't be read makes the whole row unreadable. If False,
            such a value stays in ``extra`` and is logged once.
        other_readers: Readers for less preferred spellings whose values have another form.
    """

    names: tuple[str, ...]
    read: Reader
    strict: bool = False
    other_readers: Mapping[str, Reader] = attrs.field(factory=dict)

    def readers(self) -> Iterator[tuple[str, Reader]]:
        """Yield each spelling with its reader, the preferred spelling first."""
        yield from ((name, self.read) for name in self.names)
        yield from self.other_readers.items()


@attrs.frozen
class Layout:
    """How one model is read.

    Attributes:
        fields: A rule for each field, by the model's name for the field.
        read_extra: Moves values from ``extra`` into fields that need more than one value.
        read_nested: Reads the rows inside a row, in steps; it runs before ``read_extra``.
    """

    fields: Mapping[str, Rule]
    read_extra: ExtraReader | None = None
    read_nested: NestedReader | None = None


LAYOUTS: dict[type, Layout] = {}
"""Layouts by model. ``cards``, ``catalogue`` and ``orders`` add theirs."""

MAX_REPORTED = 1000
"""Warnings logged in one process. The host chooses the names, so there may be any number."""

_reported: set[tuple[str, str]] = set()


def report_once(model: str, name: str, problem: str) -> None:
    """Log once per process that a field can't be read, for at most 1,000 fields.

    The value is not logged, since it may be a secret.
    """
    if (model, name) not in _reported and len(_reported) < MAX_REPORTED:
        _reported.add((model, name))
        logger.warning("%s: %s %s; kept in extra, reported once", model, name, problem)


def normalised(name: str) -> str:
    """Return the name of a field in lower case and without underscores."""
    return name.replace("_", "").lower()


MAX_SPELLINGS = 1024


class Spellings(dict[str, tuple[str, Reader, bool, int] | None]):
    """The field that each of the vendor's spellings fills; each spelling is normalised once."""

    def __init__(self, fields: Mapping[str, Rule]) -> None:
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
    """Reads rows of one model, in one pass over each row."""

    def __init__(self, cls: type) -> None:
        """Take the model's layout."""
        layout = LAYOUTS[cls]
        self._cls = cls
        self._model = cls.__name__
        self._spellings = Spellings(layout.fields)
        self._read_extra = layout.read_extra
        self._read_nested = layout.read_nested

    def __call__(self, row: Any) -> Any:
        """Read one row.

        Raises:
            ProtocolError: If the row can't be read; the message names the field.
        """
        values, extra = self._read_fields(row)
        if self._read_nested is not None:
            at_once(self._read_nested(values, extra))
        return self._build(values, extra)

    def in_steps(self, row: Any) -> Steps[Any]:
        """Do what ``__call__`` does, and yield after each row inside the row."""
        values, extra = self._read_fields(row)
        if self._read_nested is not None:
            yield from self._read_nested(values, extra)
        return self._build(values, extra)

    def _read_fields(self, row: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        if type(row) is not dict:
            raise ProtocolError(f"{self._model}: expected an object, got {type(row).__name__}")
        if len(row) > MAX_FIELDS:
            raise ProtocolError(f"{self._model}: a row has {len(row):,} fields")
        values: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        if not self._assign(row, values, extra):
            # Two keys of the row fill one field: the preferred spelling wins, and the other value
            # stays in extra.
            values, extra = {}, {}
            self._assign(dict(sorted(row.items(), key=self._rank)), values, extra, first_wins=True)
        return values, extra

    def _build(self, values: dict[str, Any], extra: dict[str, Any]) -> Any:
        if self._read_extra is not None:
            self._read_extra(values, extra)
        for key, value in extra.items():
            if type(value) in CONTAINERS and is_too_deep(value):
                raise ProtocolError(
                    f"{self._model}: field {key!r} is nested deeper than {MAX_DEPTH} levels"
                )
        return self._cls(**values, extra=extra)

    def _assign(
        self,
        row: dict[str, Any],
        values: dict[str, Any],
        extra: dict[str, Any],
        *,
        first_wins: bool = False,
    ) -> bool:
        """Put a row's values into fields or extra.

        Returns False, without finishing, when a field gets a second value and not ``first_wins``.
        """
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
        # Raised outside the handler, so that the traceback doesn't show the ValueError as well.
        raise ProtocolError(f"{self._model}: field {key!r} can't be read: {fault}")

    def _rank(self, item: tuple[str, Any]) -> int:
        found = self._spellings[item[0]]
        return -1 if found is None else found[3]


_readers: dict[type, RowReader] = {}


def reader_of(cls: type) -> RowReader:
    """Return the reader for a model's rows."""
    if cls not in _readers:
        _readers[cls] = RowReader(cls)
    return _readers[cls]


def read_row(row: Any, cls: type[T]) -> T:
    """Read one row.

    Raises:
        ProtocolError: If the row can't be read; the message names the field.
    """
    return reader_of(cls)(row)  # type: ignore[no-any-return]


def read_row_in_steps(row: Any, cls: type[T]) -> Steps[T]:
    """Read one row, and yield after each row inside it.

    Raises:
        ProtocolError: If the row can't be read; the message names the field.
    """
    model: T = yield from reader_of(cls).in_steps(row)
    return model


def read_good_rows(rows: list[Any], cls: type[T]) -> list[T]:
    """Read a list of rows; log and skip those that can't be read."""
    return at_once(read_rows_in_steps(rows, cls))[0]


def read_rows_in_steps(rows: list[Any], cls: type[T]) -> Steps[tuple[list[T], list[ProtocolError]]]:
    """Read a list of rows, and yield after each row.

    Returns:
        The models, and an error for each row that can't be read. Such a row is also logged.
    """
    reader = reader_of(cls)
    results: list[T] = []
    bad: list[ProtocolError] = []
    for position, row in enumerate(rows):
        try:
            results.append((yield from reader.in_steps(row)))
        except ProtocolError as error:
            logger.warning("row %d was skipped: %s", position, error)
            error.add_note(f"It is row {position} of its list.")
            # A traceback refers to frames, and would keep the whole reply in memory.
            bad.append(error.with_traceback(None))
        yield
    return results, bad


def rows_of(data: Any) -> list[Any]:
    """Return the rows of a reply: a list, one object, or a list inside an object.

    Raises:
        ProtocolError: If it is none of these.
    """
    if data is None:
        return []
    if isinstance(data, list):
        return data
    if isinstance(data, dict):
        for name in WRAPPER_KEYS:
            if isinstance(data.get(name), list):
                return list(data[name])
        return [] if not data or "total" in data or is_wrapper(data) else [data]
    raise ProtocolError(f"expected a list of rows, got {type(data).__name__}")


def is_wrapper(data: dict[str, Any]) -> bool:
    """Tell whether an object holds rows and is not a row itself."""
    holds_rows = any(isinstance(data.get(name), list) for name in WRAPPER_KEYS)
    return holds_rows or any(iccid_or_none(key) for key in data)

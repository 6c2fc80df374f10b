"""Outcomes written as CSV, JSON, JSON Lines, Parquet or a table, one by one."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import IO, Any, Generic, Protocol, TypeVar

import orjson
from attrs import frozen

from mioesim_async.cli.printing import (
    CARD_STATUSES,
    card_status,
    fixed,
    moment,
    number,
    print_table,
    print_text,
    printable,
)
from mioesim_async.errors import ConfigurationError
from mioesim_async.models.cards import CardOutcome

__all__ = ["NAMES", "WRITERS", "Layout", "Writer", "columns_of", "without_formula"]

FIELDS = (
    "dp_status",
    "used_mb",
    "remaining_mb",
    "total_mb",
    "starts_at",
    "ends_at",
    "order_num",
    "sku_id",
)
NAMES = ("iccid", "result", *FIELDS, "error", "queried_at")
"""The columns that are the command's own."""

COLUMNS = (fixed("ICCID"), "Status", number("Used MB"), number("Left MB"), "Ends (GMT+8)")
V = TypeVar("V")
MAX_TABLE_ROWS = 50
ROWS_IN_A_GROUP = 10_000
"""Rows that a Parquet file is written by."""

FORMULA = re.compile(r"(^|[;\t])(?=[=+\-@\t\r\uff0b\uff0d\uff1d\uff20])")
"""Where a spreadsheet would see a formula; some take ``;`` for a separator, whatever we write."""


@frozen
class Layout:
    """How outcomes are laid out.

    Attributes:
        plain: Write CSV for programs: ICCIDs without the ``="..."`` that keeps them text in
            spreadsheets, and text as it is.
        columns: Names of the columns that come from the input.
        has_header: Write the header of CSV; False where it is there already.
        to_file: Write all rows of a table, and not only as many as a person reads.
    """

    plain: bool = False
    columns: tuple[str, ...] = ()
    has_header: bool = True
    to_file: bool = False


def columns_of(layout: Layout) -> list[str]:
    """Return the names of all columns; a name that is taken gets ``input_`` before it."""
    names = [*NAMES]
    for column in layout.columns:
        name = column
        while name in names:
            name = f"input_{name}"
        names.append(name)
    return names


class Writer(Protocol):
    """Writes outcomes to a file."""

    def write(self, outcome: CardOutcome, others: Sequence[str]) -> None:
        """Write one outcome, with the cells that stood beside its ICCID in the input."""

    def close(self) -> None:
        """Write what comes last; the file stays open."""


def _result(outcome: CardOutcome) -> str:
    if outcome.error is not None:
        return "failed"
    return "missing" if outcome.card is None else "found"


def _record(outcome: CardOutcome, names: Sequence[str], others: Sequence[str]) -> dict[str, Any]:
    """Make a flat record; ``extra`` is left out, since it may hold activation codes."""
    card = outcome.card
    record: dict[str, Any] = {
        "iccid": printable(outcome.iccid),
        "result": _result(outcome),
        **{name: getattr(card, name, None) for name in FIELDS},
        "error": None if outcome.error is None else printable(str(outcome.error)),
        "queried_at": datetime.fromtimestamp(int(time.time()), UTC),
    }
    for name in ("dp_status", "order_num"):
        record[name] = printable(record[name])
    return record | dict(zip(names[len(NAMES) :], others, strict=True))


class CsvWriter:
    """CSV that spreadsheets read right: an ICCID is written as ``="898..."``, so it stays text.

    Most cells need no quotes, and the csv module takes longer to find that out than to read the
    card: rows are put together here, in half the time.
    """

    def __init__(self, file: IO[str], layout: Layout) -> None:
        """Write the header."""
        self._write = file.write
        self._cell = _plain_cell if layout.plain else _cell
        self._own_cell = _quoted if layout.plain else _own_cell
        self._plain = layout.plain
        if layout.has_header:
            self._write(",".join(map(self._own_cell, columns_of(layout))) + "\n")
        self._status = _LastCell[str](self._cell)
        self._starts = _LastCell[datetime](str)
        self._ends = _LastCell[datetime](str)
        self._second, self._end = 0, ""

    def write(self, outcome: CardOutcome, others: Sequence[str]) -> None:
        """Write one row."""
        iccid, card, error = outcome.iccid, outcome.card, outcome.error
        if not iccid.isdigit():
            shown = self._cell(iccid)
        else:
            shown = iccid if self._plain else f'"=""{iccid}"""'
        if (second := int(time.time())) != self._second:
            self._second = second
            self._end = f"{datetime.fromtimestamp(second, UTC)}\n"
        end = self._end if not others else self._with(others)
        if card is None:
            why = "" if error is None else self._cell(str(error))
            self._write(f"{shown},{_result(outcome)}{',' * len(FIELDS)},{why},{end}")
            return
        status, starts, ends = card.dp_status, card.starts_at, card.ends_at
        if status is not self._status.value:
            self._status.set(status)
        if starts is not self._starts.value:
            self._starts.set(starts)
        if ends is not self._ends.value:
            self._ends.set(ends)
        used, left, total = card.used_mb, card.remaining_mb, card.total_mb
        order, sku = card.order_num, card.sku_id
        self._write(
            f"{shown},found,{self._status.cell},{'' if used is None else used},"
            f"{'' if left is None else left},{'' if total is None else total},"
            f"{self._starts.cell},{self._ends.cell},"
            f"{order if order and order.isascii() and order.isalnum() else self._cell(order)},"
            f"{'' if sku is None else sku},,{end}"
        )

    def _with(self, others: Sequence[str]) -> str:
        cells = "".join([f",{self._own_cell(other)}" for other in others])
        return f"{self._end[:-1]}{cells}\n"

    def close(self) -> None:
        """Do nothing: each row is whole."""


class _LastCell(Generic[V]):
    """The last value of a column and its cell: cards in a row often have one in common."""

    __slots__ = ("_to_cell", "cell", "value")

    def __init__(self, to_cell: Callable[[V], str]) -> None:
        self._to_cell = to_cell
        self.value: V | None = None
        self.cell = ""

    def set(self, value: V | None) -> None:
        self.value = value
        self.cell = "" if value is None else self._to_cell(value)


def _cell(text: str | None) -> str:
    """Write a cell of the vendor's text, for people."""
    if text and text.isascii() and text.isalnum():
        # Most cells are one word, and nothing has to be done for it.
        return text
    return _quoted(without_formula(printable(text)) or "")


def _plain_cell(text: str | None) -> str:
    """Write a cell of the vendor's text, for programs."""
    return _quoted(printable(text) or "")


def _own_cell(text: str) -> str:
    """Write a cell of the input, for people."""
    return _quoted(without_formula(text) or "")


def _quoted(text: str) -> str:
    if "," in text or '"' in text or "\n" in text or "\r" in text:
        doubled = text.replace('"', '""')
        return f'"{doubled}"'
    return text


def without_formula(cell: str | None) -> str | None:
    """Keep a spreadsheet from running text of the vendor's as a formula."""
    return FORMULA.sub(r"\1'", cell) if cell else cell


class JsonLinesWriter:
    """One JSON object a line."""

    def __init__(self, file: IO[str], layout: Layout) -> None:
        """Write to a file."""
        self._file = file
        self._names = columns_of(layout)

    def write(self, outcome: CardOutcome, others: Sequence[str]) -> None:
        """Write one line."""
        record = _record(outcome, self._names, others)
        self._file.write(orjson.dumps(record).decode() + "\n")

    def close(self) -> None:
        """Do nothing: each line is whole."""


class JsonWriter:
    """One JSON array, written as it comes."""

    def __init__(self, file: IO[str], layout: Layout) -> None:
        """Open the array."""
        self._file = file
        self._names = columns_of(layout)
        self._before = "[\n"

    def write(self, outcome: CardOutcome, others: Sequence[str]) -> None:
        """Write one element."""
        record = _record(outcome, self._names, others)
        self._file.write(self._before + orjson.dumps(record).decode())
        self._before = ",\n"

    def close(self) -> None:
        """Close the array."""
        self._file.write({"[\n": "[]\n", "": ""}.get(self._before, "\n]\n"))
        self._before = ""


class ParquetWriter:
    """A Parquet file: ICCIDs as text, times with their zone."""

    def __init__(self, file: IO[bytes], layout: Layout) -> None:
        """Open the file.

        Raises:
            ConfigurationError: If the extra ``parquet`` is not installed.
        """
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            reason = "pyarrow is missing; install it with: pip install 'mioesim_async[parquet]'"
            raise ConfigurationError(reason) from None
        self._names = columns_of(layout)
        kinds = {
            **dict.fromkeys(("used_mb", "remaining_mb", "total_mb"), pa.float64()),
            **dict.fromkeys(("starts_at", "ends_at"), pa.timestamp("us", "+08:00")),
            "sku_id": pa.int64(),
            "queried_at": pa.timestamp("us", "UTC"),
        }
        self._schema = pa.schema([(name, kinds.get(name, pa.string())) for name in self._names])
        self._to_table = pa.Table.from_pylist
        self._file = pq.ParquetWriter(file, self._schema)
        self._rows: list[dict[str, Any]] = []

    def write(self, outcome: CardOutcome, others: Sequence[str]) -> None:
        """Write one row."""
        self._rows.append(_record(outcome, self._names, others))
        if len(self._rows) == ROWS_IN_A_GROUP:
            self._flush()

    def close(self) -> None:
        """Write the last rows, and the index of the file; once, whatever comes of it."""
        rows, self._rows = self._rows, []
        try:
            if rows:
                self._file.write_table(self._to_table(rows, self._schema))
        finally:
            # Closed twice, it would fail in another way.
            if self._file.is_open:
                self._file.close()

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        self._file.write_table(self._to_table(rows, self._schema))


class TableWriter:
    """The first cards as a table for people."""

    def __init__(self, file: IO[str], layout: Layout) -> None:
        """Collect rows: for a terminal as many as a person reads, else all."""
        self._file = file
        self._most = sys.maxsize if layout.to_file else MAX_TABLE_ROWS
        self._rows: list[CardOutcome] = []
        self._more = 0

    def write(self, outcome: CardOutcome, others: Sequence[str]) -> None:  # noqa: ARG002
        """Keep one row; a table has no room for other cells."""
        if len(self._rows) < self._most:
            self._rows.append(outcome)
        else:
            self._more += 1

    def close(self) -> None:
        """Print the rows, unless there are more than a person reads."""
        if self._more:
            self._file.write(
                f"{len(self._rows) + self._more:,} cards; write them all with -o result.csv\n\n"
            )
        if self._more or not self._rows:
            return
        print_table(COLUMNS, map(_cells, self._rows), file=self._file)
        self._file.write("\n")
        shown = {row.card.dp_status for row in self._rows if row.card is not None}
        for status in filter(shown.__contains__, CARD_STATUSES):
            print_text(card_status(status), file=self._file)
        self._file.write("\n")


def _cells(outcome: CardOutcome) -> tuple[str, ...]:
    card = outcome.card
    if card is None:
        why = "missing" if outcome.error is None else f"failed: {type(outcome.error).__name__}"
        return (outcome.iccid, why, "", "", "")
    return (
        outcome.iccid,
        card.dp_status or "-",
        _amount(card.used_mb),
        _amount(card.remaining_mb),
        moment(card.ends_at) or "-",
    )


def _amount(megabytes: float | None) -> str:
    return "-" if megabytes is None else f"{megabytes:,.1f}"


WRITERS: dict[str, Callable[[IO[Any], Layout], Writer]] = {
    "table": TableWriter,
    "csv": CsvWriter,
    "json": JsonWriter,
    "jsonl": JsonLinesWriter,
    "parquet": ParquetWriter,
}

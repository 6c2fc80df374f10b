"""Writes outcomes one by one, as CSV, JSON, JSON Lines or a table."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from typing import IO, Any, Generic, Protocol, TypeVar

import orjson

from mioesim_async.cli.printing import fixed, moment, number, print_table, printable
from mioesim_async.models.cards import CardOutcome

__all__ = ["WRITERS", "Writer", "without_formula"]

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
COLUMNS = (fixed("ICCID"), "Status", number("Used MB"), number("Left MB"), "Ends (GMT+8)")
V = TypeVar("V")
MAX_TABLE_ROWS = 50


class Writer(Protocol):
    """Writes outcomes to a text file."""

    def write(self, outcome: CardOutcome) -> None:
        """Write one outcome."""

    def close(self) -> None:
        """Write the end of the document; the file stays open."""


def _result(outcome: CardOutcome) -> str:
    if outcome.error is not None:
        return "failed"
    return "missing" if outcome.card is None else "found"


def _record(outcome: CardOutcome) -> dict[str, Any]:
    """Make a flat record; ``extra`` is left out, since it may hold activation codes."""
    card = outcome.card
    record: dict[str, Any] = {
        "iccid": printable(outcome.iccid),
        "result": _result(outcome),
        **{name: getattr(card, name, None) for name in FIELDS},
        "error": None if outcome.error is None else printable(str(outcome.error)),
    }
    for name in ("dp_status", "order_num"):
        record[name] = printable(record[name])
    return record


class CsvWriter:
    """CSV for spreadsheets: an ICCID is written as ``="898..."``, so that it stays text.

    It builds the rows itself, in half the time of the csv module.
    """

    def __init__(self, file: IO[str]) -> None:
        """Write the header."""
        self._write = file.write
        self._write(",".join(["iccid", "result", *FIELDS, "error"]) + "\n")
        self._status = _LastCell[str](_cell)
        self._starts = _LastCell[datetime](str)
        self._ends = _LastCell[datetime](str)

    def write(self, outcome: CardOutcome) -> None:
        """Write one row."""
        iccid, card, error = outcome.iccid, outcome.card, outcome.error
        shown = f'"=""{iccid}"""' if iccid.isdigit() else _cell(iccid)
        if card is None:
            why = "" if error is None else _cell(str(error))
            self._write(f"{shown},{_result(outcome)}{',' * len(FIELDS)},{why}\n")
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
            f"{order if order and order.isascii() and order.isalnum() else _cell(order)},"
            f"{'' if sku is None else sku},\n"
        )

    def close(self) -> None:
        """Do nothing: each row is complete."""


class _LastCell(Generic[V]):
    """The last value of a column and its cell, since cards often repeat it."""

    __slots__ = ("_to_cell", "cell", "value")

    def __init__(self, to_cell: Callable[[V], str]) -> None:
        self._to_cell = to_cell
        self.value: V | None = None
        self.cell = ""

    def set(self, value: V | None) -> None:
        self.value = value
        self.cell = "" if value is None else self._to_cell(value)


def _cell(text: str | None) -> str:
    shown = without_formula(printable(text)) or ""
    if "," in shown or '"' in shown:
        doubled = shown.replace('"', '""')
        return f'"{doubled}"'
    return str(shown)


def without_formula(cell: str | None) -> str | None:
    """Keep a spreadsheet from running the vendor's text as a formula."""
    return f"'{cell}" if cell and cell[0] in "=+-@\t\r" else cell


class JsonLinesWriter:
    """One JSON object a line."""

    def __init__(self, file: IO[str]) -> None:
        """Write to a file."""
        self._file = file

    def write(self, outcome: CardOutcome) -> None:
        """Write one line."""
        self._file.write(orjson.dumps(_record(outcome)).decode() + "\n")

    def close(self) -> None:
        """Do nothing: each line is complete."""


class JsonWriter:
    """One JSON array, written element by element."""

    def __init__(self, file: IO[str]) -> None:
        """Open the array."""
        self._file = file
        self._before = "[\n"

    def write(self, outcome: CardOutcome) -> None:
        """Write one element."""
        self._file.write(self._before + orjson.dumps(_record(outcome)).decode())
        self._before = ",\n"

    def close(self) -> None:
        """Close the array."""
        self._file.write("[]\n" if self._before == "[\n" else "\n]\n")


class TableWriter:
    """A table of the first cards."""

    def __init__(self, file: IO[str]) -> None:
        """Collect rows: at most ``MAX_TABLE_ROWS`` for standard output, else all."""
        self._file = file
        self._max_rows = MAX_TABLE_ROWS if file is sys.stdout else sys.maxsize
        self._rows: list[CardOutcome] = []
        self._more = 0

    def write(self, outcome: CardOutcome) -> None:
        """Keep one row."""
        if len(self._rows) < self._max_rows:
            self._rows.append(outcome)
        else:
            self._more += 1

    def close(self) -> None:
        """Print the rows, or only their number if there are more than ``MAX_TABLE_ROWS``."""
        if self._more:
            self._file.write(
                f"{len(self._rows) + self._more:,} cards; write them all with -o cards.csv\n\n"
            )
        if self._more or not self._rows:
            return
        print_table(COLUMNS, map(_cells, self._rows), file=self._file)
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


WRITERS: dict[str, Callable[[IO[str]], Writer]] = {
    "table": TableWriter,
    "csv": CsvWriter,
    "json": JsonWriter,
    "jsonl": JsonLinesWriter,
}

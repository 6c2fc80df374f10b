"""What an earlier run of ``mioesim query`` wrote, and a later one need not ask for again."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import orjson
from attrs import define, field, frozen

from mioesim_async.cli.iccid_sources import Source, unquoted
from mioesim_async.cli.output_files import OutputFile
from mioesim_async.cli.writers import NAMES, Layout, columns_of, without_formula
from mioesim_async.errors import InvalidRequest
from mioesim_async.models.iccid import iccid_or_none

__all__ = ["READERS", "Earlier", "drop_unasked", "leave_out", "take_over"]

YOUNG = timedelta(hours=6)
"""How old a row may be to be taken over."""

Row = tuple[dict[str, Any], list[Any], str]
"""The cells of a row by the name of their column, those that come from the input, and its text."""

HEADER = "header"
"""What stands in place of a result in the header's own row."""


@define
class Earlier:
    """Rows that are taken over.

    Attributes:
        rows: How many there are.
        found: How many of them have a card.
        asked: How many of them the input asks for, too.
        statuses: How many cards have which status.
        used_mb: Data used of these cards.
        remaining_mb: Data that they have left.
        times: How often each row is among them, and was not asked for yet.
    """

    rows: int = 0
    found: int = 0
    asked: int = 0
    statuses: Counter[str] = field(factory=Counter)
    used_mb: float = 0.0
    remaining_mb: float = 0.0
    times: Counter[str] = field(factory=Counter)

    def add(self, done: _Done) -> None:
        """Count a row."""
        self.rows += 1
        self.times[done.key] += 1
        if done.is_found:
            self.found += 1
            self.statuses[done.status] += 1
            self.used_mb += done.used_mb
            self.remaining_mb += done.remaining_mb


@frozen
class _Done:
    """A row that needs no answer any more."""

    key: str
    is_found: bool
    status: str
    used_mb: float
    remaining_mb: float


def take_over(output: OutputFile, writes: str, layout: Layout, earlier: Earlier) -> IO[Any] | None:
    """Begin ``FILE.part`` with the rows of an earlier run that are younger than six hours.

    They are those of ``FILE.part``, where it has any, or else of ``FILE``. Rows of cards that
    failed are left out, so that these are asked again. ``FILE.part`` is replaced when its
    successor is whole.

    Args:
        output: The file to write; this run has claimed it.
        writes: ``csv`` or ``jsonl``.
        layout: How its rows are laid out.
        earlier: Where the rows are counted.

    Returns:
        The file, to be gone on with; None if there are no such rows.

    Raises:
        InvalidRequest: If the file has other columns.
        OSError: If it can't be read or written.
    """
    now = datetime.now(UTC)

    def is_young(row: dict[str, Any], done: _Done) -> bool:
        if not now - YOUNG < datetime.fromisoformat(row["queried_at"]) <= now:
            return False
        earlier.add(done)
        return True

    for file in filter(Path.is_file, (output.part, output.target)):
        successor = _copied(output, file, READERS[writes], layout, is_young, keeps_others=False)
        try:
            if earlier.rows:
                return output.go_on_with(successor)
        finally:
            successor.close(keep=False)
    return None


def drop_unasked(
    output: OutputFile, writes: str, layout: Layout, earlier: Earlier
) -> tuple[IO[Any] | None, Earlier]:
    """Drop the rows that were taken over, and that the input doesn't ask for.

    Args:
        output: The file, with all its rows.
        writes: ``csv`` or ``jsonl``.
        layout: How its rows are laid out.
        earlier: What was taken over.

    Returns:
        The file, whose earlier one is closed, and what was dropped.

    Raises:
        OSError: If it can't be read or written.
    """
    dropped = Earlier()

    def is_asked(_: dict[str, Any], done: _Done) -> bool:
        if not earlier.times[done.key]:
            return True
        earlier.times[done.key] -= 1
        dropped.add(done)
        return False

    successor = _copied(output, output.part, READERS[writes], layout, is_asked, keeps_others=True)
    try:
        return output.go_on_with(successor), dropped
    finally:
        successor.close(keep=False)


def leave_out(source: Source, earlier: Earlier) -> Iterable[str] | AsyncIterator[str]:
    """Return the items of a source without those that are done, each as often as it is done.

    A row is done if also the other cells that travel with it are the same.
    """

    def is_done(item: str) -> bool:
        iccid = iccid_or_none(item) or item
        key = _key(iccid, source.newest(iccid))
        if not earlier.times[key]:
            return False
        earlier.times[key] -= 1
        earlier.asked += 1
        source.forget_newest(iccid)
        return True

    async def left(items: AsyncIterator[str]) -> AsyncIterator[str]:
        async for item in items:
            if not is_done(item):
                yield item

    if isinstance(source.items, AsyncIterator):
        return left(source.items)
    return (item for item in source.items if not is_done(item))


def _copied(
    output: OutputFile,
    file: Path,
    reader: Reader,
    layout: Layout,
    is_wanted: Callable[[dict[str, Any], _Done], bool],
    *,
    keeps_others: bool,
) -> OutputFile:
    """Copy a file's header and the rows that are wanted into the successor of ``FILE.part``.

    Args:
        output: What the successor is for.
        file: The file to copy.
        reader: Reads its format.
        layout: How its rows are laid out.
        is_wanted: Whether a row that needs no answer is copied.
        keeps_others: Whether rows that need an answer are.
    """
    successor = OutputFile(output.part)
    with file.open(encoding="utf-8", errors="replace", newline="") as old:
        new = successor.begin()
        try:
            for row, others, text in reader(old, layout, file):
                done = _done(row, others)
                is_header = row["result"] == HEADER
                if is_header or (keeps_others if done is None else is_wanted(row, done)):
                    new.write(text)
        except BaseException:
            successor.close(keep=False)
            raise
    return successor


def _done(row: dict[str, Any], others: list[Any]) -> _Done | None:
    """Read a row; return None for one that failed, or that isn't as this command writes it."""
    try:
        if row["result"] not in ("found", "missing"):
            return None
        if datetime.fromisoformat(row["queried_at"]).tzinfo is None:
            return None
        return _Done(
            _key(unquoted(row["iccid"]), others),
            row["result"] == "found",
            str(row["dp_status"] or "(none)"),
            float(row["used_mb"] or 0),
            float(row["remaining_mb"] or 0),
        )
    except (AttributeError, TypeError, ValueError):
        return None


def _key(iccid: str, others: Iterable[Any]) -> str:
    # A cell of a CSV file for people has been kept from being a formula.
    return "\0".join([iccid, *[without_formula(str(other)) or "" for other in others]])


def _csv_rows(file: IO[str], layout: Layout, path: Path) -> Iterator[Row]:
    names = [without_formula(name) for name in columns_of(layout)]
    for number, (cells, text) in enumerate(_whole_csv_rows(file, path)):
        if number == 0:
            if [without_formula(cell) for cell in cells] != names:
                raise _other_columns(path)
            yield {"result": HEADER}, [], text
            continue
        if len(cells) != len(names):
            raise _other_columns(path)
        if cells[0].isdigit() != layout.plain and unquoted(cells[0]).isdigit():
            raise _other_columns(path)
        yield dict(zip(NAMES, cells, strict=False)), cells[len(NAMES) :], text


def _whole_csv_rows(file: IO[str], path: Path) -> Iterator[tuple[list[str], str]]:
    """Give each row and its text, but the last one if it was cut off."""
    lines: list[str] = []

    def kept() -> Iterator[str]:
        for line in file:
            lines.append(line)
            yield line

    try:
        for cells in csv.reader(kept(), strict=True):
            text = "".join(lines)
            lines.clear()
            if text.endswith("\n"):
                yield cells, text
    except csv.Error:
        if next(file, None) is not None:
            raise _other_columns(path) from None


def _json_rows(file: IO[str], layout: Layout, path: Path) -> Iterator[Row]:
    names = columns_of(layout)
    for line in file:
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            if line.endswith("\n"):
                raise _other_columns(path) from None
            # The last line was cut off.
            return
        if not isinstance(row, dict) or [*row] != names:
            raise _other_columns(path)
        yield row, [*row.values()][len(NAMES) :], line.removesuffix("\n") + "\n"


def _other_columns(path: Path) -> InvalidRequest:
    return InvalidRequest(
        f"{path} is not what this run writes: it has other columns, or another format; run it "
        "with the options of the earlier run, or without --resume"
    )


Reader = Callable[[IO[str], Layout, Path], Iterator[Row]]

READERS: dict[str, Reader] = {"csv": _csv_rows, "jsonl": _json_rows}
"""What reads the formats that a run can be resumed in."""

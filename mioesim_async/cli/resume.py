"""What an earlier run of ``mioesim query`` wrote, and a later one need not ask for again."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import orjson
from attrs import define, field

from mioesim_async.cli.iccid_sources import Source, unquoted
from mioesim_async.cli.output_files import OutputFile
from mioesim_async.errors import InvalidRequest
from mioesim_async.models.iccid import iccid_or_none

__all__ = ["Earlier", "leave_out", "take_over"]

YOUNG = timedelta(hours=6)
"""How old a row may be to be taken over."""

Row = tuple[dict[str, Any], str]
"""The cells of a row by the name of their column, and the row as it is written."""


@define
class Earlier:
    """Rows that are taken over.

    Attributes:
        file: The file that they come from; None if there was none.
        rows: How many there are.
        found: How many of them have a card.
        statuses: How many cards have which status.
        used_mb: Data used of these cards.
        remaining_mb: Data that they have left.
        times: How often each ICCID is among them.
    """

    file: Path | None = None
    rows: int = 0
    found: int = 0
    statuses: Counter[str] = field(factory=Counter)
    used_mb: float = 0.0
    remaining_mb: float = 0.0
    times: Counter[str] = field(factory=Counter)

    def add(self, row: dict[str, Any]) -> None:
        """Count a row."""
        self.rows += 1
        self.times[_iccid_of(row)] += 1
        if row["result"] == "found":
            self.found += 1
            self.statuses[row["dp_status"] or "(none)"] += 1
            self.used_mb += float(row["used_mb"] or 0)
            self.remaining_mb += float(row["remaining_mb"] or 0)


def take_over(output: OutputFile, writes: str, names: list[str], earlier: Earlier) -> None:
    """Begin ``FILE.part`` with the rows of an earlier run that are younger than six hours.

    They are those of ``FILE.part``, where there is one, or else of ``FILE``. Rows of cards that
    failed are left out, so that these are asked again. ``FILE.part`` is replaced when its
    successor is whole.

    Args:
        output: The file to write.
        writes: ``csv`` or ``jsonl``.
        names: The names of its columns.
        earlier: Where the rows are counted.

    Raises:
        InvalidRequest: If the file has other columns.
        OSError: If it can't be read or written.
    """
    file = next((one for one in (output.part, output.target) if one.is_file()), None)
    if file is None:
        return
    earlier.file = file
    successor = OutputFile(output.part)
    oldest = datetime.now(UTC) - YOUNG
    with file.open(encoding="utf-8", errors="replace", newline="") as old:
        new = successor.open()
        try:
            for row, text in READERS[writes](old, names, file):
                if row["result"] in ("found", "missing") and _time_of(row) > oldest:
                    earlier.add(row)
                    new.write(text)
                elif row["result"] == "result":
                    new.write(text)
        except BaseException:
            successor.close(keep=False)
            raise
    successor.commit()


def leave_out(source: Source, times: Counter[str]) -> Iterable[str] | AsyncIterator[str]:
    """Return the items of a source without those that are done, each as often as it is done."""

    def is_done(item: str) -> bool:
        iccid = iccid_or_none(item) or item
        if not times[iccid]:
            return False
        times[iccid] -= 1
        source.others(iccid)
        return True

    async def left(items: AsyncIterator[str]) -> AsyncIterator[str]:
        async for item in items:
            if not is_done(item):
                yield item

    if isinstance(source.items, AsyncIterator):
        return left(source.items)
    return (item for item in source.items if not is_done(item))


def _iccid_of(row: dict[str, Any]) -> str:
    return unquoted(row["iccid"] or "")


def _time_of(row: dict[str, Any]) -> datetime:
    try:
        return datetime.fromisoformat(row["queried_at"])
    except (TypeError, ValueError):
        return datetime.min.replace(tzinfo=UTC)


def _csv_rows(file: IO[str], names: list[str], path: Path) -> Iterator[Row]:
    reader = csv.reader(file)
    header = next(reader, [])
    written = _Written()
    csv.writer(written, lineterminator="\n").writerow(header)
    if header and header != names:
        raise _other_columns(path)
    yield {"result": "result"}, written.text
    for cells in reader:
        # The last row may have been cut off.
        if len(cells) == len(names):
            csv.writer(written, lineterminator="\n").writerow(cells)
            yield dict(zip(names, cells, strict=True)), written.text


class _Written:
    """Takes what a csv writer writes of one row."""

    text = ""

    def write(self, text: str) -> None:
        self.text = text


def _json_rows(file: IO[str], names: list[str], path: Path) -> Iterator[Row]:
    for line in file:
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            # The last line may have been cut off.
            continue
        if not isinstance(row, dict) or [*row] != names:
            raise _other_columns(path)
        yield row, line


def _other_columns(path: Path) -> InvalidRequest:
    return InvalidRequest(
        f"{path} has other columns than this run writes; run it with the options of the earlier "
        "run, or without --resume"
    )


READERS: dict[str, Callable[[IO[str], list[str], Path], Iterator[Row]]] = {
    "csv": _csv_rows,
    "jsonl": _json_rows,
}
"""What reads the formats that a run can be resumed in."""

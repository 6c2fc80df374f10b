"""ICCIDs from arguments, text files, CSV columns and standard input, in flat memory."""

from __future__ import annotations

import asyncio
import csv
import os
import stat
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import IO, BinaryIO

from attrs import frozen

from mioesim_async.errors import InvalidRequest

__all__ = ["Source", "open_source"]

SEPARATORS = ",;\t"
COUNT_CHUNK = 1 << 20


@frozen
class Source:
    """Where ICCIDs come from.

    Attributes:
        items: The ICCIDs as they were written.
        total: How many there are at most, or None where nobody knows.
    """

    items: Iterable[str] | AsyncIterator[str]
    total: int | None


def open_source(iccids: tuple[str, ...], file: Path | None, column: str | None) -> Source:
    """Choose the source: arguments, a file, or standard input.

    Raises:
        InvalidRequest: If there is none, or more than one, or no such column.
        OSError: If the file can't be read.
    """
    if iccids and file:
        raise InvalidRequest("give ICCIDs as arguments or with --file, not both")
    if iccids:
        if column is not None:
            raise InvalidRequest("--column needs a CSV file or standard input")
        return Source(iccids, len(iccids))
    if file is None:
        if sys.stdin.isatty():
            raise InvalidRequest("no ICCIDs: give them as arguments, with --file, or pipe them in")
        if stat.S_ISREG(os.fstat(sys.stdin.fileno()).st_mode):
            lines = _text(sys.stdin.buffer)
            return Source(_picked(lines, column, csv_file=column is not None, name="<stdin>"), None)
        return Source(_from_pipe(column), None)
    lines = _text(file.open("rb"))
    items = _picked(lines, column, csv_file=_is_csv(file, column), name=file.name)
    return Source(items, _count_lines(file))


def _is_csv(file: Path, column: str | None) -> bool:
    return column is not None or file.suffix.lower() in (".csv", ".tsv")


def _text(raw: IO[bytes] | BinaryIO) -> Iterator[str]:
    with raw:
        for line in raw:
            yield line.decode("utf-8-sig" if line.startswith(b"\xef\xbb\xbf") else "utf-8")


def _count_lines(file: Path) -> int | None:
    if not file.is_file():
        return None
    lines = 0
    with file.open("rb") as raw:
        while chunk := raw.read(COUNT_CHUNK):
            lines += chunk.count(b"\n")
    return lines or None


def _picked(
    lines: Iterator[str], column: str | None, *, csv_file: bool, name: str
) -> Iterator[str]:
    """Yield the ICCIDs of lines; the header is read, and refused, before the first is asked for."""
    if not csv_file:
        return (item for line in lines for item in _items_of_line(line))
    header = next(lines, "")
    separator = _separator(header)
    index = _index_of(header, separator, column, name)
    return (
        unquoted(row[index])
        for row in csv.reader(lines, delimiter=separator)
        if index < len(row) and row[index].strip()
    )


def _items_of_line(line: str) -> Iterator[str]:
    text = line.partition("#")[0]
    for item in text.replace(";", ",").replace("\t", ",").split(","):
        if item.strip():
            yield unquoted(item)


def _separator(header: str) -> str:
    return max(SEPARATORS, key=header.count)


def _index_of(header: str, separator: str, column: str | None, name: str) -> int:
    names = [cell.strip() for cell in next(csv.reader([header], delimiter=separator), [])]
    folded = [cell.lower() for cell in names]
    wanted = (column or "iccid").strip().lower()
    if wanted in folded:
        return folded.index(wanted)
    if column is None:
        raise InvalidRequest(
            f"{name} has no column 'iccid'; choose one with --column: {', '.join(names)}"
        )
    raise InvalidRequest(f"{name} has no column {column!r}; it has: {', '.join(names)}")


def unquoted(cell: str) -> str:
    """Take off what makes a spreadsheet keep an ICCID as text: ``="898..."`` or ``'898...``."""
    text = cell.strip()
    if text.startswith("=") and text.endswith('"'):
        text = text[1:]
    return text.strip("\"'")


async def _from_pipe(column: str | None) -> AsyncIterator[str]:
    """Read a pipe or terminal without blocking the loop."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        index, separator = -1, ","
        async for raw in reader:
            line = raw.decode("utf-8-sig")
            if column is None:
                for item in _items_of_line(line):
                    yield item
            elif index < 0:
                separator = _separator(line)
                index = _index_of(line, separator, column, "<stdin>")
            else:
                row = next(csv.reader([line], delimiter=separator), [])
                if index < len(row) and row[index].strip():
                    yield unquoted(row[index])
    finally:
        transport.close()

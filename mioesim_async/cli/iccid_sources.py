"""ICCIDs from arguments, text files, CSV columns and standard input, read piece by piece."""

from __future__ import annotations

import asyncio
import csv
import os
import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, BinaryIO

from attrs import frozen

from mioesim_async.errors import InvalidRequest

__all__ = ["Source", "open_source"]

SEPARATORS = ",;\t"
COUNT_CHUNK = 1 << 20
BLOCK = 1 << 16
DIGITS_IN_LINES = b"0123456789\n"
LONGEST_LINE = 1 << 26
STDIN = "<stdin>"


@frozen
class Source:
    """Where ICCIDs come from.

    Attributes:
        items: The ICCIDs as they were written.
        total: How many there are at most, or None if that is not known.
        close: Closes the file, also if nothing was read.
    """

    items: Iterable[str] | AsyncIterator[str]
    total: int | None
    close: Callable[[], None] = lambda: None


def open_source(iccids: tuple[str, ...], file: Path | None, column: str | None) -> Source:
    """Open the source: arguments, a file, or standard input.

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
    if file is None or file == Path("-"):
        if file is None and sys.stdin.isatty():
            raise InvalidRequest("no ICCIDs: give them as arguments, with --file, or pipe them in")
        mode = os.fstat(sys.stdin.fileno()).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            return Source(_from_pipe(column), None)
        items = _items_of(sys.stdin.buffer, column, csv_file=column is not None, name=STDIN)
        return Source(items, None)
    raw = file.open("rb")
    try:
        items = _items_of(raw, column, csv_file=_is_csv(file, column), name=file.name)
    except BaseException:
        raw.close()
        raise
    return Source(items, _count_lines(file), raw.close)


def _is_csv(file: Path, column: str | None) -> bool:
    return column is not None or file.suffix.lower() in (".csv", ".tsv")


def _text(raw: IO[bytes] | BinaryIO) -> Iterator[str]:
    name = getattr(raw, "name", STDIN)
    with raw:
        for line in raw:
            yield _decoded(line, name)


def _decoded(line: bytes, name: object) -> str:
    if line.isascii():
        # utf-8-sig, which removes a byte order mark, is a slow codec.
        return line.decode("ascii")
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    raise InvalidRequest(f"{name} is not UTF-8 text; save it as UTF-8")


def _count_lines(file: Path) -> int | None:
    if not file.is_file():
        return None
    lines = 0
    with file.open("rb") as raw:
        while chunk := raw.read(COUNT_CHUNK):
            lines += chunk.count(b"\n")
    return lines or None


def _items_of(
    raw: IO[bytes] | BinaryIO, column: str | None, *, csv_file: bool, name: str
) -> Iterator[str]:
    """Return the ICCIDs, after the header of a CSV file was read and checked."""
    if not csv_file:
        return _items_of_text(raw)
    lines = _text(raw)
    separator, index = _column_of(next(lines, ""), column, name)
    return _cells(csv.reader(lines, delimiter=separator), index, name)


def _cells(rows: Iterator[list[str]], index: int, name: str) -> Iterator[str]:
    try:
        for row in rows:
            if index < len(row) and row[index].strip():
                yield unquoted(row[index])
    except csv.Error as error:
        fault = str(error)
    else:
        return
    raise InvalidRequest(f"{name} is not a CSV file: {fault}")


def _items_of_text(raw: IO[bytes] | BinaryIO) -> Iterator[str]:
    name = getattr(raw, "name", STDIN)
    with raw:
        for lines in _blocks(raw):
            block = b"".join(lines).replace(b"\r\n", b"\n")
            if block.translate(None, DIGITS_IN_LINES):
                for line in lines:
                    yield from _items_of_line(_decoded(line, name))
            else:
                # Only ICCIDs, one a line, as in most files: split at once, which is faster.
                yield from block.decode("ascii").split()


def _blocks(raw: IO[bytes] | BinaryIO) -> Iterator[list[bytes]]:
    """Yield lines in blocks; one by one if the input may have to be waited for."""
    if stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
        while lines := raw.readlines(BLOCK):
            yield lines
    else:
        for line in raw:
            yield [line]


def _items_of_line(line: str) -> list[str]:
    alone = line.strip()
    if alone.isdigit():
        return [alone]
    text = line.partition("#")[0].replace(";", ",").replace("\t", ",")
    return [unquoted(item) for item in text.split(",") if item.strip()]


def _column_of(header: str, column: str | None, name: str) -> tuple[str, int]:
    """Return the separator, and the index of the column with the ICCIDs."""
    separator = max(SEPARATORS, key=header.count)
    names = [cell.strip() for cell in next(csv.reader([header], delimiter=separator), [])]
    folded = [cell.lower() for cell in names]
    wanted = (column or "iccid").strip().lower()
    if wanted in folded:
        return separator, folded.index(wanted)
    if column is None:
        raise InvalidRequest(
            f"{name} has no column 'iccid'; choose one with --column: {', '.join(names)}"
        )
    raise InvalidRequest(f"{name} has no column {column!r}; it has: {', '.join(names)}")


def unquoted(cell: str) -> str:
    """Remove what makes a spreadsheet keep an ICCID as text: ``="898..."`` or ``'898...``."""
    text = cell.strip()
    if text.startswith("=") and text.endswith('"'):
        text = text[1:]
    return text.strip("\"'")


async def _from_pipe(column: str | None) -> AsyncIterator[str]:
    """Read a pipe without blocking the loop."""
    reader = asyncio.StreamReader(limit=LONGEST_LINE)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        index, separator, record = -1, ",", ""
        while line := _decoded(await reader.readline(), STDIN):
            if column is None:
                for item in _items_of_line(line):
                    yield item
                continue
            if index < 0:
                separator, index = _column_of(line, column, STDIN)
                continue
            record += line
            if record.count('"') % 2:
                continue  # a quoted cell goes on in the next line
            for item in _cells(csv.reader([record], delimiter=separator), index, STDIN):
                yield item
            record = ""
        if record:
            raise InvalidRequest(f"{STDIN} is not a CSV file: a quote is never closed")
    finally:
        transport.close()

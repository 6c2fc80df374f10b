"""ICCIDs from arguments, text files, CSV columns and standard input, in flat memory."""

from __future__ import annotations

import asyncio
import codecs
import csv
import io
import os
import stat
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from attrs import define, field, frozen

from mioesim_async.errors import InvalidRequest
from mioesim_async.models.iccid import iccid_or_none

__all__ = ["Source", "Wanted", "open_source"]

SEPARATORS = ",;\t"
COUNT_CHUNK = 1 << 20
BLOCK = 1 << 16
MAX_LINE = 1 << 26
"""Characters of a line, or of a CSV row with line breaks in it."""

STDIN = "<stdin>"
MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""What a file may begin with, and the encoding that this means."""


@frozen
class Wanted:
    """What is to be read, as the command line says.

    Attributes:
        iccids: ICCIDs given as arguments.
        file: The file; None or ``-`` for standard input.
        column: The CSV column that holds the ICCIDs; None for ``iccid``.
        encoding: The encoding of the file; None for UTF-8, or what a mark at its beginning says.
        keep_columns: Whether the other columns are kept for the output.
    """

    iccids: tuple[str, ...] = ()
    file: Path | None = None
    column: str | None = None
    encoding: str | None = None
    keep_columns: bool = False


@define
class Source:
    """Where ICCIDs come from.

    Attributes:
        items: The ICCIDs as they were written.
        total: How many there are at most, or None where nobody knows.
        columns: Names of the other columns, if they are kept.
        close: Closes the file, also if nothing was read of it.
    """

    items: Iterable[str] | AsyncIterator[str]
    total: int | None
    columns: list[str] = field(factory=list)
    close: Callable[[], object] = lambda: None
    _others: dict[str, deque[list[str]]] = field(factory=dict)

    def keep(self, item: str, others: list[str]) -> None:
        """Keep the other cells of an ICCID's row until its outcome comes."""
        self._others.setdefault(iccid_or_none(item) or item, deque()).append(others)

    def others(self, iccid: str) -> list[str]:
        """Return the cells that stood beside an ICCID, once for each time that it stood there."""
        rows = self._others.get(iccid)
        if not rows:
            return [""] * len(self.columns)
        found = rows.popleft()
        if not rows:
            del self._others[iccid]
        return found

    def newest(self, iccid: str) -> list[str]:
        """Return the cells that were kept last for an ICCID."""
        rows = self._others.get(iccid)
        return rows[-1] if rows else []

    def forget_newest(self, iccid: str) -> None:
        """Forget the cells that were kept last for an ICCID: no outcome will come."""
        rows = self._others.get(iccid)
        if rows:
            rows.pop()
            if not rows:
                del self._others[iccid]


async def open_source(wanted: Wanted) -> Source:
    """Open the source: arguments, a file, or standard input; the header of a CSV file is read.

    Raises:
        InvalidRequest: If there is none, or more than one, or no such column or encoding.
        OSError: If the file can't be read.
    """
    _check(wanted)
    if wanted.iccids:
        return Source(wanted.iccids, len(wanted.iccids))
    if wanted.file is not None and wanted.file != Path("-"):
        is_csv = wanted.column is not None or wanted.file.suffix.lower() in (".csv", ".tsv")
        raw = wanted.file.open("rb")
        try:
            source = _of_file(raw, wanted, wanted.file.name, is_csv=is_csv)
        except BaseException:
            raw.close()
            raise
        source.total = _count_lines(wanted.file)
        return source
    mode = os.fstat(sys.stdin.fileno()).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        return await _of_pipe(wanted)
    return _of_file(sys.stdin.buffer, wanted, STDIN, is_csv=wanted.column is not None)


def _check(wanted: Wanted) -> None:
    if wanted.iccids and wanted.file:
        raise InvalidRequest("give ICCIDs as arguments or with --file, not both")
    if wanted.iccids and wanted.column is not None:
        raise InvalidRequest("--column needs a CSV file or standard input")
    if wanted.keep_columns and wanted.column is None:
        is_csv = wanted.file is not None and wanted.file.suffix.lower() in (".csv", ".tsv")
        if not is_csv:
            raise InvalidRequest("--keep-columns needs a CSV file: name its --column of ICCIDs")
    if not wanted.iccids and wanted.file is None and sys.stdin.isatty():
        raise InvalidRequest("no ICCIDs: give them as arguments, with --file, or pipe them in")
    if wanted.encoding is not None:
        try:
            codecs.lookup(wanted.encoding)
        except LookupError:
            raise InvalidRequest(
                f"--encoding {wanted.encoding} is not known; utf-8, utf-16, cp1252 and gb18030 are"
            ) from None


def _of_file(
    raw: io.BufferedReader | BinaryIO, wanted: Wanted, name: str, *, is_csv: bool
) -> Source:
    start = raw.peek(4)[:4] if isinstance(raw, io.BufferedReader) else b""
    encoding, errors = _codec(start, wanted.encoding)
    text = io.TextIOWrapper(raw, encoding, errors, newline=None)
    # One that is closed with its last reference would close standard input.
    source = Source((), None, close=text.detach if raw is sys.stdin.buffer else text.close)
    if not is_csv:
        source.items = _items_of_text(text)
        return source
    lines = map(_mended, text)
    table = _Table(name, wanted, source)
    first = next(lines, "")
    reader = csv.reader(chain([first], lines), delimiter=table.separator_in(first))
    table.read_header(reader)
    source.items = table.items(reader)
    return source


def _codec(start: bytes, named: str | None) -> tuple[str, str]:
    """Return the encoding of a file by its first bytes, and how what it can't read is taken."""
    marked = next((encoding for mark, encoding in MARKS.items() if start.startswith(mark)), None)
    encoding = named or marked or "utf-8"
    if codecs.lookup(encoding).name == "utf-8":
        # What is not UTF-8 is read as Windows wrote it, line by line.
        return "utf-8-sig", "surrogateescape"
    return encoding, "replace"


def _mended(line: str) -> str:
    """Read as Windows wrote it what is not UTF-8; only the cells beside an ICCID may have it."""
    if line.isascii():
        return line
    try:
        line.encode()
    except UnicodeEncodeError:
        return line.encode("utf-8", "surrogateescape").decode("cp1252", "replace")
    return line


def _count_lines(file: Path) -> int | None:
    if not file.is_file():
        return None
    lines = 0
    with file.open("rb") as raw:
        while chunk := raw.read(COUNT_CHUNK):
            lines += chunk.count(b"\n")
    return lines or None


class _Table:
    """The rows of a CSV input: in which column its ICCIDs are, and what stands beside them."""

    def __init__(self, name: str, wanted: Wanted, source: Source) -> None:
        self._name = name
        self._column = wanted.column
        self._source = source
        self._keeps = wanted.keep_columns
        self._index = 0

    def separator_in(self, header: str) -> str:
        """Return what separates the cells.

        Raises:
            InvalidRequest: If it can't be a header.
        """
        if "\0" in header:
            raise InvalidRequest(
                f"{self._name} looks like UTF-16 without a mark; name it: --encoding utf-16-le, "
                "or utf-16-be"
            )
        return max(SEPARATORS, key=header.count)

    def read_header(self, rows: Iterator[list[str]]) -> None:
        """Find the column of the ICCIDs.

        Raises:
            InvalidRequest: If there is none.
        """
        try:
            header = next(rows, [])
        except csv.Error as error:
            fault = error
        else:
            self._find_column([cell.strip() for cell in header])
            return
        raise self._no_csv(1, fault)

    def _find_column(self, names: list[str]) -> None:
        folded = [name.lower() for name in names]
        wanted = (self._column or "iccid").strip().lower()
        if wanted in folded:
            self._index = folded.index(wanted)
            if self._keeps:
                self._source.columns = self._without_iccid(names)
            return
        shown = ", ".join(name if len(name) <= 40 else f"{name[:37]}..." for name in names[:20])
        if self._column is None:
            raise InvalidRequest(
                f"{self._name} has no column 'iccid'; choose one with --column: {shown}"
            )
        raise InvalidRequest(f"{self._name} has no column {self._column!r}; it has: {shown}")

    def items(self, rows: Iterator[list[str]], line: int = 0) -> Iterator[str]:
        """Give the ICCIDs of rows.

        Args:
            rows: A csv reader.
            line: Number of the line that the reader's first one follows.

        Raises:
            InvalidRequest: At a row that is no CSV; names the line.
        """
        try:
            for row in rows:
                if self._index < len(row) and row[self._index].strip():
                    item = unquoted(row[self._index])
                    if self._keeps:
                        self._source.keep(item, self._without_iccid(row))
                    yield item
        except csv.Error as error:
            fault = error
        else:
            return
        raise self._no_csv(line + getattr(rows, "line_num", 0), fault)

    def _without_iccid(self, row: list[str]) -> list[str]:
        others = row[: self._index] + row[self._index + 1 :]
        wanted = len(self._source.columns) or len(others)
        return (others + [""] * wanted)[:wanted]

    def _no_csv(self, line: int, fault: csv.Error) -> InvalidRequest:
        return InvalidRequest(
            f"{self._name}, line {line}: not CSV ({fault}); mend the line, or leave it out"
        )


def _items_of_text(text: io.TextIOWrapper) -> Iterator[str]:
    for lines in _blocks(text):
        block = "".join(lines)
        if block.isascii() and block.replace("\n", "").isdigit():
            # Nothing but ICCIDs, a line each, as most files are: taken apart in one go.
            yield from block.split()
        else:
            for line in lines:
                yield from _items_of_line(_mended(line))


def _blocks(text: io.TextIOWrapper) -> Iterator[list[str]]:
    """Give lines in blocks; one by one where the next may be long in coming."""
    if stat.S_ISREG(os.fstat(text.fileno()).st_mode):
        while lines := text.readlines(BLOCK):
            yield lines
    else:
        for line in text:
            yield [line]


def _items_of_line(line: str) -> list[str]:
    alone = line.strip()
    if alone.isdigit():
        return [alone]
    text = line.partition("#")[0].replace(";", ",").replace("\t", ",")
    return [unquoted(item) for item in text.split(",") if item.strip()]


def unquoted(cell: str) -> str:
    """Take off what makes a spreadsheet keep an ICCID as text: ``="898..."`` or ``'898...``."""
    text = cell.strip()
    if text.startswith("=") and text.endswith('"'):
        text = text[1:]
    return text.strip("\"'")


async def _of_pipe(wanted: Wanted) -> Source:
    """Read a pipe without blocking the loop."""
    source = Source((), None)
    lines = _lines_of_pipe(wanted.encoding)
    if wanted.column is None:
        source.items = _text_of_pipe(lines)
        return source
    table = _Table(STDIN, wanted, source)
    records = _records(lines)
    first, _ = await anext(records, ("", 0))
    separator = table.separator_in(first)
    table.read_header(csv.reader([first], delimiter=separator))
    source.items = _cells_of_pipe(table, records, separator)
    return source


async def _text_of_pipe(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    async for line in lines:
        for item in _items_of_line(line):
            yield item


async def _cells_of_pipe(
    table: _Table, records: AsyncIterator[tuple[str, int]], separator: str
) -> AsyncIterator[str]:
    async for record, line in records:
        for item in table.items(csv.reader([record], delimiter=separator), line - 1):
            yield item


async def _records(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, int]]:
    """Join the lines of each CSV row, and give it with the number of its first line."""
    parts: list[str] = []
    number, first, size, is_open = 0, 1, 0, False
    async for line in lines:
        number += 1
        parts.append(line)
        size += len(line)
        is_open ^= line.count('"') % 2 == 1
        if not is_open:
            yield "".join(parts), first
            parts, size, first = [], 0, number + 1
        elif size > MAX_LINE:
            raise _too_long(first)
    if parts:
        raise InvalidRequest(f"{STDIN}, line {first}: a quote is never closed")


async def _lines_of_pipe(encoding: str | None) -> AsyncIterator[str]:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        start = b""
        while len(start) < 4 and (chunk := await reader.read(BLOCK)):
            start += chunk
        codec, errors = _codec(start[:4], encoding)
        decoder = io.IncrementalNewlineDecoder(
            codecs.getincrementaldecoder(codec)(errors), translate=True
        )
        rest: list[str] = []
        chunk, number, size = start, 0, 0
        while True:
            *lines, last = decoder.decode(chunk, final=not chunk).split("\n")
            for line in lines:
                number += 1
                yield _mended("".join([*rest, line, "\n"]))
                rest, size = [], 0
            rest.append(last)
            size += len(last)
            if size > MAX_LINE:
                raise _too_long(number + 1)
            if not chunk:
                break
            chunk = await reader.read(BLOCK)
        if size:
            yield _mended("".join(rest))
    finally:
        transport.close()


def _too_long(line: int) -> InvalidRequest:
    return InvalidRequest(
        f"{STDIN}, line {line} is longer than {MAX_LINE:,} characters; give one ICCID a line"
    )

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
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""What a file may begin with, and the encoding that this means; the longer marks come first."""

CLOSE_IT = 'close the quote, take it out, or write "" for a quote inside a quoted cell'


@frozen
class Wanted:
    """What is to be read, as the command line says.

    Attributes:
        iccids: ICCIDs given as arguments.
        file: The file; None or ``-`` for standard input.
        column: The CSV column that holds the ICCIDs; None for ``iccid``.
        encoding: The encoding of a file without a mark at its beginning; None for UTF-8.
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
    file = None if wanted.file == Path("-") else wanted.file
    is_csv = wanted.column is not None or (
        file is not None and file.suffix.lower() in (".csv", ".tsv")
    )
    name = STDIN if file is None else file.name
    raw = _terminal() or sys.stdin.buffer if file is None else _opened(file)
    try:
        if _is_pipe(raw, name):
            return await _of_pipe(raw, wanted, name, is_csv=is_csv)
        source = _of_file(raw, wanted, name, is_csv=is_csv)
    except BaseException:
        if raw is not sys.stdin.buffer:
            raw.close()
        raise
    source.total = None if file is None else _count_lines(file)
    return source


def _opened(file: Path) -> BinaryIO:
    """Open a file; one that nobody writes to yet, such as a named pipe, is not waited for."""
    if file.is_file():
        return file.open("rb")
    flags = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
    return open(file, "rb", opener=lambda name, mode: os.open(name, mode | flags))


def _terminal() -> BinaryIO | None:
    """Open the terminal that standard input is, if it is one.

    It is opened anew, since reading it without blocking would change it for the shell too.
    """
    try:
        return _opened(Path(os.ttyname(sys.stdin.fileno())))
    except (OSError, AttributeError):
        return None


def _is_pipe(raw: BinaryIO, name: str) -> bool:
    """Tell whether the next bytes may be long in coming.

    Raises:
        InvalidRequest: If it is a device that has no end.
    """
    status = os.fstat(raw.fileno())
    mode = status.st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        return True
    if not stat.S_ISCHR(mode) and not stat.S_ISBLK(mode):
        return False
    if raw.isatty():
        return raw is not sys.stdin.buffer
    if status.st_rdev != Path(os.devnull).stat().st_rdev:
        raise InvalidRequest(f"{name} is a device, and no file of ICCIDs")
    return False


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
    if wanted.encoding is not None and not _is_text_encoding(wanted.encoding):
        raise InvalidRequest(
            f"--encoding {wanted.encoding} is not known; utf-8, utf-16, cp1252 and gb18030 are"
        )


def _is_text_encoding(name: str) -> bool:
    """Tell whether lines of text can be read in an encoding; Python has others, such as hex."""
    line = "8985\n"
    try:
        twice = line.encode(name) * 2
        text = codecs.getincrementaldecoder(name)("replace").decode(twice, final=True)
    except (LookupError, ValueError):
        return False
    return text.replace("\ufeff", "") == line * 2


def _of_file(raw: BinaryIO, wanted: Wanted, name: str, *, is_csv: bool) -> Source:
    start = raw.peek(4)[:4] if isinstance(raw, io.BufferedReader) else b""
    encoding, errors = _codec(start, wanted.encoding, name)
    text = io.TextIOWrapper(raw, encoding, errors, newline=None)
    # One that is closed with its last reference would close standard input.
    source = Source((), None, close=text.detach if raw is sys.stdin.buffer else text.close)
    if not is_csv:
        source.items = _items_of_text(text)
        return source
    lines = map(_mended, text)
    first = next(lines, "")
    if first:
        table = _Table(name, wanted, source, first)
        rows = _Rows(chain([first], lines), table.separator)
        table.read_header(rows)
        source.items = table.items(rows)
    return source


def _codec(start: bytes, named: str | None, name: str) -> tuple[str, str]:
    """Return the encoding of a file by its first bytes, and how what it can't read is taken.

    A mark counts more than what was named: ``--encoding utf-16-le`` would leave it in the text.

    Raises:
        InvalidRequest: If it has no mark, and it is named or looks like UTF-16 of either order.
    """
    marked = next((encoding for mark, encoding in MARKS.items() if start.startswith(mark)), None)
    encoding = codecs.lookup(marked or named or "utf-8").name
    needs_mark = encoding in ("utf-16", "utf-32") and marked is None and start
    is_wide = encoding.startswith(("utf-16", "utf-32"))
    if needs_mark or (b"\0" in start and not is_wide):
        raise _no_mark(name, encoding if is_wide else "utf-16")
    if encoding in ("utf-8", "utf-8-sig"):
        # What is not UTF-8 is read as Windows wrote it, line by line.
        return "utf-8-sig", "surrogateescape"
    return encoding, "replace"


def _no_mark(name: str, encoding: str = "utf-16") -> InvalidRequest:
    return InvalidRequest(
        f"{name} looks like {encoding.upper()} without a mark; name it: --encoding {encoding}-le, "
        f"or {encoding}-be"
    )


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


class _Rows:
    """The rows of CSV lines, and the lines of the row that was read last.

    A quote opens a quoted cell at the beginning of a cell only, as in all of CSV; inside a cell
    it is a letter, such as the mark of inches.

    Attributes:
        cells: A csv reader.
        lines: The lines of the row; an empty one follows if they ended inside the row.
        is_last: Whether no lines follow these.
    """

    def __init__(
        self, lines: Iterable[str], separator: str, before: int = 0, *, is_last: bool = True
    ) -> None:
        """Read lines, of which so many come before the first."""
        self.lines: list[str] = []
        self.cells = csv.reader(self._given(lines), delimiter=separator)
        self.is_last = is_last
        self._separator = separator
        self._before = before

    def _given(self, lines: Iterable[str]) -> Iterator[str]:
        keep = self.lines.append
        for line in lines:
            keep(line)
            yield line
        keep("")

    @property
    def number(self) -> int:
        """The number of the row's first line, from 1."""
        return self._before + self.cells.line_num - sum(map(bool, self.lines)) + 1

    def followed_by(self, more: list[str]) -> _Rows:
        """Return the rows of the lines that follow, from a row on that is not whole yet.

        Args:
            more: The lines; none if there are no more.
        """
        left = [line for line in self.lines if line]
        return _Rows([*left, *more], self._separator, self.number - 1, is_last=not more)


class _Table:
    """A CSV input: in which column its ICCIDs are, and what stands beside them.

    Attributes:
        separator: What separates the cells.
    """

    def __init__(self, name: str, wanted: Wanted, source: Source, first: str) -> None:
        """Take the first line.

        Raises:
            InvalidRequest: If it can't be a header.
        """
        if "\0" in first:
            raise _no_mark(name)
        self.separator = max(SEPARATORS, key=first.count)
        self._name = name
        self._column = wanted.column
        self._source = source
        self._keeps = wanted.keep_columns
        self._index, self._width = 0, 0

    def read_header(self, rows: _Rows) -> bool:
        """Find the column of the ICCIDs.

        Returns:
            Whether the header was whole; if not, more lines have to come.

        Raises:
            InvalidRequest: If there is none, or more than one.
        """
        try:
            header = next(rows.cells, [])
        except csv.Error as error:
            fault = error
        else:
            if not self._is_whole(rows):
                return False
            self._find_column([cell.strip() for cell in header])
            # Now that it is known where the ICCIDs are, again.
            self._is_whole(rows)
            rows.lines.clear()
            return True
        raise self._no_csv(rows, fault)

    def _find_column(self, names: list[str]) -> None:
        wanted = (self._column or "iccid").strip()
        same = [index for index, name in enumerate(names) if name.lower() == wanted.lower()]
        # Of "iccid" and "ICCID", the one that is spelled as it was named is meant.
        found = [index for index in same if names[index] == wanted] or same
        if len(found) > 1:
            raise InvalidRequest(
                f"{self._name} has {len(found)} columns {names[found[0]]!r}; rename all but the "
                "one that holds the ICCIDs"
            )
        if found:
            self._index, self._width = found[0], len(names)
            if self._keeps:
                self._source.columns = self._without_iccid(_unique(names))
            return
        shown = ", ".join(name if len(name) <= 40 else f"{name[:37]}..." for name in names[:20])
        if self._column is None:
            raise InvalidRequest(
                f"{self._name} has no column 'iccid'; choose one with --column: {shown}"
            )
        raise InvalidRequest(f"{self._name} has no column {self._column!r}; it has: {shown}")

    def items(self, rows: _Rows) -> Iterator[str]:
        """Give the ICCIDs of rows, up to one that is not whole.

        Raises:
            InvalidRequest: At a row that is no CSV, or has others in it; names the line.
        """
        index, keeps, lines = self._index, self._keeps, rows.lines
        try:
            for row in rows.cells:
                if len(lines) != 1 and not self._is_whole(rows):
                    return
                lines.clear()
                if index < len(row) and row[index].strip():
                    item = unquoted(row[index])
                    if keeps:
                        self._source.keep(item, self._without_iccid(row))
                    yield item
        except csv.Error as error:
            fault = error
        else:
            return
        raise self._no_csv(rows, fault)

    def _is_whole(self, rows: _Rows) -> bool:
        """Tell whether a row of several lines is whole, and check that it has no other row in it.

        Raises:
            InvalidRequest: If it has one, or if the file ended in a quoted cell.
        """
        fault = ""
        for position, line in enumerate(rows.lines[1:], 1):
            if self._is_row(line):
                number = rows.number + position
                fault = f"takes in line {number}, which looks like a row of its own"
                break
        is_whole = bool(rows.lines[-1])
        if not fault and not is_whole and rows.is_last:
            fault = "is never closed"
        if fault:
            raise InvalidRequest(
                f"{self._name}, line {rows.number}: a quote opens a cell that {fault}; {CLOSE_IT}"
            )
        return is_whole

    def _is_row(self, line: str) -> bool:
        """Tell whether a line inside a quoted cell looks like a row: it has an ICCID in its place.

        Where a quoted cell ends, what looks like a cell ends with the closing quote, and the line
        is no row.
        """
        if not self._width or line.count(self.separator) + 1 < self._width:
            # Told without taking it apart, which takes longer.
            return False
        try:
            row = next(csv.reader([line], delimiter=self.separator), [])
        except csv.Error:
            return False
        return (
            len(row) == self._width
            and iccid_or_none(unquoted(row[self._index])) is not None
            and not any(cell.rstrip().endswith('"') and cell.count('"') % 2 for cell in row)
        )

    def _without_iccid(self, row: list[str]) -> list[str]:
        others = row[: self._index] + row[self._index + 1 :]
        wanted = len(self._source.columns) or len(others)
        return (others + [""] * wanted)[:wanted]

    def _no_csv(self, rows: _Rows, fault: csv.Error) -> InvalidRequest:
        where = f"{self._name}, line {rows.number}: "
        if len(rows.lines) > 1:
            return InvalidRequest(
                f"{where}a quote opens a cell that has not ended {len(rows.lines) - 1:,} lines "
                f"later; {CLOSE_IT}"
            )
        return InvalidRequest(f"{where}not CSV ({fault}); mend the line, or leave it out")


def _unique(names: list[str]) -> list[str]:
    """Give each column a name of its own, so that no cell takes another's place in JSON."""
    unique: list[str] = []
    for position, given in enumerate(names, 1):
        base = name = given or f"column {position}"
        count = 1
        while name in unique or (count > 1 and name in names):
            count += 1
            name = f"{base} {count}"
        unique.append(name)
    return unique


def _items_of_text(text: io.TextIOWrapper) -> Iterator[str]:
    while lines := text.readlines(BLOCK):
        yield from _items_of_lines(lines)


def _items_of_lines(lines: list[str]) -> Iterator[str]:
    block = "".join(lines)
    if block.isascii() and block.replace("\n", "").isdigit():
        # Nothing but ICCIDs, a line each, as most files are: taken apart in one go.
        yield from block.split()
    else:
        for line in lines:
            yield from _items_of_line(_mended(line))


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


async def _of_pipe(raw: BinaryIO, wanted: Wanted, name: str, *, is_csv: bool) -> Source:
    """Read a pipe without blocking the loop."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), raw
    )
    try:
        source = Source((), None, close=transport.close)
        blocks = _blocks_of_pipe(reader, wanted.encoding, name)
        if not is_csv:
            source.items = _text_of_pipe(blocks)
        elif lines := await anext(blocks, None):
            table = _Table(name, wanted, source, lines[0])
            rows = _Rows(lines, table.separator, is_last=False)
            while not table.read_header(rows):
                rows = rows.followed_by(await anext(blocks, []))
            source.items = _cells_of_pipe(table, rows, blocks)
    except BaseException:
        transport.close()
        raise
    return source


async def _text_of_pipe(blocks: AsyncIterator[list[str]]) -> AsyncIterator[str]:
    async for lines in blocks:
        for item in _items_of_lines(lines):
            yield item


async def _cells_of_pipe(
    table: _Table, rows: _Rows, blocks: AsyncIterator[list[str]]
) -> AsyncIterator[str]:
    while True:
        for item in table.items(rows):
            yield item
        if rows.is_last:
            return
        rows = rows.followed_by(await anext(blocks, []))


async def _blocks_of_pipe(
    reader: asyncio.StreamReader, encoding: str | None, name: str
) -> AsyncIterator[list[str]]:
    """Give lines as they come, in blocks that are not empty."""
    start = b""
    while len(start) < 4 and (chunk := await reader.read(BLOCK)):
        start += chunk
    codec, errors = _codec(start[:4], encoding, name)
    decoder = io.IncrementalNewlineDecoder(
        codecs.getincrementaldecoder(codec)(errors), translate=True
    )
    rest: list[str] = []
    chunk, number, size = start, 0, 0
    while True:
        *lines, last = decoder.decode(chunk, final=not chunk).split("\n")
        if lines:
            lines[0] = "".join([*rest, lines[0]])
            number, rest, size = number + len(lines), [], 0
            yield [_mended(f"{line}\n") for line in lines]
        rest.append(last)
        size += len(last)
        if size > MAX_LINE:
            raise InvalidRequest(
                f"{name}, line {number + 1} is longer than {MAX_LINE:,} characters; give one "
                "ICCID a line"
            )
        if not chunk:
            break
        chunk = await reader.read(BLOCK)
    if size:
        yield [_mended("".join(rest))]

"""ICCIDs out of text files, whatever their lines look like."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st
from waiting import SECONDS

from mioesim_async.cli import iccid_sources
from mioesim_async.cli.iccid_sources import Wanted, open_source
from mioesim_async.errors import InvalidRequest

ICCID = "8985000000000000001"
LINES = st.sampled_from(
    [ICCID, ICCID * 2, "", " ", f"{ICCID} ", f"{ICCID}F", f"{ICCID}, {ICCID}", f"# {ICCID}",
     f"{ICCID};{ICCID}", f"8985-{ICCID}", f'="{ICCID}"', "\u0663", f"{ICCID}\r{ICCID}"]
)  # fmt: skip
ENDS = st.sampled_from(["\n", "\r\n"])
ENCODINGS = ["utf-8", "cp1252", "utf-16"]
TEXTS = st.lists(st.tuples(LINES, ENDS).map("".join), max_size=12)


def line_by_line(text: str) -> list[str]:
    """What a file holds, the slow and obvious way."""
    found: list[str] = []
    ends = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    for line in ends.split("\n"):
        content = line.partition("#")[0].replace(";", ",")
        cells = [cell.strip() for cell in content.split(",")]
        found += [cell.removeprefix("=").strip("\"'") for cell in cells if cell]
    return found


@settings(max_examples=300)
@given(start=st.sampled_from(["", "\ufeff"]), lines=TEXTS, end=LINES)
def test_a_file_and_a_pipe_are_read_alike_in_blocks_and_line_by_line(
    start: str, lines: list[str], end: str
) -> None:
    text = start + "".join(lines) + end
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(iccid_sources, "BLOCK", 50)
        file = Path(folder) / "iccids.txt"
        file.write_bytes(text.encode())
        source = asyncio.run(open_source(Wanted(file=file)))
        assert not hasattr(source.items, "__anext__")
        assert [*source.items] == line_by_line(text)
        source.close()
        assert read_pipe(text.encode(), column=None) == line_by_line(text)


def read(wanted: Wanted) -> list[str]:
    """Read all ICCIDs, or the error in their place."""

    async def items() -> list[str]:
        source = await open_source(wanted)
        try:
            if isinstance(source.items, AsyncIterator):
                return [item async for item in source.items]
            return [*source.items]
        finally:
            source.close()

    try:
        return asyncio.run(items())
    except InvalidRequest as error:
        return [str(error).replace("<stdin>", "cards.csv")]


def read_file(content: bytes, folder: Path) -> list[str]:
    file = folder / "cards.csv"
    file.write_bytes(content)
    return read(Wanted(file=file, column="iccid"))


def read_pipe(content: bytes, column: str | None = "iccid") -> list[str]:
    """Read from a pipe as standard input; the content must fit into it."""
    reads, writes = os.pipe()
    os.write(writes, content)
    os.close(writes)
    with os.fdopen(reads) as stdin, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", stdin)
        return read(Wanted(column=column))


PIECES = st.sampled_from(
    [ICCID, f'="{ICCID}"', f'"=""{ICCID}"""', '7" tablet', '"', '""', '"a, b"', '"a\nb"', "x", ",",
     ",", ",", "\n", "\n", "\r\n", "Jos\xe9"]
)  # fmt: skip
HEADERS = st.sampled_from(
    ["iccid", "iccid,name", "name,iccid", '"a\nb",iccid,n', 'iccid,"n', "", "x"]
)


@settings(max_examples=400)
@given(header=HEADERS, pieces=st.lists(PIECES, max_size=25), encoding=st.sampled_from(ENCODINGS))
def test_csv_is_read_alike_from_a_file_and_from_a_pipe_in_pieces_of_any_size(
    header: str, pieces: list[str], encoding: str
) -> None:
    content = f"{header}\n{''.join(pieces)}".encode(encoding)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(iccid_sources, "BLOCK", 7)
        assert read_pipe(content) == read_file(content, Path(folder))


OTHER = f"{ICCID[:-1]}2"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        # Up to the end of the file.
        (f'iccid,n\n{ICCID},"7 tablet\n{OTHER},x\n', 2),
        (f'iccid,n\n{ICCID},x\n{OTHER},"7 tablet\n', 3),
        (f'iccid,n\n{ICCID},"n\nno row\n', 2),
        (f'"iccid,n\n{ICCID},x\n', 1),
        # Up to the next quote.
        (f'iccid,n\n{ICCID},"a\n{OTHER},x\n{ICCID},b"\n', 2),
        (f'iccid,n\n{ICCID},"a\n{OTHER},"b\n', 2),
        (f'iccid,n\n{ICCID},"a\n{OTHER},7" tablet\n', 2),
        (f'iccid,n\n{ICCID},"a\n"=""{OTHER}""",b\n', 2),
        (f'iccid,n\n{ICCID},"a\n="{OTHER}",b\n', 2),
        (f'iccid,"n\n{ICCID},x\n{OTHER},"y"\n', 1),
        (f'n,iccid\n"a,{ICCID}\nb,{OTHER}\n"c",{OTHER}\n', 2),
        (f'iccid\n"{ICCID}\n{OTHER}\n{OTHER}"\n', 2),
        # Up to the longest cell that csv reads.
        ('iccid,n\n1,"a\n' + "no row\n" * 20_000, 2),
    ],
)
def test_a_quote_that_takes_in_rows_is_told_with_the_line_where_it_opens(
    tmp_path: Path, content: str, line: int
) -> None:
    *_, fault = read_file(content.encode(), tmp_path)
    assert fault.startswith(f"cards.csv, line {line}: a quote opens a cell ")
    assert "close the quote" in fault
    if len(content) < 60_000:
        assert read_pipe(content.encode())[-1] == fault


@pytest.mark.parametrize(
    ("content", "items"),
    [
        (f'iccid,n\n{ICCID},7" tablet\n{OTHER},"7"" x"\n', [ICCID, OTHER]),
        (f'iccid,n\n{ICCID},"a\n\nb"\n{OTHER},"\n"\n', [ICCID, OTHER]),
        (f'n,iccid\n"a\nb",{ICCID}\n"c\n","{OTHER}"\n', [ICCID, OTHER]),
        (f'n,iccid,m\n"a\n""b"", c",{ICCID},"d\n"\n', [ICCID]),
        (f'iccid,n,m\n{ICCID},"was:\n{OTHER}\n{OTHER}",x\n', [ICCID]),
        (f'iccid,n,m\n{ICCID},"{OTHER}, {OTHER}\n{OTHER}, {OTHER}",x\n', [ICCID]),
        (f'iccid,n\n"\n{ICCID}",x\n"{OTHER}\n",x\n', [ICCID, OTHER]),
        (f'"iccid\n",n\n{ICCID},"a" b\n', [ICCID]),
    ],
)
def test_legal_cells_with_quotes_and_line_breaks_are_read(
    tmp_path: Path, content: str, items: list[str]
) -> None:
    assert read_file(content.encode(), tmp_path) == items
    assert read_pipe(content.encode()) == items


def test_lines_of_a_named_pipe_are_given_as_they_come(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    async def opened() -> list[str]:
        # Nobody writes yet, and the loop goes on.
        source = await open_source(Wanted(file=pipe))
        assert isinstance(source.items, AsyncIterator)
        first = asyncio.ensure_future(anext(source.items))
        assert await asyncio.wait([first], timeout=0.01) == (set(), {first})
        with pipe.open("w") as file:
            file.write(f"{ICCID}\n")
            file.flush()
            found = [await asyncio.wait_for(first, SECONDS)]
            file.write(f"{OTHER}\n")
        found += [item async for item in source.items]
        source.close()
        return found

    assert asyncio.run(opened()) == [ICCID, OTHER]


@pytest.mark.parametrize("way", ["file", "standard input"])
def test_a_device_without_an_end_is_refused(way: str) -> None:
    with Path("/dev/zero").open() as device, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", device)
        (fault,) = read(Wanted(file=Path("/dev/zero" if way == "file" else "-")))
    assert fault.endswith("is a device, and no file of ICCIDs")


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("name,iccid,name,name 2,name", ["name", "name 3", "name 2", "name 4"]),
        ("iccid,,n,", ["column 2", "n", "column 4"]),
        ("ICCID,iccid,n", ["ICCID", "n"]),
    ],
)
def test_every_kept_column_has_a_name_of_its_own(
    tmp_path: Path, header: str, columns: list[str]
) -> None:
    file = tmp_path / "cards.csv"
    file.write_text(f"{header}\n1,2\n")
    source = asyncio.run(open_source(Wanted(file=file, keep_columns=True)))
    assert source.columns == columns
    source.close()


def test_two_columns_of_iccids_are_refused(tmp_path: Path) -> None:
    for content in (b"iccid,n,iccid\n1,2,3\n", b"ICCID,n,Iccid\n1,2,3\n"):
        (fault,) = read_file(content, tmp_path)
        assert "2 columns" in fault
        assert read_pipe(content) == [fault]

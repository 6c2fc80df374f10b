"""ICCIDs out of text files, whatever their lines look like."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st
from waiting import SECONDS

from mioesim_async.cli import iccid_sources
from mioesim_async.cli.iccid_sources import Wanted, open_source

ICCID = "8985000000000000001"
LINES = st.sampled_from(
    [ICCID, ICCID * 2, "", " ", f"{ICCID} ", f"{ICCID}F", f"{ICCID}, {ICCID}", f"# {ICCID}",
     f"{ICCID};{ICCID}", f"8985-{ICCID}", f'="{ICCID}"', "\u0663", f"{ICCID}\r{ICCID}"]
)  # fmt: skip
ENDS = st.sampled_from(["\n", "\r\n"])
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
def test_a_file_is_read_alike_in_blocks_and_line_by_line(
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


def test_lines_of_a_named_pipe_are_given_as_they_come(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    was_read = threading.Event()

    def write() -> None:
        with pipe.open("w") as file:
            file.write(f"{ICCID}\n")
            file.flush()
            if was_read.wait(SECONDS):
                file.write(f"{ICCID[:-1]}2\n")

    writer = threading.Thread(target=write)
    writer.start()
    source = asyncio.run(open_source(Wanted(file=pipe)))
    items = iter(source.items)
    try:
        assert next(items) == ICCID
    finally:
        was_read.set()
    assert [*items] == [f"{ICCID[:-1]}2"]
    source.close()
    writer.join(SECONDS)
    assert not writer.is_alive()

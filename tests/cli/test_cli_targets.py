"""Files that a command is told to write: which they are, and what stays as it was."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Done, mioesim
from waiting import SECONDS

from mioesim_async.sandbox import Sandbox

RESULT = "result.csv"


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox(3) as sandbox:
        yield sandbox


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write(server: Sandbox, option: str, target: Path) -> Done:
    """Have the command write a file, of cards or of what was bought."""
    if option == "-o":
        return mioesim("query", *server.iccids, "--format", "csv", option, target, sandbox=server)
    lines = Path(os.environ["XDG_STATE_HOME"]).with_name("lines.csv")
    lines.write_text("sku_id,price_id,count\n45,441,1\n")
    return mioesim(
        "order", "--file", lines, "--max-spend", 100, "--yes", option, target, sandbox=server
    )


OPTIONS = pytest.mark.parametrize("option", ["-o", "--result"])


@OPTIONS
def test_a_link_out_of_its_folder_is_refused_and_what_it_leads_to_stays(
    server: Sandbox, tmp_path: Path, option: str
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    precious = tmp_path / "elsewhere" / "precious.csv"
    precious.write_text("precious")
    precious.chmod(0o640)
    link = tmp_path / "out" / RESULT
    link.symlink_to(precious)
    done = write(server, option, link)

    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert str(precious) in done.err
    assert (precious.read_text(), mode(precious)) == ("precious", 0o640)
    assert server.requests == []
    assert server.orders == []


@OPTIONS
def test_a_link_within_its_folder_stays_one_and_its_file_is_replaced(
    server: Sandbox, tmp_path: Path, option: str
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "link.csv").symlink_to(RESULT)
    done = write(server, option, folder / "link.csv")

    assert done.status == 0, done.err
    assert (folder / "link.csv").is_symlink()
    assert (folder / RESULT).read_text().count("\n") >= 2
    assert sorted(path.name for path in folder.iterdir()) == ["link.csv", RESULT]


def test_a_hard_link_of_a_result_file_keeps_its_content_and_its_mode(
    server: Sandbox, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    other = tmp_path / "other"
    other.write_text("precious")
    other.chmod(0o644)
    (folder / RESULT).hardlink_to(other)
    assert write(server, "--result", folder / RESULT).status == 0

    assert (other.read_text(), mode(other)) == ("precious", 0o644)
    assert (folder / RESULT).read_text().startswith("line,")


@OPTIONS
def test_a_pipe_is_written_to_and_keeps_its_mode(
    server: Sandbox, tmp_path: Path, option: str
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    pipe = folder / RESULT
    os.mkfifo(pipe, 0o644)
    pipe.chmod(0o644)
    came: list[str] = []
    reader = threading.Thread(target=lambda: came.append(pipe.read_text()), daemon=True)
    reader.start()
    done = write(server, option, pipe)
    reader.join(SECONDS)

    assert done.status == 0, done.err
    assert came[0].count("\n") >= 2
    assert mode(pipe) == 0o644
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@OPTIONS
def test_dev_null_keeps_its_mode(server: Sandbox, option: str) -> None:
    before = mode(Path(os.devnull))
    assert write(server, option, Path(os.devnull)).status == 0
    assert mode(Path(os.devnull)) == before
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


@OPTIONS
def test_a_command_that_fails_leaves_the_file_that_was_there(
    server: Sandbox, tmp_path: Path, option: str
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    there = folder / RESULT
    there.write_text("precious")
    done = mioesim(
        *(("query", "not-a-card") if option == "-o" else ("order", "--file", tmp_path / "none")),
        *(() if option == "-o" else ("--max-spend", 5, "--yes")),
        option,
        there,
        sandbox=server,
    )
    assert done.status == 2
    assert there.read_text() == "precious"
    assert [path.name for path in folder.iterdir()] == [RESULT]


@OPTIONS
def test_a_descriptor_s_name_is_written_to_as_the_pipe_that_it_is(
    server: Sandbox, option: str
) -> None:
    reader, writer = os.pipe()
    came: list[str] = []

    def read() -> None:
        with os.fdopen(reader, encoding="utf-8") as pipe:
            came.append(pipe.read())

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    done = write(server, option, Path(f"/dev/fd/{writer}"))
    os.close(writer)
    thread.join(SECONDS)
    assert done.status == 0, done.err
    assert came[0].count("\n") >= 2

"""Files that ``mioesim query`` writes: what could be written over, and what can't be written."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Done, ended, interrupted, lines_of, mioesim, started
from waiting import wait_until

from mioesim_async.cli.output_files import OutputFile
from mioesim_async.sandbox import Fault, Sandbox

QUERY = "queryIccidInformation"
KEPT = "what is kept\n"


@pytest.fixture
def server() -> Iterator[Sandbox]:
    with Sandbox(300) as sandbox:
        yield sandbox


def refused(done: Done, server: Sandbox, told: str) -> None:
    """Wrong usage, told in one line before anything was sent."""
    assert (done.status, done.err.count("\n"), server.requests) == (2, 1, [])
    assert told in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("kind", ["symlink", "hard link", "pipe"])
@pytest.mark.parametrize("option", ["-o", "--summary"])
def test_a_part_that_is_a_link_or_a_pipe_is_not_written_to(
    server: Sandbox, tmp_path: Path, kind: str, option: str
) -> None:
    precious, part = tmp_path / "precious.txt", tmp_path / "result.csv.part"
    precious.write_text(KEPT)
    if kind == "symlink":
        part.symlink_to(precious)
    elif kind == "hard link":
        os.link(precious, part)
    else:
        os.mkfifo(part)
    done = mioesim(
        "query", server.iccids[0], option, tmp_path / "result.csv", "--quiet", sandbox=server
    )
    assert done.status == 2
    assert "result.csv.part" in done.err
    assert (precious.read_text(), server.requests) == (KEPT, [])


@pytest.mark.parametrize("way", ["other path", "linked folder", "part of it", "it is its part"])
def test_a_summary_is_never_written_over_the_output_by_any_path(
    server: Sandbox, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "linked").symlink_to(folder)
    monkeypatch.chdir(folder)
    output, summary = {
        "other path": ("a.csv", folder / "a.csv"),
        "linked folder": (folder / "a.csv", tmp_path / "linked" / "a.csv"),
        "part of it": ("a.csv", "a.csv.part"),
        "it is its part": ("a.csv.part", folder / "a.csv"),
    }[way]
    files = ("-o", output, "--format", "csv", "--summary", summary)
    done = mioesim("query", server.iccids[0], *files, sandbox=server)
    refused(done, server, "would overwrite the --output")
    assert [*folder.iterdir()] == []


@pytest.mark.parametrize("option", ["-o", "--summary"])
def test_a_file_that_can_t_be_written_is_told_before_anything_is_sent(
    server: Sandbox, tmp_path: Path, option: str
) -> None:
    # Root may write everywhere but here.
    folder = Path("/sys/kernel") if os.geteuid() == 0 else tmp_path
    tmp_path.chmod(0o555)
    done = mioesim("query", server.iccids[0], option, folder / "a.csv", sandbox=server)
    refused(done, server, "a.csv.part: Permission denied")
    done = mioesim("query", server.iccids[0], option, tmp_path / "none/a.csv", sandbox=server)
    refused(done, server, "none/a.csv")


def test_a_pipe_that_nothing_reads_is_told_and_one_that_is_read_is_written(
    server: Sandbox, tmp_path: Path
) -> None:
    pipe = tmp_path / "rows"
    os.mkfifo(pipe)
    arguments = ("query", server.iccids[0], "-o", pipe, "--format", "jsonl")
    refused(mioesim(*arguments, sandbox=server), server, "start what reads it first")

    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        done = mioesim(*arguments, sandbox=server)
        assert (done.status, json.loads(os.read(reading, 4096))["iccid"]) == (0, server.iccids[0])
    finally:
        os.close(reading)


def test_a_run_that_found_nothing_to_do_leaves_no_part(server: Sandbox, tmp_path: Path) -> None:
    source, output = tmp_path / "cards.txt", tmp_path / "result.csv"
    source.write_text("")
    arguments = ("query", "-f", source, "-o", output, "--summary", tmp_path / "summary.json")
    assert mioesim(*arguments, sandbox=server).status == 2
    assert not [*tmp_path.glob("*.part")]
    assert not output.exists()


def test_a_file_whose_part_was_replaced_is_not_touched(tmp_path: Path) -> None:
    target = tmp_path / "result.csv"
    target.write_text(KEPT)
    output = OutputFile(target)
    output.begin().write("new")
    output.part.unlink()
    output.part.write_text("somebody else's")
    with pytest.raises(Exception, match="removed or replaced"):
        output.commit()
    assert output.close() is None
    assert (target.read_text(), output.part.read_text()) == (KEPT, "somebody else's")


def test_another_run_is_kept_out_until_the_last_row(server: Sandbox, tmp_path: Path) -> None:
    source, output = tmp_path / "cards.txt", tmp_path / "result.csv"
    source.write_text(lines_of(server.iccids))
    server.faults.add(Fault.slow(60), QUERY, times=1, after=2)
    arguments = ("query", "-f", source, "-o", output, "--concurrency", "1")
    with started(*arguments, sandbox=server) as first:
        wait_until(lambda: len(part_lines(output)) > 200)
        before = part_lines(output)
        for more in ((), ("--resume",)):
            done = mioesim(*arguments, *more, sandbox=server)
            assert (done.status, part_lines(output)) == (2, before)
            assert "another run is writing" in done.err
        told = interrupted(first)
    assert told.status == 130
    assert part_lines(output) == before
    assert not output.exists()


def test_the_first_of_two_runs_at_once_that_resume_writes_the_whole_file(
    server: Sandbox, tmp_path: Path
) -> None:
    source, output = tmp_path / "cards.txt", tmp_path / "result.csv"
    source.write_text(lines_of(server.iccids))
    done = mioesim("query", *server.iccids[:100], "-o", output, sandbox=server)
    assert done.status == 0
    server.faults.add(Fault.slow(2), QUERY, times=1)
    arguments = ("query", "-f", source, "-o", output, "--resume")
    with started(*arguments, sandbox=server) as first:
        wait_until(lambda: len(part_lines(output)) > 100)
        assert mioesim(*arguments, sandbox=server).status == 2
        assert ended(first).status == 0
    with output.open(newline="") as file:
        iccids = [row["iccid"].strip('="') for row in csv.DictReader(file)]
    assert sorted(iccids) == sorted(server.iccids)


def part_lines(output: Path) -> list[str]:
    """The lines of FILE.part; none if it isn't there."""
    part = output.with_name(f"{output.name}.part")
    return part.read_text().splitlines() if part.exists() else []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_a_file_keeps_its_owner_when_root_writes_it(server: Sandbox, tmp_path: Path) -> None:
    output = tmp_path / "result.csv"
    output.write_text(KEPT)
    os.chown(output, 12345, 23456)
    assert mioesim("query", server.iccids[0], "-o", output, sandbox=server).status == 0
    assert (output.stat().st_uid, output.stat().st_gid) == (12345, 23456)


def test_the_status_in_a_summary_is_the_status_of_the_command(
    server: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, summary = OutputFile.commit, tmp_path / "summary.json"

    def denied(self: OutputFile) -> None:
        if self.target.suffix == ".csv":
            raise PermissionError(13, "Permission denied", "result.csv")
        commit(self)

    monkeypatch.setattr(OutputFile, "commit", denied)
    files = ("-o", tmp_path / "result.csv", "--summary", summary)
    done = mioesim("query", server.iccids[0], *files, sandbox=server)
    assert (done.status, json.loads(summary.read_text())["exit_status"]) == (2, 2)


def test_a_formula_in_a_header_of_the_input_is_made_harmless(
    server: Sandbox, tmp_path: Path
) -> None:
    source, output = tmp_path / "cards.csv", tmp_path / "result.csv"
    source.write_text(f"=cmd|x,iccid\n1,{server.iccids[0]}\n")
    arguments = ("query", "-f", source, "-o", output, "--keep-columns")
    assert mioesim(*arguments, sandbox=server).status == 0
    assert output.read_text().splitlines()[0].endswith(",'=cmd|x")
    again = mioesim(*arguments, "--resume", sandbox=server)
    assert (again.status, len(output.read_text().splitlines())) == (0, 2)


def test_columns_of_the_input_never_take_the_name_of_another(
    server: Sandbox, tmp_path: Path
) -> None:
    source, output = tmp_path / "cards.csv", tmp_path / "result.jsonl"
    source.write_text(f"result,input_result,iccid\nold,older,{server.iccids[0]}\n")
    done = mioesim("query", "-f", source, "-o", output, "--keep-columns", sandbox=server)
    row = json.loads(output.read_text())
    assert (done.status, row["result"]) == (0, "found")
    assert (row["input_result"], row["input_input_result"]) == ("old", "older")


def test_a_dangling_link_as_part_makes_no_file(server: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "result.csv.part").symlink_to(tmp_path / "elsewhere")
    done = mioesim("query", server.iccids[0], "-o", tmp_path / "result.csv", sandbox=server)
    refused(done, server, "result.csv.part is a link")
    assert not (tmp_path / "elsewhere").exists()


def test_a_summary_never_tells_of_an_earlier_run(server: Sandbox, tmp_path: Path) -> None:
    summary = tmp_path / "summary.json"
    arguments = ("query", server.iccids[0], "--summary", summary, "--quiet")
    assert mioesim(*arguments, sandbox=server).status == 0
    done = mioesim(*arguments, sandbox=server, MIOESIM_BASE_URL="http://127.0.0.1:1")
    told = json.loads(summary.read_text())
    assert (done.status, told["exit_status"], told["ended"]) == (5, 5, "ended early")
    assert "127.0.0.1:1" in told["first_error"]


@pytest.mark.parametrize(("ending", "is_advised"), [("json", False), ("jsonl", True)])
def test_resume_is_advised_only_where_it_works(
    tmp_path: Path, ending: str, is_advised: bool
) -> None:
    source, output = tmp_path / "cards.txt", tmp_path / f"result.{ending}"
    with Sandbox(300) as server:
        source.write_text(lines_of(server.iccids))
        # Somebody else keeps logging in, which ends the run at once.
        server.faults.add(Fault.evict_token(), QUERY, times=None, after=1)
        arguments = ("-o", output, "--concurrency", "1")
        done = mioesim("query", "-f", source, *arguments, sandbox=server)
    assert (done.status, "--resume" in done.err) == (5, is_advised)
    assert f"result.{ending}.part" in done.err

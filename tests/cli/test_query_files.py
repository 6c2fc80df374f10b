"""Files that ``mioesim query`` reads and writes: nothing is destroyed, nothing stops it."""

from __future__ import annotations

import csv
import json
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest
from command import lines_of, mioesim, started
from waiting import wait_until

from mioesim_async.cli.output_files import OutputFile
from mioesim_async.sandbox import Fault, Sandbox

QUERY = "queryIccidInformation"
YESTERDAY = "iccid,result\nyesterday's,found\n"


@pytest.fixture
def server() -> Iterator[Sandbox]:
    with Sandbox(2000) as sandbox:
        yield sandbox


def iccids_in(file: Path) -> list[str]:
    """The ICCIDs of a CSV or JSON Lines file, as a person would read them."""
    text = file.read_text(encoding="utf-8")
    if ".csv" in file.name:
        return [row["iccid"].strip('="') for row in csv.DictReader(text.splitlines())]
    return [json.loads(line)["iccid"] for line in text.splitlines()]


def asked(server: Sandbox) -> list[str]:
    """The ICCIDs that were asked for, request by request."""
    lists = [request.params["iccids"] for request in server.requests if request.endpoint == QUERY]
    return [iccid for one in lists for iccid in one.split(",")]


# What is there stays, until its successor is whole.


@pytest.mark.parametrize(
    "wrong", [{"MIOESIM_SECRET_KEY": "made-up"}, {"MIOESIM_BASE_URL": "http://127.0.0.1:1"}]
)
def test_a_run_that_can_t_log_in_leaves_every_file_as_it_was(
    server: Sandbox, tmp_path: Path, wrong: dict[str, str]
) -> None:
    output, part = tmp_path / "result.csv", tmp_path / "result.csv.part"
    output.write_text(YESTERDAY)
    part.write_text("what was done before")
    done = mioesim("query", server.iccids[0], "-o", output, sandbox=server, **wrong)
    assert done.status in (3, 5)
    assert (output.read_text(), part.read_text()) == (YESTERDAY, "what was done before")


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_run_that_is_killed_leaves_the_file_and_its_part_and_resume_asks_for_the_rest(
    server: Sandbox, tmp_path: Path, kind: str
) -> None:
    source, output = tmp_path / "cards.txt", tmp_path / f"result.{kind}"
    part = tmp_path / f"result.{kind}.part"
    wanted = server.iccids[:400]
    source.write_text(lines_of(wanted))
    output.write_text(YESTERDAY)
    server.faults.add(Fault.slow(60), QUERY, times=1, after=2)
    arguments = ("query", "-f", source, "-o", output, "--concurrency", "1")
    with started(*arguments, sandbox=server) as process:
        lines = 200 + (kind == "csv")
        wait_until(lambda: part.exists() and part.read_text().count("\n") >= lines)
        # Else the third request might be read after the kill, and be taken for the next run's.
        wait_until(lambda: len(asked(server)) == 300)
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    assert output.read_text() == YESTERDAY
    # The kill may have cut a line.
    part.write_text(part.read_text() + '"=""898')
    server.requests.clear()

    done = mioesim(*arguments, "--resume", sandbox=server)

    assert (done.status, asked(server)) == (0, wanted[200:])
    assert (sorted(iccids_in(output)), part.exists()) == (sorted(wanted), False)
    assert "Taken over" in done.err


def test_resume_takes_rows_of_the_file_that_are_young_enough_and_not_failed(
    server: Sandbox, tmp_path: Path
) -> None:
    output = tmp_path / "result.jsonl"
    one, two, three, four = server.iccids[:4]
    assert mioesim("query", one, two, three, "-o", output, sandbox=server).status == 0
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    rows[1]["queried_at"] = (datetime.now(UTC) - timedelta(hours=7)).isoformat()
    rows[2] |= {"result": "failed", "error": "made up"}
    output.write_text("".join(json.dumps(row) + "\n" for row in rows))
    server.requests.clear()

    done = mioesim("query", one, two, three, four, "-o", output, "--resume", sandbox=server)

    assert (done.status, asked(server)) == (0, [two, three, four])
    assert sorted(iccids_in(output)) == sorted([one, two, three, four])


def test_resume_refuses_a_file_with_other_columns(server: Sandbox, tmp_path: Path) -> None:
    output = tmp_path / "result.csv"
    output.write_text(YESTERDAY)
    done = mioesim("query", server.iccids[0], "-o", output, "--resume", sandbox=server)
    assert (done.status, output.read_text()) == (2, YESTERDAY)
    assert "other columns" in done.err


def test_one_iccid_given_twice_is_taken_over_as_often_as_it_is_there(
    server: Sandbox, tmp_path: Path
) -> None:
    source, output = tmp_path / "cards.txt", tmp_path / "result.csv"
    one = server.iccids[0]
    source.write_text(lines_of([one]))
    assert mioesim("query", "-f", source, "-o", output, sandbox=server).status == 0
    source.write_text(lines_of([one, one]))
    done = mioesim("query", "-f", source, "-o", output, "--resume", sandbox=server)
    assert (done.status, iccids_in(output)) == (0, [one, one])


@pytest.mark.parametrize("way", ["itself", "symlink", "hard link", "standard input", "its part"])
def test_the_input_is_never_taken_for_the_output(server: Sandbox, tmp_path: Path, way: str) -> None:
    source = tmp_path / "cards.csv"
    text = "iccid\n" + lines_of(server.iccids[:3])
    source.write_text(text)
    output = {"itself": source, "standard input": source}.get(way, tmp_path / "linked.csv")
    if way == "symlink":
        output.symlink_to(source)
    elif way == "hard link":
        os.link(source, output)
    elif way == "its part":
        os.link(source, tmp_path / "linked.csv.part")
    if way == "standard input":
        with source.open("rb") as given:
            done = mioesim("query", "-c", "iccid", "-o", output, stdin=given, sandbox=server)
    else:
        done = mioesim("query", "-f", source, "-o", output, sandbox=server)
    assert (done.status, source.read_text()) == (2, text)
    assert "would overwrite the file that the ICCIDs come from" in done.err
    assert not server.requests


@pytest.mark.parametrize("other", ["input", "output"])
def test_a_summary_is_never_written_over_another_file(
    server: Sandbox, tmp_path: Path, other: str
) -> None:
    source, output = tmp_path / "cards.txt", tmp_path / "result.json"
    source.write_text(lines_of(server.iccids[:3]))
    output.write_text(YESTERDAY)
    files = ("query", "-f", source, "-o", output)
    summary = source if other == "input" else output
    done = mioesim(*files, "--summary", summary, sandbox=server)
    assert (done.status, done.err.count("\n"), server.requests) == (2, 1, [])
    assert (source.read_text(), output.read_text()) == (lines_of(server.iccids[:3]), YESTERDAY)


def test_the_hint_to_write_a_file_names_none_that_is_read(server: Sandbox, tmp_path: Path) -> None:
    source = tmp_path / "cards.csv"
    source.write_text("iccid\n" + lines_of(server.iccids[:60]))
    done = mioesim("query", "-f", source, sandbox=server)
    assert "-o result.csv" in done.out
    assert "cards.csv" not in done.out


def test_a_file_that_only_its_owner_may_read_stays_so(server: Sandbox, tmp_path: Path) -> None:
    output = tmp_path / "result.csv"
    output.write_text(YESTERDAY)
    output.chmod(0o600)
    assert mioesim("query", server.iccids[0], "-o", output, sandbox=server).status == 0
    assert output.stat().st_mode & 0o777 == 0o600


def test_two_runs_never_write_one_file_at_once(server: Sandbox, tmp_path: Path) -> None:
    output = tmp_path / "result.csv"
    other = OutputFile(output)
    other.begin().write("the other run's")
    done = mioesim("query", server.iccids[0], "-o", output, sandbox=server)
    other.commit()
    assert (done.status, output.read_text()) == (2, "the other run's")
    assert "another run is writing" in done.err


@pytest.mark.parametrize("ending", ["csv", "json", "jsonl", "parquet"])
def test_a_disk_that_is_full_is_named_and_the_file_stays(
    server: Sandbox, tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / f"result.{ending}"
    output.write_text(YESTERDAY)
    begun = OutputFile.begin

    def full(self: OutputFile, **options: bool) -> Any:
        file = begun(self, **options)
        device = os.open("/dev/full", os.O_WRONLY)
        os.dup2(device, file.fileno())
        os.close(device)
        return file

    monkeypatch.setattr(OutputFile, "begin", full)
    done = mioesim("query", *server.iccids[:3], "-o", output, sandbox=server)
    assert (done.status, output.read_text()) == (1, YESTERDAY)
    assert "No space left" in done.err
    assert f"result.{ending}" in done.err


def test_a_folder_that_can_t_be_written_is_named(server: Sandbox, tmp_path: Path) -> None:
    done = mioesim("query", server.iccids[0], "-o", tmp_path / "none" / "a.csv", sandbox=server)
    assert done.status == 2
    assert "none/a.csv" in done.err


# Every encoding that spreadsheets write.


@pytest.mark.parametrize("way", ["file", "pipe"])
def test_a_byte_of_another_encoding_beside_an_iccid_is_no_trouble(
    server: Sandbox, tmp_path: Path, way: str
) -> None:
    source, output = tmp_path / "cards.csv", tmp_path / "result.jsonl"
    wanted = server.iccids[:300]
    rows = [f"{iccid},x" for iccid in wanted]
    rows[250] = f"{wanted[250]},Jos\xe9"
    source.write_bytes("\n".join(["iccid,name", *rows, ""]).encode("cp1252"))
    arguments = ("-o", output, "--keep-columns", "--column", "iccid")
    if way == "file":
        done = mioesim("query", "-f", source, *arguments, sandbox=server)
    else:
        done = mioesim("query", *arguments, typed=source.read_bytes(), sandbox=server)
    assert (done.status, sorted(iccids_in(output))) == (0, sorted(wanted))
    names = {json.loads(line)["name"] for line in output.read_text().splitlines()}
    assert names == {"x", "Jos\xe9"}


@pytest.mark.parametrize("way", ["file", "pipe"])
@pytest.mark.parametrize(
    ("encoding", "named"),
    [("utf-16", None), ("utf-8-sig", None), ("utf-16-le", "utf-16-le"), ("gb18030", "gb18030"),
     ("cp1252", "cp1252")],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["csv", "txt"])
def test_a_file_is_read_in_its_encoding(
    server: Sandbox, tmp_path: Path, way: str, encoding: str, named: str | None, kind: str
) -> None:
    source = tmp_path / f"cards.{kind}"
    text = lines_of(server.iccids[:3])
    source.write_bytes((f"iccid\n{text}" if kind == "csv" else text).encode(encoding))
    options = [
        *(("--encoding", named) if named else ()),
        *(("-c", "iccid") if kind == "csv" else ()),
    ]
    if way == "file":
        done = mioesim("query", "-f", source, *options, sandbox=server)
    else:
        done = mioesim("query", *options, typed=source.read_bytes(), sandbox=server)
    assert (done.status, asked(server)) == (0, server.iccids[:3])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("iccid,n\n8985".encode("utf-16-le"), "--encoding utf-16-le"),
        (b"iccid," + b"n" * 200_000 + b"\n8985\n", "line 1: not CSV"),
        (b'iccid,n\n1,"' + b"n" * 200_000 + b'"\n', "line 2: not CSV"),
    ],
)
@pytest.mark.parametrize("way", ["file", "pipe"])
def test_what_is_no_csv_is_told_with_the_file_and_the_line(
    server: Sandbox, tmp_path: Path, way: str, content: bytes, told: str
) -> None:
    source = tmp_path / "cards.csv"
    source.write_bytes(content)
    if way == "file":
        done = mioesim("query", "-f", source, sandbox=server)
    else:
        done = mioesim("query", "-c", "iccid", typed=content, sandbox=server)
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert told in done.err
    assert ("cards.csv" if way == "file" else "<stdin>") in done.err


def test_an_encoding_that_nobody_knows_is_wrong_usage(server: Sandbox, tmp_path: Path) -> None:
    source = tmp_path / "cards.csv"
    source.write_text("iccid\n1\n")
    done = mioesim("query", "-f", source, "--encoding", "utf-99", sandbox=server)
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "--encoding utf-99 is not known" in done.err


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("way", ["file", "pipe"])
def test_every_line_end_is_one_and_a_header_cell_may_have_one(
    server: Sandbox, tmp_path: Path, way: str, end: str
) -> None:
    one, two = server.iccids[:2]
    text = end.join([f'"name{end}of it",iccid', f"x,{one}", f"y,{two}", ""]).encode()
    source = tmp_path / "cards.csv"
    source.write_bytes(text)
    if way == "file":
        done = mioesim("query", "-f", source, sandbox=server)
    else:
        done = mioesim("query", "-c", "iccid", typed=text, sandbox=server)
    assert (done.status, asked(server)) == (0, [one, two])


def test_a_line_without_end_in_a_pipe_is_one_line_of_error(
    server: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mioesim_async.cli.iccid_sources.MAX_LINE", 100_000)
    done = mioesim("query", typed=b"8" * 300_000, sandbox=server)
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "<stdin>, line 1 is longer" in done.err


def test_rounded_iccids_are_doubted_aloud(server: Sandbox) -> None:
    rounded = [f"89850000{number:07d}0000" for number in range(1, 9)]
    done = mioesim("query", *rounded, server.iccids[5], sandbox=server)
    assert "8 of 9 ICCIDs end with 0000: a spreadsheet may have rounded them" in done.err
    usual = mioesim("query", *server.iccids[:9], sandbox=server)
    assert "rounded" not in usual.err


# What comes out.


@pytest.mark.parametrize("plain", [False, True])
def test_the_inputs_other_columns_travel_along(
    server: Sandbox, tmp_path: Path, plain: bool
) -> None:
    source, output = tmp_path / "cards.csv", tmp_path / "result.csv"
    one, two = server.iccids[:2]
    source.write_text(f'result,iccid,note\nold,{one},"a\nb"\n=1,{two},";=2"\nold,{one},again\n')
    more = ("--plain",) if plain else ()
    done = mioesim("query", "-f", source, "-o", output, "--keep-columns", *more, sandbox=server)
    assert done.status == 0
    with output.open(newline="") as file:
        rows = [*csv.DictReader(file)]
    found = sorted((row["iccid"].strip('="'), row["input_result"], row["note"]) for row in rows)
    risky = ("=1", ";=2") if plain else ("'=1", ";'=2")
    assert found == sorted([(one, "old", "a\nb"), (one, "old", "again"), (two, *risky)])
    assert all(row["result"] == "found" for row in rows)
    assert rows[0]["iccid"].startswith("=") is not plain


def test_json_is_a_format_like_all_others(server: Sandbox) -> None:
    done = mioesim("query", server.iccids[0], "--json", sandbox=server)
    (row,) = json.loads(done.out)
    assert (done.status, row["iccid"]) == (0, server.iccids[0])
    assert mioesim("query", "1", "--json", "--format", "csv", sandbox=server).status == 2


def test_every_row_says_when_it_was_queried(server: Sandbox) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    done = mioesim("query", *server.iccids[:2], "--json", sandbox=server)
    for row in json.loads(done.out):
        assert before <= datetime.fromisoformat(row["queried_at"]) <= datetime.now(UTC)


def test_a_summary_is_a_file_for_programs_and_quiet_says_nothing(
    server: Sandbox, tmp_path: Path
) -> None:
    output, summary = tmp_path / "result.csv", tmp_path / "summary.json"
    done = mioesim(
        "query", *server.iccids[:3], "8985000000000099999", "-o", output, "--quiet",
        "--summary", summary, sandbox=server,
    )  # fmt: skip
    told = json.loads(summary.read_text())
    assert (done.status, done.out, done.err) == (1, "", "")
    assert (told["ended"], told["exit_status"], told["cards"]) == ("complete", 1, 4)
    assert (told["found"], told["missing"], told["failed"]) == (3, 1, 0)


def test_a_summary_tells_of_a_run_that_ended_early(server: Sandbox, tmp_path: Path) -> None:
    summary = tmp_path / "summary.json"
    server.faults.add(Fault.http(503), QUERY, times=None)
    done = mioesim(
        "query", *server.iccids[:3], "--max-outage", "0", "--summary", summary, "--quiet",
        sandbox=server,
    )  # fmt: skip
    told = json.loads(summary.read_text())
    assert done.status == told["exit_status"] != 0


def test_a_host_that_is_down_for_too_long_ends_with_5_and_leaves_what_was_done(
    server: Sandbox, tmp_path: Path
) -> None:
    source, output = tmp_path / "cards.txt", tmp_path / "result.csv"
    source.write_text(lines_of(server.iccids[:1000]))
    server.faults.add(Fault.http(503), QUERY, times=None, after=2)
    done = mioesim(
        "query", "-f", source, "-o", output, "--max-outage", "0.1", "--concurrency", "1",
        sandbox=server,
    )  # fmt: skip
    assert (done.status, output.exists()) == (5, False)
    assert len(iccids_in(tmp_path / "result.csv.part")) >= 200
    assert "--resume" in done.err


def test_cards_are_written_in_the_order_of_the_input_if_asked(
    server: Sandbox, tmp_path: Path
) -> None:
    source, output = tmp_path / "cards.txt", tmp_path / "result.csv"
    source.write_text(lines_of(server.iccids[:500]))
    server.faults.add(Fault.slow(0.05), QUERY, times=1)
    assert mioesim("query", "-f", source, "-o", output, "--ordered", sandbox=server).status == 0
    assert iccids_in(output) == server.iccids[:500]


def test_a_parquet_file_has_iccids_as_text_and_times_with_their_zone(
    server: Sandbox, tmp_path: Path
) -> None:
    output = tmp_path / "result.parquet"
    done = mioesim(
        "query", *server.iccids[:3], "89850000000000000019", "-o", output, sandbox=server
    )
    table = pq.read_table(output)
    assert (done.status, table.num_rows) == (1, 4)
    assert str(table.schema.field("iccid").type) == "string"
    assert str(table.schema.field("ends_at").type) == "timestamp[us, tz=+08:00]"
    assert set(table.column("result").to_pylist()) == {"found", "missing"}


def test_a_parquet_file_is_whole_or_not_there(server: Sandbox, tmp_path: Path) -> None:
    source, output = tmp_path / "cards.txt", tmp_path / "result.parquet"
    source.write_text(lines_of(server.iccids[:300]))
    # Somebody else keeps logging in, which ends the run at once.
    server.faults.add(Fault.evict_token(), QUERY, times=None, after=1)
    done = mioesim("query", "-f", source, "-o", output, "--concurrency", "1", sandbox=server)
    assert (done.status, [*tmp_path.glob("result*")]) == (5, [])


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_programs_read_iccids_as_text(server: Sandbox, tmp_path: Path, kind: str) -> None:
    output = tmp_path / f"result.{kind}"
    wanted = server.iccids[:5]
    assert mioesim("query", *wanted, "-o", output, sandbox=server).status == 0
    if kind == "jsonl":
        frame = pd.read_json(output, lines=True, dtype={"iccid": str, "order_num": str})
        query = f"SELECT iccid FROM read_json('{output}', columns={{iccid: 'VARCHAR'}})"
    else:
        frame = pd.read_parquet(output)
        query = f"SELECT iccid FROM read_parquet('{output}')"
    assert [*frame["iccid"]] == wanted
    assert [one for (one,) in duckdb.sql(query).fetchall()] == wanted

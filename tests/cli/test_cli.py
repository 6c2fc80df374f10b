"""The ``mioesim query`` command: what goes in, what comes out, and its exit status."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import lines_of, mioesim, on_terminal, rows_of

from mioesim_async import __version__
from mioesim_async.sandbox import Fault, Sandbox

QUERY = "queryIccidInformation"
UNKNOWN = "8999000000000000000"


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    """One sandbox for all tests here; each starts with nothing recorded and nothing wrong."""
    with Sandbox(6000) as sandbox:
        yield sandbox


@pytest.fixture
def server(running: Sandbox) -> Sandbox:
    running.requests.clear()
    running.faults.clear()
    running.refused.clear()
    return running


def asked(server: Sandbox) -> list[str]:
    """The ICCIDs that the sandbox was asked for."""
    return [iccid for request in server.requests for iccid in request.iccids]


# The main job.


def test_the_main_job_needs_no_account_and_prints_every_line() -> None:
    done = mioesim("query", "--sandbox", 1000)

    assert (done.status, done.err) == (0, "")
    rows = rows_of(done.out)
    statuses = {name: count for name, count in rows.items() if re.fullmatch("Cards [A-Z].*", name)}
    assert statuses.keys() == {"Cards ACTIVE", "Cards Enable", "Cards Disable", "Cards Delete"}
    assert sum(map(int, statuses.values())) == 1000
    assert (rows["Cards found"], rows["Missing"], rows["Failed"]) == ("1,000", "0", "0")
    assert re.fullmatch(r"[\d,]+(\.\d+)? GB", rows["Data used"])
    assert re.fullmatch(r"[\d,]+(\.\d+)? GB", rows["Data remaining"])
    assert (rows["Requests"], rows["Logins"]) == ("11", "1")
    assert 1 <= int(rows["Connections"]) <= 11
    assert re.fullmatch(r"\d+\.\d\d s", rows["Time"])


def test_concurrency_bounds_the_connections() -> None:
    done = mioesim("query", "--sandbox", 1000, "--concurrency", 1)
    assert rows_of(done.out)["Connections"] == "1"


def test_a_sandbox_can_be_asked_for_given_cards(server: Sandbox) -> None:
    done = mioesim("query", "--sandbox", 10, server.iccids[9], server.iccids[10])
    assert done.status == 1
    assert f"{server.iccids[10]}  missing" in done.out
    assert rows_of(done.out)["Cards found"] == "1"


def test_version_and_help_are_for_people() -> None:
    assert mioesim("--version").out.strip() == __version__
    for arguments in ((), ("--help",), ("query", "--help"), ("sandbox", "--help")):
        done = mioesim(*arguments)
        assert (done.status, done.err) == (0, "")
        assert "Usage: mioesim" in done.out


# Where ICCIDs come from.


def test_iccids_from_arguments_are_cleaned(server: Sandbox) -> None:
    first, second = server.iccids[:2]
    done = mioesim("query", f"{first[:4]} {first[4:10]}-{first[10:]}F", second, sandbox=server)
    assert (done.status, asked(server)) == (0, [first, second])
    assert first in done.out


def test_iccids_from_a_text_file(server: Sandbox, tmp_path: Path) -> None:
    file, (a, b, c, d) = tmp_path / "cards.txt", server.iccids[:4]
    file.write_text(f"\ufeff# my cards\n{a}\n\n  {b}  # mine\r\n{c}, {d}\n", encoding="utf-8")
    done = mioesim("query", "--file", file, sandbox=server)
    assert (done.status, asked(server)) == (0, [a, b, c, d])


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_iccids_from_a_csv_column(
    server: Sandbox, tmp_path: Path, separator: str, bom: str
) -> None:
    file, (a, b, c) = tmp_path / "cards.csv", server.iccids[:3]
    rows = [
        ("Card No", "note"), (f'"=""{a}"""', '"x, ; y"'), (b, ""), ("", "none"), (f"'{c}", "z"),
    ]  # fmt: skip
    text = "".join(separator.join(row) + "\r\n" for row in rows)
    file.write_text(bom + text, encoding="utf-8", newline="")
    done = mioesim("query", "-f", file, "-c", "card no", sandbox=server)
    assert (done.status, asked(server)) == (0, [a, b, c])


def test_a_csv_file_with_an_iccid_column_needs_no_column_option(
    server: Sandbox, tmp_path: Path
) -> None:
    file = tmp_path / "cards.csv"
    file.write_text(f'name,ICCID\n"one\ntwo",{server.iccids[0]}\n')
    assert mioesim("query", "-f", file, sandbox=server).status == 0
    assert asked(server) == server.iccids[:1]


@pytest.mark.parametrize("arguments", [(), ("--column", "simcard")])
def test_a_missing_column_is_wrong_usage_that_names_the_columns(
    server: Sandbox, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    file = tmp_path / "cards.csv"
    file.write_text(f"number;holder\n{server.iccids[0]};A\n")
    done = mioesim("query", "--file", file, *arguments, sandbox=server)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert "number, holder" in done.err
    assert server.requests == []


def test_a_missing_column_on_standard_input_is_wrong_usage_too(server: Sandbox) -> None:
    text = f"number,holder\n{server.iccids[0]},A\n"
    done = mioesim("query", "--column", "simcard", typed=text, sandbox=server)
    assert done.status == 2
    assert "number, holder" in done.err
    assert QUERY not in [request.endpoint for request in server.requests]


@pytest.mark.parametrize("way", ["pipe", "file"])
@pytest.mark.parametrize("column", [None, "id"])
def test_iccids_from_standard_input(
    server: Sandbox, tmp_path: Path, way: str, column: str | None
) -> None:
    iccids = server.iccids[:250]
    text = lines_of(iccids)
    if column:
        text = "\ufeffnote\tid\n" + "".join(f'x\t"=""{iccid}"""\n' for iccid in iccids)
    arguments = ("query", "--column", column) if column else ("query",)
    if way == "pipe":
        done = mioesim(*arguments, typed=text, sandbox=server)
    else:
        (tmp_path / "cards").write_text(text, encoding="utf-8")
        with (tmp_path / "cards").open("rb") as file:
            done = mioesim(*arguments, stdin=file, sandbox=server)
    assert (done.status, done.err) == (0, "")
    assert sorted(asked(server)) == sorted(iccids)
    assert rows_of(done.out)["Cards found"] == "250"


def test_a_long_line_on_a_pipe_is_read_like_one_in_a_file(server: Sandbox) -> None:
    done = mioesim("query", typed=",".join(server.iccids), sandbox=server)
    assert (done.status, done.err) == (0, "")
    assert rows_of(done.out)["Cards found"] == "6,000"


@pytest.mark.parametrize("way", ["pipe", "file"])
def test_csv_cells_may_hold_line_breaks(server: Sandbox, tmp_path: Path, way: str) -> None:
    first, second = server.iccids[:2]
    text = f'iccid,note\n{first},"two\nlines, really"\n{second},x\n'
    file = tmp_path / "cards.csv"
    file.write_text(text)
    if way == "pipe":
        done = mioesim("query", "--column", "iccid", typed=text, sandbox=server)
    else:
        done = mioesim("query", "--file", file, sandbox=server)
    assert (done.status, asked(server)) == (0, [first, second])


@pytest.mark.parametrize("way", ["empty pipe", "/dev/null"])
def test_an_empty_input_is_wrong_usage_unless_it_is_allowed(server: Sandbox, way: str) -> None:
    typed = "" if way == "empty pipe" else None
    done = mioesim("query", sandbox=server, typed=typed)
    assert done.status == 2
    assert "no ICCIDs in the input" in done.err
    allowed = mioesim("query", "--allow-empty", sandbox=server, typed=typed)
    assert (allowed.status, allowed.err) == (0, "")
    assert rows_of(allowed.out)["Cards found"] == "0"


# What comes out.


def test_the_table_shows_cards_for_people(server: Sandbox) -> None:
    done = mioesim("query", *server.iccids[:3], UNKNOWN, sandbox=server)
    assert done.out.startswith("ICCID ")
    assert all(f"\n{iccid}  " in done.out for iccid in server.iccids[:3])
    assert f"{UNKNOWN}  missing" in done.out
    assert rows_of(done.out)["Missing"] == "1"


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "table"])
@pytest.mark.parametrize("place", ["stdout", "dash", "file"])
def test_every_format_to_standard_output_and_to_a_file(
    server: Sandbox, tmp_path: Path, kind: str, place: str
) -> None:
    iccids, file = [*server.iccids[:2], UNKNOWN], tmp_path / f"cards.{kind}"
    server.faults.add(Fault.unknown_values(), QUERY)
    to = {"stdout": ("--format", kind), "dash": ("-o", "-", "--format", kind), "file": ("-o", file)}
    done = mioesim("query", *iccids, *to[place], sandbox=server)
    assert done.status == 1

    text = file.read_text(encoding="utf-8") if place == "file" else done.out
    if kind == "table":
        assert all(iccid in text for iccid in iccids)
        return
    assert rows_of(done.err)["Cards found"] == "2", "the summary doesn't mix with the result"
    records = {
        "csv": lambda: [*csv.DictReader(io.StringIO(text))],
        "json": lambda: json.loads(text),
        "jsonl": lambda: [json.loads(line) for line in text.splitlines()],
    }[kind]()
    assert [record["iccid"].strip('="') for record in records] == iccids
    assert [record["result"] for record in records] == ["found", "found", "missing"]
    assert records[0]["dp_status"] == "FROZEN", "unknown values are kept"
    assert float(records[0]["used_mb"]) > 0
    assert records[0]["ends_at"].endswith("+08:00")
    assert not records[2]["dp_status"]


def test_the_named_format_wins_over_the_files_ending(server: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "cards.csv"
    mioesim("query", server.iccids[0], "-o", file, "--format", "json", sandbox=server)
    assert json.loads(file.read_text())[0]["iccid"] == server.iccids[0]


def test_iccids_in_csv_stay_text_and_can_be_read_back(server: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    mioesim("query", *server.iccids[:2], UNKNOWN, "-o", file, sandbox=server)
    with file.open(encoding="utf-8", newline="") as text:
        cells = [row["iccid"] for row in csv.DictReader(text)]
    assert cells == [f'="{iccid}"' for iccid in (*server.iccids[:2], UNKNOWN)]

    server.requests.clear()
    done = mioesim("query", "-f", file, "--column", "iccid", sandbox=server)
    assert (done.status, asked(server)) == (1, [*server.iccids[:2], UNKNOWN])


@pytest.mark.parametrize(("kind", "empty"), [("csv", None), ("json", []), ("jsonl", "")])
def test_no_cards_are_a_valid_file_too(server: Sandbox, kind: str, empty: object) -> None:
    done = mioesim("query", "--allow-empty", "--format", kind, typed="", sandbox=server)
    assert done.status == 0
    if kind == "json":
        assert json.loads(done.out) == empty
    else:
        assert done.out.splitlines()[1:] == []


def test_a_formula_in_the_vendors_text_is_made_harmless(server: Sandbox) -> None:
    row = {"iccid": server.iccids[0], "dpStatus": "=cmd|'/c calc'!A1", "orderNum": "@SUM(A1)"}
    body = json.dumps({"code": 0, "data": [row]}).encode()
    server.faults.add(Fault.replaced(body), QUERY)
    done = mioesim("query", server.iccids[0], "--format", "csv", sandbox=server)
    (record,) = csv.DictReader(io.StringIO(done.out))
    assert record["dp_status"][0] == record["order_num"][0] == "'"


@pytest.mark.parametrize("kind", ["table", "csv", "jsonl"])
@pytest.mark.parametrize("status", ["[/x]", "[bold]VIP", "gelö\u200bscht", "half \ud83d"])
def test_statuses_that_nobody_expects_are_shown_as_they_are(
    server: Sandbox, kind: str, status: str
) -> None:
    row = {"iccid": server.iccids[0], "dpStatus": status}
    body = json.dumps({"code": 0, "data": [row]}).encode()
    server.faults.add(Fault.replaced(body), QUERY, times=None)
    done = mioesim("query", server.iccids[0], "--format", kind, sandbox=server)
    assert (done.status, "Traceback" in done.err) == (0, False)
    assert server.iccids[0] in done.out
    summary = done.out if kind == "table" else done.err
    assert rows_of(summary)["Cards found"] == "1"
    if "\ud83d" not in status:
        assert all(status in shown for shown in (done.out, summary))


def test_a_vendors_message_is_shown_as_it_is(server: Sandbox) -> None:
    server.faults.add(Fault.refuse(-8, "bad [/x] [red]value"), QUERY, times=None)
    done = mioesim("query", server.iccids[0], sandbox=server)
    assert (done.status, done.err) == (1, "")
    assert "[red]value" in done.out


def test_a_table_in_a_file_is_never_empty(server: Sandbox, tmp_path: Path) -> None:
    source, output = tmp_path / "cards", tmp_path / "out.txt"
    source.write_text(lines_of(server.iccids[:60]))
    done = mioesim("query", "-f", source, "-o", output, sandbox=server)
    assert done.status == 2 or server.iccids[0] in output.read_text()


# Progress.


def test_progress_is_shown_on_a_terminal(server: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "cards.txt"
    file.write_text(lines_of(server.iccids[:300]))
    done = on_terminal("query", "-f", file, "--format", "jsonl", sandbox=server)
    assert done.status == 0
    assert "Querying cards" in done.err
    assert "300/300" in done.err
    assert len([json.loads(line) for line in done.out.splitlines()]) == 300


def test_no_progress_where_standard_error_is_piped(server: Sandbox) -> None:
    done = mioesim("query", *server.iccids[:3], "--format", "jsonl", sandbox=server)
    assert "Querying" not in done.err + done.out
    assert "\x1b" not in done.err + done.out

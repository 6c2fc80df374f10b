"""``mioesim query --resume``: rows that are taken over are whole, young, and asked for."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from command import Done, lines_of, mioesim

from mioesim_async.sandbox import Sandbox

QUERY = "queryIccidInformation"


@pytest.fixture
def server() -> Iterator[Sandbox]:
    with Sandbox(20) as sandbox:
        yield sandbox


@pytest.fixture(params=["csv", "jsonl"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"result.{request.param}"


def part_of(output: Path) -> Path:
    return output.with_name(f"{output.name}.part")


def query(server: Sandbox, output: Path, *arguments: object) -> Done:
    """Run the command; what was asked before is forgotten."""
    server.requests.clear()
    return mioesim("query", *arguments, "-o", output, sandbox=server)


def resume(server: Sandbox, output: Path, *arguments: object) -> Done:
    return query(server, output, *arguments, "--resume")


def asked(server: Sandbox) -> list[str]:
    """The ICCIDs that were asked for."""
    lists = [request.params["iccids"] for request in server.requests if request.endpoint == QUERY]
    return [iccid for one in lists for iccid in one.split(",")]


def rows_in(file: Path) -> list[dict[str, Any]]:
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".csv":
        return [*csv.DictReader(text.splitlines(keepends=True))]
    return [json.loads(line) for line in text.splitlines()]


def iccids_in(file: Path) -> list[str]:
    return [row["iccid"].strip('="') for row in rows_in(file)]


def changed(output: Path, index: int, **cells: Any) -> None:
    """Change cells of a row, as an editor would."""
    rows = rows_in(output)
    rows[index] |= cells
    if output.suffix == ".csv":
        with output.open("w", newline="") as file:
            writer = csv.DictWriter(file, [*rows[0]], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    else:
        output.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_part_that_ends_within_a_quote_loses_no_row(server: Sandbox, output: Path) -> None:
    wanted = server.iccids[:4]
    assert query(server, output, *wanted).status == 0
    lines = output.read_text().splitlines(keepends=True)
    part_of(output).write_text("".join([*lines[:2], lines[2][:10]]))
    done = resume(server, output, *wanted)
    assert (done.status, sorted(iccids_in(output))) == (0, sorted(wanted))


@pytest.mark.parametrize("content", ["", "iccid,res"])
def test_a_part_without_a_whole_header_is_no_earlier_run(
    server: Sandbox, output: Path, content: str
) -> None:
    one, two = server.iccids[:2]
    part_of(output).write_text(content)
    assert resume(server, output, one).status == 0
    assert iccids_in(output) == [one]
    part_of(output).write_text(content)
    assert (resume(server, output, one, two).status, asked(server)) == (0, [two])
    assert iccids_in(output) == [one, two]


@pytest.mark.parametrize("other", ["csv", "jsonl"])
def test_a_file_of_another_format_is_never_erased(
    server: Sandbox, tmp_path: Path, other: str
) -> None:
    output, wanted = tmp_path / "result.txt", server.iccids[:3]
    kinds = {"csv": "jsonl", "jsonl": "csv"}
    assert query(server, output, *wanted, "--format", other).status == 0
    before = output.read_text()
    done = resume(server, output, *wanted, "--format", kinds[other])
    assert (done.status, output.read_text(), [*tmp_path.glob("result*")]) == (2, before, [output])
    assert "another format" in done.err


def test_rows_of_people_and_of_programs_are_never_mixed(server: Sandbox, tmp_path: Path) -> None:
    output, wanted = tmp_path / "result.csv", server.iccids[:2]
    for first, second in (((), ("--plain",)), (("--plain",), ())):
        assert query(server, output, *wanted, *first).status == 0
        before = output.read_text()
        done = resume(server, output, *wanted, *second)
        assert (done.status, output.read_text()) == (2, before)


@pytest.mark.parametrize("fault", ["line in the middle", "text"])
def test_a_file_that_is_something_else_is_never_erased(
    server: Sandbox, output: Path, fault: str
) -> None:
    assert query(server, output, *server.iccids[:3]).status == 0
    lines = output.read_text().splitlines(keepends=True)
    lines[2:2] = ['"a note\n']
    text = "".join(lines) if fault == "line in the middle" else "dear diary\ntoday\n"
    output.write_text(text)
    done = resume(server, output, *server.iccids[:4])
    assert (done.status, output.read_text(), asked(server)) == (2, text, [])


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_row_that_was_cut_anywhere_is_asked_again(
    server: Sandbox, output: Path, cut: int
) -> None:
    wanted = server.iccids[:3]
    assert query(server, output, *wanted).status == 0
    part_of(output).write_text(output.read_text()[:-cut])
    output.unlink()
    done = resume(server, output, *wanted)
    assert (done.status, sorted(iccids_in(output))) == (0, sorted(wanted))
    if output.suffix == ".csv" or cut > 1:
        assert asked(server) == [wanted[2]]
    assert all(row["queried_at"].endswith(("+00:00", "Z")) for row in rows_in(output))


def test_a_cell_of_the_input_that_was_cut_is_never_taken_for_whole(
    server: Sandbox, tmp_path: Path
) -> None:
    source, output = tmp_path / "cards.csv", tmp_path / "result.csv"
    one = server.iccids[0]
    source.write_text(f'iccid,note\n{one},"a long\nnote"\n')
    arguments = ("-f", source, "--keep-columns")
    assert query(server, output, *arguments).status == 0
    whole = output.read_text()
    for cut in range(1, 9):
        part_of(output).write_text(whole[:-cut])
        output.unlink()
        assert resume(server, output, *arguments).status == 0
        assert [row["note"] for row in rows_in(output)] == ["a long\nnote"]


def test_an_empty_input_is_no_success_although_an_earlier_run_has_rows(
    server: Sandbox, output: Path, tmp_path: Path
) -> None:
    source = tmp_path / "cards.txt"
    source.write_text("")
    assert query(server, output, *server.iccids[:3]).status == 0
    before = output.read_text()
    done = resume(server, output, "-f", source)
    assert (done.status, output.read_text()) == (2, before)
    assert "no ICCIDs in the input" in done.err


def test_rows_of_cards_that_the_input_does_not_have_are_dropped(
    server: Sandbox, output: Path, tmp_path: Path
) -> None:
    summary, wanted = tmp_path / "summary.json", server.iccids[:5]
    assert query(server, output, *wanted).status == 0
    done = resume(server, output, *wanted[3:], server.iccids[6], "--summary", summary)
    told = json.loads(summary.read_text())
    assert (done.status, asked(server)) == (0, [server.iccids[6]])
    assert iccids_in(output) == [*wanted[3:], server.iccids[6]]
    assert (told["cards"], told["found"], told["taken_over"]) == (3, 3, 2)
    assert not part_of(output).exists()


@pytest.mark.parametrize(
    "cells",
    [
        {"queried_at": "2099-01-01T00:00:00+00:00"},
        {"queried_at": datetime.now(UTC).replace(tzinfo=None).isoformat()},
        {"queried_at": (datetime.now(UTC) - timedelta(hours=7)).isoformat()},
        {"queried_at": ""},
        {"used_mb": "much"},
    ],
    ids=["in future", "naive", "old", "empty", "no number"],
)
def test_a_row_that_can_t_be_relied_on_is_asked_again(
    server: Sandbox, output: Path, cells: dict[str, Any]
) -> None:
    wanted = server.iccids[:3]
    assert query(server, output, *wanted).status == 0
    changed(output, 1, **cells)
    done = resume(server, output, *wanted)
    assert (done.status, asked(server)) == (0, [wanted[1]])
    assert sorted(iccids_in(output)) == sorted(wanted)


def test_an_iccid_that_an_editor_made_a_number_is_asked_again(
    server: Sandbox, tmp_path: Path
) -> None:
    output, wanted = tmp_path / "result.jsonl", server.iccids[:2]
    assert query(server, output, *wanted).status == 0
    changed(output, 0, iccid=int(wanted[0]))
    assert (resume(server, output, *wanted).status, asked(server)) == (0, [wanted[0]])


def test_a_cell_that_is_longer_than_csv_allows_is_told(server: Sandbox, tmp_path: Path) -> None:
    output = tmp_path / "result.csv"
    assert query(server, output, *server.iccids[:2]).status == 0
    changed(output, 0, error="x" * 200_000)
    done = resume(server, output, *server.iccids[:2])
    assert (done.status, done.err.count("\n")) == (2, 1)


@pytest.mark.parametrize("ordered", [(), ("--ordered",)])
def test_each_row_keeps_its_own_other_cells_when_one_iccid_is_there_twice(
    server: Sandbox, output: Path, tmp_path: Path, ordered: tuple[str, ...]
) -> None:
    source, one = tmp_path / "cards.csv", server.iccids[0]
    text = f"iccid,note\n{one},=first\n{one},second\n"
    source.write_text(text)
    arguments = ("-f", source, "--keep-columns", *ordered)
    assert query(server, output, *arguments).status == 0
    whole = rows_in(output)
    (header, *lines) = output.read_text().splitlines(keepends=True)
    part = [header, lines[-1]] if output.suffix == ".csv" else [lines[-1]]
    part_of(output).write_text("".join(part))

    assert (resume(server, output, *arguments).status, asked(server)) == (0, [one])
    assert sorted(row["note"] for row in rows_in(output)) == sorted(row["note"] for row in whole)

    source.write_text(text.replace("second", "changed"))
    assert (resume(server, output, *arguments).status, asked(server)) == (0, [one])
    assert "changed" in {row["note"] for row in rows_in(output)}
    assert "second" not in {row["note"] for row in rows_in(output)}


def test_a_part_that_has_no_young_row_gives_way_to_the_file(server: Sandbox, output: Path) -> None:
    wanted = server.iccids[:2]
    assert query(server, output, *wanted).status == 0
    lines = output.read_text().splitlines(keepends=True)
    part_of(output).write_text(lines[0] if output.suffix == ".csv" else "")
    assert (resume(server, output, *wanted).status, asked(server)) == (0, [])
    assert iccids_in(output) == wanted


def test_only_the_rest_of_the_input_is_asked_for(server: Sandbox, tmp_path: Path) -> None:
    source, output = tmp_path / "cards.txt", tmp_path / "result.csv"
    source.write_text(lines_of(server.iccids))
    assert query(server, output, *server.iccids[:7]).status == 0
    assert (resume(server, output, "-f", source).status, asked(server)) == (0, server.iccids[7:])

"""Orders and renewals from a CSV file: within the limit, each line once, each line told."""

from __future__ import annotations

import csv
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from asking import at_terminal
from command import mioesim, started
from waiting import SECONDS, read_until, wait_until

from mioesim_async.sandbox import Fault, Sandbox

HEADER = "sku_id,price_id,count,remark\n"
ORDER = "addEsimOrder"
LPA = "LPA:1$"
FEW = 4


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox(30) as sandbox:
        yield sandbox


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Four lines that say the same, and one that does not."""
    path = tmp_path / "orders.csv"
    path.write_text(HEADER + "45,441,1,same\n" * FEW + "71,441,2,other\n")
    return path


def rows_in(path: Path) -> list[dict[str, str]]:
    """The result file, in the order of the lines."""
    with path.open(newline="") as file:
        rows = [*csv.DictReader(file)]
    return sorted(rows, key=lambda row: int(row["line"]))


def references(server: Sandbox) -> list[str]:
    """What was placed."""
    return sorted(order.other_order_id or "" for order in server.orders)


def test_a_file_is_shown_asked_about_bought_and_told_line_by_line(
    server: Sandbox, file: Path, tmp_path: Path
) -> None:
    result = tmp_path / "result.csv"
    result.write_text("older")
    result.chmod(0o644)
    with at_terminal(
        "order", "--file", file, "--max-spend", 100, "--result", result, sandbox=server
    ) as terminal:
        terminal.wait_for("Buy 5 lines for 72.60? [y/N]")
        assert server.orders == []
        assert result.read_text() == "older"
        terminal.type("y\n")
        done = terminal.done()

    assert (done.status, done.out) == (0, "")
    assert "Buying" in done.err
    assert "5 placed" in done.err
    rows = rows_in(result)
    assert [row["line"] for row in rows] == ["2", "3", "4", "5", "6"]
    assert {row["status"] for row in rows} == {"placed"}
    assert sorted(row["order_num"] for row in rows) == sorted(o.order_num for o in server.orders)
    assert sorted(row["reference"] for row in rows) == references(server)
    cards = {order.other_order_id: " ".join(order.iccids) for order in server.orders}
    assert {row["reference"]: row["iccids"].strip('="') for row in rows} == cards
    assert [row["price"] for row in rows] == ["12.10"] * FEW + ["24.20"]
    assert result.stat().st_mode & 0o777 == 0o600
    assert LPA not in result.read_text() + done.err


def test_the_same_file_buys_no_line_twice_even_after_a_correction(
    server: Sandbox, file: Path
) -> None:
    buy = ("order", "--file", file, "--max-spend", 200, "--yes")
    first = mioesim(*buy, sandbox=server)
    file.write_text("remark;SKU ID;Price Id;Count\nnew;45;441;1\n" + "same;45;441;1\n" * FEW)
    second = mioesim(*buy, "--json", sandbox=server)
    placed = len(server.orders)
    third = mioesim(*buy, "--batch", "once more", sandbox=server)

    assert (first.status, second.status, third.status) == (0, 0, 0)
    assert json.loads(second.out)["counts"] == {"placed": 1, "placed before": FEW}
    assert (placed, len(server.orders)) == (6, 11)
    assert len(set(references(server))) == 11
    assert "4 lines placed before, and not bought again" in second.err


def test_a_killed_run_is_finished_by_the_next_one(
    server: Sandbox, file: Path, tmp_path: Path
) -> None:
    file.write_text(HEADER + "45,441,1,same\n" * 12)
    result = tmp_path / "result.csv"
    buy = ("order", "--file", file, "--max-spend", 200, "--yes", "--result", result)
    server.faults.add(Fault.silence(), ORDER, times=None, after=5)
    with started(*buy, "--concurrency", 2, sandbox=server) as process:
        wait_until(lambda: len([one for one in server.requests if one.fault]) == 2)
        wait_until(lambda: result.read_text().count("\n") == 6)
        process.kill()
        process.communicate(timeout=SECONDS)
    assert [row["status"] for row in rows_in(result)] == ["placed"] * 5

    # What was under way when the process died may have been placed.
    server.faults.clear()
    unsure = mioesim(*buy, sandbox=server)
    assert unsure.status == 4
    assert "2 lines open in the journal" in unsure.err
    assert len(server.orders) == 10
    mioesim("orders", "reconcile", "--assume-absent-after", "0s", sandbox=server)
    done = mioesim(*buy, sandbox=server)

    assert done.status == 0
    assert len(server.orders) == len(set(references(server))) == 12
    rows = rows_in(result)
    assert sorted(row["order_num"] for row in rows) == sorted(o.order_num for o in server.orders)


def test_ctrl_c_sends_no_further_line_and_tells_those_under_way(
    server: Sandbox, file: Path, tmp_path: Path
) -> None:
    result = tmp_path / "result.csv"
    server.faults.add(Fault.slow(60), ORDER, after=1)
    buy = ("order", "--file", file, "--max-spend", 200, "--yes", "--result", result)
    with started(*buy, "--concurrency", 1, sandbox=server) as process:
        wait_until(lambda: [one for one in server.requests if one.fault])
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        read_until(process.stderr, "waiting for those under way")
        wait_until(lambda: server.clock.advance(60) or process.poll() is not None)
        process.communicate(timeout=SECONDS)

    assert process.returncode == 130
    assert len(server.orders) == 2
    rows = rows_in(result)
    assert [row["status"] for row in rows] == ["placed"] * 2 + ["not sent"] * 3
    assert {row["order_num"] for row in rows[:2]} == {order.order_num for order in server.orders}
    assert {row["reference"] for row in rows[:2]} == set(references(server))


def test_no_more_is_spent_than_allowed_and_what_was_not_sent_is_said(
    server: Sandbox, file: Path
) -> None:
    done = mioesim("order", "--file", file, "--max-spend", 30, "--yes", sandbox=server)

    assert done.status == 1
    assert sum(order.price for order in server.orders) <= 30
    assert "--max-spend was reached at 24.20; not sent: line 4, 5, 6" in done.err
    rows = [*csv.DictReader(done.out.splitlines())]
    assert [row["status"] for row in rows] == ["placed"] * 2 + ["not sent"] * 3


@pytest.mark.parametrize("limit", [(), ("--max-spend", "much"), ("--max-spend", "-1")])
def test_a_limit_is_required(server: Sandbox, file: Path, limit: tuple[str, ...]) -> None:
    done = mioesim("order", "--file", file, "--yes", *limit, sandbox=server)

    assert (done.status, done.out) == (2, "")
    assert "--max-spend" in done.err
    assert server.requests == []


def test_a_dry_run_needs_no_limit_and_buys_nothing(
    server: Sandbox, file: Path, tmp_path: Path
) -> None:
    with file.open("a") as more:
        more.write("45,442,1,a day pass without days\n")
    done = mioesim("order", "--file", file, "--dry-run", "--json", sandbox=server)

    told = json.loads(done.out)
    assert [line["would_send"] for line in told] == [True] * 5 + [False]
    assert [line["in_stock"] for line in told] == [True] * 5 + [None]
    assert "give daypass_days" in told[-1]["error"]
    assert done.status == 1
    assert server.orders == []


def test_the_stock_is_that_of_all_lines_of_a_plan_together(server: Sandbox, file: Path) -> None:
    server.stock[45, 441] = FEW - 1
    try:
        done = mioesim("order", "--file", file, "--dry-run", "--json", sandbox=server)
    finally:
        del server.stock[45, 441]

    assert [line["in_stock"] for line in json.loads(done.out)] == [False] * FEW + [True]
    assert done.status == 1


def test_lines_may_name_a_plan_by_its_sku_and_code(server: Sandbox, file: Path) -> None:
    file.write_text("sku_id,api_code\n46,392-0-7-1-G\n,392-0-7-1-G\n")
    done = mioesim("order", "--file", file, "--max-spend", 100, "--yes", "--json", sandbox=server)

    assert [line["status"] for line in json.loads(done.out)["lines"]] == ["placed", "failed"]
    assert [(order.sku_id, order.price_id) for order in server.orders] == [(46, 441)]


def test_lines_that_cannot_be_bought_leave_the_others(server: Sandbox, file: Path) -> None:
    file.write_text(HEADER + "45,442,1,no days\n45,999,1,no such plan\n999,1,1,no SKU\n45,441,1,\n")
    done = mioesim("order", "--file", file, "--max-spend", 100, "--yes", "--json", sandbox=server)

    assert done.status == 1
    told = json.loads(done.out)["lines"]
    assert [line["status"] for line in told] == ["failed", "failed", "failed", "placed"]
    assert len(server.orders) == 1


def test_an_unknown_outcome_of_a_line_is_status_4_with_its_reference(
    server: Sandbox, file: Path, tmp_path: Path
) -> None:
    server.faults.add(Fault.lose_reply(), ORDER)
    result = tmp_path / "result.csv"
    buy = ("order", "--file", file, "--max-spend", 200, "--yes", "--result", result)
    done = mioesim(*buy, sandbox=server)

    assert done.status == 4
    (unknown,) = [row for row in rows_in(result) if row["status"] == "unknown"]
    assert f"line {unknown['line']} is unknown: reference {unknown['reference']}" in done.err
    assert "mioesim orders reconcile" in done.err
    assert mioesim("orders", "reconcile", sandbox=server).status == 0
    assert mioesim(*buy, sandbox=server).status == 0
    assert len(server.orders) == len(set(references(server))) == 5


def test_activation_codes_are_written_when_asked_for_and_by_the_next_run_as_well(
    server: Sandbox, file: Path, tmp_path: Path
) -> None:
    result = tmp_path / "result.csv"
    buy = ("order", "--file", file, "--max-spend", 200, "--yes")
    plain = mioesim(*buy, sandbox=server)
    assert LPA not in plain.out + plain.err

    done = mioesim(*buy, "--show-activation", "--result", result, sandbox=server)
    assert [row["activation"].count(LPA) for row in rows_in(result)] == [1] * FEW + [2]
    assert result.stat().st_mode & 0o777 == 0o600
    assert LPA not in done.out + done.err


def test_cards_are_renewed_from_a_file(server: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "renewals.csv"
    iccids = server.iccids[:3]
    lines = "".join(f'45;441;="{iccid}";{iccid}-again\n' for iccid in iccids)
    path.write_text("SKU ID;price-id;ICCID;Reference\n" + lines)
    done = mioesim("renew", "--file", path, "--max-spend", 100, "--yes", sandbox=server)

    assert done.status == 0
    assert sorted(order.iccids[0] for order in server.orders) == sorted(iccids)
    assert references(server) == sorted(f"{iccid}-again" for iccid in iccids)


@pytest.mark.parametrize(
    ("command", "text", "told"),
    [
        ("renew", "sku_id,price_id,iccid\n45,441,8.98E+18\n", ["line 2", "spreadsheet"]),
        ("order", "sku_id,price_id,colour\n45,441,red\n", ["'colour'", "daypass_days"]),
        ("order", "sku_id,SKU ID\n45,45\n", ["two columns for sku_id"]),
        ("order", "sku_id,price_id\n45,441\n\n45,x\n45,441,9\n", ["line 4: price_id", "line 5"]),
        ("order", "sku_id,price_id,reference\n45,441,a\n45,441,a\n", ["line 3", "of line 2"]),
        ("order", "sku_id,price_id,begin date\n45,441,31.1.2040\n", ["2027-01-31"]),
        ("order", "sku_id,price_id\n", ["no lines"]),
        ("order", "", ["empty"]),
        ("order", 'sku_id,price_id\n45,"441\n', ["not a CSV file"]),
        ("order", b"sku_id,remark\n45,\xff\n", ["UTF-8"]),
    ],
)
def test_a_file_with_faults_is_refused_whole_with_line_numbers(
    server: Sandbox, tmp_path: Path, command: str, text: str | bytes, told: list[str]
) -> None:
    path = tmp_path / "lines.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    done = mioesim(command, "--file", path, "--max-spend", 100, "--yes", sandbox=server)

    assert (done.status, done.out) == (2, "")
    assert all(part in done.err for part in told), done.err
    assert "Traceback" not in done.err
    assert server.requests == []


def test_the_result_never_overwrites_the_file(server: Sandbox, file: Path) -> None:
    before = file.read_text()
    done = mioesim(
        "order", "--file", file, "--max-spend", 100, "--yes", "--result", file, sandbox=server
    )
    assert done.status == 2
    assert file.read_text() == before
    assert server.orders == []


def test_a_file_in_another_encoding_is_refused_with_the_line(server: Sandbox, file: Path) -> None:
    file.write_bytes(f"{HEADER}45,441,1,x\n45,441,1,Jos\xe9\n".encode("cp1252"))
    done = mioesim("order", "--file", file, "--max-spend", "100", "--yes", sandbox=server)
    assert (done.status, done.err.count("\n"), server.orders) == (2, 1, [])
    assert "orders.csv, line 3: not UTF-8 text; save the file as UTF-8" in done.err

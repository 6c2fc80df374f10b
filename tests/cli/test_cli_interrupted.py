"""A purchase that is interrupted: whatever was sent is told, however impatient the person."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
from pathlib import Path

import pytest
from asking import QUESTION, at_terminal
from attrs import evolve
from command import Done, interrupted, mioesim, started
from waiting import SECONDS, read_until, wait_until

from mioesim_async.sandbox import Fault, Sandbox

BUY = ("order", "45", "441", "--yes", "--reference")


def interrupted_twice(process: subprocess.Popen[bytes], server: Sandbox, waiting: str) -> Done:
    """Press Ctrl-C while the vendor is silent, and again while the command waits for it."""
    wait_until(lambda: [one for one in server.requests if one.fault])
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    told = read_until(process.stderr, waiting)
    done = interrupted(process)
    return evolve(done, err=told + done.err)


def test_a_second_ctrl_c_says_that_it_may_have_been_bought(server: Sandbox) -> None:
    server.faults.add(Fault.silence(), "addEsimOrder")
    with started(*BUY, "twice-1", sandbox=server) as process:
        done = interrupted_twice(process, server, "interrupted; waiting for the")

    assert done.status == 4
    assert "may have been bought" in done.err
    assert "twice-1. To find out, run: mioesim orders reconcile" in done.err
    assert "nothing was bought" not in done.err
    assert "Unclosed" not in done.err
    assert "Traceback" not in done.err
    (entry,) = json.loads(mioesim("orders", "open", "--json", sandbox=server).out)
    assert (entry["other_order_id"], entry["state"]) == ("twice-1", "unknown")


def test_a_second_ctrl_c_of_a_file_tells_each_line(server: Sandbox, tmp_path: Path) -> None:
    file, result = tmp_path / "orders.csv", tmp_path / "result.csv"
    file.write_text("sku_id,price_id,reference\n45,441,row-1\n45,441,row-2\n45,441,row-3\n")
    server.faults.add(Fault.silence(), "addEsimOrder", after=1)
    buy = ("order", "--file", file, "--max-spend", 100, "--yes", "--result", result)
    with started(*buy, "--concurrency", 1, sandbox=server) as process:
        done = interrupted_twice(process, server, "waiting for those under way")

    assert done.status == 4
    with result.open(newline="") as rows:
        told = {row["reference"]: row["status"] for row in csv.DictReader(rows)}
    assert told == {"row-1": "placed", "row-2": "unknown", "row-3": "not sent"}
    assert "line 3 is unknown: reference row-2" in done.err
    assert "mioesim orders reconcile" in done.err
    assert "Unclosed" not in done.err


def test_a_second_ctrl_c_of_a_cancellation_says_that_it_may_have_happened(
    server: Sandbox,
) -> None:
    assert mioesim(*BUY, "cancelled-1", sandbox=server).status == 0
    (order,) = server.orders
    server.faults.add(Fault.silence(), "refundOrder")
    with started("cancel", order.order_num, "--all", "--yes", sandbox=server) as process:
        done = interrupted_twice(process, server, "interrupted; waiting for the")

    assert done.status == 4
    assert f"To find out, run: mioesim orders show {order.order_num}" in done.err
    assert "nothing was cancelled" not in done.err
    assert "Unclosed" not in done.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_being_told_to_end_is_like_ctrl_c(server: Sandbox, number: signal.Signals) -> None:
    server.faults.add(Fault.slow(60), "addEsimOrder")
    with started(*BUY, f"ended-{number}", sandbox=server) as process:
        wait_until(lambda: [one for one in server.requests if one.fault])
        process.send_signal(number)
        assert process.stderr is not None
        read_until(process.stderr, "interrupted; waiting for the")
        wait_until(lambda: server.clock.advance(60) or process.poll() is not None)
        out = process.communicate(timeout=SECONDS)[0].decode()

    (order,) = server.orders
    assert process.returncode == 130
    assert order.order_num in out


def test_being_told_to_end_at_the_question_buys_nothing(server: Sandbox) -> None:
    with at_terminal("order", "45", "441", sandbox=server) as terminal:
        terminal.wait_for(QUESTION)
        terminal.process.send_signal(signal.SIGTERM)
        done = terminal.done()

    assert (done.status, done.out) == (130, "")
    assert "nothing was done" in done.err
    assert server.orders == []

"""Results that can't be written, and secrets that are not written: nobody buys unawares."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from asking import QUESTION, at_terminal
from command import mioesim, started
from waiting import SECONDS, read_until, wait_until

from mioesim_async.sandbox import Fault, Sandbox

LPA = "LPA:1$sandbox.example$SECRET"
FULL = Path("/dev/full")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "orders.csv"
    path.write_text("sku_id,price_id,count\n" + "45,441,1\n" * 5)
    return path


def test_a_closed_pipe_stops_a_file_and_says_what_was_bought(server: Sandbox, file: Path) -> None:
    buy = ("order", "--file", file, "--max-spend", 100, "--yes", "--concurrency", 1)
    ours, theirs = os.pipe()
    with started(*buy, sandbox=server, stdout=theirs) as process:
        os.close(theirs)
        # As head -1 does.
        assert read_until(ours, "\n").startswith("line,")
        os.close(ours)
        err = process.communicate(timeout=SECONDS)[1].decode()

    assert process.returncode == 4
    assert 1 <= len(server.orders) < 5
    assert "a result can't be written" in err
    assert f"{len(server.orders)} placed" in err
    assert "Run the same file again" in err
    again = mioesim(*buy, sandbox=server)
    assert (again.status, len(server.orders)) == (0, 5)


def test_a_closed_pipe_and_ctrl_c_together_still_tell_what_was_bought(
    server: Sandbox, file: Path
) -> None:
    server.faults.add(Fault.slow(60), "addEsimOrder")
    buy = ("order", "--file", file, "--max-spend", 100, "--yes", "--concurrency", 1)
    ours, theirs = os.pipe()
    with started(*buy, sandbox=server, stdout=theirs) as process:
        os.close(theirs)
        wait_until(lambda: [one for one in server.requests if one.fault])
        os.close(ours)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        read_until(process.stderr, "waiting for those under way")
        wait_until(lambda: server.clock.advance(60) or process.poll() is not None)
        err = process.communicate(timeout=SECONDS)[1].decode()

    assert process.returncode == 4
    assert len(server.orders) == 1
    assert "4 not sent, 1 placed" in err


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_an_order_that_cannot_be_printed_is_told_on_standard_error(
    server: Sandbox, form: tuple[str, ...]
) -> None:
    with FULL.open("wb") as full:
        started_order = started(
            "order", 45, 441, "--yes", "--reference", f"full{len(form)}", *form,
            sandbox=server, stdout=full,
        )  # fmt: skip
        with started_order as process:
            err = process.communicate(timeout=SECONDS)[1].decode()

    (order,) = server.orders
    assert process.returncode == 4
    assert f"reference full{len(form)} is placed: order {order.order_num}" in err
    assert "Traceback" not in err


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_a_summary_that_cannot_be_printed_is_status_4(server: Sandbox, file: Path) -> None:
    buy = ("order", "--file", file, "--max-spend", 100, "--yes", "--json")
    with FULL.open("wb") as full, started(*buy, sandbox=server, stdout=full) as process:
        err = process.communicate(timeout=SECONDS)[1].decode()

    assert process.returncode == 4
    assert len(server.orders) == 5
    assert "5 placed" in err


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_a_cancellation_that_cannot_be_printed_is_told_on_standard_error(server: Sandbox) -> None:
    assert mioesim("order", 45, 441, "--yes", sandbox=server).status == 0
    (order,) = server.orders
    cancel = ("cancel", order.order_num, "--all", "--yes")
    with FULL.open("wb") as full, started(*cancel, sandbox=server, stdout=full) as process:
        err = process.communicate(timeout=SECONDS)[1].decode()

    assert process.returncode == 4
    assert f"asked for a refund of 1 card of order {order.order_num}" in err


def test_a_result_file_that_cannot_be_written_is_told_before_the_question(
    server: Sandbox, file: Path, tmp_path: Path
) -> None:
    nowhere = tmp_path / "no such folder" / "result.csv"
    with at_terminal(
        "order", "--file", file, "--max-spend", 100, "--result", nowhere, sandbox=server
    ) as terminal:
        terminal.type("n\n")
        done = terminal.done()

    assert done.status == 2
    assert QUESTION not in done.err
    assert str(nowhere) in done.err.replace("\r\n", "")


def test_a_declined_purchase_leaves_no_result_file(
    server: Sandbox, file: Path, tmp_path: Path
) -> None:
    result = tmp_path / "result.csv"
    with at_terminal(
        "order", "--file", file, "--max-spend", 100, "--result", result, sandbox=server
    ) as terminal:
        terminal.wait_for(QUESTION)
        terminal.type("n\n")
        assert terminal.done().status == 1

    assert not result.exists()


@pytest.mark.parametrize(
    "text",
    [
        f"sku_id,price_id,{LPA}\n45,441,x\n",
        f"sku_id,price_id,count\n45,441,{LPA}\n",
        f"sku_id,api_code\n45,{LPA}\n",
        f"sku_id,price_id,dp_id,iccids\n45,441,11,{LPA}\n",
    ],
)
def test_an_activation_code_in_a_file_is_not_repeated(
    server: Sandbox, file: Path, text: str
) -> None:
    file.write_text(text)
    done = mioesim("order", "--file", file, "--max-spend", 100, "--yes", sandbox=server)

    assert done.status in (1, 2)
    assert "an activation code" in done.err + done.out
    assert "SECRET" not in done.err + done.out
    assert server.orders == []


@pytest.mark.parametrize("name", ["", " "])
def test_a_profile_without_a_name_is_refused(server: Sandbox, name: str) -> None:
    done = mioesim("order", 45, 441, "--yes", "--profile", name, sandbox=server)

    assert (done.status, done.out) == (2, "")
    assert "--profile" in done.err
    assert server.requests == []

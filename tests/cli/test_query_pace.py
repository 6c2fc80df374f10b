"""How fast ``mioesim query`` asks, and how it ends when a person has no patience."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from command import interrupted, lines_of, mioesim, started
from waiting import read_until, wait_until

from mioesim_async.sandbox import Fault, Sandbox

QUERY = "queryIccidInformation"


def test_no_more_requests_are_under_way_than_max_in_flight_says(tmp_path: Path) -> None:
    source = tmp_path / "cards.txt"
    with Sandbox(1000, capacity=1) as server:
        source.write_text(lines_of(server.iccids))
        server.faults.add(Fault.slow(0.02), QUERY, times=None)
        done = mioesim("query", "-f", source, "--max-in-flight", "1", sandbox=server)
        assert done.status == 0
        assert "over capacity" not in {request.fault for request in server.requests}


def test_no_more_requests_are_sent_in_a_second_than_rate_limit_says(tmp_path: Path) -> None:
    source = tmp_path / "cards.txt"
    with Sandbox(2000) as server:
        source.write_text(lines_of(server.iccids))
        done = mioesim("query", "-f", source, "--rate-limit", "20", sandbox=server)
        assert done.status == 0
        times = [request.at for request in server.requests if request.endpoint == QUERY]
    # Twenty at once, or the pace from the first on: the last of twenty is half a second late.
    assert times[-1] - times[0] > 0.4


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "parquet"])
def test_a_second_ctrl_c_leaves_the_file_and_gives_no_traceback(tmp_path: Path, kind: str) -> None:
    source, output = tmp_path / "cards.txt", tmp_path / f"result.{kind}"
    output.write_text("yesterday's")
    with Sandbox(400) as server:
        source.write_text(lines_of(server.iccids))
        server.faults.add(Fault.silence(), QUERY, times=None, after=1)
        arguments = ("query", "-f", source, "-o", output, "--concurrency", "1")
        with started(*arguments, sandbox=server) as process:
            wait_until(lambda: len(server.requests) == 3)
            process.send_signal(signal.SIGINT)
            done = interrupted(process)
    assert (done.status, output.read_text()) == (130, "yesterday's")
    assert "Traceback" not in done.err


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_pipe_that_is_closed_leaves_the_summary_and_gives_no_traceback(
    tmp_path: Path, kind: str
) -> None:
    source, summary = tmp_path / "cards.txt", tmp_path / "summary.json"
    with Sandbox(2000) as server:
        source.write_text(lines_of(server.iccids))
        arguments = ("query", "-f", source, "--format", kind, "--summary", summary)
        with started(*arguments, sandbox=server) as process:
            assert process.stdout is not None
            read_until(process.stdout, "\n")
            process.stdout.close()
            process.stdout = None
            _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"Traceback" not in err
    assert '"exit_status": 1' in summary.read_text()

"""The command when things go wrong: exit status, one line without secrets, Ctrl-C."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from command import (
    environment,
    interrupted,
    lines_of,
    mioesim,
    rows_of,
    started,
)
from waiting import SECONDS, read_until, wait_until

from mioesim_async.sandbox import Fault, Sandbox

QUERY = "queryIccidInformation"


@pytest.fixture
def server() -> Iterator[Sandbox]:
    with Sandbox(2000) as sandbox:
        yield sandbox


def one_line(text: str) -> bool:
    """Tell whether there is one line, for people."""
    return text.startswith("mioesim: ") and text.count("\n") == 1 and "Traceback" not in text


# Wrong usage: 2.


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("query", "--nonsense"),
        ("query", "--format", "xml", "8985000000000000000"),
        ("query", "--concurrency", "0", "8985000000000000000"),
        ("query", "--concurrency", "many", "8985000000000000000"),
        ("query", "--sandbox", "0"),
        ("query", "--sandbox", "10", "abc"),
        ("query", "8985000000000000000", "--file", "cards.txt"),
        ("query", "8985000000000000000", "--column", "iccid"),
        ("sandbox", "--cards", "0"),
        ("sandbox", "--port", "70000"),
        ("sandbox", "--port", "-1"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line_and_2(arguments: tuple[str, ...]) -> None:
    done = mioesim(*arguments)
    assert (done.status, done.out) == (2, "")
    assert one_line(done.err)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"MIOESIM_PASSWORD": ""}, "MIOESIM_PASSWORD"),
        ({"MIOESIM_BASE_URL": "bpm.mioesim.com"}, "base_url"),
    ],
)
def test_a_wrong_setting_is_one_line_and_2(
    server: Sandbox, changed: dict[str, str], named: str
) -> None:
    done = mioesim("query", server.iccids[0], sandbox=server, **changed)
    assert (done.status, done.out) == (2, "")
    assert one_line(done.err)
    assert named in done.err


def test_without_an_account_every_missing_variable_is_named() -> None:
    done = mioesim("query", "8985000000000000000")
    assert done.status == 2
    assert one_line(done.err)
    names = ("MIOESIM_PHONE_NUMBER", "MIOESIM_PASSWORD", "MIOESIM_SECRET_KEY")
    assert all(name in done.err for name in names)


@pytest.mark.parametrize("bad", ["12345", "8.98E+18", "not-an-iccid"])
def test_an_argument_that_is_no_iccid_is_2_before_a_byte_is_sent(server: Sandbox, bad: str) -> None:
    done = mioesim("query", server.iccids[0], bad, sandbox=server)
    assert (done.status, done.out, server.requests) == (2, "", [])
    assert one_line(done.err)
    assert repr(bad) in done.err


def test_no_iccids_on_a_terminal_is_2(server: Sandbox) -> None:
    ours, theirs = os.openpty()
    try:
        done = mioesim("query", stdin=theirs, sandbox=server)
    finally:
        os.close(ours)
        os.close(theirs)
    assert (done.status, one_line(done.err), server.requests) == (2, True, [])


# Some missing or failed: 1.


def test_a_missing_card_is_1(server: Sandbox) -> None:
    done = mioesim("query", server.iccids[0], "8999000000000000000", sandbox=server)
    assert (done.status, done.err) == (1, "")


def test_failed_cards_are_1_with_the_reason_of_the_first(server: Sandbox) -> None:
    server.refused[server.iccids[1]] = -8
    done = mioesim("query", *server.iccids[:4], sandbox=server)
    assert (done.status, rows_of(done.out)["Failed"]) == (1, "1")
    assert rows_of(done.out)["Cards found"] == "3"
    (reason,) = [line for line in done.out.splitlines() if line.startswith("First error: ")]
    assert "-8" in reason
    assert "check its filters" in reason, "a reason is one line, whatever the width"


def test_an_item_of_a_file_that_is_no_iccid_is_a_failed_card(
    server: Sandbox, tmp_path: Path
) -> None:
    file = tmp_path / "cards.txt"
    file.write_text(f"{server.iccids[0]}\n8.98E+18\n")
    done = mioesim("query", "-f", file, "--format", "jsonl", sandbox=server)
    assert done.status == 1
    good, bad = map(json.loads, done.out.splitlines())
    assert (good["result"], bad["result"], bad["iccid"]) == ("found", "failed", "8.98E+18")
    assert "spreadsheet" in bad["error"]


def test_what_was_not_interrupted_is_not_called_so(server: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "cards.csv"
    file.write_text(f"iccid,note\n{server.iccids[0]},x\n{server.iccids[1]},{'y' * 200_000}\n")
    done = mioesim("query", "-f", file, sandbox=server)
    assert done.status == 2
    assert one_line(done.err)
    assert "line 3" in done.err
    assert "Interrupted" not in done.out + done.err


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_an_unreadable_file_is_one_line_that_names_it(
    server: Sandbox, tmp_path: Path, kind: str
) -> None:
    file = tmp_path if kind == "folder" else tmp_path / "none.txt"
    done = mioesim("query", "-f", file, sandbox=server)
    assert done.status in (1, 2)
    assert one_line(done.err)
    assert str(file) in done.err
    assert server.requests == []


@pytest.mark.parametrize("way", ["--file", "pipe"])
def test_a_csv_file_that_is_none_is_one_line(server: Sandbox, tmp_path: Path, way: str) -> None:
    file = tmp_path / "cards.csv"
    file.write_text(f'iccid,note\n{server.iccids[0]},"a quote without end\n' + "x,y\n" * 50_000)
    if way == "pipe":
        done = mioesim("query", "-c", "iccid", typed=file.read_bytes(), sandbox=server)
    else:
        done = mioesim("query", "-f", file, sandbox=server)
    assert done.status in (1, 2)
    assert "Traceback" not in done.err
    assert "Interrupted" not in done.out + done.err


@pytest.mark.parametrize("kind", ["no folder", "folder", "full"])
def test_an_unwritable_output_is_one_line(server: Sandbox, tmp_path: Path, kind: str) -> None:
    source = tmp_path / "cards.txt"
    source.write_text(lines_of(server.iccids))
    output = {
        "no folder": tmp_path / "none" / "cards.csv", "folder": tmp_path, "full": Path("/dev/full"),
    }[kind]  # fmt: skip
    done = mioesim("query", "-f", source, "--format", "csv", "-o", output, sandbox=server)
    assert done.status in (1, 2)
    (message,) = [line for line in done.err.splitlines() if line.startswith("mioesim: ")]
    assert kind == "full" or str(output) in message
    assert "Traceback" not in done.err
    assert "Interrupted" not in done.err


def test_a_full_standard_output_is_one_line(server: Sandbox) -> None:
    with (
        Path("/dev/full").open("wb") as full,
        started(
            "query", server.iccids[0], "--format", "csv", sandbox=server, stdout=full
        ) as process,
    ):
        _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert err.count(b"mioesim: ") == 1
    assert b"Traceback" not in err
    assert b"Exception ignored" not in err


@pytest.mark.parametrize("kind", ["table", "csv", "jsonl", "json"])
def test_a_closed_pipe_gives_no_traceback(server: Sandbox, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "cards.txt"
    file.write_text(lines_of(server.iccids))
    arguments = ("query", "-f", file, "--format", kind)
    with started(*arguments, sandbox=server) as process:
        assert process.stdout is not None
        if kind != "table":
            read_until(process.stdout, "\n")
        process.stdout.close()
        process.stdout = None
        _, err = process.communicate(timeout=SECONDS)
    assert process.returncode in (0, 1, -signal.SIGPIPE, 128 + signal.SIGPIPE)
    assert b"Traceback" not in err
    assert b"Exception ignored" not in err


# Not logged in: 3.


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"MIOESIM_PASSWORD": "made-up-password"}, "check the phone number and the password"),
        ({"MIOESIM_SECRET_KEY": "made-up-key"}, "secret key is wrong: check it"),
        ({"MIOESIM_BASE_URL": "http://127.0.0.1:1"}, "127.0.0.1:1"),
    ],
)
@pytest.mark.parametrize("debug", [False, True])
def test_a_refused_login_is_3_an_unreachable_host_5_and_both_say_what_to_do(
    server: Sandbox, changed: dict[str, str], told: str, debug: bool
) -> None:
    arguments = ("--debug",) if debug else ()
    done = mioesim("query", server.iccids[0], *arguments, sandbox=server, **changed)
    assert (done.status, done.out) == (5 if "MIOESIM_BASE_URL" in changed else 3, "")
    assert told in done.err
    assert one_line(done.err) is not debug
    assert ("Traceback" in done.err) is debug
    assert not [value for name, value in changed.items() if "URL" not in name and value in done.err]


@pytest.mark.parametrize("endpoint", ["login", QUERY])
@pytest.mark.parametrize("code", [-30, -8, 4711])
@pytest.mark.parametrize("debug", [False, True])
def test_no_secret_is_shown_even_when_the_server_echoes_them(
    server: Sandbox, endpoint: str, code: int, debug: bool
) -> None:
    echo = "{phonenumber} {password} {sign}" if endpoint == "login" else "{token} {sign}"
    server.faults.add(Fault.refuse(code, f"you sent {echo}"), endpoint, times=None)
    arguments = ("--debug",) if debug else ()
    done = mioesim("query", *server.iccids[:2], *arguments, sandbox=server)

    assert done.status != 0
    shown = done.out + done.err
    assert str(code) in shown
    secrets = {server.credentials.password, server.credentials.secret_key}
    for request in server.requests:
        secrets |= {request.params[name] for name in ("token", "sign") if name in request.params}
    assert len(secrets) > 2
    assert not [secret for secret in secrets if secret in shown]


def test_no_secret_is_in_the_logs_of_a_good_run(server: Sandbox) -> None:
    done = mioesim("query", *server.iccids[:2], "--debug", sandbox=server)
    assert done.status == 0
    assert "logged in" in done.err
    params = [request.params for request in server.requests]
    secrets = {sent[name] for sent in params for name in ("token", "sign") if name in sent}
    secrets |= {server.credentials.password, server.credentials.secret_key}
    assert not [secret for secret in secrets if secret in done.out + done.err]


# Ctrl-C: 130.


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl"])
@pytest.mark.parametrize("place", ["stdout", "file"])
def test_ctrl_c_stops_cleanly_and_what_was_written_is_valid(
    server: Sandbox, tmp_path: Path, kind: str, place: str
) -> None:
    # One batch is answered, the next one hangs.
    server.faults.add(Fault.slow(60), QUERY, times=None, after=1)
    source, output = tmp_path / "cards.txt", tmp_path / f"out.{kind}"
    source.write_text(lines_of(server.iccids[:400]))
    to = ("-o", output) if place == "file" else ("--format", kind)
    with started("query", "-f", source, "--concurrency", 1, *to, sandbox=server) as process:
        wait_until(lambda: len(server.requests) == 3)
        done = interrupted(process)

    assert done.status == 130
    assert "Traceback" not in done.err
    assert "Interrupted after 100 cards." in done.err
    assert rows_of(done.err)["Cards found"] == "100"
    part = output.with_name(f"{output.name}.part")
    if place == "file":
        assert not output.exists()
        assert f"what was done is in {part}" in done.err
    text = part.read_text() if place == "file" else done.out
    records: list[Any] = {
        "csv": lambda: [*csv.DictReader(text.splitlines())],
        "json": lambda: json.loads(text),
        "jsonl": lambda: [json.loads(line) for line in text.splitlines()],
    }[kind]()
    assert [record["iccid"].strip('="') for record in records] == server.iccids[:100]


def test_ctrl_c_says_what_was_done_in_a_table_too(server: Sandbox) -> None:
    server.faults.add(Fault.slow(60), QUERY, times=None)
    with started("query", *server.iccids[:3], sandbox=server) as process:
        wait_until(lambda: len(server.requests) == 2)
        done = interrupted(process)
    assert (done.status, done.err) == (130, "")
    assert "Interrupted after 0 cards." in done.out
    assert rows_of(done.out)["Logins"] == "1"


def test_ctrl_c_during_the_login_says_so(server: Sandbox) -> None:
    server.faults.add(Fault.slow(60), "login", times=None)
    with started("query", server.iccids[0], sandbox=server) as process:
        wait_until(lambda: server.requests)
        done = interrupted(process)
    assert done.status == 130
    assert "Traceback" not in done.err
    assert "nterrupted" in done.out + done.err


def test_ctrl_c_while_input_is_awaited_says_what_was_done(server: Sandbox) -> None:
    with started("query", sandbox=server, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(lines_of(server.iccids[:100]).encode())
        process.stdin.flush()
        wait_until(lambda: [seen.code for seen in server.requests] == [1, 0])
        done = interrupted(process)
    assert (done.status, done.err) == (130, "")
    assert "Interrupted after " in done.out


# The sandbox by itself.


def test_the_sandbox_command_prints_what_to_export_and_ends_with_ctrl_c() -> None:
    with started("sandbox", "--cards", 50, "--port", 0) as process:
        assert process.stdout is not None
        lines = [read_until(process.stdout, "\n") for _ in range(5)]
        script = "".join(lines) + 'exec "$@"\n'
        first = lines[-1].split(" is ")[1].split(";")[0]
        command = ["bash", "-c", script, "bash", *process.args[:5], "query", first]  # type: ignore[index]
        query = subprocess.run(
            command, env=environment(), capture_output=True, timeout=SECONDS, check=False
        )
        done = interrupted(process)

    assert [line.split("=")[0] for line in lines[:4]] == [
        "export MIOESIM_BASE_URL", "export MIOESIM_PHONE_NUMBER",
        "export MIOESIM_PASSWORD", "export MIOESIM_SECRET_KEY",
    ]  # fmt: skip
    assert lines[-1].startswith("# 50 cards")
    assert (query.returncode, query.stderr) == (0, b"")
    assert first.encode() in query.stdout
    assert (done.status, done.out, done.err) == (0, "", "")


def test_a_port_in_use_is_one_line_and_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = mioesim("sandbox", "--port", port)
    assert (done.status, done.out) == (1, "")
    assert one_line(done.err)
    assert str(port) in done.err


def test_the_sandbox_listens_on_the_port_that_was_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with started("sandbox", "--cards", 1, "--port", port) as process:
        assert process.stdout is not None
        url = read_until(process.stdout, "\n").strip().partition("=")[2]
        assert urlsplit(url).port == port
        assert interrupted(process).status == 0

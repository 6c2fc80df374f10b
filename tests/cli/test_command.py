"""The command as tests call it is the one that a shell starts, and a call leaves no trace."""

from __future__ import annotations

import gc
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from command import COMMAND, PYTHON, ended, mioesim, started
from waiting import SECONDS, wait_until

from mioesim_async.sandbox import Fault, Sandbox

UNKNOWN = "8999000000000000000"
WAYS = {"module": COMMAND, "script": [*PYTHON, str(Path(sys.executable).with_name("mioesim"))]}
"""How a process of the command is started."""


@pytest.fixture
def server() -> Iterator[Sandbox]:
    with Sandbox(10) as sandbox:
        yield sandbox


@pytest.fixture
def stranger(server: Sandbox) -> Iterator[Sandbox]:
    """The same sandbox, with a password that it refuses."""
    account = server.credentials
    server.credentials = evolve(account, password="made-up-password")
    yield server
    server.credentials = account


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("--version",), 0),
        (("query", "8985000000000000000", "--format", "jsonl"), 0),
        (("query", UNKNOWN, "--format", "csv"), 1),
        (("query", "--nonsense"), 2),
    ],
)
def test_a_process_prints_and_ends_as_the_call_does(
    server: Sandbox, way: str, arguments: tuple[str, ...], status: int
) -> None:
    called = mioesim(*arguments, sandbox=server)
    with started(*arguments, sandbox=server, command=WAYS[way]) as process:
        done = ended(process)

    assert done.status == called.status == status
    clock = re.compile(r"\d\d:\d\d:\d\d\+00:00")
    assert clock.sub("", done.out) == clock.sub("", called.out)
    assert done.err.splitlines()[:1] == called.err.splitlines()[:1]


@pytest.mark.parametrize("way", WAYS)
def test_a_process_that_is_not_logged_in_ends_as_the_call_does(stranger: Sandbox, way: str) -> None:
    called = mioesim("skus", sandbox=stranger)
    with started("skus", sandbox=stranger, command=WAYS[way]) as process:
        assert ended(process) == called
    assert called.status == 3


@pytest.mark.parametrize("way", WAYS)
def test_a_process_whose_order_is_unknown_ends_as_the_call_does(server: Sandbox, way: str) -> None:
    server.faults.add(Fault.lose_reply(), "addEsimOrder")
    order = ("order", 45, 441, "--yes", "--reference", "lost-1", "--json")
    with started(*order, sandbox=server, command=WAYS[way]) as process:
        done = ended(process)
    called = mioesim(*order, sandbox=server)

    assert (done.status, called.status) == (4, 4)
    assert "mioesim orders reconcile" in done.err
    assert len(server.orders) == 1


def state() -> dict[str, Any]:
    """What a call might leave behind in this process."""
    return {
        "environment": dict(os.environ),
        "directory": Path.cwd(),
        "arguments": sys.argv[:],
        "streams": [sys.stdin, sys.stdout, sys.stderr],
        "descriptors": [(one.st_dev, one.st_ino) for one in map(os.fstat, range(3))],
        "handlers": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "logging": [
            (logger.level, logger.handlers[:])
            for logger in (logging.getLogger(), logging.getLogger("mioesim_async"))
        ],
        "warnings": warnings.filters[:],
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ("query", UNKNOWN),
        ("query", UNKNOWN, "--debug"),
        ("query", "--nonsense"),
        ("card", UNKNOWN, "--debug"),
        ("order", 45, 441, "--yes"),
        ("--help",),
    ],
)
def test_a_call_leaves_the_process_as_it_was(server: Sandbox, arguments: tuple[Any, ...]) -> None:
    before, threads = state(), threading.enumerate()
    mioesim(*arguments, sandbox=server, typed="\n")
    assert state() == before

    def nothing_runs() -> bool:
        # An order journal's thread ends when the journal is collected.
        gc.collect()
        return not [thread for thread in threading.enumerate() if thread not in threads]

    wait_until(nothing_runs)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="there is no /proc")
def test_calls_leave_no_descriptor_open(server: Sandbox) -> None:
    def opened() -> int:
        gc.collect()
        return len([*Path("/proc/self/fd").iterdir()])

    mioesim("skus", sandbox=server)
    before = opened()
    for arguments in (("skus",), ("query", UNKNOWN, "--debug"), ("order", 45, 441, "--yes")):
        mioesim(*arguments, sandbox=server, typed="\n")
    # The sandbox closes its ends a moment later.
    wait_until(lambda: opened() <= before)


def test_the_streams_of_a_call_are_real_and_children_share_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(arguments: list[str]) -> int:
        streams = (sys.stdin, sys.stdout, sys.stderr)
        assert [stream.fileno() for stream in streams] == [0, 1, 2]
        assert not any(stream.isatty() for stream in streams)
        assert sys.stdin.buffer.name == "<stdin>"
        print("half \ud83d", file=sys.stderr, end="")
        sys.stdout.buffer.write(b"bytes, ")
        sys.stdout.flush()
        subprocess.run(["cat"], check=True, timeout=SECONDS)
        return len(arguments)

    monkeypatch.setattr("command.run", run)
    done = mioesim("one", "two", typed="typed " * 50_000)

    assert (done.status, done.err) == (2, "half \\ud83d")
    assert done.out == "bytes, " + "typed " * 50_000


def test_a_warning_in_a_call_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("command.run", lambda _: warnings.warn("old", DeprecationWarning, 1))
    with pytest.raises(DeprecationWarning, match="old"):
        mioesim()


def test_a_call_that_does_not_end_is_interrupted_and_fails_the_test(
    server: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.faults.add(Fault.silence(), "login")
    monkeypatch.setattr("command.SECONDS", 0.2)
    with pytest.raises(AssertionError, match="didn't end within"):
        mioesim("skus", sandbox=server)

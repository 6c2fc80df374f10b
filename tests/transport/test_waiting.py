"""The tests' own waiting: it ends, and it says what was there instead."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator

import conftest
import pytest
import waiting
from stores import spawned
from waiting import line_of, read_to_end, read_until, until, wait_until


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe's reading and writing end."""
    reads, writes = os.pipe()
    with os.fdopen(reads, "rb"), os.fdopen(writes, "wb"):
        yield reads, writes


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SECONDS", 0.05)


def test_reading_stops_behind_the_text_and_leaves_what_follows(pipe: tuple[int, int]) -> None:
    reads, writes = pipe
    os.write(writes, "a line\nwaiting for ünder way, and more".encode())

    assert read_until(reads, "\n") == "a line\n"
    assert read_until(reads, "ünder") == "waiting for ünder"
    assert os.read(reads, 100) == b" way, and more"


def test_an_output_that_ends_without_the_text_fails_with_what_was_read(
    pipe: tuple[int, int],
) -> None:
    reads, writes = pipe
    os.write(writes, b"Traceback: no such thing")
    os.dup2(os.open(os.devnull, os.O_WRONLY), writes)

    with pytest.raises(AssertionError, match=r"'waiting for'.* but 'Traceback: no such thing'"):
        read_until(reads, "waiting for")


@pytest.mark.usefixtures("_hasty")
def test_a_silent_child_fails_the_test_with_what_was_read(pipe: tuple[int, int]) -> None:
    reads, writes = pipe
    for wait in (lambda: read_until(reads, "waiting for"), lambda: read_to_end(reads)):
        os.write(writes, b"hello")
        with pytest.raises(AssertionError, match="did not come, but 'hello'"):
            wait()


def test_a_terminal_is_read_to_its_end() -> None:
    ours, theirs = pty.openpty()
    try:
        subprocess.run(["echo", "shown"], stdout=theirs, check=True, timeout=waiting.SECONDS)
        os.close(theirs)
        assert read_to_end(ours) == "shown\r\n"
        with pytest.raises(AssertionError, match="the end of the output"):
            read_until(ours, "more")
    finally:
        os.close(ours)


@pytest.mark.usefixtures("_hasty")
async def test_what_never_happens_fails_the_test() -> None:
    with pytest.raises(AssertionError, match="did not happen"):
        wait_until(lambda: False)
    with pytest.raises(TimeoutError):
        await until(lambda: False)


async def test_a_process_without_the_line_fails_the_test() -> None:
    async with spawned("print('one'); print('half', end='')") as process:
        assert await line_of(process) == "one"
        with pytest.raises(AssertionError, match="half"):
            await line_of(process)


def test_children_get_default_signals_where_the_run_was_started_to_ignore_them() -> None:
    script = (
        "import signal;"
        f"print(*[signal.getsignal(number).name for number in {[*map(int, conftest.STOPS)]}"
        " if signal.getsignal(number) is signal.SIG_IGN], 'done')"
    )
    before = {number: signal.signal(number, signal.SIG_IGN) for number in conftest.STOPS}
    try:
        conftest.ignore_in_this_process_only()
        handlers = [signal.getsignal(number) for number in conftest.STOPS]
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            timeout=waiting.SECONDS,
        )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

    assert done.stdout == "done\n"
    # The run itself goes on ignoring them.
    assert signal.SIG_IGN not in handlers
    assert signal.SIG_DFL not in handlers
    assert signal.default_int_handler not in handlers

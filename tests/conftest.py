"""What tests share: sandboxes and clients on a clock that nobody has to wait for."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from postgres_server import PostgresServer, new_schema, running_postgres

from mioesim_async import MioEsimClient, OrderJournal, PostgresOrderJournal
from mioesim_async.rows import layout
from mioesim_async.sandbox import Sandbox, SandboxClock

pytest_plugins = ["pytester"]

# CI tries the same cases each time: what a change breaks shows, and nothing else does.
settings.register_profile("ci", derandomize=True, print_blob=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def ignore_in_this_process_only() -> None:
    """Have children get the default of signals that this run was started to ignore, as with ``&``.

    A child inherits what is ignored, and gets the default of what has a handler: one that does
    nothing keeps this process as it was.
    """
    for number in STOPS:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests that are long by nature the time that they need."""
    for item in items:
        if item.get_closest_marker("slow") is not None:
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session", autouse=True)
def _whole_run() -> Iterator[None]:
    """Prepare the process that runs tests, and collect at last what was never looked at again."""
    ignore_in_this_process_only()
    yield
    gc.unfreeze()
    gc.collect()


@pytest.fixture(scope="module", autouse=True)
def _collect_only_what_is_new() -> None:
    """Take what is there before a module's tests out of the collections that follow each.

    It is most of what there is, and the time of a collection grows with it.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
async def _no_task_left_behind() -> AsyncIterator[None]:
    """Fail a test that leaves a task; set up first, so that everything else is closed by then."""
    yield
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"tasks left behind: {left}"


@pytest.fixture(autouse=True)
def _own_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the command's token file out of the user's own directories."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(autouse=True)
def _fresh_reports() -> None:
    """Let each test see what is reported once per process."""
    layout._reported.clear()


@pytest.fixture
def clock() -> SandboxClock:
    """A clock whose sleeps cost no real time."""
    return SandboxClock(skip_sleeps=True)


@pytest.fixture
def odd() -> bool:
    """Whether the sandbox is odd; modules that import the one of ``both`` test with both."""
    return False


@pytest.fixture
async def sandbox(clock: SandboxClock, odd: bool) -> AsyncIterator[Sandbox]:
    """A sandbox with 1,000 cards."""
    async with Sandbox(1000, clock=clock, odd=odd) as running:
        yield running


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[MioEsimClient]:
    """A client of that sandbox, on its clock."""
    async with sandbox.client() as running:
        yield running


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server; a test that stops it starts it again."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def kept_in() -> str:
    """Where ``journal`` keeps entries; modules that import the one of ``both`` test with both."""
    return "file"


@pytest.fixture
async def journal(
    kept_in: str, clock: SandboxClock, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[OrderJournal | PostgresOrderJournal]:
    """An order journal of the test's own."""
    if kept_in == "file":
        yield OrderJournal(tmp_path / "orders.db", clock=clock)
        return
    url = request.getfixturevalue("postgres").url
    opened = PostgresOrderJournal(url, schema=new_schema(), clock=clock)
    yield opened
    await opened.aclose()


@pytest.fixture
async def buyer(sandbox: Sandbox, journal: OrderJournal) -> AsyncIterator[MioEsimClient]:
    """A client of the sandbox that keeps that journal."""
    async with sandbox.client(order_journal=journal) as running:
        yield running


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="mioesim_async")


@pytest.fixture(autouse=True)
def _unclosed_is_an_error() -> Iterator[None]:
    """Make a forgotten session or transport fail the test that forgot it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        yield
        gc.collect()


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    """A sandbox in a thread of its own, for commands in processes of theirs."""
    with Sandbox(10) as sandbox:
        yield sandbox


@pytest.fixture
def server(running: Sandbox) -> Sandbox:
    """The same, as if nobody had asked it for anything."""
    running.requests.clear()
    running.faults.clear()
    running.orders.clear()
    return running

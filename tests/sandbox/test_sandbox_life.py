"""What the sandbox records, what it leaves behind, and the clock that tests move."""

from __future__ import annotations

import asyncio
import gc
import itertools
import socket
import threading
import warnings
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from plain_caller import DETAIL, Wire, http, wire
from waiting import SECONDS, until, wait_until

from mioesim_async import errors
from mioesim_async.sandbox import Fault, Sandbox, SandboxClock

__all__ = ["http", "wire"]


def refuses_connections(url: str) -> bool:
    address = urlsplit(url)
    try:
        socket.create_connection((address.hostname or "", address.port or 0), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


# What it saw.


async def test_requests_hold_what_was_asked(wire: Wire) -> None:
    first, second = wire.sandbox.iccids[:2]
    wire.sandbox.faults.add(Fault.http(503), "getESIMDetail")
    await wire.query(first, second, method="POST")
    await wire.read(DETAIL, iccid=first)
    await wire.query()

    login, query, detail, nothing = wire.sandbox.requests
    assert (login.endpoint, login.method, login.iccids, login.code) == ("login", "POST", [], 1)
    assert (query.endpoint, query.method) == ("queryIccidInformation", "POST")
    assert (query.iccids, query.code, query.fault) == ([first, second], 0, None)
    assert (detail.endpoint, detail.method, detail.iccids) == ("getESIMDetail", "GET", [first])
    assert (detail.code, detail.fault) == (None, "http 503")
    assert (nothing.iccids, nothing.code) == ([], -2)
    assert not any(request.cookies for request in wire.sandbox.requests)
    assert all("aiohttp" in request.user_agent for request in wire.sandbox.requests)


async def test_requests_number_the_connections(sandbox: Sandbox) -> None:
    async with aiohttp.ClientSession() as kept, aiohttp.ClientSession() as other:
        caller = Wire(kept, sandbox)
        await caller.login()
        await caller.query(sandbox.iccids[0])
        caller.http = other
        await caller.query(sandbox.iccids[0])

    assert [request.connection for request in sandbox.requests] == [1, 1, 2]
    assert sandbox.connections == 2


async def test_requests_are_stamped_by_the_sandboxs_clock(wire: Wire) -> None:
    wire.sandbox.clock.advance(3600)
    await wire.query(wire.sandbox.iccids[0])
    login, query = wire.sandbox.requests
    assert 3600 <= query.at - login.at < 3660


async def test_the_repr_of_requests_holds_no_secret(wire: Wire) -> None:
    wire.sandbox.faults.add(Fault.refuse(-1, "{token}"))
    await wire.query(wire.sandbox.iccids[0])
    shown = repr(wire.sandbox.requests) + str(wire.sandbox.requests) + repr(wire.sandbox)
    account = wire.sandbox.credentials
    secrets = [request.params["sign"] for request in wire.sandbox.requests]
    secrets += [wire.token, account.password, account.secret_key]
    assert all(secrets)
    assert not [secret for secret in secrets if secret in shown]


async def test_nothing_is_kept_with_record_off(http: aiohttp.ClientSession) -> None:
    async with Sandbox(1, record=False) as sandbox:
        assert (await Wire(http, sandbox).login()).code == 1
        assert (sandbox.requests, sandbox.logins) == ([], 1)


# Life.


async def test_in_the_loop_it_leaves_no_task_and_no_port(wire: Wire) -> None:
    tasks, threads = asyncio.all_tasks(), threading.active_count()
    async with aiohttp.ClientSession() as kept, Sandbox(1, clock=SandboxClock()) as sandbox:
        caller, url = Wire(kept, sandbox), sandbox.url
        await caller.login()
        sandbox.faults.add(Fault.slow(3600))
        hanging = asyncio.create_task(caller.query(sandbox.iccids[0]))
        await until(lambda: sandbox.clock.slept)
        assert threading.active_count() == threads
        await sandbox.aclose()
        await sandbox.aclose()
        with pytest.raises(aiohttp.ClientError):
            await hanging

    await until(lambda: asyncio.all_tasks() <= tasks)
    assert refuses_connections(url)
    with pytest.raises(errors.ConfigurationError):
        _ = sandbox.url


def test_in_a_thread_it_leaves_no_thread_and_no_port() -> None:
    threads = set(threading.enumerate())
    with Sandbox(1, clock=SandboxClock()) as sandbox:
        url, address = sandbox.url, urlsplit(sandbox.url)
        sandbox.faults.add(Fault.slow(3600))
        assert len(set(threading.enumerate()) - threads) == 1
        with socket.create_connection((address.hostname or "", address.port or 0)) as hanging:
            hanging.sendall(b"GET /api_order/login HTTP/1.1\r\nHost: sandbox\r\n\r\n")
            wait_until(lambda: sandbox.clock.slept)
            hanging.settimeout(0.001)
            with pytest.raises(TimeoutError):
                hanging.recv(1)
            sandbox.__exit__(None, None, None)
            hanging.settimeout(SECONDS)
            assert b"200 OK" not in hanging.recv(4096)

    assert set(threading.enumerate()) <= threads
    assert refuses_connections(url)


def test_in_a_thread_a_taken_port_is_an_error_that_leaves_no_thread() -> None:
    with Sandbox(1) as first:
        threads = set(threading.enumerate())
        second = Sandbox(1, port=urlsplit(first.url).port or 0)
        with pytest.raises(OSError, match="in use"):
            second.__enter__()
        assert set(threading.enumerate()) <= threads


def test_in_a_thread_a_connection_made_just_before_the_end_is_closed_too() -> None:
    sandbox = Sandbox(1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(5):
            with sandbox:
                address = urlsplit(sandbox.url)
                socket.create_connection((address.hostname or "", address.port or 0)).close()
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


async def test_a_sandbox_can_run_again_with_the_same_account(http: aiohttp.ClientSession) -> None:
    sandbox = Sandbox(1)
    urls = []
    for _ in range(2):
        async with sandbox:
            urls.append(sandbox.url)
            assert (await Wire(http, sandbox).login()).code == 1
    assert sandbox.logins == 2
    assert all(map(refuses_connections, urls))


@pytest.mark.parametrize("arguments", [{"cards": -1}, {"shape": "cube"}])
def test_arguments_that_cannot_work_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(errors.ConfigurationError):
        Sandbox(**arguments)


def test_each_fault_has_a_name_of_its_own() -> None:
    faults = [Fault.slow(1), Fault.http(500), Fault.lose_request(), Fault.lose_reply()]
    faults += [Fault.cut(), Fault.truncate(), Fault.html(), Fault.malformed(), Fault.empty()]
    faults += [Fault.refuse(-1), Fault.evict_token(), Fault.redirect("/x"), Fault.replaced(b"")]
    faults += [Fault.missing_cards(), Fault.extra_cards(), Fault.unknown_values()]
    assert all(one.name != other.name for one, other in itertools.combinations(faults, 2))


# The clock.


def test_advance_moves_both_times_by_as_much() -> None:
    clock = SandboxClock()
    monotonic, epoch = clock.monotonic(), clock.time()
    clock.advance(3600)
    assert 3600 <= clock.monotonic() - monotonic < 3660
    assert 3600 <= clock.time() - epoch < 3660


def test_time_never_goes_back() -> None:
    clock = SandboxClock()
    seen = [clock.monotonic()]
    with pytest.raises(ValueError, match="back"):
        clock.advance(-0.001)
    for seconds in (0, 5, 0, 0.5):
        clock.advance(seconds)
        seen.append(clock.monotonic())
    assert seen == sorted(seen)
    assert seen[-1] - seen[0] < 60


async def test_advance_fires_the_timers_that_are_due_and_no_others() -> None:
    clock, fired = SandboxClock(), list[str]()
    clock.call_later(100, lambda: fired.append("early"))
    late = clock.call_later(1000, lambda: fired.append("late"))
    clock.advance(50)
    await turns()
    assert fired == []
    clock.advance(50)
    await until(lambda: fired)
    clock.advance(800)
    await turns()
    assert fired == ["early"]
    clock.advance(100)
    await until(lambda: len(fired) == 2)
    late.cancel()
    assert fired == ["early", "late"]


async def test_a_timer_fires_in_real_time_too() -> None:
    clock, fired = SandboxClock(), list[int]()
    clock.call_later(0.001, lambda: fired.append(1))
    await until(lambda: fired)
    clock.advance(10)
    await turns()
    assert fired == [1]


async def test_a_cancelled_timer_does_not_fire() -> None:
    clock, fired = SandboxClock(), list[str]()
    clock.call_later(10, lambda: fired.append("cancelled before")).cancel()
    due = clock.call_later(10, lambda: fired.append("cancelled when due"))
    clock.advance(20)
    due.cancel()
    due.cancel()
    await turns()
    assert fired == []


async def test_advance_wakes_sleepers_whose_time_has_come() -> None:
    clock = SandboxClock()
    short, long = (asyncio.create_task(clock.sleep(seconds)) for seconds in (60, 7200))
    await turns()
    clock.advance(3600)
    await asyncio.wait_for(short, 10)
    assert not long.done()
    clock.advance(3600)
    await asyncio.wait_for(long, 10)
    assert clock.slept == [60, 7200]


async def test_advance_from_another_thread_wakes_sleepers() -> None:
    clock = SandboxClock()
    sleeper = asyncio.create_task(clock.sleep(60))
    await turns()
    await asyncio.to_thread(clock.advance, 60)
    await asyncio.wait_for(sleeper, 10)


async def test_a_cancelled_sleeper_leaves_no_timer() -> None:
    clock = SandboxClock()
    sleeper = asyncio.create_task(clock.sleep(60))
    await turns()
    sleeper.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeper
    assert clock._timers == {}


async def test_skip_sleeps_moves_the_clock_instead_of_waiting() -> None:
    clock = SandboxClock(skip_sleeps=True)
    before, fired = clock.monotonic(), list[int]()
    clock.call_later(50, lambda: fired.append(1))
    async with asyncio.timeout(10):
        await clock.sleep(3600)
    assert 3600 <= clock.monotonic() - before < 3660
    await until(lambda: fired)


async def test_skipped_sleeps_that_overlap_do_not_add_up() -> None:
    clock = SandboxClock(skip_sleeps=True)
    before = clock.monotonic()
    await asyncio.gather(*(clock.sleep(100) for _ in range(10)))
    assert 100 <= clock.monotonic() - before < 160


async def turns() -> None:
    """Let the loop do what is ready."""
    for _ in range(5):
        await asyncio.sleep(0)

"""What the client promises under each fault of the host's."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hurry import hurried
from waiting import SECONDS, until

from mioesim_async import Dialect, MioEsimClient, RetryPolicy, Timeouts, errors
from mioesim_async.sandbox import Fault, Sandbox, SandboxClock

QUERY = "queryIccidInformation"
NO_RETRY = RetryPolicy(max_attempts=1)
METHODS = ("GET", "POST")


def asked(sandbox: Sandbox) -> int:
    return [request.endpoint for request in sandbox.requests].count(QUERY)


def by(method: Any) -> Dialect:
    return Dialect(read_method=method)


# Too many calls.


async def test_retry_after_of_a_429_is_waited_for(sandbox: Sandbox, client: MioEsimClient) -> None:
    sandbox.faults.add(Fault.http(429, retry_after="37"), QUERY, times=2)
    assert len(await client.cards.query(sandbox.iccids[:100])) == 100
    assert [seconds for seconds in sandbox.clock.slept if seconds >= 37] == [37, 37]


async def test_a_longer_retry_after_than_allowed_is_raised_with_its_length(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sandbox.faults.add(Fault.http(429, retry_after="3600"), QUERY, times=None)
    with pytest.raises(errors.RateLimited) as caught:
        await client.cards.query(sandbox.iccids[0])
    assert caught.value.retry_after == 3600
    assert asked(sandbox) == 1


async def test_calls_over_the_capacity_are_answered_429_and_the_others_are_not() -> None:
    async with (
        Sandbox(10, clock=SandboxClock(), capacity=3) as sandbox,
        sandbox.client(retry=NO_RETRY) as client,
    ):
        await client.login()
        sandbox.faults.add(Fault.slow(5), QUERY, times=None)
        calls = [asyncio.create_task(client.cards.query(iccid)) for iccid in sandbox.iccids[:5]]
        await until(lambda: sum(call.done() for call in calls) == 2)
        assert sandbox.under_way == 3
        sandbox.capacity = 4
        calls.append(asyncio.create_task(client.cards.query(sandbox.iccids[5])))
        await until(lambda: sandbox.under_way == 4)
        sandbox.clock.advance(5)
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results].count(errors.RateLimited) == 2
    assert sum(isinstance(result, list) for result in results) == 4
    assert [request.fault for request in sandbox.requests].count("over capacity") == 2


@pytest.mark.parametrize("capacity", [-1, -100])
def test_a_capacity_below_zero_is_refused(capacity: int) -> None:
    with pytest.raises(errors.ConfigurationError, match="capacity"):
        Sandbox(capacity=capacity)


async def test_a_sweep_halves_its_concurrency_under_a_falling_capacity_and_climbs_back() -> None:
    async with Sandbox(30_000, clock=SandboxClock()) as sandbox, sandbox.client() as client:
        await client.login()
        sandbox.faults.add(Fault.slow(1), QUERY, times=None)
        stream = client.cards.query_many(sandbox.iccids, concurrency=8)
        pace = stream._batches._pace
        phase, found = "before", 0
        limits: dict[str, list[int]] = {"before": [], "tight": [], "after": []}
        under_way: dict[str, list[int]] = {name: [] for name in limits}

        def watch() -> None:
            limits[phase].append(pace.limit)
            under_way[phase].append(sandbox.under_way)

        async with hurried(sandbox.clock, watch=watch), stream:
            async for outcome in stream:
                assert outcome.card is not None, outcome.error
                found += 1
                if found == 5_000:
                    phase, sandbox.capacity = "tight", 4
                elif found == 15_000:
                    phase, sandbox.capacity = "after", None
    assert found == 30_000
    assert {*limits["before"]} == {8}
    assert min(limits["tight"]) <= 4
    assert limits["after"][-1] == 8
    assert max(under_way["after"]) > 4
    refused = [request.fault for request in sandbox.requests].count("over capacity")
    assert 0 < refused < asked(sandbox) / 4, "it finds a pace and doesn't hammer"


# Bodies.


@pytest.mark.parametrize("method", METHODS)
async def test_a_slow_body_is_waited_for(sandbox: Sandbox, method: str) -> None:
    sandbox.faults.add(Fault.slow_body(2, pieces=20), QUERY, times=None)
    async with sandbox.client(dialect=by(method)) as client:
        assert len(await client.cards.query(sandbox.iccids[:100])) == 100
    assert sandbox.clock.slept == [2] * 19
    assert asked(sandbox) == 1


async def test_a_body_that_trickles_past_the_attempts_limit_is_asked_for_again(
    sandbox: Sandbox,
) -> None:
    sandbox.faults.add(Fault.slow_body(5, pieces=200), QUERY)
    async with sandbox.client(dialect=by("POST"), timeouts=Timeouts(attempt=20)) as client:
        assert len(await client.cards.query(sandbox.iccids[:100])) == 100
    assert asked(sandbox) == 2


async def test_a_body_that_always_trickles_past_the_limit_is_an_attempt_timeout(
    sandbox: Sandbox,
) -> None:
    sandbox.faults.add(Fault.slow_body(5, pieces=200), QUERY, times=None)
    async with sandbox.client(timeouts=Timeouts(attempt=20), retry=NO_RETRY) as client:
        with pytest.raises(errors.AttemptTimeout, match="20 s"):
            await client.cards.query(sandbox.iccids[:100])


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("method", METHODS)
async def test_a_body_in_tiny_chunks_is_read_whole(
    sandbox: Sandbox, size: int, method: str
) -> None:
    sandbox.faults.add(Fault.tiny_chunks(size), QUERY)
    async with sandbox.client(dialect=by(method)) as client:
        cards = await client.cards.query(sandbox.iccids[:100])
    assert [card.iccid for card in cards] == sandbox.iccids[:100]
    assert asked(sandbox) == 1


GIGABYTE_SCRIPT = """
import asyncio, json, sys
from pathlib import Path
from mioesim_async import errors
from mioesim_async.sandbox import Fault, Sandbox

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

async def main(declared):
    async with Sandbox(100) as sandbox, sandbox.client() as client:
        await client.cards.query(sandbox.iccids)
        before = peak()
        sandbox.faults.add(Fault.huge(declared=declared), "queryIccidInformation", times=None)
        try:
            await client.cards.query(sandbox.iccids)
        except errors.ProtocolError as error:
            reason = error.reason
        sandbox.faults.clear()
        cards = await client.cards.query(sandbox.iccids)
        print(json.dumps([reason, len(cards), len(sandbox.requests), peak() - before]))

asyncio.run(main(sys.argv[1] == "declared"))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("how", ["declared", "undeclared"])
def test_a_gigabyte_is_refused_while_it_is_read_and_not_held_in_memory(how: str) -> None:
    command = [sys.executable, "-W", "error", "-c", GIGABYTE_SCRIPT, how]
    done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr.decode()
    reason, cards, requests, grown = json.loads(done.stdout)
    assert (reason, cards) == ("too_large", 100)
    assert requests == 4, "login, and three queries: a reply over the limit is not asked for again"
    assert grown < 100 * 1024, f"{grown} KiB more"
    assert done.stderr == b""


async def test_a_reply_just_under_the_limit_is_read(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault.huge(200_000), QUERY, times=None)
    async with sandbox.client(retry=NO_RETRY) as client:
        # It is whole, and JSON, but no list of cards.
        with pytest.raises(errors.ProtocolError) as caught:
            await client.cards.query(sandbox.iccids[0])
    assert caught.value.reason != "too_large"


# Silence.


@pytest.mark.parametrize("method", METHODS)
async def test_silence_is_an_attempt_timeout(sandbox: Sandbox, method: str) -> None:
    sandbox.faults.add(Fault.silence(), QUERY, times=None)
    limits = Timeouts(read=0.05)
    async with sandbox.client(dialect=by(method), timeouts=limits, retry=NO_RETRY) as client:
        with pytest.raises(errors.AttemptTimeout):
            await client.cards.query(sandbox.iccids[0])
        await until(lambda: sandbox.under_way == 0)


async def test_silence_once_is_asked_again(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault.silence(), QUERY)
    async with sandbox.client(timeouts=Timeouts(read=0.05)) as client:
        assert len(await client.cards.query(sandbox.iccids[:100])) == 100
    assert asked(sandbox) == 2


async def test_silence_ends_with_the_attempts_limit_whatever_the_sockets_limit_is() -> None:
    async with Sandbox(1, clock=SandboxClock()) as sandbox:
        sandbox.faults.add(Fault.silence(), QUERY, times=None)
        async with sandbox.client(retry=NO_RETRY) as client:
            call = asyncio.create_task(client.cards.query(sandbox.iccids[0]))
            await until(lambda: asked(sandbox))
            sandbox.clock.advance(60)
            with pytest.raises(errors.AttemptTimeout, match="60 s"):
                await call


# Connections.


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
async def test_a_half_closed_connection_is_asked_again(
    sandbox: Sandbox, keep: float, method: str
) -> None:
    sandbox.faults.add(Fault.half_closed(keep), QUERY, times=3)
    async with sandbox.client(dialect=by(method)) as client:
        assert len(await client.cards.query(sandbox.iccids[:100])) == 100
        await until(lambda: sandbox.under_way == 0)
    assert asked(sandbox) == 4


async def test_connections_that_always_half_close_are_lost_connections(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault.half_closed(), QUERY, times=None)
    async with sandbox.client(retry=NO_RETRY) as client:
        with pytest.raises(errors.ConnectionLost):
            await client.cards.query(sandbox.iccids[0])


# Outages.


@pytest.mark.parametrize(
    "fault",
    [Fault.lose_request(), Fault.http(503), Fault.half_closed(), Fault.html(502), Fault.cut(0.1)],
    ids=lambda fault: fault.name,
)
async def test_twenty_seconds_of_trouble_in_a_sweep_lose_no_card(fault: Fault) -> None:
    clock = SandboxClock(skip_sleeps=True)
    async with Sandbox(4_000, clock=clock) as sandbox, sandbox.client() as client:
        found = set()
        async with client.cards.query_many(sandbox.iccids, max_outage=3600) as stream:
            async for outcome in stream:
                assert outcome.card is not None, outcome.error
                found.add(outcome.iccid)
                if len(found) == 1_000:
                    sandbox.faults.add(fault, seconds=20)
    assert found == {*sandbox.iccids}
    assert any(request.fault for request in sandbox.requests)


async def test_a_host_that_is_down_for_twenty_seconds_in_a_sweep_loses_no_card() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    sandbox = Sandbox(4_000, clock=SandboxClock(), port=port)
    async with sandbox, sandbox.client() as client:

        async def be_down() -> None:
            await sandbox.aclose()
            await sandbox.clock.sleep(20)
            await sandbox.start()

        down = None
        found = set()
        async with (
            hurried(sandbox.clock),
            client.cards.query_many(sandbox.iccids, max_outage=3600) as stream,
        ):
            async for outcome in stream:
                assert outcome.card is not None, outcome.error
                found.add(outcome.iccid)
                if len(found) == 1_000:
                    down = asyncio.create_task(be_down())
            assert down is not None
            await down
    assert found == {*sandbox.iccids}
    assert client.stats().failures > 0

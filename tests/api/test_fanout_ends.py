"""A fan-out that ends early says so, and one that goes on loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from waiting import until

from mioesim_async import BatchStream, MioEsimClient, errors, fan_out
from mioesim_async.sandbox import Fault, Sandbox, SandboxClock

QUERY = "queryIccidInformation"


async def double(batch: list[int]) -> list[int]:
    return [2 * item for item in batch]


async def test_a_pump_that_somebody_cancels_doesn_t_look_like_the_end() -> None:
    async with fan_out(range(1000), double, batch_size=1, concurrency=1) as stream:
        await anext(stream)
        (pump,) = [t for t in asyncio.all_tasks() if t.get_name() == "mioesim_async fan-out"]
        pump.cancel()
        with pytest.raises(errors.ClientClosed, match="before its end"):
            async for _ in stream:
                pass


async def test_a_cancellation_inside_the_source_comes_out_of_the_stream() -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        task = asyncio.create_task(asyncio.sleep(0))
        task.cancel()
        await task

    taken = []
    with pytest.raises(asyncio.CancelledError):
        async for outcome in fan_out(source(), double, batch_size=1):
            taken.append(outcome.result)
    assert taken == [[2]]


async def test_a_call_that_awaits_something_cancelled_costs_its_batch_only() -> None:
    async def call(batch: list[int]) -> list[int]:
        if batch[0] % 3 == 0:
            task = asyncio.create_task(asyncio.sleep(0))
            task.cancel()
            await task
        return batch

    async with fan_out(range(30), call, batch_size=1, concurrency=2) as stream:
        outcomes = [outcome async for outcome in stream]
    assert len(outcomes) == 30
    assert sum(isinstance(o.error, asyncio.CancelledError) for o in outcomes) == 10


async def test_fan_out_asks_each_batch_exactly_once_whatever_it_raises() -> None:
    asked: list[int] = []

    async def order(batch: list[int]) -> None:
        asked.extend(batch)
        raise errors.ConnectionLost("the answer was lost")

    async with fan_out(range(50), order, batch_size=1) as stream:
        outcomes = [outcome async for outcome in stream]
    assert sorted(asked) == list(range(50))
    assert all(isinstance(outcome.error, errors.ConnectionLost) for outcome in outcomes)


@pytest.mark.parametrize("ordered", [False, True])
async def test_a_deferred_batch_doesn_t_wait_for_a_source_that_waits_for_it(
    clock: SandboxClock, ordered: bool
) -> None:
    first_done = asyncio.Event()
    failed = False

    async def source() -> AsyncIterator[int]:
        yield 0
        yield 1
        await first_done.wait()
        yield 2

    async def call(batch: list[int]) -> list[int]:
        nonlocal failed
        if batch == [0] and not failed:
            failed = True
            raise errors.ConnectionLost("once")
        return batch

    stream = BatchStream(
        source(), call, batch_size=1, concurrency=1, ordered=ordered, max_outage=60, clock=clock
    )
    async with stream:
        taken = []
        async for outcome in stream:
            taken.append(outcome.items[0])
            if outcome.items == [0]:
                first_done.set()
    assert sorted(taken) == [0, 1, 2]


async def test_the_error_of_a_source_s_clean_up_replaces_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def source() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            raise KeyError("their bug")

    async def call(batch: list[int]) -> None:
        raise errors.AuthenticationError("/login", -1)

    with pytest.raises(errors.AuthenticationError):
        async for _ in fan_out(source(), call):
            pass
    assert "could not be closed: KeyError" in caplog.text


async def test_closing_the_client_in_the_middle_is_no_complete_report(
    sandbox: Sandbox, clock: SandboxClock
) -> None:
    clock._skip = False
    client = sandbox.client()
    await client.login()
    sandbox.faults.add(Fault.slow(60), QUERY, times=None, after=3)
    sweep = asyncio.create_task(client.cards.query_all(sandbox.iccids))
    await until(lambda: len(sandbox.requests) >= 6, pause=0)
    await client.aclose()
    with pytest.raises(errors.ClientClosed) as caught:
        await sweep
    assert 100 <= len(caught.value.report.cards) == caught.value.tally.found <= 300


async def test_items_that_are_no_iccids_prove_nothing_about_the_host(
    clock: SandboxClock,
) -> None:
    async with Sandbox(6000, clock=clock) as sandbox, sandbox.client() as client:

        async def source() -> AsyncIterator[str]:
            for position, iccid in enumerate(sandbox.iccids):
                if position % 300 == 0:
                    for _ in range(100):
                        yield "n/a"
                yield iccid
                if position == 2000:
                    sandbox.faults.add(Fault.lose_request(), seconds=20)

        report = await client.cards.query_all(source())
    assert len(report.cards) == 6000
    assert list(report.failed) == ["n/a"]


async def test_the_first_read_may_meet_a_maintenance_page_of_a_host_without_post(
    clock: SandboxClock,
) -> None:
    async with (
        Sandbox(1000, read_method="GET", clock=clock) as sandbox,
        sandbox.client() as client,
    ):
        await client.login()
        sandbox.faults.add(Fault.html(), QUERY, times=8)
        report = await client.cards.query_all(sandbox.iccids, concurrency=2)
    assert len(report.cards) == 1000
    assert client.dialect.read_method == "GET"


async def test_a_busy_moment_of_the_login_is_sat_out(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sandbox.faults.add(Fault.refuse(500, "system busy"), "login", times=4)
    report = await client.cards.query_all(sandbox.iccids)
    assert len(report.cards) == 1000


async def test_a_deadline_holds_for_a_batch_that_is_split(
    sandbox: Sandbox, clock: SandboxClock
) -> None:
    sandbox.refused[sandbox.iccids[0]] = -3
    sandbox.faults.add(Fault.slow(0.4), QUERY, times=None)
    async with sandbox.client() as client:
        await client.login()
        report = await client.cards.query_all(sandbox.iccids[:100], deadline=1)
    assert len([r for r in sandbox.requests if r.endpoint == QUERY]) <= 4
    assert len(report.failed) + len(report.cards) == 100
    assert report.failed


async def test_a_source_that_raises_an_error_of_the_sdk_ends_the_sweep_with_its_tally(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    async def broken() -> AsyncIterator[str]:
        for one in sandbox.iccids[:20]:
            yield one
        raise errors.InvalidRequest("row 21 of my file is broken")

    with pytest.raises(errors.InvalidRequest, match="row 21") as caught:
        await client.cards.query_all(broken(), batch_size=10)
    assert caught.value.tally.found == 20

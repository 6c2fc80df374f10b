"""The client's pace: a gate, sweeps that back off, a budget of retries, a limit of the rate."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from aiolimiter import AsyncLimiter
from hypothesis import given, strategies as st
from shopping import PLAN
from waiting import until

from mioesim_async import (
    Dialect,
    MioEsimClient,
    PoolLimits,
    RetryPolicy,
    Safety,
    SessionManager,
    errors,
)
from mioesim_async.sandbox import Fault, Sandbox, SandboxClock
from mioesim_async.transport.metrics import RetryBudget
from mioesim_async.transport.pace import Pace, sweep_slots

QUERY = "queryIccidInformation"
DETAIL = "getESIMDetail"
BUY = "/api_esim/addEsimOrder"
BOUGHT = Fault.replaced(b'{"code":0,"data":"EP1"}')


def asked(sandbox: Sandbox, endpoint: str = QUERY) -> int:
    return [request.endpoint for request in sandbox.requests].count(endpoint)


# Pace


@given(st.integers(1, 64), st.lists(st.one_of(st.none(), st.integers(0, 3))))
def test_a_pace_stays_between_one_and_its_most(most: int, events: list[int | None]) -> None:
    pace = Pace(most)
    assert pace.limit == most
    for event in events:
        before, round_before = pace.limit, pace.round
        if event is None:
            pace.answered()
            assert pace.limit - before in (0, 1)
        else:
            pace.throttled(pace.round - event)
            assert pace.limit == (before if event else max(1, before // 2))
            assert pace.round == round_before + (not event)
        assert 1 <= pace.limit <= most


@given(st.integers(1, 64), st.integers(1, 64))
def test_a_pace_halves_once_for_all_calls_sent_in_a_round(most: int, refused: int) -> None:
    pace = Pace(most)
    sent_in = pace.round
    for _ in range(refused):
        pace.throttled(sent_in)
    assert pace.limit == max(1, most // 2)


@given(st.integers(2, 32))
def test_a_pace_climbs_one_by_one_up_to_where_it_started(most: int) -> None:
    pace = Pace(most)
    while pace.limit > 1:
        pace.throttled(pace.round)
    for expected in range(1, most):
        assert pace.limit == expected
        for _ in range(expected):
            pace.answered()
    pace.answered()
    assert pace.limit == most


@given(st.integers(1, 500), st.integers(0, 500))
def test_sweeps_leave_a_slot_wherever_there_are_two(gate: int, pool: int) -> None:
    slots, both = sweep_slots(gate, pool), min(gate, pool or gate)
    assert 1 <= slots <= max(1, both - 1)


# The budget of retries


@given(st.lists(st.booleans() | st.floats(0, 30), max_size=80))
def test_retries_stay_within_ten_and_a_fifth_of_the_last_minute_s_calls(
    events: list[bool | float],
) -> None:
    clock = SandboxClock()
    budget = RetryBudget(clock)
    calls: list[float] = []
    retries: list[float] = []
    for event in events:
        if event is True:
            budget.count(calls=1)
            calls.append(clock.monotonic())
        elif event is False:
            if budget.take_retry():
                retries.append(clock.monotonic())
        else:
            clock.advance(event)
        # It counts by whole seconds.
        now = clock.monotonic()
        recent = sum(at > now - 59 for at in retries)
        assert recent <= 10 + 0.2 * sum(at > now - 62 for at in calls)


def test_the_budget_forgets_after_a_minute() -> None:
    clock = SandboxClock()
    budget = RetryBudget(clock)
    budget.count(calls=1)
    assert [budget.take_retry() for _ in range(11)] == [True] * 10 + [False]
    clock.advance(58)
    assert not budget.take_retry()
    clock.advance(4)
    assert budget.take_retry()


@pytest.mark.parametrize(
    "fault",
    [Fault.http(500), Fault.http(503), Fault.html(), Fault.lose_request(), Fault.empty()],
    ids=lambda fault: fault.name,
)
async def test_a_host_that_fails_every_call_is_asked_little_more_often_than_it_is_called(
    sandbox: Sandbox, fault: Fault
) -> None:
    # aiohttp itself re-sends a GET whose kept-alive connection died.
    method: Any = None if fault.name == "html" else "POST"
    slow = RetryPolicy(base_delay=0.001, max_delay=0.001)
    async with sandbox.client(retry=slow, dialect=Dialect(read_method=method)) as client:
        await client.login()
        sandbox.faults.add(fault, DETAIL, times=None)
        for number in range(100):
            with pytest.raises(errors.MioEsimError):
                await client.cards.detail(sandbox.iccids[number])
        assert asked(sandbox, DETAIL) <= 100 + 10 + 0.2 * 100 + 0.2 * sandbox.logins


# Sweeps


@pytest.mark.parametrize(
    "fault",
    [Fault.http(429), Fault.http(503), Fault.refuse(5007, "请求过于频繁"), Fault.refuse(7, "Busy")],
    ids=lambda fault: fault.name,
)
async def test_a_sweep_halves_its_concurrency_when_throttled_and_climbs_back(
    sandbox: Sandbox, client: MioEsimClient, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = [8]

    def watched(name: str) -> None:
        original = getattr(Pace, name)

        def noted(pace: Pace, *arguments: int) -> None:
            original(pace, *arguments)
            if pace.limit != limits[-1]:
                limits.append(pace.limit)

        monkeypatch.setattr(Pace, name, noted)

    watched("throttled")
    watched("answered")
    sandbox.faults.add(fault, QUERY)
    report = await client.cards.query_all(sandbox.iccids, batch_size=10, concurrency=8)
    assert len(report.cards) == 1000
    assert limits == [8, 4, 5, 6, 7, 8]


async def test_orders_and_single_reads_get_through_while_sweeps_are_stuck(
    sandbox: Sandbox, clock: SandboxClock
) -> None:
    clock._skip = False
    async with sandbox.client(max_in_flight=4) as client:
        await client.login()
        sandbox.faults.add(Fault.slow(3000), QUERY, times=None)
        sandbox.faults.add(BOUGHT, "addEsimOrder")
        sweeps = [
            asyncio.create_task(client.cards.query_all(sandbox.iccids, concurrency=50))
            for _ in range(2)
        ]
        await until(lambda: asked(sandbox) == 3)
        async with asyncio.timeout(20):
            assert (await client.cards.detail(sandbox.iccids[0])).iccid == sandbox.iccids[0]
            assert await client.call(BUY, safety=Safety.MONEY) == "EP1"
        assert not any(sweep.done() for sweep in sweeps)
        assert asked(sandbox) == 3
        await client.aclose()
        for sweep in sweeps:
            with pytest.raises(errors.ClientClosed):
                await sweep


@pytest.mark.parametrize("limits", [PoolLimits(), PoolLimits(total=4)], ids=["pool", "small pool"])
async def test_no_number_of_single_reads_delays_an_order(
    clock: SandboxClock, limits: PoolLimits
) -> None:
    clock._skip = False
    async with (
        Sandbox(300, clock=clock, order_form="number") as sandbox,
        SessionManager(limits=limits) as manager,
        sandbox.client(session_manager=manager) as client,
    ):
        await client.login()
        sandbox.faults.add(Fault.slow(1000), "getESIMDetail", times=None)
        pages = [asyncio.create_task(client.cards.detail(iccid)) for iccid in sandbox.iccids]
        await until(lambda: sandbox.under_way == min(32, limits.total))
        order = await client.orders.place(**PLAN, count=1)
        assert order.cards, "it was read back, too"
        assert not any(page.done() for page in pages)
        await client.aclose()
        ended = await asyncio.gather(*pages, return_exceptions=True)
        assert {type(one) for one in ended} == {errors.ClientClosed}


async def test_no_number_of_orders_delays_a_read(sandbox: Sandbox, clock: SandboxClock) -> None:
    clock._skip = False
    async with sandbox.client(max_in_flight=2) as client:
        await client.login()
        sandbox.faults.add(Fault.slow(50), "addEsimOrder", times=None)
        orders = [asyncio.create_task(client.orders.place(**PLAN, count=1)) for _ in range(6)]
        await until(lambda: sandbox.under_way == 2)
        assert await client.cards.detail(sandbox.iccids[0])
        assert sandbox.under_way == 2, "purchases have as many slots as reads"
        for _ in range(3):
            await until(lambda: sandbox.under_way == 2)
            clock.advance(50)
            await until(lambda: sandbox.under_way != 2 or all(one.done() for one in orders))
        await asyncio.gather(*orders)


async def test_two_sweeps_together_leave_a_connection_of_a_small_pool(
    sandbox: Sandbox, clock: SandboxClock
) -> None:
    clock._skip = False
    async with (
        SessionManager(limits=PoolLimits(total=4)) as manager,
        sandbox.client(session_manager=manager) as client,
    ):
        await client.login()
        sandbox.faults.add(Fault.slow(3000), QUERY, times=None)
        sweeps = [
            asyncio.create_task(client.cards.query_all(sandbox.iccids, concurrency=3))
            for _ in range(2)
        ]
        await until(lambda: asked(sandbox) == 3)
        async with asyncio.timeout(20):
            await client.cards.detail(sandbox.iccids[0])
        assert asked(sandbox) == 3
        await client.aclose()
        await asyncio.gather(*sweeps, return_exceptions=True)


async def test_a_concurrency_beyond_the_gate_is_capped_with_one_log_line(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    async with sandbox.client(max_in_flight=4) as client:
        await client.cards.query_all(sandbox.iccids, concurrency=100)
    assert [r.getMessage() for r in caplog.records if "capped" in r.getMessage()] == [
        "concurrency 100 is capped at 3"
    ]


# The rate


async def test_every_request_passes_the_rate_limit_first(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[int] = []
    acquire = AsyncLimiter.acquire

    async def counted(limiter: AsyncLimiter, amount: float = 1) -> None:
        await acquire(limiter, amount)
        passed.append(len(sandbox.requests))

    monkeypatch.setattr(AsyncLimiter, "acquire", counted)
    async with sandbox.client(rate_limit=500) as client:
        limiter = client._caller._limiter
        assert limiter is not None
        assert (limiter.max_rate, limiter.time_period) == (1, 1 / 500)
        sandbox.faults.add(Fault.http(503), QUERY, times=2)
        await client.cards.query_all(sandbox.iccids, concurrency=4)
        await client.cards.detail(sandbox.iccids[0])
    assert len(passed) == len(sandbox.requests) == 1 + 10 + 2 + 1
    assert all(seen <= number for number, seen in enumerate(passed))


async def test_no_number_of_reads_delays_a_purchase_at_the_rate_limit(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = asyncio.Semaphore(1)
    waiting = 0

    async def acquire(*_: object) -> None:
        nonlocal waiting
        waiting += 1
        await turns.acquire()
        waiting -= 1

    monkeypatch.setattr(AsyncLimiter, "acquire", acquire)
    sandbox.faults.add(Fault.evict_token(), "addEsimOrder")
    sandbox.faults.add(BOUGHT, "addEsimOrder")
    async with sandbox.client(rate_limit=500) as client:
        await client.login()
        reads = [asyncio.create_task(client.cards.detail(one)) for one in sandbox.iccids[:30]]
        await until(lambda: waiting)
        order = asyncio.create_task(client.call(BUY, safety=Safety.MONEY))
        await until(lambda: waiting >= 2)
        try:
            # The purchase, a login, and the purchase again; one read before each.
            for number in range(2, 8):
                turns.release()
                await until(
                    lambda number=number: (
                        len(sandbox.requests) == number and (waiting >= 2 or order.done())
                    )
                )
            assert order.done()
        finally:
            for _ in range(90):
                turns.release()
        assert await order == "EP1"
        async with asyncio.timeout(20):
            assert len(await asyncio.gather(*reads)) == 30


async def test_without_a_rate_limit_nothing_is_spaced(client: MioEsimClient) -> None:
    assert client._caller._limiter is None


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf"), True, "10", None.__class__])
async def test_a_rate_that_is_none_is_refused(sandbox: Sandbox, rate: Any) -> None:
    with pytest.raises(errors.ConfigurationError, match="rate_limit"):
        sandbox.client(rate_limit=rate)


# The end


async def test_closing_with_a_grace_lets_calls_finish_and_refuses_new_ones(
    sandbox: Sandbox, clock: SandboxClock
) -> None:
    clock._skip = False
    client = sandbox.client()
    await client.login()
    sandbox.faults.add(Fault.slow(5), QUERY)
    reading = asyncio.create_task(client.cards.query(sandbox.iccids[0]))
    await until(lambda: asked(sandbox))
    closing = asyncio.create_task(client.aclose(grace=10))
    await asyncio.sleep(0)
    for refused in (
        client.cards.detail(sandbox.iccids[0]),
        client.login(),
        client.call(BUY, safety=Safety.MONEY),
        client.cards.query_all(sandbox.iccids),
    ):
        with pytest.raises(errors.ClientClosed):
            await refused
    assert not closing.done()
    clock.advance(6)
    assert len(await reading) == 1
    await closing


async def test_a_login_under_way_has_the_grace_too(sandbox: Sandbox, clock: SandboxClock) -> None:
    clock._skip = False
    client = sandbox.client()
    sandbox.faults.add(Fault.slow(5), "login")
    logging_in = asyncio.create_task(client.login())
    await until(lambda: asked(sandbox, "login"))
    closing = asyncio.create_task(client.aclose(grace=10))
    await asyncio.sleep(0)
    clock.advance(6)
    await logging_in
    await closing


async def test_calls_that_outlast_the_grace_are_told_and_purchases_are_waited_for(
    sandbox: Sandbox, clock: SandboxClock
) -> None:
    clock._skip = False
    client = sandbox.client()
    await client.login()
    sandbox.faults.add(Fault.slow(55), QUERY, times=None)
    sandbox.faults.add(Fault("slow order", delay=60, body=BOUGHT.body), "addEsimOrder")
    reading = asyncio.create_task(client.cards.query(sandbox.iccids[0]))
    sweeping = asyncio.create_task(client.cards.query_all(sandbox.iccids))
    buying = asyncio.create_task(client.call(BUY, safety=Safety.MONEY))
    await until(lambda: asked(sandbox) == 9 and asked(sandbox, "addEsimOrder"))
    closing = asyncio.create_task(client.aclose(grace=10))
    await asyncio.sleep(0)
    assert not reading.done()
    clock.advance(11)
    for ended in (reading, sweeping):
        with pytest.raises(errors.ClientClosed):
            await ended
    assert not closing.done()
    assert not buying.done()
    clock.advance(50)
    assert await buying == "EP1"
    await closing


async def test_closing_while_a_deadline_passes_tells_the_caller_one_of_both(
    sandbox: Sandbox, clock: SandboxClock, caplog: pytest.LogCaptureFixture
) -> None:
    clock._skip = False
    caplog.set_level(logging.ERROR, logger="asyncio")
    for turns in range(6):
        client = sandbox.client()
        await client.login()
        sandbox.faults.add(Fault.slow(40), QUERY, times=None)
        before = asked(sandbox)
        reading = asyncio.create_task(client.cards.query(sandbox.iccids[0], deadline=5))
        await until(lambda before=before: asked(sandbox) > before)
        clock.advance(6)
        for _ in range(turns):
            await asyncio.sleep(0)
        await client.aclose()
        with pytest.raises((errors.ClientClosed, errors.DeadlineExceeded)):
            await reading
        sandbox.faults.clear()
    assert not [record for record in caplog.records if record.name == "asyncio"]

"""The fan-out itself, with stub batch coroutines."""

from __future__ import annotations

import asyncio
import gc
import itertools
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from waiting import SECONDS

from mioesim_async import BatchOutcome, BatchStream, errors, fan_out
from mioesim_async.sandbox import SandboxClock

DOWN = errors.ConnectError("down")


async def double(batch: list[int]) -> list[int]:
    return [2 * item for item in batch]


async def drain(stream: BatchStream[Any, Any]) -> list[BatchOutcome[Any, Any]]:
    async with stream:
        return [outcome async for outcome in stream]


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        await asyncio.sleep(0)
        yield number


SOURCES = [
    lambda: list(range(1050)),
    lambda: iter(range(1050)),
    lambda: range(1050),
    lambda: (number for number in range(1050)),
    lambda: numbers(1050),
    lambda: dict.fromkeys(range(1050)),
]


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("source", SOURCES)
async def test_every_item_of_any_iterable_comes_back_once(source: Any, ordered: bool) -> None:
    outcomes = await drain(fan_out(source(), double, ordered=ordered))
    items = [item for outcome in outcomes for item in outcome.items]
    assert sorted(items) == list(range(1050))
    assert [outcome.result for outcome in outcomes] == [
        [2 * item for item in outcome.items] for outcome in outcomes
    ]
    if ordered:
        assert items == list(range(1050))


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(0, 60),
    batch_size=st.integers(1, 9),
    concurrency=st.integers(1, 6),
    ordered=st.booleans(),
    slow=st.sets(st.integers(0, 60)),
    bad=st.sets(st.integers(0, 60)),
)
def test_whatever_is_slow_or_fails_each_item_has_one_outcome(
    count: int, batch_size: int, concurrency: int, ordered: bool, slow: set[int], bad: set[int]
) -> None:
    async def call(batch: list[int]) -> int:
        for _ in range(5 * len(slow.intersection(batch))):
            await asyncio.sleep(0)
        if bad.intersection(batch):
            raise ValueError("bad")
        return sum(batch)

    async def run() -> list[BatchOutcome[int, int]]:
        return await drain(
            fan_out(
                range(count), call, batch_size=batch_size, concurrency=concurrency, ordered=ordered
            )
        )

    outcomes = asyncio.run(run())
    items = [item for outcome in outcomes for item in outcome.items]
    assert sorted(items) == list(range(count))
    if ordered:
        assert items == list(range(count))
    for outcome in outcomes:
        if bad.intersection(outcome.items):
            assert isinstance(outcome.error, ValueError)
        else:
            assert outcome.result == sum(outcome.items)


async def test_batches_run_concurrently_up_to_the_limit() -> None:
    running = peak = 0

    async def call(batch: list[int]) -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        for _ in range(5):
            await asyncio.sleep(0)
        running -= 1

    await drain(fan_out(range(1000), call, batch_size=10, concurrency=7))
    assert peak == 7


async def test_no_more_than_a_few_batches_are_started_ahead_of_the_consumer() -> None:
    started = 0

    async def call(batch: list[int]) -> None:
        nonlocal started
        started += 1

    async with fan_out(itertools.count(), call, concurrency=4) as stream:
        for taken in range(1, 20):
            await anext(stream)
            for _ in range(50):
                await asyncio.sleep(0)
            assert started <= taken + 4 + 2


async def test_results_are_handed_out_as_they_complete_or_in_order() -> None:
    gate = asyncio.Event()

    async def call(batch: list[int]) -> int:
        if batch[0] == 0:
            await gate.wait()
        return batch[0]

    async with fan_out(range(3), call, batch_size=1) as stream:
        first = [(await anext(stream)).result for _ in range(2)]
        gate.set()
        assert sorted([*first, (await anext(stream)).result]) == [0, 1, 2]  # type: ignore[type-var]
        assert 0 not in first
    gate.clear()
    asyncio.get_running_loop().call_soon(gate.set)
    assert [o.result for o in await drain(fan_out(range(3), call, batch_size=1, ordered=True))] == [
        0, 1, 2,
    ]  # fmt: skip


async def test_a_slow_async_source_doesn_t_hold_up_what_is_done() -> None:
    more = asyncio.Event()

    async def source() -> AsyncIterator[int]:
        yield 1
        await more.wait()
        yield 2

    async with fan_out(source(), double, batch_size=1) as stream:
        assert (await anext(stream)).result == [2]
        more.set()
        assert (await anext(stream)).result == [4]


@pytest.mark.parametrize("how", ["aclose", "async with", "cancel", "exhaustion", "error"])
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_each_way_out_leaves_no_task_and_closes_the_source(how: str, kind: str) -> None:
    closed = False

    async def asynchronous() -> AsyncIterator[int]:
        nonlocal closed
        try:
            for number in itertools.count():
                await asyncio.sleep(0)
                if how == "exhaustion" and number == 50:
                    return
                yield number
        finally:
            closed = True

    def synchronous() -> Iterator[int]:
        nonlocal closed
        try:
            yield from range(50) if how == "exhaustion" else itertools.count()
        finally:
            closed = True

    async def call(batch: list[int]) -> None:
        await asyncio.sleep(0)
        if how == "error" and batch[0] > 30:
            raise errors.ClientClosed("over")
        if how != "exhaustion" and batch[0] > 60:
            await asyncio.Event().wait()

    before = asyncio.all_tasks()
    stream = fan_out(asynchronous() if kind == "async" else synchronous(), call, batch_size=3)
    match how:
        case "aclose":
            await anext(stream)
            await stream.aclose()
            await stream.aclose()
        case "async with":
            async with stream:
                await anext(stream)
        case "cancel":

            async def consume() -> None:
                async with stream:
                    async for _ in stream:
                        pass

            consumer = asyncio.create_task(consume())
            for _ in range(100):
                await asyncio.sleep(0)
            consumer.cancel()
            with pytest.raises(asyncio.CancelledError):
                await consumer
        case "exhaustion":
            assert len([outcome async for outcome in stream]) == 17
        case _:
            with pytest.raises(errors.ClientClosed):
                [outcome async for outcome in stream]
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    gc.collect()
    assert asyncio.all_tasks() == before
    assert closed


async def test_asyncio_timeout_bounds_a_whole_sweep() -> None:
    async def call(batch: list[int]) -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0), fan_out(range(10), call) as stream:
            async for _ in stream:
                pass


async def test_what_was_done_is_handed_out_before_a_fatal_error_is_raised() -> None:
    async def call(batch: list[int]) -> int:
        if batch[0] == 2:
            raise errors.AuthenticationError("/login", -1)
        return batch[0]

    for ordered in (False, True):
        done = []
        with pytest.raises(errors.AuthenticationError):
            async for outcome in fan_out(
                range(9), call, batch_size=1, concurrency=2, ordered=ordered
            ):
                done.append(outcome.result)
        assert done[:2] == [0, 1]


async def test_an_error_of_the_caller_s_own_source_comes_after_what_was_read() -> None:
    def sync_source() -> Iterator[int]:
        yield from range(25)
        raise KeyError("their bug")

    async def async_source() -> AsyncIterator[int]:
        for number in sync_source():
            yield number

    for source in (sync_source, async_source):
        items: list[int] = []
        with pytest.raises(KeyError, match="their bug"):
            async for outcome in fan_out(source(), double, batch_size=10):
                items += outcome.items
        assert sorted(items) == list(range(25))


@pytest.mark.parametrize(
    "arguments",
    [{"batch_size": 0}, {"concurrency": 0}, {"concurrency": True}, {"max_outage": -1},
     {"max_outage": float("nan")}, {"batch_size": 2.0}],
)  # fmt: skip
def test_arguments_that_can_t_work_are_refused_by_name(arguments: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidRequest, match=next(iter(arguments))):
        BatchStream([1], double, **arguments)
    with pytest.raises(errors.InvalidRequest, match="iterable"):
        fan_out(7, double)  # type: ignore[arg-type]


def stream(
    items: Any, call: Any, clock: SandboxClock, **arguments: Any
) -> BatchStream[int, list[int]]:
    arguments.setdefault("max_outage", 120)
    return BatchStream(
        items,
        call,
        clock=clock,
        batch_size=10,
        answer_of=lambda got: (True, got[0]),
        **arguments,
    )


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("concurrency", [1, 4, 16])
@pytest.mark.parametrize("down", [(0, 20), (5, 25), (55, 80), (95, 140)])
async def test_a_bad_minute_costs_the_minute_and_no_item(
    clock: SandboxClock, ordered: bool, concurrency: int, down: tuple[int, int]
) -> None:
    start = clock.monotonic()
    calls = 0

    async def call(batch: list[int]) -> list[int]:
        nonlocal calls
        calls += 1
        clock.advance(1)
        await asyncio.sleep(0)
        if down[0] <= clock.monotonic() - start < down[1]:
            raise DOWN
        return batch

    outcomes = await drain(
        stream(range(1000), call, clock, concurrency=concurrency, ordered=ordered)
    )
    items = [item for outcome in outcomes for item in outcome.items]
    assert sorted(items) == list(range(1000))
    assert [outcome.error for outcome in outcomes] == [None] * 100
    if ordered:
        assert items == list(range(1000))
    assert calls < 100 + 2 * concurrency + 20


async def test_a_host_that_is_silent_longer_than_the_deadline_is_sat_out(
    clock: SandboxClock,
) -> None:
    start = clock.monotonic()

    async def call(batch: list[int]) -> list[int]:
        clock.advance(1)
        await asyncio.sleep(0)
        if 20 <= clock.monotonic() - start < 60:
            raise errors.DeadlineExceeded("too late", None)
        return batch

    outcomes = await drain(stream(range(1000), call, clock))
    assert [outcome.error for outcome in outcomes] == [None] * 100


async def test_a_host_that_stays_down_ends_the_sweep_after_max_outage(clock: SandboxClock) -> None:
    calls = 0

    async def call(batch: list[int]) -> list[int]:
        nonlocal calls
        calls += 1
        if calls > 10:
            raise DOWN
        return batch

    done = 0
    start = clock.monotonic()
    with pytest.raises(errors.ConnectError):
        async for outcome in stream(range(10_000), call, clock, max_outage=60):
            done += outcome.error is None
    assert done == 10
    assert 60 <= clock.monotonic() - start < 75
    assert calls < 40


async def test_a_batch_the_host_can_t_stand_fails_alone(clock: SandboxClock) -> None:
    async def call(batch: list[int]) -> list[int]:
        await asyncio.sleep(0)
        if batch[0] in (0, 40, 990):
            raise errors.HttpStatusError("boom", 500)
        return batch

    for concurrency, ordered in ((1, True), (1, False), (8, True), (8, False)):
        outcomes = await drain(
            stream(range(1000), call, clock, concurrency=concurrency, ordered=ordered)
        )
        failed = [outcome.items[0] for outcome in outcomes if outcome.error]
        assert sorted(failed) == [0, 40, 990]
        assert len(outcomes) == 100


async def test_a_few_batches_to_a_dead_host_fail_without_a_pause(clock: SandboxClock) -> None:
    async def call(batch: list[int]) -> list[int]:
        raise DOWN

    outcomes = await drain(stream(range(20), call, clock))
    assert [outcome.error for outcome in outcomes] == [DOWN, DOWN]
    assert clock.slept == []


async def test_a_rate_limit_s_own_wait_is_kept_between_probes(clock: SandboxClock) -> None:
    calls = 0

    async def call(batch: list[int]) -> list[int]:
        nonlocal calls
        calls += 1
        if calls <= 4:
            raise errors.RateLimited("slow down", 90)
        return batch

    outcomes = await drain(stream(range(100), call, clock, concurrency=1, max_outage=100))
    assert all(outcome.error is None for outcome in outcomes)
    assert clock.slept[0] == 90


def test_a_million_items_from_a_generator_grow_the_process_by_less_than_20_mib() -> None:
    script = """
import asyncio, resource
from mioesim_async import CardStatus, fan_out
async def call(batch): return [CardStatus(iccid) for iccid in batch]
async def run(count):
    seen = 0
    async with fan_out((f"8985{n:015d}" for n in range(count)), call) as stream:
        async for outcome in stream: seen += len(outcome.result)
    assert seen == count
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
asyncio.run(run(10_000)); before = peak()
asyncio.run(run(1_000_000)); print(peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=SECONDS
    )
    assert float(done.stdout) < 20

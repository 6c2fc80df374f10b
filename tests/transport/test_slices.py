"""Work in slices: the loop gets its turn in time, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
from turning import Counted, slow_steps

from mioesim_async import slices
from mioesim_async.slices import SharedSlice, Steps, at_once, in_slices, shared_slice


def steps(count: int) -> Steps[int]:
    for _ in range(count):
        yield
    return count


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    moved = Hands()
    monkeypatch.setattr(slices, "now", moved)
    return moved


def test_all_steps_at_once_give_the_result() -> None:
    assert at_once(steps(1000)) == 1000


async def test_steps_in_slices_give_the_result_and_the_loop_its_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow_steps(monkeypatch)
    with Counted() as counted:
        assert await in_slices(steps(900)) == 900
    assert counted.turns >= 200


async def test_short_work_takes_no_turn(hands: Hands) -> None:
    with Counted() as counted:
        assert await in_slices(steps(900)) == 900
    assert counted.turns == 0


async def test_the_slice_is_used_up_after_two_milliseconds_of_all_work(
    hands: Hands,
) -> None:
    shared = shared_slice()
    assert not shared.is_used_up()
    hands.time += 0.0015
    assert not shared.is_used_up()
    hands.time += 0.001
    assert shared_slice().is_used_up(), "all work of a loop shares one slice"
    await shared.wait_for_next()
    assert not shared.is_used_up()


async def test_after_a_pause_there_is_nothing_to_wait_for(hands: Hands) -> None:
    shared = shared_slice()
    assert not shared.is_used_up()
    hands.time += 1
    with Counted() as counted:
        assert await in_slices(steps(5)) == 5
    assert counted.turns == 0


async def test_waiters_go_on_in_the_order_in_which_they_came(hands: Hands) -> None:
    order: list[str] = []

    async def work(name: str) -> None:
        for _ in range(3):
            await shared_slice().wait_for_next()
            order.append(name)
            hands.time += 0.003

    await asyncio.gather(*[work(name) for name in "abc"])
    assert order == [*"abcabcabc"]


async def test_one_who_works_on_and_on_starves_nobody(hands: Hands) -> None:
    served = 0

    def endless() -> Steps[None]:
        while True:
            hands.time += 0.003
            yield

    async def others() -> None:
        nonlocal served
        while served < 20:
            if shared_slice().is_used_up():
                await shared_slice().wait_for_next()
            served += 1
            hands.time += 0.003

    working = asyncio.create_task(in_slices(endless()))
    other = asyncio.create_task(others())
    for _ in range(200):
        await asyncio.sleep(0)
    assert served == 20
    await other
    working.cancel()
    await asyncio.wait([working])


async def test_a_waiter_who_is_cancelled_costs_the_others_nothing(hands: Hands) -> None:
    shared = shared_slice()
    shared.is_used_up()
    hands.time += 0.003
    waiters = [asyncio.create_task(shared.wait_for_next()) for _ in range(3)]
    asyncio.get_running_loop().call_soon(waiters[1].cancel)
    await asyncio.wait(waiters)
    assert [waiter.cancelled() for waiter in waiters] == [False, True, False]


async def test_cancelled_work_is_closed(hands: Hands) -> None:
    closed = False

    def work() -> Steps[None]:
        nonlocal closed
        try:
            while True:
                hands.time += 0.003
                yield
        finally:
            closed = True

    working = asyncio.create_task(in_slices(work()))
    await asyncio.sleep(0)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert closed


async def test_what_a_step_raises_comes_out() -> None:
    def work() -> Steps[None]:
        yield
        raise KeyError("their bug")

    with pytest.raises(KeyError, match="their bug"):
        await in_slices(work())
    with pytest.raises(KeyError, match="their bug"):
        at_once(work())


def test_each_loop_has_a_slice_of_its_own_and_none_is_kept_alive() -> None:
    async def of_this_loop() -> tuple[SharedSlice, weakref.ref[asyncio.AbstractEventLoop]]:
        shared = shared_slice()
        assert shared_slice() is shared
        await in_slices(steps(3))
        return shared, weakref.ref(asyncio.get_running_loop())

    (one, loop), (other, _) = asyncio.run(of_this_loop()), asyncio.run(of_this_loop())
    assert one is not other
    gc.collect()
    assert loop() is None

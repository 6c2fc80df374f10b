"""Cancelling a caller at each of its awaits, one after the other, leaks nothing."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from shopping import PLAN
from stepping import Steps, is_locked
from waiting import until

from mioesim_async import FileTokenStore, MemoryTokenStore, MioEsimClient, Safety
from mioesim_async.errors import ClientClosed
from mioesim_async.sandbox import Fault, Sandbox, SandboxClock
from mioesim_async.tokens.store import StoredToken, TokenStore
from mioesim_async.wire.dialect import Dialect

BUY = "/api_esim/addEsimOrder"
SLOTS = 8
MOST_STEPS = 400
Operation = Callable[[MioEsimClient, Sandbox], Awaitable[Any]]
MakeStore = Callable[[], TokenStore]

OPERATIONS: dict[str, Operation] = {
    "login": lambda client, sandbox: client.login(),
    "query": lambda client, sandbox: client.cards.query(sandbox.iccids[:5]),
    "read with a deadline": lambda client, sandbox: client.cards.detail(
        sandbox.iccids[0], deadline=600
    ),
    "sweep": lambda client, sandbox: client.cards.query_all(
        sandbox.iccids[:50], batch_size=10, concurrency=2
    ),
    "sweep of an async iterable": lambda client, sandbox: client.cards.query_all(
        slowly(sandbox.iccids[:20]), batch_size=10, concurrency=2
    ),
    "sweep of details": lambda client, sandbox: read_all(client.cards.details(sandbox.iccids[:4])),
    "limited": lambda client, sandbox: client.cards.query(sandbox.iccids[0]),
}


async def slowly(items: list[str]) -> Any:
    for item in items:
        await asyncio.sleep(0)
        yield item


async def read_all(stream: Any) -> list[Any]:
    async with stream as outcomes:
        return [outcome async for outcome in outcomes]


@pytest.fixture(params=["memory", "file"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    """Makes a new, empty store of one kind."""
    numbers = itertools.count()
    if request.param == "memory":
        return MemoryTokenStore
    return lambda: FileTokenStore(tmp_path / str(next(numbers)) / "tokens.json")


async def assert_nothing_leaked(client: MioEsimClient, steps: Steps) -> None:
    caller = client._caller
    # A purchase that has ended may still have to be told.
    await until(lambda: all(task.done() for task in steps.tasks) and not caller.has_purchases)
    await asyncio.sleep(0)  # their callbacks
    assert caller._slots._value == SLOTS
    assert caller._slots_of_sweeps._value == caller.sweep_slots
    assert not caller._reads.under_way
    assert not caller.has_purchases
    assert not client.cards._running
    assert caller._keeper._login_task is None
    for session in (client._manager._session, client._manager._reserved_session):
        if session is not None:
            connector = session.connector
            assert connector is not None
            assert not connector._acquired
            assert not connector._waiters
            assert sum(map(len, connector._conns.values())) <= SLOTS


async def each_step(
    sandbox: Sandbox, make_store: MakeStore, check: Callable[[int, MioEsimClient], Awaitable[bool]]
) -> int:
    """Do something to a new client at each suspension; return how many there were."""
    for number in range(1, MOST_STEPS):
        store = make_store()
        before = sandbox.logins
        async with sandbox.client(max_in_flight=SLOTS, token_store=store) as client:
            reached = await check(number, client)
            assert not is_locked(store)
            assert len(await client.cards.query(sandbox.iccids[:3])) == 3, "the next call works"
        assert sandbox.logins - before == 1, "a cancelled caller costs no login"
        if not reached:
            return number - 1
    pytest.fail("the operation never came to its end")


@pytest.mark.parametrize("name", OPERATIONS)
async def test_an_operation_cancelled_at_any_await_leaks_nothing_and_the_next_call_works(
    sandbox: Sandbox, make_store: MakeStore, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check(number: int, client: MioEsimClient) -> bool:
        with Steps(number) as steps:
            work = steps.drive(OPERATIONS[name](client, sandbox))
            await asyncio.wait([work])
            if steps.reached:
                assert work.cancelled(), f"at {number}: {work}"
            else:
                await work
            await assert_nothing_leaked(client, steps)
        return steps.reached

    if name == "limited":
        monkeypatch.setattr(sandbox, "client", with_rate_limit(sandbox.client))
    assert await each_step(sandbox, make_store, check) >= 3


def with_rate_limit(make: Callable[..., MioEsimClient]) -> Callable[..., MioEsimClient]:
    return lambda **options: make(rate_limit=50, **options)


@pytest.mark.parametrize("name", ["login", "query", "sweep"])
async def test_a_time_out_at_any_await_is_a_timeout_error_and_leaks_nothing(
    sandbox: Sandbox, make_store: MakeStore, name: str
) -> None:
    async def check(number: int, client: MioEsimClient) -> bool:
        loop = asyncio.get_running_loop()
        scope = asyncio.timeout(None)

        async def bounded() -> None:
            async with scope:
                await OPERATIONS[name](client, sandbox)

        def strike() -> None:
            # It may be over already: then there is nothing to time out.
            loop.call_soon(lambda: work.done() or scope.reschedule(loop.time()))

        with Steps(number, strike) as steps:
            work = steps.drive(bounded())
            await asyncio.wait([work])
            assert not work.cancelled()
            assert work.exception() is None or type(work.exception()) is TimeoutError
            await assert_nothing_leaked(client, steps)
        return steps.reached

    await each_step(sandbox, make_store, check)


async def test_a_caller_cancelled_while_it_queues_for_a_slot_takes_none(
    sandbox: Sandbox, clock: SandboxClock
) -> None:
    clock._skip = False
    async with sandbox.client(max_in_flight=1) as client:
        await client.login()
        sandbox.faults.add(Fault.slow(20), "getESIMDetail")
        holder = asyncio.create_task(client.cards.detail(sandbox.iccids[0]))
        await until(lambda: sandbox.requests[-1].endpoint == "getESIMDetail")
        for work in (
            client.cards.query(sandbox.iccids[0]),
            client.cards.query_all(sandbox.iccids[:5]),
            client.call(BUY, safety=Safety.MONEY),
        ):
            queueing = asyncio.create_task(work)
            for _ in range(5):
                await asyncio.sleep(0)
            queueing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await queueing
        clock.advance(21)
        await holder
        assert client._caller._slots._value == 1
        assert len(await client.cards.query(sandbox.iccids[:3])) == 3
    assert [request.endpoint for request in sandbox.requests].count("addEsimOrder") == 0


@pytest.mark.parametrize(
    "fault", [Fault.http(503), Fault.refuse(-1), Fault.html()], ids=lambda fault: fault.name
)
async def test_a_call_cancelled_at_any_await_of_its_retries_and_replays_leaks_nothing(
    sandbox: Sandbox, fault: Fault
) -> None:
    async def check(number: int, client: MioEsimClient) -> bool:
        sandbox.faults.clear()
        sandbox.faults.add(fault, "getESIMDetail", times=2)
        with Steps(number) as steps:
            work = steps.drive(client.cards.detail(sandbox.iccids[0]))
            await asyncio.wait([work])
            assert work.cancelled() == steps.reached
            await assert_nothing_leaked(client, steps)
        return steps.reached

    for number in range(1, MOST_STEPS):
        before = sandbox.logins
        async with sandbox.client(max_in_flight=SLOTS) as client:
            reached = await check(number, client)
            sandbox.faults.clear()
            await client.cards.detail(sandbox.iccids[0])
        assert sandbox.logins - before <= 3, "one, and one for each refused token"
        if not reached:
            return
    pytest.fail("the call never came to its end")


async def test_a_purchase_cancelled_at_any_await_is_sent_and_reported_or_not_sent(
    sandbox: Sandbox, make_store: MakeStore
) -> None:
    sandbox.faults.add(Fault.replaced(b'{"code":0,"data":"EP1"}'), "addEsimOrder", times=None)
    sent_ones = 0
    for number in range(1, MOST_STEPS):
        late: list[Any] = []
        sandbox.requests.clear()
        store = make_store()
        async with sandbox.client(
            max_in_flight=SLOTS, token_store=store, on_late_order=late.append
        ) as client:
            with Steps(number) as steps:
                work = steps.drive(client.call(BUY, {"otherOrderId": "r"}, safety=Safety.MONEY))
                await asyncio.wait([work])
                assert work.cancelled() == steps.reached
                await assert_nothing_leaked(client, steps)
            assert not is_locked(store)
            await asyncio.sleep(0)
            sent = [request.endpoint for request in sandbox.requests].count("addEsimOrder")
            sent_ones += sent and steps.reached
            if steps.reached:
                assert late == ["EP1"] * sent, f"at {number}: what was sent is reported, once"
            else:
                assert (sent, late, await work) == (1, [], "EP1")
            assert await client.call(BUY, safety=Safety.MONEY) == "EP1"
            assert [request.endpoint for request in sandbox.requests].count("login") == 1
        if not steps.reached:
            break
    assert sent_ones, "some were cancelled after they had been sent"


async def test_a_login_task_cancelled_at_any_await_holds_no_lock_and_the_next_one_works(
    sandbox: Sandbox, make_store: MakeStore
) -> None:
    for number in range(1, MOST_STEPS):
        store = make_store()
        before = sandbox.logins
        async with sandbox.client(max_in_flight=SLOTS, token_store=store) as client:

            def end_login() -> None:
                flight = client._caller._keeper._login_task
                if flight is not None:
                    flight.cancel()

            with Steps(number, end_login) as steps:
                work = steps.drive(client.login())
                await asyncio.wait([work])
                assert not work.cancelled()
                assert work.exception() is None or isinstance(work.exception(), ClientClosed)
                await assert_nothing_leaked(client, steps)
            assert not is_locked(store)
            assert len(await client.cards.query(sandbox.iccids[:3])) == 3
        assert sandbox.logins - before <= 2
        if not steps.reached:
            return
    pytest.fail("the login never came to its end")


async def test_closing_at_any_await_of_a_call_or_a_sweep_tells_it_and_leaves_nothing(
    sandbox: Sandbox,
) -> None:
    for name in ("query", "read with a deadline", "sweep"):
        for number in range(1, MOST_STEPS):
            client = sandbox.client(max_in_flight=SLOTS)
            closing: list[asyncio.Task[None]] = []

            def close() -> None:
                # Twice at once, as a signal handler beside an `async with` does.
                closing.extend(asyncio.create_task(client.aclose()) for _ in range(2))  # noqa: B023

            with Steps(number, close) as steps:
                work = steps.drive(OPERATIONS[name](client, sandbox))
                await asyncio.wait([work])
                assert not work.cancelled()
                assert work.exception() is None or isinstance(work.exception(), ClientClosed)
                for task in closing:
                    await task
                await assert_nothing_leaked(client, steps)
            await client.aclose()
            if not steps.reached:
                break


async def test_an_aclose_cancelled_at_any_await_can_be_called_again(
    sandbox: Sandbox, clock: SandboxClock
) -> None:
    clock._skip = False
    sandbox.faults.add(Fault.slow(3600), "queryIccidInformation", times=None)
    for number in range(1, MOST_STEPS):
        client = sandbox.client(max_in_flight=SLOTS)
        await client.orders.place(**PLAN, count=1)
        sessions = client._manager._session, client._manager._reserved_session
        sandbox.requests.clear()
        reading = asyncio.create_task(client.cards.query(sandbox.iccids[0]))
        sweeping = asyncio.create_task(client.cards.query_all(sandbox.iccids[:5]))
        await until(lambda: len(sandbox.requests) == 2)
        with Steps(number) as steps:
            closing = steps.drive(client.aclose(grace=60 if number == 1 else 0))
            await asyncio.wait([closing])
            assert closing.cancelled() == steps.reached
            await client.aclose()
            for work in (reading, sweeping):
                with pytest.raises(ClientClosed):
                    await work
            await assert_nothing_leaked(client, steps)
        assert all(session is not None and session.closed for session in sessions)
        if not steps.reached:
            return
    pytest.fail("aclose never came to its end")


async def test_a_sweep_whose_consumer_is_cancelled_at_any_await_goes_on_where_it_was(
    sandbox: Sandbox,
) -> None:
    asked = sandbox.iccids[:40]
    for number in range(1, MOST_STEPS):
        async with sandbox.client(max_in_flight=SLOTS) as client:
            got: list[str] = []
            async with client.cards.query_many(asked, batch_size=10, concurrency=2) as stream:

                async def consume() -> None:
                    async for outcome in stream:
                        got.append(outcome.iccid)  # noqa: B023

                with Steps(number) as steps:
                    work = steps.drive(consume())
                    await asyncio.wait([work])
                    assert work.cancelled() == steps.reached
                    await consume()
                    await assert_nothing_leaked(client, steps)
            assert sorted(got) == sorted(asked), f"at {number}"
        if not steps.reached:
            return
    pytest.fail("the sweep never came to its end")


def leftovers(folder: Path) -> list[Path]:
    return list(folder.rglob(".tokens.json-*"))


TOKEN = StoredToken("a-token", 1.0, Dialect("plain", "form"))


@pytest.mark.parametrize("work", ["load", "save", "lock"])
async def test_a_store_cancelled_at_any_await_holds_nothing(
    make_store: MakeStore, tmp_path: Path, work: str
) -> None:
    async def hold(store: TokenStore) -> None:
        async with store.lock("key"):
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    for number in range(1, MOST_STEPS):
        store = make_store()
        await store.save("other", TOKEN)
        act: Awaitable[Any]
        if work == "lock":
            act = hold(store)
        else:
            act = store.load("other") if work == "load" else store.save("key", TOKEN)
        with Steps(number) as steps:
            task = steps.drive(act)
            await asyncio.wait([task])
            assert task.cancelled() == steps.reached
        assert not is_locked(store)
        assert await store.load("other") == TOKEN
        await store.save("key", TOKEN)
        assert await store.load("key") == TOKEN
        assert not leftovers(tmp_path)
        if not steps.reached:
            return
    pytest.fail("the work never came to its end")


async def test_a_waiter_for_a_held_lock_that_is_cancelled_at_any_await_holds_nothing(
    make_store: MakeStore,
) -> None:
    async def wait_for(store: TokenStore) -> None:
        async with store.lock("key"):
            pytest.fail("somebody else holds it")

    for number in range(1, 4):
        store = make_store()
        async with store.lock("key"):
            with Steps(number) as steps:
                task = steps.drive(wait_for(store))
                done, _ = await asyncio.wait([task], timeout=0.2)
                if not done:
                    task.cancel()
                    await asyncio.wait([task])
                assert task.cancelled()
        assert not is_locked(store)
        async with store.lock("key"):
            pass

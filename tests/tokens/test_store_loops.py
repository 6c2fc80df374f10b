"""A store of a module's, used by one client for each event loop, as workers of job queues do."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from redis.asyncio import Redis
from redis_server import RedisServer, running_redis
from waiting import SECONDS

from mioesim_async import FileTokenStore, MemoryTokenStore, MioEsimClient
from mioesim_async.sandbox import Sandbox
from mioesim_async.tokens.redis import RedisTokenStore
from mioesim_async.tokens.store import TokenStore

T = TypeVar("T")

KINDS = ["memory", "file", "redis"]


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> TokenStore:
    if request.param == "memory":
        return MemoryTokenStore()
    if request.param == "file":
        return FileTokenStore(tmp_path / "tokens.json")
    server: RedisServer = request.getfixturevalue("redis_server")
    server.stop()
    server.start()
    return RedisTokenStore(server.url)


@pytest.fixture
def host() -> Iterator[Sandbox]:
    """A sandbox in a thread of its own."""
    with Sandbox(100) as sandbox:
        yield sandbox


def in_own_loop(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run something in a thread and an event loop of its own."""
    (result,) = in_own_loops(work, 1)
    return result


def in_own_loops(work: Callable[[], Coroutine[Any, Any, T]], loops: int) -> list[T]:
    """Run something in several threads and event loops at once."""
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(asyncio.run(work()))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(loops)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert not failures
    return results


def a_job(host: Sandbox, store: TokenStore) -> Callable[[], Coroutine[Any, Any, int]]:
    """Return what a task of a worker does: a client of its own, many calls at once."""

    async def work() -> int:
        async with MioEsimClient(host.credentials, base_url=host.url, token_store=store) as client:
            cards = await asyncio.gather(*map(client.cards.query, host.iccids[:20]))
            return sum(map(len, cards))

    return work


def test_a_store_serves_one_client_for_each_asyncio_run(
    host: Sandbox, store: TokenStore, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        assert in_own_loop(a_job(host, store)) == 20
        # An unclosed connection of a loop that has ended would be told now, and is an error.
        gc.collect()
    assert host.logins == 1
    assert "the token store can't be used" not in caplog.text


def test_clients_of_several_loops_at_once_log_in_once(
    host: Sandbox, store: TokenStore, caplog: pytest.LogCaptureFixture
) -> None:
    assert in_own_loops(a_job(host, store), 5) == [20] * 5
    assert host.logins == 1
    host.evict()
    assert in_own_loops(a_job(host, store), 5) == [20] * 5
    assert host.logins == 2
    assert "the token store can't be used" not in caplog.text


def test_a_redis_store_leaves_no_connection_behind(
    host: Sandbox, redis_server: RedisServer
) -> None:
    store = RedisTokenStore(redis_server.url)
    in_own_loops(a_job(host, store), 3)

    async def connections() -> int:
        async with Redis.from_url(redis_server.url) as redis, asyncio.timeout(SECONDS):  # type: ignore[union-attr]
            while (count := (await redis.info("clients"))["connected_clients"]) > 1:
                await asyncio.sleep(0.01)
            await store.aclose()
            return count

    assert in_own_loop(connections) == 1


# The lock of the store in memory.


async def queue_for(store: MemoryTokenStore, name: str, order: list[str]) -> None:
    async with store.lock("key"):
        order.append(name)
        await asyncio.sleep(0)


async def test_the_lock_in_memory_is_had_in_the_order_of_asking() -> None:
    store, order = MemoryTokenStore(), list[str]()
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        for name in "abcde":
            group.create_task(queue_for(store, name, order))
    assert order == list("abcde")
    assert not store._locks["key"].locked()


async def test_a_waiter_that_is_cancelled_as_it_gets_the_lock_in_memory_passes_it_on() -> None:
    for turns in range(4):
        store, order = MemoryTokenStore(), list[str]()
        async with asyncio.timeout(SECONDS):
            async with store.lock("key"):
                first = asyncio.create_task(queue_for(store, "first", order))
                second = asyncio.create_task(queue_for(store, "second", order))
                await asyncio.sleep(0)
            for _ in range(turns):
                await asyncio.sleep(0)
            first.cancel()
            await asyncio.wait([first, second])
        assert "second" in order
        assert not store._locks["key"].locked()


async def test_the_lock_in_memory_passes_over_a_loop_that_has_ended(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, order = MemoryTokenStore(), list[str]()
    async with asyncio.timeout(SECONDS):
        async with store.lock("key"):

            def abandon_a_waiter() -> None:
                loop = asyncio.new_event_loop()
                waiter = loop.create_task(queue_for(store, "abandoned", order))
                loop.run_until_complete(asyncio.sleep(0))
                loop.close()
                assert not waiter.done()

            await asyncio.to_thread(abandon_a_waiter)
            here = asyncio.create_task(queue_for(store, "here", order))
            await asyncio.sleep(0)
        await here
    assert order == ["here"]
    assert not store._locks["key"].locked()

"""The limit of requests a second that processes and hosts of an account share in Redis."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import given, strategies as st
from redis.asyncio import Redis
from redis_server import PASSWORD, RedisServer, running_redis
from shopping import buy
from stores import spawned
from waiting import SECONDS, line_of, until

from mioesim_async import (
    MemoryTokenStore,
    MioEsimClient,
    RedisTokenStore,
    SharedRateLimit,
    errors,
)
from mioesim_async.sandbox import Sandbox, SandboxClock
from mioesim_async.transport import shared_rate

WORKER = """
import asyncio, sys
from mioesim_async import MioEsimClient, RedisTokenStore, SharedRateLimit
from mioesim_async.sandbox import Sandbox

async def main():
    url, redis, reads, per_second = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    sandbox = Sandbox(reads)
    async with MioEsimClient(
        sandbox.credentials, base_url=url, token_store=RedisTokenStore(redis),
        rate_limit=SharedRateLimit(redis, per_second=per_second),
    ) as client:
        await client.login()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await asyncio.gather(*[client.cards.detail(iccid) for iccid in sandbox.iccids])
        print("done", flush=True)

asyncio.run(main())
"""
SLOW = 0.01
"""A rate at which a second request within a test must wait."""


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with running_redis() as running:
        yield running


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[Redis]:
    """A connection to the server, which is running and empty."""
    server.stop()
    server.start()
    async with Redis.from_url(server.url, decode_responses=True) as connected:
        yield connected


async def counted(redis: Redis, client: MioEsimClient) -> int:
    """Return how many requests of the client's account Redis has counted in this window."""
    return int(await redis.get(f"{shared_rate.PREFIX}:{{{client.account}}}") or 0)


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and "shared rate" in record.getMessage()
    ]


@pytest.mark.parametrize(
    ("reads", "per_second"), [(25, 20), pytest.param(200, 20, marks=pytest.mark.slow)]
)
async def test_two_processes_keep_one_pace_together(
    server: RedisServer, redis: Redis, reads: int, per_second: int
) -> None:
    async with Sandbox(reads) as sandbox:
        arguments = (WORKER, sandbox.url, server.url, str(reads), str(per_second))
        async with spawned(*arguments) as one, spawned(*arguments) as other:
            both = (one, other)
            assert [await line_of(process) for process in both] == ["ready", "ready"]
            for process in both:
                assert process.stdin is not None
                process.stdin.write(b"go\n")
            async with asyncio.timeout(SECONDS + 3 * reads / per_second):
                for process in both:
                    assert process.stdout is not None
                    assert await process.stdout.readline() == b"done\n"
        times = [call.at for call in sandbox.requests if call.endpoint == "getESIMDetail"]
    assert len(times) == 2 * reads
    # A fresh limit lets one second's requests through at once.
    assert times[-1] - times[0] >= (2 * reads - per_second) / per_second * 0.9
    for at in times:
        assert sum(at <= other < at + 1 for other in times) <= 2 * per_second


async def test_purchases_and_logins_are_counted_and_never_wait(
    server: RedisServer, redis: Redis
) -> None:
    limit = SharedRateLimit(server.url, per_second=SLOW)
    async with (
        Sandbox(5, order_form="number") as sandbox,
        sandbox.client(rate_limit=limit) as client,
    ):
        await client.login()
        order = await buy(client)
        assert order.cards, "it was read back, too"
        await until(lambda: not client._caller._limiter._counting)
        assert await counted(redis, client) == len(sandbox.requests) == 3
        reading = asyncio.create_task(client.cards.detail(sandbox.iccids[0]))
        assert (await buy(client)).cards
        assert not reading.done(), "a read waits for its turn"
        await client.aclose()
        with pytest.raises(errors.ClientClosed):
            await reading
    assert len(sandbox.requests) == 5


async def test_accounts_don_t_share_a_limit_and_redis_holds_no_secret(
    server: RedisServer, redis: Redis
) -> None:
    limit = SharedRateLimit(server.url, per_second=SLOW)
    async with (
        Sandbox(5) as sandbox,
        sandbox.client(rate_limit=limit, account="one") as one,
        sandbox.client(rate_limit=limit, account="two") as two,
    ):
        for client in (one, two):
            await client.login()
            await until(lambda client=client: not client._caller._limiter._counting)
        keys = await redis.keys("*")
        assert sorted(keys) == sorted(
            f"{shared_rate.PREFIX}:{{{client.account}}}" for client in (one, two)
        )
        account = sandbox.credentials
        for secret in (account.phone_number, account.password, account.secret_key):
            assert secret not in repr(keys)


async def test_while_redis_is_down_a_process_keeps_its_own_pace_and_says_so_once(
    server: RedisServer, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    clock = SandboxClock(skip_sleeps=True)
    limit = SharedRateLimit(server.url, per_second=1000, alone_per_second=0.1)
    store = MemoryTokenStore()
    async with (
        Sandbox(5, clock=clock) as sandbox,
        sandbox.client(rate_limit=limit, token_store=store) as client,
        sandbox.client(rate_limit=limit, token_store=store) as other,
    ):
        await client.cards.detail(sandbox.iccids[0])
        await other.login()
        server.stop()
        clock.slept.clear()
        for _ in range(3):
            await client.cards.detail(sandbox.iccids[0])
            await other.cards.detail(sandbox.iccids[0])
        waits = [round(wait) for wait in clock.slept if wait > 1]
        assert waits == [10] * 5, "all clients of the process share its pace"
        (said,) = warnings_in(caplog)
        assert "at most 0.1 requests a second" in said
        assert (await buy(client)).cards

        server.start()
        async with asyncio.timeout(SECONDS):
            while client._caller._limiter._is_down:
                await client.cards.detail(sandbox.iccids[0])
        assert "the shared rate limit's Redis answers again" in caplog.text
        await client.cards.detail(sandbox.iccids[0])
        # The look that found it up may be counted, too.
        assert await counted(redis, client) in (1, 2)
        assert len(warnings_in(caplog)) == 1
    assert PASSWORD not in caplog.text


async def test_a_redis_that_hangs_delays_no_purchase_and_a_read_once(
    server: RedisServer, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    limit = SharedRateLimit(server.url, per_second=1000)
    process: Any = server._process
    async with Sandbox(5) as sandbox, sandbox.client(rate_limit=limit) as client:
        await client.cards.detail(sandbox.iccids[0])
        process.send_signal(signal.SIGSTOP)
        try:
            assert (await buy(client)).cards
            assert client._caller._limiter._counting, "the purchase didn't wait for Redis"
            await client.cards.detail(sandbox.iccids[0])
            assert len(warnings_in(caplog)) == 1
            began = time.monotonic()
            for _ in range(5):
                await client.cards.detail(sandbox.iccids[0])
            assert time.monotonic() - began < shared_rate.ANSWER_SECONDS
        finally:
            process.send_signal(signal.SIGCONT)


async def test_a_read_that_is_cancelled_in_its_wait_leaves_no_task_and_the_next_goes_on(
    server: RedisServer, redis: Redis
) -> None:
    limit = SharedRateLimit(server.url, per_second=5)
    async with Sandbox(5) as sandbox, sandbox.client(rate_limit=limit) as client:
        for _ in range(4):
            await client.cards.detail(sandbox.iccids[0])
        for turns in range(12):
            with pytest.raises(asyncio.CancelledError):
                async with asyncio.timeout(SECONDS):
                    reading = asyncio.create_task(client.cards.detail(sandbox.iccids[0]))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    reading.cancel()
                    await reading
        with pytest.raises(errors.DeadlineExceeded):
            while True:
                await client.cards.detail(sandbox.iccids[0], deadline=0.05)
        assert await client.cards.detail(sandbox.iccids[0])


async def test_one_token_store_and_one_limit_share_a_server(
    server: RedisServer, redis: Redis
) -> None:
    options: dict[str, Any] = {
        "rate_limit": SharedRateLimit(server.url, per_second=100),
        "token_store": RedisTokenStore(server.url),
    }
    async with Sandbox(5) as sandbox:
        for _ in range(2):
            async with sandbox.client(**options) as client:
                assert await client.cards.detail(sandbox.iccids[0])
        assert sandbox.logins == 1


# The setting


@given(st.floats(0.001, 5000))
def test_a_window_of_whole_requests_and_seconds_is_never_faster_and_little_slower(
    rate: float,
) -> None:
    requests, seconds = shared_rate._window(rate)
    assert requests >= 1
    assert 0.95 * rate <= requests / seconds <= rate * (1 + 1e-9)


@pytest.mark.parametrize(
    "arguments",
    [
        {"per_second": 0}, {"per_second": -1}, {"per_second": math.inf}, {"per_second": math.nan},
        {"per_second": True}, {"per_second": "5"}, {"per_second": None},
        {"per_second": 5, "alone_per_second": 0},
    ],
)  # fmt: skip
def test_a_rate_that_is_none_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(errors.ConfigurationError, match="per_second must be more than 0"):
        SharedRateLimit("redis://host", **arguments)


@pytest.mark.parametrize("url", ["host:6379", "http://:made-up@host", None, 5])
def test_a_url_of_another_kind_is_refused_and_not_repeated(url: Any) -> None:
    with pytest.raises(errors.ConfigurationError, match="must start with redis://") as caught:
        SharedRateLimit(url, per_second=5)
    assert "made-up" not in str(caught.value)


def test_a_url_that_can_t_be_read_is_refused_and_not_repeated(sandbox: Sandbox) -> None:
    limit = SharedRateLimit("redis://:made-up@host:port/0", per_second=5)
    assert "made-up" not in repr(limit)
    with pytest.raises(errors.ConfigurationError, match="can't be read") as caught:
        sandbox.client(rate_limit=limit)
    assert "made-up" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("library", ["limits", "redis"])
def test_without_a_library_of_the_extra_the_message_names_it(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    limit = SharedRateLimit("redis://host", per_second=5)
    with pytest.raises(errors.ConfigurationError, match=rf"needs {library}.*async\[redis\]"):
        sandbox.client(rate_limit=limit)

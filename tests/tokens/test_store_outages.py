"""A token store that is down, slow or lost what it had: the work goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis_server import PASSWORD, RedisServer, running_redis
from stores import FlakyStore, key_of
from waiting import SECONDS, until

from mioesim_async import FileTokenStore, MemoryTokenStore, MioEsimClient, StoredToken, errors
from mioesim_async.sandbox import Fault, Sandbox, SandboxClock
from mioesim_async.tokens.fallback import LONGEST_LOCK_WAIT, RETRY_SECONDS
from mioesim_async.tokens.keeper import RENEW_EARLY, TOKEN_LIFETIME
from mioesim_async.tokens.redis import RedisTokenStore

RENEWAL = TOKEN_LIFETIME - RENEW_EARLY + 1


@pytest.fixture(scope="module")
def shared_server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture
def redis_server(shared_server: RedisServer) -> RedisServer:
    shared_server.stop()
    shared_server.start()
    return shared_server


@pytest.fixture
async def redis_store(redis_server: RedisServer) -> AsyncIterator[RedisTokenStore]:
    store = RedisTokenStore(redis_server.url)
    yield store
    await store.aclose()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> pytest.MonkeyPatch:
    account = sandbox.credentials
    monkeypatch.setenv("MIOESIM_PHONE_NUMBER", account.phone_number)
    monkeypatch.setenv("MIOESIM_PASSWORD", account.password)
    monkeypatch.setenv("MIOESIM_SECRET_KEY", account.secret_key)
    monkeypatch.setenv("MIOESIM_BASE_URL", sandbox.url)
    return monkeypatch


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def live_token(client: MioEsimClient) -> str:
    token = client._caller._keeper.token
    assert token is not None
    return token


async def brought_back(client: MioEsimClient, sandbox: Sandbox) -> None:
    """Go on calling until the live token is in the store again."""
    keeper = client._caller._keeper
    async with asyncio.timeout(SECONDS):
        while keeper._fallback.lacks_token or keeper._saving is not None:
            sandbox.clock.advance(RETRY_SECONDS)
            await client.cards.query(sandbox.iccids[0])
            await asyncio.sleep(0.01)


async def check_one_warning_and_no_secret(
    sandbox: Sandbox,
    store: RedisTokenStore,
    client: MioEsimClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stored = await store.load(key_of(sandbox))
    assert stored is not None
    assert stored.token == live_token(client)
    assert len(warnings_in(caplog)) == 1
    assert "token store" in warnings_in(caplog)[0]
    said = caplog.text + repr([record.__dict__ for record in caplog.records])
    for secret in (PASSWORD, stored.token, sandbox.credentials.password):
        assert secret not in said


async def test_redis_that_is_down_at_the_start_gets_the_token_when_it_is_back(
    sandbox: Sandbox,
    clock: SandboxClock,
    redis_server: RedisServer,
    redis_store: RedisTokenStore,
    caplog: pytest.LogCaptureFixture,
) -> None:
    redis_server.stop()
    async with sandbox.client(token_store=redis_store) as client:
        for iccid in sandbox.iccids[:20]:
            assert len(await client.cards.query(iccid)) == 1
            clock.advance(RETRY_SECONDS)
        redis_server.start()
        await brought_back(client, sandbox)
        await check_one_warning_and_no_secret(sandbox, redis_store, client, caplog)
    assert sandbox.logins == 1


async def test_redis_that_is_stopped_in_the_middle_gets_the_token_when_it_is_back(
    sandbox: Sandbox,
    clock: SandboxClock,
    redis_server: RedisServer,
    redis_store: RedisTokenStore,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with sandbox.client(token_store=redis_store) as client:
        await client.cards.query(sandbox.iccids[0])
        redis_server.stop()
        assert len(await client.cards.query(sandbox.iccids[:100])) == 100
        assert warnings_in(caplog) == [], "who has a live token doesn't need the store"
        clock.advance(RENEWAL)
        assert len(await client.cards.query(sandbox.iccids[:100])) == 100
        assert sandbox.logins == 2
        redis_server.start()
        await brought_back(client, sandbox)
        await check_one_warning_and_no_secret(sandbox, redis_store, client, caplog)
    assert sandbox.logins == 2


async def test_redis_that_is_stopped_during_a_login_does_not_fail_it(
    sandbox: Sandbox,
    redis_server: RedisServer,
    redis_store: RedisTokenStore,
    clock: SandboxClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock._skip = False
    sandbox.faults.add(Fault.slow(3600), "login")
    async with sandbox.client(token_store=redis_store) as client:
        asking = asyncio.create_task(client.cards.query(sandbox.iccids[0]))
        await until(lambda: len(sandbox.requests) == 1)
        redis_server.stop()
        # More than an attempt's limit: the login is tried again, and not slow any more.
        clock.advance(61)
        await until(lambda: len(clock.slept) == 2)
        clock.advance(10)
        assert len(await asking) == 1
        redis_server.start()
        await brought_back(client, sandbox)
        await check_one_warning_and_no_secret(sandbox, redis_store, client, caplog)


async def test_redis_that_came_back_empty_costs_one_login(
    sandbox: Sandbox,
    redis_server: RedisServer,
    redis_store: RedisTokenStore,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with sandbox.client(token_store=redis_store) as one:
        await one.cards.query(sandbox.iccids[0])
        redis_server.stop()
        redis_server.start()
        async with sandbox.client(token_store=redis_store) as two:
            await two.cards.query(sandbox.iccids[0])
            await one.cards.query(sandbox.iccids[0])
            assert live_token(one) == live_token(two)
    assert sandbox.logins == 2
    assert warnings_in(caplog) == []


async def test_a_wrong_redis_password_is_a_store_that_is_down_and_is_not_told(
    sandbox: Sandbox, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    store = RedisTokenStore(redis_server.url.replace(PASSWORD, "made-up-wrong-one"))
    async with sandbox.client(token_store=store) as client:
        assert len(await client.cards.query(sandbox.iccids[0])) == 1
    await store.aclose()
    assert len(warnings_in(caplog)) == 1
    assert "made-up-wrong-one" not in caplog.text


async def test_a_lock_that_is_never_freed_is_waited_for_no_longer_than_a_login_takes(
    sandbox: Sandbox, clock: SandboxClock, caplog: pytest.LogCaptureFixture
) -> None:
    clock._skip = False
    store = MemoryTokenStore()
    async with sandbox.client(token_store=store) as client, store.lock(key_of(sandbox)):
        asking = asyncio.create_task(client.cards.query(sandbox.iccids[0]))
        await until(lambda: bool(clock._timers))
        assert sandbox.requests == []
        clock.advance(LONGEST_LOCK_WAIT + 1)
        assert len(await asking) == 1
    assert len(warnings_in(caplog)) == 1


async def test_a_dead_token_is_not_taken_from_a_store_that_is_back(
    sandbox: Sandbox, clock: SandboxClock
) -> None:
    store = FlakyStore()
    async with sandbox.client(token_store=store) as client:
        await client.login()
        # Saved by a host whose clock is ahead.
        first = StoredToken(live_token(client), clock.time() + 3600, client.dialect)
        await store.save(key_of(sandbox), first)
        store.down = True
        sandbox.evict()
        await client.cards.query(sandbox.iccids[0])
        store.down = False
        await brought_back(client, sandbox)
        await client.cards.query(sandbox.iccids[0])
        stored = await store.load(key_of(sandbox))
        assert stored is not None
        assert stored.token == live_token(client) != first.token
    assert (sandbox.logins, client.stats().replays) == (2, 1)


async def test_a_token_that_was_renewed_meanwhile_is_not_written_over(
    sandbox: Sandbox, clock: SandboxClock
) -> None:
    store, own = FlakyStore(), FlakyStore()
    async with (
        sandbox.client(token_store=store) as early,
        sandbox.client(token_store=own) as late,
    ):
        store.down = True
        await early.login()
        clock.advance(RETRY_SECONDS)
        await late.login()
        newer = await own.load(key_of(sandbox))
        assert newer is not None
        await MemoryTokenStore.save(store, key_of(sandbox), newer)
        store.down = False
        await brought_back(early, sandbox)
        assert live_token(early) == newer.token
        assert await store.load(key_of(sandbox)) == newer
        await early.cards.query(sandbox.iccids[0])
    assert sandbox.logins == 2


async def test_a_client_can_be_closed_while_it_brings_its_token_to_the_store(
    sandbox: Sandbox, clock: SandboxClock
) -> None:
    store = FlakyStore()
    store.down = True
    client = sandbox.client(token_store=store)
    await client.login()
    store.down = False
    lock: AbstractAsyncContextManager[None] = store.lock(key_of(sandbox))
    async with lock:
        clock.advance(RETRY_SECONDS)
        await client.cards.query(sandbox.iccids[0])
        assert client._caller._keeper._saving is not None
        await client.aclose()
    async with store.lock(key_of(sandbox)):
        pass


# The environment.


async def test_the_environment_names_a_file(
    environment: pytest.MonkeyPatch, sandbox: Sandbox, tmp_path: Path
) -> None:
    path = tmp_path / "state" / "tokens.json"
    environment.setenv("MIOESIM_TOKEN_STORE", str(path))
    for _ in range(2):
        async with MioEsimClient.from_env() as client:
            await client.cards.query(sandbox.iccids[0])
    assert sandbox.logins == 1
    assert await FileTokenStore(path).load(key_of(sandbox)) is not None


async def test_the_environment_names_a_redis_that_is_closed_with_the_client(
    environment: pytest.MonkeyPatch, sandbox: Sandbox, redis_server: RedisServer
) -> None:
    environment.setenv("MIOESIM_TOKEN_STORE", redis_server.url)
    async with Redis.from_url(redis_server.url) as redis:  # type: ignore[union-attr]
        for _ in range(2):
            async with MioEsimClient.from_env() as client:
                await client.cards.query(sandbox.iccids[0])
            async with asyncio.timeout(SECONDS):
                while (await redis.info("clients"))["connected_clients"] > 1:
                    await asyncio.sleep(0.01)
    assert sandbox.logins == 1


@pytest.mark.parametrize(
    "place",
    [
        "memcached://:hunter2@host",
        "http://user:hunter2@host",
        "redis://:hunter2@host:port/0",
        "redis://:hunter2@[::1/0",
    ],
)
def test_a_place_that_is_no_store_is_refused_without_repeating_it(
    environment: pytest.MonkeyPatch, place: str
) -> None:
    environment.setenv("MIOESIM_TOKEN_STORE", place)
    with pytest.raises(errors.ConfigurationError, match="MIOESIM_TOKEN_STORE") as caught:
        MioEsimClient.from_env()
    assert "hunter2" not in str(caught.value) + repr(caught.value.__context__)
    with pytest.raises(ValueError, match="URL") as refused:
        RedisTokenStore(place)
    assert "hunter2" not in repr(refused.value) + repr(refused.value.__context__)

"""Clients that lose sight of each other's tokens: who waits, who looks, and how a duel ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from attrs import evolve
from redis_server import RedisServer, running_redis
from stores import FlakyStore, key_of, spawned
from waiting import SECONDS, until

from mioesim_async import (
    Dialect,
    MemoryTokenStore,
    MioEsimClient,
    Safety,
    StoredToken,
    errors,
)
from mioesim_async.sandbox import Sandbox, SandboxClock
from mioesim_async.tokens.fallback import LONGEST_QUICK_LOAD, RETRY_SECONDS
from mioesim_async.tokens.keeper import (
    LONGEST_STORE_WAIT,
    RENEW_EARLY,
    STORE_RETRY_SECONDS,
    TOKEN_LIFETIME,
)
from mioesim_async.tokens.redis import RedisTokenStore

MINUTE = 60
TRIES = 200

READER = """
import asyncio, sys
from mioesim_async import MioEsimClient, RedisTokenStore, errors
from mioesim_async.sandbox import Sandbox

async def main(url, place):
    sandbox = Sandbox()
    store = RedisTokenStore(place)
    async with MioEsimClient(sandbox.credentials, base_url=url, token_store=store) as client:
        while True:
            try:
                await client.cards.query(sandbox.iccids[0])
                print("ok", flush=True)
            except errors.MioEsimError as error:
                print(type(error).__name__, flush=True)
            await asyncio.sleep(0.05)

asyncio.run(main(*sys.argv[1:]))
"""


def logins_seen(sandbox: Sandbox) -> int:
    return [request.endpoint for request in sandbox.requests].count("login")


def with_wrong_password(sandbox: Sandbox, store: MemoryTokenStore) -> MioEsimClient:
    return MioEsimClient(
        evolve(sandbox.credentials, password="made-up-wrong-one"),
        base_url=sandbox.url,
        token_store=store,
        clock=sandbox.clock,
        max_in_flight=100,
    )


async def outcome_of(client: MioEsimClient, sandbox: Sandbox) -> str:
    """Read a card, and name what came of it."""
    try:
        await client.cards.query(sandbox.iccids[0])
    except errors.MioEsimError as error:
        return type(error).__name__
    return "ok"


async def brought_to_contention(sandbox: Sandbox, client: MioEsimClient) -> None:
    """Kill tokens from outside the store until the client has enough of it."""
    for _ in range(TRIES):
        if await outcome_of(client, sandbox) == "TokenContention":
            return
        sandbox.evict()
    pytest.fail("no contention")


# A remembered refusal.


async def test_a_client_with_a_wrong_password_works_with_a_token_that_another_brought(
    sandbox: Sandbox,
) -> None:
    store = MemoryTokenStore()
    async with (
        with_wrong_password(sandbox, store) as client,
        sandbox.client(token_store=store) as other,
    ):
        with pytest.raises(errors.AuthenticationError):
            await client.login()
        await other.login()
        seen = logins_seen(sandbox)
        assert len(await client.cards.query(sandbox.iccids[0])) == 1
        sandbox.evict()
        for _ in range(3):
            with pytest.raises(errors.AuthenticationError):
                await client.cards.query(sandbox.iccids[0])
        assert logins_seen(sandbox) == seen, "the refusal is remembered all the same"


async def test_a_refused_login_is_not_tried_again_for_a_minute_though_each_call_looks(
    sandbox: Sandbox, clock: SandboxClock
) -> None:
    store = FlakyStore()
    async with with_wrong_password(sandbox, store) as client:
        with pytest.raises(errors.AuthenticationError):
            await client.login()
        for looks in range(1, 6):
            with pytest.raises(errors.AuthenticationError):
                await client.cards.query(sandbox.iccids[0])
            assert (store.loads, store.locks, logins_seen(sandbox)) == (1 + looks, 1, 1)
        store.down = True
        for _ in range(5):
            with pytest.raises(errors.AuthenticationError):
                await client.cards.query(sandbox.iccids[0])
        store.down = False
        with pytest.raises(errors.AuthenticationError):
            await client.cards.query(sandbox.iccids[0])
        assert logins_seen(sandbox) == 1, "nor does an outage of the store lift it"
        clock.advance(MINUTE)
        with pytest.raises(errors.AuthenticationError):
            await client.login()
        assert logins_seen(sandbox) == 2


async def test_a_login_refused_while_the_store_was_down_is_remembered_when_it_is_back(
    sandbox: Sandbox,
) -> None:
    store = FlakyStore()
    store.down = True
    async with with_wrong_password(sandbox, store) as client:
        assert await outcome_of(client, sandbox) == "AuthenticationError"
        store.down = False
        for _ in range(3):
            assert await outcome_of(client, sandbox) == "AuthenticationError"
    assert logins_seen(sandbox) == 1


async def test_many_calls_that_meet_a_remembered_refusal_look_once(sandbox: Sandbox) -> None:
    store = FlakyStore()
    async with with_wrong_password(sandbox, store) as client:
        assert await outcome_of(client, sandbox) == "AuthenticationError"
        loads = store.loads
        outcomes = await asyncio.gather(*[outcome_of(client, sandbox) for _ in range(100)])
        assert outcomes == ["AuthenticationError"] * 100
        assert store.loads == loads + 1


async def test_a_token_that_is_known_to_be_dead_is_no_news(sandbox: Sandbox) -> None:
    store = FlakyStore()
    async with sandbox.client(token_store=store) as client:
        await brought_to_contention(sandbox, client)
        stored = await store.load(key_of(sandbox))
        assert stored is not None
        seen = len(sandbox.requests)
        for _ in range(3):
            assert await outcome_of(client, sandbox) == "TokenContention"
        assert len(sandbox.requests) == seen, "neither the dead token nor a login was sent"


async def test_contention_ends_as_soon_as_the_store_has_a_token_that_is_news(
    sandbox: Sandbox,
) -> None:
    store = MemoryTokenStore()
    async with (
        sandbox.client(token_store=store) as client,
        sandbox.client(token_store=store) as other,
    ):
        await brought_to_contention(sandbox, client)
        await other.cards.query(sandbox.iccids[0])
        logins = sandbox.logins
        assert len(await client.cards.query(sandbox.iccids[0])) == 1
        assert sandbox.logins == logins


async def test_a_store_that_hangs_holds_up_a_remembered_refusal_for_a_moment_only(
    sandbox: Sandbox, clock: SandboxClock
) -> None:
    hangs = asyncio.Event()

    class Hanging(FlakyStore):
        async def load(self, key: str) -> StoredToken | None:
            if self.down:
                hangs.set()
                await asyncio.Event().wait()
            return await super().load(key)

    store = Hanging()
    async with with_wrong_password(sandbox, store) as client:
        assert await outcome_of(client, sandbox) == "AuthenticationError"
        store.down, clock._skip = True, False
        asking = asyncio.create_task(outcome_of(client, sandbox))
        await until(hangs.is_set)
        assert not asking.done()
        clock.advance(LONGEST_QUICK_LOAD)
        assert await asking == "AuthenticationError"


async def test_a_purchase_that_used_up_its_replay_leaves_others_the_token_that_lives(
    sandbox: Sandbox,
) -> None:
    async with sandbox.client() as client:
        keeper = client._caller._keeper
        old = await keeper.get()
        new = await keeper.get(rejected=old)
        contention = errors.TokenContention("/api_esim/addEsimOrder", -1)
        keeper.refuse(contention, old)
        assert await keeper.get() == new
        keeper.refuse(contention, new)
        with pytest.raises(errors.TokenContention):
            await keeper.get()


# A store that is down.


async def test_a_client_whose_store_is_down_waits_a_moment_and_looks_again_before_it_logs_in(
    sandbox: Sandbox, clock: SandboxClock
) -> None:
    store = FlakyStore()
    store.down = True
    async with sandbox.client(token_store=store) as client:
        await client.login()
    assert LONGEST_STORE_WAIT <= sum(clock.slept) <= LONGEST_STORE_WAIT + STORE_RETRY_SECONDS
    assert store.locks == 1 + len(clock.slept)
    assert sandbox.logins == 1


async def test_a_store_that_takes_its_time_to_fail_is_looked_at_again_all_the_same(
    sandbox: Sandbox, clock: SandboxClock
) -> None:
    class Slow(FlakyStore):
        def check(self) -> None:
            if self.down:
                clock.advance(LONGEST_STORE_WAIT)
            super().check()

    store = Slow()
    store.down = True
    async with sandbox.client(token_store=store) as client:
        await client.login()
    assert (store.locks, len(clock.slept)) == (2, 1)


async def test_a_client_without_a_store_of_its_own_doesn_t_wait(
    sandbox: Sandbox, clock: SandboxClock
) -> None:
    async with sandbox.client() as client:
        await client.login()
        sandbox.evict()
        assert len(await client.cards.query(sandbox.iccids[0])) == 1
    assert clock.slept == []


async def test_a_store_that_is_back_with_a_token_saves_the_login(
    sandbox: Sandbox, clock: SandboxClock
) -> None:
    clock._skip = False
    store = FlakyStore()
    async with sandbox.client() as other:
        await other.login()
        live = other._caller._keeper.token
    assert live is not None
    store.down = True
    async with sandbox.client(token_store=store) as client:
        asking = asyncio.create_task(client.cards.query(sandbox.iccids[0]))
        await until(lambda: bool(clock.slept))
        token = StoredToken(live, clock.time(), Dialect("plain"))
        await MemoryTokenStore.save(store, key_of(sandbox), token)
        store.down = False
        clock.advance(STORE_RETRY_SECONDS)
        assert len(await asking) == 1
        assert client.stats().logins == 0


async def test_a_token_that_came_while_a_call_waited_for_the_lock_saves_the_login(
    sandbox: Sandbox, clock: SandboxClock
) -> None:
    store, own = FlakyStore(), MemoryTokenStore()
    store.down = True
    async with (
        sandbox.client(token_store=store) as client,
        sandbox.client(token_store=own) as other,
    ):
        await client.login()
        clock.advance(TOKEN_LIFETIME - RENEW_EARLY)
        await other.login()
        newer = await own.load(key_of(sandbox))
        assert newer is not None
        store.down = False
        await store.save(key_of(sandbox), newer)
        keeper = client._caller._keeper
        async with store.lock(key_of(sandbox)):
            # It brings its token to the store, and at the same time it is to be renewed.
            asking = asyncio.create_task(outcome_of(client, sandbox))
            await until(lambda: keeper._saving is not None and keeper._login_task is not None)
        assert await asking == "ok"
        assert keeper.token == newer.token
    assert sandbox.logins == 2


async def test_calls_that_start_while_one_waits_for_the_store_wait_with_it(
    sandbox: Sandbox, clock: SandboxClock
) -> None:
    store = FlakyStore()
    async with sandbox.client(token_store=store) as client:
        await client.login()
        store.down, clock._skip = True, False
        sandbox.evict()
        first = asyncio.create_task(outcome_of(client, sandbox))
        await until(lambda: bool(clock.slept))
        seen, locks = len(sandbox.requests), store.locks
        others = [asyncio.create_task(outcome_of(client, sandbox)) for _ in range(20)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(sandbox.requests) == seen, "the dead token isn't sent again"
        assert store.locks == locks
        store.down = False
        clock.advance(STORE_RETRY_SECONDS)
        assert await asyncio.gather(first, *others) == ["ok"] * 21
        assert sandbox.logins == 2


async def test_a_deadline_holds_while_the_store_is_waited_for_and_the_login_goes_on(
    sandbox: Sandbox, clock: SandboxClock
) -> None:
    clock._skip = False
    store = FlakyStore()
    store.down = True
    async with sandbox.client(token_store=store) as client:
        calls = [
            client.cards.query(sandbox.iccids[0], deadline=1),
            client.call("/api_esim/addEsimOrder", safety=Safety.MONEY, deadline=1),
        ]
        asking = [asyncio.create_task(call) for call in calls]
        await until(lambda: bool(clock.slept))
        clock.advance(1)
        for call in asking:
            with pytest.raises(errors.DeadlineExceeded):
                await call
        assert sandbox.requests == []
        patient = asyncio.create_task(client.login())
        for _ in range(round(LONGEST_STORE_WAIT / STORE_RETRY_SECONDS) + 2):
            waits = len(clock.slept)
            await until(lambda waits=waits: patient.done() or len(clock._timers) > 0)  # type: ignore[misc]
            clock.advance(STORE_RETRY_SECONDS)
            await until(lambda waits=waits: patient.done() or len(clock.slept) > waits)  # type: ignore[misc]
        await patient
        assert sandbox.logins == 1


async def test_a_client_can_be_closed_while_it_waits_for_its_store(
    sandbox: Sandbox, clock: SandboxClock
) -> None:
    clock._skip = False
    store = FlakyStore()
    store.down = True
    client = sandbox.client(token_store=store)
    asking = asyncio.create_task(client.cards.query(sandbox.iccids[0]))
    await until(lambda: bool(clock.slept))
    async with asyncio.timeout(SECONDS):
        await client.aclose()
    with pytest.raises(errors.ClientClosed):
        await asking
    assert sandbox.requests == []


# Duels over a Redis that is down.


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
async def pair(
    sandbox: Sandbox, redis_server: RedisServer
) -> AsyncIterator[tuple[MioEsimClient, MioEsimClient]]:
    """Two clients with a store object each, as two processes have."""
    async with (
        sandbox.client(token_store=RedisTokenStore(redis_server.url)) as one,
        sandbox.client(token_store=RedisTokenStore(redis_server.url)) as two,
    ):
        await one.login()
        await two.login()
        yield one, two


async def fought(sandbox: Sandbox, pair: tuple[MioEsimClient, MioEsimClient]) -> MioEsimClient:
    """Let two clients kill each other's tokens; return the one that has had enough."""
    sandbox.evict()
    for _ in range(TRIES):
        for client in pair:
            if await outcome_of(client, sandbox) == "TokenContention":
                return client
    pytest.fail("no contention")


async def test_an_outage_as_long_as_the_moment_costs_no_duel(
    sandbox: Sandbox,
    clock: SandboxClock,
    redis_server: RedisServer,
    pair: tuple[MioEsimClient, MioEsimClient],
) -> None:
    clock._skip = False
    redis_server.stop()
    sandbox.evict()
    asking = [asyncio.create_task(outcome_of(client, sandbox)) for client in pair]
    await until(lambda: len(clock.slept) >= 2)
    redis_server.start()
    clock.advance(STORE_RETRY_SECONDS)
    assert await asyncio.gather(*asking) == ["ok", "ok"]
    assert sandbox.logins == 2


async def test_a_duel_ends_when_redis_is_back_and_not_a_minute_later(
    sandbox: Sandbox,
    clock: SandboxClock,
    redis_server: RedisServer,
    pair: tuple[MioEsimClient, MioEsimClient],
) -> None:
    redis_server.stop()
    loser = await fought(sandbox, pair)
    winner = pair[1] if loser is pair[0] else pair[0]
    for _ in range(3):
        assert await outcome_of(loser, sandbox) == "TokenContention"
    assert await outcome_of(winner, sandbox) == "ok"
    logins, since = sandbox.logins, clock.monotonic()
    redis_server.start()
    keeper = winner._caller._keeper
    for _ in range(3):
        await until(lambda: keeper._saving is None)
        clock.advance(RETRY_SECONDS)
        assert await outcome_of(winner, sandbox) == "ok"
    await until(lambda: keeper._saving is None)
    for _ in range(20):
        for client in pair:
            assert await outcome_of(client, sandbox) == "ok"
    assert clock.monotonic() - since < MINUTE / 2
    assert sandbox.logins == logins, "the loser takes the winner's token"


async def test_a_duel_whose_winner_went_away_ends_when_redis_is_back_too(
    sandbox: Sandbox,
    clock: SandboxClock,
    redis_server: RedisServer,
    pair: tuple[MioEsimClient, MioEsimClient],
) -> None:
    redis_server.stop()
    loser = await fought(sandbox, pair)
    logins, since = sandbox.logins, clock.monotonic()
    redis_server.start()
    for _ in range(20):
        for client in (loser, *pair):
            assert await outcome_of(client, sandbox) == "ok"
    assert clock.monotonic() - since < MINUTE / 2
    assert sandbox.logins == logins + 1


async def test_a_loser_doesn_t_bring_its_dead_token_to_the_store(
    sandbox: Sandbox,
    clock: SandboxClock,
    redis_server: RedisServer,
    pair: tuple[MioEsimClient, MioEsimClient],
) -> None:
    redis_server.stop()
    keeper = (await fought(sandbox, pair))._caller._keeper
    redis_server.start()
    clock.advance(RETRY_SECONDS)
    keeper._start_saving()
    await until(lambda: keeper._saving is None)
    store = RedisTokenStore(redis_server.url)
    assert await store.load(key_of(sandbox)) is None


async def test_contention_that_the_store_saw_is_not_lifted_by_it(
    sandbox: Sandbox,
    clock: SandboxClock,
    redis_server: RedisServer,
    pair: tuple[MioEsimClient, MioEsimClient],
) -> None:
    client = pair[0]
    await brought_to_contention(sandbox, client)
    logins = sandbox.logins
    redis_server.stop()
    assert await outcome_of(client, sandbox) == "TokenContention"
    redis_server.start()
    for _ in range(3):
        assert await outcome_of(client, sandbox) == "TokenContention"
    assert sandbox.logins == logins
    clock.advance(MINUTE)
    assert await outcome_of(client, sandbox) == "ok"


class Reader:
    """A process that reads card after card.

    Attributes:
        outcomes: What came of its reads.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.outcomes: list[str] = []
        self._process = process

    async def listen(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self.outcomes.append(line.decode().strip())

    async def until_it_reads_well(self, times: int) -> None:
        """Wait until so many reads in a row from now on went well."""
        start = len(self.outcomes)
        async with asyncio.timeout(SECONDS):
            while self.outcomes[start:][-times:] != ["ok"] * times:
                await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_two_processes_read_well_soon_after_redis_is_back(redis_server: RedisServer) -> None:
    async with (
        Sandbox() as sandbox,
        spawned(READER, sandbox.url, redis_server.url) as one,
        spawned(READER, sandbox.url, redis_server.url) as two,
        asyncio.TaskGroup() as group,
    ):
        readers = [Reader(one), Reader(two)]
        for reader in readers:
            group.create_task(reader.listen())
        for reader in readers:
            await reader.until_it_reads_well(10)
        redis_server.stop()
        sandbox.evict()
        # Three deaths of a token are enough for one of them.
        await until(lambda: any("TokenContention" in reader.outcomes for reader in readers))
        redis_server.start()
        before = [len(reader.outcomes) for reader in readers]
        for reader in readers:
            await reader.until_it_reads_well(20)
        after = [reader.outcomes[start:] for reader, start in zip(readers, before, strict=True)]
        for process in (one, two):
            process.kill()
    # A minute of refusals would be more than a thousand.
    assert all(outcomes.count("TokenContention") < 100 for outcomes in after)

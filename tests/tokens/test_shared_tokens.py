"""Clients, processes and hosts on one account: one token, no lost race, no login storm."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import orjson
import pytest
from attrs import evolve
from redis_server import RedisServer, running_redis
from stores import at, key_of, spawned
from waiting import SECONDS, line_of, until

from mioesim_async import Dialect, MemoryTokenStore, StoredToken, errors
from mioesim_async.sandbox import Fault, Sandbox, SandboxClock
from mioesim_async.tokens.keeper import RENEW_EARLY, TOKEN_LIFETIME
from mioesim_async.tokens.redis import RedisTokenStore

RENEWAL = TOKEN_LIFETIME - RENEW_EARLY + 1
COROUTINES = 20
BATCH = 25

WORKER = """
import asyncio, sys, threading
import orjson
from stores import at, key_of
from mioesim_async import MioEsimClient, RetryPolicy
from mioesim_async.sandbox import Sandbox
from mioesim_async.clock import SystemClock

url, place, cards, number, processes, coroutines, batch = sys.argv[1:3] + [
    int(text) for text in sys.argv[3:]
]

class Clock(SystemClock):
    ahead = 0.0

    def monotonic(self):
        return super().monotonic() + self.ahead

    def time(self):
        return super().time() + self.ahead

clock = Clock()

def tell(line):
    # A print would write the end of the line apart, and another thread's line between.
    sys.stdout.write(line + "\\n")
    sys.stdout.flush()

def listen():
    for line in sys.stdin:
        clock.ahead += float(line)
        tell("moved")

async def main():
    sandbox = Sandbox(cards)
    store = at(place, 15.0)
    own = sandbox.iccids[number::processes]
    found, bad = 0, []
    async with MioEsimClient(
        sandbox.credentials, base_url=url, token_store=store, clock=clock
    ) as client:
        async def work(part):
            nonlocal found
            report = await client.cards.query_all(part, concurrency=1, batch_size=batch)
            found += len(report.cards)
            bad.extend([*report.missing, *(repr(error) for error in report.failed.values())])
        await asyncio.gather(*[work(own[start::coroutines]) for start in range(coroutines)])
        tell(orjson.dumps([found, bad[:3], client.stats().logins]).decode())
    if hasattr(store, "aclose"):
        await store.aclose()

threading.Thread(target=listen, daemon=True).start()
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture(params=["file", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return str(tmp_path / "tokens.json")
    server: RedisServer = request.getfixturevalue("redis_server")
    server.stop()
    server.start()
    return server.url


async def logs_in_elsewhere(sandbox: Sandbox) -> str:
    """Let somebody who doesn't know the store log in, which kills the live token."""
    async with sandbox.client() as other:
        await other.login()
        token = other._caller._keeper.token
    assert token is not None
    return token


# One token.


async def test_a_process_that_never_logs_in_knows_how_to_sign(place: str) -> None:
    store = at(place)
    async with Sandbox(100, signature="encoded") as sandbox:
        async with sandbox.client(token_store=store) as client:
            await client.login()
        arguments = [sandbox.url, place, "100", "0", "1", "1", "100"]
        async with spawned(WORKER, *arguments) as process:
            assert orjson.loads(await line_of(process)) == [100, [], 0]
            async with asyncio.timeout(SECONDS):
                assert await process.wait() == 0
        assert sandbox.logins == 1
    if isinstance(store, RedisTokenStore):
        await store.aclose()


@pytest.mark.parametrize("seconds", [-1e9, -7200, 0, 1e9])
async def test_a_token_not_seen_rejected_is_taken_whatever_the_clocks_say(
    sandbox: Sandbox, clock: SandboxClock, seconds: float
) -> None:
    store = MemoryTokenStore()
    token = StoredToken(await logs_in_elsewhere(sandbox), clock.time() + seconds, Dialect("plain"))
    await store.save(key_of(sandbox), token)
    async with sandbox.client(token_store=store) as client:
        assert len(await client.cards.query(sandbox.iccids[:100])) == 100
        assert client.stats().logins == 0


async def test_a_stored_token_that_is_dead_costs_one_login(
    sandbox: Sandbox, clock: SandboxClock
) -> None:
    store = MemoryTokenStore()
    await store.save(key_of(sandbox), StoredToken("made-up", clock.time(), Dialect("plain")))
    async with sandbox.client(token_store=store) as client:
        await asyncio.gather(*[client.cards.query(iccid) for iccid in sandbox.iccids[:100]])
    assert sandbox.logins == 1


async def test_a_token_that_one_renewed_early_is_adopted_by_the_others(
    sandbox: Sandbox, clock: SandboxClock
) -> None:
    store = MemoryTokenStore()
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(sandbox.client(token_store=store)) for _ in range(5)
        ]
        for _ in range(2):
            await asyncio.gather(*[client.cards.query(sandbox.iccids[0]) for client in clients])
            clock.advance(RENEWAL)
        assert sandbox.logins == 2
        assert [client.stats().replays for client in clients] == [0] * 5


async def test_an_explicit_dialect_wins_over_the_stored_one(clock: SandboxClock) -> None:
    store = MemoryTokenStore()
    async with Sandbox(10, signature="encoded", clock=clock) as sandbox:
        token = await logs_in_elsewhere(sandbox)
        stored = StoredToken(token, clock.time(), Dialect("plain", "json", "POST"))
        await store.save(key_of(sandbox), stored)
        async with sandbox.client(
            token_store=store, dialect=Dialect("encoded", read_method="GET")
        ) as client:
            assert len(await client.cards.query(sandbox.iccids)) == 10
            assert client.dialect == Dialect("encoded", "json", "GET")
        assert sandbox.logins == 1


# Contention.


async def test_three_tokens_killed_from_outside_within_a_minute_stop_the_logins_for_one(
    sandbox: Sandbox, clock: SandboxClock
) -> None:
    async with sandbox.client(token_store=MemoryTokenStore()) as client:
        await client.login()
        for _ in range(2):
            await logs_in_elsewhere(sandbox)
            assert len(await client.cards.query(sandbox.iccids[0])) == 1
        await logs_in_elsewhere(sandbox)
        with pytest.raises(errors.TokenContention) as caught:
            await client.cards.query(sandbox.iccids[0])
        assert "somebody else keeps logging in" in str(caught.value)
        assert "one token store" in str(caught.value)
        for _ in range(5):
            clock.advance(10)
            with pytest.raises(errors.TokenContention):
                await client.cards.query(sandbox.iccids[0])
        assert client.stats().logins == 3
        clock.advance(11)
        assert len(await client.cards.query(sandbox.iccids[0])) == 1
        assert client.stats().logins == 4


async def test_three_deaths_that_take_longer_than_a_minute_are_no_contention(
    sandbox: Sandbox, clock: SandboxClock
) -> None:
    async with sandbox.client(token_store=MemoryTokenStore()) as client:
        for _ in range(10):
            await client.cards.query(sandbox.iccids[0])
            clock.advance(31)
            await logs_in_elsewhere(sandbox)


async def test_tokens_that_die_at_their_natural_end_do_not_count(
    sandbox: Sandbox, clock: SandboxClock
) -> None:
    async with sandbox.client(token_store=MemoryTokenStore()) as client:
        keeper = client._caller._keeper
        token = await keeper.get()
        for _ in range(5):
            # Obtained just before its end, rejected just after it.
            keeper._use(evolve(token, obtained_at=clock.time() - TOKEN_LIFETIME + 1))
            token = await keeper.get(rejected=token)
    assert sandbox.logins == 6


async def test_tokens_killed_by_peers_through_the_store_do_not_count(sandbox: Sandbox) -> None:
    store = MemoryTokenStore()
    async with (
        sandbox.client(token_store=store) as one,
        sandbox.client(token_store=store) as peer,
    ):
        await one.login()
        await peer.login()
        for _ in range(6):
            peer._caller._keeper._renew_at = 0.0
            await peer.login()
            assert len(await one.cards.query(sandbox.iccids[0])) == 1
        assert (one.stats().logins, one.stats().replays) == (1, 6)


async def test_a_login_that_fails_again_and_again_is_no_second_death(sandbox: Sandbox) -> None:
    async with sandbox.client(token_store=MemoryTokenStore()) as client:
        await client.login()
        sandbox.evict()
        sandbox.faults.add(Fault.refuse(77), "login", times=5)
        for _ in range(5):
            with pytest.raises(errors.ApiError) as caught:
                await client.cards.query(sandbox.iccids[0])
            assert caught.value.code == 77
        assert len(await client.cards.query(sandbox.iccids[0])) == 1


async def test_two_stores_on_one_account_end_in_no_login_storm(sandbox: Sandbox) -> None:
    async with (
        sandbox.client(token_store=MemoryTokenStore()) as one,
        sandbox.client(token_store=MemoryTokenStore()) as two,
    ):
        for iccid in sandbox.iccids[:50]:
            for client in (one, two):
                with suppress(errors.TokenContention):
                    await client.cards.query(iccid)
        assert sandbox.logins <= 6


# Processes.


async def test_a_process_killed_in_the_middle_of_a_login_does_not_stop_the_others(
    place: str,
) -> None:
    store = at(place)
    async with Sandbox(100) as sandbox:
        sandbox.faults.add(Fault.slow(3600), "login")
        arguments = [sandbox.url, place, "100", "0", "1", "1", "100"]
        async with spawned(WORKER.replace("15.0", "1.0"), *arguments) as process:
            await until(lambda: len(sandbox.requests) == 1)
            async with (
                sandbox.client(token_store=store) as one,
                sandbox.client(token_store=store) as two,
            ):
                asking = [
                    asyncio.create_task(client.cards.query(sandbox.iccids)) for client in (one, two)
                ]
                for _ in range(20):
                    await asyncio.sleep(0.01)
                assert len(sandbox.requests) == 1, "who waits for the lock doesn't log in"
                process.kill()
                async with asyncio.timeout(SECONDS):
                    await process.wait()
                assert [len(cards) for cards in await asyncio.gather(*asking)] == [100, 100]
        assert sandbox.logins == 1
    if isinstance(store, RedisTokenStore):
        await store.aclose()


@pytest.mark.parametrize(
    ("processes", "cards"), [(3, 6_000), pytest.param(8, 60_000, marks=pytest.mark.slow)]
)
async def test_processes_lose_no_card_and_log_in_once_for_each_death(
    place: str, processes: int, cards: int
) -> None:
    with Sandbox(cards) as sandbox:
        async with AsyncExitStack() as stack:
            numbers = [str(cards), "{}", str(processes), str(COROUTINES), str(BATCH)]
            workers = [
                await stack.enter_async_context(
                    spawned(WORKER, sandbox.url, place, *[n.format(number) for n in numbers])
                )
                for number in range(processes)
            ]

            async def a_minute_passes() -> None:
                """Kills that are more than a minute apart are no contention."""
                for worker in workers:
                    assert worker.stdin is not None
                    worker.stdin.write(b"61\n")

            for share, kill in enumerate(
                (sandbox.evict, lambda: sandbox.clock.advance(7300), sandbox.evict), start=1
            ):
                seen = cards // BATCH * share // 4
                await until(lambda seen=seen: len(sandbox.requests) >= seen)  # type: ignore[misc]
                await a_minute_passes()
                kill()
            reports = [await last_line(worker) for worker in workers]
        assert [report[1] for report in reports] == [[]] * processes
        assert sum(report[0] for report in reports) == cards
        assert sandbox.logins <= 1 + 3
        assert sandbox.logins == sum(report[2] for report in reports)


async def last_line(worker: asyncio.subprocess.Process) -> list[object]:
    line = "moved"
    while line == "moved":
        line = await line_of(worker)
    report: list[object] = orjson.loads(line)
    return report

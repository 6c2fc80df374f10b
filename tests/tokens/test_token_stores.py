"""Tokens in a file and in Redis: what is kept, who may hold the lock, and what a crash leaves."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import orjson
import pytest
from attrs import evolve
from redis.asyncio import Redis
from redis_server import PASSWORD, RedisServer, running_redis
from stores import KEY, LEASE, TOKEN, at, held_elsewhere, key_of, spawned
from waiting import SECONDS, until

from mioesim_async import Dialect, FileTokenStore, StoredToken
from mioesim_async.sandbox import Sandbox, SandboxClock
from mioesim_async.tokens.redis import RedisTokenStore
from mioesim_async.wire.account import account_key

Store = FileTokenStore | RedisTokenStore

FOREIGN = [
    b"\x00\xff garbage",
    b"",
    b"[1, 2]",
    b"null",
    b'"made-up-token"',
    orjson.dumps({"token": "made-up-token"}),
    orjson.dumps({"token": ["made-up-token"], "obtained_at": 1.0, "dialect": {}}),
    orjson.dumps({"token": "made-up-token", "obtained_at": "noon", "dialect": {}}),
    orjson.dumps({"token": "made-up-token", "obtained_at": 1.0, "dialect": {}})[:-5],
]
"""What no store of ours writes. In a file it shows that the file is somebody else's."""

ODD = [
    orjson.dumps({"token": "", "obtained_at": 1.0, "dialect": {}}),
    orjson.dumps({"token": "made-up-token", "obtained_at": 1.0, "dialect": {"signature": "x"}}),
]
"""What looks like a record of ours, and can't be used."""

UNREADABLE = [
    *[("file", content) for content in ODD],
    *[("redis", content) for content in FOREIGN + ODD],
]


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture(params=["file", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return str(tmp_path / "state" / "tokens.json")
    server: RedisServer = request.getfixturevalue("redis_server")
    server.stop()
    server.start()
    return server.url


@pytest.fixture
async def store(place: str) -> AsyncIterator[Store]:
    async with opened(at(place)) as running:
        yield running


class opened:  # noqa: N801 - reads like a function
    """Close a store after use, where it has something to close."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def __aenter__(self) -> Store:
        return self._store

    async def __aexit__(self, *_: object) -> None:
        if isinstance(self._store, RedisTokenStore):
            await self._store.aclose()


async def put(place: str, key: str, content: bytes) -> None:
    """Write what no store of ours would: into Redis, or as the record in the file."""
    if "://" in place:
        async with Redis.from_url(place) as redis:
            await redis.set(f"mioesim_async:token:{key}", content)
        return
    await asyncio.to_thread(put_record, Path(place), key, content)


def put_record(path: Path, key: str, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b'{"%s":%s}' % (key.encode(), content))


# What is kept.


async def test_a_token_comes_back_with_its_time_and_dialect(store: Store, place: str) -> None:
    await store.save(KEY, TOKEN)
    async with opened(at(place)) as other:
        assert await other.load(KEY) == TOKEN
    renewed = evolve(TOKEN, token="another", dialect=Dialect("plain", "form"))
    await store.save(KEY, renewed)
    assert await store.load(KEY) == renewed


async def test_nothing_stored_is_none(store: Store) -> None:
    assert await store.load(KEY) is None
    await store.save(KEY, TOKEN)
    assert await store.load(account_key("another", "host.example")) is None


async def test_fields_of_a_later_version_are_passed_over(store: Store, place: str) -> None:
    record = {
        "token": "made-up-token",
        "obtained_at": 5,
        "dialect": {"signature": "encoded", "compression": "br"},
        "scopes": ["read"],
    }
    await put(place, KEY, orjson.dumps(record))
    assert await store.load(KEY) == StoredToken("made-up-token", 5.0, Dialect("encoded"))


@pytest.mark.parametrize(("place", "content"), UNREADABLE, indirect=["place"])
async def test_what_can_t_be_read_is_told_without_repeating_it(
    store: Store, place: str, content: bytes
) -> None:
    await put(place, KEY, content)
    with pytest.raises(ValueError, match="store") as caught:
        await store.load(KEY)
    said = repr(caught.value) + repr(caught.value.__cause__) + repr(caught.value.__context__)
    assert "made-up-token" not in said
    await store.save(KEY, TOKEN)
    assert await store.load(KEY) == TOKEN


@pytest.mark.parametrize(("place", "content"), UNREADABLE, indirect=["place"])
async def test_a_client_logs_in_by_itself_when_the_store_is_corrupt_and_mends_it(
    sandbox: Sandbox,
    clock: SandboxClock,
    store: Store,
    place: str,
    content: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    key = key_of(sandbox)
    await put(place, key, content)
    async with sandbox.client(token_store=store) as client:
        for iccid in sandbox.iccids[:5]:
            assert len(await client.cards.query(iccid)) == 1
        stored = await store.load(key)
        assert stored is not None
        assert stored.token == client._caller._keeper.token
    assert sandbox.logins == 1
    assert clock.slept == [], "waiting for it would be in vain"
    warned = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == 1
    assert "made-up-token" not in caplog.text
    assert stored.token not in caplog.text
    assert PASSWORD not in caplog.text


# The file.


@pytest.mark.skipif(sys.platform == "win32", reason="no modes there")
async def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = FileTokenStore(tmp_path / "state" / "tokens.json")
        async with store.lock(KEY):
            await store.save(KEY, TOKEN)
    finally:
        os.umask(before)
    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700
    for path in store.path.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
    names = {path.name for path in store.path.parent.iterdir()}
    assert not {name for name in names if not name.endswith((".json", ".lock"))}


async def test_a_directory_that_is_there_takes_a_file(tmp_path: Path) -> None:
    store = FileTokenStore(tmp_path)
    await store.save(KEY, TOKEN)
    assert store.path == tmp_path / "tokens.json"
    assert await FileTokenStore(tmp_path).load(KEY) == TOKEN


async def test_nobody_reads_half_a_file(tmp_path: Path) -> None:
    store = FileTokenStore(tmp_path / "tokens.json")
    tokens = [evolve(TOKEN, token=letter * 5_000) for letter in "abcdefghij"]
    await store.save(KEY, tokens[0])

    async def write() -> None:
        for token in tokens * 5:
            await store.save(KEY, token)

    writing = asyncio.create_task(write())
    seen = set()
    async with asyncio.timeout(SECONDS):
        while not writing.done():
            loaded = await store.load(KEY)
            assert loaded in tokens
            seen.add(loaded)
    await writing
    assert len(seen) > 1


async def test_accounts_in_one_file_keep_each_other_s_tokens(tmp_path: Path) -> None:
    stores = [FileTokenStore(tmp_path / "tokens.json") for _ in range(2)]
    keys = [account_key(str(number), "host.example") for number in range(10)]
    await asyncio.gather(
        *[stores[number % 2].save(key, evolve(TOKEN, token=key)) for number, key in enumerate(keys)]
    )
    for key in keys:
        loaded = await stores[0].load(key)
        assert loaded is not None
        assert loaded.token == key


async def test_a_save_that_is_cancelled_has_ended_when_its_caller_goes_on(tmp_path: Path) -> None:
    store = FileTokenStore(tmp_path / "tokens.json")
    for number in range(20):
        saving = asyncio.create_task(store.save(KEY, evolve(TOKEN, token=f"late-{number}")))
        for _ in range(number % 4):
            await asyncio.sleep(0)
        saving.cancel()
        await asyncio.wait([saving])
        await store.save(KEY, TOKEN)
        assert await store.load(KEY) == TOKEN
    assert {path.suffix for path in FileTokenStore(tmp_path).path.parent.glob("*")} <= {
        ".json",
        ".lock",
    }


# The lock.


async def test_one_holder_at_a_time(store: Store, place: str) -> None:
    inside, most = 0, 0

    async def hold(held: Store) -> None:
        nonlocal inside, most
        async with held.lock(KEY):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.001)
            inside -= 1

    async with opened(at(place)) as other:
        await asyncio.gather(*[hold(held) for held in (store, other) * 5])
    assert most == 1


async def test_waiting_for_another_process_does_not_block_the_loop(
    store: Store, place: str
) -> None:
    async with held_elsewhere(place) as process:
        entered = asyncio.Event()

        async def enter() -> None:
            async with store.lock(KEY):
                entered.set()

        entering = asyncio.create_task(enter())
        for _ in range(30):
            await asyncio.sleep(0.01)
            assert not entered.is_set()
        async with store.lock(account_key("another", "host.example")):
            assert not entered.is_set(), "another account has a lock of its own"
        assert process.stdin is not None
        process.stdin.close()
        await entering


async def test_a_cancelled_waiter_holds_nothing(store: Store, place: str) -> None:
    async def enter() -> None:
        async with store.lock(KEY):
            pytest.fail("somebody else holds it")

    async with opened(at(place)) as other, other.lock(KEY):
        for turns in range(40):
            waiter = asyncio.create_task(enter())
            for _ in range(turns):
                await asyncio.sleep(0)
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
    async with store.lock(KEY):
        pass


async def test_a_holder_cancelled_at_any_step_frees_the_lock(place: str) -> None:
    store = at(place, lease=600)

    async def enter() -> None:
        async with store.lock(KEY):
            await asyncio.Event().wait()

    async with opened(store), opened(at(place)) as other:
        for turns in range(60):
            holder = asyncio.create_task(enter())
            for _ in range(turns):
                await asyncio.sleep(0)
            holder.cancel()
            with pytest.raises(asyncio.CancelledError):
                await holder
            # A lock that was left behind would not be had before its lease ends.
            async with asyncio.timeout(SECONDS), other.lock(KEY):
                pass


async def test_a_killed_holder_frees_the_lock(store: Store, place: str) -> None:
    async with held_elsewhere(place) as process:
        process.kill()
        async with asyncio.timeout(SECONDS):
            await process.wait()
            async with store.lock(KEY):
                pass


async def test_the_lease_is_extended_while_the_lock_is_held(redis_server: RedisServer) -> None:
    redis_server.stop()
    redis_server.start()
    async with opened(RedisTokenStore(redis_server.url, lease=0.3)) as store:
        async with Redis.from_url(redis_server.url) as redis, store.lock(KEY):  # type: ignore[union-attr]
            name = f"mioesim_async:lock:{KEY}"
            left, extended = await redis.pttl(name), 0
            async with asyncio.timeout(SECONDS):
                while extended < 4:
                    before, left = left, await redis.pttl(name)
                    assert left > 0
                    extended += left > before
                    await asyncio.sleep(0.01)
        async with store.lock(KEY):
            pass


async def test_a_cancellation_that_redis_py_loses_still_ends_what_was_cancelled(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis_server.stop()
    redis_server.start()
    asked: list[str] = []

    async def deaf(self: Redis, *args: str, **options: object) -> object:
        asked.append(args[0])
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0.1)
        return await ask(self, *args, **options)

    ask = Redis.execute_command
    store = RedisTokenStore(redis_server.url, lease=LEASE)
    async with asyncio.timeout(SECONDS):
        async with store.lock(KEY):
            monkeypatch.setattr(Redis, "execute_command", deaf)
            await until(lambda: bool(asked))
            # Here the lease is being extended.
        for work in (store.load(KEY), store.save(KEY, TOKEN)):
            asked.clear()
            working = asyncio.create_task(work)
            await until(lambda: bool(asked))
            working.cancel()
            with pytest.raises(asyncio.CancelledError):
                await working


async def test_many_processes_writing_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    code = """
import asyncio, sys
from attrs import evolve
from stores import TOKEN, at

async def main():
    store = at(sys.argv[1])
    for number in range(20):
        await store.save(f"{sys.argv[2]}-{number}", TOKEN)

asyncio.run(main())
"""
    async with spawned(code, str(path), "a") as one, spawned(code, str(path), "b") as two:
        async with asyncio.timeout(SECONDS):
            assert [await one.wait(), await two.wait()] == [0, 0]
    assert len(orjson.loads(path.read_bytes())) == 40


WITHOUT_REDIS = """
import os, sys
sys.modules["redis"] = None
import mioesim_async
from mioesim_async import *
assert "MioEsimClient" in globals() and "RedisTokenStore" not in globals()
try:
    mioesim_async.RedisTokenStore
except ModuleNotFoundError as error:
    print(error)
os.environ |= {"MIOESIM_TOKEN_STORE": "redis://h", "MIOESIM_PHONE_NUMBER": "1",
    "MIOESIM_PASSWORD": "made-up", "MIOESIM_SECRET_KEY": "made-up"}
try:
    MioEsimClient.from_env()
except mioesim_async.errors.ConfigurationError as error:
    print(error)
"""


def test_without_the_redis_extra_everything_else_works_and_the_message_names_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_REDIS],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        done.stdout.count("needs redis; install it with: pip install 'mioesim_async[redis]'") == 2
    )

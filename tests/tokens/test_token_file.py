"""The token file: what isn't one is refused and left alone, and no lock is waited for in vain."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import socket
import stat
import traceback
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from stores import KEY, TOKEN, held_elsewhere, key_of
from waiting import SECONDS, until

from mioesim_async import FileTokenStore, MioEsimClient, errors
from mioesim_async.sandbox import Sandbox, SandboxClock
from mioesim_async.tokens import file as file_module
from mioesim_async.tokens.fallback import RETRY_SECONDS
from mioesim_async.tokens.keeper import RENEW_EARLY, TOKEN_LIFETIME
from mioesim_async.tokens.store import StoreUnavailable, encode

RECORD = encode(TOKEN)
RENEWAL = TOKEN_LIFETIME - RENEW_EARLY + 1

FOREIGN = {
    "notes.txt": b"my only copy\n",
    "config.yaml": b"a: 1\n",
    "list.json": b"[1, 2]",
    "settings.json": b'{"theme": "dark"}',
    "number.json": b"1",
    "null.json": b"null",
    "blank.txt": b"\n",
    "binary": b"\x00\xff\xfe",
    "half_ours.json": orjson.dumps({KEY: RECORD, "other": {"token": "made-up-token"}}),
    "damaged.json": orjson.dumps({KEY: RECORD})[:-1],
    "deep.json": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "too_large.json": orjson.dumps({KEY: RECORD}) + b" " * file_module.MAX_BYTES,
}


def touched(path: Path) -> tuple[int, int, int, bytes]:
    """Return all that a store could have changed of a file."""
    found = path.stat()
    return found.st_ino, found.st_mode, found.st_mtime_ns, path.read_bytes()


def times_below(folder: Path) -> dict[Path, int]:
    """Return when each file in a folder, however deep, was last changed."""
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture
def foreign(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file of somebody else's, that everybody may read."""
    path = tmp_path / request.param
    path.write_bytes(FOREIGN[request.param])
    path.chmod(0o644)
    return path


async def check_refusal(
    sandbox: Sandbox, path: Path, *words: str, store: FileTokenStore | None = None
) -> None:
    """Call twice, and see that nothing was sent and nothing was made."""
    beside = set(path.parent.iterdir())
    async with sandbox.client(token_store=store or FileTokenStore(path)) as client:
        for _ in range(2):
            with pytest.raises(errors.ConfigurationError) as caught:
                await client.cards.query(sandbox.iccids[0])
            for word in (str(path), "left as it was", "path of a file that is new", *words):
                assert word in str(caught.value)
    assert sandbox.requests == []
    assert set(path.parent.iterdir()) == beside


# What is not ours.


@pytest.mark.parametrize("foreign", FOREIGN, indirect=True)
async def test_a_file_that_isn_t_ours_is_refused_before_any_login_and_left_as_it_was(
    sandbox: Sandbox, foreign: Path
) -> None:
    before = touched(foreign)
    await check_refusal(sandbox, foreign)
    assert touched(foreign) == before


@pytest.mark.parametrize("foreign", ["half_ours.json", "damaged.json"], indirect=True)
async def test_neither_a_refusal_nor_its_frames_repeat_what_is_in_the_file(foreign: Path) -> None:
    store = FileTokenStore(foreign)
    for work in (store.load(KEY), store.save(KEY, TOKEN), store.lock(KEY).__aenter__()):
        with pytest.raises(errors.ConfigurationError) as caught:
            await work
        error = caught.value
        said = [repr(part) for part in (error, error.__context__, error.__cause__)]
        for frame, _ in traceback.walk_tb(error.__traceback__):
            said += [repr(value) for name, value in frame.f_locals.items() if name != "said"]
        assert "made-up-token" not in "".join(said)


@pytest.mark.parametrize("foreign", ["notes.txt"], indirect=True)
async def test_a_sweep_a_purchase_and_a_login_are_told_of_a_file_that_isn_t_ours(
    sandbox: Sandbox, foreign: Path
) -> None:
    async with sandbox.client(token_store=FileTokenStore(foreign)) as client:
        for work in (
            client.login(),
            client.cards.query_all(sandbox.iccids),
            client.orders.place(sku_id=45, price_id=441, count=1),
        ):
            with pytest.raises(errors.ConfigurationError, match=r"notes\.txt") as caught:
                await work
        assert caught.value.was_placed is False
    assert sandbox.requests == []


@pytest.mark.parametrize("foreign", ["notes.txt"], indirect=True)
async def test_the_place_that_the_environment_names_is_looked_at_too(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, foreign: Path
) -> None:
    monkeypatch.setenv("MIOESIM_TOKEN_STORE", str(foreign))
    options = {"credentials": sandbox.credentials, "base_url": sandbox.url}
    async with MioEsimClient.from_env(**options) as client:
        with pytest.raises(errors.ConfigurationError, match=r"notes\.txt"):
            await client.login()


@pytest.mark.parametrize("foreign", ["notes.txt"], indirect=True)
async def test_a_client_works_as_soon_as_the_file_is_moved_away(
    sandbox: Sandbox, foreign: Path
) -> None:
    async with sandbox.client(token_store=FileTokenStore(foreign)) as client:
        with pytest.raises(errors.ConfigurationError):
            await client.login()
        moved = await asyncio.to_thread(foreign.rename, foreign.with_name("moved.txt"))
        assert len(await client.cards.query(sandbox.iccids[0])) == 1
    assert moved.read_bytes() == FOREIGN["notes.txt"]


async def test_a_file_that_stops_being_ours_is_not_written_and_told_at_the_next_login(
    sandbox: Sandbox, clock: SandboxClock, tmp_path: Path
) -> None:
    path = tmp_path / "tokens.json"
    async with sandbox.client(token_store=FileTokenStore(path)) as client:
        await client.login()
        path.write_bytes(FOREIGN["config.yaml"])
        before = touched(path)
        assert len(await client.cards.query(sandbox.iccids[0])) == 1
        clock.advance(RENEWAL)
        with pytest.raises(errors.ConfigurationError, match=r"tokens\.json"):
            await client.cards.query(sandbox.iccids[0])
    assert touched(path) == before
    assert sandbox.logins == 1


async def test_a_token_that_can_t_be_brought_to_a_file_that_isn_t_ours_is_told_once(
    sandbox: Sandbox, clock: SandboxClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a_file" / "tokens.json"
    path.parent.write_bytes(b"no directory")
    async with sandbox.client(token_store=FileTokenStore(path)) as client:
        await client.login()
        path.parent.unlink()
        path.parent.mkdir()
        path.write_bytes(FOREIGN["list.json"])
        for _ in range(5):
            clock.advance(RETRY_SECONDS + 1)
            assert len(await client.cards.query(sandbox.iccids[0])) == 1
            await until(lambda: client._caller._keeper._saving is None)
    told = [r.getMessage() for r in caplog.records if "can't be saved" in r.getMessage()]
    assert len(told) == 1
    assert str(path) in told[0]
    assert path.read_bytes() == FOREIGN["list.json"]


async def test_an_empty_file_becomes_ours(sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    path.touch(0o644)
    async with sandbox.client(token_store=FileTokenStore(path)) as client:
        await client.login()
    assert list(orjson.loads(path.read_bytes())) == [client._caller.account]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"{}", orjson.dumps({KEY: RECORD | {"scopes": ["read"]}})])
async def test_a_file_of_ours_is_taken_as_it_is(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    path.write_bytes(content)
    store = FileTokenStore(path)
    await store.save("another", TOKEN)
    assert await store.load("another") == TOKEN
    assert await store.load(KEY) == (TOKEN if KEY.encode() in content else None)


@pytest.mark.parametrize("key", ["a@b/../../c d", "0@ß€" * 100, "0" * 64 + "@one", "", "."])
async def test_an_account_may_have_any_name(key: str, tmp_path: Path) -> None:
    store = FileTokenStore(tmp_path / "state" / "tokens.json")
    async with store.lock(key), store.lock(f"{key}2"):
        await store.save(key, TOKEN)
    assert await store.load(key) == TOKEN
    assert {path.parent for path in times_below(tmp_path)} == {tmp_path, store.path.parent}


# What is no regular file.


def fifo(path: Path) -> None:
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.mkdir()


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def link(path: Path) -> None:
    (path.parent / "elsewhere").mkdir()
    (path.parent / "elsewhere" / "notes.txt").write_bytes(b"my only copy\n")
    path.symlink_to("elsewhere/notes.txt")


def link_to_ours(path: Path) -> None:
    (path.parent / "real.json").write_bytes(orjson.dumps({KEY: RECORD}))
    path.symlink_to(path.parent / "real.json")


def link_to_nothing(path: Path) -> None:
    path.symlink_to(path.parent / "nothing")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (fifo, "is a named pipe"),
        (directory, "is a directory"),
        (listening, "is a socket"),
        (link, "is a symbolic link to elsewhere/notes.txt"),
        (link_to_ours, "real.json"),
        (link_to_nothing, "nothing"),
    ],
)
async def test_what_is_no_regular_file_is_refused_without_being_opened(
    sandbox: Sandbox, tmp_path: Path, make: Callable[[Path], None], words: str
) -> None:
    path = tmp_path / "place"
    store = FileTokenStore(path)
    make(path)
    before = times_below(tmp_path)
    # A bound for the whole: opening a pipe would wait for ever, and so would closing then.
    async with asyncio.timeout(SECONDS):
        await check_refusal(sandbox, path, words, store=store)
    assert times_below(tmp_path) == before


async def test_a_device_is_refused(sandbox: Sandbox) -> None:
    async with sandbox.client(token_store=FileTokenStore(os.devnull)) as client:
        with pytest.raises(errors.ConfigurationError, match=f"{os.devnull} is a device"):
            await client.login()


async def test_a_pipe_that_takes_the_file_s_place_meanwhile_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, ours = tmp_path / "tokens.json", tmp_path / "ours.json"
    os.mkfifo(path)
    ours.write_bytes(b"{}")
    monkeypatch.setattr(Path, "lstat", lambda _: ours.stat())
    async with asyncio.timeout(SECONDS):
        with pytest.raises(errors.ConfigurationError, match="a named pipe"):
            await FileTokenStore(path).load(KEY)


# A file that can't be used does not stop the work.


async def test_a_place_without_a_directory_is_told_in_a_sentence_and_not_waited_for(
    sandbox: Sandbox, clock: SandboxClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a_file").write_bytes(b"no directory")
    path = tmp_path / "a_file" / "tokens.json"
    async with sandbox.client(token_store=FileTokenStore(path)) as client:
        assert len(await client.cards.query(sandbox.iccids[0])) == 1
    assert clock.slept == []
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert f"the token file {path} can't be used: Not a directory" in warning
    assert "must be on a local disk" in warning


# A holder of the lock that is stopped.


def few_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a tenth of a second without a sign of life be enough."""
    monkeypatch.setattr(file_module, "POLL_SECONDS", 0.002)
    monkeypatch.setattr(file_module, "MAX_POLLS", 50)


async def test_a_stopped_holder_of_the_lock_is_told_of_and_the_login_goes_on_without_it(
    sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    few_polls(monkeypatch)
    store = FileTokenStore(tmp_path / "tokens.json")
    key = key_of(sandbox)
    async with held_elsewhere(str(store.path), key) as process:
        process.send_signal(signal.SIGSTOP)
        try:
            async with sandbox.client(token_store=store) as client:
                assert len(await client.cards.query(sandbox.iccids[0])) == 1
            stored = await store.load(key)
            assert stored is not None
            assert stored.token == client._caller._keeper.token
        finally:
            process.send_signal(signal.SIGCONT)
    assert sandbox.logins == 1
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    for words in ("waited", "stopped or blocked", "fuser", str(tmp_path)):
        assert words in warning


async def test_a_holder_that_is_alive_is_waited_for_longer_than_a_stopped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_polls(monkeypatch)
    monkeypatch.setattr(file_module, "HEARTBEAT_SECONDS", 0.01)
    looks = 0

    def look(path: Path) -> int | None:
        nonlocal looks
        looks += 1
        return sign_of_life(path)

    sign_of_life = file_module._last_heartbeat
    monkeypatch.setattr(file_module, "_last_heartbeat", look)
    store, entered = FileTokenStore(tmp_path / "tokens.json"), asyncio.Event()

    async def enter() -> None:
        async with store.lock(KEY):
            entered.set()

    async with store.lock(KEY):
        entering = asyncio.create_task(enter())
        await until(lambda: looks > 4 * file_module.MAX_POLLS)
        assert not entered.is_set()
    await entering


async def test_a_caller_s_deadline_and_a_close_end_the_wait_for_a_stopped_holder(
    sandbox: Sandbox, clock: SandboxClock, tmp_path: Path
) -> None:
    clock._skip = False
    store = FileTokenStore(tmp_path / "tokens.json")
    key = key_of(sandbox)
    async with store.lock(key), sandbox.client(token_store=store) as client:
        asking = asyncio.create_task(client.cards.query(sandbox.iccids[0], deadline=2))
        await until(lambda: client._caller._keeper._login_task is not None)
        clock.advance(2)
        with pytest.raises(errors.DeadlineExceeded):
            await asking
        asking = asyncio.create_task(client.cards.query(sandbox.iccids[0]))
        await asyncio.sleep(0)
        async with asyncio.timeout(SECONDS):
            await client.aclose()
        with pytest.raises(errors.ClientClosed):
            await asking
    assert sandbox.requests == []


async def test_a_save_that_waits_for_a_stopped_writer_ends_with_the_right_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_polls(monkeypatch)
    monkeypatch.setattr(file_module, "HEARTBEAT_SECONDS", 1000.0)
    store = FileTokenStore(tmp_path / "tokens.json")
    async with store._hold(file_module.WRITING):
        with pytest.raises(StoreUnavailable, match=r"waited .*\.lock.*`fuser"):
            await store.save(KEY, TOKEN)
    await store.save(KEY, TOKEN)


def the_lock_in(folder: Path) -> Path:
    (lock,) = folder.glob("*.lock")
    return lock


@pytest.mark.parametrize("kind", ["link", "folder"])
async def test_a_lock_that_can_t_be_used_is_named(tmp_path: Path, kind: str) -> None:
    store = FileTokenStore(tmp_path / "tokens.json")
    await store.save("account", TOKEN)
    lock = the_lock_in(tmp_path)
    lock.unlink()
    if kind == "link":
        lock.symlink_to(tmp_path / "elsewhere")
    else:
        lock.mkdir()
    with pytest.raises(StoreUnavailable, match=re.escape(f"the lock {lock} of the token file")):
        await store.save("account", TOKEN)
    assert not (tmp_path / "elsewhere").exists()

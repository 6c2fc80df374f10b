"""The guides' programs, run as shown: real servers in processes of their own, and a sandbox."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import pytest
from redis_server import RedisServer, running_redis
from taskiq import TaskiqResultTimeoutError
from waiting import SECONDS, until

from mioesim_async import OrderJournal
from mioesim_async.sandbox import Fault, Sandbox

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
BUY = "addEsimOrder"


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


def program(guide: str) -> str:
    """The guide's program."""
    text = (GUIDES / guide).read_text(encoding="utf-8")
    return max(re.findall(r"```python\n(.*?)```", text, re.DOTALL), key=len)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def sent(sandbox: Sandbox) -> list[str]:
    """The references that were bought, as often as they were sent."""
    return [seen.params["otherOrderId"] for seen in sandbox.requests if seen.endpoint == BUY]


@contextmanager
def served(
    place: Path, sandbox: Sandbox, command: list[str], **more: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in a process group of its own, and end the group with the block."""
    shared = {
        "MIOESIM_TOKEN_STORE": str(place / "token.json"),
        "MIOESIM_ORDER_JOURNAL": str(place / "orders.db"),
    }
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=place,
            env=os.environ | sandbox.environ | shared | more,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(SECONDS)


async def is_up(http: aiohttp.ClientSession, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers."""
    async with asyncio.timeout(SECONDS):
        while True:
            assert process.poll() is None, "the server has ended"
            with suppress(aiohttp.ClientError):
                async with http.get("/health") as reply:
                    if reply.status == 200:
                        return
            await asyncio.sleep(0.02)


async def ask(http: aiohttp.ClientSession, method: str, path: str) -> tuple[int, Any]:
    async with http.request(method, path) as reply:
        return reply.status, json.loads(await reply.text())


async def ended(process: subprocess.Popen[bytes]) -> int:
    return await asyncio.to_thread(process.wait, SECONDS)


async def test_the_fastapi_guide_sells_streams_and_ends(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(program("fastapi.md"))
    port = free_port()
    command = ["-m", "uvicorn", "shop:app", "--workers", "2", "--port", str(port)]
    command += ["--timeout-graceful-shutdown", "20"]
    with Sandbox(5000) as sandbox, served(tmp_path, sandbox, command) as process:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            await is_up(http, process)

            # Six requests for each reference, over both workers: each is bought once.
            replies = await asyncio.gather(
                *[ask(http, "POST", f"/orders/shop-{number % 10}") for number in range(60)]
            )
            assert sorted(sent(sandbox)) == [f"shop-{number}" for number in range(10)]
            numbers = {order.order_num for order in sandbox.orders}
            assert {told["order_num"] for status, told in replies if status == 200} == numbers
            assert {status for status, _ in replies} <= {200, 202}

            # An order whose answer is lost is pending, and found; nothing secret is told.
            sandbox.faults.add(Fault.lose_reply(), BUY)
            status, told = await ask(http, "POST", "/orders/lost")
            assert (status, told["state"]) == (202, "pending")
            status, told = await ask(http, "GET", "/orders/lost")
            assert (status, told["order_num"]) == (200, sandbox.orders[-1].order_num)
            assert "LPA:" not in json.dumps([replies, told])

            # One that was refused has failed.
            sandbox.faults.add(Fault.refuse(4), BUY)
            status, told = await ask(http, "POST", "/orders/refused")
            assert (status, told["state"]) == (502, "failed")

            async with http.post("/cards", json=sandbox.iccids) as reply:
                rows = [json.loads(line) async for line in reply.content]
            assert {row["iccid"] for row in rows} == {*sandbox.iccids}
            assert all(row["found"] for row in rows)

            # SIGTERM in mid-purchase: the customer gets the order, and the server ends.
            sandbox.faults.add(Fault.slow(1), BUY)
            buying = asyncio.create_task(ask(http, "POST", "/orders/last"))
            await until(lambda: "last" in sent(sandbox))
            process.terminate()
            status, told = await buying
            assert (status, told["order_num"]) == (200, sandbox.orders[-1].order_num)
        assert await ended(process) in (0, -signal.SIGTERM)
        assert not await OrderJournal(tmp_path / "orders.db").open_entries()
    log = (tmp_path / "log").read_text()
    assert not [secret for secret in secrets_of(sandbox) if secret in log]
    assert "Traceback" not in log


async def test_the_aiohttp_guide_sells_and_ends(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(program("aiohttp.md"))
    port = free_port()
    with (
        Sandbox(10) as sandbox,
        served(tmp_path, sandbox, ["shop.py"], PORT=str(port)) as process,
    ):
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            await is_up(http, process)
            status, told = await ask(http, "POST", "/orders/shop-1")
            assert (status, told["order_num"]) == (200, sandbox.orders[0].order_num)
            status, told = await ask(http, "GET", f"/cards/{sandbox.iccids[0]}")
            assert (status, told["iccid"]) == (200, sandbox.iccids[0])
            async with http.get("/cards/8.98E+18") as reply:
                assert reply.status == 400
            sandbox.faults.add(Fault.slow(1), BUY)
            buying = asyncio.create_task(ask(http, "POST", "/orders/last"))
            await until(lambda: "last" in sent(sandbox))
            process.terminate()
            status, told = await buying
            assert (status, told["order_num"]) == (200, sandbox.orders[1].order_num)
        assert await ended(process) == 0
        assert not await OrderJournal(tmp_path / "orders.db").open_entries()


def children_of(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def offspring_of(pid: int) -> list[int]:
    """A process's children, and theirs."""
    return [one for child in children_of(pid) for one in (child, *offspring_of(child))]


def loaded(monkeypatch: pytest.MonkeyPatch, place: Path, guide: str, redis: str) -> ModuleType:
    """Write a guide's program as ``tasks.py``, and import it, as the shop's web app does."""
    (place / "tasks.py").write_text(program(guide))
    monkeypatch.setenv("REDIS_URL", redis)
    spec = importlib.util.spec_from_file_location("tasks", place / "tasks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "tasks", module)
    spec.loader.exec_module(module)
    return module


async def kill_in_mid_purchase(
    sandbox: Sandbox, process: subprocess.Popen[bytes], reference: str
) -> None:
    """Kill the processes that may be buying, when the vendor has the order and they don't."""
    await until(lambda: reference in sent(sandbox))
    await until(lambda: len(sandbox.orders) and sandbox.orders[-1].other_order_id == reference)
    for pid in offspring_of(process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="there is no /proc")
async def test_the_taskiq_guide_buys_once_although_its_worker_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer
) -> None:
    tasks = loaded(monkeypatch, tmp_path, "taskiq.md", redis_server.url)
    await tasks.broker.startup()
    command = ["-m", "taskiq", "worker", "tasks:broker", "--workers", "1"]
    try:
        with (
            Sandbox(10) as sandbox,
            served(
                tmp_path, sandbox, command, REDIS_URL=redis_server.url, IDLE_MS="1000"
            ) as process,
        ):
            task = await tasks.order.kiq("shop-1")
            result = await task.wait_result(timeout=SECONDS)
            assert result.return_value["order_num"] == sandbox.orders[0].order_num

            # The vendor places the order, and its answer takes longer than the worker lives.
            sandbox.faults.add(Fault.after_effect(Fault.slow(30)), BUY)
            task = await tasks.order.kiq("shop-2")
            await kill_in_mid_purchase(sandbox, process, "shop-2")
            async with asyncio.timeout(SECONDS):
                while not await task.is_ready():
                    # The broker looks for tasks of workers that died when it gets a new one. Redis
                    # may give that to the worker that died, too, so one is not enough.
                    beat = await tasks.order.kiq("shop-1")
                    with suppress(TaskiqResultTimeoutError):
                        await beat.wait_result(check_interval=0.05, timeout=1)
            result = await task.get_result()
            assert result.return_value["order_num"] == sandbox.orders[1].order_num
            assert sorted(sent(sandbox)) == ["shop-1", "shop-2"]
    finally:
        await tasks.broker.shutdown()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="there is no /proc")
@pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")
async def test_the_celery_guide_buys_once_although_its_worker_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer
) -> None:
    tasks = loaded(monkeypatch, tmp_path, "celery.md", redis_server.url)
    command = ["-m", "celery", "-A", "tasks", "worker", "--concurrency", "1", "--without-mingle"]

    def bought(reference: str) -> Any:
        return tasks.order.delay(reference).get(timeout=SECONDS)

    try:
        with (
            Sandbox(10) as sandbox,
            served(tmp_path, sandbox, command, REDIS_URL=redis_server.url) as process,
        ):
            told = await asyncio.to_thread(bought, "shop-1")
            assert told["order_num"] == sandbox.orders[0].order_num

            sandbox.faults.add(Fault.after_effect(Fault.slow(30)), BUY)
            buying = asyncio.create_task(asyncio.to_thread(bought, "shop-2"))
            await kill_in_mid_purchase(sandbox, process, "shop-2")
            assert (await buying)["order_num"] == sandbox.orders[1].order_num
            assert sorted(sent(sandbox)) == ["shop-1", "shop-2"]
    finally:
        tasks.app.backend.result_consumer.stop()
        tasks.app.backend.client.connection_pool.disconnect()
        tasks.app.close()
        tasks.loop.close()


def secrets_of(sandbox: Sandbox) -> set[str]:
    """What must never be in a log."""
    account = sandbox.credentials
    params = [seen.params for seen in sandbox.requests]
    sent_secrets = {one[name] for one in params for name in ("token", "sign") if name in one}
    return {account.password, account.secret_key, *sent_secrets}


@pytest.mark.parametrize("guide", sorted(path.name for path in GUIDES.glob("*.md")))
def test_every_program_of_a_guide_compiles(guide: str) -> None:
    text = (GUIDES / guide).read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        compile(block, guide, "exec")

"""What the client promises behind a real nginx: the sandbox is its upstream, on loopback."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from hurry import hurried
from waiting import SECONDS, until

from mioesim_async import CardStream, Dialect, MioEsimClient, RetryPolicy, errors
from mioesim_async.sandbox import Fault, Sandbox, SandboxClock

QUERY = "queryIccidInformation"
NO_RETRY = RetryPolicy(max_attempts=1)
METHODS = ("GET", "POST")
CONFIGURATION = """
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {settings}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {upstream};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_read_timeout {patience};
        }}
    }}
}}
"""


@define
class Nginx:
    """An nginx of the test's own, with its own configuration."""

    program: str
    folder: Path
    upstream: str
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, settings: str = "", patience: str = "60s") -> None:
        """Start it, and wait until it listens; its patience with the sandbox is in real time."""
        self._launch(settings, patience)
        await until(self._listens)

    def _launch(self, settings: str, patience: str) -> None:
        configuration = self.folder / "nginx.conf"
        text = CONFIGURATION.format(
            user="user root;" if os.geteuid() == 0 else "",
            folder=self.folder,
            settings=settings,
            patience=patience,
            port=self.port,
            upstream=self.upstream,
        )
        configuration.write_text(text)
        errors_to = self.folder / "error.log"
        command = [self.program, "-e", errors_to, "-c", configuration, "-p", self.folder]
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output)

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "output").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    async def stop(self) -> None:
        """End it by its own process, and wait for its end."""
        process, self.process = self.process, None
        if process is not None:
            process.terminate()
            await until(lambda: process.poll() is not None)

    def kill(self) -> None:
        """End it at once, whatever became of the test."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(SECONDS)


@pytest.fixture(scope="module")
def program() -> str:
    """Where nginx is; in CI it has to be there."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        reason = "nginx is not installed (Debian: apt-get install nginx-light)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        raise pytest.skip.Exception(reason)
    return found


@pytest.fixture
async def upstream() -> AsyncIterator[Sandbox]:
    """A sandbox on a port that stays the same when it is stopped and started."""
    async with Sandbox(4_000, clock=SandboxClock(), port=free_port()) as running:
        yield running


@pytest.fixture
def nginx(program: str, upstream: Sandbox, tmp_path: Path) -> Iterator[Nginx]:
    """An nginx before that sandbox, not yet started."""
    server = Nginx(program, tmp_path, upstream.url, free_port())
    yield server
    server.kill()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def client_of(nginx: Nginx, sandbox: Sandbox, **arguments: Any) -> MioEsimClient:
    arguments.setdefault("clock", sandbox.clock)
    return MioEsimClient(sandbox.credentials, base_url=nginx.url, **arguments)


def by(method: Any) -> Dialect:
    return Dialect(read_method=method)


def asked(sandbox: Sandbox) -> int:
    return [request.endpoint for request in sandbox.requests].count(QUERY)


async def found_by(stream: CardStream[Any], then: Any = None) -> tuple[set[str], Any]:
    """Read a sweep to its end; after 1,000 cards start something, and wait for it."""
    found: set[str] = set()
    started: asyncio.Task[Any] | None = None
    async with stream:
        async for outcome in stream:
            assert outcome.card is not None, outcome.error
            found.add(outcome.iccid)
            if then is not None and started is None and len(found) >= 1_000:
                started = asyncio.create_task(then())
    return found, await started if started is not None else None


@pytest.mark.parametrize("method", METHODS)
async def test_connections_closed_after_a_few_requests_cost_no_card(
    nginx: Nginx, upstream: Sandbox, method: str
) -> None:
    await nginx.start("keepalive_requests 5;")
    async with (
        hurried(upstream.clock, 0.01),
        client_of(nginx, upstream, dialect=by(method)) as client,
    ):
        found, _ = await found_by(client.cards.query_many(upstream.iccids))
        assert client.stats().connections >= client.stats().requests / 5
    assert found == {*upstream.iccids}
    assert {request.method for request in upstream.requests if request.endpoint == QUERY} == {
        method
    }


@pytest.mark.parametrize("method", METHODS)
async def test_idle_connections_closed_early_cost_no_card(
    nginx: Nginx, upstream: Sandbox, method: str
) -> None:
    await nginx.start("keepalive_timeout 1ms;")
    async with (
        hurried(upstream.clock, 0.01),
        client_of(nginx, upstream, dialect=by(method)) as client,
    ):
        found, _ = await found_by(client.cards.query_many(upstream.iccids))
    assert found == {*upstream.iccids}


@pytest.mark.parametrize("method", METHODS)
async def test_a_restart_in_the_middle_of_a_sweep_loses_no_card(
    nginx: Nginx, upstream: Sandbox, method: str
) -> None:
    await nginx.start()
    upstream.faults.add(Fault.slow(0.2), QUERY, times=None)

    async def restart() -> None:
        await nginx.stop()
        await until(lambda: client.stats().failures)
        await nginx.start()

    async with (
        hurried(upstream.clock, 0.02),
        client_of(nginx, upstream, dialect=by(method)) as client,
    ):
        stream = client.cards.query_many(upstream.iccids, max_outage=36_000)
        found, _ = await found_by(stream, restart)
    assert found == {*upstream.iccids}
    assert upstream.logins == 1


async def test_an_upstream_that_stops_in_a_sweep_is_a_502_and_loses_no_card(
    nginx: Nginx, upstream: Sandbox
) -> None:
    await nginx.start()
    statuses: list[int | None] = []

    async def stop_and_start() -> None:
        await upstream.aclose()
        await until(lambda: 502 in statuses)
        await upstream.start()

    async with (
        hurried(upstream.clock, 0.02),
        client_of(nginx, upstream, hooks=[lambda record: statuses.append(record.status)]) as client,
    ):
        stream = client.cards.query_many(upstream.iccids, max_outage=36_000)
        found, _ = await found_by(stream, stop_and_start)
    assert found == {*upstream.iccids}


async def test_a_502_of_nginxs_own_is_an_http_status_error(nginx: Nginx, upstream: Sandbox) -> None:
    await nginx.start()
    async with client_of(nginx, upstream, retry=NO_RETRY) as client:
        await client.login()
        await upstream.aclose()
        with pytest.raises(errors.HttpStatusError) as caught:
            await client.cards.query(upstream.iccids[0])
        assert caught.value.status == 502
        await upstream.start()
        assert len(await client.cards.query(upstream.iccids[:100])) == 100


async def test_a_504_of_nginxs_own_is_asked_again_and_then_an_http_status_error(
    nginx: Nginx, upstream: Sandbox
) -> None:
    await nginx.start(patience="500ms")
    async with (
        hurried(upstream.clock, 0.01),
        client_of(nginx, upstream, retry=RetryPolicy(max_attempts=2)) as client,
    ):
        upstream.faults.add(Fault.silence(), QUERY, times=1)
        assert len(await client.cards.query(upstream.iccids[:100])) == 100
        assert asked(upstream) == 2
        upstream.faults.add(Fault.silence(), QUERY, times=2)
        with pytest.raises(errors.HttpStatusError) as caught:
            await client.cards.query(upstream.iccids[0])
    assert caught.value.status == 504
    assert asked(upstream) == 4


@pytest.mark.parametrize("fault", [Fault.cut(), Fault.half_closed(), Fault.lose_reply()])
async def test_a_reply_that_breaks_off_behind_nginx_is_asked_again(
    nginx: Nginx, upstream: Sandbox, fault: Fault
) -> None:
    await nginx.start()
    async with (
        hurried(upstream.clock, 0.01),
        client_of(nginx, upstream) as client,
    ):
        await client.login()
        upstream.faults.add(fault, QUERY, times=2)
        assert len(await client.cards.query(upstream.iccids[:100])) == 100


SMALL_HEADERS = "client_header_buffer_size 1k; large_client_header_buffers 2 1k;"


async def test_headers_too_small_for_a_get_of_100_cards_are_that_batchs_error(
    nginx: Nginx, upstream: Sandbox
) -> None:
    await nginx.start(SMALL_HEADERS)
    async with client_of(nginx, upstream) as client:
        assert len(await client.cards.query(upstream.iccids[:10])) == 10
        with pytest.raises(errors.HttpStatusError) as caught:
            await client.cards.query(upstream.iccids[:100])
        assert caught.value.status in (400, 414)
        report = await client.cards.query_all(upstream.iccids[:250])
        assert {*report.failed} == {*upstream.iccids[:250]} - {*report.cards}
        assert {type(error) for error in report.failed.values()} == {errors.HttpStatusError}
        # 10 cards, a call of 100, and three batches, of which each is asked once.
        assert client.stats().requests == 6
        assert client.stats().retries == 0
    assert len(report.failed) >= 200


async def test_headers_too_small_for_a_get_are_large_enough_with_reads_by_post(
    nginx: Nginx, upstream: Sandbox
) -> None:
    await nginx.start(SMALL_HEADERS)
    async with client_of(nginx, upstream, dialect=by("POST")) as client:
        report = await client.cards.query_all(upstream.iccids[:1_000])
    assert (len(report.cards), report.failed) == (1_000, {})


async def test_a_first_get_that_is_too_long_for_nginx_is_no_outage(
    nginx: Nginx, upstream: Sandbox
) -> None:
    await nginx.start(SMALL_HEADERS)
    async with client_of(nginx, upstream) as client:
        report = await client.cards.query_all(upstream.iccids[:400])
        assert client.stats().requests == 5
    assert len(report.failed) == 400

"""What the client promises when the network, and not the host, is at fault."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trustme
from waiting import until

from mioesim_async import (
    Credentials,
    MioEsimClient,
    RetryPolicy,
    SessionManager,
    Timeouts,
    errors,
)
from mioesim_async.sandbox import Sandbox, SandboxClock

NO_RETRY = RetryPolicy(max_attempts=1)
ACCOUNT = Credentials("13900000000", "pw", "secret")
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Listen on loopback, and yield the port; its connections end with the block."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(OSError, asyncio.CancelledError):
                await serve(reader, writer)
        finally:
            tasks.discard(task)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await until(lambda: not tasks)
        await server.wait_closed()


async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(-1)


def passing_on_to(sandbox: Sandbox) -> Serve:
    """Pass bytes on, so that a listener that speaks TLS stands before the sandbox."""
    host, port = sandbox.url.removeprefix("http://").split(":")

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while block := await reader.read(65536):
                writer.write(block)
                await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up, down = await asyncio.open_connection(host, int(port))
        back = asyncio.create_task(pump(up, writer))
        try:
            await pump(reader, down)
        finally:
            back.cancel()
            with suppress(asyncio.CancelledError):
                await back
            down.close()
            with suppress(OSError):
                await down.wait_closed()

    return serve


def server_side(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def trusting(ca: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    return context


@asynccontextmanager
async def tls_client(
    sandbox: Sandbox, port: int, context: ssl.SSLContext | None
) -> AsyncIterator[MioEsimClient]:
    """A client that makes one attempt over TLS, and closes its pool."""
    async with (
        SessionManager(ssl=context) as manager,
        MioEsimClient(
            sandbox.credentials,
            base_url=f"https://127.0.0.1:{port}",
            session_manager=manager,
            retry=NO_RETRY,
        ) as client,
    ):
        yield client


# Names.


@pytest.mark.parametrize("number", [socket.EAI_NONAME, socket.EAI_AGAIN])
async def test_a_name_that_has_no_address_is_a_connect_error(
    monkeypatch: pytest.MonkeyPatch, clock: SandboxClock, number: int
) -> None:
    asked: list[Any] = []

    def fail(host: Any, *_: Any, **__: Any) -> Any:
        asked.append(host)
        raise socket.gaierror(number, "no address for it")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    async with MioEsimClient(ACCOUNT, base_url="https://vendor.invalid", clock=clock) as client:
        with pytest.raises(errors.ConnectError, match=r"vendor\.invalid"):
            await client.login()
    assert asked == ["vendor.invalid"] * 4, "it is asked again: nothing had been sent"


async def test_a_resolver_that_hangs_is_a_connect_error_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    let_go = threading.Event()

    def hang(*_: Any, **__: Any) -> Any:
        let_go.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "too late")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    limits = Timeouts(connect=0.05)
    client = MioEsimClient(
        ACCOUNT, base_url="https://vendor.invalid", timeouts=limits, retry=NO_RETRY
    )
    async with client:
        with pytest.raises(errors.ConnectError):
            await client.login()
        let_go.set()


# TLS.


async def test_tls_works_with_the_right_authority(sandbox: Sandbox) -> None:
    ca = trustme.CA()
    tls = server_side(ca.issue_cert("127.0.0.1"))
    async with (
        listening(passing_on_to(sandbox), tls) as port,
        tls_client(sandbox, port, trusting(ca)) as client,
    ):
        assert len(await client.cards.query(sandbox.iccids[:100])) == 100


@pytest.mark.parametrize("wrong", ["unknown authority", "another host", "expired"])
async def test_a_wrong_certificate_is_a_connect_error_and_nothing_is_sent(
    sandbox: Sandbox, wrong: str
) -> None:
    ca = trustme.CA()
    if wrong == "expired":
        past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
        leaf = ca.issue_cert("127.0.0.1", not_before=past, not_after=past + dt.timedelta(days=30))
    else:
        leaf = ca.issue_cert("other.example" if wrong == "another host" else "127.0.0.1")
    context = None if wrong == "unknown authority" else trusting(ca)
    async with (
        listening(passing_on_to(sandbox), server_side(leaf)) as port,
        tls_client(sandbox, port, context) as client,
    ):
        with pytest.raises(errors.ConnectError) as caught:
            await client.login()
    assert "certificate" in str(caught.value) or "IP address mismatch" in str(caught.value)
    assert sandbox.requests == []


async def test_tls_to_a_port_that_speaks_plain_http_is_a_connect_error(sandbox: Sandbox) -> None:
    port = int(sandbox.url.rpartition(":")[2])
    async with tls_client(sandbox, port, None) as client:
        with pytest.raises(errors.ConnectError):
            await client.login()
    assert sandbox.requests == []


# Listeners.


@pytest.mark.parametrize("limits", [Timeouts(read=0.05), Timeouts(attempt=0.05)])
async def test_a_listener_that_accepts_and_never_answers_is_an_attempt_timeout(
    limits: Timeouts,
) -> None:
    async with listening(never_answer) as port:
        url = f"http://127.0.0.1:{port}"
        client = MioEsimClient(ACCOUNT, base_url=url, timeouts=limits, retry=NO_RETRY)
        async with client:
            with pytest.raises(errors.AttemptTimeout):
                await client.login()


async def test_a_listener_that_never_takes_its_connections_is_an_attempt_timeout() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(5)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        limits = Timeouts(read=0.05)
        client = MioEsimClient(ACCOUNT, base_url=url, timeouts=limits, retry=NO_RETRY)
        async with client:
            with pytest.raises(errors.AttemptTimeout):
                await client.login()


async def test_a_listener_that_speaks_something_else_is_a_lost_connection() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await reader.read(-1)

    async with listening(greet) as port:
        url = f"http://127.0.0.1:{port}"
        async with MioEsimClient(ACCOUNT, base_url=url, retry=NO_RETRY) as client:
            with pytest.raises(errors.ConnectionLost, match="not HTTP"):
                await client.login()


async def test_a_refused_connection_is_a_connect_error_after_four_attempts(
    clock: SandboxClock,
) -> None:
    with socket.socket() as bound:
        # Bound, so that nobody else listens there; and not listening itself.
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        async with MioEsimClient(ACCOUNT, base_url=url, clock=clock) as client:
            with pytest.raises(errors.ConnectError, match="can't connect"):
                await client.login()
            assert (client.stats().requests, client.stats().retries) == (4, 3)

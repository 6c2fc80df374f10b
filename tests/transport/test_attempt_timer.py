"""Attempts that take too long, and hosts that fall silent in the middle of a reply."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from waiting import until

from mioesim_async import Credentials, Dialect, MioEsimClient, RetryPolicy, Timeouts, errors
from mioesim_async.sandbox import Fault, Sandbox, SandboxClock
from mioesim_async.transport.attempt_timer import AttemptTimer, Progress

ICCID = "8985000000000000001"
LOGIN = b'{"code": 1, "data": {"token": "29281-9EFE5E41"}}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
STEP = 0.05
KNOWN = Dialect(signature="plain", login_encoding="form", read_method="GET")


class Slow:
    """A host that answers a login at once, and anything else piece by piece, as it is told."""

    def __init__(self) -> None:
        self.writer: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            if head.startswith(b"GET"):
                self.writer = writer
                await reader.read()
                break
            await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split()[0]))
            writer.write(HEAD % len(LOGIN) + LOGIN)
        writer.close()

    def send(self, piece: bytes) -> None:
        assert self.writer is not None
        self.writer.write(piece)


def watched(client: MioEsimClient) -> list[Progress]:
    return [*client._caller._sender._timer.attempts]


@asynccontextmanager
async def asking(
    clock: SandboxClock, host: Slow, timeouts: Timeouts
) -> AsyncIterator[tuple[MioEsimClient, asyncio.Task[object]]]:
    """A client with one call under way, whose request has come to the host."""
    server = await asyncio.start_server(host.serve, "127.0.0.1", 0)
    client = MioEsimClient(
        Credentials("13900000000", "made up", "made-up-key"),
        base_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}",
        dialect=KNOWN,
        clock=clock,
        timeouts=timeouts,
        retry=RetryPolicy(max_attempts=1),
    )
    async with server, client:
        call: asyncio.Task[object] = asyncio.create_task(client.cards.query(ICCID))
        await until(lambda: host.writer is not None and watched(client))
        yield client, call
        await asyncio.wait([call])


async def hear(client: MioEsimClient, host: Slow, piece: bytes) -> None:
    """Send a piece, and wait until the client has it."""
    (progress,) = watched(client)
    before = progress.received
    host.send(piece)
    await until(lambda: progress.received > before)


async def pass_time(clock: SandboxClock, seconds: float) -> None:
    """Let time pass in steps, as it does, so that whatever looks now and then does look."""
    for _ in range(round(seconds / STEP)):
        clock.advance(STEP)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_a_reply_whose_pieces_keep_coming_has_the_attempts_whole_limit() -> None:
    clock, host = SandboxClock(), Slow()
    async with asking(clock, host, Timeouts(read=8, attempt=60)) as (client, call):
        await hear(client, host, HEAD % 100)
        for _ in range(9):
            await pass_time(clock, 6)
            assert not call.done()
            await hear(client, host, b" ")
        await pass_time(clock, 7)
        with pytest.raises(errors.AttemptTimeout, match=r"within 60 s.*attempt="):
            await call


@pytest.mark.parametrize("pieces", [[], [HEAD % 100], [HEAD % 100, b"{", b'"']])
async def test_a_host_that_falls_silent_at_any_point_is_given_up_after_the_read_limit(
    pieces: list[bytes],
) -> None:
    clock, host = SandboxClock(), Slow()
    async with asking(clock, host, Timeouts(read=8, attempt=60)) as (client, call):
        for piece in pieces:
            await hear(client, host, piece)
            await pass_time(clock, 6)
        assert not call.done()
        await pass_time(clock, 10)
        with pytest.raises(errors.AttemptTimeout, match=r"sent nothing for 8 s.*read="):
            await call


async def test_a_host_is_not_called_silent_because_the_loop_was_held_up() -> None:
    clock, host = SandboxClock(), Slow()
    async with asking(clock, host, Timeouts(read=8, attempt=60)) as (client, call):
        assert client._caller._sender._timer.silence == 8
        clock.advance(30)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not call.done()
        host.send(HEAD % 2 + b"{}")
        with pytest.raises(errors.ProtocolError):
            await call


async def test_silence_is_noticed_at_its_limit_or_up_to_an_eighth_later_and_never_early() -> None:
    clock = SandboxClock()
    watch = AttemptTimer(clock, whole=60, silence=8)
    first, second = Progress(clock, timer=watch), Progress(clock, timer=watch)
    watch.start(first)
    await pass_time(clock, 0.8)
    watch.start(second)
    await pass_time(clock, 7.1)
    assert not first.was_silent
    await pass_time(clock, 0.8)
    assert first.was_silent
    assert not second.was_silent
    await pass_time(clock, 1.2)
    assert second.was_silent
    watch.close()


async def test_a_limit_that_is_as_long_as_the_silence_is_what_is_told_of() -> None:
    clock = SandboxClock()
    watch = AttemptTimer(clock, whole=8, silence=8)
    limit = Progress(clock, timer=watch)
    watch.start(limit)
    await pass_time(clock, 9)
    assert not watch.attempts
    assert not limit.was_silent
    watch.close()


async def test_one_timer_watches_all_attempts_and_none_outlives_the_client() -> None:
    async with Sandbox(30, clock=SandboxClock()) as sandbox:
        sandbox.faults.add(Fault.slow(10), "queryIccidInformation", times=None)
        async with sandbox.client(clock=(clock := SandboxClock())) as client:
            await client.login()
            calls = [asyncio.create_task(client.cards.query(one)) for one in sandbox.iccids[:20]]
            await until(lambda: len(watched(client)) == sandbox.under_way == 20)
            assert len(clock._timers) == 1
            await until(
                lambda: sandbox.clock.advance(10) or all(call.done() for call in calls), pause=0
            )
            assert sum(map(len, await asyncio.gather(*calls))) == 20
            assert not watched(client)
        assert not clock._timers

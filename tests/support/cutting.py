"""A TCP proxy that loses a server's answers when a test wants it."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

__all__ = ["Cutter", "Mode", "cutter"]


class Mode(enum.Enum):
    """What the proxy does."""

    PASS = enum.auto()
    """Passes everything on."""
    LOSE_ANSWER = enum.auto()
    """Loses the next answer and its connection, then passes everything on."""
    LOSE_ALL = enum.auto()
    """Loses the next answer and its connection, then refuses connections."""
    REFUSE = enum.auto()
    """Refuses connections."""


class Cutter:
    """The proxy.

    Attributes:
        port: Where it listens on loopback.
        mode: What it does.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.mode = Mode.PASS
        self._target = target
        self._pipes: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """End all connections, and refuse new ones."""
        self.mode = Mode.REFUSE
        for pipe in self._pipes:
            pipe.cancel()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on."""
        if self.mode is Mode.REFUSE:
            writer.transport.abort()
            return
        theirs, ours = await asyncio.open_connection("127.0.0.1", self._target)
        pipes = [
            asyncio.create_task(self._pipe(reader, ours, is_answer=False)),
            asyncio.create_task(self._pipe(theirs, writer, is_answer=True)),
        ]
        self._pipes.update(pipes)
        await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
        for end in (ours, writer):
            end.transport.abort()
        await asyncio.wait(pipes)
        self._pipes.difference_update(pipes)

    async def _pipe(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        with suppress(OSError):
            while chunk := await source.read(65536):
                if is_answer and self.mode in (Mode.LOSE_ANSWER, Mode.LOSE_ALL):
                    is_last = self.mode is Mode.LOSE_ALL
                    self.mode = Mode.REFUSE if is_last else Mode.PASS
                    return
                target.write(chunk)
                await target.drain()


@asynccontextmanager
async def cutter(target: int) -> AsyncIterator[Cutter]:
    """Run a proxy before a port of loopback."""
    proxy = Cutter(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for pipe in [*proxy._pipes]:
            pipe.cancel()
        while proxy._pipes:
            await asyncio.sleep(0.001)
        await server.wait_closed()

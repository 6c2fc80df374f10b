"""A host in a separate process that sends prepared replies, so that it is never the bottleneck.

It reads only the ICCIDs of a request; the rest of each row is prepared.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import random
import selectors
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["ICCIDS_PER_BATCH", "answers", "iccid"]

ICCIDS_PER_BATCH = 100
BATCHES = 256
CARDS_PER_ORDER = 5
"""Cards of one order have the same times. 256 batches hold 5,120 different times, more than the
client caches."""

HEAD = (
    "HTTP/1.1 200 OK\r\nContent-Type: application/json;charset=UTF-8\r\n"
    "Date: Mon, 05 Jan 2026 08:30:14 GMT\r\nContent-Length: {}\r\n\r\n"
)
FIRST = dt.datetime(2026, 1, 1)  # noqa: DTZ001 - the vendor writes no zone either
CODE = {"code": "LPA:1$smdp.example.com$QR-G-5C-1LS-1W1Z9P7", "sm_dp_address": "smdp.example.com"}


def iccid(number: int) -> str:
    return f"8985{number:015d}"


def order(chance: random.Random) -> dict[str, object]:
    """Make the fields that all cards of an order share."""
    start = FIRST + dt.timedelta(seconds=chance.randrange(200 * 86400))
    return {
        "data": f"{chance.choice((1, 3, 6, 20))}GB",
        "validity": 30,
        "startDate": f"{start:%Y-%m-%d %H:%M:%S}.0",
        "endDate": f"{start + dt.timedelta(days=30):%Y-%m-%d}",
        "orderNum": f"EP{start:%Y%m%d}{chance.randrange(10**6):06d}",
        "skuId": chance.choice((45, 71, 102)),
    }


def tail(chance: random.Random, common: dict[str, object]) -> bytes:
    """Write the part of a row that follows its ICCID: nine fields."""
    fields = {
        "dpStatus": chance.choice(("ACTIVE", "ACTIVE", "ACTIVE", "Enable", "Disable")),
        **common,
        "remainingMB": chance.randrange(102400) / 100,
        "usedMB": f"{chance.randrange(102400) / 100}",
    }
    return b'", ' + json.dumps(fields).encode()[1:]


def batch(chance: random.Random) -> list[bytes]:
    return [
        tail(chance, common)
        for common in [order(chance) for _ in range(ICCIDS_PER_BATCH // CARDS_PER_ORDER)]
        for _ in range(CARDS_PER_ORDER)
    ]


class Answers(asyncio.Protocol):
    """One connection; it expects small requests, one at a time."""

    def __init__(self, batches: list[list[bytes]], detail: bytes, latency: float) -> None:
        self._batches = batches
        self._detail = detail
        self._latency = latency
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        if head.startswith(b"POST"):
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            if len(body) < int(length):
                return
        self._received = b""
        text = self._body(head)
        reply = HEAD.format(len(text)).encode() + text
        if self._latency:
            asyncio.get_running_loop().call_later(self._latency, self._transport.write, reply)
        else:
            self._transport.write(reply)

    def _body(self, head: bytes) -> bytes:
        path, _, query = head.partition(b" HTTP/")[0].partition(b"?")
        if path.endswith(b"login"):
            return b'{"code": 1, "message": "Successful", "data": {"token": "29281-9EFE5E41"}}'
        if path.endswith(b"getESIMDetail"):
            asked = query.partition(b"iccid=")[2].partition(b"&")[0]
            return b'{"code": 0, "message": "success", "data": {"iccid": "%s%s}' % (
                asked,
                self._detail,
            )
        asked = query.partition(b"iccids=")[2].partition(b"&")[0].replace(b"%2C", b",")
        iccids = asked.split(b",")
        pieces = [b', {"iccid": "'] * (3 * len(iccids))
        pieces[1::3] = iccids
        pieces[2::3] = self._batches[int(iccids[0]) // 100 % BATCHES][: len(iccids)]
        pieces[0] = b'{"code": 0, "message": "success", "data": [{"iccid": "'
        return b"".join(pieces) + b"]}"


async def serve(latency: float) -> None:
    chance = random.Random(0)
    batches = [batch(chance) for _ in range(BATCHES)]
    detail = tail(chance, order(chance) | CODE)
    server = await asyncio.get_running_loop().create_server(
        lambda: Answers(batches, detail, latency), "127.0.0.1", 0, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


@contextmanager
def answers(latency: float = 0.0) -> Generator[str]:
    """Run the host in a separate process, and yield its URL.

    Args:
        latency: Seconds before each answer.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.answers", "--latency", str(latency)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            port = process.stdout.readline().strip()
            if not port:
                raise RuntimeError("the host's process did not start")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.stdin.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.0)
    # select() has finer time-outs than epoll, which waits for whole milliseconds.
    with asyncio.Runner(
        loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())
    ) as runner:
        runner.run(serve(parser.parse_args().latency))

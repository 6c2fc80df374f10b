"""Cards per second against the ideal, for hosts with a latency.

In the ideal, ``concurrency`` batches run at all times, and each takes as long as a single GET on an
idle machine. Each round measures that GET, since a timer of 5 ms takes 5.5 ms on some machines.
"""

from __future__ import annotations

import asyncio
import statistics
import time

import aiohttp
from attrs import frozen

from benchmarks.answers import ICCIDS_PER_BATCH, answers, iccid
from benchmarks.contenders import QUERY, batch, make_client

__all__ = ["SETTINGS", "Setting", "throughput"]

SINGLE_GETS = 15


@frozen
class Setting:
    """The host's latency, the concurrency, and the share of the ideal that must be reached."""

    latency: float
    concurrency: int
    waves: int
    target: float

    @property
    def name(self) -> str:
        return f"cards per second at {self.latency * 1000:g} ms, concurrency {self.concurrency}"


SETTINGS = (
    Setting(0.05, 32, 80, 0.95),
    Setting(0.005, 8, 400, 0.85),
    Setting(0.2, 64, 45, 0.97),
)


def throughput(setting: Setting, rounds: int, waves: int) -> list[float]:
    """Return the share of the ideal, one for each round."""
    with answers(setting.latency) as url:
        return asyncio.run(_measure(url, setting, rounds, waves))


async def _measure(url: str, setting: Setting, rounds: int, waves: int) -> list[float]:
    cards = setting.concurrency * waves * ICCIDS_PER_BATCH
    iccids = [iccid(number) for number in range(cards)]
    shares: list[float] = []
    async with make_client(url, max_in_flight=2 * setting.concurrency) as client:

        async def sweep(asked: list[str]) -> None:
            stream = client.cards.query_many(asked, concurrency=setting.concurrency)
            async with stream:
                async for outcome in stream:
                    assert outcome.card is not None

        await sweep(iccids[: 2 * setting.concurrency * ICCIDS_PER_BATCH])
        for _ in range(rounds):
            began = time.perf_counter()
            await sweep(iccids)
            rate = cards / (time.perf_counter() - began)
            ideal = setting.concurrency * ICCIDS_PER_BATCH / await single_get(url)
            shares.append(rate / ideal)
    return shares


async def single_get(url: str) -> float:
    """Return the seconds that one batch takes if its reply is only read."""
    took: list[float] = []
    async with aiohttp.ClientSession() as session:
        for _ in range(1 + SINGLE_GETS):
            began = time.perf_counter()
            async with session.get(f"{url}{QUERY}?iccids={','.join(batch(0))}") as response:
                await response.read()
            took.append(time.perf_counter() - began)
    return statistics.median(took[1:])

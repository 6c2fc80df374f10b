"""Latency of single reads beside a sweep, and of orders beside card pages, against an idle client.

The sweep is repeated until enough single reads were measured beside it. Two hosts are asked: one
that answers as fast as its one core can, so that a sweep saturates it and a single read queues
there, and one that takes a while, as hosts on the internet do.

Orders are measured with a journal, beside 300 pages that each wait a second for ``detail()``.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.host import host
from mioesim_async import MioEsimClient, OrderJournal
from mioesim_async.sandbox import Sandbox

PAUSE = 0.005
"""Seconds between two single reads, as of a web application that is not overloaded."""


async def measure(client: MioEsimClient, iccids: list[str], busy: asyncio.Future[None]) -> float:
    """Read one card after the other, and return the p99 in milliseconds."""
    took: list[float] = []
    for iccid in iccids:
        began = time.perf_counter()
        await client.cards.detail(iccid)
        took.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(PAUSE)
        if busy.done():
            break
    report(took)
    return quantile(took, 99)


PAGES = 300
MAX_IN_FLIGHT = 32
PAGE_SECONDS = 1.0


def quantile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def report(took: list[float]) -> None:
    p50, p99 = quantile(took, 50), quantile(took, 99)
    print(f"{len(took):>8,} {p50:>9.2f} {p99:>9.2f} {max(took):>9.2f}")


async def run(cards: int, reads: int, concurrency: int, latency: float) -> None:
    print(f"\nA host that takes {latency * 1000:g} ms, one process on one core")
    sandbox = Sandbox(cards)
    async with (
        host(cards, latency=latency) as url,
        MioEsimClient(sandbox.credentials, base_url=url) as client,
    ):
        singles = (sandbox.iccids * (reads // cards + 1))[:reads]
        await client.cards.query_all(sandbox.iccids[:2000])  # connections, code, caches
        sweeps: list[float] = []

        async def sweep(*, stream: bool) -> None:
            while True:
                began = time.perf_counter()
                # A list is checked whole before the first byte is sent, a stream as it is read.
                items = iter(sandbox.iccids) if stream else sandbox.iccids
                async with client.cards.query_many(items, concurrency=concurrency) as outcomes:
                    async for outcome in outcomes:
                        assert outcome.card is not None
                sweeps.append(time.perf_counter() - began)

        print(f"{'':18} {'reads':>8} {'p50 ms':>9} {'p99 ms':>9} {'max ms':>9}")
        print(f"{'idle':18} ", end="")
        idle = await measure(client, singles, asyncio.get_running_loop().create_future())
        for name, stream in (("sweep of a list", False), ("sweep of a stream", True)):
            sweeps.clear()
            sweeping = asyncio.create_task(sweep(stream=stream))
            await asyncio.sleep(0.2)
            print(f"{name:18} ", end="")
            busy = await measure(client, singles, sweeping)
            sweeping.cancel()
            await asyncio.wait([sweeping])
            mean = f", {statistics.mean(sweeps):.2f} s each" if sweeps else ""
            print(f"{'':18} p99 {busy / idle:.2f} times idle; {len(sweeps)} sweeps ended{mean}")


async def orders(count: int) -> None:
    print(
        f"\nOrders with a journal, alone and beside {PAGES} card pages of {PAGE_SECONDS:g} s each"
    )
    account = Sandbox(PAGES)
    with tempfile.TemporaryDirectory() as folder:
        async with (
            host(PAGES, latency=PAGE_SECONDS, slow="getESIMDetail") as url,
            MioEsimClient(
                account.credentials, base_url=url, order_journal=OrderJournal(Path(folder) / "o.db")
            ) as client,
        ):
            await buy(client, 20)
            print(f"{'':18} {'orders':>8} {'p50 ms':>9} {'p99 ms':>9} {'max ms':>9}")
            print(f"{'idle':18} ", end="")
            idle = await buy(client, count)
            pages: list[asyncio.Task[None]] = []
            for iccid in account.iccids:
                # Visitors don't come all at the same moment: the host would be busy with them.
                await asyncio.sleep(PAGE_SECONDS / MAX_IN_FLIGHT)
                pages.append(asyncio.create_task(page(client, iccid)))
            print(f"{'beside pages':18} ", end="")
            busy = await buy(client, count)
            print(f"{'':18} p99 {busy / idle:.2f} times idle; to reach: 1.5")
            for task in pages:
                task.cancel()
            await asyncio.wait(pages)


async def buy(client: MioEsimClient, count: int) -> float:
    """Place one order after the other, and return the p99 in milliseconds."""
    took: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        await client.orders.place(sku_id=45, price_id=441, count=1)
        took.append((time.perf_counter() - began) * 1000)
    report(took)
    return quantile(took, 99)


async def page(client: MioEsimClient, iccid: str) -> None:
    for _ in itertools.count():
        await client.cards.detail(iccid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="10,000 cards and fewer reads")
    parser.add_argument("--concurrency", type=int, default=8, help="of the sweep")
    parser.add_argument(
        "--latency", type=float, action="append", help="seconds that the host takes; repeatable"
    )
    options = parser.parse_args()
    cards, reads = (10_000, 200) if options.short else (100_000, 1000)
    for latency in options.latency or (0.0, 0.05):
        asyncio.run(run(cards, reads, options.concurrency, latency))
    asyncio.run(orders(50 if options.short else 500))


if __name__ == "__main__":
    main()

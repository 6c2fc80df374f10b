"""Latency of single reads during a sweep, and of orders during other reads, against an idle client.

Idle and busy take turns, and a ratio is the median of its rounds. The sweep is repeated until
enough single reads were measured during it. Two hosts are measured: one answers as fast as its
one core can, so that a sweep saturates it and single reads wait there; the other has a latency,
as hosts on the internet have.

Orders use a journal, while 300 web pages each wait a second for ``detail()``.
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

IDLE = "idle"
PAUSE = 0.005
"""Seconds between two single reads, as in a web application that is not overloaded."""


PAGES = 300
MAX_IN_FLIGHT = 32
PAGE_SECONDS = 1.0
SETTLING = 0.2
"""Seconds for cancelled tasks to end and for new tasks to start."""

Rounds = dict[str, list[list[float]]]
"""Milliseconds of each call, in a list for each round, by the name of the load."""


async def measure(
    client: MioEsimClient, iccids: list[str], busy: asyncio.Future[None]
) -> list[float]:
    """Read one card after the other, and return the milliseconds that each took."""
    took: list[float] = []
    for iccid in iccids:
        began = time.perf_counter()
        await client.cards.detail(iccid)
        took.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(PAUSE)
        if busy.done():
            break
    return took


def quantile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def report(what: str, rounds: Rounds, note: str = "") -> None:
    """Print the calls of all rounds, and the median of the rounds' ratios to the idle client."""
    print(f"{'':18} {what:>8} {'p50 ms':>9} {'p99 ms':>9} {'max ms':>9}  p99, times idle")
    for name, each in rounds.items():
        took = [*itertools.chain.from_iterable(each)]
        line = f"{name:18} {len(took):>8,} {quantile(took, 50):>9.2f} {quantile(took, 99):>9.2f}"
        line += f" {max(took):>9.2f}"
        if name != IDLE:
            pairs = zip(each, rounds[IDLE], strict=True)
            ratios = [quantile(busy, 99) / quantile(idle, 99) for busy, idle in pairs]
            line += f"  {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            line += note
        print(line)


async def run(cards: int, reads: int, rounds: int, concurrency: int, latency: float) -> None:
    print(f"\nA host that takes {latency * 1000:g} ms, one process on one core")
    sandbox = Sandbox(cards)
    async with (
        host(cards, latency=latency) as url,
        MioEsimClient(sandbox.credentials, base_url=url) as client,
    ):
        singles = (sandbox.iccids * (reads // cards + 1))[: reads // rounds]
        await client.cards.query_all(sandbox.iccids[:2000])  # connections, code, caches
        sweeps: dict[str, list[float]] = {"sweep of a list": [], "sweep of a stream": []}

        async def sweep(name: str) -> None:
            while True:
                began = time.perf_counter()
                # A list is checked before anything is sent, an iterator as it is read.
                items = iter(sandbox.iccids) if name.endswith("stream") else sandbox.iccids
                async with client.cards.query_many(items, concurrency=concurrency) as outcomes:
                    async for outcome in outcomes:
                        assert outcome.card is not None
                sweeps[name].append(time.perf_counter() - began)

        took: Rounds = {name: [] for name in (IDLE, *sweeps)}
        for _ in range(rounds):
            await client.cards.detail(singles[0])  # a connection
            never = asyncio.get_running_loop().create_future()
            took[IDLE].append(await measure(client, singles, never))
            for name in sweeps:
                sweeping = asyncio.create_task(sweep(name))
                await asyncio.sleep(SETTLING)
                took[name].append(await measure(client, singles, sweeping))
                await end([sweeping])
        report("reads", took)
        for name, seconds in sweeps.items():
            mean = f", {statistics.mean(seconds):.2f} s each" if seconds else ""
            print(f"{name:18} {len(seconds):>8} sweeps ended{mean}")


async def end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel tasks, and raise what one of them failed with."""
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if not isinstance(outcome, asyncio.CancelledError | None):
            raise outcome
    await asyncio.sleep(SETTLING)


async def orders(count: int, rounds: int) -> None:
    print(
        f"\nOrders with a journal, alone and beside {PAGES} card pages of {PAGE_SECONDS:g} s each"
    )
    account = Sandbox(PAGES)
    beside = "beside pages"
    took: Rounds = {IDLE: [], beside: []}
    with tempfile.TemporaryDirectory() as folder:
        async with (
            host(PAGES, latency=PAGE_SECONDS, slow="getESIMDetail") as url,
            MioEsimClient(
                account.credentials, base_url=url, order_journal=OrderJournal(Path(folder) / "o.db")
            ) as client,
        ):
            await buy(client, 20)
            for _ in range(rounds):
                took[IDLE].append(await buy(client, count // rounds))
                pages: list[asyncio.Task[None]] = []
                for number, iccid in enumerate(account.iccids):
                    # Start the pages one after another, or the host would be busy with all at once.
                    # Pages above max_in_flight have to wait in any case.
                    if number <= MAX_IN_FLIGHT:
                        await asyncio.sleep(PAGE_SECONDS / MAX_IN_FLIGHT)
                    pages.append(asyncio.create_task(page(client, iccid)))
                await asyncio.sleep(SETTLING)
                took[beside].append(await buy(client, count // rounds))
                await end(pages)
    report("orders", took, "; to reach: 1.5")


async def buy(client: MioEsimClient, count: int) -> list[float]:
    """Place one order after the other, and return the milliseconds that each took."""
    took: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        await client.orders.place(sku_id=45, price_id=441, count=1)
        took.append((time.perf_counter() - began) * 1000)
    return took


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
    cards, reads, rounds = (10_000, 200, 2) if options.short else (100_000, 1000, 5)
    for latency in options.latency or (0.0, 0.05):
        asyncio.run(run(cards, reads, rounds, options.concurrency, latency))
    asyncio.run(orders(200 if options.short else 2000, rounds))


if __name__ == "__main__":
    main()

"""Measures the contenders in turns, in one process; prints CPU microseconds a request as JSON."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import time
from contextlib import AsyncExitStack

from benchmarks.contenders import CONTENDERS, DETAILS, Job, batch

__all__: list[str] = []

SLOW = {"httpx + pydantic": 4, "requests": 4}
"""Contenders that make only a fraction of the requests, because each one takes long."""


async def measure(url: str, rounds: int, batches: int, only: list[str]) -> dict[str, list[float]]:
    chosen = {name: make for name, make in (CONTENDERS | DETAILS).items() if name in only}
    took: dict[str, list[float]] = {name: [] for name in chosen}
    async with AsyncExitStack() as stack:
        jobs = {name: await stack.enter_async_context(make(url)) for name, make in chosen.items()}
        for job in jobs.values():
            await job(
                [batch(number) for number in range(16)]
            )  # warms up: connections, the login, code that is compiled at its first use
        # Each round reverses the order, so that none gains by its place.
        order = [*jobs.items()]
        for _ in range(rounds):
            order.reverse()
            for name, job in order:
                count = max(1, batches // SLOW.get(name, 1))
                took[name].append(await one_round(job, count, name))
    return took


async def one_round(job: Job, count: int, name: str) -> float:
    # New text objects, as if they were read from a file: nothing about them is cached.
    batches = [batch(number) for number in range(count)]
    gc.collect()
    began = time.process_time()
    found = await job(batches)
    used = time.process_time() - began
    if found != count * (1 if name in DETAILS else 100):
        raise RuntimeError(f"{name} lost cards: {found} from {count} requests")
    return used / count * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--batches", type=int, default=400)
    parser.add_argument("--only", nargs="*", default=[*CONTENDERS, *DETAILS])
    options = parser.parse_args()
    factory = None
    if options.loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        work = measure(options.url, options.rounds, options.batches, options.only)
        print(json.dumps(runner.run(work)))


if __name__ == "__main__":
    main()

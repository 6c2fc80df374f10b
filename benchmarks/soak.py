"""Runs sweeps for minutes, with evictions and 503s, and checks that nothing grows. (Linux only.)"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
import time
from pathlib import Path

from attrs import frozen

from benchmarks.host import host
from mioesim_async import MioEsimClient
from mioesim_async.sandbox import Sandbox

CARDS = 20_000


@frozen
class Sample:
    """Resources of the process; memory in MiB."""

    memory: float
    tasks: int
    sockets: int
    descriptors: int


def sample() -> Sample:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    targets: list[str] = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            targets.append(str(entry.readlink()))
        except FileNotFoundError:  # the descriptor of this listing
            continue
    return Sample(
        pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        len(asyncio.all_tasks()),
        sum(target.startswith("socket:") for target in targets),
        len(targets),
    )


def is_flat(samples: list[Sample]) -> dict[str, bool]:
    """Compare the highest values of the last third with those of the first, without the warm-up."""
    warm = samples[1:] if len(samples) > 3 else samples
    third = max(1, len(warm) // 3)

    def grew(name: str, slack: float) -> bool:
        first = max(getattr(one, name) for one in warm[:third])
        return max(getattr(one, name) for one in warm[-third:]) > first + slack

    memory = max(one.memory for one in warm[:third])
    return {
        "memory": not grew("memory", max(4.0, memory * 0.05)),
        "tasks": not grew("tasks", 10),
        "sockets": not grew("sockets", 4),
        "descriptors": not grew("descriptors", 4),
    }


async def run(minutes: float, interval: float) -> bool:
    sandbox = Sandbox(CARDS)
    swept = 0
    async with (
        host(CARDS, trouble=True) as url,
        MioEsimClient(sandbox.credentials, base_url=url) as client,
    ):

        async def work() -> None:
            nonlocal swept
            while True:
                found = 0
                async with client.cards.query_many(iter(sandbox.iccids)) as outcomes:
                    async for outcome in outcomes:
                        found += outcome.card is not None
                if found != CARDS:
                    raise RuntimeError(f"{CARDS - found} cards were lost")
                swept += found

        working = [asyncio.create_task(work()) for _ in range(2)]
        samples: list[Sample] = []
        began = time.monotonic()
        print(f"{'s':>5} {'MiB':>7} {'tasks':>6} {'sockets':>8} {'fds':>5} {'cards':>12}")
        while (passed := time.monotonic() - began) < minutes * 60:
            done, _ = await asyncio.wait(
                working,
                timeout=min(interval, minutes * 60 - passed),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if done:
                break
            now = sample()
            samples.append(now)
            print(
                f"{time.monotonic() - began:>5.0f} {now.memory:>7.1f} {now.tasks:>6} "
                f"{now.sockets:>8} {now.descriptors:>5} {swept:>12,}",
                flush=True,
            )
        for task in working:
            task.cancel()
        ends = await asyncio.gather(*working, return_exceptions=True)
        stats = client.stats()
    failed = [end for end in ends if not isinstance(end, asyncio.CancelledError)]
    print(
        f"{stats.requests:,} requests, {stats.retries} retries, {stats.replays} replays, "
        f"{stats.logins} logins, {stats.connections} connections"
    )
    verdict = is_flat(samples) if samples else {}
    for name, flat in verdict.items():
        print(f"{name}: {'flat' if flat else 'GROWING'}")
    for error in failed:
        print(f"failed: {error!r}")
    return bool(samples) and all(verdict.values()) and not failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--interval", type=float, default=10.0, help="seconds between samples")
    options = parser.parse_args()
    sys.exit(not asyncio.run(run(options.minutes, options.interval)))


if __name__ == "__main__":
    main()

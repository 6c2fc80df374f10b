"""A sandbox in a separate process: prints its URL, and ends when its standard input is closed."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mioesim_async.sandbox import Fault, Sandbox

__all__ = ["host"]


@asynccontextmanager
async def host(
    cards: int, *, trouble: bool = False, latency: float = 0.0, slow: str = ""
) -> AsyncIterator[str]:
    """Run the sandbox in a separate process, and yield its URL.

    Args:
        cards: How many cards its account has.
        trouble: Evict the token and answer 503 now and then.
        latency: Seconds before each answer.
        slow: The only endpoint with that latency; empty for all.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "benchmarks.host", "--cards", str(cards)),
        *(["--trouble"] if trouble else []),
        *("--latency", str(latency), "--slow", slow),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        url = (await process.stdout.readline()).decode().strip()
        if not url:
            raise RuntimeError("the sandbox's process did not start")
        yield url
    finally:
        process.stdin.close()
        await process.wait()


async def serve(cards: int, *, trouble: bool, latency: float, slow: str) -> None:
    async with Sandbox(cards, record=False) as sandbox:
        if latency:
            sandbox.faults.add(Fault.slow(latency), slow or None, times=None)
        print(sandbox.url, flush=True)
        ended = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
        while not ended.done():
            await asyncio.wait([ended], timeout=5)
            if trouble:
                # Not so often that the client raises TokenContention.
                if sandbox.clock.monotonic() % 60 < 5:
                    sandbox.evict()
                sandbox.faults.clear()
                sandbox.faults.add(Fault.http(503), "queryIccidInformation", times=5)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cards", type=int, default=1000)
    parser.add_argument("--trouble", action="store_true")
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--slow", default="")
    options = parser.parse_args()
    asyncio.run(
        serve(options.cards, trouble=options.trouble, latency=options.latency, slow=options.slow)
    )

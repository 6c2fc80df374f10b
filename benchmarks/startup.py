"""How long each command's ``--help`` takes, beside ``python -c "import aiohttp"``.

The processes take turns, and each figure is the median of its own turns, since the machine's speed
changes meanwhile.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = ("", "query", "order", "renew", "card", "skus", "orders reconcile", "sandbox")
AIOHTTP = [sys.executable, "-c", "import aiohttp"]
ALLOWED = 2.0


def seconds(command: list[str]) -> float:
    """Run a command and return how long it took."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60)
    return time.perf_counter() - began


def main() -> None:
    """Print a line for each command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10, help="turns of each command")
    times = parser.parse_args().times
    helps = {
        name: [sys.executable, "-m", "mioesim_async.cli", *name.split(), "--help"]
        for name in COMMANDS
    }
    took: dict[str, list[float]] = {name: [] for name in helps}
    aiohttp: list[float] = []
    for _ in range(times + 1):
        aiohttp.append(seconds(AIOHTTP))
        for name, command in helps.items():
            took[name].append(seconds(command))
    # The first turn reads the files from the disk.
    base = statistics.median(aiohttp[1:])
    print(f"{'import aiohttp':<28} {1000 * base:6.0f} ms")
    for name, each in took.items():
        median = statistics.median(each[1:])
        told = "" if median <= ALLOWED * base else f"   more than {ALLOWED:g} times"
        line = f"mioesim {name} --help".replace("  ", " ")
        print(f"{line:<28} {1000 * median:6.0f} ms {median / base:6.2f} times{told}")


if __name__ == "__main__":
    main()

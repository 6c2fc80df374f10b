"""Measures every figure in README's section "Speed", and writes a JSON file, a chart and README.

A figure compares two things that take turns in one run: the median of the rounds, with the
lowest and the highest. CPU is user and system time of the client's process.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from attrs import asdict, frozen

import mioesim_async
from benchmarks.answers import answers
from benchmarks.chart import chart
from benchmarks.processes import command_against_script, growth, import_ratios
from benchmarks.readme import write_section
from benchmarks.throughput import SETTINGS, throughput

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parents[1] / "README.md"
LIBRARIES = ("aiohttp", "attrs", "orjson", "uvloop", "yarl", "httpx", "pydantic", "requests")
BARS = (
    *("floor", "query", "query_many"),
    *("hand-written", "typed hand-written", "requests", "httpx + pydantic"),
)
TARGETS = {
    ("query_many", "query"): {
        "hand-written": 1.0,
        "typed hand-written": 0.7,
        "floor": 3.0,
        "httpx + pydantic": 0.22,
        "requests": 0.33,
    },
    ("detail",): {"hand-written detail": 1.3, "typed hand-written detail": 1.3},
}
"""Most CPU that the SDK may need, as a share of what each other contender needs."""


@frozen
class Figure:
    """One figure: what was measured, compared with what, its target, and its rounds."""

    name: str
    against: str
    sign: str
    target: float
    rounds: list[float]
    unit: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def is_reached(self) -> bool:
        return self.median <= self.target if self.sign == "<=" else self.median >= self.target

    def line(self) -> str:
        spread = f"{min(self.rounds):.2f} to {max(self.rounds):.2f}"
        return (
            f"{self.name:58} {self.against:28} {self.sign} {self.target:<5g} "
            f"{self.median:6.2f}{self.unit:4} ({spread:14}) {'' if self.is_reached else 'MISSED'}"
        )


@frozen
class Effort:
    """How much to measure."""

    rounds: int
    batches: int
    waves: float
    cards: int
    few: int
    many: int
    many_rounds: int
    imports: int


FULL = Effort(21, 200, 1.0, 100_000, 10_000, 1_000_000, 5, 15)
SHORT = Effort(2, 40, 0.1, 2_000, 1_000, 5_000, 1, 2)


def cpu(loop: str, effort: Effort) -> dict[str, list[float]]:
    """Measure the contenders in a separate process; return microseconds per request."""
    with answers() as url:
        command = [sys.executable, "-m", "benchmarks.cpu", url, "--loop", loop]
        command += ["--rounds", str(effort.rounds), "--batches", str(effort.batches)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    measured: dict[str, list[float]] = json.loads(done.stdout)
    return measured


def against(took: Mapping[str, list[float]], one: str, other: str) -> list[float]:
    """Return the ratio of two contenders, one for each round."""
    return [ours / theirs for ours, theirs in zip(took[one], took[other], strict=True)]


def cpu_figures(took: Mapping[str, list[float]]) -> Iterator[Figure]:
    for names, targets in TARGETS.items():
        for ours in names:
            what = "CPU of cards.detail()" if ours == "detail" else f"CPU per card, {ours}"
            for other, target in targets.items():
                yield Figure(what, other, "<=", target, against(took, ours, other))


def process_figures(effort: Effort) -> Iterator[Figure]:
    for setting in SETTINGS:
        shares = throughput(
            setting, min(5, effort.rounds), max(2, int(setting.waves * effort.waves))
        )
        yield Figure(setting.name, "the ideal", ">=", setting.target, shares)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        many, few = f"{effort.many:,} cards to CSV", f"{effort.few:,} cards"
        memory, times = growth(folder, effort.many_rounds, effort.few, effort.many)
        yield Figure(f"peak memory more, {many}", few, "<=", 15, memory, " MiB")
        yield Figure(f"time per card, {many}", few, "<=", 1.05, times)
        ratios = command_against_script(folder, min(5, effort.rounds), effort.cards)
        what = f"CPU of mioesim query, {effort.cards:,} cards to CSV"
        yield Figure(what, "hand-written script", "<=", 1.1, ratios)
    for code in ("import mioesim_async", "from mioesim_async import MioEsimClient"):
        yield Figure(code, "import aiohttp", "<=", 1.25, import_ratios(code, effort.imports))


def machine() -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = f"{names[0].partition(': ')[2]}, {len(names)} cores" if names else model
    return {
        "processor": model,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "taken": f"{dt.datetime.now(dt.UTC):%Y-%m-%d}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--short", action="store_true", help="measure very little, to check that it runs"
    )
    some = parser.add_mutually_exclusive_group()
    some.add_argument("--output", type=Path, help="a folder for the JSON file and the chart")
    some.add_argument(
        "--cpu", action="store_true", help="measure only CPU on asyncio's loop; write no file"
    )
    options = parser.parse_args()
    effort = SHORT if options.short else FULL
    taken = machine()
    print(f"{taken['processor']}, {taken['system']}")
    print(f"{platform.python_implementation()} {taken['python']}, {sys.executable}")
    print(f"mioesim_async of {Path(mioesim_async.__file__).parent}")
    took: dict[str, dict[str, list[float]]] = {}
    microseconds: dict[str, dict[str, float]] = {}
    figures: dict[str, list[Figure]] = {}

    def show(table: str, found: Iterator[Figure]) -> None:
        print(f"\n{table}")
        figures[table] = []
        for figure in found:
            print(figure.line(), flush=True)
            figures[table].append(figure)

    for loop in ("asyncio",) if options.cpu else ("asyncio", "uvloop"):
        took[loop] = cpu(loop, effort)
        microseconds[loop] = {name: statistics.median(each) for name, each in took[loop].items()}
        show(f"{loop}, 100 cards a request, 8 at once", cpu_figures(took[loop]))
        print("us a request:", {name: round(one) for name, one in microseconds[loop].items()})
    if options.cpu:
        return
    show("the default loop", process_figures(effort))

    folder = options.output or (None if options.short else RESULTS)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        report = {
            **taken,
            "microseconds": microseconds,
            "figures": {
                table: [{**asdict(one), "median": one.median} for one in found]
                for table, found in figures.items()
            },
        }
        (folder / "speed.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        drawing = chart(
            "CPU per card, against a hand-written aiohttp loop that returns dicts",
            f"{taken['processor']}, Python {taken['python']}; 100 cards a request, 8 at once",
            {
                name: statistics.median(against(took["asyncio"], name, "hand-written"))
                for name in BARS
            },
            frozenset({"query", "query_many"}),
        )
        (folder / "speed.svg").write_text(drawing, encoding="utf-8")
        if folder == RESULTS:
            write_section(README, report)


if __name__ == "__main__":
    main()

"""Measures whole processes: the command, and imports. (Linux only: memory is in KiB.)"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from attrs import frozen

from benchmarks.answers import answers, iccid

__all__ = ["Run", "command_against_script", "growth", "import_ratios"]

ACCOUNT = {
    "MIOESIM_PHONE_NUMBER": "13800000000",
    "MIOESIM_PASSWORD": "mypassword",
    "MIOESIM_SECRET_KEY": "1234567890qwertyuiopasdfghjklzxc",
}


@frozen
class Run:
    """One process that has ended: CPU seconds, peak MiB, and its standard error."""

    cpu: float
    peak: float
    said: str

    @property
    def seconds(self) -> float:
        """The time that the command says its sweep took."""
        found = re.search(r"Time +([\d.,]+) s", self.said)
        if found is None:
            raise RuntimeError(f"the command said no time: {self.said}")
        return float(found[1].replace(",", ""))


LAUNCHER = """
import json, os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
cpu = usage.ru_utime + usage.ru_stime
print(json.dumps([os.waitstatus_to_exitcode(status), cpu, usage.ru_maxrss / 1024]))
"""
"""Linux counts the memory of the parent as a process's own peak, so a small process starts it."""


def run(*arguments: str, **env: str) -> Run:
    done = subprocess.run(
        [sys.executable, "-S", "-c", LAUNCHER, sys.executable, *arguments],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=True,
    )
    status, cpu, peak = json.loads(done.stdout)
    if status:
        raise RuntimeError(f"{arguments} failed: {done.stderr}")
    return Run(cpu, peak, done.stderr)


def query(url: str, source: Path, output: Path) -> Run:
    """Run ``mioesim query`` over a file."""
    return run(
        *("-m", "mioesim_async.cli", "query", "--file", str(source), "--output", str(output)),
        **ACCOUNT,
        MIOESIM_BASE_URL=url,
        MIOESIM_TOKEN_STORE=str(output.with_suffix(".tokens")),
    )


def write_iccids(path: Path, cards: int) -> Path:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{iccid(number)}\n" for number in range(cards))
    return path


def command_against_script(folder: Path, rounds: int, cards: int) -> list[float]:
    """Compare the CPU of the command with that of a script that writes the same file."""
    source = write_iccids(folder / "iccids.txt", cards)
    ours, theirs = folder / "ours.csv", folder / "theirs.csv"
    ratios: list[float] = []
    with answers() as url:
        for _ in range(rounds):
            command = query(url, source, ours)
            script = run("-m", "benchmarks.by_hand", url, str(source), str(theirs))
            ratios.append(command.cpu / script.cpu)
    if _rows(ours) != _rows(theirs):
        raise RuntimeError("the command and the script wrote different rows")
    return ratios


def _rows(file: Path) -> list[str]:
    """Return the rows of a file in one order, without the time when each was queried."""
    return sorted(line.rpartition(",")[0] for line in file.read_text().splitlines())


def growth(folder: Path, rounds: int, few: int, many: int) -> tuple[list[float], list[float]]:
    """Compare many cards with few: the difference of peak MiB, and the ratio of times per card."""
    small = write_iccids(folder / "few.txt", few)
    large = write_iccids(folder / "many.txt", many)
    output = folder / "out.csv"
    memory: list[float] = []
    times: list[float] = []
    with answers() as url:
        for _ in range(rounds):
            one, other = query(url, small, output), query(url, large, output)
            memory.append(other.peak - one.peak)
            times.append((other.seconds / many) / (one.seconds / few))
    return memory, times


def import_ratios(statement: str, rounds: int) -> list[float]:
    """Compare the CPU of an import with aiohttp's, both without the bare interpreter's."""
    run("-c", statement)
    ratios: list[float] = []
    for _ in range(rounds):
        bare, ours, aiohttp = (
            run("-c", code).cpu for code in ("pass", statement, "import aiohttp")
        )
        ratios.append((ours - bare) / (aiohttp - bare))
    return ratios

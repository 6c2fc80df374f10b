"""Writes README's table of figures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["section", "write_section"]

START, END = "<!-- figures: python -m benchmarks -->\n", "<!-- end of figures -->\n"


def section(report: Mapping[str, Any]) -> str:
    """Write the figures as a table, with the second event loop's beside the first's."""
    default, second, others = report["figures"].values()
    libraries = ", ".join(
        f"{name} {report['libraries'][name]}" for name in ("aiohttp", "orjson", "uvloop")
    )
    where = f"{report['processor']}, Python {report['python']}, {libraries}"
    lines = [
        f"Taken {report['taken']} on {where}. Medians, with the lowest and the highest round.",
        "",
        "| figure | against | aim | asyncio | uvloop |",
        "|---|---|---|---|---|",
        *[_row(one, _shown(other)) for one, other in zip(default, second, strict=True)],
        *[_row(one, "") for one in others],
    ]
    return "\n".join(lines) + "\n"


def write_section(readme: Path, report: Mapping[str, Any]) -> None:
    text = readme.read_text(encoding="utf-8")
    pattern = re.escape(START) + ".*?" + re.escape(END)
    if not re.search(pattern, text, re.DOTALL):
        raise RuntimeError(f"{readme} has no place for the figures")
    written = f"{START}\n{section(report)}\n{END}"
    text = re.sub(pattern, lambda _: written, text, flags=re.DOTALL)
    readme.write_text(text, encoding="utf-8")


def _row(figure: Mapping[str, Any], second: str) -> str:
    aim = f"{'≤' if figure['sign'] == '<=' else '≥'} {figure['target']:g}{figure['unit']}"
    return f"| {figure['name']} | {figure['against']} | {aim} | {_shown(figure)} | {second} |"


def _shown(figure: Mapping[str, Any]) -> str:
    rounds: Sequence[float] = figure["rounds"]
    return f"{figure['median']:.2f}{figure['unit']} ({min(rounds):.2f} to {max(rounds):.2f})"

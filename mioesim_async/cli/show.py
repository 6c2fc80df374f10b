"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from mioesim_async.cli.outputs import printable
from mioesim_async.models.converter import to_dict

__all__ = ["print_json", "print_table"]


def print_json(value: Any) -> None:
    """Print models, or lists and dicts of them, as one JSON document."""
    json.dump(to_dict(value), sys.stdout, ensure_ascii=False, indent=2)
    print()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str = "") -> None:
    """Print rows for people; what is not known is left empty."""
    table = Table(*columns, title=title or None, title_justify="left", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*["" if cell is None else printable(str(cell)) or "" for cell in row])
    Console().print(table)

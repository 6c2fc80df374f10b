"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import IO, Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from mioesim_async.models.plain import to_dict

__all__ = [
    "amount",
    "fixed",
    "moment",
    "number",
    "print_json",
    "print_lines",
    "print_table",
    "print_text",
    "printable",
    "progress",
]

SECRET_FIELDS = ("activation", "links", "manual", "pdf_url")
"""Fields of models that hold the activation code, or lead to it."""

NARROWEST = 12
"""Characters that a column of text keeps, however narrow the terminal is."""

OVERRIDES = r"\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
"""Characters that change the direction of the text after them, or break lines."""

HARMFUL = re.compile(rf"[\x00-\x1f\x7f-\x9f\ud800-\udfff{OVERRIDES}]")
HARMFUL_IN_JSON = re.compile(rf"[\x7f-\x9f\ud800-\udfff{OVERRIDES}]")
"""What JSON takes as it is, and terminals and encoders don't."""


def printable(text: str | None) -> str | None:
    """Replace what no file or terminal should get.

    These are control characters, with which text could move the cursor or hide itself, marks
    that turn the direction of text, and half characters.
    """
    # Plain text is most of it, and the pattern takes twice as long to find nothing.
    if text is None or (text.isascii() and text.isprintable()):
        return text
    return HARMFUL.sub("\ufffd", text)


def fixed(title: str) -> Column:
    """Make a column of ids or words that are never folded or cut."""
    return Column(title, no_wrap=True)


def number(title: str) -> Column:
    """Make a column of numbers."""
    return Column(title, justify="right", no_wrap=True)


def amount(megabytes: float | None) -> str | None:
    """Write an amount of data, in MB or in GB of 1024 MB."""
    if megabytes is None:
        return None
    value, unit = (megabytes / 1024, "GB") if megabytes >= 1024 else (megabytes, "MB")
    return f"{value:,.2f}".rstrip("0").rstrip(".") + f" {unit}"


def moment(time: datetime | None) -> str | None:
    """Write a time, in the zone that it is in."""
    return None if time is None else f"{time:%Y-%m-%d %H:%M}"


def print_json(value: Any, *, show_activation: bool = False) -> None:
    """Print models, or lists and dicts of them, as one JSON document.

    Args:
        value: What to print.
        show_activation: Whether activation codes, what leads to them, and ``extra``, which
            may hold them, are printed too. Otherwise each is null, and another field such as
            ``activation_hidden`` says whether there is one.
    """
    data = to_dict(value)
    text = json.dumps(data if show_activation else _hidden(data), ensure_ascii=False, indent=2)
    print(HARMFUL_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def print_text(text: str, *, file: IO[str] | None = None) -> None:
    """Print one line that may hold words of the vendor's or the user's."""
    print(printable(text), file=file)


def print_table(
    columns: Sequence[str | Column],
    rows: Iterable[Sequence[Any]],
    *,
    title: str = "",
    file: IO[str] | None = None,
) -> None:
    """Print rows for people, to standard output or a file; what is not known is left empty.

    Where the terminal is too narrow, text is folded, and ids and numbers stay whole: then
    lines are longer than the terminal.
    """
    # Columns keep the cells of their table.
    own = [column.copy() if isinstance(column, Column) else column for column in columns]
    table = Table(*own, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        # Text, since the vendor's words are no markup.
        table.add_row(*[Text(_cell(cell)) for cell in row])
    for column in table.columns:
        cells = [cell_len(str(cell)) for cell in (column.header, *column.cells)]
        column.min_width = max(cells) if column.no_wrap else min(max(cells), NARROWEST)
        column.overflow = "fold"
    console = Console(file=file)
    needed = sum(column.min_width or 0 for column in table.columns) + 2 * len(table.columns) - 2
    console.width = max(console.width, needed)
    if title:
        console.print(Text(_cell(title), style="bold"))
    console.print(table, crop=False)


def print_lines(entries: Iterable[tuple[str, Any]]) -> None:
    """Print what is known of one thing, a line each; values are never folded."""
    known = [(label, _cell(value)) for label, value in entries if value is not None]
    width = max((len(label) for label, _ in known), default=0)
    console = Console()
    for label, value in known:
        line = Text(f"{label:{width}}", style="bold").append(f"  {value}", style="not bold")
        console.print(line, soft_wrap=True)


@contextmanager
def progress(
    label: str, total: int | None, *, quiet: bool = False
) -> Generator[Callable[[int, int | None], None]]:
    """Show a progress bar on a terminal; yield what takes the count and, if it changed, the total.

    Args:
        label: Stands before the bar.
        total: The count at its end, or None where nobody knows.
        quiet: Show none: rows and a bar on one terminal would run into each other.
    """
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda *_: None
        return
    # Only a terminal has one.
    from rich.progress import MofNCompleteColumn, Progress

    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count, total: bar.update(task, completed=count, total=total)


def _cell(value: Any) -> str:
    return "" if value is None else printable(str(value)) or ""


def _hidden(data: Any) -> Any:
    if isinstance(data, list):
        return [_hidden(item) for item in data]
    if not isinstance(data, dict):
        return data
    kept: dict[str, Any] = {}
    for name, value in data.items():
        if name in SECRET_FIELDS:
            kept |= {name: None, f"{name}_hidden": value not in (None, {})}
        elif name != "extra":
            kept[name] = _hidden(value)
    return kept

"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import IO, Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from mioesim_async.models.cards import DpStatus
from mioesim_async.models.orders import OrderStatus
from mioesim_async.models.plain import written

__all__ = [
    "CARD_STATUSES",
    "amount",
    "card_status",
    "fixed",
    "moment",
    "number",
    "order_status",
    "print_json",
    "print_lines",
    "print_table",
    "print_text",
    "printable",
    "progress",
]

CARD_STATUSES: Mapping[str, str] = {
    DpStatus.ACTIVE: "the plan is running",
    DpStatus.ENABLE: "on the device; the plan may not have started",
    DpStatus.DISABLE: "disabled on the device",
    DpStatus.DELETE: "deleted; it can't be used again",
}
"""What the vendor says of each status of a card."""

MIN_TEXT_WIDTH = 12
"""Least width of a column of text, in characters."""

DIRECTIONS = r"\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
"""Characters that change the direction of the text after them, or that break lines."""

UNPRINTABLE = re.compile(rf"[\x00-\x1f\x7f-\x9f\ud800-\udfff{DIRECTIONS}]")
UNPRINTABLE_IN_JSON = re.compile(rf"[\x7f-\x9f\ud800-\udfff{DIRECTIONS}]")
"""Characters that JSON leaves as they are and that terminals or encoders can't take."""


def printable(text: str | None) -> str | None:
    """Replace what no file or terminal should get.

    These are control characters, with which text could move the cursor or hide itself, characters
    that change the direction of text, and lone surrogates.
    """
    # Faster than the pattern, and enough for most texts.
    if text is None or (text.isascii() and text.isprintable()):
        return text
    return UNPRINTABLE.sub("\ufffd", text)


def fixed(title: str) -> Column:
    """Make a column of ids or words that are never wrapped or cut."""
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


def order_status(status: int | None) -> str | None:
    """Write the status of an order in words, such as "partly cancelled"."""
    return None if status is None else OrderStatus(status).name.lower().replace("_", " ")


def card_status(status: str | None) -> str:
    """Write the status of a card with what it means."""
    meaning = CARD_STATUSES.get(status or "")
    return f"{status or 'unknown'}{f': {meaning}' if meaning else ''}"


def print_json(value: Any, *, show_activation: bool = False) -> None:
    """Print models, or lists and dicts of them, as one JSON document.

    Args:
        value: What to print.
        show_activation: Print activation codes, links to them, and ``extra``, which may hold
            them. If False, each code or link is null, a field such as ``activation_hidden`` says
            whether there is one, and ``extra`` is left out.
    """
    data = written(value, None) if show_activation else _without_extra(written(value, _told))
    text = json.dumps(_with_words(data), ensure_ascii=False, indent=2)
    print(UNPRINTABLE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def _with_words(data: Any) -> Any:
    """Write the statuses of orders as words, with their codes beside them."""
    if isinstance(data, list):
        return [_with_words(item) for item in data]
    if not isinstance(data, dict):
        return data
    worded = {name: _with_words(value) for name, value in data.items() if name != "extra"}
    if type(code := data.get("status")) is int:
        worded |= {"status": order_status(code), "status_code": code}
    return worded | ({"extra": data["extra"]} if "extra" in data else {})


def print_text(text: str, *, file: IO[str] | None = None) -> None:
    """Print one line that may contain text of the vendor or of the user."""
    print(printable(text), file=file)


def print_table(
    columns: Sequence[str | Column],
    rows: Iterable[Sequence[Any]],
    *,
    title: str = "",
    file: IO[str] | None = None,
) -> None:
    """Print a table, to standard output or a file; None is an empty cell.

    If the terminal is too narrow, text is wrapped, but ids and numbers are not: then lines are
    longer than the terminal is wide.
    """
    # A Column object keeps the cells of its table.
    own = [column.copy() if isinstance(column, Column) else column for column in columns]
    table = Table(*own, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        # Text, so that rich doesn't read the vendor's text as markup.
        table.add_row(*[Text(_cell(cell)) for cell in row])
    for column in table.columns:
        cells = [cell_len(str(cell)) for cell in (column.header, *column.cells)]
        column.min_width = max(cells) if column.no_wrap else min(max(cells), MIN_TEXT_WIDTH)
        column.overflow = "fold"
    console = Console(file=file)
    needed = sum(column.min_width or 0 for column in table.columns) + 2 * len(table.columns) - 2
    console.width = max(console.width, needed)
    if title:
        console.print(Text(_cell(title), style="bold"))
    console.print(table, crop=False)


def print_lines(entries: Iterable[tuple[str, Any]]) -> None:
    """Print labels with values, one a line; None is left out, and values are never wrapped."""
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
    """Show a progress bar on a terminal; yield a function that takes the count and the total.

    Args:
        label: Text before the bar.
        total: The count at the end, or None if it is not known.
        quiet: Show no bar, because the terminal also shows rows.
    """
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda *_: None
        return
    # Imported late, since only a terminal needs it.
    from rich.progress import MofNCompleteColumn, Progress

    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count, total: bar.update(task, completed=count, total=total)


def _cell(value: Any) -> str:
    return "" if value is None else printable(str(value)) or ""


def _told(name: str, value: Any) -> dict[str, Any]:
    return {name: None, f"{name}_hidden": value not in (None, {})}


def _without_extra(data: Any) -> Any:
    if isinstance(data, list):
        return [_without_extra(item) for item in data]
    if not isinstance(data, dict):
        return data
    return {name: _without_extra(value) for name, value in data.items() if name != "extra"}

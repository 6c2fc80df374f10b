"""Shows what would be bought and what it costs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from rich.table import Column

from mioesim_async import errors
from mioesim_async.api.orders.line_checks import Line
from mioesim_async.cli.printing import amount, fixed, number, print_table, printable
from mioesim_async.models.api_code import ApiCode

if TYPE_CHECKING:
    from mioesim_async.api.orders.planning import PlannedLine

__all__ = ["money", "show_plan", "total_of"]

NO_PRICE = "unknown"
TITLES = ("Data", "Days", "Cards", "Each", "Total")


def total_of(lines: Iterable[PlannedLine]) -> Decimal:
    """Add up the prices that are known."""
    return sum((line.price for line in lines if line.price is not None), Decimal(0))


def money(value: Decimal | None) -> str:
    """Write an amount; the vendor names no currency."""
    if value is None:
        return NO_PRICE
    exponent = value.as_tuple().exponent
    places = -exponent if isinstance(exponent, int) else 2
    return f"{value:,.{max(2, places)}f}"


def show_plan(lines: Sequence[PlannedLine], *, stock: bool = False) -> None:
    """Show on standard error what would be bought; lines with the same plan are one row."""
    columns: list[str | Column] = ["Plan", fixed("SKU / price"), *map(number, TITLES)]
    print_table(
        [*columns, fixed("Stock")] if stock else columns,
        [_row(group, stock=stock) for group in _grouped(lines)],
        file=sys.stderr,
    )


def _grouped(lines: Sequence[PlannedLine]) -> Iterable[list[PlannedLine]]:
    groups: dict[object, list[PlannedLine]] = {}
    for one in lines:
        line = one.line
        key = (line.sku_id, line.price_id, line.api_code, line.daypass_days, one.in_stock)
        groups.setdefault(key, []).append(one)
    return groups.values()


def _row(group: list[PlannedLine], *, stock: bool) -> list[str]:
    first, cards = group[0], sum(one.cards for one in group)
    known = [one for one in group if one.price is not None]
    each = first.price / first.cards if first.price is not None else None
    row = [
        *_described(first.line),
        f"{cards:,}",
        money(each),
        money(total_of(known) if len(known) == len(group) else None),
    ]
    return [*row, {True: "yes", False: "NO", None: "?"}[first.in_stock]] if stock else row


def _described(line: Line) -> list[str]:
    package = line.package
    ids = line.api_code or f"{line.sku_id} / {line.price_id}"
    if package is None:
        found = "by its code" if line.api_code else "not in the catalogue"
        return [found, ids, *_by_code(line)]
    name = package.extra.get("showName")
    days = line.daypass_days or package.days
    return [
        printable(name) or "" if isinstance(name, str) else "",
        ids,
        _size(package.data_mb, daily=package.is_day_pass),
        "" if days is None else str(days),
    ]


def _by_code(line: Line) -> list[str]:
    try:
        code = ApiCode.parse(line.api_code or "")
    except errors.InvalidRequest:
        return ["", "" if line.daypass_days is None else str(line.daypass_days)]
    days = line.daypass_days or code.days
    return [_size(code.data_mb, daily=code.is_day_pass), "" if days is None else str(days)]


def _size(megabytes: float | None, *, daily: bool) -> str:
    return f"{amount(megabytes) or ''}{'/day' * daily}"

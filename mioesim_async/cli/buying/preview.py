"""What a purchase would come to: its plan, its price, and what the journal knows of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence, Set
from decimal import Decimal

from attrs import define, evolve
from rich.table import Column

from mioesim_async import errors
from mioesim_async.api.orders.line_checks import Line, Purchase, check_line, of_today
from mioesim_async.api.orders.planning import PackageFinder
from mioesim_async.api.orders.purchase import fingerprint_of
from mioesim_async.cli.printing import amount, fixed, number, print_table
from mioesim_async.cli.writers import printable
from mioesim_async.client import MioEsimClient
from mioesim_async.journal.entry import REPEATABLE, UNSETTLED, EntryState, JournalEntry
from mioesim_async.models.api_code import ApiCode
from mioesim_async.models.iccid import shown
from mioesim_async.models.order_lines import OrderLine
from mioesim_async.transport.failures import is_fatal

__all__ = ["Planned", "check_now", "money", "plan", "show_plan", "total_of"]

NO_PRICE = "unknown"
TITLES = ("Data", "Days", "Cards", "Each", "Total")


@define
class Planned:
    """One line, and what is known of it before anything is sent.

    Attributes:
        line: The line, with its package where the catalogue has it.
        number: Its line in the file, from 1; 0 where there is no file.
        price: What it costs in all, or None.
        fault: Why it can't be had, or None: by the vendor's catalogue, or since its reference
            is that of another order.
        entry: What the journal knows of its reference, or None.
        in_stock: Whether there are so many cards; None where that was not asked.
    """

    line: Line
    number: int = 0
    price: Decimal | None = None
    fault: errors.MioEsimError | None = None
    entry: JournalEntry | None = None
    in_stock: bool | None = None

    @property
    def was_placed(self) -> bool:
        """Whether it was bought before."""
        return self._is_known({EntryState.PLACED})

    @property
    def is_open(self) -> bool:
        """Whether it may have been bought before."""
        return self._is_known(UNSETTLED)

    @property
    def spent(self) -> Decimal:
        """What was spent under its reference before, as far as that is known."""
        if self.entry is None or self.entry.state in REPEATABLE:
            return Decimal(0)
        prices = (self.entry.expected_price, self.price)
        return next((price for price in prices if price is not None), Decimal(0))

    def _is_known(self, states: Set[EntryState]) -> bool:
        clashes = isinstance(self.fault, errors.DuplicateOrder)
        return self.entry is not None and self.entry.state in states and not clashes

    @property
    def is_first(self) -> bool:
        """Whether it was surely not bought before."""
        return not self.was_placed and not self.is_open

    @property
    def is_new(self) -> bool:
        """Whether it would be sent."""
        return self.fault is None and self.is_first

    @property
    def cards(self) -> int:
        """How many cards it is for."""
        return self.line.count if isinstance(self.line, OrderLine) else 1


def check_now(line: Line) -> Purchase:
    """Check all that can be checked without the vendor, on the present day in GMT+8.

    Raises:
        InvalidRequest: With every fault.
    """
    if _is_by_code_of_sku(line):
        # Any id will do until the catalogue tells the right one.
        line = evolve(line, api_code=None, price_id=1)
    return check_line(line, today=of_today(time.time()))


def _is_by_code_of_sku(line: Line) -> bool:
    """Tell whether a plan is named by its SKU and its code.

    The vendor takes a code alone, but several SKUs may have it: with the SKU, the catalogue
    tells which plan is meant, and what it costs.
    """
    return line.api_code is not None and line.sku_id is not None and line.price_id is None


async def plan(
    client: MioEsimClient, lines: Sequence[tuple[int, Line]], *, stock: bool
) -> list[Planned]:
    """Look lines up in the catalogue and in the journal.

    Args:
        client: Asks the vendor.
        lines: Their numbers, and the lines.
        stock: Ask for the stock of each plan as well.

    Raises:
        MioEsimError: If the vendor can't be asked.
    """
    finder = PackageFinder(client.catalogue, client.partners)
    refused = await _read_catalogue(finder, [line for _, line in lines])
    planned: list[Planned] = []
    for place, line in lines:
        one = Planned(line, place, entry=await client.orders.entry_of(line.other_order_id))
        try:
            if (fault := refused.get(_shelf(line))) is not None:
                raise fault
            await _price(one, finder)
        except (errors.ApiError, errors.InvalidRequest) as error:
            one.fault = error.with_traceback(None)
        one.fault = _clash(one) or one.fault
        planned.append(one)
    if stock:
        await _ask_stock(client, planned)
    return planned


def _clash(one: Planned) -> errors.DuplicateOrder | None:
    """Say so if the reference is that of another order: then it would not be sent."""
    line, entry = one.line, one.entry
    if entry is None or _is_by_code_of_sku(line):
        return None
    if fingerprint_of(check_now(evolve(line, package=None))) == entry.fingerprint:
        return None
    return errors.DuplicateOrder(
        f"reference {line.other_order_id} was used before with other parameters (order "
        f"{entry.order_num or 'not known'}); take another reference for another order",
        other_order_id=line.other_order_id,
        order_num=entry.order_num,
    )


def _shelf(line: Line) -> tuple[int | None, int | None]:
    """Return where in the catalogue, or in which partner's, a line's plan is."""
    return getattr(line, "dp_id", None), line.sku_id


async def _read_catalogue(
    finder: PackageFinder, lines: Iterable[Line]
) -> dict[tuple[int | None, int | None], errors.ApiError]:
    """Let the finder read all that it needs at once; return what was refused."""
    shelves = {_shelf(line): line for line in lines}
    answers = await asyncio.gather(*map(finder.find, shelves.values()), return_exceptions=True)
    refused: dict[tuple[int | None, int | None], errors.ApiError] = {}
    for shelf, answer in zip(shelves, answers, strict=True):
        if isinstance(answer, errors.ApiError) and not is_fatal(answer):
            refused[shelf] = answer
        elif isinstance(answer, BaseException):
            raise answer
    return refused


async def _price(one: Planned, finder: PackageFinder) -> None:
    """Find a line's plan, check the line against it, and price it."""
    line, package = one.line, await finder.find(one.line)
    if _is_by_code_of_sku(line):
        if package is None:
            raise errors.InvalidRequest(
                f"SKU {line.sku_id} has no plan with code {shown(line.api_code)}"
            )
        line = evolve(line, price_id=package.price_id, api_code=None)
    line = evolve(line, package=package)
    purchase = check_now(line)
    if purchase.passed_day and one.is_first:
        raise errors.InvalidRequest(purchase.passed_day)
    one.line, one.price = line, purchase.price


async def _ask_stock(client: MioEsimClient, planned: Iterable[Planned]) -> None:
    """Ask for the stock of each plan, for all its lines together."""
    groups: dict[tuple[int, int], list[Planned]] = {}
    for one in planned:
        line = one.line
        if isinstance(line, OrderLine) and line.sku_id and line.price_id and one.is_new:
            groups.setdefault((line.sku_id, line.price_id), []).append(one)
    for (sku_id, price_id), group in groups.items():
        there = await client.orders.check_stock(
            sku_id=sku_id, price_id=price_id, count=sum(one.cards for one in group)
        )
        for one in group:
            one.in_stock = there


def total_of(lines: Iterable[Planned]) -> Decimal:
    """Add up the prices that are known."""
    return sum((line.price for line in lines if line.price is not None), Decimal(0))


def money(value: Decimal | None) -> str:
    """Write an amount; the vendor names no currency."""
    if value is None:
        return NO_PRICE
    exponent = value.as_tuple().exponent
    places = -exponent if isinstance(exponent, int) else 2
    return f"{value:,.{max(2, places)}f}"


def show_plan(lines: Sequence[Planned], *, stock: bool = False) -> None:
    """Show on standard error what would be bought, lines of the same plan as one row."""
    columns: list[str | Column] = ["Plan", fixed("SKU / price"), *map(number, TITLES)]
    print_table(
        [*columns, fixed("Stock")] if stock else columns,
        [_row(group, stock=stock) for group in _grouped(lines)],
        stderr=True,
    )


def _grouped(lines: Sequence[Planned]) -> Iterable[list[Planned]]:
    groups: dict[object, list[Planned]] = {}
    for one in lines:
        line = one.line
        key = (line.sku_id, line.price_id, line.api_code, line.daypass_days, one.in_stock)
        groups.setdefault(key, []).append(one)
    return groups.values()


def _row(group: list[Planned], *, stock: bool) -> list[str]:
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
    """Return a plan's name, ids, data and days."""
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

"""What lines would come to: their plans, prices and stock, and what the journal knows of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence, Set
from datetime import date
from decimal import Decimal
from functools import partial

from attrs import define, evolve

from mioesim_async import errors
from mioesim_async.api.catalogue import Catalogue
from mioesim_async.api.orders.journalling import clash_of, fingerprint_of
from mioesim_async.api.orders.line_checks import (
    Line,
    Purchase,
    check_all,
    check_in_steps,
    of_package,
    of_today,
)
from mioesim_async.api.partners import Partners
from mioesim_async.journal.entry import REPEATABLE, UNSETTLED, EntryState, JournalEntry
from mioesim_async.models.catalogue import Package
from mioesim_async.models.iccid import shown
from mioesim_async.models.order_lines import OrderLine
from mioesim_async.slices import Steps, at_once, in_slices, shared_slice
from mioesim_async.transport.failures import is_fatal

__all__ = ["PackageFinder", "PlannedLine", "ask_stock", "check_plan", "plan_line", "plan_lines"]

CheckStock = Callable[..., Awaitable[bool]]
FindPackage = Callable[[Line], Awaitable[Package | None]]
EntryOf = Callable[[str], Awaitable[JournalEntry | None]]


@define
class PlannedLine:
    """One line, and what is known of it before anything is sent.

    Attributes:
        line: The line, with its package where the catalogue has it.
        number: Its place among the lines, from 1.
        price: What it costs in all, in the vendor's currency; None where that is not known.
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


def check_plan(line: Line, *, now: float) -> Purchase:
    """Check all that can be checked without the vendor.

    Args:
        line: The line.
        now: The present moment, in seconds since the epoch (UTC); its day is that of GMT+8.

    Raises:
        InvalidRequest: With every fault.
    """
    return at_once(_check_in_steps(line, today=of_today(now)))


def _check_in_steps(line: Line, *, today: date) -> Steps[Purchase]:
    if _is_by_code_of_sku(line):
        # Any id will do until the catalogue tells the right one.
        line = evolve(line, api_code=None, price_id=1)
    return (yield from check_in_steps(line, today=today))


def _is_by_code_of_sku(line: Line) -> bool:
    """Tell whether a plan is named by its SKU and its code.

    The vendor takes a code alone, but several SKUs may have it: with the SKU, the catalogue
    tells which plan is meant, and what it costs.
    """
    return line.api_code is not None and line.sku_id is not None and line.price_id is None


async def plan_lines(
    lines: Sequence[Line],
    *,
    finder: PackageFinder,
    entry_of: EntryOf,
    check_stock: CheckStock | None,
    now: float,
) -> list[PlannedLine]:
    """Look lines up in the catalogue and in the journal.

    Args:
        lines: The lines.
        finder: Finds their packages.
        entry_of: Asks the journal for a reference.
        check_stock: Asks the vendor for the stock of a plan; None asks for none.
        now: The present moment, in seconds since the epoch (UTC).

    Raises:
        InvalidRequest: With every fault of lines that can't be what is meant.
        MioEsimError: If the vendor or the journal can't be asked.
    """
    check = partial(_check_in_steps, today=of_today(now))
    await in_slices(check_all(lines, check, first=1))
    refused = await _read_catalogue(finder, lines)

    async def find(line: Line) -> Package | None:
        if (fault := refused.get(_where(line))) is not None:
            raise fault
        return await finder.find(line)

    planned: list[PlannedLine] = []
    shared = shared_slice()
    for number, line in enumerate(lines, start=1):
        if shared.is_used_up():
            await shared.wait_for_next()
        purchase = await in_slices(check(line))
        one, _ = await plan_line(line, purchase, find=find, entry_of=entry_of)
        one.number = number
        planned.append(one)
    if check_stock is not None:
        await ask_stock(check_stock, [one for one in planned if one.is_new])
    return planned


async def plan_line(
    line: Line, purchase: Purchase, *, find: FindPackage, entry_of: EntryOf | None
) -> tuple[PlannedLine, Purchase]:
    """Find a line's plan and price, and what the journal knows of it.

    Args:
        line: The line.
        purchase: What its check has given.
        find: Finds its package.
        entry_of: Asks the journal for a reference; None where the purchase will ask it.

    Returns:
        The line with what is known of it, and the purchase with its price.

    Raises:
        MioEsimError: If the vendor or the journal can't be asked.
    """
    one = PlannedLine(line)
    if entry_of is not None:
        one.entry = await entry_of(line.other_order_id)
    try:
        package = await find(line)
        if _is_by_code_of_sku(line):
            if package is None or package.price_id is None:
                raise errors.InvalidRequest(
                    f"SKU {line.sku_id} has no plan with code {shown(line.api_code)}"
                )
            line = evolve(line, price_id=package.price_id, api_code=None)
            purchase.params["priceId"] = package.price_id
        one.line = line if package is line.package else evolve(line, package=package)
        purchase = of_package(purchase, one.line)
        if entry_of is not None and purchase.passed_day and one.is_first:
            raise errors.InvalidRequest(purchase.passed_day)
        one.price = purchase.price
    except (errors.ApiError, errors.InvalidRequest) as error:
        if is_fatal(error):
            raise
        one.fault = error.with_traceback(None)
    if one.entry is not None and not _is_by_code_of_sku(one.line):
        one.fault = clash_of(one.entry, fingerprint_of(purchase)) or one.fault
    return one, purchase


def _where(line: Line) -> tuple[int | None, int | None]:
    """Return where in the catalogue, or in which partner's, a line's plan is."""
    return getattr(line, "dp_id", None), line.sku_id


async def _read_catalogue(
    finder: PackageFinder, lines: Iterable[Line]
) -> dict[tuple[int | None, int | None], errors.ApiError]:
    """Let the finder read all that it needs at once; return what was refused."""
    places = {_where(line): line for line in lines}
    answers = await asyncio.gather(*map(finder.find, places.values()), return_exceptions=True)
    refused: dict[tuple[int | None, int | None], errors.ApiError] = {}
    for place, answer in zip(places, answers, strict=True):
        if isinstance(answer, errors.ApiError) and not is_fatal(answer):
            refused[place] = answer
        elif isinstance(answer, BaseException):
            raise answer
    return refused


async def ask_stock(check_stock: CheckStock, planned: Iterable[PlannedLine]) -> None:
    """Ask for the stock of each plan, for all its lines together."""
    groups: dict[tuple[int, int], list[PlannedLine]] = {}
    for one in planned:
        plan = one.line.package if one.line.sku_id is None else one.line
        if isinstance(one.line, OrderLine) and plan and plan.sku_id and plan.price_id:
            groups.setdefault((plan.sku_id, plan.price_id), []).append(one)
    for (sku_id, price_id), group in groups.items():
        there = await check_stock(
            sku_id=sku_id, price_id=price_id, count=sum(one.cards for one in group)
        )
        for one in group:
            one.in_stock = there


class PackageFinder:
    """Finds packages in the catalogue, or in a partner's."""

    def __init__(self, catalogue: Catalogue, partners: Partners) -> None:
        """Start with nothing known."""
        self._catalogue = catalogue
        self._partners = partners
        self._known: dict[tuple[int | None, int], list[Package]] = {}

    async def find(self, line: Line) -> Package | None:
        """Return the package that a line is for, or None where the catalogue has none.

        It is the one with the line's price id, else with its API code. A code is unique only
        within a SKU (observed), so without the SKU it finds nothing.

        Raises:
            MioEsimError: If the catalogue can't be read.
        """
        if line.sku_id is None:
            return None
        dp_id = line.dp_id if isinstance(line, OrderLine) else None
        key = dp_id, line.sku_id
        if key not in self._known:
            sold = (
                await self._catalogue.packages(line.sku_id)
                if dp_id is None
                else await self._partners.packages(dp_id, line.sku_id)
            )
            self._known[key] = sold.packages
        name = "api_code" if line.price_id is None else "price_id"
        wanted = getattr(line, name)
        return next((one for one in self._known[key] if getattr(one, name) == wanted), None)

"""Finds out the packages, prices, stock and journal entries of lines; buys nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence, Set
from decimal import Decimal
from functools import partial

from attrs import define, evolve

from mioesim_async import errors
from mioesim_async.api.catalogue import Catalogue
from mioesim_async.api.orders.journalling import duplicate_error, fingerprint_of
from mioesim_async.api.orders.line_checks import (
    Line,
    Purchase,
    check_all,
    check_plan_in_steps,
    day_in_gmt8,
    is_by_code_of_sku,
    with_package,
)
from mioesim_async.api.partners import Partners
from mioesim_async.journal.entry import REPEATABLE, UNSETTLED, EntryState, JournalEntry
from mioesim_async.models.catalogue import Package
from mioesim_async.models.iccid import shown
from mioesim_async.models.order_lines import OrderLine
from mioesim_async.slices import in_slices, shared_slice
from mioesim_async.transport.failures import is_fatal

__all__ = ["PackageFinder", "PlannedLine", "ask_stock", "plan_line", "plan_lines"]

CheckStock = Callable[..., Awaitable[bool]]
FindPackage = Callable[[Line], Awaitable[Package | None]]
EntryOf = Callable[[str], Awaitable[JournalEntry | None]]


@define
class PlannedLine:
    """One line, and what is known about it before it is bought.

    Attributes:
        line: The line, with its package if the catalogue has it.
        number: Number of the line, from 1.
        price: What it costs in all, in the vendor's currency; None if not known.
        fault: Why it can't be bought, or None. Either the catalogue doesn't allow it, or its
            reference was used for another order.
        entry: The journal's entry of its reference, or None.
        in_stock: Whether there are enough cards; None if that was not asked.
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
        """Whether it may have been bought before, but that is not known."""
        return self._is_known(UNSETTLED)

    @property
    def spent(self) -> Decimal:
        """What its reference has cost before, as far as that is known."""
        if self.entry is None or self.entry.state in REPEATABLE:
            return Decimal(0)
        prices = (self.entry.expected_price, self.price)
        return next((price for price in prices if price is not None), Decimal(0))

    def _is_known(self, states: Set[EntryState]) -> bool:
        clashes = isinstance(self.fault, errors.DuplicateOrder)
        return self.entry is not None and self.entry.state in states and not clashes

    @property
    def is_first(self) -> bool:
        """Whether it was certainly not bought before."""
        return not self.was_placed and not self.is_open

    @property
    def is_new(self) -> bool:
        """Whether it would be bought: it has no fault, and was certainly not bought before."""
        return self.fault is None and self.is_first

    @property
    def cards(self) -> int:
        """How many cards it is for."""
        return self.line.count if isinstance(self.line, OrderLine) else 1


async def plan_lines(
    lines: Sequence[Line],
    *,
    finder: PackageFinder,
    entry_of: EntryOf,
    check_stock: CheckStock | None,
    now: float,
) -> list[PlannedLine]:
    """Look up lines in the catalogue and in the journal.

    Args:
        lines: The lines.
        finder: Finds their packages.
        entry_of: Returns the journal's entry of a reference.
        check_stock: Asks the vendor for the stock of a plan; None to skip this.
        now: The present, in seconds since the epoch (UTC).

    Raises:
        InvalidRequest: If any line has a fault; it lists all faults of all lines.
        MioEsimError: If a call to the vendor or the journal fails.
    """
    check = partial(check_plan_in_steps, today=day_in_gmt8(now))
    await in_slices(check_all(lines, check, first=1))
    refused = await _read_catalogue(finder, lines)

    async def find(line: Line) -> Package | None:
        if (fault := refused.get(_catalogue_key(line))) is not None:
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
    """Find the package, the price and the journal entry of a line.

    Args:
        line: The line.
        purchase: The purchase that its check returned.
        find: Finds its package.
        entry_of: Returns the journal's entry of a reference; None to skip this.

    Returns:
        The planned line, and the purchase with its price.

    Raises:
        MioEsimError: If a call to the vendor or the journal fails.
    """
    one = PlannedLine(line)
    if entry_of is not None:
        one.entry = await entry_of(line.other_order_id)
    try:
        package = await find(line)
        if is_by_code_of_sku(line):
            if package is None or package.price_id is None:
                raise errors.InvalidRequest(
                    f"SKU {line.sku_id} has no plan with code {shown(line.api_code)}"
                )
            line = evolve(line, price_id=package.price_id, api_code=None)
            purchase.params["priceId"] = package.price_id
        one.line = line if package is line.package else evolve(line, package=package)
        purchase = with_package(purchase, one.line)
        if entry_of is not None and purchase.passed_day and one.is_first:
            raise errors.InvalidRequest(purchase.passed_day)
        one.price = purchase.price
    except (errors.ApiError, errors.InvalidRequest) as error:
        if is_fatal(error):
            raise
        one.fault = error.with_traceback(None)
    if one.entry is not None and not is_by_code_of_sku(one.line):
        one.fault = duplicate_error(one.entry, fingerprint_of(purchase)) or one.fault
    return one, purchase


def _catalogue_key(line: Line) -> tuple[int | None, int | None]:
    """Return the partner, or None, and the SKU of a line."""
    return getattr(line, "dp_id", None), line.sku_id


async def _read_catalogue(
    finder: PackageFinder, lines: Iterable[Line]
) -> dict[tuple[int | None, int | None], errors.ApiError]:
    """Let the finder read all packages at once; return the errors of SKUs that were refused."""
    places = {_catalogue_key(line): line for line in lines}
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
    """Finds packages in the catalogue, or in that of a partner; reads each SKU once."""

    def __init__(self, catalogue: Catalogue, partners: Partners) -> None:
        """Start without packages."""
        self._catalogue = catalogue
        self._partners = partners
        self._known: dict[tuple[int | None, int], list[Package]] = {}

    async def find(self, line: Line) -> Package | None:
        """Return the package of a line, or None if the catalogue doesn't have it.

        It is found by the line's price id, or else its API code. An API code is unique only
        within a SKU (observed), so a line without a SKU has no package.

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

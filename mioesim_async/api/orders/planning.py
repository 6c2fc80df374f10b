"""What lines would come to: their plans, prices and stock, and what the journal knows of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence, Set
from decimal import Decimal

from attrs import define, evolve

from mioesim_async import errors
from mioesim_async.api.catalogue import Catalogue
from mioesim_async.api.orders.journalling import fingerprint_of
from mioesim_async.api.orders.line_checks import Line, Purchase, check_line, of_today
from mioesim_async.api.partners import Partners
from mioesim_async.journal.entry import REPEATABLE, UNSETTLED, EntryState, JournalEntry
from mioesim_async.models.catalogue import Package
from mioesim_async.models.iccid import shown
from mioesim_async.models.order_lines import OrderLine, RenewalLine
from mioesim_async.slices import turns
from mioesim_async.transport.failures import is_fatal

__all__ = ["PackageFinder", "PlannedLine", "check_plan", "plan_lines"]

CheckStock = Callable[..., Awaitable[bool]]
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
    if _is_by_code_of_sku(line):
        # Any id will do until the catalogue tells the right one.
        line = evolve(line, api_code=None, price_id=1)
    return check_line(line, today=of_today(now))


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
    await _check_all(lines, now)
    refused = await _read_catalogue(finder, lines)
    planned: list[PlannedLine] = []
    turn = turns()
    for place, line in enumerate(lines, start=1):
        if turn.is_over():
            await turn.next()
        one = PlannedLine(line, place, entry=await entry_of(line.other_order_id))
        try:
            if (fault := refused.get(_where(line))) is not None:
                raise fault
            await _price(one, finder, now)
        except (errors.ApiError, errors.InvalidRequest) as error:
            one.fault = error.with_traceback(None)
        one.fault = _clash(one, now) or one.fault
        planned.append(one)
    if check_stock is not None:
        await _ask_stock(check_stock, planned)
    return planned


async def _check_all(lines: Sequence[object], now: float) -> None:
    faults: list[str] = []
    turn = turns()
    for place, line in enumerate(lines, start=1):
        if turn.is_over():
            await turn.next()
        if not isinstance(line, OrderLine | RenewalLine):
            faults.append(f"line {place} is no OrderLine and no RenewalLine")
            continue
        try:
            check_plan(line, now=now)
        except errors.InvalidRequest as error:
            faults += [f"line {place}: {fault}" for fault in error.faults]
    if faults:
        raise errors.InvalidRequest(*faults)


def _clash(one: PlannedLine, now: float) -> errors.DuplicateOrder | None:
    """Say so if the reference is that of another order: then it would not be sent."""
    line, entry = one.line, one.entry
    if entry is None or _is_by_code_of_sku(line):
        return None
    if fingerprint_of(check_plan(evolve(line, package=None), now=now)) == entry.fingerprint:
        return None
    return errors.DuplicateOrder(
        f"reference {line.other_order_id} was used before with other parameters (order "
        f"{entry.order_num or 'not known'}); take another reference for another order",
        other_order_id=line.other_order_id,
        order_num=entry.order_num,
    )


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


async def _price(one: PlannedLine, finder: PackageFinder, now: float) -> None:
    """Find a line's plan, check the line against it, and price it."""
    line, package = one.line, await finder.find(one.line)
    if _is_by_code_of_sku(line):
        if package is None:
            raise errors.InvalidRequest(
                f"SKU {line.sku_id} has no plan with code {shown(line.api_code)}"
            )
        line = evolve(line, price_id=package.price_id, api_code=None)
    line = evolve(line, package=package)
    purchase = check_plan(line, now=now)
    if purchase.passed_day and one.is_first:
        raise errors.InvalidRequest(purchase.passed_day)
    one.line, one.price = line, purchase.price


async def _ask_stock(check_stock: CheckStock, planned: Iterable[PlannedLine]) -> None:
    """Ask for the stock of each plan, for all its lines together."""
    groups: dict[tuple[int, int], list[PlannedLine]] = {}
    for one in planned:
        line = one.line
        if isinstance(line, OrderLine) and line.sku_id and line.price_id and one.is_new:
            groups.setdefault((line.sku_id, line.price_id), []).append(one)
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

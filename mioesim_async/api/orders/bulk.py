"""Places many orders and renewals at once, within a spending limit."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sized
from datetime import date
from decimal import Decimal
from typing import Any, Self

from attrs import define, evolve, field

from mioesim_async import errors
from mioesim_async.api.orders.journalling import open_error
from mioesim_async.api.orders.line_checks import (
    Line,
    Purchase,
    check_all,
    check_in_steps,
    day_in_gmt8,
)
from mioesim_async.api.orders.planning import (
    CheckStock,
    EntryOf,
    PackageFinder,
    PlannedLine,
    ask_stock,
    plan_line,
)
from mioesim_async.api.orders.purchase import Purchaser
from mioesim_async.closing import Closing
from mioesim_async.fanout import BatchOutcome, BatchStream
from mioesim_async.fanout.outage import REFUSALS_IN_A_ROW
from mioesim_async.fanout.source import Checked
from mioesim_async.models.catalogue import Package
from mioesim_async.models.orders import Order
from mioesim_async.slices import Steps, in_slices
from mioesim_async.transport.failures import is_fatal

__all__ = ["BulkStats", "LineOutcome", "Lines", "OrderStream"]

Lines = Iterable[Line] | AsyncIterable[Line]
Planned = tuple[PlannedLine, Purchase | None]
"""A line that was checked. The purchase is None if the line can't be bought."""


@define
class LineOutcome:
    """What became of one line.

    Attributes:
        position: Position of the line in the input, from 0.
        line: The line, with the package that it was checked against, if it is known.
        order: The order; None after an error, and in a dry run.
        error: Why there is no order, or None.
        price: What the line should cost in all, or None if not known.
        in_stock: In a dry run, whether there are enough cards for an order; else None.
    """

    position: int
    line: Line
    order: Order | None = None
    error: errors.MioEsimError | None = None
    price: Decimal | None = None
    in_stock: bool | None = None


@define
class BulkStats:
    """The counts so far.

    Attributes:
        placed: Lines with an order; in a dry run, lines without an error.
        failed: Lines that bought nothing.
        unknown: Lines that may have been placed; check each.
        spent: What placed and unknown lines should cost, as far as prices are known.
    """

    placed: int = 0
    failed: int = 0
    unknown: int = 0
    spent: Decimal = Decimal(0)


@define(eq=False)
class _SpendLimit:
    """Keeps the spending limit; lines under way reserve their price."""

    limit: Decimal | None
    stats: BulkStats
    reserved: Decimal = Decimal(0)
    under_way: int = 0
    changed: asyncio.Event = field(factory=asyncio.Event)

    async def reserve(self, price: Decimal | None, line: Line) -> None:
        """Wait until the limit allows a line, and reserve its price.

        Raises:
            SpendLimitReached: If the limit doesn't allow it, and no line is under way.
        """
        price = price or Decimal(0)
        while self.limit is not None and self.stats.spent + self.reserved + price > self.limit:
            if not self.under_way:
                raise errors.SpendLimitReached(
                    f"reference {line.other_order_id} costs {price}, which would bring the total "
                    f"from {self.stats.spent} over the limit of {self.limit}; it and the lines "
                    "after it were not sent",
                    max_spend=self.limit,
                    spent=self.stats.spent,
                    line=line,
                )
            self.changed.clear()
            await self.changed.wait()
        self.reserved += price
        self.under_way += 1

    def settle(self, price: Decimal | None, error: BaseException | None) -> None:
        """Count a line that has ended, and replace its reserved price by what it cost."""
        price = price or Decimal(0)
        self.reserved -= price
        self.under_way -= 1
        if error is None:
            self.stats.placed += 1
        elif isinstance(error, errors.MioEsimError) and error.was_placed is False:
            self.stats.failed += 1
            price = Decimal(0)
        else:
            self.stats.unknown += 1
        self.stats.spent += price
        self.changed.set()


class OrderStream(Closing):
    """Yields one ``LineOutcome`` for each line, in the order in which the lines end.

    All tasks have ended after ``async with``, after the last outcome and after
    ``client.aclose()``. If you leave the stream early, no further line is sent; purchases that
    were sent go on, and are recorded in the journal.

    Attributes:
        stats: The counts so far.
    """

    def __init__(
        self,
        lines: Lines,
        purchaser: Purchaser,
        *,
        finder: PackageFinder,
        entry_of: EntryOf,
        check_stock: CheckStock,
        concurrency: int,
        max_spend: Decimal | None,
        dry_run: bool,
        deadline: float | None,
        registry: set[BatchStream[Any, Any]],
    ) -> None:
        """Check the arguments; see ``Orders.place_many``."""
        _check_limit(max_spend)
        self.stats = BulkStats()
        self._lines = lines
        self._purchaser = purchaser
        self._finder = finder
        self._entry_of = entry_of if dry_run else None
        self._check_stock = check_stock
        self._is_limited = max_spend is not None
        self._dry_run = dry_run
        self._deadline = deadline
        self._spend_limit = _SpendLimit(max_spend, self.stats)
        self._references: set[str] = set()
        self._fatal: errors.MioEsimError | None = None
        self._signed_wrongly = 0
        if not isinstance(lines, Iterable | AsyncIterable):
            raise errors.InvalidRequest(f"lines must be iterable, not {type(lines).__name__}")
        checked: Checked[Line] | None = None
        if isinstance(lines, Sized) and isinstance(lines, Iterable):
            self._lines = checked = Checked(lines, self._check_all)
        self._batches: BatchStream[Planned, LineOutcome] = BatchStream(
            self._ready_lines(),
            self._process,
            batch_size=1,
            concurrency=concurrency,
            registry=registry,
            checked=checked,
        )

    async def __aenter__(self) -> Self:
        """Check lines that have a length, and return the stream itself.

        Raises:
            InvalidRequest: If any line has a fault; it lists all faults.
        """
        await self._batches.check()
        return self

    def __aiter__(self) -> Self:
        """Return the stream itself."""
        return self

    async def __anext__(self) -> LineOutcome:
        """Return the next outcome.

        Raises:
            InvalidRequest: If any line has a fault, and the stream was not entered.
            SpendLimitReached: If the next line would exceed ``max_spend``; raised after the
                outcomes of all lines before it.
            MioEsimError: If no line can be sent, such as after a refused login.
        """
        if self._batches.is_unchecked:
            await self._batches.check()
        try:
            batch = await self._batches.__anext__()
        except StopAsyncIteration:
            # It came with the last line, so no later line met it.
            fatal, self._fatal = self._fatal, None
            if fatal is None:
                raise
        except errors.MioEsimError as error:
            self._fatal = None
            error.tally = evolve(self.stats)
            raise
        else:
            return self._outcome_of(batch)
        fatal.tally = evolve(self.stats)
        raise fatal

    @staticmethod
    def _outcome_of(batch: BatchOutcome[Planned, LineOutcome]) -> LineOutcome:
        if batch.result is None:
            raise batch.error or RuntimeError("a line ended with neither outcome nor error")
        return batch.result

    async def aclose(self) -> None:
        """Send no further line, and wait for the end of the stream."""
        await self._batches.aclose()

    def _check_all(self, lines: Iterable[Line]) -> Steps[deque[list[Line]]]:
        references: set[str] = set()

        def check(line: Line) -> Steps[None]:
            purchase = yield from self._check(line, references)
            # With a journal, the line may have been placed before its first day passed.
            if purchase.passed_day and self._purchaser.journalling is None:
                raise errors.InvalidRequest(purchase.passed_day)

        return deque([(yield from check_all(lines, check, first=0))])

    def _check(self, line: Line, references: set[str]) -> Steps[Purchase]:
        purchase = yield from check_in_steps(line, today=self._today())
        if line.other_order_id in references:
            raise errors.InvalidRequest(f"reference {line.other_order_id} is also on a line before")
        references.add(line.other_order_id)
        return purchase

    async def _ready_lines(self) -> AsyncIterator[Planned]:
        """Check the lines in order, find their prices, and yield each when the limit allows it."""
        number = 0
        async for line in _each(self._lines):
            number += 1
            one, purchase = await self._planned(line)
            one.number = number
            if self._fatal is not None:
                raise self._fatal
            await self._spend_limit.reserve(one.price, line)
            if self._fatal is not None:
                raise self._fatal
            yield one, purchase

    async def _planned(self, line: Line) -> Planned:
        one, purchase = PlannedLine(line), None
        try:
            purchase = await in_slices(self._check(line, self._references))
            one, purchase = await plan_line(
                line, purchase, find=self._package_of, entry_of=self._entry_of
            )
            if one.fault is None and one.price is None and self._is_limited:
                raise errors.InvalidRequest(
                    f"reference {line.other_order_id}: its price isn't known, so max_spend can't "
                    "be kept; give package="
                )
        except errors.MioEsimError as error:
            if is_fatal(error):
                raise
            one.fault = error
        return one, purchase if one.fault is None else None

    async def _package_of(self, line: Line) -> Package | None:
        needs_price = self._is_limited or self._dry_run or self._purchaser.needs_price
        if line.package is not None or not needs_price:
            return line.package
        package = await self._finder.find(line)
        if package is None and line.sku_id is not None:
            raise errors.InvalidRequest(
                f"reference {line.other_order_id}: the catalogue has no price_id "
                f"{line.price_id} for sku_id {line.sku_id}; if it exists, give package="
            )
        return package

    async def _process(self, planned: list[Planned]) -> LineOutcome:
        ((one, purchase),) = planned
        outcome = LineOutcome(one.number - 1, one.line, error=one.fault, price=one.price)
        try:
            if purchase is not None and self._dry_run:
                if one.is_open and one.entry is not None:
                    raise open_error(one.entry, self._purchaser.caller)
                await ask_stock(self._check_stock, [one] if one.is_new else [])
                outcome.in_stock = one.in_stock
            elif purchase is not None:
                outcome.order = await self._purchaser.buy(purchase, self._deadline)
        except errors.MioEsimError as error:
            outcome.error = error.with_traceback(None)
            if is_fatal(error) or self._are_all_signed_wrongly(error):
                self._fatal = error
        except BaseException as error:
            self._spend_limit.settle(outcome.price, error)
            raise
        if outcome.error is not None and outcome.error.was_placed is None:
            reference = getattr(one.line, "other_order_id", None)
            await self._purchaser.tell_of(outcome.error, reference)
        self._spend_limit.settle(outcome.price, outcome.error)
        return outcome

    def _are_all_signed_wrongly(self, error: errors.MioEsimError) -> bool:
        """Tell whether so many signatures were refused that no line can be placed."""
        is_signed_wrongly = isinstance(error, errors.SignatureError)
        self._signed_wrongly = self._signed_wrongly + 1 if is_signed_wrongly else 0
        return self._signed_wrongly >= REFUSALS_IN_A_ROW and not self.stats.placed

    def _today(self) -> date:
        return day_in_gmt8(self._purchaser.caller.clock.time())


def _check_limit(limit: object) -> None:
    if limit is not None and not (isinstance(limit, Decimal) and limit.is_finite() and limit >= 0):
        raise errors.InvalidRequest(
            f"max_spend must be a Decimal of 0 or more, or None, not {limit!r}"
        )


async def _each(lines: Lines) -> AsyncIterator[Line]:
    if isinstance(lines, AsyncIterable):
        async for line in lines:
            yield line
    else:
        for line in lines:
            yield line

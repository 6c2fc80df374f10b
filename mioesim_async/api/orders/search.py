"""Searches orders. The vendor has no pages, so this makes sure that all orders are found.

A reply has a part of the orders, and their total. If it has too few, the search asks for more
orders, and then for each half of the days, until each reply has all orders of its days. One more
call finds out whether the total counts all orders or only those in the reply.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import math
from collections.abc import Generator
from datetime import date, timedelta
from typing import Any, Self

from attrs import define

from mioesim_async import errors
from mioesim_async.closing import Closing
from mioesim_async.models.orders import Order
from mioesim_async.rows.layout import reader_of
from mioesim_async.rows.orders import OrderPage, read_page
from mioesim_async.transport.caller import Caller
from mioesim_async.transport.failures import is_fatal
from mioesim_async.wire.endpoints import QUERY_ORDER
from mioesim_async.wire.signing import Value
from mioesim_async.wording import worded

__all__ = ["MAX_ROWS", "OrderSearch", "ask_for_orders", "read_orders"]

logger = logging.getLogger("mioesim_async")

MAX_ROWS = 1000
"""Maximum of orders to ask for at once."""

MAX_CALLS = 10_000
"""A search fails after so many calls."""

NO_SUCH_DATA = 3
"""Code of a search that finds nothing (vendor-documented for other endpoints)."""

ROWS_PER_SLICE = 50
"""How many rows are read before other tasks of the event loop may run."""

SHORTEST = 0.001
"""Shortest deadline of a call, in seconds."""

DAY = timedelta(days=1)

ADVICE = {
    True: "ask the vendor for the others",
    False: "give both {start} and {end}, so that each half of the days can be searched",
}
"""What to do about a reply without all orders, by whether it is for a single day."""


async def ask_for_orders(
    caller: Caller,
    reference: str | None,
    start: date | None,
    end: date | None,
    *,
    size: int,
    deadline: float | None,
) -> OrderPage:
    """Make one call, for at most ``size`` orders.

    Raises:
        MioEsimError: If the call fails.
    """
    params: dict[str, Value] = {
        "startDate": None if start is None else f"{start:%m/%d/%Y}",
        "endDate": None if end is None else f"{end:%m/%d/%Y}",
        "outerOrderId": reference,
        "pageSize": size,
    }
    try:
        envelope = await caller.call(QUERY_ORDER, params, deadline=deadline)
    except errors.NotFound as error:
        if error.code != NO_SUCH_DATA:
            raise
        return OrderPage()
    try:
        return read_page(envelope.data)
    except errors.ProtocolError as error:
        raise error.at(QUERY_ORDER.path)


async def read_orders(rows: list[Any]) -> tuple[list[Order], list[errors.ProtocolError]]:
    """Read rows; return the orders, and the errors of bad rows. Lets other tasks run."""
    read = reader_of(Order)
    orders: list[Order] = []
    bad: list[errors.ProtocolError] = []
    for place, row in enumerate(rows, 1):
        try:
            orders.append(read(row))
        except errors.ProtocolError as error:
            bad.append(error.with_traceback(None).at(QUERY_ORDER.path))
        if place % ROWS_PER_SLICE == 0:
            await asyncio.sleep(0)
    return orders, bad


@define
class _Days:
    """A range of days to search.

    Attributes:
        start: The first day, or None for an open end.
        end: The last day, or None for an open end.
        page: The reply for these days, if it was incomplete and the halves are searched; else None.
        taken: How many rows had been taken before the halves.
    """

    start: date | None
    end: date | None
    page: OrderPage | None = None
    taken: int = 0

    def halves(self) -> tuple[_Days, _Days] | None:
        """Return the older and the newer half, or None if the range can't be halved."""
        if self.start is None or self.end is None or self.start == self.end:
            return None
        middle = self.start + (self.end - self.start) // 2
        return _Days(self.start, middle), _Days(middle + DAY, self.end)

    def __str__(self) -> str:
        """Name the days."""
        if self.start == self.end:
            return "all days" if self.start is None else f"{self.start}"
        return f"{self.start or 'the first day'} to {self.end or 'the last day'}"


class OrderSearch(Closing):
    """A search for orders. Iterate over it with ``async for``, or await it for a list.

    It yields each order once. The newest days come first; within the days of one reply, the
    orders come in the vendor's order. Nothing is sent before you ask for the first order, and
    there is at most one call at a time. You may leave the search without closing it.
    ``client.aclose()`` ends it with ``ClientClosed``. It keeps all orders that it has read.

    Attributes:
        total: The number of orders, as the vendor says. None before the first reply; if the
            vendor gives no total, None until the end.
        bad_rows: The errors of rows that can't be read; these rows are logged and left out.
    """

    def __init__(
        self,
        caller: Caller,
        reference: str | None,
        start: date | None,
        end: date | None,
        *,
        page_size: int,
        deadline: float | None,
        replies: list[OrderPage] | None = None,
    ) -> None:
        """Search through a caller; see ``Orders.search``.

        Args:
            caller: Sends the calls.
            reference: Reference of the orders, or None.
            start: First day, or None.
            end: Last day, or None.
            page_size: How many orders to ask for at first.
            deadline: Seconds for all calls together, or None.
            replies: A list to which every reply is added, or None.
        """
        self.total: int | None = None
        self.bad_rows: list[errors.ProtocolError] = []
        self._caller = caller
        self._reference = reference
        self._left = deadline
        self._replies = replies
        self._todo = [_Days(start, end)]
        self._size = page_size
        self._max_size = MAX_ROWS
        self._heeds_size: bool | None = None
        self._counts_all: bool | None = None
        self._is_total_checked = self._is_shown_checked = False
        self._has_trusted_total = False
        self._limit = math.inf
        self._orders: list[Order] = []
        self._numbers: set[str] = set()
        self._taken = self._yielded = self._calls = 0
        self._fault: errors.ProtocolError | None = None
        self._closed = False
        self._lock = asyncio.Lock()

    def __aiter__(self) -> Self:
        """Return the search itself."""
        return self

    async def __anext__(self) -> Order:
        """Return the next order.

        Raises:
            ProtocolError: After the last order, if the vendor says that there are more than it
                shows. Its ``report`` lists the orders that were read.
            MioEsimError: If a call fails. Its ``report`` lists the orders of the days that were
                finished. Ask for the next order to go on where the search stopped.
        """
        async with self._lock:
            while self._yielded == len(self._orders) or self._closed:
                if not await self._read_on():
                    raise StopAsyncIteration
            self._yielded += 1
            return self._orders[self._yielded - 1]

    def __await__(self) -> Generator[Any, None, list[Order]]:
        """Return all orders, including those that ``async for`` yielded before.

        Raises:
            ProtocolError: If the vendor says that there are more orders than it shows. Its
                ``report`` lists the orders that were read.
            MioEsimError: If a call fails. Its ``report`` lists the orders of the days that were
                finished. Await it again to go on where the search stopped.
        """
        return self._all().__await__()

    async def aclose(self) -> None:
        """End the search; may be called more than once."""
        self._closed = True

    async def _all(self) -> list[Order]:
        async with self._lock:
            while await self._read_on():
                pass
            if self._todo:
                raise errors.ClientClosed("the search was closed before its end; search again")
            return [*self._orders]

    async def _read_on(self) -> bool:
        """Read some more days; return False if none are left."""
        if self._closed or not self._todo:
            return False
        if self._fault is not None:
            # A copy for each caller, so that tracebacks don't pile up on one instance.
            raise copy.copy(self._fault)
        try:
            await self._read_days(self._todo[-1])
        except errors.MioEsimError as error:
            error.report = [*self._orders]
            raise
        if not self._todo:
            self.total = max(self.total or 0, self._taken)
        return True

    async def _read_days(self, days: _Days) -> None:
        if days.page is not None:
            await self._check_halves(days, days.page)
            return
        if self._calls >= MAX_CALLS:
            await self._give_up(f"the search for orders did not end within {MAX_CALLS:,} calls")
            return
        page, is_whole = await self._page(days)
        halves = None if is_whole else days.halves()
        if halves is not None:
            days.page, days.taken = page, self._taken
            self._todo += halves
            return
        orders, bad = await read_orders(page.rows)
        self._take(orders, bad)
        if is_whole:
            self._has_trusted_total |= self._counts_all is None and len(page.rows) >= self._limit
            self._todo.pop()
            return
        shown, total = len(page.rows), self._total_of(page)
        told = f"{shown} orders" if total is None else f"{shown} of {total} orders"
        unsaid = ", and gives no total" if total is None else ""
        is_day = days.start is not None and days.start == days.end
        await self._give_up(
            f"the vendor shows {told} of {days}, even when asked for more{unsaid}; "
            f"{worded(ADVICE[is_day])}"
        )

    async def _check_halves(self, days: _Days, page: OrderPage) -> None:
        """Compare the orders that the halves had with the total of the whole range."""
        found, told = self._taken - days.taken, max(self._total_of(page) or 0, len(page.rows))
        if found > told and self._counts_all is None and self._limit < math.inf:
            # The vendor ignores the size, and its total counted only the orders in the reply.
            self._counts_all = False
            if self._has_trusted_total:
                await self._give_up(
                    f"the vendor says that there are {told} orders of {days}, but shows {found} "
                    "when asked for each half of these days, so other days may have more orders "
                    "than it shows, too; ask the vendor for the others"
                )
                return
        if found >= told:
            self._todo.pop()
            return
        await self._give_up(
            f"the vendor says that there are {told} orders of {days}, but shows {found} when "
            "asked for each half of these days; ask the vendor for the others"
        )

    async def _give_up(self, text: str) -> None:
        """Keep the orders of all replies, and end the search with an error."""
        for days in self._todo:
            if days.page is not None:
                self._take((await read_orders(days.page.rows))[0], [])
        self._fault = errors.ProtocolError(
            text + worded(" (.report has what was read)"), "incomplete"
        )
        self._fault.at(QUERY_ORDER.path).report = [*self._orders]

    def _take(self, orders: list[Order], bad: list[errors.ProtocolError]) -> None:
        """Keep the orders of a reply that no earlier reply had."""
        for error in bad:
            logger.warning("a row of a search was left out: %s", error)
        self.bad_rows += bad
        fresh: dict[object, Order] = {}
        for order in orders:
            if order.order_num not in self._numbers:
                self._taken += 1
                fresh.setdefault(order.order_num or id(order), order)
        self._taken += len(bad)
        self._orders += fresh.values()
        self._numbers.update(order.order_num for order in fresh.values() if order.order_num)

    async def _page(self, days: _Days) -> tuple[OrderPage, bool]:
        """Ask for the orders of some days, and for more orders if that may help.

        Returns:
            The best reply, and whether it has all orders of these days.
        """
        page, size = await self._ask(days, self._size), self._size
        await self._check_total(days, page, size)
        for wanted in (self._total_of(page) or MAX_ROWS, MAX_ROWS):
            larger = min(wanted, self._max_size)
            if self._is_whole(days, page, size) or len(page.rows) < size or larger <= size:
                break
            more = await self._ask_otherwise(days, larger)
            if more is not None and self._is_better(more, page):
                page, size = more, larger
            elif more is None or larger == self._max_size:
                self._max_size = size
        self._size = size
        shown = len(page.rows)
        is_untold = self._total_of(page) is None and not self._is_shown_checked
        if is_untold and 0 < shown < min(size, self._limit):
            await self._check_shown(days, page, size)
        is_whole = self._is_whole(days, page, size)
        if is_whole and len(self._todo) == 1:
            self.total = shown
        return page, is_whole

    async def _check_total(self, days: _Days, page: OrderPage, size: int) -> None:
        """Find out, once, whether the total counts all orders or only those in the reply.

        This is not known if the total equals the number of orders in the reply. Then the search
        asks for another number of orders. It doesn't for a single day with fewer orders than
        asked for, since that day can't be halved anyway.
        """
        shown = len(page.rows)
        is_full, is_long = shown >= size, shown > 1 and days.halves() is not None
        is_doubtful = page.total == shown and self._counts_all is None and (is_full or is_long)
        if self._is_total_checked or not is_doubtful or not shown:
            return
        self._is_total_checked = True
        other = await self._ask_otherwise(days, 2 if shown == 1 else 1)
        if other is None or self._counts_all:
            return
        if len(other.rows) != shown:
            self._counts_all = False
            self.total = None
        elif shown > 1:
            # The vendor ignores the size, so a reply may have fewer orders than there are.
            self._heeds_size = False
            self._limit = min(self._limit, shown)

    async def _check_shown(self, days: _Days, page: OrderPage, size: int) -> None:
        """Find out, once, whether a reply with fewer orders than asked for has all orders.

        It doesn't if the halves of its days have other orders. If one half has all orders, or
        there are no halves, the search asks for fewer orders, to see if the vendor limits them.
        """
        self._is_shown_checked = True
        shown = {order.order_num for order in (await read_orders(page.rows))[0]}
        lengths = []
        for half in days.halves() or ():
            reply = await self._ask_otherwise(half, size)
            rows = [] if reply is None else reply.rows
            lengths.append(len(rows))
            if not shown.issuperset(order.order_num for order in (await read_orders(rows))[0]):
                self._limit = min(self._limit, len(page.rows))
                return
        is_split = all(lengths) and sum(lengths) == len(page.rows)
        if not is_split and self._heeds_size is None and len(page.rows) > 1:
            fewer = await self._ask_otherwise(days, len(page.rows) - 1)
            if fewer is not None:
                self._is_better(page, fewer)

    def _is_better(self, more: OrderPage, less: OrderPage) -> bool:
        """Tell whether asking for more orders gave a better reply, and remember that."""
        is_better = len(more.rows) > len(less.rows) or self._total_of(more) == len(more.rows)
        self._heeds_size = self._heeds_size or is_better
        if not is_better:
            self._limit = min(self._limit, len(less.rows))
        return is_better

    def _total_of(self, page: OrderPage) -> int | None:
        """Return the total of a reply; None if it counts only the orders in the reply."""
        return None if self._counts_all is False else page.total

    def _is_whole(self, days: _Days, page: OrderPage, size: int) -> bool:
        """Tell whether a reply has all orders of its days, as far as is known."""
        shown, total = len(page.rows), self._total_of(page)
        if total is None:
            return shown < min(size, self._limit)
        doubtful = self._counts_all is None and shown >= self._limit and days.halves() is not None
        return shown >= total and not doubtful

    async def _ask(self, days: _Days, size: int) -> OrderPage:
        self._calls += 1
        clock, began = self._caller.clock, self._caller.clock.monotonic()
        try:
            page = await ask_for_orders(
                self._caller, self._reference, days.start, days.end, size=size, deadline=self._left
            )
        finally:
            if self._left is not None:
                self._left = max(self._left - (clock.monotonic() - began), SHORTEST)
        if page.total is not None and page.total > len(page.rows):
            self._counts_all = True
        if [days] == self._todo and (total := self._total_of(page)) is not None:
            self.total = total
        if self._replies is not None:
            self._replies.append(page)
        return page

    async def _ask_otherwise(self, days: _Days, size: int) -> OrderPage | None:
        """Ask for another number of orders; return None if that fails."""
        try:
            return await self._ask(days, size)
        except (errors.ApiError, errors.ProtocolError) as error:
            if is_fatal(error):
                raise
            return None

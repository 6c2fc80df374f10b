"""Placing orders and renewing cards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal

from attrs import evolve

from mioesim_async import errors
from mioesim_async.api.orders.line_checks import (
    Line,
    Purchase,
    check_in_steps,
    day_in_gmt8,
    with_package,
)
from mioesim_async.api.orders.planning import PackageFinder
from mioesim_async.api.orders.purchase import Purchaser
from mioesim_async.clock import TimeLimit, Uptime
from mioesim_async.journal.entry import Journal, JournalEntry
from mioesim_async.models.catalogue import Package
from mioesim_async.models.order_lines import OrderLine, RenewalLine, new_reference
from mioesim_async.models.orders import Order
from mioesim_async.slices import in_slices
from mioesim_async.transport.caller import Caller, check_deadline
from mioesim_async.transport.pool import running_loop

__all__ = ["Buying"]


class Buying:
    """The part of ``client.orders`` that buys."""

    def __init__(
        self,
        caller: Caller,
        journal: Journal | None,
        max_spend_per_day: Decimal | None,
        new_finder: Callable[[], PackageFinder],
    ) -> None:
        """Buy through a caller, with a journal or without; a finder looks up prices."""
        self._caller = caller
        self._purchaser = Purchaser(caller, journal, max_spend_per_day)
        self._new_finder = new_finder

    @property
    def journal_uptime(self) -> Uptime | None:
        """Whether the journal works, and since when; None without a journal."""
        journalling = self._purchaser.journalling
        return None if journalling is None else journalling.settlements.uptime

    @staticmethod
    def new_reference() -> str:
        """Return a new ``other_order_id``. Store it with your own order before you place it."""
        return new_reference()

    async def entry_of(self, other_order_id: str) -> JournalEntry | None:
        """Return the journal's entry of a reference; None if it has none, or without a journal.

        The entry includes what this client could not write to the journal so far.
        """
        running_loop()
        if (kept := self._purchaser.journalling) is None:
            return None
        entry = await kept.journal.find(self._caller.account, other_order_id)
        return None if entry is None else kept.settlements.complete(entry)

    async def entry_of_order(self, order_num: str) -> JournalEntry | None:
        """Return the journal's entry of an order number; None as in ``entry_of``."""
        running_loop()
        if (kept := self._purchaser.journalling) is None:
            return None
        entry = await kept.journal.find_order(self._caller.account, order_num)
        return entry or kept.settlements.entry_of_order(self._caller.account, order_num)

    async def open_entries(self) -> list[JournalEntry]:
        """Return the journal's open entries of this account, oldest first; sends nothing.

        The entries include what this client could not write to the journal so far, such as the
        number of an order that was placed.

        Raises:
            ConfigurationError: If the client has no journal.
        """
        running_loop()
        if (kept := self._purchaser.journalling) is None:
            raise errors.ConfigurationError("open entries need a journal: give order_journal=")
        entries = await kept.journal.open_entries(self._caller.account)
        return [*map(kept.settlements.complete, entries)]

    async def place(
        self,
        *,
        sku_id: int,
        price_id: int,
        count: int,
        package: Package | None = None,
        other_order_id: str | None = None,
        other_item_id: str | None = None,
        dp_id: int | None = None,
        iccids: Sequence[str] | None = None,
        begin_date: date | None = None,
        daypass_days: int | None = None,
        customer_email: str | None = None,
        send_email: bool = False,
        pdf_language: str | None = None,
        remark: str | None = None,
        whole: bool = False,
        deadline: float | None = None,
    ) -> Order:
        """Order eSIMs or physical SIMs.

        Source: ``addEsimOrder``, vendor-documented. Which codes prove that nothing was bought is
        assumed.

        Args:
            sku_id: The SKU.
            price_id: The plan of that SKU.
            count: How many cards.
            package: The plan from the catalogue, to check the order against.
            other_order_id: Your reference; None for a new one.
            other_item_id: Your reference of the item.
            dp_id: The partner whose physical SIMs these are.
            iccids: ICCIDs of the physical SIMs, as many as ``count``.
            begin_date: First day of the plan, in GMT+8; not in the past.
            daypass_days: Days of a day pass.
            customer_email: The customer's e-mail address.
            send_email: Whether the vendor sends an e-mail to the customer.
            pdf_language: Language of the PDF, as the vendor names it.
            remark: A text for yourself.
            whole: If the reference was placed before, read the order from the vendor with its
                activation codes, instead of returning the recorded one.
            deadline: Seconds for the whole call. If it passes after the order was sent, the
                order goes on, and this call raises ``OutcomeUnknown``.

        Returns:
            The order with all its cards. If this client is buying the same reference already, it
            waits for that purchase, and both calls return the same order. If the reference was
            placed before, and there is a journal: the recorded order (``is_recorded``). Its cards
            have no activation codes, since a journal keeps none; ``whole=True`` reads them.

        Raises:
            InvalidRequest: If arguments can't be used; it lists all faults. Nothing was sent.
            OutcomeUnknown: If the order may or may not have been placed. It is not sent again.
            OrderIncomplete: If the order was placed, but reading it failed; has its number.
            SpendLimitReached: If it would exceed the client's ``max_spend_per_day``.
            DuplicateOrder: If the reference was used before, or is under way in this client,
                with other parameters.
            JournalUnavailable: If the journal can't be used now. Nothing was sent; try later.
            ApiError: If the vendor refused the order.
            MioEsimError: If the order was not sent. The ``was_placed`` of all these errors says
                whether this call placed the order: False, True, or None if not known.
        """
        line = OrderLine(
            sku_id=sku_id,
            price_id=price_id,
            count=count,
            package=package,
            other_order_id=_reference(other_order_id),
            other_item_id=other_item_id,
            dp_id=dp_id,
            iccids=iccids,
            begin_date=begin_date,
            daypass_days=daypass_days,
            customer_email=customer_email,
            send_email=send_email,
            pdf_language=pdf_language,
            remark=remark,
        )
        return await self._buy(line, deadline, whole=whole)

    async def place_by_api_code(
        self,
        *,
        api_code: str,
        count: int,
        package: Package | None = None,
        other_order_id: str | None = None,
        other_item_id: str | None = None,
        dp_id: int | None = None,
        iccids: Sequence[str] | None = None,
        begin_date: date | None = None,
        daypass_days: int | None = None,
        customer_email: str | None = None,
        send_email: bool = False,
        pdf_language: str | None = None,
        remark: str | None = None,
        whole: bool = False,
        deadline: float | None = None,
    ) -> Order:
        """Order a plan by its API code, which is unique only within a SKU (observed).

        Source: ``addEsimOrderByApiCode``, observed. Otherwise as ``place``.

        Raises:
            MioEsimError: As ``place``.
        """
        line = OrderLine(
            api_code=_code(api_code),
            count=count,
            package=package,
            other_order_id=_reference(other_order_id),
            other_item_id=other_item_id,
            dp_id=dp_id,
            iccids=iccids,
            begin_date=begin_date,
            daypass_days=daypass_days,
            customer_email=customer_email,
            send_email=send_email,
            pdf_language=pdf_language,
            remark=remark,
        )
        return await self._buy(line, deadline, whole=whole)

    async def renew(
        self,
        *,
        sku_id: int,
        price_id: int,
        order_num: str | None = None,
        iccid: str | None = None,
        package: Package | None = None,
        other_order_id: str | None = None,
        other_item_id: str | None = None,
        daypass_days: int | None = None,
        pdf_language: str | None = None,
        remark: str | None = None,
        whole: bool = False,
        deadline: float | None = None,
    ) -> Order:
        """Renew a card, which you name by its order or by its ICCID.

        Source: ``renewCard``, vendor-documented. Give exactly one of ``order_num`` and ``iccid``;
        the other arguments are those of ``place``.

        Returns:
            The new order, with ``is_renewal`` and ``main_order_num``.

        Raises:
            MioEsimError: As ``place``.
        """
        line = RenewalLine(
            sku_id=sku_id,
            price_id=price_id,
            order_num=order_num,
            iccid=iccid,
            package=package,
            other_order_id=_reference(other_order_id),
            other_item_id=other_item_id,
            daypass_days=daypass_days,
            pdf_language=pdf_language,
            remark=remark,
        )
        return await self._buy(line, deadline, whole=whole)

    async def renew_by_api_code(
        self,
        *,
        api_code: str,
        order_num: str | None = None,
        iccid: str | None = None,
        package: Package | None = None,
        other_order_id: str | None = None,
        other_item_id: str | None = None,
        daypass_days: int | None = None,
        pdf_language: str | None = None,
        remark: str | None = None,
        whole: bool = False,
        deadline: float | None = None,
    ) -> Order:
        """Renew a card with a plan that you name by its API code.

        Source: ``renewCardByApiCode``, vendor-documented. Otherwise as ``renew``.

        Raises:
            MioEsimError: As ``place``.
        """
        line = RenewalLine(
            api_code=_code(api_code),
            order_num=order_num,
            iccid=iccid,
            package=package,
            other_order_id=_reference(other_order_id),
            other_item_id=other_item_id,
            daypass_days=daypass_days,
            pdf_language=pdf_language,
            remark=remark,
        )
        return await self._buy(line, deadline, whole=whole)

    async def _buy(self, line: Line, deadline: float | None, *, whole: bool) -> Order:
        try:
            self._caller.check_usable()
            today = day_in_gmt8(self._caller.clock.time())
            purchase = await in_slices(check_in_steps(line, today=today))
            if self._purchaser.needs_price and purchase.price is None:
                check_deadline(deadline)
                purchase, deadline = await self._priced(purchase, line, deadline)
        except errors.MioEsimError as error:
            await self._purchaser.tell_of(error, line.other_order_id)
            raise
        return await self._purchaser.buy(purchase, deadline, whole=whole)

    async def _priced(
        self, purchase: Purchase, line: Line, deadline: float | None
    ) -> tuple[Purchase, float | None]:
        """Look up the price of a line; return the purchase with it, and the seconds that are left.

        Raises:
            DeadlineExceeded: If the deadline passed meanwhile.
            MioEsimError: If the catalogue can't be read, or the line doesn't fit its package.
        """
        clock = self._caller.clock
        began = clock.monotonic()
        with TimeLimit(clock, deadline):
            package = await self._new_finder().find(line)
            left = None if deadline is None else deadline - (clock.monotonic() - began)
            if left is None or left > 0:
                return with_package(purchase, evolve(line, package=package)), left
        raise errors.DeadlineExceeded(
            f"the deadline passed before the price of reference {line.other_order_id} was known; "
            "nothing was sent"
        )


def _code(given: str | None) -> str:
    # An empty text is refused; None would mean that the plan is named by its ids.
    return "" if given is None else given


def _reference(given: str | None) -> str:
    return new_reference() if given is None else given

"""Placing orders and renewing cards."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from mioesim_async import errors
from mioesim_async.api.orders.line_checks import Line, check_in_steps, of_today
from mioesim_async.api.orders.purchase import Purchaser
from mioesim_async.closing import running_loop
from mioesim_async.journal.entry import Journal, JournalEntry
from mioesim_async.models.catalogue import Package
from mioesim_async.models.order_lines import OrderLine, RenewalLine, new_reference
from mioesim_async.models.orders import Order
from mioesim_async.slices import in_slices
from mioesim_async.transport.caller import Caller

__all__ = ["Buying"]


class Buying:
    """The purchases among the calls of ``client.orders``."""

    def __init__(self, caller: Caller, journal: Journal | None) -> None:
        """Order through a caller, with a journal or without."""
        self._caller = caller
        self._purchaser = Purchaser(caller, journal)

    @staticmethod
    def new_reference() -> str:
        """Return a new ``other_order_id``, to be kept with your order before you place it."""
        return new_reference()

    async def entry_of(self, other_order_id: str) -> JournalEntry | None:
        """Return what the journal knows of a reference; None if nothing, or without a journal.

        The entry has what this client knows and could not write to the journal so far.
        """
        running_loop()
        if (kept := self._purchaser.journalling) is None:
            return None
        entry = await kept.journal.find(self._caller.account, other_order_id)
        return None if entry is None else kept.settlements.known(entry)

    async def entry_of_order(self, order_num: str) -> JournalEntry | None:
        """Return the journal's entry of an order of the vendor's; None as in ``entry_of``."""
        running_loop()
        if (kept := self._purchaser.journalling) is None:
            return None
        entry = await kept.journal.find_order(self._caller.account, order_num)
        return entry or kept.settlements.of_order(self._caller.account, order_num)

    async def open_entries(self) -> list[JournalEntry]:
        """Return the journal's open entries of this account, oldest first; sends nothing.

        An entry has what this client knows and could not write to the journal so far, such as
        the number of an order that was placed.

        Raises:
            ConfigurationError: If the client has no journal.
        """
        running_loop()
        if (kept := self._purchaser.journalling) is None:
            raise errors.ConfigurationError("open entries are kept in a journal: order_journal=")
        entries = await kept.journal.open_entries(self._caller.account)
        return [*map(kept.settlements.known, entries)]

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
        deadline: float | None = None,
    ) -> Order:
        """Order eSIMs or physical SIMs.

        Source: ``addEsimOrder``, vendor-documented; which refusals prove that nothing was
        bought is assumed.

        Args:
            sku_id: The SKU.
            price_id: The plan of that SKU.
            count: How many cards.
            package: The plan as the catalogue gives it; the order is then checked against it.
            other_order_id: Your reference; a new one if None.
            other_item_id: Your reference of the item.
            dp_id: The partner whose physical SIMs these are.
            iccids: Physical SIMs, as many as ``count``.
            begin_date: First day of the plan, in GMT+8; not in the past.
            daypass_days: Days of a day pass.
            customer_email: Where the vendor sends the customer's mail.
            send_email: Have the vendor send it.
            pdf_language: Language of the PDF, as the vendor names it.
            remark: Text for yourself.
            deadline: Seconds for everything. Once the order was sent it goes on, and this
                call raises ``OutcomeUnknown``.

        Returns:
            The order with all its cards. With a journal, for a reference that was placed
            before: the recorded order, whose cards have no activation codes, since a journal
            keeps none; ``get`` reads them.

        Raises:
            InvalidRequest: With every fault, before a byte is sent.
            OutcomeUnknown: If it may or may not have been placed; it is not sent again.
            OrderIncomplete: If it was placed, but could not be read back; has the number.
            DuplicateOrder: If the reference stands in the journal with other parameters.
            JournalUnavailable: If the journal can't be used now; nothing was sent, try later.
            ApiError: If the vendor refused it.
            MioEsimError: If it was not sent. Of each of these, ``was_placed`` says what this
                call came to: False, True, or None if nobody knows.
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
        return await self._buy(line, deadline)

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
        return await self._buy(line, deadline)

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
        deadline: float | None = None,
    ) -> Order:
        """Renew a card, named by its order or by its ICCID.

        Source: ``renewCard``, vendor-documented. Takes what ``place`` takes, and exactly one
        of ``order_num`` and ``iccid``.

        Returns:
            A new order, with ``is_renewal`` and ``main_order_num``.

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
        return await self._buy(line, deadline)

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
        deadline: float | None = None,
    ) -> Order:
        """Renew a card with a plan that is named by its API code.

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
        return await self._buy(line, deadline)

    async def _buy(self, line: Line, deadline: float | None) -> Order:
        try:
            self._caller.check_usable()
            today = of_today(self._caller.clock.time())
            purchase = await in_slices(check_in_steps(line, today=today))
        except errors.MioEsimError as error:
            await self._purchaser.tell_of(error, line.other_order_id)
            raise
        return await self._purchaser.buy(purchase, deadline)


def _code(given: str | None) -> str:
    # None would mean a plan that is named by its ids.
    return "" if given is None else given


def _reference(given: str | None) -> str:
    return new_reference() if given is None else given

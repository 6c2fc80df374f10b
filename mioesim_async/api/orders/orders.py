"""Orders: place, renew, cancel, look up. Nothing is ever bought twice."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from mioesim_async import errors
from mioesim_async.api.catalogue import Catalogue
from mioesim_async.api.orders.bulk import Lines, OrderStream
from mioesim_async.api.orders.buying import Buying
from mioesim_async.api.orders.line_checks import (
    Line,
    check_cards,
    check_days,
    check_email,
    check_line,
    check_page_size,
    check_text,
    gather,
    of_today,
    pdf_params,
)
from mioesim_async.api.orders.planning import PackageFinder, PlannedLine, plan_lines
from mioesim_async.api.orders.reconcile import ReconcileReport, reconcile
from mioesim_async.api.orders.search import OrderSearch
from mioesim_async.api.partners import Partners
from mioesim_async.closing import running_loop
from mioesim_async.errors import ClientClosed
from mioesim_async.fanout import BatchStream
from mioesim_async.journal.entry import Journal
from mioesim_async.models.iccid import check_iccids
from mioesim_async.models.order_lines import OrderLine
from mioesim_async.models.orders import Order, UsagePage
from mioesim_async.rows.orders import read_links, read_order, read_usage
from mioesim_async.rows.subject import check_about, ids_named
from mioesim_async.slices import in_slices
from mioesim_async.transport.caller import Caller, check_deadline
from mioesim_async.transport.failures import Fault, meaning_of, was_placed
from mioesim_async.wire.endpoints import (
    GET_ORDER_INFO,
    HANDLER_ESIM_PDF_EMAIL,
    HANDLER_ESIM_PDF_LINK,
    QUERY_ESIM_ORDER,
    REFUND_ORDER,
    VERIFY_RESOURCE,
)
from mioesim_async.wire.signing import Value
from mioesim_async.wording import worded

__all__ = ["Orders"]

MAX_PAGE = 100


class Orders(Buying):
    """What can be done with orders; ``client.orders``.

    A purchase is sent once. If it can't be told whether it happened, ``OutcomeUnknown`` is
    raised with its reference. A caller who is cancelled leaves a purchase that was sent to
    its own end: ``on_late_order`` and the journal are told what it came to.

    Without ``order_journal=`` a reference that is used twice is sent twice: whether the
    vendor refuses the second is not known. With it, a reference is bought at most once.
    """

    def __init__(
        self, caller: Caller, journal: Journal | None, catalogue: Catalogue, partners: Partners
    ) -> None:
        """Order through a caller, with a journal or without; prices come from the catalogue."""
        super().__init__(caller, journal)
        self._catalogue = catalogue
        self._partners = partners
        self._running: set[BatchStream[Any, Any]] = set()

    async def aclose(self) -> None:
        """Stop every bulk order that is under way; what was sent goes on."""
        for stream in list(self._running):
            await stream.aclose(ClientClosed("the client was closed before the last line"))
        if not self._caller.has_purchases:
            await self._purchaser.aclose()

    def place_many(
        self,
        lines: Lines,
        *,
        max_spend: Decimal | None,
        concurrency: int = 4,
        dry_run: bool = False,
        deadline: float | None = None,
    ) -> OrderStream:
        """Place many orders and renewals, and stream what becomes of each.

        A line that fails does not stop the others. With a journal, lines whose references
        were placed before are not sent again: run the same lines again to resume.

        Args:
            lines: ``OrderLine`` and ``RenewalLine``, as any iterable or async iterable. One
                with a length is checked and copied whole at the first ``await``, before
                anything is sent; leave it as it is until the first outcome is there.
            max_spend: Most that all lines together may cost, in the vendor's currency; lines
                placed by an earlier run count as well. None for no limit. A line without
                ``package=`` is looked up in the catalogue; one whose price can't be found
                fails, and is not sent.
            concurrency: Most orders under way at once.
            dry_run: Check, price, look into the journal and ask for stock, as ``plan`` does for
                each line; nothing that costs money is sent.
            deadline: Seconds for each line.

        Returns:
            A stream with one ``LineOutcome`` for each line. Entering it, or asking it for its
            first outcome, raises ``InvalidRequest`` with every fault of lines with a length.
            It raises ``SpendLimitReached`` after the last line that could be afforded.

        Raises:
            InvalidRequest: If an argument can't work.
        """
        check_deadline(deadline)
        return OrderStream(
            lines,
            self._purchaser,
            finder=PackageFinder(self._catalogue, self._partners),
            entry_of=self.entry_of,
            check_stock=self.check_stock,
            concurrency=concurrency,
            max_spend=max_spend,
            dry_run=dry_run,
            deadline=deadline,
            registry=self._running,
        )

    async def plan(self, lines: Iterable[Line], *, stock: bool = True) -> list[PlannedLine]:
        """Say what lines would come to, before anybody is asked to pay; nothing is bought.

        Args:
            lines: ``OrderLine`` and ``RenewalLine``.
            stock: Ask for the stock of each plan as well, for all its lines together.

        Returns:
            One ``PlannedLine`` for each line, in their order: its package and price by the
            catalogue, whether it is in stock, what the journal knows of its reference, and
            why it can't be had. A price may change until it is bought.

        Raises:
            InvalidRequest: With every fault that can be found without the vendor.
            JournalUnavailable: If the journal can't be used at the moment.
            MioEsimError: If the vendor can't be asked.
        """
        self._caller.check_usable()
        return await plan_lines(
            [*lines],
            finder=PackageFinder(self._catalogue, self._partners),
            entry_of=self.entry_of,
            check_stock=self.check_stock if stock else None,
            now=self._caller.clock.time(),
        )

    async def get(self, order_num: str, *, deadline: float | None = None) -> Order:
        """Return one order with all its cards, activation codes included.

        Source: ``getOrderInfo``, observed.

        Raises:
            NotFound: If the vendor knows no such order.
            MioEsimError: If the call fails.
        """
        number = check_text("order_num", order_num)
        envelope = await self._caller.call(GET_ORDER_INFO, {"orderNum": number}, deadline=deadline)
        if envelope.data is None:
            raise errors.NotFound(
                GET_ORDER_INFO.path, 0, "", None, f"the vendor returned no order {number}"
            )
        try:
            return await in_slices(read_order(envelope.data, number))
        except errors.ProtocolError as error:
            raise error.at(GET_ORDER_INFO.path)

    async def cancel(
        self,
        order_num: str,
        iccids: str | Iterable[str],
        *,
        remark: str | None = None,
        deadline: float | None = None,
    ) -> str | None:
        """Ask for a refund of cards of an order; its status tells later what came of it.

        Source: ``refundOrder``, vendor-documented. The order goes to status 6 or 7, and
        later to 2 or 4. Like a purchase it is sent once.

        Args:
            order_num: The order.
            iccids: The cards to give back.
            remark: Text for yourself. With one, the vendor may answer that the signature is
                wrong (observed), so none is sent unless you give one.
            deadline: Seconds for everything.

        Returns:
            What the vendor says to it, or None.

        Raises:
            OutcomeUnknown: If it may or may not have happened; ``get`` tells.
            OrderStateError: If the order's status does not allow it.
            MioEsimError: If the call fails otherwise. Its ``was_placed`` says whether the
                cancellation took effect: False, or None if nobody knows.
        """
        try:
            return await self._refund(order_num, iccids, remark, deadline)
        except errors.MioEsimError as error:
            error.was_placed = was_placed(error, sent=False)
            raise

    async def _refund(
        self,
        order_num: str,
        iccids: str | Iterable[str],
        remark: str | None,
        deadline: float | None,
    ) -> str | None:
        cards = await in_slices(
            check_cards(order_num, iccids, lambda: remark is None or check_text("remark", remark))
        )
        params: dict[str, Value] = {"orderNum": order_num, "iccids": cards, "remark": remark}
        envelope = await self._caller.call(REFUND_ORDER, params, deadline=deadline)
        return envelope.data if isinstance(envelope.data, str) else None

    async def pdf_links(
        self,
        order_num: str,
        iccids: str | Iterable[str] | None = None,
        *,
        deadline: float | None = None,
    ) -> dict[str, str]:
        """Return where the PDFs of an order's cards are, by ICCID.

        Source: ``handlerEsimPdf``, vendor-documented. The links are plain ``http://`` and show
        the activation code to whoever opens them.

        Raises:
            PdfFailed: If the vendor could not make them.
            ProtocolError: If the reply has a card that was not asked for.
            MioEsimError: If the call fails.
        """
        params, cards = await in_slices(pdf_params("link", order_num, iccids))
        envelope = await self._caller.call(HANDLER_ESIM_PDF_LINK, params, deadline=deadline)
        try:
            return await in_slices(read_links(envelope.data, cards))
        except errors.ProtocolError as error:
            raise error.at(HANDLER_ESIM_PDF_LINK.path)

    async def email_pdf(
        self,
        order_num: str,
        email: str,
        iccids: str | Iterable[str] | None = None,
        *,
        deadline: float | None = None,
    ) -> None:
        """Have the vendor mail the PDFs of an order; a mail is never sent twice.

        Source: ``handlerEsimPdf``, vendor-documented.

        Raises:
            OutcomeUnknown: If it may or may not have been sent.
            PdfFailed: If the vendor could not make or send them.
            MioEsimError: If the call fails.
        """
        checks = pdf_params("email", order_num, iccids, lambda: check_email(email))
        params, _ = await in_slices(checks)
        params["email"] = email
        await self._caller.call(HANDLER_ESIM_PDF_EMAIL, params, deadline=deadline)

    async def check_stock(
        self, *, sku_id: int, price_id: int, count: int, deadline: float | None = None
    ) -> bool:
        """Tell whether there are so many cards to sell.

        Source: ``verifyResource``, observed. Which code says that there are too few is not
        known: any refusal but one that blames the request is taken for it (assumed).

        Raises:
            InvalidRequest: If an argument can't be right.
            ProtocolError: If the reply names another plan.
            MioEsimError: If the call fails.
        """
        check_line(
            OrderLine(sku_id=sku_id, price_id=price_id, count=count),
            today=of_today(self._caller.clock.time()),
        )
        params = {"skuid": sku_id, "priceid": price_id, "count": count}
        try:
            envelope = await self._caller.call(VERIFY_RESOURCE, params, deadline=deadline)
        except errors.ApiError as error:
            if error.endpoint != VERIFY_RESOURCE.path or meaning_of(error).fault is not Fault.CALL:
                raise
            return False
        try:
            for name in ("skuid", "priceid"):
                check_about("plan", [str(params[name])], ids_named(envelope.data, name))
        except errors.ProtocolError as error:
            raise error.at(VERIFY_RESOURCE.path)
        return True

    def search(
        self,
        *,
        other_order_id: str | None = None,
        start: date | None = None,
        end: date | None = None,
        page_size: int = MAX_PAGE,
        deadline: float | None = None,
    ) -> OrderSearch:
        """Search all orders of some days, or with a reference.

        Use ``async for order in client.orders.search(...)``, or ``await`` it for a list of all
        (``asyncio.ensure_future`` makes a task of it). Nothing is sent before that. ``total`` is
        how many there are, once the first reply has come.

        Source: ``queryOrder``, observed; the shape of its reply and the form of its dates are
        assumed, and it numbers no pages. So where a reply shows fewer orders than there are,
        more are asked for, up to 1,000, and then each half of the days apart. A reply that
        doesn't say how many there are, or counts only those that it shows, is taken to show all
        if it shows fewer than were asked for and the halves of its days show no others. Which
        of these a vendor does takes a call more, where a reply of several days shows as many
        as it counts.

        Args:
            other_order_id: Your reference. Whether the vendor heeds it is not known, so
                compare what comes back.
            start: First day, in GMT+8. The days can only be halved if both ends are given.
            end: Last day, in GMT+8.
            page_size: How many orders are asked for at first, 1 to 1,000.
            deadline: Seconds for all calls together.

        Returns:
            The search. Each order comes once, the newest days first. Rows that can't be read
            are logged and left out, and in ``bad_rows``.

        Raises:
            InvalidRequest: If nothing is asked for, or an argument can't be right.
        """
        check_deadline(deadline)
        if other_order_id is None and start is None and end is None:
            raise errors.InvalidRequest(worded("give other_order_id, start or end"))
        gather(
            lambda: other_order_id is None or check_text("other_order_id", other_order_id),
            lambda: check_days(start, end),
            lambda: check_page_size(page_size),
        )
        return OrderSearch(
            self._caller, other_order_id, start, end, page_size=page_size, deadline=deadline
        )

    async def usage(
        self,
        *,
        iccid: str | None = None,
        order_num: str | None = None,
        page: int = 1,
        page_size: int = MAX_PAGE,
        deadline: float | None = None,
    ) -> UsagePage:
        """Return the orders of a card, or one order, with the usage of their plans.

        Source: ``queryEsimOrder``, observed.

        Args:
            iccid: The card; or else ``order_num``.
            order_num: The order.
            page: Number of the page, from 1.
            page_size: Orders on a page.
            deadline: Seconds for everything.

        Raises:
            InvalidRequest: If not exactly one of card and order is given.
            ProtocolError: If the reply names other orders, or other cards, and not this one.
            MioEsimError: If the call fails.
        """
        if (iccid is None) == (order_num is None):
            raise errors.InvalidRequest("give exactly one of iccid and order_num")
        if type(page) is not int or page < 1:
            raise errors.InvalidRequest(f"page must be a whole number of 1 or more, not {page!r}")
        card = None if iccid is None else check_iccids([iccid])[0]
        params: dict[str, Value] = {
            "iccid": card,
            "orderNum": None if order_num is None else check_text("order_num", order_num),
            "pageNo": page,
            "pageSize": check_page_size(page_size),
        }
        envelope = await self._caller.call(QUERY_ESIM_ORDER, params, deadline=deadline)
        try:
            return await in_slices(read_usage(envelope.data, order_num=order_num, iccid=card))
        except errors.ProtocolError as error:
            raise error.at(QUERY_ESIM_ORDER.path)

    async def reconcile(
        self, *, assume_absent_after: timedelta | None = None, deadline: float | None = None
    ) -> ReconcileReport:
        """Look up what became of the journal's open entries of this account.

        An order is adopted only when a returned row carries exactly our reference. Rows that
        match by time and amount, and carry nobody's reference, are reported as candidates for a
        person. Whether the vendor's search heeds references is assumed, so an entry that it
        does not find stays open unless you say otherwise.

        All orders of an entry's days are listed, once for all entries of the same days, and
        looked up in the journal at once (``find_orders``, where the journal has it).

        Args:
            assume_absent_after: Take an entry for not placed, so that it may be sent again, if
                it is older than this and the search found neither it nor a candidate. Your
                risk: choose more than ``Timeouts.money`` and the vendor's delay; None for
                never. Age and days of an entry are those of the clock of the machine that
                recorded it: if that was days off, an order may be looked for on the wrong days
                and wrongly be taken for not placed. So nothing is concluded where this
                machine's clock is more than five minutes from the vendor's (the ``Date`` of
                its replies), nor where no reply has a date; that of another machine, which
                shares the journal, can't be checked.
            deadline: Seconds for each lookup.

        Raises:
            ConfigurationError: If the client has no journal.
            MioEsimError: That no lookup can survive, such as a refused login; its ``report`` has
                what was found so far.
        """
        running_loop()
        return await reconcile(
            self._purchaser.journalling,
            self.get,
            assume_absent_after=assume_absent_after,
            deadline=deadline,
        )

"""The calls of ``client.orders``: place, renew, cancel, read and search orders."""

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
    day_in_gmt8,
    pdf_params,
    run_checks,
)
from mioesim_async.api.orders.planning import PackageFinder, PlannedLine, plan_lines
from mioesim_async.api.orders.purchase import set_reference
from mioesim_async.api.orders.reconcile import ReconcileReport, reconcile
from mioesim_async.api.orders.resolving import resolve
from mioesim_async.api.orders.search import OrderSearch
from mioesim_async.api.partners import Partners
from mioesim_async.clock import TimeLimit
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
from mioesim_async.transport.pool import running_loop
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
    """Orders; ``client.orders``.

    A purchase is sent once. If it is not known whether it took effect, ``OutcomeUnknown`` is
    raised, with its reference. If the caller is cancelled, a purchase that was sent goes on, and
    its outcome goes to ``on_late_order`` and to the journal.

    With ``order_journal=``, a reference is bought at most once. Without it, each call with the
    same reference is sent, and it is not known whether the vendor refuses the second.
    """

    def __init__(
        self,
        caller: Caller,
        journal: Journal | None,
        catalogue: Catalogue,
        partners: Partners,
        max_spend_per_day: Decimal | None = None,
    ) -> None:
        """Buy through a caller, with a journal or without; prices come from the catalogue."""
        super().__init__(
            caller, journal, max_spend_per_day, lambda: PackageFinder(catalogue, partners)
        )
        self._catalogue = catalogue
        self._partners = partners
        self._running: set[BatchStream[Any, Any]] = set()

    async def aclose(self, *, is_over: bool, in_a_hurry: bool) -> None:
        """Stop all bulk orders; purchases that were sent go on.

        Args:
            is_over: Whether no purchase is waited for any more.
            in_a_hurry: Try only for a second or two to write what the journal doesn't have.
        """
        for stream in list(self._running):
            await stream.aclose(ClientClosed("the client was closed before the last line"))
        if is_over:
            await self._purchaser.aclose(in_a_hurry=in_a_hurry)

    def place_many(
        self,
        lines: Lines,
        *,
        max_spend: Decimal | None,
        concurrency: int = 4,
        dry_run: bool = False,
        deadline: float | None = None,
    ) -> OrderStream:
        """Place many orders and renewals, and stream their outcomes.

        A line that fails does not stop the others. With a journal, lines that were placed before
        are not sent again, so to resume, run the same lines again.

        Args:
            lines: ``OrderLine`` and ``RenewalLine``, in any iterable or async iterable. If it
                has a length, all lines are checked and copied at the first ``await``, before
                anything is sent; don't change it before the first outcome.
            max_spend: Limit of the total price of all lines, in the vendor's currency; None for
                no limit. Lines that an earlier run placed count. Packages of lines without
                ``package=`` are looked up in the catalogue. A line whose price can't be found
                fails, and is not sent.
            concurrency: Maximum of orders under way at once.
            dry_run: For each line do what ``plan`` does: check it, find its price, look up its
                reference in the journal, and ask for stock. Nothing is bought.
            deadline: Seconds for each line.

        Returns:
            A stream with one ``LineOutcome`` for each line. If lines with a length have faults,
            entering the stream or asking it for the first outcome raises ``InvalidRequest``.
            ``SpendLimitReached`` is raised after the last line that the limit allows.

        Raises:
            InvalidRequest: If an argument can't be used.
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
        """Find out prices, stock and journal entries of lines; nothing is bought.

        Args:
            lines: ``OrderLine`` and ``RenewalLine``.
            stock: Whether to ask for the stock of each plan, for all its lines together.

        Returns:
            One ``PlannedLine`` for each line, in the same order: its package and price from the
            catalogue, whether it is in stock, the journal's entry of its reference, and why it
            can't be bought. The price may change before you buy.

        Raises:
            InvalidRequest: If lines have faults that show without the vendor; it lists all.
            JournalUnavailable: If the journal can't be used now.
            MioEsimError: If a call to the vendor fails.
        """
        self._caller.check_usable()
        return await plan_lines(
            [*lines],
            finder=PackageFinder(self._catalogue, self._partners),
            entry_of=self.entry_of,
            check_stock=self.check_stock if stock else None,
            now=self._caller.clock.time(),
        )

    async def resolve(
        self, other_order_id: str, *, whole: bool = False, deadline: float | None = None
    ) -> Order:
        """Find out what became of one reference; buys nothing.

        If this client is buying it, wait for that. Otherwise look into the journal, and if that
        doesn't know the outcome, ask the vendor, as ``reconcile`` does for all open entries.
        Without a journal, only the vendor is asked.

        Args:
            other_order_id: The reference.
            whole: Read a recorded order from the vendor, with its activation codes.
            deadline: Seconds for everything.

        Returns:
            The order, if it was placed. One that the journal has is ``is_recorded``, and its
            cards have no activation codes, unless ``whole`` is true.

        Raises:
            OutcomeUnknown: If it is still not known whether it was placed. ``is_under_way`` says
                whether it is probably being bought at this moment; ``report`` has the orders that
                may be it.
            OrderIncomplete: If it was placed, and reading it failed.
            JournalUnavailable: If the journal can't be used now.
            MioEsimError: If a call fails, or the order was not placed. ``was_placed`` says so:
                False, or None if not known.
        """
        check_deadline(deadline)
        self._caller.check_usable()
        reference = check_text("other_order_id", other_order_id)
        purchaser = self._purchaser
        try:
            with TimeLimit(self._caller.clock, deadline):
                order = await resolve(purchaser, self.entry_of, self.get, reference)
                if whole and order.is_recorded:
                    return await purchaser.read_whole(order, reference, None)
                set_reference(order, reference)
                return order
            raise errors.DeadlineExceeded(
                f"the deadline passed before it was known what became of reference {reference}"
            )
        except errors.MioEsimError as error:
            error.other_order_id = reference
            raise

    async def get(self, order_num: str, *, deadline: float | None = None) -> Order:
        """Return one order with all its cards, activation codes included.

        Source: ``getOrderInfo``, observed.

        Raises:
            NotFound: If the vendor doesn't know the order.
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
        """Ask for a refund of cards of an order. The order's status shows the result later.

        Source: ``refundOrder``, vendor-documented. The order's status becomes 6 or 7, and
        later 2 or 4. Like a purchase, this is sent once.

        Args:
            order_num: The order.
            iccids: The ICCIDs of the cards to refund.
            remark: A text for yourself. With one, the vendor may refuse the signature
                (observed), so leave it out if you can.
            deadline: Seconds for the whole call.

        Returns:
            The vendor's message, or None.

        Raises:
            OutcomeUnknown: If it may or may not have taken effect; find out with ``get``.
            OrderStateError: If the order's status does not allow it.
            MioEsimError: If the call fails otherwise. Its ``was_placed`` says whether the
                cancellation took effect: False, or None if not known.
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
        """Return the URLs of the PDFs of an order's cards, by ICCID.

        Source: ``handlerEsimPdf``, vendor-documented. The URLs are plain ``http://``, and whoever
        opens one sees the activation code.

        Raises:
            PdfFailed: If the vendor could not make the PDFs.
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
        """Let the vendor send the PDFs of an order by e-mail. The call is sent once.

        Source: ``handlerEsimPdf``, vendor-documented.

        Raises:
            OutcomeUnknown: If the e-mail may or may not have been sent.
            PdfFailed: If the vendor could not make or send the PDFs.
            MioEsimError: If the call fails.
        """
        checks = pdf_params("email", order_num, iccids, lambda: check_email(email))
        params, _ = await in_slices(checks)
        params["email"] = email
        await self._caller.call(HANDLER_ESIM_PDF_EMAIL, params, deadline=deadline)

    async def check_stock(
        self, *, sku_id: int, price_id: int, count: int, deadline: float | None = None
    ) -> bool:
        """Tell whether the vendor has enough cards in stock.

        Source: ``verifyResource``, observed. Which code means too few cards is not known: every
        refusal counts as that, unless it is about the request or the login (assumed).

        Raises:
            InvalidRequest: If an argument can't be used.
            ProtocolError: If the reply names another plan.
            MioEsimError: If the call fails.
        """
        check_line(
            OrderLine(sku_id=sku_id, price_id=price_id, count=count),
            today=day_in_gmt8(self._caller.clock.time()),
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

        Use ``async for order in client.orders.search(...)``, or ``await`` it for a list
        (``asyncio.ensure_future`` makes it a task). Nothing is sent before that. After the first
        reply, ``total`` is the number of orders.

        Source: ``queryOrder``, observed; the shape of its reply and the format of its dates are
        assumed. The vendor has no pages. So if a reply has fewer orders than there are, the
        search asks for more, up to 1,000, and then for each half of the days. If a reply has no
        total, or its total counts only the orders in it, the reply counts as complete if it has
        fewer orders than were asked for and the halves of its days have no others. To find out
        what a total counts, the search may make one more call.

        Args:
            other_order_id: Your reference. It is not known whether the vendor filters by it, so
                compare the references of the orders that you get.
            start: First day, in GMT+8. Without both ends, the days can't be halved.
            end: Last day, in GMT+8.
            page_size: How many orders to ask for at first, 1 to 1,000.
            deadline: Seconds for all calls together.

        Returns:
            The search. It yields each order once, the newest days first. Rows that can't be
            read are logged, left out, and listed in ``bad_rows``.

        Raises:
            InvalidRequest: If no argument limits the search, or an argument can't be used.
        """
        check_deadline(deadline)
        if other_order_id is None and start is None and end is None:
            raise errors.InvalidRequest(worded("give other_order_id, start or end"))
        run_checks(
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
            iccid: The card; give either this or ``order_num``.
            order_num: The order.
            page: Number of the page, from 1.
            page_size: Orders on a page.
            deadline: Seconds for the whole call.

        Raises:
            InvalidRequest: If not exactly one of card and order is given.
            ProtocolError: If the reply is about another order or card.
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
        """Search for the orders of this account's open entries in the journal.

        An entry is settled as placed only if one order has exactly its reference. Orders without
        a reference that match an entry by time and price are reported as candidates, for a
        person to decide. It is not known whether the vendor's search filters by reference, so an
        entry that is not found stays open, unless you give ``assume_absent_after``.

        All orders of an entry's days are read, once for all entries of the same days, and looked
        up in the journal (by ``find_orders``, if the journal has it).

        Args:
            assume_absent_after: Settle an entry as not placed, so that it may be sent again, if
                it is older than this and neither its order nor a candidate was found. None for
                never. At your own risk: choose more than ``Timeouts.money`` plus the vendor's
                delay. An entry's age and days come from the clock of the machine that recorded
                it; if that clock was days off, the search may miss the order. So no entry is
                settled this way if this machine's clock differs by more than five minutes from
                the ``Date`` header of the vendor's replies, or if no reply has one. The clocks
                of other machines that share the journal can't be checked.
            deadline: Seconds for each search.

        Raises:
            ConfigurationError: If the client has no journal.
            MioEsimError: If no search can succeed, such as after a refused login; its ``report``
                has what was found before.
        """
        running_loop()
        return await reconcile(
            self._purchaser.journalling,
            self.get,
            assume_absent_after=assume_absent_after,
            deadline=deadline,
        )

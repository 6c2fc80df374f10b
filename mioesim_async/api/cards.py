"""Cards by ICCID: status and usage, history, what they can be renewed with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from functools import partial

from mioesim_async.api.checks import Iccids, checked_iccids, distinct_iccids, one_iccid
from mioesim_async.api.group import Group, refused_all
from mioesim_async.api.sweep import (
    BatchQuery,
    CardStream,
    Doubt,
    Outcomes,
    SweepStats,
    outcome_of_input,
    query_cards,
)
from mioesim_async.errors import InvalidRequest, MioEsimError, NotFound, ProtocolError
from mioesim_async.fanout import BatchStream
from mioesim_async.models.cards import CardDetail, CardReport, CardStatus, PastPlan
from mioesim_async.models.catalogue import Sku, SkuPackages
from mioesim_async.rows.cards import read_detail
from mioesim_async.slices import in_slices
from mioesim_async.transport.caller import Caller, check_deadline
from mioesim_async.transport.pace import Pace
from mioesim_async.wire.endpoints import (
    GET_ESIM_DETAIL,
    GET_HISTORY_DETAIL,
    GET_ICCID_SUPPORT_PACKAGE_INFO,
    GET_ICCID_SUPPORT_SKU,
    MAX_ICCIDS_PER_QUERY,
)

__all__ = ["Cards", "Iccids"]

logger = logging.getLogger("mioesim_async")

GROWN = 100
"""So many outcomes are added to a report in one turn of the event loop."""


class Cards(Group):
    """What can be asked of cards; ``client.cards``.

    ICCIDs are text. Spaces, dashes and a trailing ``F`` are cleaned away; a bare ``str`` is
    one ICCID. Every coroutine takes ``deadline=``, in seconds, over everything, and raises
    the errors of ``mioesim_async.errors``.
    """

    def __init__(self, caller: Caller) -> None:
        """Ask through a caller."""
        super().__init__(caller)
        self._doubt = Doubt()

    async def query(
        self, iccids: str | Iterable[str], *, deadline: float | None = None
    ) -> list[CardStatus]:
        """Return status and usage of up to 100 cards, in one request.

        Source: ``queryIccidInformation``, vendor-documented; the name of its parameter and
        the shape of its reply are assumed.

        Args:
            iccids: Up to 100 distinct ICCIDs.
            deadline: Seconds for everything.

        Returns:
            The cards that were found, one for each distinct ICCID, in order of first
            mention. A card that the vendor doesn't know is left out.

        Raises:
            InvalidRequest: If an item is no ICCID, or there are more than 100; nothing is sent.
            ProtocolError: If no row of the reply can be read. Where only some can't, these
                are left out and logged; ``query_many`` gives them as failed outcomes.
            MioEsimError: If the call fails.
        """
        if not isinstance(iccids, Iterable):
            raise InvalidRequest(f"iccids must be ICCIDs, not {type(iccids).__name__}")
        asked = await distinct_iccids(iccids, MAX_ICCIDS_PER_QUERY)
        if not asked:
            return []
        reply = await query_cards(self._caller, asked, self._doubt, deadline=deadline)
        unread = len(reply.bad) + reply.without_iccid
        if unread:
            first = next(iter(reply.bad.values()), None)
            if not reply.cards:
                raise (first or ProtocolError("no row says which card it is about")).at(
                    "/api_esim/queryIccidInformation"
                )
            logger.warning("%d rows of a reply can't be read and were left out: %s", unread, first)
        return [*reply.cards.values()]

    def query_many(
        self,
        iccids: Iccids,
        *,
        concurrency: int = 8,
        batch_size: int = MAX_ICCIDS_PER_QUERY,
        ordered: bool = False,
        deadline: float | None = None,
        max_outage: float = 120.0,
    ) -> CardStream[CardStatus]:
        """Stream status and usage of any number of cards.

        Batches are asked concurrently, and never more than a few ahead of the consumer, so
        a generator of millions runs in flat memory. A batch that is refused because of one
        bad ICCID is split until that one stands alone. A host that is down for a while
        costs that while, not the cards.

        Args:
            iccids: ICCIDs, as any iterable or async iterable. One with a length is checked and
                copied whole at the first ``await``, before a byte is sent; leave it as it is
                until the first outcome is there. Of any other, an item that is no ICCID is a
                failed outcome.
            concurrency: Most batches under way at once; capped by ``max_in_flight`` and
                the pool.
            batch_size: ICCIDs in a batch, 1 to 100.
            ordered: Hand outcomes out in the order of the input.
            deadline: Seconds for each batch, from the moment it has its slot. Bound a whole
                sweep with ``asyncio.timeout``.
            max_outage: Seconds that the host may be down before its error is raised.

        Returns:
            A stream with one outcome for each input item. Entering it, or asking it for its
            first outcome, raises ``InvalidRequest`` if an item of an input with a length is no
            ICCID, with a fault for each of them.

        Raises:
            InvalidRequest: If an argument can't work.
        """
        if type(batch_size) is int and batch_size > MAX_ICCIDS_PER_QUERY:
            raise InvalidRequest(
                f"batch_size={batch_size} is more than one request takes ({MAX_ICCIDS_PER_QUERY})"
            )
        check_deadline(deadline)
        checked = checked_iccids(iccids)
        stats = SweepStats()
        pace = self._pace(concurrency)
        query = BatchQuery(
            self._caller,
            stats,
            pace,
            self._doubt,
            clean=checked is not None,
            deadline=deadline,
        )
        return CardStream(
            BatchStream(
                iccids if checked is None else checked,
                query.ask,
                batch_size=batch_size,
                concurrency=pace.cap,
                ordered=ordered,
                max_outage=max_outage,
                probe=partial(query.ask, probe=True),
                heard=Outcomes[CardStatus].heard,
                pace=pace,
                clock=self._caller.clock,
                registry=self._running,
                checked=checked,
                refused=lambda error: refused_all(error, self._caller.dialect.batch_parameter),
            ),
            stats,
        )

    async def query_all(
        self,
        iccids: Iccids,
        *,
        concurrency: int = 8,
        batch_size: int = MAX_ICCIDS_PER_QUERY,
        ordered: bool = False,
        deadline: float | None = None,
        max_outage: float = 120.0,
    ) -> CardReport:
        """Return status and usage of any number of cards, sorted into found, missing, failed.

        Takes what ``query_many`` takes. All cards are held in memory, in dicts that grow in one
        piece: from some 200,000 cards on, that alone takes the event loop more than 5 ms a few
        times. Cancelling it, also with ``asyncio.timeout``, loses the report. Take
        ``query_many`` for either.

        Raises:
            InvalidRequest: As ``query_many``.
            MioEsimError: That no batch can survive; its ``report`` has what was done.
        """
        report = CardReport()
        stream = self.query_many(
            iccids,
            concurrency=concurrency,
            batch_size=batch_size,
            ordered=ordered,
            deadline=deadline,
            max_outage=max_outage,
        )
        missing: set[str] = set()
        count = 0
        async with stream:
            try:
                async for outcome in stream:
                    count += 1
                    if count % GROWN == 0:
                        # A dict grows in one piece, so nothing else is done in that turn.
                        await asyncio.sleep(0)
                    if outcome.card is not None:
                        report.cards[outcome.iccid] = outcome.card
                    elif outcome.error is not None:
                        report.failed[outcome.iccid] = outcome.error
                    elif outcome.iccid not in missing:
                        missing.add(outcome.iccid)
                        report.missing.append(outcome.iccid)
            except MioEsimError as error:
                error.report = report
                raise
        return report

    async def detail(self, iccid: str, *, deadline: float | None = None) -> CardDetail:
        """Return everything about one card.

        Source: ``getESIMDetail``, vendor-documented. It needs your IP address on the
        vendor's whitelist.

        Raises:
            InvalidRequest: If it is no ICCID.
            NotFound: If the vendor doesn't know the card.
            MioEsimError: If the call fails.
        """
        card = await self._detail(one_iccid(iccid), deadline)
        if card is None:
            raise NotFound(GET_ESIM_DETAIL.path, 0, "", None, "the vendor returned no such card")
        return card

    async def _detail(
        self,
        iccid: str,
        deadline: float | None,
        *,
        pace: Pace | None = None,
        probe: bool = False,
    ) -> CardDetail | None:
        envelope = await self._caller.call(
            GET_ESIM_DETAIL, {"iccid": iccid}, deadline=deadline, pace=pace, probe=probe
        )
        try:
            return await in_slices(read_detail(envelope, iccid))
        except ProtocolError as error:
            raise error.at(GET_ESIM_DETAIL.path)

    def details(
        self,
        iccids: Iccids,
        *,
        concurrency: int = 8,
        ordered: bool = False,
        deadline: float | None = None,
        max_outage: float = 120.0,
    ) -> CardStream[CardDetail]:
        """Stream everything about any number of cards, one request each.

        Takes what ``query_many`` takes.

        Raises:
            InvalidRequest: As ``query_many``.
        """
        check_deadline(deadline)
        checked = checked_iccids(iccids)
        stats = SweepStats()
        pace = self._pace(concurrency)

        async def ask(batch: list[str], *, probe: bool = False) -> Outcomes[CardDetail]:
            checked = outcome_of_input(batch[0])
            iccid = checked.iccid
            if checked.error is not None:
                return Outcomes([iccid], {}, refused={0: checked.error})
            stats.requests += 1
            card = await self._detail(iccid, deadline, pace=pace, probe=probe)
            return Outcomes([iccid], {} if card is None else {iccid: card})

        return CardStream(
            BatchStream(
                iccids if checked is None else checked,
                ask,
                batch_size=1,
                concurrency=pace.cap,
                ordered=ordered,
                max_outage=max_outage,
                probe=partial(ask, probe=True),
                heard=Outcomes[CardDetail].heard,
                pace=pace,
                clock=self._caller.clock,
                registry=self._running,
                checked=checked,
                refused=lambda error: refused_all(error, "iccid"),
            ),
            stats,
        )

    async def history(self, iccid: str, *, deadline: float | None = None) -> list[PastPlan]:
        """Return the plans that a card had.

        Source: ``getHistoryDetail``, vendor-documented; its fields are assumed.

        Raises:
            InvalidRequest: If it is no ICCID.
            MioEsimError: If the call fails.
        """
        return await self._rows(GET_HISTORY_DETAIL, {"iccid": one_iccid(iccid)}, PastPlan, deadline)

    async def renewal_skus(self, iccid: str, *, deadline: float | None = None) -> list[Sku]:
        """Return the SKUs that a card can be renewed with.

        Source: ``getIccidSupportSku``, vendor-documented.

        Raises:
            InvalidRequest: If it is no ICCID.
            MioEsimError: If the call fails.
        """
        return await self._rows(GET_ICCID_SUPPORT_SKU, {"iccid": one_iccid(iccid)}, Sku, deadline)

    async def renewal_packages(
        self, iccid: str, *, deadline: float | None = None
    ) -> list[SkuPackages]:
        """Return the packages that a card can be renewed with, by SKU.

        Source: ``getIccidSupportPackageInfo``, vendor-documented; one object or a list of
        them was observed.

        Raises:
            InvalidRequest: If it is no ICCID.
            MioEsimError: If the call fails.
        """
        return await self._rows(
            GET_ICCID_SUPPORT_PACKAGE_INFO, {"iccid": one_iccid(iccid)}, SkuPackages, deadline
        )

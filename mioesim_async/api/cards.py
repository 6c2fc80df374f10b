"""Queries about cards: status and usage, history, and what they can be renewed with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, Iterable, Sized
from functools import partial
from itertools import chain, islice

from attrs import define

from mioesim_async.api.group import Group, refused_all
from mioesim_async.api.sweep import (
    BatchQuery,
    CardStream,
    Outcomes,
    SweepStats,
    outcome_of_input,
)
from mioesim_async.errors import InvalidRequest, MioEsimError, NotFound, ProtocolError
from mioesim_async.fanout import BatchStream
from mioesim_async.fanout.source import Checked
from mioesim_async.models.cards import CardDetail, CardReport, CardStatus, PastPlan
from mioesim_async.models.catalogue import Sku, SkuPackages
from mioesim_async.models.iccid import check_iccids, check_in_steps, is_clean
from mioesim_async.rows.cards import BatchReply, read_any_batch, read_clean_batch, read_detail
from mioesim_async.slices import Steps, in_slices
from mioesim_async.transport.caller import Caller, check_deadline
from mioesim_async.transport.pace import Pace
from mioesim_async.wire.dialect import setting
from mioesim_async.wire.endpoints import (
    GET_ESIM_DETAIL,
    GET_HISTORY_DETAIL,
    GET_ICCID_SUPPORT_PACKAGE_INFO,
    GET_ICCID_SUPPORT_SKU,
    MAX_ICCIDS_PER_QUERY,
    QUERY_ICCID_INFORMATION,
)

__all__ = ["Cards", "Iccids", "ParameterCheck", "query_cards"]

logger = logging.getLogger("mioesim_async")

Iccids = str | Iterable[str] | AsyncIterable[str]

PIECE = 1000
"""Items that are counted in one step."""

WARN_AFTER_CARDS = 10
"""Cards without any found, after which a warning says that the host may ignore the ICCIDs."""

OUTCOMES_PER_TURN = 100
"""Outcomes that are added to a report in one turn of the event loop."""


@define
class ParameterCheck:
    """Warns if the host seems to ignore the parameter with the ICCIDs.

    Attributes:
        asked: How many cards were asked for so far, none of which was found.
        is_done: Whether a card was found, or the warning was logged.
    """

    asked: int = 0
    is_done: bool = False

    def note(self, asked: int, reply: BatchReply, parameter: str) -> None:
        """Note a reply, and warn once if every card is missing."""
        self.asked += asked
        if reply.cards or reply.bad:
            self.is_done = True
        elif self.asked >= WARN_AFTER_CARDS:
            self.is_done = True
            logger.warning(
                "none of the first %d cards that were asked for was found; if the vendor should "
                "know them, the host may ignore the parameter %r: set %s",
                self.asked,
                parameter,
                setting("batch_parameter"),
            )


class Cards(Group):
    """Queries about cards; ``client.cards``.

    ICCIDs are text. Spaces, dashes and a trailing ``F`` are removed. A ``str`` is one ICCID. Every
    coroutine takes ``deadline=``, in seconds, for the whole call: waiting for a slot, logging in
    and retries included. It raises the errors of ``mioesim_async.errors``.
    """

    def __init__(self, caller: Caller) -> None:
        """Use the caller for every call."""
        super().__init__(caller)
        self._parameter_check = ParameterCheck()

    async def query(
        self, iccids: str | Iterable[str], *, deadline: float | None = None
    ) -> list[CardStatus]:
        """Return status and usage of up to 100 cards, in one request.

        Source: ``queryIccidInformation``, vendor-documented; the name of its parameter and
        the shape of its reply are assumed.

        Args:
            iccids: Up to 100 distinct ICCIDs.
            deadline: Seconds for the whole call.

        Returns:
            One card for each distinct ICCID, in the order in which the ICCIDs first appear.
            Cards that the vendor doesn't know are left out.

        Raises:
            InvalidRequest: If an item is no ICCID, or there are more than 100; nothing is sent.
            ProtocolError: If no row of the reply can be read. If only some can't, these are
                left out and logged; ``query_many`` returns failed outcomes for them.
            MioEsimError: If the call fails.
        """
        if not isinstance(iccids, Iterable):
            raise InvalidRequest(f"iccids must be ICCIDs, not {type(iccids).__name__}")
        if isinstance(iccids, str):
            iccids = [iccids]
        asked = (
            dict.fromkeys(check_iccids(iccids))
            if isinstance(iccids, Sized) and len(iccids) <= MAX_ICCIDS_PER_QUERY
            else await _distinct_iccids(iccids, MAX_ICCIDS_PER_QUERY)
        )
        if not asked:
            return []
        reply = await query_cards(self._caller, self._parameter_check, asked, deadline=deadline)
        unread = len(reply.bad) + reply.without_iccid
        if unread:
            without_iccid = ProtocolError("no row of the reply has an ICCID")
            first = next(iter(reply.bad.values()), without_iccid)
            if not reply.cards:
                raise first.at(QUERY_ICCID_INFORMATION.path)
            why = first if reply.bad else "they have no ICCID"
            logger.warning("%d row(s) of a reply can't be read and were left out: %s", unread, why)
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

        Batches run concurrently, and only a few of them ahead of the consumer, so memory stays
        bounded for a generator of millions. A batch that is refused because of one bad ICCID is
        split until that ICCID is alone. If the host is down for a while, the sweep waits for it.

        Args:
            iccids: ICCIDs, as any iterable or async iterable. An input with a length is checked
                and copied as a whole at the first ``await``, before anything is sent; don't
                change it before the first outcome. In any other input, an item that is no ICCID
                gives a failed outcome.
            concurrency: How many batches may run at once; capped by ``max_in_flight`` and the
                pool.
            batch_size: ICCIDs in a batch, 1 to 100.
            ordered: Return outcomes in the order of the input.
            deadline: Seconds for each batch, from the moment it has its slot. To limit a whole
                sweep, use ``asyncio.timeout``.
            max_outage: Seconds that the host may be down before the stream raises its error.

        Returns:
            A stream with one outcome for each input item. If an item of an input with a length
            is no ICCID, ``async with`` or the first outcome raises ``InvalidRequest``, with a
            fault for each such item.

        Raises:
            InvalidRequest: If an argument is invalid.
        """
        if type(batch_size) is int and batch_size > MAX_ICCIDS_PER_QUERY:
            raise InvalidRequest(
                f"batch_size={batch_size} is more than one request takes ({MAX_ICCIDS_PER_QUERY})"
            )
        check_deadline(deadline)
        checked = _checked_iccids(iccids)
        stats = SweepStats()
        pace = self._caller.sweep_pace(concurrency)
        query = BatchQuery(
            partial(query_cards, self._caller, self._parameter_check),
            stats,
            pace,
            self._caller.clock,
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
                answer_of=Outcomes[CardStatus].answer,
                pace=pace,
                clock=self._caller.clock,
                registry=self._running,
                checked=checked,
                stop_error=lambda error: refused_all(error, self._caller.dialect.batch_parameter),
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
        """Return status and usage of any number of cards in a report: found, missing, failed.

        Takes the arguments of ``query_many``. Use ``query_many`` instead for more than some
        200,000 cards, since the report's dicts then block the event loop for more than 5 ms when
        they grow, or if you may cancel the call (also by ``asyncio.timeout``), since the report
        is then lost.

        Raises:
            InvalidRequest: As for ``query_many``.
            MioEsimError: If an error ends the whole sweep; its ``report`` has the outcomes so
                far.
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
                    if count % OUTCOMES_PER_TURN == 0:
                        # A dict may grow in this turn, which takes long: do nothing else in it.
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
        """Return all details of one card.

        Source: ``getESIMDetail``, vendor-documented. It needs your IP address on the
        vendor's whitelist.

        Raises:
            InvalidRequest: If ``iccid`` is no ICCID.
            NotFound: If the vendor doesn't know the card.
            MioEsimError: If the call fails.
        """
        card = await self._detail(_one_iccid(iccid), deadline)
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
        """Stream all details of any number of cards, with one request for each.

        Takes the arguments of ``query_many``, except ``batch_size``.

        Raises:
            InvalidRequest: As for ``query_many``.
        """
        check_deadline(deadline)
        checked = _checked_iccids(iccids)
        stats = SweepStats()
        pace = self._caller.sweep_pace(concurrency)

        async def ask(batch: list[str], *, probe: bool = False) -> Outcomes[CardDetail]:
            outcome = outcome_of_input(batch[0])
            iccid = outcome.iccid
            if outcome.error is not None:
                return Outcomes([iccid], {}, failed_at={0: outcome.error})
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
                answer_of=Outcomes[CardDetail].answer,
                pace=pace,
                clock=self._caller.clock,
                registry=self._running,
                checked=checked,
                stop_error=lambda error: refused_all(error, "iccid"),
            ),
            stats,
        )

    async def history(self, iccid: str, *, deadline: float | None = None) -> list[PastPlan]:
        """Return the plans that a card had.

        Source: ``getHistoryDetail``, vendor-documented; its fields are assumed.

        Raises:
            InvalidRequest: If ``iccid`` is no ICCID.
            MioEsimError: If the call fails.
        """
        return await self._list(
            GET_HISTORY_DETAIL, {"iccid": _one_iccid(iccid)}, PastPlan, deadline
        )

    async def renewal_skus(self, iccid: str, *, deadline: float | None = None) -> list[Sku]:
        """Return the SKUs that a card can be renewed with.

        Source: ``getIccidSupportSku``, vendor-documented.

        Raises:
            InvalidRequest: If ``iccid`` is no ICCID.
            MioEsimError: If the call fails.
        """
        return await self._list(GET_ICCID_SUPPORT_SKU, {"iccid": _one_iccid(iccid)}, Sku, deadline)

    async def renewal_packages(
        self, iccid: str, *, deadline: float | None = None
    ) -> list[SkuPackages]:
        """Return the packages that a card can be renewed with, by SKU.

        Source: ``getIccidSupportPackageInfo``, vendor-documented; one object or a list of
        them was observed.

        Raises:
            InvalidRequest: If ``iccid`` is no ICCID.
            MioEsimError: If the call fails.
        """
        return await self._list(
            GET_ICCID_SUPPORT_PACKAGE_INFO, {"iccid": _one_iccid(iccid)}, SkuPackages, deadline
        )


async def query_cards(
    caller: Caller,
    parameter_check: ParameterCheck,
    iccids: dict[str, None],
    *,
    deadline: float | None,
    pace: Pace | None = None,
    probe: bool = False,
) -> BatchReply:
    """Ask for up to 100 clean ICCIDs in one call.

    Raises:
        MioEsimError: If the call fails, or its reply can't be read.
    """
    envelope = await caller.call(
        QUERY_ICCID_INFORMATION,
        {caller.dialect.batch_parameter: ",".join(iccids)},
        deadline=deadline,
        pace=pace,
        probe=probe,
        items=len(iccids),
    )
    try:
        reply = read_clean_batch(envelope, iccids)
        if reply is None:
            reply = await in_slices(read_any_batch(envelope, iccids))
            _check_about(reply, caller.dialect.batch_parameter)
    except ProtocolError as error:
        raise error.at(QUERY_ICCID_INFORMATION.path)
    if not parameter_check.is_done:
        parameter_check.note(len(iccids), reply, caller.dialect.batch_parameter)
    if reply.unasked:
        logger.warning("a reply held %d cards that were not asked for", reply.unasked)
    return reply


def _check_about(reply: BatchReply, parameter: str) -> None:
    """Refuse a reply that is only about other cards: it doesn't say that a card is missing.

    Raises:
        ProtocolError: If the reply is one.
    """
    if reply.unasked and not (reply.cards or reply.bad or reply.without_iccid):
        raise ProtocolError(
            f"the reply is about {reply.unasked} other cards, and about none that was asked for; "
            f"if this happens always, the host ignores the parameter {parameter!r}: set "
            f"{setting('batch_parameter')}"
        )


def _checked_iccids(iccids: Iccids) -> Checked[str] | None:
    """Return an input that can be checked before a sweep starts; None if it has no length."""
    check = partial(check_in_steps, lenient_way="Pass iter(...)")
    if isinstance(iccids, str):
        return Checked([iccids], check)
    if isinstance(iccids, Iterable) and isinstance(iccids, Sized):
        return Checked(iccids, check)
    return None


def _one_iccid(iccid: str) -> str:
    """Return one ICCID, cleaned.

    Raises:
        InvalidRequest: If it is no ICCID.
    """
    return iccid if is_clean(iccid) else check_iccids([iccid])[0]


async def _distinct_iccids(iccids: Iterable[str], most: int) -> dict[str, None]:
    """Clean any number of ICCIDs and return each once, in the order of the input.

    Args:
        iccids: The ICCIDs.
        most: How many distinct ICCIDs there may be.

    Raises:
        InvalidRequest: With a fault for each item that is no ICCID, or if there are too many.
    """
    if isinstance(iccids, Sized):
        checked = Checked(iccids, check_in_steps)
        await checked.check()
        return await in_slices(_distinct(checked, most))
    pieces = await in_slices(check_in_steps(iccids))
    return await in_slices(_distinct(chain.from_iterable(pieces), most))


def _distinct(iccids: Iterable[str], most: int) -> Steps[dict[str, None]]:
    distinct: dict[str, None] = {}
    count = 0
    left = iter(iccids)
    while piece := list(islice(left, PIECE)):
        count += len(piece)
        if len(distinct) <= most:
            distinct.update(dict.fromkeys(piece))
        yield
    if len(distinct) > most:
        raise InvalidRequest(
            f"{count:,} ICCIDs are more than one request takes ({most}); use query_many() or "
            "query_all()"
        )
    return distinct

"""One batch of cards: clean, ask, match the reply, and split a batch that was refused."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import Any

from attrs import define

from mioesim_async import errors
from mioesim_async.fanout.outage import is_fatal, is_outage
from mioesim_async.models.cards import CardOutcome, CardStatus
from mioesim_async.models.iccid import clean_iccid
from mioesim_async.models.replies import BatchReply, read_batch
from mioesim_async.transport.caller import Caller
from mioesim_async.transport.pace import Pace
from mioesim_async.wire.endpoints import QUERY_ICCID_INFORMATION, REFUSED_FOR_DATA

__all__ = ["BatchQuery", "SweepStats"]

logger = logging.getLogger("mioesim_async")

MAX_CALLS_PER_BATCH = 40
FRUITLESS_BATCHES = 3
NAMELESS = "the reply held {} rows that say of no card, so this one may be among them"

Answer = tuple[CardStatus | None, errors.MioEsimError | None]


@define
class SweepStats:
    """Counts of a sweep.

    Attributes:
        input: Items of the batches that were taken up so far.
        requests: Calls made, without the retries inside them.
        found: Outcomes with a card.
        missing: Outcomes of cards that the vendor doesn't know.
        failed: Outcomes with an error.
        unasked: Cards in replies that nobody had asked for.
    """

    input: int = 0
    requests: int = 0
    found: int = 0
    missing: int = 0
    failed: int = 0
    unasked: int = 0


class BatchQuery:
    """Asks for batches of cards on behalf of one sweep."""

    def __init__(
        self,
        caller: Caller,
        stats: SweepStats,
        pace: Pace,
        *,
        clean: bool,
        deadline: float | None,
    ) -> None:
        """Prepare the sweep.

        Args:
            caller: Makes the calls.
            stats: Where calls and unasked cards are counted.
            pace: The sweep's pace.
            clean: The items are known to be clean ICCIDs.
            deadline: Seconds for each batch, from the moment it has its slot.
        """
        self._caller = caller
        self._stats = stats
        self._pace = pace
        self._clean = clean
        self._deadline = deadline
        self._answered = False
        self._good_seen = False
        self._fruitless = 0
        self._split_turn = asyncio.Lock()

    async def ask(self, items: list[str]) -> list[CardOutcome]:
        """Return an outcome for each item, in their order.

        Raises:
            MioEsimError: If the whole batch failed.
        """
        return await self._outcomes(items, probe=False)

    async def probe(self, items: list[str]) -> list[CardOutcome]:
        """Do the same in one attempt."""
        return await self._outcomes(items, probe=True)

    async def _outcomes(self, items: list[str], *, probe: bool) -> list[CardOutcome]:
        if self._clean:
            answers = await self._answers(list(dict.fromkeys(items)), probe=probe)
            return [CardOutcome(iccid, *answers[iccid]) for iccid in items]
        outcomes = [outcome_of_input(item) for item in items]
        good = dict.fromkeys(outcome.iccid for outcome in outcomes if outcome.error is None)
        answers = await self._answers(list(good), probe=probe) if good else {}
        for outcome in outcomes:
            if outcome.error is None:
                outcome.card, outcome.error = answers[outcome.iccid]
        return outcomes

    async def _answers(self, iccids: list[str], *, probe: bool) -> dict[str, Answer]:
        began = self._caller.clock.monotonic()
        try:
            return await self._call(iccids, self._deadline, probe=probe)
        except errors.ApiError as error:
            if len(iccids) == 1 or self._fruitless >= FRUITLESS_BATCHES or not self._is_data(error):
                raise
            refusal = error
        # While no card was seen at all, it may not be the data: one batch tries at a time.
        async with nullcontext() if self._good_seen else self._split_turn:
            return await self._split(iccids, refusal, began)

    def _is_data(self, error: errors.ApiError) -> bool:
        return error.code in REFUSED_FOR_DATA or (error.code == -2 and self._answered)

    async def _split(
        self, iccids: list[str], refusal: errors.MioEsimError, began: float
    ) -> dict[str, Answer]:
        """Halve a refused batch until each bad ICCID stands alone."""
        clock, left = self._caller.clock, self._deadline
        answers: dict[str, Answer] = {}
        pieces = deque(_halves(iccids))
        calls = 1
        while pieces:
            piece = pieces.popleft()
            if self._deadline is not None:
                left = began + self._deadline - clock.monotonic()
            over = left is not None and left <= 0
            if over or calls == MAX_CALLS_PER_BATCH or self._fruitless >= FRUITLESS_BATCHES:
                answers.update(_failed(piece, refusal))
                continue
            calls += 1
            try:
                answers.update(await self._call(piece, left, probe=False))
            except errors.MioEsimError as error:
                if is_fatal(error) or is_outage(error):
                    raise
                refusal = error.with_traceback(None)
            else:
                continue
            is_data = isinstance(refusal, errors.ApiError) and self._is_data(refusal)
            if is_data and len(piece) > 1:
                pieces.extend(_halves(piece))
            else:
                answers.update(_failed(piece, refusal))
        if not any(card for card, _ in answers.values()):
            self._fruitless += 1
        return answers

    async def _call(
        self, iccids: list[str], deadline: float | None, *, probe: bool
    ) -> dict[str, Answer]:
        self._stats.requests += 1
        reply = await query_cards(
            self._caller, iccids, deadline=deadline, pace=self._pace, probe=probe
        )
        self._answered = True
        self._stats.unasked += reply.unasked
        if reply.cards:
            self._good_seen = True
            self._fruitless = 0
        cards, bad = reply.cards, reply.bad
        if not bad and not reply.nameless:
            return {iccid: (cards.get(iccid), None) for iccid in iccids}
        unclear = errors.ProtocolError(NAMELESS.format(reply.nameless)) if reply.nameless else None
        return {
            iccid: (card, None) if (card := cards.get(iccid)) else (None, bad.get(iccid, unclear))
            for iccid in iccids
        }


async def query_cards(
    caller: Caller,
    iccids: list[str],
    *,
    deadline: float | None,
    pace: Pace | None = None,
    probe: bool = False,
) -> BatchReply:
    """Ask for up to 100 clean, distinct ICCIDs in one call.

    Raises:
        MioEsimError: If the call fails or its reply holds no cards.
    """
    envelope = await caller.call(
        QUERY_ICCID_INFORMATION,
        {caller.dialect.batch_parameter: ",".join(iccids)},
        deadline=deadline,
        pace=pace,
        probe=probe,
    )
    try:
        reply = read_batch(envelope, dict.fromkeys(iccids))
    except errors.ProtocolError as error:
        raise error.at(QUERY_ICCID_INFORMATION.path)
    if reply.unasked:
        logger.warning("a reply held %d cards that nobody had asked for", reply.unasked)
    return reply


def outcome_of_input(item: object) -> CardOutcome:
    """Clean one item of a stream; an item that is no ICCID is a failed outcome."""
    try:
        return CardOutcome(clean_iccid(item))
    except errors.InvalidRequest as error:
        return CardOutcome(
            item if isinstance(item, str) else repr(item), None, error.with_traceback(None)
        )


def heard_in(outcomes: Sequence[CardOutcome[Any]]) -> tuple[bool, str | None]:
    """Tell whether outcomes come from an answer of the host, and a card that it knows."""
    answered = any(not isinstance(outcome.error, errors.InvalidRequest) for outcome in outcomes)
    return answered, next((o.iccid for o in outcomes if o.card is not None), None)


def _halves(iccids: list[str]) -> tuple[list[str], list[str]]:
    middle = (len(iccids) + 1) // 2
    return iccids[:middle], iccids[middle:]


def _failed(iccids: Iterable[str], error: errors.MioEsimError) -> dict[str, Answer]:
    return dict.fromkeys(iccids, (None, error))

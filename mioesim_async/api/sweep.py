"""One batch of cards: clean, ask, match the reply, and split a batch that was refused."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Generic, Self

from attrs import Factory, define, evolve

from mioesim_async import errors
from mioesim_async.closing import Closing
from mioesim_async.fanout import BatchOutcome, BatchStream
from mioesim_async.models.cards import C, CardOutcome, CardStatus
from mioesim_async.models.iccid import are_clean, clean_iccid
from mioesim_async.rows.cards import BatchReply, read_any_batch, read_clean_batch
from mioesim_async.slices import Steps, in_slices
from mioesim_async.transport.caller import Caller
from mioesim_async.transport.failures import is_fatal, is_outage
from mioesim_async.transport.pace import Pace
from mioesim_async.wire.dialect import setting
from mioesim_async.wire.endpoints import QUERY_ICCID_INFORMATION, REFUSED_FOR_DATA

__all__ = ["BatchQuery", "CardStream", "Outcomes", "SweepStats"]

logger = logging.getLogger("mioesim_async")

MAX_CALLS_PER_BATCH = 40
FRUITLESS_BATCHES = 3
TELLING_CARDS = 10
"""So many cards of which none is found may mean that the host does not heed which were meant."""
NAMELESS = "the reply held {} rows that name no card, so this one may be among them"


@define
class Outcomes(Generic[C]):
    """The outcomes of a batch, each made as it is handed out.

    Made all at once, they would live until the garbage collector meets them, which costs more.

    Attributes:
        iccids: The batch's items, cleaned; as they were given where that could not be done.
        cards: What was found, by ICCID.
        failed: What went wrong, by ICCID.
        refused: Items that are no ICCIDs, by position.
    """

    iccids: list[str]
    cards: Mapping[str, C]
    failed: Mapping[str, errors.MioEsimError] = Factory(dict)
    refused: Mapping[int, errors.MioEsimError] = Factory(dict)

    @property
    def counts(self) -> tuple[int, int]:
        """How many were found, and how many failed."""
        if len(self.cards) == len(self.iccids):
            # Each item is another card, and was found.
            return len(self.iccids), 0
        kept = self._kept()
        failed = sum(map(self.failed.__contains__, kept)) if self.failed else 0
        return sum(map(self.cards.__contains__, kept)), failed + len(self.refused)

    def _kept(self) -> list[str]:
        if not self.refused:
            return self.iccids
        return [one for place, one in enumerate(self.iccids) if place not in self.refused]

    def __iter__(self) -> Iterator[CardOutcome[C]]:
        """Make the outcomes, in the order of the items."""
        iccids, cards, failed = self.iccids, self.cards.get, self.failed.get
        if not self.failed and not self.refused:
            return map(CardOutcome, iccids, map(cards, iccids))
        return (
            CardOutcome(one, None, self.refused[place])
            if place in self.refused
            else CardOutcome(one, cards(one), failed(one))
            for place, one in enumerate(iccids)
        )

    def heard(self) -> tuple[bool, str | None]:
        """Tell whether they come from an answer of the host, and a card that it knows."""
        answered = len(self.refused) < len(self.iccids)
        return answered, next(iter(self.cards), None)


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


@define
class Doubt:
    """Whether the host heeds the parameter that names the cards, as far as a client can tell.

    Attributes:
        asked: How many cards were asked for, with none found.
        is_over: A card was found, or the doubt was told.
    """

    asked: int = 0
    is_over: bool = False

    def note(self, asked: int, reply: BatchReply, parameter: str) -> None:
        """Note a reply, and tell once if every card is missing."""
        self.asked += asked
        if reply.cards or reply.bad:
            self.is_over = True
        elif self.asked >= TELLING_CARDS:
            self.is_over = True
            logger.warning(
                "none of the first %d cards that were asked for was found; if the vendor should "
                "know them, the host may ignore the parameter %r: set %s",
                self.asked,
                parameter,
                setting("batch_parameter"),
            )


class BatchQuery:
    """Asks for batches of cards on behalf of one sweep."""

    def __init__(
        self,
        caller: Caller,
        stats: SweepStats,
        pace: Pace,
        doubt: Doubt,
        *,
        clean: bool,
        deadline: float | None,
    ) -> None:
        """Prepare the sweep.

        Args:
            caller: Makes the calls.
            stats: Where calls and unasked cards are counted.
            pace: The sweep's pace.
            doubt: The client's.
            clean: The items are known to be clean ICCIDs.
            deadline: Seconds for each batch, from the moment it has its slot.
        """
        self._caller = caller
        self._stats = stats
        self._pace = pace
        self._doubt = doubt
        self._clean = clean
        self._deadline = deadline
        self._answered = False
        self._good_seen = False
        self._fruitless = 0
        self._split_turn = asyncio.Lock()

    async def ask(self, items: list[str], *, probe: bool = False) -> Outcomes[CardStatus]:
        """Clean the items and ask for them.

        Args:
            items: What the fan-out's input held; up to 100.
            probe: Make one attempt only.

        Returns:
            An outcome for each item, in their order.

        Raises:
            MioEsimError: If the whole batch failed.
        """
        refused: dict[int, errors.MioEsimError] = {}
        if not self._clean and not are_clean(items):
            items, refused = await in_slices(_cleaned(items))
        asked = dict.fromkeys(
            [one for place, one in enumerate(items) if place not in refused] if refused else items
        )
        if not asked:
            return Outcomes(items, {}, refused=refused)
        began = self._caller.clock.monotonic()
        self._stats.requests += 1
        try:
            reply = await query_cards(
                self._caller,
                asked,
                self._doubt,
                deadline=self._deadline,
                pace=self._pace,
                probe=probe,
            )
        except errors.ApiError as error:
            if len(asked) == 1 or self._fruitless >= FRUITLESS_BATCHES or not self._is_data(error):
                raise
            refusal = error
        else:
            return Outcomes(items, reply.cards, self._failed(reply, asked), refused)
        # While no card was seen at all, it may not be the data: one batch tries at a time.
        async with nullcontext() if self._good_seen else self._split_turn:
            cards, failed = await self._split([*asked], refusal, began)
        return Outcomes(items, cards, failed, refused)

    def _is_data(self, error: errors.ApiError) -> bool:
        return error.code in REFUSED_FOR_DATA or (error.code == -2 and self._answered)

    def _failed(
        self, reply: BatchReply, asked: dict[str, None]
    ) -> Mapping[str, errors.MioEsimError]:
        """Note a reply, and return what went wrong in it, by ICCID."""
        self._answered = True
        self._stats.unasked += reply.unasked
        if reply.cards:
            self._good_seen = True
            self._fruitless = 0
        if not reply.without_iccid:
            return reply.bad
        unclear = errors.ProtocolError(NAMELESS.format(reply.without_iccid))
        return {one: unclear for one in asked if one not in reply.cards} | reply.bad

    async def _split(
        self, iccids: list[str], refusal: errors.MioEsimError, began: float
    ) -> tuple[dict[str, CardStatus], dict[str, errors.MioEsimError]]:
        """Halve a refused batch until each bad ICCID stands alone.

        Returns:
            Cards and errors by ICCID.
        """
        clock, left = self._caller.clock, self._deadline
        cards: dict[str, CardStatus] = {}
        failed: dict[str, errors.MioEsimError] = {}
        pieces = deque(_halves(iccids))
        calls = 1
        while pieces:
            piece = pieces.popleft()
            if self._deadline is not None:
                left = began + self._deadline - clock.monotonic()
            over = left is not None and left <= 0
            if over or calls == MAX_CALLS_PER_BATCH or self._fruitless >= FRUITLESS_BATCHES:
                failed |= dict.fromkeys(piece, refusal)
                continue
            calls += 1
            self._stats.requests += 1
            asked = dict.fromkeys(piece)
            try:
                reply = await query_cards(
                    self._caller, asked, self._doubt, deadline=left, pace=self._pace
                )
            except errors.MioEsimError as error:
                if is_fatal(error) or is_outage(error):
                    raise
                refusal = error.with_traceback(None)
            else:
                cards |= reply.cards
                failed |= self._failed(reply, asked)
                continue
            is_data = isinstance(refusal, errors.ApiError) and self._is_data(refusal)
            if is_data and len(piece) > 1:
                pieces.extend(_halves(piece))
            else:
                failed |= dict.fromkeys(piece, refusal)
        if not cards:
            self._fruitless += 1
        return cards, failed


async def query_cards(
    caller: Caller,
    iccids: dict[str, None],
    doubt: Doubt,
    *,
    deadline: float | None,
    pace: Pace | None = None,
    probe: bool = False,
) -> BatchReply:
    """Ask for up to 100 clean ICCIDs, in order, in one call.

    Raises:
        MioEsimError: If the call fails or its reply holds no cards.
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
    except errors.ProtocolError as error:
        raise error.at(QUERY_ICCID_INFORMATION.path)
    if not doubt.is_over:
        doubt.note(len(iccids), reply, caller.dialect.batch_parameter)
    if reply.unasked:
        logger.warning("a reply held %d cards that nobody had asked for", reply.unasked)
    return reply


def _check_about(reply: BatchReply, parameter: str) -> None:
    """Refuse a reply about other cards alone, since it says nothing of those asked for.

    Raises:
        ProtocolError: If it is one.
    """
    if reply.unasked and not (reply.cards or reply.bad or reply.without_iccid):
        raise errors.ProtocolError(
            f"the reply is about {reply.unasked} other cards and about none that was asked for; "
            f"if every reply is, the host ignores the parameter {parameter!r}: set "
            f"{setting('batch_parameter')}"
        )


def outcome_of_input(item: object) -> CardOutcome:
    """Clean one item of a stream; an item that is no ICCID is a failed outcome."""
    try:
        return CardOutcome(clean_iccid(item))
    except errors.InvalidRequest as error:
        return CardOutcome(
            item if isinstance(item, str) else repr(item), None, error.with_traceback(None)
        )


def _cleaned(items: list[str]) -> Steps[tuple[list[str], dict[int, errors.MioEsimError]]]:
    """Clean items, and return them with what is wrong with some, by position."""
    cleaned: list[str] = []
    refused: dict[int, errors.MioEsimError] = {}
    for place, item in enumerate(items):
        outcome = outcome_of_input(item)
        cleaned.append(outcome.iccid)
        if outcome.error is not None:
            refused[place] = outcome.error
        yield
    return cleaned, refused


def _halves(iccids: list[str]) -> tuple[list[str], list[str]]:
    middle = (len(iccids) + 1) // 2
    return iccids[:middle], iccids[middle:]


class CardStream(Closing, Generic[C]):
    """One ``CardOutcome`` for each input item; an async iterator and context manager.

    ``async with``, exhaustion and ``client.aclose()`` leave no task and no connection behind.
    Plain ``async for`` works too; after leaving it early, one of these cleans up.

    Attributes:
        stats: The counts so far (``input``, ``requests``, ``found``, ``missing``,
            ``failed``, ``unasked``).
    """

    def __init__(self, batches: BatchStream[str, Outcomes[C]], stats: SweepStats) -> None:
        """Take the outcomes of these batches apart."""
        self.stats = stats
        self._batches = batches
        self._ready: Iterator[CardOutcome[C]] = iter(())

    async def __aenter__(self) -> Self:
        """Check an input that has a length, and return the stream itself.

        Raises:
            InvalidRequest: With a fault for each item that is no ICCID.
        """
        await self._batches.check()
        return self

    def __aiter__(self) -> Self:
        """Return the stream itself."""
        return self

    async def aclose(self) -> None:
        """Stop the sweep and wait for its end; may be called again."""
        self._ready = iter(())
        await self._batches.aclose()

    async def __anext__(self) -> CardOutcome[C]:
        """Return the next outcome.

        Raises:
            InvalidRequest: As ``async with``, if the stream was not entered.
            MioEsimError: That no batch can survive, such as a refused login; its ``tally``
                has the counts so far.
        """
        while True:
            for outcome in self._ready:
                return outcome
            if self._batches.is_unchecked:
                await self._batches.check()
            try:
                batch = await self._batches.__anext__()
            except errors.MioEsimError as error:
                tally = error.tally = evolve(self.stats)
                error.add_note(
                    f"The sweep ended early: {tally.found} found, {tally.missing} missing, "
                    f"{tally.failed} failed, {tally.requests} calls."
                )
                raise
            self._unpack(batch)

    def _unpack(self, batch: BatchOutcome[str, Outcomes[C]]) -> None:
        outcomes = batch.result
        if outcomes is None:
            error = as_mioesim_error(batch.error)
            checked = [outcome_of_input(item) for item in batch.items]
            refused = {place: one.error or error for place, one in enumerate(checked)}
            outcomes = Outcomes[C]([one.iccid for one in checked], {}, refused=refused)
        stats, (found, failed) = self.stats, outcomes.counts
        stats.input += len(outcomes.iccids)
        stats.failed += failed
        stats.found += found
        stats.missing += len(outcomes.iccids) - failed - found
        self._ready = iter(outcomes)


def as_mioesim_error(error: BaseException | None) -> errors.MioEsimError:
    """Return the batch's error; one that is not ours is a bug of this SDK, and raised."""
    if isinstance(error, errors.MioEsimError):
        return error
    raise error or RuntimeError("a batch ended with neither a result nor an error")

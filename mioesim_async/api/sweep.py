"""Sweeps over batches of cards: clean the ICCIDs, split a refused batch, stream the outcomes."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import nullcontext
from types import TracebackType
from typing import Generic, Protocol, Self

from attrs import Factory, define, evolve, field

from mioesim_async import errors
from mioesim_async.clock import Clock
from mioesim_async.fanout import BatchOutcome, BatchStream
from mioesim_async.models.cards import C, CardOutcome, CardStatus
from mioesim_async.models.iccid import are_clean, clean_iccid
from mioesim_async.rows.cards import BatchReply
from mioesim_async.slices import Steps, in_slices
from mioesim_async.transport.failures import is_fatal, is_outage
from mioesim_async.transport.pace import Pace
from mioesim_async.wire.endpoints import REFUSED_FOR_DATA

__all__ = ["BatchQuery", "CardStream", "Outcomes", "SweepStats"]

logger = logging.getLogger("mioesim_async")

MAX_CALLS_PER_BATCH = 40

MAX_FRUITLESS = 3
"""Splits in a row that find no card. After them, no batch is split until a card is found."""


@define
class Outcomes(Generic[C]):
    """The outcomes of a batch.

    Each outcome is made when it is returned: the garbage collector would take longer to free them
    if all existed at once.

    Attributes:
        iccids: The batch's items, cleaned; an item that is no ICCID is kept as it was given.
        cards: The cards that were found, by ICCID.
        failed: Errors, by ICCID.
        failed_at: Errors, by position in ``iccids``, such as those of items that are no ICCIDs.
    """

    iccids: list[str]
    cards: Mapping[str, C]
    failed: Mapping[str, errors.MioEsimError] = Factory(dict)
    failed_at: Mapping[int, errors.MioEsimError] = Factory(dict)

    @property
    def counts(self) -> tuple[int, int]:
        """The number of cards that were found, and of items that failed."""
        if len(self.cards) == len(self.iccids):
            # Every item is a different card, and all were found.
            return len(self.iccids), 0
        valid = self._valid()
        failed = sum(map(self.failed.__contains__, valid)) if self.failed else 0
        return sum(map(self.cards.__contains__, valid)), failed + len(self.failed_at)

    def _valid(self) -> list[str]:
        if not self.failed_at:
            return self.iccids
        return [one for place, one in enumerate(self.iccids) if place not in self.failed_at]

    def __iter__(self) -> Iterator[CardOutcome[C]]:
        """Yield an outcome for each item, in their order."""
        iccids, cards, failed = self.iccids, self.cards.get, self.failed.get
        if not self.failed and not self.failed_at:
            return map(CardOutcome, iccids, map(cards, iccids))
        return (
            CardOutcome(one, None, self.failed_at[place])
            if place in self.failed_at
            else CardOutcome(one, cards(one), failed(one))
            for place, one in enumerate(iccids)
        )

    def answer(self) -> tuple[bool, str | None]:
        """Return whether the host answered, and the ICCID of a card that it knows or None."""
        answered = len(self.failed_at) < len(self.iccids)
        return answered, next(iter(self.cards), None)


@define
class SweepStats:
    """Counts of a sweep.

    Attributes:
        input: Items of the batches whose outcomes were reached so far.
        requests: Calls, not counting the retries in them.
        found: Outcomes with a card.
        missing: Outcomes of cards that the vendor doesn't know.
        failed: Outcomes with an error.
        unasked: Cards in replies that the sweep didn't ask for.
    """

    input: int = 0
    requests: int = 0
    found: int = 0
    missing: int = 0
    failed: int = 0
    unasked: int = 0


class QueryCards(Protocol):
    """Asks for up to 100 clean ICCIDs in one call; ``api.cards.query_cards`` does."""

    def __call__(
        self,
        iccids: dict[str, None],
        *,
        deadline: float | None,
        pace: Pace | None = None,
        probe: bool = False,
    ) -> Awaitable[BatchReply]:
        """Ask for the cards."""
        ...


@define(eq=False)
class BatchQuery:
    """Asks for the batches of one sweep.

    Attributes:
        query_cards: Makes one call.
        stats: Counts calls and cards that nobody asked for.
        pace: The sweep's pace.
        clock: The source of time.
        clean: Whether all items are known to be clean ICCIDs.
        deadline: Seconds for each batch, from the moment it has its slot.
    """

    query_cards: QueryCards
    stats: SweepStats
    pace: Pace
    clock: Clock
    clean: bool = field(kw_only=True)
    deadline: float | None = field(kw_only=True)
    _answered: bool = field(default=False, init=False)
    _card_found: bool = field(default=False, init=False)
    _fruitless: int = field(default=0, init=False)
    _split_turn: asyncio.Lock = field(factory=asyncio.Lock, init=False)

    async def ask(self, items: list[str], *, probe: bool = False) -> Outcomes[CardStatus]:
        """Clean the items and ask for them.

        Args:
            items: Up to 100 items of the fan-out's input.
            probe: Whether to make one attempt only.

        Returns:
            An outcome for each item, in their order.

        Raises:
            MioEsimError: If the whole batch failed.
        """
        invalid: dict[int, errors.MioEsimError] = {}
        if not self.clean and not are_clean(items):
            items, invalid = await in_slices(_cleaned(items))
        asked = dict.fromkeys(
            [one for place, one in enumerate(items) if place not in invalid] if invalid else items
        )
        if not asked:
            return Outcomes(items, {}, failed_at=invalid)
        began = self.clock.monotonic()
        self.stats.requests += 1
        try:
            reply = await self.query_cards(
                asked, deadline=self.deadline, pace=self.pace, probe=probe
            )
        except errors.ApiError as error:
            if len(asked) == 1 or self._fruitless >= MAX_FRUITLESS or not self._may_be_iccid(error):
                raise
            refusal = error
        else:
            return Outcomes(items, reply.cards, self._errors_in(reply, asked), invalid)
        # Until a card was found, the host may refuse everything: split one batch at a time.
        async with nullcontext() if self._card_found else self._split_turn:
            cards, failed = await self._split([*asked], refusal, began)
        return Outcomes(items, cards, failed, invalid)

    def _may_be_iccid(self, error: errors.ApiError) -> bool:
        return error.code in REFUSED_FOR_DATA or (error.code == -2 and self._answered)

    def _errors_in(
        self, reply: BatchReply, asked: dict[str, None]
    ) -> Mapping[str, errors.MioEsimError]:
        """Note a reply, and return its errors by ICCID."""
        self._answered = True
        self.stats.unasked += reply.unasked
        if reply.cards:
            self._card_found = True
            self._fruitless = 0
        if not reply.without_iccid:
            return reply.bad
        count = reply.without_iccid
        rows = "1 row" if count == 1 else f"{count:,} rows"
        unclear = errors.ProtocolError(
            f"the reply held {rows} without an ICCID, which may be about this card"
        )
        return {one: unclear for one in asked if one not in reply.cards} | reply.bad

    async def _split(
        self, iccids: list[str], refusal: errors.MioEsimError, began: float
    ) -> tuple[dict[str, CardStatus], dict[str, errors.MioEsimError]]:
        """Halve a refused batch, again and again, until each bad ICCID is alone in its call.

        Returns:
            Cards and errors, by ICCID.
        """
        left = self.deadline
        cards: dict[str, CardStatus] = {}
        failed: dict[str, errors.MioEsimError] = {}
        parts = deque(_halves(iccids))
        calls = 1
        while parts:
            part = parts.popleft()
            if self.deadline is not None:
                left = began + self.deadline - self.clock.monotonic()
            over = left is not None and left <= 0
            if over or calls == MAX_CALLS_PER_BATCH or self._fruitless >= MAX_FRUITLESS:
                failed |= dict.fromkeys(part, refusal)
                continue
            calls += 1
            self.stats.requests += 1
            asked = dict.fromkeys(part)
            try:
                reply = await self.query_cards(asked, deadline=left, pace=self.pace)
            except errors.MioEsimError as error:
                if is_fatal(error) or is_outage(error):
                    raise
                refusal = error.with_traceback(None)
            else:
                cards |= reply.cards
                failed |= self._errors_in(reply, asked)
                continue
            is_data = isinstance(refusal, errors.ApiError) and self._may_be_iccid(refusal)
            if is_data and len(part) > 1:
                parts.extend(_halves(part))
            else:
                failed |= dict.fromkeys(part, refusal)
        if not cards:
            self._fruitless += 1
        return cards, failed


def outcome_of_input(item: object) -> CardOutcome:
    """Clean one item of a stream; an item that is no ICCID gives a failed outcome."""
    try:
        return CardOutcome(clean_iccid(item))
    except errors.InvalidRequest as error:
        return CardOutcome(
            item if isinstance(item, str) else repr(item), None, error.with_traceback(None)
        )


def _cleaned(items: list[str]) -> Steps[tuple[list[str], dict[int, errors.MioEsimError]]]:
    """Clean items; return them, and errors by position for those that are no ICCIDs."""
    cleaned: list[str] = []
    invalid: dict[int, errors.MioEsimError] = {}
    for place, item in enumerate(items):
        outcome = outcome_of_input(item)
        cleaned.append(outcome.iccid)
        if outcome.error is not None:
            invalid[place] = outcome.error
        yield
    return cleaned, invalid


def _halves(iccids: list[str]) -> tuple[list[str], list[str]]:
    middle = (len(iccids) + 1) // 2
    return iccids[:middle], iccids[middle:]


@define(eq=False)
class CardStream(AsyncIterator[CardOutcome[C]], Generic[C]):
    """One ``CardOutcome`` for each input item; an async iterator and context manager.

    No task or connection is left after ``async with``, the last outcome, or ``client.aclose()``.
    You may use ``async for`` without ``async with``; if you leave it early, call ``aclose()``.

    Attributes:
        stats: The counts so far (``input``, ``requests``, ``found``, ``missing``,
            ``failed``, ``unasked``).
    """

    _batches: BatchStream[str, Outcomes[C]] = field(repr=False)
    stats: SweepStats
    _ready: Iterator[CardOutcome[C]] = field(default=iter(()), init=False, repr=False)

    async def __aenter__(self) -> Self:
        """Check an input with a length, and return the stream itself.

        Raises:
            InvalidRequest: With a fault for each item that is no ICCID.
        """
        await self._batches.check()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the stream."""
        await self.aclose()

    async def aclose(self) -> None:
        """Stop the sweep and wait for its end; may be called again."""
        self._ready = iter(())
        await self._batches.aclose()

    async def __anext__(self) -> CardOutcome[C]:
        """Return the next outcome.

        Raises:
            InvalidRequest: As for ``async with``, if the stream was not entered before.
            MioEsimError: If an error ends the whole sweep, such as a refused login; its
                ``tally`` has the counts so far.
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
            outcomes = batch.result or self._failed(batch)
            stats, (found, failed) = self.stats, outcomes.counts
            stats.input += len(outcomes.iccids)
            stats.failed += failed
            stats.found += found
            stats.missing += len(outcomes.iccids) - failed - found
            self._ready = iter(outcomes)

    @staticmethod
    def _failed(batch: BatchOutcome[str, Outcomes[C]]) -> Outcomes[C]:
        """Return the outcomes of a batch that failed as a whole."""
        error = as_mioesim_error(batch.error)
        checked = [outcome_of_input(item) for item in batch.items]
        failed_at = {place: one.error or error for place, one in enumerate(checked)}
        return Outcomes([one.iccid for one in checked], {}, failed_at=failed_at)


def as_mioesim_error(error: BaseException | None) -> errors.MioEsimError:
    """Return the batch's error, or raise it: an error of another class is a bug of this SDK."""
    if isinstance(error, errors.MioEsimError):
        return error
    raise error or RuntimeError("a batch ended with neither a result nor an error")

"""The outcomes of a sweep over cards, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Self

from attrs import evolve

from mioesim_async import errors
from mioesim_async.api.sweep import Outcomes, SweepStats, outcome_of_input
from mioesim_async.closing import Closing
from mioesim_async.fanout import BatchOutcome, BatchStream
from mioesim_async.models.cards import C, CardOutcome

__all__ = ["CardStream"]


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
            self._unpack(await self._next_batch())

    async def _next_batch(self) -> BatchOutcome[str, Outcomes[C]]:
        if self._batches.is_unchecked:
            await self._batches.check()
        try:
            return await self._batches.__anext__()
        except errors.MioEsimError as error:
            tally = error.tally = evolve(self.stats)
            error.add_note(
                f"The sweep ended early: {tally.found} found, {tally.missing} missing, "
                f"{tally.failed} failed, {tally.requests} calls."
            )
            raise

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

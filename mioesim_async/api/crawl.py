"""The outcomes of a crawl through the catalogue, one by one."""

from __future__ import annotations

from typing import Self

from attrs import evolve

from mioesim_async import errors
from mioesim_async.api.stream import as_mioesim_error
from mioesim_async.closing import Closing
from mioesim_async.fanout import BatchOutcome, BatchStream
from mioesim_async.models.catalogue import CrawlStats, Sku, SkuOutcome, SkuPackages

__all__ = ["CatalogueCrawl"]


class CatalogueCrawl(Closing):
    """One ``SkuOutcome`` for each SKU; an async iterator and context manager.

    ``async with``, exhaustion and ``client.aclose()`` leave no task and no connection behind.
    Plain ``async for`` works too; after leaving it early, one of these cleans up.

    Attributes:
        stats: The counts so far. ``stats.is_complete`` is False before the end, and stays so
            after leaving early, after an error, and where anything could not be read.
    """

    def __init__(self, batches: BatchStream[Sku, SkuPackages], stats: CrawlStats) -> None:
        """Take the outcomes of these batches apart."""
        self.stats = stats
        self._batches = batches

    def __aiter__(self) -> Self:
        """Return the crawl itself."""
        return self

    async def aclose(self) -> None:
        """Stop the crawl and wait for its end; may be called again."""
        await self._batches.aclose()

    async def __anext__(self) -> SkuOutcome:
        """Return the next outcome.

        Raises:
            MioEsimError: That no SKU can survive, such as a refused login or an unreadable
                list of SKUs; its ``tally`` has the counts so far.
        """
        stats = self.stats
        try:
            batch = await self._batches.__anext__()
        except StopAsyncIteration:
            whole = stats.packages > 0 and stats.listed == stats.skus
            stats.is_complete = whole and not stats.failed and not stats.bad_rows
            raise
        except errors.MioEsimError as error:
            tally = error.tally = evolve(stats)
            error.add_note(
                f"The crawl ended early: {tally.skus} of {tally.listed} SKUs, "
                f"{tally.packages} packages, {tally.failed} failed."
            )
            raise
        return self._counted(batch)

    def _counted(self, batch: BatchOutcome[Sku, SkuPackages]) -> SkuOutcome:
        (sku,), packages = batch.items, batch.result
        self.stats.skus += 1
        if packages is None:
            self.stats.failed += 1
            return SkuOutcome(sku, None, as_mioesim_error(batch.error))
        self.stats.packages += len(packages.packages)
        self.stats.bad_rows += len(packages.bad_rows)
        self.stats.without_plans += not (packages.packages or packages.bad_rows)
        return SkuOutcome(sku, packages)

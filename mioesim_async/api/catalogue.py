"""Queries of the catalogue: SKUs, their groups and packages, and a crawl of everything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Self

from attrs import evolve

from mioesim_async import errors
from mioesim_async.api.group import Group, check_id, refused_all
from mioesim_async.api.sweep import as_mioesim_error
from mioesim_async.closing import Closing
from mioesim_async.errors import ProtocolError
from mioesim_async.fanout import BatchOutcome, BatchStream
from mioesim_async.models.catalogue import CrawlStats, Sku, SkuGroup, SkuOutcome, SkuPackages
from mioesim_async.rows.catalogue import read_groups, read_packages, read_skus
from mioesim_async.slices import in_slices
from mioesim_async.transport.caller import Caller, check_deadline
from mioesim_async.transport.pace import Pace
from mioesim_async.wire.endpoints import GET_PACKAGES, GET_SKU_BY_GROUP, GET_SKUS, Endpoint
from mioesim_async.wire.signing import Value

__all__ = ["Catalogue", "CatalogueCrawl", "packages_of"]

MAX_OUTAGE = 120.0
"""Seconds that the host may be down before a crawl gives up."""


class Catalogue(Group):
    """Queries of the catalogue; ``client.catalogue``.

    Every coroutine takes ``deadline=``, in seconds, for the whole call with its retries, and
    raises the errors of ``mioesim_async.errors``. Prices are ``Decimal``, made from the text of
    the reply.
    """

    async def skus(self, *, deadline: float | None = None) -> list[Sku]:
        """Return all SKUs: countries and regions for which packages are sold.

        Source: ``getSkus``, vendor-documented. A row that can't be read is logged and left
        out.

        Raises:
            MioEsimError: If the call fails.
        """
        return await self._list(GET_SKUS, {}, Sku, deadline)

    async def sku_groups(self, *, deadline: float | None = None) -> list[SkuGroup]:
        """Return the SKUs by group, such as continents, in the vendor's order.

        Source: ``getSkuByGroup``, vendor-documented. A row that can't be read is logged and
        left out.

        Raises:
            MioEsimError: If the call fails.
        """
        envelope = await self._caller.call(GET_SKU_BY_GROUP, {}, deadline=deadline)
        try:
            return await in_slices(read_groups(envelope.data))
        except ProtocolError as error:
            raise error.at(GET_SKU_BY_GROUP.path)

    async def packages(self, sku_id: int, *, deadline: float | None = None) -> SkuPackages:
        """Return a SKU with its packages.

        Source: ``getPackages``, vendor-documented.

        Args:
            sku_id: The SKU.
            deadline: Seconds for the whole call.

        Returns:
            The SKU with its packages; the list may be empty. For rows that can't be read,
            errors are logged, and are in ``bad_rows``.

        Raises:
            InvalidRequest: If the id is not a whole number of 0 or more.
            MioEsimError: If the call fails.
        """
        return await self._packages(check_id("sku_id", sku_id), deadline)

    async def _packages(
        self,
        sku_id: int,
        deadline: float | None,
        *,
        pace: Pace | None = None,
        probe: bool = False,
    ) -> SkuPackages:
        return await packages_of(
            self._caller,
            GET_PACKAGES,
            {"skuId": sku_id},
            sku_id,
            deadline=deadline,
            pace=pace,
            probe=probe,
        )

    def crawl(self, *, concurrency: int = 8, deadline: float | None = None) -> CatalogueCrawl:
        """Stream the whole catalogue: the list of SKUs, then the packages of each.

        Nothing is sent before you ask for the first outcome. If the host is down for a while,
        the crawl waits for it, up to two minutes.

        Args:
            concurrency: How many calls may run at once; capped by ``max_in_flight`` and the
                pool.
            deadline: Seconds for each call, from the moment it has its slot. To limit a whole
                crawl, use ``asyncio.timeout``.

        Returns:
            A stream with one ``SkuOutcome`` for each SKU, as they complete. After its end,
            ``stats.is_complete`` says whether the whole catalogue was read.

        Raises:
            InvalidRequest: If an argument is invalid.
        """
        check_deadline(deadline)
        stats = CrawlStats()
        pace = self._caller.sweep_pace(concurrency)

        async def ask(batch: list[Sku], *, probe: bool = False) -> SkuPackages:
            return await self._packages(batch[0].sku_id or 0, deadline, pace=pace, probe=probe)

        return CatalogueCrawl(
            BatchStream(
                self._read_skus(stats, pace, deadline),
                ask,
                batch_size=1,
                concurrency=pace.cap,
                max_outage=MAX_OUTAGE,
                probe=partial(ask, probe=True),
                # A probe asks for a SKU that the host has answered before.
                answer_of=lambda sold: (True, Sku(sold.sku_id)),
                pace=pace,
                clock=self._caller.clock,
                registry=self._running,
                stop_error=lambda error: refused_all(error, "skuId"),
            ),
            stats,
        )

    async def _read_skus(
        self, stats: CrawlStats, pace: Pace, deadline: float | None
    ) -> AsyncIterator[Sku]:
        """Call for the list of SKUs at the first step, and yield each SKU."""
        envelope = await self._caller.call(GET_SKUS, {}, deadline=deadline, pace=pace)
        try:
            skus, bad = await in_slices(read_skus(envelope.data))
        except ProtocolError as error:
            raise error.at(GET_SKUS.path)
        stats.listed = len(skus)
        stats.bad_rows += len(bad)
        stats.bad_skus += [fault.at(GET_SKUS.path) for fault in bad]
        for sku in skus:
            yield sku


class CatalogueCrawl(Closing):
    """One ``SkuOutcome`` for each SKU; an async iterator and context manager.

    No task or connection is left after ``async with``, the last outcome, or ``client.aclose()``.
    You may use ``async for`` without ``async with``; if you leave it early, call ``aclose()``.

    Attributes:
        stats: The counts so far. ``stats.is_complete`` is False before the end. It stays False if
            you leave early, after an error, and if anything could not be read.
    """

    def __init__(self, batches: BatchStream[Sku, SkuPackages], stats: CrawlStats) -> None:
        """Stream the outcomes of the SKUs in these batches."""
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
            MioEsimError: If an error ends the whole crawl, such as a refused login or an
                unreadable list of SKUs; its ``tally`` has the counts so far.
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


async def packages_of(
    caller: Caller,
    endpoint: Endpoint,
    params: Mapping[str, Value],
    sku_id: int,
    *,
    deadline: float | None,
    pace: Pace | None = None,
    probe: bool = False,
) -> SkuPackages:
    """Ask for the packages of one SKU.

    Raises:
        MioEsimError: If the call fails, or its reply is not about this SKU's packages.
    """
    envelope = await caller.call(endpoint, params, deadline=deadline, pace=pace, probe=probe)
    try:
        found = await in_slices(read_packages(envelope.data, sku_id))
    except ProtocolError as error:
        raise error.at(endpoint.path)
    for fault in found.bad_rows:
        fault.at(endpoint.path)
    return found

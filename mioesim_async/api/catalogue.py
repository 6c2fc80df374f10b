"""The catalogue: SKUs, their groups and packages, and all of it at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

from mioesim_async.api.crawl import CatalogueCrawl
from mioesim_async.api.group import Group, check_id, refused_all
from mioesim_async.api.packages import packages_of
from mioesim_async.errors import ProtocolError
from mioesim_async.fanout import BatchStream
from mioesim_async.models.catalogue import CrawlStats, Sku, SkuGroup, SkuPackages
from mioesim_async.rows.catalogue import read_groups, read_skus
from mioesim_async.slices import in_slices
from mioesim_async.transport.caller import check_deadline
from mioesim_async.transport.pace import Pace
from mioesim_async.wire.endpoints import GET_PACKAGES, GET_SKU_BY_GROUP, GET_SKUS

__all__ = ["Catalogue"]

MAX_OUTAGE = 120.0
"""Seconds that the host may be down before a crawl gives up."""


class Catalogue(Group):
    """What is for sale; ``client.catalogue``.

    Every coroutine takes ``deadline=``, in seconds, over everything, and raises the errors
    of ``mioesim_async.errors``. Prices are ``Decimal``, made from the text of the reply.
    """

    async def skus(self, *, deadline: float | None = None) -> list[Sku]:
        """Return all SKUs: countries and regions for which packages are sold.

        Source: ``getSkus``, vendor-documented. A row that can't be read is logged and left
        out.

        Raises:
            MioEsimError: If the call fails.
        """
        return await self._rows(GET_SKUS, {}, Sku, deadline)

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
            deadline: Seconds for everything.

        Returns:
            The SKU with its packages; without plans, an empty list of them. Rows that can't
            be read are logged, and in ``bad_rows``.

        Raises:
            InvalidRequest: If the id can't be one.
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

        Nothing is sent before the first outcome is asked for. A host that is down for a
        while is waited for, up to two minutes.

        Args:
            concurrency: Most calls under way at once; capped by ``max_in_flight`` and the pool.
            deadline: Seconds for each call, from the moment it has its slot. Bound a whole
                crawl with ``asyncio.timeout``.

        Returns:
            A stream with one ``SkuOutcome`` for each SKU, as they complete. After its end,
            ``stats.is_complete`` tells whether the whole catalogue was seen.

        Raises:
            InvalidRequest: If an argument can't work.
        """
        check_deadline(deadline)
        stats = CrawlStats()
        pace = self._pace(concurrency)

        async def ask(batch: list[Sku], *, probe: bool = False) -> SkuPackages:
            return await self._packages(batch[0].sku_id or 0, deadline, pace=pace, probe=probe)

        return CatalogueCrawl(
            BatchStream(
                self._listed(stats, pace, deadline),
                ask,
                batch_size=1,
                concurrency=pace.most,
                max_outage=MAX_OUTAGE,
                probe=partial(ask, probe=True),
                # A probe asks for a SKU that the host is known to answer.
                heard=lambda sold: (True, Sku(sold.sku_id)),
                pace=pace,
                clock=self._caller.clock,
                registry=self._running,
                refused=lambda error: refused_all(error, "skuId"),
            ),
            stats,
        )

    async def _listed(
        self, stats: CrawlStats, pace: Pace, deadline: float | None
    ) -> AsyncIterator[Sku]:
        """Read the list of SKUs, once it is needed."""
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

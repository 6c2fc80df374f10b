"""Queries about partners and the packages for their physical SIMs."""

from __future__ import annotations

import builtins

from mioesim_async.api.catalogue import packages_of
from mioesim_async.api.group import Group, check_id
from mioesim_async.models.catalogue import Partner, Sku, SkuPackages
from mioesim_async.wire.endpoints import (
    GET_DP_SKU_SUPPORT_PACKAGE_INFO,
    GET_DP_SUPPORT_SKU_INFO,
    GET_PHYSICAL_SIM_DP_INFO,
)

__all__ = ["Partners"]


class Partners(Group):
    """Queries about partners and their physical SIMs; ``client.partners``.

    Every coroutine takes ``deadline=``, in seconds, for the whole call with its retries, and
    raises the errors of ``mioesim_async.errors``.
    """

    async def list(self, *, deadline: float | None = None) -> builtins.list[Partner]:
        """Return the partners.

        Source: ``getPhysicalSIMDpInfo``, vendor-documented; its fields are observed.

        Raises:
            MioEsimError: If the call fails.
        """
        return await self._list(GET_PHYSICAL_SIM_DP_INFO, {}, Partner, deadline)

    async def skus(self, dp_id: int, *, deadline: float | None = None) -> builtins.list[Sku]:
        """Return the SKUs that a partner's SIMs can be loaded with.

        Source: ``getDpSupportSkuInfo``, vendor-documented.

        Args:
            dp_id: The partner's id.
            deadline: Seconds for the whole call.

        Raises:
            InvalidRequest: If the id is not a whole number of 0 or more.
            MioEsimError: If the call fails.
        """
        params = {"dpId": check_id("dp_id", dp_id)}
        return await self._list(GET_DP_SUPPORT_SKU_INFO, params, Sku, deadline)

    async def packages(
        self, dp_id: int, sku_id: int, *, deadline: float | None = None
    ) -> SkuPackages:
        """Return the packages of a SKU that a partner's SIMs can be loaded with.

        Source: ``getDpSkuSupportPackageInfo``, vendor-documented; its parameters are observed.

        Args:
            dp_id: The partner's id.
            sku_id: The SKU.
            deadline: Seconds for the whole call.

        Returns:
            The SKU with its packages; the list may be empty. For rows that can't be read,
            errors are logged, and are in ``bad_rows``.

        Raises:
            InvalidRequest: If an id is not a whole number of 0 or more.
            MioEsimError: If the call fails.
        """
        params = {"dpId": check_id("dp_id", dp_id), "skuid": check_id("sku_id", sku_id)}
        return await packages_of(
            self._caller, GET_DP_SKU_SUPPORT_PACKAGE_INFO, params, sku_id, deadline=deadline
        )

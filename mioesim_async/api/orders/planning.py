"""The packages of lines that came without one, each SKU asked for once."""

from __future__ import annotations

from mioesim_async.api.catalogue import Catalogue
from mioesim_async.api.orders.line_checks import Line
from mioesim_async.api.partners import Partners
from mioesim_async.models.catalogue import Package
from mioesim_async.models.order_lines import OrderLine

__all__ = ["PackageFinder"]


class PackageFinder:
    """Finds packages in the catalogue, or in a partner's."""

    def __init__(self, catalogue: Catalogue, partners: Partners) -> None:
        """Start with nothing known."""
        self._catalogue = catalogue
        self._partners = partners
        self._known: dict[tuple[int | None, int], list[Package]] = {}

    async def find(self, line: Line) -> Package | None:
        """Return the package that a line is for, or None where the catalogue has none.

        It is the one with the line's price id, else with its API code. A code is unique only
        within a SKU (observed), so without the SKU it finds nothing.

        Raises:
            MioEsimError: If the catalogue can't be read.
        """
        if line.sku_id is None:
            return None
        dp_id = line.dp_id if isinstance(line, OrderLine) else None
        key = dp_id, line.sku_id
        if key not in self._known:
            sold = (
                await self._catalogue.packages(line.sku_id)
                if dp_id is None
                else await self._partners.packages(dp_id, line.sku_id)
            )
            self._known[key] = sold.packages
        name = "api_code" if line.price_id is None else "price_id"
        wanted = getattr(line, name)
        return next((one for one in self._known[key] if getattr(one, name) == wanted), None)

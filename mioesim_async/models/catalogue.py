"""What can be bought: SKUs (countries and regions) and their packages."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from attrs import define, field

from mioesim_async.errors import InvalidRequest

__all__ = ["Package", "Sku", "SkuPackages"]


@define
class Sku:
    """A country or region for which packages are sold.

    Attributes:
        sku_id: The vendor's id.
        display: Name to show, or None.
        country_code: As the vendor writes it, text or number (vendor-documented), or None.
        extra: Everything else, as it came.
    """

    sku_id: int | None = None
    display: str | None = None
    country_code: str | None = None
    extra: dict[str, Any] = field(factory=dict, repr=False)


@define
class Package:
    """One plan of a SKU.

    Attributes:
        sku_id: The SKU it belongs to.
        price_id: The vendor's id of the plan.
        api_code: The vendor's code of the plan, unique only within its SKU; may be None.
        data_mb: Data, in MB (1 GB = 1024 MB); per day for a day pass (observed).
        days: Length of the plan in days.
        price: Price, per day for a day pass; the currency is not documented.
        open_card_fee: Added once on top (observed), or None.
        is_day_pass: The price is per day and the days are chosen by the buyer.
        is_renewable: It may be renewed (``flowType`` 0, vendor-documented).
        needs_begin_date: An order must name its first day.
        min_days: Fewest days of a day pass, or None.
        max_days: Most days of a day pass, or None.
        extra: Everything else, as it came.
    """

    sku_id: int | None = None
    price_id: int | None = None
    api_code: str | None = None
    data_mb: float | None = None
    days: int | None = None
    price: Decimal | None = None
    open_card_fee: Decimal | None = None
    is_day_pass: bool = False
    is_renewable: bool = False
    needs_begin_date: bool = False
    min_days: int | None = None
    max_days: int | None = None
    extra: dict[str, Any] = field(factory=dict, repr=False)

    def total_price(self, *, days: int | None = None) -> Decimal:
        """Return what one card with this plan costs: price, times days for a day pass, plus fee.

        Discounts for many days are not counted, since the vendor does not say how they work.

        Args:
            days: Days of a day pass; None for other plans.

        Raises:
            InvalidRequest: If days are missing, not allowed or out of range, or the vendor
                named no price.
        """
        if self.price is None:
            raise InvalidRequest("the vendor named no price for this package")
        if self.is_day_pass != (days is not None):
            need = "needs days=" if self.is_day_pass else "is no day pass and takes no days="
            raise InvalidRequest(f"this package {need}")
        low, high = self.min_days or 1, self.max_days or days
        if days is not None and not (low <= days <= (high or days)):
            raise InvalidRequest(f"days={days} is out of range: {low} to {high}")
        return self.price * (1 if days is None else days) + (self.open_card_fee or 0)


@define
class SkuPackages:
    """A SKU with the packages that can be had for it.

    Attributes:
        sku_id: The SKU.
        display: Name to show, or None.
        coverage: Countries it works in, as the vendor names them.
        packages: The plans; empty where there are none.
        extra: Everything else, as it came.
    """

    sku_id: int | None = None
    display: str | None = None
    coverage: list[str] = field(factory=list)
    packages: list[Package] = field(factory=list)
    extra: dict[str, Any] = field(factory=dict, repr=False)

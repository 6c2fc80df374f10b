"""Models of the catalogue: SKUs (countries and regions) and their packages."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from attrs import define, field

from mioesim_async.errors import InvalidRequest, MioEsimError, ProtocolError
from mioesim_async.models.coverage import alpha2, is_region

__all__ = ["CrawlStats", "Package", "Partner", "Sku", "SkuGroup", "SkuOutcome", "SkuPackages"]


@define
class Sku:
    """A country or region for which packages are sold.

    Attributes:
        sku_id: The vendor's id.
        display: Name to show, or None.
        country_code: The vendor's code, text or a number (vendor-documented), or None.
        extra: All other fields, as they came.
    """

    sku_id: int | None = None
    display: str | None = None
    country_code: str | None = None
    extra: dict[str, Any] = field(factory=dict, repr=False)

    @property
    def country(self) -> str | None:
        """The country as ISO 3166-1 alpha-2; None for a region and an unknown number.

        Raises:
            ConfigurationError: If the extra ``coverage`` is not installed; never for a region.
        """
        return None if self.country_code is None else alpha2(self.country_code)

    @property
    def is_region(self) -> bool:
        """Whether the SKU is one of the vendor's regions, 99xxx (observed), and not a country."""
        return is_region(self.country_code)


@define
class SkuGroup:
    """SKUs that the vendor shows together, such as those of a continent.

    Attributes:
        name: Name of the group, such as ``Asia`` or ``Common`` (vendor-documented).
        skus: Its SKUs; one SKU may be in several groups.
    """

    name: str
    skus: list[Sku] = field(factory=list)


@define
class Partner:
    """A partner whose physical SIMs can be loaded with plans.

    Attributes:
        dp_id: The vendor's id (observed).
        name: The partner's name (observed), or None.
        extra: All other fields, as they came.
    """

    dp_id: int | None = None
    name: str | None = None
    extra: dict[str, Any] = field(factory=dict, repr=False)


@define
class Package:
    """One plan of a SKU.

    Attributes:
        sku_id: The SKU that the package belongs to.
        price_id: The vendor's id of the plan.
        api_code: The vendor's code of the plan, unique only within its SKU; may be None.
        data_mb: Data, in MB (1 GB = 1024 MB); per day for a day pass (observed).
        days: Length of the plan in days.
        price: Price, per day for a day pass; the currency is not documented.
        open_card_fee: Fee that is added once to the price (observed), or None.
        is_day_pass: Whether the price is per day and the buyer chooses the number of days.
        is_renewable: Whether it may be renewed (``flowType`` 0, vendor-documented).
        needs_begin_date: Whether an order must give ``begin_date``.
        min_days: Fewest days of a day pass, or None.
        max_days: Most days of a day pass, or None.
        extra: All other fields, as they came.
        coverage: Countries where it works, as ISO 3166-1 alpha-2 codes; its SKU's countries if
            the package names none. Without the extra ``coverage``, the vendor's names.
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
    coverage: list[str] = field(factory=list, kw_only=True)

    def total_price(self, *, days: int | None = None) -> Decimal:
        """Return the price of one card with this package, including the fee.

        The price of a day pass is multiplied by the days. Discounts for many days are not
        included, since the vendor does not say how they work.

        Args:
            days: Days of a day pass; None for other plans.

        Raises:
            InvalidRequest: If days are missing, not allowed or out of range, or if the vendor
                gave no price.
        """
        if self.price is None:
            raise InvalidRequest("the vendor gave no price for this package")
        if self.is_day_pass != (days is not None):
            need = "needs days=" if self.is_day_pass else "is no day pass and takes no days="
            raise InvalidRequest(f"this package {need}")
        if days is not None and type(days) is not int:
            raise InvalidRequest(f"days must be a whole number, not {days!r}")
        low, high = self.min_days or 1, self.max_days or days
        if days is not None and not (low <= days <= (high or days)):
            raise InvalidRequest(f"days={days} is out of range: {low} to {high}")
        return self.price * (1 if days is None else days) + (self.open_card_fee or 0)


@define
class SkuPackages:
    """A SKU with its packages.

    Attributes:
        sku_id: The SKU.
        display: Name to show, or None.
        coverage: Countries where it works, as ISO 3166-1 alpha-2 codes, each once. The
            vendor's names (vendor-documented) are in ``extra["supportCountry"]``; unknown names
            are also in ``extra["unknown_coverage"]``, and logged once. Without the extra
            ``coverage``, this list has the vendor's names, each once.
        packages: The packages; may be empty.
        extra: All other fields, as they came.
        bad_rows: Errors of packages whose rows can't be read. Not compared by ``==``.
    """

    sku_id: int | None = None
    display: str | None = None
    coverage: list[str] = field(factory=list)
    packages: list[Package] = field(factory=list)
    extra: dict[str, Any] = field(factory=dict, repr=False)
    bad_rows: list[ProtocolError] = field(factory=list, kw_only=True, eq=False)


@define
class SkuOutcome:
    """The outcome for one SKU of a crawl.

    Attributes:
        sku: The SKU.
        packages: Its packages, or None if the call failed. For a SKU without packages,
            ``packages.packages`` is empty.
        error: The error, or None.
    """

    sku: Sku
    packages: SkuPackages | None = None
    error: MioEsimError | None = None

    @property
    def bad_rows(self) -> list[ProtocolError]:
        """Errors of packages whose rows can't be read."""
        return [] if self.packages is None else self.packages.bad_rows


@define
class CrawlStats:
    """Counts of a crawl.

    Attributes:
        listed: SKUs in the list, each counted once.
        skus: SKUs whose outcome was returned so far.
        packages: Packages of these SKUs.
        without_plans: SKUs that were answered and have no package.
        failed: SKUs with an error.
        bad_rows: Rows that can't be read, in the list of SKUs and in lists of packages.
        bad_skus: Errors of rows in the list of SKUs.
        is_complete: Whether the crawl reached its end, every SKU was answered, and every row
            was read. Stop selling missing packages only if it is True. It is False for a
            catalogue without any package, which is more likely a reply in a new format.
    """

    listed: int = 0
    skus: int = 0
    packages: int = 0
    without_plans: int = 0
    failed: int = 0
    bad_rows: int = 0
    bad_skus: list[ProtocolError] = field(factory=list, eq=False)
    is_complete: bool = False

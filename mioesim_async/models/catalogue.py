"""What can be bought: SKUs (countries and regions) and their packages."""

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
        country_code: As the vendor writes it, text or number (vendor-documented), or None.
        extra: Everything else, as it came.
    """

    sku_id: int | None = None
    display: str | None = None
    country_code: str | None = None
    extra: dict[str, Any] = field(factory=dict, repr=False)

    @property
    def country(self) -> str | None:
        """The country as ISO 3166-1 alpha-2; None for a region and an unknown number.

        Raises:
            ConfigurationError: If the extra ``coverage`` is not installed; not for a region.
        """
        return None if self.country_code is None else alpha2(self.country_code)

    @property
    def is_region(self) -> bool:
        """Whether it is one of the vendor's regions, 99xxx (observed), and not a country."""
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
        name: Its name (observed), or None.
        extra: Everything else, as it came.
    """

    dp_id: int | None = None
    name: str | None = None
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
        coverage: Countries it works in, as ISO 3166-1 alpha-2 codes; those of its SKU where
            it names none itself. The vendor's names without the extra ``coverage``.
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
        if days is not None and type(days) is not int:
            raise InvalidRequest(f"days must be a whole number, not {days!r}")
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
        coverage: Countries it works in, as ISO 3166-1 alpha-2 codes, each once. The
            vendor's names (vendor-documented) are in ``extra["supportCountry"]``; those that
            aren't known are in ``extra["unknown_coverage"]`` too, and logged once. Without the
            extra ``coverage``, the names themselves, each once.
        packages: The plans; empty where there are none.
        extra: Everything else, as it came.
        bad_rows: What is wrong with rows of plans that can't be read; they are in no list.
            Not compared.
    """

    sku_id: int | None = None
    display: str | None = None
    coverage: list[str] = field(factory=list)
    packages: list[Package] = field(factory=list)
    extra: dict[str, Any] = field(factory=dict, repr=False)
    bad_rows: list[ProtocolError] = field(factory=list, kw_only=True, eq=False)


@define
class SkuOutcome:
    """What became of one SKU of a crawl.

    Attributes:
        sku: The SKU.
        packages: Its packages, or None where they could not be had. A SKU without plans has
            an empty ``packages.packages``.
        error: What went wrong, or None.
    """

    sku: Sku
    packages: SkuPackages | None = None
    error: MioEsimError | None = None

    @property
    def bad_rows(self) -> list[ProtocolError]:
        """What is wrong with rows of plans that can't be read."""
        return [] if self.packages is None else self.packages.bad_rows


@define
class CrawlStats:
    """Counts of a crawl.

    Attributes:
        listed: SKUs in the list, each counted once.
        skus: SKUs whose outcome was handed out so far.
        packages: Packages in these.
        without_plans: SKUs that were answered and have no plan.
        failed: SKUs with an error.
        bad_rows: Rows that can't be read, of the list of SKUs and of plans.
        bad_skus: What is wrong with rows of the list of SKUs.
        is_complete: The crawl came to its end, every SKU was answered, and every row was
            read. Take plans off sale only if it is True. A catalogue without a single
            package is never complete: a changed reply is likelier than an empty shop.
    """

    listed: int = 0
    skus: int = 0
    packages: int = 0
    without_plans: int = 0
    failed: int = 0
    bad_rows: int = 0
    bad_skus: list[ProtocolError] = field(factory=list, eq=False)
    is_complete: bool = False

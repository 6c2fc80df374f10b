"""The models as pydantic models, for FastAPI's response types (extra ``pydantic``).

Each class has the name and the fields of the model that it is made from, and writes the JSON that
``to_dict`` writes: without activation codes and what leads to one. ``activation`` and ``pdf_url``
are None there, and neither in the JSON nor in the OpenAPI schema. The classes ``...WithActivation``
have both, and the whole ``extra``; whoever gets that JSON can use the eSIM.

``CardDetail.model_validate(card)`` takes the SDK's model. So does FastAPI, if a route that returns
it has ``response_model=CardDetail``.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any, ClassVar

try:
    from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
except ModuleNotFoundError as missing:
    if missing.name != "pydantic":
        raise
    raise ModuleNotFoundError(
        "pydantic is missing; install it with: pip install 'mioesim_async[pydantic]'",
        name="pydantic",
    ) from None

from mioesim_async.models.cards import DpStatus
from mioesim_async.models.order_lines import new_reference
from mioesim_async.models.orders import OrderStatus
from mioesim_async.models.plain import to_dict, written_extra

__all__ = [
    "CardDetail",
    "CardDetailOutcome",
    "CardDetailWithActivation",
    "CardOutcome",
    "CardReport",
    "CardStatus",
    "CrawlStats",
    "Error",
    "Health",
    "Order",
    "OrderCard",
    "OrderCardWithActivation",
    "OrderLine",
    "OrderUsage",
    "OrderWithActivation",
    "Package",
    "Partner",
    "PastPlan",
    "PlanUsage",
    "RenewalLine",
    "Sku",
    "SkuGroup",
    "SkuOutcome",
    "SkuPackages",
    "UsagePage",
]


class _Model(BaseModel):
    model_config = ConfigDict(
        from_attributes=True,
        # A reply that doesn't fit is logged by its server, and may hold activation codes.
        hide_input_in_errors=True,
        json_schema_serialization_defaults_required=True,
    )

    _with_activation: ClassVar[bool] = False

    @field_validator("*", mode="before")
    @classmethod
    def _write(cls, value: Any, info: ValidationInfo) -> Any:
        """Write the SDK's value as ``to_dict`` does, so that there is one way to hide a code."""
        name = info.field_name or ""
        if cls.model_fields[name].exclude:
            return None
        if name == "extra" and not cls._with_activation:
            return written_extra(value)
        return to_dict(value, activation=cls._with_activation)


class Error(_Model):
    """An error, by the name of its class and its text."""

    type: str
    message: str


class CardStatus(_Model):
    """Status and usage of one card. Data is in MB (1 GB = 1024 MB); times are in GMT+8."""

    iccid: str = ""
    dp_status: str | None = Field(default=None, examples=[status.value for status in DpStatus])
    used_mb: float | None = None
    remaining_mb: float | None = None
    total_mb: float | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    order_num: str | None = None
    sku_id: int | None = None
    extra: dict[str, Any] = Field(default_factory=dict, repr=False)


class CardDetail(CardStatus):
    """All details of one card, without its activation code."""

    activation: str | None = Field(default=None, exclude=True, repr=False)


class CardDetailWithActivation(CardStatus):
    """All details of one card, with its activation code: for the customer who owns it."""

    _with_activation: ClassVar[bool] = True

    activation: str | None = Field(default=None, repr=False)


class Health(_Model):
    """How a client is doing. All times are in UTC."""

    token_expires_at: datetime | None
    store_is_up: bool | None
    store_since: datetime | None
    is_contended: bool
    last_success_at: datetime | None
    last_failure_at: datetime | None
    in_flight: int
    queued: int
    journal_is_up: bool | None = None
    journal_since: datetime | None = None


class CardOutcome(_Model):
    """The outcome for one ICCID. If the vendor doesn't know the card, it has no card or error."""

    iccid: str
    card: CardStatus | None = None
    error: Error | None = None


class CardDetailOutcome(_Model):
    """The outcome for one ICCID of ``client.cards.details``."""

    iccid: str
    card: CardDetail | None = None
    error: Error | None = None


class CardReport(_Model):
    """The outcomes of a whole sweep, by ICCID."""

    cards: dict[str, CardStatus] = Field(default_factory=dict)
    missing: list[str] = Field(default_factory=list)
    failed: dict[str, Error] = Field(default_factory=dict)


class PastPlan(_Model):
    """One plan in a card's history. Times are in GMT+8."""

    order_num: str | None = None
    display: str | None = None
    status: int | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    extra: dict[str, Any] = Field(default_factory=dict, repr=False)


class Sku(_Model):
    """A country or region for which packages are sold."""

    sku_id: int | None = None
    display: str | None = None
    country_code: str | None = None
    extra: dict[str, Any] = Field(default_factory=dict, repr=False)


class SkuGroup(_Model):
    """SKUs that the vendor shows together, such as those of a continent."""

    name: str
    skus: list[Sku] = Field(default_factory=list)


class Partner(_Model):
    """A partner whose physical SIMs can be loaded with plans."""

    dp_id: int | None = None
    name: str | None = None
    extra: dict[str, Any] = Field(default_factory=dict, repr=False)


class Package(_Model):
    """One plan of a SKU. Data is in MB (1 GB = 1024 MB), per day for a day pass."""

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
    extra: dict[str, Any] = Field(default_factory=dict, repr=False)
    coverage: list[str] = Field(default_factory=list)


class SkuPackages(_Model):
    """A SKU with its packages."""

    sku_id: int | None = None
    display: str | None = None
    coverage: list[str] = Field(default_factory=list)
    packages: list[Package] = Field(default_factory=list)
    extra: dict[str, Any] = Field(default_factory=dict, repr=False)
    bad_rows: list[Error] = Field(default_factory=list)


class SkuOutcome(_Model):
    """The outcome for one SKU of a crawl."""

    sku: Sku
    packages: SkuPackages | None = None
    error: Error | None = None


class CrawlStats(_Model):
    """Counts of a crawl."""

    listed: int = 0
    skus: int = 0
    packages: int = 0
    without_plans: int = 0
    failed: int = 0
    bad_rows: int = 0
    bad_skus: list[Error] = Field(default_factory=list)
    is_complete: bool = False


class OrderCard(_Model):
    """One card of an order, without its activation code and the PDF that shows it."""

    iccid: str = ""
    activation: str | None = Field(default=None, exclude=True, repr=False)
    pdf_url: str | None = Field(default=None, exclude=True, repr=False)
    used_mb: float | None = None
    extra: dict[str, Any] = Field(default_factory=dict, repr=False)


class OrderCardWithActivation(_Model):
    """One card of an order, with its activation code: for the customer who owns it."""

    _with_activation: ClassVar[bool] = True

    iccid: str = ""
    activation: str | None = Field(default=None, repr=False)
    pdf_url: str | None = Field(default=None, repr=False)
    used_mb: float | None = None
    extra: dict[str, Any] = Field(default_factory=dict, repr=False)


class _Order(_Model):
    order_num: str = ""
    status: int | None = Field(default=None, examples=[status.value for status in OrderStatus])
    count: int | None = None
    price: Decimal | None = None
    purchased_at: datetime | None = None
    is_renewal: bool = False
    main_order_num: str | None = None
    other_order_id: str | None = None
    sku_id: int | None = None
    price_id: int | None = None
    extra: dict[str, Any] = Field(default_factory=dict, repr=False)
    is_recorded: bool = False


class Order(_Order):
    """One order or renewal, without activation codes. Times are in GMT+8."""

    cards: list[OrderCard] = Field(default_factory=list)


class OrderWithActivation(_Order):
    """One order or renewal, with activation codes: for the customer who bought it."""

    _with_activation: ClassVar[bool] = True

    cards: list[OrderCardWithActivation] = Field(default_factory=list)


class PlanUsage(_Model):
    """One plan of an order on one card, with its usage. Data is in MB; times are in GMT+8."""

    iccid: str = ""
    name: str | None = None
    price_id: int | None = None
    status: int | None = None
    data_mb: float | None = None
    used_mb: float | None = None
    days: int | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    extra: dict[str, Any] = Field(default_factory=dict, repr=False)


class OrderUsage(_Model):
    """One order with the usage of its plans. Times are in GMT+8."""

    order_num: str = ""
    sku_id: int | None = None
    display: str | None = None
    status: int | None = Field(default=None, examples=[status.value for status in OrderStatus])
    count: int | None = None
    daypass_days: int | None = None
    price: Decimal | None = None
    purchased_at: datetime | None = None
    plans: list[PlanUsage] = Field(default_factory=list)
    extra: dict[str, Any] = Field(default_factory=dict, repr=False)


class UsagePage(_Model):
    """One page of orders with their usage."""

    rows: list[OrderUsage] = Field(default_factory=list)
    total: int | None = None
    page: int | None = None


class OrderLine(_Model):
    """One order, with the fields that ``orders.place`` takes."""

    sku_id: int | None = None
    price_id: int | None = None
    api_code: str | None = None
    count: int = 1
    package: Package | None = Field(default=None, repr=False)
    other_order_id: str = Field(default_factory=new_reference)
    other_item_id: str | None = None
    dp_id: int | None = None
    iccids: list[str] | None = None
    begin_date: date | None = None
    daypass_days: int | None = None
    customer_email: str | None = Field(default=None, repr=False)
    send_email: bool = False
    pdf_language: str | None = None
    remark: str | None = Field(default=None, repr=False)


class RenewalLine(_Model):
    """One renewal, with the fields that ``orders.renew`` takes."""

    sku_id: int | None = None
    price_id: int | None = None
    api_code: str | None = None
    order_num: str | None = None
    iccid: str | None = None
    package: Package | None = Field(default=None, repr=False)
    other_order_id: str = Field(default_factory=new_reference)
    other_item_id: str | None = None
    daypass_days: int | None = None
    pdf_language: str | None = None
    remark: str | None = Field(default=None, repr=False)

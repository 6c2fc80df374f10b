"""Models of orders and renewals, their cards and their usage."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, Self

from attrs import define, field

from mioesim_async.models.activation import ActivationCode
from mioesim_async.models.hiding import HIDDEN

__all__ = ["Order", "OrderCard", "OrderStatus", "OrderUsage", "PlanUsage", "UsagePage"]

MAX_UNKNOWN_STATUSES = 256


class OrderStatus(enum.IntEnum):
    """State of an order (vendor-documented).

    An unknown state is not an error: ``OrderStatus(9)`` makes a member with that value, whose
    ``is_known`` is False.
    """

    UNPAID = -1
    PAID = 0
    CANCELLED = 2
    VOID = 3
    PARTLY_CANCELLED = 4
    ENDED = 5
    CANCELLING = 6
    PARTLY_CANCELLING = 7

    @classmethod
    def _missing_(cls, value: object) -> OrderStatus | None:
        if type(value) is not int:
            return None
        unknown = int.__new__(cls, value)
        unknown._name_ = f"STATUS_{value}"
        unknown._value_ = value
        if len(cls._value2member_map_) < MAX_UNKNOWN_STATUSES:
            cls._value2member_map_[value] = unknown
        return unknown

    def __reduce_ex__(self, _protocol: object) -> tuple[type[Self], tuple[int]]:
        """Pickle by value: early 3.11 releases pickle by name, which fails for unknown states."""
        return type(self), (self._value_,)

    @property
    def is_known(self) -> bool:
        """Whether the vendor documents this state."""
        return self._name_ in OrderStatus.__members__


@define
class OrderCard:
    """One card of an order.

    Attributes:
        iccid: The ICCID, digits only.
        activation: The activation code of an eSIM, or None; a secret.
        pdf_url: Address of the vendor's PDF for the customer, or None. The PDF shows the
            activation code, so the address is left out of ``repr``.
        used_mb: Data used, in MB, or None.
        extra: All other fields, as they came.
    """

    iccid: str = ""
    activation: ActivationCode | None = field(default=None, metadata=HIDDEN)
    pdf_url: str | None = field(default=None, repr=False, metadata=HIDDEN)
    used_mb: float | None = None
    extra: dict[str, Any] = field(factory=dict, repr=False)


@define
class Order:
    """One order or renewal.

    Attributes:
        order_num: The vendor's order number (vendor-documented).
        status: Its state (vendor-documented), or None.
        count: How many cards (vendor-documented), or None.
        price: Its price (vendor-documented), or None. The vendor doesn't say whether it is for
            one card or for all, nor the currency.
        purchased_at: Time of the purchase, GMT+8 (vendor-documented), or None.
        is_renewal: Whether it renewed a card (vendor-documented).
        main_order_num: For a renewal, the order that it renewed, or None.
        other_order_id: The reference that the caller gave, or None. If the field has a number,
            it is the vendor's own (observed), and stays in ``extra``.
        sku_id: The SKU (observed), or None.
        price_id: The package (vendor-documented), or None.
        cards: All its cards; empty if the reply has none.
        extra: All other fields, as they came.
        is_recorded: Whether it comes from the order journal, which keeps no activation codes;
            ``client.orders.get`` reads it with them.
    """

    order_num: str = ""
    status: OrderStatus | None = None
    count: int | None = None
    price: Decimal | None = None
    purchased_at: datetime | None = None
    is_renewal: bool = False
    main_order_num: str | None = None
    other_order_id: str | None = None
    sku_id: int | None = None
    price_id: int | None = None
    cards: list[OrderCard] = field(factory=list)
    extra: dict[str, Any] = field(factory=dict, repr=False)
    is_recorded: bool = field(default=False, eq=False)


@define
class PlanUsage:
    """One plan of an order on one card, with its usage (observed).

    Attributes:
        iccid: The ICCID, digits only.
        name: Name to show, or None.
        price_id: The package, or None.
        status: The vendor's status code, or None.
        data_mb: Size of the plan, in MB (1 GB = 1024 MB), or None.
        used_mb: Data used, in MB, or None.
        days: Length of the plan in days, or None.
        starts_at: Start, GMT+8; a date alone is the start of that day.
        ends_at: End, GMT+8; a date alone is the end of that day.
        extra: All other fields, as they came.
    """

    iccid: str = ""
    name: str | None = None
    price_id: int | None = None
    status: int | None = None
    data_mb: float | None = None
    used_mb: float | None = None
    days: int | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    extra: dict[str, Any] = field(factory=dict, repr=False)


@define
class OrderUsage:
    """One order with the usage of its plans (observed).

    Attributes:
        order_num: The vendor's order number.
        sku_id: The SKU, or None.
        display: Name of the SKU, or None.
        status: State of the order, or None.
        count: How many cards, or None.
        daypass_days: Days of a day pass, or None.
        price: The vendor's total (``totle``), or None.
        purchased_at: Time of the purchase, GMT+8, or None.
        plans: Its plans.
        extra: All other fields, as they came.
    """

    order_num: str = ""
    sku_id: int | None = None
    display: str | None = None
    status: OrderStatus | None = None
    count: int | None = None
    daypass_days: int | None = None
    price: Decimal | None = None
    purchased_at: datetime | None = None
    plans: list[PlanUsage] = field(factory=list)
    extra: dict[str, Any] = field(factory=dict, repr=False)


@define
class UsagePage:
    """One page of orders with their usage; iterate over it to get its rows.

    Attributes:
        rows: The orders.
        total: Count of orders on all pages, or None.
        page: Number of this page, from 1, or None.
    """

    rows: list[OrderUsage] = field(factory=list)
    total: int | None = None
    page: int | None = None

    def __iter__(self) -> Iterator[OrderUsage]:
        """Iterate over the rows."""
        return iter(self.rows)

    def __len__(self) -> int:
        """Return the number of rows on this page."""
        return len(self.rows)

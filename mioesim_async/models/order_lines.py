"""Models of what a caller wants to buy: one order or one renewal."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import date

from attrs import define, field

from mioesim_async.models.catalogue import Package

__all__ = ["OrderLine", "RenewalLine", "new_reference"]


def new_reference() -> str:
    """Return a new, unique reference for one order: 32 hexadecimal digits."""
    return uuid.uuid4().hex


@define(kw_only=True)
class OrderLine:
    """One order, with the fields that ``orders.place`` takes.

    Attributes:
        sku_id: The SKU. Give it with ``price_id``, or give ``api_code``.
        price_id: The package of that SKU.
        api_code: The package's code; unique only within a SKU (observed).
        count: How many cards.
        package: The package from the catalogue. If given, the order is checked against it.
        other_order_id: Your reference. By default, the line makes a new one. Give your own
            if you may repeat the order after your process has ended.
        other_item_id: Your reference of the item.
        dp_id: The partner whose physical SIMs are used.
        iccids: The ICCIDs of the physical SIMs, as many as ``count``.
        begin_date: First day of the plan, in GMT+8.
        daypass_days: Days of a day pass.
        customer_email: The customer's address, for mail from the vendor.
        send_email: Whether the vendor sends that mail.
        pdf_language: Language of the PDF, in the vendor's spelling.
        remark: A note for yourself.
    """

    sku_id: int | None = None
    price_id: int | None = None
    api_code: str | None = None
    count: int = 1
    package: Package | None = field(default=None, repr=False)
    other_order_id: str = field(factory=new_reference)
    other_item_id: str | None = None
    dp_id: int | None = None
    iccids: Sequence[str] | None = None
    begin_date: date | None = None
    daypass_days: int | None = None
    customer_email: str | None = field(default=None, repr=False)
    send_email: bool = False
    pdf_language: str | None = None
    remark: str | None = field(default=None, repr=False)


@define(kw_only=True)
class RenewalLine:
    """One renewal, with the fields that ``orders.renew`` takes.

    Attributes:
        sku_id: The SKU. Give it with ``price_id``, or give ``api_code``.
        price_id: The package of that SKU.
        api_code: The package's code; unique only within a SKU (observed).
        order_num: The order to renew; give this or ``iccid``.
        iccid: The card to renew.
        package: The package from the catalogue. If given, the renewal is checked against it.
        other_order_id: Your reference. By default, the line makes a new one. Give your own
            if you may repeat the renewal after your process has ended.
        other_item_id: Your reference of the item.
        daypass_days: Days of a day pass.
        pdf_language: Language of the PDF, in the vendor's spelling.
        remark: A note for yourself.
    """

    sku_id: int | None = None
    price_id: int | None = None
    api_code: str | None = None
    order_num: str | None = None
    iccid: str | None = None
    package: Package | None = field(default=None, repr=False)
    other_order_id: str = field(factory=new_reference)
    other_item_id: str | None = None
    daypass_days: int | None = None
    pdf_language: str | None = None
    remark: str | None = field(default=None, repr=False)

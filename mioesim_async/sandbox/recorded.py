"""What a sandbox keeps for tests to look at: requests, orders and mails."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

from attrs import define, field, frozen

from mioesim_async.clock import GMT8
from mioesim_async.models.orders import OrderStatus
from mioesim_async.sandbox.clock import SandboxClock

__all__ = ["RecordedRequest", "SandboxMail", "SandboxOrder", "vendor_now"]

REFUND_SECONDS = 60.0


def vendor_now(clock: SandboxClock) -> dt.datetime:
    """Return the clock's time in GMT+8, the vendor's time zone."""
    return dt.datetime.fromtimestamp(clock.time(), GMT8)


@define
class RecordedRequest:
    """One request that the sandbox saw.

    Attributes:
        endpoint: Last part of the path, such as ``login``.
        method: GET or POST.
        params: What was sent, token and signature included; left out of ``repr``.
        user_agent: The ``User-Agent`` of the client.
        cookies: Whether a cookie came along.
        connection: Number of the connection, from 1.
        at: Seconds since the epoch (UTC), by the sandbox's clock.
        code: The code of the answer, also if the answer was lost or replaced; or None.
        fault: Name of the fault that the call got, or None.
    """

    endpoint: str
    method: str
    params: dict[str, str] = field(repr=False)
    user_agent: str
    cookies: bool
    connection: int
    at: float
    code: int | str | None = None
    fault: str | None = None

    @property
    def iccids(self) -> list[str]:
        """The ICCIDs that were asked for."""
        asked = self.params.get("iccids") or self.params.get("iccid") or ""
        return asked.split(",") if asked else []


@frozen
class SandboxMail:
    """One mail that the vendor would have sent.

    Attributes:
        order_num: The order whose PDFs it holds.
        email: The address that it goes to.
        iccids: The cards whose PDFs it holds.
    """

    order_num: str
    email: str
    iccids: tuple[str, ...]


@define(eq=False)
class SandboxOrder:
    """One order or renewal that was placed in a sandbox.

    Attributes:
        order_num: The vendor's order number.
        other_order_id: The caller's reference, or None. Not unique.
        sku_id: The SKU.
        price_id: The plan.
        display: Name of the plan.
        data: Size of the plan, such as ``1GB``; per day for a day pass.
        total_mb: Size of the whole plan in MB, all days of a day pass counted.
        days: Length of the plan in days.
        daypass_days: Days of a day pass, or None.
        count: How many cards.
        iccids: The cards.
        dp_id: The partner whose physical SIMs they are, or None for eSIMs.
        is_renewal: Whether it renewed cards.
        main_order_num: For a renewal, the number of the card's first order; else None.
        price: Of all cards together.
        purchased_at: When, GMT+8.
        starts_at: Start of its plans, GMT+8.
        ends_at: End of its plans, GMT+8.
        clock: The sandbox's time.
        renewals: Numbers of the renewals of this order.
        refunds: When each refund of a card was asked for, by ICCID; seconds since the epoch.
    """

    order_num: str
    other_order_id: str | None
    sku_id: int
    price_id: int
    display: str
    data: str
    total_mb: float
    days: int
    daypass_days: int | None
    count: int
    iccids: list[str]
    dp_id: int | None
    is_renewal: bool
    main_order_num: str | None
    price: Decimal
    purchased_at: dt.datetime
    starts_at: dt.datetime
    ends_at: dt.datetime
    clock: SandboxClock = field(repr=False)
    renewals: list[str] = field(factory=list)
    refunds: dict[str, float] = field(factory=dict)

    @property
    def status(self) -> OrderStatus:
        """Its state by the sandbox's clock.

        A refund takes a minute. An order is ended when its plans have ended.
        """
        if self.refunds:
            is_whole = len(self.refunds) == len(self.iccids)
            is_done = self.clock.time() >= max(self.refunds.values()) + REFUND_SECONDS
            if is_whole:
                return OrderStatus.CANCELLED if is_done else OrderStatus.CANCELLING
            if not is_done:
                return OrderStatus.PARTLY_CANCELLING
        if vendor_now(self.clock) >= self.ends_at:
            return OrderStatus.ENDED
        return OrderStatus.PARTLY_CANCELLED if self.refunds else OrderStatus.PAID

"""Cards: one eSIM or physical SIM each, by ICCID."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any, Generic, Self

from attrs import define, field
from typing_extensions import TypeVar

from mioesim_async.errors import MioEsimError
from mioesim_async.models.activation import ActivationCode

__all__ = ["CardDetail", "CardOutcome", "CardReport", "CardStatus", "DpStatus", "PastPlan"]

MAX_UNKNOWN_STATUSES = 256


class DpStatus(enum.StrEnum):
    """State of the profile on a card (vendor-documented); unknown states are kept.

    ``DpStatus("Frozen")`` makes a member with that value, and ``is_known`` tells.
    """

    ACTIVE = "ACTIVE"
    """The plan is running and usage is tracked."""
    ENABLE = "Enable"
    """The profile is enabled on the device; the plan has perhaps not started."""
    DISABLE = "Disable"
    """The profile is disabled on the device."""
    DELETE = "Delete"
    """The profile was deleted and can't be activated again."""

    @classmethod
    def _missing_(cls, value: object) -> DpStatus | None:
        if not isinstance(value, str):
            return None
        folded = value.strip().upper()
        for member in (cls.ACTIVE, cls.ENABLE, cls.DISABLE, cls.DELETE):
            if member.name == folded:
                return member
        unknown = str.__new__(cls, value)
        unknown._name_ = value
        unknown._value_ = value
        if len(cls._value2member_map_) < MAX_UNKNOWN_STATUSES:
            cls._value2member_map_[value] = unknown
        return unknown

    def __reduce_ex__(self, _protocol: object) -> tuple[type[Self], tuple[str]]:
        """Pickle by value: early 3.11 releases do it by name, which finds no unknown state."""
        return type(self), (self._value_,)

    @property
    def is_known(self) -> bool:
        """Whether the vendor documents this state."""
        return self._name_ in DpStatus.__members__


@define
class CardStatus:
    """Status and usage of one card, as a batch query returns it.

    Attributes:
        iccid: The ICCID that was asked for, digits only.
        dp_status: State of the profile (vendor-documented), or None.
        used_mb: Data used, in MB (vendor-documented), or None.
        remaining_mb: Data left, in MB, where the vendor says so (the field's name is
            assumed). Never computed: on a day pass the total may be meant per day.
        total_mb: Size of the plan, in MB (observed as text such as ``6GB``), or None.
        starts_at: Start of the plan, GMT+8 (vendor-documented), or None.
        ends_at: End of the plan, GMT+8; a date alone means the end of that day.
        order_num: The vendor's order number (observed), or None.
        sku_id: The SKU (observed), or None.
        extra: Everything else, as it came. May hold the activation code.
    """

    iccid: str = ""
    dp_status: DpStatus | None = None
    used_mb: float | None = None
    remaining_mb: float | None = None
    total_mb: float | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    order_num: str | None = None
    sku_id: int | None = None
    extra: dict[str, Any] = field(factory=dict, repr=False)


@define
class CardDetail(CardStatus):
    """Everything that the vendor tells of one card.

    Attributes:
        activation: The activation code, or None. A secret, masked in ``repr``.
    """

    activation: ActivationCode | None = None


C = TypeVar("C", bound=CardStatus, default=CardStatus)


@define
class CardOutcome(Generic[C]):
    """What became of one ICCID of a sweep.

    Attributes:
        iccid: The ICCID, cleaned; as it was given where it could not be.
        card: The card, or None.
        error: What went wrong, or None. Both are None where the vendor doesn't know the card.
    """

    iccid: str
    card: C | None = None
    error: MioEsimError | None = None


@define
class CardReport:
    """The outcomes of a whole sweep.

    Attributes:
        cards: Cards that were found, by ICCID.
        missing: ICCIDs that the vendor doesn't know.
        failed: What went wrong, by ICCID.
    """

    cards: dict[str, CardStatus] = field(factory=dict)
    missing: list[str] = field(factory=list)
    failed: dict[str, MioEsimError] = field(factory=dict)


@define
class PastPlan:
    """One plan that a card had, as its history tells (fields assumed: order-like).

    Attributes:
        order_num: The vendor's order number, or None.
        display: Name of the plan, or None.
        status: The order's status code, or None.
        starts_at: Start, GMT+8, or None.
        ends_at: End, GMT+8; a date alone means the end of that day.
        extra: Everything else, as it came.
    """

    order_num: str | None = None
    display: str | None = None
    status: int | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    extra: dict[str, Any] = field(factory=dict, repr=False)

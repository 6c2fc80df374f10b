"""Models of cards. A card is one eSIM or physical SIM; its ICCID identifies it."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any, Generic, Self

from attrs import define, field
from typing_extensions import TypeVar

from mioesim_async.errors import MioEsimError
from mioesim_async.models.activation import ActivationCode
from mioesim_async.models.hiding import HIDDEN

__all__ = ["CardDetail", "CardOutcome", "CardReport", "CardStatus", "DpStatus", "PastPlan"]

MAX_UNKNOWN_STATUSES = 256


class DpStatus(enum.StrEnum):
    """State of the profile on a card (vendor-documented).

    An unknown state is not an error: ``DpStatus("Frozen")`` makes a member with that value, whose
    ``is_known`` is False.
    """

    ACTIVE = "ACTIVE"
    """The plan is running and usage is tracked."""
    ENABLE = "Enable"
    """The profile is enabled on the device; the plan may not have started."""
    DISABLE = "Disable"
    """The profile is disabled on the device."""
    DELETE = "Delete"
    """The profile was deleted, and can't be activated again."""

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
        """Pickle by value: early 3.11 releases pickle by name, which fails for unknown states."""
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
        remaining_mb: Data left, in MB, as the vendor gives it (the field's name is assumed),
            or None. It is never computed, since on a day pass the total may be per day.
        total_mb: Size of the plan, in MB (observed as text such as ``6GB``), or None.
        starts_at: Start of the plan, GMT+8 (vendor-documented), or None.
        ends_at: End of the plan, GMT+8; a date alone means the end of that day.
        order_num: The vendor's order number (observed), or None.
        sku_id: The SKU (observed), or None.
        extra: All other fields, as they came. May contain the activation code.
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
    """All details of one card.

    Attributes:
        activation: The activation code, or None; a secret, masked in ``repr``.
    """

    activation: ActivationCode | None = field(default=None, metadata=HIDDEN)


C = TypeVar("C", bound=CardStatus, default=CardStatus)


@define
class CardOutcome(Generic[C]):
    """The outcome for one ICCID of a sweep.

    If the vendor doesn't know the card, ``card`` and ``error`` are both None.

    Attributes:
        iccid: The ICCID, cleaned; an item that is no ICCID is kept as it was given.
        card: The card, or None.
        error: The error, or None.
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
        failed: Errors, by ICCID.
    """

    cards: dict[str, CardStatus] = field(factory=dict)
    missing: list[str] = field(factory=list)
    failed: dict[str, MioEsimError] = field(factory=dict)


@define
class PastPlan:
    """One plan in a card's history (its fields are assumed to be those of an order).

    Attributes:
        order_num: The vendor's order number, or None.
        display: Name of the plan, or None.
        status: The order's status code, or None.
        starts_at: Start, GMT+8, or None.
        ends_at: End, GMT+8; a date alone means the end of that day.
        extra: All other fields, as they came.
    """

    order_num: str | None = None
    display: str | None = None
    status: int | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    extra: dict[str, Any] = field(factory=dict, repr=False)

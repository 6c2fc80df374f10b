"""How the vendor's rows about cards are read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from mioesim_async.models import scalars
from mioesim_async.models.activation import ActivationCode
from mioesim_async.models.cards import CardDetail, CardStatus, DpStatus, PastPlan
from mioesim_async.models.reader import LAYOUTS, Layout, Wire, report_once

__all__ = ["read_activation"]


def _iccid(value: object) -> str | None:
    # Whoever asked for the card knows its ICCID; a number may have lost its last digits.
    return value or None if isinstance(value, str) else None


def _dp_status(value: object) -> DpStatus | None:
    raw = scalars.text(value)
    return None if raw is None else DpStatus(raw)


ACTIVATION_FIELDS = ("code", "smdpaddress", "activationcode")
scalars.AS_IT_IS[_iccid] = str
scalars.SEEN[_dp_status] = DpStatus._value2member_map_


def read_activation(values: dict[str, Any], extra: dict[str, Any]) -> None:
    """Build the code from the whole LPA string, or from its two halves.

    ``code`` is preferred; a whole LPA string may also sit in either half. Fields that say
    the same are used up; where one says something else, they stay in ``extra``.
    """
    keys = {key.replace("_", "").lower(): key for key in extra}
    found = {name: extra[keys[name]] for name in ACTIVATION_FIELDS if name in keys}
    for names, text in _candidates(found):
        try:
            activation = ActivationCode.parse(text)
        except ValueError:
            report_once("card", "activation code", "can't be read")
            continue
        values["activation"] = activation
        others = [name for name in found if name not in names]
        if not all(_agrees(activation, name, found[name]) for name in others):
            report_once("card", "a second activation code", "differs from the one that was taken")
            others = []
        for name in (*names, *others):
            del extra[keys[name]]
        return


def _candidates(found: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Give what may be an activation code with the fields that it is made of, best first."""
    code, address, matching = (
        text.strip() if isinstance(text := found.get(name), str) else None
        for name in ACTIVATION_FIELDS
    )
    if code:
        yield ("code",), code
    for name, text in (("smdpaddress", address), ("activationcode", matching)):
        if text and "$" in text:
            yield (name,), text
    if address and matching is not None and "$" not in address + matching:
        yield ("smdpaddress", "activationcode"), f"1${address}${matching}"


def _agrees(activation: ActivationCode, name: str, value: object) -> bool:
    """Tell whether a field says the same as the code, or nothing."""
    if not isinstance(value, str):
        return value is None
    address, matching, text = activation.smdp_address, activation.matching_id, value.strip()
    if not text:
        return True
    if name == "code" or "$" in text:
        with suppress(ValueError):
            other = ActivationCode.parse(text)
            return (other.smdp_address.lower(), other.matching_id) == (address.lower(), matching)
        return False
    return text == matching if name == "activationcode" else text.lower() == address.lower()


CARD = {
    "iccid": Wire(("iccid",), _iccid),
    "dp_status": Wire(("dpStatus",), _dp_status, strict=True),
    "used_mb": Wire(("usedMB",), scalars.number, strict=True),
    "remaining_mb": Wire(
        ("remainingMB", "remainMB", "surplusMB", "leftMB", "remainingData", "remainData",
         "surplusData", "remainFlow", "remainingFlow", "surplusFlow", "remaining"),
        scalars.megabytes_or_number,
    ),
    # The plan's size ("6GB") comes without a word on units in its name, where nothing clearer does.
    "total_mb": Wire(
        ("totalMB",), scalars.megabytes_or_number, other={"data": scalars.megabytes}
    ),
    "starts_at": Wire(("startDate", "startTime", "beginDate"), scalars.start_time),
    "ends_at": Wire(("endDate", "endTime"), scalars.end_time),
    "order_num": Wire(("orderNum",), scalars.text),
    "sku_id": Wire(("skuId",), scalars.integer),
}  # fmt: skip


LAYOUTS.update(
    {
        CardStatus: Layout(CARD),
        CardDetail: Layout(CARD, read_activation, only_left=True),
        PastPlan: Layout(
            {
                "order_num": Wire(("orderNum",), scalars.text),
                "display": Wire(("display", "skuName", "name"), scalars.text),
                "status": Wire(("status",), scalars.integer),
                "starts_at": Wire(("startDate", "beginDate"), scalars.start_time),
                "ends_at": Wire(("endDate",), scalars.end_time),
            }
        ),
    }
)

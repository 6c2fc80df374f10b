"""How the vendor's rows about cards are read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from attrs import evolve

from mioesim_async.models.activation import ActivationCode, trimmed
from mioesim_async.models.cards import CardDetail, CardStatus, DpStatus, PastPlan
from mioesim_async.rows import scalars
from mioesim_async.rows.layout import LAYOUTS, Layout, Wire, report_once

__all__ = ["read_activation"]


def _iccid(value: object) -> str | None:
    # Whoever asked for the card knows its ICCID; a number may have lost its last digits.
    return value or None if isinstance(value, str) else None


@scalars.remembered
def _dp_status(value: object) -> DpStatus | None:
    raw = scalars.text(value)
    return None if raw is None else DpStatus(raw)


WHOLE_CODES = ("code", "lpa", "lpastring")
"""Fields for a whole activation code, the preferred one first (observed)."""

ACTIVATION_FIELDS = (*WHOLE_CODES, "smdpaddress", "activationcode")
scalars.AS_IT_IS[_iccid] = str


def read_activation(values: dict[str, Any], extra: dict[str, Any]) -> None:
    """Build the code from a whole LPA string, or from its two halves.

    ``code`` is preferred, then ``lpa`` and ``lpaString``; a whole LPA string may also sit in either
    half. One without a
    matching id is completed with that of the other half, and taken only if nothing has one.
    Fields that say the same are used up; where one says something else, they stay in
    ``extra``.
    """
    keys = {key.replace("_", "").lower(): key for key in extra}
    found = {name: extra[keys[name]] for name in ACTIVATION_FIELDS if name in keys}
    texts = {name: trimmed(text) for name, text in found.items() if isinstance(text, str)}
    taken: tuple[tuple[str, ...], ActivationCode] | None = None
    for names, text in _candidates(texts):
        try:
            activation = ActivationCode.parse(text)
        except ValueError:
            report_once("card", "activation code", "can't be read")
            continue
        if activation.matching_id:
            taken = names, activation
            break
        taken = taken or (names, activation)
    if taken is None:
        return
    names, activation = taken
    values["activation"] = activation
    others = [name for name in found if name not in names]
    if others and not all(
        _agrees(activation, name, texts[name]) if name in texts else found[name] is None
        for name in others
    ):
        report_once("card", "a second activation code", "differs from the one that was taken")
        others = []
    for name in (*names, *others):
        del extra[keys[name]]


def _candidates(texts: dict[str, str]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Give what may be an activation code with the fields that it is made of, best first."""
    address, matching = texts.get("smdpaddress"), texts.get("activationcode")
    half = matching if matching and "$" not in matching else None
    for name, text in texts.items():
        if text and (name in WHOLE_CODES or "$" in text):
            if half and (completed := _completed(text, half)):
                yield (name, "activationcode"), completed
            yield (name,), text
    if address and matching is not None and "$" not in address + matching:
        yield ("smdpaddress", "activationcode"), f"1${address}${matching}"


def _completed(whole: str, matching: str) -> str | None:
    """Put a matching id into a code that has an empty one; None if it has one."""
    parts = whole.split("$")
    if len(parts) < 3 or trimmed(parts[2]):
        return None
    return "$".join([*parts[:2], matching, *parts[3:]])


def _agrees(activation: ActivationCode, name: str, text: str) -> bool:
    """Tell whether a field says the same as the code, or nothing."""
    if not text:
        return True
    if name in WHOLE_CODES or "$" in text:
        with suppress(ValueError):
            return _comparable(ActivationCode.parse(text)) == _comparable(activation)
        return False
    if name == "activationcode":
        return text == activation.matching_id
    return text.lower() == activation.smdp_address.lower()


def _comparable(code: ActivationCode) -> ActivationCode:
    # Names of hosts are the same in any case.
    return evolve(code, smdp_address=code.smdp_address.lower())


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

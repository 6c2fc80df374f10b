"""What the sandbox writes differently with ``odd=True``.

By default each field has one spelling and one type. An odd sandbox also writes other spellings,
text where numbers are usual, null, and rows with fields missing, as a client must expect them.
The tables below list them all; ``docs/wire.md`` says how sure each is.

The number that a row's id ends with decides how the row is written, so that each run is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import frozen

from mioesim_async.wire.endpoints import (
    GET_ICCID_SUPPORT_PACKAGE_INFO,
    GET_PACKAGES,
    REFUND_ORDER,
)

__all__ = ["ABSENT", "DAY_ENDS", "oddly"]

ABSENT: Final = object()
"""In the place of a value: leave the field out."""

DAY_ENDS = "23:59:59.0"
"""How the last second of a day is written; an odd sandbox may write the day alone."""

Row = dict[str, Any]
Change = Callable[[Any], Any]
Choice = Callable[[Row, Any], bool]

IDS = ("iccid", "orderNum", "priceid", "skuid")


def _number(row: Row) -> int:
    """Return the number that an id ends with, or 0 for a row without one."""
    found = next((str(row[name]) for name in IDS if name in row), "0")
    return int("".join(filter(str.isdigit, found))[-6:])


def _every(count: int, rest: int = 0) -> Choice:
    """Choose the rows whose number leaves this rest."""
    return lambda row, _: _number(row) % count == rest


def _beside(name: str) -> Choice:
    """Choose the rows that also have this field."""
    return lambda row, _: name in row


def _both(one: Choice, other: Choice) -> Choice:
    return lambda row, value: one(row, value) and other(row, value)


def _all(_row: Row, _value: Any) -> bool:
    return True


def _filled(_row: Row, value: Any) -> bool:
    return bool(value)


def _empty(_row: Row, value: Any) -> bool:
    return not value


def _whole(_row: Row, value: float) -> bool:
    return value.is_integer()


def _end_of_day(_row: Row, value: str) -> bool:
    return value.endswith(DAY_ENDS)


def _as_it_is(value: Any) -> Any:
    return value


def _to(constant: Any) -> Change:
    return lambda _: constant


def _cut(length: int, ending: str = "") -> Change:
    """Keep the start of a time, and end it differently."""
    return lambda text: text[:length] + ending


DAY, SECOND = len("2024-12-24"), len("2024-12-24 17:30:14")


@frozen
class Oddity:
    """How some rows write a field.

    Attributes:
        where: Which rows, told by the row and the value as they usually are.
        name: The other spelling; None for the usual one.
        value: Makes the other value of the usual one; it may be ``ABSENT``.
    """

    where: Choice = _all
    name: str | None = None
    value: Change = _as_it_is


FIELDS: Mapping[str, tuple[Oddity, ...]] = {
    # The catalogue.
    "skuid": (Oddity(_every(3), "skuId"), Oddity(_every(3, 2), value=str)),
    "priceid": (Oddity(_every(2), "priceId"),),
    "price": (Oddity(_every(2), value=str), Oddity(_whole, value=int)),
    "openCardFee": (Oddity(_every(2), value=str),),
    # Of the plans on sale this is one, 445.
    "apiCode": (Oddity(_every(5), value=_to(ABSENT)),),
    "note": (Oddity(_empty, value=_to(None)),),
    "expirydate": (Oddity(_every(2), value=_to(180)),),
    "detailId": (Oddity(_every(2), value=_to(None)),),
    "countrycode": (Oddity(_every(3), value=int),),
    "countryImageUrlDtoList": (Oddity(_empty, value=_to(None)),),
    "esimPackageDtoList": (Oddity(_every(2), "esimPackageVoList"),),
    "esimPackageVoList": (Oddity(_every(2), "esimPackageDtoList"),),
    # Cards, those of orders included.
    "usedMB": (Oddity(_every(2), "usedMb", float),),
    "code": (
        Oddity(_both(_filled, _every(3)), "lpa"),
        Oddity(_both(_filled, _every(3, 1)), "lpaString"),
    ),
    "sm_dp_address": (Oddity(_empty, value=_to(ABSENT)),),
    "activationCode": (
        Oddity(_empty, value=_to(ABSENT)),
        Oddity(_every(2, 1), "activation_code"),
    ),
    # Orders and usage.
    "cardApiDtoList": (Oddity(_every(3), "cards"), Oddity(_every(3, 1), "cardList")),
    "outerOrderId": (Oddity(_both(_filled, _every(2)), "otherOrderId"),),
    "rows": (Oddity(_empty, value=_to(ABSENT)),),
    "skuId": (Oddity(_beside("totle"), value=str),),
    "priceId": (Oddity(_beside("usedMb"), value=str),),
    "status": (
        Oddity(_beside("totle"), value=str),
        Oddity(_beside("usedMb"), value=str),
    ),
    "usedMb": (Oddity(_every(2), "usedMB", str),),
    # Times.
    "purchaseDate": (Oddity(_every(2), value=_cut(SECOND)),),
    "createTime": (Oddity(value=_cut(SECOND)),),
    "beginDate": (Oddity(value=_cut(DAY)),),
    "startDate": (
        Oddity(_both(_beside("dpStatus"), _every(2)), "beginDate"),
        Oddity(_every(3), value=_cut(SECOND)),
    ),
    "endDate": (
        Oddity(_both(_end_of_day, _beside("dpStatus")), value=_cut(DAY)),
        Oddity(_end_of_day, value=_cut(DAY, " (GMT+8)")),
        Oddity(_every(3), value=_cut(SECOND, "(GMT+8)")),
        Oddity(_every(3, 1), value=_cut(SECOND, " (GMT+8)")),
        Oddity(value=_cut(SECOND)),
    ),
}
"""How fields are written, by their usual name; of several ways the first that fits."""

REPLIES: Mapping[str, Change] = {
    GET_PACKAGES.path: lambda data: "" if data is None else data,
    GET_ICCID_SUPPORT_PACKAGE_INFO.path: lambda data: data[0] if len(data) == 1 else data,
    REFUND_ORDER.path: _to("success"),
}
"""How the ``data`` of whole replies is written, by path; elsewhere null is left out."""


def oddly(path: str, data: Any) -> Any:
    """Return the data of a successful reply as an odd sandbox writes it, or ``ABSENT``."""
    if path in REPLIES:
        data = REPLIES[path](data)
    return ABSENT if data is None else _walk(data)


def _walk(data: Any) -> Any:
    if isinstance(data, list):
        return [_walk(item) for item in data]
    return _row(data) if isinstance(data, dict) else data


def _row(row: Row) -> Row:
    written: Row = {}
    for name, value in row.items():
        for oddity in FIELDS.get(name, ()):
            if oddity.where(row, value):
                changed = oddity.value(value)
                if changed is not ABSENT:
                    written[oddity.name or name] = _walk(changed)
                break
        else:
            written[name] = _walk(value)
    return written

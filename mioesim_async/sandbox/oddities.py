"""What the sandbox writes differently with ``odd=True``.

By default each field has one spelling and one type. An odd sandbox also writes other spellings,
text in place of numbers, null, and rows without some fields, since a client may get all of these.
The tables below list them all; ``docs/wire.md`` says how certain each one is.

The number that a row's id ends with decides how it is written, so that all runs are alike.
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

__all__ = ["ABSENT", "DAY_ENDS", "write_oddly"]

ABSENT: Final = object()
"""Used as a value: leave the field out."""

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


def _every_nth(count: int, rest: int = 0) -> Choice:
    """Choose the rows whose number, divided by ``count``, leaves this remainder."""
    return lambda row, _: _number(row) % count == rest


def _beside(name: str) -> Choice:
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


def _constant(constant: Any) -> Change:
    return lambda _: constant


def _cut(length: int, ending: str = "") -> Change:
    """Keep the start of a time, and end it differently."""
    return lambda text: text[:length] + ending


DAY_LENGTH, SECOND_LENGTH = len("2024-12-24"), len("2024-12-24 17:30:14")


@frozen
class Oddity:
    """How some rows write a field.

    Attributes:
        where: Chooses the rows, by the usual row and the usual value of the field.
        name: The other spelling; None for the usual one.
        value: Returns the value to write for the usual value; it may be ``ABSENT``.
    """

    where: Choice = _all
    name: str | None = None
    value: Change = _as_it_is


ODD_FIELDS: Mapping[str, tuple[Oddity, ...]] = {
    # The catalogue.
    "skuid": (Oddity(_every_nth(3), "skuId"), Oddity(_every_nth(3, 2), value=str)),
    "priceid": (Oddity(_every_nth(2), "priceId"),),
    "price": (Oddity(_every_nth(2), value=str), Oddity(_whole, value=int)),
    "openCardFee": (Oddity(_every_nth(2), value=str),),
    # Only plan 445 of those on sale.
    "apiCode": (Oddity(_every_nth(5), value=_constant(ABSENT)),),
    "note": (Oddity(_empty, value=_constant(None)),),
    "expirydate": (Oddity(_every_nth(2), value=_constant(180)),),
    "detailId": (Oddity(_every_nth(2), value=_constant(None)),),
    "countrycode": (Oddity(_every_nth(3), value=int),),
    "countryImageUrlDtoList": (Oddity(_empty, value=_constant(None)),),
    "esimPackageDtoList": (Oddity(_every_nth(2), "esimPackageVoList"),),
    "esimPackageVoList": (Oddity(_every_nth(2), "esimPackageDtoList"),),
    # Cards, those of orders included.
    "usedMB": (Oddity(_every_nth(2), "usedMb", float),),
    "code": (
        Oddity(_both(_filled, _every_nth(3)), "lpa"),
        Oddity(_both(_filled, _every_nth(3, 1)), "lpaString"),
    ),
    "sm_dp_address": (Oddity(_empty, value=_constant(ABSENT)),),
    "activationCode": (
        Oddity(_empty, value=_constant(ABSENT)),
        Oddity(_every_nth(2, 1), "activation_code"),
    ),
    # Orders and usage.
    "cardApiDtoList": (Oddity(_every_nth(3), "cards"), Oddity(_every_nth(3, 1), "cardList")),
    "outerOrderId": (Oddity(_both(_filled, _every_nth(2)), "otherOrderId"),),
    "rows": (Oddity(_empty, value=_constant(ABSENT)),),
    "skuId": (Oddity(_beside("totle"), value=str),),
    "priceId": (Oddity(_beside("usedMb"), value=str),),
    "status": (
        Oddity(_beside("totle"), value=str),
        Oddity(_beside("usedMb"), value=str),
    ),
    "usedMb": (Oddity(_every_nth(2), "usedMB", str),),
    # Times.
    "purchaseDate": (Oddity(_every_nth(2), value=_cut(SECOND_LENGTH)),),
    "createTime": (Oddity(value=_cut(SECOND_LENGTH)),),
    "beginDate": (Oddity(value=_cut(DAY_LENGTH)),),
    "startDate": (
        Oddity(_both(_beside("dpStatus"), _every_nth(2)), "beginDate"),
        Oddity(_every_nth(3), value=_cut(SECOND_LENGTH)),
    ),
    "endDate": (
        Oddity(_both(_end_of_day, _beside("dpStatus")), value=_cut(DAY_LENGTH)),
        Oddity(_end_of_day, value=_cut(DAY_LENGTH, " (GMT+8)")),
        Oddity(_every_nth(3), value=_cut(SECOND_LENGTH, "(GMT+8)")),
        Oddity(_every_nth(3, 1), value=_cut(SECOND_LENGTH, " (GMT+8)")),
        Oddity(value=_cut(SECOND_LENGTH)),
    ),
}
"""How fields are written, by their usual name; the first whose ``where`` applies is used."""

ODD_REPLIES: Mapping[str, Change] = {
    GET_PACKAGES.path: lambda data: "" if data is None else data,
    GET_ICCID_SUPPORT_PACKAGE_INFO.path: lambda data: data[0] if len(data) == 1 else data,
    REFUND_ORDER.path: _constant("success"),
}
"""How the ``data`` of a whole reply is written, by path; in other replies null is left out."""


def write_oddly(path: str, data: Any) -> Any:
    """Return the data of a successful reply as an odd sandbox writes it, or ``ABSENT``."""
    if path in ODD_REPLIES:
        data = ODD_REPLIES[path](data)
    return ABSENT if data is None else _write_value(data)


def _write_value(data: Any) -> Any:
    if isinstance(data, list):
        return [_write_value(item) for item in data]
    return _write_row(data) if isinstance(data, dict) else data


def _write_row(row: Row) -> Row:
    written: Row = {}
    for name, value in row.items():
        for oddity in ODD_FIELDS.get(name, ()):
            if oddity.where(row, value):
                changed = oddity.value(value)
                if changed is not ABSENT:
                    written[oddity.name or name] = _write_value(changed)
                break
        else:
            written[name] = _write_value(value)
    return written

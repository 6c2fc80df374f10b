"""The one converter between the vendor's rows and the models.

Which spellings fill which field is a table per model (a layout); everything else of a row
goes to ``extra``. Spellings match without regard to case and underscores.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

import attrs
import cattrs

from mioesim_async.errors import MioEsimError, ProtocolError
from mioesim_async.models import scalars
from mioesim_async.models.activation import ActivationCode
from mioesim_async.models.cards import CardDetail, CardStatus, DpStatus, PastPlan
from mioesim_async.models.catalogue import Package, Sku, SkuPackages

__all__ = ["structure", "structure_rows", "to_dict"]

logger = logging.getLogger("mioesim_async")

T = TypeVar("T")
Reader = Callable[[Any], Any]
Finish = Callable[[dict[str, Any], dict[str, Any]], None]


@attrs.frozen
class Wire:
    """How one field is read.

    Attributes:
        names: The vendor's spellings, the preferred one first.
        read: Reads the value.
        strict: A value that can't be read makes the row unreadable; else it stays in
            ``extra`` and is reported once.
    """

    names: tuple[str, ...]
    read: Reader
    strict: bool = False


@attrs.frozen
class Layout:
    """How one model is read: its fields, and what is computed from what is left."""

    fields: Mapping[str, Wire]
    finish: Finish | None = None


_reported: set[tuple[str, str]] = set()


def _report(model: str, name: str, problem: str) -> None:
    """Tell once per process that a field can't be read; the value may be a secret."""
    if (model, name) not in _reported:
        _reported.add((model, name))
        logger.warning("%s: %s %s; kept in extra, reported once", model, name, problem)


def _iccid(value: object) -> str | None:
    # Whoever asked for the card knows its ICCID; a number may have lost its last digits.
    return value or None if isinstance(value, str) else None


def _dp_status(value: object) -> DpStatus | None:
    raw = scalars.text(value)
    return None if raw is None else DpStatus(raw)


def _activation(values: dict[str, Any], extra: dict[str, Any]) -> None:
    """Build the code from the whole LPA string, or from its two halves."""
    whole, address, matching = (extra.get(k) for k in ("code", "sm_dp_address", "activationCode"))
    try:
        if isinstance(whole, str) and whole.strip():
            values["activation"] = ActivationCode.parse(whole)
        elif isinstance(address, str) and address.strip() and isinstance(matching, str):
            joined = address if "$" in address else f"1${address}${matching}"
            values["activation"] = ActivationCode.parse(joined)
        else:
            return
    except ValueError:
        _report("CardDetail", "activation", "can't be read")
        return
    for used in ("code", "sm_dp_address", "activationCode"):
        extra.pop(used, None)


def _flows(values: dict[str, Any], extra: dict[str, Any]) -> None:
    """Join ``flows`` and ``unit`` to megabytes (1 GB = 1024 MB)."""
    unit = extra.get("unit")
    if "flows" in extra and isinstance(unit, str):
        try:
            values["data_mb"] = scalars.megabytes(f"{scalars.decimal(extra['flows'])}{unit}")
        except ValueError:
            _report("Package", "data_mb", "can't be read")
        else:
            del extra["flows"], extra["unit"]


def _packages(values: dict[str, Any], extra: dict[str, Any]) -> None:
    """Read the plans, whichever of their two lists holds them."""
    for name in ("esimPackageDtoList", "esimPackageVoList"):
        rows = extra.get(name)
        if rows is None:
            extra.pop(name, None)
        elif isinstance(rows, list):
            del extra[name]
            packages = structure_rows(rows, Package)
            for package in packages:
                if package.sku_id is None:
                    package.sku_id = values.get("sku_id")
            values["packages"] = values.get("packages", []) + packages


def _is_day_pass(value: object) -> bool | None:
    kind = scalars.integer(value)
    return None if kind is None else kind != 0


def _is_zero(value: object) -> bool | None:
    kind = scalars.integer(value)
    return None if kind is None else kind == 0


CARD = {
    "iccid": Wire(("iccid",), _iccid),
    "dp_status": Wire(("dpStatus",), _dp_status, strict=True),
    "used_mb": Wire(("usedMB",), scalars.number, strict=True),
    "remaining_mb": Wire(
        ("remainingMB", "remainMB", "surplusMB", "leftMB", "remainingData", "remainData",
         "surplusData", "remainFlow", "remainingFlow", "surplusFlow", "remaining"),
        scalars.megabytes_or_number,
    ),
    "total_mb": Wire(("totalMB",), scalars.megabytes_or_number),
    "starts_at": Wire(("startDate", "startTime", "beginDate"), scalars.start_time),
    "ends_at": Wire(("endDate", "endTime"), scalars.end_time),
    "order_num": Wire(("orderNum",), scalars.text),
    "sku_id": Wire(("skuId",), scalars.integer),
}  # fmt: skip


def _plan_size(values: dict[str, Any], extra: dict[str, Any]) -> None:
    """Read ``data`` ("6GB") as the plan's size, where nothing clearer was sent."""
    if "total_mb" not in values and extra.get("data"):
        try:
            values["total_mb"] = scalars.megabytes(extra["data"])
        except ValueError:
            _report("CardStatus", "data", "can't be read as an amount with its unit")
        else:
            del extra["data"]


def _detail(values: dict[str, Any], extra: dict[str, Any]) -> None:
    _plan_size(values, extra)
    _activation(values, extra)


SKU_ID = Wire(("skuId",), scalars.integer)

LAYOUTS: dict[type, Layout] = {
    CardStatus: Layout(CARD, _plan_size),
    CardDetail: Layout(CARD, _detail),
    PastPlan: Layout(
        {
            "order_num": Wire(("orderNum",), scalars.text),
            "display": Wire(("display", "skuName", "name"), scalars.text),
            "status": Wire(("status",), scalars.integer),
            "starts_at": Wire(("startDate", "beginDate"), scalars.start_time),
            "ends_at": Wire(("endDate",), scalars.end_time),
        }
    ),
    Sku: Layout(
        {
            "sku_id": Wire(("skuId",), scalars.integer, strict=True),
            "display": Wire(("display",), scalars.text),
            "country_code": Wire(("countryCode",), scalars.text),
        }
    ),
    Package: Layout(
        {
            "sku_id": SKU_ID,
            "price_id": Wire(("priceId",), scalars.integer, strict=True),
            "api_code": Wire(("apiCode",), scalars.text),
            "days": Wire(("days",), scalars.integer),
            "price": Wire(("price",), scalars.decimal, strict=True),
            "open_card_fee": Wire(("openCardFee",), scalars.decimal, strict=True),
            "is_day_pass": Wire(("supportDaypass",), _is_day_pass, strict=True),
            "is_renewable": Wire(("flowType",), _is_zero, strict=True),
            "needs_begin_date": Wire(("mustDate",), scalars.flag, strict=True),
            "min_days": Wire(("minDay",), scalars.integer),
            "max_days": Wire(("maxDay",), scalars.integer),
        },
        _flows,
    ),
    SkuPackages: Layout(
        {
            "sku_id": SKU_ID,
            "display": Wire(("display", "displayEn"), scalars.text),
            "coverage": Wire(("supportCountry",), scalars.texts),
        },
        _packages,
    ),
}


def _normalised(name: str) -> str:
    return name.replace("_", "").lower()


MAX_SPELLINGS = 1024


class _Spellings(dict[str, tuple[str, Reader, bool, int] | None]):
    """Field by the vendor's spelling; a new spelling is normalised once."""

    def __init__(self, fields: Mapping[str, Wire]) -> None:
        self._known = {
            _normalised(name): (field, wire.read, wire.strict, rank)
            for field, wire in fields.items()
            for rank, name in enumerate(wire.names)
        }

    def __missing__(self, key: str) -> tuple[str, Reader, bool, int] | None:
        found = self._known.get(_normalised(key))
        if len(self) < MAX_SPELLINGS:
            self[key] = found
        return found


class _Reader:
    """Reads rows of one model in a single pass over each row."""

    def __init__(self, cls: type) -> None:
        layout = LAYOUTS[cls]
        self._cls = cls
        self._model = cls.__name__
        self._spellings = _Spellings(layout.fields)
        self._finish = layout.finish

    def __call__(self, row: Any, _: Any) -> Any:
        if type(row) is not dict:
            raise ProtocolError(f"{self._model}: expected an object, got {type(row).__name__}")
        values: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        if not self._fill(row, values, extra):
            # One field came in two spellings: the preferred one wins, the other is kept.
            values, extra = {}, {}
            self._fill(dict(sorted(row.items(), key=self._rank)), values, extra, first_wins=True)
        if self._finish is not None:
            self._finish(values, extra)
        return self._cls(**values, extra=extra)

    def _fill(
        self,
        row: dict[str, Any],
        values: dict[str, Any],
        extra: dict[str, Any],
        *,
        first_wins: bool = False,
    ) -> bool:
        """Sort a row's values to fields and extra; stop with False at a field that comes twice."""
        spellings = self._spellings
        for key, raw in row.items():
            found = spellings[key]
            if found is None:
                extra[key] = raw
                continue
            name, read, strict, _rank = found
            try:
                value = read(raw)
            except ValueError as error:
                value, fault = None, str(error)
            else:
                if value is None:
                    continue
                if name not in values:
                    values[name] = value
                    continue
                if not first_wins:
                    return False
                fault = ""
            if fault and strict:
                break
            extra[key] = raw
            if fault:
                _report(self._model, key, f"can't be read: {fault}")
        else:
            return True
        # Raised outside the handler: the reader's error is no news to anybody.
        raise ProtocolError(f"{self._model}: field {key!r} can't be read: {fault}")

    def _rank(self, item: tuple[str, Any]) -> int:
        found = self._spellings[item[0]]
        return -1 if found is None else found[3]


_converter = cattrs.Converter(detailed_validation=False)
_converter.register_structure_hook_factory(LAYOUTS.__contains__, _Reader)


def structure(row: Any, cls: type[T]) -> T:
    """Read one row.

    Raises:
        ProtocolError: If the row can't be read; the message names the field.
    """
    return hook_for(cls)(row, cls)  # type: ignore[no-any-return]


def hook_for(cls: type) -> Callable[[Any, Any], Any]:
    """Return the function that reads rows of a model; for loops over many rows."""
    return _converter.get_structure_hook(cls)


def structure_rows(rows: list[Any], cls: type[T]) -> list[T]:
    """Read a list of rows; a bad one is reported and skipped."""
    hook = hook_for(cls)
    results: list[T] = []
    for position, row in enumerate(rows):
        try:
            results.append(hook(row, cls))
        except ProtocolError as error:
            logger.warning("row %d was skipped: %s", position, error)
    return results


def to_dict(model: Any) -> Any:
    """Turn a model, or a list or dict of them, into what ``json.dumps`` takes.

    Times become ISO 8601 text with their offset, money becomes text, statuses the vendor's
    spelling. The activation code is written out: whoever gets the result can take the line.
    """
    for kind, write in PLAIN.items():
        if isinstance(model, kind):
            return write(model)
    if attrs.has(type(model)):
        return {name: to_dict(getattr(model, name)) for name in attrs.fields_dict(type(model))}
    if isinstance(model, dict):
        return {str(key): to_dict(item) for key, item in model.items()}
    if isinstance(model, list | tuple):
        return [to_dict(item) for item in model]
    return model


PLAIN: dict[type, Callable[[Any], Any]] = {
    enum.Enum: lambda member: member.value,
    Decimal: str,
    datetime: datetime.isoformat,
    ActivationCode: str,
    MioEsimError: lambda error: {"type": type(error).__name__, "message": str(error)},
}

"""Reads the vendor's rows about SKUs and packages."""

from __future__ import annotations

from typing import Any

from mioesim_async.errors import ProtocolError
from mioesim_async.models.api_code import ApiCode
from mioesim_async.models.catalogue import Package, Partner, Sku, SkuGroup, SkuPackages
from mioesim_async.models.coverage import load_tables_in_steps, read_countries
from mioesim_async.rows import scalars
from mioesim_async.rows.layout import (
    LAYOUTS,
    Layout,
    Rule,
    read_row_in_steps,
    read_rows_in_steps,
    report_once,
    rows_of,
)
from mioesim_async.slices import Steps

__all__ = ["read_groups", "read_packages", "read_size", "read_skus"]

PACKAGE_LISTS = dict.fromkeys(("esimPackageDtoList", "esimPackageVoList"))
MAX_NAME_SHOWN = 60
MAX_NAMES_REPORTED = 20
"""Unknown country names that are logged for one plan."""

PRICE_IDS = frozenset({"priceid", "price_id"})


def read_size(values: dict[str, Any], extra: dict[str, Any]) -> None:
    """Set ``data_mb`` from ``flows`` and ``unit`` (1 GB = 1024 MB)."""
    unit = extra.get("unit")
    if extra.get("flows") is not None and isinstance(unit, str):
        try:
            values["data_mb"] = scalars.megabytes(f"{scalars.decimal(extra['flows'])}{unit}")
        except ValueError:
            report_once("plan", "data_mb", "can't be read")
        else:
            del extra["flows"], extra["unit"]


def _read_coverage(values: dict[str, Any], extra: dict[str, Any]) -> None:
    """Replace names of countries by codes; the names stay in extra."""
    names = values.get("coverage")
    if names is None:
        return
    extra["supportCountry"] = names
    values["coverage"], unknown = read_countries(names)
    if unknown:
        extra["unknown_coverage"] = unknown
    for name in unknown[:MAX_NAMES_REPORTED]:
        report_once("coverage", repr(name[:MAX_NAME_SHOWN]), "is not a known country")


def _read_package_extra(values: dict[str, Any], extra: dict[str, Any]) -> None:
    if "is_day_pass" not in values:
        # If a day pass were taken for another plan, its price would be that of one day.
        values["is_day_pass"] = _is_day_pass_code(values.get("api_code"))
    read_size(values, extra)
    _read_coverage(values, extra)


def _is_day_pass_code(api_code: str | None) -> bool:
    try:
        return api_code is not None and ApiCode.parse(api_code).is_day_pass
    except ValueError:
        return False


def _read_packages(values: dict[str, Any], extra: dict[str, Any]) -> Steps[None]:
    """Read the packages from both lists that may hold them."""
    yield from load_tables_in_steps()
    _read_coverage(values, extra)
    packages: list[Package] = []
    bad: list[ProtocolError] = []
    if not extra.keys() & PACKAGE_LISTS:
        bad.append(ProtocolError(f"SkuPackages: the row has none of {', '.join(PACKAGE_LISTS)}"))
    for name in PACKAGE_LISTS:
        rows = extra.get(name)
        if isinstance(rows, list):
            del extra[name]
            good, unread = yield from read_rows_in_steps(rows, Package)
            packages += good
            bad += unread
        elif rows:
            kind = type(rows).__name__
            bad.append(ProtocolError(f"SkuPackages: expected a list in {name!r}, got {kind}"))
        else:
            extra.pop(name, None)
    for package in packages:
        if package.sku_id is None:
            package.sku_id = values.get("sku_id")
        if "supportCountry" not in package.extra:
            package.coverage = list(values.get("coverage", ()))
        yield
    values["packages"], values["bad_rows"] = packages, bad


def _is_day_pass(value: object) -> bool | None:
    kind = scalars.integer(value)
    return None if kind is None else kind != 0


def _is_zero(value: object) -> bool | None:
    kind = scalars.integer(value)
    return None if kind is None else kind == 0


SKU_ID = Rule(("skuId",), scalars.integer)
COVERAGE = Rule(("supportCountry",), scalars.texts)

LAYOUTS.update(
    {
        Sku: Layout(
            {
                "sku_id": Rule(("skuId",), scalars.integer, strict=True),
                "display": Rule(("display",), scalars.text),
                "country_code": Rule(("countryCode",), scalars.text),
            }
        ),
        Partner: Layout(
            {
                "dp_id": Rule(("id", "dpId"), scalars.integer, strict=True),
                "name": Rule(("realName", "name"), scalars.text),
            }
        ),
        Package: Layout(
            {
                "sku_id": SKU_ID,
                "price_id": Rule(("priceId",), scalars.integer, strict=True),
                "api_code": Rule(("apiCode",), scalars.text),
                "days": Rule(("days",), scalars.integer),
                "price": Rule(("price",), scalars.decimal, strict=True),
                "open_card_fee": Rule(("openCardFee",), scalars.decimal, strict=True),
                "is_day_pass": Rule(("supportDaypass",), _is_day_pass, strict=True),
                "is_renewable": Rule(("flowType",), _is_zero, strict=True),
                "needs_begin_date": Rule(("mustDate",), scalars.flag, strict=True),
                "min_days": Rule(("minDay",), scalars.integer),
                "max_days": Rule(("maxDay",), scalars.integer),
                "coverage": COVERAGE,
            },
            _read_package_extra,
        ),
        SkuPackages: Layout(
            {
                "sku_id": SKU_ID,
                "display": Rule(("display", "displayEn"), scalars.text),
                "coverage": COVERAGE,
            },
            read_nested=_read_packages,
        ),
    }
)


def read_skus(data: Any) -> Steps[tuple[list[Sku], list[ProtocolError]]]:
    """Read a list of SKUs.

    Returns:
        One SKU for each id, and an error for each row that can't be used.

    Raises:
        ProtocolError: If the data is not a list.
    """
    listed = rows_of(data)
    rows, bad = yield from read_rows_in_steps(listed, Sku)
    total = data.get("total") if isinstance(data, dict) else None
    if isinstance(total, int) and total > len(listed):
        bad.append(ProtocolError(f"the list has {len(listed)} of {total} SKUs"))
    skus: dict[int, Sku] = {}
    for sku in rows:
        if sku.sku_id is None:
            bad.append(ProtocolError(f"Sku: {sku.display!r} has no skuId"))
        else:
            skus.setdefault(sku.sku_id, sku)
        yield
    return list(skus.values()), bad


def read_groups(data: Any) -> Steps[list[SkuGroup]]:
    """Read the groups of SKUs, in the vendor's order.

    The map of groups is the data itself, or is in its field ``data`` (assumed).

    Raises:
        ProtocolError: If the data is not a map of lists.
    """
    if data is None:
        return []
    if not isinstance(data, dict):
        raise ProtocolError(f"expected groups of SKUs, got {type(data).__name__}")
    wrapped = "data" in data
    groups = (data["data"] or {}) if wrapped else data
    if not isinstance(groups, dict):
        raise ProtocolError(f"expected groups of SKUs, got {type(groups).__name__}")
    order = data.get("continent") if wrapped else None
    named = [name for name in order if isinstance(name, str)] if isinstance(order, list) else []
    found: list[SkuGroup] = []
    for name in dict.fromkeys([*named, *groups]):
        skus, _ = yield from read_rows_in_steps(rows_of(groups.get(name)), Sku)
        found.append(SkuGroup(name, skus))
    return found


def read_packages(data: Any, sku_id: int) -> Steps[SkuPackages]:
    """Read the packages of one SKU.

    The data is an object, a list with one object, or missing if the SKU has no packages. A bare
    list of packages is accepted too (assumed).

    Raises:
        ProtocolError: If the data is anything else, or is about another SKU.
    """
    rows = rows_of(data)
    if (yield from _are_packages(rows)):
        rows = [{"skuid": sku_id, "esimPackageDtoList": rows}]
    if not rows:
        return SkuPackages(sku_id)
    if len(rows) > 1:
        raise ProtocolError(f"expected the packages of one SKU, got {len(rows)} rows")
    found = yield from read_row_in_steps(rows[0], SkuPackages)
    if found.sku_id not in (None, sku_id):
        raise ProtocolError("the reply is about another SKU than the one that was asked for")
    found.sku_id = sku_id
    for package in found.packages:
        if package.sku_id is None:
            package.sku_id = sku_id
        yield
    return found


def _are_packages(rows: list[Any]) -> Steps[bool]:
    for row in rows:
        if not isinstance(row, dict) or not any(key.lower() in PRICE_IDS for key in row):
            return False
        yield
    return bool(rows)

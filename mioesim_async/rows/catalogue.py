"""How the vendor's rows about SKUs and packages are read."""

from __future__ import annotations

from typing import Any

from mioesim_async.errors import ProtocolError
from mioesim_async.models.api_code import ApiCode
from mioesim_async.models.catalogue import Package, Partner, Sku, SkuPackages
from mioesim_async.models.coverage import load_in_steps, read_countries
from mioesim_async.rows import scalars
from mioesim_async.rows.layout import LAYOUTS, Layout, Wire, report_once, sort_in_steps
from mioesim_async.slices import Steps

__all__ = ["read_size"]

PACKAGE_LISTS = dict.fromkeys(("esimPackageDtoList", "esimPackageVoList"))
MAX_NAME = 60
REPORTED_NAMES = 20
"""Names of countries that aren't known are told of one plan, and so long each."""


def read_size(values: dict[str, Any], extra: dict[str, Any]) -> None:
    """Join ``flows`` and ``unit`` to megabytes (1 GB = 1024 MB)."""
    unit = extra.get("unit")
    if extra.get("flows") is not None and isinstance(unit, str):
        try:
            values["data_mb"] = scalars.megabytes(f"{scalars.decimal(extra['flows'])}{unit}")
        except ValueError:
            report_once("plan", "data_mb", "can't be read")
        else:
            del extra["flows"], extra["unit"]


def _countries(values: dict[str, Any], extra: dict[str, Any]) -> None:
    """Turn names of countries to codes; the names stay in extra."""
    names = values.get("coverage")
    if names is None:
        return
    extra["supportCountry"] = names
    values["coverage"], unknown = read_countries(names)
    if unknown:
        extra["unknown_coverage"] = unknown
    for name in unknown[:REPORTED_NAMES]:
        report_once("coverage", repr(name[:MAX_NAME]), "is no country that is known")


def _package(values: dict[str, Any], extra: dict[str, Any]) -> None:
    if "is_day_pass" not in values:
        # Taken for another plan, a day pass would cost one day only.
        values["is_day_pass"] = _says_day_pass(values.get("api_code"))
    read_size(values, extra)
    _countries(values, extra)


def _says_day_pass(api_code: str | None) -> bool:
    try:
        return api_code is not None and ApiCode.parse(api_code).is_day_pass
    except ValueError:
        return False


def _packages(values: dict[str, Any], extra: dict[str, Any]) -> Steps[None]:
    """Read the plans, whichever of their two lists holds them."""
    yield from load_in_steps()
    _countries(values, extra)
    packages: list[Package] = []
    bad: list[ProtocolError] = []
    if not extra.keys() & PACKAGE_LISTS:
        bad.append(ProtocolError(f"SkuPackages: there is none of {', '.join(PACKAGE_LISTS)}"))
    for name in PACKAGE_LISTS:
        rows = extra.get(name)
        if isinstance(rows, list):
            del extra[name]
            good, unread = yield from sort_in_steps(rows, Package)
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


SKU_ID = Wire(("skuId",), scalars.integer)
COVERAGE = Wire(("supportCountry",), scalars.texts)

LAYOUTS.update(
    {
        Sku: Layout(
            {
                "sku_id": Wire(("skuId",), scalars.integer, strict=True),
                "display": Wire(("display",), scalars.text),
                "country_code": Wire(("countryCode",), scalars.text),
            }
        ),
        Partner: Layout(
            {
                "dp_id": Wire(("id", "dpId"), scalars.integer, strict=True),
                "name": Wire(("realName", "name"), scalars.text),
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
                "coverage": COVERAGE,
            },
            _package,
        ),
        SkuPackages: Layout(
            {
                "sku_id": SKU_ID,
                "display": Wire(("display", "displayEn"), scalars.text),
                "coverage": COVERAGE,
            },
            nested=_packages,
        ),
    }
)

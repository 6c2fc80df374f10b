"""The catalogue out of whatever shape the vendor's ``data`` takes."""

from __future__ import annotations

from typing import Any

from mioesim_async.errors import ProtocolError
from mioesim_async.models.catalogue import Sku, SkuGroup, SkuPackages
from mioesim_async.models.converter import sort_rows, structure, structure_rows
from mioesim_async.models.replies import rows_of

__all__ = ["read_groups", "read_packages", "read_skus"]

PRICE_IDS = frozenset({"priceid", "price_id"})


def read_skus(data: Any) -> tuple[list[Sku], list[ProtocolError]]:
    """Read a list of SKUs, each id once, and what is wrong with rows that can't be used.

    Raises:
        ProtocolError: If it is no list.
    """
    listed = rows_of(data)
    rows, bad = sort_rows(listed, Sku)
    total = data.get("total") if isinstance(data, dict) else None
    if isinstance(total, int) and total > len(listed):
        bad.append(ProtocolError(f"the list has {len(listed)} of {total} SKUs"))
    skus: dict[int, Sku] = {}
    for sku in rows:
        if sku.sku_id is None:
            bad.append(ProtocolError(f"Sku: {sku.display!r} has no skuId"))
        else:
            skus.setdefault(sku.sku_id, sku)
    return list(skus.values()), bad


def read_groups(data: Any) -> list[SkuGroup]:
    """Read SKUs by group, in the vendor's order; the map may be wrapped or bare (assumed).

    Raises:
        ProtocolError: If it is no map of lists.
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
    return [
        SkuGroup(name, structure_rows(rows_of(groups.get(name)), Sku))
        for name in dict.fromkeys([*named, *groups])
    ]


def read_packages(data: Any, sku_id: int) -> SkuPackages:
    """Read the packages of one SKU: an object, a list of one, or no data where it has none.

    A bare list of packages is taken too (assumed).

    Raises:
        ProtocolError: If it is something else, or about another SKU.
    """
    rows = rows_of(data)
    if rows and all(isinstance(row, dict) and _is_package(row) for row in rows):
        rows = [{"skuid": sku_id, "esimPackageDtoList": rows}]
    if not rows:
        return SkuPackages(sku_id)
    if len(rows) > 1:
        raise ProtocolError(f"expected the packages of one SKU, got {len(rows)} rows")
    found = structure(rows[0], SkuPackages)
    if found.sku_id not in (None, sku_id):
        raise ProtocolError("the reply is about another SKU than the one that was asked for")
    found.sku_id = sku_id
    for package in found.packages:
        if package.sku_id is None:
            package.sku_id = sku_id
    return found


def _is_package(row: dict[str, Any]) -> bool:
    return any(key.lower() in PRICE_IDS for key in row)

"""The catalogue out of whatever shape the vendor's ``data`` takes."""

from __future__ import annotations

from typing import Any

from mioesim_async.errors import ProtocolError
from mioesim_async.models.catalogue import Sku, SkuGroup, SkuPackages
from mioesim_async.rows.layout import sort_in_steps, structure_in_steps
from mioesim_async.rows.replies import rows_of
from mioesim_async.slices import Steps

__all__ = ["read_groups", "read_packages", "read_skus"]

PRICE_IDS = frozenset({"priceid", "price_id"})


def read_skus(data: Any) -> Steps[tuple[list[Sku], list[ProtocolError]]]:
    """Read a list of SKUs, each id once, and what is wrong with rows that can't be used.

    Raises:
        ProtocolError: If it is no list.
    """
    listed = rows_of(data)
    rows, bad = yield from sort_in_steps(listed, Sku)
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
    found: list[SkuGroup] = []
    for name in dict.fromkeys([*named, *groups]):
        skus, _ = yield from sort_in_steps(rows_of(groups.get(name)), Sku)
        found.append(SkuGroup(name, skus))
    return found


def read_packages(data: Any, sku_id: int) -> Steps[SkuPackages]:
    """Read the packages of one SKU: an object, a list of one, or no data where it has none.

    A bare list of packages is taken too (assumed).

    Raises:
        ProtocolError: If it is something else, or about another SKU.
    """
    rows = rows_of(data)
    if (yield from _are_packages(rows)):
        rows = [{"skuid": sku_id, "esimPackageDtoList": rows}]
    if not rows:
        return SkuPackages(sku_id)
    if len(rows) > 1:
        raise ProtocolError(f"expected the packages of one SKU, got {len(rows)} rows")
    found = yield from structure_in_steps(rows[0], SkuPackages)
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

"""How the vendor writes orders, their cards, and their usage."""

from __future__ import annotations

from typing import Any

from mioesim_async.sandbox.cards import AccountCards, vendor_time
from mioesim_async.sandbox.catalogue import PLANS, SKUS
from mioesim_async.sandbox.recorded import SandboxOrder

__all__ = ["card_rows", "order_row", "usage_row"]

CARD_FIELDS = ("iccid", "code", "sm_dp_address", "activationCode", "apn", "pdfUrl")


def order_row(order: SandboxOrder) -> dict[str, Any]:
    """Return an order without its cards."""
    return {
        "orderNum": order.order_num,
        "display": order.display,
        "purchaseDate": vendor_time(order.purchased_at),
        "count": order.count,
        "price": float(order.price),
        "status": int(order.status),
        "renewal": order.is_renewal,
        "renew": int(order.is_renewal),
        "mainOrderNum": order.main_order_num,
        "renewOrderNum": order.renewals,
        "priceId": order.price_id,
        "skuId": order.sku_id,
        "startDate": vendor_time(order.starts_at),
        "endDate": vendor_time(order.ends_at),
    }


def card_rows(order: SandboxOrder, cards: AccountCards) -> list[dict[str, Any]]:
    """Return the cards of an order."""
    rows: list[dict[str, Any]] = []
    for iccid in order.iccids:
        detail = cards.detail(iccid)
        row = {name: detail[name] for name in CARD_FIELDS}
        rows.append(row | {"data": order.data, "usedMB": f"{cards.used_mb(iccid, order)}"})
    return rows


def usage_row(order: SandboxOrder, cards: AccountCards, iccids: list[str]) -> dict[str, Any]:
    """Return an order with the plans of these cards; the total (``totle``, sic) is text."""
    plan = PLANS[order.price_id]
    return {
        "orderNum": order.order_num,
        "skuId": order.sku_id,
        "skuName": SKUS[order.sku_id].display,
        "type": 1 if order.dp_id else 0,
        "daypassDay": order.daypass_days or 0,
        "count": order.count,
        "createTime": vendor_time(order.purchased_at),
        "status": int(order.status),
        "totle": f"{order.price}",
        "packageList": [
            {
                "id": number,
                "iccid": iccid,
                "flows": plan.flows,
                "unit": plan.unit,
                "days": order.days,
                "usedMb": cards.used_mb(iccid, order),
                "name": order.display,
                "beginDate": vendor_time(order.starts_at),
                "endDate": vendor_time(order.ends_at),
                "status": int(iccid in order.refunds),
                "priceId": order.price_id,
            }
            for number, iccid in enumerate(iccids, 1)
        ],
    }

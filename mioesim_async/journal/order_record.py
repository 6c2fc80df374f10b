"""Orders as a journal keeps them, without anything that lets somebody use the customer's eSIM."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from mioesim_async.models.orders import Order, OrderCard, OrderStatus
from mioesim_async.models.plain import to_dict

__all__ = ["order_of", "recorded"]

PLAIN = (
    "order_num", "count", "is_renewal", "main_order_num", "other_order_id", "sku_id", "price_id",
)  # fmt: skip


def recorded(order: Order) -> dict[str, Any]:
    """Return an order as JSON-ready data, without activation codes, PDFs and unknown fields."""
    plain = {name: getattr(order, name) for name in PLAIN}
    return plain | {
        "status": to_dict(order.status),
        "price": to_dict(order.price),
        "purchased_at": to_dict(order.purchased_at),
        "iccids": [card.iccid for card in order.cards],
    }


def order_of(kept: dict[str, Any]) -> Order:
    """Return a recorded order; its cards have only their ICCIDs."""
    status, price, moment = (kept.get(name) for name in ("status", "price", "purchased_at"))
    return Order(
        **{name: kept[name] for name in PLAIN if name in kept},
        status=None if status is None else OrderStatus(status),
        price=None if price is None else Decimal(price),
        purchased_at=None if moment is None else datetime.fromisoformat(moment),
        cards=[OrderCard(iccid) for iccid in kept.get("iccids", ())],
        is_recorded=True,
    )

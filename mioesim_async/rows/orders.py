"""How the vendor's rows about orders are read."""

from __future__ import annotations

from typing import Any

from mioesim_async.models.iccid import clean_iccid, names_another
from mioesim_async.models.orders import Order, OrderCard, OrderStatus, OrderUsage, PlanUsage
from mioesim_async.rows import scalars
from mioesim_async.rows.cards import read_activation
from mioesim_async.rows.catalogue import read_size
from mioesim_async.rows.layout import LAYOUTS, Layout, Wire, sort_in_steps, structure_rows
from mioesim_async.slices import Steps
from mioesim_async.wire.depth import cut

__all__: list[str] = []

CARD_LISTS = frozenset(
    {"cardapidtolist", "cardapivolist", "carddtolist", "cardvolist", "cards", "cardlist"}
)

REFERENCES = ("otherorderid", "outerorderid")


def _order_status(value: object) -> OrderStatus | None:
    number = scalars.integer(value)
    return None if number is None else OrderStatus(number)


def _iccid(value: object) -> str | None:
    digits = scalars.digits(value)
    try:
        return None if digits is None else clean_iccid(digits)
    except ValueError:
        # The value may be an activation code in the wrong place, so it is not repeated.
        raise ValueError("expected an ICCID") from None


def _plans(values: dict[str, Any], extra: dict[str, Any]) -> Steps[None]:
    """Read the plans of an order with its usage."""
    rows = extra.get("packageList")
    if isinstance(rows, list):
        del extra["packageList"]
        values["plans"], _ = yield from sort_in_steps(rows, PlanUsage)


def _reference(values: dict[str, Any], extra: dict[str, Any]) -> None:
    """Read our reference. A number in its place is the vendor's own (observed), and is kept."""
    for wanted in REFERENCES:
        for key, value in list(extra.items()):
            if key.replace("_", "").lower() == wanted and isinstance(value, str) and value:
                values["other_order_id"] = value
                del extra[key]
                return


def _cards(values: dict[str, Any], extra: dict[str, Any]) -> Steps[None]:
    """Read all cards of an order; one that can't be read is kept, with its row."""
    cards: list[OrderCard] = []
    known: set[str] = set()
    for name in [name for name in extra if name.replace("_", "").lower() in CARD_LISTS]:
        rows = extra[name]
        if isinstance(rows, dict):
            rows = [_named(iccid, row) for iccid, row in rows.items()]
        if isinstance(rows, list):
            del extra[name]
            for row in rows:
                card = _card(row)
                if card.iccid not in known:
                    cards.append(card)
                    known |= {card.iccid} - {""}
                yield
    values["cards"] = cards


def _named(iccid: str, row: Any) -> Any:
    """Return a row of a map by ICCID; bare text in it is taken for the activation code."""
    if not isinstance(row, dict):
        return {"iccid": iccid, "code": row}
    if not row.get("iccid"):
        return row | {"iccid": iccid}
    # Whose code is in a row that says it is about another card can't be told.
    return [iccid, row] if names_another(row, iccid) else row


def _card(row: Any) -> OrderCard:
    if isinstance(row, str | int):
        row = {"iccid": row}
    cards = structure_rows([row], OrderCard)
    return cards[0] if cards else OrderCard(extra={"unreadable": cut(row)})


ORDER_NUM = Wire(("orderNum",), scalars.text)
STATUS = Wire(("status",), _order_status)

LAYOUTS.update(
    {
        OrderCard: Layout(
            {
                "iccid": Wire(("iccid",), _iccid),
                "pdf_url": Wire(("pdfUrl",), scalars.text),
                "used_mb": Wire(("usedMB",), scalars.number),
            },
            read_activation,
        ),
        # Nothing is strict: money was spent, and an odd field must not lose the order number.
        Order: Layout(
            {
                "order_num": ORDER_NUM,
                "status": STATUS,
                "count": Wire(("count",), scalars.integer),
                "price": Wire(("price",), scalars.decimal),
                "purchased_at": Wire(("purchaseDate", "createTime"), scalars.start_time),
                "is_renewal": Wire(("renewal",), scalars.flag),
                "main_order_num": Wire(("mainOrderNum",), scalars.text),
                "sku_id": Wire(("skuId",), scalars.integer),
                "price_id": Wire(("priceId",), scalars.integer),
            },
            _reference,
            nested=_cards,
        ),
        PlanUsage: Layout(
            {
                "iccid": Wire(("iccid",), _iccid),
                "name": Wire(("name",), scalars.text),
                "price_id": Wire(("priceId",), scalars.integer),
                "status": Wire(("status",), scalars.integer),
                "used_mb": Wire(("usedMB",), scalars.number),
                "days": Wire(("days",), scalars.integer),
                "starts_at": Wire(("beginDate", "startDate"), scalars.start_time),
                "ends_at": Wire(("endDate",), scalars.end_time),
            },
            read_size,
        ),
        OrderUsage: Layout(
            {
                "order_num": ORDER_NUM,
                "sku_id": Wire(("skuId",), scalars.integer),
                "display": Wire(("skuName", "display"), scalars.text),
                "status": STATUS,
                "count": Wire(("count",), scalars.integer),
                "daypass_days": Wire(("daypassDay", "daypassDays"), scalars.integer),
                "price": Wire(("totle", "total", "price"), scalars.decimal),
                "purchased_at": Wire(("createTime", "purchaseDate"), scalars.start_time),
            },
            nested=_plans,
        ),
    }
)

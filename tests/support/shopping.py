"""Buys cards in the sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from mioesim_async import MioEsimClient, Order, Package, errors
from mioesim_async.sandbox import Fault, Sandbox
from mioesim_async.sandbox.orders import _by_ids

PLAN: dict[str, int] = {"sku_id": 45, "price_id": 441}
"""A plan of the sandbox without conditions, such as a first day."""


async def buy(client: MioEsimClient, reference: str | None = None) -> Order:
    """Place an order for one card."""
    return await client.orders.place(**PLAN, count=1, other_order_id=reference)


async def plan(client: MioEsimClient, *, renewable: bool = False) -> Package:
    """Return the plan as the catalogue gives it."""
    sold = await client.catalogue.packages(PLAN["sku_id"])
    return next(
        package
        for package in sold.packages
        if package.price_id == PLAN["price_id"] and (package.is_renewable or not renewable)
    )


async def cancel_after(work: Coroutine[Any, Any, Order], turns: int) -> Order:
    """Run work in a task, and cancel it if it isn't done after so many turns of the loop."""
    task = asyncio.create_task(work)
    for _ in range(turns):
        if task.done():
            break
        await asyncio.sleep(0)
    task.cancel()
    return await task


async def lose(sandbox: Sandbox, client: MioEsimClient, fault: Fault, reference: str) -> None:
    """Place an order whose outcome stays unknown."""
    sandbox.faults.add(fault, "addEsimOrder")
    with pytest.raises(errors.OutcomeUnknown):
        await buy(client, reference)


def fill(sandbox: Sandbox, count: int) -> None:
    """Add so many orders to a sandbox, without any call."""
    for place in range(count):
        params = {"skuId": "45", "priceId": "441", "count": "1", "otherOrderId": f"shop-{place}"}
        sandbox._vendor.orders.place(params, _by_ids)

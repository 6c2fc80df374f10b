"""Places orders with ``client.call``, for tests of the sandbox."""

from __future__ import annotations

from typing import Any

from mioesim_async import MioEsimClient, Safety

JAPAN = {"skuId": 45, "priceId": 441}
DAY_PASS = {"skuId": 45, "priceId": 442, "beginDate": "12/27/2030"}
NOT_RENEWABLE = {"skuId": 45, "priceId": 443}
DAY = 24 * 60 * 60


async def spend(client: MioEsimClient, name: str, **params: Any) -> Any:
    return await client.call(f"/api_esim/{name}", params, safety=Safety.MONEY)


async def read(client: MioEsimClient, name: str, **params: Any) -> Any:
    return await client.call(f"/api_esim/{name}", params)


async def place(client: MioEsimClient, **params: Any) -> Any:
    return await spend(client, "addEsimOrder", **{**JAPAN, "count": 1, "backInfo": 1, **params})


async def renew(client: MioEsimClient, **params: Any) -> Any:
    return await spend(client, "renewCard", **{**JAPAN, "backInfo": 1, **params})

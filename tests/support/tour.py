"""Calls every endpoint at least once over plain HTTP, and returns the replies."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import aiohttp
from plain_caller import Wire

from mioesim_async.sandbox import Sandbox
from mioesim_async.wire.signing import sign

__all__ = ["tour"]

PLAN = {"skuId": "45", "priceId": "441", "count": "1"}
SIMS = ("8988000000000000001", "8988000000000000002")


def _signed(params: dict[str, str], key: str) -> str:
    return sign(params, key, "plain")


async def tour(http: aiohttp.ClientSession, sandbox: Sandbox) -> dict[str, list[Any]]:
    """Return all replies by the last part of the path; no call is refused."""
    caller, seen = Wire(http, sandbox), defaultdict[str, list[Any]](list)

    async def ask(name: str, **params: str) -> Any:
        reply = (
            await caller.read(f"/api_esim/{name}", signer=_signed, method="POST", **params)
        ).json
        assert reply["code"] == 0, (name, params, reply)
        seen[name].append(reply)
        return reply.get("data")

    async def look_at(iccid: str) -> None:
        for name in ("getESIMDetail", "getHistoryDetail"):
            await ask(name, iccid=iccid)
        for name in ("getIccidSupportSku", "getIccidSupportPackageInfo"):
            await ask(name, iccid=iccid)

    async def buy(name: str = "addEsimOrder", **params: str) -> str:
        await ask(name, **params)
        return sandbox.orders[-1].order_num

    seen["login"].append((await caller.login(signer=_signed)).json)
    await ask("getSkus")
    groups = await ask("getSkuByGroup")
    rows = [row for group in groups["data"].values() for row in group]
    for sku in rows:
        await ask("getPackages", skuId=str(sku.get("skuid", sku.get("skuId"))))
    await ask("getPhysicalSIMDpInfo")
    for dp_id, skus in {"11": ("45", "71", "131"), "12": ("12", "102")}.items():
        await ask("getDpSupportSkuInfo", dpId=dp_id)
        for sku_id in skus:
            await ask("getDpSkuSupportPackageInfo", dpId=dp_id, skuid=sku_id)

    await ask("queryIccidInformation", iccids=",".join(sandbox.iccids[:100]))
    for iccid in sandbox.iccids[:12]:
        await look_at(iccid)

    several = await buy(**PLAN | {"count": "6"}, backInfo="1", otherOrderId="shop-1")
    day_pass = {"priceId": "442", "daypassDays": "3", "beginDate": "12/27/2040"}
    await buy(**PLAN | day_pass, backInfo="1", otherOrderId="shop-2")
    await buy(**PLAN, backInfo="0")
    await buy(**PLAN, backInfo="2")
    await buy(**PLAN | {"skuId": "131", "priceId": "445"}, backInfo="1", otherOrderId="shop-3")
    await buy(**PLAN | {"count": "2", "dpId": "11", "iccids": ",".join(SIMS)}, backInfo="1")
    await buy("addEsimOrderByApiCode", apiCode="392-0-7-1-G", count="1", backInfo="1")
    first, second = sandbox.orders[0].iccids[:2]
    for form in ("0", "1", "2"):
        await buy("renewCard", skuId="45", priceId="441", iccid=first, backInfo=form)
    await buy("renewCardByApiCode", apiCode="392-0-7-1-G", orderNum=several, backInfo="1")

    await ask("queryIccidInformation", iccids=",".join(sandbox.iccids[-20:]))
    for iccid in (first, second, *SIMS):
        await look_at(iccid)
    for order in sandbox.orders:
        await ask("getOrderInfo", orderNum=order.order_num)
    await ask("queryOrder", pageSize="100")
    await ask("queryOrder", outerOrderId="nobody's")
    await ask("queryEsimOrder", iccid=first, pageSize="100")
    await ask("queryEsimOrder", orderNum=several)
    await ask("queryEsimOrder", iccid=first, pageNo="99")
    await ask("verifyResource", skuid="45", priceid="441", count="1")
    await ask("handlerEsimPdf", type="link", orderId=several)
    await ask("handlerEsimPdf", type="email", orderId=several, email="user@example.com")
    await ask("refundOrder", orderNum=several, iccids=first)
    await ask("getOrderInfo", orderNum=several)
    return dict(seen)

"""A small server with a catalogue, which tests write in the vendor's JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from attrs import define, field

from mioesim_async import Credentials, MioEsimClient
from mioesim_async.sandbox import SandboxClock

ACCOUNT = Credentials(phone_number="13800000000", password="made-up", secret_key="made-up-key")


def plan(price_id: Any, **fields: Any) -> dict[str, Any]:
    """Return a plan as the vendor writes it."""
    return {"priceid": price_id, "flows": 1, "unit": "GB", "days": 7, "price": 2.5} | fields


@define
class Shop:
    """The server.

    Attributes:
        url: Its URL.
        skus: The ``data`` of ``getSkus``.
        packages: The ``data`` of ``getPackages`` by SKU; a number is a code that refuses
            the call, and a ``web.Response`` is sent as it is.
        asked: Paths and SKUs that were asked for, in order.
        held: SKUs that are answered only when ``release`` is set; None stands for ``getSkus``.
        clock: The clients' clock.
        most: The most calls that were under way at once.
        under_way: How many calls are under way now.
    """

    url: str = ""
    skus: Any = None
    packages: dict[int, Any] = field(factory=dict)
    asked: list[str] = field(factory=list)
    held: set[int | None] = field(factory=set)
    release: asyncio.Event = field(factory=asyncio.Event)
    clock: SandboxClock = field(factory=lambda: SandboxClock(skip_sleeps=True))
    most: int = 0
    under_way: int = 0

    def stock(self, count: int, plans: int = 2) -> None:
        """Set the catalogue to so many SKUs, numbered from 1."""
        self.skus = [
            {"skuid": n, "display": f"SKU {n}", "countryCode": "392"} for n in range(1, count + 1)
        ]
        for n in range(1, count + 1):
            rows = [plan(100 * n + p, price=0.1 * p) for p in range(plans)]
            self.packages[n] = {"skuid": n, "supportCountry": ["Japan"], "esimPackageDtoList": rows}

    def client(self, **options: Any) -> MioEsimClient:
        """Return a client of this shop."""
        return MioEsimClient(ACCOUNT, base_url=self.url, clock=self.clock, **options)

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one call."""
        name = request.path.rpartition("/")[2]
        if name == "login":
            return _json({"code": 1, "data": {"token": "1-MADEUP"}})
        sku_id = int(request.query["skuId"]) if name == "getPackages" else None
        self.asked.append(name if sku_id is None else f"{name} {sku_id}")
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if sku_id in self.held:
                await self.release.wait()
            data = self.skus if sku_id is None else self.packages.get(sku_id)
        finally:
            self.under_way -= 1
        if isinstance(data, web.Response):
            return web.Response(status=data.status, body=data.body)
        if type(data) is int:
            return _json({"code": data, "message": "refused"})
        return _json({"code": 0, "message": "success", "data": data})


def _json(reply: dict[str, Any]) -> web.Response:
    return web.Response(text=json.dumps(reply), content_type="application/json")


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    """A shop with an empty catalogue."""
    running = Shop()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", running.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    running.url = f"http://{host}:{port}"
    yield running
    running.release.set()
    await runner.cleanup()

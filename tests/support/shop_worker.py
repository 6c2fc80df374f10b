"""A worker of a shop: it buys what it is asked for over HTTP."""

from __future__ import annotations

import asyncio
import os
import sys

from aiohttp import web

from mioesim_async import MioEsimClient, PostgresOrderJournal, SharedRateLimit, Timeouts, errors

MONEY_SECONDS = 30.0


async def main(address: str, database: str, schema: str) -> None:
    """Serve at a free port of an address, and print it, until standard input ends."""
    journal = PostgresOrderJournal(database, schema=schema)
    limit = SharedRateLimit(os.environ["MIOESIM_TOKEN_STORE"], per_second=500, alone_per_second=100)
    async with MioEsimClient.from_env(
        order_journal=journal, rate_limit=limit, timeouts=Timeouts(money=MONEY_SECONDS)
    ) as client:
        await client.login()

        async def buy(request: web.Request) -> web.Response:
            asked = request.query
            try:
                order = await client.orders.place(
                    sku_id=int(asked["sku_id"]),
                    price_id=int(asked["price_id"]),
                    count=1,
                    other_order_id=asked["reference"],
                )
            except errors.MioEsimError as error:
                return web.json_response({"error": errors.to_dict(error)})
            iccids = [card.iccid for card in order.cards]
            bought = {"order_num": order.order_num, "iccids": iccids}
            return web.json_response({"order": bought})

        async def health(_: web.Request) -> web.Response:
            now = client.health()
            return web.json_response({"in_flight": now.in_flight, "store": now.store_is_up})

        app = web.Application()
        app.add_routes([web.post("/buy", buy), web.get("/health", health)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, address, 0).start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await runner.cleanup()
    await journal.aclose()

"""How long ``orders.reconcile`` takes for many open entries beside many other orders.

Half of the entries were placed and their answers lost; the requests of the other half were lost.
The sandbox runs in a thread of the same process, so the figures include its work. Each way in
which a sandbox can search (``SEARCHES``) is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from mioesim_async import MioEsimClient, OrderJournal, errors
from mioesim_async.sandbox import Fault, Sandbox
from mioesim_async.sandbox.orders import SEARCHES

PLAN = {"sku_id": 45, "price_id": 441}
AT_ONCE = 16


async def measure(search: str, entries: int, orders: int, folder: Path) -> None:
    journal = OrderJournal(folder / f"{search}.db")
    with Sandbox(10, search=search, record=True) as sandbox:
        async with (
            MioEsimClient(sandbox.credentials, base_url=sandbox.url) as elsewhere,
            MioEsimClient(
                sandbox.credentials, base_url=sandbox.url, order_journal=journal
            ) as client,
        ):
            await elsewhere.login()
            slots = asyncio.Semaphore(AT_ONCE)

            async def place(client: MioEsimClient, reference: str) -> None:
                async with slots:
                    await client.orders.place(**PLAN, count=1, other_order_id=reference)

            await asyncio.gather(*(place(elsewhere, f"other-{n}") for n in range(orders)))
            for number in range(entries):
                lost = Fault.lose_reply() if number % 2 else Fault.lose_request()
                sandbox.faults.add(lost, "addEsimOrder")
                try:
                    await place(client, f"lost-{number}")
                except errors.OutcomeUnknown:
                    continue
            sandbox.requests.clear()
            began = time.perf_counter()
            report = await client.orders.reconcile()
            took = time.perf_counter() - began
            asked = sum(seen.endpoint == "queryOrder" for seen in sandbox.requests)
            print(
                f"{search:<20} {took:6.2f} s {asked:>9,} searches {len(report.adopted):>4} adopted"
                f" {len(report.still_open):>4} open"
            )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=60)
    parser.add_argument("--orders", type=int, default=999)
    arguments = parser.parse_args()
    print(f"{arguments.entries} open entries beside {arguments.orders} other orders")
    with tempfile.TemporaryDirectory() as folder:
        for search in SEARCHES:
            await measure(search, arguments.entries, arguments.orders, Path(folder))


if __name__ == "__main__":
    asyncio.run(main())

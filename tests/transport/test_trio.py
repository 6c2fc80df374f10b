"""Under trio every public coroutine says at once that the client works on asyncio only."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable
from datetime import date
from typing import Any

import pytest
import trio
from waiting import SECONDS

from mioesim_async import (
    MioEsimClient,
    OrderJournal,
    OrderLine,
    RenewalLine,
    SessionManager,
    errors,
    fan_out,
)
from mioesim_async.sandbox import Sandbox

ICCID = "8985000000000000000"


async def first_of(stream: AsyncIterator[Any]) -> Any:
    return await anext(stream)


CALLS: dict[str, Callable[[MioEsimClient], Any]] = {
    "login": lambda client: client.login(),
    "call": lambda client: client.call("/api_esim/getSkus"),
    "cards.query": lambda client: client.cards.query([ICCID]),
    "cards.query_many": lambda client: first_of(client.cards.query_many([ICCID])),
    "cards.query_all": lambda client: client.cards.query_all([ICCID]),
    "cards.detail": lambda client: client.cards.detail(ICCID),
    "cards.details": lambda client: first_of(client.cards.details([ICCID])),
    "cards.history": lambda client: client.cards.history(ICCID),
    "cards.renewal_skus": lambda client: client.cards.renewal_skus(ICCID),
    "cards.renewal_packages": lambda client: client.cards.renewal_packages(ICCID),
    "catalogue.skus": lambda client: client.catalogue.skus(),
    "catalogue.sku_groups": lambda client: client.catalogue.sku_groups(),
    "catalogue.packages": lambda client: client.catalogue.packages(45),
    "catalogue.crawl": lambda client: first_of(client.catalogue.crawl()),
    "partners.list": lambda client: client.partners.list(),
    "partners.skus": lambda client: client.partners.skus(1),
    "partners.packages": lambda client: client.partners.packages(1, 45),
    "orders.place": lambda client: client.orders.place(sku_id=45, price_id=441, count=1),
    "orders.place_by_api_code": lambda client: client.orders.place_by_api_code(
        api_code="392-0-7-1-G", count=1
    ),
    "orders.renew": lambda client: client.orders.renew(sku_id=45, price_id=441, iccid=ICCID),
    "orders.renew_by_api_code": lambda client: client.orders.renew_by_api_code(
        api_code="392-0-7-1-G", iccid=ICCID
    ),
    "orders.place_many": lambda client: first_of(
        client.orders.place_many(
            [
                OrderLine(sku_id=45, price_id=441, count=1, other_order_id="one"),
                RenewalLine(sku_id=45, price_id=441, iccid=ICCID, other_order_id="two"),
            ],
            max_spend=None,
        )
    ),
    "ping": lambda client: client.ping(),
    "orders.resolve": lambda client: client.orders.resolve("one"),
    "orders.get": lambda client: client.orders.get("EP1"),
    "orders.plan": lambda client: client.orders.plan(
        [OrderLine(sku_id=45, price_id=441, count=1, other_order_id="one")]
    ),
    "orders.cancel": lambda client: client.orders.cancel("EP1", [ICCID]),
    "orders.pdf_links": lambda client: client.orders.pdf_links("EP1"),
    "orders.email_pdf": lambda client: client.orders.email_pdf("EP1", "user@example.com"),
    "orders.check_stock": lambda client: client.orders.check_stock(
        sku_id=45, price_id=441, count=1
    ),
    "orders.search": lambda client: client.orders.search(start=date(2026, 1, 1)),
    "orders.search, streamed": lambda client: first_of(
        aiter(client.orders.search(start=date(2026, 1, 1)))
    ),
    "orders.usage": lambda client: client.orders.usage(iccid=ICCID),
    "orders.reconcile": lambda client: client.orders.reconcile(),
    "orders.open_entries": lambda client: client.orders.open_entries(),
    "orders.entry_of": lambda client: client.orders.entry_of("one"),
    "orders.entry_of_order": lambda client: client.orders.entry_of_order("EP1"),
    "fan_out": lambda _: first_of(fan_out([1], asyncio.sleep)),  # type: ignore[arg-type]
}
STREAMS = {"query_many", "details", "crawl", "place_many", "search"}


def under_trio(work: Callable[[], Any]) -> None:
    """Run something under trio, in a thread of its own."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            trio.run(work)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(SECONDS)
    assert not thread.is_alive()
    for failure in failures:
        raise failure


async def check_refusal(call: Callable[[MioEsimClient], Any], client: MioEsimClient) -> None:
    with pytest.raises(errors.WrongLoop, match="asyncio only"):
        await call(client)


@pytest.mark.parametrize("name", CALLS)
def test_a_public_coroutine_under_trio_is_a_wrong_loop(name: str, journal: OrderJournal) -> None:
    sandbox = Sandbox()

    async def main() -> None:
        async with MioEsimClient(
            sandbox.credentials, base_url="http://127.0.0.1:1", order_journal=journal
        ) as client:
            await check_refusal(CALLS[name], client)

    under_trio(main)


def test_every_public_coroutine_of_the_client_is_in_the_list() -> None:
    client = MioEsimClient(Sandbox().credentials)
    names = {
        f"{prefix}{name}"
        for prefix, owner in (
            ("", client),
            ("cards.", client.cards),
            ("catalogue.", client.catalogue),
            ("partners.", client.partners),
            ("orders.", client.orders),
        )
        for name, method in inspect.getmembers(owner, callable)
        if not name.startswith("_") and (inspect.iscoroutinefunction(method) or name in STREAMS)
    }
    closing = {name for name in names if name.endswith("aclose")}
    assert names - closing == set(CALLS) - {"fan_out", "orders.search, streamed"}


async def test_a_client_that_was_used_on_asyncio_is_not_closed_under_trio(
    sandbox: Sandbox,
) -> None:
    manager = SessionManager()
    async with sandbox.client(session_manager=manager) as client:
        await client.cards.query(sandbox.iccids[0])

        async def main() -> None:
            await check_refusal(lambda client: client.aclose(), client)
            await check_refusal(lambda _: manager.aclose(), client)
            await check_refusal(CALLS["login"], client)

        await asyncio.to_thread(under_trio, main)
        assert len(await client.cards.query(sandbox.iccids[0])) == 1, "it is open as before"
    await manager.aclose()
    await asyncio.to_thread(under_trio, client.aclose)
    await asyncio.to_thread(under_trio, manager.aclose)


def test_a_trio_that_is_a_guest_of_asyncio_is_told_the_same() -> None:
    client = MioEsimClient(Sandbox().credentials, base_url="http://127.0.0.1:1")

    async def guest() -> None:
        await check_refusal(CALLS["login"], client)

    async def host() -> None:
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        outcomes: list[Any] = []

        def ended(outcome: Any) -> None:
            outcomes.append(outcome)
            done.set()

        trio.lowlevel.start_guest_run(
            guest, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=ended
        )
        async with asyncio.timeout(SECONDS):
            await done.wait()
        outcomes[0].unwrap()

    thread = threading.Thread(target=lambda: failures.append(_failure_of(host)), daemon=True)
    failures: list[BaseException | None] = []
    thread.start()
    thread.join(SECONDS)
    assert failures == [None]


def _failure_of(main: Callable[[], Any]) -> BaseException | None:
    try:
        asyncio.run(main())
    except BaseException as error:
        return error
    return None

"""What the client reads of an odd sandbox is what it reads of a usual one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import attrs
import pytest

from mioesim_async import MioEsimClient, OrderJournal, errors
from mioesim_async.cli import sandbox
from mioesim_async.cli.running import run
from mioesim_async.sandbox import Fault, Sandbox, SandboxClock
from mioesim_async.sandbox.catalogue import PARTNERS, PLANS_ON_SALE, SKUS

Read = Callable[[MioEsimClient], Awaitable[Any]]

CARDS = 200
SIMS = ["8988000000000000001", "8988000000000000002"]


class StoppedClock(SandboxClock):
    """A clock that stands still, so that two sandboxes are asked at the same moment."""

    def time(self) -> float:
        return 1_900_000_000.0


async def both(read: Read) -> tuple[Any, Any]:
    """Return what a usual and an odd sandbox with the same cards give."""
    clock, found = StoppedClock(), []
    for odd in (False, True):
        async with Sandbox(CARDS, clock=clock, odd=odd) as sandbox, sandbox.client() as client:
            found.append(meaning(await read(client)))
    return found[0], found[1]


def meaning(model: Any) -> Any:
    """Return what a model says: all but ``extra``, and times to the second.

    The end of a day comes as its last second, or as the day alone, of which the last
    microsecond is read.
    """
    if attrs.has(type(model)):
        fields = [field.name for field in attrs.fields(type(model)) if field.name != "extra"]
        values = {name: meaning(getattr(model, name)) for name in fields}
        return values | {"model": type(model)}
    if isinstance(model, list | tuple):
        return [meaning(item) for item in model]
    if isinstance(model, dict):
        return {key: meaning(value) for key, value in model.items()}
    return model.replace(microsecond=0) if isinstance(model, datetime) else model


async def test_skus_groups_and_partners_are_the_same() -> None:
    async def read(client: MioEsimClient) -> Any:
        partners = await client.partners.list()
        skus = [await client.partners.skus(dp_id) for dp_id in PARTNERS]
        return await client.catalogue.skus(), await client.catalogue.sku_groups(), partners, skus

    usual, odd = await both(read)
    assert usual == odd
    assert len(usual[0]) == len(SKUS)


async def test_plans_are_the_same_but_for_an_api_code_that_is_missing() -> None:
    async def read(client: MioEsimClient) -> Any:
        own = [await client.catalogue.packages(sku_id) for sku_id in SKUS]
        return own + [
            await client.partners.packages(dp_id, sku_id)
            for dp_id, (_, skus) in PARTNERS.items()
            for sku_id in skus
        ]

    found = await both(read)
    usual, odd = ([plan for sku in skus for plan in sku["packages"]] for skus in found)
    missing = [plan for plan in odd if plan["api_code"] is None]
    assert {plan["price_id"] for plan in missing} == {445}
    for plan in usual:
        if plan["price_id"] == 445:
            plan["api_code"] = None
    assert found[0] == found[1]
    assert len(usual) > len(PLANS_ON_SALE)


async def test_a_price_from_text_and_one_from_a_number_have_no_noise() -> None:
    async def read(client: MioEsimClient) -> Any:
        return [await client.catalogue.packages(sku_id) for sku_id in SKUS]

    written = {plan.price_id: Decimal(str(plan.price)) for _, plan in PLANS_ON_SALE}
    for skus in await both(read):
        for plan in (plan for sku in skus for plan in sku["packages"]):
            assert type(plan["price"]) is type(plan["open_card_fee"]) is Decimal
            assert plan["price"] == written[plan["price_id"]]
            assert len(str(plan["price"])) <= len("12.1")


async def test_cards_and_all_that_is_told_of_them_are_the_same() -> None:
    async def read(client: MioEsimClient) -> Any:
        iccids = Sandbox(CARDS).iccids
        report = await client.cards.query_all(iccids)
        assert (report.missing, report.failed) == ([], {})
        cards = client.cards
        calls = (cards.detail, cards.history, cards.renewal_skus, cards.renewal_packages)
        return report.cards, [[await call(iccid) for call in calls] for iccid in iccids[:24]]

    usual, odd = await both(read)
    assert usual == odd
    assert all(card["used_mb"] is not None and card["ends_at"] for card in usual[0].values())
    assert all(detail["activation"] is not None for detail, *_ in usual[1])


async def buy(client: MioEsimClient) -> list[Any]:
    """Buy in every form, and return the orders."""
    orders, plan = client.orders, {"sku_id": 45, "price_id": 441}
    several = await orders.place(**plan, count=6, other_order_id="shop-1")
    first = several.cards[0].iccid
    return [
        several,
        await orders.place(sku_id=131, price_id=445, count=1, other_order_id="shop-2"),
        await orders.place(**plan, count=2, dp_id=11, iccids=SIMS, other_order_id="shop-3"),
        await orders.place_by_api_code(api_code="392-0-7-1-G", count=1, other_order_id="shop-4"),
        await orders.renew(**plan, iccid=first, other_order_id="shop-5"),
        await orders.renew_by_api_code(
            api_code="392-0-7-1-G", order_num=several.order_num, other_order_id="shop-6"
        ),
    ]


async def test_orders_are_the_same_when_placed_read_and_searched() -> None:
    async def read(client: MioEsimClient) -> Any:
        placed = await buy(client)
        again = [await client.orders.get(order.order_num) for order in placed]
        day = placed[0].purchased_at.date()
        return placed, again, await client.orders.search(start=day, end=day)

    usual, odd = await both(read)
    assert usual == odd
    placed, _, found = usual
    references = [order["other_order_id"] for order in reversed(found)]
    assert references == [f"shop-{n}" for n in range(1, 7)]
    has_code = [[card["activation"] is not None for card in order["cards"]] for order in placed]
    esims, sims = [True] * 6, [False] * 2
    assert has_code == [esims, [True], sims, [True], [True], esims]


async def test_usage_is_the_same_and_begins_on_the_same_day() -> None:
    async def read(client: MioEsimClient) -> Any:
        several, *_ = await buy(client)
        iccid = several.cards[0].iccid
        nothing = await client.orders.usage(iccid=iccid, page=99)
        used = await client.orders.usage(iccid=iccid)
        return used, await client.orders.usage(order_num=several.order_num), nothing

    pages = await both(read)
    for page in (page for found in pages for page in found):
        for order in page["rows"]:
            for plan in order["plans"]:
                # An odd row says the day alone.
                plan["starts_at"] = plan["starts_at"].date()
    assert pages[0] == pages[1]
    assert [len(page["rows"]) for page in pages[0]] == [3, 1, 0]


async def test_what_answers_with_no_data_works_with_any() -> None:
    async def read(client: MioEsimClient) -> Any:
        several, *_ = await buy(client)
        number, iccids = several.order_num, [card.iccid for card in several.cards]
        mailed = await client.orders.email_pdf(number, "user@example.com")
        links = await client.orders.pdf_links(number)
        stock = await client.orders.check_stock(sku_id=45, price_id=441, count=1)
        await client.orders.cancel(number, iccids[:1])
        return mailed, links, stock, (await client.orders.get(number)).status

    usual, odd = await both(read)
    assert usual == odd
    assert (len(usual[1]), usual[2], usual[3]) == (6, True, 7)


@pytest.mark.parametrize("text_codes", [False, True])
async def test_an_odd_sandbox_refuses_as_a_usual_one(text_codes: bool) -> None:
    async with Sandbox(1, odd=True, text_codes=text_codes) as sandbox, sandbox.client() as client:
        with pytest.raises(errors.NotFound) as caught:
            await client.catalogue.packages(999)
        assert (caught.value.code, caught.value.message) == (3, "no such SKU")
        assert caught.value.data is None


async def test_a_reference_is_found_again_after_its_reply_was_lost(journal: OrderJournal) -> None:
    """An odd row spells the field of the reference in one of two ways."""
    async with Sandbox(1, odd=True) as sandbox, sandbox.client(order_journal=journal) as client:
        for number in range(4):
            sandbox.faults.add(Fault.lose_reply(), "addEsimOrder")
            with pytest.raises(errors.OutcomeUnknown):
                await client.orders.place(
                    sku_id=45, price_id=441, count=1, other_order_id=f"shop-{number}"
                )
        report = await client.orders.reconcile()
        assert [order.order_num for order in report.adopted] == [
            order.order_num for order in sandbox.orders
        ]


# The command.


@pytest.mark.parametrize(("arguments", "note"), [((), ""), (("--odd",), None)])
def test_the_command_runs_an_odd_sandbox_where_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], note: str | None
) -> None:
    notes: list[str | None] = []

    async def look(sandbox: Sandbox, *, control: bool) -> int:
        assert not control
        async with sandbox, sandbox.client() as client:
            groups = await client.call("/api_esim/getSkuByGroup")
            notes.append(groups["data"]["Oceania"][0]["note"])
        return 0

    monkeypatch.setattr(sandbox, "_serve", look)
    monkeypatch.setattr(sandbox, "guarded", lambda work, debug: asyncio.run(work()))
    assert run(["sandbox", *arguments]) == 0
    assert notes == [note]

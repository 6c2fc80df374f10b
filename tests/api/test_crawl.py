"""A crawl through the whole catalogue: nothing dropped, and it knows when it saw everything."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest
from aiohttp import web
from shop import Shop, plan, shop
from turning import slow_steps
from waiting import until

from mioesim_async import CrawlStats, SkuOutcome, errors
from mioesim_async.api.catalogue import CatalogueCrawl

__all__ = ["shop"]


async def everything(crawl: CatalogueCrawl) -> dict[int | None, SkuOutcome]:
    async with crawl:
        return {outcome.sku.sku_id: outcome async for outcome in crawl}


async def test_a_crawl_sees_every_sku_and_every_package(shop: Shop) -> None:
    shop.stock(170, plans=3)
    async with shop.client() as client:
        crawl = client.catalogue.crawl()
        outcomes = await everything(crawl)
    assert sorted(outcomes) == list(range(1, 171))  # type: ignore[type-var]
    assert crawl.stats == CrawlStats(listed=170, skus=170, packages=510, is_complete=True)
    assert shop.asked.count("getSkus") == 1
    assert len(shop.asked) == 171
    packages = outcomes[7].packages
    assert packages is not None
    assert [str(package.price) for package in packages.packages] == ["0.0", "0.1", "0.2"]
    assert packages.packages[0].coverage == packages.coverage == ["JP"]


async def test_nothing_is_asked_before_the_first_outcome_is(shop: Shop) -> None:
    shop.stock(3)
    async with shop.client() as client:
        async with client.catalogue.crawl() as crawl:
            await asyncio.sleep(0)
        assert crawl.stats == CrawlStats()
        assert shop.asked == []


@pytest.mark.parametrize("concurrency", [1, 3, 8])
async def test_a_crawl_uses_its_concurrency_and_keeps_to_it(shop: Shop, concurrency: int) -> None:
    shop.stock(20)
    shop.held = set(shop.packages)
    async with shop.client() as client:
        crawl = asyncio.create_task(everything(client.catalogue.crawl(concurrency=concurrency)))
        await until(lambda: shop.under_way == concurrency)
        shop.release.set()
        assert len(await crawl) == 20
    assert shop.most == concurrency


@pytest.mark.parametrize(
    "data",
    [
        None, "", [], {}, {"skuid": 2, "esimPackageDtoList": None},
        {"skuid": 2, "note": None, "esimPackageVoList": []},
    ],
)  # fmt: skip
async def test_a_sku_without_plans_is_reported_and_leaves_the_crawl_complete(
    shop: Shop, data: Any
) -> None:
    shop.stock(3)
    shop.packages[2] = data
    async with shop.client() as client:
        crawl = client.catalogue.crawl()
        outcomes = await everything(crawl)
    assert outcomes[2].packages is not None
    assert (outcomes[2].packages.sku_id, outcomes[2].packages.packages) == (2, [])
    assert outcomes[2].error is None
    stats = crawl.stats
    assert (stats.without_plans, stats.packages, stats.is_complete) == (1, 4, True)


async def test_a_broken_plan_is_reported_and_not_fatal_but_the_crawl_isn_t_complete(
    shop: Shop,
) -> None:
    shop.stock(3)
    broken = plan(7, price="a lot")
    shop.packages[2]["esimPackageDtoList"] = [plan(6), broken, None, plan(8)]
    async with shop.client() as client:
        crawl = client.catalogue.crawl()
        outcomes = await everything(crawl)
    two = outcomes[2]
    assert two.packages is not None
    assert [package.price_id for package in two.packages.packages] == [6, 8]
    assert ["'price'" in str(fault) for fault in two.bad_rows] == [True, False]
    assert "row 1" in two.bad_rows[0].__notes__[0]
    assert two.bad_rows[0].endpoint == "/api_esim/getPackages"
    stats = crawl.stats
    assert (stats.skus, stats.bad_rows, stats.failed, stats.is_complete) == (3, 2, 0, False)


@pytest.mark.parametrize("rows", ["none today", {"a": 1}, 5])
async def test_plans_that_are_no_list_are_reported_and_not_taken_for_none(
    shop: Shop, rows: Any
) -> None:
    shop.stock(2)
    shop.packages[2]["esimPackageDtoList"] = rows
    async with shop.client() as client:
        crawl = client.catalogue.crawl()
        (fault,) = (await everything(crawl))[2].bad_rows
    assert "expected a list" in str(fault)
    assert (crawl.stats.without_plans, crawl.stats.is_complete) == (0, False)


@pytest.mark.parametrize("row", [{"skuid": "x"}, {"display": "No id", "note": None}, None, "45"])
async def test_a_broken_row_of_the_list_is_reported_and_the_others_are_crawled(
    shop: Shop, row: Any
) -> None:
    shop.stock(3)
    shop.skus.insert(1, row)
    async with shop.client() as client:
        crawl = client.catalogue.crawl()
        assert sorted(await everything(crawl)) == [1, 2, 3]  # type: ignore[type-var]
    (fault,) = crawl.stats.bad_skus
    assert fault.endpoint == "/api_esim/getSkus"
    assert (crawl.stats.bad_rows, crawl.stats.is_complete) == (1, False)


async def test_a_sku_that_is_listed_twice_is_asked_once(shop: Shop) -> None:
    shop.stock(3)
    shop.skus.append({"skuId": "2", "display": "again"})
    async with shop.client() as client:
        crawl = client.catalogue.crawl()
        assert len(await everything(crawl)) == 3
    assert crawl.stats.is_complete
    assert shop.asked.count("getPackages 2") == 1


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (-3, errors.NotFound),
        ({"skuid": 99, "esimPackageDtoList": [plan(1)]}, errors.ProtocolError),
        ("no plans", errors.ProtocolError),
        ([{"skuid": 2}, {"skuid": 2}], errors.ProtocolError),
        (web.Response(status=404), errors.HttpStatusError),
        (web.Response(status=503), errors.HttpStatusError),
    ],
)
async def test_a_sku_that_fails_is_reported_and_the_others_are_crawled(
    shop: Shop, data: Any, kind: type[errors.MioEsimError]
) -> None:
    shop.stock(12)
    shop.packages[2] = data
    async with shop.client() as client:
        crawl = client.catalogue.crawl(concurrency=2)
        outcomes = await everything(crawl)
    assert len(outcomes) == 12
    assert isinstance(outcomes[2].error, kind)
    assert outcomes[2].error.endpoint == "/api_esim/getPackages"
    assert outcomes[2].packages is None
    assert outcomes[2].bad_rows == []
    stats = crawl.stats
    assert (stats.skus, stats.failed, stats.packages, stats.is_complete) == (12, 1, 22, False)


@pytest.mark.parametrize("concurrency", [1, 2, 3, 4])
async def test_a_sku_that_the_host_can_t_stand_never_ends_a_crawl(
    shop: Shop, concurrency: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_steps(monkeypatch)
    shop.stock(12)
    shop.packages[2] = web.Response(status=503)
    async with shop.client() as client:
        outcomes = await everything(client.catalogue.crawl(concurrency=concurrency))
    assert len(outcomes) == 12
    assert [number for number, one in outcomes.items() if one.error] == [2]


async def test_a_host_that_is_down_for_a_while_costs_that_while_and_no_sku(shop: Shop) -> None:
    shop.stock(12)
    answers, shop.packages = shop.packages, {}
    shop.packages = dict.fromkeys(answers, web.Response(status=503))
    shop.packages[1] = answers[1]
    async with shop.client() as client:
        crawl = client.catalogue.crawl(concurrency=1)
        async with crawl:
            outcomes = [await anext(crawl)]
            waits = len(shop.clock.slept)
            rest = asyncio.create_task(_rest(crawl))
            await until(lambda: len(shop.clock.slept) > waits + 3)
            shop.packages = answers
            outcomes += await rest
    assert crawl.stats.is_complete
    assert len(outcomes) == 12


async def _rest(crawl: CatalogueCrawl) -> list[SkuOutcome]:
    return [outcome async for outcome in crawl]


@pytest.mark.parametrize("skus", [None, [], {}])
async def test_an_empty_catalogue_is_never_complete(shop: Shop, skus: Any) -> None:
    shop.skus = skus
    async with shop.client() as client:
        crawl = client.catalogue.crawl()
        assert await everything(crawl) == {}
    assert not crawl.stats.is_complete


async def test_a_catalogue_without_a_single_package_is_never_complete(shop: Shop) -> None:
    shop.stock(3, plans=0)
    async with shop.client() as client:
        crawl = client.catalogue.crawl()
        await everything(crawl)
    assert (crawl.stats.without_plans, crawl.stats.is_complete) == (3, False)


@pytest.mark.parametrize(
    ("skus", "kind"), [("closed", errors.ProtocolError), (-30, errors.SignatureError)]
)
async def test_a_list_that_can_t_be_had_is_raised_with_the_tally(
    shop: Shop, skus: Any, kind: type[errors.MioEsimError]
) -> None:
    shop.skus = skus
    async with shop.client() as client:
        crawl = client.catalogue.crawl()
        with pytest.raises(kind) as caught:
            await everything(crawl)
        assert caught.value.endpoint == "/api_esim/getSkus"
        assert caught.value.tally == CrawlStats() == crawl.stats
        assert "ended early" in caught.value.__notes__[0]
        with pytest.raises(StopAsyncIteration):
            await anext(crawl)
        assert not crawl.stats.is_complete


async def test_one_wrong_signature_belongs_to_its_sku(shop: Shop) -> None:
    shop.stock(20)
    shop.packages[1] = -30
    async with shop.client() as client:
        crawl = client.catalogue.crawl(concurrency=1)
        outcomes = await everything(crawl)
    failed = [type(outcome.error) for outcome in outcomes.values() if outcome.error]
    assert failed == [errors.SignatureError]
    assert (len(outcomes), crawl.stats.is_complete) == (20, False)


async def test_an_error_that_no_sku_survives_ends_the_crawl_incomplete(shop: Shop) -> None:
    shop.stock(20)
    shop.packages = dict.fromkeys(shop.packages, -30)
    async with shop.client() as client:
        crawl = client.catalogue.crawl(concurrency=1)
        with pytest.raises(errors.SignatureError) as caught:
            await everything(crawl)
    assert (caught.value.tally.listed, crawl.stats.is_complete) == (20, False)


async def test_a_crawl_is_not_complete_before_its_end_nor_after_leaving_early(shop: Shop) -> None:
    shop.stock(5)
    async with shop.client() as client:
        async with client.catalogue.crawl() as crawl:
            for _ in range(5):
                await anext(crawl)
                assert not crawl.stats.is_complete
            with pytest.raises(StopAsyncIteration):
                await anext(crawl)
            assert crawl.stats.is_complete
        async with client.catalogue.crawl() as crawl:
            await anext(crawl)
        with pytest.raises(StopAsyncIteration):
            await anext(crawl)
        assert not crawl.stats.is_complete
        assert (crawl.stats.listed, crawl.stats.skus) == (5, 1)


@pytest.mark.parametrize("held", [None, 3])
async def test_closing_the_client_ends_a_crawl_and_tells_who_consumes_it(
    shop: Shop, held: int | None
) -> None:
    shop.stock(5)
    shop.held = {held}
    client = shop.client()
    crawl = client.catalogue.crawl()
    consumer = asyncio.create_task(everything(crawl))
    await until(lambda: ("getSkus" if held is None else f"getPackages {held}") in shop.asked)
    await client.aclose()
    with pytest.raises(errors.ClientClosed):
        await consumer
    assert not crawl.stats.is_complete
    assert client.catalogue._running == set()


@pytest.mark.parametrize("held", [None, 3])
async def test_a_crawl_that_is_cancelled_leaves_nothing_behind(
    shop: Shop, held: int | None
) -> None:
    shop.stock(5)
    shop.held = {held}
    async with shop.client() as client:
        crawl = client.catalogue.crawl()
        consumer = asyncio.create_task(everything(crawl))
        await until(lambda: ("getSkus" if held is None else f"getPackages {held}") in shop.asked)
        consumer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await consumer
        assert not crawl.stats.is_complete
        assert client.catalogue._running == set()
        assert (await client.catalogue.packages(1)).packages


@pytest.mark.parametrize(
    "arguments", [{"concurrency": 0}, {"concurrency": 1.5}, {"deadline": 0}, {"deadline": "1"}]
)
async def test_arguments_that_can_t_work_are_refused_at_once(
    shop: Shop, arguments: dict[str, Any]
) -> None:
    async with shop.client() as client:
        with pytest.raises(errors.InvalidRequest, match=next(iter(arguments))):
            client.catalogue.crawl(**arguments)


async def test_outcomes_and_counts_survive_pickle(shop: Shop) -> None:
    shop.stock(1)
    async with shop.client() as client:
        crawl = client.catalogue.crawl()
        (outcome,) = (await everything(crawl)).values()
    assert pickle.loads(pickle.dumps(outcome)) == outcome
    assert pickle.loads(pickle.dumps(crawl.stats)) == crawl.stats

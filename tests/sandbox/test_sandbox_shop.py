"""The sandbox's catalogue has what the vendor's has, odd names and codes included."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from mioesim_async import MioEsimClient, errors
from mioesim_async.models.catalogue import SkuPackages
from mioesim_async.rows.layout import read_row
from mioesim_async.sandbox import Sandbox


async def ask(client: MioEsimClient, name: str, **params: Any) -> Any:
    return await client.call(f"/api_esim/{name}", params)


async def all_plans(client: MioEsimClient) -> list[tuple[int, dict[str, Any]]]:
    skus = [row["skuid"] for row in await ask(client, "getSkus")]
    found = [(sku, await ask(client, "getPackages", skuId=sku)) for sku in skus]
    return [(sku, plan) for sku, data in found if data for plan in data["esimPackageDtoList"]]


async def test_the_names_and_codes_are_as_odd_as_the_vendors(client: MioEsimClient) -> None:
    rows = await ask(client, "getSkus")
    assert len(rows) >= 12
    assert {type(row["skuid"]) for row in rows} == {int}
    codes = {row["display"]: row["countryCode"] for row in rows}
    assert codes["Serbia"] == "891"
    assert codes["Bosnia  and Herzegovina"] == "70"
    assert {"China.HongKong", "South Korea"} <= codes.keys()
    assert any(code.startswith("99") and len(code) == 5 for code in codes.values())


async def test_every_sku_is_in_one_group_with_its_code_as_a_number(client: MioEsimClient) -> None:
    groups = await ask(client, "getSkuByGroup")
    assert groups["continent"] == [*groups["data"]]
    assert len(groups["continent"]) == 7
    grouped = [row for rows in groups["data"].values() for row in rows]
    skus = await ask(client, "getSkus")
    assert sorted(row["skuid"] for row in grouped) == sorted(row["skuid"] for row in skus)
    assert {row["skuid"]: row["countryCode"] for row in grouped} == {
        row["skuid"]: int(row["countryCode"]) for row in skus
    }
    assert {type(row["note"]) for row in grouped} == {str}


async def test_a_sku_without_plans_is_null_and_an_unknown_one_is_refused(
    client: MioEsimClient,
) -> None:
    assert await ask(client, "getPackages", skuId=12) is None
    with pytest.raises(errors.NotFound):
        await ask(client, "getPackages", skuId=999)
    with pytest.raises(errors.MissingParameter):
        await ask(client, "getPackages")


async def test_plans_of_every_kind_are_on_sale(client: MioEsimClient) -> None:
    plans = [plan for _, plan in await all_plans(client)]
    kinds = {
        name: {plan[name] for plan in plans} for name in ("supportDaypass", "flowType", "mustDate")
    }
    assert kinds == {"supportDaypass": {0, 1, 2}, "flowType": {0, 1}, "mustDate": {0, 1}}
    assert {type(plan["price"]) for plan in plans} == {Decimal}
    assert not any(plan["apiCode"].startswith("0") for plan in plans)


async def test_a_plan_is_named_once_within_its_sku_but_its_api_code_may_name_two(
    client: MioEsimClient,
) -> None:
    plans = await all_plans(client)
    for name in ("priceid", "apiCode"):
        keys = [(sku, plan[name]) for sku, plan in plans]
        assert len(keys) == len({*keys})
    codes = [plan["apiCode"] for _, plan in plans]
    assert len({*codes}) < len(codes)


async def test_partners_have_skus_with_plans_in_the_other_list(client: MioEsimClient) -> None:
    partners = await ask(client, "getPhysicalSIMDpInfo")
    assert {"id", "realName"} == {*partners[0]}
    dp_id = partners[0]["id"]
    skus = await ask(client, "getDpSupportSkuInfo", dpId=dp_id)
    everything = await ask(client, "getSkus")
    assert skus
    assert all(row in everything for row in skus)
    sku_id = skus[0]["skuid"]
    data = await ask(client, "getDpSkuSupportPackageInfo", dpId=dp_id, skuid=sku_id)
    assert "esimPackageDtoList" not in data
    assert data["networkVos"]
    own = await ask(client, "getPackages", skuId=sku_id)
    assert data["esimPackageVoList"] == own["esimPackageDtoList"]


@pytest.mark.parametrize(
    ("name", "params", "code"),
    [
        ("getDpSupportSkuInfo", {}, -10),
        ("getDpSkuSupportPackageInfo", {"skuid": 45}, -10),
        ("getDpSkuSupportPackageInfo", {"dpId": 11}, -2),
        ("getDpSupportSkuInfo", {"dpId": 99}, 3),
        ("getDpSkuSupportPackageInfo", {"dpId": 11, "skuid": 102}, 3),
    ],
)
async def test_partners_refuse_with_the_codes_of_the_contract(
    client: MioEsimClient, name: str, params: dict[str, Any], code: int
) -> None:
    with pytest.raises(errors.ApiError) as caught:
        await ask(client, name, **params)
    assert caught.value.code == code


async def test_a_partners_sku_without_plans_is_null(client: MioEsimClient) -> None:
    assert await ask(client, "getDpSkuSupportPackageInfo", dpId=12, skuid=12) is None


async def test_every_plan_can_be_read_with_its_exact_price(client: MioEsimClient) -> None:
    for sku in await ask(client, "getSkus"):
        data = await ask(client, "getPackages", skuId=sku["skuid"])
        if data is None:
            continue
        read = read_row(data, SkuPackages)
        assert [plan.price for plan in read.packages] == [
            Decimal(str(plan["price"])) for plan in data["esimPackageDtoList"]
        ]
        assert all(plan.data_mb and plan.sku_id == sku["skuid"] for plan in read.packages)


async def test_the_catalogue_takes_get_alone_where_reads_must_be_get() -> None:
    async with Sandbox(1, read_method="GET") as sandbox, sandbox.client() as client:
        assert await ask(client, "getSkus")
        assert {seen.method for seen in sandbox.requests} == {"POST", "GET"}

"""SKUs, groups, packages and partners, one call at a time."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from mioesim_async import MioEsimClient, Package, Partner, Sku, SkuGroup, SkuPackages, errors
from mioesim_async.sandbox import Fault, Sandbox

JAPAN = {"skuid": 45, "display": "Japan", "countryCode": "392"}
PLAN = {
    "priceid": 441, "flows": 1.5, "unit": "GB", "days": 7, "price": 12.1, "flowType": 0,
    "supportDaypass": 0, "mustDate": 1, "apiCode": "392-0-7-1.5-G", "openCardFee": 0.2,
    "premark": None, "networkDtoList": [{"nameen": "Japan", "operator": None}],
}  # fmt: skip
PACKAGES = {
    "skuid": 45, "detailId": 9, "countrycode": 392, "display": "Japan", "displayEn": None,
    "imageUrl": None, "supportCountry": ["Japan"], "esimPackageDtoList": [PLAN],
}  # fmt: skip


def answer(sandbox: Sandbox, endpoint: str, data: Any) -> None:
    body = data if isinstance(data, bytes) else json.dumps({"code": 0, "data": data}).encode()
    sandbox.faults.add(Fault.replaced(body), endpoint)


@pytest.mark.parametrize(
    "row",
    [
        JAPAN, {**JAPAN, "countryCode": 392},
        {"skuId": "45", "display": "Japan", "countrycode": 392},
        {"SkuId": 45.0, "Display": "Japan", "country_code": "392"},
    ],
)  # fmt: skip
async def test_skus_are_the_same_in_every_spelling(
    sandbox: Sandbox, client: MioEsimClient, row: dict[str, Any]
) -> None:
    answer(sandbox, "getSkus", [row])
    (sku,) = await client.catalogue.skus()
    assert sku == Sku(45, "Japan", "392")
    assert (sku.country, sku.is_region) == ("JP", False)


async def test_a_null_drops_nothing_and_a_broken_sku_is_logged(
    sandbox: Sandbox, client: MioEsimClient, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"skuid": 1, "display": None, "countryCode": None, "note": None}, {"skuid": "x"}, JAPAN]
    answer(sandbox, "getSkus", rows)
    skus = await client.catalogue.skus()
    assert skus == [Sku(1, extra={"note": None}), Sku(45, "Japan", "392")]
    assert "row 1 was skipped" in caplog.text


GROUPS = {
    "Asia": [{**JAPAN, "countryCode": 392, "note": None, "search": "jp"}],
    "Europe": None,
    "Odd": [{"skuid": 7}, {"skuid": "x"}],
}


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ({"continent": ["Europe", "Asia"], "data": GROUPS}, ["Europe", "Asia", "Odd"]),
        ({"continent": None, "data": GROUPS}, ["Asia", "Europe", "Odd"]),
        ({"data": GROUPS}, ["Asia", "Europe", "Odd"]),
        (GROUPS, ["Asia", "Europe", "Odd"]),
    ],
)
async def test_groups_come_in_the_vendor_s_order_and_none_is_dropped(
    sandbox: Sandbox, client: MioEsimClient, data: Any, names: list[str]
) -> None:
    answer(sandbox, "getSkuByGroup", data)
    groups = await client.catalogue.sku_groups()
    assert [group.name for group in groups] == names
    asia = next(group for group in groups if group.name == "Asia")
    assert asia == SkuGroup("Asia", [Sku(45, "Japan", "392", {"note": None, "search": "jp"})])
    assert {group.name: len(group.skus) for group in groups} == {"Asia": 1, "Europe": 0, "Odd": 1}


@pytest.mark.parametrize("data", [None, "", {"continent": [], "data": None}, {}])
async def test_no_groups_are_an_empty_list(
    sandbox: Sandbox, client: MioEsimClient, data: Any
) -> None:
    answer(sandbox, "getSkuByGroup", data)
    assert await client.catalogue.sku_groups() == []


@pytest.mark.parametrize("data", [[1], "Asia", {"data": "Asia"}, {"data": {"Asia": "Japan"}}])
async def test_groups_that_are_no_map_of_lists_are_a_protocol_error(
    sandbox: Sandbox, client: MioEsimClient, data: Any
) -> None:
    answer(sandbox, "getSkuByGroup", data)
    with pytest.raises(errors.ProtocolError) as caught:
        await client.catalogue.sku_groups()
    assert caught.value.endpoint == "/api_esim/getSkuByGroup"


async def test_packages_know_what_users_would_compute(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    answer(sandbox, "getPackages", PACKAGES)
    found = await client.catalogue.packages(45)
    assert sandbox.requests[-1].params["skuId"] == "45"
    assert (found.sku_id, found.display, found.coverage) == (45, "Japan", ["JP"])
    assert found.extra["supportCountry"] == ["Japan"]
    assert found.packages == [
        Package(
            45, 441, "392-0-7-1.5-G", 1536.0, 7, Decimal("12.1"), Decimal("0.2"), False, True, True,
            None, None, {"premark": None, "networkDtoList": PLAN["networkDtoList"]},
            coverage=["JP"],
        )
    ]  # fmt: skip
    assert str(found.packages[0].total_price()) == "12.3"


PLANLESS = {name: value for name, value in PACKAGES.items() if name != "esimPackageDtoList"}
OTHER = {name: value for name, value in PLAN.items() if name not in ("priceid", "price")}


@pytest.mark.parametrize(
    "data",
    [
        {**PLANLESS, "esimPackageVoList": [PLAN]},
        {**PLANLESS, "esimPackageVoList": [PLAN], "esimPackageDtoList": None},
        {**PACKAGES, "skuid": None, "skuId": "45"},
        [PACKAGES],
        {**PLANLESS, "esimPackageDtoList": [{**OTHER, "priceId": "441", "price": "12.1"}]},
        {**PLANLESS, "esimPackageDtoList": [{**PLAN, "flows": "1.5", "unit": "gb"}]},
        {**PLANLESS, "esimPackageDtoList": [{**PLAN, "days": "7", "mustDate": True}]},
    ],
)
async def test_packages_are_the_same_in_every_spelling(
    sandbox: Sandbox, client: MioEsimClient, data: Any
) -> None:
    answer(sandbox, "getPackages", PACKAGES)
    expected = await client.catalogue.packages(45)
    answer(sandbox, "getPackages", data)
    assert await client.catalogue.packages(45) == expected


async def test_a_bare_list_of_packages_is_not_taken_for_a_sku_without_plans(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    answer(sandbox, "getPackages", [PLAN, {**PLAN, "priceid": 442}])
    found = await client.catalogue.packages(45)
    assert [(plan.sku_id, plan.price_id) for plan in found.packages] == [(45, 441), (45, 442)]


@pytest.mark.parametrize("price", ["12.10", "0.07", "1.15", "19.99", "1e-7", "0.1", "3"])
async def test_a_price_keeps_the_digits_of_the_reply(
    sandbox: Sandbox, client: MioEsimClient, price: str
) -> None:
    row = '{"priceid":1,"price":%s,"openCardFee":"%s","supportDaypass":1}' % (price, price)
    body = '{"code":"0","msg":"ok","data":{"esimPackageVoList":[%s]}}' % row
    answer(sandbox, "getPackages", body.encode())
    (plan,) = (await client.catalogue.packages(45)).packages
    assert plan.price == plan.open_card_fee == Decimal(price)
    assert plan.total_price(days=3) == 4 * Decimal(price)


@pytest.mark.parametrize("data", [None, "", {}, []])
async def test_a_sku_without_plans_has_an_empty_list_of_them(
    sandbox: Sandbox, client: MioEsimClient, data: Any
) -> None:
    answer(sandbox, "getPackages", data)
    assert await client.catalogue.packages(45) == SkuPackages(45)


async def test_packages_that_can_t_be_read_are_with_the_others(
    sandbox: Sandbox, client: MioEsimClient, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [PLAN, {**PLAN, "supportDaypass": "often"}]
    answer(sandbox, "getPackages", {**PLANLESS, "esimPackageDtoList": rows})
    found = await client.catalogue.packages(45)
    assert len(found.packages) == 1
    assert ["supportDaypass" in str(fault) for fault in found.bad_rows] == [True]
    assert "row 1 was skipped" in caplog.text


@pytest.mark.parametrize("sku_id", [-1, "45", 4.5, None, True])
async def test_an_id_that_can_t_be_one_is_refused_before_a_byte_is_sent(
    sandbox: Sandbox, client: MioEsimClient, sku_id: Any
) -> None:
    partners = client.partners
    for name, call in (
        ("sku_id", client.catalogue.packages(sku_id)),
        ("dp_id", partners.skus(sku_id)),
        ("dp_id", partners.packages(sku_id, 45)),
        ("sku_id", partners.packages(3, sku_id)),
    ):
        with pytest.raises(errors.InvalidRequest, match=name):
            await call
    assert sandbox.requests == []


async def test_partners_have_an_id_and_a_name(sandbox: Sandbox, client: MioEsimClient) -> None:
    rows = [{"id": 3, "realName": "Made Up SIMs"}, {"dpId": "4", "realName": None, "note": None}]
    answer(sandbox, "getPhysicalSIMDpInfo", [*rows, {"id": "x"}])
    assert await client.partners.list() == [
        Partner(3, "Made Up SIMs"),
        Partner(4, extra={"note": None}),
    ]


async def test_a_partner_s_skus_and_packages_read_like_the_catalogue_s(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    answer(sandbox, "getDpSupportSkuInfo", [JAPAN])
    assert await client.partners.skus(3) == [Sku(45, "Japan", "392")]
    assert sandbox.requests[-1].params["dpId"] == "3"
    networks = [{"operator": "Made Up"}]
    data = {**PLANLESS, "esimPackageVoList": [PLAN], "networkVos": networks}
    answer(sandbox, "getDpSkuSupportPackageInfo", data)
    found = await client.partners.packages(3, 45)
    params = sandbox.requests[-1].params
    assert (params["dpId"], params["skuid"]) == ("3", "45")
    assert found.extra["networkVos"] == networks
    assert found.packages[0].price == Decimal("12.1")


async def test_every_endpoint_names_itself_in_the_error_of_an_unreadable_reply(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    for endpoint, call in (
        ("getSkus", client.catalogue.skus()),
        ("getPackages", client.catalogue.packages(45)),
        ("getPhysicalSIMDpInfo", client.partners.list()),
        ("getDpSupportSkuInfo", client.partners.skus(3)),
        ("getDpSkuSupportPackageInfo", client.partners.packages(3, 45)),
    ):
        answer(sandbox, endpoint, "nonsense")
        with pytest.raises(errors.ProtocolError, match="list of rows") as caught:
            await call
        assert caught.value.endpoint == f"/api_esim/{endpoint}"

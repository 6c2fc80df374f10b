"""The types and spellings of what the sandbox writes, as it comes over plain HTTP.

By default a user's strictest schemas must fit; what ``odd=True`` adds is listed whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from plain_caller import http
from strict import Map, faults
from tour import tour

from mioesim_async.sandbox import Sandbox
from mioesim_async.sandbox.vendor import HANDLED_PATHS, SHAPES

__all__ = ["http"]

ICCID = re.compile(r"[0-9]{16,20}")
ORDER_NUM = re.compile(r"EP[0-9]{14}")
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.0")
DAY = re.compile(r"\d{4}-\d\d-\d\d")
NUMBER = re.compile(r"\d+(\.\d+)?")
SIZE = re.compile(r"\d+(\.\d+)?(GB|MB)")
URL = re.compile(r"http://.+")
CODE = re.compile(r"(LPA:1\$[^$]+\$[^$]+)?")
STATUS = {-1, 0, 2, 3, 4, 5, 6, 7}
FLAG = {0, 1}

SKU = {"skuid": int, "display": str, "countryCode": re.compile("[1-9][0-9]{0,4}")}
GROUPED = SKU | {
    "countryCode": int, "continentCode": int, "imageUrl": URL, "note": str, "search": str,
}  # fmt: skip
COUNTRY = {"imageUrl": URL, "countryCode": int, "name": str, "nameEn": str}
NETWORK = {"type": str, "operator": str, "namecn": str, "nameen": str}
PACKAGE = {
    "priceid": int, "pid": int, "flows": int, "unit": {"GB", "MB"}, "days": int, "price": float,
    "openCardFee": float, "flowType": FLAG, "supportDaypass": {0, 1, 2}, "hadDaypassDetail": FLAG,
    "minDay": int, "maxDay": int, "mustDate": FLAG, "expireDays": int, "premark": str,
    "showName": str, "singleDiscountDay": int, "singleDiscount": float, "maxDiscount": float,
    "overlay": int, "networkDtoList": [NETWORK], "countryImageUrlDtoList": [COUNTRY],
    "apiCode": re.compile(r"[1-9]\d*-[01]-(\d+-\d+-[GM]|\?-\d+-[GM]-D)"),
}  # fmt: skip
SKU_PACKAGES = {
    "skuid": int, "detailId": int, "countrycode": str, "display": str, "displayEn": str,
    "imageUrl": URL, "supportCountry": [str], "expirydate": (DAY, None),
    "countryImageUrlDtoList": [COUNTRY],
}  # fmt: skip
VO = SKU_PACKAGES | {"esimPackageVoList": [PACKAGE]}

CARD = {
    "iccid": ICCID, "dpStatus": {"ACTIVE", "Enable", "Disable", "Delete"}, "data": SIZE,
    "usedMB": NUMBER, "remainingMB": float, "validity": int, "startDate": TIME, "endDate": TIME,
    "orderNum": ORDER_NUM, "skuId": int,
}  # fmt: skip
ACTIVATION = {
    "code": CODE, "sm_dp_address": str, "activationCode": str, "apn": str,
    "pdfUrl": re.compile(r"(http://.+//.+\.pdf)?"),
}  # fmt: skip
PAST = {
    "orderNum": ORDER_NUM, "display": str, "status": STATUS, "purchaseDate": TIME,
    "startDate": TIME, "endDate": TIME, "count": int, "price": float, "priceId": int,
    "renewal": bool, "mainOrderNum": (ORDER_NUM, None),
}  # fmt: skip
ORDER_CARD = ACTIVATION | {"iccid": ICCID, "data": SIZE, "usedMB": NUMBER}
ORDER = PAST | {
    "renew": FLAG, "renewOrderNum": [ORDER_NUM], "skuId": int, "cardApiDtoList": [ORDER_CARD],
}  # fmt: skip
WHOLE_ORDER = ORDER | {"outerOrderid": int}
PLACED = (
    ORDER_NUM, WHOLE_ORDER,
    {"orderNum": ORDER_NUM, "cardApiDtoList": [{"iccid": ICCID, "pdfUrl": URL}]},
)  # fmt: skip
USAGE = {
    "orderNum": ORDER_NUM, "skuId": int, "skuName": str, "type": FLAG, "daypassDay": int,
    "count": int, "createTime": TIME, "status": STATUS, "totle": NUMBER,
    "packageList": [
        {
            "id": int, "iccid": ICCID, "flows": int, "unit": {"GB", "MB"}, "days": int,
            "usedMb": float, "name": str, "beginDate": TIME, "endDate": TIME, "status": int,
            "priceId": int,
        },
    ],
}  # fmt: skip

DATA: dict[str, Any] = {
    "login": {"token": re.compile(r"[0-9]+-[0-9A-F]{32}")},
    "getSkus": [SKU],
    "getSkuByGroup": {"continent": [str], "data": Map(str, [GROUPED])},
    "getPackages": (SKU_PACKAGES | {"esimPackageDtoList": [PACKAGE]}, None),
    "getPhysicalSIMDpInfo": [{"id": int, "realName": str}],
    "getDpSupportSkuInfo": [SKU],
    "getDpSkuSupportPackageInfo": (VO | {"networkVos": [NETWORK]}, None),
    "queryIccidInformation": [CARD],
    "getESIMDetail": CARD | ACTIVATION | {"mobileNumber": str},
    "getHistoryDetail": [PAST],
    "getIccidSupportSku": [SKU],
    "getIccidSupportPackageInfo": [VO],
    "addEsimOrder": PLACED,
    "addEsimOrderByApiCode": PLACED,
    "renewCard": PLACED,
    "renewCardByApiCode": PLACED,
    "refundOrder": None,
    "handlerEsimPdf": (Map(ICCID, URL), None),
    "getOrderInfo": WHOLE_ORDER,
    "verifyResource": None,
    "queryOrder": {"total": int, "rows": [ORDER | {"outerOrderId": (str, None)}]},
    "queryEsimOrder": {"total": int, "page": int, "rows": [USAGE]},
}


async def test_a_strict_schema_fits_every_reply_of_the_default_sandbox(
    http: aiohttp.ClientSession,
) -> None:
    async with Sandbox(100) as sandbox:
        replies = await tour(http, sandbox)
    assert {path.rpartition("/")[2] for path in HANDLED_PATHS} == replies.keys() == DATA.keys()
    found = {
        fault
        for name, several in replies.items()
        for reply in several
        for fault in faults(reply, {"code": int, "message": str, "data": DATA[name]}, name)
    }
    assert found == set()


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_strict_schema_fits_a_batch_of_every_shape(
    http: aiohttp.ClientSession, shape: str
) -> None:
    schemas: dict[str, Any] = {"list": [CARD], "map": Map(ICCID, CARD)}
    schemas["list in object"] = {"total": int, "rows": schemas["list"]}
    schemas["map in object"] = {"cards": schemas["map"]}
    async with Sandbox(100, shape=shape) as sandbox:
        replies = await tour(http, sandbox)
    for reply in replies["queryIccidInformation"]:
        assert [*faults(reply["data"], schemas[shape])] == []


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        (1.0, int), (True, int), (1, float), (True, {1}), ("1", {1}), (None, str), ("", None),
        ({}, {"a": int}), ({"a": 1, "b": 1}, {"a": int}), ({"a": "1"}, {"a": int}),
        ([1, "2"], [int]),
        ({"a": 1}, [int]), ([1], {"a": int}), ("12 ", NUMBER), ({"x": 1}, Map(NUMBER, int)),
        ({"1": "1"}, Map(NUMBER, int)), ([{"a": 1}, {"b": 1}], [{"a": int}]), (1, (str, None)),
    ],
)  # fmt: skip
def test_the_strict_check_refuses_what_differs(value: Any, schema: Any) -> None:
    assert [*faults(value, schema)] != []


# What odd=True adds.

KINDS = {
    "getSkus": "sku", "getDpSupportSkuInfo": "sku", "getIccidSupportSku": "sku",
    "esimPackageDtoList": "package", "esimPackageVoList": "package",
    "queryIccidInformation": "card", "getESIMDetail": "card", "addEsimOrder": "order",
    "addEsimOrderByApiCode": "order", "renewCard": "order", "renewCardByApiCode": "order",
    "getOrderInfo": "order", "queryOrder": "order", "cardApiDtoList": "order's card",
    "cards": "order's card", "cardList": "order's card", "packageList": "usage of a plan",
}  # fmt: skip
"""What a reply or a list holds, by its name; others hold what their name says."""

CUT, ZONED = "2024-12-24 17:30:14", {"2024-12-24 17:30:14(GMT+8)", "2024-12-24 17:30:14 (GMT+8)"}
SKU_ID = {"skuId": {"int"}, "skuid": {"text"}}
ODD_SKU = SKU_ID | {"detailId": {"null"}, "countrycode": {"int"}, "expirydate": {"int"}}
CODES = {"lpa": {"text"}, "lpaString": {"text"}, "activation_code": {"text"}}

ODD: dict[str, dict[str, set[str]]] = {
    "sku": SKU_ID,
    "getSkuByGroup": SKU_ID | {"note": {"null"}},
    "getPackages": ODD_SKU | {"esimPackageVoList": {"list"}, "data": {"empty text"}},
    "getDpSkuSupportPackageInfo": ODD_SKU | {"esimPackageDtoList": {"list"}},
    "getIccidSupportPackageInfo": ODD_SKU | {"esimPackageDtoList": {"list"}, "data": {"object"}},
    "package": {
        "priceId": {"int"}, "price": {"text", "int"}, "openCardFee": {"text"},
        "countryImageUrlDtoList": {"null"},
    },
    "card": CODES | {
        "usedMb": {"float"}, "beginDate": {"2024-12-24 17:30:14.0"}, "startDate": {CUT},
        "endDate": {"2024-12-24", CUT, *ZONED},
    },
    "getHistoryDetail": {
        "price": {"text"}, "purchaseDate": {CUT}, "startDate": {CUT},
        "endDate": {"2024-12-24 (GMT+8)", CUT, *ZONED},
    },
    "order": {
        "cards": {"list"}, "cardList": {"list"}, "price": {"text", "int"}, "purchaseDate": {CUT},
        "startDate": {CUT}, "endDate": {CUT, *ZONED}, "otherOrderId": {"text"},
    },
    "order's card": CODES | {"usedMb": {"float"}},
    "queryEsimOrder": {"skuId": {"text"}, "status": {"text"}, "createTime": {CUT}},
    "usage of a plan": {
        "usedMB": {"text"}, "priceId": {"text"}, "status": {"text"}, "beginDate": {"2024-12-24"},
        "endDate": {CUT, *ZONED},
    },
    "refundOrder": {"data": {"text"}},
}  # fmt: skip
"""All that an odd sandbox writes and a usual one doesn't: the forms of each field."""


FORMS = {type(None): "null", dict: "object"}
TIMES = re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d(\.0)?)? ?(\(GMT\+8\))?")


def form(value: Any) -> str:
    """Name what a value looks like; a time by what the same moment would be."""
    if isinstance(value, str) and TIMES.fullmatch(value):
        day, clock = "2024-12-24", "17:30:14"
        return day + re.sub(r"\d\d:\d\d:\d\d", clock, value[len(day) :])
    if isinstance(value, str):
        return "text" if value else "empty text"
    return FORMS.get(type(value), type(value).__name__)


def forms(value: Any, kind: str) -> Iterator[tuple[str, str, str]]:
    """Give each field with the form of its value, and the kind of thing that it is in."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield kind, name, form(item)
            yield from forms(item, KINDS.get(name, kind))
    elif isinstance(value, list):
        for item in value:
            yield from forms(item, kind)


async def test_an_odd_sandbox_writes_all_that_is_listed_and_nothing_else(
    http: aiohttp.ClientSession,
) -> None:
    seen = []
    for odd in (False, True):
        async with Sandbox(100, odd=odd) as sandbox:
            replies = await tour(http, sandbox)
        seen.append({
            found
            for name, several in replies.items()
            for reply in several
            for found in forms(reply, KINDS.get(name, name))
        })  # fmt: skip
    listed = {
        (kind, name, one)
        for kind, fields in ODD.items()
        for name, several in fields.items()
        for one in several
    }
    assert sorted(seen[1] - seen[0]) == sorted(listed)


async def test_an_odd_sandbox_leaves_out_what_may_be_missing(http: aiohttp.ClientSession) -> None:
    async with Sandbox(100, odd=True) as sandbox:
        replies = await tour(http, sandbox)
    without_data = {name for name, all_ in replies.items() for one in all_ if "data" not in one}
    assert without_data == {"getDpSkuSupportPackageInfo", "verifyResource", "handlerEsimPdf"}
    skus = [one["data"] for one in replies["getPackages"] if one["data"]]
    lists = ("esimPackageDtoList", "esimPackageVoList")
    plans = [plan for sku in skus for name in lists for plan in sku.get(name, ())]
    assert {
        plan.get("priceId", plan.get("priceid")) for plan in plans if "apiCode" not in plan
    } == {445}
    for name in ("queryOrder", "queryEsimOrder"):
        assert {"rows" in one["data"] for one in replies[name]} == {True, False}
    details = [one["data"] for one in replies["getESIMDetail"]]
    sims = [one for one in details if "sm_dp_address" not in one]
    assert len(sims) == 2
    assert not any({"activationCode", "activation_code"} & sim.keys() for sim in sims)


def test_the_docs_list_every_field_that_an_odd_sandbox_writes_differently() -> None:
    docs = (Path(__file__).parents[2] / "docs" / "wire.md").read_text(encoding="utf-8")
    table = docs.partition("## What the sandbox writes")[2]
    names = {name for fields in ODD.values() for name in fields} | {"apiCode", "rows"}
    assert {name for name in names if f"`{name}`" not in table} == set()

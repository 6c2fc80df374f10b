"""Every endpoint has a coroutine, its source, a type, a sandbox handler, docs and a test.

If any of these is missing, a test here fails and names it.
"""

from __future__ import annotations

import inspect
import re
import typing
from pathlib import Path
from typing import Any

import pytest
from shopping import PLAN, buy

from mioesim_async import MioEsimClient
from mioesim_async.sandbox import Sandbox
from mioesim_async.sandbox.vendor import HANDLED_PATHS
from mioesim_async.wire import endpoints
from mioesim_async.wire.endpoints import Endpoint, Safety

ROOT = Path(__file__).parents[2]
WIRE = (ROOT / "docs" / "wire.md").read_text(encoding="utf-8")
TESTS = {
    path.name: path.read_text(encoding="utf-8")
    for path in (ROOT / "tests").rglob("test_*.py")
    if path.name != Path(__file__).name
}

COROUTINES: dict[str, tuple[str, ...]] = {
    "LOGIN": ("login",),
    "QUERY_ICCID_INFORMATION": ("cards.query", "cards.query_many", "cards.query_all"),
    "GET_ESIM_DETAIL": ("cards.detail", "cards.details"),
    "GET_HISTORY_DETAIL": ("cards.history",),
    "GET_ICCID_SUPPORT_SKU": ("cards.renewal_skus",),
    "GET_ICCID_SUPPORT_PACKAGE_INFO": ("cards.renewal_packages",),
    "GET_SKUS": ("catalogue.skus",),
    "GET_SKU_BY_GROUP": ("catalogue.sku_groups",),
    "GET_PACKAGES": ("catalogue.packages",),
    "GET_PHYSICAL_SIM_DP_INFO": ("partners.list",),
    "GET_DP_SUPPORT_SKU_INFO": ("partners.skus",),
    "GET_DP_SKU_SUPPORT_PACKAGE_INFO": ("partners.packages",),
    "ADD_ESIM_ORDER": ("orders.place",),
    "ADD_ESIM_ORDER_BY_API_CODE": ("orders.place_by_api_code",),
    "RENEW_CARD": ("orders.renew",),
    "RENEW_CARD_BY_API_CODE": ("orders.renew_by_api_code",),
    "REFUND_ORDER": ("orders.cancel",),
    "HANDLER_ESIM_PDF_LINK": ("orders.pdf_links",),
    "HANDLER_ESIM_PDF_EMAIL": ("orders.email_pdf",),
    "GET_ORDER_INFO": ("orders.get",),
    "VERIFY_RESOURCE": ("orders.check_stock",),
    "QUERY_ORDER": ("orders.search",),
    "QUERY_ESIM_ORDER": ("orders.usage",),
}
"""The coroutines of each endpoint; the first one's docstring names the source."""

NAME_ONLY = {"login"}
"""Coroutines without ``deadline``."""

ROWS = {name: row for name, row in vars(endpoints).items() if isinstance(row, Endpoint)}
rows = pytest.mark.parametrize("name", ROWS)


def function_of(client: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        client = getattr(client, part)
    return client


@pytest.fixture
async def offline() -> Any:
    async with Sandbox(5) as sandbox, sandbox.client() as client:
        yield client


def test_every_row_is_in_the_table_and_is_exported() -> None:
    assert set(COROUTINES) == set(ROWS)
    assert set(ROWS) <= set(endpoints.__all__)


@rows
async def test_every_row_has_a_public_coroutine_with_a_type_and_a_docstring(
    name: str, offline: MioEsimClient
) -> None:
    for dotted in COROUTINES[name]:
        function = function_of(offline, dotted)
        returns = typing.get_type_hints(function).get("return")
        is_stream = hasattr(returns, "__aiter__") or "Stream" in str(returns)
        assert inspect.iscoroutinefunction(function) or is_stream, dotted
        assert returns is not Any, dotted
        assert inspect.getdoc(function), dotted
        signature = inspect.signature(function)
        assert dotted in NAME_ONLY or "deadline" in signature.parameters, dotted


@rows
async def test_every_row_s_docstring_says_where_it_comes_from(
    name: str, offline: MioEsimClient
) -> None:
    if name == "LOGIN":
        return
    documented = inspect.getdoc(function_of(offline, COROUTINES[name][0])) or ""
    endpoint = ROWS[name].path.rpartition("/")[2]
    found = re.search(rf"Source: ``{endpoint}``, (vendor-documented|observed|assumed)", documented)
    assert found, documented


@rows
def test_every_row_has_a_sandbox_handler_and_a_line_in_the_docs(name: str) -> None:
    row = ROWS[name]
    assert row.path in HANDLED_PATHS
    first = COROUTINES[name][0]
    pattern = rf"\| `{row.path}` \| [^|]*`(client\.)?{re.escape(first)}[`(][^|]*\|[^|]*\| (\w+) \|"
    found = re.search(pattern, WIRE)
    assert found, f"no line of docs/wire.md has {row.path} and {first}"
    assert found[2] == row.safety.name


@rows
def test_every_coroutine_is_called_by_a_test(name: str) -> None:
    for dotted in COROUTINES[name]:
        assert any(f"{dotted}(" in text for text in TESTS.values()), dotted


def test_what_spends_money_is_never_a_read() -> None:
    for name, row in ROWS.items():
        spends = re.match(r"ADD_|RENEW_|REFUND_", name)
        assert (row.safety is Safety.MONEY) == bool(spends), name
        if row.safety in (Safety.MONEY, Safety.WRITE):
            assert row.method == "POST"


async def test_every_row_is_answered_by_the_sandbox_through_its_coroutine() -> None:
    async with Sandbox(5) as sandbox, sandbox.client() as client:
        iccid = sandbox.iccids[0]
        order = await buy(client)
        number, card = order.order_num, order.cards[0].iccid
        (partner, *_) = await client.partners.list()
        assert partner.dp_id is not None
        (sku, *_) = await client.partners.skus(partner.dp_id)
        assert sku.sku_id is not None
        code = (await client.catalogue.packages(PLAN["sku_id"])).packages[0].api_code
        assert code is not None
        calls = [
            client.login(),
            client.cards.query(iccid),
            client.cards.detail(iccid),
            client.cards.history(iccid),
            client.cards.renewal_skus(iccid),
            client.cards.renewal_packages(iccid),
            client.catalogue.skus(),
            client.catalogue.sku_groups(),
            client.partners.packages(partner.dp_id, sku.sku_id),
            client.orders.place_by_api_code(api_code=code, count=1),
            client.orders.renew(**PLAN, order_num=number),
            client.orders.renew_by_api_code(api_code=code, iccid=card),
            client.orders.pdf_links(number),
            client.orders.email_pdf(number, "customer@example.com"),
            client.orders.get(number),
            client.orders.check_stock(**PLAN, count=1),
            client.orders.search(other_order_id=order.other_order_id),
            client.orders.usage(order_num=number),
            client.orders.cancel(number, card),
        ]
        for call in calls:
            await call
        asked = {seen.endpoint for seen in sandbox.requests}
        assert asked == {row.path.rpartition("/")[2] for row in ROWS.values()}
        assert {seen.code for seen in sandbox.requests} == {0, 1}

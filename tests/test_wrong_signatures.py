"""A refused signature after a good login names what may be wrong with it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from shopping import PLAN

from mioesim_async import Credentials, MemoryTokenStore, MioEsimClient, errors
from mioesim_async.sandbox import Fault, Sandbox

REFUSED = Fault.refuse(-30, "sign wrong")
NUMBER = "EP20260101000001"
Call = Callable[[MioEsimClient], Coroutine[Any, Any, Any]]

CALLS: list[tuple[str, Call, list[str]]] = [
    (
        "refundOrder",
        lambda c: c.orders.cancel(NUMBER, "8985000000000000001", remark="Admin refund request"),
        ["remark"],
    ),
    (
        "addEsimOrder",
        lambda c: c.orders.place(
            **PLAN, count=1, begin_date=dt.date(2030, 1, 31), customer_email="a@example.com",
            other_order_id="shop-1_2.3", remark="plain",
        ),
        ["beginDate", "customerEmail"],
    ),
    ("addEsimOrderByApiCode",
     lambda c: c.orders.place_by_api_code(api_code="392-0-?-500-M-D", count=1), ["apiCode"]),
    ("handlerEsimPdf", lambda c: c.orders.email_pdf(NUMBER, "a@example.com"), ["email"]),
]  # fmt: skip


@pytest.mark.parametrize(("endpoint", "call", "named"), CALLS, ids=[name for name, _, _ in CALLS])
async def test_the_values_whose_encoding_is_disputed_are_named(
    sandbox: Sandbox, client: MioEsimClient, endpoint: str, call: Call, named: list[str]
) -> None:
    sandbox.faults.add(REFUSED, endpoint)
    with pytest.raises(errors.SignatureError) as caught:
        await call(client)
    said = str(caught.value)
    assert "the login succeeded with this secret key, so the key is right" in said
    assert f"the value of {' and '.join(named)} otherwise" in said
    assert "leave it out, or write it with ASCII letters and digits alone" in said
    assert caught.value.message == "sign wrong"
    params = next(one.params for one in sandbox.requests if one.endpoint == endpoint)
    assert {*named} <= {*params}, "they are named as the vendor knows them"


async def test_a_cancellation_sends_no_remark_unless_it_was_given(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    order = await client.orders.place(**PLAN, count=1)
    await client.orders.cancel(order.order_num, order.cards[0].iccid)
    assert "remark" not in sandbox.requests[-1].params


async def test_cards_and_tokens_are_never_blamed(sandbox: Sandbox, client: MioEsimClient) -> None:
    sandbox.faults.add(REFUSED, "queryIccidInformation")
    with pytest.raises(errors.SignatureError, match=r"read_method='POST'") as caught:
        await client.cards.query(sandbox.iccids[:100])
    assert "otherwise" not in str(caught.value)
    sandbox.faults.add(REFUSED, "getOrderInfo")
    with pytest.raises(errors.SignatureError, match="ask the vendor how this call is signed"):
        await client.orders.get(NUMBER)


async def test_a_client_that_never_logged_in_itself_is_told_to_check_its_key(
    sandbox: Sandbox,
) -> None:
    store = MemoryTokenStore()
    async with sandbox.client(token_store=store) as client:
        await client.login()
    account = sandbox.credentials
    wrong = Credentials(account.phone_number, account.password, "made-up-wrong-key")
    async with MioEsimClient(wrong, base_url=sandbox.url, token_store=store) as client:
        with pytest.raises(errors.SignatureError, match="token store, so first check this client"):
            await client.cards.query(sandbox.iccids[0])

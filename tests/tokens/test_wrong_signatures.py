"""A refused signature after a good login names what may be wrong with it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from shopping import PLAN

from mioesim_async import Credentials, Dialect, MemoryTokenStore, MioEsimClient, errors
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
    assert f"the value of {' and '.join(named)} differently" in said
    assert "leave it out, or use ASCII letters and digits only" in said
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
    assert "differently" not in str(caught.value)
    sandbox.faults.add(REFUSED, "getOrderInfo")
    with pytest.raises(errors.SignatureError, match="ask the vendor how to sign this call"):
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


LOGINS: list[tuple[dict[str, Any], int, str]] = [
    ({}, 6, "all 6 ways to sign and send a login were tried, so the secret key is wrong"),
    (
        {"signature": "plain", "login_encoding": "form"},
        1,
        "with Dialect(signature='plain') and Dialect(login_encoding='form'): check the secret key",
    ),
    ({"signature": "encoded"}, 3, "tried only with Dialect(signature='encoded'): check"),
]


@pytest.mark.parametrize(("dialect", "tried", "said"), LOGINS)
async def test_a_login_that_is_refused_says_what_was_tried_and_so_what_is_wrong(
    sandbox: Sandbox, dialect: dict[str, Any], tried: int, said: str
) -> None:
    account = sandbox.credentials
    wrong = Credentials(account.phone_number, account.password, "made-up-wrong-key")
    async with MioEsimClient(wrong, base_url=sandbox.url, dialect=Dialect(**dialect)) as client:
        with pytest.raises(errors.SignatureError) as caught:
            await client.login()
    assert said in str(caught.value)
    assert len(sandbox.requests) == tried


async def test_a_login_whose_way_worked_before_asks_whether_the_key_was_changed(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    await client.login()
    sandbox.requests.clear()
    sandbox.faults.add(REFUSED, "login", times=None)
    sandbox.evict()
    with pytest.raises(errors.SignatureError, match="check whether it was changed") as caught:
        await client.cards.query(sandbox.iccids[0])
    assert "signed as before (plain, login as form)" in str(caught.value)
    assert [seen.endpoint for seen in sandbox.requests].count("login") == 1

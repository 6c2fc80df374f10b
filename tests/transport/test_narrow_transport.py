"""Narrow transport tests on aioresponses: what is sent, to the byte."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock
from urllib.parse import parse_qsl

import pytest
from aiohttp import ClientResponse
from aioresponses import CallbackResult, aioresponses

from mioesim_async import Credentials, Dialect, MioEsimClient, errors
from mioesim_async.wire.signing import sign

HOST = "https://host.example"
LOGIN = f"{HOST}/api_order/login"
QUERY = f"{HOST}/api_esim/queryIccidInformation"
ACCOUNT = Credentials("13800000000", "p@ss W0rd!", "1234567890qwertyuiopasdfghjklzxc")
ICCIDS = ["8985000000000000001", "8985000000000000002"]


class _Response(ClientResponse):
    """What aioresponses makes, on aiohttp 3.14 and later (aioresponses issue 289)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("stream_writer", Mock(output_size=0))
        super().__init__(*args, **kwargs)


@pytest.fixture
def mocked() -> Iterator[aioresponses]:
    with aioresponses() as responses:
        original = responses.add

        def add(*args: Any, **kwargs: Any) -> None:
            original(*args, response_class=_Response, **kwargs)

        responses.add = add  # type: ignore[method-assign]
        yield responses


async def test_the_form_and_the_query_hold_exactly_what_was_signed(mocked: aioresponses) -> None:
    seen: list[str] = []

    def logged_in(_: Any, *, data: bytes, **__: Any) -> CallbackResult:
        seen.append(data.decode())
        return CallbackResult(
            payload={"code": 1, "data": {"token": "made-up"}}, response_class=_Response
        )

    mocked.post(LOGIN, callback=logged_in)
    token = {"iccids": ",".join(ICCIDS), "token": "made-up"}
    signature = sign(token, ACCOUNT.secret_key, "encoded")
    query = f"iccids=8985000000000000001%2C8985000000000000002&token=made-up&sign={signature}"
    mocked.get(f"{QUERY}?{query}", payload={"code": 0, "data": [{"iccid": ICCIDS[0]}]})
    async with MioEsimClient(ACCOUNT, base_url=HOST, dialect=Dialect("encoded")) as client:
        assert [card.iccid for card in await client.cards.query(ICCIDS)] == ICCIDS[:1]
    assert seen[0].startswith("phonenumber=13800000000&password=p%40ss%20W0rd%21&sign=")
    # The vendor's own vector for this account.
    assert dict(parse_qsl(seen[0]))["sign"] == "207EA1D279B250017A7177CB006E1727"


async def test_each_way_to_log_in_is_tried_once_in_its_order(mocked: aioresponses) -> None:
    tried: list[str] = []

    def refuse(url: Any, *, headers: Any, **_: Any) -> CallbackResult:
        tried.append((headers or {}).get("Content-Type", "query"))
        return CallbackResult(
            payload={"code": "-30", "msg": "sign error"}, response_class=_Response
        )

    mocked.post(LOGIN, callback=refuse, repeat=True)
    mocked.get(re.compile(re.escape(LOGIN)), callback=refuse, repeat=True)
    async with MioEsimClient(ACCOUNT, base_url=HOST) as client:
        with pytest.raises(errors.SignatureError, match="secret key"):
            await client.login()
    form, json = "application/x-www-form-urlencoded", "application/json"
    assert tried == [form, form, "query", "query", json, json]

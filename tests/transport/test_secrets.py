"""No secret in any repr, str, log record, exception or cause."""

from __future__ import annotations

import asyncio
import html
import html.entities
import json
import logging
import re
import traceback
from collections.abc import Callable, Coroutine, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from aiohttp import ClientResponse
from waiting import SECONDS, until

from mioesim_async import (
    ActivationCode,
    Credentials,
    Dialect,
    MioEsimClient,
    Order,
    OrderSearch,
    RetryPolicy,
    Safety,
    StoredToken,
    errors,
)
from mioesim_async.sandbox import Fault, Sandbox
from mioesim_async.transport import pool
from mioesim_async.transport.http import RawReply, Request
from mioesim_async.wire.dialect import LOGIN_ENCODINGS, READ_METHODS, LoginEncoding, ReadMethod
from mioesim_async.wire.masking import masked, masked_start

FAULTS = [
    Fault.http(500),
    Fault.http(404),
    Fault.http(429, retry_after="3600"),
    Fault.redirect("http://127.0.0.1:1/?token=x"),
    Fault.lose_request(),
    Fault.lose_reply(),
    Fault.cut(),
    Fault.html(),
    Fault.malformed(),
    Fault.truncate(),
    Fault.empty(),
    Fault.refuse(-1),
    Fault.refuse(-2),
    Fault.refuse(-3),
    Fault.refuse(-30),
    Fault.refuse(77),
]


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and everything that hangs on it."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting += [current.__cause__, current.__context__, getattr(current, "last_error", None)]


def locals_of(error: BaseException) -> Iterator[str]:
    """Yield what collectors of tracebacks show of the frames, those of this file apart."""
    for part in chain(error):
        for frame, _ in traceback.walk_tb(part.__traceback__):
            if frame.f_code.co_filename != __file__:
                yield from map(repr, frame.f_locals.values())


def everything_said(error: BaseException, caplog: pytest.LogCaptureFixture) -> str:
    said = [caplog.text, *traceback.format_exception(error), *locals_of(error)]
    for record in caplog.records:
        said += [record.getMessage(), repr(record.args), repr(record.__dict__)]
    for part in chain(error):
        said += [repr(part), str(part), repr(part.args), *getattr(part, "__notes__", [])]
    return "\n".join(said)


def secrets_of(sandbox: Sandbox) -> set[str]:
    account = sandbox.credentials
    secrets = {account.password, account.secret_key}
    for request in sandbox.requests:
        secrets |= {request.params.get("token", ""), request.params.get("sign", "")}
    secrets.discard("")
    return secrets | {quote(secret, safe="") for secret in secrets}


@pytest.mark.parametrize("method", READ_METHODS)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_no_failing_read_tells_a_secret(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture, fault: Fault, method: ReadMethod
) -> None:
    caplog.set_level(logging.DEBUG)
    if fault.code is not None:
        fault = Fault.refuse(fault.code, "you sent {token} {sign}")
    sandbox.faults.add(fault, "queryIccidInformation", times=None)
    async with sandbox.client(dialect=Dialect(read_method=method)) as client:
        with pytest.raises(errors.MioEsimError) as caught:
            await client.cards.query(sandbox.iccids[0])
    said = everything_said(caught.value, caplog)
    secrets = secrets_of(sandbox)
    assert len(secrets) >= 5
    assert not [secret for secret in secrets if secret in said]


@pytest.mark.parametrize("encoding", LOGIN_ENCODINGS)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_no_failing_login_tells_a_secret(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture, fault: Fault, encoding: LoginEncoding
) -> None:
    caplog.set_level(logging.DEBUG)
    if fault.code is not None:
        fault = Fault.refuse(fault.code, "you sent {password} {sign}")
    sandbox.faults.add(fault, "login", times=None)
    async with sandbox.client(dialect=Dialect(login_encoding=encoding)) as client:
        with pytest.raises(errors.MioEsimError) as caught:
            await client.login()
    said = everything_said(caught.value, caplog)
    assert not [secret for secret in secrets_of(sandbox) if secret in said]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_no_failing_purchase_tells_a_secret(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture, fault: Fault
) -> None:
    caplog.set_level(logging.DEBUG)
    if fault.code is not None:
        fault = Fault.refuse(fault.code, "you sent {token} {sign}")
    sandbox.faults.add(fault, "addEsimOrder", times=None)
    async with sandbox.client() as client:
        with pytest.raises(errors.MioEsimError) as caught:
            await client.call("/api_esim/addEsimOrder", safety=Safety.MONEY)
    said = everything_said(caught.value, caplog)
    assert not [secret for secret in secrets_of(sandbox) if secret in said]


async def test_no_failed_connection_tells_a_secret(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Sandbox(1) as gone:
        url, account = gone.url, gone.credentials
    for base_url in (url, "http://no-such-host.invalid", url.replace("http:", "https:")):
        async with MioEsimClient(
            account,
            base_url=base_url,
            allow_insecure_http=True,
            dialect=Dialect(login_encoding="query"),
            retry=RetryPolicy(max_attempts=1),
        ) as client:
            with pytest.raises(errors.ConnectError) as caught:
                await client.login()
        said = everything_said(caught.value, caplog)
        assert account.password not in said
        assert quote(account.password, safe="") not in said
        assert "sign=" not in said


async def test_the_reprs_of_what_holds_secrets_show_none(sandbox: Sandbox) -> None:
    async with sandbox.client() as client:
        await client.cards.query(sandbox.iccids[0])
        card = await client.cards.detail(sandbox.iccids[0])
        credentials = sandbox.credentials
        shown = repr([
            client, client.cards, client._caller, client._caller._keeper, credentials,
            client._manager, card, sandbox.requests, client.stats(), client.dialect,
            StoredToken("made-up-token", 0.0, Dialect()),
        ])  # fmt: skip
    for secret in secrets_of(sandbox) | {"made-up-token", card.activation.matching_id}:  # type: ignore[union-attr]
        assert secret not in shown


@pytest.mark.parametrize("write", [str, quote, quote_plus, lambda text: quote(text, "").lower()])
async def test_what_the_vendor_repeats_is_masked_however_it_is_written(
    sandbox: Sandbox, write: Callable[[str], str]
) -> None:
    password = sandbox.credentials.password
    sandbox.faults.add(Fault.refuse(-1, f"wrong: {write(password)}"), "login")
    async with sandbox.client() as client:
        with pytest.raises(errors.AuthenticationError) as caught:
            await client.login()
    assert write(password) not in str(caught.value)
    assert "wrong: ***" in str(caught.value)


async def test_the_data_of_a_refusal_is_kept_but_not_shown(sandbox: Sandbox) -> None:
    sandbox.faults.add(
        Fault.replaced(b'{"code":5,"message":"no","data":{"lpa":"LPA:1$made$up"}}'),
        "getESIMDetail",
    )
    async with sandbox.client() as client:
        with pytest.raises(errors.ApiError) as caught:
            await client.cards.detail(sandbox.iccids[0])
    assert caught.value.data == {"lpa": "LPA:1$made$up"}
    assert "made$up" not in repr(caught.value) + str(caught.value)


async def test_asyncio_s_own_debug_output_tells_no_secret(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0
    async with sandbox.client() as client:
        await client.cards.query_all(sandbox.iccids)
    loop.set_debug(False)
    assert not [secret for secret in secrets_of(sandbox) if secret in caplog.text]


def test_credentials_are_equal_by_value_and_show_only_the_account() -> None:
    credentials = Credentials("13800000000", "made up", "made-up-key")
    assert repr(credentials) == "Credentials(phone_number='13800000000')"


CODE = "LPA:1$rsp.example.com$MATCHING-ID-4711"
ODD = {
    "refused": {"code": -3, "message": "x", "data": {"code": CODE}},
    "another card": {"code": 0, "data": {"iccid": "8985999999999999999", "code": CODE}},
    "an odd shape": {"code": 0, "data": {"x": {"code": CODE}}},
    "an odd date": {"code": 0, "data": {"iccid": "{iccid}", "usedMB": "much", "code": CODE}},
    "a list of lists": {"code": 0, "data": [[CODE]]},
}


async def _listed(search: OrderSearch) -> list[Order]:
    return await search


@pytest.mark.parametrize("body", [*ODD, "malformed", "cut", "lost"])
@pytest.mark.parametrize(
    "name",
    ["query", "detail", "history", "get", "usage", "search", "place", "place by code", "pdf_links"],
)
async def test_no_frame_of_a_traceback_shows_a_secret_or_an_activation_code(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture, name: str, body: str
) -> None:
    iccid = sandbox.iccids[0]
    faults = {"malformed": Fault.malformed(CODE.encode()), "lost": Fault.lose_reply()}
    faults["cut"] = Fault.truncate(f'{{"code":0,"data":{{"code":"{CODE}'.encode())
    reply = json.dumps(ODD.get(body)).replace("{iccid}", iccid).encode()
    sandbox.faults.add(faults.get(body, Fault.replaced(reply)), times=None, after=1)
    number = "EP20260101000001"
    async with sandbox.client(retry=RetryPolicy(max_attempts=1)) as client:
        calls: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
            "query": lambda: client.cards.query([iccid]),
            "detail": lambda: client.cards.detail(iccid),
            "history": lambda: client.cards.history(iccid),
            "get": lambda: client.orders.get(number),
            "usage": lambda: client.orders.usage(iccid=iccid),
            "search": lambda: _listed(client.orders.search(other_order_id="shop-1")),
            "place": lambda: client.orders.place(sku_id=45, price_id=441, count=1),
            "place by code": lambda: client.orders.place_by_api_code(api_code="x-1", count=1),
            "pdf_links": lambda: client.orders.pdf_links(number),
        }
        try:
            await calls[name]()
        except errors.MioEsimError as error:
            said = everything_said(error, caplog)
            secrets = {*secrets_of(sandbox), "MATCHING-ID-4711"}
            assert not [secret for secret in secrets if secret in said]


async def test_no_frame_of_a_time_out_shows_what_was_sent(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    for endpoint, method in (("login", "POST"), ("getSkus", "GET"), ("getSkus", "POST")):
        sandbox.faults.add(Fault.silence(), endpoint)
        async with sandbox.client(dialect=Dialect(read_method=method)) as client:
            call = asyncio.ensure_future(client.catalogue.skus())
            await until(lambda: any(seen.fault for seen in sandbox.requests), pause=0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await call
        said = everything_said(caught.value, caplog)
        assert not [secret for secret in secrets_of(sandbox) if secret in said]
        sandbox.faults.clear()
        sandbox.requests.clear()


@pytest.mark.parametrize("name", ["query", "query_all", "detail"])
async def test_a_read_that_is_stopped_while_its_body_comes_shows_no_secret(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    reading = asyncio.Event()

    async def read_body(response: ClientResponse, request: Request) -> bytes:
        reading.set()
        return await manager_read_body(response, request)

    manager_read_body = pool._read_body
    async with sandbox.client() as client:
        await client.login()
        monkeypatch.setattr(pool, "_read_body", read_body)
        sandbox.faults.add(Fault.slow_body(), times=None)
        call = asyncio.ensure_future(getattr(client.cards, name)(sandbox.iccids[0]))
        async with asyncio.timeout(SECONDS):
            await reading.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await call
    said = everything_said(caught.value, caplog)
    assert not [secret for secret in secrets_of(sandbox) if secret in said]


SPECIAL = re.compile("[^A-Za-z0-9]")
NAMED = {ord(char): f"&{name}" for name, char in html.entities.html5.items() if len(char) == 1}
SECRETS = [
    "p@ss W0rd!",
    'pa$$"quoted" & <b>',
    "sch\u00f6n/gut+1~*",
    "back\\slash",
    "two\\\\\tand a \\'tab",
    "\U0001f511key",
]
WAYS: dict[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "percent": lambda text: quote(text, safe=""),
    "percent, as JavaScript does": lambda text: quote(text, safe="!*'()"),
    "percent in lower case": lambda text: quote(text, safe="").lower(),
    "percent twice": lambda text: quote(quote(text, safe=""), safe=""),
    "a form": quote_plus,
    "HTML, then percent": lambda text: quote(html.escape(text)),
    "HTML twice": lambda text: html.escape(html.escape(text)),
    "JSON twice": lambda text: json.dumps(json.dumps(text)[1:-1])[1:-1],
    "JSON, then percent": lambda text: quote(json.dumps(text)[1:-1]),
    "JSON, then HTML": lambda text: html.escape(json.dumps(text)[1:-1]),
    "HTML by name": lambda text: text.translate(NAMED),
    "HTML": html.escape,
    "HTML without quotes": lambda text: html.escape(text, quote=False),
    "HTML in numbers": lambda text: SPECIAL.sub(lambda char: f"&#{ord(char[0])};", text),
    "HTML in hexadecimal": lambda text: SPECIAL.sub(lambda char: f"&#x{ord(char[0]):X};", text),
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON as it is": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "JSON with slashes": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
}


@pytest.mark.parametrize("text", ["\\", "%5c", "%25", "&amp;", "&", "p'\\"])
@pytest.mark.parametrize("secret", ["\\" * 40, "%25" * 40, "&&&&&&&&&", "p'\\\\'"])
def test_text_made_to_be_hard_to_search_is_searched_once(text: str, secret: str) -> None:
    # A pattern that went back to try other ways would not end within the life of the universe.
    assert masked(text * 20_000 + "x", [secret + "!"]) == text * 20_000 + "x"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_masked_however_it_is_written(secret: str, way: str) -> None:
    # Lower case of the letters themselves is another secret.
    secret = secret.lower() if "lower" in way else secret
    assert masked(f"you sent {WAYS[way](secret)}, sir", [secret]) == "you sent ***, sir"


@pytest.mark.parametrize("way", WAYS)
def test_an_activation_code_is_masked_however_it_is_written(way: str) -> None:
    for code in (CODE, CODE.removeprefix("LPA:")):
        shown = masked(f"see {WAYS[way](code)} now", [])
        assert "4711" not in shown
        assert shown.endswith(" now")


def test_an_install_link_of_ours_is_masked() -> None:
    links = ActivationCode.parse(CODE).install_links()
    for link in (links.ios, links.android, quote(links.ios, safe="")):
        assert "4711" not in masked(f"open {link}", [])


def test_plain_words_of_the_vendor_s_are_left_alone() -> None:
    words = "order EP20260101000001 costs 1 $ or 12.50 $, 100% of LPA users agree: a&b <c>"
    assert masked(words, ["another secret"]) == words


async def test_the_raw_reply_shows_no_body() -> None:
    assert CODE not in repr(RawReply(200, None, CODE.encode()))


@pytest.mark.parametrize("before", [0, 4_000, 4_090, 8_185, 8_190, 20_000])
def test_the_start_of_a_long_message_holds_no_part_of_a_secret(before: int) -> None:
    secret = "made-up-secret-key"
    text = "x" * before + secret * 3 + "y" * 30_000
    start = masked_start(text, [secret])
    assert len(start) < 5_000
    assert "made" not in start
    assert start.endswith(f"({len(text):,} characters)")


async def test_a_message_of_a_mebibyte_becomes_an_error_of_a_few_thousand_characters(
    sandbox: Sandbox,
) -> None:
    sandbox.faults.add(Fault.refuse(-3, "a limit " * 2**17), "getSkus", times=None)
    async with sandbox.client(retry=RetryPolicy(max_attempts=1)) as client:
        with pytest.raises(errors.ApiError, match="characters") as caught:
            await client.catalogue.skus()
    assert len(str(caught.value)) < 6_000

"""No secret in any repr, str, log record, exception or cause."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable, Iterator
from urllib.parse import quote, quote_plus

import pytest

from mioesim_async import (
    Credentials,
    Dialect,
    MioEsimClient,
    RetryPolicy,
    Safety,
    StoredToken,
    errors,
)
from mioesim_async.sandbox import Fault, Sandbox
from mioesim_async.wire.dialect import LOGIN_ENCODINGS, READ_METHODS, LoginEncoding, ReadMethod

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


def everything_said(error: BaseException, caplog: pytest.LogCaptureFixture) -> str:
    said = [caplog.text, *traceback.format_exception(error)]
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

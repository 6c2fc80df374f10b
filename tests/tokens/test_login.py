"""One account, one live token: who logs in, when, and who waits."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from waiting import until

from mioesim_async import (
    Credentials,
    Dialect,
    MemoryTokenStore,
    MioEsimClient,
    errors,
)
from mioesim_async.sandbox import Fault, Sandbox, SandboxClock
from mioesim_async.wire.dialect import (
    LOGIN_ENCODINGS,
    READ_METHODS,
    SCHEMES,
    LoginEncoding,
    ReadMethod,
    SignatureScheme,
)


def logins_seen(sandbox: Sandbox) -> int:
    return [request.endpoint for request in sandbox.requests].count("login")


@pytest.mark.parametrize(
    ("signature", "login_encoding", "read_method"),
    list(itertools.product(SCHEMES, LOGIN_ENCODINGS, READ_METHODS)),
)
async def test_each_dialect_a_vendor_may_insist_on_is_found_out(
    signature: SignatureScheme, login_encoding: LoginEncoding, read_method: ReadMethod
) -> None:
    async with (
        Sandbox(
            150, signature=signature, login_encoding=login_encoding, read_method=read_method
        ) as sandbox,
        sandbox.client() as client,
    ):
        report = await client.cards.query_all(sandbox.iccids, concurrency=1)
        assert len(report.cards) == 150
        assert client.dialect == Dialect(signature, login_encoding, read_method)
        before = len(sandbox.requests)
        await client.cards.detail(sandbox.iccids[0])
        assert len(sandbox.requests) == before + 1, "what was found out is not asked again"


async def test_a_decided_dialect_is_used_as_it_is() -> None:
    dialect = Dialect("encoded", "json", "POST", batch_parameter="iccid_list")
    async with (
        Sandbox(10, signature="encoded", batch_parameter="iccid_list") as sandbox,
        sandbox.client(dialect=dialect) as client,
    ):
        assert len(await client.cards.query(sandbox.iccids)) == 10
        assert [request.method for request in sandbox.requests] == ["POST", "POST"]


async def test_a_hundred_calls_at_once_log_in_once(sandbox: Sandbox, client: MioEsimClient) -> None:
    await asyncio.gather(*[client.cards.query(iccid) for iccid in sandbox.iccids[:100]])
    assert logins_seen(sandbox) == 1


async def test_a_token_killed_while_100_batches_run_costs_one_login_and_no_card() -> None:
    async with Sandbox(10_000) as sandbox, sandbox.client() as client:
        await client.login()
        sandbox.faults.add(Fault.evict_token(), "queryIccidInformation", after=50)
        report = await client.cards.query_all(sandbox.iccids, concurrency=32)
        assert len(report.cards) == 10_000
        assert sandbox.logins == 2


async def test_a_token_is_renewed_before_it_expires_and_nobody_is_rejected(
    sandbox: Sandbox, client: MioEsimClient, clock: SandboxClock
) -> None:
    await client.login()
    clock.advance(2 * 3600 - 12 * 60 + 1)
    await asyncio.gather(*[client.cards.query(iccid) for iccid in sandbox.iccids[:20]])
    assert sandbox.logins == 2
    assert client.stats().replays == 0


async def test_a_token_that_expired_all_the_same_is_replaced(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    await client.login()
    sandbox.evict()
    assert len(await client.cards.query(sandbox.iccids[:100])) == 100
    assert (sandbox.logins, client.stats().replays) == (2, 1)


async def test_a_caller_cancelled_during_the_login_does_not_cancel_it_for_others(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sandbox.faults.add(Fault.evict_token(), "login")
    first = asyncio.create_task(client.cards.query(sandbox.iccids[0]))
    second = asyncio.create_task(client.cards.query(sandbox.iccids[1]))
    await until(lambda: sandbox.requests, pause=0)
    first.cancel()
    assert len(await second) == 1
    with pytest.raises(asyncio.CancelledError):
        await first
    assert logins_seen(sandbox) == 1


async def test_a_login_that_all_callers_left_is_still_finished(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    only = asyncio.create_task(client.login())
    await until(lambda: sandbox.requests, pause=0)
    only.cancel()
    with pytest.raises(asyncio.CancelledError):
        await only
    await client.login()
    assert logins_seen(sandbox) == 1


@pytest.mark.parametrize(
    ("change", "error", "hint"),
    [
        ({"password": "wrong"}, errors.AuthenticationError, "password"),
        ({"secret_key": "wrong"}, errors.SignatureError, "secret key"),
    ],
)
async def test_a_refused_login_says_what_to_check_and_is_remembered_for_a_minute(
    sandbox: Sandbox,
    clock: SandboxClock,
    change: dict[str, str],
    error: type[errors.ApiError],
    hint: str,
) -> None:
    right = sandbox.credentials
    credentials = Credentials(
        **{
            "phone_number": right.phone_number,
            "password": right.password,
            "secret_key": right.secret_key,
            **change,
        }
    )
    async with MioEsimClient(credentials, base_url=sandbox.url, clock=clock) as client:
        with pytest.raises(error, match=hint):
            await client.login()
        seen = logins_seen(sandbox)
        for _ in range(5):
            with pytest.raises(error):
                await client.cards.query(sandbox.iccids[0])
        assert logins_seen(sandbox) == seen
        clock.advance(61)
        with pytest.raises(error):
            await client.login()
        assert logins_seen(sandbox) == 2 * seen


async def test_a_wrong_password_is_tried_in_one_variant_only(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault.refuse(-1), "login", times=None)
    async with sandbox.client() as client:
        with pytest.raises(errors.AuthenticationError):
            await client.login()
    assert logins_seen(sandbox) == 1


async def test_an_account_that_may_not_call_the_api_is_told_so(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault.refuse("-3", "no api"), "login", times=None)
    async with sandbox.client() as client:
        with pytest.raises(errors.PermissionDenied, match="enable it"):
            await client.login()
    assert logins_seen(sandbox) == 1


async def test_an_unknown_login_code_is_kept_whole(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault.refuse("E77", "frozen account"), "login", times=None)
    async with sandbox.client() as client:
        with pytest.raises(errors.ApiError) as caught:
            await client.login()
    assert (caught.value.code, caught.value.message) == ("E77", "frozen account")
    assert caught.value.endpoint == "/api_order/login"


async def test_a_transport_failure_of_the_login_is_retried_and_not_remembered(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sandbox.faults.add(Fault.http(502), "login", times=2)
    sandbox.faults.add(Fault.lose_request(), "login", times=1)
    await client.login()
    assert logins_seen(sandbox) == 4
    sandbox.evict()
    sandbox.faults.add(Fault.http(503), "login", times=4)
    with pytest.raises(errors.HttpStatusError, match="503"):
        await client.cards.query(sandbox.iccids[0])
    assert len(await client.cards.query(sandbox.iccids[0])) == 1


async def test_a_login_reply_lost_after_it_took_effect_is_retried(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sandbox.faults.add(Fault.lose_reply(), "login")
    await client.login()
    assert len(await client.cards.query(sandbox.iccids[0])) == 1
    assert sandbox.logins == 2


async def test_an_html_page_at_every_login_is_a_protocol_error(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault.html(), "login", times=None)
    async with sandbox.client() as client:
        with pytest.raises(errors.ProtocolError, match="HTML") as caught:
            await client.login()
    assert caught.value.reason == "html"
    assert logins_seen(sandbox) == 6


async def test_an_html_page_is_retried_once_the_dialect_is_known(sandbox: Sandbox) -> None:
    async with sandbox.client(dialect=Dialect("plain", "form")) as client:
        sandbox.faults.add(Fault.html(), "login", times=2)
        await client.login()
    assert logins_seen(sandbox) == 3


async def test_a_login_without_a_token_in_its_reply_is_a_protocol_error(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault.replaced(b'{"code":"1","data":{}}'), "login")
    async with sandbox.client() as client:
        with pytest.raises(errors.ProtocolError, match="no token"):
            await client.login()


async def test_tokens_that_die_at_once_end_in_contention_and_not_in_a_storm(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sandbox.faults.add(Fault.evict_token(), "queryIccidInformation", times=None)
    with pytest.raises(errors.TokenContention, match="token store"):
        await client.cards.query(sandbox.iccids[0])
    # Three tokens died within a minute: that is enough, and remembered.
    assert logins_seen(sandbox) == 3
    with pytest.raises(errors.TokenContention):
        await client.cards.query(sandbox.iccids[0])
    assert logins_seen(sandbox) == 3
    sandbox.faults.clear()
    client._caller.clock.advance(61)  # type: ignore[attr-defined]
    assert len(await client.cards.query(sandbox.iccids[0])) == 1


async def test_clients_that_share_a_store_share_the_token_and_the_dialect() -> None:
    store = MemoryTokenStore()
    async with (
        Sandbox(100, signature="encoded") as sandbox,
        sandbox.client(token_store=store) as one,
        sandbox.client(token_store=store) as two,
    ):
        await asyncio.gather(
            *[client.cards.query(iccid) for iccid in sandbox.iccids for client in (one, two)]
        )
        assert sandbox.logins == 1
        assert two.dialect.signature == "encoded"
        sandbox.evict()
        await asyncio.gather(
            *[client.cards.query(iccid) for iccid in sandbox.iccids for client in (one, two)]
        )
        assert sandbox.logins == 2


async def test_a_configured_dialect_wins_over_one_from_the_store() -> None:
    store = MemoryTokenStore()
    async with (
        Sandbox(10, batch_parameter="iccidList") as sandbox,
        sandbox.client(token_store=store) as other,
        sandbox.client(token_store=store, dialect=Dialect(batch_parameter="iccidList")) as client,
    ):
        await other.login()
        for _ in range(2):
            assert len(await client.cards.query(sandbox.iccids)) == 10
        sandbox.evict()
        await other.login()
        assert len(await client.cards.query(sandbox.iccids)) == 10
        assert client.dialect.batch_parameter == "iccidList"


async def test_closing_during_a_login_tells_the_waiters(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault.slow(3600), "login")
    sandbox.clock._skip = False
    client = sandbox.client()
    waiting = asyncio.create_task(client.cards.query(sandbox.iccids[0]))
    await until(lambda: sandbox.requests, pause=0)
    await client.aclose()
    with pytest.raises(errors.ClientClosed):
        await waiting

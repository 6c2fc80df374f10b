"""What becomes of a call when something goes wrong on the way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from waiting import until

from mioesim_async import (
    Dialect,
    MioEsimClient,
    RetryPolicy,
    Safety,
    Timeouts,
    errors,
)
from mioesim_async.sandbox import Fault, Sandbox, SandboxClock

QUERY = "queryIccidInformation"
BUY = "/api_esim/addEsimOrder"
NO_RETRY = RetryPolicy(max_attempts=1)

PASSING = [
    Fault.http(500),
    Fault.http(503),
    Fault.http(429),
    Fault.lose_request(),
    Fault.lose_reply(),
    Fault.cut(),
    Fault.html(),
    Fault.malformed(),
    Fault.truncate(),
    Fault.empty(),
]


def asked(sandbox: Sandbox, endpoint: str = QUERY) -> int:
    return [request.endpoint for request in sandbox.requests].count(endpoint)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: fault.name)
async def test_a_read_survives_each_passing_fault(
    sandbox: Sandbox, fault: Fault, method: Any
) -> None:
    async with sandbox.client(dialect=Dialect(read_method=method)) as client:
        sandbox.faults.add(fault, QUERY, times=3)
        assert len(await client.cards.query(sandbox.iccids[:100])) == 100


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.http(500), errors.HttpStatusError),
        (Fault.http(429), errors.RateLimited),
        (Fault.lose_reply(), errors.ConnectionLost),
        (Fault.cut(), errors.ConnectionLost),
        (Fault.html(), errors.ProtocolError),
        (Fault.malformed(), errors.ProtocolError),
        (Fault.empty(), errors.ProtocolError),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
async def test_a_fault_that_stays_is_raised_after_four_attempts(
    sandbox: Sandbox, fault: Fault, error: type[Exception]
) -> None:
    async with sandbox.client(dialect=Dialect(read_method="POST")) as client:
        sandbox.faults.add(fault, QUERY, times=None)
        with pytest.raises(error):
            await client.cards.query(sandbox.iccids[0])
    assert asked(sandbox) == 4


@pytest.mark.parametrize("status", [301, 307, 400, 403, 404, 418])
async def test_redirects_and_other_client_errors_are_raised_at_once(
    sandbox: Sandbox, client: MioEsimClient, status: int
) -> None:
    sandbox.faults.add(Fault.http(status), QUERY, times=None)
    with pytest.raises(errors.HttpStatusError) as caught:
        await client.cards.query(sandbox.iccids[0])
    assert caught.value.status == status
    assert asked(sandbox) == 1


async def test_a_redirect_is_not_followed_with_the_password(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    async with Sandbox(1) as elsewhere:
        sandbox.faults.add(Fault.redirect(elsewhere.url + "/api_order/login"), "login", times=None)
        with pytest.raises(errors.HttpStatusError, match="307"):
            await client.login()
        assert elsewhere.requests == []


async def test_while_no_get_has_succeeded_html_is_tried_by_post_and_get_again_after(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sandbox.faults.add(Fault.html(), QUERY, times=2)
    assert len(await client.cards.query(sandbox.iccids[0])) == 1
    methods = [request.method for request in sandbox.requests if request.endpoint == QUERY]
    assert methods == ["GET", "POST", "GET"]
    assert client.dialect.read_method == "GET", "a bad minute doesn't change the method"


async def test_once_a_get_has_succeeded_html_doesn_t_change_the_method(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    await client.cards.query(sandbox.iccids[0])
    sandbox.faults.add(Fault.html(), QUERY, times=2)
    await client.cards.query(sandbox.iccids[0])
    assert {request.method for request in sandbox.requests if request.endpoint == QUERY} == {"GET"}


@pytest.mark.parametrize(
    "fault", [Fault.http(429, retry_after="7"), Fault.http(503, retry_after="7")]
)
async def test_a_retry_after_is_waited_for(
    sandbox: Sandbox, client: MioEsimClient, clock: SandboxClock, fault: Fault
) -> None:
    sandbox.faults.add(fault, QUERY)
    await client.cards.query(sandbox.iccids[0])
    assert clock.slept == [7.0]


async def test_a_retry_after_date_is_waited_for(
    sandbox: Sandbox, client: MioEsimClient, clock: SandboxClock
) -> None:
    import email.utils

    date = email.utils.formatdate(clock.time() + 30, usegmt=True)
    sandbox.faults.add(Fault.http(429, retry_after=date), QUERY)
    await client.cards.query(sandbox.iccids[0])
    assert 28 <= clock.slept[0] <= 30


async def test_a_retry_after_beyond_the_cap_is_raised_at_once(
    sandbox: Sandbox, client: MioEsimClient, clock: SandboxClock
) -> None:
    sandbox.faults.add(Fault.http(429, retry_after="3600"), QUERY)
    with pytest.raises(errors.RateLimited, match="wait 3600 s") as caught:
        await client.cards.query(sandbox.iccids[0])
    assert caught.value.retry_after == 3600
    assert clock.slept == []


async def test_a_server_that_closes_a_kept_alive_connection_under_a_post_read_is_retried(
    sandbox: Sandbox,
) -> None:
    async with sandbox.client(dialect=Dialect(read_method="POST")) as client:
        await client.cards.query(sandbox.iccids[0])
        sandbox.faults.add(Fault.lose_request(), QUERY)
        assert len(await client.cards.query(sandbox.iccids[0])) == 1
        lost, again = sandbox.requests[-2:]
        assert lost.fault == "lose request"
        assert lost.connection == sandbox.requests[0].connection, "it was a kept-alive one"
        assert again.connection != lost.connection


async def test_a_host_that_refuses_connections_is_a_connect_error(clock: SandboxClock) -> None:
    async with Sandbox(1) as gone:
        url, credentials = gone.url, gone.credentials
    async with MioEsimClient(credentials, base_url=url, clock=clock) as client:
        with pytest.raises(errors.ConnectError, match=r"127\.0\.0\.1:\d+.*base_url"):
            await client.login()
    assert len(clock.slept) == 3


async def test_a_silent_host_is_an_attempt_timeout(sandbox: Sandbox, clock: SandboxClock) -> None:
    sandbox.faults.add(Fault.slow(3600), QUERY, times=None)
    async with sandbox.client(retry=NO_RETRY, timeouts=Timeouts(attempt=20)) as client:
        await client.login()
        clock._skip = False
        call = asyncio.create_task(client.cards.query(sandbox.iccids[0]))
        await until(lambda: asked(sandbox), pause=0)
        clock.advance(21)
        with pytest.raises(errors.AttemptTimeout, match="within 20 s"):
            await call


@pytest.mark.parametrize(("cards", "limit"), [(1, 264 * 1024), (100, 1056 * 1024)])
async def test_a_reply_is_refused_while_it_is_read_if_it_is_too_large_for_what_was_asked(
    sandbox: Sandbox, client: MioEsimClient, cards: int, limit: int
) -> None:
    await client.login()
    sandbox.faults.add(Fault.huge(limit + 1), QUERY)
    with pytest.raises(errors.ProtocolError, match=f"larger than {limit:,}") as caught:
        await client.cards.query(sandbox.iccids[:cards])
    assert caught.value.reason == "too_large"
    assert asked(sandbox) == 1, "it would be as large again"
    sandbox.faults.add(Fault.huge(limit), QUERY)
    with pytest.raises(errors.ProtocolError) as caught:
        await client.cards.query(sandbox.iccids[:cards])
    assert caught.value.reason == "shape", "it was read whole"


async def test_a_deadline_counts_everything_and_is_checked_before_sleeping(
    sandbox: Sandbox, client: MioEsimClient, clock: SandboxClock
) -> None:
    await client.login()
    sandbox.faults.add(Fault.http(503, retry_after="30"), QUERY)
    with pytest.raises(errors.DeadlineExceeded, match="503") as caught:
        await client.cards.query(sandbox.iccids[0], deadline=10)
    assert isinstance(caught.value.last_error, errors.HttpStatusError)
    assert isinstance(caught.value, TimeoutError)
    assert clock.slept == []


async def test_a_deadline_ends_the_wait_for_a_slot(sandbox: Sandbox, clock: SandboxClock) -> None:
    clock._skip = False
    async with sandbox.client(max_in_flight=1) as client:
        await client.login()
        sandbox.faults.add(Fault.slow(50), QUERY)
        first = asyncio.create_task(client.cards.query(sandbox.iccids[0]))
        await until(lambda: asked(sandbox), pause=0)
        second = asyncio.create_task(client.cards.query(sandbox.iccids[1], deadline=5))
        await asyncio.sleep(0)
        clock.advance(6)
        with pytest.raises(errors.DeadlineExceeded):
            await second
        clock.advance(50)
        assert len(await first) == 1


async def test_a_deadline_never_cancels_the_login_that_others_wait_for(
    sandbox: Sandbox, clock: SandboxClock
) -> None:
    clock._skip = False
    async with sandbox.client() as client:
        sandbox.faults.add(Fault.slow(20), "login")
        short = asyncio.create_task(client.cards.query(sandbox.iccids[0], deadline=5))
        patient = asyncio.create_task(client.cards.query(sandbox.iccids[1]))
        await until(lambda: sandbox.requests, pause=0)
        clock.advance(6)
        with pytest.raises(errors.DeadlineExceeded):
            await short
        clock.advance(20)
        assert len(await patient) == 1
        assert sandbox.logins == 1


@pytest.mark.parametrize("deadline", [0, -1, float("nan")])
async def test_a_deadline_that_has_passed_already_is_refused(
    sandbox: Sandbox, client: MioEsimClient, deadline: float
) -> None:
    with pytest.raises(errors.InvalidRequest, match="deadline"):
        await client.cards.query(sandbox.iccids[0], deadline=deadline)
    assert sandbox.requests == []


async def test_the_signature_hint_and_the_whitelist_hint_are_in_the_message(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sandbox.faults.add(Fault.refuse(-30, "sign error"), QUERY)
    with pytest.raises(errors.SignatureError, match=r"sign error.*secret key.*Dialect"):
        await client.cards.query(sandbox.iccids[0])
    for fault in (Fault.refuse(-3), Fault.refuse(501), Fault.http(403)):
        sandbox.faults.add(fault, "getESIMDetail")
        with pytest.raises(errors.MioEsimError, match="whitelist"):
            await client.cards.detail(sandbox.iccids[0])


@pytest.mark.parametrize(
    "fault",
    [
        Fault.lose_request(),
        Fault.lose_reply(),
        Fault.http(500),
        Fault.http(503, retry_after="1"),
        Fault.html(),
        Fault.empty(),
        Fault.malformed(),
        Fault.refuse(-3),
        Fault.refuse(99),
        Fault.refuse(12345),
        Fault.refuse("E1"),
    ],
    ids=lambda fault: fault.name,
)
@pytest.mark.parametrize("safety", [Safety.MONEY, Safety.WRITE])
async def test_a_purchase_is_never_sent_again_once_a_byte_may_have_left(
    sandbox: Sandbox, client: MioEsimClient, fault: Fault, safety: Safety
) -> None:
    sandbox.faults.add(fault, "addEsimOrder", times=None)
    if safety is Safety.WRITE and fault.code is not None:
        with pytest.raises(errors.ApiError):
            await client.call(BUY, safety=safety)
    else:
        with pytest.raises(errors.OutcomeUnknown, match="look for reference ref-1") as caught:
            await client.call(BUY, {"otherOrderId": "ref-1"}, safety=safety)
        assert caught.value.other_order_id == "ref-1"
        assert isinstance(caught.value.last_error, errors.MioEsimError)
    assert asked(sandbox, "addEsimOrder") == 1


async def test_a_purchase_whose_connection_was_refused_is_tried_again(
    clock: SandboxClock,
) -> None:
    async with Sandbox(1) as first:
        address = (first.url.rpartition(":")[0].removeprefix("http://"), int(first.url[-5:]))
        client = first.client(clock=clock)
        await client.login()
    async with Sandbox(1, host=address[0], port=address[1]) as second:
        second.faults.add(Fault.refuse(4), "addEsimOrder")
        await second.aclose()
        with pytest.raises(errors.ConnectError):
            await client.call(BUY, safety=Safety.MONEY)
    assert len(clock.slept) == 3
    await client.aclose()


async def test_a_definite_refusal_of_a_purchase_is_raised_as_what_it_is(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sandbox.faults.add(Fault.refuse(4), "addEsimOrder")
    with pytest.raises(errors.OrderStateError):
        await client.call(BUY, safety=Safety.MONEY)
    sandbox.faults.add(Fault.http(429), "addEsimOrder")
    with pytest.raises(errors.RateLimited):
        await client.call(BUY, safety=Safety.MONEY)


async def test_a_purchase_refused_with_its_token_is_replayed_once(sandbox: Sandbox) -> None:
    async with sandbox.client() as client:
        sandbox.faults.add(Fault.refuse(-1), "addEsimOrder")
        sandbox.faults.add(Fault.replaced(b'{"code":0,"data":"EP1"}'), "addEsimOrder")
        assert await client.call(BUY, safety=Safety.MONEY) == "EP1"
        sandbox.faults.add(Fault.refuse(-1), "addEsimOrder", times=2)
        with pytest.raises(errors.TokenContention):
            await client.call(BUY, safety=Safety.MONEY)


async def test_a_purchase_goes_by_post_over_a_connection_of_its_own(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    await client.login()
    sandbox.faults.add(Fault.replaced(b'{"code":0,"data":"EP1"}'), "addEsimOrder", times=2)
    for _ in range(2):
        await client.call(BUY, safety=Safety.MONEY)
    connections = [request.connection for request in sandbox.requests]
    assert len(set(connections)) == 3
    assert sandbox.requests[-1].method == "POST"


async def test_a_cancelled_caller_gets_its_cancellation_and_the_purchase_goes_on(
    sandbox: Sandbox, clock: SandboxClock, caplog: pytest.LogCaptureFixture
) -> None:
    clock._skip = False
    late: list[Any] = []
    sandbox.faults.add(
        Fault(name="slow order", delay=30, body=b'{"code":0,"data":"EP7"}'), "addEsimOrder"
    )
    async with sandbox.client(on_late_order=late.append) as client:
        await client.login()
        buying = asyncio.create_task(
            client.call(BUY, {"otherOrderId": "ref-9"}, safety=Safety.MONEY)
        )
        await until(lambda: asked(sandbox, "addEsimOrder"), pause=0)
        buying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await buying
        closing = asyncio.create_task(client.aclose())
        await asyncio.sleep(0)
        assert not closing.done(), "aclose waits for the purchase"
        clock.advance(31)
        await closing
    assert late == ["EP7"]
    assert "ref-9" in caplog.text


async def test_a_deadline_on_a_purchase_that_was_sent_leaves_it_unknown(
    sandbox: Sandbox, clock: SandboxClock
) -> None:
    clock._skip = False
    late: list[Any] = []
    sandbox.faults.add(
        Fault(name="slow order", delay=30, body=b'{"code":4,"message":"no"}'), "addEsimOrder"
    )
    async with sandbox.client(on_late_order=late.append) as client:
        await client.login()
        buying = asyncio.create_task(client.call(BUY, safety=Safety.MONEY, deadline=10))
        await until(lambda: asked(sandbox, "addEsimOrder"), pause=0)
        clock.advance(11)
        with pytest.raises(errors.OutcomeUnknown):
            await buying
        clock.advance(30)
    assert [type(error) for error in late] == [errors.OrderStateError]


async def test_a_purchase_cancelled_before_it_was_sent_is_not_sent(
    sandbox: Sandbox, clock: SandboxClock
) -> None:
    clock._skip = False
    sandbox.faults.add(Fault.slow(30), "login")
    async with sandbox.client() as client:
        buying = asyncio.create_task(client.call(BUY, safety=Safety.MONEY))
        await until(lambda: sandbox.requests, pause=0)
        buying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await buying
        clock.advance(31)
        await client.login()
    assert asked(sandbox, "addEsimOrder") == 0


@pytest.mark.parametrize(
    "path",
    ["", "api_esim/getSkus", "/a?b=1", "/a b", "https://elsewhere.example/", "/a\r\nb", "//"],
)
async def test_a_path_that_is_none_is_refused_before_a_byte_is_sent(
    sandbox: Sandbox, client: MioEsimClient, path: str
) -> None:
    with pytest.raises(errors.InvalidRequest, match="path"):
        await client.call(path)
    assert sandbox.requests == []


async def test_only_the_client_logs_in(client: MioEsimClient) -> None:
    with pytest.raises(errors.InvalidRequest, match="login"):
        await client.call("/api_order/login", safety=Safety.AUTH)

"""One pool, shared by whoever is given it, with an explicit lifetime."""

from __future__ import annotations

import asyncio
import ssl
import threading
from typing import Any

import aiohttp
import pytest
from shopping import PLAN
from waiting import until

from mioesim_async import (
    Dialect,
    MioEsimClient,
    PoolLimits,
    RetryPolicy,
    Safety,
    SessionManager,
    Timeouts,
    errors,
)
from mioesim_async.sandbox import Fault, Sandbox, SandboxClock
from mioesim_async.transport import pool as manager_module

QUERY = "queryIccidInformation"


async def test_100_batches_over_a_pool_of_10_succeed_with_attempts_limited_to_half_a_second(
    clock: SandboxClock,
) -> None:
    # Each reply takes 0.1 s, so the last batch queues for 0.9 s: queueing must not count.
    clock._skip = False
    async with (
        Sandbox(10_000, clock=clock) as sandbox,
        SessionManager(limits=PoolLimits(total=10)) as manager,
        sandbox.client(
            session_manager=manager,
            timeouts=Timeouts(attempt=0.5),
            max_in_flight=200,
            retry=RetryPolicy(max_attempts=1),
        ) as client,
    ):
        await client.login()
        sandbox.faults.add(Fault.slow(0.1), QUERY, times=None)
        calls = [
            asyncio.create_task(client.cards.query(sandbox.iccids[start : start + 100]))
            for start in range(0, 10_000, 100)
        ]
        done = await asyncio.gather(*calls)
        assert sum(map(len, done)) == 10_000
        assert sandbox.connections <= 10


async def test_connections_are_reused(sandbox: Sandbox, client: MioEsimClient) -> None:
    for iccid in sandbox.iccids[:20]:
        await client.cards.query(iccid)
    assert sandbox.connections == 1
    assert client.stats().connections == 1
    assert client.stats().requests == 21


async def test_several_accounts_share_one_pool() -> None:
    async with Sandbox(10) as one, Sandbox(10) as two, SessionManager() as manager:
        first = one.client(session_manager=manager)
        second = two.client(session_manager=manager)
        await asyncio.gather(first.cards.query(one.iccids), second.cards.query(two.iccids))
        await first.aclose()
        assert len(await second.cards.query(two.iccids)) == 10, "a client closes only its own"
        await second.aclose()
        assert not manager.closed


async def test_cookies_are_not_kept_and_the_user_agent_has_a_version(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sandbox.faults.add(
        Fault(
            "cookie",
            headers=(("Set-Cookie", "JSESSIONID=1; Path=/"),),
            body=b'{"code":1,"data":{"token":"t"}}',
        ),
        "login",
    )
    await client.cards.query(sandbox.iccids[0])
    assert not any(request.cookies for request in sandbox.requests)
    assert all(request.user_agent.startswith("mioesim-async/0.") for request in sandbox.requests)


async def test_an_injected_session_lends_its_connector_and_is_never_closed(
    sandbox: Sandbox,
) -> None:
    seen: list[str] = []

    async def started(_: Any, __: Any, params: aiohttp.TraceRequestStartParams) -> None:
        seen.append(params.url.path)

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(started)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=3),
        headers={"User-Agent": "theirs", "Authorization": "Basic dGhlaXJz"},
        cookies={"theirs": "1"},
        raise_for_status=True,
        timeout=aiohttp.ClientTimeout(total=0.000001),
        trace_configs=[trace],
    ) as session:
        async with SessionManager(session=session) as manager:
            assert manager.pool_size == 3
            async with sandbox.client(session_manager=manager) as client:
                sandbox.faults.add(Fault.http(500), QUERY)
                await client.cards.query(sandbox.iccids[0])
        assert not session.closed
        assert session.connector is not None
        assert not session.connector.closed
    assert not any(request.cookies for request in sandbox.requests)
    assert all(request.user_agent.startswith("mioesim-async/") for request in sandbox.requests)
    assert seen == ["/api_order/login"] + ["/api_esim/queryIccidInformation"] * 2


async def test_a_purchase_over_an_injected_session_goes_by_post(sandbox: Sandbox) -> None:
    async with aiohttp.ClientSession() as session:
        manager = SessionManager(session=session)
        async with sandbox.client(session_manager=manager) as client:
            sandbox.faults.add(Fault.refuse(4), "addEsimOrder")
            with pytest.raises(errors.OrderStateError):
                await client.call("/api_esim/addEsimOrder", safety=Safety.MONEY)
        await manager.aclose()
    assert sandbox.requests[-1].method == "POST"


async def test_a_closed_injected_session_is_a_clear_error(sandbox: Sandbox) -> None:
    session = aiohttp.ClientSession()
    await session.close()
    async with sandbox.client(session_manager=SessionManager(session=session)) as client:
        with pytest.raises(errors.ClientClosed, match="passed in is closed"):
            await client.login()


async def test_trace_configs_are_passed_through(sandbox: Sandbox) -> None:
    urls: list[str] = []

    async def started(_: Any, __: Any, params: aiohttp.TraceRequestStartParams) -> None:
        urls.append(str(params.url))

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(started)
    async with (
        SessionManager(trace_configs=[trace]) as manager,
        sandbox.client(session_manager=manager, dialect=Dialect(read_method="POST")) as client,
    ):
        await client.cards.query(sandbox.iccids[:100])
    assert len(urls) == 2
    # The recipe for who looks at raw URLs: reads by POST keep token and sign out of them.
    assert not any("token" in url or "sign" in url for url in urls)


async def test_a_proxy_gets_the_requests(sandbox: Sandbox) -> None:
    async with Sandbox(1) as proxy:  # any HTTP server will do: it sees what a proxy sees
        proxy.faults.add(Fault.replaced(b'{"code":1,"data":{"token":"t"}}'), "login")
        async with (
            SessionManager(proxy=proxy.url) as manager,
            sandbox.client(session_manager=manager) as client,
        ):
            await client.login()
        assert [request.endpoint for request in proxy.requests] == ["login"]
    assert sandbox.requests == []


@pytest.mark.parametrize("base_url", ["http://host.example", "https://host.example"])
@pytest.mark.parametrize("proxy", ["127.0.0.1:1", "[::1]:1", "nowhere.invalid:8080"])
async def test_a_proxy_that_can_t_be_reached_is_named_without_its_user(
    sandbox: Sandbox, base_url: str, proxy: str
) -> None:
    async with MioEsimClient(
        sandbox.credentials,
        base_url=base_url,
        allow_insecure_http=True,
        proxy=f"http://somebody:hunter2@{proxy}",
        retry=RetryPolicy(max_attempts=1),
    ) as client:
        with pytest.raises(errors.ConnectError) as caught:
            await client.login()
    said = str(caught.value)
    assert f"can't connect to the proxy {proxy}: " in said
    assert "hunter2" not in said
    assert "host.example" not in said


@pytest.mark.parametrize("host", ["127.0.0.1:1", "[::1]:1", "b\u00fccher.invalid", "NO.invalid."])
async def test_no_proxy_is_blamed_where_there_is_none(sandbox: Sandbox, host: str) -> None:
    async with MioEsimClient(
        sandbox.credentials, base_url=f"https://{host}", retry=RetryPolicy(max_attempts=1)
    ) as client:
        with pytest.raises(errors.ConnectError, match="check base_url, the network and the proxy"):
            await client.login()


async def test_a_proxy_that_accepts_and_is_silent_is_a_connect_error(
    sandbox: Sandbox,
) -> None:
    silent: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: silent.append(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with (
        SessionManager(proxy=f"http://127.0.0.1:{port}") as manager,
        MioEsimClient(
            sandbox.credentials,
            base_url="https://host.example",
            session_manager=manager,
            retry=RetryPolicy(max_attempts=1),
            timeouts=Timeouts(connect=0.05),
        ) as client,
    ):
        with pytest.raises(errors.ConnectError, match="through the proxy"):
            await client.login()
    for writer in silent:
        writer.close()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("proxy", ["notaurl", "socks5://127.0.0.1:1", "", "http://"])
def test_a_proxy_that_can_t_work_is_refused_at_once(proxy: str) -> None:
    with pytest.raises(errors.ConfigurationError, match="proxy"):
        SessionManager(proxy=proxy)


async def test_limits_without_end_are_no_limits(sandbox: Sandbox) -> None:
    forever = float("inf")
    async with (
        SessionManager(limits=PoolLimits(keepalive=forever, dns_ttl=forever)) as manager,
        sandbox.client(
            session_manager=manager, timeouts=Timeouts(forever, forever, forever, forever)
        ) as client,
    ):
        assert len(await client.cards.query(sandbox.iccids[:3])) == 3


async def test_a_pinned_fingerprint_holds_on_a_session_that_was_passed_in(
    sandbox: Sandbox,
) -> None:
    async with aiohttp.ClientSession() as session:
        manager = SessionManager(session=session, ssl=aiohttp.Fingerprint(b"0" * 32))
        assert manager._lent_ssl


async def test_use_after_close_is_a_clear_error(sandbox: Sandbox) -> None:
    client = sandbox.client()
    await client.cards.query(sandbox.iccids[0])
    await client.aclose()
    await client.aclose()
    for call in (client.login, lambda: client.cards.query(sandbox.iccids[0])):
        with pytest.raises(errors.ClientClosed, match="new one"):
            await call()
    manager = SessionManager()
    await manager.aclose()
    async with sandbox.client(session_manager=manager) as other:
        with pytest.raises(errors.ClientClosed):
            await other.login()


async def test_use_from_a_second_loop_is_a_clear_error(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    await client.login()
    caught: list[BaseException] = []

    def elsewhere() -> None:
        try:
            asyncio.run(client.cards.query(sandbox.iccids[0]))  # type: ignore[arg-type]
        except errors.WrongLoop as error:
            caught.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert "one client" in str(caught[0])


async def test_nothing_is_opened_before_the_first_request(sandbox: Sandbox) -> None:
    async with sandbox.client() as client:
        assert client._manager._session is None
    assert sandbox.connections == 0


async def test_the_tls_context_is_made_off_the_loop_and_once(
    monkeypatch: pytest.MonkeyPatch, clock: SandboxClock, sandbox: Sandbox
) -> None:
    makers: list[str] = []

    def make() -> ssl.SSLContext:
        makers.append(threading.current_thread().name)
        return ssl.create_default_context()

    monkeypatch.setattr(manager_module, "_tls_context", make)
    async with MioEsimClient(
        sandbox.credentials,
        base_url=sandbox.url.replace("http:", "https:"),
        retry=RetryPolicy(max_attempts=1),
    ) as client:
        for _ in range(2):
            # The sandbox speaks no TLS.
            with pytest.raises(errors.ConnectError):
                await client.login()
    assert len(makers) == 1
    assert makers[0] != threading.main_thread().name


async def test_calls_under_way_when_the_client_closes_end_with_an_error_of_ours(
    sandbox: Sandbox, clock: SandboxClock
) -> None:
    clock._skip = False
    client = sandbox.client()
    await client.login()
    sandbox.faults.add(Fault.slow(60), QUERY, times=None)
    call = asyncio.create_task(client.cards.query(sandbox.iccids[0]))
    await until(lambda: len(sandbox.requests) >= 2, pause=0)
    await client.aclose()
    with pytest.raises(errors.MioEsimError):
        await call


@pytest.mark.parametrize(
    "arguments",
    [
        {"limits": PoolLimits(), "session": "session"},
        {"session": object()},
    ],
)
async def test_arguments_that_don_t_fit_are_refused(arguments: dict[str, Any]) -> None:
    async with aiohttp.ClientSession() as session:
        if arguments["session"] == "session":
            arguments = {**arguments, "session": session}
        with pytest.raises(errors.ConfigurationError):
            SessionManager(**arguments)


@pytest.mark.parametrize(
    "make",
    [
        lambda: PoolLimits(total=0),
        lambda: PoolLimits(per_host=-1),
        lambda: PoolLimits(total=True),
        lambda: PoolLimits(keepalive=0),
        lambda: Timeouts(connect=0),
        lambda: Timeouts(attempt=float("nan")),
        lambda: Timeouts(money=-1),
        lambda: RetryPolicy(max_attempts=0),
        lambda: RetryPolicy(base_delay=-1),
        lambda: RetryPolicy(max_attempts=2.5),  # type: ignore[arg-type]
    ],
)
def test_configuration_that_can_t_work_is_refused_by_name(make: Any) -> None:
    with pytest.raises(errors.ConfigurationError, match=r"^(total|per_host|keepalive|connect|"
                       r"attempt|money|max_attempts|base_delay) must"):  # fmt: skip
        make()


def test_the_client_s_timeouts_win_over_the_manager_s() -> None:
    from mioesim_async import Credentials

    credentials = Credentials("13800000000", "made up", "made-up-key")
    manager = SessionManager(timeouts=Timeouts(attempt=1))
    own = MioEsimClient(credentials, session_manager=manager, timeouts=Timeouts(attempt=2))
    lent = MioEsimClient(credentials, session_manager=manager)
    assert own._caller._sender._timer.whole == 2
    assert lent._caller._sender._timer.whole == 1


async def test_calls_that_wait_for_a_connection_are_told_when_it_is_closed(
    sandbox: Sandbox,
) -> None:
    sandbox.clock._skip = False
    sandbox.faults.add(Fault.slow(60), "getESIMDetail", times=None)
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1))
    client = sandbox.client(session_manager=SessionManager(session=session))
    await client.login()
    calls = [
        asyncio.create_task(client.cards.detail(sandbox.iccids[0])),
        asyncio.create_task(client.cards.detail(sandbox.iccids[1])),
        asyncio.create_task(client.orders.place(**PLAN, count=1)),
    ]
    await until(lambda: sandbox.under_way == 1)
    await session.close()
    ends = await asyncio.gather(*calls, return_exceptions=True)
    await client.aclose()
    assert [type(end) for end in ends] == [errors.ClientClosed] * 3
    assert ends[2].was_placed is False  # type: ignore[union-attr]

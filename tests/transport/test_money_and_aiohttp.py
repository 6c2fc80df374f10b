"""No purchase is sent twice by an aiohttp that no longer tells when a request leaves."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from shopping import PLAN, buy
from waiting import until

from mioesim_async import (
    MemoryTokenStore,
    MioEsimClient,
    OrderJournal,
    RetryPolicy,
    Safety,
    errors,
)
from mioesim_async.sandbox import Fault, Sandbox
from mioesim_async.transport import pool
from mioesim_async.transport.attempt_timer import CHECKS_PER_SILENCE


@pytest.fixture(params=["known from aiohttp itself", "seen at the first request"])
def blind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """An aiohttp that calls another method than the one that tells."""
    if request.param == "known from aiohttp itself":
        monkeypatch.delattr(pool._Request, "send")
    else:
        monkeypatch.setattr(pool._Request, "send", aiohttp.ClientRequest.send)


@pytest.mark.usefixtures("blind")
async def test_purchases_are_refused_and_reads_go_on_with_one_warning(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(await buyer.cards.query(sandbox.iccids[:100])) == 100
    sandbox.faults.add(Fault.lose_reply(), None, times=None)
    for _ in range(2):
        with pytest.raises(errors.ConfigurationError, match="install another version") as caught:
            await buy(buyer, "shop-1")
        assert caught.value.was_placed is False
    with pytest.raises(errors.ConfigurationError):
        await buyer.call("/api_esim/addEsimOrder", PLAN, safety=Safety.MONEY)
    assert not sandbox.orders
    assert await journal.open_entries() == []
    sandbox.faults.clear()
    assert len(await buyer.cards.query(sandbox.iccids[:100])) == 100
    said = [record for record in caplog.records if "does not report" in record.getMessage()]
    assert [record.levelname for record in said] == ["WARNING"]


async def test_a_first_request_that_is_a_purchase_is_sent_once(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryTokenStore()
    async with sandbox.client(token_store=store) as client:
        await client.login()
    monkeypatch.setattr(pool._Request, "send", aiohttp.ClientRequest.send)
    async with sandbox.client(token_store=store) as client:
        sandbox.faults.add(Fault.lose_reply(), "addEsimOrder")
        with pytest.raises(errors.OutcomeUnknown):
            await buy(client, "shop-1")
        assert len(sandbox.orders) == 1
        await client.cards.query(sandbox.iccids[0])
        with pytest.raises(errors.ConfigurationError):
            await buy(client, "shop-2")
    assert len(sandbox.orders) == 1


async def test_a_first_request_that_is_a_purchase_is_refused_where_aiohttp_is_known_not_to_tell(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryTokenStore()
    async with sandbox.client(token_store=store) as client:
        await client.login()
    monkeypatch.delattr(aiohttp.ClientRequest, "send")
    async with sandbox.client(token_store=store) as client:
        with pytest.raises(errors.ConfigurationError, match="install another version"):
            await buy(client, "shop-1")
    assert [seen.endpoint for seen in sandbox.requests] == ["login"]


async def test_a_first_request_that_never_left_is_known_by_its_error(sandbox: Sandbox) -> None:
    store = MemoryTokenStore()
    async with sandbox.client(token_store=store) as client:
        await client.login()
        account = client.account.partition("@")[2]
    async with MioEsimClient(
        sandbox.credentials, base_url="http://127.0.0.1:1", account=account, token_store=store,
        clock=sandbox.clock,
    ) as client:  # fmt: skip
        with pytest.raises(errors.ConnectError) as caught:
            await buy(client, "shop-1")
    assert caught.value.was_placed is False


@pytest.mark.usefixtures("blind")
async def test_a_mail_is_not_sent_twice_either(sandbox: Sandbox, client: MioEsimClient) -> None:
    card = sandbox.iccids[0]
    number = (await client.cards.query(card))[0].order_num
    sandbox.faults.add(Fault.lose_reply(), "handlerEsimPdf")
    with pytest.raises(errors.OutcomeUnknown):
        await client.orders.email_pdf(number or "", "customer@example.com")
    assert len(sandbox.mails) == 1


@pytest.mark.usefixtures("blind")
async def test_reads_still_end_in_time(sandbox: Sandbox) -> None:
    async with sandbox.client(retry=RetryPolicy(max_attempts=1)) as client:
        await client.login()
        sandbox.faults.add(Fault.silence(), "getSkus")
        call = asyncio.create_task(client.catalogue.skus())
        await until(lambda: sandbox.under_way, pause=0)
        for _ in range(2 * CHECKS_PER_SILENCE):
            sandbox.clock.advance(client._manager.timeouts.read / CHECKS_PER_SILENCE)
            await asyncio.sleep(0)
        with pytest.raises(errors.AttemptTimeout):
            await call

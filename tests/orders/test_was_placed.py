"""Every error of a purchase says what the purchase came to, and never says too much."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from attrs import evolve
from shopping import PLAN, buy, lose
from waiting import until

from mioesim_async import (
    Dialect,
    MemoryTokenStore,
    MioEsimClient,
    OrderJournal,
    OrderLine,
    RenewalLine,
    StoredToken,
    errors,
)
from mioesim_async.journal.entry import EntryState
from mioesim_async.sandbox import Fault, Sandbox, SandboxClock

CODE = "392-0-7-1-G"
Call = Callable[[MioEsimClient, str], Coroutine[Any, Any, Any]]


async def cancel(client: MioEsimClient, iccid: str) -> Any:
    return await client.orders.cancel("EP20260101000001", iccid)


async def in_bulk(client: MioEsimClient, line: OrderLine | RenewalLine) -> Any:
    """Place one line, and raise its error."""
    async with client.orders.place_many([line], max_spend=None) as outcomes:
        (outcome,) = [outcome async for outcome in outcomes]
    if outcome.error is not None:
        raise outcome.error
    return outcome.order


CALLS: dict[str, tuple[Call, str]] = {
    "place": (lambda c, i: c.orders.place(**PLAN, count=1), "addEsimOrder"),
    "place_by_api_code": (
        lambda c, i: c.orders.place_by_api_code(api_code=CODE, count=1), "addEsimOrderByApiCode",
    ),
    "renew": (lambda c, i: c.orders.renew(**PLAN, iccid=i), "renewCard"),
    "renew_by_api_code": (
        lambda c, i: c.orders.renew_by_api_code(api_code=CODE, iccid=i), "renewCardByApiCode",
    ),
    "cancel": (cancel, "refundOrder"),
    "a line": (lambda c, i: in_bulk(c, OrderLine(**PLAN)), "addEsimOrder"),
    "a renewal line": (lambda c, i: in_bulk(c, RenewalLine(**PLAN, iccid=i)), "renewCard"),
}  # fmt: skip
REFUSED = [Fault.http(429), *[Fault.refuse(code) for code in (-10, -2, 3, 4, 22)]]
UNKNOWN = [Fault.http(status) for status in (307, 403, 408, 500)]
UNKNOWN += [Fault.lose_reply(), Fault.html(), Fault.empty(), Fault.refuse(-3), Fault.refuse(99)]


@pytest.mark.parametrize("kept", [False, True], ids=["no journal", "journal"])
@pytest.mark.parametrize("name", CALLS)
async def test_each_error_of_each_purchase_says_what_it_came_to(
    sandbox: Sandbox, journal: OrderJournal, name: str, kept: bool
) -> None:
    call, endpoint = CALLS[name]
    async with sandbox.client(order_journal=journal if kept else None) as client:
        await client.login()
        for faults, expected in ((REFUSED, False), (UNKNOWN, None)):
            for fault in faults:
                sandbox.faults.add(fault, endpoint)
                with pytest.raises(errors.MioEsimError) as caught:
                    await call(client, sandbox.iccids[0])
                assert caught.value.was_placed is expected, fault.name


def test_only_the_path_of_a_purchase_says_that_nothing_was_placed() -> None:
    found = [errors.MioEsimError]
    for cls in found:
        found += cls.__subclasses__()
        assert cls.was_placed is None, cls


async def test_a_read_that_fails_says_nothing_of_a_purchase(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    with pytest.raises(errors.NotFound) as caught:
        await client.cards.detail("8999000000000000001")
    assert caught.value.was_placed is None


async def test_a_url_that_aiohttp_refuses_is_a_wrong_setting_and_nothing_was_placed(
    sandbox: Sandbox, journal: OrderJournal
) -> None:
    for kept in (None, journal):
        store = MemoryTokenStore()
        async with MioEsimClient(
            sandbox.credentials, base_url="http://host.example", allow_insecure_http=True,
            proxy="http://127.1:9", order_journal=kept, token_store=store, clock=sandbox.clock,
        ) as client:  # fmt: skip
            # So that the purchase is the first call.
            token = StoredToken("1-MADEUP", sandbox.clock.time(), Dialect("plain", "form"))
            await store.save(client.account, token)
            with pytest.raises(errors.ConfigurationError, match="canonical IPv4") as caught:
                await buy(client, "shop-1")
        assert "proxy" in str(caught.value)
        assert caught.value.was_placed is False


async def test_what_never_left_was_not_placed(sandbox: Sandbox, journal: OrderJournal) -> None:
    for kept in (None, journal):
        async with MioEsimClient(
            sandbox.credentials, base_url="http://127.0.0.1:1", order_journal=kept,
            clock=sandbox.clock,
        ) as client:  # fmt: skip
            with pytest.raises(errors.ConnectError) as refused:
                await buy(client, "refused connection")
            with pytest.raises(errors.InvalidRequest) as invalid:
                await client.orders.place(**PLAN, count=0, other_order_id="no cards")
            with pytest.raises(errors.InvalidRequest) as late:
                await client.orders.place(sku_id=0, price_id=0, count=0, other_order_id=7)  # type: ignore[arg-type]
        with pytest.raises(errors.ClientClosed) as closed:
            await buy(client, "closed")
        with pytest.raises(errors.ClientClosed) as closed_refund:
            await cancel(client, sandbox.iccids[0])
        caught = (refused, invalid, late, closed, closed_refund)
        assert [each.value.was_placed for each in caught] == [False] * 5


async def test_a_deadline_says_whether_a_byte_had_left(sandbox: Sandbox) -> None:
    sandbox.clock._skip = False
    async with sandbox.client(max_in_flight=1) as client:
        await client.login()
        for endpoint in ("addEsimOrder", "getOrderInfo"):
            sandbox.faults.add(Fault.slow(50), endpoint, times=None)
        first = asyncio.create_task(
            client.orders.place(**PLAN, count=1, other_order_id="sent", deadline=10)
        )
        await until(
            lambda: any(seen.endpoint == "addEsimOrder" for seen in sandbox.requests), pause=0
        )
        second = asyncio.create_task(
            client.orders.place(**PLAN, count=1, other_order_id="queued", deadline=5)
        )
        await asyncio.sleep(0)
        sandbox.clock.advance(10)
        with pytest.raises(errors.DeadlineExceeded) as queued:
            await second
        with pytest.raises(errors.OutcomeUnknown) as sent:
            await first
        assert (queued.value.was_placed, sent.value.was_placed) == (False, None)
        sandbox.clock.advance(100)


async def test_an_order_that_was_placed_and_not_read_back_was_placed(
    clock: SandboxClock, journal: OrderJournal
) -> None:
    async with (
        Sandbox(10, clock=clock, order_form="number") as sandbox,
        sandbox.client(order_journal=journal) as client,
    ):
        sandbox.faults.add(Fault.http(404), "getOrderInfo", times=None)
        for _ in range(2):
            with pytest.raises(errors.OrderIncomplete) as caught:
                await buy(client, "shop-1")
            assert caught.value.was_placed is True
        for same in (copy.copy(caught.value), pickle.loads(pickle.dumps(caught.value))):
            assert same.was_placed is True


@pytest.mark.parametrize("placed", [True, False], ids=["placed", "open"])
async def test_no_later_error_says_not_placed_while_an_earlier_order_of_the_reference_stands(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal, placed: bool
) -> None:
    if placed:
        await buy(buyer, "shop-1")
    else:
        await lose(sandbox, buyer, Fault.lose_request(), "shop-1")

    async def failed(work: Coroutine[Any, Any, Any]) -> errors.MioEsimError:
        with pytest.raises(errors.MioEsimError) as caught:
            await work
        return caught.value

    told = [
        await failed(buyer.orders.place(**PLAN, count=2, other_order_id="shop-1")),
        await failed(buyer.orders.place(**PLAN, count=0, other_order_id="shop-1")),
        await failed(in_bulk(buyer, OrderLine(**PLAN, count=2, other_order_id="shop-1"))),
        await failed(buyer.orders.renew(**PLAN, other_order_id="shop-1")),
    ]
    await buyer.aclose()
    told.append(await failed(buy(buyer, "shop-1")))
    assert [type(error).__name__ for error in told] == [
        "DuplicateOrder", "InvalidRequest", "DuplicateOrder", "InvalidRequest", "ClientClosed",
    ]  # fmt: skip
    assert [error.was_placed for error in told] == [None] * 5
    entry = await journal.find(buyer.account, "shop-1")
    assert entry is not None
    assert entry.state is (EntryState.PLACED if placed else EntryState.UNKNOWN)


async def test_a_reference_of_a_refused_order_with_other_parameters_was_not_placed(
    sandbox: Sandbox, buyer: MioEsimClient
) -> None:
    sandbox.faults.add(Fault.refuse(4), "addEsimOrder")
    with pytest.raises(errors.OrderStateError):
        await buy(buyer, "shop-1")
    with pytest.raises(errors.DuplicateOrder) as caught:
        await buyer.orders.place(**PLAN, count=2, other_order_id="shop-1")
    assert caught.value.was_placed is False


async def test_a_journal_that_can_t_say_what_stands_leaves_it_open(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal
) -> None:
    async def away(*_: Any) -> Any:
        raise OSError("the database is away")

    journal.find = journal.accounts = away  # type: ignore[method-assign]
    with pytest.raises(errors.InvalidRequest) as caught:
        await buyer.orders.place(**PLAN, count=0, other_order_id="shop-1")
    assert caught.value.was_placed is None


async def test_a_journal_that_takes_long_does_not_hold_up_an_error(
    sandbox: Sandbox, journal: OrderJournal
) -> None:
    sandbox.clock._skip = False

    async def never(*_: Any) -> Any:
        asking.set()
        await asyncio.Event().wait()

    asking = asyncio.Event()
    async with sandbox.client(order_journal=journal) as client:
        journal.accounts = never  # type: ignore[method-assign]
        call = asyncio.create_task(client.orders.place(**PLAN, count=0, other_order_id="shop-1"))
        await asking.wait()
        sandbox.clock.advance(1)
        with pytest.raises(errors.InvalidRequest) as caught:
            await call
    assert caught.value.was_placed is None


async def test_whoever_is_told_late_is_told_what_it_came_to(sandbox: Sandbox) -> None:
    sandbox.clock._skip = False
    late: list[Any] = []
    async with sandbox.client(on_late_order=late.append) as client:
        await client.login()
        for fault in (Fault.refuse(4), Fault.http(403)):
            sandbox.requests.clear()
            sandbox.faults.add(evolve(fault, delay=5), "addEsimOrder")
            call = asyncio.create_task(buy(client, fault.name))
            await until(lambda: sandbox.requests, pause=0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            sandbox.clock.advance(5)
    assert [(type(error).__name__, error.was_placed) for error in late] == [
        ("OrderStateError", False), ("OutcomeUnknown", None),
    ]  # fmt: skip
    assert [error.other_order_id for error in late] == ["code 4", "http 403"]

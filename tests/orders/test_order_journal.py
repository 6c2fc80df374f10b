"""With a journal, a reference is bought at most once, whatever happens to its caller."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from both import kept_in, odd
from journals import committed, written
from shopping import PLAN, buy
from waiting import SECONDS, until

from mioesim_async import FileTokenStore, MioEsimClient, OrderJournal, errors
from mioesim_async.journal import EntryState, JournalEntry
from mioesim_async.sandbox import Fault, Sandbox, SandboxClock

__all__ = ["kept_in", "odd"]


def sent(sandbox: Sandbox) -> int:
    return sum(seen.endpoint == "addEsimOrder" for seen in sandbox.requests)


async def test_the_intent_is_on_disk_before_the_first_byte_leaves(
    sandbox: Sandbox, journal: OrderJournal, buyer: MioEsimClient
) -> None:
    found: list[tuple[str, ...]] = []
    answer = sandbox._vendor.answer

    def look(path: str, params: dict[str, str], fault: Any) -> Any:
        if path.endswith("addEsimOrder"):
            found.extend(committed(journal))
        return answer(path, params, fault)

    sandbox._vendor.answer = look  # type: ignore[method-assign]
    await buy(buyer, "shop-1")
    assert found == [("shop-1", "open")]
    assert not await journal.open_entries()


async def test_a_finished_reference_gives_the_recorded_order_and_nothing_is_sent(
    sandbox: Sandbox, buyer: MioEsimClient
) -> None:
    order = await buyer.orders.place(**PLAN, count=2, other_order_id="shop-1")
    before = len(sandbox.requests)
    again = await buyer.orders.place(**PLAN, count=2, other_order_id="shop-1")
    assert len(sandbox.requests) == before
    for name in ("order_num", "status", "count", "price", "purchased_at", "other_order_id"):
        assert getattr(again, name) == getattr(order, name), name
    assert [card.iccid for card in again.cards] == [card.iccid for card in order.cards]
    assert (await buyer.orders.get(again.order_num)).cards == order.cards


async def test_other_parameters_are_a_duplicate_whatever_became_of_the_first(
    sandbox: Sandbox, buyer: MioEsimClient
) -> None:
    order = await buy(buyer, "placed")
    sandbox.faults.add(Fault.lose_reply(), "addEsimOrder")
    with pytest.raises(errors.OutcomeUnknown):
        await buy(buyer, "unknown")
    sandbox.faults.add(Fault.refuse(4), "addEsimOrder")
    with pytest.raises(errors.OrderStateError):
        await buy(buyer, "refused")
    before = len(sandbox.requests)
    for reference, number in (("placed", order.order_num), ("unknown", None), ("refused", None)):
        with pytest.raises(errors.DuplicateOrder) as caught:
            await buyer.orders.place(**PLAN, count=2, other_order_id=reference)
        assert caught.value.other_order_id == reference
        assert caught.value.order_num == number
    assert len(sandbox.requests) == before


async def test_an_unknown_outcome_is_not_sent_again(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal
) -> None:
    sandbox.faults.add(Fault.lose_reply(), "addEsimOrder")
    for _ in range(3):
        with pytest.raises(errors.OutcomeUnknown) as caught:
            await buy(buyer, "shop-1")
        assert caught.value.other_order_id == "shop-1"
    assert sent(sandbox) == 1
    (entry,) = await journal.open_entries()
    assert (entry.state, entry.other_order_id) == (EntryState.UNKNOWN, "shop-1")
    assert entry.reason.startswith("ConnectionLost: ")


@pytest.mark.parametrize("status", [302, 403, 404, 408])
async def test_a_status_that_proves_nothing_stays_unknown_in_the_journal(
    sandbox: Sandbox, buyer: MioEsimClient, status: int
) -> None:
    sandbox.faults.add(Fault.after_effect(Fault.http(status)), "addEsimOrder")
    with pytest.raises(errors.OutcomeUnknown) as caught:
        await buy(buyer, "shop-1")
    assert isinstance(caught.value.last_error, errors.HttpStatusError)
    assert caught.value.last_error.status == status
    with pytest.raises(errors.OutcomeUnknown):
        await buy(buyer, "shop-1")
    assert sent(sandbox) == 1


@pytest.mark.parametrize(
    "fault",
    [Fault.refuse(code) for code in (-2, -10, -30, 3, 4, 22)] + [Fault.http(429)],
    ids=lambda fault: fault.name,
)
async def test_a_definite_refusal_may_be_sent_again(
    sandbox: Sandbox, buyer: MioEsimClient, fault: Fault
) -> None:
    sandbox.faults.add(fault, "addEsimOrder")
    with pytest.raises(errors.MioEsimError):
        await buy(buyer, "shop-1")
    order = await buy(buyer, "shop-1")
    assert [placed.order_num for placed in sandbox.orders] == [order.order_num]


async def test_what_never_left_may_be_sent_again(sandbox: Sandbox, journal: OrderJournal) -> None:
    async with MioEsimClient(
        sandbox.credentials, base_url="http://127.0.0.1:1", order_journal=journal,
        clock=sandbox.clock,
    ) as client:  # fmt: skip
        with pytest.raises(errors.ConnectError):
            await buy(client, "refused connection")
        account = client._caller.account
    entry = await journal.find(account, "refused connection")
    assert entry is not None
    assert entry.state is EntryState.NOT_SENT

    sandbox.clock._skip = False
    async with sandbox.client(order_journal=journal, max_in_flight=1) as client:
        await client.login()
        sandbox.faults.add(Fault.slow(60), "addEsimOrder")
        holder = asyncio.create_task(buy(client, "holds the only slot of purchases"))
        await until(lambda: sent(sandbox), pause=0)
        queued = asyncio.create_task(
            client.orders.place(**PLAN, count=1, other_order_id="queued", deadline=5)
        )
        gone = asyncio.create_task(buy(client, "cancelled in the queue"))
        async with asyncio.timeout(SECONDS):
            while len(await journal.open_entries()) < 3:
                await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        sandbox.clock.advance(6)
        with pytest.raises(errors.DeadlineExceeded):
            await queued
        sandbox.clock.advance(60)
        await holder
        async with asyncio.timeout(SECONDS):
            while await journal.open_entries():
                await asyncio.sleep(0)
        assert len(sandbox.orders) == sent(sandbox) == 1
        for reference in ("queued", "cancelled in the queue"):
            await buy(client, reference)
    assert len(sandbox.orders) == 3


async def test_who_is_cancelled_while_the_intent_is_recorded_leaves_a_free_reference(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal
) -> None:
    record = journal.begin

    async def record_and_hang(entry: JournalEntry) -> JournalEntry | None:
        await record(entry)
        recorded.set()
        return await asyncio.Future()

    journal.begin = record_and_hang  # type: ignore[method-assign]
    recorded = asyncio.Event()
    task = asyncio.create_task(buy(buyer, "shop-1"))
    await recorded.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(SECONDS):
        while await journal.open_entries():
            await asyncio.sleep(0)
    journal.begin = record  # type: ignore[method-assign]
    await buy(buyer, "shop-1")
    assert sent(sandbox) == 1


async def test_the_same_reference_at_the_same_time_is_sent_once(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal
) -> None:
    async with sandbox.client(order_journal=journal) as other:
        results = await asyncio.gather(
            *(buy(client, "shop-1") for client in (buyer, other) * 10), return_exceptions=True
        )
    assert sent(sandbox) == 1
    orders = [result for result in results if not isinstance(result, BaseException)]
    assert orders
    assert {order.order_num for order in orders} == {sandbox.orders[0].order_num}
    refused = [result for result in results if isinstance(result, BaseException)]
    assert all(isinstance(error, errors.OutcomeUnknown) for error in refused)


async def test_a_cancelled_caller_s_order_is_journalled_when_its_answer_comes(
    sandbox: Sandbox, journal: OrderJournal
) -> None:
    sandbox.clock._skip = False
    sandbox.faults.add(Fault.slow(20), "addEsimOrder")
    async with sandbox.client(order_journal=journal) as client:
        task = asyncio.create_task(buy(client, "shop-1"))
        await until(lambda: sent(sandbox), pause=0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (entry,) = await journal.open_entries()
        assert entry.state is EntryState.OPEN
        sandbox.clock.advance(20)
        async with asyncio.timeout(SECONDS):
            while await journal.open_entries():
                await asyncio.sleep(0)
        again = await buy(client, "shop-1")
    assert again.order_num == sandbox.orders[0].order_num
    assert sent(sandbox) == 1


async def test_an_order_that_could_not_be_read_back_is_read_when_asked_for_again(
    clock: SandboxClock, journal: OrderJournal
) -> None:
    async with (
        Sandbox(10, clock=clock, order_form="number") as sandbox,
        sandbox.client(order_journal=journal) as client,
    ):
        sandbox.faults.add(Fault.http(404), "getOrderInfo", times=2)
        for _ in range(2):
            with pytest.raises(errors.OrderIncomplete) as caught:
                await buy(client, "shop-1")
            assert caught.value.order_num == sandbox.orders[0].order_num
        order = await buy(client, "shop-1")
        assert order.cards[0].activation is not None
        assert sent(sandbox) == 1


async def test_an_order_that_is_read_back_without_cards_is_no_contradiction(
    clock: SandboxClock, journal: OrderJournal, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        Sandbox(10, clock=clock, order_form="number") as sandbox,
        sandbox.client(order_journal=journal) as client,
    ):
        # An eSIM may still be on its way to the order.
        early = b'{"code":0,"data":{"status":0}}'
        sandbox.faults.add(Fault.replaced(early), "getOrderInfo")
        assert not (await buy(client, "shop-1")).cards
        assert "another attempt" not in caplog.text
        assert (await buy(client, "shop-1")).cards
        assert sent(sandbox) == 1


async def test_an_answer_to_an_attempt_that_was_replaced_is_told_in_the_log(
    sandbox: Sandbox, journal: OrderJournal, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.clock._skip = False
    sandbox.faults.add(Fault.slow(20), "addEsimOrder")
    store = FileTokenStore(tmp_path / "tokens.json")
    async with sandbox.client(order_journal=journal, token_store=store) as client:
        task = asyncio.create_task(buy(client, "shop-1"))
        await until(lambda: sent(sandbox), pause=0)
        (entry,) = await journal.open_entries()
        # Somebody was sure too early, and sent it again.
        at = dt.datetime.now(dt.UTC)
        await journal.settle(
            entry.account, entry.other_order_id, entry.attempt, EntryState.ABSENT, at=at
        )
        async with sandbox.client(order_journal=journal, token_store=store) as elsewhere:
            second = await buy(elsewhere, "shop-1")
        sandbox.clock.advance(20)
        first = await task
    assert first.order_num != second.order_num
    assert f"not recorded that reference shop-1 is placed as order {first.order_num}" in caplog.text


async def test_success_without_a_number_stays_open(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal
) -> None:
    sandbox.faults.add(Fault.replaced(b'{"code":0,"data":null}'), "addEsimOrder")
    with pytest.raises(errors.OutcomeUnknown):
        await buy(buyer, "shop-1")
    (entry,) = await journal.open_entries()
    assert entry.state is EntryState.UNKNOWN


async def test_an_order_placed_in_time_is_returned_after_its_first_day(
    sandbox: Sandbox, buyer: MioEsimClient
) -> None:
    gmt8 = dt.timezone(dt.timedelta(hours=8))
    today = dt.datetime.fromtimestamp(sandbox.clock.time(), gmt8).date()
    order = await buyer.orders.place(**PLAN, count=1, begin_date=today, other_order_id="shop-1")
    sandbox.clock.advance(3 * 86400)
    again = await buyer.orders.place(**PLAN, count=1, begin_date=today, other_order_id="shop-1")
    assert again.order_num == order.order_num
    with pytest.raises(errors.InvalidRequest, match="past"):
        await buyer.orders.place(**PLAN, count=1, begin_date=today, other_order_id="shop-2")
    assert sent(sandbox) == 1


async def test_a_journal_that_can_t_be_written_stops_the_order_before_it_is_sent(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    (tmp_path / "orders.db").write_bytes(b"this is no database, but long enough to be none" * 9)
    journal = OrderJournal(tmp_path / "orders.db")
    async with sandbox.client(order_journal=journal) as client:
        with pytest.raises(errors.ConfigurationError, match="order journal"):
            await buy(client, "shop-1")
    assert not sent(sandbox)


async def test_a_journal_that_fails_after_the_answer_does_not_lose_the_order(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    async def full(*_: Any, **__: Any) -> bool:
        raise errors.ConfigurationError("the disk is full")

    journal.settle = full  # type: ignore[method-assign]
    order = await buy(buyer, "shop-1")
    assert order.cards[0].activation is not None
    assert "could not record" in caplog.text
    assert "another attempt" not in caplog.text
    assert (await buy(buyer, "shop-1")).order_num == order.order_num, "this client knows it"
    assert sent(sandbox) == 1


REPLIES: list[tuple[bytes, EntryState, type[errors.MioEsimError] | None]] = [
    (b'{"code":4,"message":"sold out \\ud83d"}', EntryState.REFUSED, errors.OrderStateError),
    (b'{"code":4,"message":"no \\u0000 x"}', EntryState.REFUSED, errors.OrderStateError),
    (b'{"code":-3,"message":"busy \\ud83d"}', EntryState.UNKNOWN, errors.OutcomeUnknown),
    (
        b'{"code":0,"data":{"orderNum":"EP2024\\ud83d","status":0,"cardApiDtoList":[{}]}}',
        EntryState.PLACED,
        None,
    ),
]


@pytest.mark.parametrize(("body", "state", "error"), REPLIES)
async def test_half_a_character_of_the_vendor_s_leaves_no_order_open(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal, body: bytes,
    state: EntryState, error: type[errors.MioEsimError] | None, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    sandbox.faults.add(Fault.replaced(body), "addEsimOrder")
    if error is None:
        assert (await buy(buyer, "shop-1")).order_num == "EP2024\ud83d"
        assert (await buy(buyer, "shop-1")).order_num == "EP2024\ud83d"
        assert sent(sandbox) == 1
    else:
        with pytest.raises(error):
            await buy(buyer, "shop-1")
    entry = await journal.find(buyer.account, "shop-1")
    assert entry is not None
    assert entry.state is state
    assert "could not record" not in caplog.text


async def test_what_can_t_be_written_is_tried_at_once_when_the_client_closes(
    sandbox: Sandbox, journal: OrderJournal
) -> None:
    settle, trying = journal.settle, asyncio.Barrier(3)
    is_closing = False

    async def locked(*args: Any, **known: Any) -> bool:
        if not is_closing:
            raise errors.JournalUnavailable("it is locked")
        async with asyncio.timeout(20):
            await trying.wait()
        return await settle(*args, **known)

    sandbox.clock._skip = False
    async with sandbox.client(order_journal=journal) as client:
        journal.settle = locked  # type: ignore[method-assign]
        for number in range(3):
            await buy(client, f"shop-{number}")
        assert len(await journal.open_entries()) == 3
        is_closing = True
    assert not await journal.open_entries()


async def test_what_is_being_written_when_the_client_closes_is_written_once(
    sandbox: Sandbox, journal: OrderJournal, caplog: pytest.LogCaptureFixture
) -> None:
    settle, tries = journal.settle, 0
    writing, go_on = asyncio.Event(), asyncio.Event()

    async def late(*args: Any, **known: Any) -> bool:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise errors.JournalUnavailable("it is locked")
        changed = await settle(*args, **known)
        writing.set()
        await go_on.wait()
        return changed

    sandbox.clock._skip = False
    client = sandbox.client(order_journal=journal)
    journal.settle = late  # type: ignore[method-assign]
    await buy(client, "shop-1")
    await until(lambda: sandbox.clock.advance(1) or writing.is_set(), pause=0)
    closing = asyncio.create_task(client.aclose())
    for _ in range(20):
        await asyncio.sleep(0)
    go_on.set()
    await closing
    assert tries == 2
    assert "has now recorded that reference shop-1 is placed" in caplog.text
    assert "so it is not recorded" not in caplog.text
    assert "has not recorded" not in caplog.text


async def test_no_activation_code_and_no_address_is_in_the_journal(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal
) -> None:
    order = await buyer.orders.place(
        **PLAN, count=1, other_order_id="shop-1", customer_email="customer@example.com",
        remark="a private remark",
    )  # fmt: skip
    kept = written(journal)
    card = order.cards[0]
    assert card.activation is not None
    assert card.iccid.encode() in kept
    for secret in (card.activation.matching_id, "LPA", "customer@", "private", card.pdf_url):
        assert str(secret).encode() not in kept


async def test_two_accounts_may_use_the_same_reference(
    sandbox: Sandbox, buyer: MioEsimClient, clock: SandboxClock, journal: OrderJournal
) -> None:
    async with Sandbox(10, clock=clock) as second, second.client(order_journal=journal) as other:
        await buy(buyer, "shop-1")
        await buy(other, "shop-1")
        assert len(sandbox.orders) == len(second.orders) == 1


async def test_a_renewal_is_journalled_like_an_order(
    sandbox: Sandbox, buyer: MioEsimClient
) -> None:
    order = await buy(buyer)
    arguments: dict[str, Any] = {**PLAN, "order_num": order.order_num, "other_order_id": "again"}
    renewal = await buyer.orders.renew(**arguments)
    repeated = await buyer.orders.renew(**arguments)
    assert repeated.order_num == renewal.order_num
    assert repeated.is_renewal
    assert repeated.main_order_num == order.order_num
    assert len(sandbox.orders) == 2
    with pytest.raises(errors.DuplicateOrder):
        await buy(buyer, "again")


async def test_a_journal_of_a_team_s_own_takes_its_place(sandbox: Sandbox) -> None:
    with pytest.raises(errors.ConfigurationError, match="order_journal"):
        sandbox.client(order_journal="orders.db")

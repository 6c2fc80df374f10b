"""What became of a purchase reaches the journal, however late, or is told in the log."""

from __future__ import annotations

import asyncio
import gc
import logging
from datetime import date, timedelta
from typing import Any

import pytest
from both import kept_in
from shopping import buy
from waiting import SECONDS, until

from mioesim_async import JournalEntry, MioEsimClient, OrderJournal, errors
from mioesim_async.api.orders import settlements
from mioesim_async.journal.entry import EntryState
from mioesim_async.sandbox import Fault, Sandbox, SandboxClock

__all__ = ["kept_in"]


class Away:
    """Makes methods of a journal fail while ``is_away`` is set."""

    def __init__(self, journal: OrderJournal, *names: str) -> None:
        self.is_away = True
        self.calls = 0
        for name in names:
            setattr(journal, name, self._failing(getattr(journal, name)))

    def _failing(self, method: Any) -> Any:
        async def call(*arguments: Any, **more: Any) -> Any:
            self.calls += 1
            if self.is_away:
                raise errors.JournalUnavailable("the disk is full")
            return await method(*arguments, **more)

        return call


async def test_an_answer_that_can_t_be_recorded_is_written_when_it_can(
    sandbox: Sandbox, journal: OrderJournal, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.clock._skip = False
    away = Away(journal, "settle")
    async with sandbox.client(order_journal=journal) as client:
        order = await buy(client, "shop-1")
        (entry,) = await journal.open_entries()
        assert entry.order_num is None
        said = f"reference shop-1 is placed as order {order.order_num}"
        assert f"could not record that {said}: the disk is full; trying again" in caplog.text
        away.is_away = False
        async with asyncio.timeout(SECONDS):
            while await journal.open_entries():
                sandbox.clock.advance(1)
                await asyncio.sleep(0)
        await until(lambda: "has now recorded" in caplog.text, pause=0)
        assert f"has now recorded that {said}" in caplog.text
        (left,) = [await journal.find(client.account, "shop-1")]
        assert left is not None
        assert (left.state, left.order_num) == (EntryState.PLACED, order.order_num)
        calls = away.calls
        sandbox.clock.advance(1000)
        await asyncio.sleep(0)
        assert away.calls == calls, "nothing is left to write"
    assert "has not recorded" not in caplog.text


async def test_closing_tries_once_more_and_tells_what_was_never_written(
    sandbox: Sandbox, journal: OrderJournal, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.clock._skip = False
    away = Away(journal, "settle")
    async with sandbox.client(order_journal=journal) as client:
        first, second = await buy(client, "shop-1"), await buy(client, "shop-2")
        sandbox.faults.add(Fault.lose_reply(), "addEsimOrder")
        with pytest.raises(errors.OutcomeUnknown):
            await buy(client, "shop-3")
        calls = away.calls
    assert away.calls == calls + 3
    told = [r.getMessage() for r in caplog.records if "has not recorded" in r.getMessage()]
    assert len(told) == 3
    assert f"reference shop-1 is placed as order {first.order_num};" in told[0]
    assert f"reference shop-2 is placed as order {second.order_num};" in told[1]
    assert "reference shop-3 is unknown;" in told[2]
    assert not settlements._with_unwritten


async def test_the_end_of_a_process_tells_what_was_never_written(
    sandbox: Sandbox, journal: OrderJournal, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.clock._skip = False
    Away(journal, "settle")
    client = sandbox.client(order_journal=journal)
    order = await buy(client, "shop-1")
    gc.collect()
    settlements._log_all_unwritten()
    assert f"not recorded that reference shop-1 is placed as order {order.order_num}" in caplog.text
    caplog.clear()
    settlements._log_all_unwritten()
    await client.aclose()
    assert "has not recorded" not in caplog.text, "once is enough"


async def test_the_client_that_knows_the_answer_does_not_buy_again_nor_call_it_unknown(
    sandbox: Sandbox, journal: OrderJournal
) -> None:
    sandbox.clock._skip = False
    Away(journal, "settle")
    async with (
        sandbox.client(order_journal=journal) as client,
        sandbox.client(order_journal=journal) as other,
    ):
        order = await buy(client, "shop-1")
        assert (await buy(client, "shop-1")).order_num == order.order_num
        with pytest.raises(errors.OutcomeUnknown):
            await buy(other, "shop-1")
    assert len(sandbox.orders) == 1


async def test_a_reference_asked_for_again_waits_once_for_a_journal_that_can_t_be_used(
    sandbox: Sandbox, journal: OrderJournal
) -> None:
    sandbox.clock._skip = False
    settles, begins = Away(journal, "settle"), Away(journal, "begin")
    begins.is_away = False
    async with sandbox.client(order_journal=journal) as client:
        order = await buy(client, "shop-1")
        sandbox.faults.add(Fault.refuse(4), "addEsimOrder")
        with pytest.raises(errors.ApiError):
            await buy(client, "shop-2")
        calls = settles.calls
        assert (await buy(client, "shop-1")).order_num == order.order_num
        with pytest.raises(errors.JournalUnavailable) as caught:
            await buy(client, "shop-2")
        assert caught.value.was_placed is None, "the journal has an intent of it"
        assert (settles.calls - calls, begins.calls) == (2, 2)
        settles.is_away = False
        assert (await buy(client, "shop-2")).order_num != order.order_num
    assert len(sandbox.orders) == 2


async def test_an_intent_that_the_journal_may_have_recorded_is_settled_as_not_sent(
    sandbox: Sandbox, journal: OrderJournal
) -> None:
    begin = journal.begin

    async def recorded_but_not_said(entry: Any) -> Any:
        await begin(entry)
        raise OSError("the connection broke at the commit")

    journal.begin = recorded_but_not_said  # type: ignore[method-assign]
    async with sandbox.client(order_journal=journal) as client:
        with pytest.raises(
            errors.JournalUnavailable, match="nothing was sent, try later"
        ) as caught:
            await buy(client, "shop-1")
        assert caught.value.was_placed is None
        journal.begin = begin  # type: ignore[method-assign]
        assert (await buy(client, "shop-1")).order_num == sandbox.orders[0].order_num
    assert len(sandbox.orders) == 1
    assert not await journal.open_entries()


@pytest.mark.parametrize("comes_back", ["before it", "meanwhile", "after it"])
async def test_an_order_whose_number_this_client_has_is_never_called_absent(
    sandbox: Sandbox, journal: OrderJournal, comes_back: str
) -> None:
    sandbox.clock._skip = False
    away = Away(journal, "settle")
    open_entries = journal.open_entries

    async def meanwhile(account: str | None = None) -> list[JournalEntry]:
        away.is_away = comes_back == "after it"
        return await open_entries(account)

    async with sandbox.client(order_journal=journal) as client:
        number = (await buy(client, "shop-1")).order_num
        # The vendor's list lags behind: it shows nothing yet.
        sandbox._vendor.orders.placed.clear()
        away.is_away = comes_back != "before it"
        journal.open_entries = meanwhile  # type: ignore[method-assign]
        report = await client.orders.reconcile(assume_absent_after=timedelta(0))
        assert not report.absent
        if comes_back == "before it":
            assert not report.still_open
            assert not await client.orders.open_entries()
        else:
            (left,) = report.still_open
            assert left.order_num == number
            assert f"reference shop-1 is placed as order {number}" in left.reason
            assert [one.order_num for one in await client.orders.open_entries()] == [number]
        known = await client.orders.entry_of("shop-1")
        assert known is not None
        assert (known.state, known.order_num) == (EntryState.PLACED, number)
        found = await client.orders.entry_of_order(number)
        assert found is not None
        assert found.other_order_id == "shop-1"
        away.is_away = False
    stored = await journal.find(client.account, "shop-1")
    assert stored is not None
    assert (stored.state, stored.order_num) == (EntryState.PLACED, number)


@pytest.mark.parametrize("text", ["sold out \ud83d", "no \x00 x", "\udc00", "x" * 200_000])
async def test_whatever_text_comes_is_recorded(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal, text: str
) -> None:
    for code, state in ((4, EntryState.REFUSED), (-3, EntryState.UNKNOWN)):
        sandbox.faults.add(Fault.replaced(_reply(code, text)), "addEsimOrder")
        with pytest.raises(errors.MioEsimError):
            await buy(buyer, f"code {code}")
        entry = await journal.find(buyer.account, f"code {code}")
        assert entry is not None
        assert entry.state is state
        assert len(entry.reason) <= 2000
        entry.reason.encode()
    order = await buy(buyer, "code 4")
    assert order.order_num == sandbox.orders[0].order_num


def _reply(code: int, message: str) -> bytes:
    written = "".join(
        f"\\u{ord(char):04x}" if not char.isprintable() or ord(char) > 126 else char
        for char in message
    )
    return f'{{"code":{code},"message":"{written}"}}'.encode()


async def test_a_journal_that_fails_before_an_intent_piles_up_nothing(
    sandbox: Sandbox, journal: OrderJournal, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.clock._skip = False
    looks = Away(journal, "accounts")
    away = Away(journal, "begin", "settle")
    async with sandbox.client(order_journal=journal) as client:
        kept = client.orders._purchaser.journalling.settlements
        assert kept is not None
        await _refuse(client, "shop-1", 3)
        assert not kept._unwritten, "begin was not reached"
        looks.is_away = False
        await _refuse(client, "shop-1", 20)
        assert len(kept._unwritten) == 1
        looks.is_away = True
        await _refuse(client, "shop-2", 20)
        assert len(kept._unwritten) == 1
        assert away.is_away
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "the order journal failed before reference shop-1 was sent" in caplog.text
    assert not sandbox.orders


async def _refuse(client: MioEsimClient, reference: str, times: int) -> None:
    for _ in range(times):
        with pytest.raises(errors.JournalUnavailable):
            await buy(client, reference)


async def test_a_purchase_waits_once_for_a_journal_that_can_t_record_its_answer(
    clock: SandboxClock, journal: OrderJournal
) -> None:
    clock._skip = False
    async with Sandbox(5, clock=clock, order_form="number") as sandbox:
        async with sandbox.client(order_journal=journal) as client:
            away = Away(journal, "settle")
            order = await buy(client, "shop-1")
            assert away.calls == 1
            known = await client.orders.entry_of("shop-1")
            assert known is not None
            assert known.order is not None, "what was read back is kept as well"
            away.is_away = False
        stored = await journal.find(client.account, "shop-1")
    assert stored is not None
    assert (stored.order_num, stored.order) == (order.order_num, known.order)


class Held:
    """Holds up a method of a journal until it is let go."""

    def __init__(self, journal: OrderJournal, name: str) -> None:
        self.calls = 0
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()
        self.fault: Exception | None = None
        self._method = getattr(journal, name)
        setattr(journal, name, self._held)

    async def _held(self, *arguments: Any, **more: Any) -> Any:
        self.calls += 1
        self.asked.set()
        await self.go_on.wait()
        if self.fault is not None:
            raise self.fault
        return await self._method(*arguments, **more)


async def test_closing_waits_once_for_what_is_being_written(
    sandbox: Sandbox, journal: OrderJournal, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.clock._skip = False
    away = Away(journal, "settle")
    client = sandbox.client(order_journal=journal)
    order = await buy(client, "shop-1")
    away.is_away = False
    held = Held(journal, "settle")
    await until(lambda: sandbox.clock.advance(1) or held.asked.is_set(), pause=0)
    closing = asyncio.create_task(client.aclose())
    for _ in range(20):
        await asyncio.sleep(0)
    held.fault = errors.JournalUnavailable("it is locked")
    held.go_on.set()
    await closing
    assert held.calls == 1
    assert caplog.text.count("has not recorded") == 1
    assert f"not recorded that reference shop-1 is placed as order {order.order_num}" in caplog.text


async def test_a_look_for_an_order_whose_day_has_passed_ends_with_the_deadline(
    sandbox: Sandbox, journal: OrderJournal
) -> None:
    sandbox.clock._skip = False
    held = Held(journal, "find")
    async with sandbox.client(order_journal=journal) as client:
        buying = asyncio.create_task(
            client.orders.place(
                sku_id=45,
                price_id=442,
                count=1,
                begin_date=date(2020, 1, 1),
                other_order_id="shop-1",
                deadline=0.5,
            )
        )
        async with asyncio.timeout(SECONDS):
            await held.asked.wait()
        try:
            await until(lambda: sandbox.clock.advance(0.5) or buying.done())
        finally:
            held.go_on.set()
        with pytest.raises(errors.DeadlineExceeded) as caught:
            await buying
        assert caught.value.was_placed is None, "nobody could look"
    assert not sandbox.orders


async def test_an_answer_is_written_by_one_at_a_time(
    clock: SandboxClock, journal: OrderJournal, caplog: pytest.LogCaptureFixture
) -> None:
    clock._skip = False
    async with (
        Sandbox(5, clock=clock, order_form="number") as sandbox,
        sandbox.client(order_journal=journal) as client,
    ):
        away = Away(journal, "settle")
        sandbox.faults.add(Fault.refuse(3), "getOrderInfo")
        with pytest.raises(errors.OrderIncomplete) as caught:
            await buy(client, "shop-1")
        away.is_away = False
        held = Held(journal, "settle")
        await until(lambda: clock.advance(1) or held.asked.is_set(), pause=0)
        again = asyncio.create_task(buy(client, "shop-1"))
        for _ in range(20):
            await asyncio.sleep(0)
        calls = held.calls
        held.go_on.set()
        assert calls == 1
        assert (await again).order_num == caught.value.order_num
    assert "so it is not recorded" not in caplog.text
    assert caplog.text.count("has now recorded") == 1


async def test_an_answer_that_was_written_by_a_call_that_failed_is_not_told(
    clock: SandboxClock, journal: OrderJournal, caplog: pytest.LogCaptureFixture
) -> None:
    clock._skip = False
    settle = journal.settle

    async def written_but_not_said(*arguments: Any, **more: Any) -> bool:
        await settle(*arguments, **more)
        raise OSError("the connection broke at the commit")

    journal.settle = written_but_not_said  # type: ignore[method-assign]
    async with (
        Sandbox(5, clock=clock, order_form="number") as sandbox,
        sandbox.client(order_journal=journal) as client,
    ):
        sandbox.faults.add(Fault.refuse(3), "getOrderInfo")
        with pytest.raises(errors.OrderIncomplete):
            await buy(client, "shop-1")
        journal.settle = settle  # type: ignore[method-assign]
    assert "could not record" in caplog.text
    for wrong in ("so it is not recorded", "has now recorded", "has not recorded"):
        assert wrong not in caplog.text


async def test_the_end_of_a_process_does_not_tell_what_was_written_by_a_cancelled_call(
    sandbox: Sandbox, journal: OrderJournal, caplog: pytest.LogCaptureFixture
) -> None:
    settle, writing = journal.settle, asyncio.Event()

    async def seen(*arguments: Any, **more: Any) -> bool:
        writing.set()
        return await settle(*arguments, **more)

    journal.settle = seen  # type: ignore[method-assign]
    async with sandbox.client(order_journal=journal) as client:
        buying = asyncio.create_task(buy(client, "shop-1"), name="mioesim_async test")
        async with asyncio.timeout(SECONDS):
            await writing.wait()
            # As asyncio.run does at its end.
            tasks = [
                task for task in asyncio.all_tasks() if task.get_name().startswith("mioesim_async ")
            ]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        assert buying.cancelled()
        settlements._log_all_unwritten()
        assert "has not recorded" not in caplog.text
        stored = await journal.find(client.account, "shop-1")
    assert stored is not None
    assert stored.order_num == sandbox.orders[0].order_num


async def test_no_task_is_left_of_a_journal_that_stays_away(
    sandbox: Sandbox, journal: OrderJournal, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.clock._skip = False
    Away(journal, "settle")
    caplog.set_level(logging.CRITICAL)
    client = sandbox.client(order_journal=journal)
    await buy(client, "shop-1")
    await client.aclose()
    await client.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}

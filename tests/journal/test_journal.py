"""The order journal: what is kept, who may begin, what may become of an entry, and its file."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime, timedelta, timezone
from itertools import product
from pathlib import Path

import pytest
from attrs import evolve
from journals import ACCOUNT, NOW, ORDER, intent, placed

from mioesim_async import EntryState, Journal, OrderJournal
from mioesim_async.journal import REPEATABLE, SETTLED, UNSETTLED, fingerprint
from mioesim_async.sandbox import SandboxClock

posix = pytest.mark.skipif(sys.platform == "win32", reason="no modes there")


@pytest.fixture
def journal(tmp_path: Path, clock: SandboxClock) -> OrderJournal:
    return OrderJournal(tmp_path / "orders.db", clock=clock)


# What is kept.


async def test_an_entry_comes_back_as_it_was_in_another_journal_of_the_file(
    journal: OrderJournal,
) -> None:
    entry = intent(params={"skuId": "7", "note": "€ü\n"}, reason="why", order_num="N", order=ORDER)
    assert await journal.begin(entry) is None
    found = await OrderJournal(journal.path).find(ACCOUNT, "ref-1")
    assert found == entry
    assert found is not None
    assert str(found.expected_price) == "12.50"
    assert found.created_at.utcoffset() == timedelta(0)
    assert await journal.find(ACCOUNT, "another") is None
    assert await journal.find("another", "ref-1") is None


async def test_times_are_kept_in_utc_and_need_a_zone(journal: OrderJournal) -> None:
    entry = intent(created_at=NOW.astimezone(timezone(timedelta(hours=8))))
    await journal.begin(entry)
    found = await journal.find(ACCOUNT, "ref-1")
    assert found is not None
    assert found.created_at.isoformat() == NOW.isoformat()
    naive = datetime(2024, 5, 1)  # noqa: DTZ001 - the point
    with pytest.raises(ValueError, match="time zone"):
        await journal.begin(intent("ref-2", created_at=naive))
    with pytest.raises(ValueError, match="time zone"):
        await placed(journal, entry, at=naive)
    assert (await journal.find(ACCOUNT, "ref-1")) == found


async def test_an_order_that_is_not_json_ready_changes_nothing(journal: OrderJournal) -> None:
    entry = intent()
    await journal.begin(entry)
    with pytest.raises(TypeError):
        await placed(journal, entry, order={"at": NOW})
    assert await journal.find(ACCOUNT, "ref-1") == entry


ODD = ["sold out \ud83d", "\udc00", "no \x00 x", "\x00", "x" * 10**6 + "\ud83d", "\U0001f600 ü"]


@pytest.mark.parametrize("text", ODD, ids=lambda text: ascii(text[:12]))
async def test_whatever_text_comes_is_recorded_and_found_by_it(
    journal: OrderJournal, clock: SandboxClock, text: str
) -> None:
    entry = intent(order_num=None)
    await journal.begin(entry)
    assert await placed(journal, entry, reason=text, order_num=text, order={"number": text})
    # The same order again is no other one.
    assert await placed(journal, entry, order_num=text, order={"number": text})
    found = await journal.find(ACCOUNT, "ref-1")
    assert found is not None
    assert (found.state, found.order) == (EntryState.PLACED, {"number": text})
    assert found.reason[:2000] == "" or found.reason.isprintable()
    for known in (text, found.order_num):
        assert known is not None
        assert await journal.find_order(ACCOUNT, known) == found
        assert await journal.find_orders(ACCOUNT, order_nums=[known, "another"]) == [found]
    clock.advance(40 * 86_400)
    assert await journal.prune(older_than=timedelta(days=30)) == 1
    assert await journal.find_order(ACCOUNT, text) is None


@pytest.mark.parametrize("text", ODD[:4], ids=ascii)
async def test_a_caller_s_odd_text_is_recorded_too(journal: OrderJournal, text: str) -> None:
    entry = intent(text, account=text, endpoint=text, params={text: text}, attempt=text)
    assert await journal.begin(entry) is None
    assert await journal.begin(entry) is not None, "it is taken"
    assert await journal.accounts() != []
    (listed,) = await journal.open_entries(text)
    assert listed.params == {text: text}
    assert await journal.find_orders(text, references=[text]) == [listed]
    assert await placed(journal, entry, EntryState.REFUSED, reason=text)
    found = await journal.find(text, text)
    assert found is not None
    assert found.state is EntryState.REFUSED
    assert await journal.find(text, "another") is None


def test_it_is_what_the_protocol_asks_for(journal: OrderJournal) -> None:
    assert isinstance(journal, Journal)


def test_every_state_is_settled_or_not() -> None:
    assert set(EntryState) == SETTLED | UNSETTLED
    assert not SETTLED & UNSETTLED
    assert SETTLED - {EntryState.PLACED} == REPEATABLE


# Who may begin.


@pytest.mark.parametrize("state", EntryState)
@pytest.mark.parametrize("same", [True, False])
async def test_a_reference_is_free_again_only_if_nothing_was_placed(
    journal: OrderJournal, state: EntryState, same: bool
) -> None:
    first = intent()
    assert await journal.begin(first) is None
    assert await placed(journal, first, state, reason="why")
    before = await journal.find(ACCOUNT, "ref-1")
    later = NOW + timedelta(days=1)
    second = intent(created_at=later, updated_at=later)
    if not same:
        second.fingerprint = "other"
    expected = None if same and state in REPEATABLE else before
    assert await journal.begin(second) == expected
    assert await journal.find(ACCOUNT, "ref-1") == (second if expected is None else before)


async def test_accounts_have_references_of_their_own(journal: OrderJournal) -> None:
    assert await journal.begin(intent()) is None
    assert await journal.begin(intent(account="another")) is None


async def test_of_a_hundred_that_begin_at_once_one_wins(journal: OrderJournal) -> None:
    others = [journal, OrderJournal(journal.path), OrderJournal(journal.path)]
    entries = [intent() for _ in range(100)]
    came = await asyncio.gather(
        *[others[number % 3].begin(entry) for number, entry in enumerate(entries)]
    )
    assert came.count(None) == 1
    winner = entries[came.index(None)]
    assert all(entry == winner for entry in came if entry is not None)
    assert await journal.find(ACCOUNT, "ref-1") == winner


async def test_who_comes_while_another_lays_out_the_new_file_waits_for_it(tmp_path: Path) -> None:
    for number in range(30):
        journals = [OrderJournal(tmp_path / f"{number}.db") for _ in range(6)]
        came = await asyncio.gather(*[journal.begin(intent()) for journal in journals])
        assert came.count(None) == 1


async def test_a_hundred_references_begin_at_once(journal: OrderJournal) -> None:
    entries = [intent(f"ref-{number:03}") for number in range(100)]
    assert set(await asyncio.gather(*map(journal.begin, entries))) == {None}
    assert await journal.open_entries() == entries


# What may become of an entry.

ALLOWED = {
    (old, new): old in UNSETTLED or (new is EntryState.PLACED and old is not new)
    for old, new in product(EntryState, EntryState)
}


@pytest.mark.parametrize(("old", "new"), ALLOWED)
async def test_what_is_known_is_never_taken_back(
    journal: OrderJournal, old: EntryState, new: EntryState
) -> None:
    entry = intent()
    await journal.begin(entry)
    assert await placed(journal, entry, old, reason="first")
    before = await journal.find(ACCOUNT, "ref-1")
    later = NOW + timedelta(hours=1)
    changed = await placed(journal, entry, new, at=later, reason="second", order_num="N-1")
    assert changed is ALLOWED[old, new]
    after = evolve(entry, state=new, reason="second", order_num="N-1", updated_at=later)
    assert await journal.find(ACCOUNT, "ref-1") == (after if changed else before)


async def test_another_attempt_is_left_alone(journal: OrderJournal) -> None:
    entry = intent()
    assert not await placed(journal, entry)
    await journal.begin(entry)
    assert not await placed(journal, evolve(entry, attempt="another"))
    assert not await placed(journal, evolve(entry, account="another"))
    assert await journal.find(ACCOUNT, "ref-1") == entry


async def test_an_order_is_filled_in_later_and_never_lost(journal: OrderJournal) -> None:
    entry = intent()
    await journal.begin(entry)
    assert await placed(journal, entry, order_num="N-1")
    assert not await placed(journal, entry, order_num="N-2")
    assert not await placed(journal, entry, order_num="N-2", order=ORDER)
    assert await placed(journal, entry, order=ORDER)
    assert not await placed(journal, entry, EntryState.UNKNOWN, order={})
    found = await journal.find(ACCOUNT, "ref-1")
    assert found is not None
    assert (found.state, found.order_num, found.order) == (EntryState.PLACED, "N-1", ORDER)


# What is listed and forgotten.


async def test_open_entries_are_those_that_may_have_been_placed_oldest_first(
    journal: OrderJournal,
) -> None:
    for number, state in enumerate(EntryState):
        entry = intent(state.name, created_at=NOW - timedelta(days=number))
        await journal.begin(entry)
        await placed(journal, entry, state)
    await journal.begin(intent(account="another"))
    listed = await journal.open_entries(ACCOUNT)
    assert [entry.state for entry in listed] == [EntryState.UNKNOWN, EntryState.OPEN]
    assert len(await journal.open_entries()) == 3
    assert await journal.open_entries("nobody") == []


async def test_only_what_is_settled_and_old_is_forgotten(
    journal: OrderJournal, clock: SandboxClock
) -> None:
    for state, age in product(EntryState, (timedelta(days=29), timedelta(days=31))):
        entry = intent(f"{state}{age.days}")
        await journal.begin(entry)
        await placed(
            journal, entry, state, at=datetime.fromtimestamp(clock.time(), NOW.tzinfo) - age
        )
    assert await journal.prune(older_than=timedelta(days=30)) == len(SETTLED)
    assert await journal.prune(older_than=timedelta(days=30)) == 0
    for state in EntryState:
        assert await journal.find(ACCOUNT, f"{state}29") is not None
        assert (await journal.find(ACCOUNT, f"{state}31") is None) is (state in SETTLED)
    clock.advance(2 * 86_400)
    assert await journal.prune(older_than=timedelta(days=30)) == len(SETTLED)
    assert len(await journal.open_entries()) == 4


# The fingerprint.


def test_a_fingerprint_tells_orders_apart_and_nothing_else() -> None:
    texts = {"a": "1", "b": "2"}
    same = [
        fingerprint("/x", {"b": "2", "a": "1"}),
        fingerprint("/x", {**texts, "otherOrderId": "r", "backInfo": "1"}),
    ]
    assert set(same) == {fingerprint("/x", texts)}
    others = [("/y", texts), ("/x", {"a": "2", "b": "1"}), ("/x", {"a": "1"}), ("/x", {"a1": "b2"})]
    assert len({fingerprint(*other) for other in others} | {*same}) == 5

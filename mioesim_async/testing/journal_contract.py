"""What the client relies on in every order journal, as a pytest suite.

Make a subclass whose name begins with ``Test``, and say how your journal is opened::

    class TestMyJournal(JournalContract):
        @asynccontextmanager
        async def open_journal(self, place: Path) -> AsyncIterator[Journal]:
            async with MyJournal(place) as journal:
                yield journal
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from mioesim_async.errors import SpendLimitReached
from mioesim_async.journal.entry import (
    REPEATABLE,
    SETTLED,
    UNSETTLED,
    EntryState,
    Journal,
    JournalEntry,
    fingerprint,
)

__all__ = ["ACCOUNT", "NOW", "ODD_TEXTS", "ORDER", "JournalContract", "intent", "settle"]

ACCOUNT = "f" * 64
NOW = datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
ORDER = {"order_num": "N-1", "price": "12.50", "cards": [{"iccid": "8985200000000000001"}]}
PARAMS = {"skuId": "7", "priceId": "9", "count": "2"}
ODD_TEXTS = ("sold out \ud83d", "\udc00", "no \x00 x", "\x00", "x" * 10**6 + "\ud83d", "\U0001f600")
"""Texts that a vendor's reply may have, and that some databases refuse: NUL, half a character."""

TURNS = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55)
"""After how many turns of the event loop a caller is cancelled."""
SECONDS = 60.0


def intent(reference: str = "ref-1", **changes: Any) -> JournalEntry:
    """Make the entry of a new attempt to buy.

    Args:
        reference: Its reference.
        **changes: Other values of its fields.
    """
    entry = JournalEntry(
        account=ACCOUNT,
        other_order_id=reference,
        endpoint="/api/order",
        params=dict(PARAMS),
        fingerprint=fingerprint("/api/order", PARAMS),
        expected_price=Decimal("12.50"),
        attempt=uuid.uuid4().hex,
        created_at=NOW,
        updated_at=NOW,
    )
    return evolve(entry, **changes)


async def settle(
    journal: Journal,
    entry: JournalEntry,
    state: EntryState = EntryState.PLACED,
    *,
    at: datetime = NOW + timedelta(seconds=1),
    **known: Any,
) -> bool:
    """Settle the attempt of an entry, and return whether that changed the journal.

    Args:
        journal: The journal.
        entry: The entry.
        state: The new state.
        at: When that became known.
        **known: Other arguments of ``Journal.settle``.
    """
    return await journal.settle(
        entry.account, entry.other_order_id, entry.attempt, state, at=at, **known
    )


def _sync(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make a test that pytest can run without a plugin, in an event loop of its own."""
    asks_for_place = "place" in inspect.signature(test).parameters

    @functools.wraps(test)
    def run(self: JournalContract, tmp_path: Path) -> None:
        async def whole() -> None:
            async with asyncio.timeout(SECONDS), self.open_journal(tmp_path) as journal:
                await test(self, journal, *([tmp_path] if asks_for_place else []))

        asyncio.run(whole())

    # pytest would follow it, and take the names of the fixtures from there.
    del vars(run)["__wrapped__"]
    return run


class JournalContract:
    """The suite; see the module. Each test is run in an event loop of its own."""

    def open_journal(self, place: Path) -> AbstractAsyncContextManager[Journal]:
        """Open a journal, and close it at the end of the block.

        Args:
            place: An empty directory that names the journal. A journal that is opened with the
                same place while another is open, or later, has the same entries, as in another
                process. With another place, it is empty.
        """
        raise NotImplementedError

    # What is kept.

    @_sync
    async def test_it_has_the_methods_of_the_protocol(self, journal: Journal) -> None:
        assert isinstance(journal, Journal)

    @_sync
    async def test_an_entry_comes_back_as_it_was(self, journal: Journal, place: Path) -> None:
        entry = intent(
            params={"skuId": "7", "note": "€ü\n"}, reason="why", order_num="N", order=ORDER
        )
        assert await journal.begin(entry) is None
        async with self.open_journal(place) as another:
            found = await another.find(ACCOUNT, "ref-1")
        assert found == entry
        assert found is not None
        assert str(found.expected_price) == "12.50"
        assert await journal.find(ACCOUNT, "another") is None
        assert await journal.find("another", "ref-1") is None

    @_sync
    async def test_values_may_be_missing(self, journal: Journal) -> None:
        entry = intent(params={}, expected_price=None)
        assert await journal.begin(entry) is None
        assert await journal.find(ACCOUNT, "ref-1") == entry

    @_sync
    async def test_times_have_a_zone_and_keep_their_microseconds(self, journal: Journal) -> None:
        entry = intent(created_at=NOW.astimezone(timezone(timedelta(hours=8))))
        await journal.begin(entry)
        found = await journal.find(ACCOUNT, "ref-1")
        assert found is not None
        assert found.created_at == NOW
        assert found.created_at.utcoffset() is not None

    @_sync
    async def test_whatever_text_the_vendor_sends_is_recorded(self, journal: Journal) -> None:
        for number, text in enumerate(ODD_TEXTS):
            entry = intent(f"ref-{number}")
            await journal.begin(entry)
            assert await settle(journal, entry, reason=text, order_num=text, order={"number": text})
            found = await journal.find(ACCOUNT, entry.other_order_id)
            assert found is not None, ascii(text[:20])
            assert found.state is EntryState.PLACED
            assert found.order == {"number": text}

    # Who may begin.

    @_sync
    async def test_a_reference_is_free_again_only_if_nothing_was_placed(
        self, journal: Journal
    ) -> None:
        for state, same in product(EntryState, (True, False)):
            first = intent(f"{state.value} {same}")
            assert await journal.begin(first) is None
            assert await settle(journal, first, state, reason="why")
            before = await journal.find(ACCOUNT, first.other_order_id)
            later = NOW + timedelta(days=1)
            second = intent(first.other_order_id, created_at=later, updated_at=later)
            if not same:
                second.fingerprint = "other"
            expected = None if same and state in REPEATABLE else before
            assert await journal.begin(second) == expected, (state, same)
            kept = second if expected is None else before
            assert await journal.find(ACCOUNT, first.other_order_id) == kept

    @_sync
    async def test_accounts_have_references_of_their_own(self, journal: Journal) -> None:
        assert await journal.begin(intent()) is None
        assert await journal.begin(intent(account="another")) is None

    @_sync
    async def test_of_many_that_begin_at_once_one_wins(self, journal: Journal, place: Path) -> None:
        async with AsyncExitStack() as stack:
            others = [await stack.enter_async_context(self.open_journal(place)) for _ in range(2)]
            for released in (False, True):
                if released:
                    freed = await journal.find(ACCOUNT, "ref-1")
                    assert freed is not None
                    assert await settle(journal, freed, EntryState.REFUSED)
                entries = [intent() for _ in range(30)]
                came = await asyncio.gather(
                    *(
                        (journal, *others)[number % 3].begin(entry)
                        for number, entry in enumerate(entries)
                    )
                )
                assert came.count(None) == 1
                winner = entries[came.index(None)]
                assert all(entry == winner for entry in came if entry is not None)
                assert await journal.find(ACCOUNT, "ref-1") == winner

    @_sync
    async def test_many_references_begin_at_once(self, journal: Journal) -> None:
        entries = [intent(f"ref-{number:03}") for number in range(50)]
        assert set(await asyncio.gather(*map(journal.begin, entries))) == {None}
        assert await journal.open_entries() == entries

    # What may become of an entry.

    @_sync
    async def test_what_is_known_is_never_taken_back(self, journal: Journal) -> None:
        for old, new in product(EntryState, EntryState):
            entry = intent(f"{old.value} {new.value}")
            await journal.begin(entry)
            assert await settle(journal, entry, old, reason="first")
            before = await journal.find(ACCOUNT, entry.other_order_id)
            later = NOW + timedelta(hours=1)
            changed = await settle(journal, entry, new, at=later, reason="second", order_num="N-1")
            allowed = old in UNSETTLED or (new is EntryState.PLACED and old is not new)
            assert changed is allowed, (old, new)
            after = evolve(entry, state=new, reason="second", order_num="N-1", updated_at=later)
            found = await journal.find(ACCOUNT, entry.other_order_id)
            assert found == (after if changed else before)

    @_sync
    async def test_another_attempt_is_left_alone(self, journal: Journal) -> None:
        entry = intent()
        assert not await settle(journal, entry)
        await journal.begin(entry)
        assert not await settle(journal, evolve(entry, attempt="another"))
        assert not await settle(journal, evolve(entry, account="another"))
        assert await journal.find(ACCOUNT, "ref-1") == entry

    @_sync
    async def test_an_answer_to_a_replaced_attempt_changes_nothing(self, journal: Journal) -> None:
        first, second = intent(), intent()
        await journal.begin(first)
        assert await settle(journal, first, EntryState.ABSENT)
        assert await journal.begin(second) is None
        assert not await settle(journal, first, order_num="N-1")
        assert await journal.find(ACCOUNT, "ref-1") == second

    @_sync
    async def test_an_order_is_filled_in_later_and_never_lost(self, journal: Journal) -> None:
        entry = intent()
        await journal.begin(entry)
        assert await settle(journal, entry, order_num="N-1")
        assert not await settle(journal, entry, order_num="N-2")
        assert not await settle(journal, entry, order_num="N-2", order=ORDER)
        assert await settle(journal, entry, order=ORDER)
        assert not await settle(journal, entry, EntryState.UNKNOWN, order={})
        found = await journal.find(ACCOUNT, "ref-1")
        assert found is not None
        assert (found.state, found.order_num, found.order) == (EntryState.PLACED, "N-1", ORDER)

    @_sync
    async def test_of_answers_that_come_at_once_placed_wins(self, journal: Journal) -> None:
        states = [EntryState.PLACED, EntryState.NOT_SENT, EntryState.UNKNOWN, EntryState.REFUSED]
        for number in range(10):
            entry = intent(f"ref-{number}")
            await journal.begin(entry)
            order = states[number % 4 :] + states[: number % 4]
            await asyncio.gather(
                *(
                    settle(
                        journal,
                        entry,
                        state,
                        order_num="N-1" if state is EntryState.PLACED else None,
                    )
                    for state in order
                )
            )
            found = await journal.find(ACCOUNT, entry.other_order_id)
            assert found is not None
            assert (found.state, found.order_num) == (EntryState.PLACED, "N-1")

    # What becomes of a caller.

    @_sync
    async def test_who_is_cancelled_as_it_begins_can_release_the_reference(
        self, journal: Journal
    ) -> None:
        for turns in TURNS:
            entry = intent(f"ref-{turns}")
            await _cancelled_after(turns, journal.begin(entry))
            await settle(journal, entry, EntryState.NOT_SENT)
            found = await journal.find(ACCOUNT, entry.other_order_id)
            assert found is None or found.state is EntryState.NOT_SENT
            assert await journal.begin(intent(entry.other_order_id)) is None

    @_sync
    async def test_an_answer_whose_writer_was_cancelled_can_be_given_again(
        self, journal: Journal
    ) -> None:
        for turns in TURNS:
            entry = intent(f"ref-{turns}")
            await journal.begin(entry)
            await _cancelled_after(turns, settle(journal, entry, order_num="N-1", order=ORDER))
            await settle(journal, entry, order_num="N-1", order=ORDER)
            found = await journal.find(ACCOUNT, entry.other_order_id)
            assert found is not None
            assert (found.state, found.order_num, found.order) == (EntryState.PLACED, "N-1", ORDER)

    # What is listed and forgotten.

    @_sync
    async def test_open_entries_are_those_that_may_have_been_placed_oldest_first(
        self, journal: Journal
    ) -> None:
        for number, state in enumerate(EntryState):
            entry = intent(state.name, created_at=NOW - timedelta(days=number))
            await journal.begin(entry)
            await settle(journal, entry, state)
        await journal.begin(intent(account="another"))
        listed = await journal.open_entries(ACCOUNT)
        assert [entry.state for entry in listed] == [EntryState.UNKNOWN, EntryState.OPEN]
        assert len(await journal.open_entries()) == 3
        assert await journal.open_entries("nobody") == []

    @_sync
    async def test_an_order_is_found_by_its_number_if_it_was_placed(self, journal: Journal) -> None:
        for state in EntryState:
            entry = intent(state.name)
            await journal.begin(entry)
            await settle(journal, entry, state, order_num=f"N-{state.name}")
        found = await journal.find_order(ACCOUNT, "N-PLACED")
        assert found is not None
        assert found.other_order_id == "PLACED"
        assert await journal.find_order(ACCOUNT, "N-UNKNOWN") is None
        assert await journal.find_order("another", "N-PLACED") is None

    @_sync
    async def test_only_what_is_settled_and_old_is_forgotten(self, journal: Journal) -> None:
        now = datetime.now(UTC)
        for state, age in product(EntryState, (29, 31)):
            entry = intent(f"{state.value} {age}")
            await journal.begin(entry)
            await settle(journal, entry, state, at=now - timedelta(days=age))
        assert await journal.prune(older_than=timedelta(days=30)) == len(SETTLED)
        assert await journal.prune(older_than=timedelta(days=30)) == 0
        for state in EntryState:
            assert await journal.find(ACCOUNT, f"{state.value} 29") is not None
            gone = await journal.find(ACCOUNT, f"{state.value} 31") is None
            assert gone is (state in SETTLED)

    # The optional methods.

    @_sync
    async def test_accounts_are_those_for_which_something_may_have_been_sent(
        self, journal: Journal
    ) -> None:
        if (accounts := getattr(journal, "accounts", None)) is None:
            return
        for state in EntryState:
            entry = intent(account=state.name)
            await journal.begin(entry)
            await settle(journal, entry, state)
        names = {state.name for state in EntryState} - {"NOT_SENT"}
        assert sorted(await accounts()) == sorted(names)

    @_sync
    async def test_many_orders_are_found_at_once(self, journal: Journal) -> None:
        if (find_orders := getattr(journal, "find_orders", None)) is None:
            return
        for number, state in enumerate(EntryState):
            entry = intent(state.name)
            await journal.begin(entry)
            await settle(journal, entry, state, order_num=f"N-{number}")
        placed = [*EntryState].index(EntryState.PLACED)
        numbers = [f"N-{number}" for number in range(2000)]
        found = await find_orders(ACCOUNT, order_nums=numbers)
        assert [entry.order_num for entry in found] == [f"N-{placed}"]
        found = await find_orders(ACCOUNT, order_nums=numbers, references=["OPEN", "PLACED", "x"])
        assert sorted(entry.other_order_id for entry in found) == ["OPEN", "PLACED"]
        assert await find_orders(ACCOUNT) == []
        assert await find_orders("another", order_nums=numbers, references=["OPEN"]) == []

    @_sync
    async def test_of_intents_at_once_only_as_many_begin_as_the_limit_allows(
        self, journal: Journal
    ) -> None:
        if (begin_within := getattr(journal, "begin_within", None)) is None:
            return
        limit, price = Decimal("37.50"), Decimal("12.50")
        entries = [intent(f"ref-{number}", expected_price=price) for number in range(8)]
        ends = await asyncio.gather(
            *[begin_within(entry, limit=limit, since=NOW) for entry in entries],
            return_exceptions=True,
        )
        refused = [end for end in ends if isinstance(end, SpendLimitReached)]
        assert (ends.count(None), len(refused)) == (3, 5)
        begun = [entry for entry, end in zip(entries, ends, strict=True) if end is None]
        assert await begin_within(begun[0], limit=limit, since=NOW) is not None
        # Other accounts, and what was created before, have nothing to do with it.
        assert await begin_within(intent(account="another"), limit=price, since=NOW) is None
        later = intent("later", created_at=NOW + timedelta(days=1))
        assert await begin_within(later, limit=price, since=later.created_at) is None

    @_sync
    async def test_only_what_may_have_been_bought_counts_as_spent(self, journal: Journal) -> None:
        if (begin_within := getattr(journal, "begin_within", None)) is None:
            return
        for state in EntryState:
            entry = intent(state.name, expected_price=Decimal("1.10"))
            await journal.begin(entry)
            await settle(journal, entry, state)
        await journal.begin(intent("no price", expected_price=None))
        with pytest.raises(SpendLimitReached) as caught:
            await begin_within(intent(), limit=Decimal("15.79"), since=NOW)
        assert caught.value.spent == Decimal("3.30")
        assert await begin_within(intent(), limit=Decimal("15.80"), since=NOW) is None


async def _cancelled_after(turns: int, work: Any) -> None:
    """Run work, and cancel it after so many turns of the event loop if it isn't done by then."""
    task = asyncio.ensure_future(work)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

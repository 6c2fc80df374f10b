"""What both order journals do beyond the public contract."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from both import kept_in
from journals import ACCOUNT, NOW, intent, placed

from mioesim_async import EntryState, OrderJournal
from mioesim_async.journal import REPEATABLE, SETTLED, UNSETTLED, fingerprint
from mioesim_async.sandbox import SandboxClock

posix = pytest.mark.skipif(sys.platform == "win32", reason="no modes there")


__all__ = ["kept_in"]


# What is kept.


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


def test_every_state_is_settled_or_not() -> None:
    assert set(EntryState) == SETTLED | UNSETTLED
    assert not SETTLED & UNSETTLED
    assert SETTLED - {EntryState.PLACED} == REPEATABLE


# Who may begin.


async def test_who_comes_while_another_lays_out_the_new_file_waits_for_it(tmp_path: Path) -> None:
    for number in range(30):
        journals = [OrderJournal(tmp_path / f"{number}.db") for _ in range(6)]
        came = await asyncio.gather(*[journal.begin(intent()) for journal in journals])
        assert came.count(None) == 1


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

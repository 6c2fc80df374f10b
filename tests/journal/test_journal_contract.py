"""Every journal of ours, and the one that the documents show, keeps the public contract."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from postgres_server import PostgresServer
from shopping import buy
from waiting import SECONDS

from mioesim_async import (
    EntryState,
    JournalEntry,
    OrderJournal,
    PostgresOrderJournal,
    journal,
)
from mioesim_async.sandbox import Sandbox
from mioesim_async.testing.journal_contract import JournalContract


class TestOrderJournal(JournalContract):
    @asynccontextmanager
    async def open_journal(self, place: Path) -> AsyncIterator[OrderJournal]:
        yield OrderJournal(place / "orders.db")


class TestPostgresOrderJournal(JournalContract):
    @pytest.fixture(autouse=True)
    def _server(self, postgres: PostgresServer) -> None:
        self.url = postgres.url

    @asynccontextmanager
    async def open_journal(self, place: Path) -> AsyncIterator[PostgresOrderJournal]:
        journal = PostgresOrderJournal(self.url, schema=f'The "{crc32(bytes(place)):x}"')
        yield journal
        await journal.aclose()


def _documented() -> type[JournalContract]:
    """Run the example in the documents, and return its class of tests."""
    text = (Path(__file__).parents[2] / "docs" / "selling.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {"__name__": __name__}
    exec(compile("\n".join(blocks[1:]), "selling.md", "exec"), names)
    return names["TestDuckJournal"]


TestDocumentedJournal = _documented()


async def test_the_documented_client_buys(sandbox: Sandbox, postgres: PostgresServer) -> None:
    text = (Path(__file__).parents[2] / "docs" / "selling.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0], names)
    options = {"base_url": sandbox.url, "clock": sandbox.clock}
    async with names["shop_client"](sandbox.credentials, postgres.url, **options) as client:
        order = await buy(client, f"documented {uuid.uuid4().hex}")
        entry = await client.orders.entry_of_order(order.order_num)
    assert entry is not None


class Forgetful(OrderJournal):
    """Lets any attempt begin."""

    async def begin(self, entry: JournalEntry) -> JournalEntry | None:
        existing = await super().begin(entry)
        return None if existing is not None and existing.attempt != entry.attempt else existing


class Trusting(OrderJournal):
    """Takes the outcome of any attempt for that of the newest."""

    async def settle(
        self, account: str, other_order_id: str, attempt: str, *args: Any, **known: Any
    ) -> bool:
        entry = await self.find(account, other_order_id)
        newest = attempt if entry is None else entry.attempt
        return await super().settle(account, other_order_id, newest, *args, **known)


class Tidy(OrderJournal):
    """Lists nothing that is unknown."""

    async def open_entries(self, account: str | None = None) -> list[JournalEntry]:
        listed = await super().open_entries(account)
        return [entry for entry in listed if entry.state is EntryState.OPEN]


class Narrow(OrderJournal):
    """Keeps no odd text."""

    async def settle(self, *args: Any, reason: str = "", **known: Any) -> bool:
        reason.encode("ascii")
        return await super().settle(*args, reason=reason, **known)


FOUND_BY = {
    Forgetful: "test_a_reference_is_free_again_only_if_nothing_was_placed",
    Trusting: "test_an_answer_to_a_replaced_attempt_changes_nothing",
    Tidy: "test_open_entries_are_those_that_may_have_been_placed_oldest_first",
    Narrow: "test_whatever_text_the_vendor_sends_is_recorded",
}


@pytest.mark.parametrize("kind", FOUND_BY)
def test_the_contract_finds_a_journal_that_does_not_keep_it(
    kind: type[OrderJournal], tmp_path: Path
) -> None:
    class Checked(JournalContract):
        @asynccontextmanager
        async def open_journal(self, place: Path) -> AsyncIterator[OrderJournal]:
            yield kind(place / "orders.db")

    with pytest.raises((AssertionError, UnicodeError)):
        getattr(Checked(), FOUND_BY[kind])(tmp_path)


def test_the_contract_needs_no_plugin_of_pytest(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from contextlib import asynccontextmanager
        from mioesim_async import OrderJournal
        from mioesim_async.testing.journal_contract import JournalContract

        class TestMine(JournalContract):
            @asynccontextmanager
            async def open_journal(self, place):
                yield OrderJournal(place / "orders.db")
        """
    )
    options = ["-p", "no:asyncio", "-W", "error", "-k", "comes_back or cancelled"]
    done = pytester.runpytest_subprocess(*options, timeout=SECONDS)
    done.assert_outcomes(passed=3, deselected=20)


def test_the_package_of_journals_exports_what_their_implementers_need() -> None:
    promised = {
        "Journal", "JournalEntry", "EntryState", "may_begin", "settled", "OrderJournal",
        "PostgresOrderJournal",
    }  # fmt: skip
    assert promised <= {*journal.__all__}
    assert all(hasattr(journal, name) for name in journal.__all__)
    assert journal.OrderJournal is OrderJournal
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = journal.no_such_name

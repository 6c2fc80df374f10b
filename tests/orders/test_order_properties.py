"""Whatever strikes whenever: at most one order per reference, and a journal that doesn't lie."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hurry import hurried
from hypothesis import HealthCheck, given, settings, strategies as st
from postgres_server import new_schema
from shopping import PLAN, cancel_after

from mioesim_async import MioEsimClient, Order, OrderJournal, PostgresOrderJournal, errors
from mioesim_async.journal import EntryState, Journal
from mioesim_async.sandbox import Fault, Sandbox, SandboxClock

MEMORY = Path("/dev/shm")
FAULTS = [
    Fault.lose_request(), Fault.lose_reply(), Fault.http(500), Fault.http(503), Fault.http(429),
    Fault.http(404), Fault.html(), Fault.empty(), Fault.truncate(), Fault.malformed(), Fault.cut(),
    Fault.refuse(-1), Fault.refuse(-3), Fault.refuse(3), Fault.refuse(4), Fault.refuse(99),
    Fault.refuse(12345), Fault.evict_token(), Fault.replaced(b'{"code":0,"data":null}'),
    Fault.replaced(b'{"code":0,"data":"ok"}'), Fault.after_effect(Fault.http(502)),
    Fault.after_effect(Fault.html()), Fault.after_effect(Fault.refuse(99)), Fault.slow(50),
    Fault.slow(200), Fault.silence(), Fault.after_effect(Fault.silence()),
]  # fmt: skip
ENDPOINTS = ["login", "addEsimOrder", "addEsimOrder", "getOrderInfo", "queryOrder"]
FORMS = ["order", "number", "object with number only", "list", "strange", "nothing"]
SEARCHES = ["by reference", "ignores references", "lists all"]

TURNS = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048]
"""After how many turns of the loop a caller is cancelled."""

LOSSES = ["begin before", "begin after", "settle before", "settle after", "find before"]
"""Where the journal fails: before or after a method did its work."""

METHODS = [
    "begin", "settle", "find", "find_order", "find_orders", "open_entries", "prune", "accounts",
]  # fmt: skip
losses = st.lists(st.tuples(st.sampled_from(LOSSES), st.integers(0, 3)), max_size=2)
strikes = st.lists(
    st.tuples(st.sampled_from(FAULTS), st.sampled_from(ENDPOINTS), st.integers(0, 2)), max_size=4
)
callers = st.lists(
    st.tuples(
        st.sampled_from(["ref-a", "ref-b"]),
        st.none() | st.sampled_from(TURNS),
        st.sampled_from([None, 1e-6, 30.0]),
    ),
    min_size=1,
    max_size=4,
)


class Losing:
    """A journal that loses what it is asked, or its answer, as its network may.

    Attributes:
        losses: Where it fails next, and how many calls before that work.
    """

    def __init__(self, journal: Journal, losses: list[tuple[str, int]]) -> None:
        self.losses = dict(losses)
        for name in METHODS:
            setattr(self, name, self._losing(name, getattr(journal, name)))

    def _losing(self, name: str, method: Any) -> Any:
        async def call(*arguments: Any, **more: Any) -> Any:
            self._lose(f"{name} before")
            answer = await method(*arguments, **more)
            self._lose(f"{name} after")
            return answer

        return call

    def _lose(self, where: str) -> None:
        left = self.losses.pop(where, None)
        if left:
            self.losses[where] = left - 1
        elif left == 0:
            raise errors.JournalUnavailable("the connection broke")


@asynccontextmanager
async def journal_at(place: str | None) -> AsyncIterator[OrderJournal | PostgresOrderJournal]:
    """Open an empty journal: in a file, or in the database of a URL."""
    # A thousand journals on a disk would mostly wait for it; what is durable is tested elsewhere.
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:  # noqa: ASYNC240
        if place is None:
            opened: Any = OrderJournal(Path(folder) / "orders.db")
        else:
            opened = PostgresOrderJournal(place, schema=new_schema())
        yield opened
        await opened.aclose()


async def one_call(
    client: MioEsimClient, reference: str, cancel_at: int | None, deadline: float | None
) -> Any:
    """Place an order, perhaps cancelled at some await; return what the caller sees."""
    work = client.orders.place(**PLAN, count=1, other_order_id=reference, deadline=deadline)
    try:
        if cancel_at is None:
            return await work
        return await cancel_after(work, cancel_at)
    except (errors.MioEsimError, asyncio.CancelledError) as error:
        return error


async def check(
    place: str | None, strikes: Any, losses: Any, callers: Any, rounds: int, form: str, search: str
) -> None:
    clock = SandboxClock(skip_sleeps=True)
    async with (
        journal_at(place) as journal,
        Sandbox(2, clock=clock, order_form=form, search=search) as sandbox,
    ):
        for fault, endpoint, after in strikes:
            sandbox.faults.add(fault, endpoint, after=after)
        losing: Any = Losing(journal, losses)
        for _ in range(rounds):
            async with (
                # For what is silent, until it has timed out.
                hurried(clock, 5.0),
                sandbox.client(order_journal=losing) as one,
                sandbox.client(order_journal=losing) as two,
            ):
                seen = await asyncio.gather(
                    *(
                        one_call((one, two)[number % 2], *caller)
                        for number, caller in enumerate(callers)
                    )
                )
            check_bought_once(sandbox)
            check_callers(sandbox, callers, seen)
        sandbox.faults.clear()
        async with sandbox.client(order_journal=journal) as client:
            await client.orders.reconcile()
            await check_journal(sandbox, journal, client._caller.account, search)
        check_bought_once(sandbox)


def check_bought_once(sandbox: Sandbox) -> None:
    references = [order.other_order_id for order in sandbox.orders]
    assert len(references) == len(set(references)), references


def check_callers(sandbox: Sandbox, callers: Any, seen: list[Any]) -> None:
    """Whoever was told of an order was told the truth."""
    placed = {order.other_order_id: order.order_num for order in sandbox.orders}
    for (reference, *_), result in zip(callers, seen, strict=True):
        if isinstance(result, Order | errors.OrderIncomplete):
            assert result.order_num == placed[reference]
            assert result.other_order_id == reference


async def check_journal(sandbox: Sandbox, journal: OrderJournal, account: str, search: str) -> None:
    placed = {order.other_order_id: order.order_num for order in sandbox.orders}
    for reference in ("ref-a", "ref-b"):
        entry = await journal.find(account, reference)
        if entry is None:
            assert reference not in placed
        elif entry.state is EntryState.PLACED:
            assert entry.order_num == placed[reference]
        elif entry.state in (EntryState.OPEN, EntryState.UNKNOWN):
            # It says that it doesn't know; with a search that works, it must.
            assert reference not in placed or search == "ignores references"
        else:
            assert reference not in placed


@pytest.mark.parametrize(
    ("kept_in", "examples"),
    [
        ("file", 50),
        ("postgres", 20),
        pytest.param("file", 1000, marks=pytest.mark.slow),
        pytest.param("postgres", 1000, marks=pytest.mark.slow),
    ],
)
def test_at_most_one_order_per_reference_and_a_journal_that_agrees_or_does_not_know(
    request: pytest.FixtureRequest, kept_in: str, examples: int
) -> None:
    place = request.getfixturevalue("postgres").url if kept_in == "postgres" else None

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(
        strikes=strikes,
        losses=losses,
        callers=callers,
        rounds=st.integers(1, 2),
        form=st.sampled_from(FORMS),
        search=st.sampled_from(SEARCHES),
    )
    def holds(**case: Any) -> None:
        asyncio.run(check(place, **case))

    holds()

"""A process killed at any moment loses no order, and none is bought twice."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from both import kept_in
from command import environment
from journals import place_of
from shopping import PLAN, buy
from waiting import SECONDS, read_until

from mioesim_async import OrderJournal
from mioesim_async.journal import EntryState
from mioesim_async.sandbox import Sandbox

__all__ = ["kept_in"]

ORDERS = 6

WORKER = (
    """
import asyncio, sys
from journals import opened
from mioesim_async import MioEsimClient, errors

async def main(journal, first, count):
    async with MioEsimClient.from_env(order_journal=opened(journal)) as client:
        await client.login()
        print("ready", flush=True)

        async def place(number):
            try:
                await client.orders.place(
                    sku_id=%(sku_id)d, price_id=%(price_id)d, count=1,
                    other_order_id=f"ref-{number}",
                )
            except errors.OutcomeUnknown:
                pass

        await asyncio.gather(*(place(first + n) for n in range(count)))

asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""
    % PLAN
)


def start(journal: str, sandbox: Sandbox, first: int, **more: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, journal, str(first), str(ORDERS)],
        cwd=Path(__file__).parents[1] / "support",
        env=environment(sandbox) | more,
        stdout=subprocess.PIPE,
    )


def kill_a_worker(journal: str, sandbox: Sandbox, first: int, delay: float) -> None:
    worker = start(journal, sandbox, first)
    assert worker.stdout is not None
    with worker:
        try:
            read_until(worker.stdout, "ready\n")
            # The moment is what is random here; nothing is waited for.
            time.sleep(delay)
        finally:
            worker.kill()


async def test_processes_that_place_the_same_references_place_each_once(
    journal: OrderJournal, tmp_path: Path
) -> None:
    # One token for all, or else they end each other's.
    store = {"MIOESIM_TOKEN_STORE": str(tmp_path / "tokens.json")}
    with Sandbox(20) as sandbox:
        workers = [start(place_of(journal), sandbox, 0, **store) for _ in range(3)]
        for worker in workers:
            assert worker.stdout is not None
            with worker:
                read_until(worker.stdout, "ready\n")
                assert worker.wait(SECONDS) == 0
        placed = [order.other_order_id for order in sandbox.orders]
    assert sorted(placed) == [f"ref-{number}" for number in range(ORDERS)]
    assert not await journal.open_entries()


@pytest.mark.parametrize("rounds", [4, pytest.param(50, marks=pytest.mark.slow)])
async def test_killed_processes_lose_no_order_and_double_none(
    journal: OrderJournal, rounds: int
) -> None:
    moments = random.Random(20261123)
    states: Counter[str] = Counter()
    with Sandbox(10) as sandbox:
        done = 0
        # On a busy machine a few kills may all come before the first order.
        while done < rounds or (not states["open"] and done < 10 * rounds):
            number, done = done, done + 1
            kill_a_worker(place_of(journal), sandbox, number * ORDERS, moments.uniform(0, 0.12))
            for entry in await journal.open_entries():
                states[entry.state.value] += 1
            async with sandbox.client(order_journal=journal) as client:
                # The process is dead and its connections with it, so what isn't there never was.
                await client.orders.reconcile(assume_absent_after=timedelta(0))
                account = client._caller.account
            placed = [order.other_order_id for order in sandbox.orders]
            assert len(placed) == len(set(placed))
            assert not await journal.open_entries()
            for index in range(number * ORDERS, (number + 1) * ORDERS):
                entry_now = await journal.find(account, f"ref-{index}")
                known = entry_now is not None and entry_now.state is EntryState.PLACED
                assert known == (f"ref-{index}" in placed), entry_now
        # A queue that delivers every task again ends with every order placed, once.
        async with sandbox.client(order_journal=journal) as client:
            for index in range(done * ORDERS):
                order = await buy(client, f"ref-{index}")
                assert order.other_order_id == f"ref-{index}"
        placed = [order.other_order_id for order in sandbox.orders]
        assert sorted(placed) == sorted(f"ref-{n}" for n in range(done * ORDERS))
    assert states["open"] > 0, "no process was killed in the middle of an order"

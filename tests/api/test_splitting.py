"""A refused batch is halved until each bad ICCID stands alone; with a stub for the vendor."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any

from hypothesis import given, settings, strategies as st

from mioesim_async import CardOutcome, Dialect, SweepStats, errors
from mioesim_async.api.cards import ParameterCheck, query_cards
from mioesim_async.api.sweep import MAX_CALLS_PER_BATCH, BatchQuery
from mioesim_async.clock import SystemClock
from mioesim_async.transport.pace import Pace
from mioesim_async.wire.envelope import Envelope, parse_envelope

ICCIDS = [f"8985{n:015d}" for n in range(100)]


class Vendor:
    """Refuses every batch with a bad ICCID in it."""

    def __init__(self, bad: set[str], code: int = -3) -> None:
        self.bad, self.code, self.calls = bad, code, 0
        self.dialect = Dialect()

    async def call(self, _: Any, params: dict[str, str], **__: Any) -> Envelope:
        self.calls += 1
        iccids = params["iccids"].split(",")
        await asyncio.sleep(0)
        if self.bad.intersection(iccids):
            raise errors.NotFound("/x", self.code)
        rows = [{"iccid": iccid} for iccid in iccids]
        return parse_envelope(json.dumps({"code": 0, "data": rows}).encode())


def ask(vendor: Vendor, *batches: list[str]) -> tuple[list[list[CardOutcome]], SweepStats]:
    stats = SweepStats()
    query = BatchQuery(
        partial(query_cards, vendor, ParameterCheck()),  # type: ignore[arg-type]
        stats,
        Pace(1),
        SystemClock(),
        clean=True,
        deadline=None,
    )

    async def run() -> list[list[CardOutcome]]:
        results = []
        for batch in batches:
            try:
                results.append(await query.ask(batch))
            except errors.ApiError as error:
                results.append([CardOutcome(iccid, None, error) for iccid in batch])
        return results

    return asyncio.run(run()), stats


@settings(max_examples=200, deadline=None)
@given(
    size=st.integers(1, 100),
    bad=st.sets(st.integers(0, 99), max_size=100),
    code=st.sampled_from([-3, -8, 3]),
)
def test_no_good_card_is_lost_while_calls_last_and_every_bad_one_fails(
    size: int, bad: set[int], code: int
) -> None:
    batch = ICCIDS[:size]
    wrong = {ICCIDS[n] for n in bad if n < size}
    vendor = Vendor(wrong, code)
    (outcomes,), stats = ask(vendor, batch)
    assert [outcome.iccid for outcome in outcomes] == batch
    assert vendor.calls == stats.requests <= MAX_CALLS_PER_BATCH
    for outcome in outcomes:
        assert (outcome.card is None) == (outcome.error is not None)
        if outcome.iccid in wrong:
            assert isinstance(outcome.error, errors.NotFound)
    # One bad ICCID of 100 takes 1 + 2 * 7 calls, so two can't use them up.
    if len(wrong) <= 2:
        assert {outcome.iccid for outcome in outcomes if outcome.error} == wrong


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_three_fruitless_batches_in_a_row_stop_the_splitting_until_a_good_card_comes(
    hopeless: list[bool],
) -> None:
    batches = [[f"{8985 + n}{m:015d}" for m in range(10)] for n in range(len(hopeless))]
    bad = {iccid for batch, bad in zip(batches, hopeless, strict=True) if bad for iccid in batch}
    vendor = Vendor(bad)
    ask(vendor, *batches)
    expected, row = 0, 0
    for is_hopeless in hopeless:
        if not is_hopeless:
            row, calls = 0, 1
        else:
            calls = 19 if row < 3 else 1  # 10 cards that stand alone are the leaves of 19 calls
            row += 1
        expected += calls
    assert vendor.calls == expected


def test_a_code_that_does_not_blame_the_data_is_not_split() -> None:
    vendor = Vendor(set(ICCIDS), 77)
    (outcomes,), _ = ask(vendor, ICCIDS)
    assert vendor.calls == 1
    assert all(outcome.error for outcome in outcomes)


def test_the_stub_is_called_as_the_real_caller_is() -> None:
    import inspect

    from mioesim_async.transport.caller import Caller

    real = inspect.signature(Caller.call).parameters
    assert {"endpoint", "params", "deadline", "pace", "probe"} <= real.keys()

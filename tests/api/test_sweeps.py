"""Any number of cards: one outcome for each, whatever happens on the way."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from both import odd
from turning import slow_steps
from waiting import until

from mioesim_async import (
    CardOutcome,
    CardStream,
    Credentials,
    Dialect,
    MioEsimClient,
    PoolLimits,
    SessionManager,
    Timeouts,
    errors,
)
from mioesim_async.sandbox import Fault, Sandbox, SandboxClock

__all__ = ["odd"]

QUERY = "queryIccidInformation"
STRANGER = "8999000000000000001"


def asked(sandbox: Sandbox) -> int:
    return [request.endpoint for request in sandbox.requests].count(QUERY)


async def outcomes_of(client: MioEsimClient, iccids: Any, **arguments: Any) -> list[CardOutcome]:
    async with client.cards.query_many(iccids, **arguments) as stream:
        return [outcome async for outcome in stream]


async def test_a_reply_about_other_cards_alone_says_of_no_card_that_it_is_missing(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    late, others = sandbox.iccids[:20], sandbox.iccids[20:40]
    rows = [{"iccid": iccid, "dpStatus": "ACTIVE", "usedMb": "1"} for iccid in late]
    reply = json.dumps({"code": 0, "data": rows}).encode()
    sandbox.faults.add(Fault.replaced(reply), QUERY, times=None)
    report = await client.cards.query_all(others)
    assert (report.cards, report.missing, [*report.failed]) == ({}, [], others)
    with pytest.raises(errors.ProtocolError, match="20 other cards, and about none that was asked"):
        await client.cards.query(others)
    assert [*(await client.cards.query_all([*others[:1], *late])).missing] == others[:1]


async def test_missing_and_extra_cards_are_told_apart(
    sandbox: Sandbox, client: MioEsimClient, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.faults.add(Fault.missing_cards(2), QUERY)
    sandbox.faults.add(Fault.extra_cards(3), QUERY)
    stream = client.cards.query_many([*sandbox.iccids[:250], STRANGER])
    async with stream:
        outcomes = [outcome async for outcome in stream]
    neither = [o for o in outcomes if o.card is None and o.error is None]
    assert len(outcomes) == 251
    assert len(neither) == 3
    assert STRANGER in {outcome.iccid for outcome in neither}
    assert (stream.stats.input, stream.stats.found, stream.stats.missing) == (251, 248, 3)
    assert (stream.stats.requests, stream.stats.failed, stream.stats.unasked) == (3, 0, 3)
    assert "3 cards that were not asked for" in caplog.text


async def test_outcomes_come_in_input_order_when_asked_for(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sandbox.faults.add(Fault.slow(1), QUERY)
    sandbox.faults.add(Fault.http(500), QUERY, after=2)
    shuffled = sandbox.iccids[::-1]
    outcomes = await outcomes_of(client, shuffled, ordered=True, batch_size=30)
    assert [outcome.iccid for outcome in outcomes] == shuffled


async def test_a_repeated_iccid_is_sent_once_and_comes_back_each_time(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    one, two = sandbox.iccids[:2]
    outcomes = await outcomes_of(client, [one, two, one, one], ordered=True)
    assert [outcome.iccid for outcome in outcomes] == [one, two, one, one]
    assert all(outcome.card for outcome in outcomes)
    assert sandbox.requests[-1].iccids == [one, two]


async def test_a_sized_input_is_checked_whole_before_a_byte_is_sent(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    good = sandbox.iccids
    for iccids in ([*good, "bad"], (*good, "bad"), {*good, "bad"}, dict.fromkeys([*good, "bad"])):
        for stream in (client.cards.query_many(iccids), client.cards.details(iccids)):
            with pytest.raises(errors.InvalidRequest, match="'bad'") as caught:
                async with stream:
                    pass
            assert caught.value.__notes__ == [
                "Pass iter(...) to get a failed outcome for each bad item instead."
            ]
    with pytest.raises(errors.InvalidRequest, match="item 1000") as caught:
        await client.cards.query_all([*good, "bad"])
    assert caught.value.report is None
    assert sandbox.requests == []


async def test_a_stream_that_is_not_entered_is_checked_at_its_first_outcome(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    stream = client.cards.query_many(["bad", sandbox.iccids[0], "worse"])
    with pytest.raises(errors.InvalidRequest) as caught:
        await anext(stream)
    assert [fault.split(":")[0] for fault in caught.value.faults] == ["item 0", "item 2"]
    assert caught.value.tally is None
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    assert sandbox.requests == []


async def test_a_list_that_is_changed_after_its_check_changes_no_sweep(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    iccids = list(sandbox.iccids)
    async with client.cards.query_many(iccids) as stream:
        iccids[:] = ["bad"]
        outcomes = [outcome async for outcome in stream]
    assert sorted(outcome.iccid for outcome in outcomes) == sorted(sandbox.iccids)
    assert all(outcome.card for outcome in outcomes)


@pytest.mark.parametrize("kind", [list, set, dict.fromkeys])
async def test_an_input_that_is_changed_while_it_is_checked_is_refused(
    sandbox: Sandbox, client: MioEsimClient, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    slow_steps(monkeypatch)
    iccids = kind(f"8985{number:015d}" for number in range(20_000))
    checking = asyncio.create_task(anext(client.cards.query_many(iccids)))
    for _ in range(3):
        await asyncio.sleep(0)
    if isinstance(iccids, list):
        iccids.append("8985999999999999999")
    else:
        iccids |= kind(["8985999999999999999"])
    with pytest.raises(errors.InvalidRequest, match="changed during the check: it had 20000"):
        await checking
    assert sandbox.requests == []


async def test_a_check_that_is_cancelled_can_be_made_again(
    sandbox: Sandbox, client: MioEsimClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_steps(monkeypatch)
    stream = client.cards.query_many([*sandbox.iccids] * 20)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await anext(stream)
    assert sandbox.requests == []
    assert (await anext(stream)).card is not None
    await stream.aclose()


async def test_closing_a_stream_frees_what_was_not_read(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    stream = client.cards.query_many([f"{iccid}F" for iccid in sandbox.iccids] * 3)
    assert (await anext(stream)).card is not None
    await stream.aclose()
    assert list(stream._batches._items) == []  # type: ignore[call-overload]
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_an_item_of_a_stream_that_is_no_iccid_is_a_failed_outcome(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    async def source() -> AsyncIterator[Any]:
        for item in (sandbox.iccids[0], "bad", 89, f"{sandbox.iccids[1]}F"):
            yield item

    outcomes = await outcomes_of(client, source(), ordered=True)
    assert [bool(outcome.card) for outcome in outcomes] == [True, False, False, True]
    assert all(isinstance(outcomes[n].error, errors.InvalidRequest) for n in (1, 2))
    assert [outcome.iccid for outcome in outcomes] == [
        sandbox.iccids[0], "bad", "89", sandbox.iccids[1],
    ]  # fmt: skip
    assert sandbox.requests[-1].iccids == sandbox.iccids[:2]


async def test_a_batch_without_a_single_iccid_is_not_sent(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    outcomes = await outcomes_of(client, iter(["bad", "worse"]))
    assert len(outcomes) == 2
    assert await outcomes_of(client, []) == []
    assert sandbox.requests == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"batch_size": 101},
        {"batch_size": 0},
        {"concurrency": 0},
        {"deadline": 0},
        {"max_outage": -1},
    ],
)
async def test_options_that_can_t_work_are_refused(
    sandbox: Sandbox, client: MioEsimClient, arguments: dict[str, Any]
) -> None:
    with pytest.raises(errors.InvalidRequest, match=next(iter(arguments))):
        client.cards.query_many(sandbox.iccids, **arguments)


@pytest.mark.parametrize("code", [-3, -8, 3])
async def test_a_batch_refused_for_its_data_is_split_until_the_bad_iccid_stands_alone(
    sandbox: Sandbox, client: MioEsimClient, code: int
) -> None:
    bad = [sandbox.iccids[n] for n in (17, 450, 451)]
    sandbox.refused.update(dict.fromkeys(bad, code))
    report = await client.cards.query_all(sandbox.iccids)
    assert sorted(report.failed) == sorted(bad)
    assert {error.code for error in report.failed.values()} == {code}  # type: ignore[attr-defined]
    assert len(report.cards) == 997


async def test_a_missing_parameter_is_the_data_s_fault_only_after_a_success(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sandbox.refused[sandbox.iccids[950]] = -2
    report = await client.cards.query_all(sandbox.iccids, concurrency=1)
    assert list(report.failed) == [sandbox.iccids[950]]
    before = asked(sandbox)
    report = await client.cards.query_all(sandbox.iccids[900:], concurrency=1)
    assert len(report.failed) == 100
    assert asked(sandbox) == before + 1


async def test_splitting_takes_at_most_40_calls_for_a_batch(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    await client.login()
    sandbox.refused.update(dict.fromkeys(sandbox.iccids[1:100:2], -3))
    report = await client.cards.query_all(sandbox.iccids[:100])
    assert asked(sandbox) == 40
    assert len(report.cards) + len(report.failed) == 100
    assert all(isinstance(error, errors.NotFound) for error in report.failed.values())


@pytest.mark.parametrize("concurrency", [1, 8])
async def test_after_three_batches_without_a_good_card_the_stream_stops_splitting(
    sandbox: Sandbox, client: MioEsimClient, concurrency: int
) -> None:
    sandbox.faults.add(Fault.refuse(-3), QUERY, times=None)
    report = await client.cards.query_all(sandbox.iccids, concurrency=concurrency)
    assert len(report.failed) == 1000
    # Three batches were split, 40 calls each; the others were asked once.
    assert asked(sandbox) == 3 * 40 + 7


async def test_a_wrong_password_in_a_sweep_of_100_000_logs_in_once_and_ends_it_with_the_tally(
    sandbox: Sandbox,
) -> None:
    right = sandbox.credentials
    wrong = Credentials(right.phone_number, "wrong", right.secret_key)
    iccids = [f"8985{n:015d}" for n in range(100_000)]
    async with MioEsimClient(wrong, base_url=sandbox.url) as client:
        with pytest.raises(errors.AuthenticationError) as caught:
            await client.cards.query_all(iccids)
    assert [request.endpoint for request in sandbox.requests] == ["login"]
    assert caught.value.tally.found == 0
    assert "ended early" in caught.value.__notes__[0]
    assert pickle.loads(pickle.dumps(caught.value)).tally.input == 0


async def test_what_was_done_before_a_fatal_error_is_in_its_report(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sandbox.faults.add(Fault.refuse(-30), "login", times=None, after=1)
    sandbox.faults.add(Fault.evict_token(), QUERY, after=4)
    with pytest.raises(errors.SignatureError) as caught:
        await client.cards.query_all(sandbox.iccids, concurrency=1)
    assert len(caught.value.report.cards) == caught.value.tally.found == 400


@pytest.mark.parametrize(
    "fault",
    [Fault.refuse(77), Fault.http(404), Fault.replaced(b'{"code":0,"data":"gone"}')],
    ids=lambda fault: fault.name,
)
async def test_other_errors_belong_to_their_batch(
    sandbox: Sandbox, client: MioEsimClient, clock: SandboxClock, fault: Fault
) -> None:
    sandbox.faults.add(fault, QUERY, times=5, after=1)
    report = await client.cards.query_all(sandbox.iccids, concurrency=1)
    assert len(report.cards) == len(report.failed) == 500
    assert clock.slept == []


async def test_an_error_in_an_outcome_holds_no_frames(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sandbox.faults.add(Fault.http(404), QUERY)
    outcomes = await outcomes_of(client, sandbox.iccids[:100])
    assert all(outcome.error and outcome.error.__traceback__ is None for outcome in outcomes)


async def test_a_row_that_can_t_be_read_makes_its_iccid_fail(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    one, two, three = sandbox.iccids[:3]
    body = '{"code":0,"data":{"%s":{"usedMB":"lots"},"%s":7,"%s":{}}}' % (one, two, three)
    sandbox.faults.add(Fault.replaced(body.encode()), QUERY)
    report = await client.cards.query_all([one, two, three])
    assert {type(error) for error in report.failed.values()} == {errors.ProtocolError}
    assert (sorted(report.failed), list(report.cards)) == (sorted([one, two]), [three])


async def test_a_row_of_nobody_makes_the_lacking_cards_fail_not_missing(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    one, two = sandbox.iccids[:2]
    sandbox.faults.add(
        Fault.replaced(f'{{"code":0,"data":[{{"iccid":"{one}"}},{{"usedMB":1}}]}}'.encode()), QUERY
    )
    report = await client.cards.query_all([one, two])
    assert list(report.cards) == [one]
    assert isinstance(report.failed[two], errors.ProtocolError)


@pytest.mark.parametrize(
    "data",
    ['[{"iccid":"%s"},{"simNo":"%s","dpStatus":"ACTIVE"}]',
     '{"0":{"iccid":"%s"},"1":{"simNo":"%s","dpStatus":"ACTIVE"}}',
     '{"list":[{"iccid":"%s"}],"card":{"simNo":"%s","usedMB":"1"}}',
     '{"%s":{"usedMB":"1"},"card":{"simNo":"%s","usedMB":"1"}}',
     '{"0":{"iccid":"%s"},"1":{"simNo":"%s","dpStatus":"ACTIVE","pdfUrls":[]}}',
     '{"0":{"iccid":"%s"},"1":{"simNo":"%s","dpStatus":"ACTIVE","plan":{"name":"x"}}}',
     '{"list":[{"iccid":"%s"}],"a":{"b":{"c":{"d":{"e":{"iccid":"%s"}}}}}}'],
    ids=["list", "object", "beside a list", "beside a map", "with a list in it",
         "with an object in it", "five levels deep"],
)  # fmt: skip
async def test_a_card_in_a_field_that_nobody_knows_fails_and_is_not_missing(
    sandbox: Sandbox, client: MioEsimClient, data: str
) -> None:
    one, two = sandbox.iccids[:2]
    sandbox.faults.add(
        Fault.replaced(b'{"code":0,"data":%s}' % (data % (one, two)).encode()), QUERY
    )
    report = await client.cards.query_all([one, two])
    assert (report.missing, [*report.cards], [*report.failed]) == ([], [one], [two])


async def test_what_is_no_card_beside_the_rows_leaves_the_lacking_cards_missing(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    one, two = sandbox.iccids[:2]
    page = '{"total":1,"pageNo":1,"endTime":"2024-01-01","orderNum":null,"filters":{}}'
    body = f'{{"code":0,"data":{{"list":[{{"iccid":"{one}"}}],"page":{page}}}}}'
    sandbox.faults.add(Fault.replaced(body.encode()), QUERY)
    report = await client.cards.query_all([one, two])
    assert (report.missing, [*report.cards], report.failed) == ([two], [one], {})


@pytest.mark.parametrize(
    "fault",
    [Fault.http(502), Fault.http(429, retry_after="3"), Fault.lose_request(), Fault.html(),
     Fault.cut()],
    ids=lambda fault: fault.name,
)  # fmt: skip
async def test_a_host_down_for_20_seconds_in_the_middle_loses_no_card(
    clock: SandboxClock, fault: Fault
) -> None:
    async with Sandbox(10_000, clock=clock) as sandbox, sandbox.client() as client:
        seen: Counter[str] = Counter()
        async with client.cards.query_many(sandbox.iccids) as stream:
            async for outcome in stream:
                assert outcome.card, outcome
                seen[outcome.iccid] += 1
                if len(seen) == 3000:
                    sandbox.faults.add(fault, seconds=20)
    assert len(seen) == 10_000
    assert set(seen.values()) == {1}
    # aiohttp itself sends a GET again when its kept-alive connection dies: hence twice.
    assert asked(sandbox) < 100 + 2 * (8 * 4 + 10)


async def test_html_with_status_200_for_a_while_loses_no_card(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sandbox.faults.add(Fault.html(), QUERY, after=2, seconds=20)
    sandbox.faults.add(Fault.html(), "login", times=3)
    report = await client.cards.query_all(sandbox.iccids)
    assert len(report.cards) == 1000


async def test_the_last_batch_may_meet_a_bad_minute_too(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sandbox.faults.add(Fault.lose_request(), QUERY, times=30, after=9)
    report = await client.cards.query_all(sandbox.iccids, concurrency=1)
    assert len(report.cards) == 1000


async def test_a_host_that_stays_down_is_raised_with_the_tally(
    sandbox: Sandbox, client: MioEsimClient, clock: SandboxClock
) -> None:
    sandbox.faults.add(Fault.http(503), QUERY, times=None, after=3)
    start = clock.monotonic()
    with pytest.raises(errors.HttpStatusError, match="503") as caught:
        await client.cards.query_all(sandbox.iccids, max_outage=100)
    assert caught.value.tally.found == 300
    assert clock.monotonic() - start >= 100


async def test_a_deadline_is_per_batch_from_its_slot(sandbox: Sandbox, clock: SandboxClock) -> None:
    clock._skip = False
    sandbox.faults.add(Fault.slow(50), QUERY, times=1, after=1)
    async with sandbox.client(max_in_flight=1) as client:
        await client.login()
        async with client.cards.query_many(sandbox.iccids[:300], deadline=5) as stream:
            sweep = asyncio.create_task(collect(stream))
            await until(lambda: asked(sandbox) >= 2, pause=0)
            clock.advance(6)
            outcomes = await sweep
    # The slow batch was given up after 5 s, and asked again when the next was answered.
    assert all(outcome.card for outcome in outcomes)
    assert stream.stats.requests == 4


async def collect(stream: CardStream) -> list[CardOutcome]:
    return [outcome async for outcome in stream]


async def test_concurrency_is_capped_by_the_gate_and_the_pool(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        SessionManager(limits=PoolLimits(total=3)) as manager,
        sandbox.client(session_manager=manager) as client,
    ):
        await client.cards.query_all(sandbox.iccids, concurrency=50)
    assert "capped at 2" in caplog.text, "a quarter is left to others"
    assert sandbox.connections <= 3


async def test_a_stream_left_early_by_plain_async_for_is_cleaned_up_by_the_client(
    sandbox: Sandbox,
) -> None:
    async with sandbox.client() as client:
        async for outcome in client.cards.query_many(sandbox.iccids):
            assert outcome.card
            break
        stream = client.cards.query_many(sandbox.iccids)
        await anext(stream)
    with pytest.raises(errors.ClientClosed, match="closed"):
        # What was taken up is handed out first, and then nobody takes it for the end.
        while True:
            await anext(stream)
    # conftest checks that no task is left.


async def test_details_stream_one_request_each(sandbox: Sandbox, client: MioEsimClient) -> None:
    sandbox.faults.add(Fault.refuse(3), "getESIMDetail", after=1)
    sandbox.faults.add(Fault.replaced(b'{"code":0,"data":null}'), "getESIMDetail", after=2)
    source = iter([*sandbox.iccids[:5], "bad"])
    async with client.cards.details(source, ordered=True, concurrency=1) as stream:
        outcomes = [outcome async for outcome in stream]
    assert [bool(outcome.card) for outcome in outcomes] == [True, False, True, False, True, False]
    assert isinstance(outcomes[1].error, errors.NotFound)
    assert outcomes[3].error is None
    assert isinstance(outcomes[5].error, errors.InvalidRequest)
    assert (stream.stats.requests, stream.stats.missing, stream.stats.failed) == (5, 1, 2)


async def test_post_reads_sweep_as_well(sandbox: Sandbox) -> None:
    async with sandbox.client(
        dialect=Dialect(read_method="POST"), timeouts=Timeouts(attempt=30)
    ) as client:
        assert len((await client.cards.query_all(sandbox.iccids)).cards) == 1000
    assert {request.method for request in sandbox.requests} == {"POST"}

"""A sweep that is refused whole ends early; one whose cards don't exist runs to its end."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from waiting import SECONDS

from mioesim_async import BatchStream, Dialect, MioEsimClient, errors, fan_out
from mioesim_async.sandbox import Fault, Sandbox, SandboxClock

QUERY = "queryIccidInformation"
ENDPOINTS = {
    "query_many": QUERY,
    "query_all": QUERY,
    "details": "getESIMDetail",
    "crawl": "getPackages",
}
SWEEPS: dict[str, Callable[[MioEsimClient, list[str]], Any]] = {
    "query_many": lambda c, i: drained(c.cards.query_many(i, batch_size=10)),
    "query_all": lambda c, i: c.cards.query_all(i, batch_size=10),
    "details": lambda c, i: drained(c.cards.details(i)),
    "crawl": lambda c, _: drained(c.catalogue.crawl()),
}
REFUSALS = {
    "403": Fault.http(403),
    "404": Fault.http(404),
    "307": Fault.redirect("http://127.0.0.1/login"),
    "-2": Fault.refuse(-2),
}


async def drained(stream: Any) -> list[Any]:
    outcomes: list[Any] = []
    async with stream:
        async for outcome in stream:
            outcomes.append(outcome)
    return outcomes


def asked(sandbox: Sandbox, name: str) -> int:
    return [seen.endpoint for seen in sandbox.requests].count(ENDPOINTS[name])


@pytest.fixture
def skus(sandbox: Sandbox) -> None:
    """Sell enough SKUs for a crawl to be worth ending."""
    rows = [{"skuid": number, "display": f"SKU {number}"} for number in range(1, 101)]
    sandbox.faults.add(
        Fault.replaced(json.dumps({"code": 0, "data": rows}).encode()), "getSkus", times=None
    )


@pytest.mark.usefixtures("skus")
@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("name", SWEEPS)
async def test_a_sweep_whose_first_five_batches_are_all_refused_alike_ends_with_that_refusal(
    sandbox: Sandbox, client: MioEsimClient, name: str, refusal: str
) -> None:
    await client.login()
    sandbox.faults.add(REFUSALS[refusal], ENDPOINTS[name], times=None)
    with pytest.raises((errors.HttpStatusError, errors.MissingParameter)) as caught:
        await SWEEPS[name](client, sandbox.iccids)
    error = caught.value
    assert refusal in str(error)
    assert "whitelist" in str(error)
    assert "firewall" in str(error).lower()
    assert error.endpoint.endswith(ENDPOINTS[name])
    assert error.tally is not None
    assert 4 <= error.tally.failed <= 130
    assert 5 <= asked(sandbox, name) <= 2 * (5 + 8), "POST may be tried after GET"
    if name == "query_all":
        assert len(error.report.failed) == error.tally.failed


@pytest.mark.usefixtures("skus")
@pytest.mark.parametrize("name", SWEEPS)
async def test_a_sweep_whose_first_five_batches_are_all_signed_wrongly_ends_with_that(
    sandbox: Sandbox, client: MioEsimClient, name: str
) -> None:
    await client.login()
    sandbox.faults.add(Fault.refuse(-30), ENDPOINTS[name], times=None)
    with pytest.raises(errors.SignatureError) as caught:
        await SWEEPS[name](client, sandbox.iccids)
    said = str(caught.value)
    assert "the key is right" in said
    assert "so the sweep stopped" in said
    assert "firewall" not in said
    assert caught.value.tally is not None
    assert 5 <= asked(sandbox, name) <= 5 + 8


async def test_one_wrong_signature_after_a_good_login_belongs_to_its_batch(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    await client.login()
    sandbox.faults.add(Fault.refuse(-30), QUERY)
    report = await client.cards.query_all(sandbox.iccids, batch_size=10, concurrency=1)
    assert (len(report.cards), len(report.failed)) == (990, 10)
    assert {type(error) for error in report.failed.values()} == {errors.SignatureError}


async def test_the_hint_for_minus_two_names_the_batch_parameter(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault.refuse(-2), QUERY, times=None)
    async with sandbox.client() as client:
        with pytest.raises(errors.MissingParameter, match="the parameter was 'iccids'") as caught:
            await client.cards.query_all(sandbox.iccids, batch_size=10)
    assert "whitelist" in caught.value.hint
    assert (caught.value.code, caught.value.message) == (-2, "refused")


@pytest.mark.parametrize("code", [-3, -8, 3, -10, 77])
async def test_codes_that_speak_of_the_cards_never_end_a_sweep(
    sandbox: Sandbox, client: MioEsimClient, code: int
) -> None:
    sandbox.faults.add(Fault.refuse(code), QUERY, times=None)
    report = await client.cards.query_all(sandbox.iccids, batch_size=10)
    assert len(report.failed) == 1000


async def test_a_sweep_that_had_a_success_runs_to_its_end(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sandbox.faults.add(Fault.http(403), QUERY, times=None, after=1)
    report = await client.cards.query_all(sandbox.iccids, batch_size=10, concurrency=1)
    assert (len(report.cards), len(report.failed)) == (10, 990)


async def test_refusals_that_differ_end_no_sweep(sandbox: Sandbox, clock: SandboxClock) -> None:
    faults = [Fault.http(403), Fault.http(404), Fault.refuse(-2), Fault.http(403)]
    async with sandbox.client(dialect=Dialect(read_method="POST")) as client:
        for number in range(20):
            sandbox.faults.add(faults[number % 4], QUERY, times=1)
        report = await client.cards.query_all(sandbox.iccids[:200], batch_size=10, concurrency=1)
    assert len(report.failed) == 200


async def test_fewer_than_five_batches_fail_one_by_one(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sandbox.faults.add(Fault.http(403), QUERY, times=None)
    report = await client.cards.query_all(sandbox.iccids[:400])
    assert len(report.failed) == 400


async def test_a_success_that_is_under_way_keeps_a_sweep_of_refusals_going() -> None:
    refused, heard = 0, asyncio.Event()

    async def call(batch: list[int]) -> int:
        nonlocal refused
        if batch[0] % 2:
            refused += 1
            if refused == 6:
                heard.set()
            raise errors.HttpStatusError("one bad node behind a balancer", 404)
        await heard.wait()
        return batch[0]

    stream = BatchStream(
        range(40), call, batch_size=1, concurrency=12, max_outage=10, stop_error=lambda error: error
    )
    async with asyncio.timeout(SECONDS), stream:
        outcomes = [outcome async for outcome in stream]
    assert len(outcomes) == 40
    assert sorted(outcome.result for outcome in outcomes if outcome.error is None) == [
        *range(0, 40, 2)
    ]


async def test_refusals_with_an_outage_in_between_end_no_sweep() -> None:
    asked = 0

    async def call(batch: list[int]) -> int:
        nonlocal asked
        asked += 1
        if asked in (3, 6, 9):
            raise errors.HttpStatusError("down", 503)
        if asked < 12:
            raise errors.HttpStatusError("forbidden", 403)
        return batch[0]

    stream = BatchStream(
        range(20),
        call,
        batch_size=1,
        concurrency=1,
        max_outage=10,
        stop_error=lambda error: error,
    )
    async with asyncio.timeout(SECONDS), stream:
        outcomes = [outcome async for outcome in stream]
    assert len(outcomes) == 20


async def test_a_fan_out_of_somebody_s_own_coroutine_is_never_ended(clock: SandboxClock) -> None:
    async def call(batch: list[int]) -> None:
        raise errors.HttpStatusError("forbidden", 403)

    async with fan_out(range(200), call, batch_size=1) as stream:
        outcomes = [outcome async for outcome in stream]
    assert len(outcomes) == 200


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    return [message for message in told if "batch_parameter" in message]


async def test_a_host_that_ignores_the_batch_parameter_is_told_of_once(
    sandbox: Sandbox, client: MioEsimClient, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.faults.add(Fault.replaced(b'{"code":0,"data":[]}'), QUERY, times=None)
    for _ in range(2):
        report = await client.cards.query_all(sandbox.iccids)
        assert len(report.missing) == 1000
    (message,) = warnings_in(caplog)
    assert "'iccids'" in message


async def test_a_client_that_ever_found_a_card_is_told_of_no_ignored_parameter(
    sandbox: Sandbox, client: MioEsimClient, caplog: pytest.LogCaptureFixture
) -> None:
    assert await client.cards.query(sandbox.iccids[:1])
    await client.cards.query_all([f"8999{number:015d}" for number in range(100)])
    assert not warnings_in(caplog)


async def test_a_few_cards_that_are_missing_are_no_reason_to_warn(
    sandbox: Sandbox, client: MioEsimClient, caplog: pytest.LogCaptureFixture
) -> None:
    assert await client.cards.query([f"8999{number:015d}" for number in range(9)]) == []
    assert not warnings_in(caplog)
    assert await client.cards.query(["8999000000000000009"]) == []
    assert len(warnings_in(caplog)) == 1

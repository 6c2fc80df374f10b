"""No call keeps the event loop from turning, however long its input or its reply.

Each look at the clock seems to come 0.9 ms after the one before. So work that looks at the clock
after each of its pieces gives the loop a turn after every third of them, and work in one piece
gives it none.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any

import pytest
from shopping import PLAN
from turning import Counted, slow_steps
from waiting import until

from mioesim_async import MioEsimClient, OrderLine, errors, fan_out
from mioesim_async.fanout.stream import MAX_AHEAD
from mioesim_async.sandbox import Fault, Sandbox
from mioesim_async.transport import attempt
from mioesim_async.transport.attempt_timer import Progress
from mioesim_async.transport.http import RawReply, Request
from mioesim_async.transport.pool import SessionManager

Call = Callable[[MioEsimClient, int], Awaitable[object]]

QUERY = "queryIccidInformation"
NUMBER = "EP20260101000001"


@pytest.fixture(autouse=True)
def _slow_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    slow_steps(monkeypatch)


def iccid(number: int) -> str:
    return f"8985{number:015d}"


def clean(count: int) -> list[str]:
    return [iccid(number) for number in range(count)]


def spaced(count: int) -> list[str]:
    return [f"{iccid(number)[:10]} {iccid(number)[10:]}" for number in range(count)]


async def first_of(stream: Any) -> None:
    async with stream:
        async for _ in stream:
            return


async def turns_of(work: Awaitable[object]) -> int:
    """Return how often the loop turned during work that ends in any way of ours."""
    with Counted() as counted, suppress(errors.MioEsimError):
        await work
    return counted.turns


INPUTS: dict[str, tuple[Callable[[int], list[str]], int, Call]] = {}
for _kind, (_make, _count) in {"clean": (clean, 90_000), "to clean": (spaced, 9_000)}.items():
    INPUTS |= {
        f"query_many, {_kind}": (
            _make,
            _count,
            lambda c, i: first_of(c.cards.query_many(i)),  # type: ignore[arg-type]
        ),
        f"details, {_kind}": (
            _make,
            _count,
            lambda c, i: first_of(c.cards.details(i)),  # type: ignore[arg-type]
        ),
        f"query, {_kind}": (_make, _count, lambda c, i: c.cards.query(i)),  # type: ignore[arg-type]
    }


@pytest.mark.parametrize("kind", INPUTS)
async def test_a_long_list_is_checked_with_turns_of_the_loop_in_between(
    sandbox: Sandbox, client: MioEsimClient, kind: str
) -> None:
    make, count, call = INPUTS[kind]
    await client.login()
    few = await turns_of(call(client, make(100)))  # type: ignore[arg-type]
    many = await turns_of(call(client, make(count)))  # type: ignore[arg-type]
    assert many - few >= 25


async def test_a_list_of_bad_items_is_refused_whole_with_turns_in_between(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    stream = client.cards.query_many(["bad"] * 9_000)
    with Counted() as counted, pytest.raises(errors.InvalidRequest) as caught:
        await anext(stream)
    assert len(caught.value.faults) == 9_000
    assert counted.turns >= 25
    assert not sandbox.requests


LISTS: dict[str, Callable[[MioEsimClient, list[str]], Coroutine[Any, Any, object]]] = {
    "place": lambda c, i: c.orders.place(**PLAN, count=len(i), dp_id=1, iccids=i),
    "cancel": lambda c, i: c.orders.cancel(NUMBER, i),
    "pdf_links": lambda c, i: c.orders.pdf_links(NUMBER, i),
    "email_pdf": lambda c, i: c.orders.email_pdf(NUMBER, "a@example.com", i),
}


@pytest.mark.parametrize("name", LISTS)
async def test_the_cards_of_an_order_are_checked_with_turns_in_between(
    sandbox: Sandbox, client: MioEsimClient, name: str
) -> None:
    await client.login()
    for endpoint in ("addEsimOrder", "refundOrder", "handlerEsimPdf"):
        sandbox.faults.add(Fault.refuse(-2), endpoint, times=None)
    few = await turns_of(LISTS[name](client, spaced(1)))
    many = await turns_of(LISTS[name](client, spaced(9_000)))
    assert many - few >= 25


@pytest.mark.parametrize("name", LISTS)
async def test_a_list_that_no_request_can_hold_is_refused_before_a_byte_is_sent(
    sandbox: Sandbox, client: MioEsimClient, name: str
) -> None:
    with pytest.raises(errors.InvalidRequest, match="10,001 ICCIDs are more than one request"):
        await LISTS[name](client, clean(10_001))
    with pytest.raises(errors.InvalidRequest, match="'x' has 10,001 items"):
        await client.call("/api_esim/x", {"x": clean(10_001)})
    with pytest.raises(errors.InvalidRequest, match="'x' has 250,001 characters"):
        await client.call("/api_esim/x", {"x": "1" * 250_001})
    assert not sandbox.requests


async def test_the_lines_of_an_order_are_checked_with_turns_in_between(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    lines = [OrderLine(**PLAN, count=0) for _ in range(200)]
    stream = client.orders.place_many(lines, max_spend=None)
    with Counted() as counted, pytest.raises(errors.InvalidRequest) as caught:
        await anext(stream)
    assert len(caught.value.faults) == 200
    assert counted.turns >= 50
    assert not sandbox.requests


def order(cards: int) -> dict[str, Any]:
    rows = [{"iccid": iccid(number), "code": "LPA:1$a.example$B"} for number in range(cards)]
    return {"orderNum": NUMBER, "status": 0, "cardApiDtoList": rows}


def skus(count: int) -> list[dict[str, Any]]:
    return [{"skuid": number, "display": f"SKU {number}"} for number in range(count)]


def plans(count: int) -> dict[str, Any]:
    rows = [{"priceid": number, "price": 1.5} for number in range(count)]
    return {"skuid": 45, "supportCountry": ["Japan"], "esimPackageDtoList": rows}


def usage(count: int) -> dict[str, Any]:
    row = {"orderNum": NUMBER, "packageList": [{"iccid": iccid(1)}]}
    return {"total": count, "rows": [row] * count}


READS: dict[str, tuple[str, Callable[[int], Any], Callable[[MioEsimClient], Awaitable[object]]]] = {
    "history": (
        "getHistoryDetail",
        lambda count: [{"orderNum": NUMBER}] * count,
        lambda c: c.cards.history(iccid(1)),
    ),
    "renewal_skus": ("getIccidSupportSku", skus, lambda c: c.cards.renewal_skus(iccid(1))),
    "renewal_packages": (
        "getIccidSupportPackageInfo",
        lambda count: [plans(1)] * count,
        lambda c: c.cards.renewal_packages(iccid(1)),
    ),
    "skus": ("getSkus", skus, lambda c: c.catalogue.skus()),
    "sku_groups": (
        "getSkuByGroup",
        lambda count: {"continent": ["Asia"], "data": {"Asia": skus(count)}},
        lambda c: c.catalogue.sku_groups(),
    ),
    "packages": ("getPackages", plans, lambda c: c.catalogue.packages(45)),
    "packages, bare": (
        "getPackages",
        lambda count: plans(count)["esimPackageDtoList"],
        lambda c: c.catalogue.packages(45),
    ),
    "crawl": ("getSkus", skus, lambda c: first_of(c.catalogue.crawl())),
    "partners": (
        "getPhysicalSIMDpInfo",
        lambda count: [{"id": number} for number in range(count)],
        lambda c: c.partners.list(),
    ),
    "partners' packages": (
        "getDpSkuSupportPackageInfo", plans, lambda c: c.partners.packages(1, 45),
    ),
    "get": ("getOrderInfo", order, lambda c: c.orders.get(NUMBER)),
    "place": ("addEsimOrder", order, lambda c: c.orders.place(**PLAN, count=1)),
    "usage": ("queryEsimOrder", usage, lambda c: c.orders.usage(order_num=NUMBER)),
    "pdf_links": (
        "handlerEsimPdf",
        lambda count: {iccid(number): "http://x" for number in range(count)},
        lambda c: c.orders.pdf_links(NUMBER),
    ),
    "query": (
        QUERY,
        lambda count: [{"iccid": iccid(number)} for number in range(10, 10 + count)],
        lambda c: c.cards.query(clean(100)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", READS)
async def test_a_reply_of_many_rows_is_read_with_turns_in_between(
    sandbox: Sandbox, client: MioEsimClient, name: str
) -> None:
    endpoint, data, call = READS[name]
    await client.login()
    took: list[int] = []
    for count in (1, 300):
        sandbox.faults.clear()
        body = json.dumps({"code": 0, "data": data(count)}).encode()
        sandbox.faults.add(Fault.replaced(body), endpoint, times=None)
        took.append(await turns_of(call(client)))
    assert took[1] - took[0] >= 60


async def test_a_large_body_is_parsed_with_turns_in_between(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    await client.login()
    took: list[int] = []
    for rows in (1, 2_000):
        body = json.dumps({"code": 0, "data": plans(rows) | {"note": "x" * 100_000}}).encode()
        sandbox.faults.add(Fault.replaced(body), "getPackages")
        took.append(await turns_of(client.call("/api_esim/getPackages", {"skuId": 45})))
    assert took[1] - took[0] >= 400


async def test_replies_that_come_all_at_once_are_parsed_in_several_turns(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived, turn_of = asyncio.Event(), list[int]()
    real = SessionManager.send

    async def together(self: SessionManager, request: Request, progress: Progress) -> RawReply:
        reply = await real(self, request, progress)
        await arrived.wait()
        return reply

    def parse(body: bytes, *, exact: bool) -> Any:
        turn_of.append(counted.turns)
        return parse_envelope(body, exact=exact)

    parse_envelope = attempt.parse_envelope
    async with sandbox.client(max_in_flight=64) as client:
        await client.login()
        monkeypatch.setattr(SessionManager, "send", together)
        monkeypatch.setattr(attempt, "parse_envelope", parse)
        calls = [asyncio.create_task(client.cards.query(one)) for one in sandbox.iccids[:48]]
        await until(lambda: len(sandbox.requests) == 49)
        for _ in range(20):
            await asyncio.sleep(0)
        with Counted() as counted:
            arrived.set()
            await asyncio.gather(*calls)
    assert len(turn_of) == 48
    assert max(turn_of.count(turn) for turn in turn_of) <= 8


async def test_calls_that_start_together_are_signed_in_several_turns(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn_of: list[int] = []
    real = attempt.Sender.prepare

    def prepare(*arguments: Any, **named: Any) -> Any:
        turn_of.append(counted.turns)
        return real(*arguments, **named)

    async with sandbox.client(max_in_flight=64) as client:
        await client.login()
        monkeypatch.setattr(attempt.Sender, "prepare", prepare)
        with Counted() as counted:
            await asyncio.gather(*[client.cards.query(one) for one in sandbox.iccids[:48]])
    assert len(turn_of) == 48
    assert max(turn_of.count(turn) for turn in turn_of) <= 8


async def test_who_takes_outcomes_that_are_at_hand_leaves_turns_in_between() -> None:
    first = asyncio.Event()

    async def call(batch: list[int]) -> None:
        if batch == [0]:
            await first.wait()

    async with fan_out(range(60), call, batch_size=1, concurrency=60, ordered=True) as stream:
        taking = asyncio.create_task(anext(stream))
        for _ in range(200):
            await asyncio.sleep(0)
        first.set()
        await taking
        with Counted() as counted:
            taken = [await anext(stream) for _ in range(59)]
    assert len(taken) == 59 <= 60 + MAX_AHEAD
    assert counted.turns >= 15


async def test_a_report_of_many_cards_is_filled_with_turns_in_between(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    def nonsense() -> Iterator[str]:
        for number in range(3_000):
            yield f"bad {number}"

    with Counted() as counted:
        report = await client.cards.query_all(nonsense())
    assert len(report.failed) == 3_000
    assert counted.turns >= 300

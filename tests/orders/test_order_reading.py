"""What replies about orders may look like, and what is told of those that can't be read."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from shopping import buy
from turning import slow_steps
from waiting import until

from mioesim_async import MioEsimClient, OrderJournal, errors
from mioesim_async.api.orders import purchase
from mioesim_async.journal.entry import EntryState
from mioesim_async.sandbox import Fault, Sandbox

NUMBER = "EP20260101000001"
CARD = {"iccid": "8985000000000000001", "code": "LPA:1$rsp.example$X"}


def answer(data: Any) -> Fault:
    return Fault.replaced(json.dumps({"code": 0, "data": data}).encode())


@pytest.mark.parametrize(
    "data",
    [
        {"orderNum": NUMBER, "status": "0", "cardApiDtoList": [CARD]},
        [{"order_num": NUMBER, "status": 0, "cardApiVoList": [CARD]}],
        {"status": 0, "cardApiDtoList": [CARD]},
        {"status": 0.0, "cardApiDtoList": {CARD["iccid"]: CARD["code"]}},
    ],
)
async def test_an_order_is_read_in_every_spelling(
    sandbox: Sandbox, client: MioEsimClient, data: Any
) -> None:
    sandbox.faults.add(answer(data), "getOrderInfo")
    order = await client.orders.get(NUMBER)
    assert (order.order_num, order.status) == (NUMBER, 0)
    assert [card.iccid for card in order.cards] == [CARD["iccid"]]
    assert str(order.cards[0].activation) == CARD["code"]


@pytest.mark.parametrize(
    ("data", "cls"),
    [
        (None, errors.NotFound),
        ("", errors.NotFound),
        ("thank you", errors.ProtocolError),
        ([], errors.ProtocolError),
        ({"note": "thank you"}, errors.ProtocolError),
        ({"orderNum": "EP20260101000002"}, errors.ProtocolError),
    ],
)
async def test_what_is_not_the_order_is_an_error_that_names_the_endpoint(
    sandbox: Sandbox, client: MioEsimClient, data: Any, cls: type[errors.MioEsimError]
) -> None:
    sandbox.faults.add(answer(data), "getOrderInfo", times=None)
    with pytest.raises(cls) as caught:
        await client.orders.get(NUMBER)
    assert caught.value.endpoint == "/api_esim/getOrderInfo"


@pytest.mark.parametrize(
    ("endpoint", "data"),
    [
        ("handlerEsimPdf", ["http://x"]),
        ("handlerEsimPdf", {"note": "http://x"}),
        ("handlerEsimPdf", {CARD["iccid"]: {}}),
        ("queryEsimOrder", "none"),
        ("queryEsimOrder", {"total": "many", "rows": []}),
        ("queryOrder", "none"),
    ],
)
async def test_other_replies_that_can_t_be_read_are_told(
    sandbox: Sandbox, client: MioEsimClient, endpoint: str, data: Any
) -> None:
    sandbox.faults.add(answer(data), endpoint, times=None)
    calls: dict[str, Any] = {
        "handlerEsimPdf": lambda: client.orders.pdf_links(NUMBER),
        "queryEsimOrder": lambda: client.orders.usage(order_num=NUMBER),
        "queryOrder": lambda: client.orders.search(other_order_id="shop-1"),
    }
    with pytest.raises(errors.ProtocolError) as caught:
        await calls[endpoint]()
    assert caught.value.endpoint == f"/api_esim/{endpoint}"


async def test_an_order_under_way_survives_a_callback_that_raises(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Any) -> None:
        raise RuntimeError("no")

    sandbox.clock._skip = False
    sandbox.faults.add(Fault.slow(5), "addEsimOrder")
    async with sandbox.client(on_late_order=broken) as client:
        task = asyncio.create_task(buy(client, "shop-1"))
        await until(
            lambda: any(seen.endpoint == "addEsimOrder" for seen in sandbox.requests), pause=0
        )
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        sandbox.clock.advance(5)
    assert len(sandbox.orders) == 1
    assert "on_late_order raised" in caplog.text


async def test_a_client_can_be_closed_by_the_callback_of_a_late_order(sandbox: Sandbox) -> None:
    closed = asyncio.Event()

    async def close(_: object) -> None:
        await client.aclose()
        closed.set()

    sandbox.clock._skip = False
    sandbox.faults.add(Fault.slow(5), "addEsimOrder")
    client = sandbox.client(on_late_order=close)
    task = asyncio.create_task(buy(client, "shop-1"))
    await until(lambda: any(seen.endpoint == "addEsimOrder" for seen in sandbox.requests), pause=0)
    task.cancel()
    await asyncio.wait([task])
    sandbox.clock.advance(5)
    await until(closed.is_set)
    assert client._manager.closed


@pytest.mark.parametrize("field", ["iccid", "ICCID", "icc_id"])
async def test_the_card_of_an_order_that_is_filed_under_another_card_has_no_activation_code(
    sandbox: Sandbox, client: MioEsimClient, field: str
) -> None:
    other = "8985000000000000002"
    row = {name: value for name, value in CARD.items() if name != "iccid"} | {field: other}
    cards = {CARD["iccid"]: row, other: {"code": CARD["code"]}}
    sandbox.faults.add(answer({"orderNum": NUMBER, "cardApiDtoList": cards}), "getOrderInfo")
    order = await client.orders.get(NUMBER)
    first, second = order.cards
    assert (first.iccid, first.activation) == ("", None)
    assert first.extra["unreadable"] == [CARD["iccid"], row]
    assert (second.iccid, str(second.activation)) == (other, CARD["code"])


@pytest.mark.parametrize("name", ["lpa", "lpaString", "LPA", "lpa_string"])
async def test_the_code_of_an_order_s_card_is_found_under_its_other_names(
    sandbox: Sandbox, client: MioEsimClient, name: str
) -> None:
    card = {"iccid": CARD["iccid"], name: CARD["code"]}
    sandbox.faults.add(answer({"orderNum": NUMBER, "cardApiDtoList": [card]}), "getOrderInfo")
    (found,) = (await client.orders.get(NUMBER)).cards
    assert (str(found.activation), found.extra) == (CARD["code"], {})


async def test_a_program_that_is_stopped_while_it_reads_an_order_leaves_its_number_in_the_journal(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_steps(monkeypatch)
    cards = [{"iccid": f"8985{number:015d}"} for number in range(300)]
    sandbox.faults.add(answer({"orderNum": NUMBER, "cardApiDtoList": cards}), "addEsimOrder")
    reading = asyncio.Event()
    real = purchase.read_placed

    def read(data: Any) -> Any:
        reading.set()
        return real(data)

    monkeypatch.setattr(purchase, "read_placed", read)
    buying = asyncio.create_task(buy(buyer, "shop-1"))
    await reading.wait()
    (task,) = [one for one in asyncio.all_tasks() if one.get_name() == "mioesim_async purchase"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await buying
    entry = await journal.find(buyer.orders._caller.account, "shop-1")
    assert entry is not None
    assert (entry.state, entry.order_num) == (EntryState.PLACED, NUMBER)

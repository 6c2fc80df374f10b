"""What is nested too deeply gets into no model, ends no sweep, and loses no order."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from shopping import PLAN, buy

from mioesim_async import CardStatus, MioEsimClient, OrderJournal, errors, to_dict
from mioesim_async.models.plain import MAX_LEVELS
from mioesim_async.rows.orders import read_placed
from mioesim_async.sandbox import Fault, Sandbox
from mioesim_async.slices import at_once
from mioesim_async.wire.depth import MAX_DEPTH, cut, is_too_deep

QUERY = "queryIccidInformation"
NUMBER = "EP20260101000001"


def nested(levels: int, kind: str = "list") -> Any:
    value: Any = "end"
    for level in range(levels):
        value = {"x": value} if kind == "dict" or (kind == "both" and level % 2) else [value]
    return value


def answer(data: Any, **fields: Any) -> Fault:
    return Fault.replaced(json.dumps({"code": 0, "data": data} | fields).encode())


def deep(levels: int = 900) -> str:
    return "[" * levels + "]" * levels


kinds = pytest.mark.parametrize("kind", ["list", "dict", "both"])


@kinds
def test_sixty_four_levels_are_the_bound(kind: str) -> None:
    assert MAX_DEPTH == 64
    assert not is_too_deep(nested(64, kind))
    assert is_too_deep(nested(65, kind))
    assert is_too_deep([1, {"a": nested(64, kind)}, 2])
    assert not is_too_deep("text")
    assert cut(nested(64, kind)) == nested(64, kind)
    assert not is_too_deep(cut(nested(5_000, kind)))


@pytest.mark.parametrize("code", [-3, -2, 77])
async def test_a_message_that_is_nested_too_deeply_is_an_error_of_its_batch(
    sandbox: Sandbox, client: MioEsimClient, code: int
) -> None:
    await client.login()
    body = f'{{"code":{code},"message":{deep()}}}'.encode()
    sandbox.faults.add(Fault.replaced(body), QUERY, times=8, after=2)
    report = await client.cards.query_all(sandbox.iccids, concurrency=1)
    failed = {type(error) for error in report.failed.values()}
    assert failed <= {errors.ProtocolError}
    assert len(report.cards) + len(report.failed) == 1000
    assert len(report.cards) >= 800
    with pytest.raises(errors.ProtocolError, match="nested deeper than 64 levels"):
        sandbox.faults.add(Fault.replaced(body), QUERY, times=None)
        await client.cards.query(sandbox.iccids[:1])


async def test_a_message_of_a_few_levels_is_shown(sandbox: Sandbox, client: MioEsimClient) -> None:
    sandbox.faults.add(Fault.replaced(b'{"code":77,"message":["sold","out"]}'), QUERY, times=None)
    with pytest.raises(errors.ApiError, match="'sold', 'out'"):
        await client.cards.query(sandbox.iccids[:1])


@kinds
async def test_a_field_that_is_nested_too_deeply_is_an_error_of_its_card(
    sandbox: Sandbox, client: MioEsimClient, kind: str
) -> None:
    one, other = sandbox.iccids[:2]
    for row in ({"x": nested(65, kind)}, {"dpStatus": "Frozen", "data": nested(65, kind)}):
        sandbox.faults.add(answer([{"iccid": one} | row, {"iccid": other}]), QUERY)
        report = await client.cards.query_all([one, other])
        assert [*report.cards] == [other]
        assert "nested deeper than 64 levels" in str(report.failed[one])
    sandbox.faults.add(answer({"iccid": one, "x": nested(65, kind)}), "getESIMDetail", times=None)
    with pytest.raises(errors.ProtocolError, match="nested deeper"):
        await client.cards.detail(one)


@kinds
async def test_a_field_of_many_levels_is_kept_and_written_out(
    sandbox: Sandbox, client: MioEsimClient, kind: str
) -> None:
    one = sandbox.iccids[0]
    sandbox.faults.add(answer([{"iccid": one, "x": nested(64, kind)}] * 2), QUERY)
    (card,) = await client.cards.query(one)
    assert card.extra["x"] == nested(64, kind)
    assert "nested deeper" not in json.dumps(to_dict({"cards": [card]}))
    assert pickle.loads(pickle.dumps(card)) == card


async def test_a_second_row_that_is_nested_too_deeply_is_cut(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    one = sandbox.iccids[0]
    sandbox.faults.add(answer([{"iccid": one}, {"iccid": one, "x": nested(300)}]), QUERY)
    (card,) = await client.cards.query(one)
    assert not is_too_deep(card.extra["more_rows"][0])
    json.dumps(to_dict(card))


def test_to_dict_copes_with_whatever_a_model_can_hold() -> None:
    written = to_dict(CardStatus("8985000000000000000", extra={"x": nested(5_000, "both")}))
    json.dumps(written)
    levels, value = 0, written["extra"]
    while isinstance(value, dict | list):
        value, levels = (value["x"] if isinstance(value, dict) else value[0]), levels + 1
    assert (value, levels) == ("(nested too deeply)", MAX_LEVELS - 1)


async def test_the_data_of_a_refusal_is_cut(sandbox: Sandbox, client: MioEsimClient) -> None:
    sandbox.faults.add(answer(nested(300), code=77), QUERY, times=None)
    with pytest.raises(errors.ApiError) as caught:
        await client.cards.query(sandbox.iccids[:1])
    assert not is_too_deep(caught.value.data)
    assert pickle.loads(pickle.dumps(caught.value)).code == 77


@pytest.mark.parametrize("levels", [65, 300, 900])
async def test_an_order_with_a_field_that_is_nested_too_deeply_keeps_its_number(
    sandbox: Sandbox, client: MioEsimClient, levels: int
) -> None:
    field = f'"x":{deep(levels)}'
    card = f'"cardApiDtoList":[{{"iccid":"8985000000000000001",{field}}}]'
    for data in (
        f'{{"orderNum":"{NUMBER}","status":0,{field}}}',
        f'{{"orderNum":"{NUMBER}","status":0,{card}}}',
        f'[{{"orderNum":"{NUMBER}"}},{deep(levels)}]',
    ):
        sandbox.faults.add(Fault.replaced(f'{{"code":0,"data":{data}}}'.encode()), "addEsimOrder")
        placed: Any
        try:
            placed = await client.orders.place(**PLAN, count=1)
        except (errors.OrderIncomplete, errors.OutcomeUnknown) as error:
            placed = error
        assert placed.order_num == NUMBER
        pickle.dumps(placed)
        json.dumps(to_dict(placed))


async def test_a_deep_message_beside_an_order_loses_nothing(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    card = {"iccid": "8985000000000000001", "code": "LPA:1$a.example$B"}
    data = json.dumps({"orderNum": NUMBER, "status": 0, "cardApiDtoList": [card]})
    body = f'{{"code":0,"message":{deep()},"data":{data}}}'.encode()
    sandbox.faults.add(Fault.replaced(body), "addEsimOrder")
    order = await client.orders.place(**PLAN, count=1)
    assert order.order_num == NUMBER


@pytest.mark.parametrize("levels", [64, 65, 900, 100_000])
def test_reading_the_reply_to_a_purchase_never_raises(levels: int) -> None:
    value: Any = []
    for _ in range(levels):
        value = [value]
    for data in (
        value,
        {"orderNum": NUMBER, "x": value},
        {"orderNum": NUMBER, "cards": [{"iccid": value}, {"x": value}, value]},
        {"orderNum": NUMBER, "cards": {"8985000000000000001": value}},
        {"orderNum": NUMBER, "status": value, "count": value},
        [{"orderNum": NUMBER}, value],
    ):
        placed = at_once(read_placed(data))
        assert placed.order_num == (None if data is value else NUMBER)
        if placed.order is not None:
            for model in (placed.order, *placed.order.cards):
                assert not any(map(is_too_deep, model.extra.values()))


async def test_a_search_that_is_nested_too_deeply_leaves_an_entry_open(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal
) -> None:
    sandbox.faults.add(Fault.lose_reply(), "addEsimOrder")
    with pytest.raises(errors.OutcomeUnknown):
        await buy(buyer, "shop-1")
    body = f'{{"code":0,"data":{{"total":1,"rows":[{{"orderNum":"{NUMBER}","x":{deep()}}}]}}}}'
    sandbox.faults.add(Fault.replaced(body.encode()), "queryOrder", times=None)
    report = await buyer.orders.reconcile()
    (entry,) = report.still_open
    assert entry.other_order_id == "shop-1"
    assert "can't be read" in (entry.reason or "")

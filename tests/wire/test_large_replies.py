"""Replies that are larger than what was asked for: refused before their rows are read."""

from __future__ import annotations

import json
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st
from shopping import PLAN

from mioesim_async import MioEsimClient, errors
from mioesim_async.errors import ProtocolError
from mioesim_async.rows import cards
from mioesim_async.sandbox import Fault, Sandbox
from mioesim_async.slices import at_once
from mioesim_async.wire import envelope as envelopes
from mioesim_async.wire.endpoints import (
    ADD_ESIM_ORDER,
    GET_ESIM_DETAIL,
    GET_PACKAGES,
    QUERY_ICCID_INFORMATION,
)
from mioesim_async.wire.envelope import parse_envelope, parse_in_steps
from mioesim_async.wire.large_json import load_in_steps

QUERY = "queryIccidInformation"
NUMBER = "EP20260101000001"


def answer(data: Any) -> Fault:
    return Fault.replaced(json.dumps({"code": 0, "data": data}).encode())


def iccid(number: int) -> str:
    return f"8985{number:015d}"


ASKED = [iccid(number) for number in range(100)]
MOST = 100 + 10 * len(ASKED)


def rows(count: int) -> list[dict[str, str]]:
    """Make rows of which the first hundred were asked for."""
    return [{"iccid": iccid(number)} for number in range(count)]


SHAPES: dict[str, Any] = {
    "list": rows,
    "map": lambda count: {row["iccid"]: row for row in rows(count)},
    "wrapped list": lambda count: {"total": count, "rows": rows(count)},
    "wrapped map": lambda count: {"cards": {row["iccid"]: row for row in rows(count)}},
    "map of lists": lambda count: {one: [{"usedMB": "1"}] * (count // len(ASKED)) for one in ASKED},
    "nested": lambda count: {"data": {"list": {"x": rows(count)}}},
    "several lists": lambda count: {"x": rows(count // 2), "y": rows(count // 2)},
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_batch_reply_with_far_more_rows_than_cards_were_asked_for_is_not_read(
    sandbox: Sandbox, client: MioEsimClient, shape: str
) -> None:
    sandbox.faults.add(answer(SHAPES[shape](MOST + 100)), QUERY, times=None)
    with pytest.raises(errors.ProtocolError, match="far more rows") as caught:
        await client.cards.query(ASKED)
    assert caught.value.reason == "too_large"
    assert caught.value.endpoint == "/api_esim/queryIccidInformation"
    report = await client.cards.query_all(ASKED)
    assert len(report.failed) == 100


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_batch_reply_with_several_plans_a_card_and_cards_of_others_is_read(
    sandbox: Sandbox, client: MioEsimClient, shape: str
) -> None:
    sandbox.faults.add(answer(SHAPES[shape](1_000)), QUERY)
    assert [card.iccid for card in await client.cards.query(ASKED)] == ASKED


async def test_no_row_of_a_reply_with_far_too_many_is_read(
    sandbox: Sandbox, client: MioEsimClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(rows: list[Any]) -> None:
        raise AssertionError(f"{len(rows)} rows were read")

    monkeypatch.setattr(cards, "usual_rows", SimpleNamespace(read=read))
    monkeypatch.setattr(cards, "reader_of", lambda _: read)
    sandbox.faults.add(answer(rows(MOST + 1)), QUERY)
    with pytest.raises(errors.ProtocolError, match="far more rows"):
        await client.cards.query(ASKED)


async def test_ten_rows_for_each_of_a_few_cards_are_read(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sandbox.faults.add(answer([{"iccid": ASKED[0]}] * 110), QUERY)
    (card,) = await client.cards.query(ASKED[:1])
    assert len(card.extra["more_rows"]) == 109
    sandbox.faults.add(answer([{"iccid": ASKED[0]}] * 111), QUERY)
    with pytest.raises(errors.ProtocolError, match="far more rows"):
        await client.cards.query(ASKED[:1])


async def test_the_detail_of_a_card_is_not_looked_for_in_any_number_of_rows(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sandbox.faults.add(answer(rows(101)), "getESIMDetail", times=None)
    with pytest.raises(errors.ProtocolError, match="far more rows"):
        await client.cards.detail(ASKED[0])


async def test_a_row_of_thousands_of_fields_is_an_error_of_its_card(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    wide = {"iccid": ASKED[0]} | {f"field{number}": 1 for number in range(2_000)}
    sandbox.faults.add(answer([wide, {"iccid": ASKED[1]}]), QUERY)
    report = await client.cards.query_all(ASKED[:2])
    assert [*report.cards] == [ASKED[1]]
    assert "2,001 fields" in str(report.failed[ASKED[0]])
    sandbox.faults.add(answer(wide), "getESIMDetail", times=None)
    with pytest.raises(errors.ProtocolError, match="2,001 fields"):
        await client.cards.detail(ASKED[0])


async def test_a_body_of_far_more_values_than_were_asked_for_is_not_parsed(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    ones = b'{"code":0,"data":[' + b",".join([b"1"] * 40_010) + b"]}"
    for body in (ones, ones.replace(b"1", b"{}", 10_000)):
        sandbox.faults.add(Fault.replaced(body), QUERY, times=None)
        with pytest.raises(errors.ProtocolError, match="far more values") as caught:
            await client.cards.query(ASKED)
        assert caught.value.reason == "too_large"
        sandbox.faults.clear()


@pytest.mark.parametrize(
    "data",
    [
        [{"x": number, "y": number} for number in range(9_000)],
        [[number, number + 1, number + 2] for number in range(20_000)],
        ["AD,AE,AF,AG" * 50] * 400,
    ],
    ids=["objects", "triples", "texts with commas"],
)
async def test_ordinary_data_of_an_endpoint_that_is_not_listed_is_read(
    sandbox: Sandbox, client: MioEsimClient, data: list[Any]
) -> None:
    body = json.dumps({"code": 0, "data": data}, separators=(",", ":")).encode()
    sandbox.faults.add(Fault.replaced(body), "getSkus")
    assert await client.call("/api_esim/getSkus") == data


async def test_a_card_may_have_a_picture_in_its_row(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    iccid = sandbox.iccids[0]
    row = {"iccid": iccid, "dpStatus": "ACTIVE", "usedMB": 1, "qr": "A" * 400_000}
    body = json.dumps({"code": 0, "data": row}).encode()
    sandbox.faults.add(Fault.replaced(body), "getESIMDetail")
    assert len((await client.cards.detail(iccid)).extra["qr"]) == 400_000


def test_more_values_are_allowed_for_more_that_is_asked_for() -> None:
    assert QUERY_ICCID_INFORMATION.max_values(100, 10**6) == 40_000
    assert GET_ESIM_DETAIL.max_values(1, 200_000) == 20_200
    assert ADD_ESIM_ORDER.max_values(1_000, 10**6) == 220_000
    assert GET_PACKAGES.max_values(1, 8 * 10**6) == 1_020_000


async def test_a_reply_to_a_purchase_that_is_too_large_still_gives_its_number(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    body = b'{"code":0,"data":{"remark":"' + b"x" * 2**24 + b'","orderNum":"%s"}}'
    for fault in (
        Fault.replaced(body % NUMBER.encode()),
        answer({"x": [1] * 40_000, "orderNum": NUMBER}),
        answer({f"x{number}": 1 for number in range(2_001)} | {"orderNum": NUMBER}),
    ):
        sandbox.faults.add(fault, "addEsimOrder")
        with pytest.raises((errors.OutcomeUnknown, errors.OrderIncomplete)) as caught:
            await client.orders.place(**PLAN, count=1)
        assert caught.value.order_num == NUMBER


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.decimals(allow_nan=False, allow_infinity=False).map(float)
    | st.text()
)
PAYLOADS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)
SPACES = st.sampled_from(["", " ", "\n\t\r "])


@settings(deadline=None)
@given(payload=PAYLOADS, indent=st.none() | st.integers(0, 2), before=SPACES, after=SPACES)
@example([[{"a": [1]}], [], {}, [[]]], None, "", "")
def test_json_that_is_parsed_in_steps_is_what_the_parser_makes_of_it_at_once(
    payload: Any, indent: int | None, before: str, after: str
) -> None:
    text = before + json.dumps(payload, indent=indent) + after
    decoder = json.JSONDecoder(parse_float=Decimal)
    assert at_once(load_in_steps(text, decoder)) == decoder.decode(text)


@settings(deadline=None)
@given(payload=PAYLOADS, data=st.data())
def test_json_that_is_damaged_is_refused_in_steps_exactly_when_it_is_at_once(
    payload: Any, data: st.DataObject
) -> None:
    text = json.dumps({"code": 0, "data": [payload, {"a": payload}]})
    at = data.draw(st.integers(0, len(text) - 1))
    damage = data.draw(st.sampled_from(["", ",", "]", "}", "[", "{", ":", "1", '"', " "]))
    text = text[:at] + damage + text[at + 1 :]
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011 - any will do
            at_once(load_in_steps(text, json.JSONDecoder()))
    else:
        assert at_once(load_in_steps(text, json.JSONDecoder())) == expected


@pytest.mark.parametrize("text", ["{1:2}", '{"a":{1:2}}', "{null:1}", "", "[1,2", "[{},]", "{},{}"])
def test_what_is_no_json_is_refused_in_steps(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any will do
        at_once(load_in_steps(text, json.JSONDecoder()))


@pytest.fixture
def _all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelopes, "MAX_ONE_STEP", 0)


@pytest.mark.usefixtures("_all_are_large")
@pytest.mark.parametrize(
    "body",
    [
        b'{"code":0,"data":[{"price":1.10}]}',
        b'\xef\xbb\xbf{"code":0,"data":[1]}',
        '{"code":"0","msg":"中","data":{"价":"é"}}'.encode(),
        '{"code":0,"data":["\ud800"]}'.encode("utf-8", "surrogatepass"),
        b'{"code":0,"data":{"price":NaN,"x":1e99999999999999999999}}',
        b'{"code":0,"data":[{"price":1e99999999999999999999}]}',
        b'{"code":0,"code":1,"data":""}',
    ],
)
def test_a_large_envelope_is_read_as_a_small_one(body: bytes) -> None:
    large = at_once(parse_in_steps(body, exact=True, max_values=10**6))
    small = parse_envelope(body, exact=True)
    assert (large.code, large.message, large.data) == (small.code, small.message, small.data)


@pytest.mark.usefixtures("_all_are_large")
@pytest.mark.parametrize(
    "body",
    [
        b"", b"<html>", b'{"code":0,"data":[{"iccid":"89', b'{"code":0,"data":[}', b"[1]",
        b'{"data":[]}', b'{"code":0} x',
        b'{"code":0,"data":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_large_body_is_told_as_of_a_small_one(body: bytes) -> None:
    with pytest.raises(ProtocolError) as large:
        at_once(parse_in_steps(body, exact=True, max_values=10**6))
    with pytest.raises(ProtocolError) as small:
        parse_envelope(body, exact=True)
    assert (str(large.value), large.value.reason) == (str(small.value), small.value.reason)
    assert large.value.__context__ is None

"""Cards by ICCID, one call at a time."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import pytest
from both import odd

from mioesim_async import CardDetail, DpStatus, MioEsimClient, errors, to_dict
from mioesim_async.sandbox import Fault, Sandbox
from mioesim_async.sandbox.vendor import SHAPES

__all__ = ["odd"]

QUERY = "queryIccidInformation"


def reply(data: Any) -> Fault:
    return Fault.replaced(json.dumps({"code": 0, "data": data}).encode())


@pytest.mark.parametrize("text_codes", [False, True])
@pytest.mark.parametrize("shape", list(SHAPES))
async def test_every_shape_of_a_reply_gives_the_same_cards(shape: str, text_codes: bool) -> None:
    async with (
        Sandbox(100) as plain,
        Sandbox(100, shape=shape, text_codes=text_codes) as sandbox,
        plain.client() as one,
        sandbox.client() as other,
    ):
        expected = await one.cards.query(plain.iccids)
        assert await other.cards.query(sandbox.iccids) == expected
        assert [card.iccid for card in expected] == plain.iccids


async def test_cards_come_in_order_of_first_mention_each_once(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    one, two, three = sandbox.iccids[:3]
    cards = await client.cards.query([three, one, f" {three[:5]} {three[5:]}F", two, one])
    assert [card.iccid for card in cards] == [three, one, two]
    assert sandbox.requests[-1].iccids == [three, one, two]


async def test_a_bare_str_is_one_iccid(sandbox: Sandbox, client: MioEsimClient) -> None:
    assert [card.iccid for card in await client.cards.query(sandbox.iccids[0])] == [
        sandbox.iccids[0]
    ]


async def test_no_input_is_no_request(sandbox: Sandbox, client: MioEsimClient) -> None:
    assert await client.cards.query([]) == []
    assert sandbox.requests == []


async def test_a_card_that_the_vendor_doesn_t_know_is_left_out(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    cards = await client.cards.query([sandbox.iccids[0], "8999000000000000001"])
    assert len(cards) == 1


async def test_more_than_100_distinct_iccids_point_to_query_many(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    with pytest.raises(errors.InvalidRequest, match="query_many"):
        await client.cards.query(sandbox.iccids[:101])
    assert sandbox.requests == []
    assert len(await client.cards.query(sandbox.iccids[:100] * 2)) == 100


async def test_bad_iccids_are_named_with_their_positions_before_a_byte_is_sent(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    items: list[Any] = [sandbox.iccids[0], "8.98E+18", sandbox.iccids[1], "no card", 89]
    with pytest.raises(errors.InvalidRequest) as caught:
        await client.cards.query(items)
    assert [fault.split(":")[0] for fault in caught.value.faults] == ["item 1", "item 3", "item 4"]
    assert "8.98E+18" in str(caught.value)
    assert sandbox.requests == []


async def test_unknown_fields_and_statuses_are_kept(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sandbox.faults.add(Fault.unknown_values(), QUERY)
    card = (await client.cards.query(sandbox.iccids[0]))[0]
    assert card.dp_status == DpStatus("FROZEN") == "FROZEN"
    assert card.dp_status is not None
    assert not card.dp_status.is_known
    assert card.extra["riskLevel"] == {"score": 7}


async def test_iccids_as_json_numbers_keep_every_digit(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    iccids = ["89860012345678901234", "8986001234567890123"]
    body = '{"code":0,"data":[{"iccid":%s,"usedMB":1.5},{"iccid":%s}]}' % tuple(iccids)
    sandbox.faults.add(Fault.replaced(body.encode()), QUERY)
    assert [card.iccid for card in await client.cards.query(iccids)] == iccids


async def test_a_nan_counts_as_no_value(sandbox: Sandbox, client: MioEsimClient) -> None:
    iccid = sandbox.iccids[0]
    body = b'{"code":0,"data":[{"iccid":"%s","usedMB":NaN}]}' % iccid.encode()
    sandbox.faults.add(Fault.replaced(body), QUERY)
    assert (await client.cards.query(iccid))[0].used_mb is None


async def test_rows_that_can_t_be_read_are_reported_and_left_out_or_raised_if_all_are(
    sandbox: Sandbox, client: MioEsimClient, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = sandbox.iccids[:2]
    bad = {"iccid": two, "usedMB": "lots"}
    sandbox.faults.add(reply([{"iccid": one}, bad]), QUERY)
    assert [card.iccid for card in await client.cards.query([one, two])] == [one]
    assert "1 row(s) of a reply can't be read" in caplog.text
    sandbox.faults.add(reply([bad]), QUERY)
    with pytest.raises(errors.ProtocolError, match="usedMB"):
        await client.cards.query([one, two])


@pytest.mark.parametrize("data", ["no cards", 7])
async def test_a_reply_that_holds_no_cards_is_a_protocol_error(
    sandbox: Sandbox, client: MioEsimClient, data: Any
) -> None:
    sandbox.faults.add(reply(data), QUERY)
    with pytest.raises(errors.ProtocolError, match="expected cards"):
        await client.cards.query(sandbox.iccids[0])


@pytest.mark.parametrize("data", [None, "", [], {}])
async def test_an_empty_reply_knows_no_card(
    sandbox: Sandbox, client: MioEsimClient, data: Any
) -> None:
    sandbox.faults.add(reply(data), QUERY)
    assert await client.cards.query(sandbox.iccids[0]) == []


async def test_a_detail_has_everything_and_a_masked_activation_code(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    card = await client.cards.detail(sandbox.iccids[0])
    assert isinstance(card, CardDetail)
    assert card.activation is not None
    assert str(card.activation).startswith("LPA:1$smdp.sandbox.example$")
    assert card.activation.matching_id not in repr(card)
    assert card.starts_at is not None
    assert card.starts_at.utcoffset() == dt.timedelta(hours=8)
    assert json.loads(json.dumps(to_dict(card, activation=True)))["activation"] == str(
        card.activation
    )


async def test_a_detail_of_an_unknown_card_is_not_found(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    with pytest.raises(errors.NotFound, match="does not exist"):
        await client.cards.detail("8999000000000000001")
    sandbox.faults.add(reply(None), "getESIMDetail")
    with pytest.raises(errors.NotFound, match="no such card"):
        await client.cards.detail(sandbox.iccids[0])


@pytest.mark.parametrize("wrap", [lambda row: row, lambda row: [row], lambda row: {"data": row}])
async def test_a_detail_is_found_in_what_it_is_wrapped_in(
    sandbox: Sandbox, client: MioEsimClient, wrap: Any
) -> None:
    iccid = sandbox.iccids[0]
    sandbox.faults.add(reply(wrap({"iccid": iccid, "usedMB": "1"})), "getESIMDetail")
    assert (await client.cards.detail(iccid)).used_mb == 1


async def test_a_detail_of_another_card_than_asked_for_is_a_protocol_error(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sandbox.faults.add(reply({"iccid": sandbox.iccids[1]}), "getESIMDetail")
    with pytest.raises(errors.ProtocolError, match="another card"):
        await client.cards.detail(sandbox.iccids[0])


async def test_history_is_a_list_of_past_plans(sandbox: Sandbox, client: MioEsimClient) -> None:
    (plan,) = await client.cards.history(sandbox.iccids[0])
    assert plan.order_num is not None
    assert plan.order_num.startswith("EP")
    assert plan.ends_at is not None
    assert plan.ends_at.time().replace(microsecond=0) == dt.time(23, 59, 59)
    assert Decimal(plan.extra["price"]) == Decimal("12.1")


async def test_a_bad_row_in_a_list_is_reported_and_skipped(
    sandbox: Sandbox, client: MioEsimClient, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.faults.add(reply([{"skuid": "abc"}, {"skuid": "45"}, None]), "getIccidSupportSku")
    skus = await client.cards.renewal_skus(sandbox.iccids[0])
    assert [sku.sku_id for sku in skus] == [45]
    assert "row 0 was skipped" in caplog.text
    assert "row 2 was skipped" in caplog.text


async def test_renewals_come_as_one_object_or_a_list_of_them(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sizes = set()
    for iccid in sandbox.iccids[:20]:
        several = await client.cards.renewal_packages(iccid)
        sizes.add(len(several))
        for sku in several:
            plan, day_pass = sku.packages
            assert plan.sku_id == sku.sku_id
            assert plan.price == Decimal("12.1")
            assert plan.total_price() == Decimal("12.1")
            assert day_pass.total_price(days=3) == Decimal("3.95")
    assert {1, 2, 3} == sizes


@pytest.mark.parametrize("name", ["history", "renewal_skus", "renewal_packages"])
async def test_every_card_endpoint_checks_its_iccid_and_its_reply(
    sandbox: Sandbox, client: MioEsimClient, name: str
) -> None:
    call = getattr(client.cards, name)
    with pytest.raises(errors.InvalidRequest):
        await call("nonsense")
    assert sandbox.requests == []
    sandbox.faults.add(reply("nonsense"), None, times=None, after=1)
    with pytest.raises(errors.ProtocolError, match="list of rows"):
        await call(sandbox.iccids[0])
    sandbox.faults.clear()
    sandbox.faults.add(reply(None))
    assert await call(sandbox.iccids[0]) == []

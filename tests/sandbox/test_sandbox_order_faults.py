"""What was bought in the sandbox can be searched, and what goes wrong goes wrong once."""

from __future__ import annotations

from typing import Any

import pytest
from buying import DAY, DAY_PASS, place, read, renew, spend

from mioesim_async import MioEsimClient, errors
from mioesim_async.models.orders import Order, OrderUsage
from mioesim_async.rows.layout import read_row
from mioesim_async.sandbox import Fault, Sandbox

# Searches.


def days_of(sandbox: Sandbox, position: int) -> dict[str, str]:
    day = sandbox.orders[position].purchased_at
    return {"startDate": f"{day:%Y-%m-%d}", "endDate": f"{day:%m/%d/%Y}"}


async def place_three(sandbox: Sandbox, client: MioEsimClient) -> list[str]:
    """Place three orders, of which the last comes three days later; return their numbers."""
    for reference in ("a", "b", "b"):
        if len(sandbox.orders) == 2:
            sandbox.clock.advance(3 * DAY)
        await place(client, otherOrderId=reference)
    return [order.order_num for order in sandbox.orders]


async def found(client: MioEsimClient, **params: Any) -> list[tuple[str, Any]]:
    rows = (await read(client, "queryOrder", **params))["rows"]
    return [(row["orderNum"], row.get("outerOrderId")) for row in rows]


async def test_orders_are_found_by_reference_and_day_newest_first(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    first, second, third = await place_three(sandbox, client)
    assert await found(client, outerOrderId="b") == [(third, "b"), (second, "b")]
    assert await found(client, outerOrderId="c") == []
    assert await found(client, outerOrderId="b", **days_of(sandbox, 2)) == [(third, "b")]
    assert await found(client, pageSize=2) == [(third, "b"), (second, "b")]
    assert await found(client, endDate=days_of(sandbox, 0)["endDate"], outerOrderId="a") == [
        (first, "a")
    ]
    with pytest.raises(errors.QueryFailed):
        await found(client, startDate="yesterday")


async def test_a_found_row_reads_as_the_order(sandbox: Sandbox, client: MioEsimClient) -> None:
    await place(client, otherOrderId="mine", count=2)
    (row,) = (await read(client, "queryOrder", outerOrderId="mine"))["rows"]
    order = read_row(row, Order)
    assert (order.order_num, order.other_order_id) == (sandbox.orders[0].order_num, "mine")
    assert [card.iccid for card in order.cards] == sandbox.orders[0].iccids


@pytest.mark.parametrize(
    ("search", "references"),
    [("ignores references", (None, None)), ("lists all", ("b", "a"))],
)
async def test_a_search_may_ignore_the_reference_but_not_the_day(
    search: str, references: tuple[str | None, str | None]
) -> None:
    async with Sandbox(1, search=search) as sandbox, sandbox.client() as client:
        first, second, _ = await place_three(sandbox, client)
        days = days_of(sandbox, 0)
        expected = [*zip((second, first), references, strict=True)]
        assert await found(client, outerOrderId="c", **days) == expected


async def test_usage_is_paged_and_a_page_beyond_the_last_is_empty(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    number = (await place(client, **DAY_PASS, daypassDays=3))["orderNum"]
    (iccid,) = sandbox.orders[0].iccids
    await renew(client, iccid=iccid)
    pages = [
        await read(client, "queryEsimOrder", iccid=iccid, pageNo=page, pageSize=1)
        for page in (1, 2, 3)
    ]
    assert [(page["total"], page["page"]) for page in pages] == [(2, 1), (2, 2), (2, 3)]
    assert pages[2]["rows"] == []
    rows = [page["rows"][0] for page in pages[:2]]
    assert [row["orderNum"] for row in rows] == [sandbox.orders[1].order_num, number]
    assert isinstance(rows[0]["totle"], str)
    usage = read_row(rows[1], OrderUsage)
    assert (usage.daypass_days, usage.price) == (3, sandbox.orders[0].price)
    assert [plan.iccid for plan in usage.plans] == [iccid]
    assert usage.plans[0].ends_at == sandbox.orders[0].ends_at
    nothing = await read(client, "queryEsimOrder", orderNum="EP1")
    assert nothing == {"total": 0, "page": 1, "rows": []}
    with pytest.raises(errors.MissingParameter):
        await read(client, "queryEsimOrder")
    with pytest.raises(errors.NotYourOrder):
        await read(client, "queryEsimOrder", orderNum=sandbox.foreign_order_num)


async def test_data_is_used_day_by_day_up_to_the_end(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    await place(client)
    used = []
    for _ in range(9):
        (card,) = await client.cards.query(sandbox.orders[0].iccids)
        assert card.used_mb is not None
        assert card.remaining_mb == pytest.approx(1024 - card.used_mb)
        used.append(card.used_mb)
        sandbox.clock.advance(DAY)
    assert used == sorted(used)
    assert (used[0], used[7]) == (0, used[8])
    assert used[7] > 0


async def test_same_seed_and_same_orders_give_the_same_cards() -> None:
    seen = []
    for seed in (7, 7, 8):
        async with Sandbox(5, seed) as sandbox, sandbox.client() as client:
            await place(client, count=2)
            seen.append([await client.cards.detail(iccid) for iccid in sandbox.orders[0].iccids])
            for card in seen[-1]:
                assert card is not None
                card.starts_at = card.ends_at = None
    assert seen[0] == seen[1]
    assert seen[0] != seen[2]


# What goes wrong.


@pytest.mark.parametrize(
    "fault",
    [
        Fault.lose_reply(),
        Fault.cut(),
        Fault.after_effect(Fault.http(502)),
        Fault.after_effect(Fault.html()),
        Fault.after_effect(Fault.refuse(99)),
        Fault.after_effect(Fault.lose_request()),
        Fault.after_effect(Fault.half_closed()),
        Fault.after_effect(Fault.slow(5)),
        Fault.after_effect(Fault.evict_token()),
        Fault.after_effect(Fault.huge(100, declared=True)),
    ],
    ids=lambda fault: fault.name,
)
async def test_an_order_whose_answer_goes_wrong_was_placed_once(
    sandbox: Sandbox, client: MioEsimClient, fault: Fault
) -> None:
    sandbox.faults.add(fault, "addEsimOrder")
    try:
        await place(client, otherOrderId="x")
    except errors.OutcomeUnknown:
        pass
    else:
        assert fault.name.split()[1] in ("slow", "evict", "huge"), "only these can be read"
    assert [order.other_order_id for order in sandbox.orders] == ["x"]
    assert sandbox.requests[-1].fault == fault.name
    assert len(await found(client, outerOrderId="x")) == 1


@pytest.mark.parametrize(
    "fault",
    [Fault.http(502), Fault.html(), Fault.refuse(99), Fault.lose_request(), Fault.empty()],
    ids=lambda fault: fault.name,
)
async def test_an_order_that_a_plain_fault_meets_was_not_placed(
    sandbox: Sandbox, client: MioEsimClient, fault: Fault
) -> None:
    sandbox.faults.add(fault, "addEsimOrder")
    with pytest.raises(errors.OutcomeUnknown):
        await place(client)
    assert sandbox.orders == []


async def test_a_refused_token_places_nothing_even_after_effect(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    await client.login()
    sandbox.evict()
    sandbox.faults.add(Fault.after_effect(Fault.http(502)), "addEsimOrder")
    with pytest.raises(errors.OutcomeUnknown):
        await place(client)
    assert sandbox.orders == []
    assert sandbox.requests[-1].code == -1


async def test_post_endpoints_take_both_methods_whatever_reads_must_use() -> None:
    async with Sandbox(1, read_method="GET") as sandbox, sandbox.client() as client:
        await spend(client, "addEsimOrder", skuId=45, priceId=441, count=1)
        await found(client)
        assert [seen.method for seen in sandbox.requests] == ["POST", "POST", "GET"]
    async with Sandbox(1, read_method="POST") as sandbox, sandbox.client() as client:
        await found(client)
        assert sandbox.requests[-1].method == "GET"

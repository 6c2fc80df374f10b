"""``mioesim orders`` and ``mioesim cancel``: look up, find out, give back."""

from __future__ import annotations

import json

from asking import answered
from command import mioesim
from shopping import fill

from mioesim_async.sandbox import Fault, Sandbox
from mioesim_async.sandbox.recorded import SandboxOrder

PLAN = ("45", "441")
LPA = "LPA:1$"


def bought(server: Sandbox, reference: str = "ref-1", count: int = 1) -> SandboxOrder:
    done = mioesim(
        "order", *PLAN, "--count", count, "--yes", "--reference", reference, sandbox=server
    )
    assert done.status == 0, done.err
    return server.orders[-1]


def sent(server: Sandbox, endpoint: str) -> list[dict[str, str]]:
    return [request.params for request in server.requests if request.endpoint == endpoint]


def test_an_order_is_shown_with_its_cards_and_usage_and_without_activation_codes(
    server: Sandbox,
) -> None:
    order = bought(server, "shown-1", count=2)
    shown = mioesim("orders", "show", order.order_num, sandbox=server)
    as_json = mioesim("orders", "show", order.order_num, "--json", sandbox=server)
    asked_for = mioesim("orders", "show", order.order_num, "--show-activation", sandbox=server)

    assert (shown.status, shown.err) == (0, "")
    for text in (order.order_num, "paid", "24.20", "Japan 1GB 7 days", "1 GB", *order.iccids):
        assert text in shown.out
    told = json.loads(as_json.out)
    assert told["order"]["order_num"] == order.order_num
    # The vendor has a number of its own there; the journal knows ours.
    assert told["order"]["other_order_id"] == "shown-1"
    assert "shown-1" in shown.out
    assert [plan["iccid"] for plan in told["usage"][0]["plans"]] == order.iccids
    assert LPA not in shown.out + as_json.out
    assert asked_for.out.count(LPA) == 2


def test_a_usage_that_cannot_be_read_leaves_the_order(server: Sandbox) -> None:
    order = bought(server)
    server.faults.add(Fault.refuse(-8, "no"), "queryEsimOrder", times=None)
    done = mioesim("orders", "show", order.order_num, sandbox=server)

    assert done.status == 1
    assert order.iccids[0] in done.out
    assert "the usage could not be read" in done.err


def test_an_order_that_is_not_there_is_one_line(server: Sandbox) -> None:
    done = mioesim("orders", "show", "EP0", sandbox=server)
    assert (done.status, done.out) == (1, "")
    assert "Traceback" not in done.err


def test_orders_are_found_by_reference_and_by_day(server: Sandbox) -> None:
    first, second = bought(server, "find-1"), bought(server, "find-2")
    by_reference = mioesim("orders", "search", "--reference", "find-1", sandbox=server)
    day = f"{first.purchased_at:%Y-%m-%d}"
    by_day = mioesim("orders", "search", "--from", day, "--to", day, "--json", sandbox=server)
    nothing = mioesim("orders", "search", sandbox=server)

    assert first.order_num in by_reference.out
    assert second.order_num not in by_reference.out
    assert {one["order_num"] for one in json.loads(by_day.out)} >= {
        first.order_num,
        second.order_num,
    }
    assert LPA not in by_day.out
    assert nothing.status == 2


def test_all_orders_of_a_day_are_shown(server: Sandbox) -> None:
    fill(server, 250)
    day = f"{server.orders[0].purchased_at:%Y-%m-%d}"
    shown = mioesim("orders", "search", "--from", day, "--to", day, sandbox=server)
    as_json = mioesim("orders", "search", "--from", day, "--to", day, "--json", sandbox=server)

    assert (shown.status, as_json.status) == (0, 0)
    assert "mioesim:" not in shown.err + as_json.err
    numbers = [order.order_num for order in reversed(server.orders)]
    assert [one["order_num"] for one in json.loads(as_json.out)] == numbers
    assert all(number in shown.out for number in numbers)


def test_orders_that_the_vendor_does_not_show_are_told_and_the_others_shown(
    server: Sandbox,
) -> None:
    rows = [{"orderNum": f"EP20260101{place:06}", "status": 0} for place in range(100)]
    body = json.dumps({"code": 0, "data": {"total": 250, "rows": rows}}).encode()
    server.faults.add(Fault.replaced(body), "queryOrder", times=None)
    day = ("--from", "2026-01-01", "--to", "2026-01-01")
    shown = mioesim("orders", "search", *day, sandbox=server)
    as_json = mioesim("orders", "search", *day, "--json", sandbox=server)
    open_end = mioesim("orders", "search", "--from", "2026-01-01", sandbox=server)

    for done in (shown, as_json, open_end):
        assert done.status == 1
        assert "mioesim: 100 of 250 shown\n" in done.err
        assert "report" not in done.err
    assert "give both --from and --to" in open_end.err
    assert all(row["orderNum"] in shown.out for row in rows)
    assert [one["order_num"] for one in json.loads(as_json.out)] == [
        row["orderNum"] for row in rows
    ]


def test_rows_of_a_search_that_cannot_be_read_are_told(server: Sandbox) -> None:
    body = b'{"code":0,"data":{"total":2,"rows":[7,{"orderNum":"EP20260101000001"}]}}'
    server.faults.add(Fault.replaced(body), "queryOrder", times=None)
    done = mioesim("orders", "search", "--reference", "shop-1", "--json", sandbox=server)

    assert done.status == 1
    assert "mioesim: 1 of 2 shown" in done.err
    assert [one["order_num"] for one in json.loads(done.out)] == ["EP20260101000001"]


def test_a_search_that_fails_at_once_prints_nothing(server: Sandbox) -> None:
    server.faults.add(Fault.refuse(-8, "no"), "queryOrder", times=None)
    done = mioesim("orders", "search", "--reference", "shop-1", "--json", sandbox=server)
    assert (done.status, done.out) == (1, "")


def test_an_order_that_never_arrived_stays_open_until_it_is_said_to_be_absent(
    server: Sandbox,
) -> None:
    server.faults.add(Fault.lose_request(), "addEsimOrder")
    lost = mioesim("order", *PLAN, "--yes", "--reference", "gone-1", sandbox=server)
    assert lost.status == 4

    (opened,) = json.loads(mioesim("orders", "open", "--json", sandbox=server).out)
    assert opened["other_order_id"] == "gone-1"
    assert not {"fingerprint", "attempt", "account"} & opened.keys()
    asked = mioesim("orders", "reconcile", sandbox=server)
    assert asked.status == 4
    assert "gone-1: still open" in asked.out
    assert "--assume-absent-after" in asked.out
    too_young = mioesim("orders", "reconcile", "--assume-absent-after", "24h", sandbox=server)
    assert too_young.status == 4
    dropped = mioesim(
        "orders", "reconcile", "--assume-absent-after", "0s", "--json", sandbox=server
    )
    assert dropped.status == 0
    assert [entry["other_order_id"] for entry in json.loads(dropped.out)["absent"]] == ["gone-1"]

    assert bought(server, "gone-1").other_order_id == "gone-1"


# Cancelling.


def test_a_cancellation_shows_the_cards_and_asks(server: Sandbox) -> None:
    order = bought(server, count=2)
    refused = answered("cancel", order.order_num, "--all", sandbox=server, answer="\n")
    assert refused.status == 1
    assert f"Cancel 2 cards of order {order.order_num}? [y/N]" in refused.err
    assert all(iccid in refused.err for iccid in order.iccids)
    assert sent(server, "refundOrder") == []

    done = answered("cancel", order.order_num, order.iccids[1], sandbox=server, answer="y\n")
    assert done.status == 0
    assert [one["iccids"] for one in sent(server, "refundOrder")] == [order.iccids[1]]


def test_all_cards_are_cancelled_without_a_question_and_json_tells_it(server: Sandbox) -> None:
    order = bought(server, count=2)
    dry = mioesim("cancel", order.order_num, "--all", "--dry-run", "--json", sandbox=server)
    assert sent(server, "refundOrder") == []
    done = mioesim("cancel", order.order_num, "--all", "--yes", "--json", sandbox=server)

    assert (dry.status, done.status) == (0, 0)
    assert json.loads(dry.out)["status"] == "dry run"
    assert json.loads(done.out)["iccids"] == order.iccids
    assert order.status.name == "CANCELLING"


def test_an_order_that_is_being_cancelled_is_not_asked_about_again(server: Sandbox) -> None:
    order = bought(server)
    assert mioesim("cancel", order.order_num, "--all", "--yes", sandbox=server).status == 0
    again = mioesim("cancel", order.order_num, "--all", "--yes", sandbox=server)

    assert (again.status, again.out) == (1, "")
    assert "it was cancelled before" in again.err
    assert len(sent(server, "refundOrder")) == 1


def test_a_card_of_another_order_is_not_cancelled(server: Sandbox) -> None:
    order = bought(server)
    foreign = mioesim("cancel", order.order_num, server.iccids[0], "--yes", sandbox=server)
    none = mioesim("cancel", order.order_num, "--yes", sandbox=server)
    both = mioesim("cancel", order.order_num, order.iccids[0], "--all", "--yes", sandbox=server)

    assert [done.status for done in (foreign, none, both)] == [2, 2, 2]
    assert server.iccids[0] in foreign.err
    assert sent(server, "refundOrder") == []


def test_a_cancellation_whose_answer_is_lost_says_where_to_look(server: Sandbox) -> None:
    order = bought(server)
    server.faults.add(Fault.lose_reply(), "refundOrder")
    done = mioesim("cancel", order.order_num, "--all", "--yes", sandbox=server)

    assert done.status == 4
    assert f"mioesim orders show {order.order_num}" in done.err
    assert len(sent(server, "refundOrder")) == 1

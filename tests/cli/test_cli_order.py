"""``mioesim order`` and ``mioesim renew``: shown, asked, bought once, and told."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from asking import END_OF_FILE, QUESTION, answered, at_terminal
from attrs import evolve
from command import Done, interrupted, mioesim, started
from journals import write_locked
from waiting import SECONDS, read_until, wait_until

from mioesim_async import OrderJournal
from mioesim_async.journal import sqlite
from mioesim_async.profiles import journal_path
from mioesim_async.sandbox import Fault, Sandbox

PLAN = ("45", "441")
ORDER = "addEsimOrder"
LPA = "LPA:1$"


def buying(server: Sandbox) -> list[dict[str, str]]:
    """What was sent that costs money."""
    return [
        request.params
        for request in server.requests
        if request.endpoint.startswith(("addEsimOrder", "renewCard"))
    ]


def fields(done: Done) -> dict[str, str]:
    """What a person reads of an order."""
    lines = [re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in done.out.splitlines()]
    return {parts[0]: parts[1] for parts in lines if len(parts) == 2}


# The question.


def test_it_shows_the_plan_and_the_price_and_buys_after_a_yes(server: Sandbox) -> None:
    done = answered("order", *PLAN, "--count", 2, sandbox=server, answer="y\n")

    assert done.status == 0
    assert "Japan 1GB 7 days" in done.err
    assert re.search(r"45 / 441 +1 GB +7 +2 +12\.10 +24\.20", done.err)
    assert "Order 2 cards for 24.20? [y/N]" in done.err
    (order,) = server.orders
    shown = fields(done)
    assert (shown["Order"], shown["Result"], shown["Price"]) == (order.order_num, "placed", "24.20")
    assert all(f"Card       {iccid}" in done.out for iccid in order.iccids)
    assert order.other_order_id == shown["Reference"]
    assert f"the reference is {order.other_order_id}" in done.err
    assert LPA not in done.out + done.err


@pytest.mark.parametrize("answer", ["\n", "n\n", "yep\n", END_OF_FILE])
def test_whatever_is_no_clear_yes_buys_nothing(server: Sandbox, answer: str) -> None:
    done = answered("order", *PLAN, sandbox=server, answer=answer)

    assert (done.status, done.out) == (1, "")
    assert "nothing was done" in done.err
    assert buying(server) == []


def test_ctrl_c_at_the_question_buys_nothing(server: Sandbox) -> None:
    with at_terminal("order", *PLAN, sandbox=server) as terminal:
        terminal.wait_for(QUESTION)
        terminal.process.send_signal(signal.SIGINT)
        done = terminal.done()

    assert (done.status, done.out) == (130, "")
    assert "nothing was done" in done.err
    assert "Traceback" not in done.err
    assert buying(server) == []


@pytest.mark.parametrize("command", [("order",), ("renew", "--order", "EP1"), ("cancel", "EP1")])
def test_without_a_terminal_and_without_yes_it_asks_nobody_and_sends_nothing(
    server: Sandbox, command: tuple[str, ...]
) -> None:
    what = ("--all",) if command[0] == "cancel" else PLAN
    done = mioesim(*command, *what, sandbox=server, typed="y\n")

    assert (done.status, done.out) == (2, "")
    assert "--yes" in done.err
    assert server.requests == []


def test_a_dry_run_shows_price_and_stock_and_sends_nothing_that_costs_money(
    server: Sandbox,
) -> None:
    done = mioesim("order", *PLAN, "--dry-run", "--json", sandbox=server)

    assert done.status == 0
    assert re.search(r"12\.10 +yes", done.err)
    told = json.loads(done.out)
    assert (told["price"], told["in_stock"], told["would_send"]) == ("12.1", True, True)
    assert buying(server) == []


def test_a_price_that_is_not_known_is_said_clearly(server: Sandbox) -> None:
    done = answered("order", "--api-code", "392-0-7-1-G", sandbox=server, answer="n\n")

    assert "the price is unknown" in done.err
    assert "Order 1 card at an UNKNOWN price?" in done.err
    assert buying(server) == []


def test_a_code_with_its_sku_has_a_price_and_is_ordered_by_it(server: Sandbox) -> None:
    # Two SKUs have this code; the vendor would take the first.
    done = answered("order", 46, "--api-code", "392-0-7-1-G", sandbox=server, answer="y\n")
    none = mioesim("order", 46, "--api-code", "1-0-7-1-G", "--yes", sandbox=server)

    assert done.status == 0
    assert "Order 1 card for 12.10?" in done.err
    (order,) = server.orders
    assert (order.sku_id, order.price_id) == (46, 441)
    assert none.status == 2
    assert "SKU 46 has no plan with code '1-0-7-1-G'" in none.err


# What is sent and told.


def test_every_option_reaches_the_vendor(server: Sandbox) -> None:
    done = mioesim(
        "order", 45, 442, "--days", 5, "--begin-date", "2040-01-31",
        "--dp-id", 11, "--iccid", "8985200000000000001", "--iccid", "8985200000000000002",
        "--customer-email", "someone@example.com", "--send-email", "--pdf-language", "en",
        "--remark", "hello", "--reference", "every-option", "--item-reference", "item-1", "--yes",
        sandbox=server,
    )  # fmt: skip

    (sent,) = buying(server)
    wanted = {
        "skuId": "45", "priceId": "442", "count": "2", "daypassDays": "5",
        "beginDate": "01/31/2040", "dpId": "11",
        "iccids": "8985200000000000001,8985200000000000002",
        "customerEmail": "someone@example.com", "isSendEmail": "1", "pdfLanguage": "en",
        "remark": "hello", "otherOrderId": "every-option", "otherItemId": "item-1",
    }  # fmt: skip
    assert {name: sent[name] for name in wanted} == wanted
    assert done.status in (0, 1)


def test_json_has_no_activation_codes_unless_they_are_asked_for(server: Sandbox) -> None:
    hidden = mioesim("order", *PLAN, "--yes", "--json", "--reference", "json-1", sandbox=server)
    again = ("order", *PLAN, "--yes", "--reference", "json-1", "--show-activation")
    shown = mioesim(*again, "--json", sandbox=server)
    read = mioesim(*again, sandbox=server)

    (order,) = server.orders
    told = json.loads(hidden.out)
    assert (told["order_num"], told["iccids"]) == (order.order_num, order.iccids)
    assert LPA not in hidden.out + hidden.err
    assert "http" not in hidden.out
    (card,) = json.loads(shown.out)["order"]["cards"]
    assert card["activation"].startswith(LPA)
    assert card["activation"] in read.out
    assert LPA not in shown.err + read.err


def test_a_reference_that_is_used_again_buys_nothing(server: Sandbox) -> None:
    first = mioesim("order", *PLAN, "--yes", "--reference", "twice", sandbox=server)
    again = answered_without_question("order", *PLAN, "--reference", "twice", server=server)
    other = mioesim("order", 45, 443, "--yes", "--reference", "twice", sandbox=server)

    assert (first.status, again.status, other.status) == (0, 0, 1)
    assert fields(again)["Result"] == "placed before"
    assert fields(again)["Order"] == fields(first)["Order"]
    assert "used before with other parameters" in other.err
    assert len(buying(server)) == 1


def answered_without_question(*arguments: object, server: Sandbox) -> Done:
    with at_terminal(*arguments, sandbox=server) as terminal:
        done = terminal.done()
    assert QUESTION not in done.err
    return done


def test_a_card_is_renewed_by_its_iccid_by_its_order_and_by_api_code(server: Sandbox) -> None:
    iccid = server.iccids[0]
    by_card = answered("renew", *PLAN, "--iccid", iccid, sandbox=server, answer="yes\n")
    first = server.orders[0]
    assert f"Renew {iccid} for 12.10?" in by_card.err
    assert fields(by_card)["Order"] == first.order_num
    assert first.iccids == [iccid]

    by_order = mioesim(
        "renew", *PLAN, "--order", first.main_order_num, "--yes", "--json", sandbox=server
    )
    by_code = mioesim(
        "renew", 45, "--api-code", "392-0-7-1-G", "--iccid", iccid, "--yes", "--json",
        sandbox=server,
    )  # fmt: skip
    assert (by_order.status, by_code.status) == (0, 0)
    numbers = [json.loads(done.out)["order_num"] for done in (by_order, by_code)]
    assert numbers == [order.order_num for order in server.orders[1:]]


@pytest.mark.parametrize(
    "arguments",
    [
        ("order",),
        ("order", 45),
        ("order", *PLAN, "--api-code", "392-0-7-1-G"),
        ("order", *PLAN, "--count", 0),
        ("order", 45, 442, "--days", 99, "--begin-date", "2040-01-01"),
        ("order", 45, 442, "--days", 5, "--begin-date", "2020-01-01"),
        ("order", *PLAN, "--max-spend", 5),
        ("order", *PLAN, "--concurrency", 2),
        ("order", "--api-code", "392-0-7-1-G"),
        ("renew", *PLAN),
        ("renew", 45, 443, "--iccid", "8985200000000000001"),
        ("renew", *PLAN, "--iccid", "8.98E+18"),
    ],
)
def test_wrong_usage_sends_nothing_that_costs_money(
    server: Sandbox, arguments: tuple[Any, ...]
) -> None:
    done = mioesim(*arguments, "--yes", sandbox=server)

    assert (done.status, done.out) == (2, "")
    assert buying(server) == []


def test_faults_name_options_and_not_what_python_calls_them(server: Sandbox) -> None:
    days = mioesim("order", 45, 442, "--begin-date", "2040-01-01", "--yes", sandbox=server)
    cards = mioesim("order", *PLAN, "--iccid", "8985200000000000001", "--yes", sandbox=server)
    search = mioesim("orders", "search", sandbox=server)

    assert "give --days" in days.err
    assert "physical SIMs (--iccid) need --dp-id" in cards.err
    assert "give --reference, --from or --to" in search.err


def test_prices_stay_whole_where_the_terminal_is_narrow(server: Sandbox) -> None:
    done = mioesim("order", *PLAN, "--count", 2, "--dry-run", sandbox=server, COLUMNS="40")

    assert re.search(r"12\.10 +24\.20 +yes", done.err)


def test_a_refused_order_is_one_line_and_status_1(server: Sandbox) -> None:
    server.faults.add(Fault.refuse(3, "no"), ORDER)
    done = mioesim("order", *PLAN, "--yes", sandbox=server)

    assert (done.status, done.out) == (1, "")
    assert "answered code 3" in done.err


# When it goes wrong on the way.


def test_a_lost_answer_says_what_to_run_and_that_finds_the_order(server: Sandbox) -> None:
    server.faults.add(Fault.lose_reply(), ORDER)
    lost = mioesim("order", *PLAN, "--yes", "--reference", "lost-1", sandbox=server)
    assert lost.status == 4
    assert "mioesim orders reconcile" in lost.err
    assert "lost-1" in lost.err
    assert "orders.reconcile()" not in lost.err

    again = mioesim("order", *PLAN, "--yes", "--reference", "lost-1", "--json", sandbox=server)
    assert again.status == 4
    assert json.loads(again.out)["status"] == "unknown"
    opened = mioesim("orders", "open", sandbox=server)
    assert "lost-1" in opened.out

    found = mioesim("orders", "reconcile", sandbox=server)
    (order,) = server.orders
    assert found.status == 0
    assert f"lost-1: bought, as order {order.order_num}" in found.out
    assert "Nothing is open." in mioesim("orders", "open", sandbox=server).out
    assert len(buying(server)) == 1


@pytest.mark.parametrize("status", [307, 403, 408])
def test_a_status_after_the_order_took_effect_is_4_and_not_called_refused(
    server: Sandbox, status: int
) -> None:
    server.faults.add(Fault.after_effect(Fault.http(status)), ORDER)
    done = mioesim("order", *PLAN, "--yes", "--reference", "gate-1", sandbox=server)

    assert done.status == 4
    assert "mioesim orders reconcile" in done.err
    assert "gate-1" in done.err
    assert mioesim("orders", "reconcile", sandbox=server).status == 0
    assert len(server.orders) == len(buying(server)) == 1


def test_without_a_journal_nothing_is_sent_and_it_says_to_try_later(
    server: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(OrderJournal(journal_path()).open_entries())
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.2)
    with write_locked(journal_path()):
        done = mioesim("order", *PLAN, "--yes", sandbox=server)

    assert done.status == 1
    assert "nothing was sent, try later" in done.err
    assert buying(server) == []


def test_an_order_that_could_not_be_read_back_is_told_with_its_number(server: Sandbox) -> None:
    server.faults.add(Fault.replaced(b'{"code":0,"data":"EP77"}'), ORDER)
    server.faults.add(Fault.refuse(-3), "getOrderInfo", times=None)
    done = mioesim("order", *PLAN, "--yes", sandbox=server)

    assert done.status == 4
    assert "mioesim orders show EP77" in done.err


def test_the_reference_stands_on_the_terminal_before_the_order_is_sent(server: Sandbox) -> None:
    server.faults.add(Fault.silence(), ORDER)
    with started("order", *PLAN, "--yes", sandbox=server) as process:
        wait_until(lambda: buying(server))
        process.kill()
        shown = process.communicate(timeout=SECONDS)[1].decode()

    (sent,) = buying(server)
    assert sent["otherOrderId"] in shown
    opened = json.loads(mioesim("orders", "open", "--json", sandbox=server).out)
    assert [entry["other_order_id"] for entry in opened] == [sent["otherOrderId"]]


@pytest.mark.parametrize(
    ("fault", "status"),
    [(Fault.slow(60), 130), (evolve(Fault.lose_reply(), delay=60.0), 4)],
)
def test_ctrl_c_during_an_order_waits_and_tells_what_it_came_to(
    server: Sandbox, fault: Fault, status: int
) -> None:
    server.faults.add(fault, ORDER)
    with started("order", *PLAN, "--yes", sandbox=server) as process:
        wait_until(lambda: buying(server))
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        read_until(process.stderr, "interrupted; waiting for the")
        wait_until(lambda: server.clock.advance(60) or process.poll() is not None)
        out, err = process.communicate(timeout=SECONDS)

    (order,) = server.orders
    assert process.returncode == status
    if status == 4:
        assert f"{order.other_order_id}. To find out, run: mioesim orders reconcile" in err.decode()
    else:
        assert order.order_num in out.decode()


def test_ctrl_c_before_anything_was_sent_says_so(server: Sandbox) -> None:
    server.faults.add(Fault.silence(), "getPackages", times=None)
    with started("order", *PLAN, "--yes", sandbox=server) as process:
        wait_until(lambda: len(server.requests) == 2)
        done = interrupted(process)

    assert done.status == 130
    assert "nothing was bought" in done.err
    assert buying(server) == []


def test_a_login_that_fails_is_status_3(server: Sandbox, tmp_path: Path) -> None:
    server.faults.add(Fault.refuse(-1), "login", times=None)
    done = mioesim("order", *PLAN, "--yes", sandbox=server)

    assert done.status == 3
    assert buying(server) == []

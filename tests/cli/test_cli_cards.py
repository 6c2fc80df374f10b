"""``mioesim card``, ``history`` and ``pdf``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from command import mioesim, rows_of
from terminal import at_terminal

from mioesim_async import MioEsimClient, Order
from mioesim_async.cli.printing import print_lines
from mioesim_async.sandbox import Fault, Sandbox


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox(5) as sandbox:
        yield sandbox


@pytest.fixture
def server(running: Sandbox) -> Sandbox:
    running.faults.clear()
    running.mails.clear()
    return running


@pytest.fixture
async def order(server: Sandbox) -> Order:
    """An order of two cards."""
    account = server.credentials
    async with MioEsimClient(account, base_url=server.url) as client:
        return await client.orders.place(sku_id=45, price_id=441, count=2)


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_a_card_is_shown_with_its_code_hidden(server: Sandbox, columns: str) -> None:
    done = mioesim("card", server.iccids[0], sandbox=server, COLUMNS=columns)
    assert (done.status, done.err) == (0, "")
    rows = rows_of(done.out)
    assert rows["ICCID"] == server.iccids[0]
    assert (rows["Status"], rows["Data used"]) == ("ACTIVE: the plan is running", "4.26 GB")
    assert rows["Activation code"] == "hidden; --show-activation shows it"
    assert "LPA" not in done.out


def test_the_code_is_shown_when_it_is_asked_for_on_one_line(server: Sandbox) -> None:
    done = mioesim("card", server.iccids[0], "--show-activation", sandbox=server, COLUMNS="30")
    assert rows_of(done.out)["Activation code"].startswith("LPA:1$smdp.sandbox.example$")


def test_json_says_that_there_is_a_code_and_holds_it_only_when_asked(server: Sandbox) -> None:
    ways = [(), ("--show-activation",)]
    hidden, shown = (
        mioesim("card", server.iccids[0], "--json", *way, sandbox=server) for way in ways
    )
    card = json.loads(hidden.out)
    assert (card["iccid"], card["used_mb"]) == (server.iccids[0], 4361.04)
    assert (card["activation"], card["activation_hidden"]) == (None, True)
    assert "extra" not in card
    code = json.loads(shown.out)["activation"]
    assert code.startswith("LPA:1$")
    assert all(part not in hidden.out for part in code.split("$")[1:])


def test_a_code_that_cannot_be_read_stays_hidden_too(server: Sandbox) -> None:
    body = {"code": 0, "data": {"iccid": server.iccids[0], "code": "LPA:9-SECRET", "sm_dp": "S$"}}
    server.faults.add(Fault.replaced(json.dumps(body).encode()), "getESIMDetail", times=2)
    for way in ((), ("--json",)):
        done = mioesim("card", server.iccids[0], *way, sandbox=server)
        assert done.status == 0
        assert "SECRET" not in done.out + done.err


def test_a_card_that_is_none_and_one_that_nobody_knows(server: Sandbox) -> None:
    wrong = mioesim("card", "8.98E+18", sandbox=server)
    assert (wrong.status, wrong.err.count("\n")) == (2, 1)
    unknown = mioesim("card", "8999000000000000001", sandbox=server)
    assert (unknown.status, unknown.err.count("\n")) == (1, 1)


@pytest.mark.parametrize("columns", ["80", "200"])
def test_the_history_of_a_card_has_whole_orders_and_times(server: Sandbox, columns: str) -> None:
    done = mioesim("history", server.iccids[0], sandbox=server, COLUMNS=columns)
    assert done.status == 0
    assert max(map(len, done.out.splitlines())) <= 80 + 3
    row = done.out.splitlines()[1].split()
    assert row[0].startswith("EP")
    assert len(row[0]) == 16
    assert row[-5] == "ended"
    (plan,) = json.loads(mioesim("history", server.iccids[0], "--json", sandbox=server).out)
    assert (plan["order_num"], plan["status"], plan["status_code"]) == (row[0], "ended", 5)
    assert plan["starts_at"].endswith("+08:00")


def test_pdf_lists_the_links_of_an_order(server: Sandbox, order: Order) -> None:
    links = json.loads(mioesim("pdf", order.order_num, "--json", sandbox=server).out)
    first, second = (card.iccid for card in order.cards)
    assert set(links) == {first, second}
    one = mioesim("pdf", order.order_num, second, sandbox=server, COLUMNS="30")
    assert f"{second}  {links[second]}" in one.out
    assert first not in one.out


def test_a_mail_is_asked_for_and_only_yes_sends_it(server: Sandbox, order: Order) -> None:
    mail = ("pdf", order.order_num, "--email", "customer@shop.example")
    for typed in ("n\n", "\n", "yep\n", "\x04"):
        done = at_terminal(*mail, sandbox=server, typed=typed)
        assert (done.status, server.mails) == (1, []), typed
        assert "nothing was done" in done.out
    done = at_terminal(*mail, sandbox=server, typed="y\n")
    assert done.status == 0
    assert f"Mail the PDFs of all cards of order {order.order_num} to customer@shop" in done.out
    assert [sent.email for sent in server.mails] == ["customer@shop.example"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("EP1", "--email", "nope"), "name@example.com"),
        (("EP1", "8.98E+18", "--email", "a@shop.example"), "turned into a number"),
        ((" ", "--email", "a@shop.example"), "the order number must be text"),
    ],
)
def test_a_mail_that_cannot_be_sent_is_refused_before_anybody_is_asked(
    server: Sandbox, arguments: tuple[str, ...], says: str
) -> None:
    done = at_terminal("pdf", *arguments, sandbox=server, typed="y\n")
    assert (done.status, server.mails) == (2, [])
    assert says in done.out
    assert "[y/N]" not in done.out


@pytest.mark.parametrize("arguments", [("card", ""), ("history", "x"), ("qr", "1"), ("pdf", "E ")])
def test_what_is_no_name_is_told_without_the_words_of_a_program(
    server: Sandbox, arguments: tuple[str, ...]
) -> None:
    done = mioesim(*arguments, sandbox=server)
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert not re.search(r"item \d|order_num|\(\)|=", done.err)


@pytest.mark.parametrize("code", [-30, -2])
def test_a_setting_is_named_as_a_profile_has_it(server: Sandbox, code: int) -> None:
    body = json.dumps({"code": code, "msg": "no"}).encode()
    server.faults.add(Fault.replaced(body), "getHistoryDetail", times=4)
    done = mioesim("history", server.iccids[0], sandbox=server)
    assert "Dialect" not in done.err
    assert re.search(r"(read_method|batch_parameter) = .* in the account's profile", done.err)


def test_ctrl_c_at_the_question_sends_nothing(server: Sandbox, order: Order) -> None:
    mail = ("pdf", order.order_num, "--email", "customer@shop.example")
    done = at_terminal(*mail, sandbox=server, asked="[y/N]", typed="\x03")
    assert (done.status, server.mails) == (130, [])
    assert "Traceback" not in done.out


def test_without_a_terminal_only_yes_sends_a_mail(server: Sandbox, order: Order) -> None:
    mail = ("pdf", order.order_num, "--email", "customer@shop.example")
    refused = mioesim(*mail, sandbox=server, typed="y\n")
    assert (refused.status, server.mails) == (2, [])
    assert "--yes" in refused.err
    done = mioesim(*mail, "--yes", "--json", sandbox=server)
    assert (done.status, len(server.mails)) == (0, 1)
    assert json.loads(done.out)["sent"] is True


def test_a_mail_that_may_have_been_sent_is_said_to_be_unknown(
    server: Sandbox, order: Order
) -> None:
    server.faults.add(Fault.lose_reply(), "handlerEsimPdf")
    done = mioesim("pdf", order.order_num, "--email", "a@shop.example", "-y", sandbox=server)
    assert (done.status, done.err.count("\n")) == (1, 1)
    assert "the mail may or may not have been sent" in done.err
    assert len(server.mails) == 1


def test_a_profile_and_a_sandbox_exclude_each_other() -> None:
    done = mioesim("query", "--sandbox", "3", "--profile", "shop")
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert "--profile" in done.err


def test_of_nothing_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_lines([])
    print_lines([("Order", None)])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("pdf", "Links are printed in full, with --json too."),
        ("qr", "A file gets the code even without --show-activation, and has mode 0600."),
    ],
)
def test_the_help_says_what_is_shown_without_being_asked_for(command: str, says: str) -> None:
    done = mioesim(command, "--help", COLUMNS="80")
    assert says in " ".join(done.out.split())

"""``mioesim qr``, read by a reader that has nothing to do with it."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import mioesim
from readers import read_image, read_svg, read_terminal
from terminal import at_terminal

from mioesim_async import MioEsimClient, Order
from mioesim_async.delivery import customer_texts
from mioesim_async.sandbox import Fault, Sandbox


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox(5) as sandbox:
        yield sandbox


@pytest.fixture
def server(running: Sandbox) -> Sandbox:
    running.faults.clear()
    return running


def answer(server: Sandbox, endpoint: str, data: object) -> None:
    """Have the vendor say this of a card or an order, for the next two questions."""
    body = json.dumps({"code": 0, "data": data}).encode()
    server.faults.add(Fault.replaced(body), endpoint, times=2)


@pytest.fixture
async def code(server: Sandbox) -> str:
    """The activation code of the first card."""
    async with MioEsimClient(server.credentials, base_url=server.url) as client:
        return str((await client.cards.detail(server.iccids[0])).activation)


@pytest.fixture
async def order(server: Sandbox) -> Order:
    async with MioEsimClient(server.credentials, base_url=server.url) as client:
        return await client.orders.place(sku_id=45, price_id=441, count=2)


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_the_code_in_a_terminal_reads_right_and_is_not_spelled_out(
    server: Sandbox, code: str, columns: int
) -> None:
    done = at_terminal("qr", server.iccids[0], sandbox=server, columns=columns)
    assert done.status == 0
    heading, drawn = done.out.split("\n", 1)
    assert heading == f"eSIM {server.iccids[0]}"
    assert read_terminal(drawn.rstrip("\n"), color=True) == code
    assert "LPA" not in done.out


def test_in_a_pipe_it_has_no_colours_and_the_text_only_when_asked_for(
    server: Sandbox, code: str
) -> None:
    done = mioesim("qr", server.iccids[0], "--show-activation", sandbox=server)
    _, *drawn, text = done.out.splitlines()
    assert read_terminal("\n".join(drawn), color=False) == code
    assert text == code


def test_a_terminal_that_is_too_narrow_is_told_so(server: Sandbox) -> None:
    done = at_terminal("qr", server.iccids[0], sandbox=server, columns=40)
    assert done.status == 2
    assert "41 columns wide" in done.out.replace("\n", "")
    assert "█" not in done.out


@pytest.mark.parametrize("ending", [".png", ".svg", ".html", ".txt"])
def test_files_are_the_users_alone_and_hold_the_code(
    server: Sandbox, code: str, tmp_path: Path, ending: str
) -> None:
    file = tmp_path / f"card{ending}"
    file.touch(mode=0o644)
    done = mioesim("qr", server.iccids[0], "--output", file, sandbox=server)
    assert (done.status, done.out) == (0, "")
    assert "LPA" not in done.err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    if ending == ".png":
        assert read_image(file.read_bytes()) == code
    elif ending == ".svg":
        assert read_svg(file.read_text()) == code
    else:
        assert code in file.read_text()


def test_text_and_page_go_to_the_standard_output_only_when_codes_may_be_shown(
    server: Sandbox, code: str
) -> None:
    for kind, mark in (("--text", "SM-DP+ address: "), ("--html", "<!DOCTYPE html>")):
        refused = mioesim("qr", server.iccids[0], kind, sandbox=server)
        assert (refused.status, refused.out) == (2, "")
        assert "--show-activation" in refused.err
        done = mioesim("qr", server.iccids[0], kind, "--show-activation", sandbox=server)
        assert (done.status, mark in done.out, code in done.out) == (0, True, True)


def test_page_and_text_are_in_the_language_that_was_asked_for(
    server: Sandbox, tmp_path: Path
) -> None:
    iccid = server.iccids[0]
    for arguments, told in (
        (("-o", tmp_path / "a.html"), '<html lang="ja"'),
        (("--text", "-o", tmp_path / "a.txt"), customer_texts("ja")["steps"]),
    ):
        done = mioesim("qr", iccid, "--language", "ja", *arguments, sandbox=server)
        assert (done.status, told in arguments[-1].read_text(encoding="utf-8")) == (0, True)


def test_a_language_that_is_not_there_is_refused_before_anything_is_asked(server: Sandbox) -> None:
    asked = len(server.requests)
    for arguments, told in (
        (("--language", "it", "--html", "--show-activation"), "only in de, en, es, fr, ja, zh"),
        (("--language", "en-", "--text", "--show-activation"), "a language is a tag"),
        (("--language", "de"), "add --html or --text"),
        (("--language", "de", "-o", "a.png"), "add --html or --text"),
    ):
        done = mioesim("qr", server.iccids[0], *arguments, sandbox=server)
        assert (done.status, told in done.err, done.err.count("\n")) == (2, True, 1), arguments
    assert len(server.requests) == asked


def test_json_holds_the_code_only_when_asked_for(server: Sandbox, code: str) -> None:
    (sheet,) = json.loads(mioesim("qr", server.iccids[0], "--json", sandbox=server).out)
    assert (sheet["iccid"], sheet["activation_hidden"]) == (server.iccids[0], True)
    assert {sheet[name] for name in ("activation", "pdf_url")} == {None}
    done = mioesim("qr", server.iccids[0], "--json", "--show-activation", sandbox=server)
    assert json.loads(done.out)[0]["activation"] == code


def test_an_order_shows_each_card_and_an_image_takes_one(
    server: Sandbox, order: Order, tmp_path: Path
) -> None:
    out = mioesim("qr", order.order_num, sandbox=server).out
    for card, drawn in zip(order.cards, out.split("eSIM ")[1:], strict=True):
        iccid, *lines = drawn.splitlines()
        assert iccid == card.iccid
        assert read_terminal("\n".join(lines), color=False) == str(card.activation)
    refused = mioesim("qr", order.order_num, "-o", tmp_path / "a.png", sandbox=server)
    assert (refused.status, list(tmp_path.glob("*.png"))) == (2, [])
    assert "2 cards" in refused.err
    done = mioesim("qr", order.order_num, "-o", tmp_path / "a.html", sandbox=server)
    page = (tmp_path / "a.html").read_text()
    assert (done.status, [card.iccid in page for card in order.cards]) == (0, [True, True])


TOO_LONG = f"LPA:1$a.example${'x' * 2_400}"


def test_of_a_code_that_is_too_long_there_is_a_page_and_no_picture(
    server: Sandbox, tmp_path: Path
) -> None:
    iccid = server.iccids[0]
    for ending in ("html", "png", "svg"):
        server.faults.clear()
        answer(server, "getESIMDetail", {"iccid": iccid, "code": TOO_LONG})
        done = mioesim("qr", iccid, "-o", tmp_path / f"a.{ending}", sandbox=server)
        assert (done.status, "too long for a QR code" in done.err) == (1, True), ending
        assert "Traceback" not in done.err
        assert "xxx" not in done.err
        assert done.err.count("\n") == 1 + (ending == "html")
    assert [path.name for path in tmp_path.glob("a.*")] == ["a.html"]
    assert TOO_LONG in (tmp_path / "a.html").read_text()


def test_of_an_order_the_cards_are_shown_that_can_be(server: Sandbox) -> None:
    drawn, too_long, without = server.iccids[:3]
    rows = [
        {"iccid": drawn, "code": "LPA:1$a.example$MADE-UP"},
        {"iccid": too_long, "code": TOO_LONG},
        {"iccid": without},
    ]
    answer(server, "getOrderInfo", {"orderNum": "EP1", "cardApiDtoList": rows})
    done = mioesim("qr", "EP1", sandbox=server)
    heading, *lines = done.out.splitlines()
    assert (done.status, heading) == (1, f"eSIM {drawn}")
    assert read_terminal("\n".join(lines), color=False) == "LPA:1$a.example$MADE-UP"
    assert done.err.splitlines() == [
        f"mioesim: without an activation code: {without}",
        f"mioesim: too long for a QR code: {too_long}",
    ]


def test_a_card_without_a_code_is_no_wrong_usage(server: Sandbox, tmp_path: Path) -> None:
    iccid = server.iccids[0]
    answer(server, "getESIMDetail", {"iccid": iccid})
    for arguments in ((), ("-o", tmp_path / "a.png")):
        done = mioesim("qr", iccid, *arguments, sandbox=server)
        assert (done.status, done.out, done.err.count("\n")) == (1, "", 1)
        assert f"card {iccid} has no activation code" in done.err
    assert not [*tmp_path.glob("a.*")]


def test_a_file_that_cannot_be_written_is_named_as_it_was_asked_for(
    server: Sandbox, tmp_path: Path
) -> None:
    path = tmp_path / "none" / "card.png"
    done = mioesim("qr", server.iccids[0], "-o", path, sandbox=server)
    assert (done.status, done.err) == (2, f"mioesim: {path}: No such file or directory\n")


def test_wrong_usage_is_one_line(server: Sandbox, tmp_path: Path) -> None:
    for arguments in (
        ("-o", tmp_path / "card.pdf"),
        ("--text", "--html", "--show-activation"),
        ("-o", tmp_path / "none" / "card.png"),
    ):
        done = mioesim("qr", server.iccids[0], *arguments, sandbox=server)
        assert (done.status, done.err.count("\n")) == (2, 1), arguments

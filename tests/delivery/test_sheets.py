"""What a customer gets of a card: a page, a text, a file that nobody else can read."""

from __future__ import annotations

import html
import os
import re
import stat
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pages import Page, pictures
from readers import read_svg

from mioesim_async import (
    ActivationCode,
    CardDetail,
    CustomerSheet,
    MioEsimClient,
    customer_html,
    customer_sheets,
    customer_text,
    errors,
    to_dict,
)
from mioesim_async.delivery import save
from mioesim_async.models.orders import Order, OrderCard
from mioesim_async.rows.layout import read_row
from mioesim_async.sandbox import Sandbox

A, B, C = "8985203104000042611", "8985203104000042629", "8985203104000042637"
ADDRESS, MATCHING_ID = "smdp.example.test", "MADE-UP-MATCHING-ID"
LPA = f"LPA:1${ADDRESS}${MATCHING_ID}"
PDF = "https://pdf.example.test/made-up.pdf?a=1&b=2"

DETAIL = read_row({"iccid": A, "code": f"{LPA}$$1", "apn": "internet", "pdfUrl": PDF}, CardDetail)
ORDER_CARD = read_row({"iccid": A, "code": LPA, "pdfUrl": PDF}, OrderCard)
ORDER = read_row(
    {
        "orderNum": "EP1",
        "cardApiDtoList": [
            {"iccid": A, "code": LPA},
            {"iccid": B, "sm_dp_address": ADDRESS, "activationCode": "OTHER-ID"},
            {"iccid": C, "pdfUrl": PDF},
            ["odd"],
        ],
    },
    Order,
)


def test_the_page_of_a_card_has_code_fields_links_and_pdf() -> None:
    text = customer_html(DETAIL, pdf_links=True)
    page = Page(text)

    assert pictures(text) == [str(DETAIL.activation)]
    ios, android, pdf = page.links
    assert [parse_qs(urlsplit(link).query)["carddata"] for link in (ios, android)] == [
        [str(DETAIL.activation)]
    ] * 2
    assert pdf == PDF
    for shown in (A, ADDRESS, MATCHING_ID, str(DETAIL.activation), "Confirmation", "internet"):
        assert shown in page.text


def test_the_text_of_a_card_has_fields_links_and_pdf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segno", None)
    text = customer_text(DETAIL, pdf_links=True)

    labelled = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    assert labelled["eSIM number (ICCID)"] == A
    assert labelled["SM-DP+ address"] == ADDRESS
    assert labelled["Activation code"] == MATCHING_ID
    assert labelled["APN"] == "internet"
    assert labelled["The vendor's PDF"] == PDF
    assert labelled["Confirmation code"]
    links = DETAIL.activation.install_links() if DETAIL.activation else None
    assert links
    assert {links.ios, links.android} < {*labelled.values()}


def test_the_vendors_pdf_is_linked_only_when_asked_for() -> None:
    for source in (DETAIL, ORDER_CARD, ORDER):
        for write in (customer_html, customer_text):
            assert ".pdf" not in write(source).replace(".pdf {", "")
            assert html.escape(PDF) in html.escape(html.unescape(write(source, pdf_links=True)))


def test_page_and_text_say_what_was_bought_and_until_when() -> None:
    card = read_row(
        {"iccid": A, "code": LPA, "data": "6GB", "endDate": "2026-01-30", "validity": 30,
         "activateBefore": "2026-06-30 12:00:00.0"},
        CardDetail,
    )  # fmt: skip
    for shown in (Page(customer_html(card)).text, customer_text(card)):
        for told in ("6 GB", "30 January 2026, 23:59 (GMT+8)", "30 June 2026, 12:00 (GMT+8)"):
            assert told in shown
        assert re.search(r"Days(: )?30\b", shown)
    order = read_row(
        {
            "orderNum": "EP1", "display": "Japan 3GB", "startDate": "2026-01-01 08:00:00.0",
            "endDate": "2026-01-08 08:00:00.0",
            "cardApiDtoList": [{"iccid": A, "code": LPA, "data": "1536MB"}, {"iccid": B}],
        },
        Order,
    )  # fmt: skip
    for shown in (Page(customer_html(order)).text, customer_text(order)):
        assert "1.5 GB" in shown
        assert [shown.count(told) for told in ("Japan 3GB", "8 January 2026, 08:00")] == [2, 2]
    assert "1,5 Go" in customer_text(order, language="fr")


@pytest.mark.parametrize(
    ("extra", "data", "days", "ends_at"),
    [
        ({"data": "unlimited", "validity": "7", "endDate": "soon"}, "unlimited", 7, None),
        ({"data": " 0.5 gb ", "days": 0, "endDate": ["x"]}, 512.0, None, None),
        ({"data": 5, "validity": -1, "days": "x", "daypass_days": 3}, None, 3, None),
        ({"data": "\x1b[2J", "validity": True, "end_date": ""}, "[2J", None, None),
    ],
)
def test_odd_facts_are_left_out_or_shown_as_they_are(
    extra: dict[str, Any], data: Any, days: int | None, ends_at: Any
) -> None:
    (sheet,) = customer_sheets(OrderCard(A, ActivationCode.parse(LPA), extra=extra))
    assert (sheet.data, sheet.days, sheet.ends_at) == (data, days, ends_at)


def test_a_shop_can_change_the_sheets_and_write_them_out() -> None:
    sheets = customer_sheets(ORDER)
    sheets[0].plan = "Nippon <3 days>"
    assert "Nippon <3 days>" in Page(customer_html(sheets)).text
    assert "Nippon <3 days>" in customer_text(sheets)
    assert customer_html(sheets[1]) == customer_html(ORDER.cards[1])
    for write in (customer_html, customer_text):
        with pytest.raises(errors.InvalidRequest, match="no sheet"):
            write([])


def test_a_field_that_is_not_needed_is_not_shown() -> None:
    card = OrderCard(A, ActivationCode(ADDRESS))
    (sheet,) = customer_sheets(card)

    assert [*sheet.manual] == ["SM-DP+ address", "Both in one (Android)"]
    for shown in (Page(customer_html(card)).text, customer_text(card)):
        assert not re.search("Confirmation|APN|PDF|Plan|Days|Valid", shown)


@pytest.mark.parametrize("card", [DETAIL, ORDER_CARD])
def test_a_sheet_gives_what_the_functions_give(card: CardDetail | OrderCard) -> None:
    (sheet,) = customer_sheets(card)

    assert sheet.to_html() == customer_html(card)
    assert sheet.to_text() == customer_text(card)
    assert (sheet.iccid, sheet.activation, sheet.pdf_url) == (A, card.activation, PDF)
    assert sheet.qr_svg
    assert read_svg(sheet.qr_svg) == str(card.activation)
    assert to_dict(sheet, activation=True)["links"]["ios"] == sheet.links.ios  # type: ignore[union-attr]


def test_an_order_is_one_page_with_all_its_cards_also_those_without_a_code() -> None:
    text = customer_html(ORDER, pdf_links=True)
    page = Page(text)

    assert pictures(text) == [LPA, f"LPA:1${ADDRESS}$OTHER-ID"]
    assert [tag for tag, _ in page.tags].count("section") == 4
    assert PDF in page.links
    plain = customer_text(ORDER)
    assert [plain.count(f"eSIM {number} of 4") for number in (1, 2, 3)] == [1, 1, 1]
    for shown in (page.text, plain):
        assert shown.count("has no activation code") == 2
        assert [shown.count(iccid) for iccid in (A, B, C)] == [1, 1, 1]
        assert "could not be read" in shown
    sheets = customer_sheets(ORDER)
    assert [bool(sheet.problem) for sheet in sheets] == [False, False, True, True]
    assert [sheet.qr_svg for sheet in sheets[2:]] == ["", ""]


def test_a_card_whose_code_is_too_long_for_a_picture_leaves_the_others_theirs() -> None:
    order = Order(
        cards=[
            OrderCard(A, ActivationCode(ADDRESS, "x" * 2_400)),
            OrderCard(B, ActivationCode.parse(LPA)),
        ]
    )
    text = customer_html(order)
    page = Page(text)

    assert pictures(text) == [LPA]
    assert len(page.links) == 4
    assert page.text.count("too long for a QR code") == 1
    for shown in (page.text, customer_text(order)):
        assert str(order.cards[0].activation) in shown
        assert LPA in shown
    first, second = customer_sheets(order)
    assert ("too long" in first.problem, first.qr_svg, second.problem) == (True, "", "")
    assert "too long" in Page(customer_html(order.cards[0])).text


@pytest.mark.parametrize("source", [CardDetail(A), OrderCard(A), Order(cards=[OrderCard(A)])])
@pytest.mark.parametrize("write", [customer_sheets, customer_html, customer_text])
def test_a_card_without_a_code_is_refused_by_its_iccid(write: Any, source: Any) -> None:
    with pytest.raises(errors.InvalidRequest, match=f"card {A} has no activation code"):
        write(source)


def test_of_an_order_without_any_code_every_card_is_named() -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        customer_html(Order(cards=[OrderCard(A), OrderCard(B), OrderCard()]))
    assert [A in caught.value.faults[0], B in caught.value.faults[1]] == [True, True]
    assert "unreadable" in caught.value.faults[2]
    with pytest.raises(errors.InvalidRequest, match="names no cards"):
        customer_html(Order())


HOSTILE = "<script>alert(1)</script>\"'&$title\x1b[2J\r\n\u202eX"


def test_what_the_vendor_sends_is_text_and_nothing_else() -> None:
    card = CardDetail(
        HOSTILE,
        activation=ActivationCode("a.example", "<b>\"'&lt;{}%s"),
        extra={"APN": HOSTILE, "pdf_url": f"javascript:alert(1)//{HOSTILE}"},
    )
    text = customer_html(card, pdf_links=True)
    page = Page(text)

    assert [tag for tag, _ in page.tags].count("script") == 1
    assert {tag for tag, _ in page.tags} <= {
        "html", "head", "meta", "title", "style", "body", "main", "h1", "section", "h2", "p",
        "div", "svg", "g", "path", "use", "ol", "li", "a", "dl", "dt", "dd", "h3", "bdi", "details",
        "summary", "button", "script",
    }  # fmt: skip
    assert len(page.links) == 2
    assert "<b>\"'&lt;{}%s" in page.text
    assert "$title" in page.text
    assert pictures(text) == [str(card.activation)]
    plain = customer_text(card, pdf_links=True)
    for shown in (text, plain):
        assert not {"\x1b", "\r", "\u202e"} & set(shown)
    assert plain.count("\n") == customer_text(DETAIL, pdf_links=True).count("\n") - 1


@pytest.mark.parametrize("url", ["javascript:x", "data:text/html,x", "/a.pdf", "//h/a", "ftp://x"])
def test_only_web_addresses_are_linked(url: str) -> None:
    card = OrderCard(A, ActivationCode.parse(LPA), pdf_url=url)
    page = Page(customer_html(card, pdf_links=True))
    assert url not in page.links
    assert url in page.text
    linked = OrderCard(A, ActivationCode.parse(LPA), pdf_url="HTTP://a.example/x")
    assert "HTTP://a.example/x" in Page(customer_html(linked, pdf_links=True)).links


def test_the_page_loads_nothing_and_is_labelled() -> None:
    page = Page(customer_html(ORDER))

    for tag, attrs in page.tags:
        assert tag not in {"link", "img", "iframe", "object"}
        assert not {"src", "style", "srcset", "data", "action"} & {*attrs}
        assert tag in {"a", "use"} or "href" not in attrs
        assert tag != "use" or (attrs["href"] or "").startswith("#")
        assert tag != "a" or attrs["rel"] == "noreferrer"
    metas = [attrs for tag, attrs in page.tags if tag == "meta"]
    assert {"name": "referrer", "content": "no-referrer"} in metas
    assert any("default-src 'none'" in (meta["content"] or "") for meta in metas[1:])
    assert ("html", {"lang": "en", "dir": "ltr"}) in page.tags
    images = [attrs for _, attrs in page.tags if attrs.get("role") == "img"]
    assert len(images) == 4
    assert all(attrs["aria-label"] for attrs in images)


def test_no_repr_shows_a_secret() -> None:
    for sheet in (*customer_sheets(DETAIL), *customer_sheets(ORDER)):
        told = repr(sheet)
        for secret in (MATCHING_ID, "OTHER-ID", ADDRESS, PDF, "svg"):
            assert secret not in told
            assert html.escape(secret) not in told
        assert isinstance(sheet, CustomerSheet)


async def test_a_card_of_the_sandbox_can_be_delivered(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    card = await client.cards.detail(sandbox.iccids[0])
    page = customer_html(card, pdf_links=True)
    assert pictures(page) == [str(card.activation)]
    assert any(link.endswith(".pdf") for link in Page(page).links)
    assert card.extra["apn"] in customer_text(card)


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX systems")
@pytest.mark.parametrize("content", ["é", b"\x89PNG"])
def test_a_saved_file_is_its_owners_alone(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "card.html"
    path.write_text("before")
    path.chmod(0o644)
    before = os.umask(0)
    try:
        save(path, content)
        save(str(tmp_path / "new"), content)
    finally:
        os.umask(before)
    for written in (path, tmp_path / "new"):
        assert stat.S_IMODE(written.stat().st_mode) == 0o600
        assert written.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["card.html", "new"]


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    for path, kind in (
        (tmp_path / "taken", OSError),
        (tmp_path / "missing" / "card.html", FileNotFoundError),
    ):
        with pytest.raises(kind) as caught:
            save(path, "x")
        assert (caught.value.filename, caught.value.filename2) == (str(path), None)
        assert caught.value.__suppress_context__
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]

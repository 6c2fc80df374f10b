"""What the customer reads: complete in every language, and a shop's to change."""

from __future__ import annotations

import html
import re
import tomllib
from typing import Any

import pytest
from pages import Page

from mioesim_async import (
    ActivationCode,
    Brand,
    Order,
    OrderCard,
    customer_html,
    customer_text,
    errors,
)
from mioesim_async.delivery import customer_texts, languages
from mioesim_async.delivery.texts import TABLE, texts_for

CARD = OrderCard("8985203104000042611", ActivationCode.parse("LPA:1$a.example$MADE-UP"))
LANGUAGES = ["de", "en", "es", "fr", "ja", "zh"]
PLACEHOLDER = re.compile(r"\{.*?\}")
SAME_EVERYWHERE = {"apn", "decimal_mark", "gigabytes", "megabytes", "moment", "date"}


def test_the_languages_are_those_that_are_promised() -> None:
    assert languages() == LANGUAGES
    with TABLE.open("rb") as file:
        assert sorted(tomllib.load(file)) == LANGUAGES


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_every_text_with_the_same_placeholders(language: str) -> None:
    english, texts = customer_texts(), customer_texts(language)
    assert texts.keys() == english.keys()
    for key, text in texts.items():
        assert text.strip() == text != ""
        assert sorted(PLACEHOLDER.findall(text)) == sorted(PLACEHOLDER.findall(english[key]))
    assert len(texts["months"].split(",")) == 12
    if language != "en":
        same = {key for key, text in texts.items() if text == english[key]}
        assert same - SAME_EVERYWHERE <= {"plan"}


def test_every_text_is_used_and_stays_text() -> None:
    marked = {
        key: "".join([f"<i {key}>", *PLACEHOLDER.findall(text)])
        for key, text in customer_texts().items()
        if key not in {"months", "decimal_mark"}
    }
    full = OrderCard(
        "1" * 19,
        ActivationCode("a.example", "X", confirmation_required=True),
        pdf_url="http://a.example//x.pdf",
        extra={
            "apn": "a", "data": "1GB", "validity": 7, "endDate": "2026-01-31", "display": "P",
            "activateBefore": "2026-01-31",
        },
    )  # fmt: skip
    too_long = OrderCard("2" * 19, ActivationCode("a.example", "x" * 2_400), extra={"data": "1MB"})
    options: dict[str, Any] = {
        "brand": Brand("Shop", support="a@shop.example"),
        "texts": {"en": marked},
        "pdf_links": True,
    }
    sources = (full, Order(cards=[full, too_long, OrderCard()]))
    pages = "".join(customer_html(source, **options) for source in sources)
    plain = "".join(customer_text(source, **options) for source in sources)
    shown = html.unescape(pages) + plain
    assert [key for key in marked if f"<i {key}>" not in shown] == []
    assert "<i" not in pages


@pytest.mark.parametrize("language", LANGUAGES)
def test_page_and_text_are_in_the_language_and_say_so(language: str) -> None:
    texts = customer_texts(language)
    page = Page(customer_html(CARD, language=language))
    assert ("html", {"lang": language, "dir": "ltr"}) in page.tags
    for shown in (page.text, customer_text(CARD, language=language)):
        for key in ("title", "steps", "online", "manual", "secret", "ios"):
            assert texts[key] in shown


def test_a_region_has_the_texts_of_its_language_and_then_its_own() -> None:
    page = Page(customer_html(CARD, language="de-AT"))
    assert page.tags[0] == ("html", {"lang": "de", "dir": "ltr"})
    texts = {"de-at": {"title": "Servus"}, "de": {"title": "Moin", "steps": "Los"}}
    page = Page(customer_html(CARD, language="de-AT", texts=texts))
    assert page.tags[0] == ("html", {"lang": "de-AT", "dir": "ltr"})
    assert ("Servus" in page.text, "Los" in page.text, "Moin" in page.text) == (True, True, False)
    assert customer_texts("de")["online"] in page.text
    assert customer_text(CARD, language="DE", texts=texts).startswith("Moin\n")


def test_a_shop_can_add_a_language_which_may_run_from_right_to_left() -> None:
    arabic = customer_texts() | {"title": "شريحتك"}
    page = Page(customer_html(CARD, language="ar", texts={"ar": arabic}))
    assert page.tags[0] == ("html", {"lang": "ar", "dir": "rtl"})
    assert "شريحتك" in page.text


def test_what_a_shop_changes_stays_text_and_changes_nothing_else() -> None:
    before = customer_texts()
    hostile = "<script>alert(1)</script>&\"'"
    page = Page(customer_html(CARD, texts={"en": {"online": hostile, "copied": hostile}}))
    assert hostile in page.text
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert customer_texts() == before
    customer_texts()["title"] = "changed"
    assert customer_texts() == before


@pytest.mark.parametrize("write", [customer_html, customer_text])
@pytest.mark.parametrize(
    ("language", "texts", "told"),
    [
        ("it", None, "no texts in 'it', only in de, en, es, fr, ja, zh"),
        ("it", {"it": {"title": "Ciao"}}, "the texts in 'it' have no activate_before, android"),
        ("it", {"it": {}}, "no texts in 'it'"),
        ("", None, "a language is a tag"),
        ('en" onload="x', None, "a language is a tag"),
        (7, None, "a language is a tag"),
        ("en", {"title": "Hello"}, "by language"),
        ("en", {7: {}}, "by language"),
        ("en", {"en": {"titel": "Hello"}}, "'titel' in 'en' is not a text of the page"),
        ("en", {"fr": {"title": " "}}, "'title' in 'fr' must be a text that is not empty"),
        ("en", {"en": {"title": 7}}, "must be a text that is not empty"),
        ("en", {"en": {"number": "eSIM {number}"}}, "no other braces: {count} {number}"),
        ("en", {"en": {"number": "{number.__class__} {count}"}}, "{count} {number}"),
        ("en", {"en": {"number": "{number!r} {count}"}}, "{count} {number}"),
        ("en", {"en": {"title": "{brand}"}}, "no other braces: none"),
        ("en", {"en": {"title": "a { b"}}, "no other braces: none"),
        ("en", {"en": {"months": "one, two"}}, "twelve months"),
    ],
)
def test_texts_that_would_not_do_are_refused(
    write: Any, language: Any, texts: Any, told: str
) -> None:
    with pytest.raises(errors.InvalidRequest, match=re.escape(told)):
        write(CARD, language=language, texts=texts)


def test_all_faults_of_a_shops_texts_are_told_at_once() -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        texts_for("en", {"en": {"titel": "x", "title": ""}, "fr": {"number": "x"}})
    assert len(caught.value.faults) == 3

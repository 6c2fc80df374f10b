"""A shop's name, colour, logo and support address, checked before a page is made."""

from __future__ import annotations

import re
from typing import Any

import attrs
import pytest
from hypothesis import given, strategies as st
from pages import Page

from mioesim_async import ActivationCode, Brand, OrderCard, customer_html, customer_text, errors
from mioesim_async.delivery.brand import AA_TEXT, DARK, LIGHT, contrast

CARD = OrderCard("8985203104000042611", ActivationCode.parse("LPA:1$a.example$MADE-UP"))
LOGO = "data:image/png;base64,iVBORw0KGgo="
POLICY = re.compile(r'Content-Security-Policy" content="([^"]*)"')


def test_page_and_text_have_the_shops_name_colour_logo_and_support_address() -> None:
    brand = Brand("Sunny & Co", color="#e4572e", logo=LOGO, support="help@sunny.example")
    text = customer_html(CARD, brand=brand)
    page = Page(text)
    assert page.text.count("Sunny & Co") == 2
    assert "--brand: #e4572e;" in text
    assert [attrs["src"] for tag, attrs in page.tags if tag == "img"] == [LOGO]
    assert "mailto:help@sunny.example" in page.links
    plain = customer_text(CARD, brand=brand)
    assert plain.startswith("Your eSIM - Sunny & Co\n")
    assert plain.endswith("\nQuestions? Contact us: help@sunny.example\n")


@pytest.mark.parametrize(
    ("support", "link"),
    [
        ("a.b+c@shop.example", "mailto:a.b+c@shop.example"),
        ("https://shop.example/help?a=1&b=2", "https://shop.example/help?a=1&b=2"),
        ("+49 30 (123) 45-67", "tel:+49301234567"),
    ],
)
def test_a_support_address_is_linked_by_its_kind(support: str, link: str) -> None:
    page = Page(customer_html(CARD, brand=Brand("Shop", support=support)))
    assert link in page.links
    assert support in page.text


@pytest.mark.parametrize(
    ("logo", "images"),
    [
        (None, ""),
        (LOGO, "img-src data:;"),
        ("https://cdn.shop.example:8443/a.png?b=1", "img-src https://cdn.shop.example:8443;"),
    ],
)
def test_the_page_may_load_its_logo_and_nothing_else(logo: str | None, images: str) -> None:
    found = POLICY.search(customer_html(CARD, brand=Brand("Shop", logo=logo)))
    assert found
    assert found[1].startswith("default-src 'none';")
    assert ("img-src" in found[1]) == bool(images)
    assert images in found[1]
    assert "unsafe" not in found[1]


COLORS = st.integers(0, 0xFFFFFF).map(lambda number: f"#{number:06x}")


@given(COLORS)
def test_any_colour_gives_contrasts_that_can_be_read(color: str) -> None:
    brand = Brand("Shop", color=color)
    assert contrast(brand.text_color, color) >= AA_TEXT
    for surfaces in (LIGHT, DARK):
        shade = brand.shade_on(surfaces)
        assert min(contrast(shade, surface) for surface in surfaces) >= AA_TEXT


def test_contrasts_are_those_of_wcag() -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#fff") == pytest.approx(4.48, abs=0.005)
    assert contrast("#0b57d0", "#0b57d0") == 1
    assert Brand("Shop", color="#0b57d0").shade_on(LIGHT) == "#0b57d0"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"name": ""}, "name"),
        ({"name": " "}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "a\u202eb"}, "name"),
        ({"name": None}, "name"),
        *[({"color": color}, "color") for color in ("red", "#12", "#1234567", "#ff00zz", "", None)],
        *[({"color": color}, "color") for color in ("#fff;}*{x", "#ffffff\n")],
        *[
            ({"logo": logo}, "logo")
            for logo in (
                "http://a.example/x.png", "data:text/html;base64,PHA+", "javascript:x", "", "x.png",
                "https://a.example; script-src *", "https://a\"b.example/", "https://",
                "https://u@a.example/", "data:image/png;base64,a\" onload=\"x", "https://a.example/\n",
            )
        ],
        *[
            ({"support": support}, "support")
            for support in ("", "help", "a@b", "javascript:x", "http://a.example/", "a b@c.example",
                            "0301234567", "a@b.example\nBcc: x", "a@b.example?bcc=c@d.example")
        ],
    ],
)  # fmt: skip
def test_a_brand_in_another_form_is_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=f"the {told} of a brand"):
        Brand(**({"name": "Shop"} | values))


def test_a_brand_cannot_be_changed() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Brand("Shop").name = "Other"  # type: ignore[misc]

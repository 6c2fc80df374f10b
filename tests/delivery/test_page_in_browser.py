"""The customer's page in Chromium: on a computer, on a phone, on paper, without a script."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from browsers import running_browser
from playwright.async_api import Browser, BrowserContext, Page, Route
from readers import read_image

from mioesim_async import ActivationCode, Brand, Order, OrderCard, customer_html
from mioesim_async.delivery import languages

LPA = "LPA:1$smdp.example.test$MADE-UP-MATCHING-ID"
LOGO = (
    "data:image/svg+xml;base64,"
    "PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciIHdpZHRoPSIzMiIgaGVpZ2h0PSIzMiIvPg=="
)
BRAND = Brand("Sunny Travel", color="#e4572e", logo=LOGO, support="help@sunny.example")
FACTS = {"data": "3GB", "validity": 7, "apn": "internet"}
CARD = OrderCard("8985203104000042611", ActivationCode.parse(LPA), extra=FACTS)
ORDER = Order(
    cards=[
        CARD,
        OrderCard(
            "8985203104000042629",
            ActivationCode("smdp.example.test", "OTHER-ID", confirmation_required=True),
            pdf_url="http://pdf.example.test//made-up.pdf",
            extra=FACTS,
        ),
        OrderCard("8985203104000042637"),
    ],
    extra={"display": "Japan and South Korea 3GB 7 days", "endDate": "2026-01-31 23:59:59.0"},
)
TOO_LONG = OrderCard("8985203104000042645", ActivationCode("a.example", "x" * 2_400))
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&lt;</section>" + "x" * 300

COMPUTER: dict[str, Any] = {"viewport": {"width": 1280, "height": 2400}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 2400}, "has_touch": True, "is_mobile": True,
}  # fmt: skip
AXE: dict[str, Any] = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
}

Show = Callable[..., Awaitable[Page]]

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with running_browser() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def show(browser: Browser, tmp_path: Path) -> AsyncIterator[Show]:
    """Open a page from a file; whatever else it asks for, and what it complains of, fails."""
    contexts: list[BrowserContext] = []
    amiss: list[str] = []

    async def open_page(html: str, device: dict[str, Any], **options: Any) -> Page:
        file = tmp_path / "page.html"
        file.write_text(html, encoding="utf-8")
        context = await browser.new_context(**device, **options)
        contexts.append(context)
        page = await context.new_page()
        page.set_default_timeout(10_000)
        page.on("request", lambda request: amiss.append(request.url))
        page.on("console", lambda message: amiss.append(message.text))
        page.on("pageerror", lambda error: amiss.append(str(error)))
        page.on("dialog", lambda dialog: amiss.append(dialog.message))
        await page.goto(file.as_uri())
        return page

    yield open_page
    for context in contexts:
        await context.close()
    wanted = {(tmp_path / "page.html").as_uri(), BRAND.logo}
    assert [one for one in amiss if one not in wanted] == []


async def open_all(page: Page) -> None:
    """Open all that a reader can open."""
    await page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")


@pytest.mark.parametrize(
    ("language", "device", "scheme"),
    [("en", COMPUTER, "light"), ("ja", PHONE, "dark"),
     pytest.param("de", COMPUTER, "dark", marks=pytest.mark.slow),
     pytest.param("fr", PHONE, "light", marks=pytest.mark.slow)],
)  # fmt: skip
async def test_axe_finds_no_violation(show: Show, language: str, device: Any, scheme: str) -> None:
    source = Order(cards=[*ORDER.cards, TOO_LONG], extra=ORDER.extra)
    html = customer_html(source, brand=BRAND, language=language, pdf_links=True)
    page = await show(html, device, color_scheme=scheme)
    await open_all(page)
    found = (await Axe().run(page, options=AXE)).response
    assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == []
    unsure = [one for one in found["incomplete"] if one["id"] == "color-contrast"]
    assert unsure == []
    assert "target-size" in {one["id"] for one in found["passes"]}


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_computer_shows_the_code_which_reads_right(show: Show, scheme: Any) -> None:
    page = await show(customer_html(ORDER, brand=BRAND), COMPUTER, color_scheme=scheme)
    codes = await page.locator("[role=img]:visible").all()
    assert [read_image(await code.screenshot()) for code in codes] == [
        LPA, "LPA:1$smdp.example.test$OTHER-ID$$1",
    ]  # fmt: skip
    assert await page.locator("a.button:visible").count() == 0


async def look_at_phone(page: Page, link: str) -> None:
    """Check that a page has one large button with this link, and the rest a tap away."""
    (button,) = await page.locator("a.button:visible").all()
    assert await button.get_attribute("href") == link
    box = await button.bounding_box()
    assert box
    assert box["height"] >= 48
    assert await page.locator("[role=img]:visible").count() == 0
    for tapped, number in (("qr", 0), ("other", 1), ("manual", 2)):
        await page.locator("summary:visible").nth((1, 0, 2)[number]).tap()
        if tapped == "qr":
            assert read_image(await page.locator("[role=img]:visible").screenshot()) == LPA
    assert await page.locator("a.button:visible").count() == 2
    assert await page.locator(".value:visible").first.inner_text() == "smdp.example.test"


def links() -> tuple[str, str]:
    made = ActivationCode.parse(LPA).install_links()
    return made.ios, made.android


async def test_an_android_phone_shows_its_button_and_the_code_is_a_tap_away(show: Show) -> None:
    await look_at_phone(await show(customer_html(CARD), PHONE), links()[1])


def as_seen_by(html: str, *, is_ios: bool, is_new: bool) -> str:
    """Let Chromium take the side of another engine in the page's questions about features."""
    asked = {"-webkit-touch-callout: none": is_ios, "transition-behavior: allow-discrete": is_new}
    for condition, answer in asked.items():
        assert condition in html
        html = html.replace(condition, "color: red" if answer else "no-such-property: 1")
    return html


async def test_an_iphone_shows_its_button_and_the_code_is_a_tap_away(show: Show) -> None:
    html = as_seen_by(customer_html(CARD), is_ios=True, is_new=True)
    await look_at_phone(await show(html, PHONE, bypass_csp=True), links()[0])


async def test_an_old_iphone_shows_the_code_and_no_button(show: Show) -> None:
    html = as_seen_by(customer_html(CARD), is_ios=True, is_new=False)
    page = await show(html, PHONE, bypass_csp=True)
    assert read_image(await page.locator("[role=img]:visible").screenshot()) == LPA
    assert await page.locator("a.button:visible").count() == 0


async def test_without_a_script_all_but_copying_works(show: Show) -> None:
    page = await show(customer_html(CARD), COMPUTER, java_script_enabled=False)
    for summary in await page.locator("summary:visible").all():
        await summary.click()
    assert await page.locator("a.button:visible").count() == 2
    assert await page.locator(".value:visible").count() == 4
    assert await page.locator("button:visible").count() == 0


@pytest.mark.parametrize(
    ("missing", "key", "name", "value"),
    [
        ("document, 'execCommand'", "matching_id", "Aktivierungscode", "MADE-UP-MATCHING-ID"),
        ("navigator, 'clipboard'", "smdp_address", "SM-DP+-Adresse", "smdp.example.test"),
    ],
)
async def test_a_button_copies_its_value_and_says_so(
    show: Show, missing: str, key: str, name: str, value: str
) -> None:
    page = await show(customer_html(CARD, language="de"), COMPUTER)
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.evaluate(f"Object.defineProperty({missing}, {{value: undefined}})")
    await open_all(page)
    button = page.locator(f"#copy-{key}-1")
    assert await button.get_attribute("aria-labelledby") == f"copy-{key}-1 label-{key}-1"
    assert await page.get_by_role("button", name=f"Kopieren {name}").count() == 1
    await button.click()
    await page.locator("#told", has_text="Kopiert").wait_for(state="attached")
    assert await button.inner_text() == "Kopiert"
    await page.evaluate("document.body.append(document.createElement('textarea'))")
    await page.locator("textarea").focus()
    await page.keyboard.press("Control+V")
    assert await page.locator("textarea").input_value() == value


async def test_hostile_text_stays_text_and_no_request_leaves_the_page(show: Show) -> None:
    card = OrderCard(
        HOSTILE,
        ActivationCode("a.example", "<b>&lt;\"'" + "x" * 200),
        pdf_url=f"javascript:alert(1)//{HOSTILE}",
        extra={"apn": HOSTILE, "data": HOSTILE, "display": HOSTILE},
    )
    texts = {"en": {"title": HOSTILE, "copy": HOSTILE, "copied": HOSTILE, "qr_label": HOSTILE}}
    html = customer_html(card, brand=Brand(HOSTILE), texts=texts, pdf_links=True)
    page = await show(html, {"viewport": {"width": 390, "height": 2400}})
    await open_all(page)
    assert await page.locator("script, img, b").count() == 1
    assert await page.locator("h1").inner_text() == HOSTILE
    assert await page.locator("h2").inner_text() == HOSTILE
    assert await page.title() == f"{HOSTILE} - {HOSTILE}"
    assert await page.locator("#apn-1").inner_text() == HOSTILE
    assert await width_of(page) <= 390


async def width_of(page: Page) -> int:
    width: int = await page.evaluate("document.documentElement.scrollWidth")
    return width


async def test_a_logo_at_an_address_is_all_that_is_loaded(browser: Browser) -> None:
    logo = "https://cdn.shop.example/logo.svg"
    async with await browser.new_context() as context:
        asked: list[str] = []

        async def refuse(route: Route) -> None:
            asked.append(route.request.url)
            await route.abort()

        await context.route("**/*", refuse)
        page = await context.new_page()
        await page.set_content(customer_html(ORDER, brand=Brand("Shop", logo=logo), pdf_links=True))
        await page.wait_for_load_state("networkidle")
        assert asked == [logo]


async def test_no_language_makes_a_narrow_page_scroll_sideways(show: Show) -> None:
    page = await show(customer_html(ORDER, brand=BRAND), PHONE)
    for language in languages():
        await page.set_content(customer_html(ORDER, brand=BRAND, language=language))
        await open_all(page)
        for width in (390, 320):
            await page.set_viewport_size({"width": width, "height": 900})
            assert await width_of(page) <= width, language


async def test_each_esim_is_printed_on_one_page_with_its_code_and_values(show: Show) -> None:
    page = await show(customer_html(ORDER, brand=BRAND), COMPUTER)
    for language in languages():
        await page.set_content(customer_html(ORDER, brand=BRAND, language=language, pdf_links=True))
        for paper in ("A4", "Letter"):
            printed = await page.pdf(format=paper, prefer_css_page_size=False)
            assert len(re.findall(rb"/Type /Page\b", printed)) == len(ORDER.cards), language
    await page.emulate_media(media="print", color_scheme="dark")
    codes = await page.locator("[role=img]:visible").all()
    assert len([read_image(await code.screenshot()) for code in codes]) == 2
    assert await page.locator(".value:visible").count() == 8
    assert await page.locator("a.button:visible, button:visible, details.way:visible").count() == 0
    scheme = await page.evaluate("getComputedStyle(document.documentElement).colorScheme")
    assert scheme == "light"

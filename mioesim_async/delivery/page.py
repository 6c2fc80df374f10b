"""The page for the customer: one HTML file that works without a script and loads nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from urllib.parse import urlsplit

from mioesim_async.delivery.brand import DARK, LIGHT, Brand
from mioesim_async.delivery.texts import Texts
from mioesim_async.delivery.views import CardView, ManualField
from mioesim_async.models.activation import ActivationCode

__all__ = ["QR_SCALE", "page"]

QR_SCALE = 6
"""Pixels of a QR code's module; large enough to scan it from a screen."""

NO_BRAND = Brand("eSIM")

PAGE = Template("""\
<!DOCTYPE html>
<html lang="$language" dir="$direction">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta name="referrer" content="no-referrer">
<meta name="format-detection" content="telephone=no">
<meta http-equiv="Content-Security-Policy" content="$policy">
<title>$title</title>
<style>$style</style>
</head>
<body>
$header
<main>
<h1>$heading</h1>
<p class="quiet">$secret</p>
$cards
</main>
$footer
<p id="told" class="unseen" role="status"></p>
<script>$script</script>
</body>
</html>
""")

COLORS = Template("""
:root {
  color-scheme: light dark; --brand: $brand; --on-brand: $on_brand; --accent: $on_light;
  --page: $page; --card: $card; --text: #16181d; --quiet: #50555f; --line: #c9ccd3;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --accent: $on_dark;
    --page: $dark_page; --card: $dark_card; --text: #eceef2; --quiet: #b0b6c1; --line: #3d424c;
  }
}
""")

CARD = Template("""\
<section class="esim" aria-labelledby="esim-$number">
<h2 id="esim-$number"><bdi>$heading</bdi></h2>
<dl class="facts">
$facts
</dl>
$content$pdf$printed
</section>""")

STEPS = Template("""\
<h3>$steps</h3>
<ol>
<li>$online</li>
<li class="if-ios">$tap$ios_button<p class="quiet">$note_ios</p></li>
<li class="if-android">$tap$android_button<p class="quiet">$note_android</p></li>
<li class="if-code">$scan</li>
<li>$arrive</li>
</ol>
<p class="quiet">$once</p>
<details class="way unless-ios"><summary>$ios</summary>
<p>$on_phone</p>$ios_button</details>
<details class="way unless-android"><summary>$android</summary>
<p>$on_phone</p>$android_button<p class="quiet">$note_android</p></details>
$other_code<details$open><summary>$manual</summary>
<p class="quiet">$manual_ios</p>
<p class="quiet">$manual_android</p>
<dl class="values">
$values
</dl></details>
""")

SCAN = Template("""\
<p>$scan</p>
<div class="qr" role="img" aria-label="$qr_label">$svg</div>
<p class="quiet">$menu_ios</p>
<p class="quiet">$menu_android</p>""")

OTHER_CODE = Template("""\
<details class="way unless-code"><summary>$qr</summary>
$scan</details>
""")


def page(views: Sequence[CardView], texts: Texts, brand: Brand | None) -> str:
    """Return the page.

    Raises:
        ConfigurationError: If the extra ``qr`` is not installed.
    """
    words = {key: escape(text) for key, text in texts.by_key.items()}
    heading = words["title" if len(views) == 1 else "titles"]
    style, script = _colors(brand or NO_BRAND) + _resource("page.css"), _resource("copy.js")
    return PAGE.substitute(
        language=escape(texts.language),
        direction=texts.direction,
        policy=_policy(style, script, brand),
        title=f"{heading} - {escape(brand.name)}" if brand else heading,
        style=style,
        header=_header(brand),
        heading=heading,
        secret=words["secret"],
        cards="\n".join(_card(number, view, words, brand) for number, view in enumerate(views, 1)),
        footer=_footer(brand, words),
        script=script,
    )


@cache
def _resource(name: str) -> str:
    return files("mioesim_async.delivery").joinpath(name).read_text(encoding="utf-8")


def _colors(brand: Brand) -> str:
    return COLORS.substitute(
        brand=brand.color,
        on_brand=brand.text_color,
        on_light=brand.shade_on(LIGHT),
        on_dark=brand.shade_on(DARK),
        page=LIGHT[0],
        card=LIGHT[1],
        dark_page=DARK[0],
        dark_card=DARK[1],
    )


def _policy(style: str, script: str, brand: Brand | None) -> str:
    """Return a content security policy that allows what the page has, and nothing else."""
    images = ""
    if brand and brand.logo:
        parts = urlsplit(brand.logo)
        images = (
            "; img-src data:" if parts.scheme == "data" else f"; img-src https://{parts.netloc}"
        )
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'{images}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(source: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}"


def _header(brand: Brand | None) -> str:
    if brand is None:
        return ""
    logo = f'<img class="logo" src="{escape(brand.logo)}" alt="">' if brand.logo else ""
    return f"<header>{logo}<p><bdi>{escape(brand.name)}</bdi></p></header>"


def _footer(brand: Brand | None, words: dict[str, str]) -> str:
    return f"<footer><p>{support}</p></footer>" if (support := _support(brand, words)) else ""


def _support(brand: Brand | None, words: dict[str, str]) -> str:
    if brand is None or brand.support is None:
        return ""
    return f"{words['contact']} {_link(brand.support_link, escape(brand.support))}"


def _link(url: str, label: str, kind: str = "") -> str:
    return f'<a{kind} href="{escape(url)}" rel="noreferrer">{label}</a>'


def _card(number: int, view: CardView, words: dict[str, str], brand: Brand | None) -> str:
    content = f"<p>{words['no_code']}</p>"
    if view.code is not None:
        content = _steps(number, view, view.code, words)
    support = _support(brand, words)
    return CARD.substitute(
        number=number,
        heading=escape(view.heading),
        facts="\n".join(_fact(label, value) for label, value in view.facts),
        content=content,
        pdf=f'<p class="way pdf">{_pdf(view.pdf_url, words)}</p>' if view.pdf_url else "",
        printed=f'<p class="in-print">{support}</p>' if support else "",
    )


def _fact(label: str, value: str) -> str:
    wide = ' class="wide"' if len(value) > 18 else ""
    return f"<div{wide}><dt>{escape(label)}</dt><dd><bdi>{escape(value)}</bdi></dd></div>"


def _steps(number: int, view: CardView, code: ActivationCode, words: dict[str, str]) -> str:
    links = view.links or code.install_links()
    scan, other_code = words["too_long"], ""
    if code.is_drawable:
        drawn = code.qr_svg(scale=QR_SCALE)
        # Phones that show the button in place of the code have it behind a tap, drawn once.
        start = drawn[: drawn.index(" width")]
        again = f'{start}><use href="#qr-{number}"/></svg>'
        scan = _scan(drawn.replace("<svg ", f'<svg id="qr-{number}" ', 1), words)
        other_code = OTHER_CODE.substitute(words, scan=_scan(again, words))
    return STEPS.substitute(
        words,
        ios_button=_link(links.ios, words["button_ios"], ' class="button"'),
        android_button=_link(links.android, words["button_android"], ' class="button"'),
        scan=scan,
        other_code=other_code,
        open="" if code.is_drawable else " open",
        values="\n".join(_value(number, field, words) for field in view.manual),
    )


def _scan(svg: str, words: dict[str, str]) -> str:
    return SCAN.substitute(words, svg=svg)


def _value(number: int, field: ManualField, words: dict[str, str]) -> str:
    name, value = f"{field.key}-{number}", escape(field.value)
    if not field.is_copied:
        return f"<div><dt>{escape(field.label)}</dt><dd>{value}</dd></div>"
    return (
        f'<div><dt id="label-{name}">{escape(field.label)}</dt>'
        f'<dd class="value" id="{name}" dir="ltr">{value}</dd>'
        f'<dd class="do"><button type="button" id="copy-{name}" data-copies="{name}" '
        f'data-copied="{words["copied"]}" aria-labelledby="copy-{name} label-{name}" hidden>'
        f"{words['copy']}</button></dd></div>"
    )


def _pdf(url: str, words: dict[str, str]) -> str:
    if url.lower().startswith(("https://", "http://")):
        return _link(url, words["pdf"])
    return f"{words['pdf']}: {escape(url)}"

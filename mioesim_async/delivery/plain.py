"""The text for the customer: what the page says, for an e-mail or a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mioesim_async.delivery.brand import Brand
from mioesim_async.delivery.texts import Texts
from mioesim_async.delivery.views import CardView

__all__ = ["plain_text"]


def plain_text(views: Sequence[CardView], texts: Texts, brand: Brand | None) -> str:
    """Return the text, without QR codes."""
    title = texts("title" if len(views) == 1 else "titles")
    parts = [f"{title} - {brand.name}" if brand else title]
    parts += ["\n".join(_lines(view, texts)) for view in views]
    parts.append(texts("secret"))
    if brand and brand.support:
        parts.append(f"{texts('contact')} {brand.support}")
    return "\n\n".join(parts) + "\n"


def _lines(view: CardView, texts: Texts) -> Iterator[str]:
    yield view.heading
    yield from (f"{label}: {value}" for label, value in view.facts)
    if view.code is None:
        yield texts("no_code")
    else:
        yield from ("", f"{texts('steps')}:")
        for number, step in enumerate(("online", "open_or_enter", "arrive"), 1):
            yield f"{number}. {texts(step)}"
        yield from (texts("once"), "")
        if view.links is not None:
            yield f"{texts('ios')}: {view.links.ios}"
            yield f"{texts('android')}: {view.links.android}"
        yield from ("", f"{texts('manual')}:")
        yield from (texts("manual_ios"), texts("manual_android"))
        yield from (f"{field.label}: {field.value}" for field in view.manual)
    if view.pdf_url:
        yield f"{texts('pdf')}: {view.pdf_url}"

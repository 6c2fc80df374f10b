"""Takes a customer's page apart without a browser."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

from readers import read_svg

__all__ = ["Page", "pictures"]

DRAWN = re.compile(r"<svg[^>]*>(?!<use).*?</svg>", re.DOTALL)


class Page(HTMLParser):
    """A page taken apart: its start tags with their attributes, its links, its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.text += data

    @property
    def links(self) -> list[str]:
        """Where its links lead, each once, in the order of the page."""
        return [*dict.fromkeys(attrs["href"] or "" for tag, attrs in self.tags if tag == "a")]


def pictures(page: str) -> list[str]:
    """Read the QR codes that are drawn on a page; those that repeat one are left out."""
    return [read_svg(svg) for svg in DRAWN.findall(page)]

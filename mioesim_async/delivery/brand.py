"""How a shop looks on the page that its customer gets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from attrs import Attribute, field, frozen
from attrs.validators import optional

from mioesim_async.errors import InvalidRequest

__all__ = ["DARK", "LIGHT", "Brand", "Surfaces", "contrast"]

COLOR = re.compile(r"#(?:[0-9A-Fa-f]{3}){1,2}")
MAIL = re.compile(r"[\w.!#$&'*+/=^{|}~-]+@[\w-]+(\.[\w-]+)+")
WEB = re.compile(r"https://[A-Za-z0-9.-]+(:[0-9]+)?([/?#][!-~]*)?")
PHONE = re.compile(r"\+[0-9][0-9 ()./-]{3,24}")
DATA = re.compile(r"data:image/(png|jpeg|gif|webp|avif|svg\+xml);base64,[A-Za-z0-9+/]+=*")

AA_TEXT = 4.5
"""Contrast that WCAG 2.2 asks of text at level AA."""

STEPS = 64
"""Steps in which a colour is mixed with white or black, until its contrast suffices."""

Surfaces = tuple[str, ...]
"""Backgrounds of a page, as ``#rrggbb``."""

LIGHT: Surfaces = ("#f4f5f7", "#ffffff")
DARK: Surfaces = ("#101216", "#1b1e24")


def _check_name(_: object, __: Attribute[Any], value: Any) -> None:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise InvalidRequest("the name of a brand is one line of text")


def _check_color(_: object, __: Attribute[Any], value: Any) -> None:
    if not isinstance(value, str) or not COLOR.fullmatch(value):
        raise InvalidRequest(f"the color of a brand is written #rrggbb or #rgb, not {value!r}")


def _check_logo(_: object, __: Attribute[Any], value: Any) -> None:
    if not isinstance(value, str) or not (DATA.fullmatch(value) or WEB.fullmatch(value)):
        raise InvalidRequest(
            "the logo of a brand is a data: URI of an image in base64, or an https:// address"
        )


def _check_support(_: object, __: Attribute[Any], value: Any) -> None:
    if not isinstance(value, str) or not any(kind.fullmatch(value) for kind in (MAIL, WEB, PHONE)):
        raise InvalidRequest(
            "the support of a brand is a mail address, an https:// address or a phone number "
            f"that starts with +, not {value!r}"
        )


@frozen
class Brand:
    """A shop, as the customer sees it on the page and in the text.

    Any colour will do: the page computes the colour of text on it, and shades of it for links,
    so that the contrast is that of WCAG 2.2 level AA (4.5 to 1), in light and dark.

    Attributes:
        name: The shop's name.
        color: Its colour, as ``#rrggbb`` or ``#rgb``.
        logo: Its logo, or None: a ``data:`` URI in base64, which loads nothing, or an ``https://``
            address, which the customer's browser loads, so that its server learns of the visit.
        support: Where customers get help, or None: a mail address, an ``https://`` address or a
            phone number with ``+``.

    Raises:
        InvalidRequest: If one of them is in another form.
    """

    name: str = field(validator=_check_name)
    color: str = field(default="#0b57d0", validator=_check_color)
    logo: str | None = field(default=None, validator=optional(_check_logo), repr=False)
    support: str | None = field(default=None, validator=optional(_check_support))

    @property
    def text_color(self) -> str:
        """The colour of text on ``color``: white or black, with a contrast of 4.5 or more."""
        return "#ffffff" if contrast(self.color, "#ffffff") >= AA_TEXT else "#000000"

    def shade_on(self, surfaces: Surfaces) -> str:
        """Return the shade nearest to ``color`` that can be read on all these backgrounds.

        Its contrast with each of them is 4.5 or more.
        """
        is_light = contrast(surfaces[0], "#ffffff") < AA_TEXT
        start, end = _channels(self.color), (0, 0, 0) if is_light else (255, 255, 255)
        for step in range(STEPS):
            shade = _hex(round(a + (b - a) * step / STEPS) for a, b in zip(start, end, strict=True))
            if all(contrast(shade, surface) >= AA_TEXT for surface in surfaces):
                return shade
        return _hex(end)

    @property
    def support_link(self) -> str:
        """Address of a link to ``support``; empty without one."""
        if self.support is None or WEB.fullmatch(self.support):
            return self.support or ""
        if PHONE.fullmatch(self.support):
            return "tel:+" + re.sub(r"[^0-9]", "", self.support)
        return f"mailto:{quote(self.support, safe='@+')}"


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, 1 to 21, as WCAG 2.2 defines it."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _channels(color: str) -> tuple[int, int, int]:
    digits = color[1:] if len(color) > 4 else "".join(digit * 2 for digit in color[1:])
    red, green, blue = bytes.fromhex(digits)
    return red, green, blue


def _hex(channels: Iterable[int]) -> str:
    return f"#{bytes(channels).hex()}"


def _luminance(color: str) -> float:
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (channel / 255 for channel in _channels(color))
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue

"""Finds activation codes, and what leads to one, in data that the SDK doesn't know.

Whoever sees a code can use the customer's eSIM, so these rules go too far rather than not far
enough: an address that leads nowhere is left out like one that leads to a PDF with the code.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from mioesim_async.wire.masking import COLON, DOLLAR, MASK

__all__ = ["HIDDEN", "is_code_field", "leads_to_code", "without_codes", "without_lpa"]

HIDDEN = {"mioesim_async.hidden": True}
"""Metadata of a model's field that holds an activation code, or leads to one."""

LPA = (
    rf"LPA{COLON}\s*[^\s\"'<>]*"
    rf"|(?<![A-Za-z0-9])1{DOLLAR}[A-Za-z0-9._:-]+{DOLLAR}[^\s\"'<>]*"
    r"|carddata=[^\s\"'<>]*"
)
SLASH = r"(?:\\?/|%(?:25)*2F|&#0*47;|&#x0*2F;|&sol;|\\u002F)"
URL = (
    rf"{COLON}{SLASH}{{2}}|^\s*{SLASH}{{2}}|\bhttps?{COLON}|\bmailto:|\bdata:[a-z]+/|\bwww\."
    r"|(?<![\w.@-])(?:[a-z0-9-]+\.)+[a-z]{2,}(?::[0-9]+)?/"
    r"|\.(?:pdf|png|jpe?g|gif|svg|webp|html?)(?![a-z])"
)
"""An address, with or without its scheme, or the end of a relative one."""

ENCODED = ("TFBB", "bHBh", "aHR0c", "iVBORw0K", "JVBERi", "/9j/", "R0lGOD", "PHN2Z", "<svg")
"""How LPA text, URLs, images and PDFs begin in base64, and an image in SVG."""

LPA_TEXT = re.compile(LPA, re.IGNORECASE)
LEADING_TEXT = re.compile(f"{LPA}|{URL}", re.IGNORECASE)

OTHER_CODES = (
    "api", "area", "carrier", "channel", "continent", "country", "currency", "dial", "error",
    "goods", "group", "iso", "item", "lang", "language", "locale", "network", "operator", "package",
    "partner", "phone", "plan", "post", "postal", "price", "product", "province", "reason",
    "region", "result", "return", "sku", "status", "tax", "type", "zip", "zone",
)  # fmt: skip
"""What stands before ``code`` in the name of a field that has nothing to do with activation."""

NAMES = re.compile(
    f"{''.join(f'(?<!{word})' for word in OTHER_CODES)}code"
    "|qrcode|smdp|smds|matchingid|matchid|token|password|secret"
    "|^(?:lpa|qr|puk|pdf(?!lang))|(?:lpa|qr|puk|pdf|ur[li]s?|href|links?)$"
    "|^(?:ac|pins?|pin[0-9]|pin(?:number|no))$"
    "|^activation$|(?:activation|activate|download|install)(?:string|data|text|key|info|value|id)$"
    "|激活码|二维码|确认码|链接|网址"
)
"""Names of fields, in lower case and of letters and digits alone."""

MAX_REMEMBERED = 64
"""Characters of a name whose judgement is remembered; a reply could have names of any length."""


def is_code_field(name: str) -> bool:
    """Tell whether a field's name, in any spelling, says that it holds a code or an address."""
    judge = _judged if len(name) <= MAX_REMEMBERED else _judged.__wrapped__
    return judge(name)


@lru_cache(maxsize=4096)
def _judged(name: str) -> bool:
    folded = "".join(char for char in name.lower() if char.isalnum())
    return NAMES.search(folded) is not None or leads_to_code(name)


def leads_to_code(text: str) -> bool:
    """Tell whether a text has an activation code or an address in it, in usual encodings."""
    if text.startswith(ENCODED):
        return True
    return not text.isalnum() and LEADING_TEXT.search(text) is not None


def without_lpa(text: str) -> str:
    """Mask activation codes in a text."""
    return text if text.isalnum() else LPA_TEXT.sub(MASK, text)


def without_codes(data: Any) -> Any:
    """Return JSON-ready data without LPA texts, addresses and fields with the name of a code."""
    if isinstance(data, dict):
        return {
            name: without_codes(value)
            for name, value in data.items()
            if not (is_code_field(name) or _is_leading(value))
        }
    if isinstance(data, list):
        return [without_codes(value) for value in data if not _is_leading(value)]
    return data


def _is_leading(value: Any) -> bool:
    return isinstance(value, str) and leads_to_code(value)

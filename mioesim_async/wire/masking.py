"""Secrets in text of the vendor's, found however they are written, and masked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from html.entities import codepoint2name

__all__ = ["MASK", "masked"]

MASK = "***"

DOLLAR = r"(?:\$|%(?:25)*24|&#0*36;|&#x0*24;|&dollar;|\\u0024)"
COLON = r"(?::|%(?:25)*3A|&#0*58;|&#x0*3A;|&colon;|\\u003A)"
ACTIVATION_CODE = re.compile(
    rf"(?:LPA{COLON}\s*)?1{DOLLAR}[^\s\"'<>]+|(?<=carddata=)[^\s\"'<>]+", re.IGNORECASE
)
"""An activation code, also as a part of a link that installs it."""


def masked(text: str, secrets: Iterable[str]) -> str:
    """Mask secrets and activation codes in text.

    A secret is found as it is, percent-encoded (also twice), and with the escapes of HTML and
    JSON, in any mixture.

    Args:
        text: What the vendor says; it may repeat what was sent.
        secrets: What must not be seen; empty ones are passed over.
    """
    for secret in secrets:
        if secret:
            text = _pattern(secret).sub(MASK, text)
    return ACTIVATION_CODE.sub(MASK, text)


@lru_cache(maxsize=64)
def _pattern(secret: str) -> re.Pattern[str]:
    return re.compile("".join(map(_written, secret)))


def _written(char: str) -> str:
    """Return a pattern of all ways to write a character."""
    if char.isascii() and char.isalnum():
        # Encoders leave these as they are.
        return char
    code = ord(char)
    octets = "".join(f"%(?:25)*{octet:02x}" for octet in char.encode(errors="replace"))
    halves = char.encode("utf-16-be", errors="replace").hex()
    escapes = "".join(rf"\\u{halves[at : at + 4]}" for at in range(0, len(halves), 4))
    ways = [re.escape(char), rf"\\{re.escape(char)}", f"(?i:{octets}|&#0*{code};|&#x0*{code:x};)"]
    ways += [f"(?i:{escapes})"]
    if (name := codepoint2name.get(code)) is not None:
        ways.append(f"&{name};")
    if char == " ":
        ways.append(r"\+")
    return f"(?:{'|'.join(ways)})"

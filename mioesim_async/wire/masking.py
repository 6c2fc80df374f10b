"""Masks secrets in the vendor's text, in any encoding."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from html.entities import html5

__all__ = ["COLON", "DOLLAR", "MASK", "masked", "masked_start"]

MASK = "***"

LONGEST_SECRET = 4096
"""Characters of the longest secret in its longest encoding."""

DOLLAR = r"(?:\$|%(?:25)*24|&#0*36;|&#x0*24;|&dollar;|\\u0024)"
COLON = r"(?::|%(?:25)*3A|&#0*58;|&#x0*3A;|&colon;|\\u003A)"

SEMICOLON = "(?:;|%(?:25)*3[bB])"
AMPERSAND = f"(?:&|%(?:25)*26)(?:amp{SEMICOLON})?"
HASH = "(?:#|%(?:25)*23)"
BACKSLASH = r"(?:\\|(?i:%(?:25)*5c|&#(?:92|x5c);|&bsol;))"
"""Parts of escapes; the whole escape may have been percent-encoded afterwards."""

ACTIVATION_CODE = re.compile(
    rf"(?:LPA{COLON}\s*)?1{DOLLAR}[^\s\"'<>]+|(?<=carddata=)[^\s\"'<>]+", re.IGNORECASE
)
"""An activation code, also inside an installation link."""

HTML_NAMES: dict[str, set[str]] = {}
for _name, _char in html5.items():
    if _name.endswith(";"):
        HTML_NAMES.setdefault(_char, set()).add(_name.lower())
SHORT_ESCAPES = {"\t": "t", "\n": "n", "\r": "r", "\b": "b", "\f": "f"}
"""JSON's escapes of control characters, without the backslash."""


def masked(text: str, secrets: Iterable[str]) -> str:
    """Mask secrets and activation codes in text.

    A secret is found as plain text, percent-encoded, and with the escapes of HTML or JSON. Each
    character may be encoded in another way, and several times.

    Args:
        text: The vendor's text; it may repeat what was sent.
        secrets: The secrets to mask; empty ones are ignored.
    """
    for secret in secrets:
        if secret:
            text = _pattern(secret).sub(MASK, text)
    return ACTIVATION_CODE.sub(MASK, text)


def masked_start(text: str, secrets: Iterable[str]) -> str:
    """Mask secrets in a text, and shorten a long text to its first few thousand characters.

    The cut might split a secret, which would then not be found. So more of the text is masked than
    is returned.
    """
    if len(text) <= 2 * LONGEST_SECRET:
        return masked(text, secrets)
    start = masked(text[: 2 * LONGEST_SECRET], secrets)
    return f"{start[:-LONGEST_SECRET]}… ({len(text):,} characters)"


@lru_cache(maxsize=64)
def _pattern(secret: str) -> re.Pattern[str]:
    """Return a pattern that matches a secret in every encoding."""
    parts: list[str] = []
    before = 0
    for char in secret:
        if char == "\\":
            before += 1
            continue
        plain, escaped = _char_patterns(char)
        if plain == escaped and not before:
            parts.append(plain)
        elif before:
            parts.append(f"{BACKSLASH}{{{before},{4 * before + 4}}}+(?:{escaped})")
        else:
            parts.append(f"(?:{BACKSLASH}{{1,4}}+(?:{escaped})|{plain})")
        before = 0
    if before:
        parts.append(f"{BACKSLASH}{{{before},{4 * before}}}+")
    return re.compile("".join(parts))


def _char_patterns(char: str) -> tuple[str, str]:
    """Return two patterns of a character: by itself, and after a backslash."""
    if char.isascii() and char.isalnum():
        # Encoders don't change these.
        return char, char
    code = ord(char)
    octets = "".join(f"%(?:25)*{octet:02x}" for octet in char.encode(errors="replace"))
    names = "".join(f"|{name[:-1]}" for name in sorted(HTML_NAMES.get(char, ())))
    reference = f"{AMPERSAND}(?:{HASH}(?:0*{code}|x0*{code:x}){names}){SEMICOLON}"
    blank = r"|\+" if char == " " else ""
    plain = f"{re.escape(char)}|(?i:{octets}|{reference}){blank}"
    halves = char.encode("utf-16-be", errors="replace").hex()
    units = [halves[at : at + 4] for at in range(0, len(halves), 4)]
    escaped = f"{plain}|(?i:u{f'{BACKSLASH}{{1,4}}+u'.join(units)})"
    short = SHORT_ESCAPES.get(char)
    return plain, f"{escaped}|{short}" if short else escaped

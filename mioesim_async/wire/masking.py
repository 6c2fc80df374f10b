"""Secrets in text of the vendor's, found however they are written, and masked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from html.entities import html5

__all__ = ["MASK", "masked", "masked_start"]

MASK = "***"

LONGEST_SECRET = 4096
"""So many characters a secret has at most, however it is written."""

DOLLAR = r"(?:\$|%(?:25)*24|&#0*36;|&#x0*24;|&dollar;|\\u0024)"
COLON = r"(?::|%(?:25)*3A|&#0*58;|&#x0*3A;|&colon;|\\u003A)"

SEMICOLON = "(?:;|%(?:25)*3[bB])"
AMPERSAND = f"(?:&|%(?:25)*26)(?:amp{SEMICOLON})?"
HASH = "(?:#|%(?:25)*23)"
BACKSLASH = r"(?:\\|(?i:%(?:25)*5c|&#(?:92|x5c);|&bsol;))"
"""Parts of an escape; what was escaped may have been percent-encoded after that."""

ACTIVATION_CODE = re.compile(
    rf"(?:LPA{COLON}\s*)?1{DOLLAR}[^\s\"'<>]+|(?<=carddata=)[^\s\"'<>]+", re.IGNORECASE
)
"""An activation code, also as a part of a link that installs it."""

NAMES: dict[str, set[str]] = {}
for _name, _char in html5.items():
    if _name.endswith(";"):
        NAMES.setdefault(_char, set()).add(_name.lower())
SHORT_ESCAPES = {"\t": "t", "\n": "n", "\r": "r", "\b": "b", "\f": "f"}
"""What JSON writes for characters that it can't hold as they are."""


def masked(text: str, secrets: Iterable[str]) -> str:
    """Mask secrets and activation codes in text.

    A secret is found as it is, percent-encoded, and with the escapes of HTML or JSON, each of
    its characters in another way if need be, and encoded again if need be.

    Args:
        text: What the vendor says; it may repeat what was sent.
        secrets: What must not be seen; empty ones are passed over.
    """
    for secret in secrets:
        if secret:
            text = _pattern(secret).sub(MASK, text)
    return ACTIVATION_CODE.sub(MASK, text)


def masked_start(text: str, secrets: Iterable[str]) -> str:
    """Mask secrets in a text, and leave out what comes after its first few thousand characters.

    What the end of a part may hold of a secret is left out too, since it can't be told as one.
    """
    if len(text) <= 2 * LONGEST_SECRET:
        return masked(text, secrets)
    start = masked(text[: 2 * LONGEST_SECRET], secrets)
    return f"{start[:-LONGEST_SECRET]}… ({len(text):,} characters)"


@lru_cache(maxsize=64)
def _pattern(secret: str) -> re.Pattern[str]:
    """Return a pattern of all ways to write a secret."""
    parts: list[str] = []
    before = 0
    for char in secret:
        if char == "\\":
            before += 1
            continue
        plain, escaped = _written(char)
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


def _written(char: str) -> tuple[str, str]:
    """Return patterns of a character as it stands alone, and after a backslash."""
    if char.isascii() and char.isalnum():
        # Encoders leave these as they are.
        return char, char
    code = ord(char)
    octets = "".join(f"%(?:25)*{octet:02x}" for octet in char.encode(errors="replace"))
    names = "".join(f"|{name[:-1]}" for name in sorted(NAMES.get(char, ())))
    reference = f"{AMPERSAND}(?:{HASH}(?:0*{code}|x0*{code:x}){names}){SEMICOLON}"
    blank = r"|\+" if char == " " else ""
    plain = f"{re.escape(char)}|(?i:{octets}|{reference}){blank}"
    halves = char.encode("utf-16-be", errors="replace").hex()
    units = [halves[at : at + 4] for at in range(0, len(halves), 4)]
    escaped = f"{plain}|(?i:u{f'{BACKSLASH}{{1,4}}+u'.join(units)})"
    short = SHORT_ESCAPES.get(char)
    return plain, f"{escaped}|{short}" if short else escaped

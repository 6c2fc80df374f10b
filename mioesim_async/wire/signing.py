"""Parameters to text, text to signature, both to the bytes of a query or a form.

What is signed and what is sent come from the same pairs, so they cannot differ.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from urllib.parse import quote

from mioesim_async.errors import InvalidRequest
from mioesim_async.wire.dialect import SignatureScheme

__all__ = ["canonical", "percent_encode", "sign", "to_text", "urlencode"]

Scalar = str | int | float | Decimal | None
Value = Scalar | Sequence[Scalar]

RESERVED = frozenset({"sign", "token"})


def to_text(name: str, value: Value) -> str:
    """Write one parameter as the text that is signed and sent.

    Integers are decimal, booleans 1 or 0, lists joined by commas (observed in clients).

    Raises:
        InvalidRequest: If the value has no such form.
    """
    # Exact types first: most values are plain text.
    if type(value) is str:
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        if abs(value) >= 10**30:
            raise InvalidRequest(f"parameter {name!r} is too large a number")
        return int.__repr__(value)
    if isinstance(value, float | Decimal):
        return _number_text(name, value)
    if isinstance(value, list | tuple):
        parts = [to_text(name, item) for item in value]
        if not all(parts):
            raise InvalidRequest(f"parameter {name!r} has an empty item in its list")
        return ",".join(parts)
    raise InvalidRequest(
        f"parameter {name!r} is a {type(value).__name__}; pass text, a number or a list of them"
    )


def _number_text(name: str, value: float | Decimal) -> str:
    number = value if isinstance(value, Decimal) else Decimal(repr(value))
    if not number.is_finite():
        raise InvalidRequest(f"parameter {name!r} is not a finite number")
    return format(number, "f")


def canonical(params: Mapping[str, Value]) -> dict[str, str]:
    """Write all parameters as text; empty ones are neither signed nor sent.

    Raises:
        InvalidRequest: If a value has no text form or a name is the SDK's own.
    """
    texts: dict[str, str] = {}
    for name, value in params.items():
        if type(name) is not str or name in RESERVED or not name:
            raise InvalidRequest(f"parameter name {name!r} is not allowed; the client sets it")
        if text := to_text(name, value):
            texts[name] = text
    return texts


def percent_encode(text: str) -> str:
    """Encode as RFC 3986 does, keeping nothing but unreserved characters."""
    # ICCID lists are most of what is sent, and quote() takes 70 us for a hundred of them.
    bare = text.replace(",", "")
    if bare.isalnum() and bare.isascii():
        return text.replace(",", "%2C")
    return quote(text, safe="")


def sign(params: Mapping[str, str], secret_key: str, scheme: SignatureScheme) -> str:
    """Sign parameters by one of the vendor's two published schemes.

    Both sort the ``key=value`` strings by code point and join them with nothing between
    (vendor-documented).

    Raises:
        InvalidRequest: If a value is not valid Unicode.
    """
    pairs = sorted([f"{name}={value}" for name, value in params.items()])
    pairs.append(secret_key)
    try:
        if scheme == "plain":
            return hashlib.md5("".join(pairs).encode(), usedforsecurity=False).hexdigest()
        encoded = "".join(
            ["%3D".join([percent_encode(part) for part in pair.split("=")]) for pair in pairs]
        )
        return hashlib.md5(encoded.encode(), usedforsecurity=False).hexdigest().upper()
    except UnicodeEncodeError:
        named = [(name, name + value) for name, value in params.items()]
        bad = next((name for name, both in named if not _is_unicode(both)), "secret key")
    raise InvalidRequest(f"parameter {bad!r} holds characters that are not valid Unicode")


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


def urlencode(pairs: Mapping[str, str]) -> str:
    """Write pairs as a query string or a form body; every server decodes both alike."""
    return "&".join(
        [f"{percent_encode(name)}={percent_encode(value)}" for name, value in pairs.items()]
    )

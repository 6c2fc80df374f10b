"""Writes parameters as text, signs them, and encodes them as a query or a form.

The signature and the request are made from the same pairs, so they can't differ.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Mapping, Sequence
from decimal import Decimal
from urllib.parse import quote

from mioesim_async.errors import InvalidRequest
from mioesim_async.wire.dialect import SignatureScheme

__all__ = [
    "MAX_ITEMS",
    "canonical",
    "is_unicode",
    "percent_encode",
    "sign",
    "signed_query",
    "to_text",
    "urlencode",
]

Scalar = str | int | float | Decimal | None
Value = Scalar | Sequence[Scalar]

UNRESERVED_AND_COMMA = f"{string.ascii_letters}{string.digits}-._~,".encode()

RESERVED = frozenset({"sign", "token"})

# To sign and encode more than this would block the event loop.
MAX_ITEMS = 10_000
"""Items in a list."""

MAX_PARAMS = 1_000
"""Parameters in a request."""

LONGEST_TEXT = 250_000
"""Characters in a value."""


def to_text(name: str, value: Value) -> str:
    """Return the text of one parameter, as it is signed and sent.

    Integers are decimal, booleans are 1 or 0, lists are joined by commas (observed in clients).

    Raises:
        InvalidRequest: If the value can't be written as text.
    """
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
        return _joined(name, value)
    raise InvalidRequest(
        f"parameter {name!r} is a {type(value).__name__}; pass text, a number or a list of them"
    )


def _joined(name: str, items: Sequence[Scalar]) -> str:
    if len(items) > MAX_ITEMS:
        raise InvalidRequest(
            f"parameter {name!r} has {len(items):,} items; one request takes {MAX_ITEMS:,}"
        )
    parts = [to_text(name, item) for item in items]
    if not all(parts):
        raise InvalidRequest(f"parameter {name!r} has an empty item in its list")
    return ",".join(parts)


def _number_text(name: str, value: float | Decimal) -> str:
    number = value if isinstance(value, Decimal) else Decimal(repr(value))
    if not number.is_finite():
        raise InvalidRequest(f"parameter {name!r} is not a finite number")
    return format(number, "f")


def canonical(params: Mapping[str, Value]) -> dict[str, str]:
    """Return all parameters as text, without the empty ones, which are neither signed nor sent.

    Raises:
        InvalidRequest: If there are more than 1,000, a value can't be written as text or is
            not valid Unicode, or a name is reserved for the client.
    """
    texts: dict[str, str] = {}
    if len(params) > MAX_PARAMS:
        raise InvalidRequest(
            f"there are {len(params):,} parameters; one request takes {MAX_PARAMS:,}"
        )
    for name, value in params.items():
        if type(name) is not str or name in RESERVED or not name:
            raise InvalidRequest(f"parameter name {name!r} is not allowed; the client sets it")
        # Most values are plain text.
        if text := value if type(value) is str else to_text(name, value):
            if len(text) > LONGEST_TEXT:
                raise InvalidRequest(
                    f"parameter {name!r} has {len(text):,} characters; one request takes "
                    f"{LONGEST_TEXT:,}"
                )
            # Checked before signing, where the token and the secret key are among the values.
            if not (text.isascii() and name.isascii()) and not is_unicode(name + text):
                raise InvalidRequest(
                    f"parameter {name!r} holds characters that are not valid Unicode"
                )
            texts[name] = text
    return texts


def percent_encode(text: str) -> str:
    """Percent-encode everything but the unreserved characters of RFC 3986."""
    # Most of what is sent are lists of ICCIDs, for which quote() is much slower.
    if text.isascii() and not text.encode().translate(None, UNRESERVED_AND_COMMA):
        return text.replace(",", "%2C")
    return quote(text, safe="")


def sign(params: Mapping[str, str], secret_key: str, scheme: SignatureScheme) -> str:
    """Sign parameters with one of the vendor's two published schemes.

    Both schemes sort the ``key=value`` strings by code point and join them without a separator
    (vendor-documented).

    Raises:
        InvalidRequest: If a value is not valid Unicode.
    """
    return signed_query(params, secret_key, scheme)[1]


def signed_query(
    params: Mapping[str, str], secret_key: str, scheme: SignatureScheme
) -> tuple[str, str]:
    """Encode parameters and their signature as a query string or a form body.

    Returns:
        The encoded text, and the signature.

    Raises:
        InvalidRequest: If a value is not valid Unicode.
    """
    try:
        # Sorted by the plain text. Each text is encoded once, for the signature and the request.
        pairs = [
            (f"{name}={value}", percent_encode(name), percent_encode(value))
            for name, value in params.items()
        ]
        ordered = sorted(pairs)
        if scheme == "plain":
            text = "".join([raw for raw, _, _ in ordered]) + secret_key
            signature = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
        else:
            text = "".join([f"{name}%3D{value}" for _, name, value in ordered])
            text += percent_encode(secret_key)
            signature = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest().upper()
    except UnicodeEncodeError:
        named = [(name, name + value) for name, value in params.items()]
        bad = next((name for name, both in named if not is_unicode(both)), "secret key")
    else:
        sent = "".join([f"{name}={value}&" for _, name, value in pairs])
        return f"{sent}sign={signature}", signature
    raise InvalidRequest(f"parameter {bad!r} holds characters that are not valid Unicode")


def is_unicode(text: str) -> bool:
    """Tell whether text has no lone surrogates, which can't be encoded."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def urlencode(pairs: Mapping[str, str]) -> str:
    """Encode pairs as a query string or a form body."""
    return "&".join(
        [f"{percent_encode(name)}={percent_encode(value)}" for name, value in pairs.items()]
    )

"""Parameters to text, text to signature, both to the bytes of a query or a form.

What is signed and what is sent come from the same pairs, so they cannot differ.
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
    "MOST_ITEMS",
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

MOST_ITEMS = 10_000
MOST_PARAMS = 1_000
LONGEST_TEXT = 250_000
"""Items of a list, parameters, and characters of a value.

To sign and encode more would hold up the loop.
"""


def to_text(name: str, value: Value) -> str:
    """Write one parameter as the text that is signed and sent.

    Integers are decimal, booleans 1 or 0, lists joined by commas (observed in clients).

    Raises:
        InvalidRequest: If the value has no such form.
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
    if len(items) > MOST_ITEMS:
        raise InvalidRequest(
            f"parameter {name!r} has {len(items):,} items; one request takes {MOST_ITEMS:,}"
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
    """Write all parameters as text; empty ones are neither signed nor sent.

    Raises:
        InvalidRequest: If there are more than 1,000, a value has no text form or is not valid
            Unicode, or a name is the SDK's own.
    """
    texts: dict[str, str] = {}
    if len(params) > MOST_PARAMS:
        raise InvalidRequest(
            f"there are {len(params):,} parameters; one request takes {MOST_PARAMS:,}"
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
            # Here, since where it is signed the token and the secret key are at hand.
            if not (text.isascii() and name.isascii()) and not is_unicode(name + text):
                raise InvalidRequest(
                    f"parameter {name!r} holds characters that are not valid Unicode"
                )
            texts[name] = text
    return texts


def percent_encode(text: str) -> str:
    """Encode as RFC 3986 does, keeping nothing but unreserved characters."""
    # ICCID lists are most of what is sent, and quote() takes twenty times as long for them.
    if text.isascii() and not text.encode().translate(None, UNRESERVED_AND_COMMA):
        return text.replace(",", "%2C")
    return quote(text, safe="")


def sign(params: Mapping[str, str], secret_key: str, scheme: SignatureScheme) -> str:
    """Sign parameters by one of the vendor's two published schemes.

    Both sort the ``key=value`` strings by code point and join them with nothing between
    (vendor-documented).

    Raises:
        InvalidRequest: If a value is not valid Unicode.
    """
    return signed_query(params, secret_key, scheme)[1]


def signed_query(
    params: Mapping[str, str], secret_key: str, scheme: SignatureScheme
) -> tuple[str, str]:
    """Write parameters and their signature as a query string or a form body.

    Returns:
        The text, and the signature in it.

    Raises:
        InvalidRequest: If a value is not valid Unicode.
    """
    try:
        # Sorted as they are, not as they are sent; each is encoded once, for both.
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
    """Tell whether text has no half characters, which can't be encoded."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def urlencode(pairs: Mapping[str, str]) -> str:
    """Write pairs as a query string or a form body; every server decodes both alike."""
    return "&".join(
        [f"{percent_encode(name)}={percent_encode(value)}" for name, value in pairs.items()]
    )

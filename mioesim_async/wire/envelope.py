"""Reply bodies to envelopes: ``{"code": 0, "message": "success", "data": ...}``."""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson
from attrs import define, field

from mioesim_async.errors import ProtocolError

__all__ = ["Envelope", "check_values", "parse_envelope", "too_large"]

SMALL_BODY = 32 * 1024
FREE_VALUES = 20_000
BYTES_PER_VALUE = 8
"""So many bytes a value has on average, at least, in a large body that is what was asked for."""

INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


@define
class Envelope:
    """One reply.

    Attributes:
        code: A number, also where the vendor wrote it as text; other text stays text.
        message: The vendor's message, from ``message`` or ``msg``.
        data: The payload; None where it is missing, ``null`` or ``""``.
        body: The bytes it came from.
    """

    code: int | str
    message: str = field(repr=False)
    data: Any = field(repr=False)
    body: bytes = field(repr=False)

    def raw(self) -> Any:
        """Parse the whole reply again, as it came."""
        return _loads(self.body, exact=True)

    def exact_data(self) -> Any:
        """Parse the payload again, with integers of any size and exact decimals."""
        return _no_empty(_loads(self.body, exact=True).get("data"))


def parse_envelope(body: bytes, *, exact: bool = False) -> Envelope:
    """Read a reply's body.

    Args:
        body: The whole body.
        exact: Parse numbers with a fraction as ``Decimal``, from their text.

    Raises:
        ProtocolError: If it is no envelope; its ``reason`` tells HTML, an empty body,
            cut-off JSON and other faults apart.
    """
    reply = _loads(body, exact=exact)
    if not isinstance(reply, dict):
        raise ProtocolError(
            f"expected a JSON object with a code, got a JSON {type(reply).__name__}; "
            "check that base_url is the API's host"
        )
    code = _code(reply.get("code"))
    if code is None:
        raise ProtocolError(
            "the reply has no readable 'code'; check that base_url is the API's host"
        )
    message = reply.get("message")
    if message is None:
        message = reply.get("msg")
    text = message if isinstance(message, str) else "" if message is None else str(message)
    return Envelope(code, text, _no_empty(reply.get("data")), body)


def check_values(body: bytes) -> None:
    """Refuse a body of so many small values that parsing it would hold up the loop.

    Raises:
        ProtocolError: If it has more than the rows of any endpoint have.
    """
    if len(body) <= SMALL_BODY:
        return
    # A list or an object takes about as long as three values.
    values = body.count(b",") + 3 * (body.count(b"{") + body.count(b"["))
    if values > FREE_VALUES + len(body) // BYTES_PER_VALUE:
        raise ProtocolError(
            f"the reply ({len(body):,} bytes) has far more values than rows of this size hold, and "
            "was not read; check that base_url is the API's host",
            "too_large",
        )


def too_large(limit: int) -> ProtocolError:
    """Make the error for a body over the limit."""
    return ProtocolError(
        f"the reply is larger than {limit:,} bytes and was not read to its end; "
        "ask for less in one call",
        "too_large",
    )


def _no_empty(data: Any) -> Any:
    return None if data == "" and isinstance(data, str) else data


def _code(raw: object) -> int | str | None:
    if type(raw) is int:
        return raw
    if isinstance(raw, bool) or raw is None:
        return None
    if isinstance(raw, str):
        text = raw.strip()
        return int(text) if INTEGER.fullmatch(text) else text or None
    if isinstance(raw, Decimal):
        raw = float(raw)
    if isinstance(raw, float):
        return int(raw) if raw.is_integer() else None
    return None


def _loads(body: bytes, *, exact: bool) -> Any:
    if not exact:
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            # NaN, or not JSON at all: the slower parser takes the first and explains the second.
            pass
    fault: ProtocolError | None = None
    try:
        return _loads_exact(body)
    except (ValueError, RecursionError) as error:
        fault = _explain(body, error)
    # Raised outside the handler: the parser's error holds the whole body.
    raise fault


def _loads_exact(body: bytes) -> Any:
    return json.loads(body, parse_float=_decimal, parse_constant=_no_value)


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text)
    except InvalidOperation:
        # An exponent beyond all bounds: no value either.
        return None


def _no_value(_: str) -> None:
    """Read NaN and the infinities as no value."""


def _explain(body: bytes, error: ValueError | RecursionError) -> ProtocolError:
    start = body[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start and not body.strip():
        return ProtocolError("the reply is empty; the host is in trouble, try again later", "empty")
    if start.startswith(b"<"):
        return ProtocolError(
            "the reply is an HTML page, not JSON: a wrong path or base_url, "
            "or a maintenance page of the host",
            "html",
        )
    if start[:1] in (b"{", b"[") and _ended_early(body, error):
        return ProtocolError(
            f"the reply is JSON that was cut off after {len(body):,} bytes", "truncated"
        )
    return ProtocolError(f"the reply ({len(body):,} bytes) is not valid JSON", "malformed")


def _ended_early(body: bytes, error: ValueError | RecursionError) -> bool:
    """Tell whether JSON stops before its end, and not because of something after it."""
    if isinstance(error, json.JSONDecodeError):
        if error.msg == "Extra data":
            return False
        if error.msg.startswith("Unterminated string") or not error.doc[error.pos :].strip():
            return True
    return not isinstance(error, RecursionError) and not body.rstrip().endswith((b"}", b"]"))

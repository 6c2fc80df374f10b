"""Reply bodies to envelopes: ``{"code": 0, "message": "success", "data": ...}``."""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson
from attrs import define, field

from mioesim_async.errors import ProtocolError
from mioesim_async.slices import Steps, at_once
from mioesim_async.wire.depth import cut, is_too_deep
from mioesim_async.wire.large_json import load_in_steps

__all__ = ["Envelope", "parse_envelope", "parse_in_steps", "too_large"]

SMALL_BODY = 32 * 1024
AT_ONCE = 128 * 1024
"""Bytes of a body that is parsed at once by the slower parser."""

MIB = 1024 * 1024

INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


@define
class Envelope:
    """One reply.

    Attributes:
        code: A number, also where the vendor wrote it as text; other text stays text.
        message: The vendor's message, from ``message`` or ``msg``; None where it is no text and
            nested too deeply.
        data: The payload; None where it is missing, ``null`` or ``""``.
        body: The bytes it came from.
    """

    code: int | str
    message: str | None = field(repr=False)
    data: Any = field(repr=False)
    body: bytes = field(repr=False)

    def raw(self) -> Any:
        """Return the whole reply as it came, without what is nested too deeply; never raises."""
        try:
            return cut(_loads(self.body, exact=True))
        except ProtocolError:
            # It was parsed before, when the stack was not as deep.
            return self.body.decode(errors="replace")

    def exact_data(self) -> Any:
        """Parse the payload again, with integers of any size and exact decimals.

        Raises:
            ProtocolError: If this parser can't read it.
        """
        return at_once(self.exact_in_steps())

    def exact_in_steps(self) -> Steps[Any]:
        """Do the same in steps.

        Raises:
            ProtocolError: If this parser can't read it.
        """
        return _no_empty((yield from _load_in_steps(self.body, exact=True)).get("data"))


def parse_envelope(body: bytes, *, exact: bool = False) -> Envelope:
    """Read a reply's body.

    Args:
        body: The whole body.
        exact: Parse numbers with a fraction as ``Decimal``, from their text.

    Raises:
        ProtocolError: If it is no envelope; its ``reason`` tells HTML, an empty body,
            cut-off JSON and other faults apart.
    """
    return _envelope(_loads(body, exact=exact), body)


def parse_in_steps(body: bytes, *, exact: bool, most_values: int) -> Steps[Envelope]:
    """Read the body of a reply from a host that nobody trusts.

    Args:
        body: The whole body.
        exact: As ``parse_envelope``.
        most_values: So many values it may have.

    Raises:
        ProtocolError: As ``parse_envelope``, or if it has more values.
    """
    yield from _check_values(body, most_values)
    return _envelope((yield from _load_in_steps(body, exact=exact)), body)


def _envelope(reply: Any, body: bytes) -> Envelope:
    if not isinstance(reply, dict):
        raise ProtocolError(
            f"expected a JSON object with a code, got a JSON {type(reply).__name__}; "
            "check that base_url is the API's host"
        )
    code = reply.get("code")
    if type(code) is not int and (code := _code(code)) is None:
        raise ProtocolError(
            "the reply has no readable 'code'; check that base_url is the API's host"
        )
    message = reply.get("message")
    if message is None:
        message = reply.get("msg")
    if message is None:
        message = ""
    elif not isinstance(message, str):
        message = None if is_too_deep(message) else str(message)
    data = reply.get("data")
    return Envelope(code, message, _no_empty(data) if type(data) is str else data, body)


def _check_values(body: bytes, most: int) -> Steps[None]:
    """Refuse a body of so many small values that to parse it would hold up the loop."""
    if len(body) <= SMALL_BODY:
        return
    values = 0
    for start in range(0, len(body), MIB):
        end = start + MIB
        # A list or an object takes about as long as three values.
        nested = body.count(b"{", start, end) + body.count(b"[", start, end)
        values += body.count(b",", start, end) + 3 * nested
        yield
    if values > most:
        raise ProtocolError(
            f"the reply ({len(body):,} bytes) has far more values than what was asked for has, and "
            "was not read; check that base_url is the API's host",
            "too_large",
        )


def too_large(limit: int) -> ProtocolError:
    """Make the error for a body over the limit."""
    return ProtocolError(
        f"the reply is larger than {limit:,} bytes and was not read to its end; "
        "if several things were asked for, ask for fewer in one call",
        "too_large",
    )


def _no_empty(data: Any) -> Any:
    return None if data == "" and isinstance(data, str) else data


def _code(raw: object) -> int | str | None:
    """Return a code that came as anything but an integer."""
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


def _load_in_steps(body: bytes, *, exact: bool) -> Steps[Any]:
    if exact and len(body) > AT_ONCE:
        try:
            text = body.decode(json.detect_encoding(body), "surrogatepass")
            yield
            return (yield from load_in_steps(text, EXACT))
        except (ValueError, ArithmeticError, RecursionError):
            # What is wrong with it is told by the parser that takes it at once.
            pass
    return _loads(body, exact=exact)


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
    try:
        # Decimal itself takes a third of the time of a function around it.
        return json.loads(body, parse_float=Decimal, parse_constant=_no_value)
    except InvalidOperation:
        return json.loads(body, parse_float=_decimal, parse_constant=_no_value)


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text)
    except InvalidOperation:
        # An exponent beyond all bounds: no value either.
        return None


def _no_value(_: str) -> None:
    """Read NaN and the infinities as no value."""


EXACT = json.JSONDecoder(parse_float=Decimal, parse_constant=_no_value)


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

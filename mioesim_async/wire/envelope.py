"""Parses reply bodies: ``{"code": 0, "message": "success", "data": ...}``."""

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
"""Bytes of a body that is parsed without counting its values first."""

MAX_ONE_STEP = 128 * 1024
"""Bytes of a body that the standard library's parser gets whole; a larger body is split."""

MIB = 1024 * 1024

INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


@define
class Envelope:
    """One reply.

    Attributes:
        code: The vendor's code; text of digits becomes a number, other text stays text.
        message: The vendor's message, from ``message`` or ``msg``; None if it is nested too
            deeply to become text.
        data: The payload; None if it is missing, ``null`` or ``""``.
        body: The bytes of the reply.
    """

    code: int | str
    message: str | None = field(repr=False)
    data: Any = field(repr=False)
    body: bytes = field(repr=False)

    def raw(self) -> Any:
        """Return the whole parsed reply, cut below 64 levels; never raises."""
        try:
            return cut(_loads(self.body, exact=True))
        except ProtocolError:
            # The body was parsed before, but now less of the stack is left.
            return self.body.decode(errors="replace")

    def exact_data(self) -> Any:
        """Parse the payload again, with integers of any size and exact decimals.

        Raises:
            ProtocolError: If the slower parser can't read the body.
        """
        return at_once(self.exact_data_in_steps())

    def exact_data_in_steps(self) -> Steps[Any]:
        """Do what ``exact_data`` does, in steps."""
        return _none_if_empty((yield from _load_in_steps(self.body, exact=True)).get("data"))


def parse_envelope(body: bytes, *, exact: bool = False) -> Envelope:
    """Parse a reply's body.

    Args:
        body: The whole body.
        exact: Whether to parse numbers with a fraction as ``Decimal``, from their text.

    Raises:
        ProtocolError: If the body is not an envelope; ``reason`` is ``html``, ``empty``,
            ``truncated`` or another kind of fault.
    """
    return _envelope(_loads(body, exact=exact), body)


def parse_in_steps(body: bytes, *, exact: bool, max_values: int) -> Steps[Envelope]:
    """Check the size of a reply, then parse it in steps, so that no host can block the loop.

    Args:
        body: The whole body.
        exact: As for ``parse_envelope``.
        max_values: How many values the reply may have.

    Raises:
        ProtocolError: As for ``parse_envelope``, or if the reply has more values.
    """
    yield from _check_values(body, max_values)
    return _envelope((yield from _load_in_steps(body, exact=exact)), body)


def _envelope(reply: Any, body: bytes) -> Envelope:
    if not isinstance(reply, dict):
        raise ProtocolError(
            f"expected a JSON object with a code, got a JSON {type(reply).__name__}; "
            "check that base_url is the API's host"
        )
    code = reply.get("code")
    if type(code) is not int and (code := _code_of(code)) is None:
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
    return Envelope(code, message, _none_if_empty(data) if type(data) is str else data, body)


def _check_values(body: bytes, most: int) -> Steps[None]:
    """Refuse a body with so many small values that parsing it would block the event loop."""
    if len(body) <= SMALL_BODY:
        return
    values = 0
    for start in range(0, len(body), MIB):
        end = start + MIB
        # A list or an object takes about as long to parse as three values.
        nested = body.count(b"{", start, end) + body.count(b"[", start, end)
        values += body.count(b",", start, end) + 3 * nested
        yield
    if values > most:
        raise ProtocolError(
            f"the reply ({len(body):,} bytes) has far more values than a reply to this call "
            "should have, and was not read; check that base_url is the API's host",
            "too_large",
        )


def too_large(limit: int) -> ProtocolError:
    """Return the error for a body over the limit."""
    return ProtocolError(
        f"the reply is larger than {limit:,} bytes, and the rest was not read; "
        "if several things were asked for, ask for fewer in one call",
        "too_large",
    )


def _none_if_empty(data: Any) -> Any:
    return None if data == "" and isinstance(data, str) else data


def _code_of(raw: object) -> int | str | None:
    """Return the code for a value that is not an integer; None if it is no code."""
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
    if exact and len(body) > MAX_ONE_STEP:
        try:
            text = body.decode(json.detect_encoding(body), "surrogatepass")
            yield
            return (yield from load_in_steps(text, EXACT_DECODER))
        except (ValueError, ArithmeticError, RecursionError):
            # Parse the whole body below, for an error that says what is wrong.
            pass
    return _loads(body, exact=exact)


def _loads(body: bytes, *, exact: bool) -> Any:
    if not exact:
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            # The slower parser accepts NaN, and says what is wrong with a body that is not JSON.
            pass
    fault: ProtocolError | None = None
    try:
        return _loads_exact(body)
    except (ValueError, RecursionError) as error:
        fault = _explain(body, error)
    # Raised outside the handler, since the parser's error refers to the whole body.
    raise fault


def _loads_exact(body: bytes) -> Any:
    try:
        # Decimal itself is faster than a function that calls it.
        return json.loads(body, parse_float=Decimal, parse_constant=_no_value)
    except InvalidOperation:
        return json.loads(body, parse_float=_decimal, parse_constant=_no_value)


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text)
    except InvalidOperation:
        # The exponent is too large for Decimal.
        return None


def _no_value(_: str) -> None:
    """Read NaN and infinities as no value."""


EXACT_DECODER = json.JSONDecoder(parse_float=Decimal, parse_constant=_no_value)


def _explain(body: bytes, error: ValueError | RecursionError) -> ProtocolError:
    start = body[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start and not body.strip():
        return ProtocolError("the reply is empty; try again later", "empty")
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
    """Tell whether JSON text was cut off, as opposed to wrong in another way."""
    if isinstance(error, json.JSONDecodeError):
        if error.msg == "Extra data":
            return False
        if error.msg.startswith("Unterminated string") or not error.doc[error.pos :].strip():
            return True
    return not isinstance(error, RecursionError) and not body.rstrip().endswith((b"}", b"]"))

"""Faults: what goes wrong, and in which calls."""

from __future__ import annotations

from collections import defaultdict
from math import inf
from typing import Self, TypeVar

from attrs import define, evolve, field, frozen

from mioesim_async.sandbox.clock import SandboxClock

__all__ = ["GIGABYTE", "Fault", "Faults"]

GIGABYTE = 1024**3

N = TypeVar("N", int, float)


@frozen
class Fault:
    """One way in which a call goes wrong. Make one with the class methods.

    Attributes:
        name: What it is, for records.
        delay: Seconds of the sandbox's clock to wait before anything else.
        status: HTTP status to answer instead.
        headers: Headers of that answer.
        body: Body to answer instead; None for the real one.
        content_type: What that body is.
        close: Close the connection ``before`` or ``after`` the call took effect.
        keep: Which part of the real body is sent before the connection closes.
        evict: Evict the account's token first.
        code: Answer with this code, and nothing else happens.
        message: The message with that code; ``{token}`` and such are filled in.
        drop: Leave this many cards out of the reply.
        add: Add this many cards that nobody asked for.
        strange: Add unknown fields and statuses.
        silent: Never answer.
        half_close: Send ``keep`` of the real body, end the sending side, and stay connected.
        pieces: In how many pieces the real body is sent.
        pause: Seconds of the sandbox's clock between pieces.
        chunk: Most bytes in a piece, sent as HTTP chunks; 0 for no chunks.
        size: Answer with a reply of so many bytes, made as it is sent.
        declared: Send the size of that reply as its Content-Length.
        effect: Let the call take effect first, and only then go wrong.
    """

    name: str
    delay: float = 0.0
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    content_type: str = "application/json"
    close: str = ""
    keep: float = 1.0
    evict: bool = False
    code: int | str | None = None
    message: str = ""
    drop: int = 0
    add: int = 0
    strange: bool = False
    silent: bool = False
    half_close: bool = False
    pieces: int = 1
    pause: float = 0.0
    chunk: int = 0
    size: int = 0
    declared: bool = False
    effect: bool = False

    @property
    def is_in_delivery(self) -> bool:
        """Whether the real answer is sent in an unusual way."""
        return self.keep < 1 or self.half_close or self.pieces > 1 or self.chunk > 0

    @classmethod
    def slow(cls, seconds: float) -> Self:
        """Answer after so many seconds of the sandbox's clock."""
        return cls("slow", delay=_within("seconds", seconds, 0))

    @classmethod
    def http(cls, status: int, *, retry_after: str | None = None) -> Self:
        """Answer with an HTTP status, and do nothing."""
        headers = () if retry_after is None else (_header("Retry-After", retry_after),)
        return cls(
            f"http {status}",
            status=_within("status", status, 200, 600),
            headers=headers,
            body=b"trouble",
        )

    @classmethod
    def redirect(cls, location: str) -> Self:
        """Answer 307, which tells the client to send the form again, to another place."""
        return cls("redirect", status=307, headers=(_header("Location", location),), body=b"")

    @classmethod
    def lose_request(cls) -> Self:
        """Close the connection before the call took effect."""
        return cls("lose request", close="before")

    @classmethod
    def lose_reply(cls) -> Self:
        """Close the connection after the call took effect."""
        return cls("lose reply", close="after")

    @classmethod
    def after_effect(cls, fault: Self) -> Self:
        """Let the call take effect once, and only then apply another fault.

        For example, an order is placed, and the reply has that fault's status, code or body,
        comes late, or never comes.
        """
        if fault.effect:
            raise ValueError(f"{fault.name} already goes wrong after the effect")
        return evolve(fault, name=f"after-effect {fault.name}", effect=True)

    @classmethod
    def cut(cls, keep: float = 0.5) -> Self:
        """Send a part of the body, then close the connection."""
        return cls("cut", keep=_within("keep", keep, 0, 1))

    @classmethod
    def truncate(cls, body: bytes = b'{"code":0,"data":[{"iccid":"89') -> Self:
        """Send JSON that stops in the middle, in a reply that is whole by HTTP."""
        return cls("truncate", body=body)

    @classmethod
    def html(cls, status: int = 200) -> Self:
        """Answer with an HTML page."""
        page = b"<!DOCTYPE html><html><title>Maintenance</title></html>"
        return cls(
            "html", status=_within("status", status, 200, 600), body=page, content_type="text/html"
        )

    @classmethod
    def malformed(cls, body: bytes = b'{"code":0,"data":[}') -> Self:
        """Answer with a body that is no JSON."""
        return cls("malformed", body=body)

    @classmethod
    def empty(cls) -> Self:
        """Answer with no body."""
        return cls("empty", body=b"")

    @classmethod
    def replaced(cls, body: bytes) -> Self:
        """Answer with this body."""
        return cls("replaced", body=body)

    @classmethod
    def refuse(cls, code: int | str, message: str = "refused") -> Self:
        """Answer with a code that is not success, and do nothing."""
        if code == "":
            raise ValueError("code must not be empty")
        try:
            message.format_map(defaultdict(str))
        except (LookupError, AttributeError, ValueError) as error:
            raise ValueError(f"message {message!r} can't be filled in: {error}")
        return cls(f"code {code}", code=code, message=message)

    @classmethod
    def evict_token(cls) -> Self:
        """Evict the token first, as another login on the account would."""
        return cls("evict token", evict=True)

    @classmethod
    def missing_cards(cls, count: int = 1) -> Self:
        """Leave cards out of the reply."""
        return cls("missing cards", drop=_within("count", count, 0))

    @classmethod
    def extra_cards(cls, count: int = 1) -> Self:
        """Add cards to the reply that nobody asked for."""
        return cls("extra cards", add=_within("count", count, 0))

    @classmethod
    def unknown_values(cls) -> Self:
        """Add fields and statuses that are not documented."""
        return cls("unknown values", strange=True)

    @classmethod
    def slow_body(cls, pause: float = 1.0, *, pieces: int = 10) -> Self:
        """Send the body in pieces, with so many seconds of the sandbox's clock between them."""
        return cls(
            "slow body", pause=_within("pause", pause, 0), pieces=_within("pieces", pieces, 2)
        )

    @classmethod
    def tiny_chunks(cls, size: int = 1) -> Self:
        """Send the body in HTTP chunks of so many bytes."""
        return cls("tiny chunks", chunk=_within("size", size, 1))

    @classmethod
    def huge(cls, size: int = GIGABYTE, *, declared: bool = False) -> Self:
        """Answer with a reply of so many bytes, which is never held in memory.

        Args:
            size: How many bytes.
            declared: Send the size as Content-Length; otherwise the client learns it by reading.
        """
        return cls("huge", size=_within("size", size, 1), declared=declared)

    @classmethod
    def silence(cls) -> Self:
        """Take the request and never answer, until the client hangs up."""
        return cls("silence", silent=True)

    @classmethod
    def half_closed(cls, keep: float = 0.5) -> Self:
        """Send a part of the reply, then end the sending side and keep the connection."""
        return cls("half closed", half_close=True, keep=_within("keep", keep, 0, 1))


def _within(name: str, value: N, least: int, below: float = inf) -> N:
    if not least <= value < below:
        limit = "" if below == inf else f" and less than {below}"
        raise ValueError(f"{name} must be {least} or more{limit}, not {value!r}")
    return value


def _header(name: str, value: str) -> tuple[str, str]:
    if not value or not value.isprintable():
        raise ValueError(f"{name} must be printable text, not {value!r}")
    return name, value


@define
class _Rule:
    endpoint: str | None
    fault: Fault
    left: float
    skip: int
    ends: float


@define
class Faults:
    """The faults that were added; each call gets the first that applies to it.

    ::

        sandbox.faults.add(Fault.http(503), "queryIccidInformation", times=3)
        sandbox.faults.add(Fault.lose_reply(), "login", after=1)
    """

    _clock: SandboxClock
    _rules: list[_Rule] = field(factory=list)

    def add(
        self,
        fault: Fault,
        endpoint: str | None = None,
        *,
        times: int | None = 1,
        after: int = 0,
        seconds: float | None = None,
    ) -> None:
        """Add a fault.

        Args:
            fault: What goes wrong.
            endpoint: Last part of the path, such as ``login``; None for all.
            times: How many calls get it; None for all.
            after: How many calls of the endpoint go well before the first that gets it.
            seconds: Every call gets it for so many seconds of the sandbox's clock; then
                ``times`` is ignored.
        """
        left = inf if times is None or seconds is not None else times
        ends = inf if seconds is None else self._clock.monotonic() + seconds
        self._rules.append(_Rule(endpoint, fault, left, after, ends))

    def clear(self) -> None:
        """Remove all faults."""
        self._rules.clear()

    def take(self, endpoint: str) -> Fault | None:
        """Return the fault that the next call of an endpoint gets, and count it."""
        for rule in self._rules:
            if rule.endpoint not in (None, endpoint):
                continue
            if rule.skip:
                rule.skip -= 1
                continue
            if rule.left >= 1 and self._clock.monotonic() < rule.ends:
                rule.left -= 1
                return rule.fault
        return None

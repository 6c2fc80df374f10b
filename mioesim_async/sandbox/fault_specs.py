"""Faults written as text, for the command line: ``http=503@queryIccidInformation*10``."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping

from attrs import frozen

from mioesim_async.errors import ConfigurationError
from mioesim_async.sandbox.faults import GIGABYTE, Fault
from mioesim_async.sandbox.vendor import PATHS

__all__ = ["FORM", "NAMES", "FaultSpec", "parse_fault"]

FORM = "name[=value][@endpoint][*times]"
ENDPOINTS = tuple(sorted(path.rpartition("/")[2] for path in PATHS))
SPEC = re.compile(
    r"(?P<name>[A-Za-z_-]+)(?:=(?P<value>.*?))?"
    r"(?:@(?P<endpoint>\w+))?(?:\*(?P<times>[0-9]{1,9}|forever))?",
    re.DOTALL | re.ASCII,
)
LARGEST_NUMBER = 2**53


@frozen
class FaultSpec:
    """A fault and which calls it strikes, as ``Faults.add`` takes them.

    Attributes:
        fault: What goes wrong.
        endpoint: Last part of the path; None for all.
        times: How many calls meet it; None for all.
    """

    fault: Fault
    endpoint: str | None
    times: int | None


@frozen
class _Kind:
    """How to make a fault of its value.

    Attributes:
        make: Makes it of the text, which is empty where there is no value.
        value: What the value looks like, in brackets what can be left out; empty where there
            is none.
    """

    make: Callable[[str], Fault]
    value: str = ""

    def read(self, text: str | None) -> Fault | None:
        """Return the fault, or None if the value makes no sense."""
        may_be_missing = not self.value or self.value.startswith("[")
        if not may_be_missing if text is None else not self.value:
            return None
        try:
            return self.make(text or "")
        except ValueError:
            return None


def _whole(text: str, least: int = 0) -> int:
    if not re.fullmatch("[0-9]{1,16}", text) or not least <= int(text) <= LARGEST_NUMBER:
        raise ValueError(text)
    return int(text)


def _status(text: str) -> int:
    status = _whole(text, 200)
    if status > 599:
        raise ValueError(text)
    return status


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        raise ValueError(text)
    return float(text)


def _share(text: str) -> float:
    share = _seconds(text or "0.5")
    if share >= 1:
        raise ValueError(text)
    return share


def _http(text: str) -> Fault:
    status, _, wait = text.partition(",")
    if not wait.isprintable():
        raise ValueError(text)
    return Fault.http(_status(status), retry_after=wait or None)


def _redirect(text: str) -> Fault:
    if not text or not text.isprintable():
        raise ValueError(text)
    return Fault.redirect(text)


def _refuse(text: str) -> Fault:
    code, _, message = text.partition(",")
    if not code:
        raise ValueError(text)
    try:
        message.format_map(defaultdict(str))
    except (LookupError, AttributeError):
        raise ValueError(text) from None
    is_number = re.fullmatch("-?[0-9]{1,9}", code)
    return Fault.refuse(int(code) if is_number else code, message or "refused")


def _slow_body(text: str) -> Fault:
    pause, _, pieces = text.partition(",")
    return Fault.slow_body(_seconds(pause or "1"), pieces=_whole(pieces or "10", 2))


def _huge(text: str) -> Fault:
    size, _, declared = text.partition(",")
    if declared not in ("", "declared"):
        raise ValueError(text)
    return Fault.huge(_whole(size or str(GIGABYTE), 1), declared=bool(declared))


def _after_effect(text: str) -> Fault:
    name, _, value = text.partition("=")
    kind = KINDS.get(_plain(name))
    fault = None if kind is None else kind.read(value if "=" in text else None)
    if fault is None or fault.effect:
        raise ValueError(text)
    return Fault.after_effect(fault)


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


KINDS: Mapping[str, _Kind] = {
    "slow": _Kind(lambda text: Fault.slow(_seconds(text)), "SECONDS"),
    "http": _Kind(_http, "STATUS[,RETRY-AFTER]"),
    "redirect": _Kind(_redirect, "LOCATION"),
    "lose-request": _Kind(lambda _: Fault.lose_request()),
    "lose-reply": _Kind(lambda _: Fault.lose_reply()),
    "after-effect": _Kind(_after_effect, "FAULT"),
    "cut": _Kind(lambda text: Fault.cut(_share(text)), "[SHARE]"),
    "truncate": _Kind(
        lambda text: Fault.truncate(text.encode()) if text else Fault.truncate(), "[BODY]"
    ),
    "html": _Kind(lambda text: Fault.html(_status(text or "200")), "[STATUS]"),
    "malformed": _Kind(
        lambda text: Fault.malformed(text.encode()) if text else Fault.malformed(), "[BODY]"
    ),
    "empty": _Kind(lambda _: Fault.empty()),
    "replaced": _Kind(lambda text: Fault.replaced(text.encode()), "BODY"),
    "refuse": _Kind(_refuse, "CODE[,MESSAGE]"),
    "evict-token": _Kind(lambda _: Fault.evict_token()),
    "missing-cards": _Kind(lambda text: Fault.missing_cards(_whole(text or "1")), "[COUNT]"),
    "extra-cards": _Kind(lambda text: Fault.extra_cards(_whole(text or "1")), "[COUNT]"),
    "unknown-values": _Kind(lambda _: Fault.unknown_values()),
    "slow-body": _Kind(_slow_body, "[SECONDS][,PIECES]"),
    "tiny-chunks": _Kind(lambda text: Fault.tiny_chunks(_whole(text or "1", 1)), "[BYTES]"),
    "huge": _Kind(_huge, "[BYTES][,declared]"),
    "silence": _Kind(lambda _: Fault.silence()),
    "half-closed": _Kind(lambda text: Fault.half_closed(_share(text)), "[SHARE]"),
}
NAMES = tuple(KINDS)
"""Every fault's name; underscores may stand for the dashes."""


def parse_fault(spec: str) -> FaultSpec:
    """Read a fault from text: ``name[=value][@endpoint][*times]``, times ``forever`` if missing.

    Args:
        spec: For example ``http=503@queryIccidInformation*10``.

    Raises:
        ConfigurationError: If it makes no sense, in one line that says what would.
    """
    parts = SPEC.fullmatch(spec)
    if parts is None:
        raise _wrong(spec, f"it must look like {FORM}")
    name, value, endpoint, times = parts.group("name", "value", "endpoint", "times")
    kind = KINDS.get(_plain(name))
    if kind is None:
        raise _wrong(spec, f"{name} is no fault")
    if endpoint is not None and endpoint not in ENDPOINTS:
        raise _wrong(spec, f"the endpoints are {', '.join(ENDPOINTS)}")
    count = None if times in (None, "forever") else int(times)
    if count == 0:
        raise _wrong(spec, "times must be 1 or more, or forever")
    fault = kind.read(value)
    if fault is None:
        form = f"{name}={kind.value}" if kind.value else f"{name}, without a value"
        raise _wrong(spec, f"write {form}; brackets are for what may be left out")
    return FaultSpec(fault, endpoint, count)


def _wrong(spec: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"wrong fault {spec!r}: {why}. The names are {', '.join(NAMES)}")

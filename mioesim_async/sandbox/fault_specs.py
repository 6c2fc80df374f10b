"""Faults written as text, for the command line: ``http=503@queryIccidInformation*10``.

Names and values come from the class methods of ``Fault``; a new method needs no change here.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Self, get_args

from attrs import frozen

from mioesim_async.errors import ConfigurationError
from mioesim_async.sandbox.faults import Fault
from mioesim_async.sandbox.vendor import HANDLED_PATHS

__all__ = ["NAMES", "SPEC_SYNTAX", "FaultSpec", "parse_fault"]

SPEC_SYNTAX = "name[=value][@endpoint][*times]"
ENDPOINTS = tuple(sorted(path.rpartition("/")[2] for path in HANDLED_PATHS))
SPEC = re.compile(
    r"(?P<fault>[A-Za-z_-]+(=.*?)?)(@(?P<endpoint>\w+))?(\*(?P<times>[0-9]{1,9}|forever))?",
    re.DOTALL | re.ASCII,
)
FAULT_METHODS: Mapping[str, Callable[..., Fault]] = {
    name.replace("_", "-"): getattr(Fault, name)
    for name, member in vars(Fault).items()
    if isinstance(member, classmethod)
}
NAMES = tuple(FAULT_METHODS)
"""Every fault's name; underscores may stand for the dashes."""


@frozen
class FaultSpec:
    """A fault and the calls that get it, as ``Faults.add`` takes them.

    Attributes:
        fault: What goes wrong.
        endpoint: Last part of the path; None for all.
        times: How many calls get it; None for all.
    """

    fault: Fault
    endpoint: str | None
    times: int | None


def parse_fault(spec: str) -> FaultSpec:
    """Read a fault from ``name[=value][@endpoint][*times]``; without times, every call gets it.

    Args:
        spec: For example ``http=503@queryIccidInformation*10``.

    Raises:
        ConfigurationError: If the text is wrong; the message says in one line what is right.
    """
    try:
        if (parts := SPEC.fullmatch(spec)) is None:
            raise ValueError(f"it must look like {SPEC_SYNTAX}")
        text, endpoint, times = parts.group("fault", "endpoint", "times")
        fault = _fault_of(text)
        if endpoint is not None and endpoint not in ENDPOINTS:
            raise ValueError(f"the endpoints are {', '.join(ENDPOINTS)}")
        if times is not None and times.strip("0") == "":
            raise ValueError("times must be 1 or more, or forever")
    except ValueError as error:
        raise ConfigurationError(f"wrong fault {spec!r}: {error}. The names are {', '.join(NAMES)}")
    return FaultSpec(fault, endpoint, None if times in (None, "forever") else int(times))


def _fault_of(text: str) -> Fault:
    """Make a fault of ``name[=value]``; commas separate values, and the last may contain some."""
    name, equals, value = text.partition("=")
    make = FAULT_METHODS.get(name.lower().replace("_", "-"))
    if make is None:
        raise ValueError(f"{name!r} is no fault")
    parameters = inspect.signature(make, eval_str=True).parameters.values()
    values = value.split(",", len(parameters) - 1) if equals else []
    try:
        if not sum(map(_is_required, parameters)) <= len(values) <= len(parameters):
            raise ValueError("it takes no value" if values else "its value is missing")
        pairs = zip(parameters, values, strict=False)
        return make(**{one.name: _read(one, v) for one, v in pairs if v or _is_required(one)})
    except ValueError as error:
        raise ValueError(f"{error}; write {_syntax_of(name, parameters)}")


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty


def _syntax_of(name: str, parameters: Iterable[inspect.Parameter]) -> str:
    """Say how a fault is written, such as ``http=STATUS[,RETRY-AFTER]``."""
    form = ""
    for one in parameters:
        word = one.name if one.annotation is bool else one.name.replace("_", "-").upper()
        part = f",{word}" if form else word
        form += part if _is_required(one) else f"[{part}]"
    note = " (what is in brackets may be left out)" * ("[" in form)
    return f"{name}={form}{note}" if form else f"{name}, without a value"


def _read(parameter: inspect.Parameter, text: str) -> object:
    """Read a value by its annotation; of a union, as the first type that fits."""
    for kind in get_args(parameter.annotation) or (parameter.annotation,):
        pattern, read = READERS[kind]
        if re.fullmatch(pattern or parameter.name, text):
            return read(text)
    raise ValueError(f"{parameter.name} can't be {text!r}")


READERS: Mapping[object, tuple[str, Callable[[str], object]]] = {
    int: ("-?[0-9]{1,16}", int),
    float: (r"-?[0-9]{1,9}(\.[0-9]{1,9})?", float),
    bool: ("", bool),
    str: ("(?s:.*)", str),
    bytes: ("(?s:.*)", str.encode),
    Self: ("(?s:.*)", _fault_of),
}
"""How each type is written, and what reads it; a flag is written as its own name."""

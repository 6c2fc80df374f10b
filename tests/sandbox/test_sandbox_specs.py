"""Faults written as text, and the command that takes them."""

from __future__ import annotations

import inspect
import re
import urllib.error
import urllib.request
from typing import Any, get_args

import pytest
from command import interrupted, mioesim, started
from waiting import read_until

from mioesim_async.errors import ConfigurationError
from mioesim_async.sandbox import Fault
from mioesim_async.sandbox.fault_specs import NAMES, READERS, FaultSpec, parse_fault

QUERY = "queryIccidInformation"

SPECS: list[tuple[str, Fault]] = [
    ("slow=2.5", Fault.slow(2.5)),
    ("http=503", Fault.http(503)),
    ("http=429,7", Fault.http(429, retry_after="7")),
    (
        "http=429,Wed, 21 Oct 2026 07:28:00 GMT",
        Fault.http(429, retry_after="Wed, 21 Oct 2026 07:28:00 GMT"),
    ),
    ("redirect=http://user@127.0.0.1:1/x?a=b*c", Fault.redirect("http://user@127.0.0.1:1/x?a=b*c")),
    ("lose-request", Fault.lose_request()),
    ("lose_reply", Fault.lose_reply()),
    ("after-effect=http=503", Fault.after_effect(Fault.http(503))),
    ("after_effect=refuse=99,no PDF", Fault.after_effect(Fault.refuse(99, "no PDF"))),
    ("after-effect=html", Fault.after_effect(Fault.html())),
    ("cut", Fault.cut()),
    ("cut=0.25", Fault.cut(0.25)),
    ("truncate", Fault.truncate()),
    ('truncate={"code":', Fault.truncate(b'{"code":')),
    ("html", Fault.html()),
    ("html=502", Fault.html(502)),
    ("malformed", Fault.malformed()),
    ("malformed=nope", Fault.malformed(b"nope")),
    ("empty", Fault.empty()),
    ('replaced={"code":0,\n"data":[]}', Fault.replaced(b'{"code":0,\n"data":[]}')),
    ("refuse=-8", Fault.refuse(-8)),
    ("refuse=E_STOCK,none of {iccid} left", Fault.refuse("E_STOCK", "none of {iccid} left")),
    ("evict-token", Fault.evict_token()),
    ("missing-cards", Fault.missing_cards()),
    ("missing-cards=3", Fault.missing_cards(3)),
    ("extra-cards=2", Fault.extra_cards(2)),
    ("unknown-values", Fault.unknown_values()),
    ("slow-body", Fault.slow_body()),
    ("slow-body=0.5", Fault.slow_body(0.5)),
    ("slow-body=3,20", Fault.slow_body(3, pieces=20)),
    ("slow-body=,20", Fault.slow_body(pieces=20)),
    ("tiny-chunks", Fault.tiny_chunks()),
    ("Tiny_Chunks=7", Fault.tiny_chunks(7)),
    ("huge", Fault.huge()),
    ("huge=5000", Fault.huge(5000)),
    ("huge=,declared", Fault.huge(declared=True)),
    ("silence", Fault.silence()),
    ("half-closed", Fault.half_closed()),
    ("half-closed=0", Fault.half_closed(0.0)),
]


@pytest.mark.parametrize(("spec", "fault"), SPECS, ids=[spec for spec, _ in SPECS])
def test_each_fault_can_be_written(spec: str, fault: Fault) -> None:
    assert parse_fault(spec) == FaultSpec(fault, None, None)
    assert parse_fault(f"{spec}@{QUERY}") == FaultSpec(fault, QUERY, None)
    assert parse_fault(f"{spec}*10") == FaultSpec(fault, None, 10)
    assert parse_fault(f"{spec}@login*forever") == FaultSpec(fault, "login", None)


def test_every_fault_has_a_name() -> None:
    makers = {
        name.replace("_", "-")
        for name, member in inspect.getmembers(Fault, inspect.ismethod)
        if member.__self__ is Fault and not name.startswith("_")
    }
    assert {*NAMES} == makers
    assert {parse_fault(spec).fault.name.split()[0] for spec, _ in SPECS}


WRONG = [
    "", " ", "nope", "=503", "*3", "@login", "http", "http=", "http=abc", "http=99", "http=600",
    "http=-503", "http=503*0", "http=503*x", "http=503*-1", "http=503@nowhere", "http=429,a\nb",
    "slow", "slow=-1", "slow=nan", "slow=inf", "slow=1e3", "cut=1", "cut=-0.5", "redirect=",
    "redirect=a\r\nb", "replaced", "refuse", "refuse=", "refuse=1,{", "refuse=1,{0.a}", "silence=1",
    "lose-request=x", "tiny-chunks=0", "huge=0", "huge=5,yes", "slow-body=1,1", "half-closed=2",
    "after-effect", "after-effect=", "after-effect=nope", "after-effect=http", "after-effect=cut=1",
    "after-effect=after-effect=html", "http=503@login*3 ", "http=\u0665\u0660\u0663",
    "missing-cards=-1",
]  # fmt: skip


@pytest.mark.parametrize("spec", WRONG)
def test_a_wrong_fault_is_refused_in_one_line_that_lists_the_names(spec: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_fault(spec)
    message = str(caught.value)
    assert "\n" not in message
    assert all(name in message for name in NAMES)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("http", "its value is missing; write http=STATUS[,RETRY-AFTER]"),
        ("http=99", "status must be 200 or more and less than 600, not 99; write http=STATUS"),
        ("http=abc", "status can't be 'abc'; write http=STATUS[,RETRY-AFTER]"),
        ("huge=5,yes", "declared can't be 'yes'; write huge=[SIZE][,declared]"),
        ("slow_body=1,1", "pieces must be 2 or more, not 1"),
        ("silence=1", "it takes no value; write silence, without a value"),
        ("after-effect=cut=1", "write cut=[KEEP] (what is in brackets may be left out); write"),
    ],
)
def test_a_wrong_value_is_told_with_the_form_that_its_fault_takes(spec: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        parse_fault(spec)


@pytest.mark.parametrize("maker", NAMES)
def test_the_values_of_each_fault_can_be_read_from_text(maker: str) -> None:
    signature = inspect.signature(getattr(Fault, maker.replace("-", "_")), eval_str=True)
    for parameter in signature.parameters.values():
        kinds = {*(get_args(parameter.annotation) or (parameter.annotation,))} - {type(None)}
        assert kinds <= {*READERS}


# The command.


@pytest.mark.parametrize("spec", ["nope", "http=abc", "silence=3", "-3", "cut*0"])
def test_the_command_refuses_a_wrong_fault_with_one_line_and_status_2(spec: str) -> None:
    done = mioesim("sandbox", "--fault", "http=503", "--fault", spec)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"mioesim: wrong fault '{spec}'")
    assert done.err.count("\n") == 1
    assert all(name in done.err for name in NAMES)


def test_the_command_refuses_a_capacity_below_one() -> None:
    done = mioesim("sandbox", "--capacity", "0")
    assert (done.status, done.err.count("\n")) == (2, 1)


def test_the_commands_sandbox_has_the_faults_that_were_asked_for() -> None:
    faults = ["http=503@login*2", "html=502@getESIMDetail", 'replaced={"a":1}*1', "empty"]
    arguments = [part for fault in faults for part in ("--fault", fault)]
    with started("sandbox", *arguments, "--capacity", 5) as process:
        assert process.stdout is not None
        line = read_until(process.stdout, "\n")
        found = re.search(r"http://\S+", line)
        assert found is not None, line

        def get(path: str) -> tuple[int, bytes]:
            try:
                with urllib.request.urlopen(f"{found[0]}/{path}", timeout=10) as reply:
                    return reply.status, reply.read()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.read()[:9]

        answers: list[Any] = [get("login"), get("login"), get("login"), get("login")]
        assert answers == [(503, b"trouble"), (503, b"trouble"), (200, b'{"a":1}'), (200, b"")]
        assert [get("getESIMDetail") for _ in range(3)] == [(502, b"<!DOCTYPE")] * 3
        assert interrupted(process).status == 0


def test_the_commands_sandbox_ends_while_calls_are_unanswered() -> None:
    with started("sandbox", "--fault", "silence") as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+", read_until(process.stdout, "\n"))
        assert found is not None
        with pytest.raises(TimeoutError):
            urllib.request.urlopen(f"{found[0]}/login", timeout=0.1)
        done = interrupted(process)
    assert (done.status, done.err) == (0, "")

"""What a message tells a Python user to call, it tells a user of the command to run."""

from __future__ import annotations

import copy
import pickle
import re
from datetime import date
from pathlib import Path

import pytest

import mioesim_async
from mioesim_async import errors
from mioesim_async.api.orders.line_checks import check_line
from mioesim_async.cli.buying.commands import OPTIONS
from mioesim_async.cli.running import COMMANDS
from mioesim_async.models.order_lines import OrderLine
from mioesim_async.wire.endpoints import QUERY_ICCID_INFORMATION
from mioesim_async.wording import in_words, worded

SOURCES = [
    # Long messages are written in pieces.
    re.sub(r'"\s*\n\s*f?"', "", file.read_text(encoding="utf-8"))
    for file in Path(mioesim_async.__file__).parent.rglob("*.py")
    if "cli" not in file.parts
]
PARTS = {
    found[2]
    for source in SOURCES
    for found in re.finditer(r"worded\(\s*(['\"])(.+?)\1", source)
    if "{" not in found[2]
}
"""What is worded whole in the package: parts of messages, and names of arguments."""


@pytest.mark.parametrize("part", sorted(PARTS))
def test_the_command_has_words_for_every_part_of_a_message_that_is_python_s(part: str) -> None:
    assert part in {**COMMANDS, **OPTIONS}


@pytest.mark.parametrize("part", COMMANDS)
def test_the_command_has_no_words_for_what_no_message_says(part: str) -> None:
    assert any(part in source for source in SOURCES)


def faults() -> tuple[str, ...]:
    line = OrderLine(sku_id=1, price_id=1, count=0, send_email=True, remark=" {x} ")
    with pytest.raises(errors.InvalidRequest) as caught:
        check_line(line, today=date(2027, 1, 1))
    return caught.value.faults


def test_the_faults_of_a_line_name_its_fields_or_the_options_of_the_command() -> None:
    assert faults() == (
        "count must be a whole number of 1 or more, not 0",
        "send_email needs customer_email",
        "remark must not begin or end with a space",
    )
    with in_words(OPTIONS):
        assert faults() == (
            "--count must be a whole number of 1 or more, not 0",
            "--send-email needs --customer-email",
            "--remark must not begin or end with a space",
        )
    assert faults()[0].startswith("count")


def test_words_hold_for_the_block_and_beside_those_around_it() -> None:
    with in_words({"one": "1", "say {one}, {value}": "1: {one}, {value}"}), in_words({"two": "2"}):
        assert (worded("one"), worded("two"), worded("three")) == ("1", "2", "three")
        assert worded("say {one}, {value}", value="{one}") == "1: 1, {one}"
    assert (worded("one"), worded("two")) == ("one", "two")


def test_an_error_keeps_the_words_that_it_was_made_with() -> None:
    assert "set Dialect(batch_parameter=...)" in str(QUERY_ICCID_INFORMATION.refusal(-2, "", None))
    with in_words(COMMANDS):
        error = QUERY_ICCID_INFORMATION.refusal(-2, "", None)
    for one in (error, copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert "set batch_parameter = ... in the account's profile" in str(one)
        assert "Dialect(" not in str(one) + one.hint

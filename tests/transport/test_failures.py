"""One table says what each error means, and nothing that can be raised is missing in it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mioesim_async import errors
from mioesim_async.cli import exit_status
from mioesim_async.tokens.keeper import LOGIN_REFUSALS
from mioesim_async.transport.failures import (
    ACTIONS,
    MEANINGS,
    Action,
    Bought,
    Failure,
    Fault,
    Meaning,
    classify,
    is_fatal,
    is_outage,
    meaning_of,
    was_placed,
)
from mioesim_async.wire import endpoints
from mioesim_async.wire.endpoints import LOGIN, REFUSED_FOR_MONEY, Endpoint, Safety

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
ROWS = [row for _, row in inspect.getmembers(endpoints, lambda it: isinstance(it, Endpoint))]


def tree(of: type[errors.MioEsimError]) -> Iterator[type[errors.MioEsimError]]:
    yield of
    for cls in of.__subclasses__():
        if cls.__module__ == errors.__name__:
            yield from tree(cls)


CLASSES = [*dict.fromkeys(tree(errors.MioEsimError))]


def made(cls: type[errors.MioEsimError]) -> errors.MioEsimError:
    """Make an error with nothing but what tells one of its class apart."""
    error = cls.__new__(cls)
    error.__dict__ |= {"status": 404, "reason": "shape", "code": 99, "last_error": None}
    return error


@pytest.mark.parametrize("cls", CLASSES)
def test_every_class_of_error_has_a_row_of_its_own(cls: type[errors.MioEsimError]) -> None:
    assert (cls, "") in MEANINGS


SAYS_ITSELF = {
    errors.OutcomeUnknown, errors.OrderIncomplete, errors.JournalUnavailable, errors.DuplicateOrder,
}  # fmt: skip
"""Errors that are raised with ``was_placed`` as it is."""


@pytest.mark.parametrize("cls", CLASSES)
def test_a_purchase_that_never_left_was_not_placed(cls: type[errors.MioEsimError]) -> None:
    error = made(cls)
    error.was_placed = True
    assert was_placed(error, sent=False) is (cls in SAYS_ITSELF)


@pytest.mark.parametrize("cls", CLASSES)
def test_only_the_vendor_s_refusal_says_that_what_was_sent_was_not_placed(
    cls: type[errors.MioEsimError],
) -> None:
    error = made(cls)
    error.was_placed = True
    refused = issubclass(cls, errors.ApiError | errors.RateLimited)
    assert was_placed(error, sent=True) is (
        False if refused else True if cls in SAYS_ITSELF else None
    )


@pytest.mark.parametrize("meaning", MEANINGS.values())
def test_whatever_may_have_been_bought_ends_a_command_with_4(meaning: Meaning) -> None:
    says = meaning.bought is Bought.AS_IT_SAYS
    assert meaning.exit_status in range(exit_status.FAILED, exit_status.ENDED_EARLY + 1)
    assert says or meaning.exit_status != exit_status.UNKNOWN


@pytest.mark.parametrize("cls", CLASSES)
def test_a_login_remembers_the_refusals_that_no_other_call_can_change(
    cls: type[errors.MioEsimError],
) -> None:
    error = made(cls).at(LOGIN.path)
    assert isinstance(error, LOGIN_REFUSALS) is (
        isinstance(error, errors.ApiError) and is_fatal(error)
    )


@pytest.mark.parametrize("cls", [it for it in CLASSES if issubclass(it, errors.ApiError)])
def test_a_refusal_that_blames_the_request_says_nothing_of_what_it_is_about(
    cls: type[errors.ApiError],
) -> None:
    blaming = {
        errors.MissingParameter,
        errors.PermissionDenied,
        errors.QueryFailed,
        errors.SignatureError,
    }
    assert (meaning_of(made(cls)).fault is Fault.REQUEST) is (cls in blaming)


@pytest.mark.parametrize("failure", Failure)
@pytest.mark.parametrize("safety", Safety)
def test_every_failure_has_an_action_for_every_safety(safety: Safety, failure: Failure) -> None:
    assert isinstance(ACTIONS[safety][failure], Action)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.path)
def test_every_code_of_every_endpoint_is_refused_once_and_by_its_table(row: Endpoint) -> None:
    for code in {*row.codes, *REFUSED_FOR_MONEY, -99, "unheard of"} - {row.success}:
        error = row.refusal(code, "refused", None)
        known = row.safety is not Safety.MONEY or code in REFUSED_FOR_MONEY
        failure = classify(error, row.safety, sent=True)
        assert failure is (Failure.REFUSED if known else Failure.UNCLEAR), code
        assert ACTIONS[row.safety][failure] is (Action.RAISE if known else Action.UNKNOWN), code
        assert meaning_of(error).exit_status in {1, 3}


@pytest.mark.parametrize("cls", [errors.PermissionDenied, errors.SignatureError])
def test_what_is_refused_at_login_is_refused_for_every_call(cls: type[errors.ApiError]) -> None:
    assert is_fatal(cls(LOGIN.path, -10))
    assert not is_fatal(cls("/api_esim/getSkus", -10))
    assert not is_outage(cls("/api_esim/getSkus", -10))


def test_whatever_else_goes_wrong_at_login_is_the_host_s_fault() -> None:
    for error in (
        errors.ApiError(LOGIN.path, 99),
        errors.HttpStatusError("no", 403).at(LOGIN.path),
    ):
        assert (is_fatal(error), is_outage(error)) == (False, True)


def test_a_deadline_is_the_host_s_fault_unless_the_last_attempt_says_otherwise() -> None:
    assert is_outage(errors.DeadlineExceeded("late"))
    assert is_outage(errors.DeadlineExceeded("late", errors.ConnectionLost("cut")))
    assert not is_outage(errors.DeadlineExceeded("late", errors.HttpStatusError("gone", 404)))


def test_a_class_of_somebody_s_own_means_what_its_base_means() -> None:
    class Mine(errors.ConnectError):
        pass

    assert meaning_of(Mine("no")) is MEANINGS[errors.ConnectError, ""]
    assert meaning_of(Mine("no")).fault is Fault.HOST


NAMED = {
    "no connection (refused, DNS, TLS)": (Failure.NOT_SENT,),
    "connection lost, silence, 5xx, a reply that can't be read": (
        Failure.LOST, Failure.SERVER_ERROR, Failure.UNREADABLE,
    ),
    "429": (Failure.RATE_LIMITED,),
    "3xx and other 4xx": (Failure.STATUS,),
    "a code that is not success": (Failure.REFUSED, Failure.UNCLEAR),
}  # fmt: skip
"""Lines of README's table, and the failures that each is about."""


def said(cell: str) -> set[Action]:
    if "tried again" in cell:
        return {Action.RETRY}
    actions = {Action.UNKNOWN} if "`OutcomeUnknown`" in cell else set()
    return actions if "**" in cell else {*actions, Action.RAISE}


@pytest.mark.parametrize("line", NAMED)
def test_readme_s_table_of_retries_says_what_the_table_says(line: str) -> None:
    found = re.search(rf"^\| {re.escape(line)} \| (.*) \| (.*) \|$", README, re.MULTILINE)
    assert found is not None
    for cell, safeties in zip(
        found.groups(), [(Safety.READ, Safety.AUTH), (Safety.WRITE, Safety.MONEY)], strict=True
    ):
        for safety in safeties:
            assert {ACTIONS[safety][failure] for failure in NAMED[line]} == said(cell), safety

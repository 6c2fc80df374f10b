"""When to try again: one pure function over safety, outcome, attempt and time left."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, strategies as st

from mioesim_async import RetryPolicy, Safety, errors
from mioesim_async.transport.failures import Action, Failure, classify
from mioesim_async.transport.retry import Decision, decide, parse_http_date, parse_retry_after
from mioesim_async.waits import doubling, half_jitter

POLICY = RetryPolicy()
NOW = 1_767_225_600.0  # Thu, 01 Jan 2026 00:00:00 GMT
READS = (Safety.READ, Safety.AUTH)
ONCE = (Safety.MONEY, Safety.WRITE)


def first(safety: Safety, failure: Failure) -> Action:
    return decide(safety=safety, failure=failure, attempt=1, policy=POLICY).action


@pytest.mark.parametrize("safety", READS)
def test_reads_are_repeated_after_everything_that_may_pass(safety: Safety) -> None:
    repeated = {failure for failure in Failure if first(safety, failure) is Action.RETRY}
    assert repeated == {
        Failure.NOT_SENT,
        Failure.LOST,
        Failure.SERVER_ERROR,
        Failure.RATE_LIMITED,
        Failure.UNREADABLE,
    }


@pytest.mark.parametrize("safety", ONCE)
def test_what_costs_money_is_only_repeated_when_nothing_was_sent(safety: Safety) -> None:
    actions = {failure: first(safety, failure) for failure in Failure}
    assert [failure for failure, action in actions.items() if action is Action.RETRY] == [
        Failure.NOT_SENT
    ]
    assert {failure for failure, action in actions.items() if action is Action.UNKNOWN} == {
        Failure.LOST,
        Failure.SERVER_ERROR,
        Failure.UNREADABLE,
        Failure.TOO_LARGE,
        Failure.STATUS,
        Failure.UNCLEAR,
    }


def test_every_safety_class_has_an_action_for_every_failure() -> None:
    for safety, failure in itertools.product(Safety, Failure):
        assert isinstance(first(safety, failure), Action)


@pytest.mark.parametrize(
    ("attempt", "action"), [(1, Action.RETRY), (3, Action.RETRY), (4, Action.RAISE)]
)
def test_the_last_attempt_is_not_followed_by_another(attempt: int, action: Action) -> None:
    decision = decide(
        safety=Safety.READ, failure=Failure.LOST, attempt=attempt, policy=RetryPolicy()
    )
    assert decision.action is action


def test_waits_double_from_the_base_up_to_the_maximum() -> None:
    policy = RetryPolicy(max_attempts=8, base_delay=0.5, max_delay=8.0)
    waits = [
        decide(
            safety=Safety.READ,
            failure=Failure.LOST,
            attempt=attempt,
            policy=policy,
            jitter=lambda wait: wait,
        ).delay
        for attempt in range(1, 8)
    ]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


@given(
    attempt=st.integers(1, 9),
    asked=st.none() | st.floats(0, 60),
    left=st.floats(0.001, 1000) | st.just(math.inf),
)
def test_a_wait_is_never_shorter_than_asked_nor_longer_than_the_time_left(
    attempt: int, asked: float | None, left: float
) -> None:
    decision = decide(
        safety=Safety.READ,
        failure=Failure.RATE_LIMITED,
        attempt=attempt,
        policy=RetryPolicy(max_attempts=10),
        time_left=left,
        retry_after=asked,
    )
    if decision.action is Action.RETRY:
        assert (asked or 0.0) <= decision.delay < left
    else:
        assert decision.action is Action.DEADLINE


def test_a_retry_after_beyond_the_cap_is_raised_and_one_at_the_cap_is_waited() -> None:
    def wait(asked: float) -> Decision:
        return decide(
            safety=Safety.READ,
            failure=Failure.RATE_LIMITED,
            attempt=1,
            policy=RetryPolicy(max_retry_after=60),
            retry_after=asked,
        )

    assert wait(60) == Decision(Action.RETRY, 60)
    assert wait(60.1).action is Action.RAISE


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("-1", None),
        ("+5", None),
        ("1e9", None),
        ("nan", None),
        ("inf", None),
        ("\u0661\u0662", None),
        ("99999999999999999999", None),
        ("soon", None),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 00:00:30 +0000", 30.0),
        ("Thursday, 01-Jan-26 00:00:30 GMT", 30.0),
        ("Thu Jan  1 00:00:30 2026", 30.0),
        ("Wed, 31 Dec 2025 23:59:59 GMT", 0.0),
        ("Thu, 32 Jan 2026 00:00:30 GMT", None),
        ("Thu, 01 Jan 99999 00:00:30 GMT", None),
    ],
)
def test_retry_after_in_every_odd_form(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header, NOW) == seconds


@given(st.text(max_size=40))
def test_no_retry_after_header_breaks_the_parser(header: str) -> None:
    seconds = parse_retry_after(header, NOW)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    ("header", "moment"),
    [
        ("Thu, 01 Jan 2026 00:00:00 GMT", NOW),
        ("Thursday, 01-Jan-26 00:00:00 GMT", NOW),
        # Without a time zone of its own, it is not this machine's.
        ("Thu, 01 Jan 2026 00:00:00 -0000", NOW),
        ("Thu, 01 Jan 2026 08:00:00 +0800", NOW),
        (None, None),
        ("", None),
        ("yesterday", None),
        ("Thu, 99 Jan 2026 00:00:00 GMT", None),
    ],
)
def test_the_date_of_a_reply_is_read_or_is_none(header: str | None, moment: float | None) -> None:
    assert parse_http_date(header) == moment


def api(code: int) -> errors.ApiError:
    return errors.ApiError("/x", code)


@pytest.mark.parametrize("code", [-1, -2, -10, -30, 3, 4, 22])
def test_the_listed_codes_are_definite_refusals_of_a_purchase(code: int) -> None:
    assert classify(api(code), Safety.MONEY, sent=True) is Failure.REFUSED


@pytest.mark.parametrize("code", [-3, -8, 99, 7, 500])
def test_any_other_code_leaves_a_purchase_unclear_and_a_read_refused(code: int) -> None:
    assert classify(api(code), Safety.MONEY, sent=True) is Failure.UNCLEAR
    assert classify(api(code), Safety.READ, sent=True) is Failure.REFUSED


@pytest.mark.parametrize(
    ("error", "sent", "failure"),
    [
        (errors.ConnectError(), False, Failure.NOT_SENT),
        (errors.ConnectionLost(), True, Failure.LOST),
        (errors.AttemptTimeout(), True, Failure.LOST),
        (errors.AttemptTimeout(), False, Failure.NOT_SENT),
        (errors.HttpStatusError("", 503), True, Failure.SERVER_ERROR),
        (errors.HttpStatusError("", 404), True, Failure.STATUS),
        (errors.HttpStatusError("", 307), True, Failure.STATUS),
        (errors.RateLimited("", 1.0), True, Failure.RATE_LIMITED),
        (errors.ProtocolError("", "html"), True, Failure.UNREADABLE),
        (errors.ProtocolError("", "too_large"), True, Failure.TOO_LARGE),
        (errors.ClientClosed(), True, Failure.REFUSED),
    ],
)
def test_each_error_is_classified(error: errors.MioEsimError, sent: bool, failure: Failure) -> None:
    assert classify(error, Safety.READ, sent=sent) is failure


def test_waits_double_up_to_the_longest_and_never_end() -> None:
    assert [*itertools.islice(doubling(longest=10), 6)] == [1, 2, 4, 8, 10, 10]
    assert [*itertools.islice(doubling(first=0.5, longest=2), 4)] == [0.5, 1, 2, 2]
    assert [*itertools.islice(doubling(first=0, longest=0), 2)] == [0, 0]


@given(st.floats(0, 1e6))
def test_half_a_wait_at_least_is_waited(wait: float) -> None:
    assert wait / 2 <= half_jitter(wait) <= wait

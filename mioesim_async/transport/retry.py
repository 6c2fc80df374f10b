"""When to try again after a failed attempt: a pure function over the table of failures."""

from __future__ import annotations

import email.utils
import math
import re
from collections.abc import Callable
from datetime import UTC
from functools import lru_cache
from itertools import islice

from attrs import frozen

from mioesim_async.config import RetryPolicy
from mioesim_async.transport.failures import ACTIONS, Action, Failure
from mioesim_async.waits import doubling, full_jitter
from mioesim_async.wire.endpoints import Safety

__all__ = ["Decision", "decide", "parse_http_date", "parse_retry_after"]


@frozen
class Decision:
    """What to do, and after how many seconds."""

    action: Action
    delay: float = 0.0


def decide(
    *,
    safety: Safety,
    failure: Failure,
    attempt: int,
    policy: RetryPolicy,
    time_left: float = math.inf,
    retry_after: float | None = None,
    jitter: Callable[[float], float] = full_jitter,
) -> Decision:
    """Decide what to do after a failed attempt.

    Args:
        safety: Safety class of the endpoint.
        failure: How the attempt failed.
        attempt: Number of the attempt, from 1.
        policy: The limits.
        time_left: Seconds until the call's deadline.
        retry_after: Seconds that the host asked to wait, or None.
        jitter: Randomises the policy's wait, in seconds, but not the host's.
    """
    action = ACTIONS[safety][failure]
    if action is not Action.RETRY:
        return Decision(action)
    if attempt >= policy.max_attempts:
        return Decision(Action.RAISE)
    if retry_after is not None and retry_after > policy.max_retry_after:
        return Decision(Action.RAISE)
    delay = jitter(_waits(policy)[attempt - 1])
    if retry_after is not None:
        delay = max(delay, retry_after)
    if delay >= time_left:
        return Decision(Action.DEADLINE)
    return Decision(Action.RETRY, delay)


@lru_cache(maxsize=64)
def _waits(policy: RetryPolicy) -> tuple[float, ...]:
    waits = doubling(first=policy.base_delay, longest=policy.max_delay)
    return tuple(islice(waits, policy.max_attempts - 1))


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Read a Retry-After header: seconds, or an HTTP date.

    Args:
        value: The header.
        now: The present, in seconds since the epoch (UTC).

    Returns:
        Seconds to wait, 0 or more; None if the header is missing or can't be read.
    """
    if value is None:
        return None
    text = value.strip()
    if re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", text):
        return float(text)
    when = parse_http_date(text)
    return None if when is None else max(0.0, when - now)


def parse_http_date(value: str | None) -> float | None:
    """Read an HTTP date, such as ``Sun, 06 Nov 1994 08:49:37 GMT``.

    Returns:
        Seconds since the epoch (UTC); None if the header is missing or can't be read.
    """
    if value is None:
        return None
    try:
        when = email.utils.parsedate_to_datetime(value)
        # Without this, a date without a time zone would be read as local time.
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None

"""What a client counts: attempts, for its hooks and sums, and calls, for its budget of retries."""

from __future__ import annotations

import inspect
import logging
from asyncio import CancelledError
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from attrs import define, frozen

from mioesim_async.clock import Clock
from mioesim_async.errors import ConfigurationError
from mioesim_async.wire.endpoints import Safety

if TYPE_CHECKING:
    from mioesim_async.transport.attempt_timer import Progress
    from mioesim_async.transport.call import Call

__all__ = ["AttemptRecord", "ClientStats", "Health", "Hook", "Meter", "RetryBudget", "check_hooks"]

logger = logging.getLogger("mioesim_async")

MINUTE = 60.0

FREE_RETRIES = 10

RETRIES_PER_CALL = 0.2


@frozen
class AttemptRecord:
    """One attempt, or the end of a call that waited for one, without secrets.

    A call that is cut off while it waits (for a slot, a token, the rate limit or its next attempt)
    has one more record, whose ``attempt`` is 0 and whose ``error`` says what cut it off:
    ``DeadlineExceeded``, ``ClientClosed`` or ``CancelledError``.

    Attributes:
        call_id: The id of the call, as in its log lines and its error.
        endpoint: Path of the endpoint.
        safety: Its safety class.
        attempt: Number of the attempt within its call, from 1; 0 if there was none.
        status: HTTP status, or None without a reply.
        code: The vendor's code, or None without a readable reply.
        error: Name of the error that it ended with, or None.
        duration: Seconds from getting a connection to the end; 0 without a connection.
        waited: Seconds from the start until it got a connection; if there was no attempt, the
            seconds since the call was made.
        bytes: Size of the reply's body; 0 for an error status.
    """

    endpoint: str
    safety: Safety
    attempt: int
    status: int | None
    code: int | str | None
    error: str | None
    duration: float
    waited: float
    bytes: int
    call_id: str = ""


Hook = Callable[[AttemptRecord], object]
NOT_AWAITED = "hooks are not awaited: pass a plain function, which may start a task"


def check_hooks(hooks: Sequence[Hook]) -> tuple[Hook, ...]:
    """Check hooks, and return them as a tuple.

    Raises:
        ConfigurationError: If they are not iterable, or if one is not callable or is a coroutine
            function.
    """
    try:
        taken = (*hooks,)
    except TypeError:
        raise ConfigurationError(
            f"hooks takes a list of functions, not {type(hooks).__name__}"
        ) from None
    for hook in taken:
        if not callable(hook):
            raise ConfigurationError(f"hooks takes functions, not {type(hook).__name__}")
        called: Any = hook
        while isinstance(called, partial):
            called = called.func
        if any(map(inspect.iscoroutinefunction, (called, type(called).__call__))):
            raise ConfigurationError(f"{hook!r} is a coroutine function; {NOT_AWAITED}")
    return taken


@frozen
class ClientStats:
    """Counters of what a client has done so far.

    Attributes:
        requests: Attempts made, logins included.
        failures: Attempts that ended with an error.
        retries: Attempts that repeated a failed attempt.
        replays: Attempts that repeated one whose token was refused.
        logins: Logins that succeeded.
        connections: Connections used by the session manager, for all its clients.
        seconds: Sum of the attempts' durations.
        waited: Sum of the seconds that attempts waited for a connection.
        bytes: Sum of the sizes of the replies' bodies.
    """

    requests: int
    failures: int
    retries: int
    replays: int
    logins: int
    connections: int
    seconds: float
    waited: float
    bytes: int


@frozen
class Health:
    """How a client is doing, as far as it knows without asking anybody.

    All times are in UTC.

    Attributes:
        token_expires_at: When its token expires; None if it has none that is valid.
        store_is_up: Whether the token store worked when it was last used; None before that.
        store_since: Since when that has been so, or None.
        journal_is_up: Whether the order journal worked when it was last used; None before that,
            and without a journal.
        journal_since: Since when that has been so, or None.
        is_contended: Whether calls fail now because somebody else keeps logging in.
        last_success_at: When an attempt last succeeded, or None.
        last_failure_at: When an attempt last failed or a waiting call was cut off, or None.
        in_flight: How many calls have a slot, so that they are sent, wait for a token, the rate
            limit or their next attempt.
        queued: How many calls wait for a slot.
    """

    token_expires_at: datetime | None
    store_is_up: bool | None
    store_since: datetime | None
    is_contended: bool
    last_success_at: datetime | None
    last_failure_at: datetime | None
    in_flight: int
    queued: int
    journal_is_up: bool | None = None
    journal_since: datetime | None = None


@define
class Meter:
    """Sums up a client's attempts, and calls the hooks for each.

    Attributes:
        last_success: When the last attempt succeeded, on the monotonic clock; None before that.
        last_failure: When the last attempt failed, or a call was cut off.
    """

    hooks: Sequence[Hook] = ()
    requests: int = 0
    failures: int = 0
    retries: int = 0
    replays: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    bytes: int = 0
    last_success: float | None = None
    last_failure: float | None = None

    def measure(
        self,
        call: Call,
        progress: Progress,
        began: float,
        ended: float,
        failed: BaseException | None,
    ) -> None:
        """Add an attempt to the sums, and tell the hooks.

        Args:
            call: The call that the attempt belongs to.
            progress: The attempt's progress.
            began: When it began, on the monotonic clock.
            ended: When it ended, on the monotonic clock.
            failed: The error that it ended with, or None.
        """
        connected = progress.sent_at if progress.sent else ended
        duration, waited = ended - connected, connected - began
        self.requests += 1
        self.failures += failed is not None
        self.seconds += duration
        self.waited += waited
        self.bytes += progress.size
        if failed is None:
            self.last_success = ended
        else:
            self.last_failure = ended
        if self.hooks:
            name = None if failed is None else type(failed).__name__
            if isinstance(failed, CancelledError):
                name = call.cut_off_by
            self._tell_hooks(
                AttemptRecord(
                    endpoint=call.endpoint.path,
                    safety=call.endpoint.safety,
                    attempt=call.attempt,
                    status=progress.status,
                    code=progress.code,
                    error=name,
                    duration=duration,
                    waited=waited,
                    bytes=progress.size,
                    call_id=call.id,
                )
            )

    def note_cut_off(self, call: Call, ended: float) -> None:
        """Tell the hooks of a call that was cut off while it waited.

        Args:
            call: The call.
            ended: When it ended, on the monotonic clock.
        """
        self.last_failure = ended
        if self.hooks:
            self._tell_hooks(
                AttemptRecord(
                    endpoint=call.endpoint.path,
                    safety=call.endpoint.safety,
                    attempt=0,
                    status=None,
                    code=None,
                    error=call.cut_off_by,
                    duration=0.0,
                    waited=ended - call.began,
                    bytes=0,
                    call_id=call.id,
                )
            )

    def _tell_hooks(self, record: AttemptRecord) -> None:
        """Call each hook; log what it raises, and go on."""
        for hook in self.hooks:
            try:
                told = hook(record)
            except Exception:
                logger.exception("a hook raised")
            else:
                if isinstance(told, CoroutineType):
                    told.close()
                    logger.error("%s returned a coroutine; %s", hook, NOT_AWAITED)


class RetryBudget:
    """Limits a client's retries in a minute to 10, plus a fifth of its calls in that minute.

    So a host that fails every call gets only a few more requests.
    """

    __slots__ = ("_calls", "_clock", "_retries", "_seconds")

    def __init__(self, clock: Clock) -> None:
        """Start without calls and retries."""
        self._clock = clock
        self._calls = 0
        self._retries = 0
        self._seconds: deque[list[int]] = deque()

    def count(self, *, calls: int = 0, retries: int = 0) -> None:
        """Count calls or retries, and forget those that are a minute old."""
        seconds, second = self._seconds, int(self._clock.monotonic())
        if not seconds or seconds[-1][0] != second:
            while seconds and seconds[0][0] <= second - MINUTE:
                _, old_calls, old_retries = seconds.popleft()
                self._calls -= old_calls
                self._retries -= old_retries
            seconds.append([second, 0, 0])
        seconds[-1][1] += calls
        seconds[-1][2] += retries
        self._calls += calls
        self._retries += retries

    @property
    def has_room(self) -> bool:
        """Whether the budget allows a retry now."""
        self.count()
        return self._retries + 1 <= FREE_RETRIES + RETRIES_PER_CALL * self._calls

    def take_retry(self) -> bool:
        """Count a retry if the budget allows one; tell whether it does."""
        if not self.has_room:
            return False
        self.count(retries=1)
        return True

"""Tracks whether the host answers a sweep, and waits while it doesn't."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from attrs import define, field

from mioesim_async import errors
from mioesim_async.clock import Clock, TimeLimit
from mioesim_async.waits import doubling, half_jitter

logger = logging.getLogger("mioesim_async")

__all__ = ["REFUSALS_IN_A_ROW", "HostHealth"]

FAILURES_IN_A_ROW = 3
"""Batches that fail in transport, one after the other, before a sweep pauses."""

REFUSALS_IN_A_ROW = 5
"""Batches with the same refusal, and no success before, that end a sweep."""

SHORTEST_PROBE = 1.0
"""Least time for a probe, in seconds, even if less time is left."""

LONGEST_PAUSE = 10.0
"""Longest wait between two probes, in seconds, unless the host asks for more."""


def _kind_of_refusal(error: errors.MioEsimError) -> tuple[str, int] | None:
    """Return a refusal that the host may give to every batch: an HTTP status, code -2 or -30.

    None for other codes: -3, for example, only says that these cards don't exist.
    """
    match error:
        case errors.HttpStatusError(status=status) if 300 <= status < 500:
            return "status", status
        case errors.MissingParameter(code=-2):
            return "code", -2
        case errors.SignatureError():
            return "code", -30
        case _:
            return None


@define(eq=False)
class HostHealth:
    """Whether the host answers one sweep.

    Attributes:
        clock: The source of time.
        max_outage: Seconds that the host may be down.
        answers: How many calls were answered.
        has_succeeded: Whether any batch was answered with success.
    """

    clock: Clock
    max_outage: float
    answers: int = field(default=0, init=False)
    has_succeeded: bool = field(default=False, init=False)
    _failures: int = field(default=0, init=False)
    _last_failure: errors.MioEsimError | None = field(default=None, init=False)
    _last_refusal: tuple[str, int] | None = field(default=None, init=False)
    _refusals: int = field(default=0, init=False)

    def succeeded(self) -> None:
        """Note that a batch was answered with success."""
        self.has_succeeded = True
        self.answers += 1
        self._failures = 0

    def refuses_all(self, error: errors.MioEsimError) -> bool:
        """Note a failed batch, and tell whether the other batches will fail as well.

        They will if five batches in a row got the same refusal, and none ever succeeded.
        """
        refusal = _kind_of_refusal(error)
        if self.has_succeeded or refusal is None:
            self._refusals = 0
            return False
        self._refusals = self._refusals + 1 if refusal == self._last_refusal else 1
        self._last_refusal = refusal
        return self._refusals >= REFUSALS_IN_A_ROW

    def answered(self) -> None:
        """Note that a call was answered, with success or not."""
        self.answers += 1
        self._failures = 0

    def failed(self, error: errors.MioEsimError) -> None:
        """Note that a call failed in transport."""
        self._failures += 1
        self._last_failure = error
        self._refusals = 0

    @property
    def seems_down(self) -> bool:
        """Whether so many calls in a row failed that the sweep should pause."""
        return self._failures >= FAILURES_IN_A_ROW

    async def wait_out(self, probe: Callable[[], Awaitable[None]]) -> None:
        """Pause, and probe until the host answers.

        Args:
            probe: Calls the host once, and notes the result in this object.

        Raises:
            MioEsimError: The last failure, when ``max_outage`` has passed.
        """
        answers_before, since = self.answers, self.clock.monotonic()
        logger.warning(
            "the host doesn't answer; pausing, and trying again for up to %g s",
            self.max_outage,
        )
        for wait in doubling(longest=LONGEST_PAUSE):
            left = self.max_outage - (self.clock.monotonic() - since)
            if left <= 0 and self._last_failure is not None:
                raise self._last_failure
            retry_after = getattr(self._last_failure, "retry_after", None) or 0.0
            pause = max(half_jitter(wait), retry_after)
            await self.clock.sleep(min(pause, left))
            if self.answers == answers_before:
                with TimeLimit(self.clock, max(left - pause, SHORTEST_PROBE)):
                    await probe()
            if self.answers > answers_before:
                logger.warning("the host answers again; continuing")
                return

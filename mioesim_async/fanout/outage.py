"""Whether a host answers, as far as a sweep can tell, and how to sit out a bad minute."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from mioesim_async import errors
from mioesim_async.clock import Clock, TimeLimit
from mioesim_async.waits import doubling, half_jitter

logger = logging.getLogger("mioesim_async")

__all__ = ["REFUSALS_IN_A_ROW", "HostHealth"]

FAILURES_IN_A_ROW = 3
"""Batches that must fail in transport, one after the other, before a sweep pauses."""

REFUSALS_IN_A_ROW = 5
"""Batches that must be refused alike, with no success before, to end a sweep."""

SHORTEST_PROBE = 1.0
"""Seconds that a probe has at least, also when the time is nearly up."""

LONGEST_PAUSE = 10.0
"""Longest wait between two probes, in seconds, where the host doesn't ask for more."""


def _refusal(error: errors.MioEsimError) -> tuple[str, int] | None:
    """Return what a host refuses that may refuse everything: an HTTP status, or code -2 or -30.

    Codes such as -3 say of the cards that they don't exist, however many there are.
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


class HostHealth:
    """What a sweep has heard from the host.

    Attributes:
        answers: How many calls were answered.
        max_outage: Seconds that the host may be down.
        has_succeeded: Whether any batch was answered with success.
    """

    def __init__(self, clock: Clock, max_outage: float) -> None:
        """Start without knowing anything.

        Args:
            clock: Where time comes from.
            max_outage: Seconds that the host may be down.
        """
        self.answers = 0
        self.max_outage = max_outage
        self._clock = clock
        self._failures = 0
        self._last_failure: errors.MioEsimError | None = None
        self.has_succeeded = False
        self._refusal: tuple[str, int] | None = None
        self._refusals = 0

    def succeeded(self) -> None:
        """Note that a batch was answered with success."""
        self.has_succeeded = True
        self.answers += 1
        self._failures = 0

    def refuses_all(self, error: errors.MioEsimError) -> bool:
        """Note a batch that failed alone, and tell whether the others will fail as well.

        They will if nothing but the same refusal came for five batches, and never a success.
        """
        refusal = _refusal(error)
        if self.has_succeeded or refusal is None:
            self._refusals = 0
            return False
        self._refusals = self._refusals + 1 if refusal == self._refusal else 1
        self._refusal = refusal
        return self._refusals >= REFUSALS_IN_A_ROW

    def answered(self) -> None:
        """Note that the host answered."""
        self.answers += 1
        self._failures = 0

    def failed(self, error: errors.MioEsimError) -> None:
        """Note that a call failed in transport."""
        self._failures += 1
        self._last_failure = error
        self._refusals = 0

    @property
    def in_doubt(self) -> bool:
        """Whether enough calls failed in a row to stop and probe."""
        return self._failures >= FAILURES_IN_A_ROW

    async def wait_out(self, probe: Callable[[], Awaitable[None]]) -> None:
        """Pause, and probe until the host answers.

        Args:
            probe: Asks the host once, and notes here what came of it.

        Raises:
            MioEsimError: The last failure, when ``max_outage`` has passed.
        """
        heard, since = self.answers, self._clock.monotonic()
        logger.warning(
            "the host doesn't answer; pausing, and asking again for up to %g s", self.max_outage
        )
        for wait in doubling(longest=LONGEST_PAUSE):
            left = self.max_outage - (self._clock.monotonic() - since)
            if left <= 0 and self._last_failure is not None:
                raise self._last_failure
            asked = getattr(self._last_failure, "retry_after", None) or 0.0
            pause = max(half_jitter(wait), asked)
            await self._clock.sleep(min(pause, left))
            if self.answers == heard:
                with TimeLimit(self._clock, max(left - pause, SHORTEST_PROBE)):
                    await probe()
            if self.answers > heard:
                logger.warning("the host answers again; going on")
                return

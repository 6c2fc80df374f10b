"""How long to wait between tries: the wait generators and the jitter of ``backoff``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from backoff import expo, full_jitter

__all__ = ["doubling", "full_jitter", "half_jitter"]


def doubling(*, first: float = 1.0, longest: float) -> Iterator[float]:
    """Give waits without end, each twice as long as the one before.

    Args:
        first: The first wait, in seconds.
        longest: No wait is longer, in seconds.
    """
    # The first step of backoff's generators gives no wait.
    return islice(expo(factor=first, max_value=longest), 1, None)


def half_jitter(wait: float) -> float:
    """Return a random wait between half of a wait and all of it."""
    return wait / 2 + full_jitter(wait / 2)

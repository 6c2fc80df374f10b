"""How long to wait between two tries, by the generators and the jitter of ``backoff``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from backoff import expo, full_jitter

__all__ = ["doubling", "full_jitter", "half_jitter"]


def doubling(*, first: float = 1.0, longest: float) -> Iterator[float]:
    """Yield waits in seconds, without end, each twice as long as the one before.

    Args:
        first: The first wait, in seconds.
        longest: The longest wait, in seconds.
    """
    # The first value of backoff's generators is None.
    return islice(expo(factor=first, max_value=longest), 1, None)


def half_jitter(wait: float) -> float:
    """Return a random wait between half of this one and all of it, in seconds."""
    return wait / 2 + full_jitter(wait / 2)

"""Fixtures for modules that test with both: sandboxes (``odd``), or journals (``kept_in``)."""

from __future__ import annotations

import pytest

__all__ = ["kept_in", "odd"]


@pytest.fixture(params=[False, True], ids=["usual", "odd"])
def odd(request: pytest.FixtureRequest) -> bool:
    """Whether the sandbox writes all spellings and types that a client must be able to read."""
    return bool(request.param)


@pytest.fixture(params=["file", "postgres"])
def kept_in(request: pytest.FixtureRequest) -> str:
    """Where ``journal`` keeps its entries."""
    return str(request.param)

"""The tests of a module that imports ``odd`` run against both kinds of sandbox."""

from __future__ import annotations

import pytest

__all__ = ["odd"]


@pytest.fixture(params=[False, True], ids=["usual", "odd"])
def odd(request: pytest.FixtureRequest) -> bool:
    """Whether the sandbox writes all spellings and types that a client must be able to read."""
    return bool(request.param)

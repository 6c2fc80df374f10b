"""The pytest plugin that comes with the package: the fixture ``mioesim_sandbox``.

pytest imports this module in every run, so it imports the sandbox only when it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mioesim_async.sandbox import Sandbox


@pytest.fixture
def mioesim_sandbox() -> Iterator[Sandbox]:
    """Run a sandbox with 1,000 cards in a thread, for synchronous and asynchronous tests."""
    from mioesim_async.sandbox import Sandbox  # noqa: PLC0415 - heavy, and most runs don't use it

    with Sandbox() as sandbox:
        yield sandbox

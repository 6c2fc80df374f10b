"""Debian's Chromium without a window, to see a page as its reader does."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, async_playwright

__all__ = ["running_browser"]

NAMES = ("chromium", "chromium-browser", "google-chrome")


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """Run the Chromium that is installed; without one, skip the test, or fail it in CI."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        reason = "chromium is not installed (Debian: apt-get install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        raise pytest.skip.Exception(reason)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program)
        try:
            yield browser
        finally:
            await browser.close()

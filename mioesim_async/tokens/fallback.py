"""Uses a token store, and goes on without it while it is down."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from mioesim_async.clock import Clock, TimeLimit, Uptime
from mioesim_async.errors import ConfigurationError
from mioesim_async.tokens.store import StoredToken, StoreUnavailable, TokenStore

__all__ = ["StoreFallback"]

logger = logging.getLogger("mioesim_async")

LONGEST_LOCK_WAIT = 60.0
"""Seconds to wait for the store's lock; a store may give up earlier if its holder is stopped."""

LONGEST_QUICK_LOAD = 2.0
"""Seconds to wait for the store before an earlier login error is raised again."""

RETRY_SECONDS = 1.0
"""Seconds between two tries to save a token in a store that was down."""


class StoreFallback:
    """The token of one account in a store that may be down.

    A ``ConfigurationError`` of the store is raised. Any other error is logged, and the store is
    treated as empty.

    Attributes:
        lacks_token: Whether the store may lack the current token, since it could not be used.
        is_down: Whether the store failed when it was last used, and may work again soon.
        uptime: Whether the store works, and since when.
    """

    def __init__(self, store: TokenStore, key: str, clock: Clock) -> None:
        """Use a store for the account with this key."""
        self.lacks_token = False
        self.is_down = False
        self.uptime = Uptime(clock)
        self._store = store
        self._key = key
        self._clock = clock
        self._next_try = 0.0

    @property
    def may_retry(self) -> bool:
        """Whether to try now to save the current token in the store."""
        return self.lacks_token and self._clock.monotonic() >= self._next_try

    @asynccontextmanager
    async def lock(self) -> AsyncGenerator[None]:
        """Hold the store's lock, or go on without it if that fails."""
        self.is_down = False
        self._next_try = self._clock.monotonic() + RETRY_SECONDS
        held = None
        try:
            with TimeLimit(self._clock, LONGEST_LOCK_WAIT) as limit:
                waiting = self._store.lock(self._key)
                await waiting.__aenter__()
                held = waiting
            if limit.cut_short:
                self._note(
                    StoreUnavailable(
                        f"waited {LONGEST_LOCK_WAIT:g} s for its lock: another client of the "
                        "account is still logging in, or its process is stopped; if it is "
                        "stopped, end it"
                    )
                )
        except Exception as error:
            self._note(error)
        try:
            yield
        finally:
            if held is not None:
                try:
                    await held.__aexit__(None, None, None)
                except Exception as error:
                    self._note(error)

    async def load(self) -> StoredToken | None:
        """Return the token in the store, or None; a store that is down isn't asked."""
        if self.is_down:
            return None
        try:
            stored = await self._store.load(self._key)
        except Exception as error:
            self._note(error)
            return None
        self.uptime.mark(True)
        return stored

    async def load_quickly(self) -> StoredToken | None:
        """Return the token in the store, or None, without the lock and without a long wait."""
        self.is_down = False
        with TimeLimit(self._clock, LONGEST_QUICK_LOAD):
            return await self.load()
        self._note(TimeoutError())
        return None

    async def save(self, token: StoredToken) -> None:
        """Save a token in the store; if that fails, set ``lacks_token``."""
        if self.is_down:
            self.lacks_token = True
            return
        try:
            await self._store.save(self._key, token)
        except Exception as error:
            self._note(error)
            return
        self.uptime.mark(True)
        if self.lacks_token:
            logger.info("the token store works again")
        self.lacks_token = False

    def _note(self, error: Exception) -> None:
        """Note an error of the store; log the first one until the store works again.

        Raises:
            ConfigurationError: If the error is one.
        """
        self.uptime.mark(False)
        if isinstance(error, ConfigurationError):
            raise error
        # Wrong content or missing permissions won't go away soon, so they aren't waited for.
        self.is_down = not isinstance(error, StoreUnavailable | ValueError)
        if not self.lacks_token:
            # The text of other errors may hold a token, or a URL with a password.
            ours = isinstance(error, StoreUnavailable)
            logger.warning(
                "the token store can't be used (%s); going on without it, and trying again later",
                error if ours else type(error).__name__,
            )
        self.lacks_token = True

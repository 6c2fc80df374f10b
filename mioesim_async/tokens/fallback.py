"""A token store that may be down: the work goes on without it."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from mioesim_async.clock import Clock, TimeLimit
from mioesim_async.errors import ConfigurationError
from mioesim_async.tokens.store import StoredToken, StoreUnavailable, TokenStore

__all__ = ["StoreFallback"]

logger = logging.getLogger("mioesim_async")

LOCK_PATIENCE = 60.0
"""Seconds to wait for the store's lock before going on without it. A store that can tell a
holder that is stopped from one that logs in ends the wait earlier."""

LOOK_PATIENCE = 2.0
"""Seconds that a look at the store may take before a remembered refusal is raised."""

TRY_AGAIN = 1.0
"""Seconds between two tries to bring a token to a store that was down."""


class StoreFallback:
    """One account's place in a store.

    A ``ConfigurationError`` of the store is raised; any other error is logged, and the store
    counts as one that has no token.

    Attributes:
        behind: The store lacks the token that is live, since it could not be used.
        is_down: The store could not be reached when it was last asked, and may be back soon.
    """

    def __init__(self, store: TokenStore, key: str, clock: Clock) -> None:
        """Name the account's place."""
        self.behind = False
        self.is_down = False
        self._store = store
        self._key = key
        self._clock = clock
        self._next_try = 0.0

    @property
    def may_catch_up(self) -> bool:
        """Whether it is time to try to bring the live token to the store."""
        return self.behind and self._clock.monotonic() >= self._next_try

    @asynccontextmanager
    async def lock(self) -> AsyncGenerator[None]:
        """Hold the store's lock, or go without it if it can't be had."""
        self.is_down = False
        self._next_try = self._clock.monotonic() + TRY_AGAIN
        held = None
        try:
            with TimeLimit(self._clock, LOCK_PATIENCE) as limit:
                waiting = self._store.lock(self._key)
                await waiting.__aenter__()
                held = waiting
            if limit.cut_short:
                self._note(
                    StoreUnavailable(
                        f"waited {LOCK_PATIENCE:g} s for its lock: another client of the account "
                        "has been logging in for so long, or is stopped; if it is, end it"
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
        """Return what the store has, or None; a store that is down isn't asked."""
        if self.is_down:
            return None
        try:
            return await self._store.load(self._key)
        except Exception as error:
            self._note(error)
            return None

    async def look(self) -> StoredToken | None:
        """Return what the store has, without its lock and without a long wait."""
        self.is_down = False
        with TimeLimit(self._clock, LOOK_PATIENCE):
            return await self.load()
        self._note(TimeoutError())
        return None

    async def save(self, token: StoredToken) -> None:
        """Bring a token to the store, now or when it is back."""
        if self.is_down:
            self.behind = True
            return
        try:
            await self._store.save(self._key, token)
        except Exception as error:
            self._note(error)
            return
        if self.behind:
            logger.info("the token store is back")
        self.behind = False

    def _note(self, error: Exception) -> None:
        """Say once, until it is back, that the store is down or corrupt.

        Raises:
            ConfigurationError: If the error is one.
        """
        if isinstance(error, ConfigurationError):
            raise error
        # What holds something else, or can't be used by this user, will be no better soon.
        self.is_down = not isinstance(error, StoreUnavailable | ValueError)
        if not self.behind:
            # The text of another error may hold what the store holds, or its address with a
            # password.
            ours = isinstance(error, StoreUnavailable)
            logger.warning(
                "the token store can't be used (%s); going on without it, and trying it again",
                error if ours else type(error).__name__,
            )
        self.behind = True

"""A token store that may be down: the work goes on without it."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from mioesim_async.tokens.store import StoredToken, TokenStore
from mioesim_async.transport.clock import Clock, TimeLimit

__all__ = ["Shelf"]

logger = logging.getLogger("mioesim_async")

LOCK_PATIENCE = 120.0
"""Seconds to wait for the store's lock, more than any login takes, before going without."""

TRY_AGAIN = 5.0
"""Seconds between two tries to bring a token to a store that was down."""


class Shelf:
    """One account's place in a store.

    Attributes:
        behind: The store lacks the token that is live, since it was down.
    """

    def __init__(self, store: TokenStore, key: str, clock: Clock) -> None:
        """Name the account's place."""
        self.behind = False
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
        held = None
        try:
            with TimeLimit(self._clock, LOCK_PATIENCE) as limit:
                waiting = self._store.lock(self._key)
                await waiting.__aenter__()
                held = waiting
            if limit.cut_short:
                self._note(TimeoutError())
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
        """Return what the store has, or None."""
        try:
            return await self._store.load(self._key)
        except Exception as error:
            self._note(error)
            return None

    async def save(self, token: StoredToken) -> None:
        """Bring a token to the store, now or when it is back."""
        self._next_try = self._clock.monotonic() + TRY_AGAIN
        try:
            await self._store.save(self._key, token)
        except Exception as error:
            self._note(error)
            return
        if self.behind:
            logger.info("the token store is back")
        self.behind = False

    def _note(self, error: Exception) -> None:
        """Say once, until it is back, that the store is down or corrupt."""
        if not self.behind:
            # The error's text may hold what the store holds, or its address with a password.
            logger.warning(
                "the token store can't be used (%s); going on without it, and trying it again",
                type(error).__name__,
            )
        self.behind = True

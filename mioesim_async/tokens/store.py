"""The protocol of token stores, and the one in memory."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from attrs import field, frozen

from mioesim_async.wire.dialect import Dialect

__all__ = ["MemoryTokenStore", "StoredToken", "TokenStore"]


@frozen
class StoredToken:
    """A token, and how to speak to the host that gave it.

    Attributes:
        token: The token. A secret, left out of ``repr``.
        obtained_at: When the login was answered, in seconds since the epoch (UTC).
        dialect: The dialect that was found, so that who takes the token from a store can sign.
    """

    token: str = field(repr=False)
    obtained_at: float
    dialect: Dialect


class TokenStore(Protocol):
    """Keeps one token per account, for every client that shares the store."""

    async def load(self, key: str) -> StoredToken | None:
        """Return the account's token, or None."""

    async def save(self, key: str, token: StoredToken) -> None:
        """Replace the account's token."""

    def lock(self, key: str) -> AbstractAsyncContextManager[None]:
        """Return a lock that one client at a time holds while it logs in."""
        ...


class MemoryTokenStore:
    """Tokens in this process, for clients of one event loop; the default.

    Give one store to several clients of an account and they share its token.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._tokens: dict[str, StoredToken] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def load(self, key: str) -> StoredToken | None:
        """Return the account's token, or None."""
        return self._tokens.get(key)

    async def save(self, key: str, token: StoredToken) -> None:
        """Replace the account's token."""
        self._tokens[key] = token

    def lock(self, key: str) -> asyncio.Lock:
        """Return the account's lock."""
        return self._locks.setdefault(key, asyncio.Lock())

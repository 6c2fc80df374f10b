"""The account's one valid token, and the stores that keep it."""

from mioesim_async.tokens.store import MemoryTokenStore, StoredToken, TokenStore

__all__ = ["MemoryTokenStore", "StoredToken", "TokenStore"]

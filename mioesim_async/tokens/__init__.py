"""Where the account's one live token is kept."""

from mioesim_async.tokens.store import MemoryTokenStore, StoredToken, TokenStore

__all__ = ["MemoryTokenStore", "StoredToken", "TokenStore"]

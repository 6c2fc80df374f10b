"""Which account a command works for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import platformdirs

from mioesim_async.client import MioEsimClient
from mioesim_async.journal.sqlite import OrderJournal
from mioesim_async.tokens.file import FileTokenStore

__all__ = ["client_for", "journal_path"]


def client_for(_profile: str | None = None, **arguments: Any) -> MioEsimClient:
    """Make a client that shares its token and its journal with other runs on this machine.

    Args:
        _profile: Name of a profile; None for the environment's account.
        **arguments: Of ``MioEsimClient``, which win.

    Raises:
        ConfigurationError: If no account is configured, or it can't work.
    """
    arguments.setdefault("order_journal", OrderJournal(journal_path()))
    if not os.environ.get("MIOESIM_TOKEN_STORE"):
        path = platformdirs.user_state_path("mioesim_async") / "tokens.json"
        arguments.setdefault("token_store", FileTokenStore(path))
    return MioEsimClient.from_env(**arguments)


def journal_path() -> Path:
    """Return where the journal of orders is."""
    return platformdirs.user_state_path("mioesim_async") / "orders.db"

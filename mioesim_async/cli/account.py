"""Which account a command works for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import platformdirs
from attrs import frozen
from cyclopts import Parameter

from mioesim_async.cli.profiles import default_profile, profiles_path, read_profile
from mioesim_async.cli.running import Flag
from mioesim_async.client import ENVIRONMENT, MioEsimClient
from mioesim_async.errors import ConfigurationError
from mioesim_async.tokens.file import FileTokenStore

__all__ = ["ACCOUNT", "AccountOptions", "client_for", "journal_path"]


@Parameter(name="*")
@frozen
class AccountOptions:
    """Which account, and how its host is reached.

    Attributes:
        profile: The account of this name in profiles.toml.
        proxy: URL of an HTTP proxy, such as http://proxy:3128; else MIOESIM_PROXY, else that of
            the profile.
        allow_insecure_http: Allow a host by http:// that is not this machine. Password, token
            and activation codes then travel in clear.
    """

    profile: str | None = None
    proxy: str | None = None
    allow_insecure_http: Annotated[bool, Flag] = False


ACCOUNT = AccountOptions()
"""The options, none of them given."""


def client_for(options: AccountOptions, **arguments: Any) -> MioEsimClient:
    """Make a client that shares its token and its journal with other runs on this machine.

    The account is that of the profile, else of the profile that ``MIOESIM_PROFILE`` names,
    else of the environment, else of the default profile. Token and journal keep accounts apart.

    Args:
        options: Which account.
        **arguments: Of ``MioEsimClient``, which win.

    Raises:
        ConfigurationError: If no account is configured, or it can't work.
    """
    if "order_journal" not in arguments:
        # SQLite takes as long to start as the smallest of the commands that need none.
        from mioesim_async.journal.sqlite import OrderJournal

        arguments["order_journal"] = OrderJournal(journal_path())
    if not os.environ.get("MIOESIM_TOKEN_STORE"):
        path = platformdirs.user_state_path("mioesim_async") / "tokens.json"
        arguments.setdefault("token_store", FileTokenStore(path))
    proxy = options.proxy
    if (name := _chosen(options.profile)) is not None:
        profile = read_profile(name)
        # All of it, so that nothing of the environment's account gets mixed in.
        arguments.setdefault("credentials", profile.credentials)
        arguments.setdefault("base_url", profile.base_url)
        arguments.setdefault("account", profile.account)
        arguments.setdefault("dialect", profile.dialect)
        arguments.setdefault("allow_insecure_http", profile.allow_insecure_http)
        proxy = proxy or os.environ.get("MIOESIM_PROXY") or profile.proxy
    if options.allow_insecure_http:
        arguments["allow_insecure_http"] = True
    if proxy is not None:
        arguments["proxy"] = proxy
    return MioEsimClient.from_env(**arguments)


def journal_path() -> Path:
    """Return where the journal of orders is."""
    return platformdirs.user_state_path("mioesim_async") / "orders.db"


def _chosen(profile: str | None) -> str | None:
    if profile is not None and not profile.strip():
        # Most likely a variable of the shell that is not set: any other account is the wrong one.
        raise ConfigurationError("--profile has no name; name an account, or leave it out")
    name = profile or os.environ.get("MIOESIM_PROFILE")
    if name or any(os.environ.get(variable) for variable in ENVIRONMENT.values()):
        return name
    if (default := default_profile()) is None:
        raise ConfigurationError(
            f"no account: set the environment variables {', '.join(ENVIRONMENT.values())}, or "
            f"describe accounts in {profiles_path()} and choose one with --profile"
        )
    return default

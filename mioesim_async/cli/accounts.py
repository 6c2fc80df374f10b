"""Which account a command works for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

from attrs import frozen
from cyclopts import Parameter

from mioesim_async.cli.exit_status import NOT_LOGGED_IN, EndedEarly
from mioesim_async.cli.running import AboveZero, Flag
from mioesim_async.config import ENVIRONMENT, Timeouts
from mioesim_async.errors import ConfigurationError, MioEsimError
from mioesim_async.profiles import default_profile, profiles_path
from mioesim_async.transport.failures import meaning_of

if TYPE_CHECKING:
    from typing import Unpack

    from mioesim_async.client import ClientOptions, MioEsimClient

__all__ = ["ACCOUNT", "AccountOptions", "client_for", "logged_in"]


@Parameter(name="*")
@frozen
class AccountOptions:
    """Which account to use, and how to reach its host.

    Attributes:
        profile: Name of the account in profiles.toml.
        proxy: URL of an HTTP proxy, such as http://proxy:3128. Without it, MIOESIM_PROXY or the
            profile's proxy is used.
        timeout: Seconds that the host may be silent. A whole reply may take twice as long.
        allow_insecure_http: Allow an http:// host other than this machine. Password, token and
            activation codes are then sent unencrypted.
    """

    profile: str | None = None
    proxy: str | None = None
    timeout: Annotated[float | None, AboveZero] = None
    allow_insecure_http: Annotated[bool, Flag] = False


ACCOUNT = AccountOptions()
"""The options if none is given."""


def client_for(options: AccountOptions, **arguments: Unpack[ClientOptions]) -> MioEsimClient:
    """Make a client that shares its token and its journal with other runs.

    The account comes from ``options.profile``, else from the profile that ``MIOESIM_PROFILE``
    names, else from the environment, else from the default profile. Token store and journal keep
    accounts apart.

    Args:
        options: Which account.
        **arguments: Arguments of ``MioEsimClient``; they override everything else.

    Raises:
        ConfigurationError: If no account is configured, or one of its settings can't work.
    """
    # Imported late: it takes longer to import than all that a command needs for its help.
    from mioesim_async.client import MioEsimClient, with_shared_files

    if options.timeout is not None:
        arguments["timeouts"] = Timeouts(read=options.timeout, attempt=2 * options.timeout)
    if options.allow_insecure_http:
        arguments["allow_insecure_http"] = True
    if options.proxy is not None:
        arguments["proxy"] = options.proxy
    if (name := _chosen(options.profile)) is None:
        return MioEsimClient.from_env(**with_shared_files(arguments))
    return MioEsimClient.from_profile(name, **arguments)


async def logged_in(client: MioEsimClient) -> None:
    """Log in, before the command sends anything else.

    Raises:
        EndedEarly: If the login failed, for any reason.
        ConfigurationError: If a setting can't work.
    """
    try:
        await client.login()
    except ConfigurationError:
        raise
    except MioEsimError as error:
        status = meaning_of(error).exit_status
        what = "not logged in" if status == NOT_LOGGED_IN else "can't log in"
        raise EndedEarly(status, f"{what}: {error}") from None


def _chosen(profile: str | None) -> str | None:
    if profile is not None and not profile.strip():
        # Most likely an unset shell variable. Any other account would be the wrong one.
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

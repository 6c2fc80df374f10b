"""Which account a command works for."""

from __future__ import annotations

import os
import shlex
import signal
import stat
import subprocess
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import platformdirs
from attrs import field, frozen
from cyclopts import Parameter

from mioesim_async.cli.exit_status import NOT_LOGGED_IN, EndedEarly
from mioesim_async.cli.running import AboveZero, Flag
from mioesim_async.config import DEFAULT_BASE_URL, ENVIRONMENT, Credentials, Timeouts
from mioesim_async.errors import ConfigurationError, MioEsimError
from mioesim_async.journal.place import journal_at
from mioesim_async.transport.failures import meaning_of
from mioesim_async.wire.dialect import Dialect

if TYPE_CHECKING:
    from mioesim_async.client import MioEsimClient

__all__ = [
    "ACCOUNT",
    "AccountOptions",
    "Profile",
    "client_for",
    "default_profile",
    "journal_path",
    "logged_in",
    "profiles_path",
    "read_profile",
]


COMMAND_SECONDS = 30.0
"""How long a ``password_command`` may take; it may ask a person for a passphrase."""

ROOT = 0
SECRETS = ("password", "secret_key")
PLAIN = ("base_url", "account", "proxy", "order_journal", "order_journal_env")
FLAGS = ("allow_insecure_http",)
DIALECT = ("signature", "login_encoding", "read_method", "batch_parameter")


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


def client_for(options: AccountOptions, **arguments: Any) -> MioEsimClient:
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
    # Imported late: they take longer to import than all that a command needs for its help.
    from mioesim_async.client import MioEsimClient
    from mioesim_async.tokens.file import FileTokenStore

    if not os.environ.get("MIOESIM_TOKEN_STORE"):
        path = platformdirs.user_state_path("mioesim_async") / "tokens.json"
        arguments.setdefault("token_store", FileTokenStore(path))
    if options.timeout is not None:
        arguments["timeouts"] = Timeouts(read=options.timeout, attempt=2 * options.timeout)
    proxy = options.proxy
    if (name := _chosen(options.profile)) is not None:
        profile = read_profile(name)
        # All settings of the profile, so that none comes from the environment's account.
        arguments.setdefault("credentials", profile.credentials)
        arguments.setdefault("base_url", profile.base_url)
        arguments.setdefault("account", profile.account)
        arguments.setdefault("dialect", profile.dialect)
        arguments.setdefault("allow_insecure_http", profile.allow_insecure_http)
        if profile.order_journal is not None and "order_journal" not in arguments:
            setting = f"order_journal of profile {name!r}"
            arguments["order_journal"] = journal_at(profile.order_journal, setting)
        proxy = proxy or os.environ.get("MIOESIM_PROXY") or profile.proxy
    if "order_journal" not in arguments and not os.environ.get("MIOESIM_ORDER_JOURNAL"):
        arguments["order_journal"] = journal_at(str(journal_path()), "the user's state directory")
    if options.allow_insecure_http:
        arguments["allow_insecure_http"] = True
    if proxy is not None:
        arguments["proxy"] = proxy
    return MioEsimClient.from_env(**arguments)


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


def journal_path() -> Path:
    """Return the path of the order journal, if neither environment nor profile names another."""
    return platformdirs.user_state_path("mioesim_async") / "orders.db"


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


@frozen
class Profile:
    """One account of profiles.toml.

    Attributes:
        credentials: Phone number, password and secret key.
        base_url: The host.
        account: Label of the account in token store and journal, or None.
        proxy: URL of an HTTP proxy, or None. Left out of ``repr``: it may hold a password.
        order_journal: Path or ``postgresql://`` URL of the order journal, or None. Left out of
            ``repr``: it may hold a password.
        allow_insecure_http: Allow ``http://`` to another machine.
        dialect: The settings of ``Dialect`` that the profile names.
    """

    credentials: Credentials
    base_url: str
    account: str | None
    proxy: str | None = field(repr=False)
    order_journal: str | None = field(repr=False)
    allow_insecure_http: bool
    dialect: Dialect


def profiles_path() -> Path:
    """Return the path of profiles.toml: ``MIOESIM_PROFILES``, else in the user's config folder."""
    named = os.environ.get("MIOESIM_PROFILES")
    if named:
        return Path(named).expanduser()
    return platformdirs.user_config_path("mioesim_async") / "profiles.toml"


def default_profile() -> str | None:
    """Return the name of the default profile, or None.

    Raises:
        ConfigurationError: If the file is there and can't be used.
    """
    path = profiles_path()
    return _read(path).get("default") if path.is_file() else None


def read_profile(name: str) -> Profile:
    """Read one profile, and fetch its secrets from the environment or from commands.

    Raises:
        ConfigurationError: If there is no such profile, or it can't be used. No message
            repeats a value of the file.
    """
    path = profiles_path()
    if not path.is_file():
        raise ConfigurationError(f"there is no profile {name!r}, since there is no file {path}")
    profiles = _read(path).get("profiles", {})
    if name not in profiles:
        known = ", ".join(profiles) or "none"
        raise ConfigurationError(f"there is no profile {name!r} in {path}; it has: {known}")
    at = f"profile {name!r} in {path}"
    row, flags = _checked(profiles[name], at)
    if "phone_number" not in row:
        raise ConfigurationError(f"{at} has no phone_number")
    secrets = {secret: _secret(secret, row, at) for secret in SECRETS}
    spoken: dict[str, Any] = {key: row[key] for key in DIALECT if key in row}
    try:
        dialect = Dialect(**spoken)
    except ValueError as error:
        raise ConfigurationError(f"{at}: {error.args[0].partition(' (got')[0]}") from None
    return Profile(
        Credentials(row["phone_number"], **secrets),
        row.get("base_url", DEFAULT_BASE_URL),
        row.get("account"),
        row.get("proxy"),
        _journal_of(row, at),
        flags.get("allow_insecure_http", False),
        dialect,
    )


def _read(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        if os.name == "posix":
            _check_access(path, found)
        try:
            document = tomllib.load(file)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{path} is not TOML: {error}") from None
    _refuse_unknown(document, ("default", "profiles"), str(path))
    profiles = document.get("profiles", {})
    if not isinstance(profiles, dict) or not isinstance(document.get("default", ""), str):
        raise ConfigurationError(
            f"{path} must have [profiles.NAME] tables, and may have default = 'NAME'"
        )
    return document


def _check_access(path: Path, found: os.stat_result) -> None:
    """Refuse a file that other users can read, or that another user owns."""
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise ConfigurationError(
            f"other users may read {path}, which holds secrets; "
            f"run: chmod 600 {shlex.quote(str(path))}"
        )
    if found.st_uid not in (os.getuid(), ROOT):
        raise ConfigurationError(
            f"{path} belongs to another user (id {found.st_uid}), who may have put a command or "
            f"a host of theirs in it; look at it, then run: chown $(id -u) {shlex.quote(str(path))}"
        )


def _checked(row: Any, at: str) -> tuple[dict[str, str], dict[str, bool]]:
    if not isinstance(row, dict):
        raise ConfigurationError(f"{at} must be a table")
    ways = [secret + way for secret in SECRETS for way in SECRET_READERS]
    _refuse_unknown(row, ("phone_number", *PLAIN, *ways, *DIALECT, *FLAGS), at)
    texts = {key: value for key, value in row.items() if key not in FLAGS}
    if wrong := [key for key, value in texts.items() if not isinstance(value, str) or not value]:
        raise ConfigurationError(f"{at}: {', '.join(wrong)} must be text and not empty")
    flags = {key: value for key, value in row.items() if key in FLAGS}
    if wrong := [key for key, value in flags.items() if not isinstance(value, bool)]:
        raise ConfigurationError(f"{at}: {', '.join(wrong)} must be true or false, without quotes")
    return texts, flags


def _refuse_unknown(table: Mapping[str, Any], known: tuple[str, ...], at: str) -> None:
    if unknown := [key for key in table if key not in known]:
        raise ConfigurationError(
            f"{at} has unknown keys: {', '.join(unknown)}; known are {', '.join(known)}"
        )


def _journal_of(row: Mapping[str, str], at: str) -> str | None:
    if "order_journal_env" not in row:
        return row.get("order_journal")
    if "order_journal" in row:
        raise ConfigurationError(f"{at} has order_journal and order_journal_env; it needs one")
    return _from_environment(row["order_journal_env"], f"order_journal_env of {at}")


def _secret(secret: str, row: Mapping[str, str], at: str) -> str:
    given = [secret + way for way in SECRET_READERS if secret + way in row]
    if len(given) != 1:
        found = f"has {' and '.join(given)}" if given else f"has no {secret}"
        choices = ", ".join(secret + way for way in SECRET_READERS)
        raise ConfigurationError(f"{at} {found}; it needs one of {choices}")
    (key,) = given
    return SECRET_READERS[key.removeprefix(secret)](row[key], f"{key} of {at}")


def _from_environment(name: str, at: str) -> str:
    value = os.environ.get(name)
    if not value:
        # The name is not repeated: the user may have written the secret itself here.
        raise ConfigurationError(f"{at} names an environment variable that is not set")
    return value


def _from_command(command: str, at: str) -> str:
    if not command.strip():
        raise ConfigurationError(f"{at} names no command")
    try:
        done = subprocess.run(  # noqa: S603 - running what the user's own file says is the feature
            shlex.split(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        printed = done.stdout.decode().strip()
    except subprocess.TimeoutExpired:
        reason = f"did not end within {COMMAND_SECONDS:g} seconds"
    except UnicodeDecodeError:
        reason = "printed something that is not UTF-8 text"
    except OSError as error:
        reason = f"can't be run: {error.strerror}"
    except ValueError:
        reason = "can't be split into words; check its quotes"
    else:
        if done.returncode in (-signal.SIGINT, 128 + signal.SIGINT):
            raise KeyboardInterrupt
        if done.returncode == 0 and printed and "\n" not in printed:
            return printed
        reason = f"failed with status {done.returncode}; run it by hand to see why"
        if done.returncode == 0:
            reason = "must print the secret on one line, and nothing else"
    raise ConfigurationError(f"{at} {reason}") from None


SECRET_READERS: Mapping[str, Callable[[str, str], str]] = {
    "": lambda value, _: value,
    "_env": _from_environment,
    "_command": _from_command,
}
"""How to get a secret, by the ending of its key in the profile."""

"""Accounts that a file describes, by name: profiles.toml."""

from __future__ import annotations

import os
import shlex
import signal
import stat
import subprocess
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen

from mioesim_async.config import DEFAULT_BASE_URL, Credentials
from mioesim_async.errors import ConfigurationError
from mioesim_async.wire.dialect import Dialect

__all__ = [
    "Profile",
    "default_profile",
    "journal_path",
    "profiles_path",
    "read_profile",
    "token_path",
]

COMMAND_SECONDS = 30.0
"""How long a ``password_command`` may take; it may ask a person for a passphrase."""

ROOT = 0
SECRETS = ("password", "secret_key")
PLAIN = ("base_url", "account", "proxy", "order_journal", "order_journal_env")
FLAGS = ("allow_insecure_http",)
DIALECT = ("signature", "login_encoding", "read_method", "batch_parameter")


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
    return _user_folder("config", "MIOESIM_PROFILES") / "profiles.toml"


def token_path() -> Path:
    """Return the token file of this user's programs, if ``MIOESIM_TOKEN_STORE`` names no other."""
    return _user_folder("state", "MIOESIM_TOKEN_STORE") / "tokens.json"


def journal_path() -> Path:
    """Return the order journal, if neither environment nor profile names another."""
    return _user_folder("state", "MIOESIM_ORDER_JOURNAL") / "orders.db"


def _user_folder(kind: str, variable: str) -> Path:
    try:
        import platformdirs  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise ConfigurationError(
            f"platformdirs is missing; set {variable} to a path, or install it with: "
            "pip install 'mioesim_async[cli]'"
        ) from None
    folders = {"config": platformdirs.user_config_path, "state": platformdirs.user_state_path}
    return folders[kind]("mioesim_async")


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

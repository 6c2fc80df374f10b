"""Keys of accounts: one key for each phone number at a host.

A key is ``<digest of the phone number>@<label>``. The label is the host and port of the base URL
in one normal form, or a name that the user chose.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable
from contextlib import suppress
from urllib.parse import urlsplit

from mioesim_async.errors import ConfigurationError

__all__ = ["account_key", "check_label", "is_loopback", "label_of_host", "other_labels"]

LOOPBACK = "localhost"
DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_LABEL = 200


def label_of_host(base_url: str) -> str:
    """Return the label of a base URL: its host, and its port unless that is the scheme's default.

    Scheme and path are left out. All loopback names and addresses give ``localhost``.
    """
    parts = urlsplit(base_url)
    host = _plain_host(parts.hostname or "")
    port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    if port == DEFAULT_PORTS.get(parts.scheme):
        return host
    return f"{host}:{port}"


def is_loopback(base_url: str) -> bool:
    """Tell whether a base URL is on loopback: this machine itself."""
    return _plain_host(urlsplit(base_url).hostname or "") == LOOPBACK


def check_label(label: object) -> str:
    """Return the label that a user gave to an account, without blanks around it.

    Raises:
        ConfigurationError: If it is blank, too long, or not text that can be shown in one line.
    """
    if not isinstance(label, str) or not label.strip() or not label.isprintable():
        raise ConfigurationError("account must be text that is not blank, such as 'main'")
    if len(label) > MAX_LABEL:
        raise ConfigurationError(f"account must have at most {MAX_LABEL} characters")
    return label.strip()


def account_key(phone_number: str, label: str) -> str:
    """Return an account's key for token stores and journals; it doesn't show the phone number."""
    return f"{hashlib.sha256(phone_number.encode()).hexdigest()[:32]}@{label}"


def other_labels(known: Iterable[str], account: str) -> list[str]:
    """Return the other labels of an account's phone number.

    Loopback labels are left out, since they belong to sandboxes.

    Args:
        known: Keys of all known accounts.
        account: The account's key.
    """
    phone = account.partition("@")[0]
    parts = [key.partition("@") for key in {*known} - {account}]
    labels = [label for digest, _, label in parts if digest == phone]
    return sorted(label for label in labels if label.partition(":")[0] != LOOPBACK)


def _plain_host(host: str) -> str:
    name = host.rstrip(".").lower()
    with suppress(ValueError):
        address = ipaddress.ip_address(name)
        mapped = getattr(address, "ipv4_mapped", None) or address
        if mapped.is_loopback or mapped.is_unspecified:
            return LOOPBACK
        return f"[{address}]" if address.version == 6 else name
    with suppress(UnicodeError):
        name = name.encode("idna").decode()
    return LOOPBACK if name == LOOPBACK or name.endswith(f".{LOOPBACK}") else name

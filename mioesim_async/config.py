"""Settings of the client, as frozen attrs classes."""

from __future__ import annotations

import ipaddress
import math
import re
from typing import Any
from urllib.parse import urlsplit

from attrs import Attribute, field, frozen

from mioesim_async.errors import ConfigurationError
from mioesim_async.wire.account import is_loopback
from mioesim_async.wire.signing import is_unicode
from mioesim_async.wording import worded

__all__ = ["Credentials", "PoolLimits", "RetryPolicy", "Timeouts", "clean_base_url"]

DEFAULT_BASE_URL = "https://bpm.mioesim.com"

ENVIRONMENT = {
    "phone_number": "MIOESIM_PHONE_NUMBER",
    "password": "MIOESIM_PASSWORD",
    "secret_key": "MIOESIM_SECRET_KEY",
}
DEFAULT_PORTS = {"https": ":443", "http": ":80"}


def _text(_: Any, attribute: Attribute[str], value: object) -> None:
    # The message must not contain the value, which may be a secret.
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{attribute.name} must be text and not empty")
    if not is_unicode(value):
        raise ConfigurationError(f"{attribute.name} holds characters that are not valid Unicode")


def _seconds(_: Any, attribute: Attribute[float], value: float) -> None:
    if not _is_number(value) or value <= 0:
        raise ConfigurationError(f"{attribute.name} must be more than 0 seconds, not {value!r}")


def _not_negative(_: Any, attribute: Attribute[float], value: float) -> None:
    if not _is_number(value) or value < 0:
        raise ConfigurationError(f"{attribute.name} must be 0 or more, not {value!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _positive_int(_: Any, attribute: Attribute[int], value: int) -> None:
    _check_int(attribute.name, value, 1)


def _not_negative_int(_: Any, attribute: Attribute[int], value: int) -> None:
    _check_int(attribute.name, value, 0)


def _check_int(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigurationError(f"{name} must be a whole number of {least} or more, not {value!r}")


@frozen
class Credentials:
    """One account of the vendor.

    Attributes:
        phone_number: The account's user name.
        password: Its password. Left out of ``repr``.
        secret_key: The key that signs requests. Left out of ``repr``.
    """

    phone_number: str = field(validator=_text)
    password: str = field(validator=_text, repr=False)
    secret_key: str = field(validator=_text, repr=False)


@frozen
class PoolLimits:
    """Limits of the connection pool.

    Attributes:
        total: Maximum of connections.
        per_host: Maximum of connections to one host; 0 for no separate limit.
        keepalive: Seconds that an idle connection is kept.
        dns_ttl: Seconds that a DNS answer is kept.
    """

    total: int = field(default=100, validator=_positive_int)
    per_host: int = field(default=0, validator=_not_negative_int)
    keepalive: float = field(default=12.0, validator=_seconds)
    dns_ttl: float = field(default=300.0, validator=_not_negative)


@frozen
class Timeouts:
    """Limits of one attempt, in seconds. Waiting for a free connection does not count.

    Attributes:
        connect: For the TCP and TLS handshakes.
        read: Until all headers of the reply have come, and between two pieces of its body. The
            limit may be exceeded by up to an eighth.
        attempt: For the whole attempt, once it has a connection.
        money: Used in place of ``read`` and ``attempt`` for orders, renewals and refunds.
    """

    connect: float = field(default=10.0, validator=_seconds)
    read: float = field(default=30.0, validator=_seconds)
    attempt: float = field(default=60.0, validator=_seconds)
    money: float = field(default=120.0, validator=_seconds)


@frozen
class RetryPolicy:
    """How often and how soon a failed read is tried again.

    Attributes:
        max_attempts: Maximum of attempts of one call, including the first.
        base_delay: Longest wait before the second attempt, in seconds; doubles each time.
        max_delay: Longest wait, in seconds, unless the host asks for a longer one.
        max_retry_after: Longest wait that the host may ask for, in seconds. If it asks for
            more, the call raises ``RateLimited``.
    """

    max_attempts: int = field(default=4, validator=_positive_int)
    base_delay: float = field(default=0.5, validator=_not_negative)
    max_delay: float = field(default=8.0, validator=_not_negative)
    max_retry_after: float = field(default=60.0, validator=_not_negative)


NUMERIC = re.compile(r"[0-9.]+")


def clean_base_url(base_url: str, *, allow_insecure_http: bool = False) -> str:
    """Check a base URL and drop its trailing slash.

    Args:
        base_url: The URL.
        allow_insecure_http: Allow ``http://`` also for other machines.

    Raises:
        ConfigurationError: If it is not ``http(s)://host[:port][/path]``, or not encrypted.
    """
    try:
        parts = urlsplit(base_url)
        _ = parts.port
    except (ValueError, AttributeError, TypeError):
        parts = None
    plain = parts is not None and not (
        parts.query or parts.fragment or parts.username or parts.password
    )
    if parts is None or not plain or parts.scheme not in ("http", "https") or not parts.hostname:
        # The message must not contain the URL, which may hold a password.
        raise ConfigurationError(
            "base_url must look like https://host or http://host:port, "
            "without user name, query and fragment"
        )
    if NUMERIC.fullmatch(parts.hostname):
        try:
            ipaddress.IPv4Address(parts.hostname)
        except ValueError:
            # aiohttp would refuse it too, but only at the first request.
            raise ConfigurationError(
                "base_url has an IP address that is not valid; write it like 127.0.0.1"
            ) from None
    if parts.scheme == "http" and not (allow_insecure_http or is_loopback(base_url)):
        raise ConfigurationError(
            "base_url is plain http:// to another machine, so password, token and activation codes "
            "would be sent unencrypted; use https://, or "
            f"{worded('pass allow_insecure_http=True')} if the network is safe"
        )
    host = parts.netloc.lower().removesuffix(DEFAULT_PORTS[parts.scheme])
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}"

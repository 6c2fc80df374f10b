"""Settings for details on which the vendor's documentation contradicts itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

from attrs import evolve, field, frozen, validators

from mioesim_async.wording import worded

__all__ = ["Dialect", "LoginEncoding", "ReadMethod", "SignatureScheme", "setting"]

SignatureScheme = Literal["plain", "encoded"]
LoginEncoding = Literal["form", "query", "json"]
ReadMethod = Literal["GET", "POST"]

SCHEMES: tuple[SignatureScheme, ...] = get_args(SignatureScheme)
LOGIN_ENCODINGS: tuple[LoginEncoding, ...] = get_args(LoginEncoding)
READ_METHODS: tuple[ReadMethod, ...] = get_args(ReadMethod)


@frozen
class Dialect:
    """How one deployment of the API expects requests.

    The vendor publishes two signature schemes and three ways to log in, and doesn't say which
    host uses which. With ``None``, the client finds out by trying, where that is harmless.

    Attributes:
        signature: ``plain`` (documented in prose: MD5 of the joined string, lower-case
            hex) or ``encoded`` (published in the Python sample: percent-encoded first,
            upper-case hex). The client finds it out at login.
        login_encoding: How login is sent: as a POSTed ``form`` (observed), a GET with a
            ``query`` string, or POSTed ``json`` (both documented). The client finds it out at
            login.
        read_method: ``GET`` as documented, or ``POST`` (observed to work everywhere; it keeps
            token and signature out of URLs). The client finds it out at the first read.
        batch_parameter: Name of the parameter of ``queryIccidInformation`` that takes the
            ICCIDs. Assumed; the client can't find it out.
    """

    signature: SignatureScheme | None = field(
        default=None, validator=validators.optional(validators.in_(SCHEMES))
    )
    login_encoding: LoginEncoding | None = field(
        default=None, validator=validators.optional(validators.in_(LOGIN_ENCODINGS))
    )
    read_method: ReadMethod | None = field(
        default=None, validator=validators.optional(validators.in_(READ_METHODS))
    )
    batch_parameter: str = field(default="iccids", validator=validators.min_len(1))

    def login_variants(self) -> Iterator[Dialect]:
        """Yield every way to log in that these settings allow, the likeliest first."""
        encodings = (self.login_encoding,) if self.login_encoding else LOGIN_ENCODINGS
        schemes = (self.signature,) if self.signature else SCHEMES
        for encoding in encodings:
            for scheme in schemes:
                yield evolve(self, signature=scheme, login_encoding=encoding)


def setting(name: str, value: str = "...") -> str:
    """Return the text that names a setting in a message, such as ``Dialect(signature=...)``."""
    return worded("Dialect({name}={value})", name=name, value=value)

"""What the vendor's pages contradict, as data."""

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
    """How one deployment of the API wants to be spoken to.

    The vendor publishes two signature schemes and three ways to log in, and nothing
    says which is right where. ``None`` means: find out, where trying is harmless.

    Attributes:
        signature: ``plain`` (documented in prose: MD5 of the joined string, lower-case
            hex) or ``encoded`` (published in the Python sample: percent-encoded first,
            upper-case hex). Found out at login.
        login_encoding: Login as a POSTed ``form`` (observed), a GET with a ``query``
            string or POSTed ``json`` (both documented). Found out at login.
        read_method: ``GET`` as documented, or ``POST`` (observed to work everywhere,
            and it keeps token and signature out of URLs). Found out at the first read.
        batch_parameter: Name of the parameter of ``queryIccidInformation`` that takes
            the ICCIDs. Assumed; it cannot be found out.
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
        """Yield each fully decided way to log in, the likeliest first."""
        encodings = (self.login_encoding,) if self.login_encoding else LOGIN_ENCODINGS
        schemes = (self.signature,) if self.signature else SCHEMES
        for encoding in encodings:
            for scheme in schemes:
                yield evolve(self, signature=scheme, login_encoding=encoding)


def setting(name: str, value: str = "...") -> str:
    """Write a setting of the dialect as a message names it."""
    return worded("Dialect({name}={value})", name=name, value=value)

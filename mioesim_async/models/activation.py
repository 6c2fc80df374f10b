"""Activation codes: what a phone needs to download an eSIM profile."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from attrs import Attribute, define, field
from attrs.validators import optional

from mioesim_async.errors import ConfigurationError, InvalidRequest
from mioesim_async.models.hiding import HIDDEN

if TYPE_CHECKING:
    from segno import QRCode

__all__ = ["ActivationCode", "InstallLinks", "trimmed"]

QUIET_ZONE = 4
"""Modules of white around a QR code, as the standard requires."""

MAX_QR_BYTES = 2331
"""Bytes in the largest QR code with error correction M (ISO/IEC 18004)."""

MAX_SCALE = 100
"""Pixels in a module; a usual code is then 4,900 pixels wide."""

SVG_OPTIONS: dict[str, Any] = {"xmldecl": False, "nl": False, "svgclass": None, "lineclass": None}
"""No XML declaration and no classes, so that a page's styles don't change the SVG element."""

WHITE_ON_BLACK, RESET = "\x1b[38;5;231;48;5;16m", "\x1b[0m"
"""Two of the 256 ANSI colours, since terminal themes change the first 16."""

IOS_LINK = "https://esimsetup.apple.com/esim_qrcode_provisioning?carddata="
ANDROID_LINK = "https://esimsetup.android.com/esim_qrcode_provisioning?carddata="

FIELD = re.compile(r"[!-#%-~]*")
INVISIBLE = "\u200b\u200e\u200f\u2060\ufeff"
"""Invisible marks that come with pasted text, and the byte order mark of a file."""

TRIMMED = "".join(filter(str.isspace, map(chr, range(0x3001)))) + INVISIBLE

RULES = {
    "smdp_address": (re.compile(r"[A-Za-z0-9._:-]+"), "the SM-DP+ address", "a host name"),
    "matching_id": (FIELD, "the matching id", "printable ASCII without spaces and '$'"),
    "oid": (re.compile(r"[0-9]+(\.[0-9]+)*"), "the OID", "numbers with dots"),
    "more": (FIELD, "a later field", "printable ASCII without spaces and '$'"),
}


def trimmed(text: str) -> str:
    """Remove white space and invisible marks from both ends of a text."""
    return text.strip(TRIMMED)


def _check(_: object, attribute: Attribute[Any], value: Any) -> None:
    pattern, what, rule = RULES[attribute.name]
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"{what} of an activation code is {rule}")


def _check_more(made: object, attribute: Attribute[Any], value: Any) -> None:
    if not isinstance(value, tuple):
        raise ValueError("the later fields of an activation code are a tuple of text")
    for text in value:
        _check(made, attribute, text)


def _check_flag(_: object, attribute: Attribute[Any], value: Any) -> None:
    if type(value) is not bool:
        raise ValueError(f"{attribute.name} of an activation code is True or False")


def _check_scale(scale: Any, kinds: type | tuple[type, ...]) -> None:
    is_one = isinstance(scale, kinds) and type(scale) is not bool
    if not (is_one and 0 < scale <= MAX_SCALE):
        raise InvalidRequest(
            f"the scale must be a number above 0 and up to {MAX_SCALE}; for PNG, a whole number"
        )


@define
class InstallLinks:
    """Links that start the installation when the user taps them on the phone itself.

    Each link contains the whole activation code, so ``repr`` is masked. Always offer the QR code
    or the fields for manual entry too, since a link doesn't work on every phone.

    Attributes:
        ios: For iPhones with iOS 17.4 or later (observed; one seller says 17.5). Older iPhones
            open a page that doesn't install anything.
        android: For Android (observed, not documented). Some makers' phones start the
            installation, others show an empty page.
    """

    ios: str = field(repr=lambda _: "***", metadata=HIDDEN)
    android: str = field(repr=lambda _: "***", metadata=HIDDEN)


@define(repr=False)
class ActivationCode:
    """One activation code, in the format of GSMA SGP.22 section 4.1.

    Anyone who has the code can use the eSIM, so ``repr`` is masked; ``str()`` returns the whole
    code, with the ``LPA:`` prefix. The constructor raises ``ValueError`` for a code that no phone
    could read; the message does not contain the code.

    The ``qr_...`` methods need the extra ``qr``, and raise ``ConfigurationError`` without
    it. They draw ``str()`` as a QR code with error correction M and a quiet zone of 4 modules.
    They raise ``InvalidRequest``, which is a ``ValueError`` too, for a code of more than 2,331
    characters. Drawing takes some milliseconds of the processor: on an event loop, use
    ``await asyncio.to_thread(code.qr_svg)``.

    Attributes:
        smdp_address: Host name of the SM-DP+ server.
        matching_id: Identifies the profile on that server; may be empty.
        oid: Object identifier of the SM-DP+ server, or None.
        confirmation_required: Whether the user must type a confirmation code.
        more: Fields of later versions of the format, as they came.
    """

    smdp_address: str = field(validator=_check)
    matching_id: str = field(default="", validator=_check)
    oid: str | None = field(default=None, validator=optional(_check))
    confirmation_required: bool = field(default=False, validator=_check_flag)
    more: tuple[str, ...] = field(default=(), validator=_check_more)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``LPA:1$SM-DP+$MatchingID[$OID][$1]``.

        The prefix may be missing, or in lower case. White space and invisible marks around the
        text are removed.

        Raises:
            ValueError: If the text is not an activation code; the message does not contain it.
        """
        code = trimmed(text)
        if code[:4].upper() == "LPA:":
            code = code[4:].lstrip()
        version, *parts = code.split("$")
        if version != "1":
            raise ValueError("an activation code starts with '1$', after an optional 'LPA:'")
        if len(parts) < 2:
            raise ValueError("an activation code has an address and a matching id after '1$'")
        address, matching_id, *rest = map(str.strip, parts)
        oid, flag, *more = [*rest, "", ""][: max(2, len(rest))]
        if flag not in ("", "1"):
            raise ValueError("the confirmation flag of an activation code is '1' or absent")
        return cls(address, matching_id, oid or None, flag == "1", tuple(more))

    def install_links(self) -> InstallLinks:
        """Return the links for iOS and Android; see ``InstallLinks`` for their limits."""
        data = quote(str(self), safe="")
        return InstallLinks(IOS_LINK + data, ANDROID_LINK + data)

    def qr_svg(self, *, scale: float = 4) -> str:
        """Return the QR code as an SVG element, for a page or for a separate file.

        The code is black on white, on a page of any colours.

        Args:
            scale: Pixels (user units) in a module.

        Raises:
            ConfigurationError: If the extra ``qr`` is not installed.
            InvalidRequest: If the scale is not above 0 and up to 100, or the code too long.
        """
        _check_scale(scale, (int, float))
        image, qr = io.BytesIO(), self._qr()
        qr.save(image, kind="svg", scale=scale, border=QUIET_ZONE, light="#fff", **SVG_OPTIONS)
        width, height = qr.symbol_size(scale, QUIET_ZONE)
        # With a view box, a page with less room scales the code and doesn't cut it off.
        view = f'<svg viewBox="0 0 {width} {height}" '
        return image.getvalue().decode().replace("<svg ", view, 1)

    def qr_png(self, *, scale: int = 8) -> bytes:
        """Return the QR code as a PNG image, black on white.

        Args:
            scale: Pixels in a module.

        Raises:
            ConfigurationError: If the extra ``qr`` is not installed.
            InvalidRequest: If the scale is not above 0 and up to 100, or the code too long.
        """
        _check_scale(scale, int)
        image = io.BytesIO()
        self._qr().save(image, kind="png", scale=scale, border=QUIET_ZONE)
        return image.getvalue()

    def qr_terminal(self, *, color: bool = True) -> str:
        """Return the QR code as lines of half blocks, each two modules high.

        QR readers expect dark modules on a light background. The half blocks draw the light
        modules, so without colours the code is right on a dark terminal. With colours (ANSI, from
        the 256) it is also right on a light terminal.

        Args:
            color: Whether to set colours; pass False for a terminal without colours. On a light
                terminal the code is then inverted, and some readers can't read it.

        Raises:
            ConfigurationError: If the extra ``qr`` is not installed.
            InvalidRequest: If the code is too long.
        """
        drawn = io.StringIO()
        self._qr().terminal(drawn, border=QUIET_ZONE, compact=True)
        lines = drawn.getvalue().splitlines()
        if color:
            lines = [f"{WHITE_ON_BLACK}{line}{RESET}" for line in lines]
        return "\n".join(lines)

    @property
    def is_drawable(self) -> bool:
        """Whether the code is short enough for a QR code: 2,331 characters."""
        return len(str(self)) <= MAX_QR_BYTES

    def _qr(self) -> QRCode:
        if not self.is_drawable:
            raise InvalidRequest(
                f"the activation code is too long for a QR code of at most {MAX_QR_BYTES:,} "
                "characters; use the links, or enter the code by hand"
            )
        try:
            import segno  # noqa: PLC0415 - an extra
        except ImportError:
            reason = "segno is missing; install it with: pip install 'mioesim_async[qr]'"
            raise ConfigurationError(reason) from None
        return segno.make(str(self), error="m", boost_error=False, micro=False)

    def __str__(self) -> str:
        """Return the whole code with its ``LPA:`` prefix; it is a secret."""
        tail = [self.oid or "", "1" if self.confirmation_required else "", *self.more]
        while tail and not tail[-1] and not self.more:
            tail.pop()
        return "$".join(["LPA:1", self.smdp_address, self.matching_id, *tail])

    def __repr__(self) -> str:
        """Return a text without the code."""
        return "ActivationCode(***)"

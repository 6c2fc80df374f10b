"""Activation codes: what a phone needs to download an eSIM profile."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from attrs import Attribute, define, field
from attrs.validators import optional

from mioesim_async.errors import ConfigurationError, InvalidRequest

if TYPE_CHECKING:
    from segno import QRCode

__all__ = ["ActivationCode", "InstallLinks", "trimmed"]

QUIET_ZONE = 4
"""Modules around a QR code, as its standard asks."""

MAX_DRAWN = 2331
"""Bytes that the largest QR code with error correction M holds (ISO/IEC 18004)."""

MAX_SCALE = 100
"""Pixels of a module; a usual code is then 4,900 pixels wide, enough for a poster."""

PLAIN: dict[str, Any] = {"xmldecl": False, "nl": False, "svgclass": None, "lineclass": None}
"""An SVG element that a page's styles don't touch."""

WHITE_ON_BLACK, RESET = "\x1b[38;5;231;48;5;16m", "\x1b[0m"
"""Of the 256 colours, since terminals' themes change the first sixteen."""

IOS = "https://esimsetup.apple.com/esim_qrcode_provisioning?carddata="
ANDROID = "https://esimsetup.android.com/esim_qrcode_provisioning?carddata="

FIELD = re.compile(r"[!-#%-~]*")
MARKS = "\u200b\u200e\u200f\u2060\ufeff"
"""Invisible marks that are pasted along, and the byte order mark of a file."""

AROUND = "".join(filter(str.isspace, map(chr, range(0x3001)))) + MARKS

RULES = {
    "smdp_address": (re.compile(r"[A-Za-z0-9._:-]+"), "the SM-DP+ address", "a host name"),
    "matching_id": (FIELD, "the matching id", "printable ASCII without spaces and '$'"),
    "oid": (re.compile(r"[0-9]+(\.[0-9]+)*"), "the OID", "numbers with dots"),
    "more": (FIELD, "a later field", "printable ASCII without spaces and '$'"),
}


def trimmed(text: str) -> str:
    """Drop white space and invisible marks at both ends."""
    return text.strip(AROUND)


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
            f"the scale must be a number above 0 and up to {MAX_SCALE}; a whole one for PNG"
        )


@define
class InstallLinks:
    """Links that start the installation when they are tapped on the phone itself.

    Each holds the whole activation code, so ``repr`` is masked. Always offer the QR code or
    the fields for manual entry too.

    Attributes:
        ios: For iPhones with iOS 17.4 or later (observed; one seller says 17.5). Older
            ones open a page that can't help.
        android: For Android (observed, documented by nobody: some makers' phones open it,
            others show an empty page).
    """

    ios: str = field(repr=lambda _: "***")
    android: str = field(repr=lambda _: "***")


@define(repr=False)
class ActivationCode:
    """One activation code, as GSMA SGP.22 section 4.1 lays it out.

    Whoever holds it can use the eSIM, so ``repr`` is masked; ``str()`` gives the whole
    code, with the ``LPA:`` prefix. A code that no phone could read can't be made: that
    raises ``ValueError``, with a message that does not repeat it.

    The ``qr_...`` methods need the extra ``qr``, and raise ``ConfigurationError`` without
    it. All make a QR code with error correction M and a quiet zone of 4 modules, whose
    content is exactly ``str()``. A code of more than 2,331 characters can't be drawn: that
    raises ``InvalidRequest``, which is a ``ValueError`` too. Drawing takes some milliseconds
    of the processor: on an event loop, use ``await asyncio.to_thread(code.qr_svg)``.

    Attributes:
        smdp_address: Host name of the SM-DP+ server.
        matching_id: Names the profile there; may be empty.
        oid: Object identifier of the SM-DP+, or None.
        confirmation_required: The user must type a confirmation code.
        more: Fields of later versions, kept as they came.
    """

    smdp_address: str = field(validator=_check)
    matching_id: str = field(default="", validator=_check)
    oid: str | None = field(default=None, validator=optional(_check))
    confirmation_required: bool = field(default=False, validator=_check_flag)
    more: tuple[str, ...] = field(default=(), validator=_check_more)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``LPA:1$SM-DP+$MatchingID[$OID][$1]``; the prefix may be missing, in any case.

        White space and invisible marks around it are dropped.

        Raises:
            ValueError: If it is no activation code; the message does not repeat it.
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
        """Return the links for iOS and Android; their limits stand at ``InstallLinks``."""
        data = quote(str(self), safe="")
        return InstallLinks(IOS + data, ANDROID + data)

    def qr_svg(self, *, scale: float = 4) -> str:
        """Return the QR code as an SVG element, for a page or for a file of its own.

        It is black on white whatever the page's colours are.

        Args:
            scale: Pixels (user units) of a module.

        Raises:
            ConfigurationError: If the extra ``qr`` is not installed.
            InvalidRequest: If the scale is not above 0 and up to 100, or the code too long.
        """
        _check_scale(scale, (int, float))
        image, qr = io.BytesIO(), self._qr()
        qr.save(image, kind="svg", scale=scale, border=QUIET_ZONE, light="#fff", **PLAIN)
        width, height = qr.symbol_size(scale, QUIET_ZONE)
        # Without a view box, a page that gives it less room would cut it off.
        view = f'<svg viewBox="0 0 {width} {height}" '
        return image.getvalue().decode().replace("<svg ", view, 1)

    def qr_png(self, *, scale: int = 8) -> bytes:
        """Return the QR code as a PNG image, black on white.

        Args:
            scale: Pixels of a module.

        Raises:
            ConfigurationError: If the extra ``qr`` is not installed.
            InvalidRequest: If the scale is not above 0 and up to 100, or the code too long.
        """
        _check_scale(scale, int)
        image = io.BytesIO()
        self._qr().save(image, kind="png", scale=scale, border=QUIET_ZONE)
        return image.getvalue()

    def qr_terminal(self, *, color: bool = True) -> str:
        """Return the QR code as lines of half blocks, two modules high each.

        A reader wants dark modules on a light ground. What is drawn are the light modules,
        so that the code is right on a dark terminal even where colours are lost; the colours
        (ANSI, of the 256) make it right on a light one too.

        Args:
            color: Whether to set the colours; False for a terminal that has none. Then it
                is inverted on a light ground, which many readers take, and some don't.

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
        """Whether it is short enough for a QR code: 2,331 characters."""
        return len(str(self)) <= MAX_DRAWN

    def _qr(self) -> QRCode:
        if not self.is_drawable:
            raise InvalidRequest(
                f"the activation code is too long for a QR code, which holds {MAX_DRAWN:,} "
                "characters; use its links, or enter it by hand"
            )
        try:
            import segno  # noqa: PLC0415 - an extra
        except ImportError:
            reason = "segno is missing; install it with: pip install 'mioesim_async[qr]'"
            raise ConfigurationError(reason) from None
        return segno.make(str(self), error="m", boost_error=False, micro=False)

    def __str__(self) -> str:
        """Return the whole code with its ``LPA:`` prefix. A secret."""
        tail = [self.oid or "", "1" if self.confirmation_required else "", *self.more]
        while tail and not tail[-1] and not self.more:
            tail.pop()
        return "$".join(["LPA:1", self.smdp_address, self.matching_id, *tail])

    def __repr__(self) -> str:
        """Show that there is a code, and nothing of it."""
        return "ActivationCode(***)"

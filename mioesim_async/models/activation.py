"""Activation codes: what a phone needs to download an eSIM profile."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from attrs import Attribute, define, field
from attrs.validators import optional

from mioesim_async.errors import ConfigurationError

if TYPE_CHECKING:
    from segno import QRCode

__all__ = ["ActivationCode", "InstallLinks"]

QUIET_ZONE = 4
"""Modules around a QR code, as its standard asks."""

PLAIN: dict[str, Any] = {"xmldecl": False, "nl": False, "svgclass": None, "lineclass": None}
"""An SVG element that a page's styles don't touch."""

WHITE_ON_BLACK, RESET = "\x1b[38;5;231;48;5;16m", "\x1b[0m"
"""Of the 256 colours, since terminals' themes change the first sixteen."""

IOS = "https://esimsetup.apple.com/esim_qrcode_provisioning?carddata="
ANDROID = "https://esimsetup.android.com/esim_qrcode_provisioning?carddata="

FIELD = re.compile(r"[!-#%-~]*")
RULES = {
    "smdp_address": (re.compile(r"[A-Za-z0-9._:-]+"), "the SM-DP+ address", "a host name"),
    "matching_id": (FIELD, "the matching id", "printable ASCII without spaces and '$'"),
    "oid": (re.compile(r"[0-9]+(\.[0-9]+)*"), "the OID", "numbers with dots"),
    "more": (FIELD, "a later field", "printable ASCII without spaces and '$'"),
}


def _check(_: object, attribute: Attribute[Any], value: Any) -> None:
    pattern, what, rule = RULES[attribute.name]
    for text in value if isinstance(value, tuple) else (value,):
        if not pattern.fullmatch(text):
            raise ValueError(f"{what} of an activation code is {rule}")


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

    Whoever holds it can take the line, so ``repr`` is masked; ``str()`` gives the whole
    code, with the ``LPA:`` prefix. A code that no phone could read can't be made: that
    raises ``ValueError``, with a message that does not repeat it.

    The ``qr_...`` methods need the extra ``qr``, and raise ``ConfigurationError`` without
    it. All make a QR code with error correction M and a quiet zone of 4 modules, whose
    content is exactly ``str()``. That takes some milliseconds of the processor: on an event
    loop, use ``await asyncio.to_thread(code.qr_svg)``.

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
    confirmation_required: bool = False
    more: tuple[str, ...] = field(default=(), validator=_check)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``LPA:1$SM-DP+$MatchingID[$OID][$1]``; the prefix may be missing, in any case.

        Raises:
            ValueError: If it is no activation code; the message does not repeat it.
        """
        code = text.strip()
        if code[:4].upper() == "LPA:":
            code = code[4:].lstrip()
        version, *parts = code.split("$")
        if version != "1":
            raise ValueError("an activation code starts with '1$', after an optional 'LPA:'")
        if len(parts) < 2:
            raise ValueError("an activation code has an address and a matching id after '1$'")
        address, matching_id, *rest = (part.strip() for part in parts)
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
            ValueError: If the scale is not positive, or the code too long (2,331 characters).
        """
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
            ValueError: If the scale is not positive, or the code too long (2,331 characters).
        """
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
            ValueError: If the code is too long (2,331 characters).
        """
        drawn = io.StringIO()
        self._qr().terminal(drawn, border=QUIET_ZONE, compact=True)
        lines = drawn.getvalue().splitlines()
        if color:
            lines = [f"{WHITE_ON_BLACK}{line}{RESET}" for line in lines]
        return "\n".join(lines)

    def _qr(self) -> QRCode:
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

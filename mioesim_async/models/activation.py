"""Activation codes: what a phone needs to download an eSIM profile."""

from __future__ import annotations

from typing import Self

from attrs import define, field

__all__ = ["ActivationCode"]


@define(repr=False)
class ActivationCode:
    """One activation code, as GSMA SGP.22 section 4.1 lays it out.

    Whoever holds it can take the line, so ``repr`` is masked; ``str()`` gives the whole
    code, with the ``LPA:`` prefix.

    Attributes:
        smdp_address: Host name of the SM-DP+ server.
        matching_id: Names the profile there; may be empty.
        oid: Object identifier of the SM-DP+, or None.
        confirmation_required: The user must type a confirmation code.
        more: Fields of later versions, kept as they came.
    """

    smdp_address: str
    matching_id: str = ""
    oid: str | None = None
    confirmation_required: bool = False
    more: tuple[str, ...] = field(default=())

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
        if not address or any(char.isspace() or char in "/@" for char in address):
            raise ValueError("the SM-DP+ address of the activation code is not a host name")
        oid, flag, *more = [*rest, "", ""][: max(2, len(rest))]
        if flag not in ("", "1"):
            raise ValueError("the confirmation flag of an activation code is '1' or absent")
        return cls(address, matching_id, oid or None, flag == "1", tuple(more))

    def __str__(self) -> str:
        """Return the whole code with its ``LPA:`` prefix. A secret."""
        tail = [self.oid or "", "1" if self.confirmation_required else "", *self.more]
        while tail and not tail[-1] and not self.more:
            tail.pop()
        return "$".join(["LPA:1", self.smdp_address, self.matching_id, *tail])

    def __repr__(self) -> str:
        """Show that there is a code, and nothing of it."""
        return "ActivationCode(***)"

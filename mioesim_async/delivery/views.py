"""What is shown of one card, in the customer's language, on the page and in the text."""

from __future__ import annotations

from attrs import field, frozen

from mioesim_async.models.activation import ActivationCode, InstallLinks

__all__ = ["CardView", "ManualField"]


@frozen
class ManualField:
    """A value to enter by hand.

    Attributes:
        key: The key of its label among the texts.
        label: Its label, in the customer's language.
        value: The value; a secret.
        is_copied: Whether it is worth a button that copies it.
    """

    key: str
    label: str
    value: str = field(repr=False)
    is_copied: bool = True


@frozen
class CardView:
    """What is shown of one card.

    Attributes:
        heading: Its heading.
        facts: What was bought, as label and value.
        code: The activation code, or None.
        links: Links that start the installation; None without a code.
        manual: The values to enter by hand.
        pdf_url: The address of the vendor's PDF, or None if there is none or it isn't wanted.
    """

    heading: str
    facts: list[tuple[str, str]]
    code: ActivationCode | None = None
    links: InstallLinks | None = None
    manual: list[ManualField] = field(factory=list)
    pdf_url: str | None = field(default=None, repr=False)

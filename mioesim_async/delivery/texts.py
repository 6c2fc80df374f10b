"""What the customer reads, in several languages: a table that a shop can change."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from attrs import frozen

from mioesim_async.clock import GMT8
from mioesim_async.errors import InvalidRequest

__all__ = ["Overrides", "Texts", "customer_texts", "languages", "texts_for"]

Overrides = Mapping[str, Mapping[str, str]]
"""Texts of a shop: by language, then by key."""

TAG = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")
PLACEHOLDER = re.compile(r"\{([a-z]+)\}")
RIGHT_TO_LEFT = frozenset({"ar", "ckb", "dv", "fa", "he", "ps", "sd", "ug", "ur", "yi"})
MB_PER_GB = 1024
TABLE = files("mioesim_async.delivery").joinpath("texts.toml")


@frozen
class Texts:
    """The texts of one language.

    Attributes:
        language: The language's tag (BCP 47), for the page's ``lang``.
        by_key: The texts.
    """

    language: str
    by_key: Mapping[str, str]

    def __call__(self, key: str, **values: object) -> str:
        """Return a text with its placeholders filled."""
        return PLACEHOLDER.sub(lambda found: str(values[found[1]]), self.by_key[key])

    @property
    def direction(self) -> str:
        """The direction of writing: ``ltr`` or ``rtl``."""
        return "rtl" if self.language.partition("-")[0].lower() in RIGHT_TO_LEFT else "ltr"

    def amount(self, data: float | str) -> str:
        """Return an amount of data; a text stays as it is.

        Args:
            data: MB (1 GB = 1024 MB), or a text.
        """
        if isinstance(data, str):
            return data
        unit, number = ("gigabytes", data / MB_PER_GB) if data >= MB_PER_GB else ("megabytes", data)
        written = f"{number:.2f}".rstrip("0").rstrip(".")
        return self(unit, amount=written.replace(".", self("decimal_mark")))

    def moment(self, moment: datetime) -> str:
        """Return a moment with its date and time in GMT+8."""
        there = moment.astimezone(GMT8) if moment.tzinfo else moment
        month = _months(self("months"))[there.month - 1]
        date = self("date", day=there.day, month=month, year=there.year)
        return self("moment", date=date, time=f"{there:%H:%M}")


def languages() -> list[str]:
    """Return the languages that the package has texts in: ``de``, ``en`` and others."""
    return sorted(_built_in())


def customer_texts(language: str = "en") -> dict[str, str]:
    """Return the texts that the customer reads, by key, to change or to translate them.

    Give what you changed to ``customer_html`` and ``customer_text`` as ``texts={language: ...}``.

    Args:
        language: A language of the package, such as ``en``, or with a region, ``en-GB``.

    Raises:
        InvalidRequest: If the package has no texts in this language.
    """
    return dict(texts_for(language).by_key)


def texts_for(language: str, overrides: Overrides | None = None) -> Texts:
    """Return the texts of a language, with those of a shop in place of the package's own.

    ``de-AT`` has the texts of ``de``, and then those that the shop gives for ``de-AT``.

    Raises:
        InvalidRequest: If there are no texts in this language, or some are missing, unknown, or
            have other placeholders than the package's English text.
    """
    given = _checked(overrides)
    if not _is_tag(language):
        raise InvalidRequest(f"a language is a tag such as 'en' or 'pt-BR', not {language!r}")
    found: dict[str, str] = {}
    used = ""
    for tag in _from_general_to_special(language):
        own = _built_in().get(tag.lower(), {}) | given.get(tag.lower(), {})
        if own:
            used = tag
            found |= own
    if not found:
        known = ", ".join(sorted({*languages(), *given}))
        raise InvalidRequest(
            f"there are no texts in {language!r}, only in {known}; "
            "add yours as texts={language: {key: text}}"
        )
    missing = sorted(_built_in()["en"].keys() - found)
    if missing:
        raise InvalidRequest(f"the texts in {language!r} have no {', '.join(missing)}")
    return Texts(used, MappingProxyType(found))


def _is_tag(language: object) -> bool:
    return isinstance(language, str) and TAG.fullmatch(language) is not None


def _from_general_to_special(language: str) -> Iterator[str]:
    parts = language.split("-")
    for count in range(1, len(parts) + 1):
        yield "-".join(parts[:count])


@cache
def _built_in() -> dict[str, dict[str, str]]:
    return tomllib.loads(TABLE.read_text(encoding="utf-8"))


def _checked(overrides: Overrides | None) -> dict[str, dict[str, str]]:
    checked: dict[str, dict[str, str]] = {}
    faults: list[str] = []
    for language, given in (overrides or {}).items():
        if not (_is_tag(language) and isinstance(given, Mapping)):
            raise InvalidRequest("texts= has texts by language: {'en': {key: text}}")
        faults += [
            f"text {key!r} in {language!r} {fault}"
            for key, text in given.items()
            if (fault := _fault(key, text))
        ]
        checked[language.lower()] = dict(given)
    if faults:
        raise InvalidRequest(*faults)
    return checked


def _fault(key: str, text: object) -> str:
    """Return what is wrong with a shop's text; empty if nothing is."""
    pattern = _built_in()["en"].get(key)
    if pattern is None:
        return "is not a text of the page; customer_texts() has all keys"
    if not isinstance(text, str) or not text.strip():
        return "must be a text that is not empty"
    if key == "months" and len(_months(text)) != len(_months(pattern)):
        return "must name twelve months, with commas between them"
    wanted = {*PLACEHOLDER.findall(pattern)}
    if {*PLACEHOLDER.findall(text)} != wanted or {*"{}"} & {*PLACEHOLDER.sub("", text)}:
        braced = " ".join(f"{{{name}}}" for name in sorted(wanted))
        return f"must have these placeholders and no other braces: {braced or 'none'}"
    return ""


def _months(text: str) -> list[str]:
    return [month.strip() for month in text.split(",")]

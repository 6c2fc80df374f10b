"""Turns the vendor's names and numbers of countries into ISO 3166-1 alpha-2 codes.

A name must match a name of the standard (from ``pycountry``) or a spelling in ``ALIASES``. Case,
accents, spaces and punctuation don't matter. The tables are loaded at the first use. Without
``pycountry``, which the extra ``coverage`` installs, no code is known.
"""

from __future__ import annotations

import importlib
import logging
import re
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from functools import cache, lru_cache

from mioesim_async.errors import ConfigurationError
from mioesim_async.slices import Steps

__all__ = ["alpha2", "is_region", "load_tables_in_steps", "read_countries"]

logger = logging.getLogger("mioesim_async")

MISSING = "country codes need pycountry; install it with: pip install 'mioesim_async[coverage]'"

REGION = re.compile(r"99[0-9]{3}")
WORDS = re.compile(r"[^\W_]+")

ALIASES = {
    "AE": ("UAE", "Emirates"),
    "AX": ("Aland",),
    "BA": ("Bosnia", "Bosnia Herzegovina"),
    "BN": ("Brunei",),
    "BQ": ("Bonaire", "Caribbean Netherlands"),
    "CD": (
        "DR Congo", "DRC", "Congo DR", "Congo DRC", "Congo Kinshasa",
        "Democratic Republic of the Congo", "Congo, Democratic Republic",
    ),
    "CG": ("Congo Brazzaville", "Congo, Republic of the"),
    "CI": ("Ivory Coast",),
    "CN": ("Mainland China", "China Mainland", "Chinese Mainland"),
    "CV": ("Cape Verde",),
    "CZ": ("Czech",),
    # The standard has no separate codes for these parts of a country.
    "ES": ("Canary Islands",),
    "PT": ("Madeira", "Azores"),
    "FK": ("Falkland Islands", "Falklands"),
    "FM": ("Micronesia",),
    "GB": ("UK", "Great Britain", "Britain", "England", "Scotland", "Wales", "Northern Ireland"),
    "HK": ("China Hong Kong", "Hong Kong China", "Hong Kong SAR", "Hong Kong SAR China"),
    "KP": ("Korea North", "DPRK"),
    "KR": ("Korea", "Korea South", "Republic of Korea", "ROK"),
    "MF": ("Saint Martin",),
    "MK": ("Macedonia", "Macedonia FYROM", "FYROM"),
    "MM": ("Burma",),
    "MO": ("Macau", "China Macao", "China Macau", "Macao China", "Macau China", "Macao SAR",
           "Macau SAR", "Macao SAR China", "Macau SAR China"),
    "PS": ("Palestine", "Palestinian Territory", "Palestinian Territories"),
    "RU": ("Russia",),
    "SH": ("Saint Helena",),
    "SX": ("Sint Maarten", "Saint Maarten"),
    "SZ": ("Swaziland",),
    "TL": ("East Timor",),
    "TR": ("Turkey",),
    "TW": ("China Taiwan", "Taiwan China"),
    "US": ("America",),
    "VA": ("Vatican", "Vatican City", "Holy See"),
    "VG": ("Virgin Islands UK",),
    "VI": ("US Virgin Islands", "United States Virgin Islands"),
    # Not in the standard, which reserves it for its users; the European Union uses it.
    "XK": ("Kosovo", "XK", "XKX"),
}  # fmt: skip
"""Spellings that are not in the standard, by alpha-2 code."""

LONGEST_NAME = 100
MAX_NAMES = 500
"""Names that are looked up in one list. There are some 250 countries; the host may send more."""

NUMBERS = {891: "RS"}
"""The vendor lists Serbia under the withdrawn number of Serbia and Montenegro (observed)."""


MODULES = ("csv", "zipfile", "importlib.metadata", "importlib.resources", "pycountry")
"""``pycountry`` and the modules it imports. Importing them one by one takes shorter steps."""


def is_region(code: str | None) -> bool:
    """Tell whether a country code is one of the vendor's regions, 99xxx (observed)."""
    return code is not None and REGION.fullmatch(code) is not None


# The cache is bounded, since the host may send any number of names.
@lru_cache(maxsize=1024)
def alpha2(country: str) -> str | None:
    """Return the alpha-2 code of a country.

    Args:
        country: Its name, its number (ISO 3166-1, with or without leading zeros), or its
            alpha-2 or alpha-3 code.

    Returns:
        Two capital letters; None for a region or an unknown country.

    Raises:
        ConfigurationError: If pycountry is not installed; never for a region.
    """
    text = country.strip()
    if len(country) > LONGEST_NAME or is_region(text):
        return None
    tables = _tables()
    if tables is None:
        raise ConfigurationError(MISSING)
    names, numbers = tables
    if text.isascii() and text.isdigit():
        return numbers.get(int(text)) if len(text) <= 5 else None
    return names.get(_folded(text))


def read_countries(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the codes of countries, each once, and the names that are not known.

    Names after the first 500 count as unknown. Without pycountry, the names are returned in place
    of the codes, each once, and none counts as unknown.
    """
    if _tables() is None:
        return list(dict.fromkeys(names)), []
    codes: dict[str, None] = {}
    unknown: dict[str, None] = {}
    for place, name in enumerate(names):
        code = alpha2(name) if place < MAX_NAMES else None
        if code is None:
            unknown[name] = None
        else:
            codes[code] = None
    return list(codes), list(unknown)


def load_tables_in_steps() -> Steps[None]:
    """Load the tables in steps, for code that runs in the event loop."""
    if _tables.cache_info().currsize:
        return
    with suppress(ImportError):
        for name in MODULES:
            importlib.import_module(name)
            yield
        len(importlib.import_module("pycountry").countries)
        yield
    _tables()


@cache
def _tables() -> tuple[dict[str, str], dict[int, str]] | None:
    """Return codes by folded name, and codes by number; without pycountry, warn and return None."""
    try:
        import pycountry  # noqa: PLC0415 - an extra
    except ImportError:
        logger.warning("%s (without it, coverage has the vendor's names)", MISSING)
        return None
    names: dict[str, str] = {}
    numbers: dict[int, str] = {}
    for country in pycountry.countries:
        code = country.alpha_2
        numbers[int(country.numeric)] = code
        kinds = ("alpha_3", "name", "common_name", "official_name")
        for name in {code, *(getattr(country, kind, code) for kind in kinds)}:
            names[_folded(name)] = code
    for code, aliases in ALIASES.items():
        names |= dict.fromkeys(map(_folded, aliases), code)
    return names, numbers | NUMBERS


def _folded(name: str) -> str:
    """Return a name without case, accents, spaces, punctuation and articles."""
    plain = name.replace("&", " and ").casefold()
    if not plain.isascii():
        letters = unicodedata.normalize("NFKD", plain)
        plain = "".join(char for char in letters if not unicodedata.combining(char))
    words = [word for word in WORDS.findall(plain) if word != "the"]
    if len(words) > 1 and words[0] == "st":
        words[0] = "saint"
    return "".join(words)

"""How messages name what helps: in Python's words, or in those of a program around the SDK.

The command line has a table of its own words. What is made while the table holds is made with
them: errors, and what they quote of others.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

__all__ = ["in_words", "worded"]

_words: ContextVar[Mapping[str, str]] = ContextVar("words", default=MappingProxyType({}))


class _Named(dict[str, object]):
    def __missing__(self, name: str) -> str:
        return _words.get().get(name, name)


def worded(text: str, /, **values: object) -> str:
    """Write a part of a message; a ``{name}`` in it is one of the values, or else an argument."""
    return _words.get().get(text, text).format_map(_Named(values))


@contextmanager
def in_words(table: Mapping[str, str]) -> Generator[None]:
    """Use other words for some parts and arguments, beside those that hold already."""
    token = _words.set({**_words.get(), **table})
    try:
        yield
    finally:
        _words.reset(token)

"""The parts of messages that a program around the SDK may replace.

Messages name Python calls and arguments. The command line replaces them, with ``in_words``, by
its own options; this affects every message that is made inside that block.
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
    """Return a part of a message; a ``{name}`` in it is one of ``values``, or an argument."""
    return _words.get().get(text, text).format_map(_Named(values))


@contextmanager
def in_words(table: Mapping[str, str]) -> Generator[None]:
    """Replace parts of messages within the block, in addition to an outer ``in_words``."""
    token = _words.set({**_words.get(), **table})
    try:
        yield
    finally:
        _words.reset(token)

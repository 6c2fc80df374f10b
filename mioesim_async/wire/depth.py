"""The limit on nesting in replies, so that recursion over a reply is safe."""

from __future__ import annotations

from typing import Any

__all__ = ["CONTAINERS", "CUT", "MAX_DEPTH", "cut", "is_too_deep"]

MAX_DEPTH = 64
"""Levels of nested lists and objects that a value may have."""

CONTAINERS = frozenset({dict, list})
CUT = "(nested too deeply)"


def is_too_deep(value: Any) -> bool:
    """Tell whether a parsed value has more than 64 levels of nested lists and objects."""
    level: list[Any] = [value] if type(value) in CONTAINERS else []
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if type(inner) in CONTAINERS
        ]
        if not level:
            return False
    return True


def cut(value: Any) -> Any:
    """Return a value with everything below 64 levels replaced by ``CUT``."""
    return _copied(value, MAX_DEPTH) if is_too_deep(value) else value


def _copied(value: Any, levels: int) -> Any:
    if type(value) not in CONTAINERS:
        return value
    if not levels:
        return CUT
    if isinstance(value, dict):
        return {key: _copied(inner, levels - 1) for key, inner in value.items()}
    return [_copied(inner, levels - 1) for inner in value]

"""Draws the figures as a bar chart, in SVG."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

__all__ = ["chart"]

WIDTH, LEFT, BAR, GAP = 720, 170, 22, 12


def chart(title: str, note: str, bars: Mapping[str, float], ours: frozenset[str]) -> str:
    """Draw one bar for each value, with the value beside it."""
    longest = max(bars.values())
    scale = (WIDTH - LEFT - 90) / longest
    height = 64 + len(bars) * (BAR + GAP) + 20
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        "<style>text { font: 14px system-ui, sans-serif }</style>",
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="12" y="26" style="font-weight: bold">{escape(title)}</text>',
    ]
    for place, (name, value) in enumerate(bars.items()):
        top = 46 + place * (BAR + GAP)
        color = "#2563eb" if name in ours else "#9ca3af"
        width = max(1.0, value * scale)
        lines += [
            f'<text x="{LEFT - 8}" y="{top + 16}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{LEFT}" y="{top}" width="{width:.1f}" height="{BAR}" fill="{color}"/>',
            f'<text x="{LEFT + width + 6:.1f}" y="{top + 16}">{value:.2f}</text>',
        ]
    lines += [
        f'<text x="12" y="{height - 12}" style="font-size: 12px">{escape(note)}</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"

"""Reads QR codes with other libraries than those that draw them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest
from waiting import SECONDS

__all__ = ["read_image", "read_svg", "read_terminal"]

PIXELS = 6
HALVES = {" ": (0, 0), "▀": (1, 0), "▄": (0, 1), "█": (1, 1)}
PLAIN = re.compile("(.*)")
COLORED = re.compile("\x1b\\[38;5;231;48;5;16m(.*)\x1b\\[0m")


def read_image(image: bytes) -> str:
    """Read the one QR code of an image, of any kind, with zbar."""
    done = _run("zbarimg", "zbar-tools", image, "--quiet", "--raw", "-Sdisable", "-Sqr.enable", "-")
    return done.decode().removesuffix("\n")


def read_svg(svg: str, background: str = "black") -> str:
    """Draw an SVG with librsvg on a background colour, and read it."""
    return read_image(
        _run("rsvg-convert", "librsvg2-bin", svg.encode(), "--background-color", background)
    )


def read_terminal(drawn: str, *, color: bool) -> str:
    """Read a QR code of half blocks; one without colours is read as on a dark terminal."""
    rows: list[list[int]] = []
    for line in drawn.splitlines():
        match = (COLORED if color else PLAIN).fullmatch(line)
        assert match is not None
        rows += map(list, zip(*(HALVES[char] for char in match[1]), strict=True))
    pixels = b"".join(
        bytes(255 * light for light in row for _ in range(PIXELS)) * PIXELS for row in rows
    )
    return read_image(b"P5 %d %d 255\n" % (len(rows[0]) * PIXELS, len(rows) * PIXELS) + pixels)


def _run(program: str, package: str, given: bytes, *arguments: str) -> bytes:
    if shutil.which(program) is None:
        reason = f"{program} is not installed (Debian: apt-get install {package})"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        raise pytest.skip.Exception(reason)
    return subprocess.run(
        [program, *arguments], input=given, capture_output=True, check=True, timeout=SECONDS
    ).stdout

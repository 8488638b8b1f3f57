"""What a terminal takes: text of unknown origin, and how much of it in a line."""

from __future__ import annotations

from shutil import get_terminal_size
from typing import Final

from xsaveschema.errors import plain as plain

_WIDEST: Final = 10_000  # a line is padded to that


def terminal_width() -> int:
    """The columns of the terminal; COLUMNS, or 80, where there is none."""
    return min(get_terminal_size().columns, _WIDEST)


def plain_lines(text: str) -> str:
    """As :func:`plain`, for a text of several lines."""
    return text if text.isprintable() else "\n".join(map(plain, text.split("\n")))

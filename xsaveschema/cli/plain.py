"""What a terminal takes: text of unknown origin, and how much of it in a line."""

from __future__ import annotations

from shutil import get_terminal_size
from textwrap import wrap
from typing import Final

from xsaveschema.errors import plain as plain

_WIDEST: Final = 10_000  # a line is padded to that


def terminal_width() -> int:
    """The columns of the terminal; COLUMNS, or 80, where there is none."""
    return min(get_terminal_size().columns, _WIDEST)


def wrapped(text: str, width: int, *, indent: int = 0, hanging: int | None = None) -> list[str]:
    """A text in lines of ``width`` cells, broken between words alone: a longer one sticks out."""
    later = " " * (indent if hanging is None else hanging)
    return wrap(
        plain(text),
        width,
        initial_indent=" " * indent,
        subsequent_indent=later,
        break_long_words=False,
        break_on_hyphens=False,
    )


def plain_lines(text: str) -> str:
    """As :func:`plain`, for a text of several lines."""
    return text if text.isprintable() else "\n".join(map(plain, text.split("\n")))

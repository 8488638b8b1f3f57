"""Text of unknown origin as a terminal may have it."""

from __future__ import annotations

from xsaveschema.errors import plain as plain


def plain_lines(text: str) -> str:
    """As :func:`plain`, for a text of several lines."""
    return text if text.isprintable() else "\n".join(map(plain, text.split("\n")))

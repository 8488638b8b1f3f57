# SPDX-License-Identifier: MIT
"""Masks as people read them, and text of unknown origin as a terminal may have it.

This module stands alone, as ``values`` does.
"""


def hex_mask(mask: int) -> str:
    """Write a bit mask as people read it in this field: ``0x2E7``."""
    return f"{mask:#x}".upper().replace("X", "x")


def plain(text: str) -> str:
    """Text of unknown origin as one line without what a terminal would obey.

    Control and bidirectional characters, line breaks and halves of surrogate pairs are escaped.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)

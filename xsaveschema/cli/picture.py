# SPDX-License-Identifier: MIT
"""A layout drawn to scale in one line of the terminal."""

from __future__ import annotations

from xsaveschema.area.lines import Line
from xsaveschema.layout import Layout
from xsaveschema.text import HEADER, SOFTWARE, Block, blocks


def widths(sizes: list[int], cells: int) -> list[int]:
    """Share ``cells`` out in proportion to ``sizes``, at least one each; the sum is ``cells``.

    With fewer cells than sizes each gets one, and the sum is more.
    """
    found = [1] * len(sizes)
    spare = cells - len(sizes)
    if spare <= 0:
        return found
    # What one cell already shows is given; the rest goes where it is owed most.
    scale = sum(sizes) / cells
    owed = [max(0.0, size / scale - 1) for size in sizes]
    share = spare / (sum(owed) or 1)
    exact = [part * share for part in owed]
    found = [1 + int(part) for part in exact]
    by_rest = sorted(range(len(sizes)), key=lambda i: int(exact[i]) - exact[i])
    for i in by_rest[: cells - sum(found)]:
        found[i] += 1
    return found


def gap_mark(ascii_only: bool) -> str:
    """What stands in the picture for bytes that belong to no component."""
    return "." if ascii_only else "\u00b7"


def picture(layout: Layout, width: int, *, ascii_only: bool, colour: bool) -> list[Line]:
    """The bar, and under it the offsets where there is room; ``width`` is in cells."""
    parts = blocks(layout)
    cells = widths([block.size for block in parts], width)
    fills = ("-", "=") if ascii_only else ("\u2591", "\u2592")  # light and medium shade
    bar: Line = []
    used = 0
    for block, count in zip(parts, cells, strict=True):
        if block.key:
            label = f"{block.key} {block.name}"
            label = label if len(label) < count else block.key
            bar.append((label.ljust(count, " " if colour else fills[used % 2]), block.style))
            used += 1
        else:
            mark = "h" if block.name == HEADER else gap_mark(ascii_only)
            bar.append((mark * count, block.style))
    return [bar, [(_ruler(parts, cells, layout.size), "dim")]]


def _ruler(parts: list[Block], cells: list[int], size: int) -> str:
    end = f" {size}"
    total = sum(cells)
    line, at = "", 0
    for block, count in zip(parts, cells, strict=True):
        text = str(block.offset)
        free = len(line) < at or at == 0
        if block.name != SOFTWARE and free and at + len(text) <= total - len(end):
            line = line.ljust(at) + text
        at += count
    return line.ljust(total - len(end)) + end

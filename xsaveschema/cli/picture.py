"""A layout drawn to scale in one line of the terminal."""

from __future__ import annotations

from typing import Final, NamedTuple

from rich.text import Text

from xsaveschema.layout import Layout
from xsaveschema.model import HEADER_OFFSET, HEADER_SIZE, LEGACY, LEGACY_SIZE, SOFTWARE_OFFSET

GAP: Final = "unused"
HEADER: Final = "header"
SOFTWARE: Final = "software"

_KEYS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefghijklmnopqrstuvwxyz"
_COLOURS: Final = ("blue", "green", "magenta", "cyan", "yellow", "red")


class Block(NamedTuple):
    """A stretch of an area: a state component, or what stands between them.

    ``key`` is the letter that stands for it in the picture, "" for what belongs to no component;
    ``order`` is the place of its component in the layout, -1 for none.
    """

    name: str
    offset: int
    size: int
    key: str
    order: int

    @property
    def style(self) -> str:
        """The block's colours where it is a component's."""
        return f"black on {_COLOURS[self.order % len(_COLOURS)]}" if self.key else "dim"


def blocks(layout: Layout) -> list[Block]:
    """The area from byte 0 to its end, in memory order, nothing left out."""
    found = []
    software = LEGACY_SIZE - SOFTWARE_OFFSET
    fixed = [(SOFTWARE, SOFTWARE_OFFSET, software), (HEADER, HEADER_OFFSET, HEADER_SIZE)]
    fixed += [(GAP, offset, size) for offset, size in layout.gaps]
    fixed += [(GAP, offset, size) for name, (offset, size) in LEGACY.items() if name not in layout]
    found = [Block(name, offset, size, "", -1) for name, offset, size in fixed]
    found += [
        Block(slot.name, slot.offset, slot.size, _KEYS[index % len(_KEYS)], index)
        for index, slot in enumerate(layout)
    ]
    return sorted(found, key=lambda block: block.offset)


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


def picture(layout: Layout, width: int, *, ascii_only: bool, colour: bool) -> Text:
    """The bar, and under it the offsets where there is room; ``width`` is in cells."""
    parts = blocks(layout)
    cells = widths([block.size for block in parts], width)
    fills = ("-", "=") if ascii_only else ("\u2591", "\u2592")  # light and medium shade
    gap = gap_mark(ascii_only)
    bar, used = Text(), 0
    for block, count in zip(parts, cells, strict=True):
        if not block.key:
            letter = "h" if block.name == HEADER else gap
            bar.append(letter * count, style="dim")
            continue
        label = f"{block.key} {block.name}"
        label = label if len(label) < count else block.key
        fill = " " if colour else fills[used % 2]
        bar.append(
            label.ljust(count, fill) if not colour else label.ljust(count), style=block.style
        )
        used += 1
    return Text("\n").join([bar, _ruler(parts, cells, layout.size)])


def _ruler(parts: list[Block], cells: list[int], size: int) -> Text:
    end = f" {size}"
    total = sum(cells)
    line, at = "", 0
    for block, count in zip(parts, cells, strict=True):
        text = str(block.offset)
        free = len(line) < at or at == 0
        if block.name != SOFTWARE and free and at + len(text) <= total - len(end):
            line = line.ljust(at) + text
        at += count
    return Text(line.ljust(total - len(end)) + end, style="dim")

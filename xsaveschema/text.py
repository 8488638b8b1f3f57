"""How layouts and areas look as text: for ``str()``, and with styles for the command line.

A line is in parts, each with a style as rich calls it; this module does not need rich.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from textwrap import wrap
from typing import Final, NamedTuple

from xsaveschema.area import XsaveArea
from xsaveschema.area.lines import (
    Line,
    area_facts,
    component_lines,
    fact_lines,
    text_of,
    value_lines,
)
from xsaveschema.area.loaded import as_restored
from xsaveschema.errors import hex_mask, plain
from xsaveschema.layout import Layout
from xsaveschema.model import SSE, CpuModel
from xsaveschema.spans import Span

_WIDTH: Final = 80  # cells of a line, where there is no terminal
_RIGHT: Final = (1, 3, 4, 5)  # columns of a layout that are numbers

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
    order = {slot.name: index for index, slot in enumerate(layout)}
    found = []
    for name, group in groupby(layout.spans(), lambda span: _drawn(layout, span)):
        spans = list(group)
        start = spans[0].offset
        index = order.get(name, -1)
        key = _KEYS[index % len(_KEYS)] if name in order else ""
        found.append(Block(name, start, spans[-1].end - start, key, index))
    return found


def _drawn(layout: Layout, span: Span) -> str:
    """What a span is drawn as: MXCSR as the x87 state around it, reserved bytes as software's."""
    if span.kind == "header":
        return HEADER
    if span.component is None:
        return GAP if span.kind in ("gap", "padding") else SOFTWARE
    if span.component.bit == SSE and span.offset < (span.component.offset or 0):
        return "x87" if "x87" in layout else GAP
    return span.component.name


def layout_text(layout: Layout) -> str:
    """A layout as a table of its components and what stands between them."""
    return text_of([*layout_title(layout, _named(layout.model)), [], *layout_lines(layout)])


def layout_title(layout: Layout, name: str, width: int = _WIDTH) -> list[Line]:
    """Whose layout it is, its format, size and mask."""
    mask = f"XCR0 {hex_mask(layout.mask)}"
    if layout.format == "compacted":
        mask = f"XCOMP_BV {hex_mask(layout.xcomp_bv)}"
    return [
        *_title(name, width),
        [(f"{layout.format} format, {layout.size} bytes, {mask}", "")],
    ]


def _named(model: CpuModel) -> str:
    return f"{model.name}  {model.title}"


def _title(text: str, width: int = _WIDTH) -> list[Line]:
    return [[(part, "bold")] for part in wrap(plain(text), width)]


def layout_lines(layout: Layout, rule: str = "-") -> Iterator[Line]:
    """A row for each stretch of the area, in memory order, below a rule of ``rule``."""
    table = [("", "#", "component", "offset", "hex", "size", "scope", "flags")]
    there = blocks(layout)
    for block in there:
        number = scope = flags = ""
        if block.key:
            component = layout[block.name].component
            number = str(component.number)
            scope = "supervisor" if component.supervisor else "user"
            marks = {"align64": component.align64, "xfd": component.xfd}
            flags = " ".join(name for name, marked in marks.items() if marked)
        place = str(block.offset), f"{block.offset:#x}", str(block.size)
        table.append((block.key and f" {block.key} ", number, block.name, *place, scope, flags))
    widths = [
        max(3 * (not at), *map(len, column)) for at, column in enumerate(zip(*table, strict=True))
    ]
    for at, row in enumerate(table):
        cells = [
            cell.rjust(width) if column in _RIGHT else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        if not at:
            yield [("  ".join(cells).rstrip(), "bold")]
            yield [(rule * (sum(widths) + 2 * len(widths) - 2), "")]
            continue
        style = there[at - 1].style
        tail = "  ".join(["", *cells[1:]]).rstrip()
        yield [(cells[0], style), (tail, "" if there[at - 1].key else "dim")]


def area_text(area: XsaveArea) -> str:
    """An area as ``decode`` shows it: header, components, registers and other fields."""
    title = _title(_named(area.model))
    facts = fact_lines(area_facts(area), _WIDTH)
    values = value_lines(area, as_restored(area), _WIDTH)
    return text_of([*title, *facts, [], *component_lines(area), *values])

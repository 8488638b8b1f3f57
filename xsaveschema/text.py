"""How layouts and areas look as text: for ``str()``, and with styles for the command line.

A line is in parts, each with a style as rich calls it; this module does not need rich.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from heapq import merge
from itertools import groupby
from operator import itemgetter
from textwrap import wrap
from typing import Final, NamedTuple

from xsaveschema.area import XsaveArea
from xsaveschema.area.rows import (
    PLAIN,
    Row,
    View,
    chosen,
    loaded_rows,
    other_rows,
    register_rows,
)
from xsaveschema.errors import hex_mask, plain
from xsaveschema.layout import Layout
from xsaveschema.model import SSE, CpuModel, bits_of
from xsaveschema.spans import Span

Line = list[tuple[str, str]]
"""A line of text in parts: (text, style as rich calls it)."""

MISSING: Final = "live, not in this file"
_WIDTH: Final = 80  # cells of a line, where there is no terminal
_MARGIN: Final = 13  # cells before the header's facts
_NAME: Final = 7  # cells of a register's name; longer ones make a column of their own
INDENT: Final = 2 + _NAME + 2  # cells before a register's value
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


def text_of(lines: Iterable[Line]) -> str:
    """Lines without their styles, and without what a terminal would obey."""
    return "\n".join("".join(plain(text) for text, _ in line).rstrip() for line in lines)


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
    return text_of([*title, *facts, [], *component_lines(area), *value_lines(area, _WIDTH)])


def area_facts(area: XsaveArea) -> dict[str, str]:
    """What the header of an area says, by name."""
    size = f"{len(area)} bytes"
    if len(area) > area.layout.size:
        size += f", of which the area takes {area.layout.size}"
    facts = {"format": f"{area.format}, {size}"}
    if area.format == "standard":
        facts = {"enabled": f"XCR0 {hex_mask(area.model.xcr0)}"} | facts
    return facts | {
        "XSTATE_BV": mask_text(area.xstate_bv, names_in_use(area)),
        "XCOMP_BV": mask_text(area.xcomp_bv, area.model.names_of(area.xcomp_bv)),
    }


def mask_text(mask: int, names: list[str]) -> str:
    """A mask with the names of its bits: ``0x203  x87 sse pkru``."""
    return f"{hex_mask(mask)}  {' '.join(names)}".rstrip()


def names_in_use(area: XsaveArea) -> list[str]:
    """The names of XSTATE_BV's bits; of missing components the model may not know the name."""
    missing = area.missing_by_number
    return [missing.get(n) or area.model.name_of(n) for n in bits_of(area.xstate_bv)]


def value_lines(area: XsaveArea, width: int, view: View = PLAIN) -> Iterator[Line]:
    """Faults, registers and other fields, each with a title."""
    if area.faults:
        yield from [[], [("faults", "bold")]]
        yield from ([(f"  {fault}", "red")] for fault in area.faults)
    if registers := chosen(area, view.everything):
        yield from [[], [("registers", "bold")]]
        yield from row_lines(register_rows(area, registers, width - INDENT, view), width)
    if others := list(other_rows(area, view.everything)):
        yield from [[], [("other fields", "bold")]]
        yield from row_lines(others, width)
    if otherwise := list(loaded_rows(area, width - INDENT)):
        yield from [[], [("loaded otherwise than stored", "bold")]]
        yield from row_lines(otherwise, width)


def row_lines(rows: Iterable[Row], width: int) -> Iterator[Line]:
    """Rows in lines of at most ``width`` cells, values below one another."""
    rows = list(rows)
    longest = max(len(row.name) for row in rows)
    for row in rows:
        if row.indented and row.more and len(row.name) > _NAME:
            # The lines of a value stand in columns.
            yield [(f"  {row.name}", "cyan")]
            yield from ([(" " * INDENT + part, "")] for part in (row.value, *row.more))
            continue
        head = f"  {row.name:{_NAME if len(row.name) <= _NAME else longest}}"
        line = [(head, "dim" if row.dim else "cyan"), (f"  {row.value}", "dim" if row.dim else "")]
        if row.remark:
            if len(head) + len(row.value) + len(row.remark) + 4 > width:
                yield line
                line = [(" " * len(head), "")]
            line.append((f"  {row.remark}", "green"))
        yield line
        indent = " " * INDENT if row.indented else ""
        for part in row.more:
            yield [(indent + part, "")]


def fact_lines(facts: Mapping[str, str], width: int) -> Iterator[Line]:
    """Facts by name, wrapped to ``width`` cells."""
    width = max(40, width - _MARGIN)
    for name, value in facts.items():
        first, *more = wrap(value, width)
        yield [(f"  {name}".ljust(_MARGIN), "cyan"), (first, "")]
        for part in more:
            yield [(" " * _MARGIN + part, "")]


def component_lines(area: XsaveArea, states: bool = True) -> Iterator[Line]:
    """A row for each component in memory order; missing ones stand where their number would.

    Without ``states`` it is a table of places, which other areas have too.
    """
    missing_names = area.missing if states else ()
    names = [*(slot.name for slot in area.layout), *missing_names]
    longest = max(len("component"), *map(len, names))
    yield [(f"   #  {'component':{longest}}  {'state    ' * states}offset  size", "bold")]
    placed = ((slot.number, slot.name, slot) for slot in area.layout)
    missing = ((number, name, None) for number, name in area.missing_by_number.items() if states)
    for number, name, slot in merge(placed, missing, key=itemgetter(0)):
        head = f"  {number:2}  {name:{longest}}  "
        if slot is None:
            yield [(head, ""), (MISSING, "yellow")]
            continue
        in_use = area.in_use(number)
        state = ("in use   " if in_use else "initial  ") * states
        row = f"{head}{state}{slot.offset:6}  {slot.size:4}"
        yield [(row, "" if in_use or not states else "dim")]

"""An area as text for people: header, components, registers, and the fields no register shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import merge
from operator import itemgetter
from textwrap import wrap
from typing import Final

from xsaveschema.area import XsaveArea
from xsaveschema.artefacts.reader import WHOLE, Found
from xsaveschema.cli.areas import presented
from xsaveschema.cli.output import Line, mask_text, print_lines
from xsaveschema.cli.plain import plain, terminal_width
from xsaveschema.cli.rows import Row, chosen, loaded_rows, other_rows, register_rows
from xsaveschema.errors import hex_mask
from xsaveschema.model import bits_of

_MARGIN: Final = 13  # cells before the header's facts
_NAME: Final = 7  # cells of a register's name; longer ones make a column of their own
_INDENT: Final = 2 + _NAME + 2  # cells before a register's value


def show(source: str, found: Found, names: list[str], everything: bool) -> None:
    """Print an area, or of it the registers ``names`` alone; ``everything``: initial state too."""
    area, width = found.area, terminal_width()
    if names:
        print_lines(_rows(register_rows(area, names, width - _INDENT), width))
        return
    title = source if found.label == WHOLE else f"{source}: {found.label}"
    lines: list[Line] = [[(plain(title), "bold")], *_header(found, width)]
    lines += [[], *_components(area)]
    if area.faults:
        lines += [[], [("faults", "bold")]]
        lines += [[(f"  {fault}", "red")] for fault in area.faults]
    if registers := chosen(area, everything):
        lines += [[], [("registers", "bold")]]
        lines += _rows(register_rows(area, registers, width - _INDENT), width)
    if others := list(other_rows(area, everything)):
        lines += [[], [("other fields", "bold")], *_rows(others, width)]
    if otherwise := list(loaded_rows(area, width - _INDENT)):
        lines += [[], [("loaded otherwise than stored", "bold")], *_rows(otherwise, width)]
    print_lines(lines)


def _rows(rows: Iterable[Row], width: int) -> Iterator[Line]:
    rows = list(rows)
    longest = max(len(row.name) for row in rows)
    for row in rows:
        head = f"  {row.name:{_NAME if len(row.name) <= _NAME else longest}}"
        line = [(head, "dim" if row.dim else "cyan"), (f"  {row.value}", "dim" if row.dim else "")]
        if row.remark:
            if len(head) + len(row.value) + len(row.remark) + 4 > width:
                yield line
                line = [(" " * len(head), "")]
            line.append((f"  {row.remark}", "green"))
        yield line
        indent = " " * _INDENT if row.indented else ""
        for part in row.more:
            yield [(indent + part, "")]


def _header(found: Found, width: int) -> Iterator[Line]:
    area = found.area
    model, layout = area.model, area.layout
    size = f"{len(area)} bytes"
    if len(area) > layout.size:
        size += f", of which the area takes {layout.size}"
    facts = [("model", presented(model, found.others))]
    if found.others is not None or found.label != WHOLE or area.assumed:
        facts.append(("layout", found.layout_source))
    if area.format == "standard":
        facts.append(("enabled", f"XCR0 {hex_mask(model.xcr0)}"))
    facts += [
        ("format", f"{area.format}, {size}"),
        ("XSTATE_BV", mask_text(area.xstate_bv, _in_use(area))),
        ("XCOMP_BV", mask_text(area.xcomp_bv, model.names_of(area.xcomp_bv))),
    ]
    for name, value in facts:
        first, *more = wrap(value, max(40, width - _MARGIN))
        yield [(f"  {name}".ljust(_MARGIN), "cyan"), (first, "")]
        for part in more:
            yield [(" " * _MARGIN + part, "")]


def _in_use(area: XsaveArea) -> list[str]:
    """The names of XSTATE_BV's bits; of missing components the model may not know the name."""
    missing = area.missing_by_number
    return [missing.get(n) or area.model.name_of(n) for n in bits_of(area.xstate_bv)]


def _components(area: XsaveArea) -> Iterator[Line]:
    """A row for each component in memory order; missing ones stand where their number would."""
    names = [*(slot.name for slot in area.layout), *area.missing]
    longest = max(len("component"), *map(len, names))
    yield [(f"   #  {'component':{longest}}  state    offset  size", "bold")]
    placed = ((slot.number, slot.name, slot) for slot in area.layout)
    missing = ((number, name, None) for number, name in area.missing_by_number.items())
    for number, name, slot in merge(placed, missing, key=itemgetter(0)):
        head = f"  {number:2}  {name:{longest}}  "
        if slot is None:
            yield [(head, ""), ("live, not in this file", "yellow")]
            continue
        in_use = area.in_use(number)
        state = "in use" if in_use else "initial"
        row = f"{head}{state:7}  {slot.offset:6}  {slot.size:4}"
        yield [(row, "" if in_use else "dim")]

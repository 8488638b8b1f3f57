# SPDX-License-Identifier: MIT
"""An area as lines of text: its header, components, registers and other fields.

A line is in parts, each with a style as rich calls it. Python 3.6 runs this module, too, inside
debuggers; what an area is, ``rows`` says.
"""

from collections.abc import Iterable, Iterator, Mapping
from heapq import merge
from operator import itemgetter
from typing import Any, List, Tuple

from xsaveschema.area.rows import (
    PLAIN,
    Row,
    View,
    chosen,
    loaded_rows,
    other_rows,
    register_rows,
)
from xsaveschema.words import hex_mask, plain

Line = List[Tuple[str, str]]
"""A line of text in parts: (text, style as rich calls it)."""

MISSING = "live, not in this file"
_MARGIN = 13  # cells before the header's facts
_NAME = 7  # cells of a register's name; longer ones make a column of their own
INDENT = 2 + _NAME + 2  # cells before a register's value


def text_of(lines: "Iterable[Line]") -> str:
    """Lines without their styles, and without what a terminal would obey."""
    return "\n".join("".join(plain(text) for text, _ in line).rstrip() for line in lines)


def folded(line: Line, width: int) -> "Iterator[Line]":
    """A line in lines of ``width`` cells, broken at spaces; those behind the first are indented.

    A word that is longer sticks out. Of an indented line of several parts the last one stays below
    itself: the others are a label, or the columns before it.
    """
    text = "".join(part for part, _ in line)
    margin = len(text) - len(text.lstrip()) + 2
    if len(line) > 1 and text.startswith("  "):
        margin = len(text) - len(line[-1][0].lstrip())
    margin = min(margin, width // 2)
    start, room, indent = 0, width, ""
    while len(text) - start > room:
        word = start + len(text[start:]) - len(text[start:].lstrip())
        at = text.rfind(" ", word + 1, start + room + 1)
        if at < 0:
            at = text.find(" ", start + room)
        if at < 0:
            break
        yield [(indent, ""), *_between(line, start, at)]
        start = at + 1
        room, indent = width - margin, " " * margin
    yield [(indent, ""), *_between(line, start, len(text))]


def _between(line: Line, start: int, end: int) -> Line:
    """The characters ``start`` to ``end`` of a line, in their styles."""
    found: Line = []
    at = 0
    for text, style in line:
        found.append((text[max(0, start - at) : max(0, end - at)], style))
        at += len(text)
    return found


def area_facts(area: Any) -> "dict[str, str]":
    """What the header of an area says, by name."""
    size = f"{len(area)} bytes"
    if len(area) > area.layout.size:
        size += f", of which the area takes {area.layout.size}"
    facts = {}
    if area.format == "standard":
        facts["enabled"] = f"XCR0 {hex_mask(area.model.xcr0)}"
    facts["format"] = f"{area.format}, {size}"
    facts["XSTATE_BV"] = mask_text(area.xstate_bv, names_in_use(area))
    facts["XCOMP_BV"] = mask_text(area.xcomp_bv, area.model.names_of(area.xcomp_bv))
    return facts


def mask_text(mask: int, names: "list[str]") -> str:
    """A mask with the names of its bits: ``0x203  x87 sse pkru``."""
    return f"{hex_mask(mask)}  {' '.join(names)}".rstrip()


def names_in_use(area: Any) -> "list[str]":
    """The names of XSTATE_BV's bits; of missing components the model may not know the name."""
    missing = area.missing_by_number
    numbers = [number for number in range(64) if area.xstate_bv >> number & 1]
    return [missing.get(number) or area.model.name_of(number) for number in numbers]


def value_lines(
    area: Any, loaded: "tuple[Any, Mapping[str, str]]", width: int, view: View = PLAIN
) -> "Iterator[Line]":
    """Faults, registers and other fields, each with a title.

    ``loaded`` is what a restore loads, and why it is not what is stored, as ``as_restored`` says.
    """
    if area.faults:
        yield from [[], [("faults", "bold")]]
        yield from ([(f"  {fault}", "red")] for fault in area.faults)
    names = chosen(area, view.everything)
    for title, rows in (
        ("registers", register_rows(area, names, width - INDENT, view)),
        ("other fields", other_rows(area, view.everything)),
        ("loaded otherwise than stored", loaded_rows(area, *loaded, width - INDENT)),
    ):
        listed = list(rows)
        if listed:
            yield from [[], [(title, "bold")]]
            yield from row_lines(listed, width)


def row_lines(rows: "Iterable[Row]", width: int) -> "Iterator[Line]":
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


def fact_lines(facts: "Mapping[str, str]", width: int) -> "Iterator[Line]":
    """Facts by name, folded to ``width`` cells."""
    for name, value in facts.items():
        label = f"  {name}".ljust(_MARGIN)
        yield from folded([(label, "cyan"), (value, "")], max(40 + _MARGIN, width))


def component_lines(area: Any, states: bool = True) -> "Iterator[Line]":
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

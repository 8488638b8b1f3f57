"""An area as text for people: header, components, registers, and the fields no register shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from heapq import merge
from operator import itemgetter
from textwrap import wrap
from typing import TYPE_CHECKING, Final

from xsaveschema.area import XsaveArea
from xsaveschema.artefacts.reader import WHOLE, Found
from xsaveschema.cli.areas import (
    Listed,
    called,
    columns,
    in_common,
    listing,
    names_in_use,
    row_of,
)
from xsaveschema.cli.output import Line, mask_text, print_lines
from xsaveschema.cli.plain import plain, terminal_width
from xsaveschema.cli.rows import Row, chosen, loaded_rows, other_rows, register_rows
from xsaveschema.errors import MissingStateError, XsaveError, hex_mask

if TYPE_CHECKING:
    from xsaveschema.cli.decode import Asked

_MISSING: Final = "live, not in this file"
_NONE: Final = "-"
_FLOAT80: Final = 50  # cells of an x87 register, in hexadecimal and as a number
_ONE_LINE: Final = 1000  # cells that hold any register but a tile
_MARGIN: Final = 13  # cells before the header's facts
_NAME: Final = 7  # cells of a register's name; longer ones make a column of their own
_INDENT: Final = 2 + _NAME + 2  # cells before a register's value


def show(source: str, found: Found, everything: bool) -> None:
    """Print an area; ``everything``: its initial state too."""
    title = source if found.label == WHOLE else f"{source}: {found.label}"
    print_lines([_title(title), *_lines(_facts(found)), *_area(found, everything)])


def show_list(source: str, areas: Iterable[Found], everything: bool) -> None:
    """Print the list of several areas, and the one that the file is about.

    That is the state at an exception, where the file tells it apart, else the first: systems write
    the thread that got the signal in front. An error is raised behind what came before it.
    """
    rows: list[Listed] = []
    shown: Found | None = None
    fault = None
    try:
        for found in areas:
            rows.append(row_of(found))
            if shown is None or (found.exception and not shown.exception):
                shown = found
    except XsaveError as error:
        fault = error
    if shown is not None:
        told = in_common(rows).items()
        facts = {name: text for name, text in _facts(shown).items() if (name, text) not in told}
        print_lines([*listing(source, rows), [], _title(_named(shown)), *_lines(facts)])
        print_lines([*_area(shown, everything), [], [("--area shows the others", "dim")]])
    if fault is not None:
        raise fault


def show_each(source: str, areas: Iterable[Found], everything: bool) -> None:
    """Print several areas, each below what it has in common with the one before it."""
    above: list[Line] = []
    for found in areas:
        facts = _facts(found)
        own = {"XSTATE_BV": facts.pop("XSTATE_BV")}
        if missing := found.area.missing:
            own["missing"] = f"{' '.join(missing)}: {_MISSING}"
        shared = [_title(source), *_lines(facts), [], *_components(found.area, states=False)]
        lines: list[Line] = [[]] if above else []
        if shared != above:
            lines += [*shared, []]
            above = shared
        print_lines([*lines, _title(_named(found)), *_lines(own), *_values(found, everything)])


def show_registers(areas: Iterable[Found], asked: Asked, several: bool) -> None:
    """Print the registers asked for: of one area alone; of several a table, where one fits."""
    width = terminal_width()
    table: list[tuple[str, str, dict[str, str]]] | None = [] if several else None
    for at, found in enumerate(areas):
        names = asked.of(found.area)
        if table is not None and not at and not _fits(found, names, width):
            table = None
        if table is not None:
            table.append((str(found.index), found.label, dict(_cells(found.area, names))))
            continue
        if several:
            print_lines([*([[]] if at else []), _title(_named(found))])
        print_lines(_rows(_asked(found.area, names, width), width))
    if table:
        # A family's name stands where an area has none of it.
        shown = [name for *_, cells in table for name, cell in cells.items() if cell != _NONE]
        shown = list(dict.fromkeys(shown))
        rows = [[*head, *(cells.get(name, _NONE) for name in shown)] for *head, cells in table]
        print_lines(columns([["#", "area", *shown], *rows]))


def _fits(found: Found, names: Iterable[str], width: int) -> bool:
    """Whether a line holds these registers of an area, whatever their values; tiles never."""
    area = found.area
    there = [name for name in names if name in area.registers]
    if any(area.model.registers[name].shape for name in there):
        return False
    cells = (max(len(name), _widest_value(area.registers.size(name))) for name in there)
    return len(_named(found)) + sum(2 + cell for cell in cells) + 2 <= width


def _widest_value(size: int) -> int:
    """The cells of a value of ``size`` bytes in one line."""
    if size <= 8:
        return 2 + 2 * size
    return _FLOAT80 if size == 10 else size // 8 * 17 + 1


def _cells(area: XsaveArea, names: Mapping[str, XsaveError | None]) -> Iterator[tuple[str, str]]:
    for name, lacking in names.items():
        if lacking:
            yield name, _MISSING if isinstance(lacking, MissingStateError) else _NONE
        else:
            yield from ((name, row.value) for row in register_rows(area, [name], _ONE_LINE))


def _asked(area: XsaveArea, names: Mapping[str, XsaveError | None], width: int) -> Iterator[Row]:
    there = (name for name, lacking in names.items() if not lacking)
    yield from register_rows(area, there, width - _INDENT)
    for name, lacking in names.items():
        if lacking:
            missing = isinstance(lacking, MissingStateError)
            yield Row(name, _MISSING if missing else "no place in this area", dim=True)


def _named(found: Found) -> str:
    return f"{found.label} (#{found.index})"


def _title(text: str) -> Line:
    return [(plain(text), "bold")]


def _area(found: Found, everything: bool) -> Iterator[Line]:
    """The components of an area, and what they hold."""
    yield []
    yield from _components(found.area)
    yield from _values(found, everything)


def _values(found: Found, everything: bool) -> Iterator[Line]:
    """Faults, registers and other fields, each with a title."""
    area, width = found.area, terminal_width()
    if area.faults:
        yield from [[], [("faults", "bold")]]
        yield from ([(f"  {fault}", "red")] for fault in area.faults)
    if registers := chosen(area, everything):
        yield from [[], [("registers", "bold")]]
        yield from _rows(register_rows(area, registers, width - _INDENT), width)
    if others := list(other_rows(area, everything)):
        yield from [[], [("other fields", "bold")]]
        yield from _rows(others, width)
    if otherwise := list(loaded_rows(area, width - _INDENT)):
        yield from [[], [("loaded otherwise than stored", "bold")]]
        yield from _rows(otherwise, width)


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


def _facts(found: Found) -> dict[str, str]:
    """What the header and the layout say of an area."""
    area = found.area
    model, layout = area.model, area.layout
    size = f"{len(area)} bytes"
    if len(area) > layout.size:
        size += f", of which the area takes {layout.size}"
    name = called(found)
    facts = {"model": name if found.others else f"{name}  {model.title}"}
    if found.others is not None or found.label != WHOLE or area.assumed:
        facts["layout"] = found.layout_source
    if area.format == "standard":
        facts["enabled"] = f"XCR0 {hex_mask(model.xcr0)}"
    return facts | {
        "format": f"{area.format}, {size}",
        "XSTATE_BV": mask_text(area.xstate_bv, names_in_use(area)),
        "XCOMP_BV": mask_text(area.xcomp_bv, model.names_of(area.xcomp_bv)),
    }


def _lines(facts: Mapping[str, str]) -> Iterator[Line]:
    width = max(40, terminal_width() - _MARGIN)
    for name, value in facts.items():
        first, *more = wrap(value, width)
        yield [(f"  {name}".ljust(_MARGIN), "cyan"), (first, "")]
        for part in more:
            yield [(" " * _MARGIN + part, "")]


def _components(area: XsaveArea, states: bool = True) -> Iterator[Line]:
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
            yield [(head, ""), (_MISSING, "yellow")]
            continue
        in_use = area.in_use(number)
        state = ("in use   " if in_use else "initial  ") * states
        row = f"{head}{state}{slot.offset:6}  {slot.size:4}"
        yield [(row, "" if in_use or not states else "dim")]

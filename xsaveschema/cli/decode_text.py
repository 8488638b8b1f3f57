# SPDX-License-Identifier: MIT
"""An area as text for people: header, components, registers, and the fields no register shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from xsaveschema.area import XsaveArea
from xsaveschema.area.lines import (
    INDENT,
    MISSING,
    Line,
    area_facts,
    component_lines,
    fact_lines,
    row_lines,
    value_lines,
)
from xsaveschema.area.loaded import as_restored
from xsaveschema.area.rows import Row, View, laned, register_rows
from xsaveschema.artefacts.reader import WHOLE, Found
from xsaveschema.cli.areas import in_common, listing, row_of
from xsaveschema.cli.inputs import presented
from xsaveschema.cli.output import print_lines, terminal_width, until_fault
from xsaveschema.errors import MissingStateError, XsaveError
from xsaveschema.text import columns

_Lacking = Mapping[str, XsaveError | None]
"""Registers by name, and why an area has none of that name."""

_NONE: Final = "-"
_FLOAT80: Final = 50  # cells of an x87 register, in hexadecimal and as a number
_ONE_LINE: Final = 1000  # cells that hold any register but a tile


def show(source: str, found: Found, view: View) -> None:
    """Print an area."""
    title = source if found.label == WHOLE else f"{source}: {found.label}"
    print_lines([_title(title), *fact_lines(_facts(found), terminal_width()), *_area(found, view)])


def show_list(source: str, areas: Iterable[Found], view: View) -> None:
    """Print the list of several areas, and the one that the file is about.

    That is the state at an exception, where the file tells it apart, else the first: systems write
    the thread that got the signal in front. An error is raised behind what came before it.
    """
    shown: Found | None = None

    def rows() -> Iterator[dict[str, str]]:
        nonlocal shown
        for found in areas:
            if shown is None or (found.exception and not shown.exception):
                shown = found
            yield row_of(found)

    listed, fault = until_fault(rows())
    if shown is not None:
        told = in_common(listed).items()
        facts = {name: text for name, text in _facts(shown).items() if (name, text) not in told}
        print_lines(
            [
                *listing(source, listed),
                [],
                _title(_named(shown)),
                *fact_lines(facts, terminal_width()),
                *_area(shown, view),
                [],
                [("--area shows the others", "dim")],
            ]
        )
    if fault is not None:
        raise fault


def show_each(source: str, areas: Iterable[Found], view: View) -> None:
    """Print several areas, each below what it has in common with the one before it."""
    above: list[Line] = []
    for found in areas:
        facts = _facts(found)
        own = {"XSTATE_BV": facts.pop("XSTATE_BV")}
        if missing := found.area.missing:
            own["missing"] = f"{' '.join(missing)}: {MISSING}"
        shared = [
            _title(source),
            *fact_lines(facts, terminal_width()),
            [],
            *component_lines(found.area, states=False),
        ]
        lines: list[Line] = [[]] if above else []
        if shared != above:
            lines += [*shared, []]
            above = shared
        print_lines(
            [
                *lines,
                _title(_named(found)),
                *fact_lines(own, terminal_width()),
                *value_lines(found.area, as_restored(found.area), terminal_width(), view),
            ]
        )


def show_registers(
    areas: Iterable[Found], asked: Callable[[XsaveArea], _Lacking], several: bool, view: View
) -> None:
    """Print the registers asked for: of one area alone; of several a table, where one fits."""
    width = terminal_width()
    table: list[tuple[str, str, dict[str, str]]] | None = [] if several else None
    for at, found in enumerate(areas):
        names = asked(found.area)
        if table is not None and not at and not _fits(found, names, width, view):
            table = None
        if table is not None:
            table.append((str(found.index), found.label, dict(_cells(found.area, names))))
            continue
        if several:
            print_lines([*([[]] if at else []), _title(_named(found))])
        print_lines(row_lines(_asked(found.area, names, width, view), width))
    if table:
        # A family's name stands where an area has none of it.
        shown = [name for *_, cells in table for name, cell in cells.items() if cell != _NONE]
        shown = list(dict.fromkeys(shown))
        rows = [[*head, *(cells.get(name, _NONE) for name in shown)] for *head, cells in table]
        print_lines(columns([["#", "area", *shown], *rows]))


def _fits(found: Found, names: Iterable[str], width: int, view: View) -> bool:
    """Whether a line holds these registers of an area, whatever their values.

    Tiles never, and vectors only as a number: their lanes stand in columns of their own.
    """
    area = found.area
    there = [name for name in names if name in area.registers]
    if any(area.model.registers[name].shape or (view.type and laned(name)) for name in there):
        return False
    cells = (max(len(name), _widest_value(area.registers.size(name))) for name in there)
    return len(_named(found)) + sum(2 + cell for cell in cells) + 2 <= width


def _widest_value(size: int) -> int:
    """The cells of a value of ``size`` bytes in one line."""
    if size <= 8:
        return 2 + 2 * size
    return _FLOAT80 if size == 10 else size // 8 * 17 + 1


def _cells(area: XsaveArea, names: _Lacking) -> Iterator[tuple[str, str]]:
    for name, lacking in names.items():
        if lacking:
            yield name, MISSING if isinstance(lacking, MissingStateError) else _NONE
        else:
            yield from ((name, row.value) for row in register_rows(area, [name], _ONE_LINE))


def _asked(area: XsaveArea, names: _Lacking, width: int, view: View) -> Iterator[Row]:
    there = (name for name, lacking in names.items() if not lacking)
    yield from register_rows(area, there, width - INDENT, view)
    for name, lacking in names.items():
        if lacking:
            missing = isinstance(lacking, MissingStateError)
            yield Row(name, MISSING if missing else "no place in this area", dim=True)


def _named(found: Found) -> str:
    return f"{found.label} (#{found.index})"


def _title(text: str) -> Line:
    return [(text, "bold")]


def _area(found: Found, view: View) -> Iterator[Line]:
    """The components of an area, and what they hold."""
    yield []
    yield from component_lines(found.area)
    yield from value_lines(found.area, as_restored(found.area), terminal_width(), view)


def _facts(found: Found) -> dict[str, str]:
    """What the header and the layout say of an area."""
    area = found.area
    facts = {"model": presented(area.model, found.others)}
    if found.others is not None or found.label != WHOLE or area.assumed:
        facts["layout"] = found.layout_source
    return facts | area_facts(area)

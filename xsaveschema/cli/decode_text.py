"""An area as text for people: header, components, registers, and the fields no register shows."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import wrap
from typing import TYPE_CHECKING, Final

from rich.text import Text

from xsaveschema.area import XsaveArea
from xsaveschema.cli.areas import WHOLE, Found
from xsaveschema.cli.output import console, mask_text, plain, table
from xsaveschema.cli.rows import Row, chosen, other_rows, register_rows
from xsaveschema.errors import hex_mask

if TYPE_CHECKING:
    from rich.console import Console

_MARGIN: Final = 13  # cells before the header's facts
_NAME: Final = 7  # cells of a register's name; longer ones make a column of their own
_INDENT: Final = 2 + _NAME + 2  # cells before a register's value


def show(source: str, found: Found, names: list[str], everything: bool) -> None:
    """Print an area, or of it the registers ``names`` alone; ``everything``: initial state too."""
    out = console()
    area = found.area
    if names:
        _rows(out, register_rows(area, names, out.width - _INDENT))
        return
    _header(out, source, found)
    _components(out, area)
    if area.faults:
        out.print("\nfaults", style="bold")
        _lines(out, [Text(f"  {fault}", style="red") for fault in area.faults])
    if registers := chosen(area, everything):
        out.print("\nregisters", style="bold")
        _rows(out, register_rows(area, registers, out.width - _INDENT))
    if others := list(other_rows(area, everything)):
        out.print("\nother fields", style="bold")
        _rows(out, others)


def _lines(out: Console, lines: Iterable[Text]) -> None:
    # Once for all lines: rich takes 0.2 ms a call. Wrapped values could not be copied.
    out.print(Text("\n").join(lines), soft_wrap=True)


def _rows(out: Console, rows: Iterable[Row]) -> None:
    rows = list(rows)
    longest = max(len(row.name) for row in rows)
    lines = []
    for row in rows:
        width = _NAME if len(row.name) <= _NAME else longest
        line = Text(style="dim" if row.dim else "")
        line.append(f"  {row.name:{width}}  ", style="cyan")
        line.append(row.value)
        remark = f"  {row.remark}" if row.remark else ""
        if len(line) + len(remark) > out.width:
            lines.append(line)
            line = Text(" " * (2 + width))
        lines.append(line.append(remark, style="green"))
        indent = _INDENT if row.indented else 0
        lines += [Text(" " * indent + part) for part in row.more]
    _lines(out, lines)


def _header(out: Console, file: str, found: Found) -> None:
    area = found.area
    model, layout = area.model, area.layout
    size = f"{len(area)} bytes"
    if len(area) > layout.size:
        size += f", of which the area takes {layout.size}"
    facts = [("model", f"{model.name}  {model.title}")]
    if found.others is not None:
        how = found.layout_source
        if found.others:
            alike = "other models lay" if found.others > 1 else "other model lays"
            how += f"; {found.others} {alike} it out alike"
        facts.append(("layout", how))
    if area.format == "standard":
        facts.append(("enabled", f"XCR0 {hex_mask(model.xcr0)}"))
    facts += [
        ("format", f"{area.format}, {size}"),
        ("XSTATE_BV", mask_text(area.xstate_bv, model.names_of(area.xstate_bv))),
        ("XCOMP_BV", mask_text(area.xcomp_bv, model.names_of(area.xcomp_bv))),
    ]
    title = file if found.label == WHOLE else f"{file}: {found.label}"
    out.print(plain(title), style="bold", soft_wrap=True)
    lines = []
    for name, value in facts:
        first, *more = wrap(value, max(40, out.width - _MARGIN))
        lines += [f"  {name}".ljust(_MARGIN) + first, *(" " * _MARGIN + part for part in more)]
    _lines(out, map(Text, lines))


def _components(out: Console, area: XsaveArea) -> None:
    rows = table(
        out,
        ("#", "right"),
        ("component", "left"),
        ("state", "left"),
        ("offset", "right"),
        ("size", "right"),
    )
    for slot in area.layout:
        in_use = area.in_use(slot.name)
        rows.add_row(
            str(slot.number),
            slot.name,
            "in use" if in_use else "initial",
            str(slot.offset),
            str(slot.size),
            style="" if in_use else "dim",
        )
    out.print()
    out.print(rows)

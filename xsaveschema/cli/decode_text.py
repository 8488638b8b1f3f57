"""An area as text for people: header, components, registers, and the fields no register shows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from rich.text import Text

from xsaveschema.area import XsaveArea
from xsaveschema.cli.areas import Found
from xsaveschema.cli.output import console, mask_text, plain, table
from xsaveschema.cli.values import bit_names, float80, hexadecimal, spans
from xsaveschema.model import COMPACTED, BitRange, Field, Register

if TYPE_CHECKING:
    from rich.console import Console

_VECTORS: Final = ("zmm", "ymm", "xmm")
_WIDTH: Final = 8  # of a register's name
_INDEX: Final = re.compile(r"\[\d+\]")


def show(source: str, found: Found, names: list[str], everything: bool) -> None:
    """Print an area, or of it the registers ``names`` alone; ``everything``: initial state too."""
    out = console()
    area = found.area
    if names:
        _print(out, _registers(area, names, out.width))
        return
    _header(out, source, found)
    _components(out, area)
    if area.faults:
        out.print("\nfaults", style="bold")
        _print(out, [Text(f"  {fault}", style="red") for fault in area.faults])
    chosen = list(_chosen(area, everything))
    if chosen:
        out.print("\nregisters", style="bold")
        _print(out, _registers(area, chosen, out.width))
    rest = list(_rest(area, everything))
    if rest:
        out.print("\nother fields", style="bold")
        _print(out, rest)


def _print(out: Console, lines: Iterable[Text]) -> None:
    # Once for all lines: rich takes 0.2 ms a call. Wrapped values could not be copied.
    out.print(Text("\n").join(lines), soft_wrap=True)


def _header(out: Console, source: str, found: Found) -> None:
    area = found.area
    model, layout = area.model, area.layout
    size = f"{len(area)} bytes"
    if len(area) > layout.size:
        size += f", of which the area takes {layout.size}"
    facts = [
        ("model", f"{model.name}  {model.title}"),
        ("layout", found.layout_source),
        ("format", f"{area.format}, {size}"),
        ("XSTATE_BV", mask_text(area.xstate_bv, model.names_of(area.xstate_bv))),
        ("XCOMP_BV", mask_text(area.xcomp_bv, model.names_of(area.xcomp_bv & ~COMPACTED))),
    ]
    out.print(f"{plain(source)}: {found.label}", style="bold", soft_wrap=True)
    _print(out, [Text.assemble(f"  {name:9}  ", (value, "default")) for name, value in facts])


def _components(out: Console, area: XsaveArea) -> None:
    rows = table(
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


def _chosen(area: XsaveArea, everything: bool) -> Iterator[str]:
    """The registers to show without being asked for any, grouped by component."""
    registers = area.registers
    model = area.model.registers
    # MXCSR means something in a standard area even while SSE is initial.
    names = [name for name in registers if everything or name == "mxcsr" or registers.in_use(name)]
    if not everything:
        names = [name for name in names if not _shown_elsewhere(name, registers)]
    first = {name: area.layout[model[name].pieces[0].component].number for name in names}
    yield from sorted(names, key=lambda name: (first[name], name[-1].isdecimal()))


def _shown_elsewhere(name: str, registers: Iterable[str]) -> bool:
    """Whether a wider register shows this one: xmm3 is in ymm3 and zmm3, mm3 in a slot of st."""
    stem = name.rstrip("0123456789")
    if stem == "mm":
        return True
    if stem not in _VECTORS:
        return False
    index = name[len(stem) :]
    wider = _VECTORS[: _VECTORS.index(stem)]
    return any(f"{other}{index}" in registers for other in wider)


def _registers(area: XsaveArea, names: Iterable[str], width: int) -> list[Text]:
    """Lines for registers; neighbours that are zero share one."""
    lines: list[Text] = []
    zeros: list[tuple[str, int]] = []
    whole = area.registers
    for name in names:
        register = area.model.registers[name]
        value = whole[name]
        stem = name.rstrip("0123456789")
        if stem != name and not any(_bytes(value)):
            if zeros and zeros[-1][0] != stem:
                lines += _zeros(zeros)
                zeros = []
            zeros.append((stem, int(name[len(stem) :])))
            continue
        lines += _zeros(zeros)
        zeros = []
        if isinstance(value, bytes):
            rows = _tile_rows(area, register, len(value))
            lines.append(_line(name, f"{rows} rows of {len(value) // max(rows, 1)} bytes"))
            lines += _hexdump(value, len(value) // max(rows, 1))
            continue
        lines += _register(area, name, value, width)
    return lines + _zeros(zeros)


def _zeros(zeros: list[tuple[str, int]]) -> list[Text]:
    lines = []
    for first, last in spans(number for _, number in zeros):
        stem = zeros[0][0]
        name = f"{stem}{first}" if first == last else f"{stem}{first}-{last}"
        lines.append(_line(name, "0", style="dim"))
    return lines


def _register(area: XsaveArea, name: str, value: int, width: int) -> list[Text]:
    size = area.registers.size(name)
    if name.startswith("st") and size == 10:
        shown = f"0x{value >> 64:04x}_{value & (1 << 64) - 1:016x}  {float80(value)}"
        return [_line(name, shown, "empty" if _empty(area, int(name[2:])) else "")]
    first, *more = hexadecimal(value, size, width - _WIDTH - 2)
    bits = _bits_of(area, name)
    lines = [_line(name, first, bit_names(bits, value))]
    return lines + [Text(" " * (_WIDTH + 2) + line) for line in more]


def _line(name: str, value: str, remark: str = "", style: str = "") -> Text:
    line = Text(style=style)
    line.append(f"  {name:{_WIDTH - 2}}  ", style="cyan")
    line.append(value)
    if remark:
        line.append(f"  {remark}", style="green")
    return line


def _empty(area: XsaveArea, index: int) -> bool:
    """Whether the tag word says that ST(index) is empty; its bits are physical registers'."""
    top = area["x87"]["fsw.top"]
    return not area["x87"]["ftw"] >> ((top + index) & 7) & 1


def _bits_of(area: XsaveArea, name: str) -> tuple[BitRange, ...]:
    """The named bits of a register that is one whole field."""
    pieces = area.model.registers[name].pieces
    if len(pieces) != 1 or pieces[0].size:
        return ()
    return _bits(area.layout[pieces[0].component].component.fields, pieces[0].field)


def _bits(fields: tuple[Field, ...], path: str) -> tuple[BitRange, ...]:
    name, _, rest = path.partition(".")
    field = next((field for field in fields if field.name == name), None)
    if field is None:
        return ()
    return _bits(field.fields, rest) if rest else field.bits


def _tile_rows(area: XsaveArea, register: Register, size: int) -> int:
    """How many rows a tile has; 16 of 64 bytes where TILECFG does not shape it."""
    if register.shape and size not in (0, 1024):
        return int(area[register.shape[0].component][register.shape[0].field][register.index])
    return size // 64


def _hexdump(data: bytes, per_line: int) -> Iterator[Text]:
    """Bytes in memory order, ``per_line`` to a row; equal rows of zeros are drawn together."""
    rows = [data[at : at + per_line] for at in range(0, len(data), per_line)]
    live = [index for index, row in enumerate(rows) if any(row)]
    for index in live:
        halves = [rows[index][at : at + 32] for at in range(0, per_line, 32)]
        for part, half in enumerate(halves):
            label = f"{index:4}: " if part == 0 else " " * 6
            yield Text(f"{label:>{_WIDTH + 2}}{half.hex(' ', 4)}")
    if len(live) < len(rows):
        yield Text(" " * (_WIDTH + 2) + f"{len(rows) - len(live)} rows are zero", style="dim")


def _rest(area: XsaveArea, everything: bool) -> Iterator[Text]:
    """Fields that no register shows, and the bytes of components without fields."""
    covered = {
        (piece.component, piece.field)
        for name in area.registers
        for piece in area.model.registers[name].pieces
    }
    for slot in area.layout:
        if not everything and not area.in_use(slot.name):
            continue
        if not slot.component.fields:
            yield _line(slot.name, f"{slot.size} bytes without known fields")
            if area.in_use(slot.name):
                yield from _hexdump(area.raw[slot.name], 32)
            continue
        zeros = 0
        for leaf in slot.component.leaves:
            path = _INDEX.sub("", leaf.path)
            if (slot.name, path) in covered:
                continue
            value = area[slot.name][leaf.path]
            if path != leaf.path and not everything and not any(_bytes(value)):
                zeros += 1
                continue
            if isinstance(value, bytes):
                yield _line(f"{slot.name}.{leaf.path}", value.hex(" ", 4) if any(value) else "0")
                continue
            bits = bit_names(_bits(slot.component.fields, path), value)
            yield _line(f"{slot.name}.{leaf.path}", f"0x{value:0{2 * leaf.size}x}", bits)
        if zeros:
            yield _line(slot.name, f"{zeros} more are zero", style="dim")


def _bytes(value: int | bytes) -> Iterable[int]:
    return value if isinstance(value, bytes) else (value,)

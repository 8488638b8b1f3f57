# SPDX-License-Identifier: MIT
"""The registers and fields of an area as rows of a name and a value.

Python 3.6 runs this module, too, inside debuggers: an area is an XsaveArea, or what has as much of
one as is asked for here.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from textwrap import wrap
from typing import Any, NamedTuple

from xsaveschema.values import (
    binary,
    bit_names,
    float80,
    fold,
    hexadecimal,
    lane_lines,
    lane_size,
    mask_bits,
    tile_config_lines,
    tile_lines,
    told,
)

_VECTORS = ("zmm", "ymm", "xmm")
_LANED = (*_VECTORS, "mm", "tmm")
_MASKS = "k"
_TILE = "u8"  # how a tile is shown where nobody says
_HANGING = 7  # cells that the lines of a tile begin left of other values
_DIGITS = "0123456789"
_INDEX = re.compile(r"\[\d+\]")


class Row(NamedTuple):
    """A name, its value, what that means; ``more`` are lines of the value below the first.

    ``indented`` says that they stand under the value, not under the name.
    """

    name: str
    value: str
    remark: str = ""
    more: "tuple[str, ...]" = ()
    indented: bool = False
    dim: bool = False


class View(NamedTuple):
    """What is shown: initial state and whole tiles too, or not; vectors and tiles as a type."""

    everything: bool = False
    type: "str | None" = None


PLAIN = View()


def stem(name: str) -> str:
    """The family of a register: zmm for zmm17."""
    return name.rstrip(_DIGITS)


def laned(name: str) -> bool:
    """Whether a register, or family, is one of vectors or tiles, which have lanes of some type."""
    return stem(name) in _LANED


def chosen(area: Any, everything: bool) -> "list[str]":
    """The registers to show without being asked for any, in order of component.

    Those of components in use, the widest name of each; or ``everything``.
    """
    registers = area.registers
    # MXCSR means something in a standard area even while SSE is initial.
    names = [name for name in registers if everything or name == "mxcsr" or registers.in_use(name)]
    if not everything:
        widest = registers.widest()
        names = [name for name in names if name in widest]
    first = {name: registers.plan(name).places[0].slot.number for name in names}
    # Vector registers 16 to 31 go behind 0 to 15, though their component has a higher number.
    first.update((name, 1) for name in names if name.startswith(_VECTORS))
    return sorted(names, key=lambda name: (first[name], name[-1].isdecimal()))


def register_rows(
    area: Any, names: "Iterable[str]", width: int, view: View = PLAIN
) -> "Iterator[Row]":
    """A row for each register; neighbours of one family that are equal share one.

    ``width`` is how many cells a line of a value may take.
    """
    for name, row in fold((name, _register(area, name, width, view)) for name in names):
        yield row._replace(name=name)


def _register(area: Any, name: str, width: int, view: View) -> Row:
    """The row of a register, but for its name."""
    value, size = area.registers[name], area.registers.size(name)
    if isinstance(value, bytes):
        return _tile(area, name, value, width, view)
    if stem(name) != name and not value:
        return Row("", "0", dim=True)
    if name.startswith("st") and size == 10:
        shown = f"0x{value >> 64:04x}_{value & (1 << 64) - 1:016x}  {float80(value)}"
        return Row("", shown, "empty" if area.registers.empty(int(name[2:])) else "")
    if view.type and laned(name):
        first, *more = lane_lines(value.to_bytes(size, "little"), view.type, width)
        return Row("", first, more=tuple(more), indented=True)
    first, *more = hexadecimal(value, size, width)
    remark = ""
    if stem(name) == _MASKS:
        remark = f"bits {mask_bits(value)}"
        if len(first) + 2 + len(remark) > width:  # too scattered to be told
            remark, more = "", [binary(value, size)]
    pieces = area.registers.plan(name).register.pieces
    if len(pieces) == 1 and not pieces[0].size:  # the register is one whole field
        place = area.registers.plan(name).places[0]
        at = place.start - place.slot.origin
        leaf = next(leaf for leaf in place.slot.component.leaves if leaf.offset == at)
        remark = remark or bit_names(_bits(leaf), value)
    return Row("", first, remark, tuple(more), indented=True)


def _tile(area: Any, name: str, value: bytes, width: int, view: View) -> Row:
    rows, per_row = area.registers.shape(name)
    if not value:
        return Row("", "no rows", dim=True)
    type, remark = view.type or _TILE, ""
    try:
        lanes = per_row // lane_size(type, per_row)
    except ValueError as error:
        type, lanes, remark = _TILE, per_row, str(error)
    shown = f"{_counted(rows, 'row')} of {lanes} {type}"
    if not any(value):
        return Row("", f"{shown}, all 0", remark, dim=True)
    lines = tile_lines(value, per_row, type, width + _HANGING, view.everything)
    return Row("", shown, remark, tuple(f"    {line}" for line in lines))


def lanes_told(area: Any, name: str, type: str) -> Any:
    """A vector's lanes, or a tile's rows of them, as JSON can hold them."""
    area.registers.lanes(name, type)  # what it refuses, it says of the register
    value = area.registers[name]
    if not isinstance(value, bytes):
        return told(value.to_bytes(area.registers.size(name), "little"), type)
    _, per_row = area.registers.shape(name)
    return [told(value[at : at + per_row], type) for at in range(0, len(value), per_row or 1)]


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _dump(data: bytes, per_row: int) -> "Iterator[str]":
    """Bytes in memory order, numbered rows; rows of zeros are left out and counted."""
    zeros = 0
    for index in range(-(-len(data) // per_row)):
        row = data[index * per_row : (index + 1) * per_row]
        if not any(row):
            zeros += 1
            continue
        yield f"{index:4}: {_words(row)}"
    if zeros:
        yield f"      {'1 row is' if zeros == 1 else f'{zeros} rows are'} zero"


def _words(data: bytes) -> str:
    """Bytes in memory order, four at a time."""
    return " ".join(data[at : at + 4].hex() for at in range(0, len(data), 4))


def other_rows(area: Any, everything: bool) -> "Iterator[Row]":
    """What no register shows of the components in use: fields, and bytes without fields."""
    registers = [area.registers.plan(name).register for name in area.registers]
    covered = {(piece.component, piece.field) for each in registers for piece in each.pieces}
    shapes = {each.shape[0].component: each.shape for each in registers if each.shape}
    for slot in area.layout:
        if not everything and not area.in_use(slot.name):
            continue
        rows, colsb = shapes.get(slot.name, (None, None))
        if rows and rows.component == colsb.component:
            yield _tile_config(area, slot, rows.field, colsb.field)
        elif slot.component.leaves:
            yield from _fields(area, slot, covered, everything)
        else:
            # The initial value of what nobody knows is taken to be zero.
            stored = bytes(area.buffer[slot.offset : slot.end])
            data = stored if area.in_use(slot.name) else bytes(slot.size)
            yield Row(
                slot.name, f"{slot.size} bytes of no known fields", more=tuple(_dump(data, 32))
            )


def _value(area: Any, slot: Any, leaf: Any) -> Any:
    """What a field means: bytes of a raw one, else a number."""
    data = area.read(slot, leaf.offset, leaf.size)
    return bytes(data) if leaf.raw else int.from_bytes(data, "little")


def _tile_config(area: Any, slot: Any, rows: str, colsb: str) -> Row:
    """TILECFG, with the fields that shape the tiles (rows, bytes a row) as a table."""
    fields: dict[str, list[Any]] = {}
    for leaf in slot.component.leaves:
        fields.setdefault(_INDEX.sub("", leaf.path), []).append(_value(area, slot, leaf))
    facts = [f"{name} {found[0]}" for name, found in fields.items() if name not in (rows, colsb)]
    if any(fields[rows]) or any(fields[colsb]):
        more = tile_config_lines(fields[rows], fields[colsb])
    else:
        facts, more = [*facts, "all tiles 0 rows"], []
    return Row(slot.name, ", ".join(facts), more=tuple(more), indented=True)


def _fields(
    area: Any, slot: Any, covered: "set[tuple[str, str]]", everything: bool
) -> "Iterator[Row]":
    zeros = 0
    for leaf in slot.component.leaves:
        path = _INDEX.sub("", leaf.path)
        if (slot.name, path) in covered:
            continue
        value = _value(area, slot, leaf)
        if path != leaf.path and not everything and not any(_parts(value)):
            zeros += 1
        elif leaf.raw:
            yield Row(f"{slot.name}.{leaf.path}", _words(value) if any(value) else "0")
        else:
            bits = bit_names(_bits(leaf), value)
            yield Row(f"{slot.name}.{leaf.path}", f"0x{value:0{2 * leaf.size}x}", bits)
    if zeros:
        yield Row(slot.name, f"{zeros} more {'is' if zeros == 1 else 'are'} zero", dim=True)


def loaded_rows(
    area: Any, restored: Any, reasons: "Mapping[str, str]", width: int
) -> "Iterator[Row]":
    """Why a restore loads a component otherwise than it is stored, and the fields that change.

    ``restored`` is an area of what it loads, ``width`` how many cells a line may take.
    """
    for slot in area.layout:
        if slot.name not in reasons:
            continue
        first, *more = wrap(reasons[slot.name], width)
        yield Row(slot.name, first, more=tuple(more), indented=True)
        for leaf in slot.component.leaves:
            before, after = _value(area, slot, leaf), _value(restored, slot, leaf)
            if before != after:
                digits = 2 * leaf.size
                said = f"stored 0x{before:0{digits}x}"
                yield Row(f"{slot.name}.{leaf.path}", f"0x{after:0{digits}x}", said)


def _parts(value: "int | bytes") -> "Iterable[int]":
    return value if isinstance(value, bytes) else (value,)


def _bits(leaf: Any) -> "list[tuple[str, int, int]]":
    return [(bits.name, bits.low, bits.width) for bits in leaf.bits]

"""The registers and fields of an area as rows of a name and a value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from textwrap import wrap
from typing import Final, NamedTuple

from xsaveschema.area import XsaveArea
from xsaveschema.area.loaded import as_restored
from xsaveschema.area.registers import widest
from xsaveschema.cli.values import bit_names, float80, hexadecimal, spans
from xsaveschema.model import BitRange, Field, Register
from xsaveschema.spans import Slot

_VECTORS: Final = ("zmm", "ymm", "xmm")
_DIGITS: Final = "0123456789"
_INDEX: Final = re.compile(r"\[\d+\]")


class Row(NamedTuple):
    """A name, its value, what that means; ``more`` are lines of the value below the first.

    ``indented`` says that they stand under the value, not under the name.
    """

    name: str
    value: str
    remark: str = ""
    more: tuple[str, ...] = ()
    indented: bool = False
    dim: bool = False


def chosen(area: XsaveArea, everything: bool) -> list[str]:
    """The registers to show without being asked for any, in order of component.

    Those of components in use, the widest name of each; or ``everything``.
    """
    registers = area.registers
    pieces = {name: area.model.registers[name].pieces for name in registers}
    # MXCSR means something in a standard area even while SSE is initial.
    names = [name for name in registers if everything or name == "mxcsr" or registers.in_use(name)]
    if not everything:
        names = [name for name in names if name in widest(area.layout)]
    first = {name: area.layout[pieces[name][0].component].number for name in names}
    # Vector registers 16 to 31 go behind 0 to 15, though their component has a higher number.
    first |= {name: 1 for name in names if name.startswith(_VECTORS)}
    return sorted(names, key=lambda name: (first[name], name[-1].isdecimal()))


def register_rows(area: XsaveArea, names: Iterable[str], width: int) -> Iterator[Row]:
    """A row for each register; neighbours of one family that are zero share one.

    ``width`` is how many cells a line of a value may take.
    """
    whole = area.registers
    family, zeros = "", list[int]()
    for name in names:
        value = whole[name]
        stem = name.rstrip(_DIGITS)
        zero = stem != name and not any(_parts(value))
        if zeros and not (zero and stem == family):
            yield from _zeros(family, zeros)
            zeros = []
        if zero:
            family = stem
            zeros.append(int(name[len(stem) :]))
        elif isinstance(value, bytes):
            yield _tile(area, area.model.registers[name], value)
        else:
            yield _number(area, name, value, width)
    yield from _zeros(family, zeros)


def _zeros(family: str, numbers: list[int]) -> Iterator[Row]:
    for first, last in spans(numbers):
        name = f"{family}{first}" if first == last else f"{family}{first}-{last}"
        yield Row(name, "0", dim=True)


def _number(area: XsaveArea, name: str, value: int, width: int) -> Row:
    pieces = area.model.registers[name].pieces
    if name.startswith("st") and area.registers.size(name) == 10:
        shown = f"0x{value >> 64:04x}_{value & (1 << 64) - 1:016x}  {float80(value)}"
        return Row(name, shown, "empty" if _empty(area, int(name[2:])) else "")
    first, *more = hexadecimal(value, area.registers.size(name), width)
    bits: tuple[BitRange, ...] = ()
    if len(pieces) == 1 and not pieces[0].size:  # the register is one whole field
        bits = _bits(area.layout[pieces[0].component].component.fields, pieces[0].field)
    return Row(name, first, bit_names(bits, value), tuple(more), indented=True)


def _empty(area: XsaveArea, index: int) -> bool:
    """Whether the tag word says that ST(index) is empty; its bits are physical registers'."""
    top: int = area["x87"]["fsw.top"]
    tags: int = area["x87"]["ftw"]
    return not tags >> ((top + index) & 7) & 1


def _tile(area: XsaveArea, register: Register, value: bytes) -> Row:
    rows, per_row = area.registers.shape(register.name)
    shown = f"{rows} rows of {per_row} bytes"
    return Row(register.name, shown, more=tuple(_dump(value, per_row)))


def _dump(data: bytes, per_row: int) -> Iterator[str]:
    """Bytes in memory order, numbered rows; rows of zeros are left out and counted."""
    zeros = 0
    for index in range(-(-len(data) // per_row)):
        row = data[index * per_row : (index + 1) * per_row]
        if not any(row):
            zeros += 1
            continue
        for at in range(0, len(row), 32):
            label = f"{index:4}: " if not at else " " * 6
            yield label + row[at : at + 32].hex(" ", -4)
    if zeros:
        yield f"      {'1 row is' if zeros == 1 else f'{zeros} rows are'} zero"


def other_rows(area: XsaveArea, everything: bool) -> Iterator[Row]:
    """What no register shows of the components in use: fields, and bytes without fields."""
    covered = {
        (piece.component, piece.field)
        for name in area.registers
        for piece in area.model.registers[name].pieces
    }
    for slot in area.layout:
        if not everything and not area.in_use(slot.name):
            continue
        if slot.component.fields:
            yield from _fields(area, slot, covered, everything)
        else:
            # The initial value of what nobody knows is taken to be zero.
            stored = bytes(area.buffer[slot.offset : slot.end])
            data = stored if area.in_use(slot.name) else bytes(slot.size)
            yield Row(
                slot.name, f"{slot.size} bytes of no known fields", more=tuple(_dump(data, 32))
            )


def _fields(
    area: XsaveArea, slot: Slot, covered: set[tuple[str, str]], everything: bool
) -> Iterator[Row]:
    zeros = 0
    for leaf in slot.component.leaves:
        path = _INDEX.sub("", leaf.path)
        if (slot.name, path) in covered:
            continue
        value = area[slot.name][leaf.path]
        if path != leaf.path and not everything and not any(_parts(value)):
            zeros += 1
        elif isinstance(value, bytes):
            yield Row(f"{slot.name}.{leaf.path}", value.hex(" ", -4) if any(value) else "0")
        else:
            bits = bit_names(_bits(slot.component.fields, path), value)
            yield Row(f"{slot.name}.{leaf.path}", f"0x{value:0{2 * leaf.size}x}", bits)
    if zeros:
        yield Row(slot.name, f"{zeros} more {'is' if zeros == 1 else 'are'} zero", dim=True)


def loaded_rows(area: XsaveArea, width: int) -> Iterator[Row]:
    """Why a restore loads a component otherwise than it is stored, and the fields that change.

    ``width`` is how many cells a line may take.
    """
    restored, reasons = as_restored(area)
    for name, reason in reasons.items():
        first, *more = wrap(reason, width)
        yield Row(name, first, more=tuple(more), indented=True)
        component = area.layout[name].component
        for leaf in component.leaves:
            before, after = area[name][leaf.path], restored[name][leaf.path]
            if before != after:
                digits = 2 * leaf.size
                said = f"stored 0x{before:0{digits}x}"
                yield Row(f"{name}.{leaf.path}", f"0x{after:0{digits}x}", said)


def _parts(value: int | bytes) -> Iterable[int]:
    return value if isinstance(value, bytes) else (value,)


def _bits(fields: tuple[Field, ...], path: str) -> tuple[BitRange, ...]:
    """The named bits of the field that a dotted path without indexes leads to."""
    name, _, rest = path.partition(".")
    field = next((field for field in fields if field.name == name), None)
    if field is None:
        return ()
    return _bits(field.fields, rest) if rest else field.bits

"""The fields of a component in an area, to read and to write, down to named bits.

``fields["mxcsr"]`` is an integer (bytes for a raw field), ``fields["bnd"][2]["lower"]`` goes into
repeats and groups; ``fields["bnd[2].lower"]`` and ``fields["mxcsr.rc"]`` say the same by path.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from operator import index
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from xsaveschema.errors import UnknownComponentError, ValueRangeError
from xsaveschema.model import BitRange, Field
from xsaveschema.spans import Slot

if TYPE_CHECKING:
    from xsaveschema.area import XsaveArea

_STEP: Final = re.compile(r"([a-z][a-z0-9_]*)(?:\[([0-9]{1,4})\])?(?:\.(?=.)|\Z)")


class _Target(Struct, frozen=True):
    """What a path leads to: a number or raw bytes of a component, or a range of its bits."""

    offset: int
    size: int
    raw: bool
    bits: BitRange | None


class Fields(Mapping[str, Any]):
    """The fields of a component, or of one element of a repeated group."""

    __slots__ = ("_area", "_base", "_fields", "_path", "_slot")

    def __init__(
        self, area: XsaveArea, slot: Slot, fields: tuple[Field, ...], base: int, path: str
    ):
        self._area = area
        self._slot = slot
        self._fields = fields
        self._base = base
        self._path = path

    def __getitem__(self, name: str) -> Any:
        for field in self._fields:
            if field.name == name:
                if field.count is not None:
                    return Elements(self._area, self._slot, field, self._base, self._say(name))
                return _get(self._area, self._slot, field, self._base, self._say(name))
        target = self._locate(name)
        data = self._area.read(self._slot, target.offset, target.size)
        if target.raw:
            return bytes(data)
        value = int.from_bytes(data, "little")
        return (value & target.bits.mask) >> target.bits.low if target.bits else value

    def __setitem__(self, name: str, value: Any) -> None:
        for field in self._fields:
            if field.name == name:
                if field.count is not None:
                    Elements(self._area, self._slot, field, self._base, self._say(name))[:] = value
                else:
                    _set(self._area, self._slot, field, self._base, self._say(name), value)
                return
        target, said = self._locate(name), self._say(name)
        if target.bits:
            value = whole_number(value, said)
            if value < 0 or value >> target.bits.width:
                most = (1 << target.bits.width) - 1
                raise ValueRangeError(f"{said} takes 0..{most:#x}, not {value!r}", said)
            data = self._area.read(self._slot, target.offset, target.size)
            rest = int.from_bytes(data, "little") & ~target.bits.mask
            value = rest | value << target.bits.low
        data = encode(value, target.size, said, target.raw)
        self._area.write(self._slot, self._slot.origin + target.offset, data)

    def __iter__(self) -> Iterator[str]:
        return (field.name for field in self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"<{self._slot.name}{self._path}: {', '.join(self)}>"

    def bits(self, name: str) -> dict[str, int]:
        """The named bits of a number: ``{"ie": 0, …, "rc": 3}``; empty where none are named."""
        value = self[name]
        field = next((f for f in self._fields if f.name == name), None)
        if field is None or not isinstance(value, int):
            raise self._unknown(name)
        return {bits.name: (value & bits.mask) >> bits.low for bits in field.bits}

    def _unknown(self, name: str) -> UnknownComponentError:
        there = ", ".join(self) or "none: its bytes are opaque, see raw"
        said = self._say(name)
        return UnknownComponentError(f"there is no field {said}; fields: {there}", said)

    def _say(self, name: str) -> str:
        return f"{self._slot.name}{self._path}.{name}"

    def _locate(self, path: str) -> _Target:
        """Follow a path (``bnd[2].lower``, ``st[0].exponent``) to a value or to bits of one."""
        if not isinstance(path, str):
            raise self._unknown(path)
        fields, offset, rest = self._fields, self._base, path
        while match := _STEP.match(rest):
            field = next((f for f in fields if f.name == match[1]), None)
            if field is None or (field.count is None) != (match[2] is None):
                break
            index = int(match[2] or 0)
            if index >= (field.count or 1):
                break
            offset += field.offset + index * field.stride
            rest = rest[match.end() :]
            if field.fields:
                fields = field.fields
                continue
            bits = next((b for b in field.bits if b.name == rest), None)
            inside = offset + field.size <= len(self._slot.component.initial)
            if inside and (bits or not rest):
                return _Target(offset, field.size, field.type == "bytes", bits)
            break
        raise self._unknown(path)


class Elements(Sequence[Any]):
    """The elements of a repeated field, as many as this CPU's component has room for."""

    __slots__ = ("_area", "_base", "_count", "_field", "_path", "_slot")

    def __init__(self, area: XsaveArea, slot: Slot, field: Field, base: int, path: str):
        self._area = area
        self._slot = slot
        self._field = field
        self._base = base + field.offset
        self._path = path
        room = len(slot.component.initial) - self._base - field.size
        fitting = 0 if room < 0 else room // field.stride + 1
        self._count = min(field.count or 0, fitting)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        index = self._index(index)
        base = self._base + index * self._field.stride - self._field.offset
        return _get(self._area, self._slot, self._field, base, f"{self._path}[{index}]")

    def __setitem__(self, index: int | slice, value: Any) -> None:
        if isinstance(index, slice):
            places = range(*index.indices(self._count))
            if not isinstance(value, Sequence) or len(value) != len(places):
                raise ValueRangeError(f"{self._path} takes {len(places)} values", self._path)
            for place, item in zip(places, value, strict=True):
                self[place] = item
            return
        index = self._index(index)
        base = self._base + index * self._field.stride - self._field.offset
        _set(self._area, self._slot, self._field, base, f"{self._path}[{index}]", value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # it can be written through

    def __repr__(self) -> str:
        return f"<{self._path}: {self._count} of {self._field.type}>"

    def _index(self, index: int) -> int:
        index = whole_number(index, f"{self._path}[...]")
        if not -self._count <= index < self._count:
            raise IndexError(f"{self._path} has {self._count} elements, no [{index}]")
        return index % self._count


def _get(area: XsaveArea, slot: Slot, field: Field, base: int, path: str) -> Any:
    if field.fields:
        inner = path.removeprefix(slot.name)
        return Fields(area, slot, field.fields, base + field.offset, inner)
    data = area.read(slot, base + field.offset, field.size)
    return bytes(data) if field.type == "bytes" else int.from_bytes(data, "little")


def _set(area: XsaveArea, slot: Slot, field: Field, base: int, path: str, value: Any) -> None:
    if field.fields:
        if not isinstance(value, Mapping):
            raise ValueRangeError(f"{path} takes a mapping of its fields", path)
        group = Fields(area, slot, field.fields, base + field.offset, path.removeprefix(slot.name))
        for name, item in value.items():
            group[name] = item
        return
    data = encode(value, field.size, path, field.type == "bytes")
    area.write(slot, slot.origin + base + field.offset, data)


def encode(value: Any, size: int, path: str, raw: bool) -> bytes:
    """The ``size`` bytes that stand for a value; ValueRangeError where it does not fit."""
    if raw:
        if not isinstance(value, bytes | bytearray | memoryview) or len(value) != size:
            raise ValueRangeError(f"{path} takes exactly {size} bytes, not {_shown(value)}", path)
        return bytes(value)
    number = whole_number(value, path)
    try:
        return number.to_bytes(size, "little")
    except OverflowError:
        most = (1 << 8 * size) - 1
        raise ValueRangeError(f"{path} takes 0..{most:#x}, not {number:#x}", path) from None


def whole_number(value: Any, path: str) -> int:
    """An integer, numpy's included, as int; ValueRangeError for anything else, booleans too."""
    if type(value) is int:
        return value
    if not isinstance(value, bool):
        with suppress(TypeError):
            return index(value)
    raise ValueRangeError(f"{path} takes an integer, not {_shown(value)}", path)


def _shown(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(value)} bytes"
    return repr(value)[:80]

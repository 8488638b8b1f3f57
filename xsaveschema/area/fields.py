# SPDX-License-Identifier: MIT
"""The fields of a component in an area, to read and to write, down to named bits.

``fields["mxcsr"]`` is an integer (bytes for a raw field), ``fields["bnd"][2]["lower"]`` goes into
repeats and groups; ``fields["bnd[2].lower"]`` and ``fields["mxcsr.rc"]`` say the same by path.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING, Any, Final

from xsaveschema.errors import UnknownComponentError, ValueRangeError
from xsaveschema.model import BitRange, Field
from xsaveschema.spans import Slot

if TYPE_CHECKING:
    from xsaveschema.area import XsaveArea

_STEP: Final = re.compile(r"([a-z][a-z0-9_]*)(?:\[([0-9]{1,4})\])?(?:\.(?=.)|\Z)")


@dataclass(slots=True, eq=False, repr=False)
class Fields(Mapping[str, Any]):
    """The fields of a component, or of one element of a repeated group."""

    _area: XsaveArea
    _slot: Slot
    _fields: tuple[Field, ...]
    _base: int
    _path: str

    def __getitem__(self, name: str) -> Any:
        field, offset, bits = self._found(name)
        if field.count is not None and bits is None and field.name == name:
            return Elements(self._area, self._slot, field, offset, self._say(name))
        value = _get(self._area, self._slot, field, offset, self._say(name))
        return (value & bits.mask) >> bits.low if bits else value

    def __setitem__(self, name: str, value: Any) -> None:
        field, offset, bits = self._found(name)
        said = self._say(name)
        if field.count is not None and bits is None and field.name == name:
            Elements(self._area, self._slot, field, offset, said)[:] = value
            return
        if bits:
            value = whole_number(value, said)
            if value < 0 or value >> bits.width:
                most = (1 << bits.width) - 1
                raise ValueRangeError(f"{said} takes 0..{most:#x}, not {value!r}", said)
            rest = _get(self._area, self._slot, field, offset, said) & ~bits.mask
            value = rest | value << bits.low
        _set(self._area, self._slot, field, offset, said, value)

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

    def _found(self, path: str) -> tuple[Field, int, BitRange | None]:
        """A field by name, or what a path leads to (``bnd[2].lower``, ``st[0].exponent``).

        The field, where the element stands, and the bits of it that are meant.
        """
        for field in self._fields:
            if field.name == path:
                return field, self._base + field.offset, None
        fields, offset, rest = self._fields, self._base, path
        while isinstance(rest, str) and (match := _STEP.match(rest)):
            own = next((f for f in fields if f.name == match[1]), None)
            if own is None or (own.count is None) != (match[2] is None):
                break
            number = int(match[2] or 0)
            if number >= (own.count or 1):
                break
            offset += own.offset + number * own.stride
            rest = rest[match.end() :]
            if own.fields:
                fields = own.fields
                continue
            bits = next((b for b in own.bits if b.name == rest), None)
            inside = offset + own.size <= len(self._slot.component.initial)
            if inside and (bits or not rest):
                return own, offset, bits
            break
        raise self._unknown(path)


@dataclass(slots=True, eq=False, repr=False)
class Elements(Sequence[Any]):
    """The elements of a repeated field, as many as this CPU's component has room for."""

    _area: XsaveArea
    _slot: Slot
    _field: Field
    _base: int
    _path: str

    def __len__(self) -> int:
        room = len(self._slot.component.initial) - self._base - self._field.size
        return 0 if room < 0 else min(self._field.count or 0, room // self._field.stride + 1)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return _get(self._area, self._slot, self._field, *self._place(index))

    def __setitem__(self, index: int | slice, value: Any) -> None:
        if not isinstance(index, slice):
            _set(self._area, self._slot, self._field, *self._place(index), value)
            return
        places = range(*index.indices(len(self)))
        if not isinstance(value, Sequence) or len(value) != len(places):
            raise ValueRangeError(f"{self._path} takes {len(places)} values", self._path)
        for place, item in zip(places, value, strict=True):
            self[place] = item

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # it can be written through

    def __repr__(self) -> str:
        return f"<{self._path}: {len(self)} of {self._field.type}>"

    def _place(self, index: int) -> tuple[int, str]:
        """Where an element stands, and its path."""
        count = len(self)
        index = whole_number(index, f"{self._path}[...]")
        if not -count <= index < count:
            raise IndexError(f"{self._path} has {count} elements, no [{index}]")
        index %= count
        return self._base + index * self._field.stride, f"{self._path}[{index}]"


def _get(area: XsaveArea, slot: Slot, field: Field, offset: int, path: str) -> Any:
    if field.fields:
        return Fields(area, slot, field.fields, offset, path.removeprefix(slot.name))
    data = area.read(slot, offset, field.size)
    return bytes(data) if field.type == "bytes" else int.from_bytes(data, "little")


def _set(area: XsaveArea, slot: Slot, field: Field, offset: int, path: str, value: Any) -> None:
    if not field.fields:
        data = encode(value, field.size, path, field.type == "bytes")
        area.write(slot, slot.origin + offset, data)
        return
    if not isinstance(value, Mapping):
        raise ValueRangeError(f"{path} takes a mapping of its fields", path)
    group = Fields(area, slot, field.fields, offset, path.removeprefix(slot.name))
    for name, item in value.items():
        group[name] = item


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

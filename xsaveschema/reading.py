# SPDX-License-Identifier: MIT
"""What an area holds: whole registers from the pieces that hold them, and what a restore loads.

This module stands alone, as ``values`` does: the interpreters inside debuggers run it, too. An
area is whatever has ``buffer``, ``xstate_bv`` and ``write``; where its registers stand, plans say.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from struct import Struct
from typing import Any, NamedTuple, NoReturn

# The frame that every XSAVE area shares (SDM 13.4.1, 13.4.2), whatever the CPU model.
LEGACY_SIZE = 512
HEADER_OFFSET = 512
HEADER_SIZE = 64
EXTENDED_OFFSET = 576
SOFTWARE_OFFSET = 416
XCR0_OFFSET = 464
MXCSR_OFFSET = 24
MXCSR_END = 32
"""Behind MXCSR and MXCSR_MASK."""

X87 = 1 << 0
SSE = 1 << 1
COMPACTED = 1 << 63
"""XCOMP_BV bit 63: the area is in the compacted format."""

ALWAYS = 0
"""In place of a component's bit: alive whatever XSTATE_BV says."""

_ROW = 64  # bytes from one row of a tile to the next (SDM vol. 1, 18.2)
_number = int.from_bytes


class Placed:
    """A ``component`` and the byte ``offset`` at which it begins: where its parts stand."""

    __slots__ = ()

    component: Any
    offset: int

    @property
    def number(self) -> int:
        """The component's number."""
        return int(self.component.number)

    @property
    def bit(self) -> int:
        """The component's bit in every state-component bitmap."""
        return 1 << self.number

    @property
    def name(self) -> str:
        """The component's name."""
        return str(self.component.name)

    @property
    def size(self) -> int:
        """The component's size in bytes."""
        return int(self.component.size)

    @property
    def end(self) -> int:
        """The first byte behind the component."""
        return self.offset + self.size

    @property
    def origin(self) -> int:
        """The byte from which the component's field offsets count: 0 for the legacy components."""
        return self.offset if self.number > 1 else 0

    @property
    def ranges(self) -> "tuple[tuple[int, int], ...]":
        """The (start, end) of the bytes that are the component's state.

        MXCSR and MXCSR_MASK stand amid x87's bytes and belong to neither: their rules are their
        own (SDM 13.8.1).
        """
        if self.number == 0:
            return (0, MXCSR_OFFSET), (MXCSR_END, self.end)
        return ((self.offset, self.end),)


class Place(NamedTuple):
    """A piece in a layout: what stands there if XSTATE_BV has ``bit``, else ``initial``.

    ``slot`` is the place of its component: where that begins, what it is.
    """

    bit: int
    start: int
    end: int
    shift: int
    initial: int
    slot: Any


class Top(NamedTuple):
    """What MM registers are numbered by: TOP is in ``word`` from bit ``low`` on; ST(i)'s slots."""

    word: Place
    low: int
    slots: "tuple[Place, ...]"


class Plan(NamedTuple):
    """A register in a layout. ``top`` and ``shape`` are set for MM and TMM registers.

    ``shape`` are the rows of a tile and its bytes a row.
    """

    register: Any
    places: "tuple[Place, ...]"
    size: int
    top: "Top | None"
    shape: "tuple[Place, Place] | None"


class RegisterFile:
    """The registers of an area, by the plans of its layout.

    Who derives from it says what is wrong with a name that has no plan, and which bytes a restore
    loads of a component.
    """

    __slots__ = ("_area", "_plans")

    def __init__(self, area: Any, plans: "Mapping[str, Plan]"):
        self._area = area
        self._plans = plans

    def _absent(self, name: str) -> NoReturn:
        raise NotImplementedError

    def _loaded(self, slot: Any) -> bytes:
        raise NotImplementedError

    def __iter__(self) -> "Iterator[str]":
        return iter(self._plans)

    def __len__(self) -> int:
        return len(self._plans)

    def __contains__(self, name: object) -> bool:
        return name in self._plans

    def plan(self, name: str) -> Plan:
        """Where a register stands."""
        return self._plans.get(name) or self._absent(name)

    def __getitem__(self, name: str) -> Any:
        plan = self._plans.get(name)
        if plan is None:
            self._absent(name)
        if plan.shape is not None:
            return self._tile(plan)
        if plan.top is not None:
            return self._number(self._physical(plan, plan.top))
        area = self._area
        view, xstate_bv = area.buffer, area.xstate_bv
        value = 0
        for bit, start, end, shift, initial, _ in plan.places:
            in_use = xstate_bv & bit or bit == ALWAYS
            part = _number(view[start:end], "little") if in_use else initial
            value = value | part << shift if shift else part
        return value

    def put(self, name: str, data: bytes) -> None:
        """Write a register's bytes, as many as it has, lowest first; of a tile, those of its rows.

        A zmm register has all its pieces; ymm and xmm leave the upper parts alone.
        """
        plan = self.plan(name)
        if plan.shape is not None:
            self._put_tile(plan, data)
            return
        for place in plan.places if plan.top is None else (self._physical(plan, plan.top),):
            at = place.shift // 8
            self._area.write(place.slot, place.start, data[at : at + place.end - place.start])

    def in_use(self, name: str) -> bool:
        """Whether any component that holds a part of the register is in use."""
        return any(self._area.xstate_bv & place.slot.bit for place in self.plan(name).places)

    def size(self, name: str) -> int:
        """The register's size in bytes (of a tile: all its rows)."""
        return self.plan(name).size

    def shape(self, name: str) -> "tuple[int, int]":
        """Rows and bytes a row of a tile, as its bytes are read and written here."""
        return self._shape(self.plan(name))

    def empty(self, index: int) -> bool:
        """Whether the tag word says that ST(index) is empty; its bits are physical registers'."""
        top = self.plan(f"mm{index}").top
        return top is not None and not self["ftw"] >> ((self._top(top) + index) & 7) & 1

    def widest(self) -> "tuple[str, ...]":
        """The registers that no wider one shows."""
        return widest(self._plans)

    def _number(self, place: Place) -> int:
        if not self._area.xstate_bv & place.bit and place.bit != ALWAYS:
            return place.initial
        return _number(self._area.buffer[place.start : place.end], "little")

    def _top(self, top: Top) -> int:
        return self._number(top.word) >> top.low & 7

    def _physical(self, plan: Plan, top: Top) -> Place:
        """The slot of a physical register: ST(i) slots are relative to TOP (SDM 10.5.1.1)."""
        index: int = plan.register.index
        return top.slots[(index - self._top(top)) & 7]

    def _shape(self, plan: Plan) -> "tuple[int, int]":
        """Rows and bytes a row of a tile; the whole tile where the TILECFG loaded is initial."""
        assert plan.shape is not None  # noqa: S101 - the caller's condition
        most_rows, most_bytes = plan.size // _ROW, _ROW
        images = [self._loaded(place.slot) for place in plan.shape]
        if not any(map(any, images)):
            return most_rows, most_bytes
        rows, colsb = (
            _number(
                image[place.start - place.slot.origin : place.end - place.slot.origin], "little"
            )
            for place, image in zip(plan.shape, images)
        )
        if rows > most_rows or colsb > most_bytes:
            return most_rows, most_bytes
        return rows, colsb

    def _tile(self, plan: Plan) -> bytes:
        rows, colsb = self._shape(plan)
        place = plan.places[0]
        if not self._area.xstate_bv & place.bit:
            return bytes(rows * colsb)
        data = self._area.buffer[place.start : place.end]
        return b"".join(data[_ROW * row : _ROW * row + colsb] for row in range(rows))

    def _put_tile(self, plan: Plan, data: bytes) -> None:
        rows, colsb = self._shape(plan)
        if not data:
            return
        place = plan.places[0]
        # What lies outside the shape is state, too: TILEDATA moves in full (HW AMX).
        tile = bytearray(plan.size)
        if self._area.xstate_bv & place.bit:
            tile[:] = self._area.buffer[place.start : place.end]
        for row in range(rows):
            tile[_ROW * row : _ROW * row + colsb] = data[colsb * row : colsb * (row + 1)]
        self._area.write(place.slot, place.start, bytes(tile))


def widest(plans: "Mapping[str, Plan]") -> "tuple[str, ...]":
    """The registers that no wider one shows: not XMM3 where there is YMM3, nor MM3 with ST(i)."""
    shown, found = 0, set()
    for name in sorted(plans, key=lambda name: -plans[name].size):
        own = sum((1 << place.end) - (1 << place.start) for place in plans[name].places)
        if own & ~shown:
            found.add(name)
        shown |= own
    return tuple(name for name in plans if name in found)


def enabled_mask(view: "memoryview | bytes", xstate_bv: int) -> int:
    """The mask of its user components that Linux leaves at byte 464 of a standard area; 0: none.

    It has x87 and SSE, covers XSTATE_BV and is followed by zeros to the header.
    """
    mask = _number(view[XCR0_OFFSET : XCR0_OFFSET + 8], "little")
    if mask & (X87 | SSE) != X87 | SSE or mask >> 63 or xstate_bv & ~mask:
        return 0
    return 0 if any(view[XCR0_OFFSET + 8 : HEADER_OFFSET]) else mask


# What a restore loads


class Loaded(NamedTuple):
    """A component as a restore loads it.

    ``image`` is its bytes, indexed by field offset; ``reason`` says why they are not the stored
    ones, in one sentence, and is empty where they are.
    """

    image: bytes
    reason: str = ""


INTEL = "GenuineIntel"

_X87 = Struct("<HHBBHQ")  # FCW, FSW, FTW, a reserved byte, FOP, FIP
_X87_NAMES = ("fcw", "fsw", "ftw", "", "fop", "fip")
_FIP_SIGN = 1 << 56


def x87_of_intel(image: bytes) -> Loaded:
    """x87 state as XSAVE gives it back after XRSTOR (HW: Intel with AMX); the rest is exact.

    FCW's bits 15:13 and 7 read as 0 and bit 6 as 1; FSW's ES and B say whether an exception is
    pending; FOP has 11 bits; FIP is sign-extended from bit 56.
    """
    fcw, fsw, ftw, reserved, fop, fip = before = _X87.unpack_from(image)
    fcw = fcw & 0x1F7F | 0x40
    pending = fsw & ~fcw & 0x3F
    fsw = fsw & 0x7F7F | (0x8080 if pending else 0)
    fip = fip & 2 * _FIP_SIGN - 1
    if fip & _FIP_SIGN:
        fip |= -_FIP_SIGN & (1 << 64) - 1
    after = (fcw, fsw, ftw, reserved, fop & 0x7FF, fip)
    if after == before:
        return Loaded(image)
    names = [name for name, a, b in zip(_X87_NAMES, before, after) if a != b]
    reason = f"an Intel CPU has not all of the stored bits of {', '.join(names)}"
    return Loaded(_X87.pack(*after) + image[_X87.size :], reason)


def initial_instead(component: Any, why: str) -> Loaded:
    """The initial state of a component whose bytes a restore does not take."""
    what = f"illegal, so the initial {component.name.upper()} is loaded"
    return Loaded(component.initial, f"{what}: {why}")


_TILECFG_SIZE = 64
_COLSB = Struct("<16x8H")
_ROWS = slice(48, 56)
_TILECFG_RESERVED = (slice(2, 16), slice(32, 48), slice(56, 64))
_MOST_ROWS, _MOST_COLSB = 16, 64


@lru_cache(maxsize=1024)
def illegal_tilecfg(image: bytes) -> str:
    """Why a processor does not load a TILECFG (64 bytes) as it stands; empty for a legal one.

    XRSTOR and XRSTORS load the initial TILECFG then, palette 0, without a fault; LDTILECFG raises
    #GP, but for palette 0, which is initial whatever follows it (SDM vol. 1, 13.8.1; vol. 2,
    LDTILECFG; HW: Intel with AMX). start_row has no limit, and colsb need not be a multiple of 4.
    """
    image = image.ljust(_TILECFG_SIZE, b"\0")
    palette = image[0]
    if palette > 1:
        return f"there is no palette {palette}"
    if not palette:
        return "palette 0 with other bytes that are not 0" if any(image) else ""
    if any(any(image[part]) for part in _TILECFG_RESERVED):
        return "a reserved byte is not 0"
    shapes = zip(image[_ROWS], _COLSB.unpack_from(image))
    for tile, (rows, colsb) in enumerate(shapes):
        said = f"tmm{tile} has {rows} rows of {colsb} bytes"
        if rows > _MOST_ROWS or colsb > _MOST_COLSB:
            return f"{said}, more than {_MOST_ROWS} of {_MOST_COLSB}"
        if bool(rows) != bool(colsb):
            return f"{said}: one of them alone is 0"
    return ""


PREDICATES = {"tilecfg": illegal_tilecfg}
"""Rules of several fields, by the name in a component's file: why bytes are illegal, or empty."""

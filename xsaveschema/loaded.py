"""What a restore loads of a component that is in use: not always what stands in memory.

A processor takes some values without a fault and holds others than those: an illegal TILECFG
becomes the initial one, and Intel's x87 registers lack some bits. Where software would see the
difference, what is loaded is what the area means; ``area[...]`` and ``area.raw`` stay what is
stored.
"""

from __future__ import annotations

from copy import copy
from functools import lru_cache
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from xsaveschema.layout import Slot
from xsaveschema.model import StateComponent

if TYPE_CHECKING:
    from xsaveschema.area import XsaveArea

INTEL: Final = "GenuineIntel"

_TILECFG_SIZE: Final = 64
_COLSB: Final = Struct("<16x8H")
_ROWS: Final = slice(48, 56)
_TILECFG_RESERVED: Final = (slice(2, 16), slice(32, 48), slice(56, 64))
_MOST_ROWS, _MOST_COLSB = 16, 64
_X87: Final = Struct("<HHBBHQ")  # FCW, FSW, FTW, a reserved byte, FOP, FIP
_X87_NAMES: Final = ("fcw", "fsw", "ftw", "", "fop", "fip")
_FIP_SIGN: Final = 1 << 56


class Loaded(NamedTuple):
    """A component as a restore loads it.

    ``image`` is its bytes, indexed by field offset; ``reason`` says why they are not the stored
    ones, in one sentence, and is empty where they are.
    """

    image: bytes
    reason: str = ""


def loaded(area: XsaveArea, slot: Slot) -> Loaded:
    """A component of an area as the area's own CPU loads it; initial where it is not in use."""
    if not area.xstate_bv & slot.component.bit:
        return Loaded(slot.component.initial)
    return as_loaded(slot.component, stored(area, slot), area.model.vendor)


def as_restored(area: XsaveArea) -> tuple[XsaveArea, dict[str, str]]:
    """A copy of an area that holds what a restore loads, and why, for each component it changes.

    The area itself and no reasons where a restore loads everything as it is stored.
    """
    changed = [(slot, *found) for slot in area.layout if (found := loaded(area, slot)).reason]
    if not changed:
        return area, {}
    restored = copy(area)
    for slot, image, _ in changed:
        for start, end in slot.ranges:
            restored.buffer[start:end] = image[start - slot.origin : end - slot.origin]
    return restored, {slot.name: reason for slot, _, reason in changed}


def stored(area: XsaveArea, slot: Slot) -> bytes:
    """What stands in memory at a component's place, indexed by field offset."""
    image = bytearray(slot.component.reach)
    for start, end in slot.ranges:
        image[start - slot.origin : end - slot.origin] = area.buffer[start:end]
    return bytes(image)


def as_loaded(component: StateComponent, image: bytes, vendor: str) -> Loaded:
    """What a CPU of ``vendor`` loads where ``image`` stands for a component that is in use."""
    if component.name == "tilecfg" and (why := illegal_tilecfg(image)):
        return Loaded(component.initial, f"illegal, so the initial TILECFG is loaded: {why}")
    if component.name == "x87" and vendor == INTEL:
        return _x87_of_intel(image)
    return Loaded(image)


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
    shapes = zip(image[_ROWS], _COLSB.unpack_from(image), strict=True)
    for tile, (rows, colsb) in enumerate(shapes):
        said = f"tmm{tile} has {rows} rows of {colsb} bytes"
        if rows > _MOST_ROWS or colsb > _MOST_COLSB:
            return f"{said}, more than {_MOST_ROWS} of {_MOST_COLSB}"
        if bool(rows) != bool(colsb):
            return f"{said}: one of them alone is 0"
    return ""


def _x87_of_intel(image: bytes) -> Loaded:
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
    names = [name for name, a, b in zip(_X87_NAMES, before, after, strict=True) if a != b]
    reason = f"an Intel CPU has not all of the stored bits of {', '.join(names)}"
    return Loaded(_X87.pack(*after) + image[_X87.size :], reason)

"""What a restore loads of a component that is in use: not always what stands in memory.

A processor takes some values without a fault and holds others than those: an illegal TILECFG
becomes the initial one, and Intel's x87 registers lack some bits. Where software would see the
difference, what is loaded is what the area means; ``area[...]`` and ``area.raw`` stay what is
stored.
"""

from __future__ import annotations

from copy import copy
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from xsaveschema.legality import illegal_tilecfg as illegal_tilecfg
from xsaveschema.legality import illegal_values
from xsaveschema.model import StateComponent
from xsaveschema.spans import Slot

if TYPE_CHECKING:
    from xsaveschema.area import XsaveArea

INTEL: Final = "GenuineIntel"

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
    image = stored(area, slot.number, slot.component.initial)
    return as_loaded(slot.component, image, area.model.vendor)


def as_restored(area: XsaveArea) -> tuple[XsaveArea, dict[str, str]]:
    """A copy of an area that holds what a restore loads, and why, for each component it changes.

    The area itself and no reasons where a restore loads everything as it is stored.
    """
    changed = [(slot, *found) for slot in area.layout if (found := loaded(area, slot)).reason]
    if not changed:
        return area, {}
    restored = copy(area)
    for slot, image, _ in changed:
        for span in area.layout.spans_of(slot.number):
            if span.lives(area.xstate_bv):
                at = span.offset - slot.origin
                restored.buffer[span.offset : span.end] = image[at : at + span.size]
    return restored, {slot.name: reason for slot, _, reason in changed}


def stored(area: XsaveArea, number: int, image: bytes) -> bytes:
    """What is alive of a component in an area's memory, over ``image``, indexed by field offset."""
    layout, found = area.layout, bytearray(image)
    origin = layout[number].origin if number in layout else 0
    for span in layout.spans_of(number):
        if span.lives(area.xstate_bv):
            found[span.offset - origin : span.end - origin] = area.buffer[span.offset : span.end]
    return bytes(found)


def as_loaded(component: StateComponent, image: bytes, vendor: str) -> Loaded:
    """What a CPU of ``vendor`` loads where ``image`` stands for a component that is in use."""
    if component.illegal == "initial":
        for found in illegal_values(component, image):
            what = f"illegal, so the initial {component.name.upper()} is loaded"
            return Loaded(component.initial, f"{what}: {found.message}")
    if component.name == "x87" and vendor == INTEL:
        return _x87_of_intel(image)
    return Loaded(image)


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

# SPDX-License-Identifier: MIT
"""What a restore loads of a component that is in use: not always what stands in memory.

A processor takes some values without a fault and holds others than those: an illegal TILECFG
becomes the initial one, and Intel's x87 registers lack some bits. Where software would see the
difference, what is loaded is what the area means; ``area[...]`` and ``area.raw`` stay what is
stored.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

from xsaveschema.legality import illegal_values
from xsaveschema.model import StateComponent
from xsaveschema.reading import INTEL as INTEL
from xsaveschema.reading import Loaded, initial_instead, x87_of_intel
from xsaveschema.reading import illegal_tilecfg as illegal_tilecfg
from xsaveschema.spans import Slot

if TYPE_CHECKING:
    from xsaveschema.area import XsaveArea


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


def loaded_otherwise(area: XsaveArea) -> list[str]:
    """Which components a restore loads otherwise than they are stored, and why, one text each."""
    _, reasons = as_restored(area)
    return [f"{name} is loaded otherwise than it is stored: {why}" for name, why in reasons.items()]


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
            return initial_instead(component, found.message)
    if component.name == "x87" and vendor == INTEL:
        return x87_of_intel(image)
    return Loaded(image)

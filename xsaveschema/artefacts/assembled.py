"""Areas put together from what a file holds instead: separate fields, or an area without a layout.

Where components are fields of their own, no offset is in the file and any model that has the
components can hold the state: the caller's, else the smallest one of the catalogue. The area is in
the standard format, or in the compacted one if it holds a supervisor component, which has no place
in the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from struct import Struct
from typing import Final

from xsaveschema.area import XsaveArea
from xsaveschema.artefacts.reader import ArtefactError, Options, area_of
from xsaveschema.catalog import Catalog, default_catalog
from xsaveschema.header import MASKS
from xsaveschema.layout import compacted, standard, takes_xcr0
from xsaveschema.model import (
    EXTENDED_OFFSET,
    HEADER_OFFSET,
    MXCSR_INITIAL,
    MXCSR_OFFSET,
    SSE,
    X87,
    CpuModel,
    bits_of,
)

LEGACY: Final = Struct("<HHBxHQQII128s256s")
"""FCW, FSW, FTW, FOP, FIP, FDP, MXCSR, MXCSR_MASK, ST0..7, XMM0..15: bytes 0..415 of an area."""

MXCSR: Final = Struct("<I")
_MASK_OFFSET: Final = 28


def assemble(
    legacy: bytes | memoryview,
    images: Mapping[str, bytes],
    xstate_bv: int,
    options: Options,
    label: str,
    *,
    enabled: int = 0,
    live: Iterable[str] = (),
    infer: bool = False,
) -> tuple[XsaveArea, str]:
    """Build an area from a legacy region and the bytes of extended components, by name.

    ``legacy`` has up to 512 bytes; ``xstate_bv`` says which components are in use and ``enabled``
    (a bit mask) which ones get a place at all; those named by ``live`` are in use too. With
    ``infer``, so is every component whose bytes are not initial. Returns the area and how its
    layout was chosen. ArtefactError where no model, or not the one the user named, has what is in
    use; ``label`` says whose area it is.
    """
    catalog = options.catalog or default_catalog()
    numbers = catalog.component_names()
    present = {numbers[name]: image for name, image in images.items()}
    xstate_bv |= sum(1 << numbers[name] for name in live)
    held = enabled | xstate_bv | X87 | SSE | sum(1 << number for number in present)
    if held >> 63:
        raise ArtefactError(f"the masks {held:#x} have bit 63, which is no state component")
    model, why = _model(held, xstate_bv, options, catalog)
    supervisor = xstate_bv & model.supervisor_mask
    layout = (
        compacted(model, model.xcr0 | supervisor) if supervisor else standard(model, model.xcr0)
    )
    area = bytearray(layout.size)
    area[: len(legacy)] = legacy
    if not any(area[_MASK_OFFSET : _MASK_OFFSET + 4]):
        area[_MASK_OFFSET : _MASK_OFFSET + 4] = model.mxcsr_mask.to_bytes(4, "little")
    for number, image in present.items():
        if number not in layout:
            continue
        slot = layout[number]
        if any(image[slot.size :]):
            raise ArtefactError(
                f"{slot.name} has {len(image)} bytes in the file, {slot.size} on {model.name}"
            )
        area[slot.offset : slot.offset + min(len(image), slot.size)] = image[: slot.size]
    if infer:
        for slot in layout:
            if any(
                area[start:end] != slot.component.initial[start - slot.origin : end - slot.origin]
                for start, end in slot.ranges
            ):
                xstate_bv |= slot.component.bit
    if supervisor and MXCSR.unpack_from(area, MXCSR_OFFSET)[0] != MXCSR_INITIAL:
        xstate_bv |= SSE  # the compacted format has no other way to say so (SDM 13.8.2)
    MASKS.pack_into(area, HEADER_OFFSET, xstate_bv, layout.xcomp_bv)
    return area_of(memoryview(area), model, options, label), why


def meant_legacy(area: XsaveArea) -> bytes:
    """The legacy region as FXRSTOR would have to find it: initial components have initial bytes."""
    image = bytearray(area.buffer[:HEADER_OFFSET])
    for name in ("x87", "sse"):
        if name in area.layout and not area.in_use(name):
            slot = area.layout[name]
            for start, end in slot.ranges:
                image[start:end] = slot.component.initial[start:end]
    if "sse" in area.layout:
        image[MXCSR_OFFSET : MXCSR_OFFSET + 4] = area["sse"]["mxcsr"].to_bytes(4, "little")
    return bytes(image)


def joined(
    legacy: bytes | memoryview, extended: bytes | memoryview, xstate_bv: int, xcomp_bv: int
) -> bytearray:
    """An area from its legacy region, its header's masks, and what follows byte 528."""
    area = bytearray(EXTENDED_OFFSET)
    area[: len(legacy)] = legacy
    MASKS.pack_into(area, HEADER_OFFSET, xstate_bv, xcomp_bv)
    area[HEADER_OFFSET + MASKS.size :] = extended
    return area


def _model(held: int, live: int, options: Options, catalog: Catalog) -> tuple[CpuModel, str]:
    if options.model is not None:
        named = options.model
        for mask in (held, live | X87 | SSE):
            if (model := _holding(named, mask)) is not None:
                return model, f"model {named.name}, as named; the file holds fields, no offsets"
        lacks = ", ".join(named.names_of(live & ~(named.user_mask | named.supervisor_mask)))
        raise ArtefactError(
            f"model {named.name} cannot hold what is in use: "
            + (f"it has no {lacks}" if lacks else f"components {', '.join(named.names_of(live))}")
        )
    for mask in (held, live | X87 | SSE):
        if (model := _smallest(mask, catalog)) is not None:
            return model, f"no offsets in the file: those of {model.name}, the smallest that fits"
    names = {number: name for name, number in catalog.component_names().items()}
    said = ", ".join(names.get(number, f"component{number}") for number in bits_of(live))
    raise ArtefactError(f"no model of the catalogue has all that is in use: {said}")


def _holding(model: CpuModel, mask: int) -> CpuModel | None:
    """The model limited to these components, or as it is if they are no legal XCR0 alone."""
    if mask & ~(model.user_mask | model.supervisor_mask):
        return None
    user, supervisor = mask & model.user_mask, mask & model.supervisor_mask
    if takes_xcr0(model, user):
        return model.limited(xcr0=user, xss=supervisor)
    return model.limited(xss=supervisor) if not user & ~model.xcr0 else None


@lru_cache(maxsize=64)
def _smallest(mask: int, catalog: Catalog) -> CpuModel | None:
    fits = [found for model in catalog.models() if (found := _holding(model, mask)) is not None]

    def rank(model: CpuModel) -> tuple[int, int, bool, str]:
        spare = (model.user_mask | model.supervisor_mask) & ~mask
        size = standard(model, model.xcr0).size
        return size, spare.bit_count(), not model.confirmed, model.name

    return min(fits, key=rank, default=None)

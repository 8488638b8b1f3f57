# SPDX-License-Identifier: MIT
"""Areas put together from what a file holds instead: separate fields, or an area without a layout.

Where components are fields of their own, no offset is in the file and any model that has the
components can hold the state: the caller's, else the smallest one of the catalogue. The area is in
the standard format, or in the compacted one if it holds a supervisor component, which has no place
in the other. What is in use, but not in the file, is missing from the area: its bits are known and
it has no place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from struct import Struct
from typing import Final

from xsaveschema.area import XsaveArea
from xsaveschema.artefacts.reader import ArtefactError, Found, Options
from xsaveschema.catalog import Catalog, default_catalog
from xsaveschema.header import MASKS
from xsaveschema.kept import kept
from xsaveschema.layout import compacted, standard, takes_xcr0
from xsaveschema.model import (
    EXTENDED_OFFSET,
    HEADER_OFFSET,
    LEGACY_SIZE,
    MXCSR_OFFSET,
    SSE,
    X87,
    CpuModel,
    bits_of,
)
from xsaveschema.spans import ALWAYS, MASK_PATH, MXCSR_END, MXCSR_PATH
from xsaveschema.traces import mxcsr_mask_of

LEGACY: Final = Struct("<HHBxHQQII128s256s")
"""FCW, FSW, FTW, FOP, FIP, FDP, MXCSR, MXCSR_MASK, ST0..7, XMM0..15: bytes 0..415 of an area."""

_LEGACY: Final = X87 | SSE


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
    offset: int | None = None,
    notes: Iterable[str] = (),
) -> Found:
    """Build an area from a legacy region and the bytes of extended components, by name.

    ``legacy`` has up to 512 bytes; an image that ends before its component goes on with zeros,
    and an empty one is a component that the file tells to be zero. ``xstate_bv`` says which
    components are in use and ``enabled`` (a bit mask) which ones get a place at all; those named
    by ``live`` are in use too. With ``infer``, so is every component whose bytes are not initial.
    A component in use without an image is ``missing`` in the area. ``label``, ``offset`` and
    ``notes`` are those of what is found; its ``layout_source`` says how the layout was chosen.
    ArtefactError where no model has all that is there, or the one that the user named not all that
    is in use.
    """
    catalog = options.catalog or default_catalog()
    numbers = catalog.component_names()
    present = {numbers[name]: image for name, image in images.items()}
    xstate_bv |= sum(1 << numbers[name] for name in live)
    if infer:  # a model must have a place for it; zeros are what extended components begin with
        xstate_bv |= sum(1 << number for number, image in present.items() if any(image))
    there = _LEGACY | sum(1 << number for number in present)
    held = enabled | xstate_bv | there
    if held >> 63:
        raise ArtefactError(
            f"the masks of {label}, {held:#x}, have bit 63, which is no state component"
        )
    gone = xstate_bv & ~there
    whole = memoryview(bytes(legacy).ljust(LEGACY_SIZE, b"\0"))
    mxcsr_mask = mxcsr_mask_of(whole, options.model, catalog)
    model, why = _model(held, xstate_bv, gone, mxcsr_mask, options, catalog)
    supervisor = xstate_bv & ~gone & model.supervisor_mask
    user = model.xcr0 & ~gone
    layout = compacted(model, user | supervisor) if supervisor else standard(model, user)
    area = bytearray(layout.size)
    area[: len(legacy)] = legacy
    if not any(area[MXCSR_OFFSET + 4 : MXCSR_END]):
        area[MXCSR_OFFSET + 4 : MXCSR_END] = model.mxcsr_mask.to_bytes(4, "little")
    for slot in layout:
        image = present.get(slot.number, b"")
        if any(image[slot.size :]):
            raise ArtefactError(
                f"{slot.name} has {len(image)} bytes in the file, {slot.size} on {model.name}"
            )
        area[slot.offset : slot.offset + min(len(image), slot.size)] = image[: slot.size]
    for span in layout.spans():
        # A compacted area has no other way to say that MXCSR is not initial (SDM 13.8.2).
        decides = span.path == MXCSR_PATH or (infer and span.path != MASK_PATH)
        if decides and span.alive != ALWAYS and area[span.offset : span.end] != span.initial:
            xstate_bv |= span.alive
    MASKS.pack_into(area, HEADER_OFFSET, xstate_bv & ~gone, layout.xcomp_bv)
    # The catalogue's choice is nobody's word that the bytes could contradict.
    chosen = options.model is None
    missing = _named(gone, catalog)
    made = XsaveArea.partial(area, model, missing, assume=chosen or options.assume)
    made.assumed &= not chosen
    if made.assumed:
        why += "; assumed, against MXCSR_MASK"
    return Found(label, made, why, offset, tuple(notes), origin="assembled")


def meant_legacy(area: XsaveArea) -> bytes:
    """The legacy region as FXRSTOR would have to find it: initial components have initial bytes."""
    image = bytearray(area.buffer[:HEADER_OFFSET])
    for span in area.layout.spans():
        if span.offset < HEADER_OFFSET and not span.lives(area.xstate_bv):
            image[span.offset : span.end] = span.initial
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


def _named(mask: int, catalog: Catalog) -> dict[int, str]:
    """The components of a mask by number, with the names that any model of the catalogue has."""
    names = {number: name for name, number in catalog.component_names().items()}
    return {number: names.get(number, f"component{number}") for number in bits_of(mask)}


def _model(
    held: int, live: int, gone: int, mxcsr_mask: int, options: Options, catalog: Catalog
) -> tuple[CpuModel, str]:
    """The model whose layout the area gets, limited to ``held`` as far as it may be, and why.

    A model that has all of ``live`` goes before one that lacks what is ``gone``: its bytes are
    not there, so an area can do without. A named model can only where no model knows of it.
    """
    needed = live | _LEGACY
    if options.model is None:
        for mask in (held, needed, held & ~gone, needed & ~gone):
            if (model := _smallest(catalog, mask, mxcsr_mask)) is not None:
                why = f"no offsets in the file: those of {model.name}, the smallest that fits"
                return model, why
        said = ", ".join(_named(live & ~gone, catalog).values())
        raise ArtefactError(f"no model of the catalogue has all that is in use: {said}")
    named = options.model
    silicon = named.user_mask | named.supervisor_mask
    unheard = gone & ~silicon & ~sum(1 << number for number in catalog.component_names().values())
    for mask in (held, needed, held & ~unheard, needed & ~unheard):
        if (model := _holding(named, mask)) is not None:
            return model, f"model {named.name}, as named; the file holds fields, no offsets"
    lacks = live & ~unheard & ~silicon
    said = ", ".join(_named(lacks or live, catalog).values())
    raise ArtefactError(
        f"model {named.name} cannot hold what is in use: "
        + (f"it has no {said}" if lacks else f"components {said}")
    )


def _holding(model: CpuModel, mask: int) -> CpuModel | None:
    """The model limited to these components, or as it is if they are no legal XCR0 alone."""
    user, supervisor = mask & model.user_mask, mask & model.supervisor_mask
    if mask != user | supervisor:
        return None
    if takes_xcr0(model, user):
        return model.limited(xcr0=user, xss=supervisor)
    return model.limited(xss=supervisor) if not user & ~model.xcr0 else None


@kept(64)
def _smallest(catalog: Catalog, mask: int, mxcsr_mask: int) -> CpuModel | None:
    fits = [found for model in catalog.models() if (found := _holding(model, mask)) is not None]

    def rank(model: CpuModel) -> tuple[bool, int, bool, int, int, bool, str]:
        spare = (model.user_mask | model.supervisor_mask) & ~mask
        size = standard(model, model.xcr0).size
        other = bool(mxcsr_mask) and model.mxcsr_mask != mxcsr_mask
        rare, spread = not model.popularity, -model.popularity
        return other, size, rare, spare.bit_count(), spread, not model.confirmed, model.name

    return min(fits, key=rank, default=None)

# SPDX-License-Identifier: MIT
"""What an XSAVE header says of the buffer it stands in: the format, the layout, and its faults.

Only what decides where state sits is judged here: XCOMP_BV and XSTATE_BV (SDM 13.4.2). Reserved
header bytes are not: XSAVEC never writes them (HW), so a processor's own areas carry garbage
there. What a restore makes of them is ``check``'s to say.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any, Final

from xsaveschema.errors import (
    Fault,
    HeaderError,
    TooShortError,
    WrongTypeError,
    XsaveError,
    described,
    hex_mask,
)
from xsaveschema.kept import kept
from xsaveschema.layout import Layout, compacted, fitted, names, overlap, shared, standard
from xsaveschema.model import COMPACTED, EXTENDED_OFFSET, HEADER_OFFSET, SSE, X87, CpuModel

MASKS: Final = Struct("<QQ")
"""XSTATE_BV and XCOMP_BV, the header's first two fields."""

_PLAIN: Final[frozenset[type]] = frozenset((bytes, bytearray))
"""Their views are of bytes: nothing to judge."""

XSTATE_BV_OFFSET: Final = HEADER_OFFSET
XCOMP_BV_OFFSET: Final = HEADER_OFFSET + 8

if TYPE_CHECKING:
    from typing_extensions import Buffer as Buffer
else:
    Buffer = Any  # collections.abc has it from Python 3.12 on


def view_of(data: Buffer, what: str = "the area") -> memoryview:
    """The bytes of a buffer, not copied. TooShortError below 576 bytes, else as buffer_of."""
    if type(data) in _PLAIN and len(view := memoryview(data)) >= EXTENDED_OFFSET:
        return view
    view = buffer_of(data, what)
    if len(view) < EXTENDED_OFFSET:
        raise TooShortError(
            f"{what} has {len(view)} bytes; the legacy region and the XSAVE header alone "
            f"take {EXTENDED_OFFSET}",
            EXTENDED_OFFSET,
            len(view),
        )
    return view


def buffer_of(data: Buffer, what: str) -> memoryview:
    """The bytes of a buffer of any length, not copied. WrongTypeError for no buffer, XsaveError."""
    try:
        return bytes_of(memoryview(data), what)
    except TypeError:
        said = f"bytes, or another buffer of them, not {described(data)}"
        raise WrongTypeError(f"{what}: pass {said}") from None


def bytes_of(view: memoryview, what: str) -> memoryview:
    """The same memory as bytes. XsaveError where they do not follow one another."""
    if not view.nbytes:
        return memoryview(b"")
    if not view.c_contiguous:
        raise XsaveError(f"{what} is not contiguous in memory: copy it first (bytes(...))")
    if view.format == "B" and view.ndim == 1:
        return view
    try:
        return view.cast("B")
    except (TypeError, ValueError) as error:
        raise XsaveError(f"{what} is no buffer of bytes: {error}") from None


@kept(1 << 14)
def buffer_layout(model: CpuModel, xstate_bv: int, xcomp_bv: int, length: int) -> Layout:
    """The layout of a buffer of ``length`` bytes that a CPU of this model wrote.

    A standard area may be shorter than its model's layout: the layout is then what fits. Raises
    HeaderError for masks that say nothing sure, TooShortError where state in use is cut off, or,
    in the compacted format, any part of the layout.
    """
    layout, faults = _judge(model, xstate_bv, xcomp_bv)
    if faults:
        raise HeaderError(faults)
    if xcomp_bv & COMPACTED:
        _require(layout, layout.mask, length)
        return layout
    _require(layout, xstate_bv, length)
    return fitted(layout, length)


def lenient_layout(
    model: CpuModel, xstate_bv: int, xcomp_bv: int, length: int
) -> tuple[Layout, tuple[Fault, ...]]:
    """As :func:`buffer_layout`, but with the faults beside the part of the layout that is sure."""
    layout, faults = _judge(model, xstate_bv, xcomp_bv)
    wanted = layout.mask if xcomp_bv & COMPACTED else layout.mask & xstate_bv
    try:
        _require(layout, wanted, length)
    except TooShortError as error:
        faults.append(Fault("truncated", length, str(error)))
    return fitted(layout, length), tuple(faults)


def _require(layout: Layout, mask: int, length: int) -> None:
    for slot in layout:
        if slot.component.bit & mask and slot.end > length:
            needed = max(s.end for s in layout if s.component.bit & mask)
            raise TooShortError(
                f"the area has {length} bytes, but its {slot.name} stands at {slot.offset}.."
                f"{slot.end} in {layout.model.label}'s {layout.format} format; {needed} are needed",
                needed,
                length,
                slot.name,
            )


def _judge(model: CpuModel, xstate_bv: int, xcomp_bv: int) -> tuple[Layout, list[Fault]]:
    known = model.user_mask | model.supervisor_mask
    in_use, places = f"XSTATE_BV {hex_mask(xstate_bv)}", f"XCOMP_BV {hex_mask(xcomp_bv)}"
    faults = []
    if unknown := xstate_bv & ~known:
        said = _unknown(model, in_use, unknown)
        faults.append(Fault("xstate-bv-unknown", XSTATE_BV_OFFSET, said))
    if xcomp_bv & COMPACTED:
        mask = xcomp_bv & ~COMPACTED
        if unknown := mask & ~known:
            said = _unknown(model, places, unknown)
            faults.append(Fault("xcomp-bv-unknown", XCOMP_BV_OFFSET, said))
            # Behind a component of unknown size no place is sure.
            mask &= (unknown & -unknown) - 1
        if outside := xstate_bv & ~xcomp_bv & known:
            said = f"{in_use} has {names(model, outside)}, which have no place by {places}"
            faults.append(Fault("xstate-bv-beyond-xcomp-bv", XSTATE_BV_OFFSET, said))
        return compacted(model, mask), faults
    if xcomp_bv:
        said = f"{places} is neither 0 (standard format) nor has it bit 63 (compacted format)"
        faults.append(Fault("xcomp-bv-form", XCOMP_BV_OFFSET, said))
    if hidden := xstate_bv & model.supervisor_mask:
        said = f"{in_use} has {names(model, hidden)}"
        said += ": the standard format has no place for supervisor components"
        faults.append(Fault("xstate-bv-supervisor", XSTATE_BV_OFFSET, said))
    live = xstate_bv & model.user_mask
    layout = standard(model, model.xcr0 | live)
    if overlap(layout.slots):
        layout = standard(model, live | X87 | SSE)
        if clash := overlap(layout.slots):
            faults.append(Fault("xstate-bv-overlap", XSTATE_BV_OFFSET, f"both are in use: {clash}"))
            layout = standard(model, layout.mask & ~shared(layout.slots))  # whose, nobody knows
    return layout, faults


def _unknown(model: CpuModel, what: str, unknown: int) -> str:
    return (
        f"{what} has bits that {model.label} does not know: {names(model, unknown, most=4)}; name "
        "the model that wrote the area (--model; source= of relayout)"
    )

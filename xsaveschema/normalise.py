# SPDX-License-Identifier: MIT
"""The canonical form of an area: one for each state, so that areas can be compared by bytes.

What a restore loads stays the same; what it does not look at, or loads as if something else stood
there, is put in one form. That is a loop over the map.
"""

from __future__ import annotations

from typing import Final

from xsaveschema.area import XsaveArea
from xsaveschema.area.loaded import as_restored
from xsaveschema.errors import XsaveError
from xsaveschema.header import Buffer
from xsaveschema.legality import stale_elements
from xsaveschema.model import HEADER_OFFSET, CpuModel
from xsaveschema.restore import check
from xsaveschema.spans import ALWAYS, MASK_PATH, Slot, Span

_ELSEWHERE: Final = frozenset({"memory-ends", "no-xsaves", "xcomp-bv-no-xsavec"})
"""Faults of where an area is to be restored, not of what it holds."""


def normalise(
    data: XsaveArea | Buffer,
    model: CpuModel | None = None,
    *,
    assume: bool = False,
) -> bytes:
    """The canonical form of an area, as long as the area: equal state gives equal bytes.

    A component whose values are all initial is not in use; its place holds the initial values in
    the standard format, zeros in the compacted one. SSE is in use while MXCSR is not 0x1F80, and a
    component that a restore to the initial state would leave as it is (LBR: DEPTH) stays as it
    was. An illegal TILECFG, and what an Intel CPU does not hold of x87, become what is loaded.
    Reserved bytes, gaps, the header's bytes 16..63 and elements behind the count are zero.
    MXCSR_MASK, XCOMP_BV, software's bytes 464..511 and what stands behind the layout are kept.

    A buffer needs ``model``, the CPU that wrote it, or is identified; an XsaveArea brings its own.
    ``assume`` is that of :meth:`XsaveArea.parse`. Raises XsaveError for an area that a restore
    refuses, MissingStateError where state is missing, and the errors of :meth:`XsaveArea.parse`.
    """
    area = data if isinstance(data, XsaveArea) else XsaveArea.parse(data, model, assume=assume)
    out = bytearray(bytes(area))  # an error, where state is missing
    _refuse(area)
    restored, _ = as_restored(area)
    in_use = sum(slot.component.bit for slot in area.layout if _used(restored, slot))
    stale = tuple(
        f"{slot.name}.{path}"
        for slot in area.layout
        if slot.component.bit & in_use
        for path in stale_elements(slot.component, _image(restored, slot))
    )
    for span in area.layout.spans():
        counted = not span.path.startswith(stale)
        held = _canonical(restored, span, in_use) if counted else bytes(span.size)
        out[span.offset : span.end] = held
    out[HEADER_OFFSET : HEADER_OFFSET + 8] = in_use.to_bytes(8, "little")
    return bytes(out)


def _canonical(area: XsaveArea, span: Span, in_use: int) -> bytes:
    """What a span holds in the canonical form; XSTATE_BV is written behind."""
    if span.kind in ("reserved", "gap", "padding"):
        return bytes(span.size)
    if span.kind == "header":
        return span.initial  # XCOMP_BV as the layout has it
    if span.alive != ALWAYS and not span.alive & in_use:
        return span.initial if area.format == "standard" else bytes(span.size)
    if span.lives(area.xstate_bv):
        return bytes(area.buffer[span.offset : span.end])
    return span.initial  # XMM registers beside an MXCSR that puts SSE in use


def _used(area: XsaveArea, slot: Slot) -> bool:
    """Whether a component holds anything but its initial values, MXCSR among SSE's."""
    if area.xstate_bv & slot.component.bit and any(f.counted_by for f in slot.component.fields):
        return True
    return any(
        area.buffer[span.offset : span.end] != span.initial
        for span in area.layout.spans_of(slot.number)
        if span.kind == "field" and span.path != MASK_PATH and span.lives(area.xstate_bv)
    )


def _image(area: XsaveArea, slot: Slot) -> bytes:
    """A component's bytes, indexed by field offset."""
    return bytes(area.buffer[slot.origin : slot.end])


def _refuse(area: XsaveArea) -> None:
    """XsaveError for what no restore takes: its meaning is none."""
    model, mask = area.model, area.layout.mask
    supervisor = mask & model.supervisor_mask
    faults = [
        fault
        for fault in check(
            area.buffer,
            model,
            "xrstors" if supervisor else "xrstor",
            xcr0=mask & model.user_mask,
            xss=supervisor,
        )
        if fault.rule not in _ELSEWHERE
    ]
    if faults:
        said = "; ".join(str(fault) for fault in faults)
        raise XsaveError(f"no restore takes this area: {said}; mend it first (check --fix)")

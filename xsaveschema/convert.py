# SPDX-License-Identifier: MIT
"""Conversion between the standard and the compacted format, and between CPU models' layouts.

Each is a plan that is run (plan.py); here it is judged who wrote an area, how long it is, and what
it would lose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from struct import Struct
from typing import Any, Final, Literal

from xsaveschema.area import XsaveArea
from xsaveschema.errors import TooShortError, XsaveError
from xsaveschema.evidence import describes, judge
from xsaveschema.header import MASKS, Buffer, buffer_layout, buffer_of, view_of
from xsaveschema.layout import Layout
from xsaveschema.model import (
    EXTENDED_OFFSET,
    HEADER_OFFSET,
    MXCSR_INITIAL,
    MXCSR_OFFSET,
    XCR0_OFFSET,
    CpuModel,
    Format,
    require_model,
)
from xsaveschema.plan import (
    NOTHING,
    Drop,
    Job,
    Plan,
    Software,
    State,
    job_for,
    kept_format,
    loss,
    numbers_of,
    require_format,
)

_state: Final = Struct(
    f"<{MXCSR_OFFSET}xII{XCR0_OFFSET - MXCSR_OFFSET - 8}xQ{HEADER_OFFSET - XCR0_OFFSET - 8}xQQ"
).unpack_from
"""MXCSR, MXCSR_MASK, where a system leaves its mask, XSTATE_BV and XCOMP_BV."""
_MXCSR_INITIAL: Final = MXCSR_INITIAL.to_bytes(4, "little")
_MXCSR_END: Final = MXCSR_OFFSET + 4


@dataclass(slots=True)
class Conversion:
    """A converted area: ``data``, its ``layout``, and the names of the live components ``dropped``.

    ``data`` is a new bytearray, or the caller's ``out`` (a view of it where ``out`` is longer than
    the result), exactly ``layout.size`` bytes.
    """

    data: bytearray | memoryview = field(repr=False)
    dropped: tuple[str, ...]
    layout: Layout

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled and copied with bytes of its own."""
        return Conversion, (bytearray(self.data), self.dropped, self.layout)


def to_standard(
    data: Buffer | XsaveArea,
    model: CpuModel,
    *,
    xcr0: int | None = None,
    drop: Drop = (),
    out: bytearray | memoryview | None = None,
    software: Software = "keep",
    assume: bool = False,
) -> Conversion:
    """Convert an area of either format, which ``model`` wrote, to the standard format.

    ``xcr0`` is the mask of the result's layout, any user components of the model (default its
    XCR0); ``drop`` names live components that may be lost; ``out`` takes the result instead of a
    new buffer. Components in use are copied, all others get their initial values, XCOMP_BV and the
    reserved header bytes are zero.

    A buffer that tells of another writer than ``model`` is an EvidenceError, unless ``assume``
    insists. StateLossError where live state has no place in the result, or is missing from an
    XsaveArea; HeaderError, TooShortError and MaskError for input that cannot be converted. Nothing
    is written before all is checked.
    """
    return _convert(data, job_for(model, model, "standard", xcr0, software), drop, out, assume)


def to_compacted(
    data: Buffer | XsaveArea,
    model: CpuModel,
    *,
    xcomp_bv: int | None = None,
    drop: Drop = (),
    out: bytearray | memoryview | None = None,
    software: Software = "keep",
    assume: bool = False,
) -> Conversion:
    """Convert an area of either format, which ``model`` wrote, to the compacted format.

    ``xcomp_bv`` is the set of components that get a place, bit 63 optional: any subset of what the
    model has (default ``model.xcr0 | model.xss``, as XSAVES would write; pass ``model.xcr0`` for
    an area that user-mode XRSTOR takes). An MXCSR other than 0x1F80 makes SSE be in use, as XSAVEC
    has it (HW). The other arguments and errors are those of :func:`to_standard`.
    """
    return _convert(data, job_for(model, model, "compacted", xcomp_bv, software), drop, out, assume)


def relayout(
    data: Buffer | XsaveArea,
    *,
    source: CpuModel | None = None,
    target: CpuModel,
    format: Format | None = None,
    xcr0: int | None = None,
    xcomp_bv: int | None = None,
    drop: Drop = (),
    out: bytearray | memoryview | None = None,
    software: Software = "keep",
    assume: bool = False,
) -> Conversion:
    """Move an area from one CPU model's layout to another's; ``format`` None keeps the format.

    Without a mask the result has every component of the target's masks; a compacted area that
    keeps its format keeps its XCOMP_BV as far as the target has the components enabled. A buffer
    needs ``source``; an XsaveArea brings it. Between CPUs of different names the result has the
    target's MXCSR_MASK. The other arguments and errors are those of :func:`to_standard`.
    """
    if source is None:
        if not isinstance(data, XsaveArea):
            raise XsaveError("relayout of a buffer needs source=, the model that wrote it")
        source = data.model
    require_model(target, "target")
    if format is None:
        view = data.buffer if isinstance(data, XsaveArea) else view_of(data)
        own = MASKS.unpack_from(view, HEADER_OFFSET)[1]
        format, mask = kept_format(own, target, xcr0, xcomp_bv)
    else:
        require_format(format, xcr0, xcomp_bv)
        mask = xcr0 if format == "standard" else xcomp_bv
    job = job_for(source, target, format, mask, software)
    return _convert(data, job, drop, out, assume)


def _convert(
    data: Buffer | XsaveArea,
    job: Job,
    drop: Drop,
    out: bytearray | memoryview | None,
    assume: bool,
) -> Conversion:
    source = job.source
    # An array's or a mapping's length need not be its bytes'; what struct reads always is.
    area = None
    if type(data) is not bytes and type(data) is not bytearray:
        if isinstance(data, XsaveArea):
            area, data = data, _bytes_of(data)
        else:
            data = view_of(data)
    length = len(data)
    if length < EXTENDED_OFFSET:
        view_of(data)
    state: State
    if area is None:
        mxcsr, mxcsr_mask, word, xstate_bv, xcomp_bv = _state(data)
        told: bool | Literal[0] = 0
        if word or mxcsr_mask & ~source.mxcsr_mask:
            told = _told(view_of(data), source, assume)
        state = mxcsr, told, xstate_bv, xcomp_bv
    else:
        state = _state_of(area, view_of(data), source)
    plan = job.plans.get(state) or job.plan(state)
    if length < plan.needed:
        buffer_layout(source, state[2], state[3], length)
    dropped: tuple[str, ...] = ()
    # An array of names has no truth value.
    if type(drop) is not tuple or drop or plan.may_lose or area is not None:
        missing = NOTHING if area is None else area.missing_by_number
        dropped = _losses(plan, view_of(data), job, drop, missing)
    if type(out) is not bytearray or len(out) != plan.size:
        out = bytearray(plan.size) if out is None else _room(out, plan.layout)
    plan.run(data, out)
    return Conversion(out, dropped, plan.layout)


def _told(view: memoryview, source: CpuModel, assume: bool) -> bool:
    """Whether a buffer tells its writer's mask; EvidenceError if ``source`` did not write it."""
    if not assume:
        judge(view, source)
    return describes(view, source)


def _bytes_of(area: XsaveArea) -> memoryview:
    """The bytes that an area has; where SSE is missing MXCSR is, too, and its bytes say nothing."""
    if 1 not in area.missing_by_number:
        return area.buffer
    data = bytearray(area.buffer)
    data[MXCSR_OFFSET:_MXCSR_END] = _MXCSR_INITIAL
    return memoryview(data)


def _state_of(area: XsaveArea, data: memoryview, source: CpuModel) -> State:
    """What a plan depends on, of the state that the area has; it may know more than its header."""
    if source.components != area.model.components:
        raise XsaveError(
            f"the area is {area.model.label}'s, not {source.label}'s: relayout moves it there"
        )
    present = area.xstate_bv & ~sum(1 << number for number in area.missing_by_number)
    return _state(data)[0], describes(data, source), present, area.xcomp_bv


def _room(out: bytearray | memoryview, layout: Layout) -> memoryview:
    """The first ``layout.size`` bytes of the caller's buffer."""
    to = buffer_of(out, "out=")
    if to.readonly:
        raise XsaveError("out= is read-only: give a bytearray or a writable memoryview")
    if len(to) != layout.size:
        if len(to) < layout.size:
            raise TooShortError(
                f"out= has {len(to)} bytes; {layout!r} needs {layout.size}", layout.size, len(to)
            )
        to = to[: layout.size]
    return to


def _losses(
    plan: Plan, view: memoryview, job: Job, drop: Drop, missing: Mapping[int, str]
) -> tuple[str, ...]:
    """The names of the components that lose live state; StateLossError unless all are permitted."""
    source = job.source
    permitted = numbers_of(source, job.target, drop, missing)
    lost = {*plan.lost, *missing}
    lost.update(number for number, taken, initial in plan.residue if view[taken] != initial)
    names = tuple(missing.get(number) or source.name_of(number) for number in sorted(lost))
    if unpermitted := sorted(lost - permitted):
        raise loss(source, plan.layout, unpermitted, missing)
    return names

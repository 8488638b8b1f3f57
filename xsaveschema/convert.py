"""Conversion between the standard and the compacted format, and between CPU models' layouts.

A conversion is a plan: which bytes of the source go where, and what stands everywhere else. It
depends on the two models, the two masks of the source's header and the target's layout only, so
it is compiled once and run over as many areas as come. The rules are the processor's (SDM 13.7 to
13.12): what XRSTOR would load from the source is what XRSTOR loads from the result.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from operator import index, itemgetter
from struct import Struct
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, SupportsIndex, get_args

from xsaveschema.area import XsaveArea
from xsaveschema.errors import (
    StateLossError,
    TooShortError,
    UnknownComponentError,
    XsaveError,
    described,
    items,
)
from xsaveschema.evidence import describes, judge
from xsaveschema.header import MASKS, Buffer, buffer_layout, buffer_of, view_of
from xsaveschema.layout import Layout, Slot, check_mask, check_user_mask, compacted, standard
from xsaveschema.model import (
    COMPACTED,
    EXTENDED_OFFSET,
    HEADER_OFFSET,
    HEADER_SIZE,
    MXCSR_INITIAL,
    MXCSR_OFFSET,
    SOFTWARE_OFFSET,
    SSE,
    X87,
    XCR0_OFFSET,
    CpuModel,
    Format,
    bits_of,
    require_model,
)

Drop = Iterable[str | int]
Software = Literal["keep", "zero"]
"""What becomes of bytes 416..511, which no instruction writes and software may use.

A mask of the writer's system there, or the words of its signal frame, describe the layout: kept,
they become the result's own mask in the standard format, and zeros in the compacted one.
"""

_state: Final = Struct(
    f"<{MXCSR_OFFSET}xII{XCR0_OFFSET - MXCSR_OFFSET - 8}xQ{HEADER_OFFSET - XCR0_OFFSET - 8}xQQ"
).unpack_from
"""MXCSR, MXCSR_MASK, where a system leaves its mask, XSTATE_BV and XCOMP_BV."""
_MXCSR_INITIAL: Final = MXCSR_INITIAL.to_bytes(4, "little")
_MXCSR_END: Final = MXCSR_OFFSET + 4
_LEGACY: Final = X87 | SSE
_MASK_END: Final = MXCSR_OFFSET + 8
_NOTHING: Final[Mapping[int, str]] = MappingProxyType({})


@dataclass(slots=True)
class Conversion:
    """A converted area: ``data``, its ``layout``, and the names of the live components ``dropped``.

    ``data`` is a new bytearray, or the caller's ``out`` (a view of it where ``out`` is longer than
    the result), exactly ``layout.size`` bytes.
    """

    data: bytearray | memoryview = field(repr=False)
    dropped: tuple[str, ...]
    layout: Layout


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
    return _convert(data, _standard_job(model, model, xcr0, software), drop, out, assume)


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
    return _convert(data, _compacted_job(model, model, xcomp_bv, software), drop, out, assume)


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
    _require(source, target, software)
    if format is None:
        view = data.buffer if isinstance(data, XsaveArea) else view_of(data)
        xcomp = MASKS.unpack_from(view, HEADER_OFFSET)[1]
        format = "compacted" if xcomp & COMPACTED else "standard"
        if format == "compacted" and xcomp_bv is None:
            xcomp_bv = xcomp & (target.xcr0 | target.xss)
    require_format(format, xcr0, xcomp_bv)
    if format == "standard":
        job = _standard_job(source, target, xcr0, software)
    else:
        job = _compacted_job(source, target, xcomp_bv, software)
    return _convert(data, job, drop, out, assume)


def _standard_job(
    source: CpuModel, target: CpuModel, xcr0: int | None, software: Software
) -> _JobTuple:
    try:
        if xcr0 is None:
            xcr0 = target.xcr0
        else:
            check_user_mask(target, xcr0)
    except AttributeError:
        _require(source, target, software)
        raise
    return source, target, "standard", xcr0, software


def _compacted_job(
    source: CpuModel, target: CpuModel, xcomp_bv: int | None, software: Software
) -> _JobTuple:
    if xcomp_bv is None:
        try:
            mask = target.xcr0 | target.xss
        except AttributeError:
            _require(source, target, software)
            raise
    else:
        check_mask(xcomp_bv, "XCOMP_BV")
        mask = xcomp_bv & ~COMPACTED
    return source, target, "compacted", mask, software


def _require(source: object, target: object, software: object) -> None:
    """Raise XsaveError for what is no model, and for what nobody can do with software's bytes.

    Asked where a conversion fails or is planned: it would take a tenth of the time of each.
    """
    require_model(source, "model" if source is target else "source")
    require_model(target, "target")
    if not (isinstance(software, str) and software in get_args(Software)):
        known = " or ".join(map(repr, get_args(Software)))
        raise XsaveError(f"software: pass {known}, not {described(software)}")


def require_format(format: str, xcr0: int | None, xcomp_bv: int | None) -> None:
    """XsaveError for what is no format, and for the mask of the other one."""
    if not isinstance(format, str) or format not in ("standard", "compacted"):
        raise XsaveError(f"{format!r} is no format: standard or compacted")
    if format == "standard" and xcomp_bv is not None:
        raise XsaveError("the standard format takes xcr0=, not xcomp_bv=")
    if format == "compacted" and xcr0 is not None:
        raise XsaveError("the compacted format takes xcomp_bv=, not xcr0=")


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a conversion does, for one pair of layouts and one XSTATE_BV.

    ``copies`` are (target, source) slices, ``constants`` (target, bytes), ``clears`` the same with
    zeros only. ``take``, ``order`` and ``put`` do all three in three calls: the source's runs are
    taken, joined by the constants, put in the target's order, and written with zeros between.
    ``residue`` are (component, source slice, initial bytes): bytes without a place in the target,
    lost unless they are initial.
    """

    layout: Layout
    size: int
    needed: int
    copies: tuple[tuple[slice, slice], ...]
    constants: tuple[tuple[slice, bytes], ...]
    clears: tuple[tuple[slice, bytes], ...]
    lost: tuple[int, ...]
    residue: tuple[tuple[int, slice, bytes], ...]
    may_lose: bool
    take: Callable[[Buffer], tuple[bytes, ...]]
    fixed: tuple[bytes, ...]
    order: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]
    put: Callable[..., None]


class _Job(NamedTuple):
    """A conversion from any area of one model to one layout of another."""

    source: CpuModel
    target: CpuModel
    format: Format
    mask: int
    software: Software


_JobTuple = tuple[CpuModel, CpuModel, Format, int, Software]
# A plain tuple equals a _Job, and making one takes a tenth of a conversion less.

_State = tuple[int, bool | Literal[0], int, int]
"""MXCSR, whether bytes 464..511 tell the writer's mask, XSTATE_BV and XCOMP_BV."""

_MOST_PLANS: Final = 4096
"""Plans that a model keeps, of conversions to it."""


def _known_plan(job: _JobTuple, state: _State) -> _Plan | None:
    """The plan for the areas of a job that share a state, where it was made already.

    The target keeps it, whose layout it has; the key does not hold the source.
    """
    plan: _Plan | None = job[1].plans.get((job[0].token, job[2:], state))
    return plan


def _planned(job: _Job, state: _State) -> _Plan:
    """The plan for the areas of a job that share a state; kept."""
    plan = _known_plan(job, state)
    if plan is None:
        _require(job.source, job.target, job.software)
        mxcsr, told, xstate_bv, xcomp_bv = state
        mxcsr_live = (
            mxcsr != MXCSR_INITIAL
            and not xstate_bv & SSE
            and not xcomp_bv & COMPACTED
            and job.format == "compacted"
        )
        plans, key = job.target.plans, (job.source.token, job[2:])
        # Few MXCSRs need a plan of their own.
        shared = (*key, xstate_bv, xcomp_bv, mxcsr_live, bool(told))
        plan = plans.get(shared) or _plan(job, xstate_bv, xcomp_bv, mxcsr_live, bool(told))
        if len(plans) >= _MOST_PLANS:
            plans.clear()
        plans[*key, state] = plans[shared] = plan
    return plan


def _convert(
    data: Buffer | XsaveArea,
    job: _JobTuple,
    drop: Drop,
    out: bytearray | memoryview | None,
    assume: bool,
) -> Conversion:
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
    state: _State
    try:
        if area is None:
            mxcsr, mxcsr_mask, word, xstate_bv, xcomp_bv = _state(data)
            told: bool | Literal[0] = 0
            if word or mxcsr_mask & ~job[0].mxcsr_mask:
                told = _told(view_of(data), job[0], assume)
            state = mxcsr, told, xstate_bv, xcomp_bv
        else:
            state = _state_of(area, view_of(data), job[0])
        plan = job[1].plans.get((job[0].token, job[2:], state)) or _planned(_Job(*job), state)
    except (AttributeError, TypeError):
        _require(job[0], job[1], job[4])
        raise
    if length < plan.needed:
        buffer_layout(job[0], state[2], state[3], length)
    dropped: tuple[str, ...] = ()
    # An array of names has no truth value.
    if type(drop) is not tuple or drop or plan.may_lose or area is not None:
        missing = _NOTHING if area is None else area.missing_by_number
        dropped = _losses(plan, view_of(data), job[0], job[1], drop, missing)
    if type(out) is not bytearray or len(out) != plan.size:
        out = bytearray(plan.size) if out is None else _room(out, plan.layout)
    # What is taken is a copy: converting in place is safe.
    plan.put(out, 0, *plan.order(plan.take(data) + plan.fixed))
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


def _state_of(area: XsaveArea, data: memoryview, source: CpuModel) -> _State:
    """What a plan depends on, of the state that the area has; it may know more than its header."""
    if source.components != area.model.components:
        raise XsaveError(
            f"the area is {area.model.name}'s, not {source.name}'s: relayout moves it there"
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
    plan: _Plan,
    view: memoryview,
    source: CpuModel,
    target: CpuModel,
    drop: Drop,
    missing: Mapping[int, str],
) -> tuple[str, ...]:
    """The names of the components that lose live state; StateLossError unless all are permitted."""
    permitted = _numbers(source, target, drop, missing)
    lost = {*plan.lost, *missing}
    lost.update(number for number, taken, initial in plan.residue if view[taken] != initial)
    names = tuple(missing.get(number) or source.name_of(number) for number in sorted(lost))
    if unpermitted := sorted(lost - permitted):
        raise loss(source, plan.layout, unpermitted, missing)
    return names


def loss(
    source: CpuModel, layout: Layout, numbers: list[int], missing: Mapping[int, str] = _NOTHING
) -> StateLossError:
    """The error for components whose state a layout cannot hold, or not all, or that is missing."""
    target = layout.model
    where = []
    placeless = [number for number in numbers if number not in missing]
    if placeless:
        held = ", ".join(target.names_of(layout.mask))
        where.append(f"the target, {target.name} {layout.format}, has {held}")
    for number in placeless:
        if layout.mask >> number & 1 and number > 1:
            there, here = source.component(number).size, target.component(number).size
            name = source.name_of(number)
            where.append(f"{name} has {there} bytes in the source and {here} here")
    if absent := [missing[number] for number in numbers if number in missing]:
        where.append(f"live, but not in this file: {', '.join(absent)}")
    names = [missing.get(number) or source.name_of(number) for number in numbers]
    return StateLossError(names, "; ".join(where))


def _numbers(
    source: CpuModel, target: CpuModel, drop: Drop, missing: Mapping[int, str] = _NOTHING
) -> set[int]:
    single = isinstance(drop, SupportsIndex) and not isinstance(drop, Iterable)  # as arrays are
    alone = single or isinstance(drop, str | bytes)
    keys = [drop] if alone else items(drop, "drop: pass names or numbers of components")
    found = set()
    for key in keys:
        if not isinstance(key, str):
            number = -1
            if isinstance(key, SupportsIndex) and not isinstance(key, bool):
                with suppress(TypeError):  # an array in an array
                    number = index(key)
            if not 0 <= number <= 62:
                raise UnknownComponentError(f"drop: there is no component {key!r}", str(key))
            found.add(number)
            continue
        if key in missing.values():
            found.update(number for number, name in missing.items() if name == key)
            continue
        component = source.components.get(key) or target.components.get(key)
        rest = key.removeprefix("component")
        if component is not None:
            found.add(component.number)
        elif key.startswith("component") and re.fullmatch(r"[0-9]{1,2}", rest) and int(rest) <= 62:
            found.add(int(rest))
        else:
            names = [*source.components, *target.components, *missing.values()]
            known = ", ".join(dict.fromkeys(names))
            raise UnknownComponentError(f"drop: there is no component {key!r}; {known}", key)
    return found


class _Builder:
    """Collects what stands where in the target; whatever nobody claims is zero."""

    def __init__(self) -> None:
        self.copies: list[tuple[int, int, int]] = []
        self.constants: list[tuple[int, bytes]] = []

    def copy(self, start: int, end: int, source: int) -> None:
        """Target bytes [start, end) are the source's from ``source``."""
        self.copies.append((start, end, source))

    def constant(self, start: int, data: bytes) -> None:
        """Target bytes from ``start`` are ``data``."""
        if any(data):
            self.constants.append((start, data))

    def slices(self) -> tuple[tuple[slice, slice], ...]:
        """The copies, with neighbours merged that are neighbours on both sides."""
        merged: list[tuple[int, int, int]] = []
        for start, end, source in sorted(self.copies):
            if merged:
                last_start, last_end, last_source = merged[-1]
                if last_end == start and last_source + (start - last_start) == source:
                    merged[-1] = (last_start, end, last_source)
                    continue
            merged.append((start, end, source))
        return tuple(
            (slice(start, end), slice(source, source + end - start))
            for start, end, source in merged
        )

    def holes(self, size: int) -> tuple[tuple[slice, bytes], ...]:
        """What neither a copy nor a constant covers, up to ``size``, as zeros."""
        taken = [(start, end) for start, end, _ in self.copies]
        taken += [(start, start + len(data)) for start, data in self.constants]
        found, at = [], 0
        for start, end in [*sorted(taken), (size, size)]:
            if start > at:
                found.append((slice(at, start), bytes(start - at)))
            at = max(at, end)
        return tuple(found)


def _plan(job: _Job, xstate_bv: int, xcomp_bv: int, mxcsr_live: bool, told: bool) -> _Plan:
    source, target, format, mask, software = job
    # Length is judged when the plan runs; masks are judged here, once.
    origin = buffer_layout(source, xstate_bv, xcomp_bv, 1 << 62)
    layout = (standard if format == "standard" else compacted)(target, mask)
    in_use = xstate_bv | (SSE if mxcsr_live else 0)
    kept = in_use & layout.mask
    built = _Builder()
    residue: list[tuple[int, slice, bytes]] = []
    for slot in layout:
        if not kept & slot.component.bit:
            for start, data in initial_runs(slot, format):
                built.constant(start, data)
        elif slot.number == 1 and mxcsr_live:
            pass  # XMM was initial: zero, only MXCSR is in use
        else:
            _move(built, origin[slot.number], slot, residue)
    _mxcsr(built, job, xcomp_bv, xstate_bv, kept)
    if software == "keep":
        built.copy(SOFTWARE_OFFSET, XCR0_OFFSET, SOFTWARE_OFFSET)
        if not told:
            built.copy(XCR0_OFFSET, HEADER_OFFSET, XCR0_OFFSET)
        elif format == "standard" and mask & _LEGACY == _LEGACY:  # else it would tell nothing
            built.constant(XCR0_OFFSET, mask.to_bytes(8, "little"))
    header = MASKS.pack(kept, layout.xcomp_bv)
    built.constant(HEADER_OFFSET, header + bytes(HEADER_SIZE - len(header)))
    copies = built.slices()
    constants = tuple((slice(at, at + len(data)), data) for at, data in built.constants)
    # Where each run that is taken, and each constant behind them, goes in the target.
    taken = sorted(copies, key=lambda copy: int(copy[1].start))
    goals = [place for place, _ in taken] + [place for place, _ in constants]
    order = sorted(range(len(goals)), key=lambda index: int(goals[index].start))
    live_ends = [slot.end for slot in origin if slot.component.bit & xstate_bv]
    lost = tuple(bits_of(in_use & ~layout.mask))
    return _Plan(
        layout=layout,
        size=layout.size,
        needed=origin.size if xcomp_bv & COMPACTED else max([EXTENDED_OFFSET, *live_ends]),
        copies=copies,
        constants=constants,
        clears=built.holes(layout.size),
        lost=lost,
        residue=tuple(residue),
        may_lose=bool(lost or residue),
        take=_runs((part for _, part in taken), 0).unpack_from,
        fixed=tuple(data for _, data in constants),
        order=tuple if order == sorted(order) else itemgetter(*order),
        put=_runs(goals, layout.size).pack_into,
    )


def _runs(places: Iterable[slice], size: int) -> Struct:
    """A struct of these runs of bytes in order of place, padded between and up to ``size``."""
    codes, end = ["<"], 0
    for place in sorted(places, key=lambda place: int(place.start)):
        codes.append(f"{place.start - end}x{place.stop - place.start}s")
        end = place.stop
    codes.append(f"{max(0, size - end)}x")
    return Struct("".join(codes))


def initial_runs(slot: Slot, format: Format) -> Iterator[tuple[int, bytes]]:
    """What stands at an initial component's place: its initial values, as XSAVE writes them.

    In the compacted format nothing looks at them, and they are zero.
    """
    for start, end in slot.ranges:
        image = slot.component.initial[start - slot.origin : end - slot.origin]
        yield start, image if format == "standard" else bytes(end - start)


def _mxcsr(built: _Builder, job: _Job, xcomp_bv: int, xstate_bv: int, kept: int) -> None:
    """MXCSR and MXCSR_MASK: a standard restore loads MXCSR whatever XSTATE_BV[1] says (HW).

    MXCSR_MASK is the processor's: another CPU's area has that one's.
    """
    compacts = job.format == "compacted"
    if compacts and not kept & SSE:
        return
    if not compacts and xcomp_bv & COMPACTED and not xstate_bv & SSE:
        built.constant(MXCSR_OFFSET, _MXCSR_INITIAL)
    else:
        built.copy(MXCSR_OFFSET, _MXCSR_END, MXCSR_OFFSET)
    if job.source.name == job.target.name:
        built.copy(_MXCSR_END, _MASK_END, _MXCSR_END)
    else:
        built.constant(_MXCSR_END, job.target.mxcsr_mask.to_bytes(4, "little"))


def _move(built: _Builder, slot: Slot, to: Slot, residue: list[tuple[int, slice, bytes]]) -> None:
    """Copy a component in use; field by field where the two models give it different sizes."""
    if slot.size == to.size:
        for (start, end), (source, _) in zip(to.ranges, slot.ranges, strict=True):
            built.copy(start, end, source)
        return
    wanted = {leaf.path: leaf for leaf in to.component.leaves}
    at = slot.offset
    for leaf in sorted(slot.component.leaves, key=lambda leaf: leaf.offset):
        other = wanted.get(leaf.path)
        if other is None or other.size != leaf.size:
            continue
        _rest(residue, slot, at, slot.offset + leaf.offset)
        at = slot.offset + leaf.offset + leaf.size
        start = to.offset + other.offset
        built.copy(start, start + leaf.size, slot.offset + leaf.offset)
    _rest(residue, slot, at, slot.end)


def _rest(residue: list[tuple[int, slice, bytes]], slot: Slot, start: int, end: int) -> None:
    if start < end:
        initial = slot.component.initial[start - slot.offset : end - slot.offset]
        residue.append((slot.number, slice(start, end), initial))

# SPDX-License-Identifier: MIT
"""A conversion as data: which bytes of the source go where, and what stands everywhere else.

It depends on the two models, the source's header and the target's layout only, so it is worked out
once and run over as many areas as come. The rules are the processor's (SDM 13.7 to 13.12): what
XRSTOR would load from the source is what XRSTOR loads from the result.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from operator import index, itemgetter
from struct import Struct
from types import MappingProxyType
from typing import Final, Literal, SupportsIndex, get_args
from weakref import ref

from xsaveschema.errors import (
    StateLossError,
    UnknownComponentError,
    XsaveError,
    described,
    items,
)
from xsaveschema.header import MASKS, Buffer, buffer_layout
from xsaveschema.layout import Layout, check_mask, check_user_mask, compacted, standard
from xsaveschema.model import (
    COMPACTED,
    EXTENDED_OFFSET,
    HEADER_OFFSET,
    HEADER_SIZE,
    MXCSR_INITIAL,
    SOFTWARE_OFFSET,
    SSE,
    X87,
    XCR0_OFFSET,
    CpuModel,
    Format,
    bits_of,
    require_model,
)
from xsaveschema.spans import MASK_PATH, Slot, Span

Drop = Iterable[str | int]
Software = Literal["keep", "zero"]
"""What becomes of bytes 416..511, which no instruction writes and software may use.

A mask of the writer's system there, or the words of its signal frame, describe the layout: kept,
they become the result's own mask in the standard format, and zeros in the compacted one.
"""
Errors = Literal["raise", "skip", "copy", "null"]
"""What becomes of an area of many that cannot be converted, or read.

It ends the work; its place is left zero; it is copied as it is, with zeros behind; or it becomes
null, where there is such a value. But for the first, it is listed with the reason.
"""
State = tuple[int, bool | Literal[0], int, int]
"""MXCSR, whether bytes 464..511 tell the writer's mask, XSTATE_BV and XCOMP_BV."""

NOTHING: Final[Mapping[int, str]] = MappingProxyType({})
_LEGACY: Final = X87 | SSE
_MOST_JOBS: Final = 16
_MOST_PLANS: Final = 1024
"""What a model keeps of conversions to it, and each of those of the states that it met."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a conversion does, for one pair of layouts and one XSTATE_BV.

    ``copies`` are (target, source) slices, ``constants`` (target, bytes), ``clears`` the same with
    zeros only. ``take``, ``order`` and ``put`` do all three in three calls: the source's runs are
    taken, joined by the constants, put in the target's order, and written with zeros between.
    ``needed`` is how many bytes the source must have. ``lost`` are components in use without a
    place in the target; ``residue`` are (component, source slice, initial bytes): bytes without a
    place there, lost unless they are initial.
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

    def run(self, data: Buffer, out: bytearray | memoryview) -> None:
        """Write the conversion of ``data`` into ``out``, which has ``size`` bytes.

        What is taken is a copy: both may be one buffer.
        """
        self.put(out, 0, *self.order(self.take(data) + self.fixed))


class Job:
    """A conversion from any area of one model to one layout of another's.

    ``mask`` is the XCR0 of a standard result, or the components that a compacted one has a place
    for. ``plans`` are those that were worked out, by state.
    """

    __slots__ = ("__dict__", "_source", "format", "mask", "plans", "software", "target")

    def __init__(
        self, source: CpuModel, target: CpuModel, format: Format, mask: int, software: Software
    ):
        # The target keeps the job, and must not keep the source alive.
        self._source = ref(source)
        self.target = target
        self.format: Format = format
        self.mask = mask
        self.software: Software = software
        self.plans: dict[State, Plan] = {}

    @property
    def source(self) -> CpuModel:
        """The model that wrote the areas."""
        found = self._source()
        assert found is not None  # noqa: S101 - whoever has the job gave the model
        return found

    @cached_property
    def layout(self) -> Layout:
        """The results' layout."""
        return (standard if self.format == "standard" else compacted)(self.target, self.mask)

    def plan(self, state: State) -> Plan:
        """The plan for the areas that share a state; kept. HeaderError for a state that none has.

        How long the areas are is not judged here: see ``needed``.
        """
        found = self.plans.get(state)
        if found is None:
            mxcsr, told, xstate_bv, xcomp_bv = state
            # A standard area has MXCSR whatever XSTATE_BV says; a compacted one only with SSE.
            wakes = (
                mxcsr != MXCSR_INITIAL
                and not xstate_bv & SSE
                and not xcomp_bv & COMPACTED
                and self.format == "compacted"
            )
            # Few MXCSRs need a plan of their own.
            shared = (0 if wakes else MXCSR_INITIAL, bool(told), xstate_bv, xcomp_bv)
            found = self.plans.get(shared) or _plan(self, xstate_bv, xcomp_bv, wakes, bool(told))
            if len(self.plans) >= _MOST_PLANS:
                self.plans.clear()
            self.plans[state] = self.plans[shared] = found
        return found


def job_for(
    source: CpuModel, target: CpuModel, format: Format, mask: int | None, software: Software
) -> Job:
    """The job of these arguments; kept.

    ``mask`` None is the target's masks. MaskError for a mask that the target cannot have,
    XsaveError for what is no model, and for what nobody can do with software's bytes.
    """
    try:
        # What equals a mask need not be one: 1.0, True.
        found = None
        if mask is None or type(mask) is int:
            found = target.jobs.get((source.token, format, mask, software))
    except (AttributeError, TypeError):
        found = None  # said below
    if found is None:
        found = _job(source, target, format, mask, software)
        if len(target.jobs) >= _MOST_JOBS:
            target.jobs.clear()
        target.jobs[source.token, format, mask, software] = found
    job: Job = found
    return job


def _job(
    source: CpuModel, target: CpuModel, format: Format, mask: int | None, software: Software
) -> Job:
    require_model(source, "model" if source is target else "source")
    require_model(target, "target")
    if not (isinstance(software, str) and software in get_args(Software)):
        known = " or ".join(map(repr, get_args(Software)))
        raise XsaveError(f"software: pass {known}, not {described(software)}")
    if format == "standard":
        if mask is None:
            mask = target.xcr0
        else:
            check_user_mask(target, mask)
    elif mask is None:
        mask = target.xcr0 | target.xss
    else:
        check_mask(mask, "XCOMP_BV")
    return Job(source, target, format, mask & ~COMPACTED, software)


def require_errors(errors: object, *takes: Errors) -> None:
    """XsaveError for what is no policy, or none of those that a function ``takes``."""
    if errors not in takes:
        what = f"errors={errors!r}" if isinstance(errors, str) else described(errors)
        raise XsaveError(f"errors: pass {', '.join(map(repr, takes))}, not {what}")


def kept_format(
    xcomp_bv: int, target: CpuModel, xcr0: int | None, mask: int | None
) -> tuple[Format, int | None]:
    """The format of an area with this XCOMP_BV, and the mask with which a target keeps it.

    A compacted area keeps its XCOMP_BV as far as the target has the components enabled, where no
    ``mask`` names others. XsaveError for the mask of the other format.
    """
    format: Format = "compacted" if xcomp_bv & COMPACTED else "standard"
    require_format(format, xcr0, mask)
    if format == "standard":
        return format, xcr0
    return format, xcomp_bv & (target.xcr0 | target.xss) if mask is None else mask


def require_format(format: str, xcr0: int | None, xcomp_bv: int | None) -> None:
    """XsaveError for what is no format, and for the mask of the other one."""
    if not isinstance(format, str) or format not in ("standard", "compacted"):
        raise XsaveError(f"{format!r} is no format: standard or compacted")
    if format == "standard" and xcomp_bv is not None:
        raise XsaveError("the standard format takes xcr0=, not xcomp_bv=")
    if format == "compacted" and xcr0 is not None:
        raise XsaveError("the compacted format takes xcomp_bv=, not xcr0=")


def _plan(job: Job, xstate_bv: int, xcomp_bv: int, wakes: bool, told: bool) -> Plan:
    """``wakes``: SSE comes into use, because of MXCSR alone; XMM registers are initial."""
    source, layout = job.source, job.layout
    # Length is judged when the plan runs; masks are judged here, once.
    origin = buffer_layout(source, xstate_bv, xcomp_bv, 1 << 62)
    in_use = xstate_bv | (SSE if wakes else 0)
    kept = in_use & layout.mask
    places = _Places(origin, layout, xstate_bv)
    built = _Builder()
    for span in layout.spans():
        if span.component is None:
            continue
        if not span.lives(kept):
            # In the compacted format nothing looks at them, and they are zero.
            if job.format == "standard":
                built.constant(span.offset, span.initial)
        elif span.path == MASK_PATH and source.name != job.target.name:
            # The processor's: another CPU's area has that one's.
            built.constant(span.offset, job.target.mxcsr_mask.to_bytes(span.size, "little"))
        elif span.path == MASK_PATH:
            built.copy(span.offset, span.end, span.offset)
        elif (at := places.of(span)) is None:
            built.constant(span.offset, span.initial)
        else:
            built.copy(span.offset, span.end, at)
    if job.software == "keep":
        built.copy(SOFTWARE_OFFSET, XCR0_OFFSET, SOFTWARE_OFFSET)
        if not told:
            built.copy(XCR0_OFFSET, HEADER_OFFSET, XCR0_OFFSET)
        elif job.format == "standard" and job.mask & _LEGACY == _LEGACY:  # else it tells nothing
            built.constant(XCR0_OFFSET, job.mask.to_bytes(8, "little"))
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
    residue = tuple(places.residue(kept))
    return Plan(
        layout=layout,
        size=layout.size,
        needed=origin.size if xcomp_bv & COMPACTED else max([EXTENDED_OFFSET, *live_ends]),
        copies=copies,
        constants=constants,
        clears=built.holes(layout.size),
        lost=lost,
        residue=residue,
        may_lose=bool(lost or residue),
        take=_runs((part for _, part in taken), 0).unpack_from,
        fixed=tuple(data for _, data in constants),
        order=tuple if order == sorted(order) else itemgetter(*order),
        put=_runs(goals, layout.size).pack_into,
    )


class _Places:
    """Where a source has what the spans of the target hold.

    A component that has one size in both is moved as it is; else fields find one another by path.
    """

    def __init__(self, origin: Layout, layout: Layout, xstate_bv: int):
        self._origin = origin
        self._layout = layout
        self._xstate_bv = xstate_bv
        resized = [
            origin[slot.number]
            for slot in layout
            if slot.number in origin and origin[slot.number].size != slot.size
        ]
        self._resized = {slot.number for slot in resized}
        self._fields = {(s.path, s.size): s for slot in resized for s in _fields(origin, slot)}

    def of(self, span: Span) -> int | None:
        """The source's byte from which on it stands; None where the source has it initial."""
        component = span.component
        assert component is not None  # noqa: S101 - the caller's condition
        if component.legacy:
            # The same bytes on every CPU; MXCSR's are alive by a rule of their own.
            stored = self._origin.span_at(span.offset)
            there = stored and stored.component and stored.lives(self._xstate_bv)
            return span.offset if there else None
        if component.number in self._resized:
            found = self._fields.get((span.path, span.size)) if span.kind == "field" else None
            return found and found.offset
        slot, to = self._origin[component.number], self._layout[component.number]
        return slot.offset + span.offset - to.offset

    def residue(self, kept: int) -> Iterator[tuple[int, slice, bytes]]:
        """What has no place in the target of the components that are ``kept``."""
        wanted = {
            (span.path, span.size)
            for number in self._resized
            for span in _fields(self._layout, self._layout[number])
        }
        for number in self._resized:
            if kept >> number & 1:
                slot = self._origin[number]
                for span in self._origin.spans():
                    moves = span.kind == "field" and (span.path, span.size) in wanted
                    if span.component is slot.component and not moves:
                        yield number, slice(span.offset, span.end), span.initial


def _fields(layout: Layout, slot: Slot) -> list[Span]:
    spans = layout.spans()
    return [span for span in spans if span.component is slot.component and span.kind == "field"]


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


def _runs(places: Iterable[slice], size: int) -> Struct:
    """A struct of these runs of bytes in order of place, padded between and up to ``size``."""
    codes, end = ["<"], 0
    for place in sorted(places, key=lambda place: int(place.start)):
        codes.append(f"{place.start - end}x{place.stop - place.start}s")
        end = place.stop
    codes.append(f"{max(0, size - end)}x")
    return Struct("".join(codes))


def loss(
    source: CpuModel, layout: Layout, numbers: list[int], missing: Mapping[int, str] = NOTHING
) -> StateLossError:
    """The error for components whose state a layout cannot hold, or not all, or that is missing."""
    target = layout.model
    where = []
    placeless = [number for number in numbers if number not in missing]
    if placeless:
        held = ", ".join(target.names_of(layout.mask)) or "no component"
        where.append(f"the target, {target.label} {layout.format}, has {held}")
    for number in placeless:
        if layout.mask >> number & 1 and number > 1:
            there, here = source.component(number).size, target.component(number).size
            name = source.name_of(number)
            where.append(f"{name} has {there} bytes in the source and {here} here")
    if absent := [missing[number] for number in numbers if number in missing]:
        where.append(f"live, but not in this file: {', '.join(absent)}")
    names = [missing.get(number) or source.name_of(number) for number in numbers]
    return StateLossError(names, "; ".join(where))


def numbers_of(
    source: CpuModel, target: CpuModel, drop: Drop, missing: Mapping[int, str] = NOTHING
) -> set[int]:
    """The numbers of the components that ``drop`` names. UnknownComponentError, WrongTypeError."""
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

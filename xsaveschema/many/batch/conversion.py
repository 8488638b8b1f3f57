# SPDX-License-Identifier: MIT
"""Conversion of many areas, by the plans that convert one.

A batch is cut into rows that share an XCOMP_BV, all components that any row has in use are copied
for every row, and rows where one is initial get its initial bytes afterwards. That keeps mixed
states near the speed of memory, because copies stay long runs over all rows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from xsaveschema.errors import TooShortError, WrongTypeError, XsaveError, described, hex_mask
from xsaveschema.header import buffer_layout
from xsaveschema.layout import Layout
from xsaveschema.many.batch.rows import (
    BIT63,
    Areas,
    BatchError,
    Rows,
    as_rows,
    constant,
    distinct,
    reasons,
    run,
    runs,
    seen,
)
from xsaveschema.many.batch.writers import contradicted, telling
from xsaveschema.model import (
    COMPACTED,
    HEADER_OFFSET,
    MXCSR_INITIAL,
    MXCSR_OFFSET,
    SSE,
    CpuModel,
    Format,
    require_model,
)
from xsaveschema.plan import (
    Drop,
    Errors,
    Job,
    Plan,
    Software,
    job_for,
    kept_format,
    loss,
    numbers_of,
    require_errors,
    require_format,
)

_T = TypeVar("_T")
_R = TypeVar("_R")

_MXCSR: Final = (MXCSR_OFFSET, MXCSR_OFFSET + 4)
_MASK: Final = (MXCSR_OFFSET + 4, MXCSR_OFFSET + 8)
_MXCSR_AND_MASK: Final = (MXCSR_OFFSET, MXCSR_OFFSET + 8)
_ROWS: Final = 16384
"""Rows a step, at most: so many that a step's book-keeping stays small beside its copying."""
_SSE: Final = np.uint64(SSE)
_MXCSR_INITIAL: Final = MXCSR_INITIAL.to_bytes(4, "little")


@dataclass(slots=True, eq=False, repr=False)
class Batch:
    """Converted areas: ``data`` of shape (n, layout.size), and what they lost.

    Rows are wider where areas are copied that cannot be converted, and are longer. ``dropped`` maps
    the name of a component that was dropped to the number of areas it was live in. ``errors`` maps
    the index of an area that could not be converted to the reason, in order; its row is zero, or a
    copy.
    """

    data: Areas
    layout: Layout
    dropped: dict[str, int]
    errors: dict[int, XsaveError]

    def __eq__(self, other: object) -> bool:
        """By value; errors are equal where they say the same."""
        if not isinstance(other, Batch):
            return NotImplemented
        return (
            (self.layout, self.dropped) == (other.layout, other.dropped)
            and reasons(self.errors) == reasons(other.errors)
            and np.array_equal(self.data, other.data)
        )

    __hash__ = None  # type: ignore[assignment]  # its data can be written to

    def __repr__(self) -> str:
        rows, size = self.data.shape
        lost = "".join(f"; {name} dropped in {count}" for name, count in self.dropped.items())
        bad = f"; {len(self.errors)} refused" if self.errors else ""
        return f"<Batch {rows} areas of {size} bytes, {self.layout!r}{lost}{bad}>"


def to_standard(
    areas: Any,
    model: CpuModel,
    *,
    xcr0: int | None = None,
    drop: Drop = (),
    out: Areas | None = None,
    threads: int = 1,
    software: Software = "keep",
    errors: Errors = "raise",
    assume: bool = False,
) -> Batch:
    """Convert areas that ``model`` wrote to the standard format; see xsaveschema.to_standard.

    ``areas`` has the shape (n, size). ``errors`` "raise" stops at the first area that cannot be
    converted (BatchError, nothing is written); "skip" leaves its row zero and lists it, "copy"
    leaves the area itself there: rows are as long as the longer of the two, and zero behind each.
    ``threads`` splits the rows; numpy copies without holding the interpreter's lock.
    """
    job = job_for(model, model, "standard", xcr0, software)
    return _convert(areas, job, drop, out, threads, errors, assume)


def to_compacted(
    areas: Any,
    model: CpuModel,
    *,
    xcomp_bv: int | None = None,
    drop: Drop = (),
    out: Areas | None = None,
    threads: int = 1,
    software: Software = "keep",
    errors: Errors = "raise",
    assume: bool = False,
) -> Batch:
    """Convert areas that ``model`` wrote to the compacted format; see xsaveschema.to_compacted."""
    job = job_for(model, model, "compacted", xcomp_bv, software)
    return _convert(areas, job, drop, out, threads, errors, assume)


def relayout(
    areas: Any,
    *,
    source: CpuModel,
    target: CpuModel,
    format: Format | None = None,
    xcr0: int | None = None,
    xcomp_bv: int | None = None,
    drop: Drop = (),
    out: Areas | None = None,
    threads: int = 1,
    software: Software = "keep",
    errors: Errors = "raise",
    assume: bool = False,
) -> Batch:
    """Move areas from one model's layout to another's; see xsaveschema.relayout.

    ``format`` None keeps the areas' own; XsaveError where they have several, or XCOMP_BVs that
    differ: one array has one layout.
    """
    if format is None:
        require_model(target, "target")
        areas = as_rows(areas)
        format, mask = kept_format(_one_xcomp_bv(areas), target, xcr0, xcomp_bv)
    else:
        require_format(format, xcr0, xcomp_bv)
        mask = xcr0 if format == "standard" else xcomp_bv
    job = job_for(source, target, format, mask, software)
    return _convert(areas, job, drop, out, threads, errors, assume)


def _one_xcomp_bv(array: Areas) -> int:
    found = distinct(seen(array).xcomp_bv)
    if len(found) == 1:
        return found[0]
    what = f"XCOMP_BVs {', '.join(map(hex_mask, found[:4]))}" if found else "no area"
    raise XsaveError(f"{what}, which give the result no single format: name one (format=)")


def _convert(
    areas: Any,
    job: Job,
    drop: Drop,
    out: Areas | None,
    threads: int,
    errors: Errors,
    assume: bool,
) -> Batch:
    require_errors(errors, "raise", "skip", "copy")
    if not isinstance(threads, int):
        raise WrongTypeError(f"threads: pass a number, not {described(threads)}")
    permitted = frozenset(numbers_of(job.source, job.target, drop))
    array = as_rows(areas)
    layout = job.layout
    width = max(layout.size, array.shape[1] if errors == "copy" else 0)
    fresh = out is None
    if out is None:
        out = np.zeros((len(array), width), np.uint8)
    else:
        out = _room(out, array, layout, width, errors)
        out[:, layout.size :] = 0
    result = Batch(out, layout, {}, {})

    size = _step_size(len(array), threads)

    def write(step: _Step) -> None:
        _write(array[step.first :][:size], out[step.first :][:size], job, step, fresh)

    # All are judged before any is written; on one thread, as it is short and holds the lock.
    steps = []
    for at in range(0, len(array), size):
        step = _judge(array[at : at + size], job, permitted, at, assume)
        steps.append(step)
        result.errors |= sorted(step.bad.items())
        for number, count in step.lost.items():
            name = job.source.name_of(number)
            result.dropped[name] = result.dropped.get(name, 0) + count
        if step.bad and errors == "raise":
            index = min(step.bad)
            raise BatchError(index, step.bad[index]) from step.bad[index]
    for _ in _map(write, steps, threads):
        pass
    if errors == "copy" and result.errors:
        bad = [*result.errors]
        out[bad, : array.shape[1]] = array[bad]
    return result


def _step_size(rows: int, threads: int) -> int:
    """Rows a step, such that every thread has as many steps."""
    rounds = -(-rows // (_ROWS * max(1, threads)))
    return max(1, -(-rows // max(1, rounds * threads)))


def _map(run: Callable[[_T], _R], items: Sequence[_T], threads: int) -> Iterator[_R]:
    if threads <= 1 or len(items) <= 1:
        yield from map(run, items)
        return
    yield from _pool(threads).map(run, items)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    # Kept: a batch is converted faster than threads are started.
    return ThreadPoolExecutor(threads, "xsaveschema")


if hasattr(os, "register_at_fork"):  # a child has none of its parent's threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


def _room(out: Areas, array: Areas, layout: Layout, width: int, errors: Errors) -> Areas:
    if not isinstance(out, np.ndarray):
        raise WrongTypeError(f"out=: pass an array of uint8, not {described(out)}")
    if out.dtype != np.uint8 or out.ndim != 2 or len(out) != len(array):
        raise XsaveError(
            f"out= must be uint8 of shape ({len(array)}, {layout.size}), not {out.dtype} of "
            f"shape {out.shape}"
        )
    if out.shape[1] < width:
        also = f", and errors='copy' {array.shape[1]}" if errors == "copy" else ""
        raise TooShortError(
            f"out= has rows of {out.shape[1]} bytes; {layout!r} needs {layout.size}{also}",
            width,
            out.shape[1],
        )
    if not out.flags.writeable:
        raise XsaveError("out= is read-only")
    if out.size and out.strides[1] != 1:
        raise XsaveError("the bytes of a row of out= must be contiguous")
    if np.may_share_memory(out, array):
        raise XsaveError("out= shares memory with the areas: convert into another array")
    return out[:, :width]


class _Group(NamedTuple):
    """Rows of a step that one plan serves: the one for all that any of them has in use.

    ``union`` and ``common`` are what any and what all of them have in use.
    """

    plan: Plan
    union: int
    common: int
    xcomp_bv: int
    rows: Rows


class _Kind(NamedTuple):
    """What rows must have in common to be moved together, besides what they have in use.

    ``told``: the bytes left to software tell the writer's mask (traces.py).
    """

    told: bool
    xcomp_bv: int


@dataclass(slots=True)
class _Step:
    """What was found of some rows, before any is written."""

    first: int
    xstate: npt.NDArray[np.uint64]
    odd: npt.NDArray[np.bool_]
    groups: list[_Group] = field(default_factory=list)
    lost: dict[int, int] = field(default_factory=dict)
    bad: dict[int, XsaveError] = field(default_factory=dict)


def _judge(array: Areas, job: Job, permitted: frozenset[int], first: int, assume: bool) -> _Step:
    """Group some rows by their headers; find those that cannot be converted, and why."""
    words = seen(array)
    xstate, xcomp = words.xstate_bv, words.xcomp_bv
    odd = words.mxcsr != MXCSR_INITIAL
    if odd.any():
        odd &= (xstate & _SSE == 0) & (xcomp < BIT63) & (job.format == "compacted")
    step = _Step(first, xstate, odd)
    good = np.ones(len(array), bool)
    told = telling(array, words, job.source)
    refused = {} if assume else contradicted(array, words, job.source)
    for index, error in refused.items():
        step.bad[first + index] = error
        good[index] = False
    for xcomp_bv in distinct(xcomp):
        for kind in (_Kind(bool(each), xcomp_bv) for each in distinct(told)):
            alike = (xcomp == xcomp_bv) & (told == kind.told) & good
            _judge_kind(array, alike, job, kind, permitted, step, good)
            if (rows := good & alike).any():
                step.groups += _groups(job, rows, xstate, kind)
    return step


def _judge_kind(
    array: Areas,
    alike: npt.NDArray[np.bool_],
    job: Job,
    kind: _Kind,
    permitted: frozenset[int],
    step: _Step,
    good: npt.NDArray[np.bool_],
) -> None:
    for forced in (False, True):
        part = alike & (step.odd == forced)
        for xstate_bv in distinct(step.xstate[part]):
            state = (0 if forced else MXCSR_INITIAL, kind.told, xstate_bv, kind.xcomp_bv)
            plan = job.plans.get(state)
            if plan is None or plan.needed > array.shape[1] or plan.may_lose:
                rows = np.flatnonzero(part & (step.xstate == xstate_bv))
                _judge_state(array, rows, job, state, permitted, step, good)


def _groups(
    job: Job, rows: npt.NDArray[np.bool_], xstate: npt.NDArray[np.uint64], kind: _Kind
) -> Iterator[_Group]:
    states = xstate[rows]
    union, common = int(np.bitwise_or.reduce(states)), int(np.bitwise_and.reduce(states))
    try:
        plan = job.plan((MXCSR_INITIAL, kind.told, union, kind.xcomp_bv))
    except XsaveError:
        # Components that share bytes: no row has both in use. One group a state, then.
        for alone in distinct(states):
            plan = job.plan((MXCSR_INITIAL, kind.told, alone, kind.xcomp_bv))
            yield _Group(plan, alone, alone, kind.xcomp_bv, rows & (xstate == alone))
        return
    yield _Group(plan, union, common, kind.xcomp_bv, True if rows.all() else rows)


def _judge_state(
    array: Areas,
    rows: npt.NDArray[np.intp],
    job: Job,
    state: tuple[int, bool, int, int],
    permitted: frozenset[int],
    step: _Step,
    good: npt.NDArray[np.bool_],
) -> None:
    """Judge rows that share a state: can they be converted, and what do they lose?"""
    try:
        plan = job.plan(state)
        if array.shape[1] < plan.needed:
            buffer_layout(job.source, state[2], state[3], array.shape[1])
    except XsaveError as error:
        # Without its traceback, which would hold on to all the areas.
        step.bad |= dict.fromkeys((step.first + rows).tolist(), error.with_traceback(None))
        good[rows] = False
        return
    _judge_loss(plan, array, rows, job, permitted, step, good)


def _judge_loss(
    plan: Plan,
    array: Areas,
    rows: npt.NDArray[np.intp],
    job: Job,
    permitted: frozenset[int],
    step: _Step,
    good: npt.NDArray[np.bool_],
) -> None:
    losing: dict[int, npt.NDArray[np.intp]] = dict.fromkeys(plan.lost, rows)
    for number, taken, initial in plan.residue:
        differs = (array[rows, taken] != np.frombuffer(initial, np.uint8)).any(axis=1)
        losing[number] = np.union1d(losing.get(number, rows[:0]), rows[differs])
    unpermitted: dict[int, list[int]] = {}
    for number, which in sorted(losing.items()):
        for row in which if number not in permitted else ():
            unpermitted.setdefault(int(row), []).append(number)
    for row, numbers in unpermitted.items():
        step.bad[step.first + row] = loss(job.source, plan.layout, numbers)
        good[row] = False
    for number in sorted(losing.keys() & permitted):
        # An area that is refused drops nothing.
        if count := int(good[losing[number]].sum()):
            step.lost[number] = step.lost.get(number, 0) + count


def _write(array: Areas, out: Areas, job: Job, step: _Step, fresh: bool) -> None:
    """Write some rows, group by group; those that cannot be converted become zero."""
    for group in step.groups:
        _fill(array, out, group, fresh)
        _correct(array, out, job, group, step.xstate, step.odd)
    if step.bad and not fresh:
        out[[index - step.first for index in step.bad]] = 0


def _fill(array: Areas, out: Areas, group: _Group, fresh: bool) -> None:
    """Write a group's rows as if all had in use what any has."""
    plan = group.plan
    source = runs(array, (taken for _, taken in plan.copies))
    np.copyto(runs(out, (to for to, _ in plan.copies)), source, where=group.rows)
    for to, data in plan.constants if fresh else (*plan.constants, *plan.clears):
        np.copyto(run(out, to.start, to.stop), constant(data), where=group.rows)


def _correct(
    array: Areas,
    out: Areas,
    job: Job,
    group: _Group,
    xstate: npt.NDArray[np.uint64],
    odd: npt.NDArray[np.bool_],
) -> None:
    """Give each row of a group its own header, and its initial components their values."""
    layout, rows = group.plan.layout, group.rows
    odd = odd & rows
    if group.union == group.common and not odd.any():
        return
    for slot in layout:
        if group.union & ~group.common & slot.component.bit:
            initial = _initial(xstate, np.uint64(slot.component.bit), rows)
            for start, data in layout.initial_runs(slot.number):
                run(out, start, start + len(data))[initial] = constant(data)
    kept = (xstate | np.where(odd, _SSE, np.uint64(0))) & np.uint64(layout.mask)
    header = out[:, HEADER_OFFSET : HEADER_OFFSET + 8].view("<u8")[:, 0]
    np.copyto(header, kept, where=rows)
    # MXCSR has rules of its own.
    if job.format == "compacted":
        without_sse = _initial(kept, _SSE, rows)
        run(out, *_MXCSR)[odd] = run(array, *_MXCSR)[odd]
        run(out, *_MASK)[odd] = _mask_of(array, job)[odd]
        run(out, *_MXCSR_AND_MASK)[without_sse] = constant(bytes(8))
        return
    if group.xcomp_bv & COMPACTED:
        # The source decides, whether the target has a place for SSE or not.
        run(out, *_MXCSR)[_initial(xstate, _SSE, rows)] = constant(_MXCSR_INITIAL)


def _mask_of(array: Areas, job: Job) -> npt.NDArray[np.void]:
    """MXCSR_MASK of the results: the areas' own, or that of the CPU to which they move."""
    own = run(array, *_MASK)
    if job.source.name == job.target.name:
        return own
    return np.full(len(array), constant(job.target.mxcsr_mask.to_bytes(4, "little")))


def _initial(state: npt.NDArray[np.uint64], bit: np.uint64, rows: Rows) -> npt.NDArray[np.intp]:
    """The rows of a group where a component is initial: few, so they are picked by number."""
    initial = state & bit == 0
    return np.flatnonzero(initial if rows is True else initial & rows)

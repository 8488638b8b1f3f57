"""Many areas at once, on numpy (extra ``batch``).

An array of areas has the shape (n, size) and the type uint8: a numpy array, a memory map, or any
buffer shaped like that. The rules are ``convert``'s, and so are the plans: a batch is cut into
rows that share an XCOMP_BV, all components that any row has in use are copied for every row, and
rows where one is initial get its initial bytes afterwards. That keeps mixed states near the speed
of memory, because copies stay long runs over all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from xsaveschema.convert import Drop, Software, _numbers, _Plan, _plan, loss
from xsaveschema.errors import TooShortError, XsaveError
from xsaveschema.header import buffer_layout
from xsaveschema.layout import Layout, check_xcr0
from xsaveschema.model import (
    COMPACTED,
    EXTENDED_OFFSET,
    FCW_INITIAL,
    HEADER_OFFSET,
    MXCSR_INITIAL,
    MXCSR_OFFSET,
    SSE,
    X87,
    CpuModel,
    Format,
)

Areas = npt.NDArray[np.uint8]

_MXCSR: Final = slice(MXCSR_OFFSET, MXCSR_OFFSET + 4)
_MXCSR_AND_MASK: Final = slice(MXCSR_OFFSET, MXCSR_OFFSET + 8)
_ROWS: Final = 4096
"""Rows a step: so many that a step's book-keeping stays small beside its copying."""
_BIT63: Final = np.uint64(1 << 63)
_FCW_INITIAL: Final = FCW_INITIAL.to_bytes(2, "little")
_MXCSR_INITIAL: Final = MXCSR_INITIAL.to_bytes(4, "little")


class BatchError(XsaveError):
    """An area of a batch that cannot be converted: ``index`` says which, ``error`` why."""

    def __init__(self, index: int, error: XsaveError):
        super().__init__(f"area {index}: {error}")
        self.index = index
        self.error = error


@dataclass(slots=True)
class Batch:
    """Converted areas: ``data`` of shape (n, layout.size), and what they lost.

    ``dropped`` maps the name of a component that was dropped to the number of areas it was live
    in. ``errors`` maps the index of an area that could not be converted to the reason; its row
    in ``data`` is zero.
    """

    data: Areas = field(repr=False)
    layout: Layout
    dropped: dict[str, int]
    errors: dict[int, XsaveError]


def to_standard(
    areas: Any,
    model: CpuModel,
    *,
    source: CpuModel | None = None,
    xcr0: int | None = None,
    drop: Drop = (),
    out: Areas | None = None,
    threads: int = 1,
    software: Software = "keep",
    errors: str = "raise",
) -> Batch:
    """Convert areas to ``model``'s standard format; see :func:`xsaveschema.to_standard`.

    ``areas`` has the shape (n, size). ``errors`` "raise" stops at the first area that cannot be
    converted (BatchError, nothing of its step written); "collect" leaves its row zero and lists it.
    ``threads`` splits the rows; numpy copies without holding the interpreter's lock.
    """
    if xcr0 is None:
        xcr0 = model.xcr0
    else:
        check_xcr0(model, xcr0)
    job = _Job(source or model, model, "standard", xcr0, _numbers_of(source, model, drop), software)
    return _convert(areas, job, out, threads, errors)


def to_compacted(
    areas: Any,
    model: CpuModel,
    *,
    source: CpuModel | None = None,
    xcomp_bv: int | None = None,
    drop: Drop = (),
    out: Areas | None = None,
    threads: int = 1,
    software: Software = "keep",
    errors: str = "raise",
) -> Batch:
    """Convert areas to ``model``'s compacted format; see :func:`xsaveschema.to_compacted`."""
    mask = model.xcr0 | model.xss if xcomp_bv is None else xcomp_bv & ~COMPACTED
    permitted = _numbers_of(source, model, drop)
    job = _Job(source or model, model, "compacted", mask, permitted, software)
    return _convert(areas, job, out, threads, errors)


def relayout(
    areas: Any,
    *,
    source: CpuModel,
    target: CpuModel,
    format: Format,
    xcr0: int | None = None,
    xcomp_bv: int | None = None,
    drop: Drop = (),
    out: Areas | None = None,
    threads: int = 1,
    software: Software = "keep",
    errors: str = "raise",
) -> Batch:
    """Move areas from one model's layout to another's; ``format`` is the result's."""
    common: dict[str, Any] = {"source": source, "drop": drop, "out": out, "threads": threads}
    common |= {"software": software, "errors": errors}
    if format == "standard":
        return to_standard(areas, target, xcr0=xcr0, **common)
    return to_compacted(areas, target, xcomp_bv=xcomp_bv, **common)


def check(
    areas: Any, model: CpuModel, target: str = "xrstor", **options: Any
) -> dict[int, list[Any]]:
    """The faults of each area that a restore refuses, by index; see :func:`xsaveschema.check`.

    Areas whose headers and MXCSR are alike are judged once, unless supervisor components or the
    length could make a difference.
    """
    from xsaveschema.restore import check as check_one

    array = _array(areas)
    found: dict[int, list[Any]] = {}
    if target == "xrstors":
        for index in range(len(array)):
            if faults := check_one(array[index].data, model, "xrstors", **options):
                found[index] = faults
        return found
    # What a restore's verdict depends on: MXCSR and the whole header.
    columns = np.concatenate([array[:, _MXCSR], array[:, HEADER_OFFSET:EXTENDED_OFFSET]], axis=1)
    _, first, which = np.unique(columns, axis=0, return_index=True, return_inverse=True)
    verdicts = [check_one(array[index].data, model, target, **options) for index in first]  # type: ignore[arg-type]  # check judges the target's name
    which = which.reshape(-1)
    for number, faults in enumerate(verdicts):
        if faults:
            found |= {int(index): faults for index in np.flatnonzero(which == number)}
    return dict(sorted(found.items()))


def dtype(layout: Layout) -> np.dtype[Any]:
    """A numpy structured type of what stands in memory in a layout, one member a stored field.

    Members are named as ``XsaveArea.values`` names them; fields wider than 64 bits are sub-arrays
    (``avx.ymm_hi128[3]`` is two uint64, low bits first). ``areas.view(dtype(layout))`` copies
    nothing; initial components show whatever bytes stand there.
    """
    names, formats, offsets = ["header.xstate_bv", "header.xcomp_bv"], ["<u8", "<u8"], [512, 520]
    members: list[Any] = list(formats)
    for slot in layout:
        for leaf in slot.component.leaves:
            names.append(f"{slot.name}.{leaf.path}")
            offsets.append(slot.origin + leaf.offset)
            if leaf.size in (1, 2, 4, 8) and not leaf.raw:
                members.append(f"<u{leaf.size}")
            elif leaf.size % 8 == 0 and not leaf.raw:
                members.append(("<u8", (leaf.size // 8,)))
            else:
                members.append(("u1", (leaf.size,)))
    return np.dtype(
        {"names": names, "formats": members, "offsets": offsets, "itemsize": layout.size}
    )


def view(areas: Any, layout: Layout) -> npt.NDArray[Any]:
    """The areas as a structured array of :func:`dtype`, without copying: one column a field.

    Areas longer than the layout keep their stride. TooShortError where they are shorter.
    """
    array = _array(areas)
    if array.shape[1] < layout.size:
        raise TooShortError(
            f"areas of {array.shape[1]} bytes are shorter than {layout!r}",
            layout.size,
            array.shape[1],
        )
    if array.strides[1] != 1:
        raise XsaveError("the bytes of an area must be contiguous to be viewed as fields")
    return np.ndarray((len(array),), dtype(layout), buffer=array, strides=(array.strides[0],))


@dataclass(frozen=True, slots=True)
class _Job:
    """What a conversion is asked for."""

    source: CpuModel
    target: CpuModel
    format: Format
    mask: int
    permitted: frozenset[int]
    software: Software

    def plan(self, xstate_bv: int, xcomp_bv: int, mxcsr_live: bool) -> _Plan:
        return _plan(
            self.source,
            self.target,
            xstate_bv,
            xcomp_bv,
            self.format,
            self.mask,
            mxcsr_live,
            self.software,
        )


def _numbers_of(source: CpuModel | None, model: CpuModel, drop: Drop) -> frozenset[int]:
    return frozenset(_numbers(source or model, model, drop))


def _array(areas: Any) -> Areas:
    array = np.asarray(areas)
    if array.ndim != 2 or array.dtype != np.uint8:
        raise XsaveError(
            f"areas must be uint8 of shape (n, size), not {array.dtype} of shape {array.shape}"
        )
    if array.shape[1] < EXTENDED_OFFSET:
        raise TooShortError(
            f"areas of {array.shape[1]} bytes: the legacy region and the header alone take "
            f"{EXTENDED_OFFSET}",
            EXTENDED_OFFSET,
            array.shape[1],
        )
    return array


def _column(array: Areas, offset: int) -> npt.NDArray[np.uint64]:
    """A u64 column of the areas, copied (rows need not be aligned)."""
    return np.ascontiguousarray(array[:, offset : offset + 8]).view("<u8").reshape(-1)


def _convert(areas: Any, job: _Job, out: Areas | None, threads: int, errors: str) -> Batch:
    if errors not in ("raise", "collect"):
        raise XsaveError(f"errors={errors!r}: raise or collect")
    array = _array(areas)
    layout = job.plan(0, 0, mxcsr_live=False).layout
    fresh = out is None
    if out is None:
        out = np.zeros((len(array), layout.size), np.uint8)
    else:
        out = _room(out, array, layout)
    steps = [slice(at, min(at + _ROWS, len(array))) for at in range(0, len(array), _ROWS)]
    result = Batch(out, layout, {}, {})

    def run(step: slice) -> tuple[dict[int, int], dict[int, XsaveError]]:
        return _step(array[step], out[step], job, step.start, fresh, errors == "raise")

    for lost, bad in _map(run, steps, threads):
        for number, count in lost.items():
            name = job.source.name_of(number)
            result.dropped[name] = result.dropped.get(name, 0) + count
        result.errors |= bad
    return result


def _map(
    run: Callable[[slice], tuple[dict[int, int], dict[int, XsaveError]]],
    steps: list[slice],
    threads: int,
) -> Iterator[tuple[dict[int, int], dict[int, XsaveError]]]:
    if threads <= 1 or len(steps) <= 1:
        yield from map(run, steps)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(run, steps)


def _room(out: Areas, array: Areas, layout: Layout) -> Areas:
    if out.dtype != np.uint8 or out.ndim != 2 or len(out) != len(array):
        raise XsaveError(
            f"out= must be uint8 of shape ({len(array)}, {layout.size}), not {out.dtype} of "
            f"shape {out.shape}"
        )
    if out.shape[1] < layout.size:
        raise TooShortError(
            f"out= has rows of {out.shape[1]} bytes; {layout!r} needs {layout.size}",
            layout.size,
            out.shape[1],
        )
    if not out.flags.writeable:
        raise XsaveError("out= is read-only")
    if np.may_share_memory(out, array):
        raise XsaveError("out= shares memory with the areas: convert into another array")
    return out[:, : layout.size]


def _step(
    array: Areas, out: Areas, job: _Job, first: int, fresh: bool, stop: bool
) -> tuple[dict[int, int], dict[int, XsaveError]]:
    """Convert some rows; returns how often each component was dropped, and the bad rows."""
    xstate = _column(array, HEADER_OFFSET)
    xcomp = _column(array, HEADER_OFFSET + 8)
    odd = np.zeros(len(array), bool)
    if job.format == "compacted":
        mxcsr = np.ascontiguousarray(array[:, _MXCSR]).view("<u4").reshape(-1)
        odd = (mxcsr != MXCSR_INITIAL) & (xstate & SSE == 0) & (xcomp >> np.uint64(63) == 0)
    good = np.ones(len(array), bool)
    lost: dict[int, int] = {}
    bad: dict[int, XsaveError] = {}
    groups: dict[int, int] = {}
    keys = _keys(xstate, xcomp, odd)
    for xs_bv, xc_bv, is_odd, rows in keys:
        try:
            plan = job.plan(xs_bv, xc_bv, is_odd)
            if array.shape[1] < plan.needed:
                buffer_layout(job.source, xs_bv, xc_bv, array.shape[1])
        except XsaveError as error:
            bad |= {first + int(row): error for row in rows()}
            good[rows()] = False
            continue
        if plan.lost or plan.residue:
            _judge_loss(plan, array, rows(), job, first, lost, bad, good)
        groups[xc_bv] = groups.get(xc_bv, 0) | xs_bv
    if bad and stop:
        index = min(bad)
        raise BatchError(index, bad[index]) from bad[index]
    for xc_bv, union in groups.items():
        rows_of = good if len(groups) == 1 else good & (xcomp == xc_bv)
        if rows_of.all():
            _fill(array, out, job, union, xc_bv, xstate, odd, fresh)
        else:
            chosen = np.flatnonzero(rows_of)
            part = np.zeros((len(chosen), out.shape[1]), np.uint8)
            _fill(array[chosen], part, job, union, xc_bv, xstate[chosen], odd[chosen], True)
            out[chosen] = part
    if bad:
        out[~good] = 0
    return lost, bad


Rows = Callable[[], npt.NDArray[np.intp]]


def _keys(
    xstate: npt.NDArray[np.uint64], xcomp: npt.NDArray[np.uint64], odd: npt.NDArray[np.bool_]
) -> Iterator[tuple[int, int, bool, Rows]]:
    """The distinct (XSTATE_BV, XCOMP_BV, MXCSR forces SSE), with the rows that have them."""
    if not len(xstate):
        return
    if (xstate == xstate[0]).all() and (xcomp == xcomp[0]).all() and (odd == odd[0]).all():
        count = len(xstate)
        yield int(xstate[0]), int(xcomp[0]), bool(odd[0]), lambda: np.arange(count)
        return
    # Numbers are sorted much faster than rows of columns: one XCOMP_BV at a time, and whether
    # MXCSR forces SSE in bit 63, which no legal XSTATE_BV has.
    forced = np.where(odd, _BIT63, np.uint64(0))
    for xcomp_bv in np.unique(xcomp):
        same = xcomp == xcomp_bv
        for illegal in (False, True):
            part = same & (xstate >= _BIT63) if illegal else same & (xstate < _BIT63)
            if not part.any():
                continue
            keys = xstate if illegal else xstate | forced
            for key in np.unique(keys[part]):
                yield (
                    int(key) if illegal else int(key) & ~(1 << 63),
                    int(xcomp_bv),
                    not illegal and bool(key >= _BIT63),
                    partial(_rows_of, keys, key, part),
                )


def _rows_of(
    keys: npt.NDArray[np.uint64], key: np.uint64, part: npt.NDArray[np.bool_]
) -> npt.NDArray[np.intp]:
    return np.flatnonzero(part & (keys == key))


def _judge_loss(
    plan: _Plan,
    array: Areas,
    rows: npt.NDArray[np.intp],
    job: _Job,
    first: int,
    lost: dict[int, int],
    bad: dict[int, XsaveError],
    good: npt.NDArray[np.bool_],
) -> None:
    losing: dict[int, npt.NDArray[np.intp]] = dict.fromkeys(plan.lost, rows)
    for number, taken, initial in plan.residue:
        differs = (array[rows, taken] != np.frombuffer(initial, np.uint8)).any(axis=1)
        losing[number] = np.union1d(losing.get(number, rows[:0]), rows[differs])
    unpermitted: dict[int, list[int]] = {}
    for number, which in sorted(losing.items()):
        for row in which if number not in job.permitted else ():
            unpermitted.setdefault(int(row), []).append(number)
    for row, numbers in unpermitted.items():
        bad[first + row] = loss(job.source, plan.layout, numbers)
        good[row] = False
    for number in sorted(losing.keys() & job.permitted):
        # An area that is refused drops nothing.
        if count := int(good[losing[number]].sum()):
            lost[number] = lost.get(number, 0) + count


def _fill(
    array: Areas,
    out: Areas,
    job: _Job,
    union: int,
    xcomp_bv: int,
    xstate: npt.NDArray[np.uint64],
    odd: npt.NDArray[np.bool_],
    fresh: bool,
) -> None:
    """Write rows that share an XCOMP_BV: as if all had in use what any has, then what is not.

    Copies over all rows run near the speed of memory, which picking rows does not.
    """
    plan = job.plan(union, xcomp_bv, mxcsr_live=False)
    for place, taken in plan.copies:
        out[:, place] = array[:, taken]
    for place, constant in plan.constants:
        out[:, place] = np.frombuffer(constant, np.uint8)
    if not fresh:
        for place, _ in plan.clears:
            out[:, place] = 0
    for slot in plan.layout:
        if union & slot.component.bit:
            initial = np.flatnonzero(xstate & np.uint64(slot.component.bit) == 0)
            for start, end in slot.ranges if len(initial) else ():
                out[initial, start:end] = 0
    kept = (xstate | np.where(odd, np.uint64(SSE), np.uint64(0))) & np.uint64(job.mask)
    if (kept != union & job.mask).any():
        header = slice(HEADER_OFFSET, HEADER_OFFSET + 8)
        out[:, header] = kept.astype("<u8").view(np.uint8).reshape(-1, 8)
        _initial_values(array, out, job.format, xcomp_bv, xstate, kept)


def _initial_values(
    array: Areas,
    out: Areas,
    format: Format,
    xcomp_bv: int,
    xstate: npt.NDArray[np.uint64],
    kept: npt.NDArray[np.uint64],
) -> None:
    """The initial values that are not zero, and MXCSR, in rows where state is initial."""
    sse_initial = kept & np.uint64(SSE) == 0
    if format == "compacted":
        odd = ~sse_initial & (xstate & np.uint64(SSE) == 0)
        out[odd, _MXCSR_AND_MASK] = array[odd, _MXCSR_AND_MASK]
        out[sse_initial, _MXCSR_AND_MASK] = 0
        return
    out[xstate & np.uint64(X87) == 0, :2] = np.frombuffer(_FCW_INITIAL, np.uint8)
    if xcomp_bv & COMPACTED:
        out[sse_initial, _MXCSR] = np.frombuffer(_MXCSR_INITIAL, np.uint8)

"""Many areas at once, on numpy: conversion, judging, and columns of fields."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

import xsaveschema as xs
from benchmarks.c_peer import Convert, c_conversion, header_conversion
from benchmarks.measure import Claim, Effort, Goal, Outcome, Skipped, Task, race
from benchmarks.peers import Disagreement
from benchmarks.work import mxcsr_and_mask
from xsaveschema.model import (
    COMPACTED,
    HEADER_OFFSET,
    MXCSR_OFFSET,
    bits_of,
)

CASE: Final = "batch"
CHECK: Final = "batch-check"
EXPORT: Final = "c-export"
STATES: Final = 64
"""Distinct XSTATE_BV in a mixed batch."""
IN_USE: Final = 0.7
"""How likely each component is in use in one of them."""

Areas = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Batch:
    """Areas to convert: ``kind`` says what differs between them, ``target`` what they become."""

    kind: str
    areas: Areas
    target: xs.Layout

    def convert(self, out: Areas, threads: int) -> object:
        """What is timed."""
        model = self.target.model
        if self.target.format == "standard":
            return xs.batch.to_standard(self.areas, model, out=out, threads=threads)
        mask = self.target.mask
        return xs.batch.to_compacted(self.areas, model, xcomp_bv=mask, out=out, threads=threads)


def measure(effort: Effort) -> Outcome:
    """Conversion on one thread and on two, against memcpy and against C."""
    if isinstance(skipped := c_conversion(), Skipped):
        yield skipped
    for name in effort.models:
        for batch in batches(xs.load_model(name), effort.areas):
            yield from _conversion(batch, effort)


def batches(model: xs.CpuModel, count: int) -> Iterator[Batch]:
    """Every kind of batch of a model, made when its turn comes: they are large."""
    rng = np.random.default_rng(0)
    standard, compacted = model.standard_layout(), model.compacted_layout(model.xcr0)
    for source, target in (standard, compacted), (compacted, standard):
        yield Batch("uniform", areas(source, _masks(rng, [model.xcr0], count), rng), target)
        states = _masks(rng, _states(rng, model.xcr0), count)
        yield Batch("mixed XSTATE_BV", areas(source, states, rng), target)
    yield Batch("mixed XCOMP_BV", _several_layouts(compacted, count, rng), standard)


def areas(
    layout: xs.Layout, states: Masks, rng: np.random.Generator, xcomp_bv: Masks | None = None
) -> Areas:
    """Areas with these XSTATE_BV; initial components have stale bytes, as XSAVEC leaves them.

    The state is random, so any area as large as the layout may say another XCOMP_BV.
    """
    made = np.zeros((len(states), layout.size), np.uint8)
    for slot in layout:
        made[:, slot.offset : slot.end] = rng.integers(0, 256, (len(states), slot.size), np.uint8)
    made[:, MXCSR_OFFSET : MXCSR_OFFSET + 8] = np.frombuffer(mxcsr_and_mask(layout.model), np.uint8)
    if xcomp_bv is None:
        xcomp_bv = np.full(len(states), layout.xcomp_bv, np.uint64)
    header = np.stack([states, xcomp_bv], axis=1).astype("<u8")
    made[:, HEADER_OFFSET : HEADER_OFFSET + 16] = header.view(np.uint8)
    return made


def _several_layouts(layout: xs.Layout, count: int, rng: np.random.Generator) -> Areas:
    """Compacted areas of four XCOMP_BV: all, without the last component, the last two, ..."""
    numbers = list(bits_of(layout.mask))
    masks = [sum(1 << number for number in numbers[: len(numbers) - less]) for less in range(4)]
    states = _masks(rng, masks, count)
    return areas(layout, states, rng, states | np.uint64(COMPACTED))


def _states(rng: np.random.Generator, mask: int) -> list[int]:
    numbers = list(bits_of(mask))
    drawn: set[int] = set()
    while len(drawn) < min(STATES, 1 << len(numbers)):
        drawn.add(sum(1 << number for number in numbers if rng.random() < IN_USE))
    return sorted(drawn)


def _masks(rng: np.random.Generator, masks: Sequence[int], count: int) -> Masks:
    return rng.choice(np.array(masks, np.uint64), count)


def _conversion(batch: Batch, effort: Effort) -> Outcome:
    count = len(batch.areas)
    out = np.zeros((count, batch.target.size), np.uint8)
    room = np.empty_like(batch.areas)
    halves = slice(None, count // 2), slice(count // 2, None)
    pool = ThreadPoolExecutor(2)

    def memcpy_on_two() -> None:
        list(pool.map(lambda half: np.copyto(room[half], batch.areas[half]), halves))

    tasks = [
        Task("memcpy", lambda: np.copyto(room, batch.areas), count),
        Task("memcpy, 2 threads", memcpy_on_two, count),
        Task("1 thread", lambda: batch.convert(out, 1), count),
        Task("2 threads", lambda: batch.convert(out, 2), count),
    ]
    work = f"to_{batch.target.format}, {batch.target.model.name}, {batch.kind}"
    title = f"batch of {count:,} areas, {batch.kind}"
    uniform = batch.kind == "uniform"
    one, two, plain = (Goal(1.2), Goal(1.15), Goal(1.1)) if uniform else (Goal(1.6), None, None)
    alone, together = f"{title}, one thread", f"{title}, two threads" if uniform else ""
    claims = [
        Claim(f"{work}, 1 thread", "1 thread", "memcpy", one, alone),
        Claim(f"{work}, 2 threads", "2 threads", "memcpy, 2 threads", two, together),
    ]
    convert = c_conversion()
    if not isinstance(convert, Skipped):
        verify(batch, out)
        tasks.append(Task("C", lambda: convert(batch.areas, batch.target, out), count))
        claims.append(Claim(f"{work}, 1 thread", "1 thread", "C", plain, alone))
        claims.append(Claim(f"{work}, in C", "C", "memcpy"))
    with pool:
        yield from race(CASE, tasks, claims, effort)


def verify(batch: Batch, out: Areas) -> None:
    """Disagreement unless C and the library make the same bytes of a batch, on what was there."""
    convert = c_conversion()
    if isinstance(convert, Skipped):
        return
    out[:] = 0xEE
    convert(batch.areas, batch.target, out)
    theirs = out.copy()
    for threads in 1, 2:
        out[:] = 0x11
        batch.convert(out, threads)
        if not np.array_equal(theirs, out):
            row, byte = (int(found[0]) for found in np.nonzero(theirs != out))
            raise Disagreement(f"{batch.kind}: C differs in area {row}, byte {byte}")


def exported(effort: Effort) -> Outcome:
    """The header of ``export c`` against C that checks nothing, and memcpy."""
    for name in effort.models:
        model = xs.load_model(name)
        ours, plain = header_conversion(model), c_conversion()
        if isinstance(ours, Skipped):
            yield ours
            return
        if isinstance(plain, Skipped):
            return  # the same compiler: it failed above
        for batch in batches(model, effort.areas):
            yield from _exported(batch, ours, plain, effort)


def _exported(batch: Batch, ours: Convert, plain: Convert, effort: Effort) -> Outcome:
    count, target = len(batch.areas), batch.target
    out = np.full((count, target.size), 0xEE, np.uint8)
    room = np.empty_like(batch.areas)
    plain(batch.areas, target, out)
    theirs = out.copy()
    out[:] = 0x11
    ours(batch.areas, target, out)
    if not np.array_equal(theirs, out):
        raise Disagreement(f"{batch.kind}: xsave.h and C differ")
    tasks = [
        Task("memcpy", lambda: np.copyto(room, batch.areas), count),
        Task("C", lambda: plain(batch.areas, target, out), count),
        Task("xsave.h", lambda: ours(batch.areas, target, out), count),
    ]
    work = f"xsave.h, to_{target.format}, {target.model.name}, {batch.kind}"
    title = f"{count:,} areas by the exported C header"
    claims = [
        Claim(work, "xsave.h", "C", Goal(1.1), title),
        Claim(work, "xsave.h", "memcpy"),
    ]
    yield from race(EXPORT, tasks, claims, effort)


def judging(effort: Effort) -> Outcome:
    """``batch.check`` against memcpy and against one area at a time; a column against by hand."""
    for name in effort.models:
        model = xs.load_model(name)
        rng = np.random.default_rng(0)
        layout = model.standard_layout()
        states = _masks(rng, _states(rng, model.xcr0), effort.areas)
        yield from _judging(layout, areas(layout, states, rng), effort)


def _judging(layout: xs.Layout, batch: Areas, effort: Effort) -> Outcome:
    model, count = layout.model, len(batch)
    room = np.empty_like(batch)
    few = [row.tobytes() for row in batch[:100]]
    offset = layout["pkru"].offset

    def column_by_hand() -> int:
        raw: Areas = np.ascontiguousarray(batch[:, offset : offset + 4])
        return int(raw.view("<u4").sum())

    def column() -> int:
        return int(xs.batch.view(batch, layout)["pkru.pkru"].sum())

    if column() != column_by_hand():
        raise Disagreement("a column of batch.view differs from the bytes")
    tasks = [
        Task("memcpy", lambda: np.copyto(room, batch), count),
        Task("batch.check", lambda: xs.batch.check(batch, model), count),
        Task("check, one by one", lambda: [xs.check(area, model) for area in few], len(few)),
        Task("a column by hand", column_by_hand, count),
        Task("batch.view", column, count),
    ]
    claims = [
        Claim(f"batch.check, {model.name}", "batch.check", "memcpy"),
        Claim(f"check, one by one, {model.name}", "check, one by one", "batch.check"),
        Claim(f"batch.view, a column, {model.name}", "batch.view", "a column by hand"),
    ]
    yield from race(CHECK, tasks, claims, effort)

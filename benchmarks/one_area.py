"""One area at a time: conversion into the caller's buffer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import xsaveschema as xs
from benchmarks.measure import Claim, Effort, Goal, Outcome, Task, race
from benchmarks.peers import Disagreement
from benchmarks.work import compacted_areas, standard_areas

CASE: Final = "one-area"
CONSTRUCT: Final = "Construct parse + build"
OURS: Final = "the library"
FEW: Final = 50
"""Areas for Construct, which takes some hundred times as long."""

ConvertEach = Callable[[list[bytes], xs.CpuModel, bytearray], None]


def measure(effort: Effort) -> Outcome:
    """Both directions and models, against memcpy of the same bytes and against Construct."""
    for name in effort.models:
        model = xs.load_model(name)
        standard, compacted = model.standard_layout(), model.compacted_layout(model.xcr0)
        areas = standard_areas(model, effort.areas)
        yield from _direction(areas, standard, compacted, compact_each, effort)
        areas = compacted_areas(model, effort.areas)
        yield from _direction(areas, compacted, standard, standardise_each, effort)


def compact_each(areas: list[bytes], model: xs.CpuModel, out: bytearray) -> None:
    """Convert each area to the compacted format."""
    to_compacted, xcomp_bv = xs.to_compacted, model.xcr0
    for area in areas:
        to_compacted(area, model, xcomp_bv=xcomp_bv, out=out)


def standardise_each(areas: list[bytes], model: xs.CpuModel, out: bytearray) -> None:
    """Convert each area to the standard format."""
    to_standard = xs.to_standard
    for area in areas:
        to_standard(area, model, out=out)


def _direction(
    areas: list[bytes],
    source: xs.Layout,
    target: xs.Layout,
    each: ConvertEach,
    effort: Effort,
) -> Outcome:
    model, out = target.model, bytearray(target.size)
    through_construct = construct_conversion(source, target)
    few = areas[:FEW]
    each(few[:1], model, out)
    if through_construct(few[0]) != out:
        raise Disagreement(f"Construct builds another {target!r} than the library")
    work = f"to_{target.format}(out=), {model.name}"
    tasks = [
        memcpy(areas),
        Task(OURS, lambda: each(areas, model, out), len(areas)),
        Task(CONSTRUCT, lambda: [through_construct(area) for area in few], len(few)),
    ]
    claims = [
        Claim(work, OURS, "memcpy", Goal(6), "convert one area into `out=`"),
        Claim(f"{work} by {CONSTRUCT}", CONSTRUCT, OURS, headline=f"the same by {CONSTRUCT}"),
    ]
    yield from race(CASE, tasks, claims, effort)


def memcpy(areas: list[bytes]) -> Task:
    """All the areas' bytes in one copy."""
    together = memoryview(b"".join(areas))
    room = memoryview(bytearray(len(together)))

    def copy() -> None:
        room[:] = together

    return Task("memcpy", copy, len(areas))


def construct_conversion(source: xs.Layout, target: xs.Layout) -> Callable[[bytes], bytes]:
    """The conversion of an area with everything in use, by the structs of the two formats."""
    parse, build = source.model.construct(source).parse, target.model.construct(target).build
    names = ["legacy", *(slot.name for slot in target if not slot.component.legacy)]

    def convert(area: bytes) -> bytes:
        parsed = parse(area)
        header = {"xstate_bv": parsed.header.xstate_bv, "xcomp_bv": target.xcomp_bv}
        return bytes(build({"header": header} | {name: parsed[name] for name in names}))

    return convert

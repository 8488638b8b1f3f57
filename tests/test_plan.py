"""A conversion as data: its runs tile the result, do what they say, need what they say."""

from __future__ import annotations

import gc
import random
import struct
import weakref
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xsaveschema import load_model
from xsaveschema.errors import (
    HeaderError,
    MaskError,
    UnknownComponentError,
    WrongTypeError,
    XsaveError,
)
from xsaveschema.model import CpuModel, Format, bits_of
from xsaveschema.plan import (
    Job,
    Plan,
    job_for,
    kept_format,
    numbers_of,
    require_errors,
    require_format,
)

COMPACTED = 1 << 63
ZEN4, SKX, SPR = (load_model(name) for name in ("zen4", "skylake-server", "sapphire-rapids"))
MODELS = [ZEN4, SKX, SPR, *map(load_model, ("zen2", "skylake", "bulldozer", "diamond-rapids"))]
INITIAL = 0x1F80


def plan_of(job: Job, xstate_bv: int, xcomp_bv: int = 0, mxcsr: int = INITIAL) -> Plan:
    return job.plan((mxcsr, False, xstate_bv, xcomp_bv))


@given(data=st.data(), source=st.sampled_from(MODELS), target=st.sampled_from(MODELS))
def test_runs_tile_the_result_and_do_what_they_say(
    data: st.DataObject, source: CpuModel, target: CpuModel
) -> None:
    format: Format = data.draw(st.sampled_from(["standard", "compacted"]))
    compacted = data.draw(st.booleans())
    job = job_for(source, target, format, None, data.draw(st.sampled_from(["keep", "zero"])))
    full = source.xcr0 | source.xss if compacted else source.xcr0
    numbers = data.draw(st.sets(st.sampled_from([*bits_of(full)])))
    xstate_bv = sum(1 << number for number in numbers)
    state = (data.draw(st.sampled_from([INITIAL, 0x1FA0])), data.draw(st.booleans()))
    plan = job.plan((*state, xstate_bv, full | COMPACTED if compacted else 0))
    runs = sorted(
        (place.start, place.stop)
        for place in (
            *(place for place, _ in plan.copies),
            *(place for place, _ in plan.constants),
            *(place for place, _ in plan.clears),
        )
    )
    assert [start for start, _ in runs] == [0, *(stop for _, stop in runs[:-1])]
    assert runs[-1][1] == plan.size == plan.layout.size
    assert max((taken.stop for _, taken in plan.copies), default=0) <= plan.needed
    rng = random.Random(plan.size)
    given = rng.randbytes(plan.needed)
    wanted = bytearray(plan.size)
    for place, taken in plan.copies:
        assert place.stop - place.start == taken.stop - taken.start
        wanted[place] = given[taken]
    for place, constant in (*plan.constants, *plan.clears):
        assert len(constant) == place.stop - place.start
        wanted[place] = constant
    assert not any(b"".join(zeros for _, zeros in plan.clears))
    out = bytearray(rng.randbytes(plan.size))
    plan.run(given, out)
    assert out == wanted
    kept = xstate_bv & plan.layout.mask
    woken = 2 * (state[0] != INITIAL and not compacted and format == "compacted")
    assert struct.unpack_from("<QQ48s", out, 512) == (
        kept | woken & plan.layout.mask,
        plan.layout.xcomp_bv,
        bytes(48),
    )
    assert {*plan.lost} == {*bits_of((xstate_bv | woken) & ~plan.layout.mask)}


@pytest.mark.parametrize(
    ("xstate_bv", "xcomp_bv", "needed"),
    [
        (0, 0, 576),
        (3, 0, 576),
        (4, 0, 832),
        (0x204, 0, 2440),
        (0x20, 0, 896),
        (0, 0x7 | COMPACTED, 832),
        (0, 0x207 | COMPACTED, 840),
    ],
)
def test_how_much_of_the_source_is_needed(xstate_bv: int, xcomp_bv: int, needed: int) -> None:
    """Live state alone of a standard area; of a compacted one its whole layout."""
    job = job_for(ZEN4, ZEN4, "standard", None, "keep")
    assert plan_of(job, xstate_bv, xcomp_bv).needed == needed


def test_neighbours_on_both_sides_are_one_run() -> None:
    job = job_for(ZEN4, ZEN4, "standard", None, "keep")
    copies = [(to.start, to.stop, taken.start) for to, taken in plan_of(job, 0x2E7).copies]
    # To the header; AVX; then opmask, ZMM_Hi256, Hi16_ZMM and PKRU, which follow one another.
    assert copies == [(0, 512, 0), (576, 2440, 576)]
    packed = plan_of(job, 0x2E7, 0x2E7 | COMPACTED).copies
    assert [(to.start, to.stop, taken.start) for to, taken in packed] == copies
    moved = job_for(ZEN4, SKX, "standard", None, "keep")
    assert [(to.start, to.stop, taken.start) for to, taken in plan_of(moved, 0x2E7).copies] == [
        (0, 28, 0),
        (32, 512, 32),
        (576, 832, 576),
        (1088, 2696, 832),
    ]


def test_what_has_no_place_is_lost() -> None:
    job = job_for(SPR, ZEN4, "standard", None, "keep")
    assert plan_of(job, 0x602E7).lost == (17, 18)
    assert not plan_of(job, 0x2E7).may_lose
    small = replace(
        ZEN4, components={**ZEN4.components, "pkru": replace(ZEN4.components["pkru"], size=4)}
    )
    plan = plan_of(job_for(ZEN4, small, "standard", None, "keep"), 0x207)
    # Its field finds its place; the reserved bytes behind it do not.
    assert [
        (number, taken.start, taken.stop, initial) for number, taken, initial in plan.residue
    ] == [(9, 2436, 2440, bytes(4))]
    assert plan.may_lose
    assert plan_of(job_for(ZEN4, small, "standard", None, "keep"), 7).residue == ()


def test_sse_comes_into_use_by_mxcsr_where_only_its_bit_can_say_so() -> None:
    cases: list[tuple[Format, int, int, bool]] = [
        ("compacted", 0, 0x1FA0, True),
        ("compacted", 0, INITIAL, False),
        ("compacted", 7 | COMPACTED, 0x1FA0, False),
        ("standard", 0, 0x1FA0, False),
    ]
    for format, xcomp_bv, mxcsr, wakes in cases:
        job = job_for(ZEN4, ZEN4, format, None, "keep")
        out = bytearray(job.layout.size)
        source = struct.pack("<24xII480xQQ48x320x", mxcsr, 0x2FFFF, 4, xcomp_bv).ljust(4096, b"\1")
        plan_of(job, 4, xcomp_bv, mxcsr).run(source, out)
        assert struct.unpack_from("<Q", out, 512) == (6 if wakes else 4,), format
        if wakes:
            assert struct.unpack_from("<I", out, 24) == (mxcsr,)
            assert not any(out[160:416])


def test_jobs_and_plans_are_kept_and_keep_no_source_alive() -> None:
    target = replace(ZEN4)
    source = replace(SKX)
    job = job_for(source, target, "standard", 7, "keep")
    assert job_for(source, target, "standard", 7, "keep") is job
    assert job_for(source, target, "compacted", 7, "keep") is not job
    assert job_for(source, target, "standard", 3, "keep") is not job
    assert job_for(source, target, "standard", 7, "zero") is not job
    assert plan_of(job, 4) is plan_of(job, 4)
    assert plan_of(job, 4) is plan_of(job, 4, mxcsr=0), "MXCSR makes no difference here"
    assert plan_of(job, 4) is not plan_of(job, 0)
    there = weakref.ref(source)
    del source
    gc.collect()
    assert there() is None


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((ZEN4, ZEN4, "standard", 1 << 20, "keep"), MaskError, "unknown"),
        ((ZEN4, ZEN4, "standard", 1 << 11, "keep"), MaskError, "supervisor"),
        ((ZEN4, ZEN4, "compacted", -1, "keep"), MaskError, "64 bits"),
        ((ZEN4, ZEN4, "standard", 7.0, "keep"), MaskError, "an integer"),
        ((ZEN4, ZEN4, "standard", None, "drop"), XsaveError, "software: pass"),
        ((ZEN4, ZEN4, "standard", None, None), XsaveError, "software: pass"),
        (("zen4", ZEN4, "standard", None, "keep"), WrongTypeError, "source"),
        ((ZEN4, "zen4", "standard", None, "keep"), WrongTypeError, "target"),
    ],
)
def test_what_is_no_job(arguments: Any, error: type[Exception], message: str) -> None:
    for _ in range(2):  # kept or not
        with pytest.raises(error, match=message):
            job_for(*arguments)


def test_a_state_that_no_area_has() -> None:
    job = job_for(ZEN4, ZEN4, "standard", None, "keep")
    for xstate_bv, xcomp_bv in ((1 << 20, 0), (0, 4), (4, 3 | COMPACTED)):
        with pytest.raises(HeaderError):
            plan_of(job, xstate_bv, xcomp_bv)


@pytest.mark.parametrize(
    ("xcomp_bv", "xcr0", "mask", "wanted"),
    [
        (0, None, None, ("standard", None)),
        (0, 7, None, ("standard", 7)),
        (4, None, None, ("standard", None)),
        (0x80 | COMPACTED, None, None, ("compacted", 0x80)),
        (1 << 17 | 0x87 | COMPACTED, None, None, ("compacted", 0x87)),
        (0x1807 | COMPACTED, None, None, ("compacted", 0x1807)),
        (0x1807 | COMPACTED, None, 7, ("compacted", 7)),
    ],
)
def test_an_area_keeps_its_format_and_its_mask(
    xcomp_bv: int, xcr0: int | None, mask: int | None, wanted: tuple[str, int | None]
) -> None:
    assert kept_format(xcomp_bv, ZEN4, xcr0, mask) == wanted


@pytest.mark.parametrize(
    ("format", "xcr0", "xcomp_bv", "message"),
    [
        ("standard", None, 7, "standard format takes xcr0=, not xcomp_bv="),
        ("compacted", 7, None, "compacted format takes xcomp_bv=, not xcr0="),
        ("packed", None, None, "'packed' is no format"),
        (["standard"], None, None, "is no format"),
    ],
)
def test_the_mask_of_the_other_format(format: Any, xcr0: Any, xcomp_bv: Any, message: str) -> None:
    with pytest.raises(XsaveError, match=message):
        require_format(format, xcr0, xcomp_bv)


def test_policies() -> None:
    require_errors("skip", "raise", "skip")
    for policy in ("copy", None, 5, "Raise"):
        with pytest.raises(XsaveError, match="errors: pass 'raise', 'skip', not"):
            require_errors(policy, "raise", "skip")


@pytest.mark.parametrize(
    ("drop", "wanted"),
    [
        ((), set()),
        ("avx", {2}),
        (["avx", 9, "tiledata"], {2, 9, 18}),
        (7, {7}),
        ("component20", {20}),
        ("component62", {62}),
        (["ghost", "avx"], {2, 40}),
    ],
)
def test_what_drop_names(drop: Any, wanted: set[int]) -> None:
    """``ghost`` is missing from the area, and no CPU's: the file alone names it."""
    assert numbers_of(ZEN4, SPR, drop, {40: "ghost"}) == wanted


@pytest.mark.parametrize(
    "drop",
    ["ghost", "component63", "component", "component1a", "component007", [63], [-1], True, b"avx"],
)
def test_what_drop_cannot_name(drop: Any) -> None:
    with pytest.raises(UnknownComponentError, match="drop: there is no component"):
        numbers_of(ZEN4, SPR, drop)


def test_what_drop_cannot_be() -> None:
    with pytest.raises(WrongTypeError, match="drop: pass names or numbers of components"):
        numbers_of(ZEN4, SPR, 1.5)  # type: ignore[arg-type]

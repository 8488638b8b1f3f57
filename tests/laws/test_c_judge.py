"""A second implementation of layouts and conversions, in C, as the judge of ours: ``c_walk.c``.

It is compiled here. It knows components as sizes, offsets and flags only, so state moves between
CPU models of which both give it the same size; moving by field is tested elsewhere.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from places import TESTS

from xsaveschema import CpuModel, StateComponent, load_model, relayout
from xsaveschema.catalog import default_catalog
from xsaveschema.errors import HeaderError, MaskError, StateLossError, TooShortError
from xsaveschema.layout import Layout, has_layout
from xsaveschema.model import COMPACTED, bits_of

SOURCE = TESTS / "c_walk.c"
MODELS = default_catalog().models()
shipped = st.sampled_from(MODELS)

# --- the judge -----------------------------------------------------------------------------------


class Part(ctypes.Structure):
    """struct part of c_walk.c."""

    _fields_ = [
        ("size", ctypes.c_uint32),
        ("offset", ctypes.c_uint32),
        ("supervisor", ctypes.c_uint32),
        ("align64", ctypes.c_uint32),
    ]


class Verdict(NamedTuple):
    """What becomes of an area: its bytes, or "mask", "header", "short" or "loss"; and what is lost.

    ``lost`` are component numbers; without meaning for "mask", "header" and "short".
    """

    outcome: bytes | str
    lost: frozenset[int]


class Judge:
    """c_walk.c by ctypes."""

    CODES: ClassVar = {-1: "mask", -2: "header", -3: "short", -4: "loss"}

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.walk.restype = self._library.convert.restype = ctypes.c_int64

    @staticmethod
    def parts(model: CpuModel) -> ctypes.Array[Part]:
        table = (Part * 63)()
        for c in model.components.values():
            table[c.number] = Part(c.size, c.offset or 0, c.supervisor, c.align64)
        return table

    def walk(
        self, parts: ctypes.Array[Part], mask: int, compacted: bool
    ) -> tuple[int, dict[int, int]]:
        """The size of a layout, and each component's offset."""
        offsets = (ctypes.c_int64 * 63)()
        size = self._library.walk(parts, ctypes.c_uint64(mask), int(compacted), offsets)
        return size, {number: offset for number, offset in enumerate(offsets) if offset >= 0}

    def convert(
        self,
        data: bytes,
        source: ctypes.Array[Part],
        target: ctypes.Array[Part],
        mask: int,
        compacted: bool,
        drop: int,
    ) -> Verdict:
        # The room is whatever any layout may need; guards on either side show a stray write.
        room, guard = 576 + sum(p.size + p.offset + 63 for p in target), b"\xc5" * 64
        out = ctypes.create_string_buffer(guard + b"\xee" * room + guard, room + 128)
        lost = ctypes.c_uint64()
        size = self._library.convert(
            data,
            ctypes.c_int64(len(data)),
            source,
            target,
            ctypes.c_uint64(mask),
            int(compacted),
            ctypes.c_uint64(drop),
            ctypes.byref(out, 64),
            ctypes.byref(lost),
        )
        assert out.raw[:64] == out.raw[-64:] == guard
        outcome = self.CODES[size] if size < 0 else out.raw[64 : 64 + size]
        return Verdict(outcome, frozenset(bits_of(lost.value)))


@pytest.fixture(scope="session")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    named = os.environ.get("CC")
    compiler = next(
        filter(None, map(shutil.which, [named] if named else ["cc", "gcc", "clang"])), None
    )
    if os.name != "posix" or compiler is None:
        pytest.skip("there is no C compiler here to build the second implementation with")
    library = tmp_path_factory.mktemp("c_walk") / "c_walk.so"
    options = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    done = subprocess.run(
        [compiler, *options, str(SOURCE), "-o", str(library)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Judge(library)


def ours(
    data: bytes, source: CpuModel, target: CpuModel, mask: int, compacted: bool, drop: int
) -> Verdict:
    """What the package makes of the same, in the judge's terms."""
    numbers = list(bits_of(drop))
    names = {source.name_of(number): number for number in range(63)}
    convert: Callable[[], Any] = (
        (
            lambda: relayout(
                data, source=source, target=target, format="compacted", xcomp_bv=mask, drop=numbers
            )
        )
        if compacted
        else (
            lambda: relayout(
                data, source=source, target=target, format="standard", xcr0=mask, drop=numbers
            )
        )
    )
    try:
        result = convert()
    except MaskError:
        return Verdict("mask", frozenset())
    except HeaderError:
        return Verdict("header", frozenset())
    except TooShortError:
        return Verdict("short", frozenset())
    except StateLossError as error:
        return Verdict("loss", frozenset(names[name] for name in error.lost))
    return Verdict(bytes(result.data), frozenset(names[name] for name in result.dropped))


# --- CPU models and areas that nobody made -------------------------------------------------------


@st.composite
def cpu_models(draw: st.DrawFn, like: CpuModel | None = None) -> CpuModel:
    """Legal CPU models: any components of any size, in any order, with gaps, aligned or not.

    Components are opaque and called ``component5``. Two may share their place in the standard
    format, as MPX and APX do; one of them is then not enabled. ``like`` gives the numbers and
    sizes, and leaves offsets, order and flags to be drawn anew.
    """
    sizes = {c.number: c.size for c in like.components.values() if not c.legacy} if like else None
    if sizes is None:
        size = st.integers(1, 200) | st.sampled_from((8, 64, 256, 1024))
        sizes = draw(st.dictionaries(st.integers(2, 62), size, max_size=8))
    users = [number for number in sorted(sizes) if draw(st.integers(0, 3))]
    offsets: dict[int, int] = {}
    end = 576
    for number in draw(st.permutations(users)):
        offsets[number] = end + draw(st.sampled_from((0, 0, 0, 1, 56, 128)))
        end = offsets[number] + sizes[number]
    hidden = 0
    if len(users) > 1 and draw(st.booleans()):
        first, second = draw(st.permutations(users))[:2]
        offsets[second] = offsets[first]
        hidden = 1 << second
    for one in offsets:
        for other in offsets:
            clash = offsets[one] < offsets[other] + sizes[other]
            if one < other and clash and offsets[other] < offsets[one] + sizes[one]:
                hidden |= 1 << other
    components = {c.name: c for c in MODELS[0].components.values() if c.legacy} | {
        f"component{number}": StateComponent(
            number=number,
            name=f"component{number}",
            size=sizes[number],
            offset=offsets.get(number),
            supervisor=number not in offsets,
            align64=draw(st.booleans()),
            xfd=False,
            optional="absent" if hidden >> number & 1 else None,
            load_fields=tuple,
        )
        for number in sorted(sizes)
    }
    return CpuModel(
        name="drawn",
        title="",
        vendor="",
        signatures=(),
        instructions=frozenset({"xsavec", "xsaves"}),
        components=MappingProxyType(components),
        xcr0=(3 | sum(1 << number for number in offsets)) & ~hidden,
        xss=sum(1 << number for number in sizes if number not in offsets),
        mxcsr_mask=0xFFFF,
        confirmed_by=(),
        source="",
        file="",
        load_registers=dict,
    )


rarely = st.sampled_from([False] * 5 + [True])


def subsets(mask: int) -> st.SearchStrategy[int]:
    """The mask itself, nothing, or any part of it."""
    some = st.integers(0, mask).map(lambda drawn: drawn & mask)
    return st.just(mask) | st.just(0) | some | some


@st.composite
def buffers(draw: st.DrawFn, model: CpuModel) -> bytes:
    """Areas of either format full of noise, most of them legal, some cut, some with odd masks."""
    known = model.user_mask | model.supervisor_mask
    compacted = draw(st.booleans())
    places = draw(subsets(known if compacted else model.user_mask))
    xcomp_bv = places | COMPACTED if compacted else 0
    xstate_bv = draw(subsets(places))
    ends = [576] + [c.offset + c.size for c in model.components.values() if c.offset is not None]
    if compacted:
        ends = [576] + [slot.end for slot in model.compacted_layout(places)]
    size = max(ends)
    if draw(rarely):
        size = draw(st.sampled_from(ends)) - draw(st.sampled_from((0, 0, 1, 7)))
    bits = st.sampled_from([*bits_of(known)]) | st.integers(0, 63)
    if draw(rarely):
        xstate_bv ^= 1 << draw(bits)
    if draw(rarely):
        xcomp_bv ^= 1 << draw(bits)
    area = bytearray(draw(st.randoms(use_true_random=False)).randbytes(max(size, 576)))
    if draw(st.booleans()):
        area[24:28] = (0x1F80).to_bytes(4, "little")
    area[512:528] = xstate_bv.to_bytes(8, "little") + xcomp_bv.to_bytes(8, "little")
    return bytes(area[:size])


# --- layouts -------------------------------------------------------------------------------------


def agree_on_layout(judge: Judge, layout: Layout, model: CpuModel | None = None) -> None:
    parts = judge.parts(model or layout.model)
    size, offsets = judge.walk(parts, layout.mask, layout.format == "compacted")
    assert size == layout.size
    assert offsets == {slot.number: slot.offset for slot in layout}


def test_layouts_of_every_shipped_model(judge: Judge) -> None:
    for model in MODELS:
        agree_on_layout(judge, model.standard_layout())
        agree_on_layout(judge, model.compacted_layout())
        for mask in (0, 3, model.xcr0, model.user_mask | model.supervisor_mask):
            agree_on_layout(judge, model.compacted_layout(mask))


@given(data=st.data(), model=shipped | cpu_models())
def test_layouts_of_any_model_and_mask(judge: Judge, data: st.DataObject, model: CpuModel) -> None:
    mask = data.draw(subsets(model.user_mask | model.supervisor_mask))
    agree_on_layout(judge, model.compacted_layout(mask))
    mask = data.draw(subsets(model.user_mask)) | 1
    if has_layout(model, mask):
        agree_on_layout(judge, model.standard_layout(mask))


# --- conversions ---------------------------------------------------------------------------------


def _without_mask(verdict: Verdict, target: CpuModel) -> Verdict:
    """The judge knows places alone; MXCSR_MASK of a result is the other CPU's."""
    if not isinstance(verdict.outcome, bytes):
        return verdict
    data = verdict.outcome
    return verdict._replace(outcome=data[:28] + bytes(4) + data[32:])


def agree_on_conversions(
    judge: Judge, data: st.DataObject, source: CpuModel, target: CpuModel
) -> None:
    area = data.draw(buffers(source))
    xcr0 = data.draw(subsets(target.user_mask)) | 1
    xcr0 = xcr0 if has_layout(target, xcr0) else target.xcr0
    xcomp_bv = data.draw(subsets(target.user_mask | target.supervisor_mask))
    some = data.draw(subsets((1 << 63) - 1))
    for mask, compacted in ((xcr0, False), (xcomp_bv, True)):
        for drop in (0, some, (1 << 63) - 1):
            arguments = mask, compacted, drop
            verdict = judge.convert(area, judge.parts(source), judge.parts(target), *arguments)
            got = ours(area, source, target, *arguments)
            if source.name != target.name:
                verdict, got = (_without_mask(each, target) for each in (verdict, got))
            assert verdict.outcome == got.outcome
            if verdict.outcome == "loss":
                drawn = frozenset(bits_of(drop))
                assert got.lost == verdict.lost - drawn, (
                    "the error names what drop= does not permit"
                )
            elif isinstance(verdict.outcome, bytes):
                assert got.lost == verdict.lost


@given(data=st.data(), model=shipped)
def test_conversions_of_shipped_models(judge: Judge, data: st.DataObject, model: CpuModel) -> None:
    agree_on_conversions(judge, data, model, model)


@given(data=st.data(), model=cpu_models())
def test_conversions_of_any_model(judge: Judge, data: st.DataObject, model: CpuModel) -> None:
    agree_on_conversions(judge, data, model, model)


@given(data=st.data(), source=cpu_models())
def test_conversions_to_another_layout_of_any_model(
    judge: Judge, data: st.DataObject, source: CpuModel
) -> None:
    agree_on_conversions(judge, data, source, data.draw(cpu_models(like=source)))


@given(data=st.data(), source=shipped, target=shipped)
def test_conversions_between_shipped_models(
    judge: Judge, data: st.DataObject, source: CpuModel, target: CpuModel
) -> None:
    for name in source.components.keys() & target.components.keys():
        assume(source.components[name].size == target.components[name].size)
    agree_on_conversions(judge, data, source, target)


# --- the judge itself ----------------------------------------------------------------------------


def test_the_judge_counts_as_by_hand(judge: Judge) -> None:
    # x87, SSE, AVX 576..832, PKRU 832..840, TILECFG moved up to 896, TILEDATA 960..9152.
    parts = judge.parts(load_model("sapphire-rapids"))
    size, offsets = judge.walk(parts, 0x60207, True)
    assert (size, offsets) == (9152, {0: 0, 1: 160, 2: 576, 9: 832, 17: 896, 18: 960})
    size, offsets = judge.walk(parts, 0x60207, False)
    assert (size, offsets) == (11008, {0: 0, 1: 160, 2: 576, 9: 2688, 17: 2752, 18: 2816})
    assert judge.walk(parts, 1 << 20, True)[0] == -1, "nobody knows its size"
    assert judge.walk(parts, 1 << 15, False)[0] == -1, "LBR has no place in the standard format"


def test_the_judge_can_disagree(judge: Judge) -> None:
    model = load_model("sapphire-rapids")
    packed = replace(model.components["tilecfg"], align64=False)
    wrong = replace(model, components={**model.components, "tilecfg": packed})
    agree_on_layout(judge, model.compacted_layout(0x60207))
    with pytest.raises(AssertionError, match="17: 840"):
        agree_on_layout(judge, model.compacted_layout(0x60207), wrong)

    area = bytearray(b"\x5a" * 9152)
    masks = (0x60207).to_bytes(8, "little") + (COMPACTED | 0x60207).to_bytes(8, "little")
    area[512:576] = masks + bytes(48)
    area[896:960] = b"\x17" * 64
    arguments = judge.parts(model), 0x60207, False, 0
    right = ours(bytes(area), model, model, 0x60207, False, 0)
    assert judge.convert(bytes(area), judge.parts(model), *arguments) == right
    said = judge.convert(bytes(area), judge.parts(wrong), *arguments)
    assert said != right
    assert said.outcome[2752:2816] == b"\x5a" * 56 + b"\x17" * 8, "TILECFG taken from byte 840"


REFUSED = {  # XSTATE_BV, XCOMP_BV, length, mask of the result, what is wrong
    "XCOMP_BV without bit 63": (7, 4, 2440, 7, "header"),
    "supervisor state in the standard format": (0x803, 0, 2440, 7, "header"),
    "XSTATE_BV beyond XCOMP_BV": (7, COMPACTED | 3, 2440, 7, "header"),
    "unknown component in XSTATE_BV": (1 << 20, 0, 2440, 7, "header"),
    "unknown component in XCOMP_BV": (3, COMPACTED | 1 << 20 | 3, 2440, 7, "header"),
    "bit 63 in XSTATE_BV": (COMPACTED | 3, 0, 2440, 7, "header"),
    "a standard area cut in live state": (0x207, 0, 2439, 0x207, "short"),
    "a compacted area cut behind live state": (7, COMPACTED | 0x2E7, 2439, 7, "short"),
    "no header": (7, 0, 575, 7, "short"),
    "live state without a place": (0x207, 0, 2440, 7, "loss"),
    "MXCSR without a place": (1, 0, 2440, 1, "loss"),
    "an unknown component in the result": (7, 0, 2440, 1 << 20 | 7, "mask"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_both_refuse(judge: Judge, name: str) -> None:
    xstate_bv, xcomp_bv, length, mask, outcome = REFUSED[name]
    model = load_model("zen4")
    area = bytearray(b"\x5a" * 2440)
    area[512:576] = xstate_bv.to_bytes(8, "little") + xcomp_bv.to_bytes(8, "little") + bytes(48)
    data = bytes(area[:length])
    said = judge.convert(data, judge.parts(model), judge.parts(model), mask, True, 0)
    assert said.outcome == outcome
    assert ours(data, model, model, mask, True, 0) == said

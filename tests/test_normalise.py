"""The canonical form: the same to every restore, and one for each state."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import cores
import processor
import pytest
from artefact_areas import FRAME, ZEN4, one, zen4_core
from command import fails, run
from hypothesis import assume, given
from hypothesis import strategies as st

import xsaveschema as xs
from xsaveschema import artefacts
from xsaveschema.catalog import default_catalog
from xsaveschema.diff import X87_POINTERS
from xsaveschema.errors import HeaderError, MissingStateError, XsaveError
from xsaveschema.layout import standard
from xsaveschema.model import COMPACTED, CpuModel, Format, bits_of
from xsaveschema.testing import areas

MODELS = default_catalog().models()
SPR, ZEN = xs.load_model("sapphire-rapids"), xs.load_model("zen4")
XSTATE_BV = 512


def drawn(data: st.DataObject, model: CpuModel, format: Format | None = None) -> bytes:
    """A legal area that its own CPU takes; those of random supervisor state are often refused."""
    area = bytearray(data.draw(areas(model, format, supervisor=data.draw(st.booleans()))))
    xcomp_bv = int.from_bytes(area[520:528], "little")
    if xcomp_bv & model.supervisor_mask:
        assume(not xs.check(area, model, "xrstors", xss=model.supervisor_mask))
    if xcomp_bv & COMPACTED == 0:  # components in use of which some hold initial values
        mask = int.from_bytes(area[512:520], "little")
        for number in bits_of(mask & ~3):
            if data.draw(st.booleans()):
                slot = model.standard_layout()[number]
                area[slot.offset : slot.end] = bytes(slot.size)
    return bytes(area)


@given(data=st.data(), model=st.sampled_from(MODELS))
def test_it_means_the_same_and_is_canonical(data: st.DataObject, model: CpuModel) -> None:
    area = drawn(data, model)
    normal = xs.normalise(area, model)
    assert len(normal) == len(area)
    assert xs.diff(area, normal, model) == []
    others = {delta.kind for delta in xs.diff(area, normal, model, everything=True)}
    assert others <= {"in-use", "reserved"}
    assert xs.normalise(normal, model) == normal
    assert normal[520:528] == area[520:528]
    assert normal[464:512] == area[464:512]


@given(data=st.data(), model=st.sampled_from(MODELS))
def test_equal_state_gives_equal_bytes(data: st.DataObject, model: CpuModel) -> None:
    """What is changed here means nothing: by the masks and sizes, without the map."""
    area = xs.XsaveArea.parse(bytearray(drawn(data, model)), model)
    normal = xs.normalise(area)
    rng = random.Random(data.draw(st.integers(0, 1 << 32)))
    changed = bytearray(normal)
    live = int.from_bytes(normal[512:520], "little")
    layout = area.layout
    owned = set(range(576))
    for slot in layout:
        if slot.number > 1:
            owned |= set(range(slot.offset, slot.end))
            if not live & slot.component.bit:
                changed[slot.offset : slot.end] = rng.randbytes(slot.size)
    for at in range(576, layout.size):
        if at not in owned:
            changed[at] = rng.randrange(256)
    changed[416:464] = rng.randbytes(48)
    for at in range(32, 160, 16):  # behind ST(i)
        changed[at + 10 : at + 16] = rng.randbytes(6)
    if not live & 1:
        changed[0:24], changed[32:160] = rng.randbytes(24), rng.randbytes(128)
    if not live & 2:
        changed[160:416] = rng.randbytes(256)
        if layout.format == "compacted":
            changed[24:32] = struct.pack("<II", 0, 0)
    # What is initial may as well be in use, and hold initial values.
    for slot in layout:
        component = slot.component
        initial = slot.number > 1 and not live & component.bit and not component.supervisor
        if initial and rng.random() < 0.5:
            changed[slot.offset : slot.end] = component.initial
            live |= component.bit
    changed[512:520] = live.to_bytes(8, "little")
    assert xs.normalise(changed, model, assume=True) == normal


# The processor.


def states(count: int) -> list[bytes]:
    """Areas of this machine, standard and compacted, that hold random and initial state."""
    if why := processor.available():
        pytest.skip(why)
    model, rng = xs.load_model("host"), random.Random(5)
    xcr0 = processor.xgetbv(0) & 0xE7
    layout, found = standard(model, xcr0), []
    for _ in range(count):
        area = bytearray(rng.randbytes(layout.size))
        mask = xcr0 & rng.getrandbits(64)
        area[0:24] = struct.pack("<HHBBHQQ", 0x37F, 0x3800, rng.randrange(256), 0, 0, 0, 0)
        area[24:32] = struct.pack("<II", rng.choice((0x1F80, 0x9FC0)), 0xFFFF)
        area[464:576] = bytes(48) + struct.pack("<Q", mask) + bytes(56)
        for slot in layout:
            if rng.random() < 0.3 and slot.number > 0:
                area[slot.offset : slot.end] = bytes(slot.size)
        found.append(bytes(area))
        if processor.has("xsavec"):
            size = layout.size
            found.append(processor.save("xsavec64", found[-1], xcr0, size=size, prefill=bytes(512)))
    return found


def test_the_processor_loads_the_same() -> None:
    found = states(60)
    model = xs.load_model("host").limited(processor.xgetbv(0))
    normal = [xs.normalise(area, model, assume=True) for area in found]
    assert any(a != b for a, b in zip(found, normal, strict=True))
    prior = next(area for area in found if not area[527] & 0x80)  # so that nothing is left over
    cases = [processor.Case(area, prior=prior) for area in (*found, *normal)]
    results = processor.restore_all(cases)
    for before, after in zip(results[: len(found)], results[len(found) :], strict=True):
        assert not before.faulted
        assert not after.faulted
        assert xs.diff(before.after, after.after, model, ignore=X87_POINTERS) == []


# By rule.


@pytest.mark.parametrize("format", ["standard", "compacted"])
@pytest.mark.parametrize("mxcsr", [0x1F80, 0x9FC0])
def test_sse_is_in_use_while_mxcsr_is_not_initial(format: Format, mxcsr: int) -> None:
    area = xs.XsaveArea.new(ZEN, format)
    area.registers["mxcsr"] = mxcsr  # which puts SSE in use
    assert area.in_use("sse")
    normal = xs.XsaveArea.parse(xs.normalise(area), ZEN)
    assert normal.in_use("sse") is (mxcsr != 0x1F80)
    assert normal.registers["mxcsr"] == mxcsr


def test_a_standard_area_with_mxcsr_alone_is_that_with_sse_of_zeros() -> None:
    area = bytearray(bytes(xs.XsaveArea.new(ZEN)))
    area[24:28] = (0x9FC0).to_bytes(4, "little")
    area[160:416] = b"\xa5" * 256
    normal = xs.XsaveArea.parse(xs.normalise(area, ZEN), ZEN)
    assert normal.in_use("sse")
    assert (normal.registers["xmm7"], normal.registers["mxcsr"]) == (0, 0x9FC0)


def test_lbrs_depth_is_not_lost_and_stale_entries_are() -> None:
    area = xs.XsaveArea.new(SPR, "compacted")
    area["lbr"]["ia32_lbr_depth"] = 0
    assert xs.XsaveArea.parse(xs.normalise(area), SPR).in_use("lbr")
    area["lbr"]["ia32_lbr_depth"] = 8
    area["lbr"]["entries[7].to"] = area["lbr"]["entries[8].to"] = 5
    normal = xs.XsaveArea.parse(xs.normalise(area), SPR)
    assert (normal["lbr"]["entries[7].to"], normal["lbr"]["entries[8].to"]) == (5, 0)


def test_an_illegal_tilecfg_becomes_the_initial_one() -> None:
    area = xs.XsaveArea.new(SPR)
    area["tilecfg"]["palette"] = 2
    normal = xs.XsaveArea.parse(xs.normalise(area), SPR)
    assert not normal.in_use("tilecfg")
    assert bytes(normal) == bytes(xs.XsaveArea.new(SPR))


def test_initial_values_that_are_not_zero() -> None:
    model = xs.load_model("alder-lake")
    area = xs.XsaveArea.new(model, "compacted", xcomp_bv=model.supervisor_mask | 3)
    for name in ("hwp", "hdc", "pt"):
        if name in area:
            area.write(
                area.layout[name], area.layout[name].offset, area.layout[name].component.initial
            )
            assert area.in_use(name)
    normal = xs.XsaveArea.parse(xs.normalise(area), model)
    assert normal.xstate_bv & ~3 == 0


def test_what_stands_behind_the_area_is_kept() -> None:
    data = bytes(xs.XsaveArea.new(ZEN)) + b"trailing"
    assert xs.normalise(data, ZEN) == data
    assert xs.normalise(FRAME, ZEN.limited(0xE7)) == FRAME


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [(27, 0x80, r"\[mxcsr\]"), (530, 1, r"\[header-16-23\]")],
)
def test_what_no_restore_takes_is_refused(at: int, value: int, says: str) -> None:
    data = bytearray(bytes(xs.XsaveArea.new(ZEN)))
    data[at] = value
    with pytest.raises(XsaveError, match=says):
        xs.normalise(data, ZEN)


def test_what_says_nothing_sure_is_refused() -> None:
    data = bytearray(bytes(xs.XsaveArea.new(ZEN)))
    data[520] = 4
    with pytest.raises(HeaderError):
        xs.normalise(data, ZEN)
    whole = bytes(xs.XsaveArea.new(SPR, xcr0=0xE7))
    with pytest.raises(MissingStateError, match="tiledata"):
        xs.normalise(xs.XsaveArea.partial(whole, SPR, {18: "tiledata"}))
    short: Any = bytes(575)
    with pytest.raises(XsaveError):
        xs.normalise(short, ZEN)


# Files.


def dirty(seed: int) -> bytes:
    """The kernel's area with stale bytes, and AVX's upper halves in use without a value."""
    area = bytearray(ZEN4)
    area[416:464] = random.Random(seed).randbytes(48)
    area[576:832] = bytes(256)
    return bytes(area)


def test_every_area_of_a_core_in_its_place(tmp_path: Path) -> None:
    path, out = tmp_path / "core", tmp_path / "out"
    path.write_bytes(zen4_core(areas=[dirty(1), dirty(2), ZEN4]))
    done = artefacts.normalise(path, out)
    assert [each.what for each in done] == ["thread 100", "thread 101", "thread 102"]
    before, after = ([*artefacts.open(each)] for each in (path, out))
    for old, new in zip(before, after, strict=True):
        assert bytes(new.area) == xs.normalise(old.area)
        assert old.offset == new.offset
    first, second = (bytes(each.area) for each in after[:2])
    assert first == second
    assert not after[0].area.in_use("avx")
    assert len(out.read_bytes()) == len(path.read_bytes())


def test_one_area_of_a_core(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(zen4_core(areas=[dirty(1), dirty(2)]))
    artefacts.normalise(path, area="101", in_place=True)
    first, second = artefacts.open(path)
    assert bytes(first.area) == dirty(1)
    assert bytes(second.area) == xs.normalise(second.area) != dirty(2)


def test_a_core_of_many_threads(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(cores.core(cores.threads([dirty(i) for i in range(300)])))
    assert len(artefacts.normalise(path, in_place=True)) == 300
    assert len({bytes(found.area) for found in artefacts.open(path)}) == 1


def test_a_frame_stays_one(tmp_path: Path) -> None:
    path = tmp_path / "frame"
    frame = bytearray(FRAME)
    frame[416:464] = b"\xa5" * 48
    path.write_bytes(frame)
    artefacts.normalise(path, in_place=True)
    assert path.read_bytes() == FRAME
    assert one(path.read_bytes()).label == "signal frame (64-bit)"


def test_the_command(tmp_path: Path) -> None:
    path, out = tmp_path / "core", tmp_path / "out"
    path.write_bytes(zen4_core(areas=[dirty(1), dirty(2)]))
    said = run("normalise", str(path), "-o", str(out)).stderr
    assert said.endswith("2 areas in canonical form (NT_X86_XSAVE_LAYOUT)\n")
    run("diff", str(path), str(out), "--area", "thread 100")
    assert "give one of -o OUT" in fails("normalise", str(path), code=2)
    assert "--in-place" in fails("normalise", str(path), "-o", "x", "--in-place", code=2)
    assert "no area" in fails("normalise", str(path), "-o", str(out), "--area", "#9")


def test_a_file_with_a_bad_area_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "core"
    bad = bytearray(ZEN4)
    bad[27] = 0x80
    data = zen4_core(areas=[dirty(1), bytes(bad)])
    path.write_bytes(data)
    assert "no restore takes this area" in fails("normalise", str(path), "--in-place")
    assert path.read_bytes() == data

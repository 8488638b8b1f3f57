"""check(): it must agree with the processor, case by case."""

from __future__ import annotations

import random
import re
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import processor
import pytest
from captures import Record, cut, image, records
from hypothesis import given, settings
from hypothesis import strategies as st
from processor import Case
from test_captures import bochs_model
from test_processor import host, random_state

from xsaveschema import XsaveArea, check, load_model
from xsaveschema.catalog import default_catalog
from xsaveschema.errors import MaskError, TooShortError, XsaveError
from xsaveschema.layout import under
from xsaveschema.model import COMPACTED, CpuModel
from xsaveschema.restore import RULES, Mended, Target, mend, notes
from xsaveschema.testing import areas, illegal_areas

# What can be mended without losing state, wherever it occurs.
MENDABLE = frozenset(
    {
        "xcomp-bv-form",
        "xcomp-bv-xcr0",
        "xstate-bv-xcomp-bv",
        "header-16-23",
        "header-24-63",
        "mxcsr",
        "linux-header",
        "linux-mxcsr",
        "ptrace-length",
    }
)

ZEN4 = load_model("zen4").limited(xcr0=0xE7, xss=0)


@pytest.mark.parametrize("record", records("zen4-faults"), ids=lambda r: r["case"])
def test_every_restore_of_a_real_zen4(record: Record) -> None:
    case = record["case"]
    address = int(case.split()[2]) if case.startswith("misaligned") else 0
    data = cut("zen4-faults", record["in_off"], 4096)
    faults = check(data, ZEN4, rfbm=int(record["xrstor_rfbm"], 16), address=address)
    assert bool(faults) == (record["signal"] == 11), faults


def bochs_case(name: str, record: Record) -> bytes:
    """The area of a Bochs fault case: a save of the emulator's, broken as the case says."""
    saves = {
        (r["instr"], int(r["rfbm"], 16)): r
        for r in reversed(records(name))
        if r["kind"] == "save" and r["state"] == "full" and not r["prefill"] and not r["vector"]
    }
    rfbm = int(record["base_rfbm"], 16)
    # XSAVES of user components alone writes what XSAVEC writes.
    base = saves.get((record["base"], rfbm)) or saves["xsavec", rfbm]
    area = bytearray(cut(name, base["off"], base["len"]))
    case = record["case"].removeprefix("std ").removeprefix("cmp ")
    xstate_bv, xcomp_bv = struct.unpack_from("<QQ", area, 512)
    mxcsr = {"MXCSR reserved": 0x80001FA0, "MXCSR ok": 0x5FA5}
    if match := re.match(r"header byte (\d+)=(\d+)", case):
        area[512 + int(match[1])] = int(match[2])
    elif match := re.match(r"XCOMP_BV(?:=| \|= )1<<(\d+)", case):
        xcomp_bv |= 1 << int(match[1])
    elif match := re.match(r"XSTATE_BV (?:\|= 1<<|bit)(\d+)", case):
        xstate_bv |= 1 << int(match[1])
    elif case == "seed decompact XCOMP_BV=XCR0 no bit63":
        xcomp_bv = int(records(name)[0]["xcr0"], 16)
    elif case == "compacted with XCOMP_BV=0":
        xcomp_bv = 0
    elif case.startswith("MXCSR"):
        area[24:28] = mxcsr[re.split(r" 0x| rfbm|,", case)[0]].to_bytes(4, "little")
        if match := re.search(r"XSTATE_BV=(\d+)", case):
            xstate_bv = int(match[1])
    elif "ok" not in case and "xrstor" not in case:
        raise AssertionError(case)
    struct.pack_into("<QQ", area, 512, xstate_bv, xcomp_bv)
    return bytes(area)


@pytest.mark.parametrize("name", ["bochs-corei7_skylake_x", "bochs-tigerlake"])
def test_every_fault_case_of_bochs(name: str) -> None:
    model = bochs_model(records(name)[0])
    count = 0
    for record in records(name):
        # Bochs lets XSTATE_BV[63] pass in the compacted form; a Zen 4 does not.
        if record["kind"] != "fault" or record["case"] == "cmp XSTATE_BV bit63":
            continue
        data = bochs_case(name, record)
        faults = check(data, model, record["instr"], rfbm=int(record["rfbm"], 16))
        assert bool(faults) == (record["vector"] == 13), (record["case"], faults)
        count += 1
    assert count > 60


def random_header(rng: random.Random, area: bytearray) -> None:
    """Break an area's header in one to three ways."""
    for _ in range(rng.randint(1, 3)):
        kind = rng.randrange(6)
        bit = 1 << rng.randrange(64)
        xstate_bv, xcomp_bv = struct.unpack_from("<QQ", area, 512)
        if kind == 0:
            xstate_bv ^= bit
        elif kind == 1:
            xcomp_bv ^= bit
        elif kind == 2:
            area[rng.randrange(528, 576)] = rng.randrange(256)
        elif kind == 3:
            area[24:28] = rng.getrandbits(32).to_bytes(4, "little")
        elif kind == 4:
            xcomp_bv = rng.choice((0, COMPACTED, COMPACTED | host().xcr0))
        struct.pack_into("<QQ", area, 512, xstate_bv, xcomp_bv)


@pytest.mark.skipif(processor.real() is not None, reason=str(processor.real()))
def test_the_machines_own_xrstor_on_generated_cases() -> None:
    rng = random.Random(7)
    model = host()
    cases, verdicts = [], []
    mxcsr_mask = processor.mxcsr_mask()
    for _ in range(1500):
        area = bytearray(random_state(rng).ljust(4096, b"\0"))
        random_header(rng, area)
        rfbm = rng.choice((0, model.xcr0, (1 << 64) - 1, rng.getrandbits(3), rng.getrandbits(64)))
        offset = rng.choice((0, 0, 0, 0, 16))
        if "pkru" in model.components and model.xcr0 >> 9 & 1:
            rfbm &= ~(1 << 9)  # a random PKRU could lock the child out of its own memory
        cases.append(Case(bytes(area), rfbm, processor.INITIAL, offset))
        faults = check(area, model, rfbm=rfbm, mxcsr_mask=mxcsr_mask, address=offset)
        verdicts.append(faults)
    results = processor.restore_all(cases)
    for case, faults, result in zip(cases, verdicts, results, strict=True):
        assert bool(faults) == result.faulted, (case.area[512:576].hex(), hex(case.rfbm), faults)
    assert 100 < sum(result.faulted for result in results) < 1450


models = st.sampled_from(default_catalog().models())


@given(data=st.data(), model=models)
def test_every_area_that_we_build_is_accepted(data: st.DataObject, model: CpuModel) -> None:
    area = data.draw(areas(model, supervisor=False, trailing=False))
    compacted = area[527] & 0x80
    if compacted and "xsavec" not in model.instructions:
        assert [f.rule for f in check(area, model)] == ["xcomp-bv-no-xsavec"]
        return
    # A standard area may end behind its state; the restore reads on.
    whole = area if compacted else area.ljust(model.standard_layout().size, b"\0")
    assert check(whole, model) == []
    assert [f.rule for f in check(area, model)] == ["memory-ends"] * (len(area) < len(whole))
    assert mend(area, model) == Mended(whole, ())
    built = XsaveArea.new(model)
    assert check(bytes(built), model) == check(bytes(built), model, "ptrace") == []
    assert check(bytes(built).ljust(4096, b"\0"), model, "kvm") == []


@pytest.mark.skipif(processor.real() is not None, reason=str(processor.real()))
@settings(max_examples=30)
@given(data=st.data())
def test_the_processor_refuses_illegal_areas(data: st.DataObject) -> None:
    model = replace(host(), mxcsr_mask=processor.mxcsr_mask())
    broken = data.draw(st.lists(illegal_areas(model), min_size=1, max_size=20))
    for result in processor.restore_all([Case(area) for area in broken]):
        assert result.faulted


@given(data=st.data(), model=models)
def test_what_is_mended_passes_or_keeps_only_what_cannot_be(
    data: st.DataObject, model: CpuModel
) -> None:
    area = bytearray(data.draw(areas(model, trailing=False)))
    for at in data.draw(st.sets(st.integers(512, 575), max_size=4)):
        area[at] ^= data.draw(st.integers(1, 255))
    for target in get_args(Target):
        try:
            faults = check(area, model, target)
            mended = mend(area, model, target)
        except TooShortError:
            continue
        left = {fault.rule for fault in mended.left}
        assert left <= {fault.rule for fault in faults} | {"xstate-bv-xcr0", "supervisor"}
        assert not left & (MENDABLE - {"xcomp-bv-xcr0"})
        if not faults:
            assert mended.data == area
        # No state is lost: what has a place and is in use is there as before.
        if left or (area[527] & 0x80 and not mended.data[527] & 0x80):
            continue
        kept = XsaveArea.parse(mended.data, model)
        before = XsaveArea.parse(area, model, strict=False)
        for name in kept:
            if before.in_use(name):
                assert kept.raw[name] == before.raw[name] or name in {"x87", "sse"}


def area(xstate_bv: int, xcomp_bv: int = 0, mxcsr: int = 0x1F80, size: int = 4096) -> bytearray:
    data = bytearray(size)
    struct.pack_into("<I", data, 24, mxcsr)
    struct.pack_into("<QQ", data, 512, xstate_bv, xcomp_bv)
    return data


TIGER = 0x2E7 | 0x3900 | COMPACTED
TILEDATA = 1 << 18


Alone = tuple[str, Target, bytearray, str, dict[str, int]]
ALONE: list[Alone] = [
    ("no-xsaves", "xrstors", area(0, 7 | COMPACTED), "haswell", {}),
    ("alignment", "xrstor", area(0), "zen4", {"address": 8}),
    ("xcomp-bv-form", "xrstor", area(0, 7), "zen4", {}),
    ("xcomp-bv-no-xsavec", "xrstor", area(0, 7 | COMPACTED), "haswell", {}),
    ("xcomp-bv-xcr0", "xrstor", area(0, 0x807 | COMPACTED), "zen4", {}),
    ("xrstors-form", "xrstors", area(0), "zen4", {}),
    ("xstate-bv-xcr0", "xrstor", area(0x200), "zen4", {"xcr0": 0xE7}),
    ("xstate-bv-xcomp-bv", "xrstor", area(4, 3 | COMPACTED), "zen4", {}),
    ("header-16-23", "xrstor", area(0)[:528] + b"\1" + bytes(4096), "zen4", {}),
    (
        "header-24-63",
        "xrstor",
        area(0, 1 | COMPACTED)[:575] + b"\1" + bytes(60),
        "zen4",
        {},
    ),
    ("mxcsr", "xrstor", area(0, 0, 0x11F80), "skylake-server", {}),
    ("memory-ends", "xrstor", area(0, size=2439), "zen4", {}),
    ("memory-ends", "xrstor", area(0, 7 | COMPACTED, size=831), "zen4", {}),
    ("memory-ends", "xrstors", area(0, 0x1807 | COMPACTED, size=871), "zen4", {}),
    ("xfd-armed", "xrstor", area(TILEDATA, size=11008), "sapphire-rapids", {"xfd": TILEDATA}),
    (
        "xfd-armed",
        "xrstors",
        area(TILEDATA, TILEDATA | COMPACTED, size=11008),
        "sapphire-rapids",
        {"xfd": TILEDATA},
    ),
    ("linux-compacted", "ptrace", area(0, COMPACTED), "zen4", {}),
    ("linux-compacted", "kvm", area(0, COMPACTED), "zen4", {}),
    ("linux-header", "ptrace", area(0)[:575] + b"\1" + bytes(4096), "zen4", {}),
    ("linux-header", "kvm", area(0)[:575] + b"\1" + bytes(4096), "zen4", {}),
    ("linux-xstate-bv", "ptrace", area(0x200), "zen4", {"xcr0": 0xE7}),
    ("linux-xstate-bv", "kvm", area(0x200), "zen4", {"xcr0": 0xE7}),
    ("linux-mxcsr", "ptrace", area(1, 0, 0x11F80), "skylake-server", {}),
    ("linux-mxcsr", "kvm", area(1, 0, 0x11F80), "skylake-server", {}),
    ("linux-size", "ptrace", area(0, size=2000), "zen4", {}),
    ("linux-size", "kvm", area(0, size=4095), "zen4", {}),
    ("linux-size", "kvm", area(TILEDATA), "sapphire-rapids", {}),
    ("ptrace-length", "ptrace", area(0, size=2441), "zen4", {}),
    ("linux-dynamic", "ptrace", area(TILEDATA, size=11008), "sapphire-rapids", {"xfd": TILEDATA}),
    ("linux-dynamic", "kvm", area(TILEDATA, size=11008), "sapphire-rapids", {"xfd": TILEDATA}),
    # Without permission KVM reads no more than these.
    ("linux-dynamic", "kvm", area(TILEDATA, size=4096), "sapphire-rapids", {"xfd": TILEDATA}),
]


@pytest.mark.parametrize(
    ("rule", "target", "data", "model", "options"),
    ALONE,
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_rule_alone(
    rule: str, target: Target, data: bytearray, model: str, options: dict[str, int]
) -> None:
    faults = check(data, load_model(model), target, **options)
    assert [fault.rule for fault in faults] == [rule]
    assert faults[0].source
    assert faults[0].remedy


@pytest.mark.parametrize(
    ("name", "at", "value"),
    [
        ("pt", 72, 1),
        ("cet_u", 0, 0x40),
        ("cet_u", 8, 1),
        ("cet_s", 16, 2),
        ("pasid", 0, 1 << 20),
        ("uintr", 0, 1 << 60),
        ("uintr", 16, 1 << 40),
        ("uintr", 24, 0x20),
        ("uintr", 40, 0x2),
        ("lbr", 8, 3),
    ],
)
def test_xrstors_refuses_values_of_supervisor_components(name: str, at: int, value: int) -> None:
    model = load_model("sapphire-rapids")
    built = XsaveArea.new(model, "compacted")
    for component in ("pt", "cet_u", "cet_s", "pasid", "uintr", "lbr"):
        first = next(iter(built[component]))
        built[component][first] = built[component][first]
    data = bytearray(bytes(built))
    assert check(data, model, "xrstors") == []
    start = built.layout[name].offset + at
    data[start : start + 8] = value.to_bytes(8, "little")
    faults = check(data, model, "xrstors")
    assert [fault.rule for fault in faults] == ["supervisor"]
    assert name in faults[0].message
    # UIF is bit 7 of byte 23 and no fault.
    if name == "uintr":
        data[start : start + 8] = bytes(8)
        data[built.layout[name].offset + 23] = 0x80
        assert check(data, model, "xrstors") == []


def test_every_rule_is_tested_alone() -> None:
    # "other-layout" takes an area and another CPU: see test_evidence.py. No component that ships
    # has an "illegal-value": see test_rules.py.
    alone = {case[0] for case in ALONE}
    assert alone | {"supervisor", "other-layout", "illegal-value"} == set(RULES)


def test_check_reads_no_further_than_the_buffer() -> None:
    (fault,) = check(area(0x200, size=2000), load_model("zen4"))
    assert (fault.rule, fault.offset) == ("memory-ends", 2000)
    assert "up to byte 2440" in fault.message
    assert check(area(0x200, size=2000), load_model("zen4"), rfbm=7) == []
    assert check(area(0x200, size=576), load_model("zen4"), rfbm=0) == []
    with pytest.raises(TooShortError):
        check(bytes(575), load_model("zen4"))
    with pytest.raises(XsaveError, match="target"):
        check(area(0), load_model("zen4"), "windows")  # type: ignore[arg-type]  # the mistake


MENDED_BY_ZEROS: list[tuple[Target, bytearray, str, int]] = [
    ("xrstor", area(7, size=832), "zen4", 2440),  # opmask and all behind it are initial
    ("xrstor", area(3, 0x207 | COMPACTED, size=600), "zen4", 840),
    ("xrstors", area(3, 0x1803 | COMPACTED, size=592), "zen4", 616),
    ("ptrace", area(7, size=832), "zen4", 2440),
    ("ptrace", area(7, size=2443), "zen4", 2448),
    ("kvm", area(7, size=2440), "zen4", 4096),
    ("kvm", area(1 << 17, size=2816), "sapphire-rapids", 4096),
]


@pytest.mark.parametrize(("target", "data", "model", "size"), MENDED_BY_ZEROS)
def test_an_area_that_lacks_initial_components_alone_is_extended(
    target: Target, data: bytearray, model: str, size: int
) -> None:
    whole = bytes(data).ljust(size, b"\0")
    assert mend(data, load_model(model), target) == Mended(whole, ())


@pytest.mark.parametrize(
    ("target", "data", "rule"),
    [
        ("xrstor", area(7, size=831), "memory-ends"),
        ("xrstor", area(0x200, 0x207 | COMPACTED, size=836), "memory-ends"),
        ("ptrace", area(0x200, size=2432), "linux-size"),
        ("kvm", area(0x200, size=2432), "linux-size"),
        ("xrstor", area(0x807, size=832), "memory-ends"),  # state that has no place at all
    ],
)
def test_state_that_is_cut_off_is_not_made_up(target: Target, data: bytearray, rule: str) -> None:
    mended = mend(data, load_model("zen4"), target)
    assert mended.data == data
    assert mended.left[0].rule == rule


def test_xfd_concerns_what_is_loaded() -> None:
    model = load_model("sapphire-rapids")
    data = area(TILEDATA | 7, size=11008)
    assert check(data, model, xfd=TILEDATA, rfbm=7) == []
    assert check(area(7, size=11008), model, xfd=TILEDATA) == []
    # In the order in which they are raised: the header, XFD, MXCSR.
    broken = area(TILEDATA, 0, 0x11F80, size=11008)
    broken[528] = 1
    rules = [fault.rule for fault in check(broken, model, xfd=TILEDATA)]
    assert rules == ["header-16-23", "xfd-armed", "mxcsr"]
    with pytest.raises(MaskError, match="cannot disable avx"):
        check(data, model, xfd=TILEDATA | 4)
    with pytest.raises(MaskError, match="64 bits"):
        check(data, model, xfd=-1)


def test_linux_must_be_asked_for_dynamic_components() -> None:
    model = load_model("sapphire-rapids")
    whole = area(TILEDATA | 6, size=11008)
    asked: dict[Target, str] = {"ptrace": "REQ_XCOMP_PERM, 18)", "kvm": "REQ_XCOMP_GUEST_PERM, 18)"}
    for target, option in asked.items():
        assert check(whole, model, target) == []
        (note,) = notes(whole, model, target)
        assert (note.component, note.offset) == ("tiledata", 2816)
        assert note.message.endswith(option)
        assert notes(whole, model, target, xfd=TILEDATA) == [], "check says it then"
    assert notes(whole, model) == []
    (note,) = notes(area(6), model, "kvm")
    assert "takes 11008 bytes, not 4096" in note.message
    assert notes(area(6, size=11008), model, "kvm") == []
    assert notes(area(6), load_model("zen4"), "kvm") == []


def test_linux_loads_an_mxcsr_with_sse_alone() -> None:
    zen4 = load_model("zen4")
    targets: tuple[Target, ...] = ("ptrace", "kvm")
    for xstate_bv in range(8):
        for target in targets:
            told = notes(area(xstate_bv, 0, 0x1FA0), zen4, target)
            assert [note.offset for note in told if note.component == "sse"] == (
                [] if xstate_bv & 2 else [24]
            )
    # XRSTOR of the standard form loads it, and so does a kernel that keeps that form.
    assert notes(area(4, 0, 0x1FA0), zen4) == []
    assert notes(area(4, 0, 0x1FA0), load_model("haswell"), "kvm") == []


@pytest.mark.shared
def test_kvm_takes_the_area_of_a_machine_without_tiles(shared: Path) -> None:
    """What KVM_SET_XSAVE took, on a host whose standard layout has 11008 bytes."""
    model = load_model("sapphire-rapids").limited(xcr0=0x600E7, xss=0)
    data = (shared / "artefacts" / "kvm-get_xsave-4096.bin").read_bytes()
    assert check(data, model, "kvm") == []
    assert [fault.rule for fault in check(data, model, "ptrace")] == ["linux-size"]
    assert [fault.rule for fault in check(data[:-1], model, "kvm")] == ["linux-size"]


def test_a_short_standard_area_is_padded_for_kvm_as_its_remedy_says() -> None:
    model = load_model("zen4")
    (fault,) = check(area(0x207, size=2440), model, "kvm")
    assert fault.remedy.endswith("; mend pads what is in that form already")
    assert len(mend(area(0x207, size=2440), model, "kvm").data) == 4096


def test_the_capture_is_whole() -> None:
    assert len(image("zen4-faults")) >= 4096 * 100


def test_mend_keeps_legacy_state_that_xcomp_bv_does_not_name() -> None:
    model = load_model("zen4").limited(xcr0=0xE7)
    broken = area(7, COMPACTED | 4, 2432)
    broken[160:416] = b"\x5a" * 256
    mended = mend(broken, model)
    assert mended.left == ()
    assert mended.data[512:528] == struct.pack("<QQ", 7, COMPACTED | 7)
    assert XsaveArea.parse(mended.data, model).registers["xmm3"] == int.from_bytes(b"\x5a" * 16)


def test_mend_repacks_what_another_cpu_wrote() -> None:
    """check and mend ask what a processor makes of an area, not who wrote it."""
    model = load_model("skylake")
    data = bytearray(bytes(XsaveArea.new(model, "compacted")))
    data[28:32] = (0x2FFFF).to_bytes(4, "little")
    assert [fault.rule for fault in check(data, model, xcr0=7)] == ["xcomp-bv-xcr0"]
    mended = mend(data, model, xcr0=7)
    assert mended.left == ()
    assert mended.data[520:528] == struct.pack("<Q", COMPACTED | 7)


@pytest.mark.parametrize("target", ["xrstor", "ptrace", "kvm"])
def test_mend_zeroes_xcomp_bv_of_a_standard_area(target: Target) -> None:
    model = load_model("zen4")
    mended = mend(area(7, 1, 4096), model, target)
    assert (mended.left, mended.data[520:528]) == ((), bytes(8))


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        ({"xcr0": 0x1000E7}, "component20"),
        ({"xcr0": -1}, "64 bits"),
        ({"xcr0": 1 << 70}, "64 bits"),
        ({"rfbm": 1 << 70}, "RFBM"),
        ({"mxcsr_mask": -1}, "MXCSR_MASK"),
        ({"xss": 1 << 20}, "component20"),
        ({"xss": "7"}, "a mask is an integer"),
    ],
    ids=repr,
)
def test_masks_that_say_nothing(masks: dict[str, Any], said: str) -> None:
    with pytest.raises(MaskError, match=said):
        check(area(7, size=2440), load_model("zen4"), **masks)


def test_a_frames_mask_is_not_what_the_kernel_has_enabled() -> None:
    """Where TILECFG is enabled TILEDATA is, too: ptrace wants its place in a shorter frame's area.

    xstateregs_set takes all user components or nothing; a frame of a task without tiles lacks them.
    """
    model = under(load_model("sapphire-rapids"), 0x200E7)
    data = bytes(XsaveArea.new(model))
    assert len(data) == 2816
    assert [fault.rule for fault in check(data, model, "ptrace")] == ["linux-size"]
    mended = mend(data, model, "ptrace")
    assert (len(mended.data), mended.left) == (11008, ())
    assert check(data, model) == []
    assert check(data + bytes(1280), model, "kvm") == []

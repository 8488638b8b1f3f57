"""check() and diff() against every restore that real processors were seen to do or refuse."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path
from typing import NamedTuple

import pytest
from captures import Record, cut, records

from xsaveschema import XsaveArea, check, diff, load_model
from xsaveschema.area.loaded import as_restored, illegal_tilecfg
from xsaveschema.diff import X87_POINTERS
from xsaveschema.model import COMPACTED, CpuModel
from xsaveschema.restore import notes

# The CPU with AMX lays its components out as Sapphire Rapids does; both guests hide PKRU.
AMX = load_model("sapphire-rapids").limited(xcr0=0x600E7, xss=0)
ZEN4 = load_model("zen4").limited(xcr0=0xE7, xss=0)
SSE, TILECFG, TILEDATA = 1 << 1, 1 << 17, 1 << 18

GP, PF, NM = 13, 14, 7
VECTORS = {"memory-ends": PF, "xfd-armed": NM}  # of every other rule: #GP


class Capture(NamedTuple):
    """Where records are from: the CPU that did them, and what it saves otherwise than it loads."""

    name: str
    model: CpuModel
    size: int
    ignore: tuple[str, ...]

    def area(self, record: Record, key: str) -> bytes:
        data = cut(self.name, record[key], self.size)
        return data[: record.get("avail") or None]


def amx(name: str) -> Capture:
    return Capture(name, AMX, 11264, ())


def zen4(name: str) -> Capture:
    return Capture(name, ZEN4, 4096, X87_POINTERS)


def raised(record: Record) -> int:
    """The vector of the fault that the processor raised, 0 where it raised none."""
    signals: dict[int, int] = {0: 0, 4: NM, 11: record.get("trapno") or GP}
    return signals[record["signal"]]


def offset(record: Record) -> int:
    case: str = record["case"]
    return int(case.split()[2]) if case.startswith("misaligned") else record.get("offset", 0)


def judge_faults(capture: Capture) -> int:
    """Hold check() to every record; return how many there were."""
    for record in records(capture.name):
        faults = check(
            capture.area(record, "in_off"),
            capture.model,
            rfbm=int(record["xrstor_rfbm"], 16),
            address=offset(record),
            xfd=TILEDATA if record.get("xfd") else 0,
        )
        found = VECTORS.get(faults[0].rule, GP) if faults else 0
        assert found == raised(record), (record["case"], faults)
    return len(records(capture.name))


def not_loaded(area: bytes, model: CpuModel, rfbm: int) -> list[str]:
    """What a restore leaves as it was before, by the names that diff() ignores."""
    left = [c.name for c in model.components.values() if not c.bit & rfbm]
    standard = not struct.unpack_from("<Q", area, 520)[0] & COMPACTED
    if "sse" in left and standard and rfbm & 6:  # MXCSR is loaded for AVX too
        left[left.index("sse")] = "sse.xmm"
    return left


def judge_loaded(capture: Capture, key: str) -> int:
    """An accepted area means what the processor saves after its restore; return how many."""
    count = 0
    for record in records(capture.name):
        if raised(record):
            continue
        area, after = capture.area(record, key), cut(capture.name, record["after_off"], 11264)
        after = after[: capture.size]
        ignore = not_loaded(area, capture.model, int(record["xrstor_rfbm"], 16))
        deltas = diff(area, after, capture.model, ignore=[*ignore, *capture.ignore])
        assert deltas == [], record
        assert as_restored(XsaveArea.parse(after, capture.model))[1] == {}
        count += 1
    return count


@pytest.mark.parametrize("capture", [amx("amx-faults"), zen4("zen4-faults")], ids=lambda c: c.name)
def test_the_fault_in_front_is_the_one_that_was_raised(capture: Capture) -> None:
    assert judge_faults(capture) > 100


@pytest.mark.shared
def test_every_fault_of_the_captures(shared: Path) -> None:
    folder = shared / "captures"
    assert judge_faults(amx(str(folder / "silicon-amx" / "faults"))) == 555
    assert judge_faults(zen4(str(folder / "silicon-zen4" / "faults"))) == 217


@pytest.mark.parametrize(
    ("capture", "key"),
    [
        (amx("amx-faults"), "in_off"),
        (amx("amx-restores"), "src_off"),
        (zen4("zen4-faults"), "in_off"),
    ],
    ids=["amx-faults", "amx-restores", "zen4-faults"],
)
def test_an_area_means_what_is_saved_after_its_restore(capture: Capture, key: str) -> None:
    assert judge_loaded(capture, key) > 30


@pytest.mark.shared
def test_every_accepted_area_of_the_captures(shared: Path) -> None:
    folder = shared / "captures"
    assert judge_loaded(amx(str(folder / "silicon-amx" / "faults")), "in_off") > 200
    assert judge_loaded(amx(str(folder / "silicon-amx" / "restores")), "src_off") == 158
    assert judge_loaded(zen4(str(folder / "silicon-zen4" / "faults")), "in_off") > 90
    assert judge_loaded(zen4(str(folder / "silicon-zen4" / "restores")), "src_off") == 122


def test_areas_are_equal_where_the_processor_ends_up_in_the_same_state() -> None:
    """Two areas with one TILECFG or another: equal if and only if XSAVE then writes the same."""
    capture = amx("amx-faults")
    cases = []
    for record in records(capture.name):
        everything = int(record["xrstor_rfbm"], 16) & AMX.xcr0 == AMX.xcr0
        if "TILECFG" in record["case"] and everything and not raised(record):
            after = cut(capture.name, record["after_off"], AMX.standard_layout().size)
            cases.append((capture.area(record, "in_off"), after[:416] + after[576:]))
    verdicts = {True: 0, False: 0}
    for (area_a, after_a), (area_b, after_b) in itertools.combinations(cases, 2):
        equal = diff(area_a, area_b, AMX) == []
        assert equal == (after_a == after_b)
        verdicts[equal] += 1
    assert min(verdicts.values()) > 10, verdicts


def test_an_illegal_tilecfg_is_noted_where_it_is_loaded_as_initial() -> None:
    capture, count = amx("amx-faults"), 0
    for record in records(capture.name):
        if raised(record) or not int(record["xrstor_rfbm"], 16) & TILECFG:
            continue
        area = capture.area(record, "in_off")
        stored = XsaveArea.parse(area, AMX)
        after = XsaveArea.parse(cut(capture.name, record["after_off"], 11264), AMX)
        ours = {note.component for note in notes(area, AMX, rfbm=TILECFG)}
        lost = stored.in_use("tilecfg") and after.raw["tilecfg"] != stored.raw["tilecfg"]
        assert ours == ({"tilecfg"} if lost else set()), record["case"]
        count += bool(lost)
    assert count > 10


def extras(kind: str) -> list[Record]:
    return [record for record in records("amx-extras") if record["kind"] == kind]


def test_ldtilecfg_faults_on_what_is_illegal() -> None:
    for record in extras("ldtilecfg"):
        tilecfg = bytes.fromhex(record["tilecfg"])
        if not tilecfg[0]:  # LDTILECFG looks at the palette alone then
            assert not record["signal"]
            continue
        assert bool(illegal_tilecfg(tilecfg)) == (record["trapno"] == GP), record["case"]


def test_x87_state_as_intel_loads_it() -> None:
    for record in extras("x87 normalised"):
        area = bytearray(bytes(XsaveArea.new(AMX)))
        area[512] = 1
        before, after = bytearray(area), bytearray(area)
        before[:24] = bytes.fromhex(record["before"])
        after[:24] = bytes.fromhex(record["after"])
        assert diff(before, after, AMX) == []
        # What was saved is what is loaded, and stays it when it is loaded again.
        restored, _ = as_restored(XsaveArea.parse(before, AMX))
        assert restored.raw["x87"][:24] == after[:5] + before[5:6] + after[6:24]
        assert as_restored(XsaveArea.parse(after, AMX))[1] == {}
        # Every bit that was saved is one that would have been missed.
        for byte, bit in itertools.product((0, 1, 3, 4, 6, 9, 16, 23), (2, 1)):
            other = bytearray(after)
            other[byte] ^= bit
            assert diff(before, other, AMX) != [], (byte, bit)
        # What was seen on Intel is nothing that an AMD processor is known to do.
        other_vendor = load_model("zen4")
        stored = diff(before, after, AMX, other_vendor) != []
        assert stored == (before[:5] + before[6:24] != after[:5] + after[6:24])


def test_how_much_memory_a_restore_needs() -> None:
    count = 0
    for record in extras("memory needed"):
        if not record["instr"].startswith("xrstor"):
            continue
        masks = (int(record["xstate_bv"], 16), int(record.get("xcomp_bv", "0"), 16))
        area = struct.pack("<24xI484xQQ", 0x1F80, *masks).ljust(11264, b"\0")
        rfbm, needed = int(record["rfbm"], 16), record["bytes"]
        assert check(area[:needed], AMX, rfbm=rfbm) == []
        if needed > 576:
            (fault,) = check(area[: needed - 1], AMX, rfbm=rfbm)
            assert (fault.rule, fault.offset) == ("memory-ends", needed - 1)
        count += 1
    assert count > 30


@pytest.mark.parametrize("armed", [0, 1])
def test_memory_ends_before_the_header_is_judged(armed: int) -> None:
    cases = {
        "header byte 16=1": (0x600E7, 0, 0x1F80, 1),
        "XCOMP_BV=1": (0x600E7, 1, 0x1F80, 0),
        "MXCSR reserved": (0x600E7, 0, 0xFFFFFFFF, 0),
        "XSTATE_BV bit 63": (1 << 63, 0, 0x1F80, 0),
        "legal": (0x600E7, 0, 0x1F80, 0),
    }
    for record in extras("fault order"):
        name, _, rest = record["case"].partition(", memory ends at 576")
        xstate_bv, xcomp_bv, mxcsr, reserved = cases[name]
        area = struct.pack("<24xI484xQQB47x", mxcsr, xstate_bv, xcomp_bv, reserved)
        rfbm = 0 if rest else None
        faults = check(area, AMX, rfbm=rfbm, xfd=armed * TILEDATA)
        if record["xfd"] == armed:
            assert bool(faults) == (record["trapno"] == PF)
            assert not faults or faults[0].rule == "memory-ends"


# Seen on an Intel processor (06_CFh, XCR0 0xE7) that was given 576 bytes before an unmapped page:
# alignment is looked at before memory, and so is an XCOMP_BV that says no places.
ORDER = [
    pytest.param(7, 0, 8, ["alignment", "memory-ends"], id="misaligned"),
    pytest.param(7, COMPACTED | 0x1000E7, 0, ["xcomp-bv-xcr0"], id="unknown place"),
    pytest.param(7, COMPACTED | 0x2E7, 0, ["xcomp-bv-xcr0"], id="disabled place"),
    pytest.param(0x20, COMPACTED | 7, 0, ["memory-ends", "xstate-bv-xcomp-bv"], id="no place"),
    pytest.param(0x100007, 0, 0, ["memory-ends", "xstate-bv-xcr0"], id="not enabled"),
    pytest.param(7, COMPACTED, 0, ["xstate-bv-xcomp-bv"], id="nothing to read"),
]


@pytest.mark.parametrize(("xstate_bv", "xcomp_bv", "address", "rules"), ORDER)
def test_what_comes_before_memory(
    xstate_bv: int, xcomp_bv: int, address: int, rules: list[str]
) -> None:
    area = struct.pack("<24xI484xQQ48x", 0x1F80, xstate_bv, xcomp_bv)
    faults = check(area, AMX, xcr0=0xE7, address=address)
    assert [fault.rule for fault in faults] == rules

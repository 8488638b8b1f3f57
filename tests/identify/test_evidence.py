"""Who wrote this? What an area's bytes say outranks what somebody says of them."""

from __future__ import annotations

import pickle
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from artefact_areas import FRAME, ZEN4, intel_area, kvm, one, zen4_core
from command import fails, run, tell
from hypothesis import given
from hypothesis import strategies as st

import xsaveschema as xs
from xsaveschema import artefacts, batch, evidence
from xsaveschema.artefacts.containers import KINDS
from xsaveschema.artefacts.registry import FOREIGN
from xsaveschema.catalog import default_catalog
from xsaveschema.errors import EvidenceError, IdentificationError, XsaveError
from xsaveschema.layout import has_layout
from xsaveschema.model import CpuModel
from xsaveschema.testing import areas
from xsaveschema.traces import Shown, shown

MODELS = default_catalog().models()
SPR, ZEN, ICE = (xs.load_model(name) for name in ("sapphire-rapids", "zen4", "ice-lake-server"))
models = st.sampled_from([model for model in MODELS if model.instructions])


def told(mask: int, size: int = 11008, xstate_bv: int = 7, mxcsr_mask: int = 0xFFFF) -> bytearray:
    """An area whose writer's system had ``mask`` enabled, as Linux says so."""
    area = intel_area(size, mask, mxcsr_mask)
    struct.pack_into("<Q", area, 512, xstate_bv)
    return area


def frame(xfeatures: int, size: int, bits: int = 64, xstate_bv: int = 3) -> bytearray:
    """The area of a signal frame, with its second magic word."""
    area = told(0, size, xstate_bv) + struct.pack("<I", 0x46505845)
    extended = size + (4 if bits == 64 else 116)
    struct.pack_into("<IIQI", area, 464, 0x46505853, extended, xfeatures, size)
    return area


# What tells, and what is software's own.


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, Shown(0x2E7, 464)),
        ({464: b"\xe5"}, None),  # bit 1 is clear
        ({472: b"\1"}, None),  # something follows
        ({511: b"\1"}, None),
        ({464: bytes(8)}, None),
        ({512: b"\xe7\6"}, None),  # XSTATE_BV has a bit that the mask lacks
        ({471: b"\x80"}, None),  # bit 63
        ({468: b"\1"}, Shown(0x1000002E7, 464)),  # a component that no CPU has yet
    ],
    ids=repr,
)
def test_a_mask_at_byte_464(changes: dict[int, bytes], found: Shown | None) -> None:
    area = told(0x2E7)
    for at, data in changes.items():
        area[at : at + len(data)] = data
    xstate_bv = int.from_bytes(area[512:520], "little")
    assert shown(memoryview(area), xstate_bv) == found
    # One that no CPU of the catalogue could have is software's own.
    known = found if found and not found.mask >> 32 else None
    assert evidence.shown_in(memoryview(area), SPR) == known


@pytest.mark.parametrize("bits", [64, 32])
def test_the_words_of_a_frame(bits: int) -> None:
    area = frame(0x200E7, 2816, bits)
    wanted = Shown(0x200E7, 472, 2816)
    for data in (area, area[:2816]):
        assert shown(memoryview(data), 3) == wanted
    for at, value in ((468, 2819), (472, 0x200E5), (480, 2815), (500, 1), (2816, 0)):
        broken = bytearray(area)
        struct.pack_into("<I", broken, at, value)
        assert shown(memoryview(broken), 3) is None, at


def test_a_compacted_area_shows_none() -> None:
    area = told(0xE7)
    struct.pack_into("<Q", area, 520, 1 << 63 | 0xE7)
    assert evidence.shown_in(memoryview(area), ZEN) is None
    assert xs.XsaveArea.parse(area, ICE).format == "compacted"


# Contradictions.

AGAINST: dict[str, tuple[bytes, str, str]] = {
    "mask": (bytes(told(0x600E7)), "zen4", "mask 0x600E7 .* and zen4 has no tilecfg, tiledata"),
    "mask of APX": (bytes(told(0x800E7)), "ice-lake-server", "ice-lake-server has no apx"),
    "components that share bytes": (bytes(told(0x8001F, 1088)), "nova-lake", "has no bndregs"),
    "frame": (bytes(frame(0x600E7, 11008)), "zen4", "byte 472 .* and zen4 has no tilecfg, tiled"),
    "size of a frame": (bytes(frame(0xE7, 2688)), "zen4", "in 2688 bytes; zen4 takes 2432"),
    "MXCSR_MASK": (bytes(told(0, mxcsr_mask=0x2FFFF)), "skylake-server", "MXCSR_MASK is 0x2FFFF"),
}


@pytest.mark.parametrize("name", AGAINST)
def test_a_contradiction_names_both_sides_and_the_way_out(name: str) -> None:
    data, said, fact = AGAINST[name]
    model = xs.load_model(said)
    with pytest.raises(EvidenceError, match=fact) as caught:
        xs.XsaveArea.parse(data, model)
    assert caught.value.said == said
    assert "--assume-model (assume=True)" in str(caught.value)
    for strict in (True, False):
        area = xs.XsaveArea.parse(data, model, strict, assume=True)
        assert (area.model, area.assumed) == (model, True)


@pytest.mark.parametrize("name", AGAINST)
def test_every_command_refuses_and_insisting_shows(name: str, tmp_path: Path) -> None:
    data, said, _ = AGAINST[name]
    path, out = tmp_path / "area", tmp_path / "out"
    path.write_bytes(data)
    for command in (
        ["decode", str(path)],
        ["decode", str(path), "--lenient"],
        ["check", str(path)],
        ["convert", str(path), "--format", "compacted", "-o", str(out)],
        ["diff", str(path), str(path)],
        ["patch", str(path), "mxcsr=0x1f80", "-o", str(out)],
    ):
        assert f"model {said} did not write this" in fails(*command, "--model", said)
        assert not out.exists()
    (area,) = tell("decode", str(path), "--model", said, "--assume-model")["areas"]
    assert (area["assumed"], area["model"]) == (True, said)
    assert (
        f"model {said}, assumed"
        in run("decode", str(path), "--model", said, "--assume-model").stdout
    )
    assert "--assume-model insists" in fails("decode", str(path), "--assume-model", code=2)


def test_what_is_not_contradicted_is_not_assumed() -> None:
    assert xs.XsaveArea.parse(told(0xE7, 2688), ICE, assume=True).assumed is False
    assert xs.XsaveArea.parse(told(0x600E7), SPR).assumed is False
    assert one(bytes(told(0xE7, 2688)), "ice-lake-server").layout_source.endswith(
        "0xE7 at byte 464"
    )


def test_a_length_is_a_hint_and_a_note() -> None:
    # As long as an Intel CPU makes it; what is live stands where all CPUs have it.
    found = one(bytes(told(0xE7, 2688)), "zen5", assume=False)
    assert found.notes == (
        "the area has 2688 bytes; zen5 takes 2432 for the mask 0xE7 at byte 464",
        "MXCSR_MASK is 0xFFFF, zen5's own is 0x2FFFF: an emulated CPU may have written this",
    )
    assert not found.area.assumed


# The mask of a KVM area is its host's.


def test_a_guest_is_not_bound_by_its_hosts_mask() -> None:
    area = kvm(bytes(told(0x600E7, 2816, 0xE7)))
    for name in ("skylake-server", "haswell", "sapphire-rapids"):
        if name != "haswell":
            k1 = int.from_bytes(area[1096:1104], "little")
            assert one(area, name).area.registers["k1"] == k1
    with pytest.raises(EvidenceError, match="no CPU with these components lays them out as zen4"):
        one(area, "zen4")
    assert one(area, "zen4", assume=True).area.assumed


# Names are labels of layouts.


def alike_by_hand(model: CpuModel, mask: int) -> int:
    own = [(c.number, c.offset, c.size) for c in model.components.values() if c.bit & mask]
    count = 0
    for other in MODELS:
        parts = [(c.number, c.offset, c.size) for c in other.components.values() if c.bit & mask]
        count += other.name != model.name and parts == own
    return count


@pytest.mark.parametrize("mask", [0x600E7, 0xE7, 0x7])
def test_models_laid_out_alike_are_counted_for_the_layout_that_is_used(mask: int) -> None:
    found = one(bytes(told(mask, SPR.standard_layout(mask).size)))
    assert found.others == alike_by_hand(found.area.model, mask)
    assert 0 < found.others < len(MODELS)


def test_the_count_is_told_where_nobody_named_a_model(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(zen4_core())
    assert "zen4, or 2 others laid out alike" in run("decode", str(path)).stdout
    assert "XRSTOR on zen4, or 2 others laid out alike" in run("check", str(path)).stdout
    assert "or 1 other" not in run("check", str(path), "--model", "zen5").stdout


# A restore by another CPU reads where that one has its components.


def test_check_tells_what_another_cpu_would_load_instead(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(zen4_core())
    told = tell("check", str(path), "--cpu", "skylake-server", "--xcr0", "0xE7", code=1)["faults"]
    rules = [fault["rule"] for fault in told]
    assert rules == ["memory-ends", "other-layout", "other-layout", "other-layout"]
    assert "opmask stands at 832..896 as zen4 has it" in told[1]["message"]
    assert tell("check", str(path), "--cpu", "zen5", "--xcr0", "0xE7")["faults"] == []
    area = tmp_path / "area"
    area.write_bytes(told_by_intel := bytes(told_area()))
    assert len(told_by_intel) == 11008
    said = run("check", str(area), "--cpu", "zen4", code=1).stdout
    assert "takes this area, and loads other bytes than were saved" in said


def told_area() -> bytearray:
    return told(0x600E7, xstate_bv=0x27)


# Our own output passes.


@given(
    data=st.data(), source=models, target=models, format=st.sampled_from(("standard", "compacted"))
)
def test_what_we_write_says_what_is_so(
    data: st.DataObject, source: CpuModel, target: CpuModel, format: Any
) -> None:
    area = bytearray(data.draw(areas(source, "standard", trailing=False)))
    xstate_bv = int.from_bytes(area[512:520], "little")
    mask = data.draw(st.sampled_from((source.xcr0, source.xcr0 & ~0x40000, xstate_bv | 3)))
    struct.pack_into("<Q40x", area, 464, mask | xstate_bv | 3)
    struct.pack_into("<I", area, 28, source.mxcsr_mask)
    lost = range(63)
    result = xs.relayout(area, source=source, target=target, format=format, drop=lost)
    written = bytes(result.data)
    seen = evidence.shown_in(memoryview(written), target)
    if format == "compacted":
        assert not any(written[464:512])
    else:
        assert seen == Shown(result.layout.mask, 464)
        assert has_layout(target, seen.mask)
        assert written[28:32] == target.mxcsr_mask.to_bytes(4, "little")
    assert evidence.contradictions(memoryview(written), target) == ()
    rows = np.frombuffer(bytes(area), np.uint8).reshape(1, -1)
    many = batch.relayout(rows, source=source, target=target, format=format, drop=lost)
    assert many.data[0].tobytes() == written


def test_a_frames_words_become_the_results_own_mask() -> None:
    area = frame(0x200E7, 2816)
    area[416:464] = b"\x11" * 48
    out = xs.to_standard(area, SPR, xcr0=0x200E7).data
    assert out[464:472] == (0x200E7).to_bytes(8, "little")
    assert not any(out[472:512])
    assert out[416:464] == b"\x11" * 48
    assert not any(xs.to_compacted(area, SPR, xcomp_bv=0x200E7).data[464:512])
    assert xs.to_standard(area, SPR, software="zero").data[416:512] == bytes(96)


def test_software_bytes_that_tell_nothing_stay() -> None:
    area = told(0xE7, 2688)
    area[480] = 0x55
    assert xs.to_standard(area, ICE).data[416:512] == area[416:512]
    assert xs.to_compacted(area, ICE).data[416:512] == area[416:512]


def test_a_mask_that_is_no_xcr0() -> None:
    with pytest.raises(XsaveError, match="tilecfg without tiledata"):
        SPR.limited(xcr0=0x200E7)
    layout = SPR.standard_layout(0x200E7)
    assert (layout.size, "tiledata" in layout) == (2816, False)
    found = one(bytes(frame(0x200E7, 2816)))
    assert (found.label, found.area.model.xcr0) == ("signal frame (64-bit)", 0x200E7)
    assert found.area.layout.mask == 0x200E7
    again = pickle.loads(pickle.dumps(found.area.model))
    assert (again.xcr0, again.name) == (0x200E7, found.area.model.name)


# Files that are no areas.


# What is packed in a way that is read is unpacked first: see test_artefacts_containers.py.
PACKED = {mark for kind in KINDS for mark in kind.marks}
REFUSED = [kind for kind in FOREIGN if kind.magic not in PACKED]


@pytest.mark.parametrize("kind", REFUSED, ids=lambda kind: kind.magic)
def test_known_foreign_files_are_refused_by_name(kind: Any, tmp_path: Path) -> None:
    for size in (4096, 2440):
        data = bytearray(size)
        data[kind.offset : kind.offset + len(kind.magic)] = kind.magic
        path = tmp_path / "file"
        path.write_bytes(data)
        for command in (["decode"], ["decode", "--lenient"], ["check"], ["identify"]):
            named = [] if command == ["identify"] else ["--model", "haswell"]
            said = fails(*command, str(path), *named)
            assert f"is {kind.name}: {kind.way_out}" in said


def test_a_bare_area_in_a_file_must_look_like_one(tmp_path: Path) -> None:
    path, out = tmp_path / "area", tmp_path / "out"
    for at, value, rule in ((528, 1, "header-16-23"), (575, 1, "header-24-63"), (27, 1, "mxcsr")):
        area = bytearray(ZEN4)
        area[at] = value
        path.write_bytes(area)
        for command in (["decode"], ["diff", str(path)], ["convert", "-o", str(out)]):
            said = fails(*command, str(path), "--model", "zen4")
            assert "does not look like an area" in said
            assert f"[{rule}]" in said
        assert not out.exists()
        # Nothing is hidden of one that is nearly an area; and the user may insist.
        (shown_,) = tell("decode", str(path), "--lenient")["areas"]
        assert [fault["rule"] for fault in shown_["faults"]] == [rule]
        standard = ["mxcsr", "header-16-23"]
        told = tell("check", str(path), "--model", "zen4", code=int(rule in standard))
        assert [fault["rule"] for fault in told["faults"]] == [rule] * (rule in standard)
        (shown_,) = tell("decode", str(path), "--model", "zen4", "--assume-model")["areas"]
        assert shown_["registers"]["k1"] == "0x8181a8cc369147eb"
    noise = random.Random(3).randbytes(4096)
    path.write_bytes(noise)
    assert "does not look like an area" in fails("decode", str(path), "--model", "haswell")
    # A stale MXCSR of a compacted area means nothing.
    packed = bytearray(
        xs.to_compacted(ZEN4[:512] + b"\xe5" + ZEN4[513:], ZEN, drop=["sse"], xcomp_bv=0xE5).data
    )
    packed[24:28] = b"\xff" * 4
    path.write_bytes(packed)
    run("decode", str(path), "--model", "zen4")


def test_an_illegal_header_in_an_artefact_is_told(tmp_path: Path) -> None:
    area = bytearray(ZEN4)
    area[528] = 1
    path = tmp_path / "core"
    path.write_bytes(zen4_core(areas=[bytes(area)]))
    assert "note: thread 100: header byte 16 is not 0 (0x01)" in run("decode", str(path)).stderr
    (shown_,) = tell("decode", str(path))["areas"]
    assert any("header byte 16 is not 0" in note for note in shown_["notes"])


# Many areas.


def test_a_file_of_many_areas_is_held_to_the_evidence(tmp_path: Path) -> None:
    good = [bytes(told(0xE7, 2696)) for _ in range(5)]
    rows = [
        *good[:2],
        bytes(told(0x600E7, 2696)),
        *good[2:],
        bytes(told(0, 2696, mxcsr_mask=0x2FFFF)),
    ]
    path, out = tmp_path / "in", tmp_path / "out"
    path.write_bytes(b"".join(rows))
    command = [
        "convert",
        "--batch",
        str(path),
        "--model",
        "ice-lake-server",
        "--format",
        "compacted",
    ]
    command += ["--stride", "2696", "-o", str(out)]
    said = run(*command, code=1).stderr
    assert "limited to XCR0 0xE7 by the first area" in said
    assert "area 2: model ice-lake-server did not write this" in said
    result = run(*command, "--errors", "skip", code=1)
    assert "area 2: model" in result.stderr
    assert "area 6: model ice-lake-server did not write this: MXCSR_MASK" in result.stderr
    # The first area's system had no PKRU enabled.
    mask = 0xE7 | ICE.xss
    size = ICE.compacted_layout(mask).size
    data = out.read_bytes()
    for index, row in enumerate(rows):
        part = data[index * size : (index + 1) * size]
        wanted = bytes(size) if index in (2, 6) else xs.to_compacted(row, ICE, xcomp_bv=mask).data
        assert part == wanted
    run(*command, "--assume-model", "--errors", "copy")


def test_offsets_that_a_file_does_not_have_are_nobodys_word(tmp_path: Path) -> None:
    from writers import criu
    from writers.state import State

    path, out = tmp_path / "core.json", tmp_path / "out"
    path.write_bytes(criu.as_json(criu.fields(State(), 0xE7)))
    (found,) = artefacts.open(path)
    assert found.origin == "assembled"
    command = ["convert", str(path), "-o", str(out)]
    assert "holds registers but no offsets" in fails(*command)
    assert "holds registers and no offsets" in fails("identify", str(path))
    run(*command, "--model", "ice-lake-server")
    area = xs.XsaveArea.parse(out.read_bytes(), ICE)
    assert area.registers["k1"] == State().k[1]


def test_without_a_word_of_anybody_candidates_of_other_layouts_are_an_error() -> None:
    with pytest.raises(IdentificationError):
        one(bytes(told(0, 11008, 0x27, 0)))
    assert one(FRAME).area.model.name == "zen4"


def test_conversions_are_held_to_the_evidence_and_launder_none() -> None:
    for data, source in (
        (told(0x602E7, xstate_bv=3), ZEN),
        (told(0, mxcsr_mask=0x2FFFF, xstate_bv=3), ICE),
    ):
        rows = np.frombuffer(bytes(data), np.uint8).reshape(1, -1)
        for convert in (xs.to_standard, xs.to_compacted):
            with pytest.raises(EvidenceError):
                convert(data, source)
            done = convert(data, source, assume=True)
            whole = xs.XsaveArea.parse(data, source, assume=True)
            assert convert(whole, source).data == done.data
        for target in (source, xs.load_model("haswell")):
            with pytest.raises(EvidenceError):
                xs.relayout(data, source=source, target=target)
            done = xs.relayout(data, source=source, target=target, assume=True)
            many = batch.relayout(
                rows, source=source, target=target, format="standard", assume=True
            )
            assert many.data[0].tobytes() == done.data
            refused = batch.relayout(
                rows, source=source, target=target, format="standard", errors="skip"
            )
            assert isinstance(refused.errors[0], EvidenceError)


def test_a_policy_for_software_bytes_that_does_not_exist() -> None:
    for convert in (xs.to_standard, xs.to_compacted):
        with pytest.raises(XsaveError, match="pass 'keep' or 'zero', not str 'Keep'"):
            convert(bytes(told(0xE7, 2688)), ICE, software="Keep")  # type: ignore[arg-type]
    with pytest.raises(XsaveError, match="64 bits"):
        xs.to_compacted(bytes(told(0xE7, 2688)), ICE, xcomp_bv=1 << 64 | 7)


def test_what_attackers_found(tmp_path: Path) -> None:
    path, out = tmp_path / "area", tmp_path / "out"
    # A bit of MXCSR that only AMD's CPUs have does not go to Intel's.
    mm = bytearray(ZEN4)
    struct.pack_into("<I", mm, 24, 0x21F80)
    path.write_bytes(mm)
    said = fails("convert", str(path), "--cpu", "ice-lake-server", "-o", str(out))
    assert "MXCSR 0x21f80 has bits 0x20000" in said
    # A mask that told nothing in a compacted area tells nothing in what is made of it.
    packed = bytearray(xs.to_compacted(ZEN4, ZEN, xcomp_bv=7, drop=range(63)).data)
    packed[464:472] = (0x2E7).to_bytes(8, "little")
    made = xs.relayout(packed, source=ZEN, target=xs.load_model("zen2"), format="standard")
    assert evidence.shown_in(memoryview(made.data), xs.load_model("zen2")) == Shown(0x207, 464)
    # What check writes of a frame is an area of its own.
    path.write_bytes(FRAME)
    run("check", str(path), "--fix", str(out))
    assert tell("decode", str(out))["areas"][0]["registers"]["k1"] == "0x8181a8cc369147eb"
    # A frame's notes are told by check, too.
    path.write_bytes(FRAME[:2432] + bytes(4))
    assert "check --target sigreturn tells" in run("check", str(path)).stderr
    # What XSTATE_BV has beyond xfeatures is not loaded by sigreturn.
    odd = bytearray(FRAME)
    struct.pack_into("<Q", odd, 472, 7)
    struct.pack_into("<I", odd, 480, 832)
    struct.pack_into("<I", odd, 468, 836)
    found = one(bytes(odd[:832]) + FRAME[2432:], "zen4", strict=False)
    assert any("in XSTATE_BV, but not in xfeatures" in text for text in found.notes)
    # Zeros are nobody's area.
    for size in (576, 832, 2696):
        path.write_bytes(bytes(size))
        assert "nothing is in use" in fails("decode", str(path), "--model", "haswell")
    # Rows of many areas that another CPU wrote are not read.
    rows = np.frombuffer(ZEN4, np.uint8).reshape(1, -1)
    with pytest.raises(batch.BatchError, match="model skylake-server did not write this"):
        batch.decode(rows, xs.load_model("skylake-server"))

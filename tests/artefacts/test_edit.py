"""Writing: registers in an area of a file, the layout note of a core; whole or not at all."""

from __future__ import annotations

import os
import re
import stat
import struct
import subprocess
from pathlib import Path

import captures
import cores
import pytest
from artefact_areas import INTEL, ZEN4, ZEN4_LAYOUT, host_areas, intel_area, same_registers

import xsaveschema as xs
from xsaveschema import artefacts
from xsaveschema.artefacts.elf_file import ElfCore
from xsaveschema.errors import (
    EvidenceError,
    HeaderError,
    IdentificationError,
    NoPlaceError,
    UnknownComponentError,
    UnknownSampleError,
    ValueRangeError,
    XsaveError,
)


@pytest.fixture
def core(tmp_path: Path) -> Path:
    """A core of two threads without a layout note."""
    path = tmp_path / "core"
    path.write_bytes(cores.core(cores.threads([ZEN4, ZEN4])))
    path.chmod(0o640)
    return path


def areas(path: Path) -> list[artefacts.Found]:
    return list(artefacts.open(path))


# Registers.


def test_patch_changes_one_threads_registers_alone(core: Path) -> None:
    out = core.with_name("out")
    before = core.read_bytes()
    done = artefacts.patch(
        core, out, {"zmm17": 1 << 500, "mxcsr": 0x1FA0, "avx.ymm_hi128[3]": 7}, area="101"
    )
    assert (done.path, done.what) == (out, "thread 101")
    assert core.read_bytes() == before
    first, second = areas(out)
    assert bytes(first.area) == ZEN4
    assert second.area.registers["zmm17"] == 1 << 500
    assert second.area.registers["mxcsr"] == 0x1FA0
    assert second.area.registers["ymm3"] >> 128 == 7
    wanted = xs.XsaveArea.parse(bytearray(ZEN4), second.area.model)
    wanted.registers["zmm17"] = 1 << 500
    wanted.registers["mxcsr"] = 0x1FA0
    wanted["avx"]["ymm_hi128"][3] = 7
    assert bytes(second.area) == bytes(wanted)
    written = out.read_bytes()
    assert len(written) == len(before)
    assert second.offset is not None
    end = second.offset + len(ZEN4)
    assert written[: second.offset] == before[: second.offset]
    assert written[end:] == before[end:]
    assert stat.S_IMODE(out.stat().st_mode) == 0o640


def test_patch_takes_lanes_of_a_type(core: Path) -> None:
    out = core.with_name("out")
    lanes = ["nan(0x1)", "-0.0", "1.5", *map(str, range(13))]
    registers = {"zmm3": f"f32:{','.join(lanes)}", "st0": "f80:-1.5", "k1": "i8:-1,0,0,0,0,0,0,1"}
    artefacts.patch(core, out, registers, area="100")
    area = areas(out)[0].area
    wanted = struct.pack("<3I13f", 0x7F800001, 0x80000000, 0x3FC00000, *range(13))
    assert area.registers["zmm3"] == int.from_bytes(wanted, "little")
    assert area.registers["st0"] == 0xBFFFC000000000000000
    assert area.registers["k1"] == 0x01000000000000FF


@pytest.mark.parametrize(
    ("registers", "said"),
    [
        ({"zmm3": "f32:1.0"}, "zmm3: takes 16 lanes of f32, not 1"),
        ({"zmm3": "f33:1.0"}, "zmm3: there is no type 'f33'; types: f16"),
        ({"zmm3": "1.0"}, "zmm3: there is no type '1.0'"),
        ({"k1": "hex:0000000000001234"}, "k1: hex takes 0x and digits, or whole bytes, not"),
        ({"k1": "u64:1e3"}, "k1: u64 takes an integer, not '1e3'"),
        ({"st0": "f80:one"}, "st0: f80 takes a number, not 'one'"),
        ({"st0": "f32:1"}, "st0 is one 80-bit floating-point number"),
        ({"zmm3": "f80:1"}, "zmm3: there is no type 'f80'"),
        ({"sse.mxcsr": "u32:1"}, "has no register 'sse.mxcsr'"),
    ],
)
def test_lanes_that_are_refused(core: Path, registers: dict[str, str], said: str) -> None:
    out = core.with_name("out")
    with pytest.raises(XsaveError, match=re.escape(said)):
        artefacts.patch(core, out, registers, area="100")
    assert not out.exists()


@pytest.mark.parametrize(
    ("registers", "said"),
    [
        ({"xmm0": 5, "zmm0": 0}, "zmm0 changes xmm0, which is set, too"),
        ({"zmm0": 0, "xmm0": 5}, "xmm0 changes zmm0, which is set, too"),
        ({"mxcsr": 0x1FA0, "sse.mxcsr": 0x1F80}, "sse.mxcsr changes mxcsr"),
        ({"avx.ymm_hi128[3]": 1, "ymm3": "u64:1,2,3,4"}, "ymm3 changes avx.ymm_hi128[3]"),
        ({"mm0": 5, "fsw": 0x1800}, "fsw changes mm0"),  # which TOP says the place of
    ],
)
def test_settings_that_undo_one_another_are_refused(
    core: Path, registers: dict[str, int | str], said: str
) -> None:
    out = core.with_name("out")
    with pytest.raises(XsaveError, match=re.escape(said)):
        artefacts.patch(core, out, registers, area="100")
    assert not out.exists()


def test_settings_that_agree_are_taken(core: Path) -> None:
    out = core.with_name("out")
    artefacts.patch(core, out, {"fsw": 0x1800, "mm0": 5, "xmm0": 7, "zmm0": 7}, area="100")
    (first, _) = areas(out)
    assert first.area.registers.read(["fsw", "mm0", "zmm0"]) == {
        "fsw": 0x1800,
        "mm0": 5,
        "zmm0": 7,
    }


def test_patch_in_place_keeps_the_link_and_the_permissions(core: Path) -> None:
    link = core.with_name("link")
    link.symlink_to(core)
    core.chmod(0o600)
    artefacts.patch(link, registers={"k1": 5}, area="thread 100", in_place=True)
    assert link.is_symlink()
    assert stat.S_IMODE(core.stat().st_mode) == 0o600
    assert [found.area.registers["k1"] == 5 for found in areas(core)] == [True, False]
    assert sorted(p.name for p in core.parent.iterdir()) == ["core", "link"]


def test_patch_of_other_artefacts(tmp_path: Path) -> None:
    frame = (captures.FOLDER / "linux-sigframe.bin").read_bytes()
    kvm = ZEN4.ljust(4096, b"\0")
    for name, data in {"frame": frame, "kvm": kvm, "raw": ZEN4, "32": bytes(112) + frame}.items():
        path, out = tmp_path / name, tmp_path / f"{name}.out"
        if name == "32":
            data = data[: 112 + 468] + struct.pack("<I", 2436 + 112) + data[112 + 472 :]
        path.write_bytes(data)
        artefacts.patch(path, out, {"k1": 5})
        (found,) = artefacts.open(out)
        assert found.area.registers["k1"] == 5
        changed = [i for i, (a, b) in enumerate(zip(data, out.read_bytes(), strict=True)) if a != b]
        start = 832 + 8 + (112 if name == "32" else 0)
        assert set(changed) <= set(range(start, start + 8))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"registers": {"k1": 5}}, XsaveError, r"more than one area .thread 100 .#0., thread 10"),
        ({"registers": {"k1": 5}, "area": "7"}, XsaveError, r"no area '7'; it has th"),
        ({"registers": {"k9": 5}, "area": "100"}, UnknownComponentError, "no register 'k9'"),
        ({"registers": {"x.y": 5}, "area": "100"}, UnknownComponentError, "no register 'x.y'"),
        ({"registers": {"avx.y": 5}, "area": "100"}, UnknownComponentError, "no field avx.y"),
        ({"registers": {"pkru": 5}, "area": "100"}, NoPlaceError, "pkru has no place"),
        ({"registers": {"k1": 1 << 64}, "area": "100"}, ValueRangeError, "k1 takes 0"),
    ],
)
def test_patch_faults_change_nothing(
    core: Path, arguments: dict[str, object], error: type[XsaveError], message: str
) -> None:
    before = core.read_bytes()
    for extra in ({"out": core.with_name("out")}, {"in_place": True}):
        with pytest.raises(error, match=message):
            artefacts.patch(core, **arguments, **extra)  # type: ignore[arg-type]
    assert [p.name for p in core.parent.iterdir()] == ["core"]
    assert core.read_bytes() == before


def test_two_areas_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(cores.core(cores.threads([ZEN4]) * 2))
    with pytest.raises(XsaveError, match=r"several areas called .100.: thread 100 .#0., thr"):
        artefacts.patch(path, registers={"k1": 1}, area="100", in_place=True)


def test_an_area_with_faults_is_not_patched_but_its_neighbour_is(tmp_path: Path) -> None:
    bad = bytearray(ZEN4)
    bad[520] = 1
    path = tmp_path / "core"
    path.write_bytes(cores.core(cores.threads([bytes(bad), ZEN4])))
    with pytest.raises(HeaderError):
        artefacts.patch(path, registers={"k1": 1}, area="100", in_place=True)
    artefacts.patch(path, registers={"k1": 1}, area="101", in_place=True)
    assert list(artefacts.open(path, strict=False))[1].area.registers["k1"] == 1


def test_a_sample_is_patched_into_another_file(tmp_path: Path) -> None:
    out = tmp_path / "out"
    artefacts.patch("sample:avx512-core", out, {"k1": 7}, "#1")
    found = [each.area.registers["k1"] for each in artefacts.open(out)]
    before = [each.area.registers["k1"] for each in artefacts.open("sample:avx512-core")]
    assert found == [before[0], 7, before[2]] != before
    with pytest.raises(artefacts.ArtefactError, match="a sample stays as it is"):
        artefacts.patch("sample:avx512-core", None, {"k1": 7}, "#1", in_place=True)
    with pytest.raises(UnknownSampleError):
        artefacts.patch("sample:../edit", out, {"k1": 7})


def test_patch_says_what_was_there_and_what_is_there(core: Path) -> None:
    out = core.with_name("out")
    done = artefacts.patch(core, out, {"mxcsr": 0x1F80, "sse.mxcsr_mask": 0xFFBF}, area="#0")
    assert done.before is not None
    assert done.after is not None
    assert (bytes(done.before), bytes(done.after)) == (ZEN4, bytes(areas(out)[0].area))
    told = [(delta.path, delta.kind, delta.a, delta.b) for delta in done.deltas]
    assert told == [
        ("sse.mxcsr", "state", 0x9FA1, 0x1F80),
        ("sse.mxcsr_mask", "mask", 0x2FFFF, 0xFFBF),
    ]
    assert artefacts.patch(out, core.with_name("again"), {"mxcsr": 0x1F80}, "#0").deltas == []
    # Neither is missing where there is no area.
    (core.with_name("plain")).write_bytes(cores.core(cores.threads([ZEN4])))
    noted = artefacts.add_layout(core.with_name("plain"), core.with_name("with"))
    assert (noted.before, noted.after, noted.deltas) == (None, None, [])


def test_patch_notes_what_a_processor_loads_otherwise(tmp_path: Path) -> None:
    """FCW 5 is loaded as 0x45 by Intel (laws/test_captures_silicon.py), as diff has it."""
    path = tmp_path / "area"
    path.write_bytes(bytes(intel_area()))
    done = artefacts.patch(path, tmp_path / "out", {"fcw": 5})
    assert done.notes[-1] == (
        "x87 is loaded otherwise than it is stored: an Intel CPU has not all of the stored bits "
        "of fcw"
    )
    (delta,) = done.deltas
    assert (delta.path, delta.a, delta.b) == ("x87.fcw", 0x37F, 0x45)


def test_where_to_write(core: Path) -> None:
    registers = {"k1": 1}
    with pytest.raises(artefacts.ArtefactError, match="either name a file to write"):
        artefacts.patch(core, registers=registers, area="100")
    with pytest.raises(artefacts.ArtefactError, match="either name a file to write"):
        artefacts.patch(core, core.with_name("out"), registers, "100", in_place=True)
    (core.with_name("same")).hardlink_to(core)
    with pytest.raises(artefacts.ArtefactError, match="is the file that is read"):
        artefacts.patch(core, core.with_name("same"), registers, "100")
    for place in (core.parent, Path("/dev/null")):
        with pytest.raises(XsaveError, match="is no regular file, and cannot be replaced by one"):
            artefacts.patch(core, place, registers, "100")
    with pytest.raises(FileNotFoundError) as caught:
        artefacts.patch(core, core.parent / "no" / "out", registers, "100")
    assert caught.value.filename == os.fspath(core.parent / "no" / "out")
    with pytest.raises(XsaveError, match="null"):
        artefacts.patch(core, "a\0b", registers, "100")
    with pytest.raises(artefacts.ArtefactError, match="a live thread is written to where it is"):
        artefacts.patch("pid:self", core, registers)


def test_a_write_that_fails_leaves_nothing(core: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = core.with_name("out")
    out.write_bytes(b"before")

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        artefacts.patch(core, out, {"k1": 1}, "100")
    assert caught.value.filename == os.fspath(out)
    assert out.read_bytes() == b"before"
    assert sorted(p.name for p in core.parent.iterdir()) == ["core", "out"]


def test_a_reader_that_cannot_write(core: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class ReadOnly:
        name, title = "read-only", "a made-up file"

        def recognises(self, data: memoryview) -> bool:
            return True

    monkeypatch.setattr("xsaveschema.artefacts.edit.recognise", lambda data, assume: ReadOnly())
    with pytest.raises(artefacts.ArtefactError, match="a made-up file: an edited area cannot be"):
        artefacts.patch(core, registers={"k1": 1}, in_place=True)


def test_holes_stay_holes(tmp_path: Path) -> None:
    path, out = tmp_path / "core", tmp_path / "out"
    data = cores.core(cores.threads([ZEN4]))
    with path.open("wb") as file:
        file.write(data)
        file.truncate(1 << 30)
        file.seek(512 << 20)
        file.write(b"in the middle")
    if path.stat().st_blocks * 512 > 1 << 20:
        pytest.skip("this file system has no holes")
    artefacts.patch(path, out, {"k1": 1})
    assert out.stat().st_blocks * 512 < 1 << 20
    assert out.stat().st_size == 1 << 30
    with out.open("rb") as file:
        file.seek(512 << 20)
        assert file.read(13) == b"in the middle"


@pytest.mark.parametrize("missing", ["copy_file_range", "SEEK_DATA"])
def test_copying_where_the_system_does_not_help(
    missing: str, core: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, missing)
    out = core.with_name("out")
    artefacts.patch(core, out, {"k1": 1}, "100")
    artefacts.patch(
        out, registers={"k1": areas(core)[0].area.registers["k1"]}, area="100", in_place=True
    )
    assert out.read_bytes() == core.read_bytes()


# The layout note.


def readelf(path: Path, *options: str) -> str:
    try:
        done = subprocess.run(
            ["readelf", *options, path], capture_output=True, text=True, check=True
        )
    except FileNotFoundError:
        pytest.skip("there is no readelf")
    assert "Warning" not in done.stderr
    return done.stdout


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("align", [4, 8])
@pytest.mark.parametrize("sections", [False, True])
def test_add_layout(bits: int, align: int, sections: bool, tmp_path: Path) -> None:
    path, out = tmp_path / "core", tmp_path / "out"
    notes = cores.threads([ZEN4, ZEN4], 100, bits, align)
    before = cores.core(notes, bits=bits, align=align, sections=sections)
    path.write_bytes(before)
    done = artefacts.add_layout(path, out)
    assert done.layout_source == "identified by XCR0 mask at byte 464 and size"
    found = areas(out)
    assert [f.layout_source for f in found] == ["NT_X86_XSAVE_LAYOUT"] * 2
    assert [bytes(f.area) for f in found] == [ZEN4, ZEN4]
    written = out.read_bytes()
    assert cores.note(b"LINUX", cores.LAYOUT, ZEN4_LAYOUT, align) in written
    told = readelf(out, "-lnW")
    assert told.count("NT_X86_XSTATE") == 2
    assert told.count("0x00000040") >= 1  # four rows
    if sections:
        (segment,) = ElfCore(memoryview(written)).segments
        assert f"{segment.offset:06x} {segment.size:06x}" in readelf(out, "-SW")
    # All but the headers stays where it was.
    segments = ElfCore(memoryview(before)).segments
    assert (
        written[segments[0].offset : len(before) - 200]
        == (before[segments[0].offset : len(before) - 200])
    )


def test_add_layout_with_a_model(core: Path) -> None:
    out = core.with_name("out")
    artefacts.add_layout(core, out, xs.load_model("zen5"))
    assert cores.note(b"LINUX", cores.LAYOUT, ZEN4_LAYOUT) in out.read_bytes()
    with pytest.raises(EvidenceError, match="MXCSR_MASK is 0x2FFFF, with bits 0x20000 that sky"):
        artefacts.add_layout(core, out, xs.load_model("skylake-server"))


def test_a_core_of_the_kernel_keeps_its_memory(tmp_path: Path) -> None:
    model, loaded = host_areas(2)
    with cores.loaded(loaded, tmp_path, crash=True) as program:
        core = cores.kernel_core(tmp_path)
        # As a kernel before 6.12 writes it: the layout note, if any, gets another type.
        data = core.read_bytes()
        at = data.rfind(struct.pack("<I", cores.LAYOUT) + b"LINUX\0\0\0")
        if at >= 0:
            core.write_bytes(data[:at] + struct.pack("<I", 0x7777) + data[at + 4 :])
        out = tmp_path / "out"
        artefacts.add_layout(core, out)
        for found in areas(out):
            assert found.layout_source == "NT_X86_XSAVE_LAYOUT"
            index = program.threads[int(found.label.removeprefix("thread "))]
            same_registers(found.area, model, loaded[index])
        told = [
            cores.gdb(
                "info registers rip", "x/4i $rip", folder=tmp_path, arguments=["-c", str(path)]
            )
            for path in (core, out)
        ]
        assert "ud2" in told[1]
        assert told[0] == told[1]


def test_what_gets_no_layout_note(core: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def refused(
        data: bytes, message: str, error: type[XsaveError] = artefacts.ArtefactError
    ) -> None:
        core.write_bytes(data)
        with pytest.raises(error, match=message):
            artefacts.add_layout(core, out)
        assert not out.exists()

    refused(ZEN4, "is no ELF core")
    refused(cores.core(cores.threads([ZEN4]) + cores.layout_note(INTEL[:1])), "_LAYOUT already")
    refused(cores.core(cores.threads([ZEN4]))[:-5], "the core is cut off: its segments reach to")
    refused(cores.core(cores.threads([ZEN4 + bytes(64)])), "2496 bytes under XCR0 mask 0xE7 do not")
    avx512 = bytes(intel_area(2688, 0xE7))
    refused(cores.core(cores.threads([ZEN4, avx512])), "thread 101: laid out unlike")
    ambiguous = bytes(intel_area(2600, 0x207, 0x2FFFF))
    refused(cores.core(cores.threads([ambiguous])), "several models fit", IdentificationError)


def test_the_layout_note_of_a_gcore_is_of_the_layout_that_it_has(tmp_path: Path) -> None:
    path, out = tmp_path / "core", tmp_path / "out"
    path.write_bytes(cores.core(cores.threads([bytes(intel_area(2688, 0xE7, 0))])))
    done = artefacts.add_layout(path, out)
    assert "wrote this core, not the kernel" in done.notes[0]
    assert cores.layout_note(INTEL[:4]) in out.read_bytes()

"""ELF cores: written by a kernel and by GDB on this machine, captured on a Zen 4, and made up."""

from __future__ import annotations

import struct
from pathlib import Path

import cores
import frames
import pytest
from artefact_areas import (
    INTEL,
    REGISTERS,
    ZEN4,
    ZEN4_LAYOUT,
    host_areas,
    intel_area,
    one,
    read,
    same_registers,
    zen4_core,
)

from xsaveschema import artefacts
from xsaveschema.artefacts import elf_notes
from xsaveschema.errors import (
    EvidenceError,
    HeaderError,
    IdentificationError,
    TooShortError,
    XsaveError,
)

# A core of a Zen 4 that GDB 13 cannot read: mask 0xE7, 2432 bytes.


@pytest.mark.parametrize("layout", [True, False])
def test_every_register_of_a_zen4_core_is_what_the_program_loaded(layout: bool) -> None:
    found = one(zen4_core(layout=layout))
    assert found.label == "thread 100"
    area = found.area.registers
    for n in range(32):
        assert area[f"zmm{n}"] == int.from_bytes(REGISTERS[64 * n : 64 * n + 64], "little"), n
    for n in range(8):
        assert area[f"k{n}"] == int.from_bytes(REGISTERS[2048 + 8 * n :][:8], "little"), n
    assert area["mxcsr"] == int.from_bytes(REGISTERS[2112:2116], "little")
    assert (found.area.model.name, found.area.model.xcr0, found.notes) == ("zen4", 0xE7, ())
    source = "NT_X86_XSAVE_LAYOUT" if layout else "identified by XCR0 mask at byte 464 and size"
    assert found.layout_source == source


def test_the_offset_is_the_areas_place_in_the_file() -> None:
    data = zen4_core(areas=[ZEN4, ZEN4[::-1][:2432][::-1]])
    for found in read(data):
        assert found.offset is not None
        assert data[found.offset : found.offset + len(found.area)] == bytes(found.area)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("align", [4, 8])
def test_classes_and_alignments(bits: int, align: int) -> None:
    odd = cores.note(b"odd", 77, b"12345", align)  # padding that 4 and 8 do differently
    notes = odd + cores.threads([ZEN4, ZEN4], 7, bits, align)
    notes += cores.layout_note([(2, 256, 576), (5, 64, 832), (6, 512, 896), (7, 1024, 1408)], align)
    data = cores.core(notes, bits=bits, align=align)
    assert [found.label for found in read(data)] == ["thread 7", "thread 8"]
    assert {found.layout_source for found in read(data)} == {"NT_X86_XSAVE_LAYOUT"}


@pytest.mark.parametrize("bits", [32, 64])
def test_more_program_headers_than_e_phnum_can_say(bits: int) -> None:
    data = cores.core(cores.threads([ZEN4], bits=bits), bits=bits, many=70_000)
    assert data[56 if bits == 64 else 44 :][:2] == b"\xff\xff"
    assert one(data).label == "thread 100"


def test_freebsd() -> None:
    notes = b""
    for pid in (100_101, 100_102):
        notes += cores.freebsd_prstatus(pid) + cores.note(b"FreeBSD", cores.XSTATE, ZEN4)
    assert [found.label for found in read(cores.core(notes))] == ["thread 100101", "thread 100102"]


def test_two_note_segments_and_notes_of_other_owners() -> None:
    other = cores.note(b"LINUX", 0x200, bytes(200)) + cores.note(b"CORE", cores.XSTATE, bytes(9))
    data = cores.core(other + cores.threads([ZEN4]), cores.threads([ZEN4], 200))
    assert [found.label for found in read(data)] == ["thread 100", "thread 200"]


def test_an_area_without_a_thread_is_numbered() -> None:
    note = cores.note(b"LINUX", cores.XSTATE, ZEN4)
    assert [found.label for found in read(cores.core(note + note))] == ["area 0", "area 1"]


def test_threads_without_an_area_are_told_of() -> None:
    found = one(cores.core(cores.threads([ZEN4]) + cores.prstatus(5)))
    assert found.notes == ("1 threads have no NT_X86_XSTATE",)


def test_amx() -> None:
    rows = [*INTEL, (17, 64, 2752), (18, 8192, 2816)]
    area = intel_area(11008, 0x602E7)
    area[2752:2816] = bytes(64)
    area[2752] = 1  # palette 1
    struct.pack_into("<HH", area, 2752 + 16 + 2 * 3, 64, 0)
    area[2752 + 48 + 3] = 16
    for notes in (b"", cores.layout_note(rows)):
        found = one(cores.core(cores.threads([bytes(area)]) + notes))
        assert found.area.registers["tmm3"] == area[2816 + 3 * 1024 : 2816 + 4 * 1024]
        assert (found.area.model.xcr0, len(found.area)) == (0x602E7, 11008)


# What decides the layout.


def test_the_layout_note_outranks_the_named_model() -> None:
    with pytest.raises(EvidenceError) as caught:
        one(zen4_core(), "skylake-server")
    assert caught.value.said == "skylake-server"
    assert caught.value.facts[0] == "the core's NT_X86_XSAVE_LAYOUT is not skylake-server's layout"
    with pytest.raises(TooShortError, match="its hi16_zmm stands at 1664"):
        one(zen4_core(), "skylake-server", assume=True)
    found = one(zen4_core(), "zen3", strict=False, assume=True)
    assert (found.layout_source, found.area.assumed) == ("model zen3, assumed", True)
    # A model of this layout names the CPU; without one, others are laid out alike.
    assert one(zen4_core(), "zen5").area.model.name == "zen5"
    assert (one(zen4_core()).area.model.name, one(zen4_core()).others) == ("zen4", 2)


def test_a_named_model_that_fits_is_used_and_named() -> None:
    found = one(zen4_core(layout=False), "zen5")
    assert found.layout_source == "model zen5 limited to XCR0 0xE7 at byte 464"
    assert found.notes == ()


def test_a_named_model_that_does_not_fit_is_refused() -> None:
    area = intel_area(2688, 0xE7)
    core = cores.core(cores.threads([bytes(area)]))
    with pytest.raises(EvidenceError, match="do not fit: zen4 has 2432 under XCR0 0xE7"):
        one(core, "zen4")
    assert one(core).area.registers["k1"] == int.from_bytes(area[1096:1104], "little")
    found = one(core, "zen4", assume=True)
    assert found.area.registers["k1"] == int.from_bytes(area[840:848], "little")
    assert found.area.assumed


def test_a_named_model_is_used_where_the_catalogue_knows_nothing() -> None:
    area = intel_area(2600, 0x207, 0x2FFFF)  # no CPU has this size; Zen 2 and 3 differ in PKRU
    data = cores.core(cores.threads([bytes(area)]))
    with pytest.raises(IdentificationError, match="several models fit") as caught:
        one(data)
    assert caught.value.__notes__ == ["thread 100"]
    found = one(data, "zen3")
    assert found.layout_source == "model zen3"
    fault = "the area has 2600 bytes; zen3 takes 2440 for the mask 0x207 at byte 464"
    assert fault in found.notes


def test_an_area_longer_than_its_layout_is_told_of() -> None:
    found = one(cores.core(cores.threads([ZEN4 + bytes(300)])))
    assert found.area.model.name == "zen4"
    fault = "2732 bytes under XCR0 mask 0xE7 do not fit: zen4 has 2432 under XCR0 0xE7"
    assert found.notes == (fault,)
    found = one(cores.core(cores.threads([ZEN4 + bytes(300)])), "zen5")
    assert found.layout_source == "model zen5 limited to XCR0 0xE7 at byte 464"
    assert found.notes == (
        "the area has 2732 bytes; zen5 takes 2432 for the mask 0xE7 at byte 464",
    )


def test_a_layout_that_no_model_has_is_built_from_the_note() -> None:
    rows = [(2, 256, 576), (5, 64, 4096), (6, 512, 4160), (7, 1024, 4672), (20, 32, 5696)]
    area = bytearray(5728)
    struct.pack_into("<II", area, 24, 0x1F80, 0x2FFFF)
    struct.pack_into("<Q", area, 464, 0x1000E7)
    struct.pack_into("<Q", area, 512, 0x1000E7)
    area[4672 + 64 : 4672 + 128] = bytes(range(64))
    area[5696:] = bytes(range(100, 132))
    found = one(cores.core(cores.threads([bytes(area)]) + cores.layout_note(rows)))
    assert found.area.registers["zmm17"] == int.from_bytes(bytes(range(64)), "little")
    assert found.area.raw["component20"] == bytes(range(100, 132))
    model = found.area.model
    assert (model.name, model.source) == ("nt-x86-xsave-layout", "NT_X86_XSAVE_LAYOUT")
    assert (model.mxcsr_mask, found.notes) == (0x2FFFF, ())


def test_the_mask_at_464_limits_the_layout_note() -> None:
    area = bytearray(ZEN4)
    struct.pack_into("<Q", area, 464, 7)
    struct.pack_into("<Q", area, 512, 7)
    found = one(zen4_core(areas=[bytes(area)]))
    assert found.area.model.xcr0 == 7
    assert found.notes == ("the area has 2432 bytes, but NT_X86_XSAVE_LAYOUT describes 832",)


def test_a_mask_beyond_the_layout_note_is_told_of() -> None:
    area = bytearray(ZEN4)
    struct.pack_into("<Q", area, 464, 0x2E7)
    (note,) = one(zen4_core(areas=[bytes(area)])).notes
    assert note == "the XCR0 mask at byte 464 is 0x2E7, but NT_X86_XSAVE_LAYOUT describes 0xE7"


def test_flags_of_the_layout_note_are_told_of() -> None:
    layout = bytearray(ZEN4_LAYOUT)
    layout[12] = 2
    data = cores.core(cores.threads([ZEN4]) + cores.note(b"LINUX", cores.LAYOUT, bytes(layout)))
    assert one(data).notes == (
        "NT_X86_XSAVE_LAYOUT has flags 0x2, whose meaning is not known here",
    )


def test_mxcsr_mask_tells_vendors_apart() -> None:
    area = bytearray(832)
    struct.pack_into("<II", area, 24, 0x1F80, 0x2FFFF)
    struct.pack_into("<Q", area, 464, 7)
    struct.pack_into("<Q", area, 512, 7)
    found = one(cores.core(cores.threads([bytes(area)])))
    assert found.area.model.mxcsr_mask == 0x2FFFF
    struct.pack_into("<I", area, 28, 0xFFFF)
    assert one(cores.core(cores.threads([bytes(area)]))).area.model.mxcsr_mask == 0xFFFF


# GDB's gcore.


@pytest.mark.parametrize(("tdesc", "mxcsr_mask"), [(True, 0), (False, 0), (True, 0xFFFF)])
def test_gcore_of_gdb_13_on_amd(tdesc: bool, mxcsr_mask: int) -> None:
    """What GDB 13 writes on a Zen 4: Intel's layout, MXCSR_MASK 0, XSTATE_BV = XCR0 = 0xE7."""
    notes = cores.threads([bytes(intel_area(2688, 0xE7, mxcsr_mask))])
    if tdesc:
        notes += cores.note(b"GDB", 0xFF000000, b"<?xml")
    *tiles, note = one(cores.core(notes)).notes
    assert [text[:40] for text in tiles] == ["GDB's gcore (seen of 13) leaves AMX stat"] * tdesc
    who = "GDB's gcore" if tdesc else "a debugger (MXCSR_MASK is 0)"
    assert note.startswith(f"{who} wrote this core, not the kernel: up to version 13 GDB writes")
    with pytest.raises(EvidenceError, match="do not fit: zen4 has 2432 under XCR0 0xE7"):
        one(cores.core(notes), "zen4")


def test_an_amd_processors_area_of_intels_size() -> None:
    data = cores.core(cores.threads([bytes(intel_area(2688, 0xE7, mxcsr_mask=0x2FFFF))]))
    (note,) = one(data).notes
    assert note.startswith("MXCSR_MASK 0x2FFFF is not ")
    assert note.endswith("fits 2688 bytes under XCR0 mask 0xE7")


def test_a_core_by_gcore(tmp_path: Path) -> None:
    model, areas = host_areas(3)
    with cores.loaded(areas, tmp_path) as program:
        said = cores.gdb(
            "gcore by-gdb", folder=tmp_path, arguments=["-p", str(program.process.pid)]
        )
        if not (tmp_path / "by-gdb").exists():
            pytest.skip(f"gcore wrote nothing: {said[-200:]}")
        seen = set()
        for found in artefacts.open(tmp_path / "by-gdb"):
            index = program.threads.get(int(found.label.removeprefix("thread ")))
            assert "identified by XCR0 mask" in found.layout_source
            if index is not None and model.xcr0 == 7:  # else GDB 13 may not know the layout
                same_registers(found.area, model, areas[index])
                seen.add(index)
        assert seen == ({0, 1, 2} if model.xcr0 == 7 else set())


# The kernel's cores.


@pytest.mark.parametrize("count", [1, 200])
def test_a_core_by_the_kernel(count: int, tmp_path: Path) -> None:
    model, areas = host_areas(count)
    with cores.loaded(areas, tmp_path, crash=True) as program:
        seen = []
        for found in artefacts.open(cores.kernel_core(tmp_path)):
            index = program.threads[int(found.label.removeprefix("thread "))]
            same_registers(found.area, model, areas[index])
            seen.append(index)
            assert found.layout_source in (
                "NT_X86_XSAVE_LAYOUT",
                "identified by XCR0 mask at byte 464 and size",
            )
        assert seen[0] == 0  # the thread that crashed
        assert sorted(seen) == list(range(count))


def test_a_core_of_a_32_bit_process_by_the_kernel(tmp_path: Path) -> None:
    frames.run(32, tmp_path)
    found = next(artefacts.open(cores.kernel_core(tmp_path)))
    for name in ("xmm0", "xmm7"):
        assert found.area.registers[name] == int.from_bytes(frames.DATA, "little")


# What is at fault.


def test_a_core_cut_off_at_every_length() -> None:
    data = zen4_core()
    end = data.index(b"memory of the process")
    for length in range(end):
        with pytest.raises(XsaveError):
            read(data[:length])
        try:
            read(data[:length], strict=False)
        except XsaveError:
            continue
    assert read(data[:end])


def test_what_is_whole_of_a_core_that_is_cut_off_is_read_where_not_strict() -> None:
    data = zen4_core(areas=[ZEN4, ZEN4])
    cut = data[: data.index(b"memory") - 1000]
    with pytest.raises(artefacts.ArtefactError, match="cut off"):
        read(cut)
    (found,) = read(cut, strict=False)
    assert found.label == "thread 100"
    assert "the core is damaged, threads may be missing" in found.notes[0]


def patched(data: bytes, at: int, value: int, size: int = 4) -> bytes:
    return data[:at] + value.to_bytes(size, "little") + data[at + size :]


def layout_core(*rows: tuple[int, int, int]) -> bytes:
    return cores.core(cores.threads([ZEN4]) + cores.layout_note(rows))


GOOD = zen4_core()
NOTES = 64 + 2 * 56
FAULTS = {
    "class": (patched(GOOD, 4, 9, 1), "ELF class 9, data encoding 1"),
    "big-endian": (patched(GOOD, 5, 2, 1), "ELF class 2, data encoding 2"),
    "program": (patched(GOOD, 16, 2, 2), "is a program, not a core dump"),
    "machine": (patched(GOOD, 18, 183, 2), "ELF machine 183, which is not x86"),
    "header-size": (patched(GOOD, 54, 55, 2), "program headers of 55 bytes, not 56"),
    "many-headers": (patched(GOOD, 56, 0xFFFE, 2), "before the end of its program headers"),
    "table-beyond": (patched(GOOD, 32, 1 << 62, 8), "before the end of its program headers"),
    "segment-beyond": (patched(GOOD, 64 + 32, 1 << 62, 8), "the file ends here, within the notes"),
    "segment-far": (patched(GOOD, 64 + 8, (1 << 64) - 8, 8), "the file ends here, within"),
    "name-size": (patched(GOOD, NOTES, 0xFFFFFFFF), "name of 4294967295 and a description of 336"),
    "size": (patched(GOOD, NOTES + 4, 0xFFFFFFF0), "description of 4294967280 bytes"),
    "overlap": (
        patched(patched(GOOD, 120, 4), 128, NOTES + 100, 8),
        r"note segments \[0xb0..0x[0-9a-f]+\) and \[0x114..0x[0-9a-f]+\) overlap",
    ),
    "no-area": (cores.core(cores.prstatus(1)), "no FXSAVE image, 1 threads and 1 note"),
    "no-notes": (cores.core(), "no FXSAVE image, 0 threads and 0 note"),
    "short-prstatus": (
        cores.core(cores.note(b"CORE", 1, bytes(35)) + cores.threads([ZEN4])),
        "NT_PRSTATUS of 35 bytes has no pid",
    ),
    "stray": (cores.core(cores.threads([ZEN4]) + b"\1" * 8), "8 bytes behind the last note are no"),
    "layout-length": (
        cores.core(cores.threads([ZEN4]) + cores.note(b"LINUX", cores.LAYOUT, bytes(20))),
        "of 20 bytes is no table of 16-byte rows",
    ),
    "layout-long": (
        cores.core(cores.threads([ZEN4]) + cores.note(b"LINUX", cores.LAYOUT, bytes(16 << 10))),
        "has too many components",
    ),
    "layout-overlap": (
        layout_core((2, 256, 576), (5, 64, 800)),
        r"component 2 \[0x240..0x340\) and component 5 \[0x320..0x360\) overlap",
    ),
    "layout-inside": (
        layout_core((2, 900, 576), (5, 64, 832), (9, 8, 1400)),
        r"component 2 \[0x240..0x5c4\) and component 5",
    ),
    "layout-twice": (layout_core((2, 256, 576), (2, 256, 576)), "component 2 stands there twice"),
    "layout-low": (layout_core((2, 256, 512)), "lies outside the extended region"),
    "layout-high": (layout_core((2, 256, 0xFFFFFF00)), "lies outside the extended region"),
    "layout-empty": (layout_core((2, 0, 576)), "lies outside the extended region"),
    "layout-number": (layout_core((63, 8, 576)), "component 63: the extended region has"),
    "layout-two": (
        cores.core(cores.threads([ZEN4]) + cores.layout_note(INTEL) + cores.layout_note(INTEL[:1])),
        "a second NT_X86_XSAVE_LAYOUT, which differs",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults(name: str) -> None:
    data, message = FAULTS[name]
    with pytest.raises(artefacts.ArtefactError, match=message) as caught:
        read(data)
    if caught.value.offset is not None:
        assert 0 <= caught.value.offset <= max(len(data), NOTES)


def test_faults_of_an_area_are_told_with_the_thread() -> None:
    with pytest.raises(TooShortError) as short:
        read(cores.core(cores.threads([ZEN4, ZEN4[:100]])))
    assert short.value.__notes__ == ["thread 101"]
    with pytest.raises(TooShortError, match=r"its hi16_zmm stands at 1408\.\.2432") as cut:
        read(zen4_core(areas=[ZEN4, ZEN4[:2000]]))
    assert cut.value.__notes__ == ["thread 101"]
    bad = bytearray(ZEN4)
    bad[520] = 1
    with pytest.raises(HeaderError, match="XCOMP_BV 0x1"):
        read(zen4_core(areas=[bytes(bad)]))
    found = one(zen4_core(layout=False, areas=[bytes(bad)]), strict=False)
    assert [fault.rule for fault in found.area.faults] == ["xcomp-bv-form"]
    assert found.area.model.name == "zen4"


def test_absurd_counts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elf_notes, "MAX_NOTES", 5)
    monkeypatch.setattr(elf_notes, "MAX_NOTE_SEGMENTS", 3)
    assert read(cores.core(cores.threads([ZEN4])))
    with pytest.raises(artefacts.ArtefactError, match="more than 5 notes"):
        read(cores.core(cores.threads([ZEN4, ZEN4])))
    with pytest.raises(artefacts.ArtefactError, match="more than 3 note segments"):
        read(cores.core(*[cores.prstatus(1)] * 4))
    many = patched(patched(GOOD, 56, 0xFFFF, 2), 40, NOTES, 8)
    many = patched(patched(many, 58, 64, 2), NOTES + 44, 0xFFFFFFFF)
    with pytest.raises(artefacts.ArtefactError, match="4294967295 program headers"):
        read(many)


def test_areas_of_too_many_shapes_are_refused() -> None:
    areas = []
    for number in range(80):
        area = bytearray(576 + number)
        struct.pack_into("<II", area, 24, 0x1F80, 0xFFFF)
        area[512] = 3
        areas.append(bytes(area))
    with pytest.raises(artefacts.ArtefactError, match="more than 64 different sizes"):
        read(cores.core(cores.threads(areas)), "sandy-bridge")


def test_an_area_longer_than_any() -> None:
    data = cores.core(cores.threads([bytes(artefacts.MAX_AREA + 4)]))
    with pytest.raises(artefacts.ArtefactError, match="which no area has"):
        read(data)

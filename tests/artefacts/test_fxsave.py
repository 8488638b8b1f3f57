"""ELF cores of other writers than Linux and GDB: FXSAVE images, and notes without an owner."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from shutil import which

import cores
import pytest
from artefact_areas import ZEN4, intel_area, one, read, zen4_core
from writers.state import State

from xsaveschema import XsaveArea, artefacts
from xsaveschema.artefacts.elf import READER
from xsaveschema.diff import diff
from xsaveschema.errors import XsaveError

FXSAVE, PRXFPREG = 2, 0x46E62B7F


def image(seed: int) -> bytes:
    return State(seed).legacy()


def linux(pid: int, bits: int = 64) -> bytes:
    kind, owner = (FXSAVE, b"CORE") if bits == 64 else (PRXFPREG, b"LINUX")
    short = cores.note(b"CORE", FXSAVE, bytes(108)) if bits == 32 else b""  # FSAVE
    return cores.prstatus(pid, bits) + short + cores.note(owner, kind, image(pid))


def netbsd(lwp: int, kind: int) -> bytes:
    return cores.note(b"NetBSD-CORE@%d" % lwp, 33, bytes(208)) + cores.note(
        b"NetBSD-CORE@%d" % lwp, kind, image(lwp)
    )


WRITERS = {
    "linux": cores.core(linux(7) + linux(8)),
    "linux i386": cores.core(linux(7, 32) + linux(8, 32), bits=32),
    "freebsd": cores.core(
        b"".join(
            cores.freebsd_prstatus(pid) + cores.note(b"FreeBSD", FXSAVE, image(pid))
            for pid in (7, 8)
        )
    ),
    "netbsd amd64": cores.core(
        cores.note(b"NetBSD-CORE", 1, bytes(160)) + netbsd(7, 35), netbsd(8, 35)
    ),
    "netbsd i386": cores.core(netbsd(7, 37) + netbsd(8, 37), bits=32),
}


@pytest.mark.parametrize("name", WRITERS)
def test_an_fxsave_image_is_the_legacy_region(name: str) -> None:
    found = read(WRITERS[name])
    assert [each.label for each in found] == ["thread 7", "thread 8"]
    for each, seed in zip(found, (7, 8), strict=True):
        said = State(seed).registers(3)
        assert each.area.registers.read(said) == said
        assert (each.origin, each.area.missing) == ("assembled", ())
        assert each.notes[0].startswith("an FXSAVE image: state beyond SSE")
        assert each.offset is not None
        assert WRITERS[name][each.offset : each.offset + 512] == image(seed)


def test_a_thread_number_of_netbsd_is_whole() -> None:
    assert one(cores.core(netbsd(1234567890, 35))).label == "thread 1234567890"


@pytest.mark.parametrize(
    "notes",
    [
        pytest.param(cores.prstatus(1) + cores.note(b"CORE", FXSAVE, bytes(108)), id="fsave"),
        pytest.param(cores.note(b"NetBSD-CORE@1", 33, bytes(512)), id="general registers"),
        pytest.param(cores.note(b"LINUX", FXSAVE, bytes(512)), id="another owner"),
    ],
)
def test_other_notes_are_no_fxsave_image(notes: bytes) -> None:
    with pytest.raises(artefacts.ArtefactError, match="no FXSAVE image"):
        read(cores.core(notes))


def test_a_core_with_areas_has_no_use_for_its_fxsave_images() -> None:
    assert [len(each.area) for each in read(zen4_core())] == [2432]


def test_an_edited_image_goes_back_and_nothing_behind_it_changes() -> None:
    data = WRITERS["linux"]
    found = read(data)[0]
    area = type(found.area).parse(bytearray(found.area.buffer), found.area.model)
    area.registers["xmm3"] = 5
    ((at, new),) = READER.replace(memoryview(data), found, area)
    assert (at, len(new)) == (found.offset, 512)
    again = read(data[:at] + new + data[at + 512 :])
    assert again[0].area.registers["xmm3"] == 5
    assert again[1].area.registers.read() == read(data)[1].area.registers.read()


@pytest.mark.parametrize("name", WRITERS)
def test_the_canonical_form_of_initial_state(name: str, tmp_path: Path) -> None:
    """An image has no XSTATE_BV, which says that it is initial: its values do."""
    path, out = tmp_path / "core", tmp_path / "out"
    data = WRITERS[name]
    for thread in (7, 8):
        clean = struct.pack("<HHBBHQQII", 0x37F, 0, 0, 0, 0, 0, 0, 0x1F80, 0xFFFF).ljust(160, b"\0")
        assert data.count(image(thread)) == 1
        data = data.replace(image(thread), (clean + bytes(256) + b"\xa5" * 48).ljust(512, b"\0"))
    path.write_bytes(data)
    done = artefacts.normalise(path, out)
    assert [each.after.xstate_bv for each in done if each.after] == [0, 0]
    assert out.read_bytes() == data.replace(b"\xa5", b"\0")
    for found in artefacts.open(out):
        assert diff(found.area, XsaveArea.new(found.area.model)) == []


def test_what_cannot_be_put_into_an_fxsave_core_is_refused(tmp_path: Path) -> None:
    data = WRITERS["linux"]
    found = read(data)[0]
    wide = one(zen4_core()).area
    with pytest.raises(artefacts.ArtefactError, match="no place beyond SSE"):
        READER.replace(memoryview(data), found, wide)
    path = tmp_path / "core"
    path.write_bytes(data)
    with pytest.raises(artefacts.ArtefactError, match="no area to lay out"):
        artefacts.add_layout(path, tmp_path / "out")


def test_a_core_that_is_cut_off_shows_the_images_before_the_cut() -> None:
    data = WRITERS["linux"][: 64 + 2 * 56 + len(linux(7)) + 100]
    with pytest.raises(artefacts.ArtefactError, match="cut off"):
        read(data)
    found = one(data, strict=False)
    assert found.area.registers["xmm3"] == State(7).registers(3)["xmm3"]
    assert found.notes[-1].startswith("the core is damaged, threads may be missing")


def test_control_words_that_nobody_saved_are_told_of() -> None:
    blank = bytes(24) + bytes(4) + image(7)[28:]
    note = one(cores.core(cores.prstatus(1) + cores.note(b"CORE", FXSAVE, blank))).notes[-1]
    assert note.startswith("FCW and MXCSR are 0")
    assert not any("MXCSR" in text for text in read(WRITERS["linux"])[0].notes)


# Delve writes Linux's notes with an empty name, of no bytes at all.


def nameless(kind: int, body: bytes) -> bytes:
    return (0).to_bytes(4, "little") + cores.note(b"", kind, body)[4:12] + body


def test_delve() -> None:
    status = cores.prstatus(9)[20:]
    notes = nameless(1, status) + nameless(cores.XSTATE, ZEN4)
    notes += nameless(1, cores.prstatus(10)[20:]) + nameless(
        cores.XSTATE, bytes(intel_area(2688, 0xE7))
    )
    found = read(cores.core(notes))
    assert [each.label for each in found] == ["thread 9", "thread 10"]
    assert bytes(found[0].area) == ZEN4
    assert any(text.startswith("Delve (seen of 1.20) leaves AMX") for text in found[1].notes)


def test_valgrind(tmp_path: Path) -> None:
    if not which("valgrind") or not which("gcc"):
        pytest.skip("there is no Valgrind, or no gcc")
    source = tmp_path / "crash.c"
    source.write_text(
        "#include <stdlib.h>\n"
        'int main(void) { asm volatile("movq %0, %%xmm9" :: "r"(0x1122334455667788L)); abort(); }'
    )
    subprocess.run(["gcc", "-o", "crash", source], cwd=tmp_path, check=True)
    command = ["bash", "-c", "ulimit -c unlimited; exec valgrind --quiet ./crash"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    dumped = list(tmp_path.glob("vgcore*"))
    if not dumped:
        pytest.skip("Valgrind wrote no core")
    (found,) = artefacts.open(dumped[0])
    assert found.area.registers["xmm9"] == 0x1122334455667788
    assert found.label == f"thread {dumped[0].suffix[1:]}"


@pytest.mark.shared
def test_netbsd(shared: Path) -> None:
    (found,) = artefacts.open(shared / "artefacts/lldb-netbsd-1lwp_SIGSEGV.amd64.core")
    assert (found.label, found.area.registers["fcw"]) == ("thread 1", 0x37F)
    with pytest.raises(XsaveError, match="ymm0"):
        found.area.registers["ymm0"]

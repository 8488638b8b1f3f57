"""What a restore loads where it is not what is stored: illegal TILECFG, and x87 on Intel."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from command import run

from xsaveschema import XsaveArea, diff, load_model
from xsaveschema.area.loaded import as_loaded, as_restored, illegal_tilecfg
from xsaveschema.restore import Note, notes

SPR = load_model("sapphire-rapids")
GOOD = struct.pack(
    "<BB14x8H16x8B8x", 1, 0, *(64, 32, 4, 1, 0, 64, 2, 6), *(16, 8, 1, 1, 0, 3, 2, 1)
)


def changed(at: int, value: int) -> bytes:
    return GOOD[:at] + bytes([value]) + GOOD[at + 1 :]


# Each of these was loaded, or loaded as initial, by an Intel CPU with AMX.
TILECFGS = [
    pytest.param(GOOD, "", id="good"),
    pytest.param(bytes(64), "", id="initial"),
    pytest.param(changed(1, 255), "", id="start_row has no limit"),
    pytest.param(changed(0, 2), "no palette 2", id="palette 2"),
    pytest.param(changed(0, 255), "no palette 255", id="palette 255"),
    pytest.param(changed(0, 0), "palette 0 with other", id="palette 0 with shapes"),
    pytest.param(bytes(63) + b"\1", "palette 0 with other", id="palette 0, last byte"),
    *(
        pytest.param(changed(at, 1), "reserved byte", id=f"reserved byte {at}")
        for at in (2, 15, 32, 47, 56, 63)
    ),
    pytest.param(changed(48, 17), "tmm0 has 17 rows of 64", id="rows"),
    pytest.param(changed(16, 65), "tmm0 has 16 rows of 65", id="colsb"),
    pytest.param(changed(31, 1), "tmm7 has 1 rows of 262", id="colsb's high byte"),
    pytest.param(changed(55, 0), "tmm7 has 0 rows of 6", id="rows alone 0"),
    pytest.param(changed(30, 0), "tmm7 has 1 rows of 0", id="colsb alone 0"),
]


def with_tilecfg(tilecfg: bytes) -> XsaveArea:
    area = XsaveArea.new(SPR)
    area["tiledata"]["tmm"][0] = bytes(range(1, 256)) * 4 + bytes(4)
    area["tilecfg"]["palette"] = 1
    slot = area.layout["tilecfg"]
    area.write(slot, slot.offset, tilecfg)
    return area


@pytest.mark.parametrize(("tilecfg", "why"), TILECFGS)
def test_an_illegal_tilecfg_means_the_initial_one(tilecfg: bytes, why: str) -> None:
    assert why in illegal_tilecfg(tilecfg)
    assert bool(illegal_tilecfg(tilecfg)) == bool(why)
    area, initial, good = with_tilecfg(tilecfg), with_tilecfg(bytes(64)), with_tilecfg(GOOD)
    assert (diff(area, initial) == []) == (bool(why) or not any(tilecfg))
    assert (diff(area, good) == []) == (tilecfg == GOOD)
    # Tiles have the shape of what is loaded, and TILEDATA moves in full.
    legal = any(tilecfg) and not why
    assert len(area.registers["tmm0"]) == 1024
    assert len(area.registers["tmm1"]) == (8 * 32 if legal else 1024)
    assert area.raw["tilecfg"] == tilecfg
    assert area["tilecfg"]["palette"] == tilecfg[0]
    restored, reasons = as_restored(area)
    assert list(reasons) == (["tilecfg"] if why else [])
    assert restored.raw["tilecfg"] == (bytes(64) if why else tilecfg)
    assert restored.raw["tiledata"] == area.raw["tiledata"]


def test_a_tilecfg_that_is_not_in_use_is_not_looked_at() -> None:
    area = with_tilecfg(changed(0, 9))
    area.initialise("tilecfg")
    data = bytearray(bytes(area))
    data[area.layout["tilecfg"].offset] = 9
    assert as_restored(XsaveArea.parse(data, SPR))[1] == {}
    assert notes(data, SPR) == []


def test_notes_go_by_what_is_loaded() -> None:
    area = with_tilecfg(changed(0, 9))
    area["x87"]["fcw"] = 0
    data = bytes(area)
    assert [(note.component, note.offset) for note in notes(data, SPR)] == [
        ("x87", 0),
        ("tilecfg", 2752),
    ]
    assert [note.component for note in notes(data, SPR, rfbm=1 << 17)] == ["tilecfg"]
    assert notes(data, SPR, rfbm=2) == []
    linux = [note.component for note in notes(data, SPR, "kvm", rfbm=0)]
    assert linux == ["x87", "tilecfg", "tiledata"], "the last must be asked for"
    assert str(Note("x87", 0, "why")) == "byte 0: x87: why"


def test_reserved_bytes_are_told_as_they_stand() -> None:
    """A reserved byte makes TILECFG illegal; diff() still says where it is, where all is asked."""
    area = with_tilecfg(changed(2, 1))
    found = diff(area, with_tilecfg(bytes(64)), everything=True)
    assert [(delta.path, delta.kind) for delta in found] == [("tilecfg[2:3]", "reserved")]


def test_two_vendors_load_x87_each_in_its_way() -> None:
    def area(model: str, fcw: int) -> XsaveArea:
        made = XsaveArea.new(load_model(model))
        made["x87"]["fcw"] = fcw
        return made

    assert diff(area("skylake", 0xE3FF), area("haswell", 0x037F)) == []
    for pair in (("zen4", "zen4"), ("zen4", "haswell"), ("haswell", "zen4")):
        (delta,) = diff(area(pair[0], 0xE3FF), area(pair[1], 0x037F))
        assert (delta.path, delta.a, delta.b) == ("x87.fcw", 0xE3FF, 0x037F)


# FCW, FSW, FOP, FIP in and out, each rule alone; laws/test_restore_captures.py has the CPU's word.
X87 = [
    pytest.param((0x37F, 0, 0, 0), (0x37F, 0, 0, 0), "", id="initial"),
    pytest.param((0xE3BF, 0, 0, 0), (0x37F, 0, 0, 0), "fcw", id="fcw"),
    pytest.param((0x37F, 0xFFFF, 0, 0), (0x37F, 0x7F7F, 0, 0), "fsw", id="masked: no ES, no B"),
    pytest.param((0x340, 0x0001, 0, 0), (0x340, 0x8081, 0, 0), "fsw", id="pending: ES and B"),
    pytest.param((0x37F, 0, 0xFFFF, 0), (0x37F, 0, 0x7FF, 0), "fop", id="fop"),
    pytest.param((0x37F, 0, 0, (1 << 56) - 1), (0x37F, 0, 0, (1 << 56) - 1), "", id="fip"),
    pytest.param(
        (0x37F, 0, 0, 1 << 56), (0x37F, 0, 0, 0xFF00_0000_0000_0000), "fip", id="fip's sign"
    ),
    pytest.param((0x37F, 0, 0, 1 << 57), (0x37F, 0, 0, 0), "fip", id="fip beyond its sign"),
    pytest.param((0, 0, 0x800, 0), (0x40, 0, 0, 0), "fcw, fop", id="two"),
]


@pytest.mark.parametrize(("stored", "wanted", "names"), X87)
def test_x87_as_intel_loads_it(
    stored: tuple[int, ...], wanted: tuple[int, ...], names: str
) -> None:
    component = SPR.components["x87"]
    rest = bytes(range(1, 145))

    def image(fcw: int, fsw: int, fop: int, fip: int) -> bytes:
        return struct.pack("<HHBBHQ", fcw, fsw, 0xA5, 0x5A, fop, fip) + rest

    found = as_loaded(component, image(*stored), "GenuineIntel")
    assert found.image == image(*wanted)
    why = f"an Intel CPU has not all of the stored bits of {names}"
    assert found.reason == (why if names else "")
    assert as_loaded(component, image(*stored), "AuthenticAMD") == (image(*stored), "")


def test_registers_that_are_asked_for_say_so_too(tmp_path: Path) -> None:
    area = XsaveArea.new(SPR)
    area.registers["fcw"] = 5
    path = tmp_path / "area.bin"
    path.write_bytes(bytes(area))
    args = ("decode", str(path), "--model", "sapphire-rapids", "--registers")
    why = "an Intel CPU has not all of the stored bits of fcw"
    note = f"fcw: 0x45 is loaded in place of 0x5: {why}"
    assert note in run(*args, "fcw,fsw").stderr
    assert "loaded" not in run(*args, "fsw").stderr
    assert json.loads(run(*args, "fcw", "--json").stdout)["areas"][0]["notes"] == [note]


def test_commands_show_what_is_stored_and_what_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "area.bin"
    path.write_bytes(bytes(with_tilecfg(changed(48, 17))))
    why = "tmm0 has 17 rows of 64 bytes, more than 16 of 64"
    said = run("decode", str(path), "--model", "sapphire-rapids").stdout
    assert "loaded otherwise than stored" in said
    assert why in " ".join(said.split())
    assert "tilecfg.rows[0]   0x00  stored 0x11" in said
    told = json.loads(run("decode", str(path), "--model", "sapphire-rapids", "--json").stdout)
    components = told["areas"][0]["components"]
    assert components["tilecfg"]["fields"]["rows"][0] == "0x11"
    assert components["tilecfg"]["loaded"]["rows"] == ["0x0"] * 8
    assert components["tilecfg"]["loaded_reason"].endswith(why)
    assert [name for name, facts in components.items() if "loaded" in facts] == ["tilecfg"]

    said = run("check", str(path), "--model", "sapphire-rapids").stdout
    assert "takes this area" in said
    assert f"note: byte 2752: tilecfg: illegal, so the initial TILECFG is loaded: {why}" in said
    told = json.loads(run("check", str(path), "--model", "sapphire-rapids", "--json").stdout)
    assert told["faults"] == []
    assert [note["component"] for note in told["notes"]] == ["tilecfg"]
    armed = ("--model", "sapphire-rapids", "--xfd", "0x40000")
    assert "IA32_XFD 0x40000" in run("check", str(path), *armed, code=1).stdout
    said = run("check", str(path), "--target", "kvm", *armed, code=1).stdout
    assert "KVM on sapphire-rapids" in said
    assert "linux-dynamic" in said

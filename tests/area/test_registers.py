"""Whole registers: composed from pieces, relative to TOP, shaped by TILECFG."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable

import pytest

from xsaveschema import XsaveArea, load_model
from xsaveschema.area.registers import register_plans, widest
from xsaveschema.errors import NoPlaceError, ValueRangeError, XsaveError

COMPACTED = 1 << 63


def test_zmm_is_composed_of_three_components() -> None:
    area = XsaveArea.new(load_model("skylake-server"))
    value = int.from_bytes(bytes(range(64)), "little")
    area.registers["zmm5"] = value
    assert area.registers["zmm5"] == value
    assert area.registers["ymm5"] == value & (1 << 256) - 1
    assert area.registers["xmm5"] == value & (1 << 128) - 1
    data = bytes(area)
    # Intel's standard offsets: XMM 160, AVX 576, ZMM_Hi256 1152.
    assert data[160 + 80 : 160 + 96] == bytes(range(16))
    assert data[576 + 80 : 576 + 96] == bytes(range(16, 32))
    assert data[1152 + 160 : 1152 + 192] == bytes(range(32, 64))
    assert area.xstate_bv == 2 | 4 | 64


def test_narrow_writes_leave_the_upper_parts_alone() -> None:
    area = XsaveArea.new(load_model("skylake-server"))
    for zmm, ymm, xmm in (("zmm5", "ymm5", "xmm5"), ("zmm20", "ymm20", "xmm20")):
        area.registers[zmm] = (1 << 512) - 1
        area.registers[xmm] = 0
        assert area.registers[zmm] == (1 << 512) - (1 << 128)
        area.registers[ymm] = 1
        assert area.registers[zmm] == (1 << 512) - (1 << 256) + 1


def test_partly_initial_registers_read_their_initial_parts() -> None:
    data = bytearray(b"\xff" * 2696)
    data[512:576] = struct.pack("<QQ48x", 4, 0)
    area = XsaveArea.parse(data, load_model("skylake-server"))
    assert area.registers["zmm0"] == ((1 << 128) - 1) << 128
    assert area.registers.in_use("zmm0")
    assert not area.registers.in_use("zmm16")


def test_mm_registers_are_physical_and_st_slots_are_not_rotated() -> None:
    # Seen on a Zen 4: FNINIT, FLDPI, FLD1 gives TOP 6, slot 0 = 1.0, slot 1 = pi, FTW 0xC0.
    one = 0x3FFF << 64 | 1 << 63
    pi = 0x4000C90FDAA22168C235
    data = bytearray(832)
    data[0:5] = struct.pack("<HHB", 0x37F, 6 << 11, 0xC0)
    data[32:42] = one.to_bytes(10, "little")
    data[48:58] = pi.to_bytes(10, "little")
    data[512] = 1
    area = XsaveArea.parse(data, load_model("haswell"))
    assert area.registers["st0"] == one
    assert area.registers["st1"] == pi
    assert area.registers["mm6"] == one & (1 << 64) - 1
    assert area.registers["mm7"] == pi & (1 << 64) - 1
    assert area.registers["mm0"] == 0
    area.registers["mm7"] = 5
    assert data[48:56] == (5).to_bytes(8, "little")
    assert data[56:58] == b"\x00\x40"


def test_tiles_are_shaped_by_tilecfg() -> None:
    area = XsaveArea.new(load_model("sapphire-rapids"), "compacted")
    area.registers["tmm2"] = bytes(range(256)) * 4
    assert area.registers["tmm2"] == bytes(range(256)) * 4  # TILECFG initial: the raw 16 x 64
    area["tilecfg"]["palette"] = 1
    area["tilecfg"]["rows"][2] = 3
    area["tilecfg"]["colsb"][2] = 5
    assert area.registers["tmm2"] == bytes(
        [0, 1, 2, 3, 4, 64, 65, 66, 67, 68, 128, 129, 130, 131, 132]
    )
    area.registers["tmm2"] = bytes(range(15))
    assert area.registers["tmm2"] == bytes(range(15))
    with pytest.raises(ValueRangeError, match="15 bytes"):
        area.registers["tmm2"] = bytes(16)
    area["tilecfg"]["rows"][2] = 17  # no processor has such a tile
    assert len(area.registers["tmm2"]) == 1024


def test_registers_without_a_place() -> None:
    model = load_model("skylake-server")
    area = XsaveArea.new(model, "compacted", xcomp_bv=3 | 1 << 5)
    assert "k7" in area.registers
    assert "ymm0" not in area.registers
    with pytest.raises(NoPlaceError, match="avx not in the compacted layout's mask 0x23"):
        area.registers["ymm0"]
    with pytest.raises(NoPlaceError):
        area.registers["ymm0"] = 1


def test_every_register_reads_back_what_was_written() -> None:
    for name in ("sapphire-rapids", "diamond-rapids", "skylake"):
        area = XsaveArea.new(load_model(name), "compacted")
        for index, register in enumerate(area.registers):
            before = area.registers[register]
            if isinstance(before, bytes):
                value: int | bytes = bytes([index & 0xFF]) * len(before)
            else:
                value = (1 << 8 * area.registers.size(register)) - 1 - index
            area.registers[register] = value
            assert area.registers[register] == value, register


def test_a_tile_is_written_within_its_shape_alone() -> None:
    """TILEDATA moves in full (HW AMX): what lies outside the shape is state, too."""
    area = XsaveArea.new(load_model("sapphire-rapids"))
    area.registers["tmm0"] = b"\x77" * 1024
    area["tilecfg"]["palette"] = 1
    for rows, colsb in ((2, 8), (0, 0), (16, 64)):
        area["tilecfg"]["rows"][0] = rows
        area["tilecfg"]["colsb"][0] = colsb
        before = area.raw["tiledata"]
        area.registers["tmm0"] = area.registers["tmm0"]
        assert area.raw["tiledata"] == before
    area["tilecfg"]["rows"][0], area["tilecfg"]["colsb"][0] = 2, 8
    area.registers["tmm0"] = bytes(16)
    wanted = bytearray(b"\x77" * 1024)
    wanted[:8] = wanted[64:72] = bytes(8)
    assert area.raw["tiledata"][:1024] == wanted


def test_the_shape_of_a_tile() -> None:
    area = XsaveArea.new(load_model("sapphire-rapids"))
    assert area.registers.shape("tmm1") == (16, 64)
    assert len(area.registers["tmm1"]) == 1024
    for field, value in {"palette": 1, "rows[1]": 3, "colsb[1]": 12, "rows[2]": 16}.items():
        area["tilecfg"][field] = value
    area["tilecfg"]["colsb[2]"] = 64
    assert [area.registers.shape(f"tmm{n}") for n in range(3)] == [(0, 0), (3, 12), (16, 64)]
    area["tilecfg"]["palette"] = 2  # illegal: the initial one is loaded
    assert area.registers.shape("tmm1") == (16, 64)
    with pytest.raises(XsaveError, match="zmm1 is no tile"):
        area.registers.shape("zmm1")
    with pytest.raises(NoPlaceError):
        XsaveArea.new(load_model("sapphire-rapids").limited(xcr0=7)).registers.shape("tmm1")


def test_lanes_are_tuples_lowest_first() -> None:
    area = XsaveArea.new(load_model("zen4"))
    numbers = tuple(float(n) for n in range(16))
    area.registers["zmm17"] = struct.pack("<16f", *numbers)
    assert area.registers.lanes("zmm17", "f32") == numbers
    assert area.registers.lanes("xmm17", "f32") == numbers[:4]
    assert area.registers.lanes("xmm17", "u8")[-4:] == tuple(struct.pack("<f", 3))
    assert area.registers.lanes("mxcsr", "hex") == (0x1F80,)
    assert area.registers.lanes("k1", "i16") == (0, 0, 0, 0)
    area.registers.set_lanes("zmm17", "f64", [1.5, "nan(0x1)", "-inf", *range(5)])
    assert struct.pack("<d", area.registers.lanes("zmm17", "f64")[1])[:1] == b"\x01"
    area.registers.set_lanes("xmm3", "i8", ",".join(map(str, range(-8, 8))))
    assert area.registers["xmm3"] == int.from_bytes(struct.pack("<16b", *range(-8, 8)), "little")
    assert area["sse"]["xmm"][3] == area.registers["xmm3"]


def test_every_register_takes_its_bytes() -> None:
    area = XsaveArea.new(load_model("zen4"))
    for name in area.registers:
        size = area.registers.size(name)
        area.registers[name] = bytes(range(1, size + 1))
        assert area.registers[name] == int.from_bytes(range(1, size + 1), "little"), name
        if name[:2] == "mm":  # MM registers are a part of the ST(i) that FSW.TOP names
            area.registers["fsw"] = 0
    before = bytes(area)
    for wrong in (bytes(63), bytearray(65), b""):
        with pytest.raises(ValueRangeError, match=f"zmm1 takes exactly 64 bytes, not {len(wrong)}"):
            area.registers["zmm1"] = wrong
    assert bytes(area) == before


def test_tiles_are_matrices() -> None:
    area = XsaveArea.new(load_model("sapphire-rapids"))
    area["tilecfg"]["palette"] = 1
    for number, rows, colsb in ((0, 2, 8), (1, 4, 5), (2, 16, 64)):
        area["tilecfg"][f"rows[{number}]"] = rows
        area["tilecfg"][f"colsb[{number}]"] = colsb
    wanted = ((1.0, -2.0, 0.5, 3.140625), (0.0, -0.0, float("inf"), 1e38))
    area.registers.set_tile("tmm0", "bf16", wanted)
    got = area.registers.tile("tmm0", "bf16")
    assert got[0] == wanted[0]
    assert got[1][:3] == wanted[1][:3]
    assert area.raw["tiledata"][64:72] == area.registers["tmm0"][8:]
    assert area.registers.lanes("tmm0", "bf16") == got[0] + got[1]
    assert area.registers.tile("tmm1", "hex") == ((0,) * 5,) * 4
    area.registers.set_lanes("tmm1", "hex", range(20))
    assert area.registers.tile("tmm1", "u8")[1] == (5, 6, 7, 8, 9)
    assert [len(row) for row in area.registers.tile("tmm2", "i32")] == [16] * 16
    assert area.registers.tile("tmm3", "i32") == ()
    with pytest.raises(ValueRangeError, match="tmm1: lanes of f32 have 4 bytes, which do not div"):
        area.registers.tile("tmm1", "f32")
    with pytest.raises(ValueRangeError, match="tmm0: takes 2 rows, not 1"):
        area.registers.set_tile("tmm0", "f32", [[1.0, 2.0]])


def test_lanes_that_there_are_not() -> None:
    area = XsaveArea.new(load_model("zen4"))
    with pytest.raises(ValueRangeError, match="zmm1: there is no type 'f8'; types: f16, bf16") as e:
        area.registers.lanes("zmm1", "f8")
    assert e.value.name == "zmm1"
    with pytest.raises(ValueRangeError, match="pkru: lanes of f64 have 8 bytes"):
        area.registers.lanes("pkru", "f64")
    area.registers["st0"] = 0x3FFFC000000000000000
    with pytest.raises(ValueRangeError, match=r"st0 is one 80-bit floating-point number, 1\.5"):
        area.registers.lanes("st0", "u16")
    with pytest.raises(ValueRangeError, match="zmm1: takes 16 lanes of f32, not 2"):
        area.registers.set_lanes("zmm1", "f32", (1.0, 2.0))
    with pytest.raises(ValueRangeError, match=r"xmm1: u8 takes 0\.\.255, not 256"):
        area.registers.set_lanes("xmm1", "u8", [256] * 16)
    with pytest.raises(NoPlaceError):
        XsaveArea.new(load_model("zen4"), "compacted", xcomp_bv=3).registers.lanes("zmm0", "u8")
    with pytest.raises(XsaveError, match="zmm1 is no tile"):
        area.registers.tile("zmm1", "u8")


@pytest.mark.parametrize("format", ["standard", "compacted"])
@pytest.mark.parametrize("name", ["sapphire-rapids", "skylake", "diamond-rapids"])
def test_all_registers_at_once_are_what_they_are_one_by_one(name: str, format: str) -> None:
    """Whatever is in use, wherever TOP points, and whatever shape the tiles have."""
    model = load_model(name)
    whole = XsaveArea.new(model, "standard" if format == "standard" else "compacted")
    rng = random.Random(name)
    for register in whole.registers:
        before = whole.registers[register]
        size = len(before) if isinstance(before, bytes) else whole.registers.size(register)
        value = rng.randbytes(size)
        whole.registers[register] = value if isinstance(before, bytes) else int.from_bytes(value)
    if "tilecfg" in whole.layout:
        for field, number in {"palette": 1, "rows[3]": 2, "colsb[3]": 9}.items():
            whole["tilecfg"][field] = number
    masks = [0, *(1 << slot.number for slot in whole.layout), whole.layout.mask]
    masks += [rng.getrandbits(20) & whole.layout.mask for _ in range(20)]
    for mask in masks:
        data = bytearray(bytes(whole))
        struct.pack_into("<Q", data, 512, mask)
        struct.pack_into("<H", data, 2, rng.getrandbits(16))
        area = XsaveArea.parse(data, model)
        found = area.registers.read()
        assert list(found) == list(area.registers)
        for register in area.registers:
            assert found[register] == area.registers[register], (hex(mask), register)
            assert type(found[register]) is type(area.registers[register])


@pytest.mark.parametrize(
    ("xcr0", "there", "not_there"),
    [
        (0x3, ["xmm0", "xmm15", "st0", "mxcsr"], ["ymm0", "mm0", "k0"]),
        (0x7, ["ymm0", "ymm15", "st7"], ["xmm0", "zmm0"]),
        (0xE7, ["zmm0", "zmm31", "k7"], ["ymm0", "xmm0", "xmm31", "ymm16"]),
        (0x2E7, ["zmm0", "pkru"], ["ymm15"]),
        (0x602E7, ["zmm0", "tmm0", "tmm7"], ["xmm0"]),
    ],
)
def test_the_widest_names(xcr0: int, there: list[str], not_there: list[str]) -> None:
    layout = load_model("sapphire-rapids").limited(xcr0=xcr0, xss=0).standard_layout()
    shown = widest(layout)
    assert {*there} <= {*shown}
    assert not {*not_there} & {*shown}
    assert len(shown) == len({*shown})
    # In the order of all registers, and every byte that any of them shows.
    plans = register_plans(layout)
    assert list(shown) == [name for name in plans if name in shown]

    def bytes_of(names: Iterable[str]) -> set[int]:
        return {at for name in names for p in plans[name].places for at in range(p.start, p.end)}

    assert bytes_of(shown) == bytes_of(plans)
    for name in shown:  # and none that others show already
        assert bytes_of([name]) - bytes_of(set(shown) - {name}), name

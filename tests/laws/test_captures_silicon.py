"""What an Intel CPU with AMX, and a Zen 4, saved and restored; what this project makes of it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from captures import Record, cut, records

from xsaveschema import StateLossError, XsaveArea, load_model, to_compacted, to_standard
from xsaveschema.model import COMPACTED, CpuModel

AMX = load_model("sapphire-rapids").limited(xcr0=0x600E7, xss=0)
ZEN4 = load_model("zen4").limited(xcr0=0xE7, xss=0)

Values = dict[str, int]


def number(value: int | bytes) -> int:
    return value if isinstance(value, int) else int.from_bytes(value, "little")


def told(area: XsaveArea) -> Values:
    """What an area says of every component: one without a place in it is initial."""
    return initial(area.model) | {name: number(value) for name, value in area.values().items()}


@cache
def initial(model: CpuModel) -> Values:
    return {name: number(value) for name, value in XsaveArea.new(model).values().items()}


def mask_of(record: Record, name: str, model: CpuModel = AMX) -> int:
    return int(record[name], 16) & model.xcr0


def area_at(name: str, record: Record, key: str) -> bytes:
    return cut(name, record[key], record["len"])


# Saves


def pairs(name: str) -> Iterator[tuple[Record, Record]]:
    """XSAVE over zeros and XSAVEC of the same registers: (plain, packed)."""
    plain: dict[object, list[Record]] = {}
    for record in records(name):
        if record["instr"] == "xsave64" and record["prefill"] == "0x00":
            plain.setdefault(key_of(record), []).append(record)
    for packed in records(name):
        if packed["instr"] == "xsavec64":
            wanted = mask_of(packed, "rfbm")
            for record in plain.get(key_of(packed), ()):
                if not wanted & ~mask_of(record, "rfbm"):
                    yield record, packed
                    break


def key_of(record: Record) -> object:
    return record["state"], record["seed"], record["regs_off"], record.get("xfd")


def check_saves(name: str) -> int:
    """Every pair, both ways; how many there were."""
    count = 0
    for plain, packed in pairs(name):
        standard, expected = area_at(name, plain, "off"), area_at(name, packed, "off")
        mask = mask_of(packed, "rfbm")
        assert int.from_bytes(expected[520:528], "little") == mask | COMPACTED
        live = mask_of(plain, "xstate_bv")
        odd_mxcsr = standard[24:28] != (0x1F80).to_bytes(4, "little")
        lost = set(AMX.names_of(live & ~mask)) | ({"sse"} if odd_mxcsr and not mask & 2 else set())
        if lost:
            with pytest.raises(StateLossError) as caught:
                to_compacted(standard, AMX, xcomp_bv=mask)
            assert set(caught.value.lost) == lost, (plain, packed)
        result = to_compacted(standard, AMX, xcomp_bv=mask, drop=lost)
        if packed["prefill"] == "0x00":
            assert result.data == expected[: len(result.data)], (plain, packed)
        else:
            back = to_standard(expected, AMX, software="zero")
            again = to_standard(result.data, AMX, software="zero")
            assert meant(bytes(back.data)) == meant(bytes(again.data)), (plain, packed)
        count += 1
    return count


def meant(area: bytes) -> Values:
    values = told(XsaveArea.parse(area, AMX))
    del values["sse.mxcsr_mask"]  # not written by XSAVEC while SSE is initial
    return values


def check_round_trips(name: str) -> int:
    """Every save that XRSTOR could load is parsed and built to the same bytes; how many."""
    count = 0
    construct = AMX.construct()
    for record in records(name):
        data = area_at(name, record, "off")
        xstate_bv, xcomp_bv = struct.unpack_from("<QQ", data, 512)
        foreign = xstate_bv & ~AMX.xcr0 or xcomp_bv not in (0, int(record["xcomp_bv"], 16))
        if record["instr"].startswith("fx") or foreign or (xcomp_bv and not xcomp_bv >> 63):
            continue  # what XSAVE left of the prefill in the header
        area = XsaveArea.parse(data, AMX)
        assert construct.build(construct.parse(data)) == data
        assert area.xstate_bv == int(record["xstate_bv"], 16)
        count += 1
    return count


# Restores

X87 = ("fcw", "fsw", "ftw", "fop", "fip", "fdp")


def as_loaded(fcw: int, fsw: int, ftw: int, fop: int, fip: int, fdp: int) -> tuple[int, ...]:
    """The x87 environment that this CPU saves after it was given this one."""
    fcw = fcw & 0x1F7F | 0x40
    pending = bool(fsw & ~fcw & 0x3F)  # FSW.ES and FSW.B say so, whatever was loaded
    fsw = fsw & 0x7F7F | pending * 0x8080
    fip &= (1 << 57) - 1
    fip |= (fip >> 56) * 0x7F << 57
    return fcw, fsw, ftw, fop & 0x7FF, fip, fdp


def registers(image: bytes, flags: int = ~0) -> Values:
    """The fields of components that a register image holds and the load flags name."""
    held: list[tuple[int, str, bytes]] = []
    for n in range(16):
        zmm = image[64 * n : 64 * n + 64]
        held.append((1, f"sse.xmm[{n}]", zmm[:16]))
        held.append((1, f"avx.ymm_hi128[{n}]", zmm[16:32]))
        held.append((1, f"zmm_hi256.zmm_hi256[{n}]", zmm[32:]))
        held.append((2, f"hi16_zmm.zmm[{n}]", image[1024 + 64 * n :][:64]))
    for n in range(8):
        held.append((4, f"opmask.k[{n}]", image[2048 + 8 * n :][:8]))
        held.append((16, f"x87.st[{n}]", image[2204 + 10 * n :][:10]))
        held.append((32, f"tilecfg.colsb[{n}]", image[2304 + 16 + 2 * n :][:2]))
        held.append((32, f"tilecfg.rows[{n}]", image[2304 + 48 + n :][:1]))
        held.append((64, f"tiledata.tmm[{n}]", image[2368 + 1024 * n :][:1024]))
    held.append((8, "sse.mxcsr", image[2112:2116]))
    held.append((16, "x87.fcw", image[2176:2178]))
    held.append((32, "tilecfg.palette", image[2304:2305]))
    held.append((32, "tilecfg.start_row", image[2305:2306]))
    return {name: number(value) for flag, name, value in held if flag & flags}


def prior_state(record: Record, name: str, model: CpuModel) -> Values:
    """The fields before the restore, apart from the x87 environment and FTW."""
    image = cut(name, record["prior_regs_off"], record.get("regs_len", 2304))
    held = registers(image).keys()
    values = {field: value for field, value in initial(model).items() if field in held}
    values |= registers(image, record.get("prior_load", 31))  # of a Zen 4, everything
    if record.get("prior_then"):
        assert record["prior_then"] == ["vzeroall"]
        zeroed = ("sse.xmm", "avx.", "zmm_hi256.")
        values |= {field: 0 for field in values if field.startswith(zeroed)}
    return values


def expected_after(area: XsaveArea, record: Record, prior: Values) -> Values:
    """What XsaveArea tells of the area, for what XRSTOR loads; of the rest what was before."""
    rfbm = mask_of(record, "xrstor_rfbm", area.model)
    from_area = told(area)
    environment = as_loaded(*(from_area[f"x87.{field}"] for field in X87))
    from_area |= {f"x87.{field}": value for field, value in zip(X87, environment, strict=True)}
    tilecfg = rfbm & area.xstate_bv & 1 << 17
    if tilecfg and not int(record["xinuse_after"], 16) & tilecfg:
        # The processor took an illegal TILECFG, or palette 0, for the initial one.
        from_area |= {f: 0 for f in from_area if f.startswith("tilecfg.")}
    values: Values = {}
    for field in from_area:
        component = field.partition(".")[0]
        if component == "header" or field == "sse.mxcsr_mask":
            continue
        loads = area.model.components[component].bit
        if field == "sse.mxcsr" and area.format == "standard":
            loads |= 4
        if rfbm & loads:
            values[field] = from_area[field]
        elif field in prior:
            values[field] = prior[field]
    return values


def check_restores(name: str, model: CpuModel) -> int:
    """Every restore: what was in the area is in the registers; how many there were."""
    for record in records(name):
        area = XsaveArea.parse(area_at(name, record, "src_off"), model)
        expected = expected_after(area, record, prior_state(record, name, model))
        after = XsaveArea.parse(area_at(name, record, "after_off"), model)
        saved = told(after)
        assert {field: saved[field] for field in expected} == expected, record
        if "after_regs_off" in record:
            check_registers(after, cut(name, record["after_regs_off"], record["regs_len"]), record)
    return len(records(name))


def check_registers(area: XsaveArea, image: bytes, record: Record) -> None:
    """An area's fields and registers against the same registers, read by plain instructions."""
    # The #UD of TILESTORED ended the reading: x87 comes behind it.
    flags = ~64 if record["tiles_stored"] else ~(64 | 16)
    seen, saved = registers(image, flags), told(area)
    assert seen == {field: saved[field] for field in seen}, record
    for n in range(32):
        assert area.registers[f"zmm{n}"] == number(image[64 * n : 64 * n + 64])
    if record["tiles_stored"] and area.in_use("tilecfg"):
        for n in range(8):
            colsb, rows = seen[f"tilecfg.colsb[{n}]"], seen[f"tilecfg.rows[{n}]"]
            tile = image[2368 + 1024 * n :][: 64 * rows]
            cut_out = b"".join(tile[64 * row :][:colsb] for row in range(rows))
            assert area.registers[f"tmm{n}"] == cut_out


# The tests: a selection that comes with the project, and all that was captured


def test_what_xsave_wrote_becomes_what_xsavec_wrote() -> None:
    assert check_saves("amx-saves") > 250


def test_every_legal_save_parses_and_builds_byte_for_byte() -> None:
    assert check_round_trips("amx-saves") > 400


def test_what_an_area_tells_is_what_xrstor_loads() -> None:
    assert check_restores("amx-restores", AMX) > 40


def test_x87_as_it_is_loaded() -> None:
    environment = struct.Struct("<HHBxHQQ")
    found = [r for r in records("amx-extras") if r["kind"] == "x87 normalised"]
    for record in found:
        before, after = (bytes.fromhex(record[key]) for key in ("before", "after"))
        assert environment.pack(*as_loaded(*environment.unpack(before))) == after
        assert record["st_after_is_before_with_bytes_10_to_15_zero"]
    assert len(found) == 60


@pytest.mark.shared
def test_the_whole_capture(shared: Path) -> None:
    capture = shared / "captures" / "silicon-amx"
    if not capture.is_dir():
        pytest.skip("the reference material has no such capture")
    assert check_saves(str(capture / "saves")) > 700
    assert check_round_trips(str(capture / "saves")) > 1000
    assert check_restores(str(capture / "restores"), AMX) == 158


@pytest.mark.shared
def test_every_restore_of_a_zen4(shared: Path) -> None:
    assert check_restores(str(shared / "captures" / "silicon-zen4" / "restores"), ZEN4) == 122

"""An area decoded: registers as they were loaded, lanes and tiles, families, faults, samples."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from command import TRUE_REGISTERS, fails, run, tell

import xsaveschema as xs
from xsaveschema import samples


def type_of(type: str) -> type[float] | type[int]:
    return float if type[0] == "f" else int


@pytest.mark.parametrize("name", ["zen4-kernel-core", "zen4-sigframe"])
@pytest.mark.parametrize("model", [[], ["--model", "zen4"]])
def test_registers_are_those_that_were_loaded(name: str, model: list[str]) -> None:
    shown = tell("decode", f"sample:{name}", *model)
    registers = shown["areas"][0]["registers"]
    for register, digits in TRUE_REGISTERS.items():
        assert registers[register] == "0x" + digits
    assert registers["ymm17"] == "0x" + TRUE_REGISTERS["zmm17"][64:]
    assert registers["xmm0"] == "0x" + TRUE_REGISTERS["zmm0"][96:]


def test_json_shape() -> None:
    shown = tell("decode", "sample:zen4-kernel-core", "--model", "zen4")
    assert list(shown) == ["source", "areas"]
    assert shown["source"] == "sample:zen4-kernel-core"
    (area,) = shown["areas"]
    assert list(area) == [
        "index",
        "label",
        "model",
        "layout_source",
        "format",
        "xstate_bv",
        "xcomp_bv",
        "components",
        "registers",
    ]
    assert area["model"] == "zen4"
    assert area["layout_source"] == "model zen4 limited to XCR0 0xE7 at byte 464"
    assert area["format"] == "standard"
    assert (area["xstate_bv"], area["xcomp_bv"]) == ("0xe7", "0x0")
    assert list(area["components"]) == ["x87", "sse", "avx", "opmask", "zmm_hi256", "hi16_zmm"]
    opmask = area["components"]["opmask"]
    assert list(opmask) == ["number", "in_use", "offset", "size", "fields"]
    assert (opmask["number"], opmask["in_use"]) == (5, True)
    assert (opmask["offset"], opmask["size"]) == (832, 64)
    assert len(opmask["fields"]["k"]) == 8
    assert opmask["fields"]["k"][1] == "0x8181a8cc369147eb"
    assert area["components"]["x87"]["fields"]["fcw"] == "0x37f"


def test_layout_source_says_where_the_mask_stands() -> None:
    def source(*args: str) -> Any:
        return tell("decode", *args)["areas"][0]["layout_source"]

    assert source("sample:zen4-kernel-core") == ("identified by XCR0 mask at byte 464 and size")
    # In a signal frame the magic word stands at 464 and the mask behind it.
    assert source("sample:zen4-sigframe", "--model", "zen4").endswith("0xE7 at byte 472")
    assert source("sample:zen4-xsave", "--model", "zen4") == "model zen4"
    assert source("sample:tiger-lake-xsaves", "--model", "tiger-lake") == "model tiger-lake"


def test_the_limit_is_noted_with_the_text() -> None:
    result = run("decode", "sample:zen4-kernel-core", "--model", "zen4")
    assert result.stderr == ("xsaveschema: note: model zen4 limited to XCR0 0xE7 at byte 464\n")
    assert run("decode", "sample:zen4-kernel-core", "--model", "zen4", "--json").stderr == ""


def test_supervisor_state_and_stale_bytes() -> None:
    (area,) = tell("decode", "sample:tiger-lake-xsaves", "--model", "tiger-lake")["areas"]
    assert (area["xstate_bv"], area["xcomp_bv"]) == ("0x1a47", "0x8000000000001ae7")
    parts = area["components"]
    assert parts["cet_u"]["fields"] == {
        "ia32_u_cet": "0x123456789003",
        "ia32_pl3_ssp": "0x7ffdeadbeef8",
    }
    assert (parts["cet_s"]["offset"], parts["cet_s"]["in_use"]) == (2456, True)
    # The buffer holds 0xA5 at both, but they are initial.
    assert samples.read("tiger-lake-xsaves")[832:840] == b"\xa5" * 8
    assert parts["opmask"]["in_use"] is False
    assert parts["opmask"]["fields"]["k"] == ["0x0"] * 8
    assert area["registers"]["k3"] == area["registers"]["zmm20"] == "0x0"


def test_groups_and_bytes(tmp_path: Path) -> None:
    model = xs.load_model("sapphire-rapids")
    made = xs.XsaveArea.new(model, "compacted")
    made["lbr"]["entries[2].from"] = 0x1234
    made["tilecfg"]["palette"] = 1
    made["tilecfg"]["rows[1]"] = 2
    made["tilecfg"]["colsb[1]"] = 4
    made.registers["tmm1"] = b"\x01\x02\x03\x04\x05\x06\x07\x08"
    path = tmp_path / "spr.bin"
    path.write_bytes(bytes(made))
    (area,) = tell("decode", str(path), "--model", "sapphire-rapids")["areas"]
    entries = area["components"]["lbr"]["fields"]["entries"]
    assert entries[2] == {"from": "0x1234", "to": "0x0", "info": "0x0"}
    assert len(entries) == 32
    tmm = area["components"]["tiledata"]["fields"]["tmm"]
    assert tmm[1].startswith("01020304" + "00" * 60 + "05060708")
    assert area["registers"]["tmm1"] == "0102030405060708"
    text = run("decode", str(path), "--model", "sapphire-rapids").stdout
    assert "  tmm1     2 rows of 4 u8\n       0 1 2 3\n    0: 1 2 3 4\n" in text
    assert "lbr.entries[2].from  0x0000000000001234\n" in text
    assert "95 more are zero" in text
    assert (
        "lbr.entries[7].to"
        in run("decode", str(path), "--model", "sapphire-rapids", "--all").stdout
    )


def test_lanes_of_a_type() -> None:
    """Judged by struct from the register image that was loaded."""
    whole = bytes.fromhex(TRUE_REGISTERS["zmm17"])[::-1]
    for type, code in (("f32", "f"), ("f64", "d"), ("i16", "h"), ("u8", "B")):
        lanes = list(struct.unpack(f"<{64 // struct.calcsize(code)}{code}", whole))
        args = ["decode", "sample:zen4-kernel-core", "--as", type]
        registers = tell(*args)["areas"][0]["registers"]
        assert registers["zmm17"] == lanes
        assert registers["mxcsr"] == "0x9fa1"
        assert registers["k1"] == "0x8181a8cc369147eb"
        text = run(*args, "--registers", "zmm17").stdout
        shown = text.removeprefix("  zmm17").split()
        assert struct.pack(f"<{len(lanes)}{code}", *map(type_of(type), shown)) == whole
        assert max(map(len, text.splitlines())) <= 80
    args = ["decode", "sample:zen4-kernel-core", "--as", "hex", "--registers", "zmm17"]
    (first, *_, last) = tell(*args)["areas"][0]["registers"]["zmm17"]
    assert (first, last) == ("0xfa5d310011b7e948", "0x9b49bd26df57c59a")


def test_nan_and_infinity_are_strings_in_json(tmp_path: Path) -> None:
    made = xs.XsaveArea.new(xs.load_model("zen4"))
    made.registers.set_lanes("xmm1", "f32", ["inf", "-inf", "nan(0x1)", "-0.0"])
    path = tmp_path / "area"
    path.write_bytes(bytes(made))
    args = [str(path), "--model", "zen4", "--as", "f32", "--registers", "xmm1"]
    text = run("decode", *args, "--json").stdout
    told = json.loads(text)["areas"][0]["registers"]["xmm1"]
    assert told == ["inf", "-inf", "nan(0x1)", 0.0]
    assert "-0.0" in text
    assert run("decode", *args).stdout == "  xmm1          inf      -inf  nan(0x1)      -0.0\n"


def test_as_is_for_vectors_and_tiles() -> None:
    args = ["decode", "sample:zen4-kernel-core", "--as"]
    assert "k1, mxcsr is none" in fails(*args, "f32", "--registers", "k1,mxcsr", code=2)
    assert "'f33' is not one of 'f16'" in fails(*args, "f33", code=2)
    text = run(*args, "f32", "--registers", "k1,zmm0").stdout
    assert text.startswith("  k1       0x8181a8cc369147eb\n")


def test_tiles(tmp_path: Path) -> None:
    made = xs.XsaveArea.new(xs.load_model("sapphire-rapids"))
    shapes = {0: (2, 64), 1: (3, 5), 2: (16, 64), 4: (16, 64)}
    made["tilecfg"]["palette"] = 1
    for tile, (rows, colsb) in shapes.items():
        made["tilecfg"][f"rows[{tile}]"] = rows
        made["tilecfg"][f"colsb[{tile}]"] = colsb
    made.registers.set_tile("tmm0", "bf16", [[n / 2 for n in range(32)], [float("nan")] * 32])
    made.registers["tmm1"] = bytes(range(15))
    made.registers["tmm4"] = bytes(range(64)) * 16
    path = tmp_path / "area"
    path.write_bytes(bytes(made))
    args = ["decode", str(path), "--model", "sapphire-rapids"]
    text = run(*args).stdout
    assert max(map(len, text.splitlines())) <= 80
    assert "  tmm1     3 rows of 5 u8\n        0  1  2  3  4\n" in text
    assert "  tmm2     16 rows of 64 u8, all 0\n  tmm3     no rows\n" in text
    assert re.search(r"\n +0-15: 0 1 2 3 .* \.\.\. .* 62 63\n", text)
    assert "  tmm5-tmm7  no rows\n" in text.replace("tmm7   no", "tmm7  no")
    table = text.partition("tilecfg  palette 1, start_row 0\n")[2].splitlines()
    assert table[0].split() == ["tile", "rows", "bytes", "a", "row"]
    wanted = [[f"tmm{n}", *map(str, shapes.get(n, (0, 0)))] for n in range(8)]
    assert [line.split() for line in table[1:9]] == wanted
    text = run(*args, "--as", "bf16").stdout
    assert "  tmm0     2 rows of 32 bf16\n" in text
    assert "3 rows of 5 u8  lanes of bf16 have 2 bytes, which do not divide 5" in text
    args += ["--registers", "tmm0", "--as", "bf16"]
    assert "..." in run(*args).stdout
    full = run(*args, "--all").stdout
    assert max(map(len, full.splitlines())) <= 80
    assert full.split()[-32:] == ["nan"] * 32
    assert full.split()[7:39] == [str(n / 2) for n in range(32)]
    lanes = tell(*args)["areas"][0]["registers"]["tmm0"]
    assert lanes == [[n / 2 for n in range(32)], ["nan"] * 32]
    args[-3] = "tmm1"
    assert "tmm1: lanes of bf16 have 2 bytes, which do not divide 5" in fails(*args, "--json")


def test_neighbours_with_one_value_share_it(tmp_path: Path) -> None:
    made = xs.XsaveArea.new(xs.load_model("zen4"))
    for number in range(3, 12):
        made.registers[f"zmm{number}"] = 1 << 511
    path = tmp_path / "area"
    path.write_bytes(bytes(made))
    text = run("decode", str(path), "--model", "zen4").stdout
    first = "0x8000000000000000_" + "_".join(["0" * 16] * 3)
    assert f"\n  zmm3-zmm11\n           {first}\n" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    "args",
    [
        ["--registers", "zmm17,mxcsr", "--registers", "k1"],
        ["--registers", "zmm17", "--registers", "mxcsr", "--registers", "k1,k1"],
    ],
)
def test_just_these_registers(args: list[str]) -> None:
    shown = tell("decode", "sample:zen4-kernel-core", *args)
    registers = shown["areas"][0]["registers"]
    assert registers == {name: "0x" + TRUE_REGISTERS[name] for name in ("zmm17", "mxcsr", "k1")}
    text = run("decode", "sample:zen4-kernel-core", *args).stdout
    assert text == (
        "  zmm17    0x9b49bd26df57c59a_8715a10343dac043_2a45c2ab8cbfedb0_f264accc79ac1b1e\n"
        "             a8e56e0c20de435d_2031d750c40db9b4_885f6e66c2b6d2c5_fa5d310011b7e948\n"
        "  mxcsr    0x00009fa1  IE PE IM DM ZM OM UM PM FZ RC=nearest\n"
        "  k1       0x8181a8cc369147eb\n"
        "           1000000110000001_1010100011001100_0011011010010001_0100011111101011\n"
    )


def test_a_family_of_registers() -> None:
    shown = tell("decode", "sample:zen4-kernel-core", "--registers", "k,st")
    names = [f"k{i}" for i in range(8)] + [f"st{i}" for i in range(8)]
    assert list(shown["areas"][0]["registers"]) == names


@pytest.mark.parametrize("more", [[], ["--json"]])
@pytest.mark.parametrize("names", ["", ",", " , "])
def test_registers_without_a_name(names: str, more: list[str]) -> None:
    args = ("decode", "sample:zen4-kernel-core", "--registers", names, *more)
    assert fails(*args, code=2).startswith("--registers names no register\n")


def test_registers_that_are_not_there() -> None:
    said = fails("decode", "sample:zen4-kernel-core", "--registers", "pkru")
    assert said.startswith("sample:zen4-kernel-core: pkru has no place")
    for args in (["--json"], []):
        said = fails("decode", "sample:zen4-kernel-core", "--registers", "mxscr", *args)
        assert "did you mean" in said
        assert "mxcsr" in said


def test_text() -> None:
    result = run("decode", "sample:tiger-lake-xsaves", "--model", "tiger-lake")
    lines = result.stdout.splitlines()
    assert lines[0] == "sample:tiger-lake-xsaves"
    assert max(map(len, lines)) <= 80
    rows = [line.split() for line in lines]
    in_use = ["x87", "sse", "avx", "zmm_hi256", "pkru", "cet_u", "cet_s"]
    assert ["XSTATE_BV", "0x1A47", *in_use] in rows
    assert ["5", "opmask", "initial", "832", "64"] in rows
    assert ["11", "cet_u", "in", "use", "2440", "16"] in rows
    assert ["pkru", "0x5554aaa8", "WD1-7", "AD9-15"] in rows
    assert any(row[:1] == ["zmm15"] for row in rows)
    # Initial registers, and the narrower names, are for --all.
    assert not any(row and row[0] in {"zmm16", "k0", "k0-k7", "ymm3", "xmm3"} for row in rows)
    everything = run("decode", "sample:tiger-lake-xsaves", "--model", "tiger-lake", "--all")
    rows = [line.split() for line in everything.stdout.splitlines()]
    assert ["k0-k7", "0"] in rows
    assert ["zmm16-zmm31", "0"] in rows
    assert any(row[:1] == ["xmm3"] for row in rows)


def test_colours_where_they_are_wanted() -> None:
    args = ["decode", "sample:tiger-lake-xsaves", "--model", "tiger-lake"]
    plain = run(*args).stdout
    coloured = run(*args, FORCE_COLOR="1", TERM="xterm").stdout
    assert "\x1b" not in plain
    assert "\x1b[36m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain
    layout = run("layout", "zen4", FORCE_COLOR="1", TERM="xterm").stdout
    assert "\x1b[30;44mA    \x1b[0m" in layout


def test_identified_text_says_by_what() -> None:
    shown = run("decode", "sample:zen4-kernel-core").stdout
    assert "  model      zen4, or 2 others laid out alike\n" in shown
    assert "  layout     identified by XCR0 mask at byte 464 and size\n" in shown


def test_standard_input() -> None:
    data = samples.read("zen4-kernel-core")
    shown = tell("decode", "-", data=data)
    assert shown["source"] == "-"
    assert shown["areas"] == tell("decode", "sample:zen4-kernel-core")["areas"]
    assert fails("decode", "-", data=data[:100]).startswith("standard input: the area has 100")


def test_a_file(area: Path) -> None:
    shown = tell("decode", str(area))
    assert shown["source"] == str(area)
    assert shown["areas"] == tell("decode", "sample:zen4-kernel-core")["areas"]


def test_lenient_shows_the_faults() -> None:
    name = ["decode", "sample:zen4-bad-header", "--model", "zen4"]
    assert "--lenient" in fails(*name)
    (area,) = tell(*name, "--lenient")["areas"]
    assert [fault["rule"] for fault in area["faults"]] == ["xcomp-bv-form"]
    assert area["faults"][0]["offset"] == 520
    assert set(area["faults"][0]) == {"rule", "offset", "message"}
    assert area["registers"]["zmm0"] != "0x0"
    assert "[xcomp-bv-form]" in run(*name, "--lenient").stdout
    assert (
        tell("decode", "sample:zen4-xsave", "--model", "zen4", "--lenient")["areas"][0]["faults"]
        == []
    )


def test_an_ambiguous_area_asks_for_the_model() -> None:
    said = fails("decode", "sample:tiger-lake-xsave")
    assert "different layouts" in said
    assert "--model" in said


@pytest.mark.parametrize("name", samples.SAMPLES)
def test_every_sample_decodes_as_its_description_says(name: str) -> None:
    text = samples.SAMPLES[name]
    args = text.partition("--")[1:]
    options = "".join(args).split()
    areas = tell("decode", f"sample:{name}", *options)["areas"]
    assert len(areas) == (3 if "three threads" in text else 1)
    for area in areas:
        assert area["format"] in text or "--lenient" in options
    assert len(text) <= 80
    assert name == name.lower()


def test_the_samples_with_threads_and_with_tiles() -> None:
    core = tell("decode", "sample:avx512-core")["areas"]
    assert {area["layout_source"] for area in core} == {"NT_X86_XSAVE_LAYOUT"}
    lanes = struct.pack("<16f", *range(100, 116))
    named = [area["registers"] for area in core]
    assert int(named[2]["zmm17"], 16) == int.from_bytes(lanes, "little")
    assert [area["k1"] for area in named] == ["0x0", "0x0", "0xff0f"]
    (area,) = tell("decode", "sample:amx-xsavec")["areas"]
    assert all(part["in_use"] for part in area["components"].values())
    tiles = area["components"]["tilecfg"]["fields"]
    assert (tiles["rows"][1], tiles["colsb"][1]) == ("0x8", "0x10")


def test_the_list_of_samples() -> None:
    shown = run("decode", "sample:").stdout
    said = fails("decode", "sample:nope", code=2)
    fails("convert", "sample:", "--format", "standard", "-o", "x", code=2)
    for name, text in samples.SAMPLES.items():
        assert f"sample:{name} " in shown
        assert text in shown
        assert text in said


def test_only_samples_are_shipped() -> None:
    there = {path.stem for path in Path(samples.__file__).parent.glob("*.bin")}
    assert there == set(samples.SAMPLES)
    with pytest.raises(KeyError):
        samples.read("../samples/zen4-xsave")

"""CRIU core images: one that criu wrote, and images built from core-x86.proto."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import fails, run, tell
from places import DATA
from writers import criu as w
from writers.hostile import cuts, mutations, survive
from writers.state import State

from xsaveschema import artefacts, load_model
from xsaveschema.artefacts.criu import MAX_SIZE, READER
from xsaveschema.artefacts.reader import ArtefactError, Found, Options
from xsaveschema.errors import MissingStateError, XsaveError
from xsaveschema.identify.from_leaf import model_from_leaf

REAL = DATA / "artefacts"


def read(data: bytes, options: Options | None = None) -> list[Found]:
    view = memoryview(data)
    assert READER.recognises(view)
    return list(READER.read(view, options or Options()))


@pytest.mark.parametrize("name", ["criu-3.17.1-core.img", "criu-3.17.1-core.json"])
def test_what_criu_wrote(name: str) -> None:
    """A process on a Zen 3 that ran LDMXCSR 0x1FA0, FLDPI, FLD1 and loaded 16 YMM registers."""
    (found,) = artefacts.open(REAL / name)
    assert found.label == "task"
    registers = found.area.registers
    pattern = bytes((i * 7 + 3) & 0xFF for i in range(512))
    for index in range(16):
        expected = int.from_bytes(pattern[32 * index : 32 * index + 32], "little")
        assert registers[f"ymm{index}"] == expected
    assert registers["mxcsr"] == 0x1FA0
    assert registers["st0"] == 0x3FFF_8000000000000000  # 1.0
    assert registers["st1"] == 0x4000_C90FDAA22168C235  # pi
    assert found.area.xstate_bv == 7
    assert found.area.raw["legacy"][28:32] == struct.pack("<I", 0x2FFFF)


MASKS = [0x3, 0x7, 0x1F, 0xE7, 0x2E7, 0x2FF & ~0x100, 0x207]


@pytest.mark.parametrize("form", ["wire", "packed", "json", "pretty"])
@pytest.mark.parametrize("mask", MASKS, ids=hex)
def test_registers_come_out(mask: int, form: str) -> None:
    state = State(mask)
    entry = w.fields(state, mask)
    if form in ("wire", "packed"):
        data = w.image(w.core(w.encode(entry, form == "packed")))
    else:
        data = w.as_json(entry, form == "pretty")
    (found,) = read(data)
    said = state.registers(mask)
    assert found.area.registers.read(said) == said
    assert found.area.xstate_bv == mask
    assert found.area.format == "standard"
    assert found.offset is None
    assert found.layout_source.startswith("no offsets in the file: those of ")


def test_a_named_model_holds_the_fields_at_its_offsets() -> None:
    state = State()
    data = w.image(w.core(w.encode(w.fields(state, 0x2E7))))
    (found,) = read(data, Options(load_model("zen4")))
    assert bytes(found.area) == state.standard(0x2E7, {2: 576, 5: 832, 6: 896, 7: 1408, 9: 2432})
    with pytest.raises(ArtefactError, match=r"haswell cannot hold .* no opmask, zmm"):
        read(data, Options(load_model("haswell")))


def test_a_component_that_is_not_in_use_asks_nothing_of_a_model() -> None:
    state = State()
    data = w.image(w.core(w.encode(w.fields(state, 0xE7, live=0x7))))
    (found,) = read(data, Options(load_model("haswell")))
    assert found.area.registers["ymm7"] == state.zmm[7] & (1 << 256) - 1
    (found,) = read(data)
    assert found.area.registers["k1"] == 0


def test_shadow_stack_state_has_a_place_in_the_compacted_format_only() -> None:
    state = State()
    (found,) = read(w.image(w.core(w.encode(w.fields(state, 0xA07)))))
    assert found.area.format == "compacted"
    assert found.area["cet_u"]["ia32_pl3_ssp"] == state.ssp
    assert found.area["cet_u"]["ia32_u_cet"] == state.u_cet
    said = state.registers(0x207)
    assert found.area.registers.read(said) == said


def test_mxcsr_survives_beside_shadow_stack_state() -> None:
    """In the compacted format MXCSR counts only with XSTATE_BV[1] set."""
    entry = w.fields(State(), 0x805, live=0x5)
    (found,) = read(w.image(w.core(w.encode(entry | {"xmm_space": [0] * 64}))))
    assert found.area.format == "compacted"
    assert found.area.registers["mxcsr"] == State().mxcsr


@pytest.mark.parametrize("magics", [w.MAGICS, w.MAGICS[1:]], ids=["v1.1", "v1.0"])
def test_magic_words_of_both_versions_and_several_entries(magics: tuple[int, ...]) -> None:
    cores = [w.core(w.encode(w.fields(State(seed), 7))) for seed in (1, 2)]
    found = read(w.image(*cores, magics=magics))
    assert [f.label for f in found] == ["task", "core entry 1"]
    assert [f.area.registers["xmm0"] for f in found] == [
        State(seed).zmm[0] & (1 << 128) - 1 for seed in (1, 2)
    ]


def test_an_image_of_a_cpu_without_xsave() -> None:
    (found,) = read(w.image(w.core(w.encode(w.fields(State(), None)))))
    assert found.area.registers["st3"] == State().st[3]
    assert "no xsave entry" in found.notes[0]


def altered(**changes: Any) -> bytes:
    entry = w.fields(State(), 7)
    entry["xsave"] |= {k: changes.pop(k) for k in list(changes) if k in ("ymmh_space", "pkru")}
    return w.image(w.core(w.encode(entry | changes)))


WIDTHS = {"cwd": 16, "swd": 16, "twd": 8, "fop": 16, "mxcsr": 32, "mxcsr_mask": 32}
WIDTHS |= {"st_space": 32, "xmm_space": 32, "ymmh_space": 32}


@pytest.mark.parametrize("name", WIDTHS)
def test_every_field_has_its_width(name: str) -> None:
    wide = 1 << WIDTHS[name]
    listed = {"st_space": 32, "xmm_space": 64, "ymmh_space": 64}
    for value in (wide - 1, wide):
        data = altered(**{name: [value] * listed[name] if name in listed else value})
        if value < wide:
            assert len(read(data)) == 1
        else:
            with pytest.raises(ArtefactError, match=f"{name} cannot be {wide:#x}"):
                read(data)


def test_numbers_as_hexadecimal_text() -> None:
    text = TEXT.replace('"cwd": 639', '"cwd": "0x37f"')
    assert read(text.encode())[0].area.registers["fcw"] == 0x37F


def test_a_component_that_is_shorter_in_the_named_model() -> None:
    leaf = {0: (0x207, 0, 0, 0), 1: (0, 0, 0, 0), 2: (256, 576, 0, 0), 9: (4, 832, 0, 0)}
    model = model_from_leaf(leaf, name="short")
    entry = w.fields(State(), 0x207)
    (found,) = read(w.image(w.core(w.encode(entry))), Options(model))
    assert found.area.registers["pkru"] == State().pkru
    entry["xsave"]["pkru"] = [5, 1]
    with pytest.raises(ArtefactError, match="pkru has 8 bytes in the file, 4 on short"):
        read(w.image(w.core(w.encode(entry))), Options(model))


FINE = altered()
TEXT = w.as_json(w.fields(State(), 7)).decode()
BAD = [
    pytest.param(altered(cwd=0x10000), "cwd cannot be 0x10000", id="wide"),
    pytest.param(altered(st_space=[1] * 31), "task: st_space has 31 of 32 values", id="few"),
    pytest.param(altered(st_space=[1] * 33), "more than 32", id="many"),
    pytest.param(altered(ymmh_space=[1] * 63), "ymmh_space has 63 of 64 values", id="few-ymmh"),
    pytest.param(altered(ymmh_space=[1 << 32]), "ymmh_space cannot be", id="wide-word"),
    pytest.param(w.image(w.core(w.number(1, 0x37F))), "task: there is no swd", id="missing"),
    pytest.param(
        altered(xsave={"xstate_bv": 7, "cet": {"cet": 3}}),
        "there is no ssp",
        id="half-cet",
    ),
    pytest.param(altered(xsave={}), "xsave of task: there is no xstate_bv", id="no-xstate-bv"),
    pytest.param(w.image(w.core(b"", march=3)), "not x86-64's", id="march"),
    pytest.param(w.image(w.number(1, 1)), "no FPU registers", id="no-fpu"),
    pytest.param(w.image(), "no FPU registers", id="nothing"),
    pytest.param(w.image(w.number(2, 5)), "thread_info cannot be", id="not-a-message"),
    pytest.param(w.image(b"\x13"), "wire type 3", id="group"),
    pytest.param(w.image(b"\x80" * 11), "longer than ten", id="endless-number"),
    pytest.param(w.image(b"\x08\x80", b"\x01\x01"), "ends within a number", id="cut-number"),
    pytest.param(w.image(b"\x12\xff\xff\xff\x07"), "bytes, 0 are left", id="long-message"),
    pytest.param(w.image(b"\x02\x00"), "no field 0", id="field-0"),
    pytest.param(w.image(b"\x00\x00"), "no field 0", id="number-0"),
    pytest.param(w.image(w.message(2, b"") * 2), "a second thread_info", id="twice"),
    pytest.param(w.image(w.varint(1 << 3 | 5) + bytes(4)), "not stored as", id="fixed"),
    pytest.param(FINE[:8] + struct.pack("<I", 1 << 31) + FINE[12:], "are left", id="entry-size"),
    pytest.param(FINE + b"\1", "the size of an entry takes 4 bytes, 1", id="trailing"),
    pytest.param(bytes(40), "other magic words", id="magic"),
    pytest.param(TEXT.replace('"cwd": 639', '"cwd": "x"').encode(), "no number", id="j-text"),
    pytest.param(TEXT.replace('"cwd": 639', '"cwd": -1').encode(), "no number", id="j-negative"),
    pytest.param(TEXT.replace('"cwd": 639', '"cwd": 1.5').encode(), "no number", id="j-float"),
    pytest.param(TEXT.replace('"cwd": 639', '"cwd": true').encode(), "no number", id="j-bool"),
    pytest.param(TEXT.replace('"cwd": 639, ', "").encode(), "there is no cwd", id="j-missing"),
    pytest.param(TEXT.replace("X86_64", "AARCH64").encode(), "AARCH64", id="j-march"),
    pytest.param(TEXT[:-2].encode(), "no JSON", id="j-cut"),
    pytest.param(TEXT.encode() + b"\xff", "trailing characters", id="j-trailing"),
    pytest.param(
        TEXT.replace('"X86_64"', '"\udcff"').encode("utf-8", "surrogateescape"),
        "not UTF-8",
        id="j-utf8",
    ),
    pytest.param(b'{"magic": "CORE"}', "no list of entries", id="j-entries"),
    pytest.param(b'{"magic": "CORE", "entries": [5]}', "5 stands where", id="j-entry"),
    pytest.param(b'{"magic": "CORE", "entries": ' + b"[" * 200_000, "deeply", id="j-deep"),
    pytest.param(
        b'{"magic": "CORE", "entries": [' + b"9" * 5000 + b"]}", "could be read", id="j-digits"
    ),
]


@pytest.mark.parametrize(("data", "message"), BAD)
def test_what_is_wrong_is_said(data: bytes, message: str) -> None:
    with pytest.raises(ArtefactError, match=message):
        list(READER.read(memoryview(data), Options()))


def test_the_offset_is_that_of_the_fault() -> None:
    with pytest.raises(ArtefactError) as caught:
        list(READER.read(memoryview(w.image(w.number(1, 1) + b"\x13")), Options()))
    assert caught.value.offset == 14


def test_what_criu_wrote_of_a_process_with_tiles() -> None:
    """criu 4.2 copies XSTATE_BV 0x600E6 and has no field for the tiles."""
    (found,) = artefacts.open(REAL / "criu-4.2-amx-core.img")
    area = found.area
    assert area.missing == ("tilecfg", "tiledata")
    assert area.xstate_bv == 0x600E6
    assert "tmm0" not in area.registers
    assert area.registers["zmm0"] > 1 << 128
    with pytest.raises(MissingStateError, match="tmm0: tilecfg, tiledata are live, but not in"):
        _ = area.registers["tmm0"]
    with pytest.raises(ArtefactError, match=r"zen4 cannot hold .* it has no tilecfg, tiledata"):
        list(artefacts.open(REAL / "criu-4.2-amx-core.img", load_model("zen4")))
    (found,) = artefacts.open(REAL / "criu-4.2-amx-core.img", load_model("sapphire-rapids"))
    assert found.area.missing == ("tilecfg", "tiledata")


@pytest.mark.parametrize("form", [w.encode, w.as_json], ids=["wire", "json"])
def test_a_field_that_is_absent_is_not_zero(form: Callable[[Any], bytes]) -> None:
    entry = w.fields(State(), 0x2E7)
    del entry["xsave"]["pkru"], entry["xsave"]["zmm_upper"]
    data = form(entry)
    (found,) = read(data if form is w.as_json else w.image(w.core(data)))
    assert found.area.missing == ("zmm_hi256", "pkru")
    assert found.area.registers["ymm9"] == State().zmm[9] & (1 << 256) - 1


def test_components_that_nobody_knows_are_named_by_number() -> None:
    for model in (None, load_model("haswell")):
        entry = w.fields(State(), 7, live=7 | 1 << 20 | 1 << 40)
        (found,) = read(w.image(w.core(w.encode(entry))), Options(model))
        assert found.area.missing == ("component20", "component40")
    # No model has both: those that are there decide, and the name comes from the catalogue.
    (found,) = read(w.image(w.core(w.encode(w.fields(State(), 0x1F, live=0x8001F)))))
    assert found.area.missing == ("apx",)
    assert found.area.registers["bnd1"] == State().registers(0x1F)["bnd1"]


def test_bit_63_is_no_component() -> None:
    with pytest.raises(XsaveError, match="bit 63"):
        read(w.image(w.core(w.encode(w.fields(State(), 7, live=7 | 1 << 63)))))


def test_huge_files_are_refused_at_once() -> None:
    data = memoryview(w.image().ljust(MAX_SIZE + 1, b"\0"))
    with pytest.raises(ArtefactError, match="at most"):
        list(READER.read(data, Options()))


def test_damaged_images_are_refused_or_read() -> None:
    whole = w.image(w.core(w.encode(w.fields(State(), 0x2E7))))
    assert survive(READER, cuts(whole, 300)) >= 300
    assert survive(READER, mutations(whole, 700)) > 0
    small = altered(st_space=[0] * 32, xmm_space=[0] * 64, ymmh_space=[0] * 64)
    assert survive(READER, mutations(small, 1000)) > 0
    text = w.as_json(w.fields(State(), 7))
    assert survive(READER, cuts(text, 200)) >= 200
    assert survive(READER, mutations(text, 700)) > 0


def test_json_that_is_not_of_criu_is_left_to_others() -> None:
    for data in (b"", b"{}", b'{"magic": "MM", "entries": []}', b"[" * 1000, bytes(7)):
        assert not READER.recognises(memoryview(data))
    assert json.loads(TEXT)["magic"] == "CORE"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (1207, 12, 993):
        image = w.image(w.core(w.encode(w.fields(State(seed=number), 0xE7))))
        (tmp_path / f"core-{number}.img").write_bytes(image)
    (tmp_path / "pstree.img").write_bytes(b"something else")
    (tmp_path / "core-x.img").write_bytes(b"something else")
    return tmp_path


def test_threads_are_named_by_number_and_come_in_order(folder: Path) -> None:
    found = list(artefacts.open(folder))
    assert [each.label for each in found] == ["thread 12", "thread 993", "thread 1207"]
    for each, number in zip(found, (12, 993, 1207), strict=True):
        assert each.area.registers["k1"] == State(seed=number).k[1]


def test_the_commands_take_a_folder(folder: Path, tmp_path: Path) -> None:
    areas = tell("decode", str(folder))["areas"]
    assert [area["label"] for area in areas] == ["thread 12", "thread 993", "thread 1207"]
    run("check", str(folder), "--area", "thread 993")
    assert [area["faults"] for area in tell("check", str(folder))["areas"]] == [[], [], []]
    out = tmp_path / "out"
    assert "choose one (area=" in fails("convert", str(folder), "-o", str(out))
    run("convert", str(folder), "--area", "thread 12", "--model", "zen4", "-o", str(out))
    assert len(out.read_bytes()) == 2432


def test_folders_without_images_and_with_bad_ones(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "is a folder, and has no core-N.img of CRIU" in fails("decode", str(empty))
    (folder / "core-13.img").write_bytes((folder / "core-12.img").read_bytes()[:100])
    with pytest.raises(XsaveError) as caught:
        list(artefacts.open(folder))
    assert "core-13.img" in caught.value.__notes__

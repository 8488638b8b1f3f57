"""Areas as debuggers read them, against XsaveArea: every CPU of the catalogue."""

from __future__ import annotations

import platform
import random
import struct
from typing import Any

import cores
import pytest
from artefact_areas import intel_area

import xsaveschema as xs
from xsaveschema.area.lines import area_facts, component_lines, text_of, value_lines
from xsaveschema.area.loaded import as_restored
from xsaveschema.area.rows import View
from xsaveschema.catalog import default_catalog
from xsaveschema.debuggers import areas
from xsaveschema.debuggers.tables import literal, tables

TABLES = tables(default_catalog())
MODELS = default_catalog().models()
VIEWS = [View(), View(True), View(False, "f32")]


def rows_of(model: xs.CpuModel, mask: int) -> list[tuple[int, int, int]]:
    return [(s.number, s.size, s.offset) for s in model.standard_layout(mask) if s.number > 1]


def text(area: Any, loaded: Any, view: View) -> str:
    facts = area_facts(area)
    return text_of([*component_lines(area), *value_lines(area, loaded, 80, view)]) + repr(facts)


def random_area(model: xs.CpuModel, rng: random.Random) -> bytes:
    """Any bits in use; TILECFG is legal now and then."""
    area = bytearray(rng.randbytes(model.standard_layout().size))
    area[24:32] = struct.pack("<II", rng.getrandbits(16), model.mxcsr_mask)
    area[464:576] = struct.pack("<Q40xQ", model.xcr0, model.xcr0 & rng.getrandbits(64)).ljust(
        112, b"\0"
    )
    if "tilecfg" in model.components and rng.random() < 0.7:
        at = model.components["tilecfg"].offset or 0
        area[at : at + 64] = bytes([1]).ljust(16, b"\0") + struct.pack(
            "<8H16x8B8x", *[48] * 8, *[5] * 8
        )
    return bytes(area)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_every_cpu_is_read_as_the_package_reads_it(model: xs.CpuModel) -> None:
    rng = random.Random(model.name)
    for _ in range(3):
        data = random_area(model, rng)
        told = areas.Told(rows_of(model, model.xcr0), "the test")
        mine = areas.Area(data, areas.layout_of(data, TABLES, told))
        mine.layout.vendor = model.vendor
        theirs = xs.XsaveArea.parse(data, model)
        assert {name: mine.registers[name] for name in mine.registers} == dict(theirs.registers)
        for view in VIEWS:
            assert text(mine, mine.restored(), view) == text(theirs, as_restored(theirs), view)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_every_cpu_is_written_as_the_package_writes_it(model: xs.CpuModel) -> None:
    rng = random.Random(model.name)
    for name in ("xmm3", "ymm3", "zmm3", "zmm19", "k1", "st3", "mm3", "mxcsr", "tmm2", "pkru"):
        data = random_area(model, rng)
        told = areas.Told(rows_of(model, model.xcr0), "the test")
        mine = areas.Area(data, areas.layout_of(data, TABLES, told))
        theirs = xs.XsaveArea.parse(bytearray(data), model)
        if name not in mine.registers:
            assert name not in theirs.registers
            continue
        value = mine.registers[name]
        size = len(value) if isinstance(value, bytes) else mine.registers.size(name)
        new = rng.randbytes(size)
        mine.registers.put(name, new)
        theirs.registers[name] = new
        assert mine.buffer == bytes(theirs)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_mask_and_size_tell_the_layout_that_identify_finds(model: xs.CpuModel) -> None:
    data = random_area(model, random.Random(1))
    layout = areas.layout_of(data, TABLES, None)
    found = xs.identify(data).model
    assert [(s.number, s.size, s.offset) for s in layout if s.number > 1] == rows_of(
        found, found.xcr0
    )
    assert layout.vendor == found.vendor
    named = areas.layout_of(data, TABLES, None, model.name)
    assert (named.xcr0, named.size) == (layout.xcr0, layout.size)


def test_cpus_that_differ() -> None:
    """No two of the catalogue do under one mask, size and MXCSR_MASK; the next one may."""
    intel = next(cpus for cpus in TABLES.cpus if "ice-lake-server" in cpus.names)
    moved = {5: 1600, 6: 1088}
    rows = tuple((n, size, moved.get(n, at)) for n, size, at in intel.rows)
    mine = intel._replace(names=("mine",), rows=rows)
    both = TABLES._replace(cpus=(intel, mine))
    area = bytes(intel_area())
    with pytest.raises(areas.RefusedError, match=r"fit CPUs that differ: .*ice-lake.*; mine; name"):
        areas.layout_of(area, both, None)
    assert areas.layout_of(area, both, None, "mine")["opmask"].offset == 1600
    with pytest.raises(areas.RefusedError, match="is not mine's layout"):
        areas.layout_of(area, both, areas.Told([*intel.rows], "the note"), "mine")


def test_what_speaks_against_a_cpu_that_is_named() -> None:
    area = bytes(intel_area())
    with pytest.raises(areas.RefusedError, match=r"mask at byte 464 is 0x2E7: zen3 has no opmask"):
        areas.layout_of(area, TABLES, None, "zen3")
    shorter = areas.layout_of(area, TABLES, None, "zen5")
    assert shorter.notes == [
        "the area has 2696 bytes; zen5 takes 2440 for the mask 0x2E7 at byte 464"
    ]
    assert areas.layout_of(area, TABLES, None, "spr").size == 2696


def test_a_table_that_says_more_or_less_than_the_area() -> None:
    area = bytes(intel_area(2696, 0xE7))
    rows = rows_of(xs.load_model("ice-lake-server"), 0x2E7)
    told = areas.Told(rows, "the note")
    layout = areas.layout_of(area, TABLES, told)
    assert (layout.xcr0, layout.size) == (0xE7, 2688)
    assert layout.notes == ["the area has 2696 bytes, but the note describes 2688"]
    told = areas.Told(rows[:-1], "the note")
    layout = areas.layout_of(struct.pack("<464sQ", area, 0x2E7) + area[472:], TABLES, told)
    assert layout.notes[0].startswith("the XCR0 mask at byte 464 is 0x2E7, but the note describes")


def test_a_component_that_nobody_knows() -> None:
    area = bytearray(intel_area(2752, 0x1000_0000_02E7))
    told = areas.Told([(2, 256, 576), (44, 64, 2688)], "the note")
    struct.pack_into("<Q", area, 512, 1 << 44)
    mine = areas.Area(bytes(area), areas.layout_of(bytes(area), TABLES, told))
    assert "component44  64 bytes of no known fields" in text(mine, mine.restored(), View())


def test_the_tables_are_python() -> None:
    names = vars(areas).copy()
    assert eval(literal(TABLES), names) == TABLES


def core_of(area: bytes, rows: list[tuple[int, int, int]]) -> bytes:
    return cores.core(cores.threads([area]) + cores.layout_note(rows))


@pytest.mark.parametrize("seed", range(40))
def test_a_layout_that_no_cpu_has(seed: int) -> None:
    """Components of any size, known or not, where nobody has them."""
    rng = random.Random(seed)
    numbers = [2, *rng.sample([3, 4, 5, 6, 7, 9, 19, 20, 44], 4)]
    at, rows = 576, []
    for number in rng.sample(numbers, len(numbers)):
        known = TABLES.components.get(number)
        size = rng.choice([known.size if known else 64, rng.randrange(1, 1100)])
        rows.append((number, size, at))
        at += size + rng.choice([0, 0, 64])
    area = bytearray(rng.randbytes(at))
    mask = 3 | sum(1 << number for number in numbers)
    area[24:32] = struct.pack("<II", rng.getrandbits(16), 0xFFFF)
    area[464:576] = struct.pack("<Q40xQ", mask, mask & rng.getrandbits(64)).ljust(112, b"\0")
    core = core_of(bytes(area), rows)
    theirs = next(xs.artefacts.read_bytes(core)).area
    mine = areas.of_thread(core, 100, TABLES)
    mine.layout.vendor = theirs.model.vendor  # of a model that was built, none
    assert {name: mine.registers[name] for name in mine.registers} == dict(theirs.registers)
    for view in VIEWS:
        assert text(mine, mine.restored(), view) == text(theirs, as_restored(theirs), view)


def test_what_a_file_lies_about_is_a_fault_and_nothing_else() -> None:
    good = core_of(bytes(intel_area()), rows_of(xs.load_model("ice-lake-server"), 0x2E7))
    assert len(areas.of_thread(good, 100, TABLES)) == 2696
    rng = random.Random(3)
    refused = 0
    for length in range(0, len(good), 7):
        broken = bytearray(good)
        for _ in range(rng.randrange(4)):
            broken[rng.randrange(1000)] = rng.randrange(256)
        try:
            areas.of_thread(bytes(broken[: length or None]), 100, TABLES)
        except ValueError:
            refused += 1
    assert refused > 100
    with pytest.raises(areas.RefusedError, match="no NT_X86_XSTATE note of thread 7"):
        areas.of_thread(good, 7, TABLES)


def test_where_cpuid_cannot_be_executed_the_area_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(leaf: int, sub_leaf: int) -> None:
        raise PermissionError

    area = bytes(intel_area())
    monkeypatch.setattr(areas, "execute_cpuid", forbidden)
    known = areas.of_host(area, TABLES).layout.source
    assert known == "identified by XCR0 mask at byte 464 and size"
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(areas, "execute_cpuid", lambda *_: pytest.fail("it would not come back"))
    assert areas.of_host(area, TABLES).layout.source == known

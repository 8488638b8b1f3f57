"""Layouts that a file tells: tables of components, judged, matched, and made a model of."""

from __future__ import annotations

import struct

import pytest

from xsaveschema import load_model
from xsaveschema.artefacts.elf_notes import row_faults
from xsaveschema.artefacts.layouts import Entry, of_rows

LIMIT = 4096
AVX, OPMASK, PKRU = (2, 256, 576), (5, 64, 832), (9, 8, 2432)


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        pytest.param([], None, id="none"),
        pytest.param([PKRU, AVX, OPMASK], None, id="in any order"),
        pytest.param([(2, 256, 576), (62, LIMIT - 832, 832)], None, id="up to the limit"),
        pytest.param([(1, 256, 576)], "component 1: the extended region has", id="legacy"),
        pytest.param([(63, 8, 576)], "component 63: the extended region has", id="bit 63"),
        pytest.param([AVX, (2, 256, 832)], "component 2 stands there twice", id="twice"),
        pytest.param([(2, 0, 576)], "lies outside the extended region [0x240..", id="empty"),
        pytest.param([(2, 1, 575)], "[0x23f..0x240) lies outside", id="in the header"),
        pytest.param([(2, 2, LIMIT - 1)], "[0xfff..0x1001) lies outside", id="beyond the limit"),
        pytest.param(
            [(5, 64, 831), AVX],
            "component 2 [0x240..0x340) and component 5 [0x33f..0x37f) overlap",
            id="overlap",
        ),
    ],
)
def test_what_is_absurd_in_a_table(rows: list[Entry], fault: str | None) -> None:
    found = row_faults(rows, LIMIT)
    assert (found or "").find(fault or "") >= 0
    assert (found is None) == (fault is None)


def area(mxcsr_mask: int) -> memoryview:
    return memoryview(struct.pack("<24xII", 0x1F80, mxcsr_mask).ljust(4096, b"\0"))


def test_a_table_of_a_known_cpu_is_that_cpus() -> None:
    slots = [slot for slot in load_model("zen4").standard_layout() if slot.number > 1]
    rows = [(slot.number, slot.size, slot.offset) for slot in slots]
    known = of_rows(rows, area(0x2FFFF), "NT_X86_XSAVE_LAYOUT", None)
    assert (known.model.name, known.source) == ("zen4", "NT_X86_XSAVE_LAYOUT")


@pytest.mark.parametrize(("there", "mxcsr_mask"), [(0, 0xFFFF), (0x2FFFF, 0x2FFFF)])
def test_a_table_of_an_unknown_cpu_becomes_a_model(there: int, mxcsr_mask: int) -> None:
    rows = [(18, 8192, 4096), AVX, (20, 24, 3000)]
    known = of_rows(rows, area(there), "NT_X86_XSAVE_LAYOUT", None)
    model = known.model
    assert (model.name, known.source) == ("nt-x86-xsave-layout", "NT_X86_XSAVE_LAYOUT")
    extended = [c for c in model.components.values() if not c.legacy]
    assert {(c.number, c.size, c.offset) for c in extended} == {*rows}
    # What a table does not say of a component is what is known of it; of the CPU nothing is.
    assert [c.number for c in extended if c.align64 or c.xfd] == [18]
    assert model.xcr0 == 1 << 20 | 1 << 18 | 7
    assert model.standard_layout().size == 4096 + 8192
    assert (model.instructions, model.xss, model.mxcsr_mask) == (frozenset(), 0, mxcsr_mask)

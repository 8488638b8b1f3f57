"""What a real Zen 4, Linux and Bochs' Intel models wrote, against what this project makes of it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pytest
from captures import FOLDER, Record, cut, records

from xsaveschema import XsaveArea, identify, load_model, relayout, to_compacted, to_standard
from xsaveschema.errors import StateLossError
from xsaveschema.model import COMPACTED, CpuModel, Field, Signature, StateComponent

REGISTERS = (FOLDER / "linux-regs.bin").read_bytes()
ZEN4 = load_model("zen4").limited(xcr0=0xE7, xss=0)


def bochs_model(cpu: Record) -> CpuModel:
    """The model that the emulator's own leaf 0xD tells, beside the catalogue."""
    base = load_model("tiger-lake")
    components = {name: base.components[name] for name in ("x87", "sse")}
    names = {c.number: c.name for c in base.components.values()}
    for number, row in enumerate(cpu["leafD"]):
        size, offset, flags, _ = (int(word, 16) for word in row)
        if number < 2 or not size:
            continue

        def fields(name: str = names[number]) -> tuple[Field, ...]:
            return base.components[name].fields

        components[names[number]] = StateComponent(
            number, names[number], size, None if flags & 1 else offset, bool(flags & 1),
            bool(flags & 2), bool(flags & 4), None, fields,
        )  # fmt: skip
    words = ("xsaveopt", "xsavec", "xgetbv1", "xsaves")
    bits = int(cpu["leafD"][1][0], 16)
    announced = frozenset(word for bit, word in enumerate(words) if bits >> bit & 1)
    return CpuModel(
        "bochs", "", cpu["vendor"], (Signature(cpu["vendor"], 6, (0,), None),), announced,
        components, int(cpu["xcr0"], 16), int(cpu["xss"], 16), 0xFFFF, (), "", "",
        lambda: base.registers,
    )  # fmt: skip


def pairs(name: str, full: int) -> Iterator[tuple[Record, Record]]:
    """Saves of the same state, RFBM and zeroed buffer: (xsave, xsavec or xsaves)."""
    plain: dict[Any, Record] = {}
    found = [r for r in records(name) if r.get("kind", "save") == "save"]
    for record in found:
        if int(str(record["prefill"]), 16) or record.get("vector"):
            continue
        mask = int(record["rfbm"], 16) & full
        key = (record.get("seed"), record["state"], record.get("regs_off"), mask)
        if record["instr"] in ("xsave64", "xsave"):
            plain[key] = record
        elif record["instr"] in ("xsavec64", "xsavec", "xsaves") and key in plain:
            yield plain[key], record


def same_state(name: str, full: int, model: CpuModel) -> int:
    """Check every pair of saves; returns how many there were."""
    count = 0
    for plain, packed in pairs(name, full):
        standard = cut(name, plain["off"], plain["len"])
        expected = cut(name, packed["off"], packed["len"])
        mask = int(packed["xcomp_bv"], 16) & ~COMPACTED
        if mask & ~model.user_mask & ~model.supervisor_mask:
            continue
        if mask & 6 == 0 or (mask & 2 == 0 and standard[24:28] != b"\x80\x1f\0\0"):
            # No MXCSR in the source, or none in the target: a loss, and said to be.
            if mask & 4:
                with pytest.raises(StateLossError):
                    to_compacted(standard, model, xcomp_bv=mask)
            continue
        result = to_compacted(standard, model, xcomp_bv=mask)
        supervisor = sum(1 << n for n in range(63) if mask & model.supervisor_mask & 1 << n)
        live = int.from_bytes(expected[512:520], "little") & supervisor
        if not live:
            assert result.data == expected[: len(result.data)], (plain, packed)
        back = to_standard(expected, model, xcr0=None, drop=model.names_of(live))
        again = XsaveArea.parse(back.data, model)
        for component in model.components.values():
            if component.bit & mask and not component.supervisor and component.number > 1:
                assert again.raw[component.name] == (
                    standard[component.offset :][: component.size]
                    if int.from_bytes(standard[512:520], "little") & component.bit
                    else bytes(component.size)
                )
        count += 1
    return count


def test_converting_what_xsave_wrote_gives_what_xsavec_wrote_on_zen4() -> None:
    assert same_state("zen4-saves", 0xE7, ZEN4) >= 30


@pytest.mark.parametrize("name", ["bochs-corei7_skylake_x", "bochs-tigerlake"])
def test_converting_what_xsave_wrote_gives_what_xsavec_wrote_on_bochs(name: str) -> None:
    cpu = records(name)[0]
    model = bochs_model(cpu)
    assert same_state(name, int(cpu["xcr0"], 16) | int(cpu["xss"], 16), model) >= 10


@pytest.mark.parametrize("name", ["zen4-saves", "bochs-corei7_skylake_x", "bochs-tigerlake"])
def test_every_legal_save_parses_and_builds_byte_for_byte(name: str) -> None:
    model = ZEN4 if name.startswith("zen4") else bochs_model(records(name)[0])
    count = 0
    for record in records(name):
        if "instr" not in record or record["instr"].startswith("fx") or record.get("vector"):
            continue
        if record.get("kind", "save") != "save":
            continue
        data = cut(name, record["off"], record["len"])
        xcomp_bv = int.from_bytes(data[520:528], "little")
        if xcomp_bv not in (0, int(record["xcomp_bv"], 16) | COMPACTED):
            continue
        xstate_bv = int.from_bytes(data[512:520], "little")
        if xstate_bv & ~(model.user_mask | model.supervisor_mask):
            continue  # XSAVE into a dirty buffer keeps foreign bits
        area = XsaveArea.parse(data, model)
        struct = model.construct()
        assert struct.build(struct.parse(data)) == data
        assert area.xstate_bv == int(record["xstate_bv"], 16)
        count += 1
    assert count > 50


def check_registers(area: XsaveArea) -> None:
    """The register image that was loaded before: zmm[32], k[8], mxcsr."""
    for n in range(32):
        expected = int.from_bytes(REGISTERS[64 * n : 64 * n + 64], "little")
        assert area.registers[f"zmm{n}"] == expected, f"zmm{n}"
    for n, value in enumerate(struct.unpack_from("<8Q", REGISTERS, 2048)):
        assert area.registers[f"k{n}"] == value, f"k{n}"
    assert area.registers["mxcsr"] == struct.unpack_from("<I", REGISTERS, 2112)[0]


@pytest.mark.parametrize("file", ["kernel_core.elf.xstate", "sigframe"])
def test_linux_areas_hold_the_registers_that_were_loaded(file: str) -> None:
    data = (FOLDER / f"linux-{file}.bin").read_bytes()
    match = identify(data)
    assert [c.model for c in match.candidates] == ["zen4", "zen5", "zen6"]
    assert match.model.xcr0 == 0xE7
    area = XsaveArea.parse(data)
    check_registers(area)
    for there in (
        to_compacted(data, match.model, xcomp_bv=0xE7).data,
        relayout(
            data, source=match.model, target=load_model("skylake-server"), format="standard"
        ).data,
    ):
        model = match.model if there[527] & 0x80 else load_model("skylake-server")
        check_registers(XsaveArea.parse(there, model))


def test_the_core_note_of_the_layout_identifies_the_model() -> None:
    raw = (FOLDER / "linux-kernel_core.elf.layout.bin").read_bytes()
    rows = [(kind, size, at) for kind, size, at, _ in struct.iter_unpack("<4I", raw)]
    match = identify(layout=rows)
    assert match.candidates[0].model == "zen4"
    assert match.model.xcr0 == 0xE7

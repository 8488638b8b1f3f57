"""Model files from dumps: a CPU that nobody has made, and what its file must say."""

from __future__ import annotations

import re
from pathlib import Path

from places import DATA

from xsaveschema import Catalog, cpuid
from xsaveschema.authoring.draft import Draft, draft, seen_model
from xsaveschema.authoring.lint import lint
from xsaveschema.authoring.resemblance import Kin, kin_of
from xsaveschema.cpuid import CpuidRecord, CpuidRegisters
from xsaveschema.model import CpuModel

DUMPS = DATA / "cpuid"
COMPLETE = [
    "aida64-hybrid.txt",
    "aida64.txt",
    "cpuid-r.txt",
    "firecracker.json",
    "hwloc",
    "libvirt.xml",
    "rjcp.xml",
    "table.txt",
    "tycho.txt",
]
GUEST = 1 << 31  # leaf 1 ECX
# A CPU that nobody has made: Zen 3 with one more component, and one that no mask enables.
NEW: dict[int, CpuidRegisters] = {
    0: (0x100207, 2560, 2560, 0),
    1: (0xF, 960, 0x1800, 0),
    2: (256, 576, 0, 0),
    9: (8, 2432, 0, 0),
    11: (16, 0, 1, 0),
    12: (24, 0, 1, 0),
    17: (64, 2752, 2, 0),
    20: (64, 2496, 2, 0),
}
NEW_CPU = CpuidRecord("AuthenticAMD", 0x00D10F10, NEW, source="new-cpu.txt")
SCHEMA = "model.schema.json"
FULL = """\
model: zen9
title: AMD Zen 9
vendor: AuthenticAMD
signatures:
  - {family: 0x1C, models: [0x11]}  # leaf 1 EAX 0x00D10F10, stepping 0
instructions: [xsaveopt, xsavec, xgetbv1, xsaves]
components:
  avx:         {size: 256, offset: 576}
  pkru:        {size: 8,   offset: 2432}
  cet_u:       {size: 16,  supervisor: true}
  cet_s:       {size: 24,  supervisor: true}
  tilecfg:     {size: 64,  offset: 2752, align64: true, optional: absent}  # described, but XCR0 \
cannot enable it
  component20: {number: 20, size: 64,  offset: 2496, align64: true}  # no component file: opaque \
bytes
sizes: {standard: 2560, compacted: 960}  # XCR0 0x100207, IA32_XSS 0x1800
mxcsr_mask: 0x2FFFF  # as on every AuthenticAMD CPU with XSAVE
confirmed_by:
  - new-cpu.txt
"""
EXTENDING = """\
model: zen9
title: AMD Zen 9
extends: zen3
signatures:
  - {family: 0x1C, models: [0x11]}  # leaf 1 EAX 0x00D10F10, stepping 0
components:
  tilecfg:     {size: 64, offset: 2752, align64: true, optional: absent}  # described, but XCR0 \
cannot enable it
  component20: {number: 20, size: 64, offset: 2496, align64: true}  # no component file: opaque \
bytes
sizes: {standard: 2560, compacted: 960}  # XCR0 0x100207, IA32_XSS 0x1800
confirmed_by:
  - new-cpu.txt
"""


def enabled(leaf: dict[int, CpuidRegisters]) -> list[int]:
    """The extended components of both masks, from the leaf alone."""
    mask = leaf[0][0] | leaf[0][3] << 32 | leaf[1][2] | leaf[1][3] << 32
    return [number for number in range(2, 63) if mask >> number & 1]


def hold_against_leaf(model: CpuModel, leaf: dict[int, CpuidRegisters]) -> None:
    """Compare a model with the leaf that it is from, by the SDM's rules written out once more."""
    assert model.xcr0 == leaf[0][0] | leaf[0][3] << 32
    assert model.xss == leaf[1][2] | leaf[1][3] << 32
    numbers = enabled(leaf)

    slots = {slot.number: (slot.offset, slot.size) for slot in model.standard_layout()}
    assert (slots.pop(0), slots.pop(1)) == ((0, 160), (160, 256))
    assert slots == {n: (leaf[n][1], leaf[n][0]) for n in numbers if not leaf[n][2] & 1}

    slots = {slot.number: (slot.offset, slot.size) for slot in model.compacted_layout()}
    end = 576
    for number in numbers:
        size, _, flags, _ = leaf[number]
        if flags & 2:
            end = -(-end // 64) * 64
        assert slots[number] == (end, size), number
        end += size
    assert set(slots) == {0, 1, *numbers}
    assert model.compacted_layout().size == end

    implied = model.cpuid_leaf_0xd()
    assert set(implied) == {0, 1, *numbers}
    for number in numbers:
        assert implied[number] == leaf[number]
    assert (implied[0][0], implied[0][3]) == (leaf[0][0], leaf[0][3])
    assert (implied[1][0], *implied[1][2:]) == (leaf[1][0] & 0x1F, *leaf[1][2:])


def write(folder: Path, name: str, made: Draft) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(made.text, encoding="utf-8")
    return path


def round_trip(record: CpuidRecord, folder: Path, *, vendor: str = "") -> list[str]:
    """Draft a file with and without a base, load each anew, compare; the texts."""
    seen = seen_model(record, "drafted", vendor=vendor)
    texts = []
    for base in dict.fromkeys((kin_of(seen).base, None)):
        made = draft(record, seen, base, provenance="a dump", schema=SCHEMA)
        path = write(folder, "drafted", made)
        catalog = Catalog([path])
        assert catalog.overrides == ()
        model = catalog.model("drafted")
        assert model.vendor == (record.vendor or vendor)
        assert model.mxcsr_mask == (0x2FFFF if model.vendor[:5] in ("Authe", "Hygon") else 0xFFFF)
        hold_against_leaf(model, record.leaf_0xd)
        assert model.confirmed is not bool(record.hypervisor)
        assert lint([path]) == []
        texts.append(made.text)
    return texts


def drafted(record: CpuidRecord, *, full: bool = False, name: str = "mine") -> str:
    seen = seen_model(record, name)
    base = None if full else kin_of(seen).base
    return draft(record, seen, base, provenance="d.txt").text


def unwrapped(text: str) -> str:
    """The text with every comment in one line."""
    return re.sub(r"(?<!model\.schema\.json)\n# (?=[a-z])", " ", text)


def changed(**rows: CpuidRegisters | None) -> CpuidRecord:
    """The new CPU with other sub-leaves, without component 17 and 20: ``s9=...``."""
    leaf: dict[int, CpuidRegisters] = {
        **NEW, 0: (0x207, 2440, 2440, 0), 1: (0xF, 880, 0x1800, 0)}  # fmt: skip
    del leaf[17], leaf[20]
    for key, row in rows.items():
        if row is None:
            del leaf[int(key[1:])]
        else:
            leaf[int(key[1:])] = row
    return CpuidRecord("AuthenticAMD", 0x00D10F10, leaf)


def kin(record: CpuidRecord, name: str = "mine") -> Kin:
    return kin_of(seen_model(record, name))


def names(found: Kin) -> tuple[str | None, ...]:
    return tuple(model.name if model else None for model in (found.same, found.owner, found.base))


def dump(folder: Path, record: CpuidRecord, name: str = "new-cpu.txt") -> Path:
    path = folder / name
    path.write_text(cpuid.format_cpuid_r(record))
    return path

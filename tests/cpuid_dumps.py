"""Dumps of one CPU in every format of CPUID, and what becomes of a text."""

from __future__ import annotations

import pytest
from places import DATA as ALL

from xsaveschema import cpuid
from xsaveschema.cpuid import CpuidDumpError, CpuidRecord, CpuidRegisters

DATA = ALL / "cpuid"
VENDOR = "GenuineIntel"
SIGNATURE = 0x000506E3
LEAF: dict[int, CpuidRegisters] = {
    0: (0x1F, 1088, 1088, 0),
    1: (0xF, 960, 0x100, 0),
    2: (256, 576, 0, 0),
    3: (64, 960, 0, 0),
    4: (64, 1024, 0, 0),
    8: (128, 0, 1, 0),
}
# One CPU, written down by hand in every format that can hold all of it.
SAME_CPU = {
    "cpuid-r.txt": "cpuid -r",
    "aida64.txt": "AIDA64",
    "libvirt.xml": "libvirt XML",
    "hwloc": "hwloc-gather-cpuid",
    "hwloc/pu0": "hwloc-gather-cpuid",
    "firecracker.json": "Firecracker JSON",
    "rjcp.xml": "RJCP XML",
    "tycho.txt": "tycho",
    "table.txt": "table",
}
FILES = sorted(
    {*SAME_CPU, "libcpuid.test", "aida64-unnumbered.txt", "aida64-hybrid.txt"} - {"hwloc"}
)
BY_LINE = [name for name in SAME_CPU if name not in ("hwloc", "firecracker.json")]


def text(name: str) -> str:
    return (DATA / name).read_text(encoding="utf-8")


def one(data: str | bytes, name: str = "dump") -> CpuidRecord:
    (record,) = cpuid.read_bytes(data.encode() if isinstance(data, str) else data, name)
    return record


def refused(data: str | bytes, match: str) -> CpuidDumpError:
    with pytest.raises(CpuidDumpError, match=match) as caught:
        cpuid.read_bytes(data.encode() if isinstance(data, str) else data, "dump")
    return caught.value


def rows(
    leaf_0xd: dict[int, CpuidRegisters], *, vendor: str = "", signature: int | None = None
) -> str:
    return cpuid.format_cpuid_r(CpuidRecord(vendor, signature, leaf_0xd))

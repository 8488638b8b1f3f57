"""The text of ``cpuid -r`` (T. Allen's tool), of one CPU (``-1``) or of all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from xsaveschema.cpuid import lines
from xsaveschema.cpuid.gather import XSAVE_LEAF, records

if TYPE_CHECKING:
    from xsaveschema.cpuid.record import CpuidRecord
    from xsaveschema.model import CpuidRegisters

NAME: Final = "cpuid -r"

_ROW = re.compile(
    r"\s*0x(?P<leaf>[0-9a-f]{8}) 0x(?P<sub>[0-9a-f]{2,8}):"
    r" eax=0x(?P<eax>[0-9a-f]{8}) ebx=0x(?P<ebx>[0-9a-f]{8})"
    r" ecx=0x(?P<ecx>[0-9a-f]{8}) edx=0x(?P<edx>[0-9a-f]{8})\s*",
    re.IGNORECASE,
)
_RESEMBLES = re.compile(r"\s*0x")
_START = re.compile(r"CPU(?: (?P<cpu>[0-9]{1,9}))?:\s*$")

_XSAVE = 1 << 26  # leaf 1 ECX
_HYPERVISOR = 1 << 31


def recognises(head: str) -> bool:
    """Whether a text that begins like this is of the format."""
    return lines.recognises(head, _ROW)


def read(text: str, source: str) -> Iterator[CpuidRecord]:
    """Yield one record for each kind of core; CpuidDumpError."""
    cpus = lines.processors(text, source, _ROW, resembles=_RESEMBLES, start=_START)
    return records(cpus, source, NAME)


def format_cpuid_r(record: CpuidRecord) -> str:
    """Write a record as ``cpuid -1 -r`` prints one CPU.

    Of leaves 0 and 1 only what the record knows is there: the vendor, leaf 0xD as the highest
    leaf, the signature, and in leaf 1 ECX the bits for XSAVE and the hypervisor.
    """
    rows: list[tuple[int, int, CpuidRegisters]] = []
    if record.vendor:
        name = record.vendor.encode("ascii")
        ebx, edx, ecx = (int.from_bytes(name[at : at + 4], "little") for at in (0, 4, 8))
        rows.append((0, 0, (XSAVE_LEAF, ebx, ecx, edx)))
    if record.signature is not None:
        ecx = _XSAVE | (_HYPERVISOR if record.hypervisor else 0)
        rows.append((1, 0, (record.signature, 0, ecx, 0)))
    rows += [(XSAVE_LEAF, number, regs) for number, regs in sorted(record.leaf_0xd.items())]
    return "CPU:\n" + "".join(
        f"   0x{leaf:08x} 0x{number:02x}:"
        f" eax=0x{eax:08x} ebx=0x{ebx:08x} ecx=0x{ecx:08x} edx=0x{edx:08x}\n"
        for leaf, number, (eax, ebx, ecx, edx) in rows
    )

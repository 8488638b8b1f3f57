# SPDX-License-Identifier: MIT
"""What one kind of core says in CPUID leaf 0xD, and how far that can be believed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from xsaveschema.errors import CpuidDumpError, hex_mask
from xsaveschema.model import EXTENDED_OFFSET, CpuidRegisters, Signature, bits_of

XSAVE_LEAF: Final = 0xD
HYPERVISOR: Final = 1 << 31
"""Leaf 1 ECX: this is a guest."""
_XSAVE: Final = 1 << 26


def signature_parts(eax: int) -> tuple[int, int, int]:
    """Split a processor signature (leaf 1 EAX) into display family, display model and stepping.

    The extended family counts for family 15 only. The extended model counts for families 6 and 15
    (SDM vol. 2, CPUID, "Version Information") and for family 7, which only Zhaoxin uses:
    0x000307B0 is 07h/3Bh.
    """
    family = eax >> 8 & 0xF
    model = eax >> 4 & 0xF
    if family in (6, 7, 15):
        model |= eax >> 12 & 0xF0
    if family == 15:
        family += eax >> 20 & 0xFF
    return family, model, eax & 0xF


def signature_of(signature: Signature) -> int:
    """Leaf 1 EAX of the first CPU that a signature names."""
    family, model = signature.family, signature.models[0]
    stepping = (signature.steppings or (0,))[0]
    return (
        max(family - 15, 0) << 20
        | model >> 4 << 16
        | min(family, 15) << 8
        | (model & 15) << 4
        | stepping
    )


@dataclass(frozen=True, slots=True)
class CpuidRecord:
    """Leaf 0xD of one kind of core, with what identifies the CPU.

    ``vendor`` is the 12 characters of leaf 0 ("" where the dump lacks it), ``signature`` leaf 1
    EAX, ``leaf_0xd`` the sub-leaves that the dump gives, by number: (EAX, EBX, ECX, EDX).
    ``label`` tells the records of one dump apart, ``source`` is the file's name, ``format`` the
    dump's. ``hypervisor`` is leaf 1 ECX bit 31: the dump shows a guest, whose masks may hide
    components. None stands for what the dump does not say. ``notes`` is what its reader had to
    assume. Raises CpuidDumpError without sub-leaf 0: nothing can be said then.
    """

    vendor: str
    signature: int | None
    leaf_0xd: dict[int, CpuidRegisters] = field(hash=False, repr=False)
    label: str = ""
    source: str = ""
    format: str = ""
    hypervisor: bool | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if 0 not in self.leaf_0xd:
            raise CpuidDumpError("leaf 0xD has no sub-leaf 0, hence no XCR0 mask", self.source)

    @property
    def xcr0(self) -> int:
        """The user components that XCR0 can enable: sub-leaf 0 EDX:EAX."""
        eax, _, _, edx = self.leaf_0xd[0]
        return edx << 32 | eax

    @property
    def xss(self) -> int | None:
        """The supervisor components that IA32_XSS can enable: sub-leaf 1 EDX:ECX, or None."""
        if 1 not in self.leaf_0xd:
            return None
        _, _, ecx, edx = self.leaf_0xd[1]
        return edx << 32 | ecx

    @property
    def components(self) -> dict[int, CpuidRegisters]:
        """The sub-leaves that describe an extended component: numbers from 2, size not 0."""
        return {n: regs for n, regs in sorted(self.leaf_0xd.items()) if n >= 2 and regs[0]}

    @property
    def unknown_components(self) -> tuple[int, ...]:
        """Numbers of the components in XCR0 | IA32_XSS that no sub-leaf describes.

        They are unknown, not absent: many dumps stop at the first empty sub-leaf.
        """
        described = self.components
        enabled = self.xcr0 | (self.xss or 0)
        return tuple(n for n in bits_of(enabled) if n >= 2 and n not in described)

    @property
    def unmasked_components(self) -> tuple[int, ...]:
        """Numbers of the components that are described but in neither mask.

        Without sub-leaf 1 nobody knows IA32_XSS; supervisor components are left out then.
        """
        enabled = self.xcr0 | (self.xss or 0)
        return tuple(
            n
            for n, (_, _, ecx, _) in self.components.items()
            if not enabled >> n & 1 and not (self.xss is None and ecx & 1)
        )

    @property
    def complete(self) -> bool:
        """Whether the whole layout is known: sub-leaf 1 is there and no component is unknown."""
        return self.xss is not None and not self.unknown_components

    @property
    def warnings(self) -> tuple[str, ...]:
        """Every reason not to take this record for the whole truth, one sentence each."""
        return (*self.notes, *self._doubts())

    def _doubts(self) -> Iterator[str]:
        if not self.vendor:
            yield "the dump has no leaf 0: the vendor is unknown"
        if self.signature is None:
            yield "the dump has no leaf 1: family, model and stepping are unknown"
        if self.xss is None:
            yield "sub-leaf 1 is missing: IA32_XSS and the XSAVE instructions are unknown"
        if unknown := self.unknown_components:
            last = max(self.leaf_0xd)
            cut = f"; the list stops at sub-leaf {last}" if last < min(unknown) else ""
            yield (
                f"{_numbered(unknown)} in XCR0 | IA32_XSS but not described: "
                f"unknown, not absent{cut}"
            )
        if alien := self.unmasked_components:
            yield f"{_numbered(alien)} described but in neither XCR0 nor IA32_XSS"
        if self.hypervisor:
            yield "the dump was taken in a guest, whose masks may hide components"
        yield from self._size_doubt()

    def _size_doubt(self) -> Iterator[str]:
        user = [n for n in bits_of(self.xcr0) if n >= 2]
        if any(n in self.unknown_components for n in user):
            return
        end = max([EXTENDED_OFFSET, *(self.leaf_0xd[n][0] + self.leaf_0xd[n][1] for n in user)])
        if self.leaf_0xd[0][2] != end:
            yield (
                f"sub-leaf 0 ECX says {self.leaf_0xd[0][2]} bytes for XCR0 {hex_mask(self.xcr0)}, "
                f"but its components end at {end}"
            )


def _numbered(numbers: tuple[int, ...]) -> str:
    if len(numbers) == 1:
        return f"component {numbers[0]} is"
    return f"components {', '.join(map(str, numbers))} are"


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
        ecx = _XSAVE | (HYPERVISOR if record.hypervisor else 0)
        rows.append((1, 0, (record.signature, 0, ecx, 0)))
    rows += [(XSAVE_LEAF, number, regs) for number, regs in sorted(record.leaf_0xd.items())]
    return "CPU:\n" + "".join(
        f"   0x{leaf:08x} 0x{number:02x}:"
        f" eax=0x{eax:08x} ebx=0x{ebx:08x} ecx=0x{ecx:08x} edx=0x{edx:08x}\n"
        for leaf, number, (eax, ebx, ecx, edx) in rows
    )

# SPDX-License-Identifier: MIT
"""From the table rows that every format boils down to, to records.

A format's reader yields one :class:`Processor` for each logical CPU of the dump. What makes a dump
believable is the same for all formats, and stands here: no row twice with different values, no leaf
beyond the highest one, no sub-leaf number that the masks contradict.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from xsaveschema.cpuid.record import HYPERVISOR, XSAVE_LEAF, CpuidRecord
from xsaveschema.errors import CpuidDumpError, hex_mask
from xsaveschema.model import SSE, X87, CpuidRegisters

CORE_TYPE_LEAF: Final = 0x1A
WANTED: Final = frozenset({0, 1, XSAVE_LEAF, CORE_TYPE_LEAF})
"""The leaves whose rows are kept."""
_CORE_TYPES: Final = {0x20: "Intel Atom", 0x40: "Intel Core"}  # SDM vol. 2, CPUID leaf 0x1A EAX
_MAX_SUB_LEAF: Final = 63  # a state component is a bit of a 64-bit mask

# Far beyond any real dump; they keep hostile ones from filling the memory.
_MAX_PROCESSORS: Final = 4096
_MAX_ROWS: Final = 1024

_AVX: Final = (256, 576, 0, 0)
_FEATURES: Final = 0x1F  # sub-leaf 1 EAX: xsaveopt, xsavec, xgetbv1, xsaves, xfd


class CpuidRow(NamedTuple):
    """One execution of CPUID: ``sub_leaf`` is None where the dump does not say which."""

    leaf: int
    sub_leaf: int | None
    registers: CpuidRegisters
    line: int | None


@dataclass(slots=True)
class Processor:
    """What a dump says about one logical CPU.

    ``number`` is the dump's own. ``vendor`` is for dumps that name it outside leaf 0. Only rows
    that matter here are kept; ``empty`` says whether there was any row at all.
    """

    source: str
    number: int | None = None
    vendor: str = ""
    empty: bool = True
    rows: list[CpuidRow] = field(default_factory=list)

    @property
    def has_leaf_0(self) -> bool:
        """Whether leaf 0, which begins every CPU's list, was there already."""
        return any(row.leaf == 0 and not row.sub_leaf for row in self.rows)

    def add(
        self, leaf: int, sub_leaf: int | None, registers: CpuidRegisters, line: int | None
    ) -> None:
        """Take one row of the dump, in the dump's order."""
        self.empty = False
        if leaf in WANTED:
            if len(self.rows) == _MAX_ROWS:
                raise self.fault(f"more than {_MAX_ROWS} rows for one CPU", line)
            self.rows.append(CpuidRow(leaf, sub_leaf, registers, line))

    def fault(self, message: str, line: int | None = None) -> CpuidDumpError:
        """An error that says where in the dump it is."""
        cpu = "" if self.number is None else f"CPU {self.number}: "
        return CpuidDumpError(cpu + message, self.source, line)


def records(
    processors: Iterable[Processor], source: str, format_name: str
) -> Iterator[CpuidRecord]:
    """Give one record for each kind of core, the first of its kind standing for all.

    ``source`` is the dump's name, ``format_name`` its format. Raises CpuidDumpError, with the
    place, for a dump without leaf 0xD and for one that contradicts itself.
    """
    kinds: dict[tuple[str, CpuidRecord], str] = {}
    for count, processor in enumerate(processors):
        if count == _MAX_PROCESSORS:
            raise CpuidDumpError(f"more than {_MAX_PROCESSORS} CPUs", source)
        name = f"core {count if processor.number is None else processor.number}"
        kinds.setdefault(_record(processor, format_name), name)
    if not kinds:
        raise CpuidDumpError("the dump has no leaf 0xD", source)
    for (core_type, record), name in kinds.items():
        parts = (name if len(kinds) > 1 else "", core_type)
        label = ", ".join(part for part in parts if part)
        yield replace(record, label=label, source=source)


def _record(processor: Processor, format_name: str) -> tuple[str, CpuidRecord]:
    """The core type and the record of one CPU; equal for CPUs that do not differ in kind."""
    leaf_0 = _only(processor, 0)
    highest = leaf_0[0] if leaf_0 else None
    leaf_1 = _only(processor, 1)
    core_type = _only(processor, CORE_TYPE_LEAF) if (highest or 0) >= CORE_TYPE_LEAF else None
    leaf_0xd, notes = _leaf_0xd(processor, highest)
    record = CpuidRecord(
        vendor=_vendor(processor, leaf_0) if leaf_0 else processor.vendor,
        signature=leaf_1[0] if leaf_1 else None,
        leaf_0xd=leaf_0xd,
        format=format_name,
        hypervisor=bool(leaf_1[2] & HYPERVISOR) if leaf_1 else None,
        notes=notes,
    )
    _check_masks(processor, record)
    return _CORE_TYPES.get(core_type[0] >> 24, "") if core_type else "", record


def _only(processor: Processor, leaf: int) -> CpuidRegisters | None:
    """The registers of a leaf's one row for sub-leaf 0."""
    found: CpuidRow | None = None
    for row in processor.rows:
        if row.leaf == leaf and not row.sub_leaf:
            if found:
                raise _twice(processor, f"leaf {hex_mask(leaf)}", found, row)
            found = row
    return found.registers if found else None


def _twice(processor: Processor, what: str, first: CpuidRow, second: CpuidRow) -> CpuidDumpError:
    before = f" (first in line {first.line})" if first.line is not None else ""
    kind = "twice" if first.registers == second.registers else "twice, with different values"
    return processor.fault(f"{what} is given {kind}{before}", second.line)


def _vendor(processor: Processor, leaf_0: CpuidRegisters) -> str:
    _, ebx, ecx, edx = leaf_0
    text = b"".join(part.to_bytes(4, "little") for part in (ebx, edx, ecx)).decode("latin-1")
    if not (text.isascii() and text.isprintable()):
        raise processor.fault(f"leaf 0 holds no vendor name: {text!r}")
    return text


def _leaf_0xd(
    processor: Processor, highest: int | None
) -> tuple[dict[int, CpuidRegisters], tuple[str, ...]]:
    rows = [row for row in processor.rows if row.leaf == XSAVE_LEAF]
    # Beyond its highest leaf an Intel CPU repeats that leaf, and some tools dump it all the same.
    if highest is not None and highest < XSAVE_LEAF:
        raise processor.fault(f"there is no leaf 0xD: the highest leaf is {hex_mask(highest)}")
    if not rows:
        raise processor.fault("there is no leaf 0xD")
    numbers, notes = _sub_leaf_numbers(processor, rows)
    given: dict[int, CpuidRow] = {}
    for number, row in zip(numbers, rows, strict=True):
        if number > _MAX_SUB_LEAF:
            raise processor.fault(f"leaf 0xD has no sub-leaf {number:#x}", row.line)
        if number in given and given[number].registers != row.registers:
            raise _twice(processor, f"leaf 0xD sub-leaf {number}", given[number], row)
        given.setdefault(number, row)
    if 0 not in given:
        raise processor.fault("leaf 0xD has no sub-leaf 0, hence no XCR0 mask", rows[0].line)
    return {number: row.registers for number, row in sorted(given.items())}, notes


def _sub_leaf_numbers(
    processor: Processor, rows: list[CpuidRow]
) -> tuple[list[int], tuple[str, ...]]:
    """The rows' sub-leaf numbers; where the dump gives none, by their order."""
    given = [row.sub_leaf for row in rows if row.sub_leaf is not None]
    if len(given) == len(rows):
        return given, ()
    if given:
        bare = next(row for row in rows if row.sub_leaf is None)
        raise processor.fault("only some rows of leaf 0xD name their sub-leaf", bare.line)
    if len(rows) == 1:
        return [0], ()
    note = "the dump does not number the sub-leaves: taken in their order"
    if rows[1].registers == _AVX:
        # Old tools asked for sub-leaf 0 and then from 2 on.
        return [0, *range(2, len(rows) + 1)], (note + ", sub-leaf 1 left out",)
    if rows[1].registers[0] & ~_FEATURES:
        raise processor.fault(
            "which sub-leaf is this? It has no number, and is neither sub-leaf 1 nor AVX",
            rows[1].line,
        )
    return list(range(len(rows))), (note,)


def _check_masks(processor: Processor, record: CpuidRecord) -> None:
    """Refuse sub-leaves that cannot belong to the masks in sub-leaves 0 and 1."""
    if not any(any(registers) for registers in record.leaf_0xd.values()):
        raise processor.fault("leaf 0xD is all zero: this CPU has no XSAVE, or does not show it")
    xcr0, xss = record.xcr0, record.xss or 0
    if xcr0 & (X87 | SSE) != X87 | SSE:
        raise processor.fault(f"the XCR0 mask {hex_mask(xcr0)} lacks x87 or SSE")
    if both := xcr0 & xss:
        raise processor.fault(f"the bits {hex_mask(both)} stand in both XCR0 and IA32_XSS")
    unknown, alien = record.unknown_components, record.unmasked_components
    if unknown and alien and list(record.leaf_0xd) == list(range(len(record.leaf_0xd))):
        raise processor.fault(
            "the sub-leaves are renumbered 0, 1, 2, 3, …: sub-leaf "
            f"{_list(alien)} is in neither mask, and {_list(unknown)} of the masks is missing; "
            "the components' true numbers are lost"
        )
    for number, (_, _, ecx, _) in record.components.items():
        if (xcr0 if ecx & 1 else xss) >> number & 1:
            says, mask = ("supervisor", "XCR0") if ecx & 1 else ("user", "IA32_XSS")
            raise processor.fault(f"sub-leaf {number} says {says} component, but {mask} has it")


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))

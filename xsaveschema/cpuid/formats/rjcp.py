"""The XML of RJCP.DLL.CpuId: ``<register eax="0000000D" ecx="…">EAX,EBX,ECX,EDX</register>``.

What its authors made of old AIDA64 texts, which number no sub-leaf, says ecx="00000000" throughout.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from xsaveschema.cpuid import xml
from xsaveschema.cpuid.errors import CpuidDumpError
from xsaveschema.cpuid.gather import XSAVE_LEAF, Processor, records

if TYPE_CHECKING:
    from xsaveschema.cpuid.record import CpuidRecord

NAME: Final = "RJCP XML"

_PROCESSOR = re.compile(r"<processor[\s>]")
_ROW = re.compile(
    r"(?P<leaf>[0-9a-f]{1,8});(?P<sub>[0-9a-f]{1,8});(?P<eax>[0-9a-f]{1,8}),(?P<ebx>[0-9a-f]{1,8}),"
    r"(?P<ecx>[0-9a-f]{1,8}),(?P<edx>[0-9a-f]{1,8})",
    re.IGNORECASE,
)


def recognises(head: str) -> bool:
    """Whether a text that begins like this is of the format."""
    return _PROCESSOR.search(head) is not None


def read(text: str, source: str) -> Iterator[CpuidRecord]:
    """Yield one record for each kind of core; CpuidDumpError."""
    return records(_processors(text, source), source, NAME)


def _processors(text: str, source: str) -> Iterator[Processor]:
    cpus = [each for each in xml.parse(text, source).children if each.tag == "processor"]
    for number, cpu in enumerate(cpus):
        processor = Processor(source, number)
        for element in cpu.children:
            if element.tag == "register":
                _add(processor, element)
        _forget_zeros(processor)
        yield processor


def _forget_zeros(processor: Processor) -> None:
    """Where every row of leaf 0xD says sub-leaf 0, none says which it is."""
    given = [row.sub_leaf for row in processor.rows if row.leaf == XSAVE_LEAF]
    if len(given) > 1 and not any(given):
        processor.rows = [
            row._replace(sub_leaf=None) if row.leaf == XSAVE_LEAF else row for row in processor.rows
        ]


def _add(processor: Processor, element: xml.Element) -> None:
    given = element.attributes
    row = f"{given.get('eax', '')};{given.get('ecx', '')};{element.text.strip()}"
    found = _ROW.fullmatch(row)
    if not found:
        raise CpuidDumpError(f"damaged register {row[:80]!r}", processor.source, element.line)
    leaf, sub_leaf, eax, ebx, ecx, edx = (int(each, 16) for each in found.groups())
    processor.add(leaf, sub_leaf, (eax, ebx, ecx, edx), element.line)

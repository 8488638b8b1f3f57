"""The ``cputestdata`` of libvirt: ``<cpudata>``, each row ``<cpuid eax_in= ecx_in= eax= …/>``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from xsaveschema.cpuid import xml
from xsaveschema.cpuid.errors import CpuidDumpError
from xsaveschema.cpuid.gather import Processor, records

if TYPE_CHECKING:
    from xsaveschema.cpuid.record import CpuidRecord

NAME: Final = "libvirt XML"

_ROOT = re.compile(r"<cpudata[\s>]")
_NUMBER = re.compile(r"0x[0-9a-f]{1,8}", re.IGNORECASE)


def recognises(head: str) -> bool:
    """Whether a text that begins like this is of the format."""
    return _ROOT.search(head) is not None


def read(text: str, source: str) -> Iterator[CpuidRecord]:
    """Yield the one record of the file; CpuidDumpError."""
    return records(_processors(text, source), source, NAME)


def _processors(text: str, source: str) -> Iterator[Processor]:
    processor = Processor(source)
    for element in xml.parse(text, source).children:
        if element.tag == "cpuid":
            leaf, sub_leaf, eax, ebx, ecx, edx = (
                _number(element, name, source)
                for name in ("eax_in", "ecx_in", "eax", "ebx", "ecx", "edx")
            )
            processor.add(leaf, sub_leaf, (eax, ebx, ecx, edx), element.line)
    if not processor.empty:
        yield processor


def _number(element: xml.Element, name: str, source: str) -> int:
    value = element.attributes.get(name, "")
    if not _NUMBER.fullmatch(value):
        raise CpuidDumpError(f"{name}={value[:40]!r} is no 32-bit number", source, element.line)
    return int(value, 16)

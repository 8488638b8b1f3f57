"""The raw dumps and older ``.test`` files of libcpuid: ``basic_cpuid[13]=EAX EBX ECX EDX``.

They hold sub-leaf 0 alone, so that every component's size and offset is unknown. Newer ``.test``
files embed AIDA64 text and are read as such.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from xsaveschema.cpuid import lines
from xsaveschema.cpuid.gather import records

if TYPE_CHECKING:
    from xsaveschema.cpuid.record import CpuidRecord

NAME: Final = "libcpuid raw"

# The leaf's number is decimal. ext_cpuid and the tables of other leaves say nothing about XSAVE.
_ROW = re.compile(
    r"basic_cpuid\[(?P<leaf>[0-9]{1,3})\]=(?P<eax>[0-9a-f]{8}) (?P<ebx>[0-9a-f]{8})"
    r" (?P<ecx>[0-9a-f]{8}) (?P<edx>[0-9a-f]{8})\s*",
    re.IGNORECASE,
)
_RESEMBLES = re.compile(r"basic_cpuid\b")
_START = re.compile(r"_+ Logical CPU #(?P<cpu>[0-9]{1,9}) _+")


def recognises(head: str) -> bool:
    """Whether a text that begins like this is of the format."""
    return lines.recognises(head, _ROW)


def read(text: str, source: str) -> Iterator[CpuidRecord]:
    """Yield one record for each kind of core; CpuidDumpError."""
    cpus = lines.processors(text, source, _ROW, resembles=_RESEMBLES, start=_START, leaf_base=10)
    return records(cpus, source, NAME)

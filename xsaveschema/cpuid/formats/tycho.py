"""The dumps of tycho/cpuid-rs: ``CPUID 0000000d:02 = EAX EBX ECX EDX | text``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from xsaveschema.cpuid import lines
from xsaveschema.cpuid.gather import records

if TYPE_CHECKING:
    from xsaveschema.cpuid.record import CpuidRecord

NAME: Final = "tycho"

_ROW = re.compile(
    r"\s*CPUID (?P<leaf>[0-9a-f]{8}):(?P<sub>[0-9a-f]{2,8}) = (?P<eax>[0-9a-f]{8})"
    r" (?P<ebx>[0-9a-f]{8}) (?P<ecx>[0-9a-f]{8}) (?P<edx>[0-9a-f]{8})(?:\s*\|.*)?\s*",
    re.IGNORECASE,
)
_RESEMBLES = re.compile(r"\s*CPUID\s+[0-9a-f]{8}\b", re.IGNORECASE)
_START = re.compile(r"CPU (?P<cpu>[0-9]{1,9}):\s*$")


def recognises(head: str) -> bool:
    """Whether a text that begins like this is of the format."""
    return lines.recognises(head, _ROW)


def read(text: str, source: str) -> Iterator[CpuidRecord]:
    """Yield one record for each kind of core; CpuidDumpError."""
    cpus = lines.processors(text, source, _ROW, resembles=_RESEMBLES, start=_START)
    return records(cpus, source, NAME)

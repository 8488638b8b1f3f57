"""A bare table: ``0xLEAF 0xSUBLEAF 0xEAX 0xEBX 0xECX 0xEDX``, one row a line, ``#`` comments.

``# vendor AuthenticAMD`` names the vendor where leaf 0 is not in the table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from xsaveschema.cpuid import lines
from xsaveschema.cpuid.gather import Processor, records

if TYPE_CHECKING:
    from xsaveschema.cpuid.record import CpuidRecord

NAME: Final = "table"

_ROW = re.compile(
    r"\s*0x(?P<leaf>[0-9a-f]{1,8})\s+0x(?P<sub>[0-9a-f]{1,8})\s+0x(?P<eax>[0-9a-f]{1,8})"
    r"\s+0x(?P<ebx>[0-9a-f]{1,8})\s+0x(?P<ecx>[0-9a-f]{1,8})\s+0x(?P<edx>[0-9a-f]{1,8})\s*",
    re.IGNORECASE,
)
_RESEMBLES = re.compile(r"\s*[^#\s]")
_VENDOR = re.compile(r"^#\s*vendor (?P<name>[ -~]{12})(?:\s|$)", re.MULTILINE)


def recognises(head: str) -> bool:
    """Whether a text that begins like this is of the format."""
    return lines.recognises(head, _ROW)


def read(text: str, source: str) -> Iterator[CpuidRecord]:
    """Yield the one record of the table; CpuidDumpError."""
    return records(_processors(text, source), source, NAME)


def _processors(text: str, source: str) -> Iterator[Processor]:
    vendor = _VENDOR.search(text)
    for processor in lines.processors(text, source, _ROW, resembles=_RESEMBLES):
        processor.vendor = vendor["name"] if vendor else ""
        yield processor

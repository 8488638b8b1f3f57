"""The output of ``hwloc-gather-cpuid``: a directory with a file puN for each logical CPU.

A row is ``mask eax ebx ecx edx => eax ebx ecx edx``, all hexadecimal: the registers that CPUID
takes, the mask saying which of them matter, and those that it returns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from xsaveschema.cpuid import files, lines
from xsaveschema.cpuid.errors import CpuidDumpError
from xsaveschema.cpuid.gather import Processor, records

if TYPE_CHECKING:
    from xsaveschema.cpuid.record import CpuidRecord

NAME: Final = "hwloc-gather-cpuid"

_ROW = re.compile(
    r"[0-9a-f]{1,2} (?P<leaf>[0-9a-f]{1,8}) [0-9a-f]{1,8} (?P<sub>[0-9a-f]{1,8}) [0-9a-f]{1,8}"
    r" => (?P<eax>[0-9a-f]{1,8}) (?P<ebx>[0-9a-f]{1,8}) (?P<ecx>[0-9a-f]{1,8})"
    r" (?P<edx>[0-9a-f]{1,8})\s*",
    re.IGNORECASE,
)
_RESEMBLES = re.compile(r"\s*[^#\s]")
_FILE = re.compile(r"pu(?P<cpu>[0-9]{1,9})")


def recognises(head: str) -> bool:
    """Whether a text that begins like this is one of the directory's puN files."""
    return lines.recognises(head, _ROW)


def read(text: str, source: str) -> Iterator[CpuidRecord]:
    """Yield the record of one puN file; CpuidDumpError."""
    return records(lines.processors(text, source, _ROW, resembles=_RESEMBLES), source, NAME)


def read_directory(path: str) -> Iterator[CpuidRecord]:
    """Yield one record for each kind of core in the directory; CpuidDumpError."""
    return records(_processors(path), path, NAME)


def _processors(directory: str) -> Iterator[Processor]:
    try:
        found = [_FILE.fullmatch(entry.name) for entry in Path(directory).iterdir()]
    except OSError as error:
        raise CpuidDumpError(error.strerror or str(error), directory) from None
    cpus = sorted({int(each["cpu"]): each.string for each in found if each}.items())
    if not cpus:
        raise CpuidDumpError("a directory without a file pu0: no hwloc dump", directory)
    room = files.MAX_BYTES
    for number, name in cpus:
        path = str(Path(directory, name))
        data = files.read_regular(path, room)
        room -= len(data)
        text = files.decode(data, path)
        yield from lines.processors(text, path, _ROW, resembles=_RESEMBLES, number=number)

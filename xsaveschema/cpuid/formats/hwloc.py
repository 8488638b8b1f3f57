# SPDX-License-Identifier: MIT
"""The output of ``hwloc-gather-cpuid``: a directory with a file puN for each logical CPU.

A row is ``mask eax ebx ecx edx => eax ebx ecx edx``, all hexadecimal: the registers that CPUID
takes, the mask saying which of them matter, and those that it returns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from xsaveschema.cpuid import files
from xsaveschema.cpuid.gather import Processor, records
from xsaveschema.cpuid.lines import LineFormat
from xsaveschema.cpuid.record import CpuidRecord
from xsaveschema.errors import CpuidDumpError

HWLOC = LineFormat(
    "hwloc-gather-cpuid",
    row=re.compile(
        r"[0-9a-f]{1,2} (?P<leaf>[0-9a-f]{1,8}) [0-9a-f]{1,8} (?P<sub>[0-9a-f]{1,8})"
        r" [0-9a-f]{1,8} => (?P<eax>[0-9a-f]{1,8}) (?P<ebx>[0-9a-f]{1,8}) (?P<ecx>[0-9a-f]{1,8})"
        r" (?P<edx>[0-9a-f]{1,8})\s*",
        re.IGNORECASE,
    ),
    resembles=re.compile(r"\s*[^#\s]"),
)
_FILE = re.compile(r"pu(?P<cpu>[0-9]{1,9})")


def read_directory(path: str) -> Iterator[CpuidRecord]:
    """Yield one record for each kind of core in the directory; CpuidDumpError."""
    return records(_processors(path), path, HWLOC.NAME)


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
        data = files.read_file(path, room)
        room -= len(data)
        yield from HWLOC.processors(files.decode(data, path), path, number)

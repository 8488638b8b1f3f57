# SPDX-License-Identifier: MIT
"""The formats with one table row a line: two regular expressions, and little else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from xsaveschema.cpuid.gather import Processor, records
from xsaveschema.cpuid.record import CpuidRecord
from xsaveschema.errors import CpuidDumpError

_HEAD_LINES = 1000


@dataclass(slots=True)
class LineFormat:
    """A format of CPUID dumps, ``NAME``, whose rows are lines.

    ``row`` matches a whole line with the groups leaf, sub (optional), eax, ebx, ecx, edx, all but
    the leaf, whose base is ``leaf_base``, in hexadecimal. A line that only ``resembles`` a row is
    damaged: CpuidDumpError. ``start`` matches the line before a CPU's rows; its group cpu, where it
    takes part, is the CPU's number. Where no such line stands, a CPU begins with its leaf 0. The
    group name of ``vendor`` is what leaf 0 would say where it is left out.
    """

    NAME: str
    row: re.Pattern[str]
    resembles: re.Pattern[str]
    start: re.Pattern[str] | None = None
    vendor: re.Pattern[str] | None = None
    leaf_base: int = 16

    def recognises(self, head: str) -> bool:
        """Whether one of the first lines is a row of the format."""
        return any(self.row.fullmatch(line) for line in islice(head.split("\n"), _HEAD_LINES))

    def read(self, text: str, source: str) -> Iterator[CpuidRecord]:
        """Yield one record for each kind of core; CpuidDumpError."""
        return records(self.processors(text, source), source, self.NAME)

    def processors(self, text: str, source: str, number: int | None = None) -> Iterator[Processor]:
        """Cut a text into logical CPUs; ``number`` is that of the one that it begins with."""
        found = self.vendor and self.vendor.search(text)
        vendor = found["name"] if found else ""
        processor = Processor(source, number, vendor)
        for line, content in enumerate(text.split("\n"), 1):
            if found := self.row.fullmatch(content):
                group = found.groupdict()
                leaf = int(group["leaf"], self.leaf_base)
                eax, ebx, ecx, edx = (int(group[name], 16) for name in ("eax", "ebx", "ecx", "edx"))
                sub_leaf = None if group.get("sub") is None else int(group["sub"], 16)
                if leaf == 0 and not sub_leaf and processor.has_leaf_0:
                    yield processor
                    processor = Processor(source, None, vendor)
                processor.add(leaf, sub_leaf, (eax, ebx, ecx, edx), line)
            elif self.resembles.match(content):
                raise CpuidDumpError(f"damaged line {content.strip()[:80]!r}", source, line)
            elif self.start and (found := self.start.match(content)):
                if not processor.empty:
                    yield processor
                processor = Processor(source, int(found["cpu"]) if found["cpu"] else None, vendor)
        if not processor.empty:
            yield processor

"""What the formats with one table row a line share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from xsaveschema.cpuid.errors import CpuidDumpError
from xsaveschema.cpuid.gather import Processor

_HEAD_LINES = 1000


def recognises(head: str, row: re.Pattern[str]) -> bool:
    """Whether one of the first lines is a row of the format."""
    return any(row.fullmatch(line) for line in islice(head.split("\n"), _HEAD_LINES))


def processors(
    text: str,
    source: str,
    row: re.Pattern[str],
    *,
    resembles: re.Pattern[str],
    start: re.Pattern[str] | None = None,
    leaf_base: int = 16,
    number: int | None = None,
) -> Iterator[Processor]:
    """Cut a text into logical CPUs.

    ``row`` matches a whole line with the groups leaf, sub (optional), eax, ebx, ecx, edx, all but
    the leaf in hexadecimal. A line that only ``resembles`` a row is damaged: CpuidDumpError.
    ``start`` matches the line before a CPU's rows; its group cpu, where it takes part, is the CPU's
    number. Where no such line stands, a CPU begins with its leaf 0. ``number`` is that of the CPU
    that the text begins with.
    """
    processor = Processor(source, number)
    for line, content in enumerate(text.split("\n"), 1):
        if found := row.fullmatch(content):
            group = found.groupdict()
            leaf = int(group["leaf"], leaf_base)
            eax, ebx, ecx, edx = (int(group[name], 16) for name in ("eax", "ebx", "ecx", "edx"))
            sub_leaf = None if group.get("sub") is None else int(group["sub"], 16)
            if leaf == 0 and not sub_leaf and processor.has_leaf_0:
                yield processor
                processor = Processor(source)
            processor.add(leaf, sub_leaf, (eax, ebx, ecx, edx), line)
        elif resembles.match(content):
            raise CpuidDumpError(f"damaged line {content.strip()[:80]!r}", source, line)
        elif start and (found := start.match(content)):
            if not processor.empty:
                yield processor
            processor = Processor(source, int(found["cpu"]) if found["cpu"] else None)
    if not processor.empty:
        yield processor

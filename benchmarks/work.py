"""The areas that are worked on: random state in every component, and headers to measure."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from xsaveschema import CpuModel, Layout, to_compacted
from xsaveschema.model import EXTENDED_OFFSET, HEADER_OFFSET, MXCSR_INITIAL, MXCSR_OFFSET
from xsaveschema.spans import Span


@lru_cache(maxsize=1)
def standard_areas(model: CpuModel, count: int) -> list[bytes]:
    """Distinct areas in the standard format with all of the model's XCR0 in use."""
    rng = random.Random(model.name)
    return [standard_area(model, rng) for _ in range(count)]


def standard_area(model: CpuModel, rng: random.Random) -> bytes:
    """Random bytes in every component; MXCSR initial, XCOMP_BV and the rest of the header 0.

    MXCSR_MASK is the CPU's, which every save writes: another one would be another CPU's area.
    """
    layout = model.standard_layout()
    area = bytearray(layout.size)
    for slot in layout:
        area[slot.offset : slot.end] = rng.randbytes(slot.size)
    area[MXCSR_OFFSET : MXCSR_OFFSET + 8] = mxcsr_and_mask(model)
    area[HEADER_OFFSET : HEADER_OFFSET + 8] = layout.mask.to_bytes(8, "little")
    return bytes(area)


def mxcsr_and_mask(model: CpuModel) -> bytes:
    """The initial MXCSR, and MXCSR_MASK behind it, as they stand in memory."""
    return MXCSR_INITIAL.to_bytes(4, "little") + model.mxcsr_mask.to_bytes(4, "little")


def compacted_areas(model: CpuModel, count: int) -> list[bytes]:
    """The same state in the compacted format, XCOMP_BV the model's XCR0."""
    areas = standard_areas(model, count)
    return [bytes(to_compacted(area, model, xcomp_bv=model.xcr0).data) for area in areas]


@dataclass(frozen=True, slots=True)
class Member:
    """A stored field, or with ``gap`` what stands between two: ``size`` bytes at ``offset``."""

    name: str
    offset: int
    size: int
    number: bool
    gap: bool = False

    @property
    def identifier(self) -> str:
        """The name as programming languages take it: ``bndregs_bnd_2_lower``."""
        return self.name.replace("].", "_").replace("]", "").replace("[", "_").replace(".", "_")


def members(layout: Layout) -> list[Member]:
    """Every stored field of a layout in memory order, named as ``XsaveArea.values`` names them."""
    return [_member(span) for span in layout.spans() if span.named]


def _member(span: Span) -> Member:
    number = span.size in (1, 2, 4, 8) and not (span.field and span.field.raw)
    return Member(span.path, span.offset, span.size, number)


def without_holes(layout: Layout) -> Iterator[Member]:
    """The same with a gap wherever no field stands, up to the layout's end."""
    end = 0
    last = Member("", max(layout.size, EXTENDED_OFFSET), 0, number=False)
    for member in [*members(layout), last]:
        if member.offset > end:
            yield Member(f"gap_{end}", end, member.offset - end, number=False, gap=True)
        if member.size:
            yield member
        end = member.offset + member.size

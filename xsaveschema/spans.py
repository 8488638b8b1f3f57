# SPDX-License-Identifier: MIT
"""The map: every byte of a layout once, in memory order, and what it is.

Whoever needs to know what a byte is asks here: fields, reserved bytes, software's, the header, and
what lies between components. The two exceptions of the format stand here as data: header and
software bytes mean something whatever XSTATE_BV says, and so do MXCSR and MXCSR_MASK in the
standard format (SDM 13.8.1), though they are SSE's and stand amid x87's bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from xsaveschema.errors import MaskError
from xsaveschema.model import (
    COMPACTED,
    EXTENDED_OFFSET,
    HEADER_OFFSET,
    MXCSR_OFFSET,
    SOFTWARE_OFFSET,
    SSE,
    XCR0_OFFSET,
    CpuModel,
    Leaf,
    StateComponent,
)
from xsaveschema.reading import ALWAYS as ALWAYS
from xsaveschema.reading import MXCSR_END as MXCSR_END
from xsaveschema.reading import Placed

Kind = Literal["field", "reserved", "software", "header", "gap", "padding"]
"""What bytes are: a component's field, or a whole component that has no fields; reserved; left to
software; the XSAVE header; between components, or before one that is aligned to 64 bytes."""

MXCSR_PATH: Final = "sse.mxcsr"
MASK_PATH: Final = "sse.mxcsr_mask"
"""The paths of the two that are alive by a rule of their own."""


@dataclass(frozen=True, slots=True)
class Slot(Placed):
    """A state component's place in an area: ``offset`` in bytes from the area's start."""

    component: StateComponent
    offset: int


class Span(NamedTuple):
    """Bytes of an area that are one thing: ``size`` of them at ``offset``.

    ``path`` names it: a field's path (``sse.mxcsr``, ``bndregs.bnd[0].lower``), the component of
    reserved bytes or of one without fields, ``header.xstate_bv``, "" where nothing does.
    ``component`` is None for what belongs to none, ``field`` for what is no field of one.
    ``alive`` is the bit of XSTATE_BV that decides whether the bytes mean anything, or ALWAYS;
    ``initial`` is what they mean while it is clear.
    """

    offset: int
    size: int
    kind: Kind
    path: str
    component: StateComponent | None
    alive: int
    initial: bytes
    field: Leaf | None

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.offset + self.size

    @property
    def named(self) -> bool:
        """Whether it is a stored field that ``XsaveArea.values`` shows: one of the header too."""
        return self.field is not None or (self.kind == "header" and bool(self.path))

    def lives(self, xstate_bv: int) -> bool:
        """Whether the bytes mean anything in an area with this XSTATE_BV."""
        return self.alive == ALWAYS or bool(self.alive & xstate_bv)


def spans_of(model: CpuModel, xcomp_bv: int, slots: tuple[Slot, ...]) -> tuple[Span, ...]:
    """Every byte of an area once, in memory order; ``xcomp_bv`` is its format's.

    MaskError where components share bytes.
    """
    found: list[Span] = []
    end = 0
    everything = [*_frame(xcomp_bv), *_state(model, xcomp_bv, slots)]
    for span in sorted(everything, key=lambda span: span.offset):
        if span.offset < end:
            raise MaskError(f"{model.name}: {span.path} overlaps what stands before it", xcomp_bv)
        if span.offset > end:
            aligned = xcomp_bv and end >= EXTENDED_OFFSET
            found.append(_plain(end, span.offset, "padding" if aligned else "gap", ""))
        found.append(span)
        end = span.end
    return tuple(found)


def _plain(start: int, end: int, kind: Kind, path: str) -> Span:
    return Span(start, end - start, kind, path, None, ALWAYS, bytes(end - start), None)


def _frame(xcomp_bv: int) -> Iterator[Span]:
    """What every area has besides state (SDM 13.4.1, 13.4.2)."""
    yield _plain(SOFTWARE_OFFSET, XCR0_OFFSET, "reserved", "")
    yield _plain(XCR0_OFFSET, HEADER_OFFSET, "software", "")
    yield _plain(HEADER_OFFSET, HEADER_OFFSET + 8, "header", "header.xstate_bv")
    own = _plain(HEADER_OFFSET + 8, HEADER_OFFSET + 16, "header", "header.xcomp_bv")
    yield own._replace(initial=xcomp_bv.to_bytes(8, "little"))
    yield _plain(HEADER_OFFSET + 16, EXTENDED_OFFSET, "header", "")


def _state(model: CpuModel, xcomp_bv: int, slots: tuple[Slot, ...]) -> Iterator[Span]:
    for slot in slots:
        for start, end in slot.ranges:
            yield from _pieces(slot.component, slot.origin, start, end, slot.component.bit)
    # MXCSR and MXCSR_MASK: in every standard area, with SSE in a compacted one.
    if not xcomp_bv & COMPACTED or xcomp_bv & SSE:
        alive = SSE if xcomp_bv & COMPACTED else ALWAYS
        yield from _pieces(model.by_number[1], 0, MXCSR_OFFSET, MXCSR_END, alive)


def _pieces(
    component: StateComponent, origin: int, start: int, end: int, alive: int
) -> Iterator[Span]:
    """The fields of a component within [start, end), and what stands between them."""

    def piece(at: int, to: int, kind: Kind, path: str, field: Leaf | None) -> Span:
        image = component.initial[at - origin : to - origin]
        return Span(at, to - at, kind, path, component, alive, image, field)

    if not component.leaves:
        yield piece(start, end, "field", component.name, None)
        return
    for leaf in sorted(component.leaves, key=lambda leaf: leaf.offset):
        at = origin + leaf.offset
        if not start <= at < end:
            continue
        if at > start:
            yield piece(start, at, "reserved", component.name, None)
        start = at + leaf.size
        yield piece(at, start, "field", f"{component.name}.{leaf.path}", leaf)
    if start < end:
        yield piece(start, end, "reserved", component.name, None)

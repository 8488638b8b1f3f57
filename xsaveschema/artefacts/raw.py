# SPDX-License-Identifier: MIT
"""A raw file: the bytes of one area, in the format that XCOMP_BV bit 63 says.

It has no magic number, so this reader comes last. KVM_GET_XSAVE2 gives such areas too where they
are longer than ``struct kvm_xsave``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Final

from xsaveschema.artefacts.layouts import layout_of
from xsaveschema.artefacts.reader import WHOLE, ArtefactError, Data, Found, InPlace, Options
from xsaveschema.artefacts.source import MAX_AREA
from xsaveschema.errors import Fault
from xsaveschema.header import MASKS, view_of
from xsaveschema.model import (
    COMPACTED,
    EXTENDED_OFFSET,
    HEADER_OFFSET,
    MXCSR_MASK,
    MXCSR_OFFSET,
    SSE,
)
from xsaveschema.traces import mxcsr_masks

if TYPE_CHECKING:
    from xsaveschema.catalog import Catalog

_RESERVED: Final = (
    ("header-16-23", HEADER_OFFSET + 16, HEADER_OFFSET + 24),
    ("header-24-63", HEADER_OFFSET + 24, EXTENDED_OFFSET),
)


class RawReader(InPlace):
    """One area, the whole file."""

    name = "raw"
    title = "the bytes of one area"

    def recognises(self, data: Data) -> bool:
        """Whether the file has the length of an area: nothing else can be told."""
        return EXTENDED_OFFSET <= len(data) <= MAX_AREA

    def read(self, data: Data, options: Options) -> Iterator[Found]:
        """The area. TooShortError below 576 bytes."""
        view = bare(data, options)
        found = layout_of(view, options).found(view, options, WHOLE, 0)
        if not options.strict:
            found.area.faults += tuple(look(view, options.catalog))
        yield found


def bare(data: Data, options: Options) -> memoryview:
    """The bytes of the area; ArtefactError for what is none."""
    if len(data) > MAX_AREA:
        raise ArtefactError(
            f"is no file that a reader knows, and longer than {MAX_AREA >> 20} MiB, which no "
            "area is"
        )
    view = data[:]
    require_look(view, options)
    return view


def look(data: memoryview, catalog: Catalog | None = None) -> Iterator[Fault]:
    """What in a file's bytes no area has that a system or an instruction wrote whole.

    Reserved header bytes that are not zero, an MXCSR with bits that no CPU has, and nothing at all
    that anybody wrote. Nothing marks a bare area as one, so a file that looks otherwise is none, or
    a damaged one.
    """
    view = view_of(data)
    xstate_bv, xcomp_bv = MASKS.unpack_from(view, HEADER_OFFSET)
    for rule, start, end in _RESERVED:
        if at := next((at for at in range(start, end) if view[at]), None):
            said = f"header byte {at - HEADER_OFFSET} is not 0 ({view[at]:#04x})"
            yield Fault(rule, at, said)
    if not (xstate_bv or xcomp_bv or any(view[MXCSR_OFFSET : MXCSR_OFFSET + 8])):
        yield Fault("blank", MXCSR_OFFSET, "nothing is in use, and MXCSR and MXCSR_MASK are 0")
    mxcsr = int.from_bytes(view[MXCSR_OFFSET : MXCSR_OFFSET + 4], "little")
    means = xstate_bv & SSE or not xcomp_bv & COMPACTED
    if means and mxcsr & ~MXCSR_MASK and mxcsr & ~reduce(or_, mxcsr_masks(catalog)):
        yield Fault("mxcsr", MXCSR_OFFSET, f"MXCSR {mxcsr:#010x} has bits that no processor has")


def require_look(data: memoryview, options: Options) -> None:
    """ArtefactError where a file does not look like an area, and nobody insists that it is one."""
    if not options.strict or options.assume or not options.look:
        return
    if faults := [*look(data, options.catalog)]:
        raise ArtefactError(
            f"does not look like an area: {'; '.join(map(str, faults))}; check says what a "
            "processor makes of it, --lenient shows it, and --assume-model takes it for one"
        )


READER: Final = RawReader()

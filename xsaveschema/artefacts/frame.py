# SPDX-License-Identifier: MIT
"""The XSAVE area of a Linux signal frame: what ``sigcontext.fpstate`` points to.

The kernel leaves ``struct _fpx_sw_bytes`` at byte 464 of the area, with a first magic word, and a
second magic word behind the area; where either is missing, it restores the legacy region alone
(sigreturn.py has what it makes of a frame).
A 32-bit frame has a 112-byte FSAVE image in front, which ``extended_size`` counts in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from xsaveschema.area import XsaveArea
from xsaveschema.artefacts.layouts import layout_of
from xsaveschema.artefacts.reader import ArtefactError, Data, Found, InPlace, Options, Struct
from xsaveschema.artefacts.source import MAX_AREA
from xsaveschema.errors import TooShortError
from xsaveschema.header import MASKS
from xsaveschema.model import EXTENDED_OFFSET, HEADER_OFFSET, XCR0_OFFSET
from xsaveschema.traces import FP_XSTATE_MAGIC1, FP_XSTATE_MAGIC2, FSAVE_SIZE, WORDS

_U32: Final = Struct("<I")


class FrameReader(InPlace):
    """One area, with the magic words checked."""

    name = "signal-frame"
    title = "floating-point state of a Linux signal frame"

    def recognises(self, data: Data) -> bool:
        """Whether the first magic word stands where a 64-bit or a 32-bit frame has it."""
        return _start(data) is not None

    def read(self, data: Data, options: Options) -> Iterator[Found]:
        """The area. ArtefactError where sizes or magic words do not fit, unless lenient."""
        start = _start(data)
        if start is None:
            raise ArtefactError("has no magic word of a signal frame", XCR0_OFFSET)
        if len(data) < start + EXTENDED_OFFSET:
            raise TooShortError(
                f"the file ends within the frame's legacy region or XSAVE header, at {len(data)}",
                start + EXTENDED_OFFSET,
                len(data),
            )
        at = start + XCR0_OFFSET
        _, extended_size, xfeatures, xstate_size = WORDS.unpack(data[at : at + WORDS.size])
        end = start + xstate_size
        fault = _fault(data, at, extended_size, xstate_size, end)
        if fault is not None:
            if options.strict:
                raise fault
            if not EXTENDED_OFFSET <= xstate_size <= MAX_AREA:
                end = start + min(len(data) - start, MAX_AREA)
        bits = 32 if start or extended_size == xstate_size + 4 + FSAVE_SIZE else 64
        view = data[start:end]
        known = layout_of(view, options)
        xstate_bv, _ = MASKS.unpack_from(view, HEADER_OFFSET)
        if beyond := xstate_bv & ~xfeatures:
            names = ", ".join(known.model.names_of(beyond))
            unloaded = f"{names}: in XSTATE_BV, but not in xfeatures, which sigreturn loads alone"
            known = known._replace(notes=(*known.notes, unloaded))
        if fault is not None:
            known = known._replace(notes=(*known.notes, f"{fault}; check --target sigreturn tells"))
        yield known.found(view, options, f"signal frame ({bits}-bit)", start)

    def replace(self, data: Data, found: Found, area: XsaveArea) -> Iterable[tuple[int, bytes]]:
        """One write. ArtefactError where x87 changes in a 32-bit frame: its FSAVE image has it."""
        from xsaveschema.diff import diff  # which reading does without

        twice = found.offset == FSAVE_SIZE
        if twice and any(d.component == "x87" for d in diff(found.area, area, everything=True)):
            raise ArtefactError(
                f"{found.label}: x87 would change, or no longer be in use; sigreturn takes x87 "
                "from the FSAVE image in front of the area, which stays as it is"
            )
        return super().replace(data, found, area)


def _start(data: Data) -> int | None:
    """Where the area begins: 0, or behind the FSAVE image of a 32-bit frame."""
    for start in (0, FSAVE_SIZE):
        at = start + XCR0_OFFSET
        if len(data) >= at + WORDS.size and _U32.unpack_from(data, at)[0] == FP_XSTATE_MAGIC1:
            return start
    return None


def _fault(
    data: Data, at: int, extended_size: int, xstate_size: int, end: int
) -> ArtefactError | None:
    """The first of Linux's checks (check_xstate_in_sigframe) that the frame does not pass."""
    if not EXTENDED_OFFSET <= xstate_size <= MAX_AREA:
        return ArtefactError(f"xstate_size is {xstate_size}, which no area's size is", at + 16)
    if extended_size - xstate_size not in (4, 4 + FSAVE_SIZE):
        return ArtefactError(
            f"extended_size is {extended_size}: with xstate_size {xstate_size} it is "
            f"{xstate_size + 4}, or {xstate_size + 4 + FSAVE_SIZE} in a 32-bit frame",
            at + 4,
        )
    if len(data) < end + 4:
        return ArtefactError(
            f"the file ends before the frame's second magic word, which stands at {end:#x}",
            len(data),
        )
    (magic2,) = _U32.unpack_from(data, end)
    if magic2 != FP_XSTATE_MAGIC2:
        return ArtefactError(
            f"the frame's second magic word is {magic2:#x}, not {FP_XSTATE_MAGIC2:#x}", end
        )
    return None


READER: Final = FrameReader()

# SPDX-License-Identifier: MIT
"""Signal frames from areas: what ``sigcontext.fpstate`` may point to when a handler returns."""

from __future__ import annotations

from typing import Final

from xsaveschema.area import XsaveArea
from xsaveschema.convert import Conversion, to_standard
from xsaveschema.errors import MaskError, WrongTypeError, described, hex_mask
from xsaveschema.header import MASKS
from xsaveschema.model import HEADER_OFFSET, SSE, X87, XCR0_OFFSET
from xsaveschema.plan import Drop
from xsaveschema.traces import FP_XSTATE_MAGIC1, FP_XSTATE_MAGIC2, WORDS

_LEGACY: Final = X87 | SSE
_MAGIC2: Final = FP_XSTATE_MAGIC2.to_bytes(4, "little")


def build_frame(area: XsaveArea, *, xcr0: int | None = None, drop: Drop = ()) -> bytes:
    """The area of a 64-bit signal frame of Linux with an area's state, and the second magic word.

    In the place of a frame's own one, at a multiple of 64, it is what sigreturn loads. ``xcr0`` is
    the task's user mask: what Linux has enabled, less the dynamic components that the task has not
    used (default: the masks that the area's own model has); it becomes ``xfeatures``. ``drop`` and
    the errors are :func:`xsaveschema.to_standard`'s; MaskError for a mask without x87 or SSE.
    """
    if not isinstance(area, XsaveArea):
        raise WrongTypeError(f"area: pass an XsaveArea, not {described(area)}")
    return framed(to_standard(area, area.model, xcr0=xcr0, drop=drop))


def framed(result: Conversion) -> bytes:
    """The same of a conversion's result, which is in the standard format."""
    layout = result.layout
    if _LEGACY & ~layout.mask:
        said = f"xfeatures {hex_mask(layout.mask)}: a signal frame has x87 and SSE"
        raise MaskError(said, layout.mask)
    frame = bytearray(result.data)
    words = WORDS.pack(FP_XSTATE_MAGIC1, layout.size + len(_MAGIC2), layout.mask, layout.size)
    frame[XCR0_OFFSET:HEADER_OFFSET] = words.ljust(HEADER_OFFSET - XCR0_OFFSET, b"\0")
    # As Linux has it, so that a handler's changes to these two count. A standard result has their
    # initial values where they are initial.
    xstate_bv, xcomp_bv = MASKS.unpack_from(frame, HEADER_OFFSET)
    MASKS.pack_into(frame, HEADER_OFFSET, xstate_bv | _LEGACY, xcomp_bv)
    return bytes(frame) + _MAGIC2

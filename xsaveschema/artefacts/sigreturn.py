# SPDX-License-Identifier: MIT
"""What Linux's sigreturn makes of a signal frame: takes all, a part without a word, or nothing.

First the kernel looks at the frame's words (check_xstate_in_sigframe): where one is wrong it loads
x87 and SSE alone, by FXRSTOR, and everything else becomes initial. A 64-bit frame that passes is
loaded by XRSTOR with RFBM = xfeatures, within what the task has (restore_fpregs_from_user): the
processor's faults are SIGSEGV. A 32-bit frame is copied as ptrace copies an area. Each case of
64-bit frames was seen on Linux 6.18.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Any, Final, Literal, NamedTuple

from xsaveschema.errors import Fault, XsaveError, hex_mask
from xsaveschema.header import MASKS, Buffer, view_of
from xsaveschema.layout import compacted, names, standard
from xsaveschema.model import (
    COMPACTED,
    EXTENDED_OFFSET,
    HEADER_OFFSET,
    MXCSR_INITIAL,
    MXCSR_OFFSET,
    SSE,
    X87,
    XCR0_OFFSET,
    CpuModel,
)
from xsaveschema.restore import check
from xsaveschema.restore_rules import Rule
from xsaveschema.traces import (
    FP_XSTATE_MAGIC1,
    FP_XSTATE_MAGIC2,
    FSAVE_SIZE,
    WORDS,
    XFEATURES_OFFSET,
)

Bits = Literal[32, 64]

_SOURCE: Final = "Linux: check_xstate_in_sigframe; HW: Linux 6.18"
_REBUILD: Final = "build the frame anew: convert --format frame, or artefacts.build_frame"
_U32: Final = Struct("<I")
_SIZE_OFFSET: Final = XFEATURES_OFFSET + 8
_LEGACY: Final = X87 | SSE

FRAME_RULES: Final[dict[str, Rule]] = {
    "frame-magic1": Rule(
        _SOURCE,
        "Without FP_XSTATE_MAGIC1 at byte 464 sigreturn loads x87 and SSE alone.",
        _REBUILD,
        XCR0_OFFSET,
    ),
    "frame-size": Rule(
        _SOURCE,
        "With an xstate_size below 576, above the task's own or above extended_size sigreturn "
        "loads x87 and SSE alone.",
        _REBUILD,
        _SIZE_OFFSET,
    ),
    "frame-magic2": Rule(
        _SOURCE,
        "Without FP_XSTATE_MAGIC2 at xstate_size sigreturn loads x87 and SSE alone.",
        _REBUILD,
    ),
    "frame-ends": Rule(
        "Linux: check_xstate_in_sigframe",
        "Where memory ends before the second magic word sigreturn is SIGSEGV.",
        "keep xstate_size + 4 bytes of the frame",
    ),
    "frame-xfeatures": Rule(
        "Linux: restore_fpregs_from_user; HW: Linux 6.18",
        "What xfeatures lacks, or the task has not, becomes initial whatever XSTATE_BV says.",
        "have xfeatures name all that XSTATE_BV does; have the task use a dynamic component first",
        XFEATURES_OFFSET,
    ),
    "frame-reach": Rule(
        "Linux: xrstor_from_user_sigframe; SDM 13.8",
        "XRSTOR takes a component from its place even where that is behind xstate_size.",
        _REBUILD,
        _SIZE_OFFSET,
    ),
}
"""The rules of sigreturn by their stable identifiers; the others are the processor's, or ptrace's.
"""
LOADED_OTHERWISE: Final = frozenset(FRAME_RULES) - {"frame-ends"}
"""The rules by which a frame is not refused, but other state is loaded than it holds."""


class _Words(NamedTuple):
    """The words of a frame (struct _fpx_sw_bytes)."""

    magic1: int
    extended_size: int
    xfeatures: int
    xstate_size: int


def check_frame(
    frame: Buffer,
    model: CpuModel,
    *,
    xcr0: int | None = None,
    mxcsr_mask: int | None = None,
    xfd: int = 0,
    bits: Bits | None = None,
) -> list[Fault]:
    """Say what keeps Linux's sigreturn from loading what a signal frame holds; empty: nothing.

    ``frame`` reaches from the area's first byte (in a 32-bit frame behind the FSAVE image) to the
    second magic word, at least. ``xcr0`` is what Linux has enabled (default: the model's), ``xfd``
    the dynamic components that the task has not used yet, ``bits`` whose frame it is: by default a
    32-bit one where extended_size counts an FSAVE image in.

    Faults of the rules in LOADED_OTHERWISE are silent ones: sigreturn loads other state than the
    frame holds. Behind any other the task gets SIGSEGV. The first one is what happens. Errors are
    those of :func:`xsaveschema.check`.
    """
    if bits not in (None, 32, 64):
        raise XsaveError(f"bits: 32 or 64, not {bits!r:.60}")
    view = view_of(frame, "the frame")
    words = _Words(*WORDS.unpack_from(view, XCR0_OFFSET))
    machine: dict[str, Any] = {"xcr0": xcr0, "mxcsr_mask": mxcsr_mask, "xfd": xfd}
    taken = check(view, model, "ptrace", **machine)  # which judges the arguments, too
    user = (model.xcr0 if xcr0 is None else xcr0) & ~xfd
    found = next(_words(view, words, standard(model, user).size), None)
    if found is not None:
        return [found] if found.rule == "frame-ends" else _alone(view, found, model, machine)
    if bits is None:
        bits = 32 if words.extended_size - words.xstate_size == 4 + FSAVE_SIZE else 64
    if bits == 32:
        faults = [f for f in taken if f.rule not in ("ptrace-length", "linux-size")]
    else:
        room = bytes(view) + bytes(_end(view, model, user))  # memory goes on behind the frame
        instruction: dict[str, Any] = {
            "xcr0": xcr0,
            "mxcsr_mask": mxcsr_mask,
            "rfbm": words.xfeatures & user,
        }
        faults = check(room, model, "xrstor", **instruction)
    return [*faults, *_otherwise(view, words, model, user)]


def _words(view: memoryview, words: _Words, most: int) -> Iterator[Fault]:
    """What is wrong with the frame's words, in the kernel's order; ``most``: the task's size."""
    size = words.xstate_size
    if words.magic1 != FP_XSTATE_MAGIC1:
        yield _fault("frame-magic1", f"the word is {words.magic1:#x}, not {FP_XSTATE_MAGIC1:#x}")
    if size < EXTENDED_OFFSET:
        yield _fault("frame-size", f"xstate_size is {size}, below {EXTENDED_OFFSET}")
    if size > most:
        yield _fault("frame-size", f"xstate_size is {size}; the task's own is {most}")
    if size > words.extended_size:
        said = f"xstate_size is {size}, above extended_size {words.extended_size}"
        yield _fault("frame-size", said)
    if size + _U32.size > len(view):
        said = (
            f"the second magic word stands at {size}..{size + 4}, but there are {len(view)} bytes"
        )
        yield _fault("frame-ends", said, len(view))
        return
    (magic2,) = _U32.unpack_from(view, size)
    if magic2 != FP_XSTATE_MAGIC2:
        said = f"the word at xstate_size is {magic2:#x}, not {FP_XSTATE_MAGIC2:#x}"
        yield _fault("frame-magic2", said, size)


def _alone(view: memoryview, found: Fault, model: CpuModel, machine: dict[str, Any]) -> list[Fault]:
    """What comes of a frame of which x87 and SSE alone are loaded, in use or not, and the fault."""
    header = bytearray(view[:EXTENDED_OFFSET])
    xstate_bv, _ = MASKS.unpack_from(header, HEADER_OFFSET)
    lost = names(model, xstate_bv & ~_LEGACY, most=8) or "no component in use"
    faults = [_fault(found.rule, f"{found.message}; lost: {lost}", found.offset)]
    # FXRSTOR refuses the MXCSR that XRSTOR refuses, whatever the header says.
    MASKS.pack_into(header, HEADER_OFFSET, _LEGACY, 0)
    refused = check(header, model, "xrstor", rfbm=_LEGACY, **machine)
    return [*(fault for fault in refused if fault.rule == "mxcsr"), *faults]


def _otherwise(view: memoryview, words: _Words, model: CpuModel, user: int) -> Iterator[Fault]:
    """What is in use and not loaded, or not from the frame."""
    xstate_bv, xcomp_bv = MASKS.unpack_from(view, HEADER_OFFSET)
    known = model.user_mask | model.supervisor_mask
    rfbm = words.xfeatures & user
    unloaded = names(model, xstate_bv & known & ~rfbm, most=8)
    if not (xcomp_bv & COMPACTED or (rfbm | xstate_bv) & SSE):
        (mxcsr,) = _U32.unpack_from(view, MXCSR_OFFSET)
        if mxcsr != MXCSR_INITIAL:
            unloaded += ", MXCSR" if unloaded else "MXCSR"
    if unloaded:
        said = f"xfeatures is {hex_mask(words.xfeatures)}, the task's {hex_mask(user)}"
        yield _fault("frame-xfeatures", f"{said}: {unloaded} become initial")
    mask = xcomp_bv & ~COMPACTED & known if xcomp_bv & COMPACTED else rfbm & model.user_mask
    layout = (compacted if xcomp_bv & COMPACTED else standard)(model, mask)
    for slot in layout:
        if slot.component.bit & rfbm & xstate_bv and slot.end > words.xstate_size:
            said = f"{slot.name} stands at {slot.offset}..{slot.end}"
            yield _fault("frame-reach", f"{said}, beyond xstate_size {words.xstate_size}")


def _end(view: memoryview, model: CpuModel, user: int) -> int:
    """The most bytes that XRSTOR may read of such a frame."""
    _, xcomp_bv = MASKS.unpack_from(view, HEADER_OFFSET)
    known = model.user_mask | model.supervisor_mask
    if xcomp_bv & COMPACTED:
        return compacted(model, xcomp_bv & ~COMPACTED & known).size
    return standard(model, user & model.user_mask).size


def _fault(rule: str, message: str, offset: int | None = None) -> Fault:
    said = FRAME_RULES[rule]
    return Fault(rule, said.offset if offset is None else offset, message, said.source, said.remedy)

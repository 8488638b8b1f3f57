# SPDX-License-Identifier: MIT
"""What lies between QEMU's helper and the right conversion, and what of it an area meets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from xsaveschema.errors import Fault, XsaveError, hex_mask
from xsaveschema.header import MASKS, XCOMP_BV_OFFSET, XSTATE_BV_OFFSET, Buffer
from xsaveschema.identify.from_leaf import check_leaf, leaf_masks
from xsaveschema.layout import check_mask
from xsaveschema.model import (
    COMPACTED,
    EXTENDED_OFFSET,
    HEADER_OFFSET,
    MXCSR_INITIAL,
    MXCSR_OFFSET,
    SSE,
    X87,
    XCR0_OFFSET,
    Format,
    Leaf0xD,
    bits_of,
)
from xsaveschema.qemu.helper import (
    COMPONENTS,
    E2BIG,
    Step,
    UndefinedBehaviourError,
    aligned,
    check_copies,
    check_dest_size,
    compact_walk,
    decompact_walk,
    input_of,
    sub_leaf,
)
from xsaveschema.spans import MXCSR_END
from xsaveschema.traces import shown

_LEGACY: Final = X87 | SSE
_X87_INITIAL: Final = b"\x7f\x03" + bytes(150)
_RESERVED: Final = HEADER_OFFSET + 16
_X87_END: Final = 160
_XMM: Final = slice(_X87_END, 416)


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which QEMU's helper differs from the right conversion.

    ``function`` is the C function (both: "*"), ``what`` it does, the ``consequence``, and what is
    ``right``. ``harmless`` differences change bytes that no restore looks at.
    """

    id: str
    function: str
    what: str
    consequence: str
    right: str
    harmless: bool = False


KNOWN_DIFFERENCES: Final = msgspec.yaml.decode(
    Path(__file__).with_name("differences.yaml").read_bytes(), type=tuple[Difference, ...]
)
"""Every known difference to SDM 13.4 to 13.12, decompact first."""

_BY_ID: Final = {difference.id: difference for difference in KNOWN_DIFFERENCES}


def differences(
    data: Buffer,
    *,
    to: Format,
    guest_leaf: Leaf0xD,
    host_leaf: Leaf0xD,
    guest_xcr0: int,
    xcr0: int | None = None,
    dest_size: int | None = None,
) -> list[Fault]:
    """Say which of KNOWN_DIFFERENCES this very area meets on its way through QEMU's helper.

    ``to`` "standard" asks about ``decompact_xsave_area``, "compacted" about ``compact_xsave_area``;
    the other arguments are theirs. ``xcr0`` is by default ``guest_xcr0``, ``dest_size`` all that is
    needed. Each Fault has a Difference's id as its rule and the byte of the area concerned as its
    offset. An empty list: QEMU writes what ``to_standard`` or ``to_compacted`` writes.
    """
    view = input_of(data)
    if dest_size is not None:
        check_dest_size(dest_size)
    xcr0 = guest_xcr0 if xcr0 is None else xcr0
    check_mask(guest_xcr0, "guest_xcr0")
    check_mask(xcr0, "xcr0")
    check_leaf(guest_leaf)
    check_leaf(host_leaf)
    if to == "standard":
        if dest_size is None:
            ends = (sum(sub_leaf(guest_leaf, number)[:2]) for number in COMPONENTS)
            dest_size = max(EXTENDED_OFFSET, *ends)
        function = "decompact_xsave_area"
        found = _decompact_faults(view, guest_leaf, host_leaf, guest_xcr0, dest_size)
    elif to == "compacted":
        function = "compact_xsave_area"
        found = _compact_faults(view, guest_leaf, host_leaf, guest_xcr0, xcr0, dest_size)
    else:
        raise XsaveError(f"{to!r} is no format: standard or compacted")
    return [
        Fault(id, offset, message, f"QEMU {function}", _BY_ID[id].right)
        for id, offset, message in found
    ]


_Found = Iterator[tuple[str, int, str]]
"""Differences that are met: the id, the byte concerned, what of it."""


def _decompact_faults(
    view: memoryview, guest: Leaf0xD, host: Leaf0xD, guest_xcr0: int, dest_size: int
) -> _Found:
    xstate_bv, xcomp_bv = MASKS.unpack_from(view, HEADER_OFFSET)
    places = xcomp_bv & ~COMPACTED
    if places == xcomp_bv:
        yield "assert", XCOMP_BV_OFFSET, f"XCOMP_BV is {hex_mask(xcomp_bv)}"
        return
    if places:
        said = f"XCOMP_BV becomes {hex_mask(places)}, not 0"
        yield "xcomp-bv-bits-kept", XCOMP_BV_OFFSET, said
    if beyond := xstate_bv & ~places:
        said = f"XSTATE_BV has {_names(beyond)}, which XCOMP_BV gives no place"
        yield "xstate-bv-beyond-xcomp-bv", XSTATE_BV_OFFSET, said
    kept = xstate_bv & guest_xcr0
    if not kept & X87 and bytes(view[:MXCSR_OFFSET]) + view[MXCSR_END:_X87_END] != _X87_INITIAL:
        fcw = int.from_bytes(view[:2], "little")
        yield "initial-x87", 0, f"x87 is initial, its bytes are not (FCW {fcw:#x})"
    if not kept & SSE and any(view[_XMM]):
        yield "initial-sse", _XMM.start, "XMM registers of an initial SSE are not 0"
    if not xstate_bv & SSE and (mxcsr := _mxcsr(view)) != MXCSR_INITIAL:
        yield "mxcsr-stale", MXCSR_OFFSET, f"MXCSR {mxcsr:#x} though SSE is initial"
    yield from _reserved(view)

    code, steps = decompact_walk(xstate_bv, xcomp_bv, len(view), dest_size, guest, host)
    described = sum(1 << number for number in COMPONENTS if sub_leaf(guest, number)[0])
    if lost := xstate_bv & places & ~guest_xcr0:
        yield "component-dropped", XSTATE_BV_OFFSET, f"XSTATE_BV loses {_names(lost)}"
    if claimed := kept & places & ~described & ~_LEGACY:
        said = f"the guest gives no size to {_names(claimed)}"
        yield "xstate-bv-without-data", XSTATE_BV_OFFSET, said
    for step in steps:
        if step.copied and step.target < EXTENDED_OFFSET:
            over = f"bytes {step.target}..{step.target + step.size}"
            yield "over-legacy", step.source, f"component {step.number} is copied over {over}"
        elif step.copied and not guest_xcr0 >> step.number & 1 and any(step.of(view)):
            said = f"component {step.number} is copied to {step.target}, XSTATE_BV loses it"
            yield "data-without-xstate-bv", step.source, said
    if code:
        yield "written-on-error", 0, f"it returns {code} after it has written"
    yield from _guest_walk(view, places, code, steps, host)
    failed = steps[-1] if code == -E2BIG else None
    if failed and failed.source + failed.size <= len(view) and not xstate_bv >> failed.number & 1:
        said = f"component {failed.number} is initial, but has no room in {dest_size} bytes"
        yield "initial-needs-room", failed.source, said
    yield from _overrun(view, steps, dest_size)


def _guest_walk(
    view: memoryview, places: int, code: int, steps: list[Step], host: Leaf0xD
) -> _Found:
    """Where the walk by the guest's sizes leaves the layout of the host, which wrote the area."""
    walked = {step.number: step for step in steps if step.copied}
    end = EXTENDED_OFFSET
    for number in bits_of(places & ~_LEGACY):
        size, _, ecx, _ = sub_leaf(host, number)
        end = aligned(end, ecx)
        step = walked.get(number)
        if step and step.of(view) != view[end : end + size]:
            said = f"component {number} is read at {step.source}, {step.size} bytes"
            said += f"; the host wrote it at {end}, {size} bytes"
            yield "walk-by-guest", step.source, said
            return
        end += size
    overrun = code == -E2BIG and steps[-1].source + steps[-1].size > len(view)
    if (overrun and end <= len(view)) or (code == 0 and end > len(view)):
        said = f"the host's layout ends at {end} of {len(view)} bytes, but it returns {code}"
        yield "walk-by-guest", EXTENDED_OFFSET, said


def _compact_faults(
    view: memoryview,
    guest: Leaf0xD,
    host: Leaf0xD,
    guest_xcr0: int,
    xcr0: int,
    dest_size: int | None,
) -> _Found:
    xstate_bv, xcomp_bv = MASKS.unpack_from(view, HEADER_OFFSET)
    host_xcr0, _ = leaf_masks(host)
    mask = host_xcr0 & guest_xcr0
    end, steps = compact_walk(mask, xcr0, host)
    if xcomp_bv:
        yield "xcomp-bv-ignored", XCOMP_BV_OFFSET, f"XCOMP_BV {hex_mask(xcomp_bv)} is overwritten"
    if beyond := xstate_bv & ~mask:
        said = f"XSTATE_BV keeps {_names(beyond)}; XCOMP_BV becomes {hex_mask(mask | COMPACTED)}"
        yield "xstate-bv-beyond-xcomp-bv", XSTATE_BV_OFFSET, said
    mxcsr = _mxcsr(view)
    if not xstate_bv & SSE and mxcsr != MXCSR_INITIAL:
        yield "mxcsr-lost", MXCSR_OFFSET, f"MXCSR {mxcsr:#x}, but XSTATE_BV[1] = 0"
    yield from _reserved(view)
    live = xstate_bv & mask
    described = sum(1 << step.number for step in steps)
    if unknown := mask & ~described & ~_LEGACY:
        said = f"the host gives no size to {_names(unknown)}"
        yield "unknown-size", XCOMP_BV_OFFSET, said
    stale = 0
    for step in steps:
        if live >> step.number & 1:
            yield from _live(view, step, guest)
        elif step.copied and any(step.of(view)):
            stale |= 1 << step.number
    if not live & X87 and (any(view[:MXCSR_OFFSET]) or any(view[MXCSR_END:_X87_END])):
        stale |= X87
    if not live & SSE and (mxcsr == MXCSR_INITIAL or any(view[_XMM])):
        stale |= SSE
    if stale:
        yield "initial-bytes-kept", 0, f"initial, but not 0: {_names(stale)}"
    known = _LEGACY | host_xcr0 | leaf_masks(guest)[0]
    if not xcomp_bv and (seen := shown(view, xstate_bv)) and not seen.mask & ~known:
        yield "mask-kept", XCR0_OFFSET, f"the mask {hex_mask(seen.mask)} is copied"
    overruns = list(_overrun(view, steps, end if dest_size is None else dest_size))
    yield from overruns
    if not overruns and dest_size is not None and end > dest_size:
        yield "no-bounds-check", 0, f"it returns {end} for an output of {dest_size} bytes"


def _live(view: memoryview, step: Step, guest: Leaf0xD) -> _Found:
    """What becomes of a live component, which the guest's layout says where to find."""
    size, offset, _, _ = sub_leaf(guest, step.number)
    there = view[offset : offset + size]
    same = there == step.of(view) if step.copied else not any(there)
    if same and len(there) == size:
        return
    if step.copied:
        said = f"component {step.number} is read at {step.source}, {step.size} bytes"
        yield "place-by-host", offset, f"{said}; the guest has it at {offset}, {size} bytes"
    else:
        said = f"component {step.number} is live, but the guest's XCR0 lacks it: zeros"
        yield "live-not-copied", offset, said


def _overrun(view: memoryview, steps: list[Step], dest_size: int) -> _Found:
    try:
        check_copies(steps, len(view), dest_size)
    except UndefinedBehaviourError as error:
        yield "no-bounds-check", len(view), str(error)


def _reserved(view: memoryview) -> _Found:
    for at in range(_RESERVED, EXTENDED_OFFSET):
        if view[at]:
            said = f"header byte {at - HEADER_OFFSET} is {view[at]:#04x} and is copied"
            yield "reserved-header", at, said
            return


def _mxcsr(view: memoryview) -> int:
    return int.from_bytes(view[MXCSR_OFFSET : MXCSR_OFFSET + 4], "little")


def _names(mask: int) -> str:
    plural = "s" if mask.bit_count() > 1 else ""
    return f"component{plural} {', '.join(map(str, bits_of(mask)))}"

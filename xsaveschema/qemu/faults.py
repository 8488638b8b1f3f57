"""Which of the known differences an area meets on its way through QEMU's helper."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from xsaveschema.errors import Fault, XsaveError, hex_mask
from xsaveschema.header import MASKS, XCOMP_BV_OFFSET, XSTATE_BV_OFFSET, Buffer
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
from xsaveschema.qemu.catalogued import COMPACT, DECOMPACT, KNOWN_DIFFERENCES
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
    host_xcr0,
    input_of,
    require_mask,
    sub_leaf,
)
from xsaveschema.traces import shown

_BY_ID: Final = {difference.id: difference for difference in KNOWN_DIFFERENCES}
_MXCSR_INITIAL: Final = MXCSR_INITIAL.to_bytes(4, "little")
_X87_INITIAL: Final = b"\x7f\x03" + bytes(150)
_RESERVED: Final = HEADER_OFFSET + 16
_XMM: Final = slice(160, 416)


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
    require_mask(guest_xcr0)
    if dest_size is not None:
        check_dest_size(dest_size)
    if to == "standard":
        if dest_size is None:
            ends = (sum(sub_leaf(guest_leaf, number)[:2]) for number in COMPONENTS)
            dest_size = max(EXTENDED_OFFSET, *ends)
        return list(_decompact_faults(view, guest_leaf, host_leaf, guest_xcr0, dest_size))
    if to != "compacted":
        raise XsaveError(f"{to!r} is no format: standard or compacted")
    if xcr0 is None:
        xcr0 = guest_xcr0
    require_mask(xcr0)
    return list(_compact_faults(view, guest_leaf, host_leaf, guest_xcr0, xcr0, dest_size))


def _fault(function: str, id: str, offset: int, message: str) -> Fault:
    return Fault(id, offset, message, f"QEMU {function}", _BY_ID[id].right)


def _names(mask: int) -> str:
    plural = "s" if mask.bit_count() > 1 else ""
    return f"component{plural} {', '.join(map(str, bits_of(mask)))}"


def _decompact_faults(
    view: memoryview, guest: Leaf0xD, host: Leaf0xD, guest_xcr0: int, dest_size: int
) -> Iterator[Fault]:
    def found(id: str, offset: int, message: str) -> Fault:
        return _fault(DECOMPACT, id, offset, message)

    xstate_bv, xcomp_bv = MASKS.unpack_from(view, HEADER_OFFSET)
    places = xcomp_bv & ~COMPACTED
    if places == xcomp_bv:
        yield found("assert", XCOMP_BV_OFFSET, f"XCOMP_BV is {hex_mask(xcomp_bv)}")
        return
    if places:
        yield found(
            "xcomp-bv-bits-kept", XCOMP_BV_OFFSET, f"XCOMP_BV becomes {hex_mask(places)}, not 0"
        )
    if beyond := xstate_bv & ~places:
        yield found(
            "xstate-bv-beyond-xcomp-bv",
            XSTATE_BV_OFFSET,
            f"XSTATE_BV has {_names(beyond)}, which XCOMP_BV gives no place",
        )
    kept = xstate_bv & guest_xcr0
    if not kept & X87 and view[:MXCSR_OFFSET].tobytes() + view[32:160] != _X87_INITIAL:
        fcw = int.from_bytes(view[:2], "little")
        yield found("initial-x87", 0, f"x87 is initial, its bytes are not (FCW {fcw:#x})")
    if not kept & SSE and any(view[_XMM]):
        yield found("initial-sse", _XMM.start, "XMM registers of an initial SSE are not 0")
    if not xstate_bv & SSE and view[MXCSR_OFFSET : MXCSR_OFFSET + 4] != _MXCSR_INITIAL:
        yield found("mxcsr-stale", MXCSR_OFFSET, f"MXCSR {_mxcsr(view)} though SSE is initial")
    yield from _reserved(DECOMPACT, view)

    code, steps = decompact_walk(xstate_bv, xcomp_bv, len(view), dest_size, guest, host)
    described = sum(1 << n for n in COMPONENTS if sub_leaf(guest, n)[0])
    if lost := xstate_bv & places & ~guest_xcr0:
        yield found("component-dropped", XSTATE_BV_OFFSET, f"XSTATE_BV loses {_names(lost)}")
    if claimed := kept & places & ~described & ~(X87 | SSE):
        yield found(
            "xstate-bv-without-data",
            XSTATE_BV_OFFSET,
            f"the guest gives no size to {_names(claimed)}",
        )
    for step in steps:
        if step.copied and step.target < EXTENDED_OFFSET:
            end = step.target + step.size
            yield found(
                "over-legacy",
                step.source,
                f"component {step.number} is copied over bytes {step.target}..{end}",
            )
        elif step.copied and not guest_xcr0 >> step.number & 1 and any(_bytes(view, step)):
            yield found(
                "data-without-xstate-bv",
                step.source,
                f"component {step.number} is copied to {step.target}, XSTATE_BV loses it",
            )
    if code:
        yield found("written-on-error", 0, f"it returns {code} after it has written")
    yield from _guest_walk(view, places, code, steps, host)
    failed = steps[-1] if code == -E2BIG else None
    if failed and failed.source + failed.size <= len(view) and not xstate_bv >> failed.number & 1:
        yield found(
            "initial-needs-room",
            failed.source,
            f"component {failed.number} is initial, but has no room in {dest_size} bytes",
        )
    yield from _overrun(DECOMPACT, view, steps, dest_size)


def _guest_walk(
    view: memoryview, places: int, code: int, steps: list[Step], host: Leaf0xD
) -> Iterator[Fault]:
    """Where the walk by the guest's sizes leaves the layout of the host, which wrote the area."""
    walked = {step.number: step for step in steps if step.copied}
    end = EXTENDED_OFFSET
    for number in bits_of(places & ~(X87 | SSE)):
        size, _, ecx, _ = sub_leaf(host, number)
        end = aligned(end, ecx)
        step = walked.get(number)
        if step and _bytes(view, step) != view[end : end + size]:
            yield _fault(
                DECOMPACT,
                "walk-by-guest",
                step.source,
                f"component {number} is read at {step.source}, {step.size} bytes; the host wrote "
                f"it at {end}, {size} bytes",
            )
            return
        end += size
    overrun = code == -E2BIG and steps[-1].source + steps[-1].size > len(view)
    if (overrun and end <= len(view)) or (code == 0 and end > len(view)):
        yield _fault(
            DECOMPACT,
            "walk-by-guest",
            EXTENDED_OFFSET,
            f"the host's layout ends at {end} of {len(view)} bytes, but it returns {code}",
        )


def _compact_faults(
    view: memoryview,
    guest: Leaf0xD,
    host: Leaf0xD,
    guest_xcr0: int,
    xcr0: int,
    dest_size: int | None,
) -> Iterator[Fault]:
    def found(id: str, offset: int, message: str) -> Fault:
        return _fault(COMPACT, id, offset, message)

    xstate_bv, xcomp_bv = MASKS.unpack_from(view, HEADER_OFFSET)
    mask = host_xcr0(host) & guest_xcr0
    end, steps = compact_walk(mask, xcr0, host)
    if xcomp_bv:
        yield found(
            "xcomp-bv-ignored", XCOMP_BV_OFFSET, f"XCOMP_BV {hex_mask(xcomp_bv)} is overwritten"
        )
    if beyond := xstate_bv & ~mask:
        yield found(
            "xstate-bv-beyond-xcomp-bv",
            XSTATE_BV_OFFSET,
            f"XSTATE_BV keeps {_names(beyond)}; XCOMP_BV becomes {hex_mask(mask | COMPACTED)}",
        )
    mxcsr_initial = view[MXCSR_OFFSET : MXCSR_OFFSET + 4] == _MXCSR_INITIAL
    if not xstate_bv & SSE and not mxcsr_initial:
        yield found("mxcsr-lost", MXCSR_OFFSET, f"MXCSR {_mxcsr(view)}, but XSTATE_BV[1] = 0")
    yield from _reserved(COMPACT, view)
    live = xstate_bv & mask
    described = sum(1 << step.number for step in steps)
    if unknown := mask & ~described & ~(X87 | SSE):
        yield found("unknown-size", XCOMP_BV_OFFSET, f"the host gives no size to {_names(unknown)}")
    for step in steps:
        if live >> step.number & 1:
            yield from _live(view, step, guest)
    stale = [step.number for step in _stale(view, steps, live)]
    if not live & X87 and (any(view[:MXCSR_OFFSET]) or any(view[32:160])):
        stale.append(0)
    if not live & SSE and (mxcsr_initial or any(view[_XMM])):
        stale.append(1)
    if stale:
        yield found(
            "initial-bytes-kept", 0, f"initial, but not 0: {_names(sum(1 << n for n in stale))}"
        )
    known = X87 | SSE | host_xcr0(host) | host_xcr0(guest)
    if not xcomp_bv and (seen := shown(view, xstate_bv)) and not seen.mask & ~known:
        yield found("mask-kept", XCR0_OFFSET, f"the mask {hex_mask(seen.mask)} is copied")
    overruns = list(_overrun(COMPACT, view, steps, end if dest_size is None else dest_size))
    yield from overruns
    if not overruns and dest_size is not None and end > dest_size:
        yield found("no-bounds-check", 0, f"it returns {end} for an output of {dest_size} bytes")


def _overrun(function: str, view: memoryview, steps: list[Step], dest_size: int) -> Iterator[Fault]:
    try:
        check_copies(steps, len(view), dest_size)
    except UndefinedBehaviourError as error:
        yield _fault(function, "no-bounds-check", len(view), str(error))


def _live(view: memoryview, step: Step, guest: Leaf0xD) -> Iterator[Fault]:
    """What becomes of a live component, which the guest's layout says where to find."""
    size, offset, _, _ = sub_leaf(guest, step.number)
    there = view[offset : offset + size]
    same = there == _bytes(view, step) if step.copied else not any(there)
    if same and len(there) == size:
        return
    if not step.copied:
        yield _fault(
            COMPACT,
            "live-not-copied",
            offset,
            f"component {step.number} is live, but the guest's XCR0 lacks it: zeros",
        )
    else:
        yield _fault(
            COMPACT,
            "place-by-host",
            offset,
            f"component {step.number} is read at {step.source}, {step.size} bytes; the guest has "
            f"it at {offset}, {size} bytes",
        )


def _stale(view: memoryview, steps: list[Step], live: int) -> Iterator[Step]:
    for step in steps:
        if step.copied and not live >> step.number & 1 and any(_bytes(view, step)):
            yield step


def _reserved(function: str, view: memoryview) -> Iterator[Fault]:
    for at in range(_RESERVED, EXTENDED_OFFSET):
        if view[at]:
            message = f"header byte {at - HEADER_OFFSET} is {view[at]:#04x} and is copied"
            yield _fault(function, "reserved-header", at, message)
            return


def _bytes(view: memoryview, step: Step) -> memoryview:
    return view[step.source : step.source + step.size]


def _mxcsr(view: memoryview) -> str:
    return f"{int.from_bytes(view[MXCSR_OFFSET : MXCSR_OFFSET + 4], 'little'):#x}"

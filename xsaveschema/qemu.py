"""QEMU's XSAVE helper, bit for bit: what it writes, and where that is not what the SDM asks for.

``decompact_xsave_area`` and ``compact_xsave_area`` do what the C functions of these names do in the
QEMU series "target/i386: add de/compaction to xsave_helper" (April 2026), in every return case;
``xsave_area_size`` does what that of ``target/i386/cpu.c`` does. They are for reproducing a
migration, not for converting: ``to_standard`` and ``to_compacted`` convert. KNOWN_DIFFERENCES says
what lies between the two, and ``differences`` which of it a given area meets.

The C's arithmetic is kept: ``dst_off + size`` has 32 bits and wraps, offsets into the compacted
area have 64, the compacted size is returned as an ``int``. Where the C is undefined, or aborts,
UndefinedBehaviourError is raised before anything is written.

A leaf is CPUID leaf 0xD as ``{sub-leaf: (EAX, EBX, ECX, EDX)}``; a sub-leaf that is not in it
reads as zeros, as CPUID gives them. The guest's is what QEMU's ``cpu_x86_cpuid`` shows the guest,
the host's what the CPUID instruction gives. ``guest_xcr0`` is the mask of user components that the
guest model has (FEAT_XSAVE_XCR0), ``xcr0`` what the guest has written to XCR0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

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
    Format,
    bits_of,
)

Leaf0xD = Mapping[int, tuple[int, int, int, int]]
"""CPUID leaf 0xD: EAX, EBX, ECX and EDX by sub-leaf."""

EINVAL: Final = 22
E2BIG: Final = 7
_U32: Final = (1 << 32) - 1
_U64: Final = (1 << 64) - 1
_ALIGN64: Final = 2
_COMPONENTS: Final = range(2, 63)
_MXCSR_INITIAL: Final = MXCSR_INITIAL.to_bytes(4, "little")
_X87_INITIAL: Final = b"\x7f\x03" + bytes(150)
_RESERVED: Final = HEADER_OFFSET + 16
_XMM: Final = slice(160, 416)


class UndefinedBehaviourError(XsaveError):
    """QEMU's C would read or write memory that is not the buffer's, or abort. Nothing was written.

    ``reason`` is "assert" (XCOMP_BV bit 63 is clear: the C aborts), "input" or "output" (a buffer
    below 576 bytes, or of 4 GiB), "overlap" (both buffers are one), "read" or "write" (a component
    lies beyond the input or the output); ``component`` is that component's number, else None.
    """

    def __init__(self, message: str, reason: str, component: int | None = None):
        super().__init__(f"QEMU's C is undefined here: {message}")
        self.reason = reason
        self.component = component


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


_DECOMPACT: Final = "decompact_xsave_area"
_COMPACT: Final = "compact_xsave_area"

KNOWN_DIFFERENCES: Final = (
    Difference(
        "assert",
        _DECOMPACT,
        "asserts XCOMP_BV bit 63",
        "an area in the standard format ends the QEMU process",
        "an area of either format is converted",
    ),
    Difference(
        "xcomp-bv-bits-kept",
        _DECOMPACT,
        "clears only bit 63 of XCOMP_BV",
        "XRSTOR raises #GP (HW), KVM_SET_XSAVE and ptrace give EINVAL",
        "XCOMP_BV is 0 in the standard format",
    ),
    Difference(
        "over-legacy",
        _DECOMPACT,
        "copies a live component to the offset in the guest's EBX, 0 for supervisor components",
        "x87 and XMM registers, and above 512 bytes the header, are overwritten",
        "a supervisor component has no place in the standard format: StateLossError",
    ),
    Difference(
        "initial-x87",
        _DECOMPACT,
        "copies the x87 bytes though XSTATE_BV[0] = 0 says that they mean nothing",
        "QEMU reads them whatever XSTATE_BV says: stale registers, or FCW 0, no exception masked",
        "FCW 0x37F and zeros",
    ),
    Difference(
        "initial-sse",
        _DECOMPACT,
        "copies XMM0..15 though XSTATE_BV[1] = 0 says that they mean nothing",
        "QEMU reads them whatever XSTATE_BV says: stale registers",
        "zeros",
    ),
    Difference(
        "mxcsr-stale",
        _DECOMPACT,
        "copies MXCSR though XSTATE_BV[1] = 0: XSAVEC and XSAVES did not write it (HW)",
        "XRSTOR loads it whatever XSTATE_BV[1] says (HW): a wrong MXCSR, or #GP for reserved bits",
        "MXCSR 0x1F80",
    ),
    Difference(
        "component-dropped",
        _DECOMPACT,
        "clears the XSTATE_BV bit of a live component that the guest model lacks",
        "its state is lost without a word",
        "StateLossError unless drop= permits it",
    ),
    Difference(
        "data-without-xstate-bv",
        _DECOMPACT,
        "copies a live component that the guest's CPUID describes, but its XCR0 mask lacks",
        "XRSTOR takes it for initial, QEMU's own reader for live",
        "what XSTATE_BV does not name is zero",
    ),
    Difference(
        "xstate-bv-without-data",
        _DECOMPACT,
        "keeps the XSTATE_BV bit of a component that the guest's CPUID gives no size",
        "the area claims state that it does not hold",
        "a mask with a component that the model lacks is a MaskError",
    ),
    Difference(
        "xstate-bv-beyond-xcomp-bv",
        "*",
        "does not compare XSTATE_BV with XCOMP_BV: compact keeps XSTATE_BV as it stands",
        "compacted, XRSTOR raises #GP (HW); decompacted, zeros are taken for live state",
        "state without a place is a StateLossError, such a header in the input a HeaderError",
    ),
    Difference(
        "walk-by-guest",
        _DECOMPACT,
        "walks the area with sizes and align64 of the guest's CPUID; the host's processor wrote it",
        "where they differ, this component and all behind it are taken from wrong bytes",
        "source= is the model that wrote the area",
    ),
    Difference(
        "initial-needs-room",
        _DECOMPACT,
        "wants room in the destination for components that it does not copy",
        "-E2BIG though all live state would fit",
        "only live state needs a place",
    ),
    Difference(
        "written-on-error",
        _DECOMPACT,
        "zeroes and fills the destination before it looks",
        "after -EINVAL or -E2BIG the old state is gone and the new one is torn",
        "nothing is written before all is checked",
    ),
    Difference(
        "reserved-header",
        "*",
        "copies header bytes 16..63, which XSAVEC and XSAVES never write (HW)",
        "XRSTOR raises #GP for bytes 16..23, compacted for all (HW); Linux gives EINVAL for all",
        "zeros",
    ),
    Difference(
        "mxcsr-lost",
        _COMPACT,
        "leaves XSTATE_BV[1] = 0 where MXCSR is not 0x1F80",
        "XRSTOR sets MXCSR to 0x1F80 (HW)",
        "SSE is in use then, with XMM zero, as XSAVEC has it (HW)",
    ),
    Difference(
        "live-not-copied",
        _COMPACT,
        "copies what the guest's XCR0 enables, not what XSTATE_BV says is live",
        "a component with a cleared XCR0 bit is restored as zeros",
        "state survives a cleared XCR0 bit and is copied",
    ),
    Difference(
        "place-by-host",
        _COMPACT,
        "reads at the host's offsets and sizes; decompact wrote at the guest's",
        "where they differ, wrong bytes are restored",
        "source= and model are two models",
    ),
    Difference(
        "unknown-size",
        _COMPACT,
        "skips a component of XCOMP_BV to which the host's CPUID gives no size",
        "XCOMP_BV promises a place that is not there",
        "MaskError",
    ),
    Difference(
        "xcomp-bv-ignored",
        _COMPACT,
        "overwrites the input's XCOMP_BV unread; low bits that decompact left pass",
        "an area that is compacted already is read as a standard one",
        "a compacted area is repacked; XCOMP_BV without bit 63 is a HeaderError",
    ),
    Difference(
        "no-bounds-check",
        "*",
        "compact looks at the length of neither buffer; decompact's own check wraps at 4 GiB",
        "memory behind a buffer is read or written, or a size beyond the buffer is returned",
        "TooShortError",
    ),
    Difference(
        "initial-bytes-kept",
        _COMPACT,
        "copies the bytes of components that XSTATE_BV says are initial",
        "none: a restore does not look at them",
        "zeros",
        harmless=True,
    ),
    Difference(
        "size-without-align64",
        "xsave_area_size",
        "adds compacted sizes up without align64; standard, it counts supervisor components from 0",
        "CPUID D.1:EBX of the guest is too small where TILECFG or TILEDATA is moved up",
        "compacted_layout().size",
    ),
)
"""Every known difference to SDM 13.4 to 13.12, decompact first."""

_BY_ID: Final = {difference.id: difference for difference in KNOWN_DIFFERENCES}


class _Step(NamedTuple):
    """A component that a walk passes: where the C reads it, where it puts it, whether it copies."""

    number: int
    source: int
    target: int
    size: int
    copied: bool


def decompact_xsave_area(
    buf: Buffer, dest: bytearray, *, guest_leaf: Leaf0xD, host_leaf: Leaf0xD, guest_xcr0: int
) -> int:
    """Convert a compacted area to the standard format as QEMU does.

    ``buf`` is the compacted area, ``dest`` stands for ``env->xsave_buf`` and its length for
    ``env->xsave_buf_len``. Returns 0, -22 (-EINVAL: a component without a size) or -7 (-E2BIG: a
    component beyond either buffer); ``dest`` is written in every case, as in the C. Raises
    UndefinedBehaviourError where the C is undefined or aborts, XsaveError for masks and registers
    that are none.
    """
    view = _input(buf)
    _check_mask(guest_xcr0)
    xstate_bv, xcomp_bv = MASKS.unpack_from(view, HEADER_OFFSET)
    if not xcomp_bv & COMPACTED:
        raise UndefinedBehaviourError("it asserts XCOMP_BV bit 63, which is clear", "assert")
    _output(dest, view)
    code, steps = _decompact_walk(xstate_bv, xcomp_bv, len(view), len(dest), guest_leaf, host_leaf)
    _check_copies(steps, len(view), len(dest))
    _start(view, dest, xstate_bv & guest_xcr0, xcomp_bv & ~COMPACTED)
    _copy(view, dest, steps)
    return code


def compact_xsave_area(
    xsave_buf: Buffer, dest: bytearray, *, host_leaf: Leaf0xD, guest_xcr0: int, xcr0: int
) -> int:
    """Convert a standard area to the compacted format as QEMU does.

    ``xsave_buf`` stands for ``env->xsave_buf``; ``dest`` is the buffer for the hypervisor. Returns
    the compacted size in bytes, as an ``int`` of 32 bits: it may be beyond ``dest``. Raises
    UndefinedBehaviourError where the C is undefined, XsaveError for masks and registers that are
    none and for a host leaf without sub-leaf 0.
    """
    view = _input(xsave_buf)
    _output(dest, view)
    _check_mask(guest_xcr0)
    _check_mask(xcr0)
    xstate_bv, _ = MASKS.unpack_from(view, HEADER_OFFSET)
    mask = _host_xcr0(host_leaf) & guest_xcr0
    end, steps = _compact_walk(mask, xcr0, host_leaf)
    _check_copies(steps, len(view), len(dest))
    _start(view, dest, xstate_bv, mask | COMPACTED)
    _copy(view, dest, steps)
    return ((end & _U32) ^ 1 << 31) - (1 << 31)


def xsave_area_size(mask: int, compacted: bool, leaf: Leaf0xD) -> int:
    """QEMU's size in bytes of an area with the components of ``mask``, as its CPUID shows it.

    Compacted, components follow one another without align64. Standard, it is the highest end; a
    supervisor component, with EBX = 0, counts from byte 0. ``leaf`` stands for QEMU's table.
    """
    _check_mask(mask)
    size = EXTENDED_OFFSET
    for number in _COMPONENTS:
        if mask >> number & 1:
            eax, ebx, _, _ = _sub_leaf(leaf, number)
            size = max(size, (size if compacted else ebx) + eax & _U32)
    return size


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
    view = _input(data)
    _check_mask(guest_xcr0)
    if dest_size is not None:
        _check_dest_size(dest_size)
    if to == "standard":
        if dest_size is None:
            ends = (sum(_sub_leaf(guest_leaf, number)[:2]) for number in _COMPONENTS)
            dest_size = max(EXTENDED_OFFSET, *ends)
        return list(_decompact_faults(view, guest_leaf, host_leaf, guest_xcr0, dest_size))
    if to != "compacted":
        raise XsaveError(f"{to!r} is no format: standard or compacted")
    if xcr0 is None:
        xcr0 = guest_xcr0
    _check_mask(xcr0)
    return list(_compact_faults(view, guest_leaf, host_leaf, guest_xcr0, xcr0, dest_size))


def _input(buffer: Buffer) -> memoryview:
    view = memoryview(buffer)
    if view.format != "B" or view.ndim != 1:
        view = view.cast("B")
    if len(view) < EXTENDED_OFFSET:
        raise UndefinedBehaviourError(
            f"it reads {EXTENDED_OFFSET} bytes of an input of {len(view)}", "input"
        )
    return view


def _output(dest: bytearray, view: memoryview) -> None:
    if view.obj is dest:
        raise UndefinedBehaviourError("input and output are one buffer", "overlap")
    _check_dest_size(len(dest))


def _check_dest_size(size: int) -> None:
    if not EXTENDED_OFFSET <= size <= _U32:
        raise UndefinedBehaviourError(
            f"it writes {EXTENDED_OFFSET} bytes at least to an output of {size}, whose length it "
            "keeps in 32 bits",
            "output",
        )


def _check_mask(mask: int) -> None:
    if not 0 <= mask <= _U64:
        raise XsaveError(f"{mask:#x} is no mask of 64 bits")


def _sub_leaf(leaf: Leaf0xD, number: int) -> tuple[int, int, int, int]:
    registers = leaf.get(number, (0, 0, 0, 0))
    if not 0 <= min(registers) <= max(registers) <= _U32:
        raise XsaveError(f"leaf 0xD sub-leaf {number}: {registers} are no registers of 32 bits")
    return registers


def _host_xcr0(leaf: Leaf0xD) -> int:
    if 0 not in leaf:
        raise XsaveError("leaf 0xD without sub-leaf 0 says nothing of XCR0")
    eax, _, _, edx = _sub_leaf(leaf, 0)
    return edx << 32 | eax


def _aligned(offset: int, ecx: int) -> int:
    return offset + 63 & ~63 if ecx & _ALIGN64 else offset


def _decompact_walk(
    xstate_bv: int, xcomp_bv: int, source_size: int, dest_size: int, guest: Leaf0xD, host: Leaf0xD
) -> tuple[int, list[_Step]]:
    """The return code, and the components; the last one is that of an -E2BIG."""
    steps: list[_Step] = []
    source = EXTENDED_OFFSET
    for number in _COMPONENTS:
        if not xcomp_bv >> number & 1:
            continue
        size, target, ecx, _ = _sub_leaf(guest, number)
        known = size != 0
        if not known:
            size, _, ecx, _ = _sub_leaf(host, number)
            if not size:
                return -EINVAL, steps
        source = _aligned(source, ecx)
        # Offset and size in the destination are uint32_t: their sum wraps before it is compared.
        room = source + size <= source_size and not (known and target + size & _U32 > dest_size)
        copied = room and known and bool(xstate_bv >> number & 1)
        steps.append(_Step(number, source, target, size, copied))
        if not room:
            return -E2BIG, steps
        source += size
    return 0, steps


def _compact_walk(mask: int, xcr0: int, host: Leaf0xD) -> tuple[int, list[_Step]]:
    """The end of the compacted area, and its components with a size."""
    steps: list[_Step] = []
    target = EXTENDED_OFFSET
    for number in _COMPONENTS:
        size, source, ecx, _ = _sub_leaf(host, number) if mask >> number & 1 else (0, 0, 0, 0)
        if size:
            target = _aligned(target, ecx)
            steps.append(_Step(number, source, target, size, bool(xcr0 >> number & 1)))
            target += size
    return target, steps


def _check_copies(steps: list[_Step], source_size: int, dest_size: int) -> None:
    for step in steps:
        if not step.copied:
            continue
        for at, length, verb in (
            (step.source, source_size, "read"),
            (step.target, dest_size, "write"),
        ):
            if at + step.size > length:
                raise UndefinedBehaviourError(
                    f"it would {verb} component {step.number} at {at}..{at + step.size}, beyond "
                    f"the buffer's {length} bytes",
                    verb,
                    step.number,
                )


def _start(view: memoryview, dest: bytearray, xstate_bv: int, xcomp_bv: int) -> None:
    dest[:] = bytes(len(dest))
    dest[:EXTENDED_OFFSET] = view[:EXTENDED_OFFSET]
    MASKS.pack_into(dest, HEADER_OFFSET, xstate_bv, xcomp_bv)


def _copy(view: memoryview, dest: bytearray, steps: list[_Step]) -> None:
    for step in steps:
        if step.copied:
            dest[step.target : step.target + step.size] = view[
                step.source : step.source + step.size
            ]


def _fault(function: str, id: str, offset: int, message: str) -> Fault:
    return Fault(id, offset, message, f"QEMU {function}", _BY_ID[id].right)


def _names(mask: int) -> str:
    plural = "s" if mask.bit_count() > 1 else ""
    return f"component{plural} {', '.join(map(str, bits_of(mask)))}"


def _decompact_faults(
    view: memoryview, guest: Leaf0xD, host: Leaf0xD, guest_xcr0: int, dest_size: int
) -> Iterator[Fault]:
    def found(id: str, offset: int, message: str) -> Fault:
        return _fault(_DECOMPACT, id, offset, message)

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
    yield from _reserved(_DECOMPACT, view)

    code, steps = _decompact_walk(xstate_bv, xcomp_bv, len(view), dest_size, guest, host)
    described = sum(1 << n for n in _COMPONENTS if _sub_leaf(guest, n)[0])
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
    yield from _overrun(_DECOMPACT, view, steps, dest_size)


def _guest_walk(
    view: memoryview, places: int, code: int, steps: list[_Step], host: Leaf0xD
) -> Iterator[Fault]:
    """Where the walk by the guest's sizes leaves the layout of the host, which wrote the area."""
    walked = {step.number: step for step in steps if step.copied}
    end = EXTENDED_OFFSET
    for number in bits_of(places & ~(X87 | SSE)):
        size, _, ecx, _ = _sub_leaf(host, number)
        end = _aligned(end, ecx)
        step = walked.get(number)
        if step and _bytes(view, step) != view[end : end + size]:
            yield _fault(
                _DECOMPACT,
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
            _DECOMPACT,
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
        return _fault(_COMPACT, id, offset, message)

    xstate_bv, xcomp_bv = MASKS.unpack_from(view, HEADER_OFFSET)
    mask = _host_xcr0(host) & guest_xcr0
    end, steps = _compact_walk(mask, xcr0, host)
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
    yield from _reserved(_COMPACT, view)
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
    overruns = list(_overrun(_COMPACT, view, steps, end if dest_size is None else dest_size))
    yield from overruns
    if not overruns and dest_size is not None and end > dest_size:
        yield found("no-bounds-check", 0, f"it returns {end} for an output of {dest_size} bytes")


def _overrun(
    function: str, view: memoryview, steps: list[_Step], dest_size: int
) -> Iterator[Fault]:
    try:
        _check_copies(steps, len(view), dest_size)
    except UndefinedBehaviourError as error:
        yield _fault(function, "no-bounds-check", len(view), str(error))


def _live(view: memoryview, step: _Step, guest: Leaf0xD) -> Iterator[Fault]:
    """What becomes of a live component, which the guest's layout says where to find."""
    size, offset, _, _ = _sub_leaf(guest, step.number)
    there = view[offset : offset + size]
    same = there == _bytes(view, step) if step.copied else not any(there)
    if same and len(there) == size:
        return
    if not step.copied:
        yield _fault(
            _COMPACT,
            "live-not-copied",
            offset,
            f"component {step.number} is live, but the guest's XCR0 lacks it: zeros",
        )
    else:
        yield _fault(
            _COMPACT,
            "place-by-host",
            offset,
            f"component {step.number} is read at {step.source}, {step.size} bytes; the guest has "
            f"it at {offset}, {size} bytes",
        )


def _stale(view: memoryview, steps: list[_Step], live: int) -> Iterator[_Step]:
    for step in steps:
        if step.copied and not live >> step.number & 1 and any(_bytes(view, step)):
            yield step


def _reserved(function: str, view: memoryview) -> Iterator[Fault]:
    for at in range(_RESERVED, EXTENDED_OFFSET):
        if view[at]:
            message = f"header byte {at - HEADER_OFFSET} is {view[at]:#04x} and is copied"
            yield _fault(function, "reserved-header", at, message)
            return


def _bytes(view: memoryview, step: _Step) -> memoryview:
    return view[step.source : step.source + step.size]


def _mxcsr(view: memoryview) -> str:
    return f"{int.from_bytes(view[MXCSR_OFFSET : MXCSR_OFFSET + 4], 'little'):#x}"

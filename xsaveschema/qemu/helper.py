# SPDX-License-Identifier: MIT
"""The C functions of QEMU's helper, in every return case."""

from __future__ import annotations

from typing import Final, NamedTuple

from xsaveschema.errors import XsaveError
from xsaveschema.header import MASKS, Buffer
from xsaveschema.identify.from_leaf import check_leaf, leaf_masks
from xsaveschema.layout import check_mask
from xsaveschema.model import (
    COMPACTED,
    EXTENDED_OFFSET,
    HEADER_OFFSET,
    CpuidRegisters,
    Leaf0xD,
)

EINVAL: Final = 22
E2BIG: Final = 7
_U32: Final = (1 << 32) - 1
_ALIGN64: Final = 2
COMPONENTS: Final = range(2, 63)


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


class Step(NamedTuple):
    """A component that a walk passes: where the C reads it, where it puts it, whether it copies."""

    number: int
    source: int
    target: int
    size: int
    copied: bool

    def of(self, view: memoryview) -> memoryview:
        """The component's bytes in the input, as far as there are any."""
        return view[self.source : self.source + self.size]


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
    view = input_of(buf)
    check_mask(guest_xcr0, "guest_xcr0")
    check_leaf(guest_leaf)
    check_leaf(host_leaf)
    xstate_bv, xcomp_bv = MASKS.unpack_from(view, HEADER_OFFSET)
    if not xcomp_bv & COMPACTED:
        raise UndefinedBehaviourError("it asserts XCOMP_BV bit 63, which is clear", "assert")
    check_output(dest, view)
    code, steps = decompact_walk(xstate_bv, xcomp_bv, len(view), len(dest), guest_leaf, host_leaf)
    check_copies(steps, len(view), len(dest))
    _write(view, dest, steps, xstate_bv & guest_xcr0, xcomp_bv & ~COMPACTED)
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
    view = input_of(xsave_buf)
    check_output(dest, view)
    check_mask(guest_xcr0, "guest_xcr0")
    check_mask(xcr0, "xcr0")
    check_leaf(host_leaf)
    xstate_bv, _ = MASKS.unpack_from(view, HEADER_OFFSET)
    mask = leaf_masks(host_leaf)[0] & guest_xcr0
    end, steps = compact_walk(mask, xcr0, host_leaf)
    check_copies(steps, len(view), len(dest))
    _write(view, dest, steps, xstate_bv, mask | COMPACTED)
    return ((end & _U32) ^ 1 << 31) - (1 << 31)


def xsave_area_size(mask: int, compacted: bool, leaf: Leaf0xD) -> int:
    """QEMU's size in bytes of an area with the components of ``mask``, as its CPUID shows it.

    Compacted, components follow one another without align64. Standard, it is the highest end; a
    supervisor component, with EBX = 0, counts from byte 0. ``leaf`` stands for QEMU's table.
    """
    check_mask(mask, "the mask of components")
    check_leaf(leaf)
    size = EXTENDED_OFFSET
    for number in COMPONENTS:
        if mask >> number & 1:
            eax, ebx, _, _ = sub_leaf(leaf, number)
            size = max(size, (size if compacted else ebx) + eax & _U32)
    return size


def input_of(buffer: Buffer) -> memoryview:
    """The bytes that the C is given; it reads 576 of them whatever their length."""
    view = memoryview(buffer)
    if view.format != "B" or view.ndim != 1:
        view = view.cast("B")
    if len(view) < EXTENDED_OFFSET:
        raise UndefinedBehaviourError(
            f"it reads {EXTENDED_OFFSET} bytes of an input of {len(view)}", "input"
        )
    return view


def check_output(dest: bytearray, view: memoryview) -> None:
    """Refuse an output that is the input, or whose length the C cannot keep."""
    if view.obj is dest:
        raise UndefinedBehaviourError("input and output are one buffer", "overlap")
    check_dest_size(len(dest))


def check_dest_size(size: int) -> None:
    """Refuse a length of the output, in bytes, for which the C is undefined."""
    if not EXTENDED_OFFSET <= size <= _U32:
        raise UndefinedBehaviourError(
            f"it writes {EXTENDED_OFFSET} bytes at least to an output of {size}, whose length it "
            "keeps in 32 bits",
            "output",
        )


def sub_leaf(leaf: Leaf0xD, number: int) -> CpuidRegisters:
    """The registers of a sub-leaf; zeros where CPUID has none."""
    return leaf.get(number, (0, 0, 0, 0))


def aligned(offset: int, ecx: int) -> int:
    """The offset of a compacted component in bytes: moved up where ECX has align64."""
    return offset + 63 & ~63 if ecx & _ALIGN64 else offset


def decompact_walk(
    xstate_bv: int, xcomp_bv: int, source_size: int, dest_size: int, guest: Leaf0xD, host: Leaf0xD
) -> tuple[int, list[Step]]:
    """The return code, and the components; the last one is that of an -E2BIG."""
    steps: list[Step] = []
    source = EXTENDED_OFFSET
    for number in COMPONENTS:
        if not xcomp_bv >> number & 1:
            continue
        size, target, ecx, _ = sub_leaf(guest, number)
        known = size != 0
        if not known:
            size, _, ecx, _ = sub_leaf(host, number)
            if not size:
                return -EINVAL, steps
        source = aligned(source, ecx)
        # Offset and size in the destination are uint32_t: their sum wraps before it is compared.
        room = source + size <= source_size and not (known and target + size & _U32 > dest_size)
        copied = room and known and bool(xstate_bv >> number & 1)
        steps.append(Step(number, source, target, size, copied))
        if not room:
            return -E2BIG, steps
        source += size
    return 0, steps


def compact_walk(mask: int, xcr0: int, host: Leaf0xD) -> tuple[int, list[Step]]:
    """The end of the compacted area, and its components with a size."""
    steps: list[Step] = []
    target = EXTENDED_OFFSET
    for number in COMPONENTS:
        size, source, ecx, _ = sub_leaf(host, number) if mask >> number & 1 else (0, 0, 0, 0)
        if size:
            target = aligned(target, ecx)
            steps.append(Step(number, source, target, size, bool(xcr0 >> number & 1)))
            target += size
    return target, steps


def check_copies(steps: list[Step], source_size: int, dest_size: int) -> None:
    """Refuse copies from beyond the input or to beyond the output."""
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


def _write(
    view: memoryview, dest: bytearray, steps: list[Step], xstate_bv: int, xcomp_bv: int
) -> None:
    dest[:] = bytes(view[:EXTENDED_OFFSET]).ljust(len(dest), b"\0")
    MASKS.pack_into(dest, HEADER_OFFSET, xstate_bv, xcomp_bv)
    for step in steps:
        if step.copied:
            dest[step.target : step.target + step.size] = step.of(view)

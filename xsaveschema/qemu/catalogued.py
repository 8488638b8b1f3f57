"""What lies between QEMU's helper and the right conversion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


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


DECOMPACT: Final = "decompact_xsave_area"
COMPACT: Final = "compact_xsave_area"

KNOWN_DIFFERENCES: Final = (
    Difference(
        "assert",
        DECOMPACT,
        "asserts XCOMP_BV bit 63",
        "an area in the standard format ends the QEMU process",
        "an area of either format is converted",
    ),
    Difference(
        "xcomp-bv-bits-kept",
        DECOMPACT,
        "clears only bit 63 of XCOMP_BV",
        "XRSTOR raises #GP (HW), KVM_SET_XSAVE and ptrace give EINVAL",
        "XCOMP_BV is 0 in the standard format",
    ),
    Difference(
        "over-legacy",
        DECOMPACT,
        "copies a live component to the offset in the guest's EBX, 0 for supervisor components",
        "x87 and XMM registers, and above 512 bytes the header, are overwritten",
        "a supervisor component has no place in the standard format: StateLossError",
    ),
    Difference(
        "initial-x87",
        DECOMPACT,
        "copies the x87 bytes though XSTATE_BV[0] = 0 says that they mean nothing",
        "QEMU reads them whatever XSTATE_BV says: stale registers, or FCW 0, no exception masked",
        "FCW 0x37F and zeros",
    ),
    Difference(
        "initial-sse",
        DECOMPACT,
        "copies XMM0..15 though XSTATE_BV[1] = 0 says that they mean nothing",
        "QEMU reads them whatever XSTATE_BV says: stale registers",
        "zeros",
    ),
    Difference(
        "mxcsr-stale",
        DECOMPACT,
        "copies MXCSR though XSTATE_BV[1] = 0: XSAVEC and XSAVES did not write it (HW)",
        "XRSTOR loads it whatever XSTATE_BV[1] says (HW): a wrong MXCSR, or #GP for reserved bits",
        "MXCSR 0x1F80",
    ),
    Difference(
        "component-dropped",
        DECOMPACT,
        "clears the XSTATE_BV bit of a live component that the guest model lacks",
        "its state is lost without a word",
        "StateLossError unless drop= permits it",
    ),
    Difference(
        "data-without-xstate-bv",
        DECOMPACT,
        "copies a live component that the guest's CPUID describes, but its XCR0 mask lacks",
        "XRSTOR takes it for initial, QEMU's own reader for live",
        "what XSTATE_BV does not name is zero",
    ),
    Difference(
        "xstate-bv-without-data",
        DECOMPACT,
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
        DECOMPACT,
        "walks the area with sizes and align64 of the guest's CPUID; the host's processor wrote it",
        "where they differ, this component and all behind it are taken from wrong bytes",
        "relayout takes both CPUs: source= wrote the area",
    ),
    Difference(
        "initial-needs-room",
        DECOMPACT,
        "wants room in the destination for components that it does not copy",
        "-E2BIG though all live state would fit",
        "only live state needs a place",
    ),
    Difference(
        "written-on-error",
        DECOMPACT,
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
        COMPACT,
        "leaves XSTATE_BV[1] = 0 where MXCSR is not 0x1F80",
        "XRSTOR sets MXCSR to 0x1F80 (HW)",
        "SSE is in use then, with XMM zero, as XSAVEC has it (HW)",
    ),
    Difference(
        "live-not-copied",
        COMPACT,
        "copies what the guest's XCR0 enables, not what XSTATE_BV says is live",
        "a component with a cleared XCR0 bit is restored as zeros",
        "state survives a cleared XCR0 bit and is copied",
    ),
    Difference(
        "place-by-host",
        COMPACT,
        "reads at the host's offsets and sizes; decompact wrote at the guest's",
        "where they differ, wrong bytes are restored",
        "relayout takes both CPUs: source= and target=",
    ),
    Difference(
        "unknown-size",
        COMPACT,
        "skips a component of XCOMP_BV to which the host's CPUID gives no size",
        "XCOMP_BV promises a place that is not there",
        "MaskError",
    ),
    Difference(
        "xcomp-bv-ignored",
        COMPACT,
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
        COMPACT,
        "copies the bytes of components that XSTATE_BV says are initial",
        "none: a restore does not look at them",
        "zeros",
        harmless=True,
    ),
    Difference(
        "mask-kept",
        COMPACT,
        "keeps the mask of user components that Linux leaves at byte 464 of a standard area",
        "none for a restore; whoever reads the mask takes it for the compacted area's",
        "zeros: XCOMP_BV says what has a place",
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

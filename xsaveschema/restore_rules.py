# SPDX-License-Identifier: MIT
"""What restores refuse: every rule by its identifier, with its source and what mends it.

The processor's rules are from the SDM; ``HW`` names the processors on which they were seen case by
case. Those of Linux are read in its source, and seen on 6.18.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from xsaveschema.header import XCOMP_BV_OFFSET, XSTATE_BV_OFFSET

Target = Literal["xrstor", "xrstors", "ptrace", "kvm"]
"""Who restores: an instruction, or Linux by PTRACE_SETREGSET or KVM_SET_XSAVE."""

_HW: Final = "; HW: Zen 4, Intel with AMX"
_HW_INTEL: Final = "; HW: Intel with AMX"
_HW_KVM: Final = "; HW: Linux 6.18"
_HEADER: Final = "Linux: validate_user_xstate_header"


class Rule(NamedTuple):
    """Where a rule is from, what it says, and what mends an area that breaks it.

    ``offset`` is the byte where XSTATE_BV or XCOMP_BV stands, as the rule is about either.
    """

    source: str
    says: str
    remedy: str
    offset: int = XSTATE_BV_OFFSET


RULES: Final[dict[str, Rule]] = {
    "no-xsaves": Rule(
        "SDM vol. 2, XRSTORS",
        "XRSTORS is an invalid opcode where CPUID D.1:EAX[3] is 0.",
        "convert to the standard format and use XRSTOR",
    ),
    "alignment": Rule(
        "SDM 13.8, 13.12" + _HW,
        "An area that is not aligned to 64 bytes faults.",
        "put the area at a multiple of 64",
    ),
    "memory-ends": Rule(
        "SDM 13.8, 13.12" + _HW_INTEL,
        "The standard form reads up to the end of the last component in RFBM & XCR0, the compacted "
        "form of the last in RFBM & XCOMP_BV, in use or not; where memory ends before, it is #PF.",
        "restore from a buffer that holds the whole layout",
    ),
    "xfd-armed": Rule(
        "SDM 13.14" + _HW_INTEL,
        "XRSTOR and XRSTORS raise #NM if RFBM & XSTATE_BV & IA32_XFD is not 0.",
        "clear the component's bit in IA32_XFD first (Linux: by arch_prctl and its first use)",
    ),
    "xcomp-bv-form": Rule(
        "SDM 13.8.1" + _HW,
        "In the standard form XCOMP_BV must be 0 in full, not only in bit 63.",
        "write 0 to XCOMP_BV",
        XCOMP_BV_OFFSET,
    ),
    "xcomp-bv-no-xsavec": Rule(
        "SDM 13.8.1",
        "A processor without XSAVEC has no compacted form: XCOMP_BV must be 0.",
        "convert to the standard format",
        XCOMP_BV_OFFSET,
    ),
    "xcomp-bv-xcr0": Rule(
        "SDM 13.8.2, 13.12" + _HW,
        "XCOMP_BV may have components of XCR0 only (XRSTORS: of XCR0 | IA32_XSS).",
        "repack with to_compacted and an XCOMP_BV within the mask; or enable the components first, "
        "as by a restored guest's IA32_XSS",
        XCOMP_BV_OFFSET,
    ),
    "xrstors-form": Rule(
        "SDM 13.12",
        "XRSTORS takes the compacted form only.",
        "convert with to_compacted",
        XCOMP_BV_OFFSET,
    ),
    "other-layout": Rule(
        "SDM 13.4.3",
        "A restore takes each component from where its own CPU has it, whoever wrote the area.",
        "move the area to that CPU's layout: convert --cpu, or relayout",
    ),
    "xstate-bv-xcr0": Rule(
        "SDM 13.8.1" + _HW,
        "In the standard form XSTATE_BV may have components of XCR0 only.",
        "convert for the target's XCR0, dropping the component",
    ),
    "xstate-bv-xcomp-bv": Rule(
        "SDM 13.8.2, 13.12" + _HW,
        "In the compacted form XSTATE_BV must be a subset of XCOMP_BV[62:0].",
        "clear the bits: they have no place, hence no state",
    ),
    "header-16-23": Rule(
        "SDM 13.8.1, 13.8.2, 13.12" + _HW,
        "Header bytes 16..23 must be 0 in either form.",
        "zero the bytes",
    ),
    "header-24-63": Rule(
        "SDM 13.8.2, 13.12" + _HW,
        "Header bytes 24..63 must be 0 in the compacted form.",
        "zero the bytes",
    ),
    "mxcsr": Rule(
        "SDM 13.8.1, 13.8.2, 13.12" + _HW,
        "An MXCSR that is loaded may have no bit outside the processor's MXCSR_MASK. The standard "
        "form loads it if RFBM[1] or RFBM[2], the compacted form if RFBM[1] and XSTATE_BV[1].",
        "clear the reserved bits",
    ),
    "supervisor": Rule(
        "SDM 13.5, 13.12",
        "XRSTORS faults on values of supervisor components that the MSRs would refuse.",
        "correct the value",
    ),
    "illegal-value": Rule(
        "SDM 13.5, and the component's file",
        "A restore faults on values of a user component whose file says so (illegal: fault).",
        "correct the value",
    ),
    "ptrace-length": Rule(
        "Linux: ptrace_regset; HW: Linux 6.18",
        "ptrace takes a register set in units of 8 bytes.",
        "pad the area to a multiple of 8",
    ),
    "linux-size": Rule(
        "Linux: xstateregs_set, fpu_guest.uabi_size; HW: Linux 6.18",
        "ptrace wants the standard layout of all user components; KVM wants struct kvm_xsave's "
        "4096 bytes, or what KVM_CAP_XSAVE2 tells if the components do not fit in these.",
        "convert with to_standard for the target's XCR0; mend pads what is in that form already",
    ),
    "linux-xstate-bv": Rule(
        _HEADER + ", fpu_copy_uabi_to_guest_fpstate" + _HW_KVM,
        "XSTATE_BV may have user components of the kernel only (KVM: those that KVM supports, "
        "whatever the guest's XCR0).",
        "convert for the target's XCR0, dropping the component",
    ),
    "linux-dynamic": Rule(
        _HEADER + ", fpu_copy_uabi_to_guest_fpstate; HW: Linux 6.18 for ptrace",
        "A dynamic component is refused before the task's first use of it (ptrace), or without "
        "the permission for the virtual machine (KVM).",
        "ask for it by arch_prctl and the component's number: by ARCH_REQ_XCOMP_PERM, and have the "
        "task use it; for virtual machines by ARCH_REQ_XCOMP_GUEST_PERM, before the first virtual "
        "CPU",
    ),
    "linux-compacted": Rule(
        _HEADER + _HW_KVM,
        "ptrace and KVM take the standard form only: XCOMP_BV must be 0. KVM looks since 5.16; "
        "before it read a compacted area as a standard one.",
        "convert with to_standard",
        XCOMP_BV_OFFSET,
    ),
    "linux-header": Rule(
        _HEADER + _HW_KVM,
        "ptrace and KVM (since 5.16) want header bytes 16..63 to be 0.",
        "zero the bytes",
    ),
    "linux-mxcsr": Rule(
        "Linux: copy_uabi_to_xstate" + _HW_KVM,
        "ptrace and KVM refuse reserved MXCSR bits if XSTATE_BV has x87, SSE or AVX; before 5.16 "
        "KVM did whatever it has, and before 5.14 ptrace cleared them.",
        "clear the reserved bits",
    ),
}
"""Every rule by its stable identifier."""

# SPDX-License-Identifier: MIT
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

from xsaveschema.model import Leaf0xD
from xsaveschema.qemu.faults import KNOWN_DIFFERENCES, Difference, differences
from xsaveschema.qemu.helper import (
    E2BIG,
    EINVAL,
    UndefinedBehaviourError,
    compact_xsave_area,
    decompact_xsave_area,
    xsave_area_size,
)

__all__ = [
    "E2BIG",
    "EINVAL",
    "KNOWN_DIFFERENCES",
    "Difference",
    "Leaf0xD",
    "UndefinedBehaviourError",
    "compact_xsave_area",
    "decompact_xsave_area",
    "differences",
    "xsave_area_size",
]

# SPDX-License-Identifier: MIT
"""The dumps that are texts with a row a line."""

from __future__ import annotations

import re

from xsaveschema.cpuid.gather import WANTED
from xsaveschema.cpuid.lines import LineFormat

# AIDA64, which InstLatx64 collects; newer libcpuid ``.test`` files embed it. The sub-leaf is
# hexadecimal; old versions print neither the colon nor the sub-leaf. Behind it only remarks may
# follow, never a second sub-leaf: but for leaves that nobody asks for here, where AIDA64 itself
# prints one (leaf 0x1E of Sapphire Rapids). Blanks are taken possessively: megabytes of them would
# be tried at every length.
AIDA64 = LineFormat(
    "AIDA64",
    row=re.compile(
        rf"\s*+CPUID (?P<leaf>(?>(?P<wanted>{'|'.join(f'{leaf:08x}' for leaf in sorted(WANTED))})"
        r"|[0-9a-f]{8})):?\s++(?P<eax>[0-9a-f]{8})-(?P<ebx>[0-9a-f]{8})"
        r"-(?P<ecx>[0-9a-f]{8})-(?P<edx>[0-9a-f]{8})"
        r"(?: \[SL (?P<sub>[0-9a-f]{2,8})\])?(?:\s(?(wanted)(?!.*\[SL)).*)?",
        re.IGNORECASE,
    ),
    resembles=re.compile(
        r"\s*+CPUID\s++(?:[0-9a-f]{8}\b|.{0,99}[0-9a-f]{8}-[0-9a-f]{8})", re.IGNORECASE
    ),
    start=re.compile(r"(?:-+\[.*Logical CPU |CPUID Registers \(CPU |CPU)#(?P<cpu>[0-9]{1,9})\b"),
)

# ``cpuid -r`` (T. Allen's tool), of one CPU (``-1``) or of all.
CPUID_R = LineFormat(
    "cpuid -r",
    row=re.compile(
        r"\s*0x(?P<leaf>[0-9a-f]{8}) 0x(?P<sub>[0-9a-f]{2,8}):"
        r" eax=0x(?P<eax>[0-9a-f]{8}) ebx=0x(?P<ebx>[0-9a-f]{8})"
        r" ecx=0x(?P<ecx>[0-9a-f]{8}) edx=0x(?P<edx>[0-9a-f]{8})\s*",
        re.IGNORECASE,
    ),
    resembles=re.compile(r"\s*0x"),
    start=re.compile(r"CPU(?: (?P<cpu>[0-9]{1,9}))?:\s*$"),
)

# The raw dumps and older ``.test`` files of libcpuid. They hold sub-leaf 0 alone, so that every
# component's size and offset is unknown. The leaf's number is decimal; ext_cpuid and the tables of
# other leaves say nothing about XSAVE.
LIBCPUID = LineFormat(
    "libcpuid raw",
    row=re.compile(
        r"basic_cpuid\[(?P<leaf>[0-9]{1,3})\]=(?P<eax>[0-9a-f]{8}) (?P<ebx>[0-9a-f]{8})"
        r" (?P<ecx>[0-9a-f]{8}) (?P<edx>[0-9a-f]{8})\s*",
        re.IGNORECASE,
    ),
    resembles=re.compile(r"basic_cpuid\b"),
    start=re.compile(r"_+ Logical CPU #(?P<cpu>[0-9]{1,9}) _+"),
    leaf_base=10,
)

# A bare table, ``#`` before comments; ``# vendor AuthenticAMD`` where leaf 0 is not in it.
TABLE = LineFormat(
    "table",
    row=re.compile(
        r"\s*0x(?P<leaf>[0-9a-f]{1,8})\s+0x(?P<sub>[0-9a-f]{1,8})\s+0x(?P<eax>[0-9a-f]{1,8})"
        r"\s+0x(?P<ebx>[0-9a-f]{1,8})\s+0x(?P<ecx>[0-9a-f]{1,8})\s+0x(?P<edx>[0-9a-f]{1,8})\s*",
        re.IGNORECASE,
    ),
    resembles=re.compile(r"\s*[^#\s]"),
    vendor=re.compile(r"^#\s*vendor (?P<name>[ -~]{12})(?:\s|$)", re.MULTILINE),
)

# tycho/cpuid-rs.
TYCHO = LineFormat(
    "tycho",
    row=re.compile(
        r"\s*CPUID (?P<leaf>[0-9a-f]{8}):(?P<sub>[0-9a-f]{2,8}) = (?P<eax>[0-9a-f]{8})"
        r" (?P<ebx>[0-9a-f]{8}) (?P<ecx>[0-9a-f]{8}) (?P<edx>[0-9a-f]{8})(?:\s*\|.*)?\s*",
        re.IGNORECASE,
    ),
    resembles=re.compile(r"\s*CPUID\s+[0-9a-f]{8}\b", re.IGNORECASE),
    start=re.compile(r"CPU (?P<cpu>[0-9]{1,9}):\s*$"),
)

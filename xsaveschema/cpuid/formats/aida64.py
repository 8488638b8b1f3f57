"""The text of AIDA64, which InstLatx64 collects; newer libcpuid ``.test`` files embed it.

``CPUID 0000000D: EAX-EBX-ECX-EDX [SL nn]``, where nn is hexadecimal. Old versions print neither the
colon nor the sub-leaf.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from xsaveschema.cpuid import lines
from xsaveschema.cpuid.gather import WANTED, records

if TYPE_CHECKING:
    from xsaveschema.cpuid.record import CpuidRecord

NAME: Final = "AIDA64"

# Behind the registers and the sub-leaf only remarks may follow, never a second sub-leaf: but for
# leaves that nobody asks for here, where AIDA64 itself prints one (leaf 0x1E of Sapphire Rapids).
# Blanks are taken possessively: megabytes of them would be tried at every length.
_ROW = re.compile(
    rf"\s*+CPUID (?P<leaf>(?>(?P<wanted>{'|'.join(f'{leaf:08x}' for leaf in sorted(WANTED))})"
    r"|[0-9a-f]{8})):?\s++(?P<eax>[0-9a-f]{8})-(?P<ebx>[0-9a-f]{8})"
    r"-(?P<ecx>[0-9a-f]{8})-(?P<edx>[0-9a-f]{8})"
    r"(?: \[SL (?P<sub>[0-9a-f]{2,8})\])?(?:\s(?(wanted)(?!.*\[SL)).*)?",
    re.IGNORECASE,
)
_RESEMBLES = re.compile(
    r"\s*+CPUID\s++(?:[0-9a-f]{8}\b|.{0,99}[0-9a-f]{8}-[0-9a-f]{8})", re.IGNORECASE
)
_START = re.compile(r"(?:-+\[.*Logical CPU |CPUID CpuidRegisters \(CPU |CPU)#(?P<cpu>[0-9]{1,9})\b")


def recognises(head: str) -> bool:
    """Whether a text that begins like this is of the format."""
    return lines.recognises(head, _ROW)


def read(text: str, source: str) -> Iterator[CpuidRecord]:
    """Yield one record for each kind of core; CpuidDumpError."""
    cpus = lines.processors(text, source, _ROW, resembles=_RESEMBLES, start=_START)
    return records(cpus, source, NAME)

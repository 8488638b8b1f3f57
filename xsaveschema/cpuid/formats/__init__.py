"""The formats of CPUID dumps, one module each.

A format's module has ``NAME``, ``recognises(head)`` for the first characters of a text, and
``read(text, source)``, which yields records or raises CpuidDumpError.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Protocol

from xsaveschema.cpuid.errors import CpuidDumpError

if TYPE_CHECKING:
    from xsaveschema.cpuid.record import CpuidRecord

HEAD: Final = 1 << 16
"""By so many characters a format is recognised."""


class DumpFormat(Protocol):
    """What a format's module offers."""

    NAME: str

    def recognises(self, head: str) -> bool:
        """Whether a text that begins like this is of the format."""
        ...

    def read(self, text: str, source: str) -> Iterator[CpuidRecord]:
        """Yield one record for each kind of core."""
        ...


def known() -> tuple[DumpFormat, ...]:
    """Every format, imported when first asked for."""
    from xsaveschema.cpuid.formats import (
        aida64,
        cpuid_r,
        firecracker,
        hwloc,
        libcpuid,
        libvirt,
        rjcp,
        table,
        tycho,
    )

    return (aida64, cpuid_r, firecracker, hwloc, libcpuid, libvirt, rjcp, table, tycho)


def recognise(text: str, source: str) -> DumpFormat:
    """Find the one format of a text; CpuidDumpError where none or more than one fits."""
    found = [each for each in known() if each.recognises(text[:HEAD])]
    if not found:
        names = ", ".join(each.NAME for each in known())
        raise CpuidDumpError(f"not a CPUID dump of a known format ({names})", source)
    if len(found) > 1:
        names = " and ".join(each.NAME for each in found)
        raise CpuidDumpError(f"the file mixes formats: {names}", source)
    return found[0]

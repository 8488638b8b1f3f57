"""CPUID leaf 0xD from dump files of any known format, and from this machine.

::

    for record in cpuid.read("GenuineIntel0050654_SkylakeX_CPUID.txt"):
        record.vendor, record.signature, record.leaf_0xd, record.warnings

Read are the texts of ``cpuid -r``, AIDA64 (which InstLatx64 collects) and tycho's cpuid-rs, the
dumps of libcpuid, libvirt's and RJCP's XML, Firecracker's JSON, a bare table of registers, and the
directories of ``hwloc-gather-cpuid``.

A dump is material to be judged: what it leaves out is *unknown* (``record.unknown_components``,
``record.complete``), never taken as absent, and a dump that contradicts itself is refused.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from xsaveschema.cpuid.errors import CpuidDumpError
from xsaveschema.cpuid.formats.cpuid_r import format_cpuid_r
from xsaveschema.cpuid.host import host, host_from_device, xgetbv
from xsaveschema.cpuid.record import CpuidRecord, Registers, signature_parts

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "CpuidDumpError",
    "CpuidRecord",
    "Registers",
    "format_cpuid_r",
    "host",
    "host_from_device",
    "read",
    "read_bytes",
    "signature_parts",
    "xgetbv",
]


def read(path: str | os.PathLike[str]) -> Iterator[CpuidRecord]:
    """Read a dump: a file of any known format, or the directory of ``hwloc-gather-cpuid``.

    The format is recognised by the content. Yields one record for each kind of core: one, or two
    and more for a hybrid CPU. The whole dump is read before the first record is given. Raises
    CpuidDumpError, with file and line, for a dump that cannot be read or believed.
    """
    from xsaveschema.cpuid import files

    name = os.fsdecode(path)
    if files.is_directory(name):
        from xsaveschema.cpuid.formats import hwloc

        return iter(list(hwloc.read_directory(name)))
    return read_bytes(files.read_regular(name), name)


def read_bytes(data: bytes, name: str) -> Iterator[CpuidRecord]:
    """Read a dump that is in memory already; ``name`` is for messages and for ``source``."""
    from xsaveschema.cpuid import files
    from xsaveschema.cpuid.formats import recognise

    files.require_size(data, name)
    text = files.decode(data, name)
    return iter(list(recognise(text, name).read(text, name)))

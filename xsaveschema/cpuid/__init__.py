# SPDX-License-Identifier: MIT
"""CPUID leaf 0xD from dump files of any known format, and from this machine.

::

    for record in cpuid.read("GenuineIntel0050654_SkylakeX_CPUID.txt"):
        record.vendor, record.signature, record.leaf_0xd, record.warnings

Read are the texts of ``cpuid -r``, AIDA64 (which InstLatx64 collects) and tycho's cpuid-rs, the
dumps of libcpuid, libvirt's and RJCP's XML, Firecracker's JSON, a bare table of registers, and the
directories of ``hwloc-gather-cpuid``.

A package can add formats by entry points of the group ``xsaveschema.dumps``, each an object with
what :class:`DumpFormat` has; ``Processor``, ``records`` and ``lines.LineFormat`` (for a row a
line) are what the package's own are made of.

A dump is material to be judged: what it leaves out is *unknown* (``record.unknown_components``,
``record.complete``), never taken as absent, and a dump that contradicts itself is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from xsaveschema.cpuid import files, lines
from xsaveschema.cpuid.formats import HEAD, DumpFormat, knowing, recognise
from xsaveschema.cpuid.gather import Processor, records
from xsaveschema.cpuid.host import host, host_from_device, xgetbv
from xsaveschema.cpuid.record import CpuidRecord, format_cpuid_r, signature_of, signature_parts
from xsaveschema.errors import CpuidDumpError, WrongTypeError, described
from xsaveschema.io import path_of
from xsaveschema.model import CpuidRegisters

__all__ = [
    "CpuidDumpError",
    "CpuidRecord",
    "CpuidRegisters",
    "DumpFormat",
    "Processor",
    "format_cpuid_r",
    "host",
    "host_from_device",
    "is_dump",
    "lines",
    "read",
    "read_bytes",
    "records",
    "signature_of",
    "signature_parts",
    "xgetbv",
]


def read(path: str | os.PathLike[str]) -> Iterator[CpuidRecord]:
    """Read a dump: a file of any known format, or the directory of ``hwloc-gather-cpuid``.

    A pipe is read where it is open already: ``/dev/fd/63``, as shells call ``<(...)``. The format
    is recognised by the content. Yields one record for each kind of core: one, or two and more for
    a hybrid CPU. The whole dump is read before the first record is given. Raises CpuidDumpError,
    with file and line, for a dump that cannot be read or believed.
    """
    name = path_of(path)
    if os.path.isdir(name):  # noqa: PTH112 - what cannot be looked at is no folder
        from xsaveschema.cpuid.formats import hwloc

        return iter(list(hwloc.read_directory(name)))
    return read_bytes(files.read_file(name), name)


def read_bytes(data: bytes | bytearray | memoryview, name: str) -> Iterator[CpuidRecord]:
    """Read a dump that is in memory already; ``name`` is for messages and for ``source``."""
    try:
        view = memoryview(data)
    except TypeError:
        raise WrongTypeError(f"pass the dump's bytes, not {described(data)}") from None
    files.require_size(view.nbytes, name)
    text = files.decode(view.tobytes(), name)
    return iter(list(recognise(text, name).read(text, name)))


def is_dump(head: bytes) -> bool:
    """Whether what begins with these bytes is a CPUID dump of a known format."""
    try:
        text = files.decode(head[:HEAD], "")
    except CpuidDumpError:  # half a character of UTF-16 at the end
        return False
    return bool(knowing(text))

# SPDX-License-Identifier: MIT
"""Which reader knows a file: the package's own by magic numbers, then those of other packages.

Files that are known to hold no area as they stand are refused by name, with the way out.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from typing import Any, Final, NamedTuple

from xsaveschema.area import XsaveArea
from xsaveschema.artefacts import (
    cloud_hypervisor,
    criu,
    elf,
    frame,
    kvm,
    libvirt_save,
    minidump,
    qcow2,
    qemu_stream,
    raw,
    xen,
)
from xsaveschema.artefacts.reader import ArtefactError, Found, Options, Reader, Writer
from xsaveschema.artefacts.source import Data
from xsaveschema.plugins import Plugin, asked, given, loaded

GROUP: Final = "xsaveschema.readers"
"""The entry points by which a package adds readers; each loads a :class:`Reader`."""


_MARKED: Final[tuple[Reader, ...]] = (
    elf.READER,
    minidump.READER,
    criu.READER,
    qemu_stream.READER,
    libvirt_save.READER,
    qcow2.READER,
    xen.READER,
    cloud_hypervisor.READER,
    frame.READER,
)
"""By what is sure: magic numbers before structures."""


class Foreign(NamedTuple):
    """A kind of file: the bytes at ``offset`` that mark it, its name, and what to do instead."""

    offset: int
    magic: bytes
    name: str
    way_out: str


_UNPACK: Final = "unpack it first"
_KDUMP: Final = (
    "it holds a machine's memory; makedumpfile and crash write the ELF form (makedumpfile -E), "
    "and its notes have no XSAVE area as a rule"
)
_RAM: Final = "it holds a machine's memory, and no XSAVE area that is marked as one"

FOREIGN: Final = (
    Foreign(0, b"KDUMP   ", "a kdump-compressed dump", _KDUMP),
    Foreign(0, b"DISKDUMP", "a diskdump", _KDUMP),
    Foreign(
        0, b"makedumpfile\0", "a flattened makedumpfile dump", "makedumpfile -R puts it in order"
    ),
    Foreign(0, b"PAGEDU64", "a Windows crash dump of 64-bit memory", _RAM),
    Foreign(0, b"PAGEDUMP", "a Windows crash dump of 32-bit memory", _RAM),
    Foreign(0, b"EMiL", "a LiME memory dump", _RAM),
    Foreign(0, b"hibr", "a Windows hibernation file", _RAM),
    Foreign(0, b"HIBR", "a Windows hibernation file", _RAM),
    Foreign(0, b"\xcf\xfa\xed\xfe", "a Mach-O file", "cores of macOS have thread states, no area"),
    Foreign(0, b"\xce\xfa\xed\xfe", "a Mach-O file", "cores of macOS have thread states, no area"),
    Foreign(0, b"\xfe\xed\xfa\xcf", "a Mach-O file", "cores of macOS have thread states, no area"),
    Foreign(0, b"\xfe\xed\xfa\xce", "a Mach-O file", "cores of macOS have thread states, no area"),
    Foreign(0, b"\xca\xfe\xba\xbe", "a Mach-O or Java file", "it holds no area"),
    Foreign(0, b"MZ", "a program for Windows", "it holds no area; a minidump begins with MDMP"),
    Foreign(0, b"PK\x03\x04", "a zip archive", _UNPACK),
    Foreign(0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    Foreign(0, b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    Foreign(0, b"MSCF", "a cabinet archive", _UNPACK),
    Foreign(257, b"ustar", "a tar archive", _UNPACK),
    Foreign(0, b"\x1f\x8b\x08", "compressed by gzip", "decompress it first (gzip -dc)"),
    Foreign(0, b"\xfd7zXZ\0", "compressed by xz", "decompress it first (xz -dc)"),
    Foreign(0, b"\x28\xb5\x2f\xfd", "compressed by zstd", "decompress it first (zstd -dc)"),
    Foreign(0, b"\x04\x22\x4d\x18", "compressed by lz4", "decompress it first (lz4 -dc)"),
    Foreign(0, b"BZh", "compressed by bzip2", "decompress it first (bzip2 -dc)"),
    Foreign(0, b"LibvirtQemudPart", "an unfinished virsh save file", "save the domain again"),
    Foreign(0, b"QEVM", "a QEMU stream of another version", "migrate with a current QEMU"),
    Foreign(0, b"KDMV", "a VMDK disk image", "it holds a disk, no area"),
    Foreign(0, b"vhdxfile", "a VHDX disk image", "it holds a disk, no area"),
    Foreign(0, b"conectix", "a VHD disk image", "it holds a disk, no area"),
    Foreign(64, b"\x7f\x10\xda\xbe", "a VDI disk image", "it holds a disk, no area"),
    Foreign(0, b"\xd2\xbe\xd2\xbe", "a VMware snapshot (.vmsn)", "its CPU state is not read yet"),
    Foreign(0, b"\xd1\xbe\xd2\xbe", "a VMware snapshot (.vmsn)", "its CPU state is not read yet"),
    Foreign(0, b"\xd3\xbe\xd2\xbe", "a VMware snapshot (.vmsn)", "its CPU state is not read yet"),
    Foreign(0, b"LPKSHHRH", "a journal of systemd", "it holds no area"),
    Foreign(0, b"\x89PNG\r\n\x1a\n", "a PNG picture", "it holds no area"),
    Foreign(0, b"%PDF-", "a PDF document", "it holds no area"),
    Foreign(0, b"SQLite format 3\0", "an SQLite database", "it holds no area"),
)
"""By their magic numbers; the first one that fits counts.

Where they stand an area has FCW, of which no processor saves bits 15:13 or bit 7 set, or registers
that would have to hold these very bytes.
"""


def recognise(data: Data, assume: bool = False) -> Reader:
    """The reader for these bytes; the raw reader where no other one knows them.

    ArtefactError for no bytes at all, and for a file that is known to hold no area, unless
    ``assume`` insists.
    """
    if not len(data):
        raise ArtefactError("is empty")
    for reader in _sure():
        if reader.recognises(data):
            return reader
    for kind in FOREIGN if not assume else ():
        if data[kind.offset : kind.offset + len(kind.magic)] == kind.magic:
            raise ArtefactError(f"is {kind.name}: {kind.way_out}")
    return kvm.READER if kvm.READER.recognises(data) else raw.READER


def readers() -> Iterator[Reader]:
    """Every reader but the raw one, in the order in which they are asked."""
    yield from _sure()
    yield kvm.READER


def _sure() -> Iterator[Reader]:
    """Those that tell their files by a mark."""
    yield from _MARKED
    yield from _plugins()


class _PluggedIn:
    """A reader of another package: what it raises is no end of the program."""

    def __init__(self, plugin: Plugin):
        self._plugin = plugin
        self.name = str(plugin.made.name)
        self.title = str(plugin.made.title)

    def recognises(self, data: Data) -> bool:
        """What the reader says; no, and a warning, where it raises."""
        return asked(self._plugin, lambda: self._plugin.made.recognises(data))

    def read(self, data: Data, options: Options) -> Iterator[Found]:
        """The reader's areas. ArtefactError where it raises what readers do not raise."""
        areas = partial(self._plugin.made.read, data, options)
        return given(self._plugin, areas, Found, _whole, ArtefactError)


class _PluggedInWriter(_PluggedIn):
    """One that is a Writer, too."""

    def replace(self, data: Data, found: Found, area: XsaveArea) -> Iterator[tuple[int, bytes]]:
        """The writer's changes. ArtefactError where it raises what writers do not raise."""
        changes = partial(self._plugin.made.replace, data, found, area)
        return given(self._plugin, changes, tuple, _fits, ArtefactError)


def _whole(found: Found) -> bool:
    texts = (found.label, found.layout_source, *found.notes)
    return isinstance(found.area, XsaveArea) and all(isinstance(text, str) for text in texts)


def _fits(change: tuple[Any, ...]) -> bool:
    offset, data = change
    return isinstance(offset, int) and isinstance(data, bytes | bytearray | memoryview)


@cache
def _plugins() -> tuple[Reader, ...]:
    """The readers of other packages."""
    needs = ("name", "title", "recognises", "read")
    return tuple(
        (_PluggedInWriter if isinstance(plugin.made, Writer) else _PluggedIn)(plugin)
        for plugin in loaded(GROUP, needs)
    )

"""Files that are known to hold no area as they stand: each refused by name, with the way out."""

from __future__ import annotations

from typing import Final, NamedTuple

from xsaveschema.artefacts.source import Data


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


def foreign(data: Data) -> Foreign | None:
    """The kind of file that this is, if it is known to hold no area."""
    for kind in FOREIGN:
        if data[kind.offset : kind.offset + len(kind.magic)] == kind.magic:
            return kind
    return None

"""How the package's own kinds of artefact are recognised: by content, without their readers.

Ten readers take longer to import than one area takes to read; a file needs one of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from xsaveschema.artefacts.data import Data, Struct
from xsaveschema.model import XCR0_OFFSET
from xsaveschema.traces import FP_XSTATE_MAGIC1, FSAVE_SIZE, KVM_XSAVE_SIZE, WORDS, of_kvm

ELF: Final = b"\x7fELF"
XEN_XL: Final = b"Xen saved domain, xl format\n \0 \r"
XEN_LIBXL: Final = b"LibxlFmt"
XEN_LIBXC: Final = b"\xff\xff\xff\xff\xff\xff\xff\xffXENF"  # marker, id
XEN_HEADER_CODE: Final = 1
XEN_HVM: Final = 0x5438_1286
"""The magic number in the HEADER record of a Xen HVM context."""

MAX_JSON: Final = 32 << 20
"""The longest state.json of cloud-hypervisor that is read, in bytes: it is parsed in memory."""

_U32: Final = Struct("<I")
_PAIR: Final = Struct("<II")
_MINIDUMP_SIZE: Final = 32
_MINIDUMP_VERSION: Final = 0xA793
_CRIU_COMMON: Final = 0x5456_4319
_CRIU_CORE: Final = 0x5505_3847
_XEN_HVM_SIZE: Final = 32  # the first record's head, and the HEADER in it


def elf(data: Data) -> bool:
    """Whether this is an ELF file, a core or not."""
    return bytes(data[:4]) == ELF


def minidump(data: Data) -> bool:
    """Whether this is a minidump: its signature and version."""
    if len(data) < _MINIDUMP_SIZE or bytes(data[:4]) != b"MDMP":
        return False
    return bool(_U32.unpack_from(data, 4)[0] & 0xFFFF == _MINIDUMP_VERSION)


def criu(data: Data) -> bool:
    """Whether this is a CRIU core image: its magic words, or crit's ``"magic": "CORE"``."""
    return len(data) >= _PAIR.size and (criu_start(data) is not None or criu_json(data))


def criu_start(data: Data) -> int | None:
    """Where the first entry of a binary core image begins; None for anything else."""
    first, second = _PAIR.unpack_from(data) if len(data) >= _PAIR.size else (0, 0)
    if first == _CRIU_CORE:
        return _U32.size
    return _PAIR.size if (first, second) == (_CRIU_COMMON, _CRIU_CORE) else None


def criu_json(data: Data) -> bool:
    """Whether this is what crit makes of a core image."""
    head = bytes(data[:256])
    # The pattern is compiled for what may be it.
    return b'"CORE"' in head and re.match(rb'\s*\{\s*"magic"\s*:\s*"CORE"', head) is not None


def qemu_stream(data: Data) -> bool:
    """Whether this is a migration stream: QEVM, version 3."""
    return bytes(data[:8]) == b"QEVM\0\0\0\3"


def libvirt_save(data: Data) -> bool:
    """Whether this is a file of ``virsh save`` that was finished."""
    return bytes(data[:16]) == b"LibvirtQemudSave"


def qcow2(data: Data) -> bool:
    """Whether this is a qcow2 disk image, with a saved state or without."""
    return bytes(data[:4]) == b"QFI\xfb"


def xen(data: Data) -> bool:
    """Whether this is an HVM context, a libxc or libxl stream or an ``xl save`` file."""
    return xen_context(data) or xen_stream(data)


def xen_context(data: Data) -> bool:
    """Whether this is an HVM context: its first record is a HEADER with the magic number."""
    if len(data) < _XEN_HVM_SIZE or data[0] | data[1] << 8 != XEN_HEADER_CODE:
        return False
    return bool(_U32.unpack_from(data, 8)[0] == XEN_HVM)


def xen_stream(data: Data) -> bool:
    """Whether this is a stream, by what wraps it."""
    head = bytes(data[:32])
    return len(head) == 32 and (head == XEN_XL or head.startswith((XEN_LIBXL, XEN_LIBXC)))


def cloud_hypervisor(data: Data) -> bool:
    """Whether this is JSON that has a ``region`` list somewhere."""
    if len(data) > MAX_JSON or bytes(data[:1]) not in (b"{", b"[", b" ", b"\n", b"\r", b"\t"):
        return False
    # As a key, or as the bytes of a list.
    region = rb'region\\*"\s*:\s*\[|114,\s*101,\s*103,\s*105,\s*111,\s*110,'
    return re.search(region, data[:]) is not None


def frame(data: Data) -> bool:
    """Whether the first magic word stands where a 64-bit or a 32-bit signal frame has it."""
    return frame_start(data) is not None


def frame_start(data: Data) -> int | None:
    """Where a signal frame's area begins: 0, or behind the FSAVE image of a 32-bit frame."""
    for start in (0, FSAVE_SIZE):
        at = start + XCR0_OFFSET
        if len(data) >= at + WORDS.size and _U32.unpack_from(data, at)[0] == FP_XSTATE_MAGIC1:
            return start
    return None


def kvm(data: Data) -> bool:
    """Whether this is ``struct kvm_xsave``: 4096 bytes, and a header as KVM writes it."""
    return len(data) == KVM_XSAVE_SIZE and of_kvm(memoryview(data[:]))


Mark = Callable[[Data], bool]

# By what is sure: magic numbers before structures, and what has no mark of its own at the end.
MARKED: Final[dict[str, Mark]] = {
    "elf": elf,
    "minidump": minidump,
    "criu": criu,
    "qemu_stream": qemu_stream,
    "libvirt_save": libvirt_save,
    "qcow2": qcow2,
    "xen": xen,
    "cloud_hypervisor": cloud_hypervisor,
    "frame": frame,
}
"""The kinds that are told for sure, by the modules of their readers, in order of asking."""
UNMARKED: Final[dict[str, Mark]] = {"kvm": kvm}
"""Those that are asked behind the readers of other packages."""

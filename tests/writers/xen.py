"""Saved Xen domains, from Xen's public headers and the documents of its migration streams."""

from __future__ import annotations

import struct
from collections.abc import Sequence

HEADER, CPU, XSAVE, END = 1, 2, 16, 0


def record(code: int, instance: int, body: bytes) -> bytes:
    return struct.pack("<HHI", code, instance, len(body)) + body


def header(signature: int = 0x50654) -> bytes:
    """HVM_SAVE_TYPE(HEADER), with CPUID leaf 1 EAX of the saving machine."""
    return record(HEADER, 0, struct.pack("<IIQII", 0x54381286, 1, 0, signature, 2_500_000))


def xsave(vcpu: int, area: bytes, xcr0: int, accumulated: int | None = None) -> bytes:
    """HVM_SAVE_TYPE(CPU_XSAVE)."""
    masks = struct.pack("<QQQ", 0x2FF, xcr0, xcr0 if accumulated is None else accumulated)
    return record(XSAVE, vcpu, masks + area)


def hvm(*records: bytes, signature: int = 0x50654) -> bytes:
    """A domain's HVM context."""
    chain = [header(signature)]
    for vcpu, xsave_record in enumerate(records):
        chain += [record(CPU, vcpu, bytes(1024)), xsave_record]
    return b"".join([*chain, record(END, 0, b"")])


def padded(kind: int, body: bytes) -> bytes:
    """A record of a libxc or libxl stream."""
    return struct.pack("<II", kind, len(body)) + body + bytes(-len(body) % 8)


def libxc(*records: bytes, version: int = 3, domain: int = 2) -> bytes:
    """A libxc stream: image header, domain header, records, END."""
    image = struct.pack(">QIIH6x", (1 << 64) - 1, 0x58454E46, version, 0)
    image += struct.pack("<IHHII", domain, 12, 0, 4, 17)
    return image + b"".join(records) + padded(0, b"")


def hvm_context(context: bytes) -> Sequence[bytes]:
    """The records around an HVM context in a libxc stream."""
    pages = padded(1, struct.pack("<IIQ", 1, 0, 5) + bytes(4096))
    return [pages, padded(8, bytes(24)), padded(9, context), padded(10, bytes(24))]


def pv_xsave(vcpu: int, area: bytes, xcr0: int, accumulated: int | None = None) -> bytes:
    """X86_PV_VCPU_XSAVE."""
    masks = struct.pack("<IIQQ", vcpu, 0, xcr0, xcr0 if accumulated is None else accumulated)
    return padded(6, masks + area)


def libxl(libxc_stream: bytes) -> bytes:
    """A libxl stream, which hands over to libxc by an empty record."""
    head = struct.pack(">8sII", b"LibxlFmt", 2, 0)
    head += padded(2, bytes(13)) + padded(3, bytes(16))
    return head + padded(1, b"") + libxc_stream + padded(0, b"")


def xl_save(libxl_stream: bytes, config: bytes = b'{"c_info": {}}\n') -> bytes:
    """An ``xl save`` file."""
    head = struct.pack(
        "<32sIIII", b"Xen saved domain, xl format\n \0 \r", 0x01020304, 3, 0, len(config)
    )
    return head + config + libxl_stream

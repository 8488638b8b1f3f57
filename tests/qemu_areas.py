"""Leaves 0xD and areas for the tests of the QEMU mirror."""

from __future__ import annotations

import struct
from typing import Any

from xsaveschema.qemu import (
    compact_xsave_area,
    decompact_xsave_area,
    differences,
)

COMPACTED = 1 << 63
Leaf = dict[int, tuple[int, int, int, int]]

# Leaf 0xD as the processors give it.
HASWELL: Leaf = {0: (7, 832, 832, 0), 1: (1, 0, 0, 0), 2: (256, 576, 0, 0)}
ZEN4: Leaf = {
    0: (0x2E7, 2440, 2440, 0),
    1: (0xF, 2440, 0x1800, 0),
    2: (256, 576, 0, 0),
    5: (64, 832, 0, 0),
    6: (512, 896, 0, 0),
    7: (1024, 1408, 0, 0),
    9: (8, 2432, 0, 0),
    11: (16, 0, 1, 0),
    12: (24, 0, 1, 0),
}
INTEL: Leaf = {  # Sapphire Rapids without its supervisor components
    0: (0x602E7, 11008, 11008, 0),
    1: (0x1F, 10880, 0, 0),
    2: (256, 576, 0, 0),
    5: (64, 1088, 0, 0),
    6: (512, 1152, 0, 0),
    7: (1024, 1664, 0, 0),
    9: (8, 2688, 0, 0),
    17: (64, 2752, 2, 0),
    18: (8192, 2816, 6, 0),
}
LBR = (808, 0, 1, 0)


def area(xstate_bv: int, xcomp_bv: int, size: int = 832, fill: int = 0x5A) -> bytearray:
    """An area with x87 and SSE initial where XSTATE_BV says so, and a clean header."""
    data = bytearray([fill]) * size
    data[24:32] = struct.pack("<II", 0x1F80, 0xFFFF)
    if not xstate_bv & 1:
        data[:24] = b"\x7f\x03" + bytes(22)
        data[32:160] = bytes(128)
    if not xstate_bv & 2:
        data[160:416] = bytes(256)
    data[512:576] = struct.pack("<QQ48x", xstate_bv, xcomp_bv)
    return data


def put(data: bytearray, at: int, new: bytes) -> bytearray:
    data[at : at + len(new)] = new
    return data


def masks(data: bytes | bytearray) -> tuple[int, int]:
    xstate_bv, xcomp_bv = struct.unpack_from("<QQ", data, 512)
    return xstate_bv, xcomp_bv


def decompact(
    data: bytes | bytearray,
    guest: Leaf,
    guest_xcr0: int,
    host: Leaf | None = None,
    size: int = 4096,
    code: int = 0,
) -> bytearray:
    dest = bytearray(b"\xee" * size)
    result = decompact_xsave_area(
        data, dest, guest_leaf=guest, host_leaf=host or guest, guest_xcr0=guest_xcr0
    )
    assert result == code
    return dest


def compact(
    data: bytes | bytearray, host: Leaf, guest_xcr0: int, xcr0: int | None = None, size: int = 4096
) -> tuple[bytearray, int]:
    dest = bytearray(b"\xee" * size)
    end = compact_xsave_area(
        data,
        dest,
        host_leaf=host,
        guest_xcr0=guest_xcr0,
        xcr0=guest_xcr0 if xcr0 is None else xcr0,
    )
    return dest, end


def hits(data: bytearray, to: Any, guest: Leaf, guest_xcr0: int, **arguments: Any) -> set[str]:
    found = differences(
        data, to=to, guest_leaf=guest, guest_xcr0=guest_xcr0, **({"host_leaf": guest} | arguments)
    )
    rules = [fault.rule for fault in found]
    assert len(rules) == len({(fault.rule, fault.message) for fault in found})
    assert all(0 <= fault.offset <= len(data) and fault.remedy for fault in found)
    return set(rules)

"""Windows minidumps from minidumpapiset.h and winnt.h: AMD64 and x86 contexts with XState."""

from __future__ import annotations

import struct
from collections.abc import Sequence

THREAD_LIST, EXCEPTION, SYSTEM_INFO, MISC_INFO = 3, 6, 7, 15
AMD64, X86 = 9, 0


def context(
    area: bytes, processor: int = AMD64, xstate: bool = True, gap: int = 0, flags: int | None = None
) -> bytes:
    """A CONTEXT that holds an XSAVE area: its legacy region inside, the rest in a chunk behind.

    Windows has no bits for x87 and SSE in the chunk's masks, and aligns the chunk to 64 bytes in
    memory; ``gap`` is more room in front of it.
    """
    amd64 = processor == AMD64
    size, flags_at, legacy_at = (0x4D0, 0x30, 0x100) if amd64 else (0x2CC, 0, 0xCC)
    if flags is None:
        flags = (0x10001F if amd64 else 0x1003F) | (0x40 if xstate else 0)
    data = bytearray(size)
    struct.pack_into("<I", data, flags_at, flags)
    if amd64:
        data[0x34:0x38] = area[24:28]
    data[legacy_at : legacy_at + 512] = area[:512]
    if not xstate:
        return bytes(data)
    mask, compaction = struct.unpack_from("<QQ", area, 512)
    chunk = struct.pack("<QQ", mask & ~3, compaction & ~3) + area[528:]
    ex_size = 32 if amd64 else 24
    offset = ex_size + -(size + ex_size) % 64 + gap
    data += struct.pack(
        "<iIiIiI", -size, size + offset + len(chunk), -size, size, offset, len(chunk)
    )
    return bytes(data.ljust(size + offset, b"\xcc")) + chunk


def misc_info(rows: Sequence[tuple[int, int, int]], length: int = 528) -> bytes:
    """MINIDUMP_MISC_INFO_5 with (component, size, offset) rows in its XStateData."""
    data = bytearray(1364)
    struct.pack_into("<II", data, 0, 1364, 0x1FF)
    enabled = 3
    struct.pack_into("<IIII", data, 848, 0, 160, 160, 256)
    for number, size, offset in rows:
        enabled |= 1 << number
        struct.pack_into("<II", data, 848 + 8 * number, offset, size)
    struct.pack_into("<IIQ", data, 832, length, 0x4D0, enabled)
    return bytes(data)


def dump(
    contexts: Sequence[tuple[int, bytes]],
    *,
    exception: tuple[int, bytes] | None = None,
    misc: bytes | None = None,
    processor: int | None = AMD64,
    aligned: bool = False,
    shared: Sequence[int] = (),
) -> bytes:
    """A minidump with threads (id, CONTEXT), and what else is given.

    The threads in ``shared``, by index, have an exception stream with their own context each.
    """
    streams: list[tuple[int, bytes, list[tuple[int, bytes]]]] = []
    if processor is not None:
        streams.append((SYSTEM_INFO, struct.pack("<H", processor).ljust(56, b"\0"), []))
    if misc is not None:
        streams.append((MISC_INFO, misc, []))
    threads = bytearray(struct.pack("<I", len(contexts)) + bytes(4 if aligned else 0))
    wanted = []
    for ident, data in contexts:
        threads += struct.pack("<IIIIQQII", ident, 0, 32, 0, 0x7FF0_0000, 0, 0, 0)
        wanted.append((len(threads), data))
        threads += bytes(8)
    streams.append((THREAD_LIST, bytes(threads), wanted))
    if exception is not None:
        ident, data = exception
        streams.append((EXCEPTION, _exception(ident), [(160, data)]))
    streams += [(EXCEPTION, _exception(contexts[index][0]), []) for index in shared]

    out = bytearray(struct.pack("<4sIIIIIQ", b"MDMP", 0x1234A793, len(streams), 32, 0, 0, 0))
    out += bytes(12 * len(streams))
    for index, (kind, body, locations) in enumerate(streams):
        at = len(out)
        struct.pack_into("<III", out, 32 + 12 * index, kind, len(body), at)
        out += body
        for place, data in locations:
            if data:
                struct.pack_into("<II", out, at + place, len(data), len(out))
            out += data
    places = [struct.unpack_from("<III", out, 32 + 12 * n) for n in range(len(streams))]
    listed = next((at for kind, _, at in places if kind == THREAD_LIST), 0)
    for index, (*_, at) in zip(shared, places[len(places) - len(shared) :], strict=True):
        thread = listed + (8 if aligned else 4) + 48 * index
        out[at + 160 : at + 168] = out[thread + 40 : thread + 48]
    return bytes(out)


def _exception(ident: int) -> bytes:
    head = struct.pack("<IIIIQQII", ident, 0, 0xC0000005, 0, 0, 0x1400_0000, 2, 0)
    return head.ljust(168, b"\0")

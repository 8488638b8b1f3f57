"""qcow2 disk images with snapshots, from docs/interop/qcow2.rst."""

from __future__ import annotations

import struct
from collections.abc import Mapping


def image(
    states: Mapping[str, bytes],
    *,
    bits: int = 9,
    disk: int = 3 << 20,
    then: int | None = None,
    version: int = 3,
    wide: bool = False,
    more: int = 24,
    crypt: int = 0,
    features: int = 0,
    flag: int = 0,
) -> bytes:
    """An image whose snapshots have these states, each in clusters in backward order.

    ``disk`` is the disk's size when they were taken and ``then`` (None: the same) the size now;
    ``wide``: extended L2 entries; ``more``: the length of the extra data; ``flag``: set in the
    entry of each state's first cluster.
    """
    cluster, entry = 1 << bits, 16 if wide else 8
    per_table = cluster // entry
    features |= 0x10 if wide else 0
    out = bytearray(cluster)
    table = bytearray()

    def put(body: bytes) -> int:
        at = len(out)
        out.extend(body + bytes(-len(body) % cluster))
        return at

    for number, (name, state) in enumerate(states.items(), 1):
        parts = [state[at : at + cluster] for at in range(0, len(state), cluster)]
        places = [put(part) for part in reversed(parts)][::-1]
        places = [at if any(part) else 0 for at, part in zip(places, parts, strict=True)]
        first = -(-disk // (cluster * per_table))
        tables = [0] * first
        for start in range(0, len(places), per_table):
            rows = b""
            for index, at in enumerate(places[start : start + per_table], start):
                word = at | (1 << 63 if at else 0) | (flag if index == 0 else 0)
                rows += struct.pack(">Q", word)
                rows += struct.pack(">Q", 0xFFFFFFFF if at else 0) if wide else b""
            tables.append(put(rows) | 1 << 63)
        level1 = put(struct.pack(f">{len(tables)}Q", *tables))
        ident, said = str(number).encode(), name.encode()
        small = len(state) if more < 8 else 0xDEAD
        head = struct.pack(
            ">QIHHIIQII", level1, len(tables), len(ident), len(said), 1, 2, 3, small, more
        )
        head += struct.pack(">QQQ", len(state), disk, (1 << 64) - 1)[:more] + ident + said
        table += head + bytes(-len(head) % 8)
    at = put(bytes(table))
    size = disk if then is None else then
    now = -(-size // (cluster * per_table))  # nothing of the disk itself is there
    level1, counts = put(bytes(8 * now)), put(bytes(cluster))
    header = struct.pack(">4sIQIIQI", b"QFI\xfb", version, 0, 0, bits, size, crypt)
    header += struct.pack(">IQQII", now, level1, counts, 1, len(states))
    header += struct.pack(">Q", at)
    if version == 3:
        header += struct.pack(">QQQII", features, 0, 0, 4, 104)
    out[: len(header)] = header
    return bytes(out)

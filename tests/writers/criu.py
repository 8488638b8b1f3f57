"""CRIU core images, from core-x86.proto: protobuf's wire format, and crit's JSON."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

from writers.state import State

MAGICS = (0x54564319, 0x55053847)


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def message(field: int, body: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(body)) + body


def repeated(field: int, values: Sequence[int], packed: bool = False) -> bytes:
    if packed:
        return message(field, b"".join(varint(value) for value in values))
    return b"".join(number(field, value) for value in values)


def words(data: bytes, size: int) -> list[int]:
    return list(struct.unpack(f"<{len(data) // size}{'I' if size == 4 else 'Q'}", data))


_XSAVE = {2: ("ymmh_space", 2, 4), 3: ("bndreg_state", 3, 8), 4: ("bndcsr_state", 4, 8)}
_XSAVE |= {5: ("opmask_reg", 5, 8), 6: ("zmm_upper", 6, 8), 7: ("hi16_zmm", 7, 8)}
_XSAVE |= {9: ("pkru", 8, 4)}
_FPREGS = ("cwd", "swd", "twd", "fop", "rip", "rdp", "mxcsr", "mxcsr_mask")


def fields(state: State, mask: int | None, live: int | None = None) -> dict[str, Any]:
    """The message user_x86_fpregs_entry by name; ``mask`` None leaves the xsave entry out."""
    names = ("fcw", "fsw", "ftw", "fop", "fip", "fdp", "mxcsr", "mxcsr_mask")
    entry: dict[str, Any] = {
        said: getattr(state, name) for said, name in zip(_FPREGS, names, strict=True)
    }
    entry["st_space"] = words(state.st_image(), 4)
    entry["xmm_space"] = words(state.xmm_image(), 4)
    if mask is not None:
        xsave: dict[str, Any] = {"xstate_bv": mask & ~(1 << 11) if live is None else live}
        for component, (name, _, size) in _XSAVE.items():
            if mask >> component & 1:
                xsave[name] = words(state.component(component), size)
        if mask >> 11 & 1:
            xsave["cet"] = {"cet": state.u_cet, "ssp": state.ssp}
        entry["xsave"] = xsave
    return entry


def encode(entry: dict[str, Any], packed: bool = False) -> bytes:
    """The message on the wire."""
    out = b"".join(number(index, entry[name]) for index, name in enumerate(_FPREGS, 1))
    out += repeated(9, entry["st_space"], packed) + repeated(10, entry["xmm_space"], packed)
    if "xsave" in entry:
        body = b"".join(number(1, mask) for mask in [entry["xsave"].get("xstate_bv")] if mask)
        for name, field, _ in _XSAVE.values():
            body += (
                repeated(field, entry["xsave"].get(name, ()), packed)
                if name in entry["xsave"]
                else b""
            )
        if cet := entry["xsave"].get("cet"):
            halves = [
                number(index, cet[name]) for index, name in ((1, "cet"), (2, "ssp")) if name in cet
            ]
            body += message(9, b"".join(halves))
        out += message(13, body)
    return out


def core(fpregs: bytes, march: int = 1) -> bytes:
    """A core_entry: the registers amid fields that a reader must step over."""
    gpregs = b"".join(number(index, 0x7F00 + index) for index in range(1, 28))
    info = number(1, 0x7F0000001000) + message(2, gpregs) + message(3, fpregs)
    info += message(4, number(1, 12) + number(2, 0))
    task = number(1, 1) + message(6, b"python3\0") + varint(5 << 3 | 1) + bytes(8)
    return number(1, march) + message(2, info) + message(3, task) + varint(7 << 3 | 5) + bytes(4)


def image(*cores: bytes, magics: Sequence[int] = MAGICS) -> bytes:
    """An image file: magic words, then each entry behind its size."""
    out = struct.pack(f"<{len(magics)}I", *magics)
    return out + b"".join(struct.pack("<I", len(body)) + body for body in cores)


def as_json(entry: dict[str, Any], pretty: bool = False) -> bytes:
    """What ``crit decode`` prints of the same."""
    info = {"clear_tid_addr": "0x7f0000001000", "gpregs": {"r15": "0x0"}, "fpregs": entry}
    whole = {"magic": "CORE", "entries": [{"mtype": "X86_64", "thread_info": info, "tc": {}}]}
    return json.dumps(whole, indent=4 if pretty else None).encode()

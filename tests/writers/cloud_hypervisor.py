"""cloud-hypervisor's state.json, as serde writes VcpuKvmState and the tree of snapshots."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

Leaf = Mapping[int, tuple[int, int, int, int]]


def cpuid(leaf_0xd: Leaf, signature: int, vendor: str) -> list[dict[str, int]]:
    """A vCPU's CPUID table: struct kvm_cpuid_entry2 without its padding."""
    ebx, edx, ecx = struct.unpack("<III", vendor.encode())
    table = [(0, 0, 13, ebx, ecx, edx), (1, 0, signature, 0, 0, 0)]
    table += [(0xD, index, *registers) for index, registers in leaf_0xd.items()]
    names = ("function", "index", "eax", "ebx", "ecx", "edx")
    return [{"flags": 1, **dict(zip(names, row, strict=True))} for row in table]


def xsave(area: bytes, extra: bool = True) -> dict[str, list[int]]:
    """The XsaveState of a kvm_xsave; without ``extra`` it is cut off at 4096 bytes."""
    area = area.ljust(4096, b"\0")
    words = list(struct.unpack(f"<{len(area) // 4}I", area))
    said = {"region": words[:1024]}
    if extra and words[1024:]:
        said["extra"] = words[1024:]
    return said


def vcpu(area: bytes, table: Sequence[Mapping[str, Any]] = (), extra: bool = True) -> str:
    """The state of a vCPU, as JSON."""
    state: dict[str, Any] = {"cpuid": list(table), "msrs": [{"index": 16, "data": 5}]}
    state |= {"regs": {"rax": 0}, "lapic_state": {"regs": [0] * 1024}}
    state |= {"xsave": xsave(area, extra), "xcrs": {"nr_xcrs": 1, "flags": 0}, "tsc_khz": None}
    return json.dumps({"Kvm": state})


def snapshot(vcpus: Mapping[str, str], style: str = "string", indent: int | None = None) -> bytes:
    """state.json with these vCPUs; ``style`` is how their states are embedded.

    "string": JSON in a string; "bytes": a list of its bytes, as older versions do; "object": as
    it is.
    """
    manager: dict[str, Any] = {}
    for name, text in vcpus.items():
        data: Any = {"state": text}
        if style == "bytes":
            data = {f"{name}-section": {"id": f"{name}-section", "snapshot": list(text.encode())}}
        elif style == "object":
            data = {"state": json.loads(text)}
        manager[name] = {"snapshots": {}, "snapshot_data": data}
    tree = {
        "memory-manager": {"snapshots": {}, "snapshot_data": {"state": '{"memory_ranges":[]}'}},
        "cpu-manager": {"snapshots": manager, "snapshot_data": None},
    }
    return json.dumps({"snapshots": tree, "snapshot_data": None}, indent=indent).encode()

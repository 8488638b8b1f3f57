"""QEMU migration streams, as migration/vmstate.c writes target/i386/machine.c's vCPU.

Sizes, order and names are those of the sources; the description (vmdesc) is made of the same list
of fields as the bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from writers.state import State


class Vmsd:
    """A VMStateDescription being saved: its bytes, and what the description says of them."""

    def __init__(self, name: str, version: int) -> None:
        self.name = name
        self.version = version
        self.data = b""
        self.fields: list[dict[str, Any]] = []
        self.subsections: list[Vmsd] = []

    def value(self, name: str, size: int, *values: int) -> None:
        """A field or an array of fields, big-endian."""
        field: dict[str, Any] = {"name": name, "type": f"uint{8 * size}", "size": size}
        if len(values) > 1:
            field["array_len"] = len(values)
        self.fields.append(field)
        self.data += b"".join(value.to_bytes(size, "big") for value in values)

    def structs(self, name: str, vmsd: str, items: Sequence[bytes]) -> None:
        """An array of structs."""
        field: dict[str, Any] = {"name": name, "array_len": len(items), "type": "struct"}
        field["struct"] = {"vmsd_name": vmsd, "version": 1, "fields": []}
        self.fields.append({**field, "size": len(items[0])})
        self.data += b"".join(items)

    def raw(self, name: str, data: bytes) -> None:
        self.fields.append({"name": name, "type": "buffer", "size": len(data)})
        self.data += data

    def saved(self) -> bytes:
        """The data with its subsections behind it."""
        out = self.data
        for inner in self.subsections:
            out += struct.pack(">BB", 5, len(inner.name)) + inner.name.encode()
            out += struct.pack(">I", inner.version) + inner.saved()
        return out

    def described(self) -> dict[str, Any]:
        said: dict[str, Any] = {"vmsd_name": self.name, "version": self.version}
        said["fields"] = self.fields
        if self.subsections:
            said["subsections"] = [inner.described() for inner in self.subsections]
        return said


def big(*words: int) -> bytes:
    return struct.pack(f">{len(words)}Q", *words)


def cpu(
    state: State,
    mask: int,
    xcr0: int | None = None,
    xstate_bv: int | None = None,
    *,
    physical: bool = False,
    version: int = 12,
    xfd: int = 0,
    others: Sequence[str] = (),
) -> Vmsd:
    """The section "cpu". ``mask`` says which components' subsections are there.

    KVM hands over the x87 registers in ST order, TCG keeps them in ``physical`` order.
    """
    top = state.fsw >> 11 & 7
    st = [state.st[(index - top) & 7] for index in range(8)] if physical else state.st
    out = Vmsd("cpu", version)
    out.value("env.regs", 8, *range(16))
    for name in ("env.eip", "env.eflags"):
        out.value(name, 8, 2)
    out.value("env.hflags", 4, 0xB0)
    out.value("env.fpuc", 2, state.fcw)
    out.value("env.fpus_vmstate", 2, state.fsw)
    out.value("env.fptag_vmstate", 2, state.ftw)
    out.value("env.fpregs_format_vmstate", 2, 0)
    fp = [struct.pack(">QH", value & (1 << 64) - 1, value >> 64) for value in st]
    out.structs("env.fpregs", "fpreg", fp)
    out.structs("env.segs", "segment", [bytes(20)] * 6)
    for name in ("ldt", "tr", "gdt", "idt"):
        out.structs(f"env.{name}", "segment", [bytes(20)])
    out.value("env.cr[0]", 8, 0x80050033)
    out.value("env.dr", 8, *[0] * 8)
    out.value("env.a20_mask", 4, 0xFFFFFFFF)
    out.value("env.mxcsr", 4, state.mxcsr)
    low = state.zmm_words(0, 16, 0, 2)
    out.structs("env.xmm_regs[0]", "xmm_reg", [big(*low[i : i + 2]) for i in range(0, 32, 2)])
    out.value("env.efer", 8, 0xD01)
    out.structs("env.mtrr_var", "mtrr_var", [bytes(16)] * 8)
    out.value("env.wall_clock_msr", 8, 0)
    if version >= 12:
        out.value("env.xcr0", 8, mask & ~(1 << 11) if xcr0 is None else xcr0)
        out.value("env.xstate_bv", 8, mask if xstate_bv is None else xstate_bv)
        high = state.zmm_words(0, 16, 2, 2) if mask & 4 else [0] * 32
        ymmh = [big(*high[i : i + 2]) for i in range(0, 32, 2)]
        out.structs("env.xmm_regs[1]", "ymmh_reg", ymmh)
    out.subsections = list(_subsections(state, mask, xfd, others))
    return out


def _subsections(state: State, mask: int, xfd: int, others: Sequence[str]) -> list[Vmsd]:
    found = []

    def add(name: str) -> Vmsd:
        found.append(Vmsd(name, 1))
        return found[-1]

    add("cpu/poll_control_msr").value("env.poll_control_msr", 8, 0)
    if state.fop or state.fip or state.fdp:
        pointers = add("cpu/fpop_ip_dp")
        pointers.value("env.fpop", 2, state.fop)
        pointers.value("env.fpip", 8, state.fip)
        pointers.value("env.fpdp", 8, state.fdp)
    if mask & 0x18:
        mpx = add("cpu/mpx")
        mpx.structs("env.bnd_regs", "bnd_regs", [big(*pair) for pair in state.bnd])
        mpx.value("env.bndcs_regs.cfgu", 8, state.bndcfgu)
        mpx.value("env.bndcs_regs.sts", 8, state.bndstatus)
        mpx.value("env.msr_bndcfgs", 8, 0)
    if mask & 0xE0:
        avx512 = add("cpu/avx512")
        avx512.value("env.opmask_regs", 8, *state.k)
        zmmh = state.zmm_words(0, 16, 4, 4)
        hi16 = state.zmm_words(16, 16, 0, 8)
        avx512.structs(
            "env.xmm_regs[0]", "zmmh_reg", [big(*zmmh[i : i + 4]) for i in range(0, 64, 4)]
        )
        avx512.structs(
            "env.xmm_regs[1]", "hi16_zmm_reg", [big(*hi16[i : i + 8]) for i in range(0, 128, 8)]
        )
    if mask >> 9 & 1:
        add("cpu/pkru").value("env.pkru", 4, state.pkru)
    nested = add("cpu/nested_state")
    nested.structs("env.nested_state", "cpu/kvm_nested_state", [bytes(8)])
    nested.subsections.append(Vmsd("cpu/nested_state/inner", 1))
    nested.subsections[0].raw("data", bytes(33))
    if xfd or mask >> 18 & 1:
        faults = add("cpu/msr_xfd")
        faults.value("env.msr_xfd", 8, xfd)
        faults.value("env.msr_xfd_err", 8, 0)
    if mask >> 18 & 1:
        tiles = add("cpu/intel_amx_xtile")
        tiles.value("env.xtilecfg", 1, *state.component(17))
        tiles.value("env.xtiledata", 1, *state.component(18))
    if mask >> 19 & 1:  # the rest of the array that the section itself begins with
        add("cpu/apx").value("env.regs", 8, *state.egprs)
    for name in others:
        add(name).value("env.msr_lbr_ctl", 8, 1)
    return found


def section(vmsd: Vmsd, name: str, instance: int, ident: int, footer: bool = True) -> bytes:
    """A whole section: header, data, footer."""
    out = struct.pack(">BIB", 4, ident, len(name)) + name.encode()
    out += struct.pack(">II", instance, vmsd.version) + vmsd.saved()
    return out + (struct.pack(">BI", 0x7E, ident) if footer else b"")


def stream(
    cpus: Mapping[int, Vmsd],
    *,
    footer: bool = True,
    described: bool = True,
    ram: bytes = b"",
    early: bool = False,
) -> bytes:
    """A stream with the vCPUs between other devices, and the description at the end.

    ``early``: the first device described was saved before guest memory, as those with early_setup.
    """
    out = struct.pack(">4sIB", b"QEVM", 3, 7) + struct.pack(">I", 4) + b"test"
    first = Vmsd("virtio-mem-device-early", 1)
    first.raw("addr", bytes(24))
    if early:
        out += section(first, first.name, 0, 99, footer)
    out += struct.pack(">BIB", 1, 2, 3) + b"ram" + struct.pack(">II", 0, 4) + ram
    devices = []
    if early:
        devices.append({"name": first.name, "instance_id": 0, **first.described()})
    plan: list[tuple[str, int, Vmsd]] = []
    timer = Vmsd("timer", 2)
    timer.raw("cpu_ticks_offset", bytes(24))
    plan.append(("timer", 0, timer))
    for instance, vmsd in cpus.items():
        common = Vmsd("cpu_common", 1)
        common.value("halted", 4, 0)
        plan += [("cpu_common", instance, common), ("cpu", instance, vmsd)]
    last = Vmsd("0000:00:1f.2/ich9_ahci", 1)
    last.raw("data", bytes(range(256)) * 3)
    plan.append((last.name, 0, last))
    for ident, (name, instance, vmsd) in enumerate(plan, 5):
        out += section(vmsd, name, instance, ident, footer)
        devices.append({"name": name, "instance_id": instance, **vmsd.described()})
    out += b"\0"
    if described:
        text = json.dumps({"page_size": 4096, "devices": devices}).encode()
        out += struct.pack(">BI", 6, len(text)) + text
    return out

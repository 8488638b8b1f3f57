"""This machine's CPUID: the instruction, the device, and neither."""

from __future__ import annotations

import importlib
import os
import platform
from pathlib import Path
from typing import Any

import processor
import pytest
from cpuid_dumps import LEAF, SIGNATURE, VENDOR

from xsaveschema import cpuid
from xsaveschema.cpuid import CpuidRecord, CpuidRegisters
from xsaveschema.errors import XsaveError

host_module = importlib.import_module("xsaveschema.cpuid.host")

x86 = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64") or os.name != "posix",
    reason=f"no CPUID instruction to execute on {platform.machine()} {os.name}",
)


def cpuinfo() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        pytest.skip("no /proc/cpuinfo to compare with")
    if processor.emulated():
        pytest.skip(processor.EMULATED)  # the file is of the machine that emulates it
    block = path.read_text().split("\n\n", 1)[0]
    return {
        key.strip(): value.strip()
        for key, _, value in (s.partition(":") for s in block.split("\n"))
    }


def this_host() -> CpuidRecord:
    try:
        return cpuid.host()
    except XsaveError as error:
        pytest.skip(f"this machine's leaf 0xD cannot be read: {error}")


@x86
def test_host_is_what_the_kernel_says() -> None:
    record, info = this_host(), cpuinfo()
    assert record.signature is not None
    assert record.vendor == info["vendor_id"]
    assert cpuid.signature_parts(record.signature) == (
        int(info["cpu family"]),
        int(info["model"]),
        int(info["stepping"]),
    )
    flags = info["flags"].split()
    assert record.hypervisor == ("hypervisor" in flags)
    assert record.complete, record.warnings
    for bit, flag in enumerate(("xsaveopt", "xsavec", "xgetbv1", "xsaves")):
        assert record.leaf_0xd[1][0] >> bit & 1 or flag not in flags


@x86
def test_host_can_be_written_and_read() -> None:
    record = this_host()
    (again,) = cpuid.read_bytes(cpuid.format_cpuid_r(record).encode(), "dump")
    assert (again.vendor, again.signature, again.leaf_0xd) == (
        record.vendor,
        record.signature,
        record.leaf_0xd,
    )


@x86
def test_xgetbv_is_within_the_mask() -> None:
    record = this_host()
    try:
        xcr0 = cpuid.xgetbv()
    except XsaveError as error:
        pytest.skip(str(error))
    assert xcr0 & 3 == 3
    assert xcr0 & ~record.xcr0 == 0


@x86
def test_device_gives_what_the_instruction_gives() -> None:
    if processor.emulated():
        pytest.skip(processor.EMULATED)  # the device is of the machine that emulates it
    record = this_host()
    try:
        device = cpuid.host_from_device(0)
    except XsaveError as error:
        pytest.skip(str(error))
    assert (device.vendor, device.signature) == (record.vendor, record.signature)
    assert device.leaf_0xd == record.leaf_0xd
    assert device.source == "/dev/cpu/0/cpuid"


def table_of(cpu: dict[int, CpuidRegisters]) -> Any:
    leaves = {(0, 0): (0xD, 0x756E6547, 0x6C65746E, 0x49656E69), (1, 0): (SIGNATURE, 0, 0, 0)}
    leaves |= {(0xD, number): registers for number, registers in cpu.items()}
    return lambda _device, leaf, sub_leaf: leaves.get((leaf, sub_leaf), (0, 0, 0, 0))


def test_device_is_the_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden() -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(host_module, "_instruction", forbidden)
    monkeypatch.setattr(host_module.os, "open", lambda *_: 99)
    monkeypatch.setattr(host_module.os, "close", lambda _: None)
    monkeypatch.setattr(host_module, "_read_at", table_of(LEAF))
    record = cpuid.host()
    assert (record.vendor, record.signature) == (VENDOR, SIGNATURE)
    assert record.leaf_0xd == LEAF
    assert record.format == "/dev/cpu"


def test_neither_instruction_nor_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(host_module, "_instruction", forbidden)
    monkeypatch.setattr(host_module.os, "open", forbidden)
    with pytest.raises(XsaveError, match=r"cannot be executed .* nor read: /dev/cpu/0/cpuid"):
        cpuid.host()
    with pytest.raises(XsaveError, match="kernel module cpuid"):
        cpuid.host_from_device(3)
    with pytest.raises(XsaveError, match="XGETBV cannot be executed"):
        cpuid.xgetbv()


@pytest.mark.parametrize("call", [cpuid.host, cpuid.xgetbv])
def test_other_machines(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(XsaveError, match="x86-64, executed on POSIX; this is aarch64"):
        call()

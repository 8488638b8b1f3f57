# SPDX-License-Identifier: MIT
"""CPUID and XCR0 of this machine, from the instructions themselves.

Where the system forbids to execute what instruction.py needs, Linux's ``/dev/cpu/N/cpuid`` gives
the same. Importing this module
does nothing; on other machines the functions raise XsaveError.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from xsaveschema.cpuid.gather import CORE_TYPE_LEAF, Processor, records
from xsaveschema.cpuid.record import XSAVE_LEAF, CpuidRecord
from xsaveschema.errors import XsaveError
from xsaveschema.model import CpuidRegisters

_OSXSAVE: Final = 1 << 27  # leaf 1 ECX: the OS has enabled XSAVE, and so XGETBV

_Query = Callable[[int, int], CpuidRegisters]


def host() -> CpuidRecord:
    """Read leaf 0xD, the vendor and the signature of the CPU that this runs on.

    Uses the CPUID instruction, or ``/dev/cpu/0/cpuid`` where executable memory is forbidden.
    ``hypervisor`` says whether a guest's view it is. Raises XsaveError where the machine is not
    x86-64, CpuidDumpError where it has no leaf 0xD.
    """
    try:
        query = _instruction()
    except OSError as error:
        try:
            return host_from_device(0)
        except XsaveError as second:
            raise XsaveError(
                f"CPUID cannot be executed ({error.strerror}), nor read: {second}"
            ) from None
    return _record(query, "host", "CPUID instruction")


def host_from_device(cpu: int = 0) -> CpuidRecord:
    """Read the same of logical CPU ``cpu`` from Linux's ``/dev/cpu/N/cpuid``.

    The device needs the kernel module ``cpuid`` and, as a rule, root. Raises XsaveError without.
    """
    path = f"/dev/cpu/{cpu:d}/cpuid"
    try:
        device = os.open(path, os.O_RDONLY)
        try:
            return _record(
                lambda leaf, sub_leaf: _read_at(device, leaf, sub_leaf), path, "/dev/cpu"
            )
        finally:
            os.close(device)
    except OSError as error:
        raise XsaveError(
            f"{path}: {error.strerror} (the kernel module cpuid and the right to read are needed)"
        ) from None


def _read_at(device: int, leaf: int, sub_leaf: int) -> CpuidRegisters:
    """One read of the device: the position is EAX in the lower 32 bits and ECX above (cpuid(4))."""
    data = os.pread(device, 16, sub_leaf << 32 | leaf)
    eax, ebx, ecx, edx = (int.from_bytes(data[at : at + 4], "little") for at in (0, 4, 8, 12))
    return eax, ebx, ecx, edx


def xgetbv() -> int:
    """XCR0: the user components that this machine's OS has enabled (SDM vol. 2, XGETBV).

    Raises XsaveError where the machine is not x86-64, or the OS has not enabled XSAVE.
    """
    try:
        _, _, features, _ = _instruction()(1, 0)
    except OSError as error:
        raise XsaveError(f"XGETBV cannot be executed: {error.strerror}") from None
    if not features & _OSXSAVE:
        raise XsaveError("the operating system has not enabled XSAVE, so there is no XCR0 to read")

    from xsaveschema.cpuid.instruction import execute_xgetbv

    return execute_xgetbv()


def _record(query: _Query, source: str, format_name: str) -> CpuidRecord:
    highest = query(0, 0)[0]
    asked = [(0, 0), (1, 0)]
    if highest >= XSAVE_LEAF:
        asked += ((XSAVE_LEAF, number) for number in range(64))
    if highest >= CORE_TYPE_LEAF:
        asked.append((CORE_TYPE_LEAF, 0))
    processor = Processor(source)
    for leaf, sub_leaf in asked:
        registers = query(leaf, sub_leaf)
        if sub_leaf < 2 or any(registers):
            processor.add(leaf, sub_leaf, registers, None)
    return next(records([processor], source, format_name))


def _instruction() -> _Query:
    """CPUID as a function. Raises OSError where executable memory is forbidden."""
    import platform

    from xsaveschema.cpuid.instruction import execute_cpuid, runs_here

    if not runs_here():
        here = f"{platform.machine()}, {os.name}"
        raise XsaveError(f"CPUID is an instruction of x86-64, executed on POSIX; this is {here}")
    execute_cpuid(0, 0)
    return execute_cpuid

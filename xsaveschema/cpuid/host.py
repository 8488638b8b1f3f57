"""CPUID and XCR0 of this machine, from the instructions themselves.

Python has no way to execute CPUID, so a few bytes of machine code are put into an executable page.
Where the system forbids that, Linux's ``/dev/cpu/N/cpuid`` gives the same. Importing this module
does nothing; on other machines the functions raise XsaveError.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Final

from xsaveschema.cpuid.gather import CORE_TYPE_LEAF, Processor, records
from xsaveschema.cpuid.record import XSAVE_LEAF, CpuidRecord
from xsaveschema.errors import XsaveError
from xsaveschema.model import CpuidRegisters

if TYPE_CHECKING:
    import ctypes

_OSXSAVE: Final = 1 << 27  # leaf 1 ECX: the OS has enabled XSAVE, and so XGETBV

# void cpuid(uint32_t leaf: edi, uint32_t sub_leaf: esi, uint32_t *registers: rdx), System V ABI
_CPUID: Final = bytes.fromhex(
    "f3 0f 1e fa"  # endbr64            indirect calls land here
    "53"  #          push rbx           CPUID overwrites EBX, which belongs to the caller
    "49 89 d0"  #    mov r8, rdx        and EDX, which holds the argument
    "89 f8"  #       mov eax, edi
    "89 f1"  #       mov ecx, esi
    "0f a2"  #       cpuid
    "41 89 00"  #    mov [r8], eax
    "41 89 58 04"  # mov [r8+4], ebx
    "41 89 48 08"  # mov [r8+8], ecx
    "41 89 50 0c"  # mov [r8+12], edx
    "5b"  #          pop rbx
    "c3"  #          ret
)
# uint64_t xgetbv(uint32_t number: edi)
_XGETBV: Final = bytes.fromhex(
    "f3 0f 1e fa"  # endbr64
    "89 f9"  #       mov ecx, edi
    "0f 01 d0"  #    xgetbv             EDX:EAX, upper halves of RDX and RAX cleared
    "48 c1 e2 20"  # shl rdx, 32
    "48 09 d0"  #    or rax, rdx
    "c3"  #          ret
)
_XGETBV_AT: Final = 64

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
        code = _code()
    except OSError as error:
        raise XsaveError(f"XGETBV cannot be executed: {error.strerror}") from None
    if not features & _OSXSAVE:
        raise XsaveError("the operating system has not enabled XSAVE, so there is no XCR0 to read")

    import ctypes

    read = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint32)(ctypes.addressof(code) + _XGETBV_AT)
    value: int = read(0)
    return value


def _record(query: _Query, source: str, format_name: str) -> CpuidRecord:
    processor = Processor(source)

    def ask(leaf: int, sub_leaf: int = 0) -> CpuidRegisters:
        registers = query(leaf, sub_leaf)
        processor.add(leaf, sub_leaf, registers, None)
        return registers

    highest = ask(0)[0]
    ask(1)
    if highest >= XSAVE_LEAF:
        for sub_leaf in range(64):
            registers = query(XSAVE_LEAF, sub_leaf)
            if sub_leaf < 2 or any(registers):
                processor.add(XSAVE_LEAF, sub_leaf, registers, None)
    if highest >= CORE_TYPE_LEAF:
        ask(CORE_TYPE_LEAF)
    return next(records([processor], source, format_name))


def _instruction() -> _Query:
    """CPUID as a function. Raises OSError where executable memory is forbidden."""
    code = _code()

    import ctypes

    array = ctypes.c_uint32 * 4
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.POINTER(array))
    execute = prototype(ctypes.addressof(code))

    def query(leaf: int, sub_leaf: int) -> CpuidRegisters:
        registers = array()
        execute(leaf, sub_leaf, ctypes.byref(registers))
        eax, ebx, ecx, edx = registers
        return eax, ebx, ecx, edx

    return query


@cache
def _code() -> ctypes.Array[ctypes.c_char]:
    """The page with the machine code, made once and never given back."""
    import platform

    if platform.machine().lower() not in ("x86_64", "amd64") or sys.maxsize < 1 << 32:
        raise XsaveError(f"CPUID is an instruction of x86-64, and this is {platform.machine()}")
    if os.name != "posix":
        raise XsaveError(f"CPUID is executed on POSIX systems only so far, and this is {os.name}")

    import ctypes
    import mmap

    page = mmap.mmap(
        -1,
        mmap.PAGESIZE,
        flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
        prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC,
    )
    page[: len(_CPUID)] = _CPUID
    page[_XGETBV_AT : _XGETBV_AT + len(_XGETBV)] = _XGETBV
    return (ctypes.c_char * mmap.PAGESIZE).from_buffer(page)

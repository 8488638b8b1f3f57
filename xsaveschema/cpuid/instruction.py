# SPDX-License-Identifier: MIT
"""CPUID and XGETBV, executed: Python has no way to, so a page of machine code does.

For x86-64 and POSIX. Python 3.6 runs this module, too, inside debuggers: it needs nothing but the
standard library.
"""

import ctypes
import mmap
import os
import platform
import sys
from functools import lru_cache
from typing import Any

# void cpuid(uint32_t leaf: edi, uint32_t sub_leaf: esi, uint32_t *registers: rdx), System V ABI
_CPUID = bytes.fromhex(
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
_XGETBV = bytes.fromhex(
    "f3 0f 1e fa"  # endbr64
    "89 f9"  #       mov ecx, edi
    "0f 01 d0"  #    xgetbv             EDX:EAX, upper halves of RDX and RAX cleared
    "48 c1 e2 20"  # shl rdx, 32
    "48 09 d0"  #    or rax, rdx
    "c3"  #          ret
)
_XGETBV_AT = 64


def runs_here() -> bool:
    """Whether this is x86-64 and POSIX, where the machine code means what it says."""
    machine = platform.machine().lower() in ("x86_64", "amd64") and sys.maxsize > 1 << 32
    return machine and os.name == "posix"


def execute_cpuid(leaf: int, sub_leaf: int) -> "tuple[int, int, int, int]":
    """EAX, EBX, ECX and EDX. OSError where executable memory is forbidden."""
    array = ctypes.c_uint32 * 4
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.POINTER(array))
    registers = array()
    prototype(ctypes.addressof(_code()))(leaf, sub_leaf, ctypes.byref(registers))
    eax, ebx, ecx, edx = registers
    return eax, ebx, ecx, edx


def execute_xgetbv() -> int:
    """XCR0. OSError as for CPUID; the operating system must have enabled XSAVE."""
    read = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint32)
    return int(read(ctypes.addressof(_code()) + _XGETBV_AT)(0))


@lru_cache(None)
def _code() -> Any:
    """The page with the machine code, made once and never given back."""
    page = mmap.mmap(
        -1,
        mmap.PAGESIZE,
        flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
        prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC,
    )
    page[: len(_CPUID)] = _CPUID
    page[_XGETBV_AT : _XGETBV_AT + len(_XGETBV)] = _XGETBV
    return (ctypes.c_char * mmap.PAGESIZE).from_buffer(page)

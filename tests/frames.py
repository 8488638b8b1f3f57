"""Signal frames that this machine's kernel writes, from two tiny programs in machine code.

Each loads DATA into XMM registers, sends itself SIGUSR1, and its handler writes what
`sigcontext.fpstate` points to, `extended_size` bytes of it, to standard output. The 32-bit one
then loads the registers again and executes UD2: a core of a 32-bit process.
"""

from __future__ import annotations

import os
import resource
import struct
import subprocess
from pathlib import Path

import processor
import pytest

DATA = bytes(range(1, 17))
"""What is in XMM0, and in XMM7 (32-bit) or XMM15."""

_PROGRAM_64 = bytes.fromhex(
    "0f100589000000 440f103d81000000"  # movups xmm0, [data]; movups xmm15, [data]
    "b80d000000 bf0a000000 488d3550000000 31d2 41ba08000000 0f05"  # rt_sigaction(SIGUSR1, act)
    "b827000000 0f05 89c7 b83e000000 be0a000000 0f05 0f0b"  # kill(getpid(), SIGUSR1); ud2
    "488bb2e0000000 8b96d4010000"  # 8c1: rsi = uc_mcontext.fpstate; edx = its extended_size
    "b801000000 bf01000000 0f05 b83c000000 31ff 0f05"  # write(1, rsi, edx); exit(0)
    "00000000000000000000000000"
    "c180040800000000 0000000400000000 c180040800000000 0000000000000000"  # 8f0: act: SA_RESTORER
)
_PROGRAM_32 = bytes.fromhex(
    "0f1005f0800408 0f103df0800408"  # movups xmm0, [data]; movups xmm7, [data]
    "b8ae000000 bb0a000000 b9d0800408 31d2 be08000000 cd80"  # rt_sigaction(SIGUSR1, act)
    "b814000000 cd80 89c3 b825000000 b90a000000 cd80 0f0b"  # kill(getpid(), SIGUSR1); ud2
    "8b4c240c 8b4960 8b9144020000"  # 89d: ecx = uc_mcontext.fpstate; edx = its extended_size
    "b804000000 bb01000000 cd80"  # write(1, ecx, edx)
    "0f1005f0800408 0f103df0800408 0f0b"  # the registers again; ud2
    "00000000000000000000"
    "9d800408 04000000 00000000 00000000 00000000"  # 8d0: act: SA_SIGINFO
    "000000000000000000000000"
)


def run(bits: int, folder: Path) -> bytes:
    """The frame that the kernel writes for a process of so many bits; a core may lie in folder."""
    if why := processor.real():
        pytest.skip(why)
    base = 0x8048000
    if bits == 64:
        code, start = _PROGRAM_64 + DATA, 0x80
        head = struct.pack("<QQQIHHHHHH", base + start, 64, 0, 0, 64, 56, 1, 0, 0, 0)
        size = start + len(code)
        head += struct.pack("<IIQQQQQQ", 1, 7, 0, base, base, size, size, 4096)
    else:
        code, start = _PROGRAM_32 + DATA, 0x60
        head = struct.pack("<IIIIHHHHHH", base + start, 52, 0, 0, 52, 32, 1, 0, 0, 0)
        size = start + len(code)
        head += struct.pack("<8I", 1, 0, base, base, size, size, 7, 4096)
    ident = b"\x7fELF" + bytes([2 if bits == 64 else 1, 1, 1]) + bytes(9)
    image = ident + struct.pack("<HHI", 2, 62 if bits == 64 else 3, 1) + head
    program = folder / f"frame{bits}"
    program.write_bytes(image.ljust(start, b"\0") + code)
    program.chmod(0o700)

    def allow_core() -> None:
        limit = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))

    try:
        done = subprocess.run(
            [program], cwd=folder, stdout=subprocess.PIPE, preexec_fn=allow_core, timeout=10
        )
    except OSError as error:
        pytest.skip(f"this kernel runs no {bits}-bit programs: {os.strerror(error.errno or 0)}")
    return done.stdout

"""Leave a core of a process whose three threads hold known values in their registers.

    python make_core.py [OUT]

Linux on x86-64; OUT is ``core`` unless said. Thread n (1, 2, 3) holds the numbers 100n, 100n + 1, …
as floats in the vector registers 3 and, with AVX-512, 17, as wide as this CPU has them; n in k1,
where there is one; and in MXCSR a rounding mode of its own. Each thread loads an area by XRSTOR and
pauses. This program stops them by ptrace and writes NT_PRSTATUS and NT_X86_XSTATE of each, then
NT_X86_XSAVE_LAYOUT, as Linux does since 6.12; but no memory.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import signal
import struct
import sys
import threading
import time
from pathlib import Path

import xsaveschema as xs

THREADS = 3
LOAD_AND_PAUSE = bytes.fromhex(
    "b8e7000000 31d2"  # mov eax, 0xE7; xor edx, edx: x87, SSE, AVX and AVX-512
    "480fae2f"  #         xrstor64 [rdi]
    "f048ff06"  #         lock inc qword [rsi]
    "b822000000 0f05"  #  again: mov eax, 34; syscall (pause)
    "ebf7"  #             jmp again
)
ROOM = 4096  # of an area without AMX
NT_PRSTATUS, NT_X86_XSTATE, NT_X86_XSAVE_LAYOUT = 1, 0x202, 0x205
SEIZE, INTERRUPT, GETREGSET = 0x4206, 0x4207, 0x4204  # of ptrace
WALL = 0x40000000  # waitpid: threads too


def area_of(n: int) -> bytes:
    """What thread n loads."""
    host = xs.load_model("host")
    area = xs.XsaveArea.new(host.limited(xcr0=host.xcr0 & 0xE7, xss=0))
    for number in (3, 17):
        # The narrow names are parts of the wide ones: the widest of them is written.
        for name in (f"zmm{number}", f"ymm{number}", f"xmm{number}"):
            if name in area.registers:
                lanes = len(area.registers.lanes(name, "f32"))
                area.registers.set_lanes(name, "f32", [100.0 * n + i for i in range(lanes)])
                break
    if "k1" in area.registers:
        area.registers["k1"] = n
    area.registers["mxcsr"] = 0x1F80 | n << 13
    return bytes(area)


def hold(memory: mmap.mmap, count: int) -> None:
    """Be the process: load the areas that stand in ``memory``, each in a thread, and pause."""
    code = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(LOAD_AND_PAUSE)
    run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(
        ctypes.addressof(ctypes.c_char.from_buffer(code))
    )
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    ready = base + count * ROOM
    for index in range(1, count):
        threading.Thread(target=run, args=(base + index * ROOM, ready)).start()
    run(base, ready)


class Vector(ctypes.Structure):
    """A struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def ptrace(request: int, thread: int, address: int = 0, data: int = 0) -> None:
    """The system call; OSError where it fails."""
    call = ctypes.CDLL(None, use_errno=True).ptrace
    call.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    call.restype = ctypes.c_long
    if call(request, thread, address, data) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace: {os.strerror(number)}")


def registers(thread: int, kind: int) -> bytes:
    """A register set of a thread that is stopped."""
    buffer = ctypes.create_string_buffer(1 << 16)
    vector = Vector(ctypes.addressof(buffer), len(buffer))
    ptrace(GETREGSET, thread, kind, ctypes.addressof(vector))
    return buffer.raw[: vector.length]


def note(owner: bytes, kind: int, data: bytes) -> bytes:
    """An ELF note, its name and data padded to four bytes."""
    name = (owner + b"\0").ljust(8, b"\0")
    head = struct.pack("<III", len(owner) + 1, len(data), kind)
    return head + name + data + bytes(-len(data) % 4)


def notes_of(thread: int) -> bytes:
    """Stop a thread, and write down what it has."""
    ptrace(SEIZE, thread)
    ptrace(INTERRUPT, thread)
    os.waitpid(thread, WALL)
    # struct elf_prstatus: pr_pid at byte 32, pr_reg at 112
    status = struct.pack("<32xi76x216s8x", thread, registers(thread, NT_PRSTATUS))
    return note(b"CORE", NT_PRSTATUS, status) + note(
        b"LINUX", NT_X86_XSTATE, registers(thread, NT_X86_XSTATE)
    )


def layout_note() -> bytes:
    """Where this machine has each component: number, size, offset, flags."""
    rows = [
        struct.pack("<IIII", slot.number, slot.size, slot.offset, 0)
        for slot in xs.load_model("host").standard_layout()
        if slot.number > 1
    ]
    return note(b"LINUX", NT_X86_XSAVE_LAYOUT, b"".join(rows))


def core(notes: bytes) -> bytes:
    """An ELF core file for x86-64 with one segment, of notes."""
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head = struct.pack("<16sHHIQQQIHHHHHH", ident, 4, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return head + struct.pack("<IIQQQQQQ", 4, 0, 120, 0, 0, len(notes), 0, 4) + notes


def main(out: str = "core") -> None:
    """Run the process, write its core, end it."""
    if (machine := f"{sys.platform} on {platform.machine()}") != "linux on x86_64":
        sys.exit(f"make_core.py: needs Linux on x86-64, not {machine}")
    memory = mmap.mmap(-1, THREADS * ROOM + 4096)  # shared with the child
    for index in range(THREADS):
        area = area_of(index + 1)
        memory[index * ROOM : index * ROOM + len(area)] = area
    child = os.fork()
    if not child:
        hold(memory, THREADS)
    try:
        until = time.monotonic() + 10
        while struct.unpack_from("<Q", memory, THREADS * ROOM)[0] < THREADS:
            if os.waitpid(child, os.WNOHANG)[0] or time.monotonic() > until:
                sys.exit("make_core.py: the threads did not load their areas")
            time.sleep(0.01)
        threads = sorted(int(task.name) for task in Path(f"/proc/{child}/task").iterdir())
        Path(out).write_bytes(core(b"".join(map(notes_of, threads)) + layout_note()))
        print(f"{out}: threads {', '.join(map(str, threads))}")
    finally:
        os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:2])
    except (OSError, xs.XsaveError) as error:
        sys.exit(f"make_core.py: {error}")

"""A program whose threads hold given areas in their registers: it waits there, or crashes.

loaded.py MODE FILE COUNT: FILE has COUNT areas of equal length, in the standard format. The main
thread restores area 0, the others one each, by XRSTOR64 of x87, SSE, AVX and AVX-512; from then
on they execute machine code alone. MODE `wait` prints {thread: index} once all have, and waits;
`watch` does the same, and every millisecond each thread saves what it has by XSAVE64 into the file
FILE.seen: its area, and at the end of its part a count of saves. `crash` executes UD2 in the main
thread, which makes the kernel dump a core.
"""

import ctypes
import json
import mmap
import os
import resource
import struct
import sys
import threading
import time
from pathlib import Path

RESTORE = bytes.fromhex(
    "488b37 b8e7000000 31d2"  # mov rsi, [rdi]; mov eax, 0xE7; xor edx, edx
    "480fae2e"  # xrstor64 [rsi]
    "488b4f08 f048ff01"  # mov rcx, [rdi+8]; lock inc qword [rcx]
)
PAUSE = bytes.fromhex("b822000000 0f05 ebf7")  # again: mov eax, 34; syscall (pause); jmp again
CRASH = bytes.fromhex("0f0b")  # ud2
WATCH = bytes.fromhex(
    "4989fc"  # mov r12, rdi
    "498b742410 b8e7000000 31d2 480fae26"  # again: mov rsi, [r12+16]; eax, edx; xsave64 [rsi]
    "498b4c2418 48ff01"  # mov rcx, [r12+24]; inc qword [rcx]
    "b823000000 498d7c2420 31f6 0f05"  # mov eax, 35; lea rdi, [r12+32]; nanosleep
    "ebd8"  # jmp again
)
MILLISECOND = struct.pack("<QQ", 0, 1_000_000)


def executable(code: bytes) -> int:
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    KEPT.append(page)
    return ctypes.addressof(ctypes.c_char.from_buffer(page))


KEPT: list[object] = []


def main(mode: str, path: str, count: int) -> None:
    image = Path(path).read_bytes()
    size = len(image) // count
    stride = (size + 63) // 64 * 64
    memory = mmap.mmap(-1, stride * count + 4096)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    counter = stride * count
    code = WATCH if mode == "watch" else PAUSE
    wait = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(executable(RESTORE + code))
    seen = 0
    if mode == "watch":
        with Path(f"{path}.seen").open("r+b") as file:
            shared = mmap.mmap(file.fileno(), 0)
        KEPT.append(shared)
        seen = ctypes.addressof(ctypes.c_char.from_buffer(shared))
        room = len(shared) // count
    jobs = []
    for index in range(count):
        memory[index * stride : index * stride + size] = image[index * size : (index + 1) * size]
        job = struct.pack("<QQ", base + index * stride, base + counter)
        if mode == "watch":
            mine = seen + index * room
            job += struct.pack("<QQ", mine, mine + room - 8) + MILLISECOND
        jobs.append(ctypes.create_string_buffer(job, len(job)))
    threading.stack_size(256 << 10)
    found = {os.getpid(): 0}
    for index in range(1, count):
        thread = threading.Thread(target=wait, args=(ctypes.addressof(jobs[index]),), daemon=True)
        thread.start()
        assert thread.native_id is not None
        found[thread.native_id] = index
    while struct.unpack_from("<Q", memory, counter)[0] < count - 1:
        time.sleep(0.001)
    if mode == "crash":
        limit = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
        crash = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(executable(RESTORE + CRASH))
        print(json.dumps(found), flush=True)
        crash(ctypes.addressof(jobs[0]))

    def announce() -> None:  # the main thread is in machine code by then
        while struct.unpack_from("<Q", memory, counter)[0] < count:
            time.sleep(0.001)
        print(json.dumps(found), flush=True)

    threading.Thread(target=announce, daemon=True).start()
    wait(ctypes.addressof(jobs[0]))


main(sys.argv[1], sys.argv[2], int(sys.argv[3]))

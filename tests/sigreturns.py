"""This machine's kernel as the judge of signal frames: a handler replaces its own one.

Machine code in a child of its own loads a state, sends itself SIGUSR1, and saves what sigreturn has
left. The handler, machine code too, copies the frame under test over the kernel's.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from typing import NamedTuple

import processor
import pytest

_ROUND = bytes.fromhex(
    "53 4889fb"  # push rbx; mov rbx, rdi (the job)
    "488b33 83c8ff 83caff"  # mov rsi, [rbx]; or eax, -1; or edx, -1
    "480fae26"  # xsave64 [rsi]: the thread's own state
    "488b7328 480fae2e"  # mov rsi, [rbx+40]; xrstor64 [rsi]: the state before
    "b83e000000 8b7b20 be0a000000 0f05"  # kill([rbx+32], SIGUSR1)
    "488b7318 83c8ff 83caff 480fae26"  # mov rsi, [rbx+24]; xsave64 [rsi]: the state after
    "488b33 480fae2e"  # mov rsi, [rbx]; xrstor64 [rsi]
    "5b c3"
)
_HANDLER = bytes.fromhex(  # rdx: ucontext
    "488b8280000000"  # mov rax, [rdx+128] (RBX: the job)
    "488bbae0000000"  # mov rdi, [rdx+224] (fpstate)
    "488b7008 488b4810 f3a4"  # mov rsi, [rax+8]; mov rcx, [rax+16]; rep movsb
    "c3"
)
_ROOM = 1 << 14
_STACK = 1 << 16


class Stack(ctypes.Structure):
    """stack_t."""

    _fields_ = [("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


class Returned(NamedTuple):
    """What sigreturn did: the signal that ended the child, or the state then, by XSAVE64."""

    signal: int
    after: bytes


def sigreturn(frame: bytes, prior: bytes = processor.INITIAL) -> Returned:
    """Return from a handler with ``frame`` in place of the kernel's; the state before is ``prior``.

    The frame reaches from the area's first byte to behind the second magic word.
    """
    if why := processor.real():
        pytest.skip(why)
    size = processor.cpuid(0xD)[1]
    shared = processor.AlignedBuffer(4 * _ROOM + 2 * _STACK)
    own, put, after, before = (256 + part * _ROOM for part in range(4))
    end = 4 * _ROOM + _STACK  # behind it is room for frames that are longer than the kernel's
    for at, data in ((put, frame), (before, prior)):
        shared.view[at : at + len(data)] = data
    base = shared.address
    code, handler = processor._code(_ROUND), ctypes.addressof(processor._code(_HANDLER))
    child = os.fork()
    if not child:
        try:
            libc = processor._libc()
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)
            stack = Stack(base + end - _STACK + 4096, 0, _STACK - 8192)
            action = processor._SigAction(handler=handler, flags=0x4 | 0x08000000)
            assert libc.sigaltstack(ctypes.byref(stack), None) == 0
            assert libc.sigaction(int(signal.SIGUSR1), ctypes.byref(action), None) == 0
            job = (base + own, base + put, len(frame), base + after, os.getpid(), base + before)
            struct.pack_into("<6Q", shared.view, 0, *job)
            processor._Function(ctypes.addressof(code))(base, 0, 0)
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return Returned(os.WTERMSIG(status), b"")
    assert status == 0
    return Returned(0, bytes(shared.view[after : after + size]))

# SPDX-License-Identifier: MIT
"""The XSAVE area of a thread that this thread traces and has stopped, by Linux's ptrace.

Python 3.6 runs this module, too, inside debuggers: it stands alone but for ``elf_notes``.
"""

import ctypes
import os
from functools import lru_cache
from typing import Any

from xsaveschema.artefacts.elf_notes import NT_X86_XSTATE

_GETREGSET = 0x4204
_SETREGSET = 0x4205
_ROOM = 64 << 10
_MOST = 16 << 20


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def regset(thread: int) -> bytes:
    """NT_X86_XSTATE of a thread. OSError where this thread does not trace it, or it runs."""
    room = _ROOM
    while True:
        buffer = ctypes.create_string_buffer(room)
        length = _transfer(_GETREGSET, thread, buffer)
        if length < room or room >= _MOST:
            return buffer.raw[:length]
        room *= 4


def set_regset(thread: int, area: bytes) -> None:
    """Write NT_X86_XSTATE, whole. OSError, EINVAL among them where the kernel refuses a value."""
    _transfer(_SETREGSET, thread, ctypes.create_string_buffer(area, len(area)))


def _transfer(request: int, thread: int, buffer: Any) -> int:
    vector = _Iovec(ctypes.addressof(buffer), len(buffer))
    ptrace(request, thread, NT_X86_XSTATE, ctypes.addressof(vector))
    return int(vector.length)


def ptrace(request: int, thread: int, address: int, data: int) -> None:
    """A ptrace request. OSError where it fails."""
    if _libc().ptrace(request, thread, address, data) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@lru_cache(None)
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.restype = ctypes.c_long
    libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    return libc

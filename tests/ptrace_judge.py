"""Linux as the judge: PTRACE_SETREGSET and PTRACE_GETREGSET of NT_X86_XSTATE on a stopped child.

A forked child asks to be traced and stops itself; from then on only the kernel's copy of its
state changes. The child is killed while it is stopped, so that no instruction of it ever runs
with what was written.

What a reader of results must know (kernel/ptrace.c, arch/x86/kernel/fpu/{regset,xstate}.c):
- SETREGSET takes a standard area only, as long as the kernel's user size in full; what is longer
  is cut to that, but a length that is not a multiple of 8 is EINVAL.
- A wrong length is EFAULT, a refused header or MXCSR is EINVAL, and nothing is changed then.
- MXCSR is stored if XSTATE_BV has x87, SSE or AVX, and read back if it has SSE or AVX; else
  GETREGSET gives 0x1F80, whatever the area said.
- GETREGSET gives the mask of the kernel's user components at byte 464.
- TILEDATA needs the child's permission and its first use: its bit is refused until then.

Sizes are in bytes. The module imports on any machine; ask `available()` before use.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import sys
import warnings
from functools import cache
from types import TracebackType
from typing import Self

_TRACEME, _SETOPTIONS, _GETREGSET, _SETREGSET = 0, 0x4200, 0x4204, 0x4205
_EXITKILL = 1 << 20  # the child is killed if this process ends before it can
_NT_X86_XSTATE = 0x202
_MOST = 1 << 16  # no kernel's area is longer


class _IoVec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    return libc


@cache
def available() -> str | None:
    """None if this machine's kernel can be asked, else the reason why not."""
    machine = f"{sys.platform} on {platform.machine()}"
    if machine != "linux on x86_64" or sys.maxsize < 1 << 32:
        return f"needs 64-bit Linux on x86-64, not {machine}"
    try:
        with Tracee() as child:
            child.get()
    except OSError as error:
        return f"ptrace of NT_X86_XSTATE: {error}"
    return None


class Tracee:
    """A stopped child whose extended state can be written and read. Use it in a `with`.

    OSError where the kernel does not allow it.
    """

    def __init__(self) -> None:
        self.pid = 0

    def __enter__(self) -> Self:
        with warnings.catch_warnings():
            # Python 3.12 warns of a fork beside other threads; this child takes no lock.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if not self.pid:
            try:
                if _libc().ptrace(_TRACEME, 0, None, None):
                    os._exit(ctypes.get_errno() or 1)
                os.kill(os.getpid(), signal.SIGSTOP)
            finally:
                os._exit(1)
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            self.pid = 0
            code = os.waitstatus_to_exitcode(status)
            raise OSError(max(code, 0), f"PTRACE_TRACEME: {os.strerror(max(code, 0))}")
        if _libc().ptrace(_SETOPTIONS, self.pid, None, _EXITKILL):
            code = ctypes.get_errno()
            self.__exit__(None, None, None)
            raise OSError(code, f"PTRACE_O_EXITKILL: {os.strerror(code)}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0

    def set(self, area: bytes) -> int:
        """SETREGSET: 0, or the errno by which the kernel refuses the area."""
        buffer = ctypes.create_string_buffer(bytes(area), len(area) + 1)
        return self._regset(_SETREGSET, buffer, len(area))[0]

    def get(self) -> bytes:
        """GETREGSET: the kernel's whole user area, in the standard format."""
        buffer = ctypes.create_string_buffer(_MOST)
        code, length = self._regset(_GETREGSET, buffer, _MOST)
        if code:
            raise OSError(code, f"PTRACE_GETREGSET: {os.strerror(code)}")
        return buffer.raw[:length]

    def _regset(
        self, request: int, buffer: ctypes.Array[ctypes.c_char], length: int
    ) -> tuple[int, int]:
        if not self.pid:
            raise OSError(errno.ESRCH, "there is no child")
        vector = _IoVec(ctypes.addressof(buffer), length)
        ctypes.set_errno(0)
        result = _libc().ptrace(
            request, self.pid, _NT_X86_XSTATE, ctypes.cast(ctypes.byref(vector), ctypes.c_void_p)
        )
        return (ctypes.get_errno() if result else 0), int(vector.length)

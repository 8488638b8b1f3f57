"""KVM as the judge: KVM_SET_XSAVE and KVM_GET_XSAVE of a virtual CPU.

`run` has it store its MXCSR and halt, for which the kernel loads its state into the processor and
saves it again: what is read then is what was loaded.

What a reader of results must know (arch/x86/kvm/x86.c, arch/x86/kernel/fpu/{core,xstate}.c):
- SET_XSAVE reads struct kvm_xsave's 4096 bytes, or what KVM_CAP_XSAVE2 says of a process that has
  permission for more; the ioctl has no length, so a shorter buffer is read beyond its end.
- What it refuses is EINVAL, and nothing is changed then.
- XSTATE_BV may have what KVM supports of the host's XCR0, whatever the guest's CPUID or XCR0.
- MXCSR is stored if XSTATE_BV has x87, SSE or AVX, and read back if it has SSE or AVX. That need
  not be the virtual CPU's: without SSE, XRSTORS does not load it, nor does XSAVES write it.
- GET_XSAVE gives components in use only if the guest's CPUID has them: it has all that may be.
- PKRU is kept apart: one that is initial in an area leaves the virtual CPU's as it was.
- GET_XSAVE gives the mask of the host kernel's user components at byte 464.

Sizes are in bytes. The module imports on any machine; ask `available()` before use.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import platform
import struct
from functools import cache
from types import TracebackType
from typing import Self

_CREATE_VM, _CHECK_EXTENSION, _CREATE_VCPU = 0xAE01, 0xAE03, 0xAE41
_GET_XSAVE, _SET_XSAVE = 0x9000AEA4, 0x5000AEA5
_GET_SUPPORTED_CPUID, _SET_CPUID2 = 0xC008AE05, 0x4008AE90
_SET_USER_MEMORY_REGION, _RUN = 0x4020AE46, 0xAE80
_MXCSR = slice(0xC18, 0xC1C)
_ENTRIES, _ENTRY = 256, 40  # of struct kvm_cpuid2
_RESET = 0xFFFFF000  # the page in which a processor begins, at byte 0xFF0, in real mode
_START = bytes.fromhex("eb8e")  # jmp 0xf80
_CODE = bytes.fromhex(
    "0f20e0"  # mov eax, cr4
    "660d00020000"  # or eax, 0x200: OSFXSR
    "0f22e0"  # mov cr4, eax
    "2e0fae0600fc"  # again: fxsave cs:[0xfc00], which KVM can emulate, too
    "f4"  # hlt
    "ebf7"  # jmp again
)
_CAP_XSAVE, _CAP_XSAVE2 = 55, 208
SIZE = 4096
"""Of struct kvm_xsave."""


@cache
def available() -> str | None:
    """Why KVM cannot judge here; None where it can."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return "KVM judges on Linux on x86-64"
    try:
        with Guest() as guest:
            if guest.run() != 0x1F80:
                return "KVM does not run a virtual CPU here"
    except OSError as error:
        return f"KVM does not judge here: {error}"
    return None


class Guest:
    """A virtual machine with one virtual CPU, which is never run."""

    def __enter__(self) -> Self:
        self._open: list[int] = []
        try:
            kvm = self._keep(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
            if not fcntl.ioctl(kvm, _CHECK_EXTENSION, _CAP_XSAVE):
                raise OSError(0, "this kernel has no KVM_CAP_XSAVE")
            self._vm = self._keep(fcntl.ioctl(kvm, _CREATE_VM, 0))
            self._memory = mmap.mmap(-1, mmap.PAGESIZE)
            self._memory[0xF80 : 0xF80 + len(_CODE)] = _CODE
            self._memory[0xFF0 : 0xFF0 + len(_START)] = _START
            at = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
            region = struct.pack("<IIQQQ", 0, 0, _RESET, mmap.PAGESIZE, at)
            fcntl.ioctl(self._vm, _SET_USER_MEMORY_REGION, region)
            self._vcpu = self._keep(fcntl.ioctl(self._vm, _CREATE_VCPU, 0))
            cpuid = bytearray(8 + _ENTRIES * _ENTRY)
            cpuid[:4] = _ENTRIES.to_bytes(4, "little")
            fcntl.ioctl(kvm, _GET_SUPPORTED_CPUID, cpuid)
            fcntl.ioctl(self._vcpu, _SET_CPUID2, cpuid)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _keep(self, descriptor: int) -> int:
        self._open.append(descriptor)
        return descriptor

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._open:
            os.close(self._open.pop())

    @property
    def size(self) -> int:
        """What KVM_CAP_XSAVE2 says: how many bytes KVM_GET_XSAVE2 may give; 4096 before it."""
        return fcntl.ioctl(self._vm, _CHECK_EXTENSION, _CAP_XSAVE2) or SIZE

    def set(self, area: bytes) -> int:
        """SET_XSAVE: 0, or the errno by which KVM refuses the area, which has 4096 bytes."""
        if len(area) != SIZE:
            raise ValueError(f"{len(area)} bytes: KVM would read {SIZE}")
        try:
            fcntl.ioctl(self._vcpu, _SET_XSAVE, bytearray(area))
        except OSError as error:
            return error.errno or -1
        return 0

    def run(self) -> int:
        """Load the state, and save it again: the MXCSR that the virtual CPU had meanwhile."""
        self._memory[_MXCSR] = b"\xff" * 4
        fcntl.ioctl(self._vcpu, _RUN, 0)
        return int.from_bytes(self._memory[_MXCSR], "little")

    def get(self) -> bytes:
        """GET_XSAVE: 4096 bytes, in the standard format."""
        area = bytearray(SIZE)
        fcntl.ioctl(self._vcpu, _GET_XSAVE, area)
        return bytes(area)

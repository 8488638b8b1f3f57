"""Stacks for signals: held against this kernel's own figure, its frames, and figures of others."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import signal
import struct
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import processor
import pytest
from command import fails, run, tell

import xsaveschema as xs
from xsaveschema.errors import MaskError
from xsaveschema.sigstack import MINSIGSTKSZ, SigStack, sigstack

AT_MINSIGSTKSZ, SC_MINSIGSTKSZ, SC_SIGSTKSZ = 51, 249, 250
NAMES = ["bulldozer", "haswell", "skylake", "zen2", "zen4", "sapphire-rapids", "diamond-rapids"]


@pytest.fixture
def here() -> SigStack:
    """This machine's."""
    if why := processor.real():
        pytest.skip(why)
    return sigstack(xs.load_model("host"), processor.xgetbv(0), ia32=_has_ia32())


def _has_ia32() -> bool:
    """Whether this kernel was built with IA32_EMULATION: it has the system calls' entry then."""
    try:
        return "entry_SYSCALL_compat" in Path("/proc/kallsyms").read_text()
    except OSError:
        return True


# What "max sigframe size" says in boot logs that people have published, by CPU and kernel.
@pytest.mark.parametrize(
    ("name", "ia32", "size"),
    [
        ("haswell", True, 1776),
        ("skylake", True, 2032),
        ("zen4", True, 3376),
        ("zen4", False, 2976),
        ("ice-lake-server", True, 3632),
        ("sapphire-rapids", True, 11952),
    ],
)
def test_the_bound_of_boot_logs(name: str, ia32: bool, size: int) -> None:
    assert sigstack(xs.load_model(name), ia32=ia32).minsigstksz == size


def test_this_kernels_own_bound(here: SigStack) -> None:
    getauxval = ctypes.CDLL(None).getauxval
    getauxval.restype = ctypes.c_ulong
    if not (told := getauxval(AT_MINSIGSTKSZ)):
        pytest.skip("this kernel tells no AT_MINSIGSTKSZ: it is older than Linux 5.14")
    assert here.minsigstksz == told


def test_the_c_librarys_sizes(here: SigStack) -> None:
    name, version = platform.libc_ver()
    if name != "glibc" or tuple(map(int, version.split("."))) < (2, 34):
        pytest.skip(f"needs glibc 2.34 or later, not {name} {version}")
    sizes = here.minsigstksz, here.sigstksz
    assert (os.sysconf(SC_MINSIGSTKSZ), os.sysconf(SC_SIGSTKSZ)) == sizes


@pytest.mark.parametrize("name", NAMES)
def test_a_frame_is_the_sum_of_its_parts(name: str) -> None:
    found = sigstack(xs.load_model(name))
    for frame in found.frames:
        taken = [frame.taken(top) for top in range(1 << 20, (1 << 20) + 64)]
        assert max(taken) == frame.size == sum(part.size for part in frame.parts)
        assert frame.size <= found.minsigstksz
        assert sum(frame.components.values()) == frame.xstate_size
    assert found.minsigstksz % 16 == 0
    assert found.frame_size == max(frame.size for frame in found.frames if frame.bits == 64)


# Frames of this kernel: a handler in machine code notes its stack pointer, and the frame's words.

HANDLER = bytes.fromhex(
    "488920"  # mov [rax], rsp
    "488b8ae0000000"  # mov rcx, [rdx+224] (uc_mcontext.fpstate)
    "8b91e0010000 895008"  # mov edx, [rcx+480] (xstate_size); mov [rax+8], edx
    "c3"  # ret, to sigreturn
)
USE_A_TILE = bytes.fromhex(
    "c4e2784907"  # ldtilecfg [rdi]
    "c4e27b49c0"  # tilezero tmm0
    "c3"
)
SA_SIGINFO_ONSTACK = 0x4 | 0x08000000


class _Stack(ctypes.Structure):
    _fields_ = [("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


def _in_child(work: Callable[[], None]) -> int:
    """Run it in a child of its own; the signal that ends it, or 0."""
    child = os.fork()
    if not child:
        status = 1
        try:
            for number in (signal.SIGSEGV, signal.SIGILL):
                signal.signal(number, signal.SIG_DFL)
            work()
            status = 0
        finally:
            os._exit(status)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or status == 0
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


class _Measured:
    """Signals on alternate stacks, each with its end ``top_offset`` bytes beyond a page's start."""

    def __init__(self) -> None:
        self.shared = processor.AlignedBuffer(1 << 17)
        self.note = self.shared.address
        self.end = self.shared.address + (1 << 16)
        self.handler = processor._code(b"\x48\xb8" + struct.pack("<Q", self.note) + HANDLER)

    def deliver(self, size: int, top_offset: int) -> None:
        """Take SIGUSR1 on a stack of ``size`` bytes."""
        libc = processor._libc()
        top = self.end + top_offset
        stack = _Stack(top - size, 0, size)
        assert libc.sigaltstack(ctypes.byref(stack), None) == 0
        at = ctypes.addressof(self.handler)
        action = processor._SigAction(handler=at, flags=SA_SIGINFO_ONSTACK)
        assert libc.sigaction(int(signal.SIGUSR1), ctypes.byref(action), None) == 0
        signal.raise_signal(signal.SIGUSR1)

    @property
    def noted(self) -> tuple[int, int]:
        """The handler's stack pointer, and the xstate_size of its frame."""
        sp, size = struct.unpack_from("<QI", self.shared.view)
        return sp, size


def test_frames_of_this_kernel_take_what_is_said(here: SigStack) -> None:
    measured, frame = _Measured(), here.frame
    for offset in range(0, 64, 7):
        assert _in_child(partial(measured.deliver, 1 << 15, offset)) == 0
        top = measured.end + offset
        assert (top - measured.noted[0], measured.noted[1]) == (
            frame.taken(top),
            frame.xstate_size,
        )


def test_a_stack_below_a_frame_is_a_fault(here: SigStack) -> None:
    """One byte more than the frame is enough, the frame's own size is not."""
    measured, frame = _Measured(), here.frame
    taken = frame.taken(measured.end)
    if taken < MINSIGSTKSZ:
        pytest.skip(f"frames of this machine take {taken} bytes, less than sigaltstack's least")
    assert _in_child(lambda: measured.deliver(taken + 1, 0)) == 0
    release = [int(part) for part in re.findall(r"\d+", platform.release())[:2]]
    if release < [5, 14]:
        pytest.skip("Linux before 5.14 writes below such a stack")
    assert _in_child(lambda: measured.deliver(taken, 0)) == signal.SIGSEGV


def test_a_frame_with_tiles(here: SigStack) -> None:
    """After the first use of a tile; permission alone changes no frame."""
    if not here.dynamic:
        pytest.skip("this machine has no dynamic component")
    measured, config = _Measured(), processor.AlignedBuffer(64)
    config.view[0], config.view[16], config.view[48] = 1, 64, 16  # palette; tmm0: bytes, rows
    sizes = []
    for uses in (False, True):

        def work(uses: bool = uses) -> None:
            assert processor.request_amx()
            if uses:
                processor._call(USE_A_TILE, config.address)
            measured.deliver(1 << 15, 0)

        assert _in_child(work) == 0
        sizes.append((measured.end - measured.noted[0], measured.noted[1]))
    expected = [(frame.taken(measured.end), frame.xstate_size) for frame in here.frames_64]
    assert sizes == expected


def test_what_sigaltstack_refuses_with_permission(here: SigStack) -> None:
    above = here.sigaltstack_above
    if above is None:
        pytest.skip("this machine has no dynamic component")
    measured = _Measured()

    def work() -> None:
        assert processor.request_amx()
        for size, refused in ((above, True), (above + 1, False)):
            stack = _Stack(measured.end - size, 0, size)
            assert bool(processor._libc().sigaltstack(ctypes.byref(stack), None)) is refused

    assert _in_child(work) == 0


# A 32-bit process: an alternate stack of 32 KiB, SIGUSR1, and the stack pointer to standard output.
PROGRAM_32 = r"""
        .globl _start
_start: movl $186, %eax; movl $stack, %ebx; xorl %ecx, %ecx; int $0x80     # sigaltstack
        movl $174, %eax; movl $10, %ebx; movl $action, %ecx
        xorl %edx, %edx; movl $8, %esi; int $0x80                          # rt_sigaction
        movl $20, %eax; int $0x80
        movl %eax, %ebx; movl $37, %eax; movl $10, %ecx; int $0x80         # kill(getpid())
        hlt
handle: movl $bytes + 32768 + OFFSET, %eax; subl %esp, %eax; movl %eax, taken
        movl $4, %eax; movl $1, %ebx; movl $taken, %ecx; movl $4, %edx; int $0x80
        movl $1, %eax; xorl %ebx, %ebx; int $0x80
        .data
stack:  .long bytes + OFFSET, 0, 32768
action: .long handle, FLAGS, 0, 0, 0
taken:  .long 0
        .bss
        .balign 64
bytes:  .skip 32768 + 64
"""


@pytest.mark.parametrize("siginfo", [False, True])
@pytest.mark.parametrize("offset", [0, 12, 40])
def test_frames_of_32_bit_processes(
    here: SigStack, siginfo: bool, offset: int, tmp_path: Path
) -> None:
    flags = 0x08000000 | 4 * siginfo
    source = tmp_path / "frame.S"
    source.write_text(PROGRAM_32)
    gcc = ["gcc", "-m32", "-nostdlib", "-static", f"-DFLAGS={flags}", f"-DOFFSET={offset}"]
    program = tmp_path / "frame"
    try:
        built = subprocess.run([*gcc, source, "-o", program], capture_output=True, text=True)
        if built.returncode:
            pytest.skip(f"gcc builds no 32-bit programs here: {built.stderr.splitlines()[-1]}")
        done = subprocess.run([program], capture_output=True, timeout=10)
    except FileNotFoundError as error:
        pytest.skip(f"needs {error.filename}")
    except OSError as error:
        pytest.skip(f"this kernel runs no 32-bit programs: {os.strerror(error.errno or 0)}")
    (taken,) = struct.unpack("<I", done.stdout)
    (frame,) = (f for f in here.frames if f.bits == 32 and f.siginfo is siginfo)
    assert taken == frame.taken(offset)  # the stack is at a multiple of 64


# What is said of other CPUs.


def test_dynamic_components() -> None:
    found = sigstack(xs.load_model("sapphire-rapids"))
    assert [frame.xstate_size for frame in found.frames] == [2816, 11008, 2816, 2816]
    assert found.frame.layout.mask == 0x202E7  # as a task that has not used tiles has it
    assert found.largest.layout.mask == 0x602E7
    without = sigstack(xs.load_model("sapphire-rapids"), 0xE7)
    assert (without.dynamic, without.sigaltstack_above) == (0, None)
    assert without.frame == without.largest


def test_what_linux_does_not_enable_is_left_out() -> None:
    found = sigstack(xs.load_model("bulldozer"))
    assert found.left_out == ("lwp",)
    assert found.frame.xstate_size == 832
    assert "lwp: not enabled by Linux, and in no frame" in str(found)


@pytest.mark.parametrize(
    ("xcr0", "says"),
    [
        (0x5, "without x87 and SSE"),
        (0, "without x87 and SSE"),
        (0x207 | 1 << 18, "zen4"),
        (1 << 64, "64 bits"),
    ],
)
def test_masks_that_are_refused(xcr0: int, says: str) -> None:
    with pytest.raises(MaskError, match=says):
        sigstack(xs.load_model("zen4"), xcr0)


def test_how_much_the_constants_are_short() -> None:
    found = sigstack(xs.load_model("sapphire-rapids"))
    assert (found.short(2048), found.short(8192), found.short(found.minsigstksz)) == (
        found.frame_size + 1 - 2048,
        found.frame_size + 1 - 8192,
        0,
    )


def test_the_command() -> None:
    text = run("sigstack", "zen4").stdout
    assert max(map(len, text.splitlines())) <= 80
    assert text.rstrip("\n") == str(sigstack(xs.load_model("zen4")))
    told = tell("sigstack", "zen4", "--xcr0", "x87,sse,avx", "--no-ia32")
    assert (told["minsigstksz"], told["frame_size"]) == (1360, 1355)
    assert [frame["bits"] for frame in told["frames"]] == [64]
    assert "XCR0 0x60207 on zen4" in fails("sigstack", "zen4", "--xcr0", "0x60207")
    assert "no-such-cpu" in fails("sigstack", "no-such-cpu")

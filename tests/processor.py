"""The machine's own processor as the judge: CPUID, XGETBV, XRSTOR64 and the XSAVE family.

ctypes calls hand-assembled machine code in an executable mapping. One program does a whole
experiment: it saves the thread's own state, loads `prior` and then `area` by XRSTOR64, reads
XINUSE, saves by the instruction under test, and loads the own state back. No other instruction in
between touches a register that XSAVE manages: neither Python nor libc can disturb the measurement,
and an exception unmasked by a loaded MXCSR or FCW never fires. A fault ends the experiment, not
the process: a signal handler, machine code too, notes it and goes on at "load the own state".

What a reader of results must know:
- AMD saves FOP, FIP and FDP (bytes 6..23) as 0 unless an x87 exception is pending (FSW.ES).
- XRSTOR in standard form loads MXCSR from memory even where XSTATE_BV[1] = 0; the initial state
  is therefore loaded by `INITIAL`, whose MXCSR is 0x1F80, not by 576 zero bytes.
- An interrupt between load and save can leave initial XMM registers in use (XSTATE_BV[1], XINUSE;
  seen on a Zen 3 guest, 3 times in 10,000). So each experiment is repeated until two agree.
- XINUSE[1] as XGETBV gives it is 1 also for MXCSR other than 0x1F80 (seen on Zen 3 and Zen 4).
- A PKRU that denies key 0 locks the process out of its own memory: such areas are a ValueError.
- An emulated processor (QEMU's TCG) shows that code copes with what such a CPU announces, no more:
  it takes reserved MXCSR bits and any alignment, loses FIP and FDP, and tracks nothing.

Sizes and offsets are in bytes. The module imports on any machine; ask `available()` before use, or
`real()` where an emulator must not judge.
"""

import ctypes
import mmap
import os
import platform
import random
import signal
import struct
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Literal, NamedTuple

SaveInstruction = Literal["xsave64", "xsaveopt64", "xsavec64", "fxsave64"]

ALL = (1 << 64) - 1
"""The RFBM of every component; the processor takes RFBM & XCR0."""

INITIAL = struct.pack("<H22xI548x", 0x37F, 0x1F80)
"""A standard area that loads the initial state of every component, and MXCSR 0x1F80."""

_FEATURES = ("xsaveopt", "xsavec", "xgetbv1", "xsaves", "xfd")  # CPUID leaf 0xD.1, EAX bits 0..4
_INSTRUCTIONS: dict[SaveInstruction, tuple[str, bytes]] = {  # each saves to [rsi]
    "xsave64": ("", b"\x48\x0f\xae\x26"),
    "xsaveopt64": ("xsaveopt", b"\x48\x0f\xae\x36"),
    "xsavec64": ("xsavec", b"\x48\x0f\xc7\x26"),
    "fxsave64": ("", b"\x48\x0f\xae\x06"),
}
_CPUID = bytes.fromhex(
    "53 4989d0"  # push rbx; mov r8, rdx
    "89f8 89f1 0fa2"  # mov eax, edi; mov ecx, esi; cpuid
    "418900 41895804"  # mov [r8], eax; mov [r8+4], ebx
    "41894808 4189500c"  # mov [r8+8], ecx; mov [r8+12], edx
    "5b c3"  # pop rbx; ret
)
_XGETBV = bytes.fromhex(
    "89f9 0f01d0"  # mov ecx, edi; xgetbv (which clears the high halves of rax and rdx)
    "48c1e220 4809d0 c3"  # shl rdx, 32; or rax, rdx; ret
)
# The experiment: rdi is the address of a job, u64 fields; they are what the program and the handler
# find in memory. It changes rax, rcx, rdx and rsi only, and uses no stack.
_JOB = (
    *("own", "prior", "area", "area_rfbm"),  # 0, 8, 16: addresses; 24
    *("after", "after_rfbm"),  # 32: address to save to; 40
    *("stage", "xinuse"),  # 48: out: 1 until prior is loaded, then 2; 56: out: XGETBV(1)
    *("signal", "trap"),  # 64, 72: out: the signal of a fault and its vector
    *("recover", "finished"),  # 80: address to go on at after a fault; 88: out: 1 at the end
)
_OWN = "488b37 83c8ff 83caff"  # mov rsi, [rdi]; or eax, -1; or edx, -1
_LOAD = bytes.fromhex(
    _OWN + "480fae26"  # xsave64 [rsi]
    "c7473001000000 488b7708"  # mov dword [rdi+48], 1; mov rsi, [rdi+8]
    "480fae2e"  # xrstor64 [rsi], with every component
    "c7473002000000 488b7710"  # mov dword [rdi+48], 2; mov rsi, [rdi+16]
    "8b4718 8b571c 480fae2e"  # mov eax, [rdi+24]; mov edx, [rdi+28]; xrstor64 [rsi]
)
_XINUSE = bytes.fromhex(
    "b901000000 0f01d0"  # mov ecx, 1; xgetbv
    "894738 89573c"  # mov [rdi+56], eax; mov [rdi+60], edx
)
_SAVE = bytes.fromhex("488b7720 8b4728 8b572c")  # mov rsi, [rdi+32]; eax, [rdi+40]; edx, [rdi+44]
_RECOVER = bytes.fromhex(
    _OWN + "480fae2e"  # xrstor64 [rsi]
    "c7475801000000 c3"  # mov dword [rdi+88], 1; ret
)
_HANDLER = bytes.fromhex(  # rdi: signal; rdx: ucontext, whose general registers begin at byte 40
    "488b4a68 48897940"  # mov rcx, [rdx+104] (RDI: the job); mov [rcx+64], rdi
    "488b82c8000000 48894148"  # mov rax, [rdx+200] (TRAPNO); mov [rcx+72], rax
    "488b4150 488982a8000000"  # mov rax, [rcx+80]; mov [rdx+168], rax (RIP)
    "c3"  # ret, to sigreturn
)


class Case(NamedTuple):
    """XRSTOR64 of `area` under `rfbm`, over the state of `prior`, a legal area.

    `offset`: how far beyond a 64-byte boundary the area lies, 0..63. Bytes behind an area's end
    are zero.
    """

    area: bytes
    rfbm: int = ALL
    prior: bytes = INITIAL
    offset: int = 0


class RestoreResult(NamedTuple):
    """What a restore did."""

    after: bytes  # the state then: XSAVE64 of XCR0 into zeroed memory; empty after a fault
    xinuse: int | None  # XGETBV(1) just before that; None where the processor lacks it
    signal: int  # 0, or that of the fault
    trap: int  # vector of the fault: 13 is #GP; 0 if the child died of the signal

    @property
    def faulted(self) -> bool:
        return self.signal != 0


class AlignedBuffer:
    """Zeroed memory on a 64-byte boundary (a page's, in fact), shared with forked children."""

    def __init__(self, size: int) -> None:
        self._memory = mmap.mmap(-1, size)
        self.view = memoryview(self._memory)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))


class _SigAction(ctypes.Structure):  # of glibc and musl
    _fields_ = [
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    ]


_Function = ctypes.PYFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * 3)  # keeps the GIL


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@cache
def _code(machine_code: bytes) -> ctypes.c_char:
    """The first byte of `machine_code` in memory that is executable and no longer writable."""
    memory = mmap.mmap(-1, len(machine_code), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.write(machine_code)
    first = ctypes.c_char.from_buffer(memory)  # keeps the mapping alive
    start, size = ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(len(machine_code))
    if _libc().mprotect(start, size, mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), "mprotect gives no executable memory")
    return first


def _call(machine_code: bytes, rdi: int, rsi: int = 0, rdx: int = 0) -> int:
    return int(_Function(ctypes.addressof(_code(machine_code)))(rdi, rsi, rdx))


@cache
def available() -> str | None:
    """None if this machine's processor can be asked, else the reason why not."""
    machine = f"{sys.platform} on {platform.machine()}"
    if machine != "linux on x86_64" or sys.maxsize < 1 << 32:
        return f"needs 64-bit Linux on x86-64, not {machine}"
    try:
        osxsave_xsave = cpuid(1)[2] >> 26 & 3
    except OSError as error:
        return str(error)
    return None if osxsave_xsave == 3 else "the processor or the operating system has no XSAVE"


def real() -> str | None:
    """None if this machine's processor can be asked and is no emulated one, else why not."""
    return available() or (EMULATED if emulated() else None)


EMULATED = "the processor is an emulated one (TCG), which does not judge this"


@cache
def emulated() -> bool:
    """Whether CPUID leaf 0x40000000 has TCG's name (QEMU's target/i386/cpu.c, cpu_x86_cpuid)."""
    in_guest = cpuid(1)[2] >> 31
    return bool(in_guest) and struct.pack("<III", *cpuid(0x40000000)[1:]) == b"TCGTCGTCGTCG"


@cache
def cpuid(leaf: int, subleaf: int = 0) -> tuple[int, int, int, int]:
    """EAX, EBX, ECX and EDX."""
    out = (ctypes.c_uint32 * 4)()
    _call(_CPUID, leaf, subleaf, ctypes.addressof(out))
    return out[0], out[1], out[2], out[3]


def has(feature: str) -> bool:
    """Whether CPUID leaf 0xD.1 has xsaveopt, xsavec, xgetbv1, xsaves or xfd."""
    return bool(cpuid(0xD, 1)[0] >> _FEATURES.index(feature) & 1)


def xgetbv(index: int) -> int:
    """XCR0 (index 0) or, where the processor has xgetbv1, XCR0 & XINUSE (index 1)."""
    if index and not (index == 1 and has("xgetbv1")):
        raise ValueError(f"XGETBV({index}) would fault on this processor")
    return _call(_XGETBV, index)


@cache
def mxcsr_mask() -> int:
    """The processor's MXCSR_MASK, from FXSAVE64; where that stores 0 it is 0xFFBF (SDM 11.6.6)."""
    return int.from_bytes(save("fxsave64", size=512)[28:32], "little") or 0xFFBF


@cache
def request_amx() -> bool:
    """Ask Linux to let this process use TILEDATA from now on; False where it may not."""
    arch_prctl, arch_req_xcomp_perm, tiledata = 158, 0x1023, 18
    wanted = xgetbv(0) >> tiledata & 1
    return bool(wanted and _libc().syscall(arch_prctl, arch_req_xcomp_perm, tiledata) == 0)


def legal_tilecfg(rng: random.Random) -> bytes:
    """A TILECFG that LDTILECFG takes: palette 1; a tile has rows and bytes a row, or neither."""
    shapes = [(rng.randint(1, 16), rng.randint(1, 64)) for _ in range(8)]
    rows, colsb = zip(*(shape if rng.random() < 0.7 else (0, 0) for shape in shapes), strict=True)
    return struct.pack("<BB14x8H16x8B8x", 1, rng.randrange(256), *colsb, *rows)


def layout(xcomp_bv: int = 0) -> dict[int, slice]:
    """Where each component of XCR0 lies; compacted, those of `xcomp_bv`, if that has bit 63.

    x87 is given as bytes 0..159, although MXCSR and its mask (24..31) are not part of it.
    """
    slots, end, xcr0 = {0: slice(0, 160), 1: slice(160, 416)}, 576, xgetbv(0)
    for number in range(2, 63):
        if xcr0 >> number & 1 and (xcomp_bv >> number & 1 or not xcomp_bv >> 63):
            size, offset, flags, _ = cpuid(0xD, number)
            if xcomp_bv >> 63:
                offset = end + (-end % 64 if flags & 2 else 0)
                end = offset + size
            slots[number] = slice(offset, offset + size)
    return slots


def build_area(
    state: Mapping[int, bytes],
    *,
    mxcsr: int = 0x1F80,
    xcomp_bv: int = 0,
    xstate_bv: int | None = None,
) -> bytes:
    """An area of `layout(xcomp_bv)` with these components, the rest zero; legal or not.

    XSTATE_BV names the components of `state` unless it is given.
    """
    slots = layout(xcomp_bv)
    area = bytearray(max(576, *(slot.stop for slot in slots.values())))
    for number, data in state.items():
        if len(data) != len(area[slots[number]]):
            raise ValueError(f"component {number} has {len(area[slots[number]])} bytes")
        area[slots[number]] = data
    if xstate_bv is None:
        xstate_bv = sum(1 << number for number in state)
    struct.pack_into("<II", area, 24, mxcsr, 0)
    struct.pack_into("<QQ", area, 512, xstate_bv, xcomp_bv)
    return bytes(area)


def save(
    instruction: SaveInstruction,
    initial_area: bytes = INITIAL,
    rfbm: int = ALL,
    *,
    size: int,
    prefill: int | bytes = 0,
    load_rfbm: int = ALL,
) -> bytes:
    """Load `initial_area` (under `load_rfbm`) over the initial state, then save under `rfbm`.

    The result is `size` bytes of memory that held `prefill` before: one byte value, or as many
    bytes as given and zeros. ValueError if the area faults or the processor lacks the instruction.
    """
    return save_with_xinuse(instruction, Case(initial_area, load_rfbm), rfbm, size, prefill)[0]


def save_with_xinuse(
    instruction: SaveInstruction, load: Case, rfbm: int, size: int, prefill: int | bytes = 0
) -> tuple[bytes, int | None]:
    """As `save`, with XGETBV(1) just before it, or None where the processor lacks that."""
    feature = _INSTRUCTIONS[instruction][0]
    if feature and not has(feature):
        raise ValueError(f"this processor has no {instruction.upper()}")
    experiment = _Experiment(load, instruction, rfbm, size, prefill)
    with _catching_faults():
        experiment.run()
    result = experiment.result()
    if result.faulted:
        raise ValueError(f"the area cannot be loaded: signal {result.signal}, trap {result.trap}")
    return result.after, result.xinuse


def restore(
    area: bytes, rfbm: int = ALL, *, prior: bytes = INITIAL, offset: int = 0
) -> RestoreResult:
    """Do one `Case` in a forked child."""
    return restore_all([Case(area, rfbm, prior, offset)])[0]


def restore_all(cases: Sequence[Case]) -> list[RestoreResult]:
    """Do each case, from its own prior state, in a forked child per 256 of them.

    A fault does not end the child. Should a signal end it all the same, that case gets the signal
    and a new child goes on with the next. ValueError if a `prior` faults.
    """
    results: list[RestoreResult] = []
    for first in range(0, len(cases), 256):  # bounds the memory
        batch = [_Experiment(case, "xsave64", size=cpuid(0xD)[1]) for case in cases[first:][:256]]
        while waiting := [experiment for experiment in batch if not experiment.get("finished")]:
            status = _run_in_child(waiting)
            died = next((one for one in waiting if not one.get("finished")), None)
            if died and os.WIFSIGNALED(status):
                died.set(signal=os.WTERMSIG(status), finished=1)
            elif status:
                raise RuntimeError(f"the child failed (wait status {status}), see stderr")
        results += [experiment.result() for experiment in batch]
    return results


class _Experiment:
    """A job and its four areas, in memory that a child shares."""

    def __init__(
        self,
        case: Case,
        instruction: SaveInstruction,
        rfbm: int = ALL,
        size: int = 0,
        prefill: int | bytes = 0,
    ) -> None:
        if not 0 <= case.offset < 64:
            raise ValueError(f"offset {case.offset} is not 0..63")
        _refuse_lockout(case.prior, ALL)
        _refuse_lockout(case.area, case.rfbm)
        xinuse = _XINUSE if has("xgetbv1") else b""
        program = _LOAD + xinuse + _SAVE + _INSTRUCTIONS[instruction][1]
        self._program = program + _RECOVER
        # Room for what any instruction can touch, however short the area is, and for the offset.
        room = max(_reach(), size, len(case.area), len(case.prior)) // 64 * 64 + 128
        own, prior, area, self._after = (128 + part * room for part in range(4))
        self._end = self._after + size
        self._buffer = AlignedBuffer(self._after + room)
        area += case.offset
        fill = prefill[:size] if isinstance(prefill, bytes) else bytes([prefill]) * size
        self._fill = fill.ljust(size, b"\0")
        for at, data in ((prior, case.prior), (area, case.area)):
            self._buffer.view[at : at + len(data)] = data
        base = self._buffer.address
        self.set(own=base + own, prior=base + prior, area=base + area, after=base + self._after)
        self.set(area_rfbm=case.rfbm & ALL, after_rfbm=rfbm & ALL)
        self.set(recover=ctypes.addressof(_code(self._program)) + len(program))

    def set(self, **fields: int) -> None:
        for name, value in fields.items():
            struct.pack_into("<Q", self._buffer.view, 8 * _JOB.index(name), value)

    def get(self, name: str) -> int:
        return int.from_bytes(self._buffer.view[8 * _JOB.index(name) :][:8], "little")

    def run(self) -> None:
        """Run it until two outcomes in a row agree: see the module's text on interrupts."""
        outcome = self._run_once()
        for _ in range(100):
            before, outcome = outcome, self._run_once()
            if outcome == before:
                return
        raise RuntimeError("no two outcomes agree")

    def _run_once(self) -> bytes:
        self.set(stage=0, xinuse=0, signal=0, trap=0, finished=0)
        self._buffer.view[self._after : self._end] = self._fill
        _call(self._program, self._buffer.address)
        return bytes(self._buffer.view[:128]) + self._buffer.view[self._after : self._end]

    def result(self) -> RestoreResult:
        fault, trap = self.get("signal"), self.get("trap")
        if fault and self.get("stage") == 1:
            raise ValueError(f"the prior area cannot be loaded: signal {fault}, trap {trap}")
        after = b"" if fault else bytes(self._buffer.view[self._after : self._end])
        return RestoreResult(after, self.get("xinuse") if has("xgetbv1") else None, fault, trap)


@cache
def _reach() -> int:
    """No instruction reads or writes an area beyond this, in either format."""
    sizes = [size for i in range(2, 63) if (size := cpuid(0xD, i)[0])]
    return max(cpuid(0xD)[2], 576 + sum(sizes) + 63 * len(sizes))


def _refuse_lockout(area: bytes, rfbm: int) -> None:
    xstate_bv, xcomp_bv = struct.unpack_from("<QQ", area.ljust(528, b"\0"), 512)
    slot = layout(xcomp_bv).get(9)
    if slot and rfbm & xstate_bv & 1 << 9 and any(byte & 3 for byte in area[slot][:1]):
        raise ValueError(f"PKRU at byte {slot.start} would deny key 0: clear its bits 0 and 1")


@contextmanager
def _catching_faults() -> Iterator[None]:
    """While this lasts, SIGSEGV (#GP), SIGBUS (#AC) and SIGILL (#UD, #NM) go to `_HANDLER`."""
    action = _SigAction(handler=ctypes.addressof(_code(_HANDLER)), flags=4)  # SA_SIGINFO
    before = {number: _SigAction() for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL)}
    for number, old in before.items():
        _libc().sigaction(int(number), ctypes.byref(action), ctypes.byref(old))
    try:
        yield
    finally:
        for number, old in before.items():
            _libc().sigaction(int(number), ctypes.byref(old), None)


def _run_in_child(experiments: list[_Experiment]) -> int:
    """Run them in a child that does nothing else; its wait status."""
    with warnings.catch_warnings():
        # Python 3.12 warns of a fork beside other threads; this child takes none of their locks.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    status = 1
    try:
        with _catching_faults():
            for experiment in experiments:
                experiment.run()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)

"""What sigreturn makes of frames: held against this machine's kernel, frame by frame."""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import processor
import pytest
from artefact_areas import FRAME, FRAME_32, one
from command import fails, run, tell
from sigreturns import sigreturn

import xsaveschema as xs
from xsaveschema import artefacts
from xsaveschema.artefacts.sigreturn import FRAME_RULES, LOADED_OTHERWISE, Bits
from xsaveschema.errors import MaskError, TooShortError
from xsaveschema.model import CpuModel, bits_of

LEGACY, AVX, VECTORS = 3, 4, 0xE6
WORDS = struct.Struct("<IIQI")
MAGIC1, MAGIC2 = 0x46505853, 0x46505845
Mutant = Callable[[bytearray, int], None]


def put(fmt: str, at: int, value: int) -> Mutant:
    """A frame with this value at this byte; a negative place counts from xstate_size."""

    def change(frame: bytearray, size: int) -> None:
        struct.pack_into(fmt, frame, at if at >= 0 else size, value)

    return change


def sized(extended: int, xstate: int) -> Mutant:
    """Sizes that differ from the right ones by so much; the second magic word moves along."""

    def change(frame: bytearray, size: int) -> None:
        frame.extend(bytes(max(0, xstate)))
        struct.pack_into("<I", frame, size + xstate, MAGIC2)
        struct.pack_into("<I", frame, 468, size + 4 + extended)
        struct.pack_into("<I", frame, 480, size + xstate)

    return change


def compacts(frame: bytearray, size: int) -> None:
    """The same state in the compacted format, in the frame's own room."""
    model = _host()
    mask = WORDS.unpack_from(frame, 464)[2]
    area = xs.to_compacted(bytes(frame[:size]), model, xcomp_bv=mask).data
    words = frame[464:512]
    frame[: len(area)] = area
    frame[464:512] = words


SEGV = "SIGSEGV"
# The components that are loaded from the frame (of those that it has), or SIGSEGV.
CASES: dict[str, tuple[Mutant, int | str, list[str]]] = {
    "as it was built": (put("<I", 508, 0), -1, []),
    "software's bytes": (put("<I", 440, 7), -1, []),
    "extended_size + 1": (sized(1, 0), -1, []),
    "extended_size = xstate_size": (sized(-4, 0), -1, []),
    "extended_size below xstate_size": (sized(-5, 0), LEGACY, ["frame-size"]),
    "magic1": (put("<I", 464, MAGIC1 + 1), LEGACY, ["frame-magic1"]),
    "magic2": (put("<I", -1, MAGIC2 + 1), LEGACY, ["frame-magic2"]),
    "xstate_size 575": (put("<I", 480, 575), LEGACY, ["frame-size"]),
    "xstate_size + 64": (sized(64, 64), LEGACY, ["frame-size"]),
    "xstate_size huge": (put("<I", 480, 1 << 31), LEGACY, ["frame-size"]),
    "xfeatures without AVX": (put("<Q", 472, LEGACY), LEGACY, ["frame-xfeatures"]),
    "no xfeatures": (put("<Q", 472, 0), 0, ["frame-xfeatures"]),
    "xfeatures of more than there is": (put("<Q", 472, (1 << 64) - 1), -1, []),
    "header byte 18": (put("<B", 530, 1), SEGV, ["header-16-23"]),
    "header byte 28": (put("<B", 540, 1), -1, []),
    "XCOMP_BV 1": (put("<Q", 520, 1), SEGV, ["xcomp-bv-form"]),
    "XSTATE_BV bit 40": (put("<B", 517, 1), SEGV, ["xstate-bv-xcr0"]),
    "MXCSR": (put("<I", 24, 0x80001F80), SEGV, ["mxcsr"]),
    "compacted": (compacts, -1, []),
}


def _host() -> CpuModel:
    if why := processor.real():
        pytest.skip(why)
    return xs.load_model("host")


def _dynamic(model: CpuModel) -> int:
    """Those that a new task has not used yet."""
    return sum(c.bit for c in model.components.values() if c.xfd) & processor.xgetbv(0)


def _state(model: CpuModel, xcr0: int) -> xs.XsaveArea:
    """An area of this machine with every vector register in use, each of random values."""
    area = xs.XsaveArea.parse(bytes(xs.XsaveArea.new(model)), model)
    for number in bits_of(xcr0 & VECTORS):
        component = model.by_number[number]
        for leaf in component.leaves:
            if leaf.size > 4:
                value = random.Random(leaf.path).getrandbits(8 * leaf.size)
                area[component.name][leaf.path] = value
    area.registers["mxcsr"] = 0x9FC0
    return area


@pytest.mark.parametrize("case", CASES)
def test_frames_as_this_kernel_takes_them(case: str) -> None:
    change, outcome, rules = CASES[case]
    model = _host()
    xcr0 = processor.xgetbv(0)
    if case == "compacted" and not processor.has("xsavec"):
        pytest.skip("this processor has no compacted format")
    if not xcr0 & AVX:
        pytest.skip("this machine has nothing but x87 and SSE to lose")
    area, user = _state(model, xcr0), xcr0 & ~_dynamic(model)
    frame = bytearray(artefacts.build_frame(area, xcr0=user))
    change(frame, len(frame) - 4)
    faults = artefacts.check_frame(frame, model, xcr0=xcr0, xfd=_dynamic(model))
    assert [fault.rule for fault in faults] == rules
    done = sigreturn(bytes(frame))
    if isinstance(outcome, str):
        assert done.signal == signal.SIGSEGV
        assert faults[0].rule not in LOADED_OTHERWISE
        return
    assert done.signal == 0
    assert all(fault.rule in LOADED_OTHERWISE for fault in faults)
    loaded = xs.XsaveArea.parse(done.after, model)
    for number in bits_of(xcr0 & VECTORS):
        component = model.by_number[number]
        for leaf in component.leaves:
            if leaf.size > 4:
                path = leaf.path
                wanted = area[component.name][path] if outcome >> number & 1 else 0
                assert loaded[component.name][path] == wanted, f"{component.name}.{path}"
    assert loaded.registers["mxcsr"] == (0x9FC0 if outcome & 2 else 0x1F80)


def test_x87_and_sse_alone_are_loaded_in_use_or_not() -> None:
    model = _host()
    frame = bytearray(artefacts.build_frame(_state(model, LEGACY), xcr0=LEGACY))
    frame[512:520], frame[-4:] = bytes(8), bytes(4)
    (fault,) = artefacts.check_frame(frame, model)
    assert fault.message.endswith("lost: no component in use")
    xmm = xs.XsaveArea.parse(sigreturn(bytes(frame)).after, model).registers["xmm3"]
    assert xmm == int.from_bytes(frame[208:224], "little")
    assert xmm != 0


def test_a_reserved_mxcsr_is_refused_without_magic_too() -> None:
    model = _host()
    frame = bytearray(artefacts.build_frame(_state(model, LEGACY), xcr0=LEGACY))
    frame[27], frame[464] = 0x80, 0
    faults = artefacts.check_frame(frame, model)
    assert [fault.rule for fault in faults] == ["mxcsr", "frame-magic1"]
    assert sigreturn(bytes(frame)).signal == signal.SIGSEGV


# What no kernel is asked.


def test_the_frame_of_a_zen4_is_taken() -> None:
    assert artefacts.check_frame(FRAME, xs.load_model("zen4"), xcr0=0xE7) == []


def test_a_frame_that_ends_too_early() -> None:
    zen4 = xs.load_model("zen4")
    (fault,) = artefacts.check_frame(FRAME[:-1], zen4, xcr0=0xE7)
    assert (fault.rule, fault.offset) == ("frame-ends", 2435)
    with pytest.raises(TooShortError, match="the frame has 575 bytes"):
        artefacts.check_frame(FRAME[:575], zen4)


def test_a_component_beyond_xstate_size_is_loaded_from_behind() -> None:
    frame = bytearray(FRAME[:832] + MAGIC2.to_bytes(4, "little"))
    struct.pack_into("<I", frame, 468, 836)
    struct.pack_into("<I", frame, 480, 832)
    faults = artefacts.check_frame(frame, xs.load_model("zen4"), xcr0=0xE7)
    assert {fault.rule for fault in faults} == {"frame-reach"}
    assert faults[0].message == "opmask stands at 832..896, beyond xstate_size 832"


def test_a_frame_with_tiles_in_a_task_without() -> None:
    """The frame is longer than the task's own: all but x87 and SSE is lost."""
    spr = xs.load_model("spr")
    area = xs.XsaveArea.parse(xs.samples.read("amx-xsavec"), spr)
    frame = artefacts.build_frame(area)
    assert artefacts.check_frame(frame, spr) == []
    (fault,) = artefacts.check_frame(frame, spr, xfd=1 << 18)
    assert fault.rule == "frame-size"
    assert fault.message.endswith("avx, opmask, zmm_hi256, hi16_zmm, tilecfg, tiledata")


@pytest.mark.shared
@pytest.mark.parametrize(("name", "which"), [("64-amx-unused", 0), ("64-amx-used", 1)])
def test_frames_of_a_cpu_with_tiles(name: str, which: int, shared: Path) -> None:
    """As that CPU's kernel wrote them, before and after the first use of a tile."""
    data = (shared / "artefacts" / f"sigframe{name}.bin").read_bytes()
    spr = xs.load_model("spr")
    frame = xs.sigstack(spr, 0x600E7).frames_64[which]
    assert WORDS.unpack_from(data, 464)[2:] == (frame.layout.mask, frame.xstate_size)
    assert artefacts.check_frame(data, spr, xcr0=0x600E7, xfd=0 if which else 1 << 18) == []
    area = one(data, "spr").area
    built = artefacts.build_frame(area)  # which leaves nothing of the stack between components
    assert len(built) == frame.xstate_size + 4
    assert xs.normalise(one(built, "spr").area) == xs.normalise(area)


@pytest.mark.parametrize(
    ("at", "value", "rules"),
    [
        (520, 1, ["linux-compacted"]),
        (540, 1, ["linux-header"]),
        (517, 1, ["linux-xstate-bv"]),
        (27, 0x80, ["linux-mxcsr"]),
        (464, 0, ["frame-magic1"]),
    ],
)
def test_32_bit_frames_are_judged_as_ptrace_does(at: int, value: int, rules: list[str]) -> None:
    frame = bytearray(FRAME)
    struct.pack_into("<I", frame, 468, 2436 + 112)
    zen4 = xs.load_model("zen4")
    assert artefacts.check_frame(frame, zen4, xcr0=0xE7) == []
    frame[at] = value
    assert [fault.rule for fault in artefacts.check_frame(frame, zen4, xcr0=0xE7)] == rules


@pytest.mark.parametrize(
    ("options", "says"),
    [({"xfd": 1 << 2}, "cannot disable avx"), ({"xcr0": 1 << 62}, "lwp|bits|component62")],
)
def test_what_is_asked_wrongly(options: dict[str, Any], says: str) -> None:
    with pytest.raises(MaskError, match=says):
        artefacts.check_frame(FRAME, xs.load_model("zen4"), **options)
    wrong: Any = 16
    bits: Bits = wrong
    with pytest.raises(xs.XsaveError, match="32 or 64"):
        artefacts.check_frame(FRAME, xs.load_model("zen4"), bits=bits)


def test_x87_of_a_32_bit_frame_stays_as_it_is(tmp_path: Path) -> None:
    """It stands in the FSAVE image, too, and sigreturn takes it from there."""
    path, out = tmp_path / "frame", tmp_path / "out"
    path.write_bytes(FRAME_32)
    artefacts.patch(path, out, {"k1": 5})
    assert one(out.read_bytes()).area.registers["k1"] == 5
    with pytest.raises(artefacts.ArtefactError, match="FSAVE image"):
        artefacts.patch(path, out, {"st0": 5})


# A 32-bit process loads YMM0, and its handler writes VALUE at a byte of its own frame. What is then
# in YMM0 goes to standard output.
PROGRAM_32 = r"""
        .globl _start
_start: movl $174, %eax; movl $10, %ebx; movl $action, %ecx
        xorl %edx, %edx; movl $8, %esi; int $0x80                          # rt_sigaction
        vmovups ones, %ymm0
        movl $20, %eax; int $0x80
        movl %eax, %ebx; movl $37, %eax; movl $10, %ecx; int $0x80         # kill(getpid())
        vmovups %ymm0, ymm
        movl $4, %eax; movl $1, %ebx; movl $ymm, %ecx; movl $32, %edx; int $0x80
        movl $1, %eax; xorl %ebx, %ebx; int $0x80
handle: movl 12(%esp), %ecx; movl 96(%ecx), %ecx                           # uc_mcontext.fpstate
        addl $112, %ecx
        movl $AT, %eax; testl %eax, %eax; jns 1f; movl 480(%ecx), %eax     # xstate_size
1:      movb $VALUE, (%ecx,%eax); ret
        .data
action: .long handle, 4, 0, 0, 0
ones:   .fill 32, 1, 0x11
ymm:    .fill 32, 1, 0
"""


@pytest.mark.parametrize(
    ("at", "value", "outcome"),
    [
        (508, 0, 32),
        (-1, 0, 16),
        (464, 0, 16),
        (540, 1, SEGV),
        (520, 1, SEGV),
        (517, 1, SEGV),
        (27, 0x80, SEGV),
    ],
)
def test_32_bit_frames_as_this_kernel_takes_them(
    at: int, value: int, outcome: int | str, tmp_path: Path
) -> None:
    """How many bytes of YMM0 are left: all, XMM0's, or SIGSEGV."""
    _host()
    if not processor.xgetbv(0) & AVX:
        pytest.skip("this machine has no AVX")
    source, program = tmp_path / "frame.S", tmp_path / "frame"
    source.write_text(PROGRAM_32)
    gcc = ["gcc", "-m32", "-nostdlib", "-static", f"-DAT={at}", f"-DVALUE={value}"]
    try:
        built = subprocess.run([*gcc, source, "-o", program], capture_output=True, text=True)
        if built.returncode:
            pytest.skip(f"gcc builds no 32-bit programs here: {built.stderr.splitlines()[-1]}")
        done = subprocess.run([program], cwd=tmp_path, capture_output=True, timeout=10)
    except FileNotFoundError as error:
        pytest.skip(f"needs {error.filename}")
    except OSError as error:
        pytest.skip(f"this kernel runs no 32-bit programs: {os.strerror(error.errno or 0)}")
    if isinstance(outcome, str):
        assert done.returncode == -signal.SIGSEGV
    else:
        assert done.stdout == b"\x11" * outcome + bytes(32 - outcome)


# The command line.


def test_check_of_a_frame() -> None:
    assert tell("check", "sample:zen4-sigframe", "--target", "sigreturn")["faults"] == []
    said = run("check", "sample:zen4-kernel-core", "--target", "sigreturn", code=1).stdout
    assert "takes this area, and loads other bytes than were saved" in said
    assert "lost: avx, opmask, zmm_hi256, hi16_zmm" in said
    assert "frame-magic1: " in said


def test_check_of_damaged_frames(tmp_path: Path) -> None:
    path = tmp_path / "frame"
    path.write_bytes(FRAME[:2432] + bytes(4))
    told = tell("check", str(path), "--target", "sigreturn", code=1)
    assert [fault["rule"] for fault in told["faults"]] == ["frame-magic2"]
    path.write_bytes(FRAME[:-1])
    told = tell("check", str(path), "--target", "sigreturn", code=1)
    assert [fault["rule"] for fault in told["faults"]] == ["frame-ends"]


@pytest.mark.parametrize("more", [["--fix", "x"], ["--rfbm", "7"], ["--xss", "0"]])
def test_options_that_sigreturn_has_not(more: list[str]) -> None:
    said = fails("check", "sample:zen4-sigframe", "--target", "sigreturn", *more, code=2)
    assert "do not go with sigreturn" in said


def test_every_rule_of_frames_says_what_mends_it() -> None:
    for name, rule in FRAME_RULES.items():
        assert name.startswith("frame-")
        assert "" not in rule[:3]

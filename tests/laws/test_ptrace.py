"""Linux's ptrace as the judge of areas built here, of conversions, and of check()."""

from __future__ import annotations

import errno
import os
import random
import struct
from collections.abc import Iterator
from functools import cache
from typing import Literal

import processor
import ptrace_judge
import pytest
from ptrace_judge import Tracee
from test_processor import host, random_state

from xsaveschema import XsaveArea, check, relayout, to_compacted
from xsaveschema.diff import diff
from xsaveschema.model import CpuModel, bits_of

REASON = processor.real() or ptrace_judge.available()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

TILEDATA = 1 << 18


@pytest.fixture(name="child")
def _child() -> Iterator[Tracee]:
    with Tracee() as child:
        yield child


@cache
def user() -> CpuModel:
    """The host with exactly the components that its kernel gives users; it says so at byte 464."""
    with Tracee() as child:
        area = child.get()
    mask = int.from_bytes(area[464:472], "little")
    return host().limited(xcr0=mask, xss=0)


def takeable() -> int:
    """Every component that a new process may have in use: TILEDATA only after its first use."""
    return user().xcr0 & ~TILEDATA


def verdict(area: bytes) -> list[str]:
    """The rules that check() finds broken for this machine's kernel."""
    faults = check(area, user(), "ptrace", xcr0=user().xcr0, mxcsr_mask=processor.mxcsr_mask())
    return [fault.rule for fault in faults]


def as_read_back(area: bytes) -> bytes:
    """The area with the MXCSR that GETREGSET shows: it looks at XSTATE_BV[1] and [2] only."""
    found = bytearray(area)
    if not area[512] & 6:
        found[24:28] = (0x1F80).to_bytes(4, "little")
    return bytes(found)


def legal(rng: random.Random) -> bytes:
    """A legal area: any components in use, random values, garbage where nothing is in use."""
    area = bytearray(user().standard_layout().size)
    if rng.random() < 0.5:
        area[:] = rng.randbytes(len(area))
    xstate_bv = sum(1 << n for n in bits_of(takeable()) if rng.random() < 0.6)
    for slot in user().standard_layout():
        if slot.component.bit & xstate_bv:
            area[slot.offset : slot.end] = rng.randbytes(slot.size)
    mxcsr = rng.choice((0x1F80, 0, rng.getrandbits(32))) & processor.mxcsr_mask()
    area[24:32] = struct.pack("<II", mxcsr, rng.getrandbits(32))
    area[512:576] = struct.pack("<Q56x", xstate_bv)
    return bytes(area)


def test_the_kernels_area_is_one_that_the_host_model_reads(child: Tracee) -> None:
    data = child.get()
    area = XsaveArea.parse(data, user())
    assert len(data) == user().standard_layout().size
    assert verdict(data) == []
    assert area["sse"]["mxcsr"] & 0x1F80 == 0x1F80, "Python runs with exceptions masked"
    assert child.set(data) == 0
    assert diff(data, child.get(), user(), everything=True) == []


@pytest.mark.parametrize("seed", range(4))
def test_what_is_written_is_read_back(child: Tracee, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(75):
        area = legal(rng)
        assert verdict(area) == []
        assert child.set(area) == 0
        assert diff(as_read_back(area), child.get(), user()) == []


def test_the_kernel_keeps_mxcsr_only_for_sse_and_avx(child: Tracee) -> None:
    area = bytearray(bytes(XsaveArea.new(user())))
    for xstate_bv in range(8):
        area[24:28] = (0x9FC0).to_bytes(4, "little")
        area[512:520] = (xstate_bv & takeable()).to_bytes(8, "little")
        assert child.set(bytes(area)) == 0
        seen = XsaveArea.parse(child.get(), user())
        kept = xstate_bv & takeable() & 6
        assert seen["sse"]["mxcsr"] == (0x9FC0 if kept else 0x1F80), xstate_bv


@pytest.mark.parametrize("seed", range(2))
def test_converted_areas_mean_the_same_to_the_kernel(child: Tracee, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(50):
        state = random_state(rng, takeable())
        packed = to_compacted(state, host(), xcomp_bv=host().xcr0).data
        assert verdict(bytes(packed)) != []
        area = bytes(relayout(packed, source=host(), target=user(), format="standard").data)
        assert child.set(area) == 0
        # The conversion has set XSTATE_BV[1] for an MXCSR other than 0x1F80: nothing is lost.
        assert diff(state, child.get(), host(), user()) == []


def test_registers_written_by_name_arrive_and_no_other(child: Tracee) -> None:
    rng = random.Random(9)
    area = XsaveArea.new(user())
    wanted = {}
    for name in area.registers:
        if name.startswith(("xmm", "ymm", "zmm", "st", "k", "mxcsr", "r")) or name == "pkru":
            value = rng.getrandbits(8 * area.registers.size(name))
            value = 0x9FC0 if name == "mxcsr" else value
            area.registers[name] = value
            wanted[name] = value
    wanted = {name: area.registers[name] for name in wanted}
    assert len(wanted) > 32
    assert child.set(bytes(area)) == 0
    assert XsaveArea.parse(child.get(), user()).registers.read(wanted) == wanted

    # As a debugger does it: read, change one, write.
    for name in ("ymm7" if "ymm7" in wanted else "xmm7", "xmm15", "st0"):
        before = child.get()
        changed = XsaveArea.parse(bytearray(before), user())
        changed.registers[name] = wanted[name] ^ 1
        assert child.set(bytes(changed)) == 0
        (delta,) = diff(before, child.get(), user())
        piece = user().registers[name].pieces[0].component
        assert isinstance(delta.a, int)
        assert (delta.component, delta.b) == (piece, delta.a ^ 1)


Break = Literal["xcomp", "header", "xstate", "mxcsr", "short", "long"]
BREAKS: tuple[Break, ...] = ("xcomp", "header", "xstate", "mxcsr", "short", "long")


def broken(rng: random.Random, area: bytearray, how: Break) -> bytearray:
    """The area with one thing that the kernel may refuse; it stays legal here and there."""
    if how == "xcomp":
        known = user().xcr0
        xcomp = rng.choice((1, 1 << 63, known, known | 1 << 63, 1 << rng.randrange(64)))
        area[520:528] = xcomp.to_bytes(8, "little")
    elif how == "header":
        area[rng.randrange(528, 576)] = rng.choice((0, 1, 0x80, rng.randrange(256)))
    elif how == "xstate":
        xstate_bv = int.from_bytes(area[512:520], "little") | 1 << rng.randrange(64)
        area[512:520] = (xstate_bv & ~(TILEDATA & user().xcr0)).to_bytes(8, "little")
    elif how == "mxcsr":
        area[24:28] = (1 << rng.choice((15, 16, 17, 18, 31, rng.randrange(32)))).to_bytes(
            4, "little"
        )
        xstate_bv = int.from_bytes(area[512:520], "little") & ~7 | rng.randrange(8)
        area[512:520] = (xstate_bv & takeable()).to_bytes(8, "little")
    elif how == "short":
        words = rng.randrange(72, max(73, len(area) // 8))  # it may have been cut before
        area = area[: rng.choice((576, len(area) - 8, 8 * words))]
    else:
        area += rng.randbytes(8 * rng.choice((1, 8, 512)))
    return area


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("how", BREAKS)
def test_check_agrees_with_the_kernel(child: Tracee, how: Break, seed: int) -> None:
    rng = random.Random(f"{how} {seed}")
    seen = set()
    for _ in range(50):
        area = broken(rng, bytearray(legal(rng)), how)
        if rng.random() < 0.2:
            area = broken(rng, area, rng.choice(BREAKS))
        if len(area) < 576:
            continue
        rules = verdict(bytes(area))
        before = child.get()
        code = child.set(bytes(area))
        seen.add(code)
        if "linux-size" in rules:
            assert code == errno.EFAULT, (rules, len(area))
        else:
            assert code == (errno.EINVAL if rules else 0), rules
        if code:
            assert child.get() == before, "a refused area changes nothing"
        else:
            assert diff(as_read_back(bytes(area)), child.get(), user()) == []
    assert seen & ({0} if how == "long" else {errno.EINVAL, errno.EFAULT})


def test_every_mxcsr_bit_with_every_xstate_bv(child: Tracee) -> None:
    area = bytearray(bytes(XsaveArea.new(user())))
    for xstate_bv in range(8):
        area[512:520] = (xstate_bv & takeable()).to_bytes(8, "little")
        for bit in range(32):
            area[24:28] = (1 << bit).to_bytes(4, "little")
            rules = verdict(bytes(area))
            assert rules in ([], ["linux-mxcsr"])
            assert child.set(bytes(area)) == (errno.EINVAL if rules else 0), (xstate_bv, bit)


def test_every_header_bit(child: Tracee) -> None:
    good = bytes(XsaveArea.new(user()))
    for bit in range(512):
        if bit < 64 and TILEDATA & user().xcr0 & 1 << bit:
            continue
        area = bytearray(good)
        area[512 + bit // 8] ^= 1 << bit % 8
        rules = verdict(bytes(area))
        assert bool(rules) == (bit >= 64 or not user().xcr0 >> bit & 1), bit
        assert child.set(bytes(area)) == (errno.EINVAL if rules else 0), bit


def test_lengths(child: Tracee) -> None:
    good = bytes(XsaveArea.new(user()))
    for length in range(576, len(good) + 129, 8):
        area = good.ljust(length, b"\xff")[:length]
        rules = verdict(area)
        assert rules == ([] if length >= len(good) else ["linux-size"])
        assert child.set(area) == (errno.EFAULT if rules else 0), length
    for more in range(1, 8):
        assert verdict(good + bytes(more)) == ["ptrace-length"]
        assert child.set(good + bytes(more)) == errno.EINVAL
    # The unit is looked at first: EINVAL, where the length alone would be EFAULT.
    assert verdict(good[:-1])[0] == "ptrace-length"
    assert child.set(good[:-1]) == errno.EINVAL


def test_the_child_is_gone_afterwards() -> None:
    with Tracee() as child:
        pid = child.pid
        child.get()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(OSError, match="no child"):
        child.get()


def test_a_kernel_that_forbids_tracing_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    # 4 is PTRACE_POKETEXT: what it says to a process that is not traced is "no such process".
    monkeypatch.setattr(ptrace_judge, "_TRACEME", 4)
    ptrace_judge.available.cache_clear()
    try:
        assert "No such process" in str(ptrace_judge.available())
    finally:
        ptrace_judge.available.cache_clear()

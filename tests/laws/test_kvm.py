"""KVM as the judge of areas built here, of conversions, and of check()."""

from __future__ import annotations

import errno
import random
import struct
from collections.abc import Iterator
from functools import cache

import kvm_judge
import processor
import pytest
from kvm_judge import SIZE, Guest
from test_processor import host, random_state

from xsaveschema import XsaveArea, check, permission, relayout, to_compacted
from xsaveschema.diff import diff
from xsaveschema.model import CpuModel, bits_of
from xsaveschema.restore import notes

REASON = processor.real() or kvm_judge.available()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

KVM_KNOWS = 0x6C06E7
"""The user components that KVM gives to guests of any kind (KVM_SUPPORTED_XCR0, and APX); MPX,
bits 3 and 4, with them where the host's virtualisation has it, which is not told."""
TILES = 0x60000


@pytest.fixture(name="guest")
def _guest() -> Iterator[Guest]:
    with Guest() as guest:
        yield guest


@cache
def user() -> CpuModel:
    """The host with what its kernel gives users, as it says at byte 464, less what KVM may lack."""
    with Guest() as guest:
        area = guest.get()
    mask = int.from_bytes(area[464:472], "little") & KVM_KNOWS & ~TILES
    return host().limited(xcr0=mask, xss=0)


def verdict(area: bytes) -> list[str]:
    faults = check(area, user(), "kvm", mxcsr_mask=processor.mxcsr_mask())
    return [fault.rule for fault in faults]


def legal(rng: random.Random) -> bytes:
    """A legal area: any components in use, random values, garbage where nothing is in use."""
    area = bytearray(rng.randbytes(SIZE) if rng.random() < 0.5 else SIZE)
    xstate_bv = sum(1 << n for n in bits_of(user().xcr0) if rng.random() < 0.6)
    mxcsr = rng.choice((0x1F80, 0, rng.getrandbits(32))) & processor.mxcsr_mask()
    area[24:32] = struct.pack("<II", mxcsr, processor.mxcsr_mask())
    area[512:576] = struct.pack("<Q56x", xstate_bv)
    return bytes(area)


def as_loaded(area: bytes) -> bytes:
    """The area with the MXCSR that the virtual CPU has; see the note that is tested below."""
    found = bytearray(area)
    if not area[512] & 2 and "xsaves" in host().instructions:
        found[24:28] = (0x1F80).to_bytes(4, "little")
    return bytes(found)


def test_a_new_virtual_cpu_is_initial(guest: Guest) -> None:
    area = guest.get()
    assert verdict(area) == []
    fresh = XsaveArea.new(user())
    assert diff(fresh, XsaveArea.parse(area, user(), assume=True)) == []
    assert guest.set(area) == 0


@pytest.mark.parametrize("seed", range(4))
def test_what_is_written_is_read_back(guest: Guest, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(50):
        area = legal(rng)
        assert verdict(area) == []
        assert guest.set(area) == 0
        mxcsr = guest.run()
        wanted = as_loaded(area)
        assert mxcsr == int.from_bytes(wanted[24:28], "little")
        # What is read back may be an MXCSR from before.
        assert diff(wanted, guest.get(), user(), ignore=["pkru", "sse.mxcsr"]) == []


def test_an_mxcsr_without_sse_is_not_loaded_and_a_note_says_so(guest: Guest) -> None:
    if "xsaves" not in host().instructions:
        pytest.skip("the kernel keeps state in the standard format: this CPU has no XSAVES")
    for xstate_bv in range(8):
        area = bytearray(SIZE)
        area[24:28] = (0x1FA0).to_bytes(4, "little")
        area[512] = xstate_bv & user().xcr0
        assert guest.set(bytes(area)) == 0
        assert guest.run() == (0x1FA0 if xstate_bv & 2 else 0x1F80)
        told = {note.offset for note in notes(bytes(area), user(), "kvm")}
        assert (24 in told) == (not xstate_bv & 2)


def test_every_header_bit(guest: Guest) -> None:
    unsure = ~KVM_KNOWS | TILES
    good = bytes(XsaveArea.new(user())).ljust(SIZE, b"\0")
    for bit in range(512):
        # What the host has and KVM need not.
        if bit < 64 and unsure & host().xcr0 & 1 << bit:
            continue
        area = bytearray(good)
        area[512 + bit // 8] ^= 1 << bit % 8
        rules = verdict(bytes(area))
        assert bool(rules) == (bit >= 64 or not user().xcr0 >> bit & 1), bit
        assert guest.set(bytes(area)) == (errno.EINVAL if rules else 0), bit


def test_every_mxcsr_bit_with_every_xstate_bv(guest: Guest) -> None:
    area = bytearray(bytes(XsaveArea.new(user())).ljust(SIZE, b"\0"))
    for xstate_bv in range(8):
        area[512:520] = (xstate_bv & user().xcr0).to_bytes(8, "little")
        for bit in range(32):
            area[24:28] = (1 << bit).to_bytes(4, "little")
            rules = verdict(bytes(area))
            assert rules in ([], ["linux-mxcsr"])
            assert guest.set(bytes(area)) == (errno.EINVAL if rules else 0), (xstate_bv, bit)


def test_what_is_refused_changes_nothing(guest: Guest) -> None:
    rng = random.Random(7)
    assert guest.set(legal(rng)) == 0
    before = guest.get()
    for at in (520, 527, 528, 575):
        area = bytearray(legal(rng))
        area[at] = 0x80
        assert verdict(bytes(area))
        assert guest.set(bytes(area)) == errno.EINVAL
        assert guest.get() == before


def test_converted_areas_mean_the_same_to_kvm(guest: Guest) -> None:
    rng = random.Random(3)
    for _ in range(50):
        state = random_state(rng, user().xcr0)
        packed = to_compacted(state, host(), xcomp_bv=user().xcr0).data
        assert "linux-compacted" in verdict(bytes(packed).ljust(SIZE, b"\0"))
        area = bytes(relayout(packed, source=host(), target=user(), format="standard").data)
        assert guest.set(area.ljust(SIZE, b"\0")) == 0
        guest.run()
        assert diff(state, guest.get(), host(), user(), ignore=["pkru"]) == []


def test_a_process_without_permission_has_the_size_from_before(guest: Guest) -> None:
    assert guest.size == permission(user()).kvm.before == SIZE


def test_the_judge_wants_a_whole_area(guest: Guest) -> None:
    with pytest.raises(ValueError, match="KVM would read 4096"):
        guest.set(bytes(2440))

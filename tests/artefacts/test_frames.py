"""Signal frames, struct kvm_xsave and raw areas; the kernel and KVM of this machine as judges."""

from __future__ import annotations

import fcntl
import os
import random
import struct
from collections.abc import Iterator
from pathlib import Path

import frames
import pytest
from artefact_areas import FRAME, FRAME_32, ZEN4, intel_area, kvm, one

import xsaveschema as xs
from xsaveschema import artefacts
from xsaveschema.errors import HeaderError, IdentificationError, TooShortError, XsaveError

K1 = 0x8181A8CC369147EB


# Signal frames.


@pytest.mark.parametrize("bits", [64, 32])
def test_a_frame_of_a_zen4(bits: int) -> None:
    data, start = (FRAME, 0) if bits == 64 else (FRAME_32, 112)
    for more in (b"", b"what lies behind it on the stack"):
        found = one(data + more)
        assert (found.label, found.offset) == (f"signal frame ({bits}-bit)", start)
        assert bytes(found.area) == data[start : start + 2432]
        assert found.area.registers["k1"] == K1
        assert (found.area.model.name, found.notes) == ("zen4", ())


def test_the_area_of_a_32_bit_frame_without_its_fsave_image() -> None:
    found = one(FRAME_32[112:])
    assert (found.label, found.offset) == ("signal frame (32-bit)", 0)


def test_a_frame_with_a_named_model() -> None:
    found = one(FRAME, "zen5")
    assert found.layout_source == "model zen5 limited to XCR0 0xE7 at byte 472"


@pytest.mark.parametrize("bits", [64, 32])
def test_a_frame_by_this_kernel(bits: int, tmp_path: Path) -> None:
    found = one(frames.run(bits, tmp_path))
    assert found.label == f"signal frame ({bits}-bit)"
    for name in ("xmm0", "xmm7" if bits == 32 else "xmm15"):
        assert found.area.registers[name] == int.from_bytes(frames.DATA, "little")
    assert found.notes == ()


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (468, 2435, "extended_size is 2435: with xstate_size 2432 it is 2436, or 2548 in a 32-bit"),
        (480, 575, "xstate_size is 575, which no area's size is"),
        (480, 0xFFFFFFFF, "xstate_size is 4294967295, which no area's size is"),
        (2432, 0x46505846, "second magic word is 0x46505846, not 0x46505845"),
    ],
)
def test_faults_of_frames(at: int, value: int, message: str) -> None:
    data = FRAME[:at] + struct.pack("<I", value) + FRAME[at + 4 :]
    with pytest.raises(artefacts.ArtefactError, match=message):
        one(data)
    found = one(data, "zen4", strict=False)
    assert message in found.notes[-1]
    assert found.notes[-1].endswith("Linux would restore the legacy region alone")
    assert found.area.registers["k1"] == K1


def test_frames_cut_off_at_every_length() -> None:
    for data in (FRAME, FRAME_32):
        for length in range(len(data)):
            with pytest.raises(XsaveError):
                one(data[:length])
        assert one(data)
    with pytest.raises(TooShortError, match="within the frame's legacy region or XSAVE header"):
        one(FRAME[:560])
    with pytest.raises(artefacts.ArtefactError, match="before the frame's second magic word"):
        one(FRAME[:2435])


# struct kvm_xsave.


def test_kvm_xsave() -> None:
    found = one(kvm(ZEN4))
    assert (found.label, found.offset, len(found.area)) == ("vCPU", 0, 4096)
    assert found.layout_source == "identified by XCR0 mask at byte 464 and MXCSR_MASK"
    assert found.area.registers["k1"] == K1
    # The mask is the host kernel's, and no limit for the guest.
    assert one(kvm(ZEN4), "zen5").layout_source == "model zen5"


def test_kvm_xsave_of_intel_is_told_from_amds_by_mxcsr_mask() -> None:
    area = intel_area(2688, 0xE7)
    found = one(kvm(bytes(area)))
    assert found.area.registers["k1"] == int.from_bytes(area[1096:1104], "little")
    struct.pack_into("<I", area, 28, 0)
    with pytest.raises(
        IdentificationError,
        match=r"several models fit, with different layouts \(4096 bytes",
    ):
        one(kvm(bytes(area)))


def test_kvm_xsave_has_no_room_for_tiledata() -> None:
    area = intel_area(4096, 0x602E7)
    struct.pack_into("<Q", area, 512, 0x202E7)  # TILECFG is in use, TILEDATA is not
    found = one(bytes(area))
    assert found.area["tilecfg"]["palette"] == area[2752]
    assert "tiledata" not in found.area.layout
    (note,) = found.notes
    assert note.startswith("tiledata: in XCR0, but beyond the 4096 bytes of struct kvm_xsave")
    struct.pack_into("<Q", area, 512, 0x602E7)
    with pytest.raises(
        TooShortError, match=r"tiledata .*; KVM_GET_XSAVE2 gives the whole"
    ) as short:
        one(bytes(area))
    assert (short.value.component, short.value.needed) == ("tiledata", 11008)


def test_kvm_xsave2_is_a_raw_area_with_tiledata() -> None:
    area = bytes(intel_area(11008, 0x602E7))
    found = one(area)
    assert (found.label, found.area.raw["tiledata"]) == ("area", area[2816:])


def test_what_is_no_kvm_xsave_is_raw() -> None:
    compacted = xs.XsaveArea.new(xs.load_model("zen4"), "compacted")
    assert one(bytes(compacted).ljust(4096, b"\0")).label == "area"
    noise = random.Random(1).randbytes(4096)
    with pytest.raises(artefacts.ArtefactError, match="does not look like an area: byte 528"):
        one(noise, "zen4")
    with pytest.raises(HeaderError, match="bits that zen4 does not know"):
        one(noise, "zen4", assume=True)


# KVM itself.

KVM_CREATE_VM, KVM_CREATE_VCPU, KVM_CHECK_EXTENSION = 0xAE01, 0xAE41, 0xAE03
KVM_GET_SUPPORTED_CPUID, KVM_SET_CPUID2 = 0xC008AE05, 0x4008AE90
KVM_GET_XSAVE, KVM_SET_XSAVE, KVM_GET_XSAVE2 = 0x9000AEA4, 0x5000AEA5, 0x9000AECF
KVM_CAP_XSAVE2 = 208


@pytest.fixture
def vcpu() -> Iterator[tuple[int, int]]:
    """A vCPU with all that KVM supports: its descriptor, and the XCR0 that it allows."""
    opened: list[int] = []

    def keep(file: int) -> int:
        opened.append(file)
        return file

    try:
        system = keep(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
        vm = keep(fcntl.ioctl(system, KVM_CREATE_VM, 0))
        vcpu = keep(fcntl.ioctl(vm, KVM_CREATE_VCPU, 0))
        table = bytearray(struct.pack("<II", 256, 0) + bytes(40 * 256))
        fcntl.ioctl(system, KVM_GET_SUPPORTED_CPUID, table)
        fcntl.ioctl(vcpu, KVM_SET_CPUID2, table)
    except OSError as error:
        for file in opened:
            os.close(file)
        pytest.skip(f"KVM does not work here: {error}")
    entries = struct.iter_unpack("<10I", table[8 : 8 + 40 * table[0]])
    leaf = {entry[1]: entry for entry in entries if entry[0] == 0xD}
    yield vcpu, leaf[0][6] << 32 | leaf[0][3]
    for file in reversed(opened):
        os.close(file)


def test_kvm_gives_what_the_reader_reads(vcpu: tuple[int, int]) -> None:
    data = bytearray(4096)
    fcntl.ioctl(vcpu[0], KVM_GET_XSAVE, data)
    found = one(bytes(data))
    assert found.label == "vCPU"
    assert found.area.registers["mxcsr"] == 0x1F80
    host = xs.load_model("host")
    assert [(s.name, s.offset) for s in found.area.layout] == [
        (s.name, s.offset) for s in host.standard_layout() if s.name in found.area.layout
    ]


def test_kvm_takes_exactly_what_check_accepts(vcpu: tuple[int, int]) -> None:
    """KVM_SET_XSAVE of faulty and faultless areas; a register comes back as it was set."""
    file, xcr0 = vcpu
    model = xs.load_model("host").limited(xcr0=xcr0 & xs.load_model("host").xcr0)
    rng = random.Random(7)
    agreed = {True: 0, False: 0}
    for _ in range(300):
        area = xs.XsaveArea.new(model)
        for name in rng.sample(["xmm3", "ymm5", "st1", "fcw"], 2):
            if name in area.registers:
                area.registers[name] = rng.getrandbits(8 * area.registers.size(name))
        data = bytearray(bytes(area).ljust(4096, b"\0"))
        for _ in range(rng.choice((0, 1, 1, 2))):
            kind = rng.randrange(5)
            if kind == 0:
                data[rng.randrange(528, 576)] = rng.randrange(2)
            elif kind == 1:
                data[512 + rng.randrange(8)] |= 1 << rng.randrange(8)
            elif kind == 2:
                data[520 + rng.randrange(8)] |= 1 << rng.randrange(8)
            elif kind == 3:
                struct.pack_into("<I", data, 24, 1 << rng.randrange(32))
            else:
                data[512:520] = bytes(8)
        try:
            fcntl.ioctl(file, KVM_SET_XSAVE, data)  # of bytes, ioctl takes 1024 at most
            taken = True
        except OSError as error:
            assert error.errno == 22  # noqa: PT017
            taken = False
        assert taken == (not xs.check(data, model, "kvm")), data[:576].hex()
        agreed[taken] += 1
        if taken:
            back = bytearray(4096)
            fcntl.ioctl(file, KVM_GET_XSAVE, back)
            read = one(bytes(back)).area.registers
            wanted = xs.XsaveArea.parse(data, model).registers
            for name in ("xmm3", "ymm5", "st1"):
                if name in wanted:
                    assert read[name] == wanted[name], name
    assert min(agreed.values()) > 30


def test_kvm_xsave2(vcpu: tuple[int, int]) -> None:
    with Path("/dev/kvm").open("rb") as system:
        size = fcntl.ioctl(system, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2)
    if size < 4096:
        pytest.skip("this KVM has no KVM_GET_XSAVE2")
    data = bytearray(size)
    fcntl.ioctl(vcpu[0], KVM_GET_XSAVE2, data)
    assert one(bytes(data)).area.registers["mxcsr"] == 0x1F80


# Raw areas.


def test_a_raw_area() -> None:
    found = one(ZEN4)
    assert (found.label, found.offset) == ("area", 0)
    assert found.layout_source == "identified by XCR0 mask at byte 464 and size"
    assert one(ZEN4, "zen5").layout_source == "model zen5 limited to XCR0 0xE7 at byte 464"
    no_mask = ZEN4[:464] + bytes(48) + ZEN4[512:]
    assert one(no_mask, "zen4").layout_source == "model zen4"


def test_what_is_no_area() -> None:
    with pytest.raises(TooShortError, match="the area has 100 bytes"):
        one(bytes(100))
    with pytest.raises(artefacts.ArtefactError, match="longer than 16 MiB, which no area is"):
        one(bytes(artefacts.MAX_AREA + 1))

"""struct kvm_xsave: as KVM gives it, as a file; KVM of this machine as the judge."""

from __future__ import annotations

import fcntl
import os
import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from artefact_areas import ZEN4, intel_area, kvm, one

import xsaveschema as xs
from xsaveschema import artefacts
from xsaveschema.errors import HeaderError, IdentificationError, TooShortError

K1 = 0x8181A8CC369147EB


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

"""Signal frames: captured, damaged, and by this machine's kernel."""

from __future__ import annotations

import struct
from pathlib import Path

import frames
import pytest
from artefact_areas import FRAME, FRAME_32, one

from xsaveschema import artefacts
from xsaveschema.errors import TooShortError, XsaveError

K1 = 0x8181A8CC369147EB


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
    assert found.notes[-1].endswith("check --target sigreturn tells")
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

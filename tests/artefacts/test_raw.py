"""Areas that stand alone in a file."""

from __future__ import annotations

import struct

import pytest
from artefact_areas import ZEN4, one

from xsaveschema import artefacts
from xsaveschema.artefacts.raw import look
from xsaveschema.errors import TooShortError


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


@pytest.mark.parametrize(
    ("at", "value", "rules"),
    [
        pytest.param(24, 0x1F80, [], id="initial"),
        pytest.param(24, 0xFFFF, [], id="all that Intel's CPUs have"),
        pytest.param(24, 0x21F80, [], id="misaligned exceptions, which AMD's have"),
        pytest.param(24, 0x10000, ["mxcsr"], id="a bit that none has"),
        pytest.param(24, 0x40000, ["mxcsr"], id="a higher one"),
        pytest.param(528, 1, ["header-16-23"], id="first reserved byte"),
        pytest.param(532, 1 << 24, ["header-16-23"], id="last of eight"),
        pytest.param(536, 1, ["header-24-63"], id="first of the others"),
        pytest.param(572, 1 << 24, ["header-24-63"], id="last reserved byte"),
    ],
)
def test_what_no_area_has(at: int, value: int, rules: list[str]) -> None:
    data = bytearray(ZEN4)
    data[at : at + 4] = value.to_bytes(4, "little")
    assert [fault.rule for fault in look(memoryview(data))] == rules


def test_an_mxcsr_that_means_nothing_is_not_looked_at() -> None:
    data = bytearray(576)
    data[24:32] = struct.pack("<II", 1 << 31, 0xFFFF)
    for xstate_bv, xcomp_bv, seen in (
        (0, 0, True),
        (1, 1 << 63 | 3, False),
        (2, 1 << 63 | 3, True),
    ):
        data[512:528] = struct.pack("<QQ", xstate_bv, xcomp_bv)
        assert [fault.rule for fault in look(memoryview(data))] == ["mxcsr"] * seen


def test_a_file_in_which_nobody_wrote() -> None:
    blank = bytearray(832)
    assert [fault.rule for fault in look(memoryview(blank))] == ["blank"]
    for at in (24, 28, 512, 527):
        written = blank[:]
        written[at] = 0x80
        assert "blank" not in [fault.rule for fault in look(memoryview(written))]

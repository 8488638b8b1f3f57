"""What an XSAVE header says of its buffer: the format, the layout, and where its faults are."""

from __future__ import annotations

import array
from typing import Any

import pytest

from xsaveschema import load_model
from xsaveschema.errors import HeaderError, TooShortError, WrongTypeError, XsaveError
from xsaveschema.header import buffer_layout, buffer_of, lenient_layout, view_of

COMPACTED = 1 << 63
ZEN4 = load_model("zen4")

# XSTATE_BV, XCOMP_BV; the rule and the byte of each fault; the components whose place is sure.
FAULTS = [
    pytest.param(1 << 20, 0, [("xstate-bv-unknown", 512)], 0x2E7, id="unknown"),
    pytest.param(COMPACTED, 0, [("xstate-bv-unknown", 512)], 0x2E7, id="bit 63 of XSTATE_BV"),
    pytest.param(1 << 11, 0, [("xstate-bv-supervisor", 512)], 0x2E7, id="supervisor"),
    pytest.param(0, 4, [("xcomp-bv-form", 520)], 0x2E7, id="neither format"),
    pytest.param(4, 3 | COMPACTED, [("xstate-bv-beyond-xcomp-bv", 512)], 3, id="beyond"),
    pytest.param(0, 1 << 20 | COMPACTED, [("xcomp-bv-unknown", 520)], 0, id="unknown place"),
    pytest.param(
        0,
        1 << 8 | 0x287 | COMPACTED,
        [("xcomp-bv-unknown", 520)],
        0x87,
        id="behind it none is sure",
    ),
    pytest.param(
        1 << 20 | 1 << 11,
        4,
        [("xstate-bv-unknown", 512), ("xcomp-bv-form", 520), ("xstate-bv-supervisor", 512)],
        0x2E7,
        id="all at once",
    ),
]


@pytest.mark.parametrize(("xstate_bv", "xcomp_bv", "wanted", "sure"), FAULTS)
def test_every_fault_and_its_place(
    xstate_bv: int, xcomp_bv: int, wanted: list[tuple[str, int]], sure: int
) -> None:
    with pytest.raises(HeaderError) as caught:
        buffer_layout(ZEN4, xstate_bv, xcomp_bv, 4096)
    assert [(fault.rule, fault.offset) for fault in caught.value.faults] == wanted
    layout, faults = lenient_layout(ZEN4, xstate_bv, xcomp_bv, 4096)
    assert faults == tuple(caught.value.faults)
    assert layout.mask == sure


# XSTATE_BV, XCOMP_BV, length; the layout's mask, or what is cut off and how much would be needed.
LENGTHS: list[tuple[int, int, int, int, tuple[str, int] | None]] = [
    (0, 0, 576, 0x3, None),
    (0, 0, 831, 0x3, None),
    (0, 0, 832, 0x7, None),
    (0x207, 0, 2440, 0x2E7, None),
    (0x7, 0, 2439, 0xE7, None),
    (0x207, 0, 2439, 0xE7, ("pkru", 2440)),
    (0x247, 0, 700, 0x3, ("avx", 2440)),
    (0, 7 | COMPACTED, 832, 0x7, None),
    (0, 7 | COMPACTED, 831, 0x3, ("avx", 832)),
    (0, 0x205 | COMPACTED, 840, 0x205, None),
    (0, 0x205 | COMPACTED, 839, 0x5, ("pkru", 840)),
]


@pytest.mark.parametrize(("xstate_bv", "xcomp_bv", "length", "mask", "cut"), LENGTHS)
def test_a_layout_ends_with_its_buffer(
    xstate_bv: int, xcomp_bv: int, length: int, mask: int, cut: tuple[str, int] | None
) -> None:
    layout, faults = lenient_layout(ZEN4, xstate_bv, xcomp_bv, length)
    assert layout.mask == mask
    if cut is None:
        assert faults == ()
        assert buffer_layout(ZEN4, xstate_bv, xcomp_bv, length) is layout
        return
    assert [(fault.rule, fault.offset) for fault in faults] == [("truncated", length)]
    with pytest.raises(TooShortError, match=f"{cut[1]} are needed") as caught:
        buffer_layout(ZEN4, xstate_bv, xcomp_bv, length)
    assert (caught.value.component, caught.value.needed, caught.value.actual) == (*cut, length)


def test_buffers_are_seen_as_bytes() -> None:
    assert buffer_of(array.array("I", [1, 2]), "it").tobytes() == array.array("I", [1, 2]).tobytes()
    assert buffer_of(memoryview(b"abcd").cast("B", (2, 2)), "it").shape == (4,)
    assert len(buffer_of(memoryview(b"abcd")[::-1][:0], "it")) == 0
    with pytest.raises(XsaveError, match="it is not contiguous in memory"):
        buffer_of(memoryview(b"abcd")[::2], "it")


@pytest.mark.parametrize("data", [bytes(576), bytearray(577), memoryview(bytes(576))])
def test_a_buffer_of_576_bytes_has_a_header(data: Any) -> None:
    assert view_of(data).nbytes == len(data)
    with pytest.raises(TooShortError, match="it has 575 bytes") as caught:
        view_of(data[:575], "it")
    assert (caught.value.needed, caught.value.actual) == (576, 575)


@pytest.mark.parametrize("data", ["text", None, 576, [0] * 576])
def test_what_is_no_buffer(data: Any) -> None:
    with pytest.raises(WrongTypeError, match="the area: pass bytes, or another buffer"):
        view_of(data)

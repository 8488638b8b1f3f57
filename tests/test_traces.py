"""What a writer leaves in an area besides state, byte by byte."""

from __future__ import annotations

import struct

import pytest

from xsaveschema import load_model
from xsaveschema.traces import mxcsr_mask_of, of_kvm, shown, without_frame

MAGIC1, MAGIC2 = 0x46505853, 0x46505845


def area(mask: int = 0, size: int = 832) -> bytearray:
    data = bytearray(size)
    struct.pack_into("<Q", data, 464, mask)
    return data


@pytest.mark.parametrize(
    ("mask", "xstate_bv", "wanted"),
    [
        pytest.param(0, 0, None, id="nothing"),
        pytest.param(3, 0, 3, id="legacy alone"),
        pytest.param(7, 7, 7, id="all in use"),
        pytest.param(0x2E7, 4, 0x2E7, id="some in use"),
        pytest.param(1 << 62 | 7, 0, 1 << 62 | 7, id="lwp"),
        pytest.param(1, 0, None, id="without sse"),
        pytest.param(2, 0, None, id="without x87"),
        pytest.param(3, 4, None, id="in use beyond it"),
        pytest.param(1 << 63 | 7, 0, None, id="bit 63"),
    ],
)
def test_a_mask_at_byte_464(mask: int, xstate_bv: int, wanted: int | None) -> None:
    data = area(mask)
    found = shown(memoryview(data), xstate_bv)
    assert found == (None if wanted is None else (wanted, 464, None))
    for at in (472, 511):
        data[at] = 1
        assert shown(memoryview(data), xstate_bv) is None
        data[at] = 0
    data[463] = data[512] = 1  # not the mask's
    assert shown(memoryview(data), xstate_bv) == found


def frame(
    size: int = 832, more: int = 4, features: int = 7, magic1: int = MAGIC1, behind: bytes = b""
) -> bytearray:
    data = area()
    struct.pack_into("<IIQI", data, 464, magic1, size + more, features, size)
    return data + behind


SECOND = struct.pack("<I", MAGIC2)


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        pytest.param(frame(), True, id="ends with it"),
        pytest.param(frame(behind=SECOND), True, id="second magic word"),
        pytest.param(frame(behind=SECOND + b"stack"), True, id="more behind"),
        pytest.param(frame(more=116), True, id="of 32 bits"),
        pytest.param(frame(more=5), False, id="extended_size"),
        pytest.param(frame(more=112), False, id="extended_size of FSAVE alone"),
        pytest.param(frame(behind=b"\0\0\0\0"), False, id="no second magic word"),
        pytest.param(frame(behind=SECOND[:3]), False, id="half a magic word"),
        pytest.param(frame(size=833), False, id="beyond the end"),
        pytest.param(frame(size=575), False, id="shorter than a header"),
        pytest.param(frame(features=5), False, id="without sse"),
        pytest.param(frame(features=6), False, id="without x87"),
        pytest.param(frame(features=1 << 63 | 7), False, id="bit 63"),
        pytest.param(frame(magic1=MAGIC1 + 1), False, id="first magic word"),
    ],
)
def test_the_words_of_a_frame(data: bytearray, whole: bool) -> None:
    found = shown(memoryview(data), 0)
    assert found == ((7, 472, 832) if whole else None)
    if whole:
        for at in (484, 511):
            data[at] = 1
            assert shown(memoryview(data), 0) is None
            data[at] = 0
        plain = without_frame(bytes(data))
        assert struct.unpack_from("<Q40s", plain, 464) == (7, bytes(40))
        assert (plain[:464], plain[512:]) == (data[:464], data[512:])
    else:
        assert without_frame(bytes(data)) == data


def test_the_smallest_frame_has_a_header_alone() -> None:
    data = frame(size=576)[:576]
    assert shown(memoryview(data), 0) == (7, 472, 576)


@pytest.mark.parametrize(
    ("at", "value", "wanted"),
    [
        pytest.param(0, 0, True, id="initial"),
        pytest.param(519, 0x7F, True, id="all of XSTATE_BV but bit 63"),
        pytest.param(519, 0x80, False, id="bit 63 of XSTATE_BV"),
        pytest.param(520, 1, False, id="bit 0 of XCOMP_BV"),
        pytest.param(527, 0x80, False, id="bit 63 of XCOMP_BV"),
        pytest.param(528, 1, False, id="first reserved byte"),
        pytest.param(575, 1, False, id="last reserved byte"),
        pytest.param(576, 1, True, id="behind the header"),
    ],
)
def test_struct_kvm_xsave(at: int, value: int, wanted: bool) -> None:
    data = bytearray(4096)
    data[at] = value
    assert of_kvm(memoryview(data)) == wanted
    assert not of_kvm(memoryview(data)[:4095])
    assert not of_kvm(memoryview(data + b"\0"))
    assert of_kvm(memoryview(data)[:576], 4096) == wanted
    assert not of_kvm(memoryview(data), 4095)


@pytest.mark.parametrize(
    ("word", "model", "wanted"),
    [
        (0, None, 0),
        (0xFFFF, None, 0xFFFF),
        (0x2FFFF, None, 0x2FFFF),
        (0x2FFFF, "zen4", 0x2FFFF),
        (0x2FFFF, "haswell", 0x2FFFF),
        (0xFFBF, None, 0),
        (0xA5A5A5A5, "zen4", 0),
    ],
)
def test_mxcsr_mask_is_a_processors_or_nobodys(word: int, model: str | None, wanted: int) -> None:
    data = area()
    struct.pack_into("<I", data, 28, word)
    assert mxcsr_mask_of(memoryview(data), load_model(model) if model else None) == wanted

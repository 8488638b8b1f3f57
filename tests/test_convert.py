"""Conversion rules, one by one; the processor and the captures judge them as a whole elsewhere."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from xsaveschema import XsaveArea, load_model, relayout, to_compacted, to_standard
from xsaveschema.errors import (
    HeaderError,
    MaskError,
    StateLossError,
    TooShortError,
    UnknownComponentError,
    XsaveError,
)

COMPACTED = 1 << 63
Agree = Callable[[XsaveArea], XsaveArea]


def area(xstate_bv: int, xcomp_bv: int = 0, size: int = 2696, fill: int = 0x5A) -> bytearray:
    data = bytearray([fill]) * size
    data[24:32] = struct.pack("<II", 0x1F80, 0xFFFF)
    data[512:576] = struct.pack("<QQ48x", xstate_bv, xcomp_bv)
    return data


def header(data: Any) -> tuple[int, int, bytes]:
    xstate_bv, xcomp_bv, rest = struct.unpack_from("<QQ48s", data, 512)
    return xstate_bv, xcomp_bv, rest


def test_to_standard_gives_initial_components_their_initial_values(agree: Agree) -> None:
    model = load_model("zen4")
    data = area(4, 0x2E7 | COMPACTED)
    result = to_standard(data, model)
    assert header(result.data) == (4, 0, bytes(48))
    out = result.data
    assert out[:24] == b"\x7f\x03" + bytes(22)
    assert out[24:28] == b"\x80\x1f\0\0"
    assert out[28:32] == data[28:32], "MXCSR_MASK is kept"
    assert not any(out[32:416])
    assert out[416:512] == data[416:512], "bytes left to software are kept"
    assert out[576:832] == data[576:832]
    assert not any(out[832:])
    assert len(out) == 2440
    agree(XsaveArea.parse(out, model))


def test_software_bytes_can_be_zeroed() -> None:
    out = to_standard(area(0), load_model("zen4"), software="zero").data
    assert not any(out[416:512])


def test_to_compacted_leaves_places_of_initial_components_zero(agree: Agree) -> None:
    model = load_model("skylake-server")
    result = to_compacted(area(0x200), model)
    assert header(result.data) == (0x200, 0x3FF | COMPACTED, bytes(48))
    assert len(result.data) == 2696  # CPUID D.1.EBX of Skylake-SP with XCR0 | XSS = 0x3FF
    assert not any(result.data[:416])
    assert not any(result.data[576:2688])
    assert result.data[2688:] == b"\x5a" * 8
    agree(XsaveArea.parse(result.data, model))


@pytest.mark.parametrize("xcomp_bv", [0x2FF, 0x2FF | COMPACTED])
def test_bit_63_is_optional_in_the_argument(xcomp_bv: int) -> None:
    out = to_compacted(area(0), load_model("skylake-server"), xcomp_bv=xcomp_bv).data
    assert header(out)[1] == 0x2FF | COMPACTED


def test_mxcsr_makes_sse_be_in_use_when_compacting() -> None:
    data = area(1)
    data[24:28] = (0x9FC0).to_bytes(4, "little")
    out = to_compacted(data, load_model("haswell"), xcomp_bv=7).data
    assert header(out)[0] == 3
    assert out[24:32] == data[24:32]
    assert not any(out[160:416]), "XMM was initial: it becomes zero, not the stale bytes"


def test_mxcsr_without_a_place_for_sse_is_a_loss_named_sse() -> None:
    data = area(0)
    data[24:28] = (0x9FC0).to_bytes(4, "little")
    with pytest.raises(StateLossError) as caught:
        to_compacted(data, load_model("haswell"), xcomp_bv=5)
    assert caught.value.lost == ("sse",)
    assert to_compacted(data, load_model("haswell"), xcomp_bv=5, drop=["sse"]).dropped == ("sse",)


def test_stale_mxcsr_of_a_compacted_area_never_comes_alive() -> None:
    data = area(0, 7 | COMPACTED)
    data[24:28] = (0x9FC0).to_bytes(4, "little")
    model = load_model("haswell")
    assert to_standard(data, model).data[24:28] == b"\x80\x1f\0\0"
    assert header(to_compacted(data, model).data)[0] == 0


def test_reserved_header_bytes_become_zero() -> None:
    # XSAVEC never writes bytes 528..575 (HW): a processor's own area carries what was there.
    data = area(4, 7 | COMPACTED)
    data[528:576] = b"\xa5" * 48
    assert header(to_standard(data, load_model("haswell")).data)[2] == bytes(48)
    assert header(to_compacted(data, load_model("haswell")).data)[2] == bytes(48)


def test_live_supervisor_state_is_a_loss_in_the_standard_format() -> None:
    model = load_model("tiger-lake")
    data = area(1 << 11 | 1 << 8 | 4, (model.xcr0 | model.xss) | COMPACTED, 4096)
    with pytest.raises(StateLossError, match="pt, cet_u") as caught:
        to_standard(data, model)
    assert caught.value.lost == ("pt", "cet_u")
    with pytest.raises(StateLossError) as caught:
        to_standard(data, model, drop=["pt"])
    assert caught.value.lost == ("cet_u",)
    result = to_standard(data, model, drop=["pt", 11, "pkru"])
    assert result.dropped == ("pt", "cet_u"), "only what was really lost"
    assert header(result.data)[0] == 4


@pytest.mark.parametrize("drop", [["axv"], [63], [-1], "component99", ["component"]], ids=repr)
def test_drop_names_must_exist(drop: Any) -> None:
    with pytest.raises(UnknownComponentError):
        to_standard(area(0), load_model("zen4"), drop=drop)


@pytest.mark.parametrize("drop", [["component20"], "pkru", [62]], ids=repr)
def test_drop_takes_any_superset(drop: Any) -> None:
    assert to_standard(area(0), load_model("zen4"), drop=drop).dropped == ()


def test_state_survives_a_cleared_xcr0_bit() -> None:
    # The source's XCR0 does not say what is copied; XSTATE_BV does (SDM 13.4.2).
    model = load_model("zen4")
    seen = model.limited(xcr0=7)
    out = relayout(area(0x2E7), source=seen, target=model, format="standard").data
    assert header(out)[0] == 0x2E7
    with pytest.raises(StateLossError) as caught:
        to_standard(area(0x2E7), seen)
    assert caught.value.lost == ("opmask", "zmm_hi256", "hi16_zmm", "pkru")


def test_another_models_layout() -> None:
    intel, amd = load_model("skylake-server"), load_model("zen4")
    data = area(0x2E7)
    for at, size, byte in [(1088, 64, 1), (1152, 512, 2), (1664, 1024, 3), (2688, 8, 4)]:
        data[at : at + size] = bytes([byte]) * size
    out = relayout(data, source=intel, target=amd, format="standard").data
    for at, size, byte in [(832, 64, 1), (896, 512, 2), (1408, 1024, 3), (2432, 8, 4)]:
        assert out[at : at + size] == bytes([byte]) * size
    back = relayout(out, source=amd, target=intel, format="standard").data
    assert back[576:832] == data[576:832]
    assert back[1088:] == data[1088:]


def test_components_of_another_size_move_by_field() -> None:
    zen2, zen3 = load_model("zen2"), load_model("zen3")
    data = area(0x200, 0, 896, fill=0)
    data[832:836] = b"\x04\x03\x02\x01"
    out = relayout(data, source=zen2, target=zen3, format="standard").data
    assert out[2432:2440] == b"\x04\x03\x02\x01\0\0\0\0"
    data[895] = 1  # a byte that no field names and the 8-byte component has no place for
    with pytest.raises(StateLossError) as caught:
        relayout(data, source=zen2, target=zen3, format="standard")
    assert caught.value.lost == ("pkru",)
    result = relayout(data, source=zen2, target=zen3, format="standard", drop=["pkru"])
    assert result.dropped == ("pkru",)
    assert result.data[2432:2436] == b"\x04\x03\x02\x01"


def test_what_lies_beyond_a_short_standard_area_is_initial() -> None:
    model = load_model("zen4")
    out = to_standard(area(7, size=832), model).data
    assert len(out) == 2440
    assert not any(out[832:])
    with pytest.raises(TooShortError, match="opmask"):
        to_standard(area(0x27, size=895), model)


def test_absent_and_initial_components_never_make_a_conversion_fail() -> None:
    wide, narrow = load_model("sapphire-rapids"), load_model("sandy-bridge")
    data = area(7, (wide.xcr0 | wide.xss) | COMPACTED, 11776)
    assert relayout(data, source=wide, target=narrow, format="standard").dropped == ()


def test_unknown_bits_need_the_writer() -> None:
    wide, narrow = load_model("sapphire-rapids"), load_model("zen4")
    data = area(0x20007, 0x60207 | COMPACTED, 16384)
    with pytest.raises(HeaderError, match="component17"):
        to_standard(data, narrow)
    with pytest.raises(StateLossError) as caught:
        relayout(data, source=wide, target=narrow, format="standard")
    assert caught.value.lost == ("tilecfg",)


@pytest.mark.parametrize("whole", [True, False], ids=["bytearray", "memoryview"])
def test_out_takes_the_result_and_nothing_more(whole: bool) -> None:
    model = load_model("haswell")
    data = area(5, 7 | COMPACTED)
    backing = bytearray(b"\xee" * 900)
    result = to_standard(data, model, out=backing if whole else memoryview(backing))
    assert result.data == to_standard(data, model).data
    assert backing[:832] == result.data
    assert set(backing[832:]) == {0xEE}


@pytest.mark.parametrize("fill", [0, 0xFF])
def test_converting_in_place(fill: int) -> None:
    model = load_model("zen4")
    source = area(0x2E7, 0x2E7 | COMPACTED, 4096, fill)
    source[24:28] = (0x1F80).to_bytes(4, "little")
    expected = bytes(to_standard(bytes(source), model).data)
    assert to_standard(source, model, out=source).data == expected
    back = bytes(to_compacted(bytes(source[:2440]), model, xcomp_bv=0x2E7).data)
    view = memoryview(source)
    assert to_compacted(view[:2440], model, xcomp_bv=0x2E7, out=view).data == back


def test_nothing_is_written_when_anything_is_wrong() -> None:
    model = load_model("zen4")
    out = bytearray(b"\xee" * 2440)
    cases: list[tuple[type[XsaveError], Callable[[], object]]] = [
        (TooShortError, lambda: to_standard(area(0x200, size=2000), model, out=out)),
        (TooShortError, lambda: to_standard(area(0), model, out=memoryview(out)[:2439])),
        (StateLossError, lambda: to_standard(area(0x200), model, xcr0=7, out=out)),
        (HeaderError, lambda: to_standard(area(0, 1), model, out=out)),
        (MaskError, lambda: to_standard(area(0), model, xcr0=0x80007, out=out)),
        (MaskError, lambda: to_compacted(area(0), model, xcomp_bv=1 << 20, out=out)),
        (XsaveError, lambda: to_standard(area(0), model, out=bytes(4096))),  # type: ignore[arg-type]
    ]
    for error, call in cases:
        with pytest.raises(error):
            call()
    assert out == b"\xee" * 2440


def test_any_mask_is_repacked_to_any_other() -> None:
    model = load_model("sapphire-rapids")
    full = model.xcr0 | model.xss
    data = area(0x20005, full | COMPACTED, 11776)
    out = to_compacted(data, model, xcomp_bv=0x20005).data
    assert header(out)[:2] == (0x20005, 0x20005 | COMPACTED)
    # avx ends at 832, a multiple of 64; tilecfg follows.
    assert len(out) == 832 + 64
    again = to_compacted(out, model, xcomp_bv=full).data
    assert XsaveArea.parse(again, model)["tilecfg"] == XsaveArea.parse(data, model)["tilecfg"]


def test_relayout_keeps_the_format_it_is_given() -> None:
    intel, amd = load_model("skylake-server"), load_model("zen4")
    kept = relayout(area(7), source=intel, target=amd)
    assert kept.layout.format == "standard"
    kept = relayout(area(7, 0x107 | COMPACTED), source=intel, target=amd)
    assert kept.layout.format == "compacted"
    assert kept.layout.mask == 7, "XCOMP_BV is kept as far as the target has the components"
    turned = relayout(area(7), source=intel, target=amd, format="compacted", xcomp_bv=7)
    assert len(turned.data) == 832
    with pytest.raises(XsaveError):
        relayout(area(7), source=intel, target=amd, xcomp_bv=7)
    with pytest.raises(XsaveError):
        relayout(area(7), source=intel, target=amd, format="compacted", xcr0=7)

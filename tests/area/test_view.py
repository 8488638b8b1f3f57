"""XsaveArea: what stands in memory, what it means, and what writing does."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from xsaveschema import XsaveArea, load_model
from xsaveschema.errors import (
    HeaderError,
    NoPlaceError,
    TooShortError,
    UnknownComponentError,
    ValueRangeError,
    XsaveError,
)
from xsaveschema.restore import notes

Agree = Callable[[XsaveArea], XsaveArea]
COMPACTED = 1 << 63


def standard(xstate_bv: int, size: int = 2696, fill: int = 0, xcomp_bv: int = 0) -> bytearray:
    data = bytearray([fill]) * size
    data[512:576] = struct.pack("<QQ48x", xstate_bv, xcomp_bv)
    return data


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview], ids=lambda k: k.__name__)
def test_every_buffer_is_read_without_a_copy(kind: Callable[[bytes], bytes]) -> None:
    data = standard(7)
    data[576:592] = bytes(range(16))
    area = XsaveArea.parse(kind(bytes(data)), load_model("haswell"))
    assert area["avx"]["ymm_hi128"][0] == int.from_bytes(range(16), "little")


def test_a_writable_buffer_is_edited_in_place_and_a_read_only_one_is_not() -> None:
    model = load_model("haswell")
    mapped = mmap.mmap(-1, 832)
    mapped[512] = 7
    XsaveArea.parse(mapped, model).registers["ymm3"] = 5
    assert mapped[160 + 48] == 5
    frozen = bytes(standard(7, 832))
    area = XsaveArea.parse(frozen, model)
    area.registers["ymm3"] = 5
    assert bytes(area)[160 + 48] == 5
    assert frozen[160 + 48] == 0


def test_buffers_of_wider_items_are_bytes_all_the_same() -> None:
    words = memoryview(bytes(standard(7, 832))).cast("Q")
    assert len(XsaveArea.parse(words, load_model("haswell"))) == 832


@pytest.mark.parametrize("size", [0, 1, 512, 575])
def test_shorter_than_legacy_and_header(size: int) -> None:
    with pytest.raises(TooShortError, match="576") as caught:
        XsaveArea.parse(bytes(size), load_model("zen4"))
    assert (caught.value.needed, caught.value.actual) == (576, size)


def test_a_standard_area_must_reach_the_end_of_what_is_in_use() -> None:
    model = load_model("zen4")
    # Zen 4 (CPUID D.9): pkru, 8 bytes at 2432.
    with pytest.raises(TooShortError, match="pkru") as caught:
        XsaveArea.parse(standard(0x207, 2439), model)
    assert (caught.value.component, caught.value.needed) == ("pkru", 2440)
    area = XsaveArea.parse(standard(0x007, 2439), model)
    assert not area.in_use("pkru")
    assert area.layout.mask == 0xE7
    with pytest.raises(NoPlaceError, match="0xE7"):
        area.registers["pkru"] = 1


def test_a_compacted_area_must_hold_its_whole_layout() -> None:
    model = load_model("zen4")
    short = standard(1, 576 + 255, xcomp_bv=7 | COMPACTED)
    with pytest.raises(TooShortError, match="avx"):
        XsaveArea.parse(short, model)


@pytest.mark.parametrize(
    ("xstate_bv", "xcomp_bv", "rule"),
    [
        pytest.param(0, 4, "xcomp-bv-form", id="no-bit-63"),
        pytest.param(4, 3 | COMPACTED, "xstate-bv-beyond-xcomp-bv", id="beyond"),
        pytest.param(1 << 20, 0, "xstate-bv-unknown", id="unknown"),
        pytest.param(0, 1 << 20 | COMPACTED, "xcomp-bv-unknown", id="unknown-place"),
        pytest.param(1 << 11, 0, "xstate-bv-supervisor", id="supervisor"),
        pytest.param(1 << 63, 0, "xstate-bv-unknown", id="bit-63"),
    ],
)
def test_illegal_headers(xstate_bv: int, xcomp_bv: int, rule: str) -> None:
    data = standard(xstate_bv, xcomp_bv=xcomp_bv)
    with pytest.raises(HeaderError, match="check") as caught:
        XsaveArea.parse(data, load_model("zen4"))
    assert rule in [fault.rule for fault in caught.value.faults]
    area = XsaveArea.parse(data, load_model("zen4"), strict=False)
    assert rule in [fault.rule for fault in area.faults]
    assert repr(area)
    with pytest.raises(XsaveError):
        area.registers["mxcsr"] = 0x1F80


def test_a_lenient_area_shows_only_places_that_are_sure() -> None:
    # Behind component 20, of unknown size, nothing has a sure place.
    bits = 1 << 20 | 1 << 62 | 7
    data = standard(7, xcomp_bv=bits | COMPACTED)
    area = XsaveArea.parse(data, load_model("bulldozer"), strict=False)
    assert [slot.name for slot in area.layout] == ["x87", "sse", "avx"]


def test_a_lenient_area_shows_no_components_that_share_bytes() -> None:
    """Both cannot be in use, so nobody knows whose the bytes are; all else is sure."""
    model = load_model("skylake-server")
    pkru = replace(model.components["pkru"], offset=1100)  # within opmask
    model = replace(model, components={**model.components, "pkru": pkru})
    data = standard(0x227)
    with pytest.raises(HeaderError, match=r"both are in use: opmask .* and pkru .* overlap"):
        XsaveArea.parse(data, model)
    area = XsaveArea.parse(data, model, strict=False)
    assert [fault.rule for fault in area.faults] == ["xstate-bv-overlap"]
    assert [slot.name for slot in area.layout] == ["x87", "sse", "avx"]
    assert area.values()["sse.mxcsr"] == 0
    assert [note.component for note in notes(data, model, xcr0=7)] == ["x87"]


@pytest.mark.parametrize("fill", [0x00, 0xA5])
@pytest.mark.parametrize("xcomp_bv", [0, 0x2E7 | COMPACTED], ids=["standard", "compacted"])
def test_initial_components_give_initial_values_never_stale_bytes(
    fill: int, xcomp_bv: int, agree: Agree
) -> None:
    data = standard(0, fill=fill, xcomp_bv=xcomp_bv)
    area = agree(XsaveArea.parse(data, load_model("zen4")))
    for name, value in area.values().items():
        stored = xcomp_bv == 0 and name in {"sse.mxcsr", "sse.mxcsr_mask"}
        if stored or name.startswith("header."):
            continue
        initial = {"x87.fcw": 0x37F, "sse.mxcsr": 0x1F80}.get(name, 0)
        assert value == (bytes(len(value)) if isinstance(value, bytes) else initial), name
    assert area.registers["fcw"] == 0x37F
    assert area.registers["zmm0"] == area.registers["zmm31"] == 0
    assert area["x87"].bits("fcw")["pc"] == 3
    assert area.raw["avx"] == bytes([fill]) * 256


def test_mxcsr_is_read_by_format() -> None:
    # SDM 13.8.1: a standard restore loads MXCSR even if XSTATE_BV[1] = 0; a compacted one does not.
    for xcomp_bv, expected in [(0, 0x9FC0), (3 | COMPACTED, 0x1F80)]:
        data = standard(0, xcomp_bv=xcomp_bv)
        data[24:28] = (0x9FC0).to_bytes(4, "little")
        area = XsaveArea.parse(data, load_model("zen4"))
        assert area.registers["mxcsr"] == area["sse"]["mxcsr"] == expected
        assert area.values()["sse.mxcsr"] == expected


def test_writing_an_initial_component_fills_it_first() -> None:
    data = standard(0, fill=0xA5)
    area = XsaveArea.parse(data, load_model("skylake-server"))
    area.registers["k3"] = 0x1234
    assert area.in_use("opmask")
    assert area["opmask"]["k"] == [0, 0, 0, 0x1234, 0, 0, 0, 0]
    assert data[512:520] == (1 << 5).to_bytes(8, "little")
    assert data[1088 + 24 : 1088 + 32] == (0x1234).to_bytes(8, "little")
    # The neighbours' stale bytes were nobody's business.
    assert set(data[1024:1088]) == {0xA5}


def test_writing_x87_leaves_mxcsr_alone() -> None:
    data = standard(0, fill=0xA5)
    area = XsaveArea.parse(data, load_model("haswell"))
    area["x87"]["fop"] = 7
    assert area["x87"]["fcw"] == 0x37F
    assert set(data[24:32]) == {0xA5}


@pytest.mark.parametrize("xcomp_bv", [0, 7 | COMPACTED], ids=["standard", "compacted"])
def test_writing_mxcsr_sets_sse_in_use_with_zero_registers(xcomp_bv: int) -> None:
    area = XsaveArea.parse(standard(0, fill=0xA5, xcomp_bv=xcomp_bv), load_model("haswell"))
    area.registers["mxcsr"] = 0x1FA0
    assert area.in_use("sse")
    assert area.registers["mxcsr"] == 0x1FA0
    assert area.registers["xmm7"] == 0


def test_writing_xmm_in_a_compacted_area_gives_mxcsr_its_initial_value() -> None:
    area = XsaveArea.parse(standard(0, fill=0xA5, xcomp_bv=7 | COMPACTED), load_model("haswell"))
    area.registers["xmm0"] = 1
    assert area.registers["mxcsr"] == 0x1F80


def test_initialise_clears_the_bit_and_the_bytes() -> None:
    data = standard(7, fill=0x5A)
    area = XsaveArea.parse(data, load_model("haswell"))
    for name in ("avx", "sse", "x87"):
        area.initialise(name)
    assert area.xstate_bv == 0
    assert area.registers["mxcsr"] == 0x1F80
    assert data[0:2] == b"\x7f\x03"
    assert not any(data[576:832])
    assert set(data[832:]) == {0x5A}


def test_paths_reach_fields_elements_and_bits() -> None:
    area = XsaveArea.new(load_model("skylake-server"))
    area["bndregs"]["bnd[2].lower"] = 7
    assert area["bndregs"]["bnd"][2]["lower"] == 7
    area["bndregs"]["bnd"][1]["upper"] = 9
    assert area["bndregs"]["bnd[1].upper"] == 9
    area["sse"]["mxcsr.rc"] = 3
    assert area["sse"]["mxcsr"] == 0x1F80 | 3 << 13
    area["x87"]["st[7].exponent"] = 0x7FFF
    assert area["x87"]["st"][7] == 0x7FFF << 64
    assert area["pkru"]["pkru.ad1"] == 0
    area["opmask"]["k"] = range(8)
    assert list(area["opmask"]["k"]) == list(range(8))
    assert dict(area["bndcsr"]) == {"bndcfgu": 0, "bndstatus": 0}


@pytest.mark.parametrize(
    "path",
    [
        *("rc", "mxcsr.", "mxcsr.nope", "xmm", "bnd", "xmm[16]", "xmm[0", "xmm.0", "xmm[0].x"),
        *("", ".", 5, None),
    ],
)
def test_paths_that_lead_nowhere(path: Any) -> None:
    fields = XsaveArea.new(load_model("zen4"))["sse"]
    if path == "xmm":
        assert len(fields[path]) == 16
        return
    with pytest.raises(UnknownComponentError):
        fields[path]
    with pytest.raises(UnknownComponentError):
        fields[path] = 0
    assert path not in fields


@pytest.mark.parametrize("value", [-1, 1 << 32, "1", 1.0, None, True, b"12345"], ids=repr)
def test_values_that_do_not_fit(value: Any) -> None:
    data = standard(0)
    area = XsaveArea.parse(data, load_model("zen4"))
    with pytest.raises(ValueRangeError, match="mxcsr"):
        area["sse"]["mxcsr"] = value
    with pytest.raises(ValueRangeError, match="mxcsr"):
        area.registers["mxcsr"] = value
    assert data == standard(0)


def test_bits_that_do_not_fit() -> None:
    fields = XsaveArea.new(load_model("zen4"))["sse"]
    fields["mxcsr.rc"] = 3
    for value in (4, -1):
        with pytest.raises(ValueRangeError, match=rf"sse\.mxcsr\.rc takes 0\.\.0x3, not {value}"):
            fields["mxcsr.rc"] = value
    assert fields["mxcsr.rc"] == 3


def test_a_component_that_is_cut_short_has_fewer_elements() -> None:
    """On a CPU whose LBR component has room for some entries alone."""
    model = load_model("sapphire-rapids")
    lbr = model.components["lbr"]
    first = next(field for field in lbr.fields if field.count)
    for room, count in ((0, 0), (1, 0), (first.stride, 1), (first.stride * 2 + 1, 2)):
        short = replace(lbr, size=first.offset + room)
        cut = replace(model, components={**model.components, "lbr": short})
        fields = XsaveArea.new(cut, "compacted")["lbr"]
        assert len(fields[first.name]) == count
        with pytest.raises(IndexError):
            fields[first.name][count]
    assert len(XsaveArea.new(model, "compacted")["lbr"][first.name]) == first.count


def test_unknown_names() -> None:
    area = XsaveArea.new(load_model("haswell"))
    with pytest.raises(UnknownComponentError, match="axv"):
        area["axv"]
    with pytest.raises(UnknownComponentError, match="ymm1"):
        area.registers["ymm1x"]
    with pytest.raises(UnknownComponentError):
        area.registers["zmm0"]
    with pytest.raises(TypeError):
        del area.registers["ymm0"]
    with pytest.raises(IndexError):
        area["avx"]["ymm_hi128"][16]


@pytest.mark.parametrize("format", ["standard", "compacted"])
@pytest.mark.parametrize("name", ["sandy-bridge", "zen2", "zen4", "sapphire-rapids", "bulldozer"])
def test_new_areas_are_all_initial(name: str, format: str, agree: Agree) -> None:
    model = load_model(name)
    area = agree(XsaveArea.new(model, format))  # type: ignore[arg-type]  # by parameter
    assert area.xstate_bv == 0
    assert area.format == format
    assert area.registers["mxcsr"] == 0x1F80
    layout = model.standard_layout() if format == "standard" else model.compacted_layout()
    assert len(area) == layout.size


def test_new_takes_the_mask_of_its_format_only() -> None:
    model = load_model("zen4")
    assert len(XsaveArea.new(model, "compacted", xcomp_bv=0x200)) == 576 + 8
    assert len(XsaveArea.new(model, xcr0=7)) == 832
    with pytest.raises(XsaveError):
        XsaveArea.new(model, "compacted", xcr0=7)
    with pytest.raises(XsaveError):
        XsaveArea.new(model, xcomp_bv=7)
    with pytest.raises(XsaveError):
        XsaveArea.new(model, "packed")  # type: ignore[arg-type]  # the mistake under test


def test_supervisor_state_that_its_writer_left_out_of_xstate_bv() -> None:
    model = load_model("tiger-lake")
    data = standard(7, xcomp_bv=7 | 0x1800 | COMPACTED)
    data[832:840] = (3).to_bytes(8, "little")  # IA32_U_CET, behind AVX
    assert XsaveArea.parse(data, model).registers["ia32_u_cet"] == 0
    area = XsaveArea.parse(data, model, assume_supervisor=True)
    assert area.registers["ia32_u_cet"] == 3
    assert data[512] == 7
    area.registers["ia32_pl3_ssp"] = 8
    assert data[512:514] == b"\x07\x18"


def test_skylake_server_has_101_stored_fields() -> None:
    values = XsaveArea.parse(standard(0x2FF), load_model("skylake-server")).values()
    assert len(values) == 101
    assert list(values)[:4] == ["x87.fcw", "x87.fsw", "x87.ftw", "x87.fop"]


def test_views_of_one_buffer_keep_what_the_others_wrote() -> None:
    model = load_model("tiger-lake")
    data = standard(0)
    one, other = XsaveArea.parse(data, model), XsaveArea.parse(data, model)
    other.registers["k1"] = 0xDEAD
    one.registers["mxcsr"] = 0x1FA0
    assert one.registers["k1"] == other.registers["k1"] == 0xDEAD
    assert (one.xstate_bv, other.xstate_bv) == (0x22, 0x22)
    assert struct.unpack_from("<Q", data, 512) == (0x22,)
    one.initialise("opmask")
    other.registers["pkru"] = 4
    assert struct.unpack_from("<Q", data, 512) == (0x202,)
    assert other.registers["k1"] == 0


def test_a_view_sees_what_a_kernel_puts_into_its_buffer() -> None:
    data = standard(7)
    data[576:592] = bytes(range(16))
    area = XsaveArea.parse(data, load_model("haswell"))
    assert area.in_use("avx")
    data[512] = 3
    assert (area.xstate_bv, area.in_use("avx"), area.registers["ymm0"]) == (3, False, 0)
    assert set(area.values()) >= {"avx.ymm_hi128[0]"}
    assert area.values()["avx.ymm_hi128[0]"] == bytes(16)
    assert area.registers.read()["ymm0"] == 0


@pytest.mark.parametrize(
    "touch",
    [
        pytest.param(lambda area: area.registers["ymm0"], id="read"),
        pytest.param(lambda area: area.registers.read(), id="read all"),
        pytest.param(lambda area: area.registers.update(ymm0=5), id="write"),
        pytest.param(lambda area: area.initialise("avx"), id="initialise"),
        pytest.param(lambda area: area["avx"]["ymm_hi128"][0], id="field"),
    ],
)
def test_a_buffer_whose_format_changed_is_refused(touch: Callable[[XsaveArea], Any]) -> None:
    data = standard(7)
    area = XsaveArea.parse(data, load_model("tiger-lake"))
    struct.pack_into("<Q", data, 520, COMPACTED | 7)
    before = bytes(data)
    with pytest.raises(XsaveError, match=r"XCOMP_BV was 0x0 .* is 0x8000000000000007 now"):
        touch(area)
    assert data == before


def test_sse_that_comes_into_use_brings_the_mask_of_mxcsr() -> None:
    """As XSAVEC writes it (HW): nobody takes the area for a debugger's then."""
    model = load_model("zen4")
    area = XsaveArea.new(model, "compacted")
    assert area["sse"]["mxcsr_mask"] == 0
    area["sse"]["xmm"][3] = 7
    assert area["sse"]["mxcsr_mask"] == model.mxcsr_mask
    assert area["sse"]["mxcsr"] == 0x1F80


@pytest.mark.parametrize("index", ["0", None, 1.5, True])
def test_an_element_is_named_by_a_number(index: Any) -> None:
    elements = XsaveArea.new(load_model("zen4"))["sse"]["xmm"]
    with pytest.raises(XsaveError, match="takes an integer"):
        elements[index]

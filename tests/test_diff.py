"""What differs in meaning between two areas: pairs made by hand, then laws."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_laws import MODELS, meaning, models

from xsaveschema import XsaveArea, load_model, relayout, to_compacted, to_standard
from xsaveschema.area.loaded import as_restored
from xsaveschema.diff import X87_POINTERS, BitDelta, ByteDelta, Delta, byte_differences, diff
from xsaveschema.errors import (
    HeaderError,
    StateLossError,
    TooShortError,
    UnknownComponentError,
)
from xsaveschema.model import COMPACTED, CpuModel, Field, Format, StateComponent
from xsaveschema.testing import areas

SKX = load_model("skylake-server")
SPR = load_model("sapphire-rapids")
ZEN4 = load_model("zen4")
HWP = next(model for model in MODELS if "hwp" in model.components)
formats = pytest.mark.parametrize("form", ["standard", "compacted"])

Edit = Callable[[XsaveArea], None]


def pair(model: CpuModel, form: Format, edit: Edit) -> tuple[XsaveArea, XsaveArea]:
    """The initial area, and what `edit` makes of it."""
    changed = XsaveArea.new(model, form)
    edit(changed)
    return XsaveArea.new(model, form), changed


def put(component: str, path: str, value: int | bytes) -> Edit:
    def edit(area: XsaveArea) -> None:
        area[component][path] = value

    return edit


def without_fields(model: CpuModel, name: str, size: int | None = None) -> CpuModel:
    """The model as one who does not know what the component holds would write it."""
    old = model.components[name]
    opaque = StateComponent(
        **{key: getattr(old, key) for key in ("number", "name", "offset", "supervisor", "align64")},
        size=size or old.size,
        xfd=old.xfd,
        optional=old.optional,
        load_fields=lambda: (),
    )
    return replace(model, components={**model.components, name: opaque})


def bits(*deltas: tuple[str, int, int]) -> tuple[BitDelta, ...]:
    return tuple(BitDelta(*delta) for delta in deltas)


FIELDS = [
    pytest.param(
        SKX,
        put("sse", "mxcsr", 0x3FA0),
        Delta("sse", "sse.mxcsr", 0x1F80, 0x3FA0, bits(("pe", 0, 1), ("rc", 0, 1))),
        "sse.mxcsr: 0x1f80 -> 0x3fa0 (pe 0 -> 1, rc 0 -> 1)",
        id="named bits",
    ),
    pytest.param(
        SKX,
        put("sse", "mxcsr", 0xC0011F81),
        Delta(
            "sse",
            "sse.mxcsr",
            0x1F80,
            0xC0011F81,
            bits(("ie", 0, 1), ("bit 16", 0, 1), ("bits 31:30", 0, 3)),
        ),
        "sse.mxcsr: 0x1f80 -> 0xc0011f81 (ie 0 -> 1, bit 16 0 -> 1, bits 31:30 0 -> 3)",
        id="bits without a name",
    ),
    pytest.param(
        SKX,
        put("avx", "ymm_hi128[3]", 0xAB << 64),
        Delta("avx", "avx.ymm_hi128[3]", 0, 0xAB << 64),
        "avx.ymm_hi128[3]: 0x0 -> 0xab0000000000000000",
        id="an element",
    ),
    pytest.param(
        SKX,
        put("x87", "st[7]", 0xC000 << 64 | 1 << 63),
        Delta(
            "x87",
            "x87.st[7]",
            0,
            0xC000 << 64 | 1 << 63,
            bits(("significand", 0, 1 << 63), ("exponent", 0, 0x4000), ("sign", 0, 1)),
        ),
        "x87.st[7]: 0x0 -> 0xc0008000000000000000 (significand 0 -> 0x8000000000000000, "
        "exponent 0 -> 0x4000, sign 0 -> 1)",
        id="wide bits",
    ),
    pytest.param(
        ZEN4,
        put("x87", "fcw", 0),
        Delta(
            "x87",
            "x87.fcw",
            0x37F,
            0,
            bits(
                *((name, 1, 0) for name in ("im", "dm", "zm", "om", "um", "pm")),
                ("bit 6", 1, 0),
                ("pc", 3, 0),
            ),
        ),
        "x87.fcw: 0x37f -> 0x0 (im 1 -> 0, dm 1 -> 0, zm 1 -> 0, om 1 -> 0, um 1 -> 0, pm 1 -> 0, "
        "bit 6 1 -> 0, pc 3 -> 0)",
        id="an initial value that is not zero",
    ),
    pytest.param(
        SKX,
        put("bndregs", "bnd[2].upper", 5),
        Delta("bndregs", "bndregs.bnd[2].upper", 0, 5),
        "bndregs.bnd[2].upper: 0x0 -> 0x5",
        id="a field of a group",
    ),
    pytest.param(
        SPR,
        put("tiledata", "tmm[1]", bytes(100) + b"\1\2" + bytes(922)),
        Delta("tiledata", "tiledata.tmm[1]", bytes(1024), bytes(100) + b"\1\2" + bytes(922)),
        f"tiledata.tmm[1]: 2 of 1024 bytes differ, from byte 100: {'00' * 16}... -> "
        f"0102{'00' * 14}...",
        id="raw bytes",
    ),
]


@formats
@pytest.mark.parametrize(("model", "edit", "delta", "text"), FIELDS)
def test_one_field(model: CpuModel, edit: Edit, delta: Delta, text: str, form: Format) -> None:
    first, second = pair(model, form, edit)
    assert diff(first, second) == [delta]
    assert diff(bytes(first), bytes(second), model) == [delta]
    assert str(delta) == text


@formats
def test_deltas_come_in_order_of_component_and_memory(form: Format) -> None:
    def edit(area: XsaveArea) -> None:
        area.registers["zmm3"] = 1 << 300 | 1 << 200 | 1
        area.registers["k7"] = 2
        area["x87"]["ftw"] = 0x80
        area["x87"]["st[0]"] = 3

    assert [delta.path for delta in diff(*pair(SKX, form, edit))] == [
        "x87.ftw",
        "x87.st[0]",
        "sse.xmm[3]",
        "avx.ymm_hi128[3]",
        "opmask.k[7]",
        "zmm_hi256.zmm_hi256[3]",
    ]


def test_what_stands_at_the_place_of_an_initial_component_means_nothing() -> None:
    # XSAVEC leaves it stale (HW).
    first = bytes(XsaveArea.new(SKX, "compacted"))
    second = bytearray(first)
    second[:416] = b"\xa5" * 416
    second[576:] = b"\xa5" * (len(second) - 576)
    assert diff(first, second, SKX, everything=True) == []
    second[512] = 1
    assert {delta.component for delta in diff(first, second, SKX)} == {"x87"}


def test_mxcsr_is_what_a_restore_would_load() -> None:
    for model in (SKX, SKX.limited(xcr0=1)):
        standard = bytearray(bytes(XsaveArea.new(model)))
        initial = bytes(standard)
        standard[24:28] = bytes(4)
        # A standard restore loads the bytes whatever XSTATE_BV says.
        (delta,) = diff(initial, standard, model)
        assert (delta.path, delta.a, delta.b) == ("sse.mxcsr", 0x1F80, 0)
    compacted = bytearray(bytes(XsaveArea.new(SKX, "compacted")))
    compacted[24:28] = b"\xff" * 4
    assert diff(initial, compacted, SKX) == [], "a compacted one sets 0x1F80 without XSTATE_BV[1]"
    compacted[512] = 2
    (delta,) = diff(initial, compacted, SKX)
    assert (delta.path, delta.b) == ("sse.mxcsr", 0xFFFFFFFF)


def test_in_use_with_equal_values_is_told_apart_only_on_demand() -> None:
    first = XsaveArea.new(SKX)
    second = XsaveArea.new(SKX)
    second["avx"]["ymm_hi128[0]"] = 0
    second["pkru"]["pkru"] = 0
    assert diff(first, second) == []
    assert diff(second, first, everything=True) == [
        Delta("avx", "avx", 1, 0, kind="in-use"),
        Delta("pkru", "pkru", 1, 0, kind="in-use"),
    ]
    assert list(map(str, diff(first, second, everything=True, ignore="avx"))) == [
        "pkru: initial -> in use, with equal values [in-use]"
    ]
    second["avx"]["ymm_hi128[0]"] = 1
    assert [delta.kind for delta in diff(first, second, everything=True, ignore="pkru")] == [
        "state"
    ]


def test_everything_adds_what_no_restore_loads() -> None:
    first = bytearray(bytes(XsaveArea.new(SKX)))
    first[512] = 1
    second = bytearray(first)
    second[5] = 0x11  # reserved, between FTW and FOP
    second[28:32] = b"\xff\xff\2\0"
    second[42:44] = b"\x22\x33"  # reserved, behind ST0
    second[420] = 0x44
    second[464:466] = b"\xe7\2"
    second[540:542] = b"\x55\x66"
    a, b = (XsaveArea.parse(data, SKX, assume=True) for data in (first, second))
    assert diff(a, b) == []
    found = diff(a, b, everything=True)
    assert found == [
        Delta("x87", "x87[5:6]", b"\0", b"\x11", kind="reserved"),
        Delta("x87", "x87[42:44]", b"\0\0", b"\x22\x33", kind="reserved"),
        Delta("sse", "sse.mxcsr_mask", 0xFFFF, 0x2FFFF, kind="mask"),
        Delta("legacy", "legacy[420:421]", b"\0", b"\x44", kind="reserved"),
        Delta("legacy", "legacy[464:466]", b"\0\0", b"\xe7\2", kind="software"),
        Delta("header", "header[28:30]", b"\0\0", b"\x55\x66", kind="reserved"),
    ]
    assert [str(delta) for delta in found[1:3]] == [
        "x87[42:44]: 0000 -> 2233 [reserved]",
        "sse.mxcsr_mask: 0xffff -> 0x2ffff [mask]",
    ]
    ignored = diff(a, b, everything=True, ignore=["legacy", "header", "x87"])
    assert [delta.kind for delta in ignored] == ["mask"]


def test_formats_differ_only_on_demand() -> None:
    first, second = XsaveArea.new(SKX), XsaveArea.new(SKX, "compacted")
    assert diff(first, second) == []
    assert diff(first, second, everything=True, ignore=["sse.mxcsr_mask"]) == [
        Delta("header", "header.xcomp_bv", 0, second.xcomp_bv, kind="format")
    ]


@formats
def test_a_component_that_only_one_model_has_counts_as_initial_on_the_other(form: Format) -> None:
    first = XsaveArea.new(SKX, form)
    first["bndcsr"]["bndcfgu"] = 1
    first["pkru"]["pkru"] = 0x55555554
    second = XsaveArea.new(ZEN4, form)
    second["pkru"]["pkru"] = 0x55555554
    expected = Delta("bndcsr", "bndcsr.bndcfgu", 1, 0, bits(("en", 1, 0)))
    assert diff(first, second) == [expected]
    assert diff(bytes(first), bytes(second), SKX, ZEN4) == [expected]
    assert diff(bytes(first), second, SKX) == [expected], "an area brings its own model"
    (back,) = diff(second, first)
    assert (back.component, back.path, back.a, back.b) == ("bndcsr", "bndcsr.bndcfgu", 0, 1)
    first["bndcsr"]["bndcfgu"] = 0
    assert diff(first, second) == []
    first["bndregs"]["bnd[0].lower"] = 0
    kinds = {(delta.path, delta.kind) for delta in diff(first, second, everything=True)}
    assert kinds >= {("bndcsr", "in-use"), ("bndregs", "in-use")}


def test_an_initial_value_that_is_not_zero_stands_for_an_absent_component() -> None:
    area = XsaveArea.new(HWP, "compacted")
    for other in (XsaveArea.new(HWP), XsaveArea.new(ZEN4)):
        area["hwp"]["ia32_hwp_request"] = 0x8000FF01
        assert diff(area, other) == []
        area["hwp"]["ia32_hwp_request"] = 0
        found = [(delta.path, delta.a, delta.b) for delta in diff(area, other)]
        assert found == [("hwp.ia32_hwp_request", 0, 0x8000FF01)]


def test_components_of_other_sizes_are_compared_by_field() -> None:
    zen2, zen3 = load_model("zen2"), load_model("zen3")
    assert zen2.components["pkru"].size == 64 > zen3.components["pkru"].size
    first, second = XsaveArea.new(zen2), XsaveArea.new(zen3)
    first["pkru"]["pkru"] = second["pkru"]["pkru"] = 0xC
    assert diff(first, second) == []
    first["pkru"]["pkru"] = 0x4
    (delta,) = diff(first, second)
    assert (delta.path, delta.bits) == ("pkru.pkru", (("wd1", 0, 1),))
    place = first.layout["pkru"].offset
    first.buffer[place + 20] = 7
    assert Delta("pkru", "pkru[20:21]", b"\7", b"\0", kind="reserved") in diff(
        first, second, everything=True
    )


def test_a_field_beyond_the_other_sides_size_counts_as_initial() -> None:
    lbr = SPR.components["lbr"]
    short = replace(
        SPR, components={**SPR.components, "lbr": replace(lbr, size=lbr.size - 24 * 30)}
    )
    first, second = XsaveArea.new(SPR, "compacted"), XsaveArea.new(short, "compacted")
    for area in (first, second):
        area["lbr"]["ia32_lbr_depth"] = 32
        area["lbr"]["entries[1].to"] = 9
    assert diff(first, second) == []
    first["lbr"]["entries[31].to"] = 5
    expected = Delta("lbr", "lbr.entries[31].to", 5, 0)
    assert diff(first, second) == [expected]
    assert diff(second, first) == [replace(expected, a=0, b=5)]


def test_fields_are_compared_by_name_wherever_they_stand() -> None:
    def with_avx(*fields: Field) -> CpuModel:
        avx = replace(ZEN4.components["avx"], load_fields=lambda: fields)
        return replace(ZEN4, components={**ZEN4.components, "avx": avx})

    def u64(name: str, offset: int, initial: int = 0) -> Field:
        return Field(name, "u64", offset, 8, initial=initial)

    old, new = with_avx(u64("lo", 0), u64("hi", 8)), with_avx(u64("hi", 0), u64("lo", 8))
    newest = with_avx(u64("hi", 0), u64("lo", 8), u64("extra", 16, initial=5))
    area = bytearray(bytes(XsaveArea.new(ZEN4)))
    area[512], area[576], area[584] = 4, 1, 2
    swapped = [Delta("avx", "avx.lo", 1, 2), Delta("avx", "avx.hi", 2, 1)]
    assert diff(area, area, old, new) == swapped
    extra = Delta("avx", "avx.extra", 5, 0)
    assert diff(area, area, old, newest) == [*swapped, extra], "absent is as good as initial"
    assert mirrored(extra) in diff(area, area, newest, old)


def test_lbr_entries_from_depth_on_are_reserved() -> None:
    first, second = XsaveArea.new(SPR, "compacted"), XsaveArea.new(SPR, "compacted")
    for area in (first, second):
        area["lbr"]["ia32_lbr_depth"] = 8
    second["lbr"]["entries[7].from"] = 1
    second["lbr"]["entries[8].from"] = 2
    second["lbr"]["entries[31].info"] = 3
    assert [delta.path for delta in diff(first, second)] == ["lbr.entries[7].from"]
    kinds = [delta.kind for delta in diff(first, second, everything=True)]
    assert kinds == ["state", "reserved", "reserved"]
    first["lbr"]["ia32_lbr_depth"] = second["lbr"]["ia32_lbr_depth"] = 0
    assert len(diff(first, second)) == 3, "no depth at all limits nothing"
    first["lbr"]["ia32_lbr_depth"] = 8
    second["lbr"]["ia32_lbr_depth"] = 16
    paths = [delta.path for delta in diff(first, second)]
    assert paths == ["lbr.ia32_lbr_depth", "lbr.entries[7].from", "lbr.entries[8].from"]


def test_bytes_that_no_field_names_are_state_where_there_are_no_fields() -> None:
    opaque = without_fields(SKX, "pt")
    first, second = XsaveArea.new(opaque, "compacted"), XsaveArea.new(opaque, "compacted")
    for area in (first, second):
        area.write(area.layout["pt"], area.layout["pt"].offset, bytes(8))
    second.write(second.layout["pt"], second.layout["pt"].offset + 72, b"\1\2\3\0\4")
    expected = [
        Delta("pt", "pt[72:75]", bytes(3), b"\1\2\3"),
        Delta("pt", "pt[76:77]", b"\0", b"\4"),
    ]
    assert diff(first, second) == expected
    assert str(expected[0]) == "pt[72:75]: 000000 -> 010203"
    # The same with fields: those bytes are reserved.
    assert diff(bytes(first), bytes(second), SKX) == []
    assert diff(bytes(first), bytes(second), SKX, everything=True) == [
        replace(delta, kind="reserved") for delta in expected
    ]


def test_an_opaque_component_is_read_by_the_other_sides_fields() -> None:
    opaque = without_fields(HWP, "hwp")
    first, second = XsaveArea.new(HWP, "compacted"), XsaveArea.new(opaque, "compacted")
    assert diff(first, second) == []
    second.write(
        second.layout["hwp"], second.layout["hwp"].offset, (0x8000FF01).to_bytes(8, "little")
    )
    assert diff(first, second) == [], "equal to the initial value that only the other model knows"
    second.write(
        second.layout["hwp"], second.layout["hwp"].offset, (0x8000FF02).to_bytes(8, "little")
    )
    for one, two in ((first, second), (second, first)):
        (delta,) = diff(one, two)
        assert delta.path == "hwp.ia32_hwp_request"
        assert {delta.a, delta.b} == {0x8000FF01, 0x8000FF02}


def test_an_opaque_component_may_be_shorter_than_the_fields() -> None:
    opaque = without_fields(SPR, "tiledata", size=1024)
    first, second = XsaveArea.new(SPR), XsaveArea.new(opaque)
    first["tiledata"]["tmm[0]"] = b"\1" * 1024
    second.write(second.layout["tiledata"], second.layout["tiledata"].offset, b"\1" * 1024)
    assert diff(first, second) == [], "what the shorter one lacks is initial"
    first["tiledata"]["tmm[7]"] = b"\2" * 1024
    expected = Delta("tiledata", "tiledata.tmm[7]", bytes(1024), b"\2" * 1024)
    assert diff(second, first) == [expected]


def test_ignore_leaves_out_components_fields_and_elements() -> None:
    def edit(area: XsaveArea) -> None:
        area["x87"]["fop"] = area["x87"]["fip"] = area["x87"]["fdp"] = 1
        area["x87"]["st[0]"] = area["x87"]["st[1]"] = 1
        area["bndregs"]["bnd[1].lower"] = area["bndregs"]["bnd[1].upper"] = 1

    def left(*ignore: str) -> list[str]:
        return [delta.path for delta in diff(*pair(SKX, "standard", edit), ignore=ignore)]

    bounds = ["bndregs.bnd[1].lower", "bndregs.bnd[1].upper"]
    assert left(*X87_POINTERS) == ["x87.st[0]", "x87.st[1]", *bounds]
    assert left(*X87_POINTERS, "x87.st") == bounds
    assert left(*X87_POINTERS, "x87.st[0]", "bndregs") == ["x87.st[1]"]
    assert left("x87", "bndregs.bnd[1].lower") == ["bndregs.bnd[1].upper"]
    assert left("x87", "bndregs.bnd[1]") == []
    assert left("x87", "bndregs.bnd[0]") == bounds, "no prefix of letters"
    assert diff(*pair(SKX, "standard", edit), ignore="x87")[0].component == "bndregs"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("x78", "x87, sse"), ("x87.fo", "x87.fop"), ("avx.ymm_hi128[16]", "avx.ymm_hi128"), ("", "")],
)
def test_a_name_to_ignore_must_exist(name: str, hint: str) -> None:
    area = XsaveArea.new(SKX)
    with pytest.raises(UnknownComponentError, match=f"no {re.escape(repr(name))}; .*{hint}") as at:
        diff(area, area, ignore=[name])
    assert at.value.name == name
    diff(XsaveArea.new(ZEN4), area, ignore=["bndregs"])  # one model having it is enough


def test_buffers_without_sense_are_errors_unless_parsed_leniently() -> None:
    good = bytes(XsaveArea.new(SKX))
    bad = bytearray(good)
    bad[520] = 1
    for one, two in ((good, bad), (bad, good)):
        with pytest.raises(HeaderError):
            diff(one, two, SKX)
    with pytest.raises(TooShortError):
        diff(good, good[:575], SKX)
    bad[576] = 1
    bad[512] = 4
    lenient = XsaveArea.parse(bad, SKX, strict=False)
    assert [delta.path for delta in diff(good, lenient, SKX)] == ["avx.ymm_hi128[0]"]


def test_what_a_lenient_area_cannot_show_is_unknown() -> None:
    good = bytes(XsaveArea.new(SKX))
    for xstate_bv, xcomp_bv, length, unknown in (
        (7, 0, 700, "avx"),  # cut off
        (1 << 20, 0, 2696, "component20"),
        (7, COMPACTED | 3, 2696, "avx"),  # no place by XCOMP_BV
    ):
        bad = bytearray(good[:length])
        bad[512:528] = xstate_bv.to_bytes(8, "little") + xcomp_bv.to_bytes(8, "little")
        lenient = XsaveArea.parse(bad, SKX, strict=False)
        for one, two in ((good, lenient), (lenient, good)):
            found = {delta.path: delta.kind for delta in diff(one, two, SKX)}
            assert found[unknown] == "unknown", (xstate_bv, found)


def test_without_a_model_the_area_is_identified() -> None:
    first = bytearray(bytes(XsaveArea.new(SKX)))
    first[464:472] = SKX.xcr0.to_bytes(8, "little")
    second = bytearray(first)
    second[24] = 0
    assert [delta.path for delta in diff(first, second)] == ["sse.mxcsr"]


def test_bytes_with_what_they_belong_to() -> None:
    first = XsaveArea.new(SKX)
    first["avx"]["ymm_hi128[0]"] = 0
    first["pt" if "pt" in first.layout else "opmask"]["k[0]"] = 0
    second = XsaveArea.parse(bytearray(bytes(first)) + b"\7\7", SKX)
    for at in (0, 5, 30, 200, 417, 470, 512 + 40, 590, 591, 592, 834, 1090, 2690, 2694):
        second.buffer[at] ^= 0x11
    found = byte_differences(first, second)
    assert [str(run) for run in found] == [
        "0..1 x87.fcw: 7f -> 6e [not loaded]",
        "5..6 x87 reserved: 00 -> 11 [not loaded]",
        "30..31 sse.mxcsr_mask: 00 -> 11 [not loaded]",
        "200..201 sse.xmm[2]: 00 -> 11 [not loaded]",
        "417..418 reserved: 00 -> 11 [not loaded]",
        "470..471 software: 00 -> 11 [not loaded]",
        "552..553 header reserved: 00 -> 11 [not loaded]",
        "590..592 avx.ymm_hi128[0]: 0000 -> 1111",
        "592..593 avx.ymm_hi128[1]: 00 -> 11",
        "834..835 gap: 00 -> 11 [not loaded]",
        "1090..1091 opmask.k[0]: 00 -> 11",
        "2690..2691 pkru.pkru: 00 -> 11 [not loaded]",
        "2694..2695 pkru reserved: 00 -> 11 [not loaded]",
        "2696..2698 nothing | trailing: nothing -> 0707 [not loaded]",
    ]
    assert found[-1].end == 2698
    assert (found[-1].a, found[-1].owner_a) == (b"", "")


@formats
def test_bytes_that_a_restore_loads(form: Format) -> None:
    first, second = XsaveArea.new(SKX, form), XsaveArea.new(SKX, form)
    second.buffer[24] ^= 1
    second.buffer[160] ^= 1
    found = [(run.owner_a, run.live) for run in byte_differences(first, second)]
    # A standard restore loads MXCSR whatever XSTATE_BV says, a compacted one does not.
    assert found == [("sse.mxcsr", form == "standard"), ("sse.xmm[0]", False)]
    second.buffer[512] |= 2
    for one, two in ((first, bytes(second)), (bytes(second), first)):
        found = [(run.owner_a, run.live) for run in byte_differences(one, two, SKX)]
        assert found[:2] == [("sse.mxcsr", True), ("sse.xmm[0]", True)], "one side is enough"


def test_bytes_that_no_component_of_a_compacted_area_owns() -> None:
    first, second = (XsaveArea.new(SKX, "compacted", xcomp_bv=4) for _ in range(2))
    for at in (0, 24, 160):
        second.buffer[at] ^= 1
    assert {run.owner_a for run in byte_differences(first, second)} == {"gap"}


def test_bytes_of_two_layouts_have_two_owners() -> None:
    first = XsaveArea.new(SKX)
    first["opmask"]["k[1]"] = 0
    second = bytearray(bytes(XsaveArea.new(SKX, "compacted", xcomp_bv=0x206)))
    second[24:28] = b"\x80\x1f\0\0"
    second[28:32] = bytes(first)[28:32]
    second[0:2] = b"\x7f\3"
    second[832:834] = b"\1\2"
    found = byte_differences(first, second, model_b=SKX)
    assert [(run.offset, run.owner_a, run.owner_b, run.live) for run in found[:5]] == [
        (512, "header.xstate_bv", "header.xstate_bv", True),
        (520, "header.xcomp_bv", "header.xcomp_bv", True),
        (527, "header.xcomp_bv", "header.xcomp_bv", True),
        (832, "gap", "pkru.pkru", False),
        (840, "gap", "", False),
    ]
    assert str(found[3]) == "832..834 gap | pkru.pkru: 0000 -> 0102 [not loaded]"
    assert (found[-1].owner_a, found[-1].owner_b) == ("pkru reserved", "")
    opaque = without_fields(SKX, "opmask")
    (run,) = byte_differences(XsaveArea.new(SKX), XsaveArea.parse(_with(1090), opaque))
    assert (run.owner_a, run.owner_b) == ("opmask.k[0]", "opmask")


def _with(at: int) -> bytes:
    area = bytearray(bytes(XsaveArea.new(SKX)))
    area[at] = 1
    return bytes(area)


# Laws. Each case parses and compares several areas: half as many as elsewhere are enough.
few = settings(max_examples=settings().max_examples // 2)


def state(area_a: XsaveArea, area_b: XsaveArea) -> dict[str, tuple[object, object]]:
    """What differs by XsaveArea.values(), which diff() does not use: path to values."""
    a, b = meaning(area_a), meaning(area_b)
    # meaning() leaves initial values out, apart from those of fields that stand nowhere.
    return {
        path: (a.get(path), b.get(path))
        for path in a.keys() | b.keys()
        if a.get(path) != b.get(path)
    }


def mirrored(delta: Delta) -> Delta:
    turned = bits(*((part.name, part.b, part.a) for part in delta.bits))
    return replace(delta, a=delta.b, b=delta.a, bits=turned)


@few
@given(data=st.data(), model=models)
def test_an_area_does_not_differ_from_itself(data: st.DataObject, model: CpuModel) -> None:
    area = data.draw(areas(model))
    assert diff(area, area, model, everything=True) == []
    assert byte_differences(area, area, model) == []


@few
@given(data=st.data(), model=models)
def test_a_conversion_keeps_the_state(data: st.DataObject, model: CpuModel) -> None:
    area = data.draw(areas(model, supervisor=False))
    standard, compacted = to_standard(area, model).data, to_compacted(area, model).data
    for one, two in ((area, standard), (area, compacted), (standard, compacted)):
        assert diff(one, two, model) == []
        kinds = {delta.kind for delta in diff(one, two, model, everything=True)}
        # x87's reserved bytes go with it; the header's are cleared, and bytes 416..511 are kept.
        assert kinds <= {"in-use", "format", "mask", "reserved"}


@few
@given(data=st.data(), source=models, target=models)
def test_another_models_layout_keeps_the_state(
    data: st.DataObject, source: CpuModel, target: CpuModel
) -> None:
    area = data.draw(areas(source, supervisor=False))
    try:
        moved = relayout(area, source=source, target=target).data
        lost: tuple[str, ...] = ()
    except StateLossError as error:
        lost = error.lost
        moved = relayout(area, source=source, target=target, drop=lost).data
    assert {delta.component for delta in diff(area, moved, source, target)} <= set(lost)


@few
@given(data=st.data(), one=models, two=models)
def test_deltas_are_exactly_what_the_values_say(
    data: st.DataObject, one: CpuModel, two: CpuModel
) -> None:
    first, _ = as_restored(XsaveArea.parse(data.draw(areas(one)), one))
    second, _ = as_restored(XsaveArea.parse(data.draw(areas(two)), two))
    found = diff(first, second, everything=True)
    assert {
        delta.path for delta in found if delta.kind == "state" or ".entries[" in delta.path
    } == set(state(first, second))
    for delta in found:
        assert "\n" not in str(delta)
    assert diff(second, first, everything=True) == [mirrored(delta) for delta in found]


@few
@given(data=st.data(), model=models)
def test_one_field_written_is_one_delta(data: st.DataObject, model: CpuModel) -> None:
    before = bytes(as_restored(XsaveArea.parse(data.draw(areas(model)), model))[0])
    area = XsaveArea.parse(bytearray(before), model)
    assume(list(area))
    name = data.draw(st.sampled_from(list(area)))
    paths = [leaf for leaf in area.layout[name].component.leaves if leaf.path != "mxcsr_mask"]
    leaf = data.draw(st.sampled_from(paths))
    old = area[name][leaf.path]
    drawn = random.Random(data.draw(st.integers())).randbytes(leaf.size)
    new: int | bytes = drawn if leaf.raw else int.from_bytes(drawn, "little")
    area[name][leaf.path] = new
    assume(new != old)
    assume(not as_restored(area)[1])  # what is loaded otherwise has tests of its own
    assume(name != "lbr")  # entries behind DEPTH are reserved, and DEPTH itself is a field
    (delta,) = diff(before, area, model)
    assert (delta.component, delta.path) == (name, f"{name}.{leaf.path}")
    assert (delta.a, delta.b, delta.kind) == (old, new, "state")
    if delta.bits and isinstance(old, int) and isinstance(new, int):
        # Together the bits are the whole difference; by name they are what the area reads.
        before_area = XsaveArea.parse(before, model)
        for part in delta.bits:
            assert part.a != part.b
            if not part.name.startswith("bit"):
                path = f"{leaf.path}.{part.name}"
                assert (part.a, part.b) == (before_area[name][path], area[name][path])
        assert sum((part.a ^ part.b).bit_count() for part in delta.bits) == (old ^ new).bit_count()


@few
@given(data=st.data(), model=models, form=st.sampled_from(("standard", "compacted")))
def test_one_register_written_differs_in_its_pieces_only(
    data: st.DataObject, model: CpuModel, form: Format
) -> None:
    before = data.draw(areas(model, form, trailing=False))
    area = XsaveArea.parse(bytearray(before), model)
    names = [n for n in area.registers if not n.startswith(("tmm", "mm"))]
    assume(names)
    name = data.draw(st.sampled_from(names))
    value = data.draw(st.integers(0, (1 << 8 * area.registers.size(name)) - 1))
    changed = area.registers[name] != value
    area.registers[name] = value
    register = model.registers[name]
    pieces = set()
    for piece in register.pieces:
        head, _, rest = piece.field.partition(".")
        pieces.add(f"{piece.component}.{piece.field}")
        pieces.add(f"{piece.component}.{head}[{register.index}]" + (f".{rest}" if rest else ""))
    found = [delta.path for delta in diff(before, area, model)]
    assert set(found) <= pieces
    assert bool(found) == changed
    assert len(found) <= len(register.pieces)


@few
@given(data=st.data(), one=models, two=models)
def test_byte_differences_are_all_of_them(
    data: st.DataObject, one: CpuModel, two: CpuModel
) -> None:
    first, second = data.draw(areas(one)), data.draw(areas(two))
    patched = bytearray(first[: len(second)]).ljust(len(second), b"\0")
    end = 0
    for run in byte_differences(first, second, one, two):
        assert run.offset >= end, "runs overlap"
        end = run.end
        assert (first[run.offset : end], second[run.offset : end]) == (run.a, run.b)
        patched[run.offset : run.offset + len(run.b)] = run.b
    assert patched == second


@few
@given(data=st.data(), model=models)
def test_bytes_that_no_restore_loads_make_no_difference(
    data: st.DataObject, model: CpuModel
) -> None:
    first = data.draw(areas(model))
    second = bytearray(first)
    rng = random.Random(data.draw(st.integers()))
    for _ in range(20):
        at = rng.randrange(len(second))
        if not 512 <= at < 528:
            second[at] ^= rng.randrange(1, 256)
    runs = byte_differences(first, second, model)
    assert runs
    for run in runs:
        if run.owner_a.endswith(" reserved") or run.owner_a.startswith("lbr."):
            continue
        trial = bytearray(first)
        trial[run.offset : run.end] = run.b
        assert bool(diff(first, trial, model)) == run.live, run


@pytest.mark.parametrize(
    ("a", "b", "text"),
    [
        (b"\1", b"\2", "01 -> 02"),
        (bytes(15) + b"\1", bytes(16), f"{'00' * 15}01 -> {'00' * 16}"),
        (b"", bytes(16), f"nothing -> {'00' * 16}"),
        (bytes(17), bytes(16) + b"\1", "1 of 17 bytes differ, from byte 16: 00 -> 01"),
        (b"", bytes(17), f"17 of 17 bytes differ, from byte 0: nothing -> {'00' * 16}..."),
    ],
)
def test_sixteen_bytes_fit_into_a_line(a: bytes, b: bytes, text: str) -> None:
    assert str(ByteDelta(576, a, b, "gap", "gap", live=True)) == f"576..{576 + len(b)} gap: {text}"

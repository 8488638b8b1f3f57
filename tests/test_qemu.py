"""QEMU's helper: what it writes, by hand, and each known difference beside the right conversion.

The expectations are worked out from the C by hand; none comes from the module under test.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import processor
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsaveschema import CpuModel, check, load_model, samples, to_compacted, to_standard
from xsaveschema.catalog import default_catalog
from xsaveschema.catalog.leaf import host_model
from xsaveschema.errors import StateLossError, XsaveError
from xsaveschema.model import Format
from xsaveschema.qemu import (
    KNOWN_DIFFERENCES,
    UndefinedBehaviourError,
    compact_xsave_area,
    decompact_xsave_area,
    differences,
    xsave_area_size,
)
from xsaveschema.testing import areas, xcr0s

COMPACTED = 1 << 63
Leaf = dict[int, tuple[int, int, int, int]]

# Leaf 0xD as the processors give it.
HASWELL: Leaf = {0: (7, 832, 832, 0), 1: (1, 0, 0, 0), 2: (256, 576, 0, 0)}
ZEN4: Leaf = {
    0: (0x2E7, 2440, 2440, 0),
    1: (0xF, 2440, 0x1800, 0),
    2: (256, 576, 0, 0),
    5: (64, 832, 0, 0),
    6: (512, 896, 0, 0),
    7: (1024, 1408, 0, 0),
    9: (8, 2432, 0, 0),
    11: (16, 0, 1, 0),
    12: (24, 0, 1, 0),
}
INTEL: Leaf = {  # Sapphire Rapids without its supervisor components
    0: (0x602E7, 11008, 11008, 0),
    1: (0x1F, 10880, 0, 0),
    2: (256, 576, 0, 0),
    5: (64, 1088, 0, 0),
    6: (512, 1152, 0, 0),
    7: (1024, 1664, 0, 0),
    9: (8, 2688, 0, 0),
    17: (64, 2752, 2, 0),
    18: (8192, 2816, 6, 0),
}
LBR = (808, 0, 1, 0)


def area(xstate_bv: int, xcomp_bv: int, size: int = 832, fill: int = 0x5A) -> bytearray:
    """An area with x87 and SSE initial where XSTATE_BV says so, and a clean header."""
    data = bytearray([fill]) * size
    data[24:32] = struct.pack("<II", 0x1F80, 0xFFFF)
    if not xstate_bv & 1:
        data[:24] = b"\x7f\x03" + bytes(22)
        data[32:160] = bytes(128)
    if not xstate_bv & 2:
        data[160:416] = bytes(256)
    data[512:576] = struct.pack("<QQ48x", xstate_bv, xcomp_bv)
    return data


def put(data: bytearray, at: int, new: bytes) -> bytearray:
    data[at : at + len(new)] = new
    return data


def masks(data: bytes | bytearray) -> tuple[int, int]:
    xstate_bv, xcomp_bv = struct.unpack_from("<QQ", data, 512)
    return xstate_bv, xcomp_bv


def decompact(
    data: bytes | bytearray,
    guest: Leaf,
    guest_xcr0: int,
    host: Leaf | None = None,
    size: int = 4096,
    code: int = 0,
) -> bytearray:
    dest = bytearray(b"\xee" * size)
    result = decompact_xsave_area(
        data, dest, guest_leaf=guest, host_leaf=host or guest, guest_xcr0=guest_xcr0
    )
    assert result == code
    return dest


def compact(
    data: bytes | bytearray, host: Leaf, guest_xcr0: int, xcr0: int | None = None, size: int = 4096
) -> tuple[bytearray, int]:
    dest = bytearray(b"\xee" * size)
    end = compact_xsave_area(
        data,
        dest,
        host_leaf=host,
        guest_xcr0=guest_xcr0,
        xcr0=guest_xcr0 if xcr0 is None else xcr0,
    )
    return dest, end


# --- the two functions where nothing goes wrong --------------------------------------------------


def test_decompact_puts_components_at_the_guests_offsets() -> None:
    # opmask is initial: it takes its 64 bytes at 832 and is not copied. ZMM_Hi256 is at 896.
    data = area(0x243, COMPACTED | 0x2E7, 2440)
    for at, size, byte in (
        (576, 256, 2),
        (832, 64, 5),
        (896, 512, 6),
        (1408, 1024, 7),
        (2432, 8, 9),
    ):
        put(data, at, bytes([byte]) * size)
    dest = decompact(data, INTEL, 0x2E7)
    assert dest[:512] == data[:512]
    assert masks(dest) == (0x243, 0x2E7), "only bit 63 is cleared"
    assert not any(dest[576:1152]), "AVX and opmask are initial"
    assert dest[1152:1664] == b"\6" * 512
    assert not any(dest[1664:2688])
    assert dest[2688:2696] == b"\x09" * 8
    assert not any(dest[2696:]), "the destination was zeroed to its end"


def test_decompact_moves_up_to_64_where_align64_says_so() -> None:
    # AVX ends at 832, PKRU at 840; TILECFG is moved up to 896 and ends at 960, as does TILEDATA.
    data = area(0x60200, COMPACTED | 0x60206, 960 + 8192)
    put(data, 832, b"\x01\x02\x03\x04")
    put(data, 896, b"\x17" * 64)
    put(data, 960, b"\x18" * 8192)
    dest = decompact(data, INTEL, 0x602E7, size=11008)
    assert dest[2688:2692] == b"\x01\x02\x03\x04"
    assert dest[2752:2816] == b"\x17" * 64
    assert dest[2816:] == b"\x18" * 8192


def test_decompact_skips_over_what_only_the_host_knows() -> None:
    # PT (128 bytes) at 832 and TILECFG, moved up from 960 + 8 to 1024, precede nothing but PKRU.
    host = INTEL | {8: (128, 0, 1, 0)}
    guest = {number: INTEL[number] for number in (0, 1, 2, 9)}
    data = area(0x20304, COMPACTED | 0x20304, 1088)
    put(data, 960, b"\x01\x02\x03\x04\x05\x06\x07\x08")
    dest = decompact(data, guest, 0x204, host)
    assert masks(dest) == (0x204, 0x20304)
    assert dest[576:832] == data[576:832]
    assert not any(dest[832:2688])
    assert dest[2688:2696] == data[960:968]
    decompact(data[:1087], guest, 0x204, host, code=-7)


def test_compact_packs_the_hosts_components() -> None:
    # TILECFG comes behind PKRU's end at 2440 and is moved up to 2496; TILEDATA ends at 10752.
    data = area(0x602E6, 0, 11008)
    for number, (size, at, _, _) in INTEL.items():
        if number >= 2:
            put(data, at, bytes([number]) * size)
    dest, end = compact(data, INTEL, 0x602E7, size=12288)
    assert end == 2560 + 8192
    assert dest[:512] == data[:512]
    assert masks(dest) == (0x602E6, COMPACTED | 0x602E7)
    assert dest[576:832] == b"\2" * 256
    assert dest[832:896] == b"\5" * 64
    assert dest[896:1408] == b"\6" * 512
    assert dest[1408:2432] == b"\7" * 1024
    assert dest[2432:2440] == b"\x09" * 8
    assert not any(dest[2440:2496])
    assert dest[2496:2560] == b"\x11" * 64
    assert dest[2560:10752] == b"\x12" * 8192
    assert not any(dest[10752:])


def test_compact_gives_a_place_to_what_the_guest_has_not_enabled() -> None:
    data = area(0x206, 0, 2440)
    put(data, 2432, b"\x09" * 8)
    dest, end = compact(data, ZEN4, 0x2E7, xcr0=0x203)
    assert end == 2440
    assert not any(dest[576:2432])
    assert dest[2432:2440] == b"\x09" * 8


def test_compact_takes_only_what_host_and_guest_have() -> None:
    dest, end = compact(area(2, 0, 11008), INTEL, 0xFFFF_FFFF_FFFF_FF07, size=12288)
    assert masks(dest) == (2, COMPACTED | 0x60207)
    assert end == 960 + 8192


def test_compact_returns_a_size_beyond_the_output_where_it_copies_nothing_there() -> None:
    dest, end = compact(area(7, 0), INTEL, 0x60207, xcr0=7, size=832)
    assert end == 960 + 8192
    assert dest[576:] == b"\x5a" * 256


# --- return codes, and what stands in the destination then ---------------------------------------


def test_unknown_size_is_einval_after_the_components_before_it() -> None:
    data = area(0x24, COMPACTED | 0x100024, 1024)
    dest = decompact(data, ZEN4, 0x2E7, code=-22)
    assert masks(dest) == (0x24, 0x100024)
    assert dest[576:832] == data[576:832]
    assert dest[832:896] == data[832:896]
    assert not any(dest[896:])


@pytest.mark.parametrize(("length", "code"), [(896, 0), (895, -7)])
def test_short_input_is_e2big_initial_or_not(length: int, code: int) -> None:
    dest = decompact(area(4, COMPACTED | 0x24, length), ZEN4, 0x2E7, code=code)
    assert dest[576:832] == b"\x5a" * 256
    assert not any(dest[832:])


@pytest.mark.parametrize(("length", "code"), [(896, 0), (895, -7)])
def test_short_destination_is_e2big_initial_or_not(length: int, code: int) -> None:
    dest = decompact(area(4, COMPACTED | 0x24, 896), ZEN4, 0x2E7, size=length, code=code)
    assert dest[576:832] == b"\x5a" * 256
    assert not any(dest[832:])


def test_the_sum_of_offset_and_size_wraps_at_32_bits() -> None:
    # 0xFFFFFFC0 + 64 is 0 in uint32_t: the check lets the component pass, initial or live.
    guest = ZEN4 | {5: (64, 0xFFFFFFC0, 0, 0)}
    decompact(area(4, COMPACTED | 0x24, 896), guest, 0x2E7)
    decompact(area(4, COMPACTED | 0x24, 896), ZEN4 | {5: (63, 0xFFFFFFC0, 0, 0)}, 0x2E7, code=-7)
    with pytest.raises(UndefinedBehaviourError) as caught:
        decompact(area(0x24, COMPACTED | 0x24, 896), guest, 0x2E7)
    assert (caught.value.reason, caught.value.component) == ("write", 5)
    found = hits(area(0x24, COMPACTED | 0x24, 896), "standard", guest, 0x2E7, dest_size=4096)
    assert found >= {"no-bounds-check"}


def test_the_compacted_size_is_returned_as_an_int() -> None:
    host = ZEN4 | {5: (0x8000_0000, 832, 0, 0)}
    _, end = compact(area(4, 0, 2440), host, 0x27, xcr0=7)
    assert end == 832 + 0x8000_0000 - 0x1_0000_0000


def test_components_reach_to_62_and_63_is_none() -> None:
    leaf = HASWELL | {62: (128, 832, 0, 0)}
    data = area(4 | 1 << 62, COMPACTED | 4 | 1 << 62, 960)
    dest = decompact(data, leaf, 7 | 1 << 62)
    assert dest[832:960] == data[832:960]
    assert masks(dest) == (4 | 1 << 62, 4 | 1 << 62)


# --- where the C is undefined --------------------------------------------------------------------

Call = Callable[[bytearray], object]
UNDEFINED: dict[str, tuple[str, int | None, Call]] = {
    "bit 63 clear": (
        "assert",
        None,
        lambda dest: decompact_xsave_area(
            area(4, 4), dest, guest_leaf=ZEN4, host_leaf=ZEN4, guest_xcr0=7
        ),
    ),
    "decompact, short input": (
        "input",
        None,
        lambda dest: decompact_xsave_area(
            area(4, COMPACTED)[:575], dest, guest_leaf=ZEN4, host_leaf=ZEN4, guest_xcr0=7
        ),
    ),
    "compact, short input": (
        "input",
        None,
        lambda dest: compact_xsave_area(bytes(575), dest, host_leaf=ZEN4, guest_xcr0=7, xcr0=7),
    ),
    "compact reads beyond": (
        "read",
        2,
        lambda dest: compact_xsave_area(
            area(0, 0, 831), dest, host_leaf=ZEN4, guest_xcr0=0x2E7, xcr0=0x2E7
        ),
    ),
    "compact writes beyond": (
        "write",
        2,
        lambda dest: compact_xsave_area(
            area(0, 0, 2440), dest, host_leaf=ZEN4, guest_xcr0=0x2E7, xcr0=0x2E7
        ),
    ),
}


@pytest.mark.parametrize("name", UNDEFINED)
def test_undefined_behaviour_is_an_error_and_nothing_is_written(name: str) -> None:
    reason, component, call = UNDEFINED[name]
    dest = bytearray(b"\xee" * 831)
    with pytest.raises(UndefinedBehaviourError) as caught:
        call(dest)
    assert (caught.value.reason, caught.value.component) == (reason, component)
    assert dest == b"\xee" * 831


def test_an_output_below_576_bytes_is_undefined() -> None:
    calls: list[Callable[[], object]] = [
        lambda: decompact(area(4, COMPACTED | 4), ZEN4, 7, size=575),
        lambda: compact(area(4, 0), ZEN4, 7, size=0),
        lambda: hits(area(4, 0), "compacted", ZEN4, 7, dest_size=575),
    ]
    for call in calls:
        with pytest.raises(UndefinedBehaviourError) as caught:
            call()
        assert caught.value.reason == "output"


def test_the_same_buffer_twice_is_undefined() -> None:
    data = area(4, COMPACTED | 4)
    before = bytes(data)
    with pytest.raises(UndefinedBehaviourError) as caught:
        decompact_xsave_area(data, data, guest_leaf=ZEN4, host_leaf=ZEN4, guest_xcr0=7)
    assert caught.value.reason == "overlap"
    with pytest.raises(UndefinedBehaviourError) as caught:
        compact_xsave_area(memoryview(data), data, host_leaf=ZEN4, guest_xcr0=7, xcr0=7)
    assert caught.value.reason == "overlap"
    assert data == before


def test_what_is_no_mask_and_no_register_is_refused() -> None:
    data = area(4, COMPACTED | 4)
    for call in (
        lambda: decompact(data, ZEN4, 1 << 64),
        lambda: decompact(data, ZEN4, -1),
        lambda: decompact(data, ZEN4 | {2: (1 << 32, 576, 0, 0)}, 7),
        lambda: decompact(data, ZEN4 | {2: (256, -1, 0, 0)}, 7),
        lambda: compact(data, ZEN4, 7, xcr0=1 << 64),
        lambda: compact(data, {2: ZEN4[2]}, 7),
        lambda: xsave_area_size(1 << 64, True, ZEN4),
        lambda: hits(data, "stadnard", ZEN4, 7),
    ):
        with pytest.raises(XsaveError):
            call()


# --- xsave_area_size -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mask", "compacted", "size"),
    [
        (0, False, 576),
        (0, True, 576),
        (7, False, 832),
        (0x2E7, False, 2696),
        (0x602E7, False, 11008),
        (0x287, True, 576 + 256 + 1024 + 8),
        (0x100_0000, True, 576),  # unknown: size 0
        # LBR, EBX = 0: counted from byte 0 in the standard format.
        (0x8007, False, 832),
        (0x8003, False, 808),
        (0x8003, True, 576 + 808),
        # size-without-align64: 576 + 256 + 8 + 64 + 8192; the processor moves TILECFG up to 896.
        (0x60207, True, 9096),
    ],
)
def test_xsave_area_size(mask: int, compacted: bool, size: int) -> None:
    assert xsave_area_size(mask, compacted, INTEL | {15: LBR}) == size


def test_xsave_area_size_has_32_bits() -> None:
    leaf = {2: (256, 0xFFFFFFC0, 0, 0), 5: (0xFFFFFFFF, 0, 0, 0)}
    assert xsave_area_size(4, False, leaf) == 576, "0xFFFFFFC0 + 256 wraps to 192"
    assert xsave_area_size(0x20, True, leaf) == 576, "576 + 0xFFFFFFFF wraps to 575"


def test_size_without_align64_is_less_than_the_layout() -> None:
    model = load_model("sapphire-rapids")
    assert model.compacted_layout(0x60207).size == 9152
    assert xsave_area_size(0x60207, True, model.cpuid_leaf_0xd()) == 9096


# --- each known difference -----------------------------------------------------------------------


class Case(NamedTuple):
    """An area that meets one difference: hits are exactly ``id`` and ``also``."""

    id: str
    data: bytearray
    to: str
    guest: Leaf
    guest_xcr0: int
    also: tuple[str, ...] = ()
    host: Leaf | None = None
    xcr0: int | None = None
    dest_size: int | None = None


LOW = ("xcomp-bv-bits-kept",)
KEPT = ("initial-bytes-kept",)
CASES = [
    Case("assert", area(7, 0), "standard", HASWELL, 7),
    Case("xcomp-bv-bits-kept", area(7, COMPACTED | 7), "standard", HASWELL, 7),
    Case(
        "over-legacy",
        area(0x803, COMPACTED | 0x803),
        "standard",
        ZEN4,
        0x2E7,
        (*LOW, "component-dropped"),
    ),
    Case("initial-x87", put(area(6, COMPACTED | 7), 0, bytes(2)), "standard", HASWELL, 7, LOW),
    Case("initial-x87", put(area(6, COMPACTED | 7), 159, b"\1"), "standard", HASWELL, 7, LOW),
    Case("initial-sse", put(area(5, COMPACTED | 7), 415, b"\1"), "standard", HASWELL, 7, LOW),
    Case("mxcsr-stale", put(area(5, COMPACTED | 7), 24, bytes(4)), "standard", HASWELL, 7, LOW),
    Case(
        "component-dropped",
        area(0x27, COMPACTED | 0x27, 896),
        "standard",
        HASWELL,
        7,
        LOW,
        host=ZEN4,
    ),
    Case(
        "data-without-xstate-bv",
        area(0x27, COMPACTED | 0x27, 896),
        "standard",
        ZEN4,
        7,
        (*LOW, "component-dropped"),
    ),
    Case(
        "xstate-bv-without-data",
        area(0x27, COMPACTED | 0x27, 896),
        "standard",
        HASWELL,
        0x27,
        LOW,
        host=ZEN4,
    ),
    Case("xstate-bv-beyond-xcomp-bv", area(7, COMPACTED | 3, 576), "standard", HASWELL, 7, LOW),
    Case("xstate-bv-beyond-xcomp-bv", area(7, 0), "compacted", HASWELL, 3),
    Case(
        "walk-by-guest",  # Zen 2's PKRU takes 64 bytes: LWP is not where Zen 3's would put it
        put(area(1 << 62 | 7, COMPACTED | 1 << 62 | 0x207, 1024), 832, bytes(64)),
        "standard",
        ZEN4 | {9: (8, 2432, 0, 0), 62: (128, 832, 0, 0)},
        1 << 62 | 0x2E7,
        LOW,
        host=HASWELL | {9: (64, 832, 0, 0), 62: (128, 896, 0, 0)},
    ),
    Case(
        "walk-by-guest",  # the guest's larger component does not fit, the host's would
        area(7, COMPACTED | 0x207, 840),
        "standard",
        HASWELL | {9: (64, 832, 0, 0)},
        0x207,
        (*LOW, "written-on-error"),
        host=HASWELL | {9: (8, 832, 0, 0)},
    ),
    Case(
        "walk-by-guest",  # and the other way round: the area is cut off, which goes unnoticed
        area(7, COMPACTED | 0x207, 840),
        "standard",
        HASWELL | {9: (8, 832, 0, 0)},
        0x207,
        LOW,
        host=HASWELL | {9: (64, 832, 0, 0)},
    ),
    Case(
        "initial-needs-room",
        area(7, COMPACTED | 0x207, 840),
        "standard",
        ZEN4,
        7,
        (*LOW, "written-on-error"),
        dest_size=832,
    ),
    Case(
        "written-on-error",
        area(7, COMPACTED | 1 << 20 | 7),
        "standard",
        HASWELL,
        7,
        LOW,
    ),
    Case("written-on-error", area(7, COMPACTED | 7, 831), "standard", HASWELL, 7, LOW),
    Case(
        "written-on-error",  # a live component without room: the right conversion refuses too
        area(0x207, COMPACTED | 0x207, 840),
        "standard",
        ZEN4,
        0x207,
        LOW,
        dest_size=832,
    ),
    Case("reserved-header", put(area(7, COMPACTED | 7), 575, b"\1"), "standard", HASWELL, 7, LOW),
    Case("reserved-header", put(area(7, 0), 528, b"\1"), "compacted", HASWELL, 7),
    Case("mxcsr-lost", put(area(5, 0), 24, b"\xc0\x9f"), "compacted", HASWELL, 7),
    Case("live-not-copied", area(7, 0), "compacted", HASWELL, 7, xcr0=3),
    Case(
        "place-by-host",
        put(area(0x207, 0, 2696), 2688, b"\1"),
        "compacted",
        INTEL,
        0x207,
        host=ZEN4,
    ),
    Case(
        "unknown-size",
        area(7, 0),
        "compacted",
        HASWELL,
        0x27,
        host=HASWELL | {0: (0x27, 896, 896, 0)},
    ),
    Case("xcomp-bv-ignored", area(7, 7), "compacted", HASWELL, 7),
    Case("xcomp-bv-ignored", area(7, COMPACTED | 7), "compacted", HASWELL, 7),
    Case("no-bounds-check", area(3, 0, 700), "compacted", HASWELL, 7, KEPT),
    Case("no-bounds-check", area(3, 0), "compacted", HASWELL, 7, KEPT, dest_size=831),
    Case(
        "no-bounds-check",
        put(area(3, 0), 576, bytes(256)),
        "compacted",
        HASWELL,
        7,
        xcr0=3,
        dest_size=831,
    ),
    Case("initial-bytes-kept", area(3, 0), "compacted", HASWELL, 7),
    Case("initial-bytes-kept", area(6, 0), "compacted", HASWELL, 7),
    Case("initial-bytes-kept", area(5, 0), "compacted", HASWELL, 7),
]


def hits(data: bytearray, to: Any, guest: Leaf, guest_xcr0: int, **arguments: Any) -> set[str]:
    found = differences(
        data, to=to, guest_leaf=guest, guest_xcr0=guest_xcr0, **({"host_leaf": guest} | arguments)
    )
    rules = [fault.rule for fault in found]
    assert len(rules) == len({(fault.rule, fault.message) for fault in found})
    assert all(0 <= fault.offset <= len(data) and fault.remedy for fault in found)
    return set(rules)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_differences_names_what_an_area_meets(case: Case) -> None:
    found = hits(
        case.data,
        case.to,
        case.guest,
        case.guest_xcr0,
        host_leaf=case.host or case.guest,
        xcr0=case.xcr0,
        dest_size=case.dest_size,
    )
    assert found == {case.id, *case.also}


def test_every_known_difference_has_a_case() -> None:
    # xsave_area_size sees no area; its difference is tested above.
    ids = [difference.id for difference in KNOWN_DIFFERENCES]
    assert len(ids) == len(set(ids))
    assert {case.id for case in CASES} == set(ids) - {"size-without-align64"}


def test_no_difference_for_areas_that_meet_none() -> None:
    assert not hits(area(7, 0), "compacted", HASWELL, 7)
    assert not hits(area(0, COMPACTED, 576), "standard", HASWELL, 7)


def test_low_xcomp_bv_bits_are_refused_by_xrstor_and_linux() -> None:
    model = load_model("haswell")
    data = area(7, COMPACTED | 7)
    got = decompact(data, HASWELL, 7, size=832)
    assert masks(got) == (7, 7)
    assert [fault.rule for fault in check(got, model)] == ["xcomp-bv-form"]
    assert [fault.rule for fault in check(got, model, "linux")] == ["linux-compacted"]
    right = to_standard(data, model).data
    assert masks(bytes(right)) == (7, 0)
    assert not check(right, model)
    assert got == put(bytearray(right), 520, b"\7"), "nothing else differs"


def test_a_supervisor_component_is_copied_over_the_legacy_region() -> None:
    # CET_U has EBX = 0 and 16 bytes: FCW, FSW, FTW, FOP and FIP are gone.
    data = area(0x803, COMPACTED | 0x803, 592)
    put(data, 576, bytes(range(16)))
    got = decompact(data, ZEN4, 0x2E7)
    assert got[:16] == bytes(range(16))
    assert got[16:24] == data[16:24]
    assert masks(got) == (3, 0x803), "XSTATE_BV loses it all the same"
    model = load_model("zen4")
    with pytest.raises(StateLossError, match="cet_u"):
        to_standard(data, model)
    assert to_standard(data, model, drop=["cet_u"]).data[:24] == data[:24]


def test_a_large_supervisor_component_overwrites_the_header_too() -> None:
    # LBR has 808 bytes: it ends within AVX, which was copied before it.
    data = area(0x8007, COMPACTED | 0x8007, 1640, fill=0x22)
    put(data, 832, b"\x77" * 808)
    got = decompact(data, HASWELL | {15: LBR}, 7)
    assert got[:808] == b"\x77" * 808
    assert got[808:832] == b"\x22" * 24
    assert masks(got) == (0x7777_7777_7777_7777, 0x7777_7777_7777_7777)


def test_initial_x87_and_sse_keep_what_stood_there() -> None:
    # XSAVEC leaves the bytes of initial components as they were (HW): here, zeros and 0xA5.
    data = area(4, COMPACTED | 7)
    put(data, 0, bytes(24))
    put(data, 160, b"\xa5" * 256)
    got = decompact(data, HASWELL, 7, size=832)
    right = to_standard(data, load_model("haswell")).data
    assert got[:2] == bytes(2), "FCW 0 masks no exception"
    assert right[:2] == b"\x7f\x03"
    assert got[160:416] == b"\xa5" * 256
    assert right[160:416] == bytes(256)


def test_stale_mxcsr_comes_alive() -> None:
    data = put(area(5, COMPACTED | 7), 24, b"\xa5\xa5\xa5\xa5")
    model = load_model("haswell")
    assert decompact(data, HASWELL, 7)[24:28] == b"\xa5\xa5\xa5\xa5"
    assert to_standard(data, model).data[24:28] == b"\x80\x1f\0\0"


def test_a_component_that_the_guest_lacks_is_dropped_without_a_word() -> None:
    data = area(0x27, COMPACTED | 0x27, 896)
    got = decompact(data, HASWELL, 7, ZEN4)
    assert masks(got) == (7, 0x27)
    assert not any(got[832:])
    zen4 = load_model("zen4")
    with pytest.raises(StateLossError) as caught:
        to_standard(data, zen4, xcr0=7)
    assert caught.value.lost == ("opmask",)


def test_a_component_outside_the_guests_mask_is_copied_but_not_claimed() -> None:
    data = area(0x27, COMPACTED | 0x27, 896)
    got = decompact(data, ZEN4, 7)
    assert masks(got) == (7, 0x27)
    assert got[832:896] == b"\x5a" * 64
    right = to_standard(data, load_model("zen4"), xcr0=7, drop=["opmask"]).data
    assert len(right) == 832


def test_a_component_without_a_size_in_the_guest_is_claimed_but_not_copied() -> None:
    got = decompact(area(0x27, COMPACTED | 0x27, 896), HASWELL, 0x27, ZEN4)
    assert masks(got) == (0x27, 0x27)
    assert not any(got[832:])


def test_xstate_bv_may_exceed_xcomp_bv() -> None:
    data = area(7, 0)
    got, end = compact(data, HASWELL, 3)
    assert (end, masks(got)) == (576, (7, COMPACTED | 3))
    model = load_model("haswell")
    # Haswell has no XSAVEC; on a processor that has it the header is what faults.
    wide = load_model("skylake-server")
    assert [fault.rule for fault in check(got, wide)] == ["xstate-bv-xcomp-bv"]
    with pytest.raises(StateLossError) as caught:
        to_compacted(data, model, xcomp_bv=3)
    assert caught.value.lost == ("avx",)


def test_the_guests_sizes_lead_astray_where_the_hosts_differ() -> None:
    # Zen 2 wrote PKRU with 64 bytes at 832, then LWP at 896. A guest with Zen 3's PKRU reads LWP
    # at 840: 56 bytes of PKRU, then the first 72 of LWP.
    data = area(1 << 62 | 0x207, COMPACTED | 1 << 62 | 0x207, 1024)
    put(data, 832, b"\x09" * 64)
    put(data, 896, b"\x62" * 128)
    guest = {0: ZEN4[0], 2: ZEN4[2], 9: (8, 2432, 0, 0), 62: (128, 832, 0, 0)}
    host = HASWELL | {9: (64, 832, 0, 0), 62: (128, 896, 0, 0)}
    got = decompact(data, guest, 1 << 62 | 0x207, host)
    assert got[832:960] == b"\x09" * 56 + b"\x62" * 72
    zen2 = load_model("zen2")
    assert to_standard(data, zen2, xcr0=zen2.user_mask).data[896:1024] == b"\x62" * 128


def test_an_initial_component_can_make_it_fail_for_lack_of_room() -> None:
    data = area(7, COMPACTED | 0x207, 840)
    got = decompact(data, ZEN4, 7, size=832, code=-7)
    assert got[:512] == data[:512], "and the destination has been written"
    assert got[576:] == data[576:832]
    out = bytearray(832)
    assert to_standard(data, load_model("zen4"), xcr0=7, out=out).data == out


def test_an_error_leaves_the_destination_written_and_ours_does_not() -> None:
    data = area(7, COMPACTED | 7, 831)
    got = decompact(data, HASWELL, 7, code=-7)
    assert got[:512] == data[:512]
    assert not any(got[576:])
    out = bytearray(b"\xee" * 4096)
    with pytest.raises(XsaveError):
        to_standard(data, load_model("haswell"), out=out)
    assert out == b"\xee" * 4096


def test_reserved_header_bytes_are_copied() -> None:
    model = load_model("skylake-server")
    noise = bytes(range(1, 49))
    packed = put(area(7, COMPACTED | 7), 528, noise)
    assert decompact(packed, HASWELL, 7)[528:576] == noise
    assert to_standard(packed, model).data[528:576] == bytes(48)
    plain = put(area(7, 0), 536, noise[:40])
    got, _ = compact(plain, HASWELL, 7)
    assert got[536:576] == noise[:40]
    assert not check(plain, model), "the standard form takes bytes 24..63 as they are"
    assert [fault.rule for fault in check(got, model)] == ["header-24-63"]
    assert not check(to_compacted(plain, model, xcomp_bv=7).data, model)


def test_mxcsr_is_lost_with_sse_initial() -> None:
    data = put(area(5, 0), 24, b"\xc0\x9f")
    got, _ = compact(data, HASWELL, 7)
    assert masks(got)[0] == 5, "a restore sets MXCSR to 0x1F80 then"
    right = to_compacted(data, load_model("haswell"), xcomp_bv=7).data
    assert masks(bytes(right))[0] == 7
    assert right[24:28] == b"\xc0\x9f\0\0"
    assert right[160:416] == bytes(256)


def test_a_cleared_xcr0_bit_turns_live_state_into_zeros() -> None:
    got, end = compact(area(7, 0), HASWELL, 7, xcr0=3)
    assert (end, masks(got)) == (832, (7, COMPACTED | 7))
    assert not any(got[576:832])
    right = to_compacted(area(7, 0), load_model("haswell"), xcomp_bv=7).data
    assert right[576:832] == b"\x5a" * 256


def test_the_hosts_offsets_read_wrong_bytes_where_the_guests_differ() -> None:
    # The guest has Intel's PKRU at 2688; a Zen 4 host reads 2432, within the guest's Hi16_ZMM.
    data = area(0x283, 0, 2696)
    put(data, 1664, b"\x07" * 1024)
    put(data, 2688, b"\x09" * 8)
    got, end = compact(data, ZEN4, 0x203, size=840)
    assert end == 584
    assert got[576:584] == b"\x07" * 8
    intel, zen4 = load_model("skylake-server"), load_model("zen4")
    right = to_compacted(data, zen4, source=intel, xcomp_bv=0x203, drop=["hi16_zmm"]).data
    assert right[576:584] == b"\x09" * 8


def test_a_component_without_a_size_in_the_host_gets_a_bit_but_no_place() -> None:
    host = ZEN4 | {5: (0, 0, 0, 0)}
    got, end = compact(area(0x43, 0, 2440), host, 0x63)
    assert masks(got) == (0x43, COMPACTED | 0x63)
    assert end == 576 + 512, "ZMM_Hi256 follows at 576, where a processor expects opmask"
    assert got[576:1088] == b"\x5a" * 512


def test_the_inputs_xcomp_bv_is_not_looked_at() -> None:
    # opmask stands at 576 in the compacted area; QEMU reads it at 832, as in a standard one.
    data = area(0x20, COMPACTED | 0x20, 896, fill=0x77)
    put(data, 576, b"\x05" * 64)
    got, _ = compact(data, {0: (0x20, 0, 0, 0), 5: ZEN4[5]}, 0x20, size=640)
    assert got[576:640] == b"\x77" * 64
    right = to_compacted(data, load_model("zen4"), xcomp_bv=0x20).data
    assert right[576:640] == b"\x05" * 64
    # Low bits without bit 63, which decompact leaves, are what makes QEMU's own round trip work.
    packed = area(7, COMPACTED | 7)
    plain = decompact(packed, HASWELL, 7, size=832)
    back, end = compact(plain, HASWELL, 7, size=832)
    assert (back, end) == (packed, 832)
    with pytest.raises(XsaveError, match="XCOMP_BV"):
        to_compacted(plain, load_model("haswell"), xcomp_bv=7)


def test_the_bytes_of_initial_components_are_kept() -> None:
    data = area(0, 0)
    got, _ = compact(data, HASWELL, 7)
    assert got[:2] == b"\x7f\x03"
    assert got[576:832] == b"\x5a" * 256
    model = load_model("skylake-server")
    right = to_compacted(data, model, xcomp_bv=7).data
    assert not any(right[:416])
    assert not any(right[576:832])
    assert not check(got, model)


def test_a_processors_own_area_meets_differences() -> None:
    # Saved by XSAVEC on Zen 4 over 0xA5, ZMM_Hi256 initial: the header's reserved bytes are 0xA5.
    data = bytearray(samples.read("zen4-xsavec"))
    found = hits(data, "standard", ZEN4, 0x2E7)
    assert found == {"xcomp-bv-bits-kept", "reserved-header"}


# --- differences() is complete: what it does not name does not differ ----------------------------

MODELS = default_catalog().models()


def outcome(data: bytes, to: str, guest: CpuModel, host: CpuModel, mask: int, xcr0: int) -> Any:
    """What QEMU makes of an area with room for everything; None where it fails."""
    dest = bytearray(1 << 14)
    guest_leaf, host_leaf = guest.cpuid_leaf_0xd(), host.cpuid_leaf_0xd()
    try:
        if to == "compacted":
            compact_xsave_area(data, dest, host_leaf=host_leaf, guest_xcr0=mask, xcr0=xcr0)
        elif decompact_xsave_area(
            data, dest, guest_leaf=guest_leaf, host_leaf=host_leaf, guest_xcr0=mask
        ):
            return None
    except UndefinedBehaviourError:
        return None
    return dest


def right(data: bytes, to: str, guest: CpuModel, host: CpuModel, mask: int) -> Any:
    try:
        if to == "standard":
            result = to_standard(data, guest, source=host, xcr0=mask)
        else:
            places = host.xcr0 & mask
            result = to_compacted(data, host, source=guest, xcomp_bv=places)
    except XsaveError:
        return None
    return bytes(result.data).ljust(1 << 14, b"\0")


@st.composite
def conversions(draw: st.DrawFn, one: bool) -> tuple[Any, ...]:
    """An area, where it goes, guest and host (one silicon, or any two), guest_xcr0 and xcr0.

    Half of the areas hold nothing but what is in use, so that some meet few differences.
    """
    to = draw(st.sampled_from(("standard", "compacted")))
    host = draw(st.sampled_from(MODELS))
    guest = host if one else draw(st.sampled_from(MODELS))
    writer = host if to == "standard" else guest
    format: Format = "compacted" if to == "standard" else "standard"
    supervisor = draw(st.integers(0, 3)) == 0
    trailing = draw(st.integers(0, 3)) == 0
    data = bytearray(draw(areas(writer, format, supervisor=supervisor, trailing=trailing)))
    xstate_bv, xcomp_bv = masks(data)
    if draw(st.booleans()):
        clean = area(xstate_bv, xcomp_bv, len(data), fill=0x5A if xstate_bv & 1 else 0)
        clean[576:] = data[576:]
        data = clean
    if draw(st.booleans()):
        layout = writer.compacted_layout(xcomp_bv) if xcomp_bv else writer.standard_layout()
        for slot in layout:
            if slot.number > 1 and not slot.component.bit & xstate_bv:
                data[slot.offset : slot.end] = bytes(len(data[slot.offset : slot.end]))
    mask = draw(st.just(guest.xcr0) | xcr0s(guest))
    xcr0 = draw(st.just(mask) | xcr0s(guest).map(lambda drawn: drawn & mask))
    return bytes(data), to, guest, host, mask, xcr0


def named(data: bytes, to: Any, guest: CpuModel, host: CpuModel, mask: int, xcr0: int) -> set[str]:
    found = differences(
        data,
        to=to,
        guest_leaf=guest.cpuid_leaf_0xd(),
        host_leaf=host.cpuid_leaf_0xd(),
        guest_xcr0=mask,
        xcr0=xcr0,
        dest_size=1 << 14,
    )
    return {fault.rule for fault in found}


X87, MXCSR, XMM = {*range(24), *range(32, 160)}, {*range(24, 32)}, {*range(160, 416)}
# The bytes of the output that a difference changes; the others' may be any, or one side refuses.
CHANGES = {
    "xcomp-bv-bits-kept": {*range(520, 528)},
    "initial-x87": X87,
    "initial-sse": XMM,
    "mxcsr-stale": MXCSR,
    "reserved-header": {*range(528, 576)},
    "mxcsr-lost": {512} | MXCSR | XMM,
    "initial-bytes-kept": X87 | MXCSR | XMM,  # and the places of initial components
}


@settings(max_examples=300)
@given(conversion=conversions(one=False))
def test_what_differs_is_named_and_what_is_named_differs(conversion: tuple[Any, ...]) -> None:
    data, _, _, host, mask, _ = conversion
    names = named(*conversion)
    if names - CHANGES.keys():
        return
    got, wanted = outcome(*conversion), right(*conversion[:5])
    assert got is not None
    if wanted is None:
        assert "mxcsr-lost" in names
        assert not mask & 2, "without a place for SSE, MXCSR is a loss"
        return
    differing = {at for at in range(len(got)) if got[at] != wanted[at]} if got != wanted else set()
    changes = {name: set(CHANGES[name]) for name in names}
    if "initial-bytes-kept" in names:
        for slot in host.compacted_layout(host.xcr0 & mask):
            if not slot.component.bit & masks(data)[0]:
                changes["initial-bytes-kept"] |= {*range(slot.offset, slot.end)}
    assert differing <= set().union(*changes.values())
    for name, change in changes.items():
        assert differing & change, name


@given(conversion=conversions(one=True))
def test_on_one_silicon_every_other_named_difference_is_one(conversion: tuple[Any, ...]) -> None:
    if named(*conversion) - CHANGES.keys():
        got, wanted = outcome(*conversion), right(*conversion[:5])
        assert got is None or wanted is None or got != wanted


# --- the machine's own processor -----------------------------------------------------------------

REASON = processor.available() or (
    None if processor.has("xsavec") else "the processor has no XSAVEC"
)
on_processor = pytest.mark.skipif(
    REASON is not None, reason=f"the processor cannot judge: {REASON}"
)
GP = 13


class Machine(NamedTuple):
    model: CpuModel
    leaf: Leaf
    size: int


@pytest.fixture(scope="module")
def machine() -> Machine:
    """x87, SSE and, where there is one, AVX of this machine."""
    model = host_model().limited(xcr0=processor.xgetbv(0) & 7, xss=0)
    leaf = {number: processor.cpuid(0xD, number) for number in range(63)}
    return Machine(model, leaf, model.standard_layout().size)


def saved(machine: Machine, prefill: int | bytes = 0, **state: Any) -> bytes:
    """What XSAVEC wrote over ``prefill``."""
    plain = processor.build_area({}, **state)
    return processor.save("xsavec64", plain, 7, size=machine.size, prefill=prefill)


def fault(data: bytes | bytearray | memoryview) -> int:
    """The vector of the fault that XRSTOR of x87, SSE and AVX raises; 0 for none."""
    return processor.restore(bytes(data), 7).trap


def mxcsr_after(data: bytes | bytearray | memoryview) -> int:
    result = processor.restore(bytes(data), 7)
    assert not result.faulted
    return int.from_bytes(result.after[24:28], "little")


@on_processor
def test_the_processor_refuses_low_xcomp_bv_bits(machine: Machine) -> None:
    packed = saved(machine)
    got = decompact(packed, machine.leaf, machine.model.xcr0, size=machine.size)
    assert fault(got) == GP
    assert fault(put(got, 520, bytes(8))) == 0, "XCOMP_BV was what it refused"
    assert fault(to_standard(packed, machine.model).data) == 0


@on_processor
def test_the_processor_refuses_reserved_header_bytes(machine: Machine) -> None:
    packed = saved(machine, prefill=bytes(528) + b"\xa5" * 48)
    assert packed[528:576] == b"\xa5" * 48, "XSAVEC does not write them"
    got = put(decompact(packed, machine.leaf, 7, size=machine.size), 520, bytes(8))
    assert fault(got) == GP
    assert fault(put(got, 528, bytes(8))) == 0, "the standard form looks at bytes 16..23"
    assert fault(to_standard(packed, machine.model).data) == 0
    got, _ = compact(got, machine.leaf, machine.model.xcr0)
    assert fault(got) == GP, "the compacted form looks at bytes 24..63 too"


@on_processor
def test_the_processor_loads_a_stale_mxcsr(machine: Machine) -> None:
    packed = saved(machine, prefill=bytes(24) + struct.pack("<I", 0x9FC0))
    assert masks(packed)[0] & 2 == 0
    got = put(decompact(packed, machine.leaf, 7, size=machine.size), 520, bytes(8))
    assert mxcsr_after(got) == 0x9FC0
    assert mxcsr_after(to_standard(packed, machine.model).data) == 0x1F80
    packed = saved(machine, prefill=b"\xff" * 28)
    got = put(decompact(packed, machine.leaf, 7, size=machine.size), 520, bytes(8))
    assert fault(got) == GP


@on_processor
def test_the_processor_loses_mxcsr(machine: Machine) -> None:
    plain = processor.build_area({}, mxcsr=0x9FC0)
    assert mxcsr_after(plain) == 0x9FC0
    assert mxcsr_after(compact(plain, machine.leaf, machine.model.xcr0)[0]) == 0x1F80
    assert mxcsr_after(to_compacted(plain, machine.model).data) == 0x9FC0


@on_processor
def test_the_processor_refuses_xstate_bv_beyond_xcomp_bv(machine: Machine) -> None:
    plain = processor.build_area({1: b"\x5a" * 256})
    got, _ = compact(plain, machine.leaf, 1)
    assert masks(got) == (2, COMPACTED | 1)
    assert fault(got) == GP
    assert fault(to_compacted(plain, machine.model, xcomp_bv=1, drop=["sse"]).data) == 0


@on_processor
def test_the_processor_restores_zeros_where_xcr0_was_cleared(machine: Machine) -> None:
    if not machine.model.xcr0 & 4:
        pytest.skip("the processor or its system has no AVX")
    plain = processor.build_area({2: b"\x5a" * 256})
    avx = slice(576, 832)
    got, _ = compact(plain, machine.leaf, 7, xcr0=3)
    result = processor.restore(bytes(got), 7)
    assert not result.faulted
    assert result.after[avx] == bytes(256)
    right = to_compacted(plain, machine.model).data
    assert processor.restore(bytes(right), 7).after[avx] == b"\x5a" * 256

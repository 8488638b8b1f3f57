"""The mirror of QEMU's functions, in every return case.

The expectations are worked out from the C by hand; none comes from the module under test.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from qemu_areas import (
    COMPACTED,
    HASWELL,
    INTEL,
    LBR,
    ZEN4,
    area,
    compact,
    decompact,
    hits,
    masks,
    put,
)

from xsaveschema import load_model
from xsaveschema.errors import XsaveError
from xsaveschema.qemu import (
    UndefinedBehaviourError,
    compact_xsave_area,
    decompact_xsave_area,
    xsave_area_size,
)

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


def test_a_leaf_of_fewer_registers_is_refused() -> None:
    with pytest.raises(XsaveError, match="pass four registers of 32 bits"):
        xsave_area_size(4, True, {2: (256, 576, 0)})  # type: ignore[dict-item]

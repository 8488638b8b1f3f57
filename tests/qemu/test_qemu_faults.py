"""What is known to differ from the right conversion, and that nothing else does."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qemu_areas import (
    COMPACTED,
    HASWELL,
    INTEL,
    LBR,
    ZEN4,
    Leaf,
    area,
    compact,
    decompact,
    hits,
    masks,
    put,
)

from xsaveschema import CpuModel, check, load_model, relayout, samples, to_compacted, to_standard
from xsaveschema.catalog import default_catalog
from xsaveschema.errors import StateLossError, XsaveError
from xsaveschema.model import Format
from xsaveschema.qemu import (
    KNOWN_DIFFERENCES,
    UndefinedBehaviourError,
    compact_xsave_area,
    decompact_xsave_area,
    differences,
)
from xsaveschema.testing import areas, xcr0s


class Case(NamedTuple):
    """An area that meets one difference: hits are exactly ``id`` and ``also``."""

    id: str
    to: Format
    data: bytearray
    guest: Leaf
    guest_xcr0: int
    also: tuple[str, ...]
    more: dict[str, Any]


def standard(
    id: str, data: bytearray, guest: Leaf, guest_xcr0: int, *also: str, **more: Any
) -> Case:
    """On its way to the standard format, where XCOMP_BV always keeps its low bits."""
    low = () if id in ("assert", "xcomp-bv-bits-kept") else ("xcomp-bv-bits-kept",)
    return Case(id, "standard", data, guest, guest_xcr0, (*low, *also), more)


def compacted(
    id: str, data: bytearray, guest: Leaf, guest_xcr0: int, *also: str, **more: Any
) -> Case:
    return Case(id, "compacted", data, guest, guest_xcr0, also, more)


def packed(xstate_bv: int, places: int, size: int = 832) -> bytearray:
    return area(xstate_bv, COMPACTED | places, size)


LWP = 1 << 62
OPMASK = packed(0x27, 0x27, 896)
PKRU = packed(7, 0x207, 840)
# Zen 2's PKRU takes 64 bytes: LWP is not where Zen 3's would put it.
ZEN3_LWP = ZEN4 | {9: (8, 2432, 0, 0), 62: (128, 832, 0, 0)}
ZEN2_LWP = HASWELL | {9: (64, 832, 0, 0), 62: (128, 896, 0, 0)}
SMALL, LARGE = HASWELL | {9: (8, 832, 0, 0)}, HASWELL | {9: (64, 832, 0, 0)}
CASES = [
    standard("assert", area(7, 0), HASWELL, 7),
    standard("xcomp-bv-bits-kept", packed(7, 7), HASWELL, 7),
    standard("over-legacy", packed(0x803, 0x803), ZEN4, 0x2E7, "component-dropped"),
    standard("initial-x87", put(packed(6, 7), 0, bytes(2)), HASWELL, 7),
    standard("initial-x87", put(packed(6, 7), 159, b"\1"), HASWELL, 7),
    standard("initial-sse", put(packed(5, 7), 415, b"\1"), HASWELL, 7),
    standard("mxcsr-stale", put(packed(5, 7), 24, bytes(4)), HASWELL, 7),
    standard("component-dropped", OPMASK, HASWELL, 7, host_leaf=ZEN4),
    standard("data-without-xstate-bv", OPMASK, ZEN4, 7, "component-dropped"),
    standard("xstate-bv-without-data", OPMASK, HASWELL, 0x27, host_leaf=ZEN4),
    standard("xstate-bv-beyond-xcomp-bv", packed(7, 3, 576), HASWELL, 7),
    compacted("xstate-bv-beyond-xcomp-bv", area(7, 0), HASWELL, 3),
    standard(
        "walk-by-guest",
        put(packed(LWP | 7, LWP | 0x207, 1024), 832, bytes(64)),
        ZEN3_LWP,
        LWP | 0x2E7,
        host_leaf=ZEN2_LWP,
    ),
    # The guest's larger component does not fit, the host's would.
    standard("walk-by-guest", PKRU, LARGE, 0x207, "written-on-error", host_leaf=SMALL),
    # And the other way round: the area is cut off, which goes unnoticed.
    standard("walk-by-guest", PKRU, SMALL, 0x207, host_leaf=LARGE),
    standard("initial-needs-room", PKRU, ZEN4, 7, "written-on-error", dest_size=832),
    standard("written-on-error", packed(7, 1 << 20 | 7), HASWELL, 7),
    standard("written-on-error", packed(7, 7, 831), HASWELL, 7),
    # A live component without room: the right conversion refuses too.
    standard("written-on-error", packed(0x207, 0x207, 840), ZEN4, 0x207, dest_size=832),
    standard("reserved-header", put(packed(7, 7), 575, b"\1"), HASWELL, 7),
    compacted("reserved-header", put(area(7, 0), 528, b"\1"), HASWELL, 7),
    compacted("mxcsr-lost", put(area(5, 0), 24, b"\xc0\x9f"), HASWELL, 7),
    compacted("live-not-copied", area(7, 0), HASWELL, 7, xcr0=3),
    compacted(
        "place-by-host", put(area(0x207, 0, 2696), 2688, b"\1"), INTEL, 0x207, host_leaf=ZEN4
    ),
    compacted(
        "unknown-size", area(7, 0), HASWELL, 0x27, host_leaf=HASWELL | {0: (0x27, 896, 896, 0)}
    ),
    compacted("xcomp-bv-ignored", area(7, 7), HASWELL, 7),
    compacted("xcomp-bv-ignored", packed(7, 7), HASWELL, 7),
    compacted("no-bounds-check", area(3, 0, 700), HASWELL, 7, "initial-bytes-kept"),
    compacted("no-bounds-check", area(3, 0), HASWELL, 7, "initial-bytes-kept", dest_size=831),
    compacted(
        "no-bounds-check", put(area(3, 0), 576, bytes(256)), HASWELL, 7, xcr0=3, dest_size=831
    ),
    compacted("initial-bytes-kept", area(3, 0), HASWELL, 7),
    compacted("initial-bytes-kept", area(6, 0), HASWELL, 7),
    compacted("initial-bytes-kept", area(5, 0), HASWELL, 7),
    compacted("mask-kept", put(area(7, 0), 464, b"\7" + bytes(47)), HASWELL, 7),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_differences_names_what_an_area_meets(case: Case) -> None:
    found = hits(case.data, case.to, case.guest, case.guest_xcr0, **case.more)
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
    assert [fault.rule for fault in check(got, model, "ptrace")] == ["linux-compacted"]
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
    plain = put(area(7, 0, 2696), 536, noise[:40])
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
    right = relayout(
        data, source=intel, target=zen4, format="compacted", xcomp_bv=0x203, drop=["hi16_zmm"]
    ).data
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
            result = relayout(data, source=host, target=guest, format="standard", xcr0=mask)
        else:
            places = host.xcr0 & mask
            result = relayout(data, source=guest, target=host, format="compacted", xcomp_bv=places)
    except XsaveError:
        return None
    # The helper knows CPUID alone: which MXCSR_MASK the other CPU has is no affair of its.
    moved = bytes(result.data)
    if any(moved[28:32]) and guest.name != host.name:
        moved = moved[:28] + data[28:32] + moved[32:]
    return moved.ljust(1 << 14, b"\0")


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
    "mask-kept": {*range(464, 472)},
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

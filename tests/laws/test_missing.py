"""State that is live, but not in the file: what an area says of it, and what nobody makes of it."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import DATA
from writers import criu, minidump
from writers import qemu_stream as stream
from writers.state import INTEL, SIZES, State

import xsaveschema as xs
from xsaveschema import artefacts, load_model
from xsaveschema.area.registers import widest
from xsaveschema.artefacts.reader import ArtefactError
from xsaveschema.diff import byte_differences
from xsaveschema.errors import (
    MissingStateError,
    NoPlaceError,
    StateLossError,
    UnknownComponentError,
    WrongTypeError,
    XsaveError,
)

NAMES = {2: "avx", 3: "bndregs", 4: "bndcsr", 5: "opmask", 6: "zmm_hi256", 7: "hi16_zmm"}
NAMES |= {8: "pt", 9: "pkru", 11: "cet_u", 17: "tilecfg", 18: "tiledata", 19: "apx"}
NAMES |= {20: "component20", 40: "component40"}
REAL = DATA / "artefacts" / "criu-4.2-amx-core.img"
SPR = load_model("sapphire-rapids").limited(xcr0=0x602E7, xss=0)


def names(mask: int) -> tuple[str, ...]:
    return tuple(NAMES[number] for number in range(2, 63) if mask >> number & 1)


KNOWN = {model.user_mask | model.supervisor_mask for model in xs.Catalog().models()}

# Readers that put areas together.


def of_criu(state: State, live: int, there: int) -> bytes:
    return criu.image(criu.core(criu.encode(criu.fields(state, there, live))))


def of_crit(state: State, live: int, there: int) -> bytes:
    return criu.as_json(criu.fields(state, there, live))


def of_qemu(state: State, live: int, there: int) -> bytes:
    return stream.stream({0: stream.cpu(state, there, xcr0=live, xstate_bv=live)})


def of_minidump(state: State, live: int, there: int) -> bytes:
    area = state.standard(3, {})
    return minidump.dump([(1, minidump.context(area, xstate=False))])


# How: the writer; the groups of components that are there together; those always there; what is
# zero where it is not written; what is in use if its bytes are not initial; what can be in use.
KINDS: dict[str, Any] = {
    "criu": (of_criu, [1 << n for n in (2, 3, 4, 5, 6, 7, 9, 11)], 0, 0, 1 << 11, ~0),
    "crit": (of_crit, [1 << n for n in (2, 3, 4, 5, 6, 7, 9, 11)], 0, 0, 1 << 11, ~0),
    "qemu": (of_qemu, [0x18, 0xE0, 0x200, 0x60000, 0x80000], 4, 0x2F8, ~0, ~0),
    "minidump": (of_minidump, [], 0, 0, 0, 0),
}


@pytest.mark.parametrize("kind", KINDS)
@given(
    data=st.data(),
    live=st.sets(st.sampled_from(sorted(NAMES))),
    seed=st.integers(0, 3),
)
def test_what_is_in_use_is_there_or_missing_and_never_zero(
    kind: str, data: st.DataObject, live: set[int], seed: int
) -> None:
    write, groups, always, left_out, inferred, possible = KINDS[kind]
    there = always | sum(data.draw(st.sets(st.sampled_from(groups)))) if groups else 0
    said = sum(1 << number for number in live) & possible
    mask = said | there & inferred
    # QEMU leaves components out that are zero.
    zero = said & left_out & ~there
    state = State(seed)
    given_bytes = mask & (there | zero)
    if all(given_bytes & ~known for known in KNOWN):
        with pytest.raises(ArtefactError, match="no model of the catalogue has all"):
            list(artefacts.read_bytes(write(state, 3 | said, 3 | there)))
        return
    (found,) = artefacts.read_bytes(write(state, 3 | said, 3 | there))
    area = found.area
    gone = mask & ~given_bytes
    assert area.missing == names(gone)
    assert area.xstate_bv == 3 | mask
    for slot in area.layout:
        assert not gone >> slot.number & 1
        stored = bytes(area.buffer[slot.offset : slot.offset + SIZES.get(slot.number, 0)])
        if (mask & there) >> slot.number & 1:
            assert stored == state.component(slot.number), slot.name
        elif zero >> slot.number & 1:
            assert not any(stored)
        elif slot.number > 1:
            assert not area.in_use(slot.number)
    assert area.layout.mask & mask == mask & ~gone
    for name in names(gone):
        with pytest.raises(MissingStateError) as caught:
            _ = area[name]
        assert caught.value.missing == (name,)
        assert area.in_use(name)
    for register in area.registers:
        assert not {p.component for p in area.model.registers[register].pieces} & {*area.missing}
    if gone:
        with pytest.raises(MissingStateError):
            bytes(area)
    else:
        assert xs.XsaveArea.parse(bytes(area), area.model).values() == area.values()


# An area of it. Everything but ``gone`` is as in ``WHOLE``.


def partial(gone: int, mask: int = 0x602E7, state: State | None = None) -> xs.XsaveArea:
    there = (state or State()).standard(mask & ~gone, INTEL)
    numbers = {n: NAMES[n] for n in sorted(NAMES, reverse=True) if gone >> n & 1}
    return xs.XsaveArea.partial(there, SPR, numbers)


WHOLE = State().standard(0x602E7, INTEL)
TILES = 0x60000
TILE_NAMES = ("tilecfg", "tiledata")
FORMATS: list[dict[str, Any]] = [{"format": "standard"}, {"format": "compacted"}, {}]


def test_the_widest_part_that_is_there_is_shown() -> None:
    area = partial(1 << 6)
    assert area.registers["ymm3"] == State().zmm[3] & (1 << 256) - 1
    assert area.registers["zmm17"] == State().zmm[17]
    shown = widest(area.layout)
    assert "ymm3" in shown
    assert not {"xmm3", "zmm3"} & {*shown}
    area = partial(1 << 6 | 1 << 2)
    assert "xmm3" in widest(area.layout)
    with pytest.raises(MissingStateError, match=r"ymm3: avx is live, but not in this file"):
        _ = area.registers["ymm3"]
    with pytest.raises(MissingStateError) as caught:
        _ = area.registers["zmm3"]
    assert caught.value.missing == ("avx", "zmm_hi256")
    for read in (area.registers.in_use, area.registers.size):
        with pytest.raises(MissingStateError):
            read("zmm3")
    with pytest.raises(MissingStateError):
        area.registers["zmm3"] = 1


def test_tiles_whose_shape_is_missing_are_missing() -> None:
    with pytest.raises(MissingStateError) as caught:
        _ = partial(1 << 17).registers["tmm0"]
    assert caught.value.missing == ("tilecfg",)


def test_what_has_no_place_and_is_not_in_use_is_not_missing() -> None:
    area = partial(1 << 18, 0x40007)
    with pytest.raises(NoPlaceError) as caught:
        _ = area.registers["k1"]
    assert not isinstance(caught.value, MissingStateError)
    with pytest.raises(UnknownComponentError):
        _ = area["nothing"]
    assert not area.in_use("opmask")


def test_memory_is_refused() -> None:
    area = partial(TILES)
    for refused in (bytes, lambda area: area.raw):
        with pytest.raises(MissingStateError) as caught:
            refused(area)
        assert caught.value.missing == ("tilecfg", "tiledata")
        assert "--drop tilecfg,tiledata" in str(caught.value)
    assert len(area) == 2696
    assert area.values()["header.xstate_bv"] == 0x602E7
    assert "live, not in the file: tilecfg, tiledata" in repr(area)
    assert partial(0).missing == ()
    assert bytes(partial(0)) == WHOLE


def test_where_sse_is_missing_nothing_gives_mxcsr() -> None:
    there = State().standard(0x602E5, INTEL)
    area = xs.XsaveArea.partial(there, SPR, {1: "sse"})
    assert "sse.mxcsr" not in area.values()
    assert "mxcsr" not in area.registers
    assert area.values().keys() == {p for p in partial(0).values() if not p.startswith("sse.")}
    area.initialise("sse")
    assert area.values()["sse.mxcsr"] == 0x1F80


@pytest.mark.parametrize(
    "missing",
    [{-1: "x"}, {63: "x"}, {1.5: "x"}, {"18": "tiledata"}, {True: "sse"}, {18: 18}, [(18, "x")]],
    ids=repr,
)
def test_what_names_no_missing_components_is_a_wrong_type(missing: Any) -> None:
    with pytest.raises(WrongTypeError, match=r"missing: pass \{number: name\}"):
        xs.XsaveArea.partial(WHOLE, SPR, missing)


@pytest.mark.parametrize("how", FORMATS, ids=["standard", "compacted", "kept"])
def test_a_conversion_loses_what_is_missing_only_if_told_to(how: dict[str, Any]) -> None:
    area, there = partial(TILES), State().standard(0x2E7, INTEL)
    target = load_model("zen4")
    refused: dict[tuple[str, ...], tuple[str, ...]]
    refused = {(): TILE_NAMES, ("pkru",): TILE_NAMES, ("tilecfg",): ("tiledata",)}
    for drop, lost in refused.items():
        with pytest.raises(StateLossError, match="not in this file: t") as caught:
            xs.relayout(area, target=target, drop=drop, **how)
        assert caught.value.lost == lost
    permitted: list[tuple[str | int, ...]] = [TILE_NAMES, (17, 18), ("tilecfg", "component18")]
    for permit in permitted:
        done = xs.relayout(area, target=target, drop=permit, **how)
        assert done.dropped == TILE_NAMES
        assert done.data == xs.relayout(there, source=SPR, target=target, **how).data
    # What has no place in the target is lost beside it.
    with pytest.raises(
        StateLossError, match="bndcsr; live, but not in this file: opmask"
    ) as caught:
        xs.relayout(partial(1 << 5), target=load_model("skylake"), drop=TILE_NAMES)
    assert caught.value.lost == ("opmask", "zmm_hi256", "hi16_zmm", "pkru")
    # What has a place is initial there.
    done = xs.to_standard(area, SPR, drop=TILE_NAMES)
    assert xs.XsaveArea.parse(done.data, SPR).registers["tmm0"] == bytes(1024)
    assert xs.XsaveArea.parse(done.data, SPR).xstate_bv == 0x2E7
    assert xs.to_compacted(area, SPR, drop=TILE_NAMES).data == xs.to_compacted(there, SPR).data


def test_unknown_components_are_dropped_by_their_names() -> None:
    area = partial(1 << 20 | 1 << 19, 0x1802E7)
    with pytest.raises(StateLossError) as caught:
        xs.to_standard(area, SPR)
    assert caught.value.lost == ("apx", "component20")
    assert xs.to_standard(area, SPR, drop=caught.value.lost).dropped == caught.value.lost
    with pytest.raises(UnknownComponentError, match="apx, component20"):
        xs.to_standard(area, SPR, drop=("apz",))


@pytest.mark.parametrize("how", FORMATS, ids=["standard", "compacted", "kept"])
def test_a_whole_area_converts_as_its_bytes_do(how: dict[str, Any]) -> None:
    area = xs.XsaveArea.parse(WHOLE, SPR)
    wanted = xs.relayout(WHOLE, source=SPR, target=SPR, **how)
    assert xs.relayout(area, target=SPR, **how) == wanted
    assert xs.relayout(area, source=SPR, target=SPR, **how) == wanted
    compacted = xs.XsaveArea.parse(xs.to_compacted(area, SPR).data, SPR)
    assert xs.to_standard(compacted, SPR).data == xs.to_standard(area, SPR).data


def test_an_area_brings_its_model() -> None:
    zen4 = load_model("zen4")
    area = xs.XsaveArea.parse(State().standard(0x2E7, INTEL), SPR)
    done = xs.relayout(area, target=zen4)
    assert xs.XsaveArea.parse(done.data, zen4).registers["k1"] == State().k[1]
    with pytest.raises(XsaveError, match="is sapphire-rapids's, not zen4's: relayout moves it"):
        xs.to_standard(area, zen4)
    with pytest.raises(XsaveError, match="needs source="):
        xs.relayout(WHOLE, target=SPR)


def test_supervisor_components_that_are_assumed_count() -> None:
    """WHPX can leave their bits out of XSTATE_BV; the area knows more than its header."""
    model = load_model("sapphire-rapids")
    image = bytearray(State().compacted(0x802))
    image[512:520] = bytes(8)
    area = xs.XsaveArea.parse(bytes(image), model, assume_supervisor=True)
    assert xs.to_compacted(area, model).data[512:514] == b"\0\x08"
    with pytest.raises(StateLossError):
        xs.to_standard(area, model)


def test_a_difference_that_nobody_can_know_is_told() -> None:
    area, whole = partial(TILES), xs.XsaveArea.parse(WHOLE, SPR)
    found = xs.diff(area, whole)
    assert [(d.path, d.kind, d.a, d.b) for d in found] == [
        ("tilecfg", "unknown", None, 1),
        ("tiledata", "unknown", None, 1),
    ]
    assert str(found[0]) == "tilecfg: live, not in this file | in use [unknown]"
    initial = State().standard(0x2E7, INTEL)
    assert str(xs.diff(initial, area, SPR)[1]) == (
        "tiledata: initial | live, not in this file [unknown]"
    )
    assert [d.kind for d in xs.diff(area, area)] == ["unknown", "unknown"]
    assert xs.diff(area, whole, ignore=TILE_NAMES) == []
    # What is there is compared all the same, and zeros nobody gave are no values.
    other = partial(TILES, state=State(pkru=4))
    assert [d.path for d in xs.diff(area, other)] == ["pkru.pkru", *TILE_NAMES]
    strange = partial(1 << 20, 0x1002E7)
    assert [d.path for d in xs.diff(strange, initial)] == ["component20"]
    assert xs.diff(strange, initial, ignore="component20") == []
    with pytest.raises(MissingStateError):
        byte_differences(area, whole)


def test_registers_of_what_is_there_are_written() -> None:
    area = partial(TILES)
    area.registers["zmm17"] = 5
    area["pkru"]["pkru"] = 12
    assert (area.registers["zmm17"], area["pkru"]["pkru"]) == (5, 12)
    assert area.missing == TILE_NAMES
    assert area.xstate_bv == 0x602E7
    assert partial(TILES).registers["zmm17"] == State().zmm[17]


def test_a_missing_component_can_be_made_initial() -> None:
    area = partial(TILES | 1 << 20, 0x1602E7)
    for key in ("tiledata", 17, "component20"):
        area.initialise(key)
    assert area.missing == ()
    assert area.xstate_bv == 0x2E7
    assert bytes(area) == State().standard(0x2E7, INTEL)
    assert not area.in_use("tilecfg")
    with pytest.raises(NoPlaceError) as caught:
        _ = area["tilecfg"]
    assert not isinstance(caught.value, MissingStateError)


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda area: pickle.loads(pickle.dumps(area))]
)
def test_copies_keep_what_is_missing(again: Any) -> None:
    area = partial(TILES | 1 << 20, 0x1602E7)
    other = again(area)
    assert other.missing == area.missing == (*TILE_NAMES, "component20")
    assert other.registers.read() == area.registers.read()
    assert other.layout.mask == area.layout.mask
    other.registers["zmm1"] = 7
    other.initialise("tilecfg")
    assert area.missing == (*TILE_NAMES, "component20")
    assert area.registers["zmm1"] == State().zmm[1]
    with pytest.raises(MissingStateError) as caught:
        bytes(other)
    assert pickle.loads(pickle.dumps(caught.value)).missing == ("tiledata", "component20")


def test_missing_components_are_in_no_mask_of_what_is_there() -> None:
    compacted = State().compacted(0x2E7)
    for there in (State().standard(0x2E7, INTEL), compacted):
        with pytest.raises(XsaveError, match="pkru: missing, but in the header's masks"):
            xs.XsaveArea.partial(there, SPR, {9: "pkru"})
    area = xs.XsaveArea.partial(compacted, SPR, {17: "tilecfg"})
    assert area.format == "compacted"
    assert area.xcomp_bv == 1 << 63 | 0x2E7
    assert area.registers["zmm17"] == State().zmm[17]


def test_batches_refuse_what_is_not_there() -> None:
    batch = pytest.importorskip("xsaveschema.many.batch")
    whole = xs.XsaveArea.parse(WHOLE, SPR)
    done = batch.to_compacted([whole, whole], SPR)
    assert bytes(done.data[1]) == xs.to_compacted(WHOLE, SPR).data
    for areas in ([whole, partial(TILES)], (partial(TILES),)):
        for call in (batch.to_standard, batch.decode, batch.check):
            with pytest.raises(MissingStateError, match="tilecfg, tiledata"):
                call(areas, SPR)
    with pytest.raises(XsaveError, match="have one size, not 2696, 11008"):
        batch.to_standard([whole, partial(0, 0x2E7)], SPR)


def test_arrow_refuses_what_is_not_there() -> None:
    arrow = pytest.importorskip("xsaveschema.many.arrow")
    with pytest.raises(MissingStateError, match="tilecfg, tiledata"):
        arrow.to_arrow([partial(TILES)], SPR)


def test_mxcsr_is_missing_with_sse() -> None:
    model = load_model("zen4").limited(xcr0=0xE7)
    blank = xs.XsaveArea.new(model)
    blank.registers["mxcsr"] = 0x1FA0
    blank.initialise("x87")
    data = bytearray(bytes(blank))
    data[512:520] = bytes(8)
    area = xs.XsaveArea.partial(data, model, {1: "sse"})
    assert "mxcsr" not in area.registers
    for how in ({"format": "standard"}, {"format": "compacted", "xcomp_bv": 0xE7}):
        done = xs.relayout(area, target=model, drop=["sse"], **how)
        got = xs.XsaveArea.parse(done.data, model)
        assert (done.dropped, got.xstate_bv, got.registers["mxcsr"]) == (("sse",), 0, 0x1F80)
    area.initialise("sse")
    assert xs.to_standard(area, model).data[24:28] == b"\x80\x1f\0\0"


def test_areas_compare_by_value() -> None:
    area = partial(TILES)
    again = pickle.loads(pickle.dumps(area))
    assert again == area == copy.copy(area)
    again.registers["zmm1"] = 5
    assert again != area
    assert partial(TILES) != partial(0)
    assert area != bytes(area.buffer)

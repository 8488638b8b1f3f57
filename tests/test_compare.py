"""What moves between two models, and what is lost; relayout() is the judge."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import pytest
from test_diff import without_fields
from test_laws import MODELS

from xsaveschema import StateLossError, XsaveArea, load_model, relayout
from xsaveschema.compare import Comparison, compare
from xsaveschema.diff import diff
from xsaveschema.errors import MaskError
from xsaveschema.model import CpuModel, Field, Format

SKX = load_model("skylake-server")
SPR = load_model("sapphire-rapids")
ZEN2, ZEN3, ZEN4 = (load_model(name) for name in ("zen2", "zen3", "zen4"))


def states(found: Comparison) -> Mapping[str, str]:
    return {row.name: row.state for row in found.components}


def test_where_components_move_and_what_is_new() -> None:
    guest = ZEN4.limited(xss=0)
    found = compare(guest, SKX)
    assert states(found) == {
        "x87": "same",
        "sse": "same",
        "avx": "same",
        "bndregs": "new",
        "bndcsr": "new",
        "opmask": "moved",
        "zmm_hi256": "moved",
        "hi16_zmm": "moved",
        "pt": "new",
        "pkru": "moved",
    }
    assert found.restorable
    assert found.lost == ()
    assert found.common_mask == 0x2E7
    assert (found.standard_identical, found.compacted_identical) == (False, True)
    assert compare(SPR, load_model("alder-lake")).common_mask == 0x9B07, "supervisor state too"
    assert [layout.size for layout in found.standard_layouts] == [2440, 2696]
    assert [layout.size for layout in found.compacted_layouts] == [2440, 2440]


def test_what_the_other_lacks_or_has_not_enabled_is_lost() -> None:
    found = compare(SKX, ZEN4.limited(xcr0=7, xss=0), xss=SKX.xss)
    assert not found.restorable
    assert found.lost == (
        *("bndregs", "bndcsr", "opmask", "zmm_hi256", "hi16_zmm"),
        *("pt", "pkru"),
    )
    rows = {row.name: row for row in found.components}
    assert rows["bndregs"].b is None
    assert rows["opmask"].b is ZEN4.components["opmask"], "the silicon has it"
    assert (rows["opmask"].enabled_a, rows["opmask"].enabled_b) == (True, False)
    assert rows["opmask"].unplaced == 64
    assert compare(SKX.limited(xcr0=7, xss=0), ZEN4.limited(xcr0=7, xss=0)).restorable


def test_supervisor_state_counts_where_the_guest_is_said_to_have_it() -> None:
    found = compare(ZEN4, SKX)
    assert (found.lost, found.possible, found.restorable) == ((), ("cet_u", "cet_s"), True)
    assert "lost if enabled" in str(found)
    assert "lost too if the guest has enabled them in IA32_XSS: cet_u, cet_s" in str(found)
    for xss, lost in ((0, ()), (0x800, ("cet_u",)), (0x1800, ("cet_u", "cet_s"))):
        told = compare(ZEN4, SKX, xss=xss)
        assert (told.lost, told.possible, told.restorable) == (lost, (), not lost)
    # User state counts all the same.
    assert compare(SPR, ZEN4).lost == ("tilecfg", "tiledata")
    assert compare(SPR, ZEN4).possible == ("pt", "pasid", "uintr", "lbr")
    with pytest.raises(MaskError):
        compare(ZEN4, SKX, xss=0x100)


def test_a_model_compared_with_itself_is_the_same_throughout() -> None:
    for model in MODELS:
        found = compare(model, model)
        assert set(states(found).values()) == {"same"}
        assert found.restorable
        assert found.standard_identical
        assert found.compacted_identical
        assert (found.missing_instructions, found.new_instructions) == ((), ())
        assert found.mxcsr_refused == 0


def test_a_resized_component_says_which_bytes_have_no_place() -> None:
    found = compare(ZEN2, ZEN3)
    (row,) = [row for row in found.components if row.state == "resized"]
    assert (row.name, row.moved_fields, row.lost_fields, row.unplaced) == ("pkru", (), (), 60)
    assert row.a is not None
    assert row.b is not None
    assert (row.a.size, row.b.size, row.a.offset, row.b.offset) == (64, 8, 832, 2432)
    assert not row.lossy, "no field is among the 60 bytes"
    assert found.restorable
    assert not found.compacted_identical


def test_resized_fields_move_or_are_lost() -> None:
    def fields(*offsets: int) -> tuple[Field, ...]:
        return tuple(Field(f"f{at}", "u64", at, 8) for at in offsets)

    def with_avx(size: int, fields: tuple[Field, ...]) -> CpuModel:
        avx = replace(ZEN3.components["avx"], size=size, load_fields=lambda: fields)
        return replace(ZEN3, components={**ZEN3.components, "avx": avx})

    old = with_avx(256, fields(0, 8, 16, 24))
    moved = replace(fields(8)[0], offset=80)
    new = with_avx(128, (*fields(0), moved, replace(fields(16)[0], type="u32", size=4)))
    (row,) = [row for row in compare(old, new).components if row.name == "avx"]
    assert (row.state, row.moved_fields, row.lost_fields) == ("resized", ("f8",), ("f16", "f24"))
    assert row.unplaced == 256 - 2 * 8
    assert row.lossy
    assert "moves f8; loses f16, f24; 240 bytes have no place" in str(compare(old, new))
    many = with_avx(256, fields(*range(0, 48, 8)))
    assert "loses f8, f16, f24, f32 and 1 more" in str(compare(many, with_avx(128, fields(0))))


def test_all_bytes_of_an_opaque_component_count() -> None:
    opaque, longer = without_fields(ZEN3, "pkru"), without_fields(ZEN2, "pkru")
    assert compare(opaque, longer).lost[:1] == ("pkru",)
    assert compare(opaque, without_fields(ZEN3, "pkru")).restorable


def test_instructions_and_mxcsr() -> None:
    found = compare(SKX, load_model("haswell"))
    assert found.missing_instructions == ("xsavec", "xgetbv1", "xsaves")
    assert compare(load_model("haswell"), SKX).new_instructions == found.missing_instructions
    assert compare(SPR, SKX).missing_instructions == ("xfd",)
    odd = replace(SKX, instructions=SKX.instructions | {"zeta", "alpha"})
    assert compare(odd, SKX).missing_instructions == ("alpha", "zeta")
    found = compare(ZEN4, SKX)
    assert (found.mxcsr_refused, found.mxcsr_refused_bits) == (0x20000, ("mm",))
    assert compare(SKX, ZEN4).mxcsr_refused == 0
    wide = replace(ZEN4, mxcsr_mask=0x7FFFF)
    assert compare(wide, SKX).mxcsr_refused_bits == ("bit 16", "mm", "bit 18")


def test_text() -> None:
    guest, host = SKX.limited(xcr0=0xE7), ZEN4.limited(xcr0=0x207, xss=0)
    assert str(compare(guest, host)).splitlines() == [
        "skylake-server -> zen4: lost: opmask, zmm_hi256, hi16_zmm",
        "lost too if the guest has enabled it in IA32_XSS: pt",
        "  #  component  state            skylake-server  zen4",
        "  0  x87        same             160 at 0        160 at 0",
        "  1  sse        same             256 at 160      256 at 160",
        "  2  avx        same             256 at 576      256 at 576",
        "  5  opmask     lost             64 at 1088      not enabled",
        "  6  zmm_hi256  lost             512 at 1152     not enabled",
        "  7  hi16_zmm   lost             1024 at 1664    not enabled",
        "  8  pt         lost if enabled  128 supervisor  -",
        "  9  pkru       new              not enabled     8 at 2432    "
        "some skylake-server parts lack it",
        "standard layout of 0x7: identical, 832 bytes on skylake-server, 832 on zen4",
        "compacted layout of 0x7: identical, 832 bytes on skylake-server, 832 on zen4",
    ]
    text = str(compare(ZEN2, ZEN3))
    assert text.startswith("zen2 -> zen3: nothing is lost\n")
    assert "60 bytes have no place, no field among them" in text
    text = str(compare(SPR, load_model("alder-lake")))
    assert "not enabled     some alder-lake parts have it" in text
    assert text.endswith("alder-lake lacks xfd")
    assert "buffers" not in text, "the areas there are shorter"
    text = str(compare(ZEN4, SKX))
    assert "\nMXCSR: skylake-server refuses mm (0x20000) with #GP\n" in text
    assert text.splitlines()[-2:] == [
        "XSAVE of all of XCR0 writes 2440 bytes on zen4, 2696 on skylake-server:",
        "  a process, not a VM, that sized its buffers on zen4 overruns them there",
    ]


def test_json() -> None:
    found = json.loads(json.dumps(compare(ZEN2, SKX.limited(xcr0=0x207)).to_dict()))
    rows = {row.pop("name"): row for row in found.pop("components")}
    assert list(rows) == ["x87", "sse", "avx", "pt", "pkru"]
    assert rows["pkru"] == {
        "number": 9,
        "state": "resized",
        "a": {
            "enabled": True,
            "size": 64,
            "offset": 832,
            "supervisor": False,
            "optional": ZEN2.components["pkru"].optional,
        },
        "b": {
            "enabled": True,
            "size": 8,
            "offset": 2688,
            "supervisor": False,
            "optional": "present",
        },
        "moved_fields": [],
        "lost_fields": [],
        "unplaced": 60,
    }
    assert rows["pt"]["a"] is None
    assert rows["pt"]["b"]["offset"] is None
    assert found == {
        "a": "zen2",
        "b": "skylake-server",
        "restorable": True,
        "lost": [],
        "possible": [],
        "in_use": None,
        "buffers": {"a": 896, "b": 2696},
        "permission": None,
        "common_mask": "0x207",
        "layouts": {
            "standard": {"a": 896, "b": 2696, "identical": False},
            "compacted": {"a": 896, "b": 840, "identical": False},
        },
        "missing_instructions": [],
        "new_instructions": [],
        "mxcsr_mask": {"a": "0x2ffff", "b": "0xffff", "refused": "0x20000", "refused_bits": ["mm"]},
    }


@cache
def full(model: CpuModel, form: Format, supervisor: bool, unnamed: bool) -> bytes:
    """An area with every enabled component in use and no byte of its state zero.

    Bytes that no field names are zero unless `unnamed`.
    """
    mask = model.xcr0 | (model.xss if supervisor else 0)
    area = XsaveArea.new(model, form, **({"xcomp_bv": mask} if form == "compacted" else {}))
    rng = random.Random(model.name)
    for slot in area.layout:
        spots = [(leaf.offset, leaf.size) for leaf in slot.component.leaves]
        if unnamed and not slot.component.legacy:
            spots = [(0, slot.size)]
        for at, size in spots:
            area.write(slot, slot.origin + at, bytes(rng.randrange(1, 256) for _ in range(size)))
    return bytes(area)


def lost_by_relayout(area: bytes, a: CpuModel, b: CpuModel) -> tuple[str, ...]:
    # What B has enabled, not just what its silicon has.
    mask = b.xcr0 | b.xss if area[527] & 0x80 else None
    try:
        moved = relayout(area, source=a, target=b, xcomp_bv=mask)
    except StateLossError as error:
        return error.lost
    assert diff(area, moved.data, a, b) == []
    return ()


@pytest.mark.parametrize("form", ["standard", "compacted"])
def test_lost_is_what_relayout_refuses_for_every_pair_of_models(form: Format) -> None:
    alike: dict[object, CpuModel] = {}
    for model in MODELS:
        places = [(c.name, c.size, c.offset, c.align64) for c in model.components.values()]
        alike.setdefault((model.xcr0, model.xss, *places), model)
    assert len(alike) > 15
    losses = 0
    for a, b in itertools.product(alike.values(), repeat=2):
        supervisor = form == "compacted"
        found = compare(a, b)
        expected = [
            row.name
            for row in found.components
            if row.lossy and (supervisor or (row.a and not row.a.supervisor))
        ]
        lost = lost_by_relayout(full(a, form, supervisor, False), a, b)
        assert list(lost) == expected, (a, b)
        losses += bool(lost)
        # Random bytes where no field is declared are refused as well: these are `unplaced`.
        everywhere = lost_by_relayout(full(a, form, supervisor, True), a, b)
        unplaced = [
            row.name
            for row in found.components
            if row.unplaced and (supervisor or (row.a and not row.a.supervisor))
        ]
        assert list(everywhere) == unplaced, (a, b)
    assert losses > 50


def test_identical_layouts_need_no_conversion() -> None:
    for a, b in itertools.product(MODELS, repeat=2):
        found = compare(a, b)
        mask = a.xcr0 & b.xcr0
        if found.standard_identical and mask == a.xcr0 == b.xcr0:
            area = full(a, "standard", False, True)
            own = area[28:32] if a.name == b.name else b.mxcsr_mask.to_bytes(4, "little")
            assert relayout(area, source=a, target=b).data == area[:28] + own + area[32:]
        rows = {row.state for row in found.components if mask >> row.number & 1}
        assert found.standard_identical == (rows == {"same"})

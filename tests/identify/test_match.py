"""Identification: by area, by leaf 0xD, by table; and the leaf that a model implies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from xsaveschema import XsaveArea, identify, load_model, samples
from xsaveschema.catalog import Catalog, default_catalog
from xsaveschema.cpuid import read, signature_parts
from xsaveschema.errors import IdentificationError, WrongTypeError, XsaveError

COMPLETE = "complete"


def leaf_of(record: dict[str, Any]) -> dict[int, tuple[int, int, int, int]]:
    """A dump record's leaf 0xD as (EAX, EBX, ECX, EDX) by sub-leaf."""
    leaf = {0: tuple(record["leaf_d0"][r] for r in ("eax", "ebx", "ecx", "edx"))}
    if record["leaf_d1"]:
        leaf[1] = tuple(record["leaf_d1"][r] for r in ("eax", "ebx", "ecx", "edx"))
    for c in record["components"]:
        leaf[c["component"]] = (c["size"], c["offset"] or 0, c["ecx"], c["edx"])
    return leaf


def dumps(shared: Path) -> list[dict[str, Any]]:
    """The complete dumps of real machines."""
    records = json.loads((shared / "cpuid" / "dumps.json").read_text())
    return [r for r in records if r["status"] == COMPLETE and not r["virtual"]]


@pytest.mark.shared
def test_every_dump_is_identified_by_its_signature_and_reproduced(shared: Path) -> None:
    seen = 0
    for record in dumps(shared):
        if not record["leaf1_eax"]:
            continue
        leaf = leaf_of(record)
        signature = int(record["leaf1_eax"], 16)
        match = identify(leaf_0xd=leaf, signature=signature, vendor=record["vendor"])
        assert "signature" in match.candidates[0].by, record["id"]
        model = match.model
        assert any(
            s.matches(record["vendor"], *signature_parts(signature)) for s in model.signatures
        )
        assert (model.xcr0, model.xss) == (record["xcr0_mask"], record.get("xss_mask") or 0)
        implied = model.cpuid_leaf_0xd()
        mask = model.xcr0 | model.xss
        for number, row in leaf.items():
            if number >= 2 and mask >> number & 1:
                assert implied[number] == row, (record["id"], number)
        assert set(implied) - {0, 1} == {n for n in leaf if n > 1 and mask >> n & 1}
        assert implied[0][0::3] == leaf[0][0::3], record["id"]
        assert implied[0][2] == leaf[0][2], record["id"]
        if 1 in leaf:
            assert implied[1][2:] == leaf[1][2:], record["id"]
            assert leaf[1][1] <= implied[1][1], record["id"]
        seen += 1
    assert seen > 200


@pytest.mark.shared
def test_raw_dump_files_are_identified(shared: Path) -> None:
    raw = shared / "cpuid" / "raw"
    by_id = {record["id"]: record for record in dumps(shared)}
    seen = 0
    for entry in json.loads((raw / "index.json").read_text()):
        record = by_id.get(entry["id"])
        if record is None:
            continue
        for found in read(raw / entry["file"]):
            if not found.complete or not found.vendor or found.signature is None:
                continue
            match = identify(
                leaf_0xd=found.leaf_0xd, signature=found.signature, vendor=found.vendor
            )
            assert "signature" in match.candidates[0].by
            seen += 1
    assert seen > 50


# CPUID leaf 0xD of a Zen 4 whose hypervisor hides PKRU: the project's own measurement.
ZEN4_LEAF = {
    0: (0xE7, 0x980, 0x980, 0),
    1: (0xF, 0x9A8, 0x1800, 0),
    2: (0x100, 0x240, 0, 0),
    5: (0x40, 0x340, 0, 0),
    6: (0x200, 0x380, 0, 0),
    7: (0x400, 0x580, 0, 0),
    11: (0x10, 0, 1, 0),
    12: (0x18, 0, 1, 0),
}


def test_a_measured_leaf() -> None:
    match = identify(leaf_0xd=ZEN4_LEAF, signature=0x00A10F11, vendor="AuthenticAMD")
    assert match.candidates[0] == ("zen4", "signature and layout")
    assert (match.model.name, match.model.xcr0, match.model.xss) == ("zen4", 0xE7, 0x1800)
    assert match.model.cpuid_leaf_0xd() == ZEN4_LEAF


def test_without_a_signature_the_layout_speaks() -> None:
    match = identify(leaf_0xd=ZEN4_LEAF)
    assert [c.model for c in match.candidates][:2] == ["zen4", "zen5"]
    assert {c.by for c in match.candidates} == {"layout"}


def test_a_leaf_that_no_model_has_gives_a_model_of_its_own() -> None:
    leaf = {**ZEN4_LEAF, 0: (0x1000E7, 0xA00, 0xA00, 0), 20: (0x80, 0x980, 0, 0)}
    leaf[1] = (0xF, 0x9A8 + 0x80, 0x1800, 0)
    match = identify(leaf_0xd=leaf, vendor="AuthenticAMD")
    assert match.candidates == ()
    model = match.model
    assert model.components["component20"].offset == 0x980
    assert model.components["opmask"].fields
    assert model.standard_layout().size == 0xA00
    assert model.cpuid_leaf_0xd() == leaf
    area = XsaveArea.new(model)
    area.registers["zmm17"] = 5
    assert area["component20"] == {}


def test_a_component_without_a_sub_leaf_is_unknown_not_absent() -> None:
    cut = {number: row for number, row in ZEN4_LEAF.items() if number != 7}
    match = identify(leaf_0xd=cut, vendor="AuthenticAMD")
    assert match.candidates[0].model == "zen4"
    assert "hi16_zmm not in the dump" in match.candidates[0].by
    with pytest.raises(XsaveError, match="hi16_zmm"):
        _ = identify(leaf_0xd={**cut, 2: (0x101, 0x240, 0, 0)}).model


def test_an_area_tells_its_model_by_mask_and_size() -> None:
    for name in ("zen4", "sapphire-rapids", "skylake", "zen2", "bulldozer"):
        model = load_model(name)
        data = bytearray(bytes(XsaveArea.new(model)))
        data[464:472] = model.xcr0.to_bytes(8, "little")
        match = identify(data)
        assert name in [c.model for c in match.candidates]
        assert match.candidates[0].by == "XCR0 mask at byte 464 and size"
        assert match.model.standard_layout().size == len(data)


def test_a_shorter_area_tells_the_xcr0_that_it_was_written_under() -> None:
    area = XsaveArea.new(load_model("zen4"), xcr0=0xE7)
    area.registers["zmm20"] = 1
    match = identify(bytes(area))
    assert match.candidates[0] == ("zen4", "XSTATE_BV and size")
    assert match.model.xcr0 == 0xE7


def test_candidates_with_different_layouts_are_listed() -> None:
    # 2440 bytes: Zen 3 with PKRU, or Zen 4 with AVX-512 as well. Nothing in the area says which.
    match = identify(bytes(XsaveArea.new(load_model("zen4"))))
    with pytest.raises(IdentificationError, match=r"zen4, zen5, zen6; zen3") as caught:
        _ = match.model
    assert {"zen3", "zen4"} <= set(caught.value.candidates)


def test_nothing_fits() -> None:
    data = bytearray(2440)
    data[512:520] = (1 << 40).to_bytes(8, "little")
    match = identify(bytes(data))
    assert match.candidates == ()
    with pytest.raises(IdentificationError):
        _ = match.model
    with pytest.raises(XsaveError):
        identify()
    with pytest.raises(XsaveError):
        identify(bytes(576), leaf_0xd=ZEN4_LEAF)
    with pytest.raises(XsaveError):
        identify(leaf_0xd={})


def test_tables_of_offsets() -> None:
    rows = [(n, c.size, c.offset or 0) for n, c in load_model("zen4").by_number.items() if n > 1]
    user = [row for row in rows if row[2]]
    assert identify(layout=user).candidates[0].model == "zen4"
    assert identify(layout=[(2, 256, 577)]).candidates == ()
    with pytest.raises(XsaveError, match="99"):
        identify(layout=[(99, 1, 1)])


def test_signatures_do_not_overlap() -> None:
    taken: dict[tuple[object, ...], str] = {}
    for model in default_catalog().models():
        for sig in model.signatures:
            for number in sig.models:
                for stepping in sig.steppings or range(16):
                    key = (sig.vendor, sig.family, number, stepping)
                    assert taken.setdefault(key, model.name) == model.name
                    assert taken[key] == model.name


@pytest.mark.parametrize("mask", [0x3, 0x7, 0x207, 0xE7, 0x1AE7])
def test_a_compacted_area_comes_from_a_processor_that_compacts(mask: int) -> None:
    layout = load_model("tiger-lake").compacted_layout(mask)
    area = bytearray(layout.size)
    area[512:528] = mask.to_bytes(8, "little") + layout.xcomp_bv.to_bytes(8, "little")
    found = identify(bytes(area))
    assert {"tiger-lake"} <= {model.name for model in found.models}
    for model in found.models:
        assert model.instructions & {"xsavec", "xsaves"}, model.name


def test_mxcsr_mask_tells_whose_processor_it_was() -> None:
    area = bytearray(samples.read("zen4-xsavec"))
    assert area[28:32] == (0x2FFFF).to_bytes(4, "little")
    assert {model.vendor for model in identify(bytes(area)).models} == {"AuthenticAMD"}
    area[28:32] = (0xFFFF).to_bytes(4, "little")
    assert "AuthenticAMD" not in {model.vendor for model in identify(bytes(area)).models}
    area[28:32] = bytes(4)
    assert len({model.vendor for model in identify(bytes(area)).models}) > 1


def test_mxcsr_mask_is_told_where_it_told_somebody_apart() -> None:
    area = bytearray(samples.read("zen4-xsavec"))
    assert identify(bytes(area)).shown.endswith(", MXCSR_MASK 0x2FFFF")
    area[28:32] = bytes(4)
    assert "MXCSR_MASK" not in identify(bytes(area)).shown


def test_who_has_all_enabled_that_a_compacted_area_has_goes_before_who_has_not() -> None:
    layout = load_model("sapphire-rapids").compacted_layout(0x1AE7)
    area = bytearray(layout.size)
    area[520:528] = layout.xcomp_bv.to_bytes(8, "little")
    lacking = [bool(0x1AE7 & ~(model.xcr0 | model.xss)) for model in identify(bytes(area)).models]
    assert lacking == sorted(lacking)
    assert {*lacking} == {False, True}


def test_mxcsr_mask_orders_who_has_a_table_of_components() -> None:
    """Up to AVX all lay an area out alike: the table rules nobody out."""
    for mask in (0x2FFFF, 0xFFFF):
        found = identify(layout=[(2, 256, 576)], mxcsr_mask=mask)
        assert found.model.mxcsr_mask == mask
        assert {model.mxcsr_mask for model in found.models} == {0xFFFF, 0x2FFFF}


def test_a_model_that_does_not_say_what_it_can_is_a_candidate(tmp_path: Path) -> None:
    """Of a compacted area whose length nobody else explains."""
    (tmp_path / "mine.yaml").write_text(
        "model: mine\ntitle: x\nvendor: GenuineIntel\ncomponents:\n"
        "  avx: {size: 256, offset: 576}\n  pkru: {size: 16, offset: 832}\n"
        "confirmed: false\nsource: made up\n"
    )
    catalog = Catalog([tmp_path])
    area = XsaveArea.new(catalog.model("mine"), "compacted")
    assert identify(bytes(area), catalog=catalog).model.name == "mine"


@pytest.mark.parametrize(
    "leaf",
    [
        pytest.param([(7, 832, 832, 0)], id="no mapping"),
        pytest.param({0: (7, 832, 832)}, id="three registers"),
        pytest.param({0: (7, 832, 832, -1)}, id="negative"),
        pytest.param({0: (7, 832, 832, 1 << 32)}, id="33 bits"),
        pytest.param({"0": (7, 832, 832, 0)}, id="key"),
        pytest.param({0: "seven"}, id="text"),
    ],
)
def test_what_is_no_leaf(leaf: Any) -> None:
    with pytest.raises(WrongTypeError, match="leaf_0xd: pass"):
        identify(leaf_0xd=leaf)

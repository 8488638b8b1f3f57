"""A model that extends another: what is inherited, added, removed and judged."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_models import BASE, SOURCE, child, write

import xsaveschema as xs
from xsaveschema import Catalog
from xsaveschema.errors import (
    MaskError,
    SchemaError,
)


def test_what_is_inherited_and_what_is_not(tmp_path: Path) -> None:
    model = child(tmp_path, "")
    base = Catalog([tmp_path]).model("base")
    assert (model.vendor, model.mxcsr_mask) == ("GenuineIntel", 0x2FFFF)
    assert model.instructions == frozenset({"xsavec"})
    assert list(model.components) == ["x87", "sse", "avx", "pt", "pkru"]
    assert (model.title, model.signatures) == ("child", ())
    assert base.signatures
    assert (model.confirmed, model.source) == (False, "made up")


def test_an_entry_replaces_the_whole_entry(tmp_path: Path) -> None:
    text = "components: {pkru: {size: 64, offset: 832}}\nsizes: {standard: 896}\n"
    model = child(tmp_path, text)
    assert (model.components["pkru"].size, model.components["pkru"].optional) == (64, None)


def test_components_are_added_and_removed(tmp_path: Path) -> None:
    model = child(tmp_path, "components:\n  pt: null\n  cet_u: {size: 16, supervisor: true}\n")
    assert list(model.components) == ["x87", "sse", "avx", "pkru", "cet_u"]
    assert (model.xcr0, model.xss) == (0x207, 0x800)


def test_a_removed_component_makes_room_for_its_number(tmp_path: Path) -> None:
    old = "  old: {number: 40, size: 8, supervisor: true}\n  pt: "
    text = BASE.replace("base", "opaque").replace("[1]", "[2]").replace("968", "976")
    write(tmp_path, "opaque.yaml", text.replace("  pt: ", old) + SOURCE)
    text = "components: {new: {number: 40, size: 16, supervisor: true}, old: null}\n"
    model = child(tmp_path, text, base="opaque")
    assert model.by_number[40].name == "new"


def test_sizes_are_inherited_only_without_components_of_its_own(tmp_path: Path) -> None:
    assert child(tmp_path, "sizes: {standard: 840}\n")
    # Not inherited: nothing to compare with. Given again: compared.
    assert child(tmp_path, "components: {pkru: null}\n").standard_layout().size == 832
    with pytest.raises(SchemaError, match=r"end at 832 \(avx\), not at 840"):
        child(tmp_path, "components: {pkru: null}\nsizes: {standard: 840}\n")


def test_a_chain_of_models(tmp_path: Path) -> None:
    before = "base"
    write(tmp_path, "base.yaml", BASE + SOURCE)
    for number in range(1200):  # deeper than Python recurses
        name = f"m{number}"
        text = f"model: {name}\ntitle: t\nextends: {before}\n" + SOURCE
        write(tmp_path, f"{name}.yaml", text + ("components: {pt: null}\n" if number == 7 else ""))
        before = name
    catalog = Catalog([tmp_path])
    assert "pt" in catalog.model("m6").components
    assert "pt" not in catalog.model("m1199").components


def test_optional_components_and_the_default_mask() -> None:
    model = xs.load_model("skylake-server")
    assert model.components["pkru"].optional == "present"
    assert model.xcr0 == 0x2FF
    model = xs.load_model("alder-lake")
    assert model.components["opmask"].optional == "absent"
    assert (model.xcr0, model.user_mask) == (0x207, 0x2E7)
    assert (model.xss, model.supervisor_mask) == (0x19900, 0x19900)
    assert model.limited(xcr0=0x2E7).standard_layout().size == 2696
    assert model.compacted_layout().mask == 0x19B07


def test_an_opaque_component_by_its_number(tmp_path: Path) -> None:
    text = "components: {new_state: {number: 20, size: 96, offset: 896, align64: true}}\n"
    model = child(tmp_path, text + "sizes: {standard: 992, compacted: 1120}\n")
    component = model.component(20)
    assert (component.name, component.fields, component.initial) == ("new_state", (), bytes(96))
    assert model.compacted_layout()["new_state"].offset == 1024


def test_components_that_overlap_are_not_enabled_together(tmp_path: Path) -> None:
    text = "components:\n  bndregs: {size: 64, offset: 960}\n  bndcsr: {size: 64, offset: 1024}\n"
    model = child(tmp_path, text + "  apx: {size: 128, offset: 960, optional: absent}\n")
    assert model.xcr0 == 0x21F
    clash = r"bndregs \[0x3c0\.\.0x400\) and apx \[0x3c0\.\.0x440\) overlap"
    with pytest.raises(MaskError, match=clash):
        model.limited(xcr0=0x8021F)
    assert model.limited(xcr0=0x80207).standard_layout()["apx"].offset == 960
    with pytest.raises(SchemaError, match=r"overlap \[component-overlap\]"):
        child(tmp_path, text + "  apx: {size: 128, offset: 960}\n")

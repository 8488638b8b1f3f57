"""The catalogue: loading, inheritance, and a user's own files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import xsaveschema as xs
from xsaveschema import Catalog, CpuModel
from xsaveschema.errors import (
    MaskError,
    ModelNotFoundError,
    SchemaError,
    XsaveError,
)
from xsaveschema.language import library as library_module
from xsaveschema.language import source
from xsaveschema.language.files import shipped_directory

SOURCE = "confirmed: false\nsource: made up\n"
BASE = """\
model: base
title: a base
vendor: GenuineIntel
signatures: [{family: 5, models: [1]}]
instructions: [xsavec]
mxcsr_mask: 0x2FFFF
components:
  avx:  {size: 256, offset: 576}
  pkru: {size: 8, offset: 832, optional: present}
  pt:   {size: 128, supervisor: true}
sizes: {standard: 840, compacted: 968}
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def child(folder: Path, text: str, name: str = "child", base: str = "base") -> CpuModel:
    """A model that extends ``base``, loaded from a folder that has both."""
    write(folder, "base.yaml", BASE + SOURCE)
    head = f"model: {name}\ntitle: {name}\nextends: {base}\n"
    write(folder, f"{name}.yaml", head + text + SOURCE)
    return Catalog([folder]).model(name)


# Inheritance.


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


# Optional components, opaque ones, names.


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


def test_near_names_are_suggested() -> None:
    with pytest.raises(ModelNotFoundError, match=r"no model 'zen44'; did you mean zen4") as caught:
        xs.load_model("zen44")
    assert caught.value.near[0] == "zen4"
    for name in ("Skylake_Server", "skylake server", "SKYLAKE-SERVER"):
        with pytest.raises(ModelNotFoundError) as caught:
            xs.load_model(name)
        assert caught.value.near[0] == "skylake-server"
    with pytest.raises(ModelNotFoundError, match="see `models`"):
        xs.load_model("x" * 100_000)


def test_an_alias_finds_the_model_that_has_it() -> None:
    assert xs.load_model("spr") is xs.load_model("sapphire-rapids")
    assert xs.load_model("milan").name == "zen3"
    catalog = Catalog()
    for model in catalog.models():
        for alias in model.aliases:
            assert catalog.model(alias) is model
            assert alias not in catalog
    with pytest.raises(ModelNotFoundError, match="did you mean bergamo") as caught:
        catalog.model("begramo")
    assert caught.value.near == ("bergamo",)


def test_aliases_are_the_models_own_and_names_win(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", BASE + "aliases: [old, other]\npopularity: 7\n" + SOURCE)
    write(tmp_path, "child.yaml", "model: child\ntitle: t\nextends: base\n" + SOURCE)
    write(tmp_path, "old.yaml", "model: spr\ntitle: t\nextends: base\n" + SOURCE)
    catalog = Catalog([tmp_path])
    assert catalog.model("other").aliases == ("old", "other")
    child = catalog.model("child")
    assert (child.aliases, child.popularity) == ((), 0)
    assert catalog.model("spr").title == "t"
    # A name is what a file extends; that others know it by another is told.
    path = write(tmp_path, "more.yaml", "model: more\ntitle: t\nextends: milan\n" + SOURCE)
    with pytest.raises(SchemaError, match="hint: that is zen3"):
        Catalog([path])


def test_an_alias_that_two_models_have_leads_to_neither(tmp_path: Path) -> None:
    path = write(tmp_path, "mine.yaml", BASE + "aliases: [milan]\n" + SOURCE)
    catalog = Catalog([path])
    assert catalog.model("base").aliases == ("milan",)
    with pytest.raises(SchemaError, match="milan is zen3's already, in "):
        catalog.model("milan")


def test_one_name_is_one_object() -> None:
    assert xs.load_model("zen4") is xs.load_model("zen4")
    catalog = Catalog()
    assert catalog.model("zen4") in catalog.models()
    assert sorted(model.name for model in catalog.models()) == list(catalog)
    assert "zen4" in catalog
    assert "zen44" not in catalog


# A user's own files.


def test_paths_of_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "any-name.yml", BASE + SOURCE)
    for paths in ([tmp_path], [path], [str(path)], str(tmp_path), tmp_path):
        catalog = Catalog(paths)
        assert catalog.model("base").file == str(path)
        assert catalog.overrides == ()
        assert "zen4" in catalog
    assert list(Catalog([path], shipped=False)) == ["base"]
    monkeypatch.setenv("XSAVESCHEMA_PATH", f":{tmp_path}:")
    assert xs.load_model("base").file == str(path)
    monkeypatch.delenv("XSAVESCHEMA_PATH")
    with pytest.raises(ModelNotFoundError):
        xs.load_model("base")
    with pytest.raises(XsaveError, match="there is no such file"):
        Catalog([tmp_path / "nowhere"])


def test_a_users_file_wins_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env, own = tmp_path / "env", tmp_path / "own"
    env.mkdir()
    own.mkdir()
    first = write(env, "a.yaml", BASE.replace("model: base", "model: zen4") + SOURCE)
    second = write(own, "b.yaml", BASE.replace("model: base", "model: zen4") + SOURCE)
    pkru = write(own, "c.yaml", "component: pkru\nnumber: 9\ntitle: my own\n")
    registers = write(own, "r.yaml", "registers: [{name: ymm, count: 16, pieces: [avx.ymm_hi128]}]")
    monkeypatch.setenv("XSAVESCHEMA_PATH", str(env))
    catalog = Catalog([own])
    assert catalog.overrides == (
        f"zen4: {first} replaces the shipped one",
        f"zen4: {second} replaces {first}",
        f"pkru: {pkru} replaces the shipped one",
        f"{registers} defines 16 registers anew: ymm0, ymm15",
    )
    assert catalog.model("zen4").file == str(second)
    assert catalog.model("zen3").components["pkru"].fields == ()
    assert [p.component for p in catalog.model("zen3").registers["ymm3"].pieces] == ["avx"]
    assert catalog.model("zen5").components["pkru"].offset == 832  # extends the user's zen4


def test_a_component_file_of_the_users(tmp_path: Path) -> None:
    fields = "fields: [{name: lo, type: u64, initial: 5}, {name: hi, type: u64, count: 2}]\n"
    write(tmp_path, "20-new.yaml", "component: new\nnumber: 20\ntitle: new\n" + fields)
    write(tmp_path, "registers.yaml", "registers: [{name: hi, count: 2, pieces: [new.hi]}]\n")
    model = child(tmp_path, "components: {new: {size: 24, offset: 896}}\n")
    assert model.components["new"].number == 20
    assert model.components["new"].initial == (5).to_bytes(24, "little")
    assert "hi1" in model.registers
    assert "hi1" not in Catalog([tmp_path]).model("zen4").registers


# Laziness: what is read is what is needed.


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that the catalogue reads."""
    seen: list[str] = []
    read = source.read

    def noting(path: Path, shown: str | None = None) -> Any:
        seen.append(path.name)
        return read(path, shown)

    monkeypatch.setattr(library_module, "read", noting)
    return seen


def test_a_model_reads_its_own_chain_and_components_on_demand(reads: list[str]) -> None:
    catalog = Catalog()
    assert reads == []
    model = catalog.model("zen4")
    assert (
        sorted(reads) == ["zen.yaml", "zen2.yaml", "zen3.yaml", "zen4.yaml"] or "zen4.yaml" in reads
    )
    assert len(reads) <= 4
    model.standard_layout(0xE7)
    catalog.model("zen4").compacted_layout()
    assert not [name for name in reads if name[:2].isdigit()]
    before = len(reads)
    assert model.components["pkru"].fields
    assert reads[before:] == ["09-pkru.yaml"]
    # What an XCR0 must have beside a component stands in its file.
    model.limited(xcr0=0xE7)
    files = [name[3:-5] for name in reads if name[:2].isdigit()]
    assert sorted(files) == sorted(model.names_of(model.user_mask))
    before = len(reads) - 1
    assert catalog.model("zen3").components["pkru"].fields
    assert reads[before + 1 :] == ["zen3.yaml"] * ("zen3.yaml" not in reads[:before])
    assert model.registers["zmm3"].pieces
    assert reads[-1] == "registers.yaml"


def test_all_models_read_each_file_once(reads: list[str]) -> None:
    catalog = Catalog()
    catalog.models()
    catalog.models()
    assert len(reads) == len(set(reads)) == len(catalog)


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


def test_the_shipped_files_are_where_the_package_looks() -> None:
    assert (shipped_directory() / "registers.yaml").is_file()
    assert len(Catalog().files()) == len(list(shipped_directory().rglob("*.yaml")))

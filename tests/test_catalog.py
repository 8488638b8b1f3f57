"""The catalogue: loading, inheritance, a user's own files, masks, and layouts against CPUID."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

import xsaveschema as xs
from xsaveschema import Catalog, CpuModel
from xsaveschema.errors import (
    MaskError,
    ModelNotFoundError,
    SchemaError,
    UnknownComponentError,
    XsaveError,
)
from xsaveschema.language import library as library_module
from xsaveschema.language import source
from xsaveschema.language.files import shipped_directory
from xsaveschema.model import bits_of

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
    assert (child.aliases, child.popularity) == ((), 50)
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


# XCR0 and IA32_XSS.


@pytest.mark.parametrize(
    ("name", "xcr0", "reason"),
    [
        pytest.param("zen4", 0x6, r"bit 0 \(x87\) must be set", id="no x87"),
        pytest.param("zen4", 0x0, r"bit 0 \(x87\) must be set", id="zero"),
        pytest.param("zen4", 0x5, "avx without sse", id="avx without sse"),
        pytest.param("zen4", 0x27, "opmask without zmm_hi256 and hi16_zmm", id="opmask alone"),
        pytest.param("zen4", 0x67, "opmask and zmm_hi256 without hi16_zmm", id="no hi16_zmm"),
        pytest.param("zen4", 0xC7, "zmm_hi256 and hi16_zmm without opmask", id="no opmask"),
        pytest.param("zen4", 0xE3, "opmask without avx", id="avx-512 without avx"),
        pytest.param("skylake", 0xB, "bndregs without bndcsr", id="bndregs alone"),
        pytest.param("skylake", 0x17, "bndcsr without bndregs", id="bndcsr alone"),
        pytest.param("sapphire-rapids", 0x20007, "tilecfg without tiledata", id="tilecfg alone"),
        pytest.param("sapphire-rapids", 0x40007, "tiledata without tilecfg", id="tiledata alone"),
        pytest.param(
            "zen4", 0x1B, r"bits 0x18 \(component3, component4\) are unknown", id="unknown"
        ),
        pytest.param("zen4", 0x1807, "cet_u, cet_s.* are supervisor components", id="supervisor"),
        pytest.param("zen4", 1 << 63 | 7, "unknown", id="bit 63"),
        pytest.param("zen4", -1, "a mask has 64 bits", id="negative"),
        pytest.param("zen4", 1 << 64 | 7, "a mask has 64 bits", id="65 bits"),
    ],
)
def test_an_xcr0_that_the_processor_refuses(name: str, xcr0: int, reason: str) -> None:
    model = xs.load_model(name)
    with pytest.raises(MaskError, match=reason) as caught:
        model.limited(xcr0=xcr0)
    assert caught.value.mask == xcr0
    # A mask that nobody sets has a layout all the same, if its components are there and apart.
    if xcr0 & ~model.user_mask or "overlap" in reason:
        with pytest.raises(MaskError, match=reason):
            model.standard_layout(xcr0)
    else:
        assert model.standard_layout(xcr0).mask == xcr0


@pytest.mark.parametrize("xcr0", [0x1, 0x3, 0x7, 0x207, 0xE7, 0x2E7, 0x201])
def test_an_xcr0_that_the_processor_takes(xcr0: int) -> None:
    model = xs.load_model("zen4").limited(xcr0=xcr0)
    assert (model.xcr0, model.xss) == (xcr0, 0x1800)
    assert model.limited(xss=0).xss == 0
    assert model.limited() is model
    # Limited is not cut: the same silicon takes the whole mask again.
    assert model.limited(xcr0=0x2E7).xcr0 == 0x2E7


def test_an_xss_that_the_processor_refuses() -> None:
    with pytest.raises(MaskError, match="zen4 has no supervisor component pkru"):
        xs.load_model("zen4").limited(xss=0x200)
    with pytest.raises(UnknownComponentError):
        xs.load_model("zen4").component("tilecfg")


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


# Layouts.


def enumerated(model: CpuModel, xcr0: int, xss: int) -> tuple[int, int, dict[int, int]]:
    """CPUID D.0 and D.1 EBX and the compacted offsets by the words of the SDM, from plain rows."""
    rows = {c.number: (c.size, c.offset, c.align64) for c in model.components.values()}
    last = max([576, *(rows[i][0] + (rows[i][1] or 0) for i in bits_of(xcr0 & ~3))])
    end, places = 576, {}
    for i in range(2, 63):
        if (xcr0 | xss) >> i & 1:
            end = -(-end // 64) * 64 if rows[i][2] else end
            places[i] = end
            end += rows[i][0]
    return last, end, places


@pytest.mark.parametrize("name", list(Catalog()))
def test_layouts_of_every_model_and_mask(name: str) -> None:
    model = xs.load_model(name)
    user = [n for n in bits_of(model.user_mask) if n > 1]
    supervisor = list(bits_of(model.supervisor_mask))
    for count in range(len(user) + 1):
        for chosen in combinations(user, count):
            xcr0 = 3 | sum(1 << n for n in chosen)
            xss = sum(1 << n for n in supervisor[: count + 1])
            last, end, places = enumerated(model, xcr0, xss)
            layout = model.compacted_layout(xcr0 | xss)
            assert (layout.size, layout.xcomp_bv) == (end, xcr0 | xss | 1 << 63)
            assert {s.number: s.offset for s in layout if s.number > 1} == places
            try:
                assert model.standard_layout(xcr0).size == last
            except MaskError:
                continue


# CPUID leaf 0xD as it is: XCR0, IA32_XSS, D.0 ECX, D.1 EBX with both enabled.
SEEN = [
    pytest.param("zen4", 0xE7, 0x1800, 0x980, 0x9A8, id="zen4, PKRU hidden"),
    pytest.param("zen4", 0x2E7, 0x1800, 2440, 2480, id="zen4"),
    pytest.param("zen2", 0x207, 0, 896, 896, id="zen2"),
    pytest.param("bulldozer", 1 << 62 | 7, 0, 960, None, id="bulldozer"),
    pytest.param("skylake-server", 0x2FF, 0x100, 2696, 2696, id="skylake-server"),
    pytest.param("skylake", 0x1F, 0x100, 1088, 1088, id="skylake"),
    pytest.param("sapphire-rapids", 0x602E7, 0xDD00, 11008, 11776, id="sapphire-rapids"),
]


@pytest.mark.parametrize(("name", "xcr0", "xss", "standard", "compacted"), SEEN)
def test_sizes_that_processors_gave(
    name: str, xcr0: int, xss: int, standard: int, compacted: int | None
) -> None:
    model = xs.load_model(name).limited(xcr0=xcr0, xss=xss)
    assert model.standard_layout().size == standard
    if compacted is not None:
        assert model.compacted_layout().size == compacted


def test_the_compacted_layout_of_sapphire_rapids() -> None:
    layout = xs.load_model("sapphire-rapids").compacted_layout(0x8000_0000_0006_5AE7)
    assert {slot.name: slot.offset for slot in layout} == {
        "x87": 0,
        "sse": 160,
        "avx": 576,
        "opmask": 832,
        "zmm_hi256": 896,
        "hi16_zmm": 1408,
        "pkru": 2432,
        "cet_u": 2440,
        "cet_s": 2456,
        "uintr": 2480,
        "tilecfg": 2560,
        "tiledata": 2624,
    }
    assert (layout.size, layout.gaps) == (10816, ((2528, 32),))


@pytest.mark.shared
def test_every_complete_dump_is_the_model_with_its_signature(shared: Path) -> None:
    """The table row by row, D.0 ECX, and the sizes of what was enabled when the dump was made."""
    models = Catalog().models()
    seen = compacted = 0
    for record in json.loads((shared / "cpuid" / "dumps.json").read_text()):
        parts = record["vendor"], record["family"], record["model"], record["stepping"]
        if record["status"] != "complete" or record["virtual"] or None in parts:
            continue
        (model,) = (m for m in models if any(sig.matches(*parts) for sig in m.signatures))
        where = f"{record['id']}: {model.name}"
        for row in record["components"]:
            c = model.component(row["component"])
            assert (c.size, c.offset or 0) == (row["size"], row["offset"] or 0), where
            flags = row["supervisor"], row["align64"], row["xfd"]
            assert (c.supervisor, c.align64, c.xfd) == flags, where
        xcr0, xss = record["xcr0_mask"], record.get("xss_mask") or 0
        d0, d1 = record["leaf_d0"], record["leaf_d1"]
        assert model.limited(xcr0=xcr0, xss=xss).standard_layout().size == d0["ecx"], where
        assert enumerated(model, xcr0, xss)[0] == d0["ecx"], where
        enabled = [3 | mask for mask in subsets(xcr0 & ~3) if takes(model, 3 | mask)]
        assert d0["ebx"] in {enumerated(model, mask, 0)[0] for mask in enabled}, where
        if d1 and d1["ebx"]:
            sizes = {enumerated(model, m, some)[1] for m in enabled for some in subsets(xss)}
            assert d1["ebx"] in sizes, where
            compacted += 1
        seen += 1
    assert seen > 200
    assert compacted > 100


def takes(model: CpuModel, xcr0: int) -> bool:
    try:
        model.limited(xcr0=xcr0)
    except MaskError:
        return False
    return True


def subsets(mask: int) -> list[int]:
    found = [0]
    for number in bits_of(mask):
        found += [some | 1 << number for some in found]
    return found


def test_the_shipped_files_are_where_the_package_looks() -> None:
    assert (shipped_directory() / "registers.yaml").is_file()
    assert len(Catalog().files()) == len(list(shipped_directory().rglob("*.yaml")))

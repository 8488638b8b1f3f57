"""The catalogue: models by name and alias, and a user's own files."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_models import BASE, SOURCE, child, write

import xsaveschema as xs
from xsaveschema import Catalog
from xsaveschema.errors import (
    ModelNotFoundError,
    SchemaError,
    XsaveError,
)
from xsaveschema.language.files import shipped_directory

# Names.


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


def test_the_shipped_files_are_where_the_package_looks() -> None:
    assert (shipped_directory() / "registers.yaml").is_file()
    assert len(Catalog().files()) == len(list(shipped_directory().rglob("*.yaml")))

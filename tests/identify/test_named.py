"""Naming a CPU: the catalogue first, this machine, a CPUID dump, a YAML file of one's own."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
from places import DATA

import xsaveschema as xs
from xsaveschema.cpuid import CpuidDumpError
from xsaveschema.errors import IdentificationError, ModelNotFoundError, SchemaError
from xsaveschema.identify import named

DUMPS = DATA / "cpuid"
HYBRID = DUMPS / "aida64-hybrid.txt"
MINE = """
model: my-cpu
title: A CPU that nobody has seen
extends: zen4
components:
  pkru: {size: 8, offset: 2440}
sizes: {standard: 2448, compacted: 2480}
confirmed: false
source: an example
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    return path


@pytest.mark.parametrize("word", ["mine.yaml", "./mine.yaml"])
def test_a_yaml_file(mine: Path, word: str) -> None:
    model = xs.load_model(word)
    assert model.name == "my-cpu"
    assert model.standard_layout()["pkru"].offset == 2440
    assert xs.load_model(mine).digest == model.digest
    assert "my-cpu" not in xs.Catalog()  # the catalogue itself is not changed


def test_a_yaml_file_stands_on_the_catalogue_that_is_given(mine: Path) -> None:
    more = mine.with_name("more.yml")
    more.write_text(MINE.replace("zen4", "my-cpu").replace("model: my-cpu", "model: more"))
    with pytest.raises(SchemaError, match="my-cpu"):
        xs.load_model(more)
    catalog = xs.Catalog([mine], shipped=True)
    assert xs.load_model(more, catalog).name == "more"
    assert xs.load_model(mine, catalog).name == "my-cpu"  # which it has already
    assert catalog.extended([more]).names_in(mine.parent) == ("more", "my-cpu")
    with pytest.raises(SchemaError, match="there is no model 'zen4'"):
        xs.load_model(mine, xs.Catalog(shipped=False))  # one without models is one, too


def test_a_file_that_comes_with_the_package() -> None:
    zen4 = xs.load_model("zen4")
    assert xs.load_model(zen4.file).digest == zen4.digest


@pytest.mark.parametrize("name", sorted(path.name for path in DUMPS.iterdir()))
def test_a_dump(name: str) -> None:
    model = xs.load_model(str(DUMPS / name))
    records = list(xs.cpuid.read(DUMPS / name))
    assert model.name in {"skylake", "sandy-bridge", "alder-lake"}
    assert {(model.xcr0, model.xss)} == {(record.xcr0, record.xss or 0) for record in records}


def test_a_dump_of_a_cpu_that_no_model_is(tmp_path: Path) -> None:
    leaf = {0: (0x100007, 0, 0, 0), 1: (0xF, 0, 0, 0), 2: (256, 600, 0, 0), 20: (64, 856, 2, 0)}
    record = xs.cpuid.CpuidRecord("GenuineIntel", 0xA06A1, leaf)
    path = tmp_path / "new"
    path.write_text(xs.cpuid.format_cpuid_r(record))
    model = xs.load_model(path)
    assert (model.name, model.xcr0) == ("cpuid", 0x100007)
    assert model.standard_layout()["component20"].offset == 856
    assert copy.deepcopy(model).standard_layout() is model.standard_layout()
    again = pickle.loads(pickle.dumps(model))  # no file has it: its leaf goes along
    assert again == model
    assert again.standard_layout()["component20"].offset == 856


def guest(path: Path, announced: int | None) -> xs.CpuModel:
    """A Zen 4 whose leaf 0xD.1 announces this; None: that is not in the dump."""
    leaf = dict(xs.load_model("zen4").cpuid_leaf_0xd())
    told = leaf.pop(1)
    if announced is not None:
        leaf[1] = (announced, *told[1:])
    record = xs.cpuid.CpuidRecord("AuthenticAMD", 0xA10F11, leaf)
    path.write_text(xs.cpuid.format_cpuid_r(record))
    return xs.load_model(path)


@pytest.mark.parametrize(
    ("announced", "names"),
    [
        (0xF, "xsaveopt xsavec xgetbv1 xsaves"),
        (0x7, "xsaveopt xsavec xgetbv1"),
        (0x1, "xsaveopt"),
        (0x0, ""),
        (None, "xsaveopt xsavec xgetbv1 xsaves"),  # not told: the model's
    ],
)
def test_a_cpu_has_the_instructions_that_its_dump_announces(
    tmp_path: Path, announced: int | None, names: str
) -> None:
    model, has = guest(tmp_path / "dump", announced), frozenset(names.split())
    assert (model.name, model.instructions) == ("zen4", has)
    # Without XSAVES there is no IA32_XSS (SDM vol. 1, 13.3), whatever sub-leaf 1 says of it.
    assert model.xss == (0x1800 if (announced or 0) & 8 else 0)
    assert pickle.loads(pickle.dumps(model)) == model
    zen4 = xs.load_model("zen4")
    area = xs.XsaveArea.new(zen4, "compacted", xcomp_bv=0x2E7)
    # Without XSAVEC, XRSTOR faults on the compacted form (SDM vol. 1, 13.8.1).
    assert bool(xs.check(area.buffer, model)) == ("xsavec" not in has)
    assert xs.compare(area, model).as_it_is == ("xsavec" in has)
    assert set(xs.compare(zen4, model).missing_instructions) == zen4.instructions - has


def test_kinds_of_core_have_the_instructions_that_each_announces(tmp_path: Path) -> None:
    big, small, both = (tmp_path / name for name in ("big", "small", "both"))
    guest(big, 0x7)
    guest(small, 0x5)
    both.write_text(big.read_text() + small.read_text())
    assert xs.load_model(both).instructions == {"xsaveopt", "xgetbv1"}


def test_kinds_of_core_that_differ_are_named(tmp_path: Path) -> None:
    path = tmp_path / "hybrid.txt"
    # The second kind of core has no PKRU.
    text = HYBRID.read_text(encoding="latin-1")
    head, efficient = text[: len(text) // 2], text[len(text) // 2 :]
    assert "00000207" in efficient
    path.write_text(head + efficient.replace("00000207", "00000007"), encoding="latin-1")
    with pytest.raises(IdentificationError) as caught:
        xs.load_model(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: its kinds of core differ: ")
    for record in xs.cpuid.read(path):
        assert record.label
        assert f"{record.label} is alder-lake with XCR0 0x{record.xcr0:X}, IA32_XSS" in said
    assert caught.value.candidates == ("alder-lake", "alder-lake")


def test_the_catalogue_is_looked_in_first(mine: Path) -> None:
    mine.with_name("zen4").write_text("no dump")
    assert xs.load_model("zen4").name == "zen4"
    with pytest.raises(CpuidDumpError, match=r"^\./zen4: not a CPUID dump"):
        xs.load_model("./zen4")
    with pytest.raises(CpuidDumpError, match=r"zen4: not a CPUID dump"):
        xs.load_model(Path("zen4"))


@pytest.mark.parametrize("word", ["./zen4", "dump.txt", "mine.yaml", "no/such", "a\0.txt"])
def test_a_path_where_nothing_is(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(xs.XsaveError, match=r": there is no such file, nor a model of this name$"):
        xs.load_model(word)


def test_a_word_without_slash_and_suffix_is_no_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zen44").write_text(MINE)
    with pytest.raises(ModelNotFoundError, match="did you mean zen4"):
        xs.load_model("zen44")


def test_a_yaml_file_defines_one_model(mine: Path) -> None:
    components = xs.Catalog().files()[0].parent
    with pytest.raises(xs.XsaveError, match=r"02-avx.yaml defines no model; a CPU is a file that"):
        xs.load_model(components / "02-avx.yaml")
    folder = mine.with_name("several.yaml")
    folder.mkdir()
    for name in ("one", "two"):
        (folder / f"{name}.yaml").write_text(MINE.replace("my-cpu", name))
    with pytest.raises(
        xs.XsaveError, match=r"several\.yaml defines several models: one, two; a CPU"
    ):
        xs.load_model(folder)


def test_a_yaml_file_with_faults_tells_them(mine: Path) -> None:
    mine.write_text(MINE.replace("size: 8", "size: eight"))
    with pytest.raises(SchemaError, match=r"mine.yaml:6:\d+: components.pkru.size: ") as caught:
        xs.load_model("mine.yaml")
    assert caught.value.faults


def test_host_is_a_model_of_the_catalogue_where_it_has_one(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = xs.load_model("zen4").limited(xcr0=7)
    monkeypatch.setattr(named, "host_model", lambda catalog: machine)
    assert xs.load_model("host") is machine
    mine.write_text(MINE.replace("my-cpu", "host"))
    assert xs.load_model("host", xs.Catalog([mine])).name == "host"

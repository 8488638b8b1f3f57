"""lint: one bad file per rule with the message it must give, and what only several files show."""

from __future__ import annotations

import ast
import json
import re
import shutil
from pathlib import Path

import bad
import pytest
import yaml
from bad import RULES, WARNINGS
from command import run

import xsaveschema
from xsaveschema import Catalog
from xsaveschema.authoring.lint import lint, report
from xsaveschema.errors import SchemaError, SchemaFault, XsaveError
from xsaveschema.language.files import shipped_directory

CASES = [pytest.param(case, id=case.name.removesuffix(".yaml")) for case in bad.cases()]
PARSER = {"yaml-tab", "yaml-unclosed"}
MODEL = """\
model: {name}
title: a made-up model
vendor: GenuineIntel
components:
  avx: {{size: 256, offset: 576}}
confirmed: false
source: made up
"""


def rules(faults: list[SchemaFault]) -> list[str]:
    return [fault.rule for fault in faults]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("case", CASES)
def test_bad_file_gives_the_messages_that_it_says(case: Path) -> None:
    if case.stem in PARSER and not yaml.__with_libyaml__:
        pytest.skip("the message is that of the parser in C, which PyYAML lacks here")
    faults = bad.lint_case(case)
    found: dict[str, list[str]] = {}
    for fault in faults:
        file, text = bad.shown(fault)
        found.setdefault(file, []).append(text)
    wanted = {
        file.relative_to(bad.BAD).as_posix(): bad.expected(file)
        for file in bad.files(case)
        if bad.expected(file)
    }
    assert found == wanted
    assert faults == sorted(set(faults))
    assert set(rules(faults)) <= set(RULES)
    meant = bad.rule(case, set(RULES))
    assert case.name.startswith("all-at-once") or meant in rules(faults)


def test_every_rule_has_a_bad_file_and_every_bad_file_a_rule() -> None:
    shown = {rule for case in bad.cases() for rule in rules(bad.lint_case(case))}
    assert shown == set(RULES)
    named = {bad.rule(case, set(RULES)) for case in bad.cases() if case.stem != "all-at-once"}
    assert named == set(RULES)


def test_every_rule_in_the_code_is_in_the_table() -> None:
    """The rule is the first text that ``fault``, ``found``, ``spoil`` and ``stop`` are given."""
    used = set()
    root = Path(xsaveschema.__file__).parent
    for file in [*root.glob("language/*.py"), *root.glob("authoring/*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                texts = [
                    a.value
                    for a in node.args
                    if isinstance(a, ast.Constant) and isinstance(a.value, str)
                ]
                if texts and name in {"fault", "found", "spoil", "stop", "fault_at", "SchemaFault"}:
                    used.add(texts[0])
    assert used == {*RULES, *WARNINGS}
    assert all(text.endswith(".") and len(text) < 100 for text in RULES.values())


@pytest.mark.parametrize("case", CASES)
def test_loading_reports_what_lint_reports(case: Path) -> None:
    with bad.in_folder(case) as paths:
        found = lint(paths)
        try:
            Catalog(paths).models()
        except SchemaError as error:
            assert list(error.faults) == found  # noqa: PT017 - some of these files do load
        else:
            assert not paths, "only a shipped file is read no earlier than it is used"


def test_the_shipped_files_have_no_fault() -> None:
    assert lint() == []
    assert lint([shipped_directory()]) == []


def test_linting_shipped_files_by_path_judges_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shipped_directory())
    assert lint(["models/amd", "models/amd/zen4.yaml", "components", "./registers.yaml"]) == []


def test_a_fault_of_a_shipped_file_is_reported_under_the_name_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "schemas"
    shutil.copytree(shipped_directory(), root)
    for module in ("language.library", "authoring.lint"):
        monkeypatch.setattr(f"xsaveschema.{module}.shipped_directory", lambda: root)
    path = root / "models" / "amd" / "zen5.yaml"
    path.write_text(path.read_text().replace("title:", "tilte:"))
    monkeypatch.chdir(root / "models")
    assert [(f.file, f.rule) for f in lint(["amd", "amd/zen5.yaml"])] == [
        ("amd/zen5.yaml", "unknown-key")
    ]
    assert [f.file for f in lint()] == [str(path)]
    with pytest.raises(SchemaError, match="tilte"):
        Catalog().model("zen5")


def test_shipped_files_are_held_to_their_components_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "schemas"
    shutil.copytree(shipped_directory(), root)
    for module in ("language.library", "authoring.lint"):
        monkeypatch.setattr(f"xsaveschema.{module}.shipped_directory", lambda: root)
    path = root / "models" / "intel" / "skylake-server.yaml"
    text = path.read_text().replace("pt:        {size: 128", "pt:        {size: 64")
    path.write_text(text.replace("compacted: 2696", "compacted: 2632"))
    write(root / "components" / "uncalled.yaml", "component: new\nnumber: 40\ntitle: new\n")
    write(root / "models" / "amd" / "penryn.yaml", MODEL.format(name="penryn"))
    assert [(Path(f.file).name, f.rule) for f in lint()] == [
        ("uncalled.yaml", "component-file"),
        ("penryn.yaml", "model-repeated"),
        ("skylake-server.yaml", "component-size"),
    ]
    # Loading reads no component file; the fault shows where the fields are used.
    model = Catalog().model("skylake-server")
    with pytest.raises(SchemaError, match="64 bytes are too few"):
        _ = model.components["pt"].fields


def test_a_model_without_sizes_is_warned_of(tmp_path: Path) -> None:
    text = MODEL.format(name="mine")
    path = write(tmp_path / "mine.yaml", text)
    inherits = "model: heir\ntitle: x\nextends: zen4\nconfirmed: false\nsource: x\n"
    heir = write(tmp_path / "heir.yaml", inherits)
    found = report([tmp_path])
    assert found.faults == []
    assert [(f.file, f.line, f.rule, f.path) for f in found.warnings] == [
        (str(path), 1, "sizes-missing", "model")
    ]
    assert set(rules(found.warnings)) == set(WARNINGS)
    done = run("lint", str(tmp_path))  # exit code 0
    assert done.stdout.startswith(f"{path}:1:8: model: warning: no sizes: ")
    assert done.stdout.endswith("\nno faults, 1 warning\n")
    told = json.loads(run("lint", str(path), "--json").stdout)
    assert (told["faults"], len(told["warnings"])) == ([], 1)
    heir.write_text(inherits + "components: {pkru: null}\n")
    assert len(report([heir]).warnings) == 1
    path.write_text(text + "sizes: {standard: 832}\n")
    assert report([path]) == ([], [])
    assert report().warnings == []


def test_a_file_may_extend_and_replace_shipped_ones(tmp_path: Path) -> None:
    write(tmp_path / "zen4.yaml", MODEL.format(name="zen4"))
    write(tmp_path / "09-pkru.yaml", "component: pkru\nnumber: 9\ntitle: my own\n")
    write(
        tmp_path / "any-name.yaml",
        "model: zen6\ntitle: next\nextends: zen5\nconfirmed: false\nsource: rumour\n",
    )
    assert lint([tmp_path]) == []


def test_a_signature_of_the_model_that_is_replaced_is_free(tmp_path: Path) -> None:
    text = (shipped_directory() / "models" / "intel" / "skylake-server.yaml").read_text()
    path = write(tmp_path / "mine.yaml", text)
    assert lint([path]) == []
    text = re.sub("aliases: .*\n", "", text)
    path.write_text(text.replace("model: skylake-server", "model: my-skylake"))
    (fault,) = lint([path])
    assert fault.rule == "signature-taken"
    assert "skylake-server's already, in " in fault.message
    # Loading one model reads no other; all of them do.
    catalog = Catalog([path])
    assert catalog.model("my-skylake").signatures
    with pytest.raises(SchemaError, match="skylake-server's already"):
        catalog.models()


def test_the_same_name_in_two_given_files(tmp_path: Path) -> None:
    first = write(tmp_path / "a" / "x.yaml", MODEL.format(name="mine"))
    second = write(tmp_path / "b" / "y.yaml", MODEL.format(name="mine"))
    (fault,) = lint([first, second])
    assert (fault.file, fault.rule) == (str(second), "model-repeated")
    assert f"{first}:1:1" in fault.message
    assert rules(lint([second, first])) == ["model-repeated"]
    assert lint([first, tmp_path / "a", tmp_path / "b" / ".." / "a" / "x.yaml"]) == []
    # Two folders are layers to the catalogue, as two entries of XSAVESCHEMA_PATH are.
    catalog = Catalog([first.parent, second.parent])
    assert catalog.overrides == (f"mine: {second} replaces {first}",)
    with pytest.raises(SchemaError, match="stands in"):
        Catalog([tmp_path])


def test_no_follow_ups_of_a_base_that_cannot_be_read(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "model: base\ntitle: [\n")
    child = "model: child\ntitle: child\nextends: base\ncomponents: {avx: null}\n"
    write(tmp_path / "child.yaml", child + "sizes: {standard: 1}\nconfirmed: false\nsource: x\n")
    assert [(Path(f.file).name, f.rule) for f in lint([tmp_path])] == [("base.yaml", "yaml")]


def test_faults_of_a_base_are_reported_once(tmp_path: Path) -> None:
    base = MODEL.format(name="base").replace("size: 256", "size: no")
    write(tmp_path / "base.yaml", base)
    for name in ("one", "two"):
        text = f"model: {name}\ntitle: child\nextends: base\nsizes: {{standard: 832}}\n"
        write(tmp_path / f"{name}.yaml", text + "confirmed: false\nsource: x\n")
    assert [(Path(f.file).name, f.rule) for f in lint([tmp_path])] == [("base.yaml", "yaml-scalar")]
    only_child = lint([tmp_path / "one.yaml"])
    assert rules(only_child) == ["extends-unknown"]


def test_a_faulty_component_file_is_not_blamed_on_its_models(tmp_path: Path) -> None:
    text = "component: pkru\nnumber: 9\ntitle: x\nfields: [{name: pkru, type: u33}]\n"
    component = write(tmp_path / "c.yaml", text)
    write(tmp_path / "m.yaml", MODEL.format(name="mine") + "extends: zen4\n")
    write(tmp_path / "r.yaml", "registers: [{name: key, pieces: [pkru.pkru]}]\n")
    assert [(f.file, f.rule) for f in lint([tmp_path])] == [(str(component), "choice")]


def test_paths_that_hold_nothing(tmp_path: Path) -> None:
    (fault,) = lint([tmp_path])
    assert str(fault) == f"{tmp_path}: has no schema files (*.yaml) [file]"
    assert len(Catalog([tmp_path])) == len(Catalog())  # an empty folder of a user's is no fault
    with pytest.raises(XsaveError, match="there is no such file or folder"):
        lint([tmp_path / "nowhere"])


def test_hidden_files_are_passed_over_and_links_to_nowhere_are_not(tmp_path: Path) -> None:
    write(tmp_path / ".github" / "ci.yaml", "on: push\n")
    write(tmp_path / ".hidden.yaml", "on: push\n")
    write(tmp_path / "x.yaml" / "good.yml", MODEL.format(name="good"))
    assert lint([tmp_path]) == []
    (tmp_path / "link.yaml").symlink_to(tmp_path / "nowhere.yaml")
    (fault,) = lint([tmp_path])
    assert (fault.line, fault.rule) == (0, "file")
    assert "cannot be read: No such file or directory" in fault.message
    assert lint([tmp_path / "link.yaml"]) == [fault]


def test_files_of_the_environment_are_there_but_not_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "env" / "base.yaml", MODEL.format(name="base"))
    write(tmp_path / "env" / "bad.yaml", "model: [\n")
    path = write(tmp_path / "child.yaml", "model: child\ntitle: c\nextends: base\n")
    monkeypatch.setenv("XSAVESCHEMA_PATH", str(tmp_path / "env"))
    assert rules(lint([path])) == ["provenance"]
    assert lint() == []
    monkeypatch.setenv("XSAVESCHEMA_PATH", str(tmp_path / "nowhere"))
    with pytest.raises(XsaveError, match=r"XSAVESCHEMA_PATH: .*nowhere: there is no such"):
        lint([path])

"""The JSON Schemas for editors: current, right for every shipped file, and named in each."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import bad
import pytest
import yaml
from jsonschema import Draft202012Validator

from xsaveschema import Catalog
from xsaveschema.authoring import schema_export
from xsaveschema.authoring.lint import lint
from xsaveschema.language.files import shipped_directory
from xsaveschema.language.grammar import KINDS

ROOT = shipped_directory()
SHIPPED = sorted(ROOT.rglob("*.yaml"))
# The rules that a JSON Schema can say as well. "vendor" may be inherited: it cannot.
SAID = {"unknown-key", "missing-key", "type", "name", "choice", "range", "repeated"}


def validator(kind: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((ROOT / f"{kind}.schema.json").read_text("utf-8")))


def kind_of(data: dict[str, Any]) -> str:
    return next(kind for kind in KINDS if kind in data)


def test_the_shipped_schemas_are_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert schema_export.main(["--check"]) == 0
    assert schema_export.main(["--chek"]) == 2
    assert "usage: " in capsys.readouterr().err


def test_a_stale_schema_is_seen_and_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(ROOT / "model.schema.json", tmp_path)
    (tmp_path / "component.schema.json").write_text("{}\n")
    monkeypatch.setattr(schema_export, "shipped_directory", lambda: tmp_path)
    assert schema_export.main(["--check"]) == 1
    assert f"{tmp_path / 'component.schema.json'} is not current" in capsys.readouterr().out
    assert schema_export.main([]) == 0
    assert schema_export.main(["--check"]) == 0
    for name in schema_export.export():
        assert (tmp_path / name).read_bytes() == (ROOT / name).read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_the_schemas_are_schemas_and_describe_their_keys(kind: str) -> None:
    schema = json.loads((ROOT / f"{kind}.schema.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    for properties in (schema, *schema.get("$defs", {}).values()):
        assert properties["description"]
        assert properties["additionalProperties"] is False


@pytest.mark.parametrize("path", [pytest.param(p, id=p.stem) for p in SHIPPED])
def test_every_shipped_file_fits_and_names_its_schema(path: Path) -> None:
    text = path.read_text("utf-8")
    data = yaml.safe_load(text)
    kind = kind_of(data)
    assert list(validator(kind).iter_errors(data)) == []
    prefix = "# yaml-language-server: $schema="
    first = text.splitlines()[0]
    assert first.startswith(prefix)
    named = path.parent / first.removeprefix(prefix)
    assert named.resolve() == (ROOT / f"{kind}.schema.json").resolve()


def test_an_editor_refuses_what_loading_refuses() -> None:
    seen = set()
    for case in bad.cases():
        for fault in bad.lint_case(case):
            if fault.rule in SAID and fault.message != "vendor is missing":
                data = yaml.safe_load((bad.BAD / fault.file).read_bytes())
                assert list(validator(kind_of(data)).iter_errors(data)), case.name
                seen.add(fault.rule)
    assert seen == SAID


def test_the_page_on_adding_a_model_says_what_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its model gives the output that it shows; without the fault it loads, and its component."""
    page = (ROOT / "README.md").read_text("utf-8")
    model, component, registers = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (shown,) = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    path = Path("example-lake.yaml")
    path.write_text(model)
    command = [sys.executable, "-m", "xsaveschema", "lint", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"$ xsaveschema lint {path}\n{done.stdout}" == shown
    assert done.returncode == 1
    path.write_text(model.replace(", align64: true", "").replace("number: 20, ", ""))
    Path("20-new.yaml").write_text(component)
    Path("registers.yaml").write_text(registers)
    assert lint([tmp_path]) == []
    loaded = Catalog([tmp_path]).model("example-lake")
    assert loaded.components["new"].initial[:8] == (1).to_bytes(8, "little")
    assert [leaf.offset for leaf in loaded.components["new"].leaves] == [0, 16, 24, 32, 40, 48]
    assert {"newctl", "from8", "from9", "low0", "low1"} <= set(loaded.registers)

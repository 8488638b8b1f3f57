"""What a packager, a lawyer and a reporter of faults look for is there, and agrees."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from places import ROOT

import xsaveschema

PACKAGE = sorted(Path(xsaveschema.__file__).parent.rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REUSE = tomllib.loads((ROOT / "REUSE.toml").read_text())["annotations"]


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: path.stem)
def test_each_module_says_its_licence_first(path: Path) -> None:
    assert path.read_text().startswith("# SPDX-License-Identifier: MIT\n")


def test_every_licence_that_is_named_is_there() -> None:
    named = {entry["SPDX-License-Identifier"] for entry in REUSE}
    assert {path.stem for path in (ROOT / "LICENSES").iterdir()} == named
    assert PROJECT["license"] in named
    assert (ROOT / "LICENSE").read_text() == (ROOT / "LICENSES" / "MIT.txt").read_text()


def test_every_file_has_a_licence_and_patterns_match() -> None:
    first, *others = REUSE
    assert first["path"] == "**"
    for pattern in (pattern for entry in others for pattern in entry["path"]):
        assert any(matches(path, pattern) for path in ROOT.glob("*/**/*.*")), pattern


def matches(path: Path, pattern: str) -> bool:
    return fnmatch(str(path.relative_to(ROOT)), pattern)


SAYS = re.compile(r'^(?:\W*SPDX-License-Identifier:|license =) "?([\w-]+)', re.MULTILINE)


@pytest.mark.parametrize("path", [p for p in ROOT.glob("examples/**/*.*") if p.is_file()], ids=str)
def test_what_says_its_licence_itself_says_the_same(path: Path) -> None:
    if path.suffix in {".c", ".py", ".rs", ".toml"} and (said := SAYS.findall(path.read_text())):
        mine = [e for e in REUSE[1:] if any(matches(path, p) for p in e["path"])]
        assert [e["SPDX-License-Identifier"] for e in mine or REUSE[:1]] == said


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == xsaveschema.__version__
    assert citation["license"] == PROJECT["license"]
    assert {"cff-version", "message", "title", "authors"} <= {*citation}
    holder = re.findall(r"Copyright \(c\) \d+ (.+)", (ROOT / "LICENSE").read_text())
    assert [author["name"] for author in citation["authors"]] == holder


def test_no_link_leads_to_a_made_up_host() -> None:
    assert "urls" not in PROJECT, "give CITATION.cff its repository-code, and this test the host"
    for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md", "CITATION.cff", "pyproject.toml"):
        hosts = re.findall(r"https?://([\w.-]+)", (ROOT / name).read_text())
        assert {*hosts} <= {"reuse.software"}, name

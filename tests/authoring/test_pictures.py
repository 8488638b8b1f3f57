"""The primer's pictures are current, and the page shows every one."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from places import ROOT

from xsaveschema.authoring import pictures

PICTURES = ROOT / "docs" / "pictures"


def test_they_are_current() -> None:
    assert pictures.main(["--check"]) == 0, f"run {pictures.COMMAND}"


def test_pages_show_them_with_words_for_those_who_do_not_see() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    text = "".join(page.read_text() for page in pages)
    shown = re.findall(r"!\[([^\]]{20,})\]\((?:docs/)?pictures/([\w.-]+)\)", text)
    assert {name for _, name in shown} == {path.name for path in PICTURES.iterdir()}
    for path in PICTURES.glob("*.svg"):
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_writing_and_checking(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pictures.main([], tmp_path) == 0
    for name, text in pictures.pictures().items():
        assert (tmp_path / name).read_text() == text
    (tmp_path / "stale.svg").write_text("old")
    assert pictures.main(["--check"], tmp_path) == 1
    assert f"{tmp_path / 'stale.svg'} is not current" in capsys.readouterr().out
    assert pictures.main([], tmp_path / "none") == 2

"""docs/models.md: current, complete, and true to the schema files."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from places import ROOT

from xsaveschema import Catalog, load_model
from xsaveschema.authoring import page
from xsaveschema.authoring.page import signature_text
from xsaveschema.language.files import shipped_directory
from xsaveschema.model import CpuModel, Signature

PAGE = ROOT / "docs" / "models.md"
FILES = sorted((shipped_directory() / "models").rglob("*.yaml"))


@pytest.fixture(scope="module")
def text() -> str:
    return PAGE.read_text(encoding="utf-8")


def section(text: str, name: str) -> str:
    """What stands under a model's heading."""
    (found,) = re.findall(rf"^#### {name}\n(.*?)(?=^##|\Z)", text, re.M | re.S)
    return str(found)


def group(text: str, name: str) -> str:
    """The head of the group of models with one layout that a model is in."""
    before = text[: text.index(f"#### {name}\n")]
    return before[before.rindex("\n### ") :].partition("####")[0]


def test_the_page_is_current() -> None:
    assert page.main(["--check"]) == 0, f"run {page._COMMAND}"


def test_the_page_says_that_it_is_generated(text: str) -> None:
    command = "python -m xsaveschema.authoring.page"
    assert f"`{command}`: do not edit." in text.splitlines()[0]
    assert "This page is generated from the schema\nfiles" in text


def test_models_in_a_row_are_a_range() -> None:
    """Four and more; across signatures, but never across steppings."""
    amd = "AuthenticAMD"
    model = replace(
        load_model("zen5"),
        signatures=(
            Signature(amd, 0x1A, (0, 1, 2, 5, 6, 7, 8), None),
            Signature(amd, 0x1A, (9, 0x20), None),
            Signature(amd, 0x1A, (0x21, 0x22, 0x23), (0, 1)),
        ),
    )
    assert signature_text(model) == "1A: 00 01 02 05-09 20 21/0-1 22/0-1 23/0-1"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_model_is_there_once_with_what_its_file_says(file: Path, text: str) -> None:
    says = yaml.safe_load(file.read_text())
    assert text.count(f"| [{file.stem}](#{file.stem}) |") == 1
    own = section(text, file.stem)
    assert says["title"] in own.replace("\\", "")
    assert f"- vendor: `{vendor_of(file)}`" in own
    for signature in says.get("signatures", []):
        shown = re.search(r"^- signatures: (.*)$", own, re.M)
        assert shown
        assert f"{signature['family']:02X}: " in shown[1]
        rows = re.findall(r"\b([0-9A-F]{2})-([0-9A-F]{2})\b", shown[1])
        in_a_row = {n for first, last in rows for n in range(int(first, 16), int(last, 16) + 1)}
        for number in signature["models"]:
            assert number in in_a_row or re.search(rf"\b{number:02X}\b", shown[1])
    if count := len(says.get("confirmed_by", [])):
        assert re.search(rf"^- confirmed by {count} dumps?$", own, re.M)
    else:
        assert f"- unconfirmed; source: {' '.join(says['source'].split())[:30]}" in own.replace(
            "\\", ""
        )  # fmt: skip
    place = group(text, file.stem)
    for name, entry in says.get("components", {}).items():
        if entry is None:
            assert f"`{name}:" not in place
            continue
        where = "supervisor" if entry.get("supervisor") else entry["offset"]
        flags = "".join(f" {flag}" for flag in ("align64", "xfd") if entry.get(flag))
        shown_as = f"`{name}: {entry['size']}@{where}{flags}`"
        assert (shown_as in place) is (entry.get("optional") != "absent")
        assert (f"- optional: {shown_as}, " in own) is ("optional" in entry)
    if sizes := says.get("sizes"):
        assert f"- standard format: {sizes['standard']} bytes\n" in place
        if "compacted" in sizes:
            assert f"- compacted format: {sizes['compacted']} bytes" in place


def vendor_of(file: Path) -> str:
    says = yaml.safe_load(file.read_text())
    if "vendor" in says:
        return str(says["vendor"])
    return vendor_of(next(base for base in FILES if base.stem == says["extends"]))


def test_links_lead_to_headings_that_are_there_once(text: str) -> None:
    links = re.findall(r"\]\(#([^)]*)\)", text)
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
    assert len(links) == len(FILES)
    for link in links:
        assert anchors.count(link) == 1, link


def test_tables_have_rows_of_one_length(text: str) -> None:
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        widths = {len(re.findall(r"(?<!\\)\|", row)) for row in block.splitlines()}
        assert len(widths) == 1


def test_rows_and_sections_as_they_should_read(text: str) -> None:
    # From the SDM's sizes and CPUID dumps, not from the page.
    assert (
        "| [skylake-server](#skylake-server) | Intel Skylake-SP, -W, -X, -D (Xeon Scalable) "
        "| 06: 55/0-4 | 0x2FF | 0x100 | 2696 | 2696 | 2 |"
    ) in text
    assert (
        "| [bulldozer](#bulldozer) | AMD Bulldozer (FX, Opteron 4200 and 6200) | 15: 00 01 "
        "| 0x4000000000000007 | - | 960 | - | 2 |"
    ) in text
    assert "| 13: 01 | 0xE02E7 | 0x1DD00 | 11008 | 11904 | no |" in text
    assert group(text, "bulldozer").splitlines()[3:] == [
        "- XCR0 0x4000000000000007: x87, sse, avx, lwp",
        "- IA32_XSS: nothing",
        "- standard format: 960 bytes",
        "- layout: `avx: 256@576`, `lwp: 128@832`",
        "",
    ]
    assert "- IA32_XSS 0x1800: cet_u, cet_s\n" in group(text, "zen4")
    assert section(text, "zhaoxin-lujiazui").splitlines()[3:] == [
        "- also called lujiazui",
        "- vendor: `CentaurHauls`",
        "- signatures: 07: 3B; Shanghai 07: 3B",
        "- instructions: xsave, xsaveopt",
        "- optional: `pkru: 8@2688`, some parts lack it",
        "- confirmed by 1 dump",
        "",
    ]
    assert "most parts lack it, and the masks here leave it out" in section(text, "alder-lake")


def test_models_of_one_vendor_and_layout_stand_together(text: str) -> None:
    heads = re.findall(r"^### (.*)$", text, re.M)
    layouts = re.findall(r"^- layout: .*$", text, re.M)
    assert len(heads) == len(layouts)
    counts = [int(re.findall(r": (\d+) models?$", head)[0]) for head in heads]
    assert sum(counts) == len(FILES)
    assert "\n#### zen4\n" in text[text.index("\n#### zen5\n") - 4000 : text.index("#### zen5\n")]
    assert group(text, "zen4") == group(text, "zen5")
    assert group(text, "haswell") != group(text, "skylake")


@pytest.fixture
def made_up(tmp_path: Path) -> Callable[[str], CpuModel]:
    def make(more: str) -> CpuModel:
        path = tmp_path / "made-up.yaml"
        path.write_text(f"model: made-up\n{more}")
        return Catalog([path]).model("made-up")

    return make


def test_what_the_shipped_files_do_not_have(made_up: Callable[[str], CpuModel]) -> None:
    model = made_up(
        'title: "a|b *c* <i> [x](y) `z` hi16_zmm"\nvendor: "a|b*cdefghij"\n'
        "components: {}\nconfirmed: false\nsource: see |this|\n"
    )
    shown = page.page([model])
    title = r"a\|b \*c\* \<i\> \[x\](y) \`z\` hi16\_zmm"
    assert f"| [made-up](#made-up) | {title} |  | 0x3 | - | 576 | - | no |" in shown
    assert "## a\\|b\\*cdefghij\n" in shown
    assert "- layout: x87 and sse only\n" in shown
    assert "- signatures: none\n- instructions: xsave\n" in shown
    assert "- unconfirmed; source: see \\|this\\|" in shown


def test_only_some_of_a_group_can_compact(made_up: Callable[[str], CpuModel]) -> None:
    says = (
        "title: t\nvendor: GenuineIntel\ninstructions: {}\n"
        "components: {{avx: {{size: 256, offset: 576}}}}\nconfirmed: false\nsource: s\n"
    )
    old, new = made_up(says.format("[xsaveopt]")), made_up(says.format("[xsavec]"))
    assert "- compacted format: 832 bytes (made-up)\n" in page.page([old, new])
    assert "- compacted format: 832 bytes\n" in page.page([new])
    assert "- compacted format:" not in page.page([old])


def test_a_users_files_are_not_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.yaml").write_text("model: x\ntitle: t\nextends: zen4\nconfirmed_by: [y]\n")
    monkeypatch.setenv("XSAVESCHEMA_PATH", str(tmp_path))
    assert "x" not in [model.name for model in page.shipped_models()]
    assert len(page.shipped_models()) == len(FILES)


def test_writing_and_checking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(page, "shipped_directory", lambda: tmp_path / "schemas")
    path = tmp_path / "docs" / "models.md"
    stale = f"{path} is not current; run python -m xsaveschema.authoring.page\n"
    assert page.main(["--check"]) == 1
    assert capsys.readouterr().out == stale
    assert not path.exists()
    assert page.main([]) == 0
    assert capsys.readouterr().out == f"wrote {path}\n"
    assert page.main(["--check"]) == page.main([]) == 0
    assert capsys.readouterr().out == ""
    path.write_text(path.read_text() + "\n")
    assert page.main(["--check"]) == 1
    assert capsys.readouterr().out == stale


def test_wrong_usage_and_an_installed_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["--nope"], ["--check", "x"]):
        assert page.main(arguments) == 2
        assert capsys.readouterr().err == (
            "usage: python -m xsaveschema.authoring.page [--check]\n"
        )  # fmt: skip
    package = Path(page.__file__).parents[1]
    monkeypatch.setattr(page, "shipped_directory", lambda: package / "schemas")
    assert page.main([]) == 2
    assert "the page belongs to a checkout" in capsys.readouterr().err

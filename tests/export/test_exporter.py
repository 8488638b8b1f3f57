"""What all exporters have in common: which there are, for which CPUs, and files whole or none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

import xsaveschema as xs
from xsaveschema import export
from xsaveschema.export.exporter import LICENSE, MARK, comment, constant, identifier, pascal

TARGETS = [each.target for each in export.targets()]
PLUGIN = """
class Words:
    target, title, suffix = "words", "words", ".words"
    def render(self, cpus, **options):
        {body}
"""


def test_the_projects_own_targets() -> None:
    assert TARGETS[: len(export._OWN)] == list(export._OWN)
    assert all(each.title and each.suffix.startswith(".") for each in export.targets())


@pytest.mark.parametrize("target", TARGETS)
def test_every_file_says_where_it_is_from_and_is_the_same_each_time(target: str) -> None:
    files = export.render(target, ["zen4", xs.load_model("sapphire-rapids")])
    assert files
    for name, text in files.items():
        assert MARK in text[:2000], name
        assert LICENSE in text[:2000], name
        assert xs.__version__ in text[:2000], name
        assert text.endswith("\n"), name
    code = f"from xsaveschema import export; print(export.render({target!r}, "
    code += "['zen4', 'sapphire-rapids']) == eval(open(0).read()))"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", code], input=repr(files), env=env, text=True, capture_output=True
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_cpus_by_name_by_model_and_all() -> None:
    model = xs.load_model("zen4")
    assert export.render("gdb", "zen4") == export.render("gdb", [model, "genoa"])
    names = {each.name for each in xs.Catalog().models()}
    files = export.render("gdb", "all")
    assert {name.removesuffix(".xml").replace("_", "-") for name in files} == names


@pytest.mark.parametrize(
    ("target", "cpus", "said"),
    [
        ("vector", ["zen4"], "there is no target 'vector'; did you mean vectors?"),
        ("cobol-85", ["zen4"], "there is no target 'cobol-85'; targets: "),
        (5, ["zen4"], "there is no target 5; targets: "),
        ("vectors", [], "no CPU is named"),
        ("vectors", ["zen44"], "did you mean zen4"),
        ("vectors", [5], "cpus: pass CPU models or their names, not"),
        ("vectors", 5, "cpus: pass CPU models"),
        ("vectors", [xs.load_model("zen4"), xs.load_model("zen4").limited(xcr0=7)], "one name"),
    ],
)
def test_what_is_refused(target: str, cpus: object, said: str) -> None:
    with pytest.raises(xs.XsaveError) as caught:
        export.render(target, cpus)  # type: ignore[arg-type]
    assert said in str(caught.value)


def test_names_and_comments() -> None:
    assert identifier("Ice-Lake.Server") == "ice_lake_server"
    assert identifier("9-lives") == "_9_lives"
    assert identifier("∅") == "x"
    assert constant("zmm_hi256") == "ZMM_HI256"
    assert pascal("zmm_hi256") == "ZmmHi256"
    assert comment("a */ b /* c \\") == "a * / b / * c "
    assert comment("a\nb") == "a\\nb"
    assert comment("\x1b[2J") == r"\x1b[2J"


# --- plug-ins and files, by the command ---------------------------------------------------------


def command(*args: str, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, filter(None, (site, ROOT))))
    words = [sys.executable, "-m", "xsaveschema", "export", *args]
    env = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(words, env=env, capture_output=True, text=True, check=False)


def plugged(folder: Path, body: str) -> Path:
    (folder / "words.py").write_text(PLUGIN.format(body=body))
    info = folder / "words-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: words\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{export.GROUP}]\nwords = words:Words\n")
    return folder


def test_a_plug_in_is_a_target(tmp_path: Path) -> None:
    site = plugged(tmp_path, "return {'a.words': ' '.join(cpu.name for cpu in cpus)}")
    assert "words" in command("--list", site=site).stdout
    assert command("words", "zen4", "host", "-o", "-", site=site).stdout.startswith("zen4 ")


def test_a_plug_in_takes_no_targets_place(tmp_path: Path) -> None:
    site = plugged(tmp_path, "return {}")
    (site / "words.py").write_text((site / "words.py").read_text().replace('"words"', '"c"'))
    said = command("--list", site=site).stderr
    assert "words (words:Words, xsaveschema.exporters) is left out: there is a target 'c'" in said


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise KeyError('x')", "fails: KeyError: 'x'"),
        ("return {'../a': 'b'}", "'../a' is no path within a folder"),
        ("return {'/a': 'b'}", "'/a' is no path within a folder"),
        ("return {'a': b'b'}", "it gives 'a' as "),
        ("return 5", "fails: TypeError"),
        ("return {}", "it gives no file"),
        ("return {'k': 'a', 'k/b': 'c'}", "'k/b' is below 'k', which is a file"),
        (r"return {'a': '\ud800'}", "fails: UnicodeEncodeError"),
        ("raise SystemExit(0)", "fails: SystemExit: 0"),
    ],
)
def test_a_plug_in_that_fails_is_told_of(tmp_path: Path, body: str, said: str) -> None:
    site = plugged(tmp_path, body)
    done = command("words", "zen4", "-o", str(tmp_path / "out"), site=site)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()

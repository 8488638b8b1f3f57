"""``export``: the list of targets, standard output, folders written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import run

from xsaveschema import export
from xsaveschema.io import UNFINISHED


def test_the_list() -> None:
    told = json.loads(run("export", "--list", "--json").stdout)
    assert [*told] == ["targets"]
    assert told["targets"] == [
        {"target": each.target, "title": each.title, "suffix": each.suffix}
        for each in export.targets()
    ]
    shown = run("export", "--list").stdout
    assert all(each.target in shown for each in export.targets())
    assert max(map(len, shown.splitlines())) <= 80


def test_a_folder_is_made_and_written_anew(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    run("export", "vectors", "zen4", "-o", str(folder))
    run("export", "vectors", "haswell", "-o", str(folder))
    wanted = export.render("vectors", "haswell")
    assert {path.name: path.read_text() for path in folder.iterdir()} == wanted


def test_a_file_that_was_not_generated_is_kept(tmp_path: Path) -> None:
    (tmp_path / "vectors.txt").write_text("mine")
    said = run("export", "vectors", "zen4", "-o", str(tmp_path), code=1).stderr
    assert "vectors.txt was not generated; --force replaces it" in said
    assert [path.name for path in tmp_path.iterdir()] == ["vectors.txt"]
    run("export", "vectors", "zen4", "-o", str(tmp_path), "--force")
    assert (tmp_path / "vectors.txt").read_text() != "mine"


def test_all_files_or_none(tmp_path: Path) -> None:
    """One of the files cannot be written: a folder is in its place."""
    (tmp_path / "out" / "vectors.txt").mkdir(parents=True)
    run("export", "vectors", "zen4", "-o", str(tmp_path / "out"), code=1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["vectors.txt"]
    assert not [*tmp_path.rglob(UNFINISHED)]
    (tmp_path / "file").write_text("")
    run("export", "vectors", "zen4", "-o", str(tmp_path / "file" / "new" / "er"), code=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "out"]


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        ((), 2, "name a target"),
        (("vectors", "zen4"), 2, "-o FOLDER"),
        (("gdb", "zen4", "-o", ""), 2, "-o FOLDER"),
        (("vectors", "zen4", "--json", "-o", "x"), 2, "--json goes with --list"),
        (("vectors", "zen4", "-o", "-"), 1, "vectors has 4 files for these CPUs"),
        (("vectors", "-o", "-"), 1, "no CPU is named"),
        (("vectorz", "zen4", "-o", "-"), 1, "did you mean vectors?"),
        (("vectors", "zen44", "-o", "-"), 1, "did you mean zen4"),
        (("vectors", "./nowhere.yaml", "-o", "-"), 1, "there is no such file"),
    ],
)
def test_what_is_refused(args: tuple[str, ...], code: int, said: str) -> None:
    assert said in run("export", *args, code=code).stderr

"""A folder of CRIU images: its threads by number."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import fails, run, tell
from writers import criu
from writers.state import State

from xsaveschema import artefacts
from xsaveschema.errors import XsaveError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (1207, 12, 993):
        image = criu.image(criu.core(criu.encode(criu.fields(State(seed=number), 0xE7))))
        (tmp_path / f"core-{number}.img").write_bytes(image)
    (tmp_path / "pstree.img").write_bytes(b"something else")
    (tmp_path / "core-x.img").write_bytes(b"something else")
    return tmp_path


def test_threads_are_named_by_number_and_come_in_order(folder: Path) -> None:
    found = list(artefacts.open(folder))
    assert [each.label for each in found] == ["thread 12", "thread 993", "thread 1207"]
    for each, number in zip(found, (12, 993, 1207), strict=True):
        assert each.area.registers["k1"] == State(seed=number).k[1]


def test_the_commands_take_a_folder(folder: Path, tmp_path: Path) -> None:
    areas = tell("decode", str(folder))["areas"]
    assert [area["label"] for area in areas] == ["thread 12", "thread 993", "thread 1207"]
    run("check", str(folder), "--area", "thread 993")
    assert [area["faults"] for area in tell("check", str(folder))["areas"]] == [[], [], []]
    out = tmp_path / "out"
    assert "choose one (area=" in fails("convert", str(folder), "-o", str(out))
    run("convert", str(folder), "--area", "thread 12", "--model", "zen4", "-o", str(out))
    assert len(out.read_bytes()) == 2432


def test_folders_without_images_and_with_bad_ones(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "is a folder, and has no core-N.img of CRIU" in fails("decode", str(empty))
    (folder / "core-13.img").write_bytes((folder / "core-12.img").read_bytes()[:100])
    with pytest.raises(XsaveError) as caught:
        list(artefacts.open(folder))
    assert "core-13.img" in caught.value.__notes__

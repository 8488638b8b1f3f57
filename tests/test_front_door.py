"""The front door: every public name typed, shown by dir(), and its objects values that travel."""

from __future__ import annotations

import copy
import importlib.util
import os
import pickle
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from places import DATA, ROOT

import xsaveschema as xs

TYPES = DATA / "types"
NAMES = ("misuses", "uses")
WRONG = {
    number
    for number, line in enumerate((TYPES / "misuses.txt").read_text().splitlines(), 1)
    if line.endswith("# wrong")
}
CHECKERS = {
    "mypy": ["--strict", "--no-incremental", "--no-warn-unused-ignores"],
    "pyright": ["--pythonpath", sys.executable],
}


@cache
def checked(checker: str) -> dict[str, set[int]]:
    """The lines of both files that a type checker takes for errors, as another project's."""
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed")
    with tempfile.TemporaryDirectory() as folder:
        for name in NAMES:
            Path(folder, f"{name}.py").write_text((TYPES / f"{name}.txt").read_text())
        words = [sys.executable, "-m", checker, *CHECKERS[checker], *(f"{n}.py" for n in NAMES)]
        env = {**os.environ, "MYPYPATH": str(ROOT)}
        done = subprocess.run(
            words, cwd=folder, env=env, capture_output=True, text=True, check=False
        )
    found: dict[str, set[int]] = {name: set() for name in NAMES}
    for name, line in re.findall(r"(\w+)\.py:(\d+)(?::\d+)?(?: -)?:? error", done.stdout):
        found[name].add(int(line))
    if done.returncode != 1 or not any(found.values()):
        said = (done.stdout + done.stderr).strip()[-200:]
        pytest.skip(f"{checker} does not run here: {said}")
    return found


@pytest.mark.parametrize("checker", CHECKERS)
def test_type_checkers_refuse_misuses_and_nothing_else(checker: str) -> None:
    assert len(WRONG) >= 20
    assert checked(checker) == {"misuses": WRONG, "uses": set()}


def test_dir_shows_what_is_public() -> None:
    shown = set(dir(xs))
    assert set(xs.__all__) <= shown
    assert shown - set(xs.__all__) <= {"arrow", "batch", "dask", "parquet", "stream", "testing"}
    assert ("batch" in shown) == (importlib.util.find_spec("numpy") is not None)
    assert "testing" in shown
    assert all(getattr(xs, name) is not None for name in shown)


MODEL = xs.load_model("zen4")


def area() -> xs.XsaveArea:
    made = xs.XsaveArea.new(MODEL)
    made.registers["zmm17"] = 5
    return made


def another() -> xs.XsaveArea:
    made = area()
    made.registers["zmm17"] = 6
    return made


def _batch(of: Callable[[], xs.XsaveArea]) -> Any:
    pytest.importorskip("numpy")
    return xs.batch.to_compacted([of(), of()], MODEL)


# What makes a thing, and what makes one that differs.
THINGS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "XsaveArea": (area, another),
    "Layout": (MODEL.standard_layout, MODEL.compacted_layout),
    "Slot": (lambda: area().layout["avx"], lambda: area().layout["pkru"]),
    "Span": (lambda: area().layout.spans()[3], lambda: area().layout.spans()[4]),
    "StateComponent": (lambda: MODEL.component("avx"), lambda: MODEL.component("pkru")),
    "Field": (lambda: MODEL.component("avx").fields[0], lambda: MODEL.component("x87").fields[0]),
    "Conversion": (
        lambda: xs.to_compacted(area(), MODEL),
        lambda: xs.to_compacted(another(), MODEL),
    ),
    "Batch": (lambda: _batch(area), lambda: _batch(another)),
    "Comparison": (
        lambda: xs.compare(MODEL, MODEL),
        lambda: xs.compare(MODEL, xs.load_model("zen3")),
    ),
    "Delta": (lambda: xs.diff(area(), another())[0], lambda: xs.diff(another(), area())[0]),
    "Fault": (
        lambda: xs.check(bytes(2440), MODEL, rfbm=0xFF, xcr0=7)[:1],
        lambda: xs.check(bytes(900), MODEL)[:1],
    ),
    "Match": (lambda: xs.identify(bytes(area())), lambda: xs.identify(bytes(2696))),
    "Found": (
        lambda: next(iter(xs.artefacts.read_bytes(bytes(area()), MODEL))),
        lambda: next(iter(xs.artefacts.read_bytes(bytes(another()), MODEL))),
    ),
    "Registers": (lambda: area().registers, lambda: another().registers),
}


@pytest.mark.parametrize("name", THINGS)
def test_things_are_values(name: str) -> None:
    make, other = THINGS[name]
    thing = make()
    assert thing == make()
    assert thing != other()
    assert (thing == 5) is False
    assert pickle.loads(pickle.dumps(thing)) == thing
    assert copy.deepcopy(thing) == thing
    assert len(repr(thing)) < 2000
    assert "object at 0x" not in repr(thing)


@pytest.mark.parametrize("name", sorted(THINGS.keys() - {"Batch"}))
def test_things_travel_to_another_process(name: str, tmp_path: Path) -> None:
    thing = THINGS[name][0]()
    (tmp_path / "thing").write_bytes(pickle.dumps(thing))
    code = (
        "import pickle, sys; found = pickle.load(open(sys.argv[1], 'rb')); "
        "print(ascii(repr(found))); assert found == pickle.loads(pickle.dumps(found))"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "thing")]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == ascii(repr(thing)), done.stderr


def test_a_component_travels_without_its_catalogue() -> None:
    assert len(pickle.dumps(MODEL.component("avx"))) < 4000

"""What is built has all that is needed, no more, and works away from the checkout."""

from __future__ import annotations

import email
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from places import ROOT

import xsaveschema

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive, and the wheel that was built from it."""
    for name in ("build", "hatchling"):
        pytest.importorskip(name, reason=f"{name} is not installed: the extra dev has it")
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    (path,) = built.glob("*.whl")
    assert path.name == f"xsaveschema-{xsaveschema.__version__}-py3-none-any.whl"
    return zipfile.ZipFile(path)


def files(folder: Path) -> set[str]:
    """All files below, by their paths in the checkout."""
    return {
        str(path.relative_to(ROOT))
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_has_the_package_and_the_schemas(wheel: zipfile.ZipFile) -> None:
    info = f"xsaveschema-{xsaveschema.__version__}.dist-info"
    got = {name for name in wheel.namelist() if not name.startswith(info)}
    schemas = {f"xsaveschema/{name}" for name in files(ROOT / "schemas")}
    assert got == files(ROOT / "xsaveschema") | schemas
    assert f"{info}/licenses/LICENSE" in wheel.namelist()
    assert sum(entry.file_size for entry in wheel.infolist()) < 4 << 20


def test_the_wheel_says_what_it_needs(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
    says = email.message_from_bytes(wheel.read(name))
    assert says["Version"] == xsaveschema.__version__
    assert says["License-Expression"] == PROJECT["license"]
    assert says["Requires-Python"] == PROJECT["requires-python"]
    assert {*says.get_all("Provides-Extra", [])} == {*PROJECT["optional-dependencies"]}
    base = [need for need in says.get_all("Requires-Dist", []) if "extra ==" not in need]
    assert len(base) == len(PROJECT["dependencies"])


def test_the_source_archive_can_be_worked_on(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        got = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff"}
    wanted |= {"LICENSE", "LICENSES/MIT.txt", "REUSE.toml", "pyproject.toml"}
    wanted |= files(ROOT / "docs") | files(ROOT / "tests" / "data") | files(ROOT / "schemas")
    assert wanted - got == set()
    assert [name for name in got if "__pycache__" in name or name.endswith(".pyc")] == []


def test_the_wheel_works_without_the_checkout(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    site = tmp_path / "site"
    wheel.extractall(site)
    program = (
        f"import sys; sys.path.insert(0, {str(site)!r}); from xsaveschema.cli import main; main()"
    )
    for words, expected in {
        ("layout", "zen4"): "hi16_zmm",
        ("decode", "sample:zen4-kernel-core", "--registers", "mxcsr"): "0x00009fa1",
        ("export", "c", "zen4", "-o", "-"): "xsave_zen4",
        ("debugger", "gdb"): "info xsave",
        ("lint", str(site / "xsaveschema" / "schemas")): "",
    }.items():
        done = subprocess.run(
            [sys.executable, "-I", "-c", program, *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, expected in done.stdout) == (0, True), done.stdout + done.stderr
    where = (
        f"import sys; sys.path.insert(0, {str(site)!r}); import xsaveschema as x; print(x.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", where], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(str(site))


def test_the_index_would_take_it(built: Path) -> None:
    pytest.importorskip("twine", reason="twine is not installed: the extra dev has it")
    words = [sys.executable, "-m", "twine", "check", "--strict", *map(str, built.iterdir())]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

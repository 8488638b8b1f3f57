"""What the README and the pages under docs show is what the program prints."""

from __future__ import annotations

import doctest
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from types import FunctionType, ModuleType

import cores
import pytest
from places import ROOT

import xsaveschema
from xsaveschema import Catalog, XsaveArea, artefacts, cpuid, load_model, relayout

README = (ROOT / "README.md").read_text()
SCALE = (ROOT / "docs" / "scale.md").read_text()
FORMAT = (ROOT / "docs" / "format.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def runs() -> list[tuple[str, str]]:
    """Each command line of the console blocks, with the output shown below it."""
    found = []
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


@pytest.mark.parametrize(("command", "expected"), runs(), ids=lambda text: text[:60])
def test_commands_print_what_is_shown(command: str, expected: str, tmp_path: Path) -> None:
    words = shlex.split(command)
    assert words[0] == "xsaveschema"
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"COLUMNS": "100", "LANG": "C.UTF-8", "PYTHONUTF8": "1"},
        text=True,
        check=False,
    )
    got = "\n".join(line.rstrip() for line in done.stdout.splitlines())
    pattern = re.escape(expected.strip()).replace(re.escape("..."), ".*")
    assert re.fullmatch(pattern, got.strip(), re.DOTALL), got


def test_the_core_of_many_threads_is_shown_as_it_is(tmp_path: Path) -> None:
    areas = []
    for index in range(3):
        area = XsaveArea.new(load_model("sapphire-rapids"))
        area.registers["ymm0"] = 1 << 255
        area.registers["k3"] = 3 * index + 3
        area.registers["mxcsr"] = 0x1F80
        if index == 1:
            for name, value in {"palette": 1, "rows[0]": 16, "colsb[0]": 64}.items():
                area["tilecfg"][name] = value
            area.registers["tmm0"] = bytes(1024)
        data = bytearray(bytes(area))
        data[464:472] = area.model.xcr0.to_bytes(8, "little")
        areas.append(bytes(data))
    (tmp_path / "core.amx").write_bytes(cores.core(cores.threads(areas, 16907)))
    (block,) = [text for text in blocks("text") if "core.amx" in text]
    for part in block.split("$ ")[1:]:
        command, _, shown = part.partition("\n")
        done = subprocess.run(
            [sys.executable, "-m", *shlex.split(command)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip("\n") == shown.strip("\n")


@pytest.mark.parametrize(
    ("name", "text", "least"),
    [("README.md", README, 15), ("format.md", FORMAT, 15), ("architecture.md", ARCHITECTURE, 2)],
)
def test_python_examples(name: str, text: str, least: int) -> None:
    source = "\n".join(blocks("python", text))
    test = doctest.DocTestParser().get_doctest(source, {}, name, name, 0)
    result = doctest.DocTestRunner().run(test)
    assert result.attempted > least
    assert result.failed == 0


def test_python_examples_of_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the example package installed, as far as a program can tell."""
    text = (ROOT / "docs" / "plugins.md").read_text()
    monkeypatch.syspath_prepend(ROOT / "examples" / "plugins")
    xsave_crate = import_module("xsave_crate")

    from xsaveschema.artefacts import registry
    from xsaveschema.cpuid import formats
    from xsaveschema.plugins import Plugin

    reader, dump = Plugin(xsave_crate.CrateReader(), "x"), Plugin(xsave_crate.TallyFormat(), "x")
    monkeypatch.setattr(registry, "_plugins", lambda: (registry._PluggedIn(reader),))
    monkeypatch.setattr(formats, "_plugins", lambda: (formats._PluggedIn(dump),))
    source = "\n".join(blocks("python", text))
    test = doctest.DocTestParser().get_doctest(source, {}, "plugins.md", "plugins.md", 0)
    result = doctest.DocTestRunner().run(test)
    assert (result.attempted > 10, result.failed) == (True, 0)


def test_the_page_of_plugins_names_what_is_public() -> None:
    text = (ROOT / "docs" / "plugins.md").read_text()
    own = re.findall(r"`(artefacts|cpuid)\.([\w.]+)", text)
    assert len(own) > 7
    for home, name in own:
        assert name.split(".")[0] in getattr(xsaveschema, home).__all__
        assert attrgetter(name)(getattr(xsaveschema, home)).__doc__
    helpers = {*re.findall(r"^\| `(\w+)[`(]", text, re.MULTILINE)}
    helpers -= {"name", "recognises", "read", "replace"}
    assert {"of_area", "told", "area_of", "assemble", "InPlace", "ArtefactError"} <= helpers
    assert helpers <= {*artefacts.__all__}
    points = "".join(re.findall(r"```toml\n(.*?)```", text, re.DOTALL))
    project = tomllib.loads((ROOT / "examples" / "plugins" / "pyproject.toml").read_text())
    assert tomllib.loads(points)["project"]["entry-points"] == project["project"]["entry-points"]


@pytest.mark.parametrize("home", [artefacts, cpuid])
def test_what_plug_ins_are_made_of_is_documented(home: ModuleType) -> None:
    for name in home.__all__:
        each = getattr(home, name)
        if isinstance(each, type | FunctionType):
            assert each.__doc__, name
            methods = [m for m in vars(each).values() if isinstance(m, FunctionType)]
            assert all(m.__doc__ for m in methods if not m.__name__.startswith("_")), name


def test_what_the_page_of_the_architecture_cites_is_there() -> None:
    paths = re.findall(r"`([\w-]+(?:/[\w.-]+)+)`", ARCHITECTURE)
    assert len(paths) > 15
    rooms = (ROOT, ROOT / "xsaveschema", ROOT / "xsaveschema" / "cli")
    assert [
        p
        for p in paths
        if not re.search("NN-|VENDOR", p) and not any((r / p).exists() for r in rooms)
    ] == []
    rows = re.findall(r"^\| ((?:`[a-z]+` ?)+)\|", ARCHITECTURE, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"[a-z]+", row)}
    assert named <= {path.stem for path in (ROOT / "xsaveschema").iterdir()}


def test_what_the_page_of_the_format_cites_is_there() -> None:
    paths = re.findall(r"`([\w-]+(?:/[\w.-]+)+)`", FORMAT)
    assert len(paths) > 40
    assert [path for path in paths if not (ROOT / path).exists()] == []
    pages = re.findall(r"\]\(([^)#]+)\)", FORMAT)
    assert [page for page in pages if not (ROOT / "docs" / page).is_file()] == []
    names = re.findall(r"`xs\.([\w.]+)`", FORMAT)
    assert len(names) > 5
    assert all(attrgetter(name)(xsaveschema) is not None for name in names)


def test_python_examples_of_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow", reason="the extra arrow is not installed")
    monkeypatch.chdir(tmp_path)
    source = "\n".join(blocks("python", SCALE))
    test = doctest.DocTestParser().get_doctest(source, {}, "scale.md", "scale.md", 0)
    result = doctest.DocTestRunner().run(test)
    assert result.attempted > 15
    assert result.failed == 0
    assert (tmp_path / "registers.parquet").exists()


def test_the_program_for_dask(tmp_path: Path) -> None:
    """The example as it stands, on the areas of one processor for another one."""
    pq = pytest.importorskip("pyarrow.parquet", reason="the extra dask is not installed")
    pytest.importorskip("distributed", reason="the extra dask is not installed")
    import numpy as np
    import pyarrow as pa

    from xsaveschema.many.arrow import array_of

    skylake, zen4 = load_model("skylake-server"), load_model("zen4")
    area = XsaveArea.new(skylake)
    area.registers["zmm20"] = 20
    area.registers["bnd0"] = 5
    bad = bytearray(bytes(area))
    bad[520] = 1
    rows = np.stack([np.frombuffer(data, np.uint8) for data in (bytes(area), bytes(bad))] * 10)
    pq.write_table(pa.table({"area": array_of(rows)}), tmp_path / "areas.parquet", row_group_size=6)
    program = [sys.executable, str(ROOT / "examples" / "dask_convert.py")]
    done = subprocess.run(
        [*program, str(tmp_path / "areas.parquet"), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "20 rows\n"
    table = pq.read_table(tmp_path / "out")
    want = relayout(
        bytes(area), source=skylake, target=zen4, format="compacted", drop=["bndregs", "bndcsr"]
    ).data
    assert table.column("area").to_pylist() == [bytes(want), None] * 10
    assert [bool(error) for error in table.column("error").to_pylist()] == [False, True] * 10


def test_the_model_shown_lints(tmp_path: Path) -> None:
    (tmp_path / "my-cpu.yaml").write_text(blocks("yaml")[0])
    model = Catalog([tmp_path]).model("my-cpu")
    assert model.standard_layout()["pkru"].offset == 2440

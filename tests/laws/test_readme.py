"""What the README and the pages under docs show is what the program prints."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from types import FunctionType, ModuleType

import processor
import ptrace_judge
import pytest
from places import ROOT
from test_plugins import install

import xsaveschema
from xsaveschema import Catalog, XsaveArea, artefacts, cpuid, load_model, relayout

README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "docs" / "guide.md").read_text()
SCALE = (ROOT / "docs" / "scale.md").read_text()
FORMAT = (ROOT / "docs" / "format.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
ROLES = {f"roles/{p.name}": p.read_text() for p in sorted((ROOT / "docs/roles").glob("*.md"))}
PRIMER = (ROOT / "docs" / "primer.md").read_text()
LANGUAGE = (ROOT / "schemas" / "README.md").read_text()
PAGES = {
    "README.md": README,
    "guide.md": GUIDE,
    "primer.md": PRIMER,
    "schemas/README.md": LANGUAGE,
    **ROLES,
}


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def sessions() -> list[tuple[str, str]]:
    """Each console block, with the page that it stands on."""
    return [(page, block) for page, text in PAGES.items() for block in blocks("console", text)]


class Terminal:
    """A folder in a checkout, as far as the pages' commands can tell, and a shell in it.

    ``xsaveschema`` and ``python`` are this interpreter on the tree that the tests stand in,
    whatever is installed; the example package is installed by the test, in place of ``pip``.
    """

    END = "\x01"  # what no command prints

    def __init__(self, folder: Path):
        self._folder = folder / "checkout"
        self._folder.mkdir()
        (self._folder / "examples").symlink_to(ROOT / "examples")
        self._site, programs = folder / "site", folder / "bin"
        self._site.mkdir()
        programs.mkdir()
        python = f"PYTHONPATH={self._site}:{ROOT} exec {shlex.quote(sys.executable)}"
        for name, line in {
            "python": f'{python} "$@"',
            "xsaveschema": f'{python} -m xsaveschema "$@"',
            "pip": '[ "$*" = "install -q ./examples/plugins" ]',
        }.items():
            (programs / name).write_text(f"#!/bin/sh\n{line}\n")
            (programs / name).chmod(0o755)
        self._environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(folder),
            "COLUMNS": "100",
            "LANG": "C.UTF-8",
            "PYTHONUTF8": "1",
        }

    def install_example(self) -> None:
        project = ROOT / "examples" / "plugins"
        install(
            self._site,
            "xsave_crate",
            tomllib.loads((project / "pyproject.toml").read_text())["project"]["entry-points"],
        )
        (self._site / "xsave_crate.py").symlink_to(project / "xsave_crate.py")

    def write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(text)

    def type(self, commands: list[str]) -> list[str]:
        """What each prints, one behind the other in one shell."""
        script = "".join(f"{command}\nprintf {self.END!r}\n" for command in commands)
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
        lines = (line.rstrip() for line in done.stdout.split("\n"))
        return "\n".join(lines).split(self.END)[:-1]


def alike(text: str, own: bool) -> str:
    """Without the numbers of threads, and the width that they take, where the core is our own."""
    return re.sub(r" +", " ", re.sub(r"(threads?) \d+(, \d+)*", r"\1 N", text)) if own else text


@pytest.mark.parametrize(("page", "block"), sessions(), ids=lambda text: text[:50].strip())
def test_commands_print_what_is_shown(page: str, block: str, tmp_path: Path) -> None:
    shown = [part.partition("\n")[::2] for part in block.removeprefix("$ ").split("\n$ ")]
    commands = [command for command, _ in shown]
    terminal = Terminal(tmp_path)
    for text in blocks("yaml", PAGES[page]):
        if name := re.search(r"^model: ([\w-]+)", text, re.MULTILINE):
            terminal.write(f"{name[1]}.yaml", text)
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    if any(command.startswith("gdb ") for command in commands) and not shutil.which("gdb"):
        pytest.skip("there is no gdb")
    if any(command.startswith("pip ") for command in commands):
        terminal.install_example()
    own = re.search(r" core\b", block) is not None
    if own or " host" in block or "pid:$!" in block:
        traced = own or "pid:$!" in block
        if why := (traced and ptrace_judge.available()) or processor.available():
            pytest.skip(why)
        if own and "make_core.py" not in commands[0]:
            # The page made it before.
            terminal.type(["python examples/make_core.py"])
    for (command, expected), got in zip(shown, terminal.type(commands), strict=True):
        pattern = re.escape(alike(expected.strip("\n"), own))
        pattern = pattern.replace(re.escape("...\n"), "(?:.*\n)?").replace(re.escape("..."), ".*")
        assert re.fullmatch(pattern, alike(got.strip("\n"), own), re.DOTALL), (command, got)


def test_the_readme_is_short_and_all_of_it_runs() -> None:
    assert README.count("\n") < 300
    sections = re.split(r"^## ", README, flags=re.MULTILINE)[1:]
    assert len(sections) > 12
    for section in sections[1:-1]:
        assert re.search("^```(console|python)$", section, re.MULTILINE), section
    languages = re.findall(r"^```(\w+)$", "".join(PAGES.values()), re.MULTILINE)
    assert {*languages} <= {"console", "python", "sh", "yaml"}
    links = [(ROOT, link) for link in re.findall(r"\]\(([^)#]+)", README)]
    links += [(ROOT / "docs", link) for link in re.findall(r"\]\(([^)#]+)", GUIDE)]
    assert [link for home, link in links if not (home / link).exists()] == []


@pytest.mark.parametrize(
    ("name", "text", "least"),
    [
        ("README.md", README, 15),
        ("guide.md", GUIDE, 15),
        ("format.md", FORMAT, 15),
        ("architecture.md", ARCHITECTURE, 2),
        ("primer.md", PRIMER, 5),
        *((name, text, 2) for name, text in ROLES.items() if ">>>" in text),
    ],
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
    assert {"layout_of", "told", "assemble", "InPlace", "ArtefactError"} <= helpers
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


def test_the_exports_page_shows_commands_that_run(tmp_path: Path) -> None:
    """One behind the other; what needs a program that is not there is left out, aloud."""
    text = (ROOT / "docs" / "exports.md").read_text()
    commands = [line for block in blocks("sh", text) for line in block.splitlines()]
    names = [command.split()[0] for command in commands]
    assert names.count("xsaveschema") > 5
    lacking = {name for name in names if not (name == "xsaveschema" or shutil.which(name))}
    given = [c for c, name in zip(commands, names, strict=True) if name not in lacking]
    terminal = Terminal(tmp_path)
    said = dict(zip(given, terminal.type(given), strict=True))
    for command, got in said.items():
        assert "error" not in got.lower(), (command, got)
        for folder in re.findall(r"^xsaveschema .*-o ([\w-]+)", command):
            assert [*(tmp_path / "checkout" / folder).iterdir()], command
    shown = "".join(got for command, got in said.items() if command.startswith(("pahole", "gdb ")))
    assert lacking or ("struct xsave_pkru" in shown and "v16_float" in shown), shown
    if lacking:
        pytest.skip(f"without {', '.join(sorted(lacking))}; the other commands ran")


def test_the_scale_page_shows_a_command_that_runs(tmp_path: Path) -> None:
    (command,) = [block for block in blocks("sh", SCALE) if "--batch" in block]
    terminal, folder = Terminal(tmp_path), tmp_path / "checkout"
    area = bytes(XsaveArea.new(load_model("skylake-server")))
    (folder / "areas.bin").write_bytes(area * 2 + b"\xff" * len(area))
    (said,) = terminal.type([command.replace("\\\n", " ").strip() + " || true"])
    assert (folder / "bad.jsonl").read_text().count("\n") == 1, said
    size = load_model("skylake-server").compacted_layout().size
    assert (folder / "compacted.bin").stat().st_size == 3 * size


def test_the_files_that_the_page_of_the_language_shows(tmp_path: Path) -> None:
    """A model once its fault is mended, its component's fields, and registers of these."""
    model, component, registers = blocks("yaml", LANGUAGE)
    (tmp_path / "components").mkdir()
    (tmp_path / "components" / "20-new.yaml").write_text(component)
    (tmp_path / "registers.yaml").write_text(registers)
    wrong = model.replace("number: 20, ", "")  # the component's own file says it
    (tmp_path / "example-lake.yaml").write_text(wrong)
    with pytest.raises(xsaveschema.SchemaError, match="sizes-compacted"):
        Catalog([tmp_path]).model("example-lake")
    (tmp_path / "example-lake.yaml").write_text(wrong.replace("align64: true", "align64: false"))
    area = XsaveArea.new(Catalog([tmp_path]).model("exl"), xcr0=0x100207)
    area["new"]["control"], area["new"]["entry[1].to"] = 0b1101, 0x1_0000_0002
    values = [area.registers[name] for name in ("newctl", "from9", "low1")]
    assert values == [0b1101, 0, 2]


def test_the_pool_of_processes_that_the_page_of_scale_shows(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet", reason="the extra arrow is not installed")
    import numpy as np
    import pyarrow as pa

    from xsaveschema.many.arrow import array_of

    area = np.frombuffer(bytes(XsaveArea.new(load_model("zen4"))), np.uint8)
    table = pa.table({"area": array_of(np.stack([area] * 8))})
    pq.write_table(table, tmp_path / "areas.parquet", row_group_size=4)
    (program,) = [block for block in blocks("py", SCALE) if "ProcessPoolExecutor" in block]
    (tmp_path / "program.py").write_text(program)
    subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
    )
    assert pq.read_table(tmp_path / "out").num_rows == 8


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


def test_the_model_shown_is_one_once_its_fault_is_mended(tmp_path: Path) -> None:
    text = blocks("yaml")[0].replace("standard: 2440", "standard: 2448")
    (tmp_path / "my-cpu.yaml").write_text(text)
    model = Catalog([tmp_path]).model("my-cpu")
    assert model.standard_layout()["pkru"].offset == 2440

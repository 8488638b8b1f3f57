"""The program as a whole: exit codes, bad usage, and what a command imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
from artefact_areas import zen4_core
from click import Context
from click.testing import CliRunner
from command import fails, run
from places import DATA

import xsaveschema as xs
from xsaveschema.cli.program import COMMANDS, program


class TestProgram:
    def test_help_lists_every_command_with_its_own_first_words(self) -> None:
        shown = run("--help").stdout
        import importlib

        for name, text in COMMANDS.items():
            command = importlib.import_module(f"xsaveschema.cli.{name.replace('-', '_')}").command
            assert command.name == name
            assert command.help.split()[:3] == text.split()[:3]
            assert f"  {name} " in shown

    @pytest.mark.parametrize("name", COMMANDS)
    def test_every_command_has_help(self, name: str) -> None:
        assert run(name, "--help").stdout == run(name, "-h").stdout != ""

    def test_version(self) -> None:
        assert run("--version").stdout == f"xsaveschema {xs.__version__}\n"

    def test_no_command_is_wrong_usage_and_shows_the_help(self) -> None:
        result = run(code=2)
        assert result.stdout == ""
        assert "Commands:" in result.stderr

    def test_an_unknown_command_is_told_what_it_may_mean(self) -> None:
        assert "did you mean decode?" in fails("decod", code=2)
        assert "commands: models" in fails("qqq", code=2)

    def test_an_unknown_option_is_wrong_usage(self) -> None:
        fails("models", "--nope", code=2)
        fails("--nope", code=2)

    def test_python_m(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "xsaveschema", "qqq"], capture_output=True, text=True
        )
        assert done.returncode == 2
        assert done.stderr.startswith("xsaveschema: error: ")
        assert "Try 'xsaveschema --help'." in done.stderr

    def test_an_interrupt_is_130_and_silent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*_: object, **__: object) -> bytes:
            raise KeyboardInterrupt

        monkeypatch.setattr("xsaveschema.cli.inputs.opened_path", interrupted)
        assert run("decode", "x", code=130).output.strip() == ""

    def test_a_programming_error_is_not_hidden(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object, **__: object) -> bytes:
            raise RuntimeError("a bug")

        monkeypatch.setattr("xsaveschema.cli.inputs.opened_path", broken)
        result = CliRunner().invoke(program, ["decode", "x"])
        assert isinstance(result.exception, RuntimeError)


def python(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True)


class TestImports:
    """What a command does not need, it does not pay for."""

    HEAVY = frozenset({"rich", "numpy", "jsonschema", "construct", "pyarrow", "dask"})
    NOTHING: ClassVar[frozenset[str]] = frozenset()
    TABLE = frozenset({"rich"})
    FAULTS = frozenset({"jsonschema"})  # to list those of a refused schema file

    # For every command: runs that do its work, each with the heavy modules that it may import.
    # A run is done as text, and with --json where the second set says what it may import then.
    SAMPLE = "sample:zen4-kernel-core"
    RUNS: ClassVar[dict[str, list[tuple[list[str], frozenset[str], frozenset[str] | None]]]] = {
        "models": [([], TABLE, NOTHING)],
        "layout": [
            (["zen4"], TABLE, NOTHING),
            (["zen4", "--compacted"], TABLE, NOTHING),
        ],
        "areas": [([SAMPLE], NOTHING, NOTHING), (["{core}"], NOTHING, NOTHING)],
        "decode": [
            ([SAMPLE, "--model", "zen4"], NOTHING, NOTHING),
            ([SAMPLE], NOTHING, NOTHING),
            (["{area}"], NOTHING, NOTHING),
            (["{core}"], NOTHING, NOTHING),
        ],
        "convert": [
            ([SAMPLE, "--model", "zen4", "--format", "compacted", "-o", "{out}"], NOTHING, None),
            ([SAMPLE, "--model", "zen4", "--cpu", "zen5", "-o", "{out}"], NOTHING, None),
        ],
        "check": [([SAMPLE], NOTHING, NOTHING)],
        "diff": [([SAMPLE, "{area}"], NOTHING, NOTHING)],
        "compare": [(["zen3", "zen4"], NOTHING, NOTHING)],
        "sigstack": [(["zen4"], NOTHING, NOTHING)],
        "baseline": [(["zen3", "zen4"], NOTHING, NOTHING)],
        "identify": [([SAMPLE], TABLE, NOTHING)],
        "lint": [
            (["{good}"], NOTHING, NOTHING),
            (["{bad}"], FAULTS, FAULTS),
        ],
        "normalise": [(["{core}", "-o", "{out}"], NOTHING, None)],
        "patch": [(["{core}", "k1=5", "-o", "{out}"], NOTHING, NOTHING)],
        "add-layout": [(["{core}", "-o", "{out}"], NOTHING, None)],
        "debugger": [(["gdb"], NOTHING, None), (["lldb"], NOTHING, None)],
        "export": [(["--list"], NOTHING, NOTHING)],
        "new": [(["mine", "{dump}", "--force"], NOTHING, None)],
    }

    @pytest.fixture
    def places(self, area: Path, tmp_path: Path) -> dict[str, Path]:
        """The files that the runs name."""
        core = tmp_path / "core"
        core.write_bytes(zen4_core(layout=False))
        good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
        text = "model: mine\ntitle: Mine\nextends: zen4\nconfirmed: false\nsource: a guess\n"
        good.write_text(text)
        bad.write_text(text.replace("title", "tilte"))
        dump = DATA / "cpuid" / "cpuid-r.txt"
        out = tmp_path / "out"
        return {"area": area, "core": core, "good": good, "bad": bad, "dump": dump, "out": out}

    @staticmethod
    def loaded(*args: str) -> set[str]:
        """The modules that a run of the command line in a process of its own has imported."""
        code = (
            "import sys\n"
            "from xsaveschema.cli import main\n"
            "try: main()\n"
            "finally: print('MODULES', *sys.modules, file=sys.stderr)\n"
        )
        done = python(code, *args)
        assert done.returncode in (0, 1), done.stderr
        *said, modules = done.stderr.splitlines()
        assert "error" not in " ".join(said)
        found = set(modules.split())
        assert "click" in found
        return found

    @pytest.mark.parametrize("command", COMMANDS)
    def test_a_command_imports_what_it_uses(self, command: str, places: dict[str, Path]) -> None:
        for args, as_text, as_json in self.RUNS[command]:
            run = [command, *(arg.format(**places) for arg in args)]
            assert self.loaded(*run) & self.HEAVY <= as_text, run
            found = program.get_command(Context(program), command)
            has_json = found and any("--json" in option.opts for option in found.params)
            assert has_json == (as_json is not None), command
            if as_json is not None:
                assert self.loaded(*run, "--json") & self.HEAVY <= as_json, run

    def test_the_runs_are_those_of_every_command(self) -> None:
        assert list(self.RUNS) == list(COMMANDS)

    @pytest.mark.parametrize("option", ["--help", "--version"])
    def test_help_imports_no_command(self, option: str) -> None:
        found = self.loaded(option)
        own = {name for name in found if name.startswith("xsaveschema.")}
        assert own == {f"xsaveschema.{name}" for name in ("cli", "cli.program", "errors", "words")}
        assert not found & (self.HEAVY | {"yaml", "msgspec"})

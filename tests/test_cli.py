"""The command line: shapes, values, exit codes, bad input, and what it imports."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from artefact_areas import zen4_core
from click import Context
from click.testing import CliRunner, Result

import xsaveschema as xs
from xsaveschema import samples
from xsaveschema.cli import files
from xsaveschema.cli.picture import picture, widths
from xsaveschema.cli.program import COMMANDS, program
from xsaveschema.cli.values import bit_names, float80, hexadecimal
from xsaveschema.model import BitRange

DATA = Path(__file__).parent / "data"

# The register image that was loaded before Linux wrote the two samples, not what was read back.
TRUE_REGISTERS = {
    "zmm0": "972a846916419f828b9d2434e465e150bd9c66b3ad3c2d6d1a3d1fa7bc8960a9"
    "23b8c1e9392456de3eb13b9046685257bdd640fb06671ad11c80317fa3b1799d",
    "zmm17": "9b49bd26df57c59a8715a10343dac0432a45c2ab8cbfedb0f264accc79ac1b1e"
    "a8e56e0c20de435d2031d750c40db9b4885f6e66c2b6d2c5fa5d310011b7e948",
    "zmm31": "19985f15ff002d4d902059e4ff9ab5c29f044aed7552332702627f7312922f83"
    "ef8c485bc07a30f2edd4253b50f0fd0a750cab754ccc9bc2a53f8a28abf3e3fc",
    "k1": "8181a8cc369147eb",
    "k7": "702cdd20286218b8",
    "mxcsr": "9fa1",
    "fcw": "37f",
    "fsw": "3d00",
    "st0": "cf7c9c96e9ec4d71c366",
    "st7": "1d8cbbac43b409ef2260",
}


def run(*args: str, data: bytes | None = None, code: int = 0, **env: str) -> Result:
    """Run the command line; no exception but SystemExit may leave it."""
    result = CliRunner().invoke(program, args, input=data, env=env)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    assert "Traceback" not in result.output
    assert result.exit_code == code, result.output
    return result


def fails(*args: str, code: int = 1, data: bytes | None = None) -> str:
    """Run it where it must fail: one message, nothing on standard output."""
    result = run(*args, data=data, code=code)
    assert result.stdout == ""
    assert result.stderr.startswith("xsaveschema: error: ")
    assert result.stderr.count("error:") == 1
    return result.stderr.removeprefix("xsaveschema: error: ")


def tell(*args: str, **more: Any) -> Any:
    return json.loads(run(*args, "--json", **more).stdout)


@pytest.fixture
def area(tmp_path: Path) -> Path:
    """The kernel's area of the samples, as a file."""
    path = tmp_path / "area.bin"
    path.write_bytes(samples.read("zen4-kernel-core"))
    return path


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("XSAVESCHEMA_PATH", raising=False)
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


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

        monkeypatch.setattr("xsaveschema.cli.decode.find", interrupted)
        assert run("decode", "x", code=130).output.strip() == ""

    def test_a_programming_error_is_not_hidden(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object, **__: object) -> bytes:
            raise RuntimeError("a bug")

        monkeypatch.setattr("xsaveschema.cli.decode.find", broken)
        result = CliRunner().invoke(program, ["decode", "x"])
        assert isinstance(result.exception, RuntimeError)


def python(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True)


class TestImports:
    """What a command does not need, it does not pay for."""

    HEAVY = frozenset({"rich", "numpy", "jsonschema", "construct", "pyarrow", "dask"})
    METADATA = frozenset({"importlib.metadata"})  # to ask for the readers of other packages
    NOTHING: ClassVar[frozenset[str]] = frozenset()
    TABLE = frozenset({"rich"})
    FAULTS = frozenset({"jsonschema"}) | METADATA  # to list those of a refused schema file

    # For every command: runs that do its work, each with the heavy modules that it may import.
    # A run is done as text, and with --json where the second set says what it may import then.
    SAMPLE = "sample:zen4-kernel-core"
    RUNS: ClassVar[dict[str, list[tuple[list[str], frozenset[str], frozenset[str] | None]]]] = {
        "models": [([], TABLE, NOTHING)],
        "layout": [
            (["zen4"], TABLE, NOTHING),
            (["zen4", "--compacted"], TABLE, NOTHING),
        ],
        "decode": [
            ([SAMPLE, "--model", "zen4"], NOTHING, NOTHING),
            ([SAMPLE], NOTHING, NOTHING),
            (["{area}"], NOTHING, NOTHING),
            (["{core}"], NOTHING, NOTHING),
        ],
        "convert": [
            ([SAMPLE, "--model", "zen4", "--to", "compacted", "-o", "{out}"], NOTHING, None)
        ],
        "relayout": [([SAMPLE, "--from", "zen4", "--to", "zen5", "-o", "{out}"], NOTHING, None)],
        "check": [([SAMPLE], NOTHING, NOTHING)],
        "diff": [([SAMPLE, "{area}"], NOTHING, NOTHING)],
        "compare": [(["zen3", "zen4"], NOTHING, NOTHING)],
        "identify": [([SAMPLE], TABLE, NOTHING)],
        "lint": [
            (["{good}"], NOTHING, NOTHING),
            (["{bad}"], FAULTS, FAULTS),
        ],
        "patch": [(["{core}", "k1=5", "-o", "{out}"], NOTHING, None)],
        "add-layout": [(["{core}", "-o", "{out}"], NOTHING, None)],
        "gdb-script": [([], NOTHING, None)],
        "new": [(["mine", "--cpuid", "{dump}", "--force"], NOTHING, None)],
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
            assert self.loaded(*run) & (self.HEAVY | self.METADATA) <= as_text, run
            found = program.get_command(Context(program), command)
            has_json = found and any("--json" in option.opts for option in found.params)
            assert has_json == (as_json is not None), command
            if as_json is not None:
                assert self.loaded(*run, "--json") & (self.HEAVY | self.METADATA) <= as_json, run

    def test_the_runs_are_those_of_every_command(self) -> None:
        assert list(self.RUNS) == list(COMMANDS)

    @pytest.mark.parametrize("option", ["--help", "--version"])
    def test_help_imports_no_command(self, option: str) -> None:
        found = self.loaded(option)
        own = {name for name in found if name.startswith("xsaveschema.")}
        assert own == {"xsaveschema.cli", "xsaveschema.cli.program"}
        assert not found & (self.HEAVY | self.METADATA | {"yaml", "msgspec", "shutil"})


class TestModels:
    def test_json(self) -> None:
        models = {facts["name"]: facts for facts in tell("models")}
        assert len(models) == len(xs.Catalog())
        zen4 = models["zen4"]
        assert list(zen4) == [
            "name",
            "title",
            "vendor",
            "signatures",
            "xcr0",
            "xss",
            "standard_size",
            "compacted_size",
            "instructions",
            "components",
            "confirmed",
            "confirmed_by",
            "source",
        ]
        assert zen4["vendor"] == "AuthenticAMD"
        assert (zen4["xcr0"], zen4["xss"]) == ("0x2e7", "0x1800")
        assert (zen4["standard_size"], zen4["compacted_size"]) == (2440, 2480)
        assert zen4["instructions"] == ["xgetbv1", "xsavec", "xsaveopt", "xsaves"]
        assert zen4["confirmed"] is True
        assert zen4["confirmed_by"]
        assert {"vendor": "AuthenticAMD", "family": 0x19, "models": [0x18], "steppings": None} in (
            zen4["signatures"]
        )
        assert zen4["components"][4] == {
            "number": 6,
            "name": "zmm_hi256",
            "size": 512,
            "offset": 896,
            "supervisor": False,
            "align64": False,
            "xfd": False,
            "optional": None,
        }
        assert models["cascade-lake"]["signatures"][0]["steppings"] == [5, 6, 7]
        tiledata = models["sapphire-rapids"]["components"][-1]
        assert (tiledata["name"], tiledata["align64"], tiledata["xfd"]) == ("tiledata", True, True)
        cet = next(c for c in zen4["components"] if c["name"] == "cet_u")
        assert (cet["offset"], cet["supervisor"]) == (None, True)
        # No XSAVEC, no XSAVES: nothing there ever writes the compacted format.
        assert models["haswell"]["compacted_size"] is None

    def test_text_for_programs_has_every_column_in_one_line(self) -> None:
        lines = run("models").stdout.splitlines()
        zen4 = next(line.split() for line in lines if line.startswith("zen4 "))
        assert zen4[:6] == ["zen4", "0x2E7", "0x1800", "2440", "2480", "yes"]
        assert any("06: 55/5-7" in line for line in lines)
        assert lines[-1] == f"{len(xs.Catalog())} models"

    def test_a_file_of_the_users_own(self, tmp_path: Path) -> None:
        (tmp_path / "my-zen.yaml").write_text(
            "model: my-zen\ntitle: Mine\nextends: zen\n"
            "signatures: [{family: 0x17, models: [0xEE]}]\nconfirmed: false\nsource: me\n"
        )
        for args in (
            ["--schemas", str(tmp_path), "models"],
            ["models", "--schemas", str(tmp_path)],
        ):
            assert "my-zen" in run(*args).stdout
        shown = tell("models", XSAVESCHEMA_PATH=str(tmp_path))
        mine = next(facts for facts in shown if facts["name"] == "my-zen")
        assert (mine["confirmed"], mine["source"]) == (False, "me")
        assert tell("layout", "my-zen", "--schemas", str(tmp_path))["size"] == 832
        fails("layout", "my-zen")

    def test_replacing_a_shipped_model_is_noted(self, tmp_path: Path) -> None:
        path = tmp_path / "zen.yaml"
        path.write_text(
            "model: zen\ntitle: Mine\nvendor: AuthenticAMD\ncomponents:\n"
            "  avx: {size: 256, offset: 576}\nsignatures: [{family: 0x17, models: [0xEE]}]\n"
            "confirmed: false\nsource: me\n"
        )
        result = run("layout", "zen", "--json", "--schemas", str(path))
        assert result.stderr.startswith("xsaveschema: note: zen")
        assert str(path) in result.stderr
        json.loads(result.stdout)

    def test_faults_of_schema_files(self, tmp_path: Path) -> None:
        path = tmp_path / "bad.yaml"
        path.write_text("model: bad\ntitle: 3\nnope: 1\n")
        said = fails("models", "--schemas", str(path))
        assert f"{path}:2:" in said
        assert f"{path}:3:" in said
        assert "no" in fails("models", "--schemas", str(tmp_path / "missing"))


class TestLayout:
    def test_sapphire_rapids_as_xsaves_writes_it(self) -> None:
        shown = tell("layout", "sapphire-rapids", "--xcomp-bv", "0x8000000000065ae7")
        assert {key: shown[key] for key in shown if key != "components"} == {
            "model": "sapphire-rapids",
            "format": "compacted",
            "mask": "0x65ae7",
            "size": 10816,
        }
        places = {facts["name"]: facts["offset"] for facts in shown["components"]}
        assert places == {
            "x87": 0,
            "sse": 160,
            "avx": 576,
            "opmask": 832,
            "zmm_hi256": 896,
            "hi16_zmm": 1408,
            "pkru": 2432,
            "cet_u": 2440,
            "cet_s": 2456,
            "uintr": 2480,
            "tilecfg": 2560,
            "tiledata": 2624,
        }
        assert shown["components"][-1] == {
            "number": 18,
            "name": "tiledata",
            "offset": 2624,
            "size": 8192,
            "supervisor": False,
            "align64": True,
        }
        assert shown["components"][7]["supervisor"] is True

    def test_standard_is_the_default_and_in_memory_order(self) -> None:
        shown = tell("layout", "diamond-rapids")
        assert shown["format"] == "standard"
        names = [facts["name"] for facts in shown["components"]]
        # APX has number 19 and stands where MPX once stood.
        assert names.index("apx") < names.index("opmask")
        assert tell("layout", "zen4", "--xcr0", "7")["size"] == 832

    @pytest.mark.parametrize(
        ("args", "format", "mask"),
        [
            (["--xss", "0x800"], "compacted", "0xae7"),
            (["--xss", "0"], "compacted", "0x2e7"),
            (["--xcr0", "0x7", "--xss", "0x1800"], "compacted", "0x1807"),
            (["--compacted"], "compacted", "0x1ae7"),
            (["--compacted", "--xcr0", "3"], "compacted", "0x1803"),
            (["--xcomp-bv", "0x20"], "compacted", "0x20"),
            (["--xcomp-bv", "9223372036854775808"], "compacted", "0x0"),
            (["--xcr0", "0xE7", "--xcomp-bv", "0xE4"], "compacted", "0xe4"),
        ],
    )
    def test_masks(self, args: list[str], format: str, mask: str) -> None:
        shown = tell("layout", "zen4", *args)
        assert (shown["format"], shown["mask"]) == (format, mask)

    @pytest.mark.parametrize(
        ("args", "said"),
        [
            (["zen9"], "did you mean"),
            (["zen4", "--xcr0", "0x5"], "avx without sse"),
            (["zen4", "--xcr0", "0x1807"], "supervisor components"),
            (["zen4", "--xss", "1"], "no supervisor component"),
            (["zen4", "--xcomp-bv", "0x100"], "component8"),
            (["zen4", "--xcr0", "3", "--xcomp-bv", "7"], "avx not in XCR0 0x3"),
            (["zen4", "--xcr0", "seven"], "'seven' is no mask"),
            (["zen4", "--xcr0", "017"], "'017' is no mask"),
            (["zen4", "--xcr0", "0x1_0"], "is no mask"),
            (["zen4", "--xcr0", "-1"], "is no mask"),
            (["zen4", "--xcr0", "0x10000000000000000"], "at most 64 bits"),
            (["zen4", "--xcr0", "99999999999999999999"], "at most 64 bits"),
            ([], "MODEL"),
        ],
    )
    def test_wrong_input_and_usage(self, args: list[str], said: str) -> None:
        # What the shell was told wrongly is usage; what the catalogue or a CPU refuses is input.
        usage = not args or "no mask" in said or "64 bits" in said
        assert said in fails("layout", *args, code=2 if usage else 1)

    @pytest.mark.parametrize("width", [80, 120])
    @pytest.mark.parametrize("name", ["zen4", "sapphire-rapids", "penryn", "bulldozer"])
    def test_text_fits_the_terminal(self, name: str, width: int) -> None:
        for args in ([name], [name, "--compacted"]):
            lines = run("layout", *args, COLUMNS=str(width)).stdout.splitlines()
            assert max(map(len, lines)) <= width
            # The picture takes the whole width, and its ruler ends in the size.
            assert len(lines[-2]) == width
            assert lines[-1].split()[-1] == str(tell("layout", *args)["size"])
            assert "\x1b" not in "".join(lines)

    def test_text_has_every_component_and_gap(self) -> None:
        shown = run("layout", "skylake-server").stdout
        rows = [line.split() for line in shown.splitlines()]
        assert ["C", "2", "avx", "576", "0x240", "256", "user"] in rows
        assert ["header", "512", "0x200", "64"] in rows
        assert ["unused", "832", "0x340", "128"] in rows

    def test_ascii_where_the_encoding_has_no_more(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "xsaveschema", "layout", "zen4"],
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
            check=True,
        )
        shown = done.stdout.decode("ascii")
        assert "C avx---" in shown
        assert "?" not in shown
        assert "\\u" not in shown


class TestPicture:
    @pytest.mark.parametrize(
        ("sizes", "cells", "expected"),
        [
            ([100, 100], 10, [5, 5]),
            ([1, 1000], 10, [1, 9]),
            ([8, 8, 8, 8192], 20, [1, 1, 1, 17]),
            ([64, 64, 64], 2, [1, 1, 1]),
            ([], 10, []),
        ],
    )
    def test_widths(self, sizes: list[int], cells: int, expected: list[int]) -> None:
        assert widths(sizes, cells) == expected

    @pytest.mark.parametrize("name", list(xs.Catalog()))
    def test_every_component_is_in_the_picture(self, name: str) -> None:
        layout = xs.load_model(name).compacted_layout()
        for width in (40, 79, 200):
            bar, ruler = picture(layout, width, ascii_only=True, colour=False).plain.split("\n")
            assert len(bar) == len(ruler) == width
            keys = [cell for cell in bar if cell in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
            assert keys == list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(layout)])
            assert "h" in bar


class TestDecode:
    @pytest.mark.parametrize("name", ["zen4-kernel-core", "zen4-sigframe"])
    @pytest.mark.parametrize("model", [[], ["--model", "zen4"]])
    def test_registers_are_those_that_were_loaded(self, name: str, model: list[str]) -> None:
        shown = tell("decode", f"sample:{name}", *model)
        registers = shown["areas"][0]["registers"]
        for register, digits in TRUE_REGISTERS.items():
            assert registers[register] == "0x" + digits
        assert registers["ymm17"] == "0x" + TRUE_REGISTERS["zmm17"][64:]
        assert registers["xmm0"] == "0x" + TRUE_REGISTERS["zmm0"][96:]

    def test_json_shape(self) -> None:
        shown = tell("decode", "sample:zen4-kernel-core", "--model", "zen4")
        assert list(shown) == ["source", "areas"]
        assert shown["source"] == "sample:zen4-kernel-core"
        (area,) = shown["areas"]
        assert list(area) == [
            "label",
            "model",
            "layout_source",
            "format",
            "xstate_bv",
            "xcomp_bv",
            "components",
            "registers",
        ]
        assert area["model"] == "zen4"
        assert area["layout_source"] == "model zen4 limited to XCR0 0xE7 at byte 464"
        assert area["format"] == "standard"
        assert (area["xstate_bv"], area["xcomp_bv"]) == ("0xe7", "0x0")
        assert list(area["components"]) == ["x87", "sse", "avx", "opmask", "zmm_hi256", "hi16_zmm"]
        opmask = area["components"]["opmask"]
        assert list(opmask) == ["number", "in_use", "offset", "size", "fields"]
        assert (opmask["number"], opmask["in_use"]) == (5, True)
        assert (opmask["offset"], opmask["size"]) == (832, 64)
        assert len(opmask["fields"]["k"]) == 8
        assert opmask["fields"]["k"][1] == "0x8181a8cc369147eb"
        assert area["components"]["x87"]["fields"]["fcw"] == "0x37f"

    def test_layout_source_says_where_the_mask_stands(self) -> None:
        def source(*args: str) -> Any:
            return tell("decode", *args)["areas"][0]["layout_source"]

        assert source("sample:zen4-kernel-core") == ("identified by XCR0 mask at byte 464 and size")
        # In a signal frame the magic word stands at 464 and the mask behind it.
        assert source("sample:zen4-sigframe", "--model", "zen4").endswith("0xE7 at byte 472")
        assert source("sample:zen4-xsave", "--model", "zen4") == "model zen4"
        assert source("sample:tiger-lake-xsaves", "--model", "tiger-lake") == "model tiger-lake"

    def test_the_limit_is_noted_with_the_text(self) -> None:
        result = run("decode", "sample:zen4-kernel-core", "--model", "zen4")
        assert result.stderr == ("xsaveschema: note: model zen4 limited to XCR0 0xE7 at byte 464\n")
        assert run("decode", "sample:zen4-kernel-core", "--model", "zen4", "--json").stderr == ""

    def test_supervisor_state_and_stale_bytes(self) -> None:
        (area,) = tell("decode", "sample:tiger-lake-xsaves", "--model", "tiger-lake")["areas"]
        assert (area["xstate_bv"], area["xcomp_bv"]) == ("0x1a47", "0x8000000000001ae7")
        parts = area["components"]
        assert parts["cet_u"]["fields"] == {
            "ia32_u_cet": "0x123456789003",
            "ia32_pl3_ssp": "0x7ffdeadbeef8",
        }
        assert (parts["cet_s"]["offset"], parts["cet_s"]["in_use"]) == (2456, True)
        # The buffer holds 0xA5 at both, but they are initial.
        assert samples.read("tiger-lake-xsaves")[832:840] == b"\xa5" * 8
        assert parts["opmask"]["in_use"] is False
        assert parts["opmask"]["fields"]["k"] == ["0x0"] * 8
        assert area["registers"]["k3"] == area["registers"]["zmm20"] == "0x0"

    def test_groups_and_bytes(self, tmp_path: Path) -> None:
        model = xs.load_model("sapphire-rapids")
        made = xs.XsaveArea.new(model, "compacted")
        made["lbr"]["entries[2].from"] = 0x1234
        made["tilecfg"]["palette"] = 1
        made["tilecfg"]["rows[1]"] = 2
        made["tilecfg"]["colsb[1]"] = 4
        made.registers["tmm1"] = b"\x01\x02\x03\x04\x05\x06\x07\x08"
        path = tmp_path / "spr.bin"
        path.write_bytes(bytes(made))
        (area,) = tell("decode", str(path), "--model", "sapphire-rapids")["areas"]
        entries = area["components"]["lbr"]["fields"]["entries"]
        assert entries[2] == {"from": "0x1234", "to": "0x0", "info": "0x0"}
        assert len(entries) == 32
        tmm = area["components"]["tiledata"]["fields"]["tmm"]
        assert tmm[1].startswith("01020304" + "00" * 60 + "05060708")
        assert area["registers"]["tmm1"] == "0102030405060708"
        text = run("decode", str(path), "--model", "sapphire-rapids").stdout
        assert "tmm1     2 rows of 4 bytes\n   0: 01020304\n   1: 05060708\n" in text
        assert "lbr.entries[2].from  0x0000000000001234\n" in text
        assert "95 more are zero" in text
        assert (
            "lbr.entries[7].to"
            in run("decode", str(path), "--model", "sapphire-rapids", "--all").stdout
        )

    @pytest.mark.parametrize(
        "args",
        [
            ["--registers", "zmm17,mxcsr", "--registers", "k1"],
            ["--registers", "zmm17", "--registers", "mxcsr", "--registers", "k1,k1"],
        ],
    )
    def test_just_these_registers(self, args: list[str]) -> None:
        shown = tell("decode", "sample:zen4-kernel-core", *args)
        registers = shown["areas"][0]["registers"]
        assert registers == {name: "0x" + TRUE_REGISTERS[name] for name in ("zmm17", "mxcsr", "k1")}
        text = run("decode", "sample:zen4-kernel-core", *args).stdout
        assert text == (
            "  zmm17    0x9b49bd26df57c59a_8715a10343dac043_2a45c2ab8cbfedb0_f264accc79ac1b1e\n"
            "             a8e56e0c20de435d_2031d750c40db9b4_885f6e66c2b6d2c5_fa5d310011b7e948\n"
            "  mxcsr    0x00009fa1  IE PE IM DM ZM OM UM PM FZ RC=nearest\n"
            "  k1       0x8181a8cc369147eb\n"
        )

    def test_a_family_of_registers(self) -> None:
        shown = tell("decode", "sample:zen4-kernel-core", "--registers", "k,st")
        names = [f"k{i}" for i in range(8)] + [f"st{i}" for i in range(8)]
        assert list(shown["areas"][0]["registers"]) == names

    def test_registers_that_are_not_there(self) -> None:
        said = fails("decode", "sample:zen4-kernel-core", "--registers", "pkru")
        assert said.startswith("sample:zen4-kernel-core: pkru has no place")
        for args in (["--json"], []):
            said = fails("decode", "sample:zen4-kernel-core", "--registers", "mxscr", *args)
            assert "did you mean" in said
            assert "mxcsr" in said

    def test_text(self) -> None:
        result = run("decode", "sample:tiger-lake-xsaves", "--model", "tiger-lake")
        lines = result.stdout.splitlines()
        assert lines[0] == "sample:tiger-lake-xsaves"
        assert max(map(len, lines)) <= 80
        rows = [line.split() for line in lines]
        in_use = ["x87", "sse", "avx", "zmm_hi256", "pkru", "cet_u", "cet_s"]
        assert ["XSTATE_BV", "0x1A47", *in_use] in rows
        assert ["5", "opmask", "initial", "832", "64"] in rows
        assert ["11", "cet_u", "in", "use", "2440", "16"] in rows
        assert ["pkru", "0x5554aaa8", "WD1-7", "AD9-15"] in rows
        assert any(row[:1] == ["zmm15"] for row in rows)
        # Initial registers, and the narrower names, are for --all.
        assert not any(row and row[0] in {"zmm16", "k0", "k0-7", "ymm3", "xmm3"} for row in rows)
        everything = run("decode", "sample:tiger-lake-xsaves", "--model", "tiger-lake", "--all")
        rows = [line.split() for line in everything.stdout.splitlines()]
        assert ["k0-7", "0"] in rows
        assert ["zmm16-31", "0"] in rows
        assert any(row[:1] == ["xmm3"] for row in rows)

    def test_colours_where_they_are_wanted(self) -> None:
        args = ["decode", "sample:tiger-lake-xsaves", "--model", "tiger-lake"]
        plain = run(*args).stdout
        coloured = run(*args, FORCE_COLOR="1", TERM="xterm").stdout
        assert "\x1b" not in plain
        assert "\x1b[36m" in coloured
        assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain
        layout = run("layout", "zen4", FORCE_COLOR="1", TERM="xterm").stdout
        assert "\x1b[30;44mA    \x1b[0m" in layout

    def test_identified_text_says_by_what(self) -> None:
        shown = run("decode", "sample:zen4-kernel-core").stdout
        assert "identified by XCR0 mask at byte 464 and size; 1 other model" in shown

    def test_standard_input(self) -> None:
        data = samples.read("zen4-kernel-core")
        shown = tell("decode", "-", data=data)
        assert shown["source"] == "-"
        assert shown["areas"] == tell("decode", "sample:zen4-kernel-core")["areas"]
        assert fails("decode", "-", data=data[:100]).startswith("standard input: the area has 100")

    def test_a_file(self, area: Path) -> None:
        shown = tell("decode", str(area))
        assert shown["source"] == str(area)
        assert shown["areas"] == tell("decode", "sample:zen4-kernel-core")["areas"]

    def test_lenient_shows_the_faults(self) -> None:
        name = ["decode", "sample:zen4-bad-header", "--model", "zen4"]
        assert "--lenient" in fails(*name)
        (area,) = tell(*name, "--lenient")["areas"]
        assert [fault["rule"] for fault in area["faults"]] == ["xcomp-bv-form"]
        assert area["faults"][0]["offset"] == 520
        assert set(area["faults"][0]) == {"rule", "offset", "message"}
        assert area["registers"]["zmm0"] != "0x0"
        assert "[xcomp-bv-form]" in run(*name, "--lenient").stdout
        assert (
            tell("decode", "sample:zen4-xsave", "--model", "zen4", "--lenient")["areas"][0][
                "faults"
            ]
            == []
        )

    def test_an_ambiguous_area_asks_for_the_model(self) -> None:
        said = fails("decode", "sample:tiger-lake-xsave")
        assert "different layouts" in said
        assert "--model" in said

    @pytest.mark.parametrize("name", samples.SAMPLES)
    def test_every_sample_decodes_as_its_description_says(self, name: str) -> None:
        text = samples.SAMPLES[name]
        args = text.partition("--")[1:]
        options = "".join(args).split()
        (area,) = tell("decode", f"sample:{name}", *options)["areas"]
        assert area["format"] in text or "--lenient" in options
        assert len(text) <= 80
        assert name == name.lower()

    def test_the_list_of_samples(self) -> None:
        shown = run("decode", "sample:").stdout
        said = fails("decode", "sample:nope", code=2)
        fails("convert", "sample:", "--to", "standard", "-o", "x", code=2)
        for name, text in samples.SAMPLES.items():
            assert f"sample:{name} " in shown
            assert text in shown
            assert text in said

    def test_only_samples_are_shipped(self) -> None:
        there = {path.stem for path in Path(samples.__file__).parent.glob("*.bin")}
        assert there == set(samples.SAMPLES)
        with pytest.raises(KeyError):
            samples.read("../samples/zen4-xsave")


class TestBadInput:
    @pytest.mark.parametrize("command", ["decode", "identify"])
    def test_files(self, command: str, tmp_path: Path) -> None:
        missing = tmp_path / "missing"
        assert fails(command, str(missing)) == f"{missing}: No such file or directory\n"
        assert "is a folder" in fails(command, str(tmp_path))
        assert "is no regular file" in fails(command, os.devnull)
        empty = tmp_path / "empty"
        empty.write_bytes(b"")
        assert fails(command, str(empty)) == f"{empty}: is empty\n"
        fails(command, "nul\0byte")

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
    def test_a_fifo_does_not_hang(self, tmp_path: Path) -> None:
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        assert "is no regular file" in fails("decode", str(fifo))

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read")
    def test_no_permission(self, area: Path) -> None:
        area.chmod(0)
        assert fails("decode", str(area)) == f"{area}: Permission denied\n"

    def test_too_long(self, tmp_path: Path) -> None:
        path = tmp_path / "long"
        with path.open("wb") as file:
            file.truncate(files.MAX_AREA + 1)
        assert "longer than 16 MiB" in fails("decode", str(path))
        with path.open("rb+") as file:
            file.truncate(files.MAX_AREA)
            file.write(samples.read("zen4-kernel-core"))
        run("decode", str(path), "--model", "zen4")

    @pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no /dev/zero")
    def test_endless_standard_input(self) -> None:
        with Path("/dev/zero").open("rb") as zeros:
            done = subprocess.run(
                [sys.executable, "-m", "xsaveschema", "decode", "-"],
                stdin=zeros,
                capture_output=True,
                text=True,
                timeout=60,
            )
        assert done.returncode == 1
        assert "standard input: is longer than 16 MiB" in done.stderr

    @pytest.mark.parametrize("length", [0, 1, 511, 575, 576, 577, 831, 2431])
    def test_truncated(self, length: int, tmp_path: Path) -> None:
        path = tmp_path / "cut"
        path.write_bytes(samples.read("zen4-kernel-core")[:length])
        for options in ([], ["--json"]):
            said = fails("decode", str(path), "--model", "zen4", *options)
            assert said.startswith(
                f"{path}: {f'the area has {length} bytes' if length else 'is empty'}"
            )
        fails("convert", str(path), "--model", "zen4", "--to", "standard", "-o", str(path))

    @pytest.mark.parametrize("seed", range(40))
    def test_headers_of_every_kind(self, seed: int, tmp_path: Path) -> None:
        import random

        rng = random.Random(seed)
        data = bytearray(samples.read("zen4-kernel-core"))
        for _ in range(rng.randrange(1, 6)):
            data[rng.choice([464, 465, 512, 513, 519, 520, 521, 527])] = rng.randrange(256)
        path = tmp_path / "area"
        path.write_bytes(data)
        for args in (
            ["decode", str(path), "--model", "zen4"],
            ["decode", str(path), "--model", "zen4", "--lenient", "--json"],
            ["decode", str(path), "--lenient"],
            ["decode", str(path)],
            ["identify", str(path)],
            ["convert", str(path), "--model", "zen4", "--to", "compacted", "-o", os.devnull],
            ["relayout", str(path), "--from", "zen4", "--to", "zen2", "-o", os.devnull],
        ):
            result = CliRunner().invoke(program, args)
            assert result.exit_code in (0, 1)
            assert result.exception is None or isinstance(result.exception, SystemExit)

    def test_control_characters_do_not_reach_the_terminal(self, tmp_path: Path) -> None:
        path = tmp_path / "a\x1b[31m\u202eb"
        assert "\x1b" not in fails("decode", str(path))
        path.write_bytes(samples.read("zen4-kernel-core"))
        shown = run("decode", str(path)).stdout
        assert "a\\x1b[31m\\u202eb" in shown
        assert tell("decode", str(path))["source"] == str(path)

    @pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux alone")
    def test_a_name_that_is_no_text(self, area: Path) -> None:
        name = bytes(area.parent) + b"/\xff.bin"
        area.rename(os.fsdecode(name))
        for options in ([], ["--json"]):
            done = subprocess.run(
                [sys.executable, "-m", "xsaveschema", "decode", name, *options], capture_output=True
            )
            assert done.returncode == 0
            assert done.stderr == b""


class TestConvert:
    def test_round_trip_and_the_library(self, area: Path, tmp_path: Path) -> None:
        data = area.read_bytes()
        model = xs.load_model("zen4").limited(xcr0=0xE7)
        out, back = tmp_path / "out.bin", tmp_path / "back.bin"
        result = run(
            "convert", str(area), "--to", "compacted", "--xcomp-bv", "0xE7", "-o", str(out)
        )
        assert result.stdout == ""
        assert result.stderr == (
            f"{out}: zen4, compacted format, 2432 bytes, "
            "XSTATE_BV 0xE7 (x87 sse avx opmask zmm_hi256 hi16_zmm)\n"
        )
        assert out.read_bytes() == xs.to_compacted(data, model, xcomp_bv=0xE7).data
        run(
            "convert", str(out), "--to", "standard", "--model", "zen4", "--xcr0", "231",
            "-o", str(back),
        )  # fmt: skip
        assert back.read_bytes() == data

    def test_a_named_model_is_limited_and_said_so(self, area: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.bin"
        result = run("convert", str(area), "--to", "standard", "--model", "zen4", "-o", str(out))
        assert "note: model zen4 limited to XCR0 0xE7 at byte 464\n" in result.stderr
        assert out.read_bytes() == area.read_bytes()

    def test_in_place(self, area: Path) -> None:
        expected = xs.to_compacted(area.read_bytes(), xs.load_model("zen4").limited(xcr0=0xE7))
        run("convert", str(area), "--to", "compacted", "-o", str(area))
        assert area.read_bytes() == expected.data
        assert list(area.parent.iterdir()) == [area]

    def test_standard_output(self, area: Path) -> None:
        result = run("convert", str(area), "--to", "standard", "-o", "-")
        assert result.stdout_bytes == area.read_bytes()
        assert result.stderr.startswith("standard output: zen4, standard format, 2432 bytes")

    @pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
    def test_bytes_are_not_written_to_a_terminal(self, area: Path) -> None:
        import pty

        leader, follower = pty.openpty()
        try:
            done = subprocess.run(
                [sys.executable, "-m", "xsaveschema", "convert", area, "--to", "standard", "-o-"],
                stdout=follower,
                stderr=subprocess.PIPE,
                text=True,
            )
        finally:
            os.close(follower)
            os.close(leader)
        assert done.returncode == 2
        assert "an area is binary" in done.stderr

    def test_source_and_model(self, tmp_path: Path) -> None:
        out = tmp_path / "out.bin"
        args = ["convert", "sample:tiger-lake-xsave", "--source", "tiger-lake", "--to", "standard"]
        run(*args, "--model", "zen4", "-o", str(out))
        data = samples.read("tiger-lake-xsave")
        expected = xs.to_standard(data, xs.load_model("zen4"), source=xs.load_model("tiger-lake"))
        assert out.read_bytes() == expected.data
        assert out.read_bytes()[2432:2436] == data[2688:2692]
        run(*args, "-o", str(out))
        assert out.read_bytes() == xs.to_standard(data, xs.load_model("tiger-lake")).data

    def test_loss(self, area: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.bin"
        args = ["convert", str(area), "--model", "zen4", "--to", "standard", "--xcr0", "7"]
        said = run(*args, "-o", str(out), code=1).stderr
        assert "live state would be lost: opmask, zmm_hi256, hi16_zmm" in said
        assert not out.exists()
        for drop in (["--drop", "opmask,zmm_hi256", "--drop", "7"], ["--drop", "5, 6,hi16_zmm,9"]):
            said = run(*args, *drop, "-o", str(out)).stderr
            assert said.endswith("(x87 sse avx); dropped: opmask zmm_hi256 hi16_zmm\n")
            assert out.stat().st_size == 832
        for name in ("nope", "63", "9" * 5000, "-1"):
            assert "there is no component" in run(
                *args, "--drop", name, "-o", str(out), code=1
            ).stderr.replace("\n", "")

    def test_identified_candidates_must_agree_on_the_target(self, tmp_path: Path) -> None:
        out = tmp_path / "out.bin"
        said = fails("convert", "sample:tiger-lake-xsaves", "--to", "standard", "-o", str(out))
        assert "standard formats differ: zen4, zen5; tiger-lake; " in said
        assert "--model" in said
        # The compacted format is the same on all of them.
        args = ["convert", "sample:tiger-lake-xsaves", "--to", "compacted", "-o", str(out)]
        run(*args, "--xcomp-bv", "0x1ae7")
        assert out.stat().st_size == 2480

    @pytest.mark.parametrize(
        ("args", "said"),
        [
            (["--to", "standard", "--xcomp-bv", "7"], "--xcomp-bv goes with --to compacted"),
            (["--to", "compacted", "--xcr0", "7"], "--xcr0 goes with --to standard"),
            (["--to", "standard", "--xcr0", "5"], "avx without sse"),
            (["--to", "standard", "--xcr0", "5", "--model", "zen4"], "avx without sse"),
            (["--to", "compacted", "--xcomp-bv", "256", "--model", "zen4"], "component8"),
            (["--to", "fxsave"], "--to"),
            (["--to", "standard", "--model", "nope"], "there is no model 'nope'"),
            (["--to", "standard", "--source", "nope"], "there is no model 'nope'"),
            ([], "--to"),
        ],
    )
    def test_wrong_usage(self, args: list[str], said: str, area: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.bin"
        code = 2 if "--" in said else 1
        result = run("convert", str(area), *args, "-o", str(out), code=code)
        assert said in result.stderr
        assert not out.exists()

    def test_output_is_required(self, area: Path) -> None:
        assert "--output" in fails("convert", str(area), "--to", "standard", code=2)


class TestOutput:
    @pytest.fixture
    def write(self, area: Path) -> Any:
        def call(output: Path | str, code: int = 0) -> Result:
            return run("convert", str(area), "--to", "compacted", "-o", str(output), code=code)

        return call

    def test_permissions_of_a_new_file(self, write: Any, tmp_path: Path) -> None:
        old = os.umask(0o027)
        try:
            write(tmp_path / "new")
        finally:
            os.umask(old)
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640

    def test_an_existing_file_keeps_its_permissions(self, write: Any, tmp_path: Path) -> None:
        out = tmp_path / "old"
        out.write_bytes(b"old")
        out.chmod(0o600)
        write(out)
        assert out.stat().st_size > 3
        assert stat.S_IMODE(out.stat().st_mode) == 0o600

    def test_a_link_stays(self, write: Any, tmp_path: Path) -> None:
        target, link = tmp_path / "target", tmp_path / "link"
        target.write_bytes(b"old")
        link.symlink_to(target)
        write(link)
        assert link.is_symlink()
        assert target.stat().st_size > 3

    @pytest.mark.parametrize("step", ["write", "fsync", "replace"])
    def test_a_failing_write_leaves_the_old_file(
        self, step: str, write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "old"
        out.write_bytes(b"old")

        def full(*args: Any, **more: Any) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(*{
            "write": (os, "write", full),
            "fsync": (os, "fsync", full),
            "replace": (Path, "replace", full),
        }[step])  # fmt: skip
        said = write(out, code=1).stderr
        assert said == f"xsaveschema: error: {out}: No space left on device\n"
        assert out.read_bytes() == b"old"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["area.bin", "old"]

    def test_an_interrupted_write_leaves_the_old_file(
        self, write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "old"
        out.write_bytes(b"old")

        def interrupted(*args: Any) -> int:
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "write", interrupted)
        write(out, code=130)
        assert out.read_bytes() == b"old"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["area.bin", "old"]

    def test_short_writes_are_gone_on_with(
        self, write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = os.write
        monkeypatch.setattr(os, "write", lambda file, part: whole(file, part[:1000]))
        write(tmp_path / "new")
        assert (tmp_path / "new").stat().st_size == 2472

    def test_bad_outputs(self, write: Any, tmp_path: Path) -> None:
        missing = tmp_path / "missing" / "out"
        assert f"{missing}: No such file or directory" in write(missing, code=1).stderr
        assert f"{tmp_path}: Is a directory" in write(tmp_path, code=1).stderr
        write("nul\0byte", code=1)

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
    def test_devices_are_written_to_as_they_are(self, write: Any) -> None:
        write("/dev/null")
        assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
        assert "/dev/full: No space left on device" in write("/dev/full", code=1).stderr

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
    @pytest.mark.parametrize(
        "args",
        [
            ["models"],
            ["models", "--json"],
            ["layout", "zen4"],
            ["decode", "sample:zen4-kernel-core"],
            ["convert", "sample:zen4-kernel-core", "--to", "standard", "-o", "-"],
            ["--help"],
        ],
    )
    def test_a_full_disk_is_one_message(self, args: list[str]) -> None:
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                [sys.executable, "-m", "xsaveschema", *args],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
            )
        assert done.returncode == 1
        assert done.stderr == "xsaveschema: error: No space left on device\n"

    @pytest.mark.skipif(sys.platform == "win32", reason="pipes break differently")
    @pytest.mark.parametrize("args", [["models", "--json"], ["models"], ["--help"]])
    def test_a_broken_pipe_is_silent(self, args: list[str]) -> None:
        read, write = os.pipe()
        os.close(read)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "xsaveschema", *args],
                stdout=write,
                stderr=subprocess.PIPE,
                text=True,
            )
        finally:
            os.close(write)
        assert done.returncode == 1
        assert done.stderr == ""

    @pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
    def test_closed_streams(self) -> None:
        command = f"{sys.executable} -m xsaveschema"
        for line, code in [
            (f"{command} layout zen4 >&-", 0),
            (f"{command} layout zen4 --json >&-", 0),
            (f"{command} convert sample:zen4-xsave --model zen4 --to standard -o - >&-", 2),
            (f"{command} decode - <&-", 2),
            (f"{command} decode nope 2>&-", 1),
        ]:
            done = subprocess.run(["sh", "-c", line], capture_output=True, text=True)
            assert done.returncode == code, line
            assert "Traceback" not in done.stderr


class TestRelayout:
    def test_the_library_does_the_same(self, tmp_path: Path) -> None:
        out = tmp_path / "out.bin"
        result = run(
            "relayout", "sample:tiger-lake-xsave", "--from", "tiger-lake", "--to", "zen4",
            "-o", str(out),
        )  # fmt: skip
        data = samples.read("tiger-lake-xsave")
        source, target = xs.load_model("tiger-lake"), xs.load_model("zen4")
        assert out.read_bytes() == xs.relayout(data, source=source, target=target).data
        assert out.read_bytes()[2432:2436] == data[2688:2692]
        assert "zen4, standard format, 2440 bytes, XSTATE_BV 0x2E7 " in result.stderr

    def test_the_format_stays(self, tmp_path: Path) -> None:
        out = tmp_path / "out.bin"
        run(
            "relayout", "sample:tiger-lake-xsaves", "--from", "tiger-lake",
            "--to", "sapphire-rapids", "-o", str(out),
        )  # fmt: skip
        (area,) = tell("decode", str(out), "--model", "sapphire-rapids")["areas"]
        assert (area["format"], area["xstate_bv"]) == ("compacted", "0x1a47")
        assert area["registers"]["ia32_pl3_ssp"] == "0x7ffdeadbeef8"

    def test_both_models_are_limited(self, area: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.bin"
        result = run(
            "relayout", str(area), "--from", "zen4", "--to", "skylake-server", "-o", str(out)
        )
        for name in ("zen4", "skylake-server"):
            assert f"note: model {name} limited to XCR0 0xE7 at byte 464" in result.stderr
        (shown,) = tell("decode", str(out), "--model", "skylake-server")["areas"]
        assert shown["registers"]["zmm17"] == "0x" + TRUE_REGISTERS["zmm17"]
        assert shown["components"]["hi16_zmm"]["offset"] == 1664

    def test_loss(self, tmp_path: Path) -> None:
        out = tmp_path / "out.bin"
        args = ["relayout", "sample:tiger-lake-xsave", "--from", "tiger-lake", "--to", "zen2"]
        said = fails(*args, "-o", str(out))
        assert said.startswith("sample:tiger-lake-xsave: live state would be lost: opmask, ")
        assert not out.exists()
        run(*args, "--drop", "opmask,zmm_hi256,hi16_zmm", "-o", str(out))
        # PKRU has a slot of 64 bytes at 832 there.
        assert out.read_bytes()[832:836] == samples.read("tiger-lake-xsave")[2688:2692]

    def test_wrong_usage(self, tmp_path: Path) -> None:
        out = str(tmp_path / "out.bin")
        base = ["relayout", "sample:tiger-lake-xsave"]
        fails(*base, "--from", "nope", "--to", "zen4", "-o", out)
        fails(*base, "--from", "zen4", "--to", "nope", "-o", out)
        fails(*base, "--from", "zen4", "-o", out, code=2)
        fails(*base, "--to", "zen4", "-o", out, code=2)


class TestIdentify:
    def test_area(self) -> None:
        shown = tell("identify", "sample:zen4-kernel-core")
        assert list(shown) == ["candidates", "components"]
        assert shown["candidates"][0] == {
            "model": "zen4",
            "by": "XCR0 mask at byte 464 and size",
        }
        assert shown["components"][3] == {
            "number": 5,
            "name": "opmask",
            "offset": 832,
            "size": 64,
            "supervisor": False,
            "align64": False,
        }
        text = run("identify", "sample:zen4-kernel-core").stdout
        assert text.startswith("sample:zen4-kernel-core: 2432 bytes, XSTATE_BV 0xE7")
        assert "AMD Zen 4" in text

    def test_only_what_all_candidates_agree_on_is_told(self) -> None:
        shown = tell("identify", "sample:tiger-lake-xsave")
        names = {facts["name"] for facts in shown["components"]}
        assert {"avx", "pkru"} <= names
        assert "bndregs" not in names
        assert "different layouts" in run("identify", "sample:tiger-lake-xsave").stdout

    def test_nothing_fits(self, tmp_path: Path) -> None:
        path = tmp_path / "odd.bin"
        path.write_bytes(bytes(512) + (1 << 40).to_bytes(8, "little") + bytes(2000))
        result = run("identify", str(path), "--json", code=1)
        assert json.loads(result.stdout) == {"candidates": [], "components": []}
        assert "no model of the catalogue" in result.stderr

    def test_cpuid(self) -> None:
        dump = str(DATA / "cpuid" / "aida64.txt")
        shown = tell("identify", "--cpuid", dump)
        assert shown["candidates"][0] == {"model": "skylake", "by": "signature and layout"}
        assert [facts["number"] for facts in shown["components"]] == [2, 3, 4, 8]
        assert shown["components"][3] == {
            "number": 8,
            "name": "pt",
            "offset": None,
            "size": 128,
            "supervisor": True,
            "align64": False,
        }
        (record,) = shown["records"]
        assert (record["signature"], record["xcr0"], record["xss"]) == ("0x506e3", "0x1f", "0x100")
        text = run("identify", "--cpuid", dump).stdout
        assert "family 06 model 5E stepping 3" in text
        assert "of the same layout" in text

    def test_a_hybrid_has_a_record_for_each_kind_of_core(self) -> None:
        dump = str(DATA / "cpuid" / "aida64-hybrid.txt")
        assert len(tell("identify", "--cpuid", dump)["records"]) == 2

    def test_bad_dumps(self, tmp_path: Path) -> None:
        fails("identify", "--cpuid", str(tmp_path / "missing"))
        bad = tmp_path / "bad"
        bad.write_bytes(b"\0\1\2")
        assert str(bad) in fails("identify", "--cpuid", str(bad))

    def test_host(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from xsaveschema import cpuid

        record = next(iter(cpuid.read(DATA / "cpuid" / "aida64.txt")))
        monkeypatch.setattr(cpuid, "host", lambda: record)
        assert tell("identify", "--host")["candidates"][0]["model"] == "skylake"

        def none() -> None:
            raise xs.XsaveError("no CPUID here")

        monkeypatch.setattr(cpuid, "host", none)
        assert fails("identify", "--host") == "no CPUID here\n"

    def test_wrong_usage(self) -> None:
        fails("identify", code=2)
        fails("identify", "--host", "x", code=2)
        fails("identify", "--host", "--cpuid", "x", code=2)


class TestLint:
    def test_faults(self, tmp_path: Path) -> None:
        path = tmp_path / "bad.yaml"
        path.write_text("model: bad\ntitle: 3\nnope: 1\n")
        result = run("lint", str(tmp_path), code=1)
        assert f"{path}:2:8: title: " in result.stdout
        assert f"{path}:3:1: nope: " in result.stdout
        assert result.stdout.splitlines()[-1].endswith(" in 1 file")
        faults = json.loads(run("lint", str(tmp_path), "--json", code=1).stdout)["faults"]
        assert list(faults[0]) == ["file", "line", "column", "rule", "path", "message", "hint"]
        assert {fault["path"] for fault in faults} >= {"title", "nope"}

    def test_none(self, tmp_path: Path) -> None:
        path = tmp_path / "fine.yaml"
        path.write_text(
            "model: fine\ntitle: Fine\nextends: zen\nconfirmed: false\nsource: me\n"
            "signatures: [{family: 0x17, models: [0xEE]}]\n"
        )
        assert run("lint", str(path)).stdout == "no faults\n"
        assert tell("lint", str(path)) == {"faults": []}

    def test_wrong_usage(self, tmp_path: Path) -> None:
        fails("lint", code=2)
        fails("lint", str(tmp_path / "missing"))


class TestValues:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (0, "0"),
            (1 << 79, "-0"),
            (0x3FFF_8000000000000000, "1"),
            (0xBFFF_C000000000000000, "-1.5"),
            (0x4000_C90FDAA22168C235, "3.1415926535897932385"),
            (0x3FFB_CCCCCCCCCCCCCCCD, "0.1"),
            (0x403E_FFFFFFFFFFFFFFFF, "18446744073709551615"),
            (0x7FFE_FFFFFFFFFFFFFFFF, "1.189731495357231765e+4932"),
            (0x0000_0000000000000001, "4e-4951"),
            (0x0000_8000000000000000, "3.3621031431120935063e-4932"),
            (0x7FFF_8000000000000000, "inf"),
            (0xFFFF_8000000000000000, "-inf"),
            (0x7FFF_C000000000000000, "nan"),
            (0x7FFF_A000000000000000, "snan"),
            (0x7FFF_0000000000000000, "unsupported"),
            (0x3FFF_0000000000000001, "unsupported"),
            (0x0001_0000000000000000, "unsupported"),
        ],
    )
    def test_float80(self, value: int, text: str) -> None:
        assert float80(value) == text

    def test_qwords_stand_in_columns(self) -> None:
        assert hexadecimal(0x37F, 2, 60) == ["0x037f"]
        assert hexadecimal(0, 64, 69) == ["0"]
        assert hexadecimal(5, 16, 69) == ["                 0x0000000000000005"]
        whole = (1 << 511) | 1
        high = "0x8000000000000000_0000000000000000_0000000000000000_0000000000000000"
        low = "  0000000000000000_0000000000000000_0000000000000000_0000000000000001"
        assert hexadecimal(whole, 64, 69) == [high, low]
        assert hexadecimal(1, 64, 69) == [" " * 51 + "0x0000000000000001"]
        assert len(hexadecimal(whole, 64, 137)) == 1
        assert len(hexadecimal(whole, 64, 10)) == 8

    def test_bits(self) -> None:
        flags = [BitRange(f"ad{i}", i, 1) for i in range(8)]
        assert bit_names(flags, 0b10001110) == "AD1-3 AD7"
        assert bit_names(flags, 0b00000011) == "AD0 AD1"
        assert bit_names(flags, 0) == ""
        ranges = [BitRange("top", 0, 3), BitRange("rc", 4, 2), BitRange("base", 8, 20)]
        assert bit_names(ranges, 0x3535) == "TOP=5 RC=zero BASE=0x35"

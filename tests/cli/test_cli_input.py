"""What the commands make of files: bad input, identification, schema files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from command import fails, run, tell
from places import DATA

import xsaveschema as xs
from xsaveschema import samples
from xsaveschema.artefacts import MAX_AREA
from xsaveschema.cli.program import program


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
            file.truncate(MAX_AREA + 1)
        assert "longer than 16 MiB" in fails("decode", str(path))
        with path.open("rb+") as file:
            file.truncate(MAX_AREA)
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
        assert (
            "standard input: is no file that a reader knows, and longer than 16 MiB" in done.stderr
        )

    @pytest.mark.parametrize("length", [0, 1, 511, 575, 576, 577, 831, 2431])
    def test_truncated(self, length: int, tmp_path: Path) -> None:
        path = tmp_path / "cut"
        path.write_bytes(samples.read("zen4-kernel-core")[:length])
        for options in ([], ["--json"]):
            said = fails("decode", str(path), "--model", "zen4", *options)
            assert said.startswith(
                f"{path}: {f'the area has {length} bytes' if length else 'is empty'}"
            )
        fails("convert", str(path), "--model", "zen4", "--format", "standard", "-o", str(path))

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
            ["convert", str(path), "--model", "zen4", "--format", "compacted", "-o", os.devnull],
            ["convert", str(path), "--model", "zen4", "--cpu", "zen2", "-o", os.devnull],
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
        shown = tell("identify", dump)
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
        text = run("identify", dump).stdout
        assert "family 06 model 5E stepping 3" in text
        assert "of the same layout" in text

    def test_a_hybrid_has_a_record_for_each_kind_of_core(self) -> None:
        dump = str(DATA / "cpuid" / "aida64-hybrid.txt")
        assert len(tell("identify", dump)["records"]) == 2

    def test_bad_dumps(self, tmp_path: Path) -> None:
        fails("identify", str(tmp_path / "missing"))
        bad = tmp_path / "bad"
        bad.write_bytes(b"\0\1\2")
        assert str(bad) in fails("identify", str(bad))

    def test_host(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from xsaveschema import cpuid

        record = next(iter(cpuid.read(DATA / "cpuid" / "aida64.txt")))
        monkeypatch.setattr(cpuid, "host", lambda: record)
        assert tell("identify", "host")["candidates"][0]["model"] == "skylake"

        def none() -> None:
            raise xs.XsaveError("no CPUID here")

        monkeypatch.setattr(cpuid, "host", none)
        assert fails("identify", "host") == "no CPUID here\n"

    def test_wrong_usage(self) -> None:
        fails("identify", code=2)
        fails("identify", "host", "x", code=2)
        assert "--host" in fails("identify", "--host", code=2)

    def test_a_model(self) -> None:
        shown = tell("identify", "zen4")
        assert shown["candidates"][0] == {"model": "zen4", "by": "signature and layout"}
        assert run("identify", "zen4").stderr == ""

    def test_a_file_that_is_called_as_a_cpu(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for name in ("host", "zen4"):
            (tmp_path / name).write_bytes((DATA / "cpuid" / "aida64.txt").read_bytes())
            shown = tell("identify", f"./{name}")
            assert shown["candidates"][0] == {"model": "skylake", "by": "signature and layout"}
        assert tell("identify", "zen4")["candidates"][0]["model"] == "zen4"


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


class TestCheckIdentified:
    def test_models_that_do_not_agree_are_asked_for(self, tmp_path: Path) -> None:
        """MXCSR.MM is legal on AMD's processors alone, and the area does not say whose it is."""
        area = bytearray(bytes(xs.XsaveArea.new(xs.load_model("zen4").limited(xcr0=0xE7))))
        area[24:32] = (0x21F80).to_bytes(4, "little") + bytes(4)
        area[512] = 2
        path = tmp_path / "area.bin"
        path.write_bytes(xs.to_compacted(area, xs.load_model("zen4"), xcomp_bv=0xE7).data)
        said = fails("check", str(path))
        assert "zen4, zen5, zen6: taken" in said
        assert re.search(r"skylake-server[^;]*: refused, mxcsr;", said)
        assert "XRSTOR on zen4 " in run("check", str(path), "--model", "zen4").stdout

    def test_what_the_readme_converts_is_taken(self, tmp_path: Path) -> None:
        path = tmp_path / "area.bin"
        args = ("convert", "sample:zen4-kernel-core", "--format", "compacted", "--xcomp-bv", "0xE7")
        run(*args, "-o", str(path))
        assert "takes this area" in run("check", str(path)).stdout

    def test_models_that_refuse_it_for_reasons_of_their_own_agree(self, tmp_path: Path) -> None:
        """Linux takes no compacted area, whoever wrote it."""
        zen2 = xs.load_model("zen2").limited(xcr0=7, xss=0)
        path = tmp_path / "area.bin"
        path.write_bytes(bytes(xs.XsaveArea.new(zen2, "compacted")))
        said = run("check", str(path), "--target", "ptrace", code=1).stdout
        assert "refuses this area" in said
        assert "linux-compacted" in said

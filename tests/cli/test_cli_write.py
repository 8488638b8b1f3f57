"""The commands that write: convert, and files whole or not at all."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from command import TRUE_REGISTERS, fails, run, tell

import xsaveschema as xs
from xsaveschema import samples


class TestConvert:
    def test_round_trip_and_the_library(self, area: Path, tmp_path: Path) -> None:
        data = area.read_bytes()
        model = xs.load_model("zen4").limited(xcr0=0xE7)
        out, back = tmp_path / "out.bin", tmp_path / "back.bin"
        result = run(
            "convert", str(area), "--format", "compacted", "--xcomp-bv", "0xE7", "-o", str(out)
        )
        assert result.stdout == ""
        assert result.stderr == (
            f"{out}: zen4, compacted format, 2432 bytes, "
            "XSTATE_BV 0xE7 (x87 sse avx opmask zmm_hi256 hi16_zmm)\n"
        )
        assert out.read_bytes() == xs.to_compacted(data, model, xcomp_bv=0xE7).data
        run(
            "convert", str(out), "--format", "standard", "--model", "zen4", "--xcr0", "231",
            "-o", str(back),
        )  # fmt: skip
        # A compacted area tells its layout itself; the system's mask at byte 464 is gone.
        assert back.read_bytes() == data[:464] + bytes(8) + data[472:]

    def test_a_named_model_is_limited_and_said_so(self, area: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.bin"
        result = run(
            "convert", str(area), "--format", "standard", "--model", "zen4", "-o", str(out)
        )
        assert "note: model zen4 limited to XCR0 0xE7 at byte 464\n" in result.stderr
        assert out.read_bytes() == area.read_bytes()

    def test_in_place(self, area: Path) -> None:
        expected = xs.to_compacted(area.read_bytes(), xs.load_model("zen4").limited(xcr0=0xE7))
        run("convert", str(area), "--format", "compacted", "-o", str(area))
        assert area.read_bytes() == expected.data
        assert list(area.parent.iterdir()) == [area]

    def test_standard_output(self, area: Path) -> None:
        result = run("convert", str(area), "--format", "standard", "-o", "-")
        assert result.stdout_bytes == area.read_bytes()
        assert result.stderr.startswith("standard output: zen4, standard format, 2432 bytes")

    @pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
    def test_bytes_are_not_written_to_a_terminal(self, area: Path) -> None:
        import pty

        leader, follower = pty.openpty()
        try:
            done = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "xsaveschema",
                    "convert",
                    area,
                    "--format",
                    "standard",
                    "-o-",
                ],
                stdout=follower,
                stderr=subprocess.PIPE,
                text=True,
            )
        finally:
            os.close(follower)
            os.close(leader)
        assert done.returncode == 2
        assert "an area is binary" in done.stderr

    def test_another_cpu(self, tmp_path: Path) -> None:
        out = tmp_path / "out.bin"
        args = [
            "convert",
            "sample:tiger-lake-xsave",
            "--model",
            "tiger-lake",
            "--format",
            "standard",
        ]
        run(*args, "--cpu", "zen4", "-o", str(out))
        data = samples.read("tiger-lake-xsave")
        expected = xs.relayout(
            data,
            source=xs.load_model("tiger-lake"),
            target=xs.load_model("zen4"),
            format="standard",
        )
        assert out.read_bytes() == expected.data
        assert out.read_bytes()[2432:2436] == data[2688:2692]
        run(*args, "-o", str(out))
        assert out.read_bytes() == xs.to_standard(data, xs.load_model("tiger-lake")).data

    @pytest.mark.parametrize(("cpu", "said"), [("haswell", True), ("zen4", False)])
    def test_a_cpu_without_the_compacted_format_is_told(
        self, cpu: str, said: bool, tmp_path: Path
    ) -> None:
        """What check refuses for that CPU, hypervisors may want all the same."""
        area, out = tmp_path / "area", str(tmp_path / "out")
        model = xs.load_model(cpu)
        area.write_bytes(bytes(xs.XsaveArea.new(model)))
        for format, mask in (("standard", "--xcr0"), ("compacted", "--xcomp-bv")):
            result = run("convert", str(area), "--model", cpu, mask, hex(model.xcr0), "-o", out)
            noted = f"note: {cpu} has no compacted format" in result.stderr
            refused = run("check", out, "--model", cpu, code=0 if not noted else 1).stdout
            assert noted == (said and format == "compacted") == ("no-xsavec" in refused)

    def test_loss(self, area: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.bin"
        args = ["convert", str(area), "--model", "zen4", "--format", "standard", "--xcr0", "7"]
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
        said = fails("convert", "sample:tiger-lake-xsaves", "--format", "standard", "-o", str(out))
        assert "standard formats differ: tiger-lake; nova-lake; " in said
        assert "--model" in said
        # The compacted format is the same on all of them.
        args = ["convert", "sample:tiger-lake-xsaves", "--format", "compacted", "-o", str(out)]
        run(*args, "--xcomp-bv", "0x1ae7")
        assert out.stat().st_size == 2480

    @pytest.mark.parametrize("cpu", ["tiger-lake", "sapphire-rapids"])
    def test_candidates_need_not_agree_where_cpu_names_the_target(
        self, tmp_path: Path, cpu: str
    ) -> None:
        out = tmp_path / "out.bin"
        run("convert", "sample:tiger-lake-xsaves", "--cpu", cpu, "-o", str(out))
        same = ["sample:tiger-lake-xsaves", str(out), "--model-b", cpu]
        assert run("diff", *same).stdout == ""

    @pytest.mark.parametrize(
        ("args", "said"),
        [
            (
                ["--format", "standard", "--xcomp-bv", "7"],
                "--xcomp-bv goes with --format compacted",
            ),
            (["--format", "compacted", "--xcr0", "7"], "--xcr0 goes with --format standard"),
            (["--xcr0", "7", "--xcomp-bv", "7"], "--xcomp-bv goes with --format compacted"),
            (["--format", "standard", "--xcr0", "0x80007", "--model", "zen4"], "component19"),
            (["--assume-model", "--format", "standard"], "--assume-model insists"),
            (["--format", "compacted", "--xcomp-bv", "256", "--model", "zen4"], "component8"),
            (["--format", "fxsave"], "--format"),
            (["--format", "standard", "--model", "nope"], "there is no model 'nope'"),
            (["--format", "standard", "--cpu", "nope"], "there is no model 'nope'"),
            (["--to", "standard"], "--to"),
            (["--source", "zen4"], "--source"),
        ],
    )
    def test_wrong_usage(self, args: list[str], said: str, area: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.bin"
        code = 2 if "--" in said else 1
        result = run("convert", str(area), *args, "-o", str(out), code=code)
        assert said in result.stderr
        assert not out.exists()

    def test_output_is_required(self, area: Path) -> None:
        assert "--output" in fails("convert", str(area), "--format", "standard", code=2)


class TestOutput:
    @pytest.fixture
    def write(self, area: Path) -> Any:
        def call(output: Path | str, code: int = 0) -> Result:
            return run("convert", str(area), "--format", "compacted", "-o", str(output), code=code)

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
            ["convert", "sample:zen4-kernel-core", "--format", "standard", "-o", "-"],
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


class TestAnotherCpu:
    def test_the_library_does_the_same(self, tmp_path: Path) -> None:
        out = tmp_path / "out.bin"
        result = run(
            "convert", "sample:tiger-lake-xsave", "--model", "tiger-lake", "--cpu", "zen4",
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
            "convert", "sample:tiger-lake-xsaves", "--model", "tiger-lake",
            "--cpu", "sapphire-rapids", "-o", str(out),
        )  # fmt: skip
        (area,) = tell("decode", str(out), "--model", "sapphire-rapids")["areas"]
        assert (area["format"], area["xstate_bv"]) == ("compacted", "0x1a47")
        assert area["registers"]["ia32_pl3_ssp"] == "0x7ffdeadbeef8"

    def test_what_the_writers_system_had_enabled_stays_enabled(
        self, area: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out.bin"
        result = run(
            "convert", str(area), "--model", "zen4", "--cpu", "skylake-server", "-o", str(out)
        )
        assert "note: model zen4 limited to XCR0 0xE7 at byte 464" in result.stderr
        assert "skylake-server, standard format, 2688 bytes" in result.stderr
        (shown,) = tell("decode", str(out), "--model", "skylake-server")["areas"]
        assert shown["registers"]["zmm17"] == "0x" + TRUE_REGISTERS["zmm17"]
        assert shown["components"]["hi16_zmm"]["offset"] == 1664

    def test_loss(self, tmp_path: Path) -> None:
        out = tmp_path / "out.bin"
        args = ["convert", "sample:tiger-lake-xsave", "--model", "tiger-lake", "--cpu", "zen2"]
        said = fails(*args, "-o", str(out))
        assert said.startswith("sample:tiger-lake-xsave: live state would be lost: opmask, ")
        assert not out.exists()
        run(*args, "--drop", "opmask,zmm_hi256,hi16_zmm", "-o", str(out))
        # PKRU has a slot of 64 bytes at 832 there.
        assert out.read_bytes()[832:836] == samples.read("tiger-lake-xsave")[2688:2692]

    def test_wrong_usage(self, tmp_path: Path) -> None:
        out = str(tmp_path / "out.bin")
        base = ["convert", "sample:tiger-lake-xsave"]
        fails(*base, "--model", "nope", "--cpu", "zen4", "-o", out)
        fails(*base, "--model", "tiger-lake", "--cpu", "nope", "-o", out)
        fails("relayout", "sample:tiger-lake-xsave", "--model", "zen4", "-o", out, code=2)

"""The command areas, and --area on every command that reads areas."""

from __future__ import annotations

import os
from pathlib import Path

import cores
import pytest
from artefact_areas import INTEL, ZEN4, intel_area
from command import fails, run, tell
from writers import minidump as writer
from writers.state import State

from xsaveschema import samples

CRIU = str(Path(__file__).parents[1] / "data" / "artefacts" / "criu-4.2-amx-core.img")


@pytest.fixture
def core(tmp_path: Path) -> str:
    """A core of three threads; k1 of the second is 5."""
    path = tmp_path / "core"
    second = bytearray(ZEN4)
    second[840:848] = (5).to_bytes(8, "little")
    path.write_bytes(cores.core(cores.threads([ZEN4, bytes(second), ZEN4], 16907)))
    return str(path)


def minidump() -> bytes:
    """Thread 7 with AVX-512, and an exception in it whose context has no extended state."""
    places = {number: at for number, _, at in INTEL if number < 8}
    area = State().standard(0xE7, places)
    misc = writer.misc_info([row for row in INTEL if row[0] < 8])
    exception = 7, writer.context(area, xstate=False)
    return writer.dump([(7, writer.context(area))], exception=exception, misc=misc)


def test_the_list(core: str) -> None:
    used = "x87 sse avx opmask zmm_hi256 hi16_zmm"
    assert run("areas", core).stdout == (
        f"{core}: 3 areas\n"
        "  model      zen4, or 2 others laid out alike\n"
        "  layout     identified by XCR0 mask at byte 464 and size\n"
        "  format     standard, 2432 bytes\n"
        "\n"
        "  #  area          in use\n"
        f"  0  thread 16907  {used}\n"
        f"  1  thread 16908  {used}\n"
        f"  2  thread 16909  {used}\n"
    )


def test_json(core: str) -> None:
    told = tell("areas", core)
    assert list(told) == ["areas"]
    assert [area["index"] for area in told["areas"]] == [0, 1, 2]
    assert told["areas"][1] == {
        "index": 1,
        "label": "thread 16908",
        "model": "zen4",
        "layout_source": "identified by XCR0 mask at byte 464 and size",
        "format": "standard",
        "size": 2432,
        "xstate_bv": "0xe7",
        "in_use": ["x87", "sse", "avx", "opmask", "zmm_hi256", "hi16_zmm"],
        "missing": [],
    }
    assert [area["label"] for area in tell("areas", core, "--area", "*8")["areas"]] == [
        "thread 16908"
    ]


def test_columns_for_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(cores.core(cores.threads([ZEN4, bytes(intel_area(2688, 0xE7))])))
    head, *rows = run("areas", str(path)).stdout.splitlines()[-3:]
    assert head.split() == ["#", "area", "model", "format", "in", "use"]
    assert "standard, 2432 bytes  x87 sse" in rows[0]
    assert "standard, 2688 bytes  x87 sse" in rows[1]


def test_what_is_not_in_the_file_and_headers_at_fault(tmp_path: Path) -> None:
    (area,) = tell("areas", CRIU)["areas"]
    assert area["missing"] == ["tilecfg", "tiledata"]
    assert "tiledata" in area["in_use"]
    assert "(not in this file: tilecfg tiledata)" in run("areas", CRIU).stdout
    path = tmp_path / "area"
    path.write_bytes(samples.read("zen4-bad-header"))
    assert "(at fault: xcomp-bv-form)" in run("areas", str(path), "--model", "zen4").stdout
    (area,) = tell("areas", str(path), "--model", "zen4")["areas"]
    assert area["faults"] == ["xcomp-bv-form"]
    short = ("areas", "sample:zen4-kernel-core", "--model", "skylake-server", "--assume-model")
    assert run(*short).stdout.endswith("hi16_zmm (at fault: truncated)\n")


@pytest.mark.parametrize("selector", ["#1", "thread 16908", "16908", "*8"])
def test_one_area_for_every_command(core: str, selector: str, tmp_path: Path) -> None:
    out, new = str(tmp_path / "out"), str(tmp_path / "new")
    area = ("--area", selector)
    run("check", core, *area)
    run("convert", core, *area, "--format", "standard", "-o", out)
    assert tell("decode", out)["areas"][0]["registers"]["k1"] == "0x5"
    assert run("diff", core, out, *area, "--area-b", "#0").stdout.count("\n") in (0, 2)
    told = "opmask (1)" if selector == "*8" else "k1: 0x5 -> "  # a glob has a row for each
    assert told in run("diff", core, core, *area, "--area-b", "#0", code=1).stdout
    assert "thread 16908 patched" in run("patch", core, "k1=6", *area, "-o", new).stderr


def test_errors_list_what_there_is_and_point_to_the_list(core: str) -> None:
    said = fails("check", core, "--area", "thread 7")
    assert said == (
        f"{core}: has no area 'thread 7'; it has thread 16907 (#0), thread 16908 (#1), "
        "thread 16909 (#2)\n"
    )
    assert "the command areas lists them" in fails("convert", core, "-o", "x")


class TestDecode:
    """Of several areas: the list and one thread, a table of registers, or all."""

    def test_nothing_named(self, core: str) -> None:
        text = run("decode", core).stdout
        assert text.startswith(run("areas", core).stdout + "\nthread 16907 (#0)\n  enabled    XCR0")
        assert text.count("\nregisters\n") == 1
        assert text.count("laid out alike") == text.count("standard, 2432") == 1
        assert text.endswith("\n\n--area shows the others\n")
        whole = run("decode", core, "--area", "#0").stdout
        assert text.partition("\nregisters\n")[2].startswith(whole.partition("\nregisters\n")[2])

    def test_a_minidump_is_about_its_exception(self, tmp_path: Path) -> None:
        path = tmp_path / "dump"
        path.write_bytes(minidump())
        text = run("decode", str(path)).stdout
        assert "  0  thread 7 " in text
        assert "\nexception in thread 7 (#1)\n" in text

    def test_what_is_read_before_a_fault_is_shown(self, tmp_path: Path) -> None:
        path = tmp_path / "core"
        bad = bytearray(ZEN4)
        bad[520] = 1
        path.write_bytes(cores.core(cores.threads([ZEN4, ZEN4, bytes(bad), ZEN4])))
        result = run("decode", str(path), code=1)
        assert result.stdout.startswith(f"{path}: 2 areas\n")
        assert "\nthread 100 (#0)\n" in result.stdout
        assert "thread 102: " in result.stderr
        assert "3 areas" not in run("decode", str(path), "--lenient").stdout

    def test_registers_of_several_are_a_table(self, core: str) -> None:
        assert run("decode", core, "--registers", "k1,mxcsr").stdout == (
            "  #  area          k1                  mxcsr\n"
            "  0  thread 16907  0x8181a8cc369147eb  0x00009fa1\n"
            "  1  thread 16908  0x0000000000000005  0x00009fa1\n"
            "  2  thread 16909  0x8181a8cc369147eb  0x00009fa1\n"
        )
        assert run("decode", core, "--registers", "k1", "--area", "16908").stdout == (
            "  k1       0x0000000000000005  bits 0 2\n"
        )

    @pytest.mark.parametrize(
        ("names", "columns"), [("st0", 80), ("xmm3", 80), ("k1,k2,k3", 80), ("zmm17,k1", 200)]
    )
    def test_a_table_is_as_wide_as_the_terminal(self, core: str, names: str, columns: int) -> None:
        head, *rows = run(
            "decode", core, "--registers", names, COLUMNS=str(columns)
        ).stdout.splitlines()
        assert head.split() == ["#", "area", *names.split(",")]
        assert len(rows) == 3
        assert max(map(len, rows)) <= columns

    @pytest.mark.parametrize("names", ["zmm17,k1", "k", "st0,k1"])
    def test_what_no_line_holds_stands_below_the_label(self, core: str, names: str) -> None:
        text = run("decode", core, "--registers", names, "--area", "*[78]").stdout
        parts = [run("decode", core, "--registers", names, "--area", f"#{i}").stdout for i in "01"]
        assert text == f"thread 16907 (#0)\n{parts[0]}\nthread 16908 (#1)\n{parts[1]}"
        assert max(map(len, text.splitlines())) <= 80

    def test_all_say_once_what_they_have_in_common(self, core: str) -> None:
        text = run("decode", core, "--area", "all").stdout
        assert text.startswith(f"{core}\n  model      zen4, or 2 others laid out alike\n  layout ")
        for once in ("model  ", "layout  ", "format  ", "enabled  ", "component  offset"):
            assert text.count(once) == 1, once
        assert text.count("\n  XSTATE_BV  0xE7  x87 ") == 3
        for index in range(3):
            registers = run("decode", core, "--area", f"#{index}").stdout.partition("\nregisters")[
                2
            ]
            assert registers in text

    def test_what_differs_is_said_where_it_does(self, tmp_path: Path) -> None:
        path = tmp_path / "core"
        other = bytes(intel_area(2688, 0xE7))
        path.write_bytes(cores.core(cores.threads([ZEN4, ZEN4, other])))
        text = run("decode", str(path), "--area", "all").stdout
        assert text.count("\n  format     standard, ") == 2
        assert text.index("2688 bytes") > text.index("thread 101 (#1)")

    def test_a_note_of_several_areas_is_said_once(self, tmp_path: Path) -> None:
        path = tmp_path / "core"
        path.write_bytes(cores.core(cores.threads([bytes(intel_area(2688, 0xE7, 0))] * 3)))
        said = run("decode", str(path), "--registers", "k1").stderr.splitlines()
        assert len(said) == 2
        assert said[0].startswith("xsaveschema: note: thread 100: a debugger")
        assert said[1].endswith("(so in 2 more areas)")

    def test_json(self, core: str) -> None:
        told = tell("decode", core, "--registers", "k1", "--area", "*[78]")
        assert [area["registers"] for area in told["areas"]] == [
            {"k1": "0x8181a8cc369147eb"},
            {"k1": "0x5"},
        ]
        assert [(area["index"], "components" in area) for area in told["areas"]] == [
            (0, False),
            (1, False),
        ]
        assert [area["index"] for area in tell("decode", core)["areas"]] == [0, 1, 2]

    def test_a_register_that_some_lack(self, tmp_path: Path) -> None:
        path = tmp_path / "dump"
        path.write_bytes(minidump())
        for names in ("k1", "k1,zmm0"):
            text = run("decode", str(path), "--registers", names).stdout
            assert ("  -\n" if names == "k1" else "no place in this area") in text
            first, second = tell("decode", str(path), "--registers", names)["areas"]
            assert list(first["registers"]) == names.split(",")
            assert second["registers"] == {}
        for args in ([], ["--area", "#1"], ["--json"]):
            result = run("decode", str(path), "--registers", "tmm0", *args, code=1)
            assert "tmm0" in result.stderr

    def test_a_register_that_nobody_knows_is_an_error_at_once(self, core: str) -> None:
        for args in ([], ["--json"], ["--area", "all"]):
            assert "did you mean" in fails("decode", core, "--registers", "zmm17,mxscr", *args)

    def test_the_work_is_bounded_by_the_areas(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """However large the core is: no more bytes are read than its notes have, a few times."""
        path = tmp_path / "core"
        notes = cores.threads([ZEN4] * 50)
        with path.open("wb") as file:
            file.write(cores.core(notes))
            file.truncate(1 << 32)
        count = 0
        pread = os.pread

        def counting(file: int, size: int, at: int) -> bytes:
            nonlocal count
            count += size
            return pread(file, size, at)

        monkeypatch.setattr(os, "pread", counting)
        for args in (["areas"], ["decode", "--area", "all", "--registers", "zmm"], ["decode"]):
            count = 0
            run(args[0], str(path), *args[1:])
            assert 0 < count < 4 * len(notes) + (1 << 18)


@pytest.fixture
def faulty(tmp_path: Path) -> str:
    """A core of three threads; the header of the second is at fault."""
    path = tmp_path / "faulty"
    bad = bytearray(ZEN4)
    bad[520] = 4
    path.write_bytes(cores.core(cores.threads([ZEN4, bytes(bad), ZEN4])))
    return str(path)


class TestCheck:
    """A row for each area."""

    def test_rows(self, faulty: str) -> None:
        result = run("check", faulty, code=1)
        assert result.stdout == (
            "XRSTOR on zen4, or 2 others laid out alike (XCR0 0xE7):\n"
            "\n"
            "  #  area        result\n"
            "  0  thread 100  taken\n"
            "  1  thread 101  refused: xcomp-bv-form\n"
            "  2  thread 102  taken\n"
            "\n"
            "--area with one of them says why, and what would mend it\n"
        )
        assert run("check", faulty, "--area", "all", code=1).stdout == result.stdout
        run("check", faulty, "--area", "*[02]")
        assert "byte 520" in run("check", faulty, "--area", "101", code=1).stdout

    def test_json(self, faulty: str) -> None:
        told = tell("check", faulty, code=1)["areas"]
        assert [(area["index"], area["label"], len(area["faults"])) for area in told] == [
            (0, "thread 100", 0),
            (1, "thread 101", 1),
            (2, "thread 102", 0),
        ]
        one = tell("check", faulty, "--area", "#1", code=1)
        assert told[1] == {"index": 1, "label": "thread 101"} | one

    def test_all_of_one_is_a_row(self) -> None:
        told = tell("check", "sample:zen4-bad-header", "--area", "all", code=1)["areas"]
        assert [(area["index"], area["label"]) for area in told] == [(0, "area")]

    def test_one_is_mended(self, faulty: str, tmp_path: Path) -> None:
        out = str(tmp_path / "out")
        assert "choose it with --area" in fails("check", faulty, "--fix", out, code=2)
        run("check", faulty, "--fix", out, "--area", "#1")
        run("check", out)

    def test_cpu(self, core: str) -> None:
        text = run("check", core, "--cpu", "haswell", code=1).stdout
        assert text.startswith("XRSTOR on haswell (XCR0 0x7):\n")
        assert text.count("  refused: ") == 3
        assert "--host" in fails("check", core, "--host", code=2)


class TestIdentify:
    def test_rows(self, core: str) -> None:
        assert run("identify", core).stdout.splitlines()[1] == (
            "  0  thread 16907  zen4, or 2 others  XCR0 mask at byte 464 and size"
        )
        assert len(run("identify", core, "--area", "*[78]").stdout.splitlines()) == 3

    def test_json(self, core: str) -> None:
        told = tell("identify", core)["areas"]
        assert [(area["index"], area["label"]) for area in told] == [
            (0, "thread 16907"),
            (1, "thread 16908"),
            (2, "thread 16909"),
        ]
        one = tell("identify", core, "--area", "16908")
        assert told[1] == {"index": 1, "label": "thread 16908"} | one

    def test_a_bare_area_that_several_layouts_fit(self) -> None:
        (area,) = tell("identify", "sample:tiger-lake-xsave", "--area", "all")["areas"]
        assert len(area["candidates"]) > 3
        text = run("identify", "sample:tiger-lake-xsave", "--area", "all").stdout
        assert " layouts  size" in text
        assert "no area 'x'" in fails("identify", "sample:zen4-xsave", "--area", "x")

    def test_nothing_fits(self, tmp_path: Path) -> None:
        path = tmp_path / "odd.bin"
        path.write_bytes(bytes(512) + (1 << 40).to_bytes(8, "little") + bytes(2000))
        result = run("identify", str(path), "--area", "all", code=1)
        assert "  none" in result.stdout
        assert "no model of the catalogue has an area like 1 of these" in result.stderr


class TestDiff:
    """Pairs of one label; one area against each of the others."""

    def test_pairs(self, core: str, tmp_path: Path) -> None:
        new = str(tmp_path / "new")
        run("patch", core, "k1=7", "mxcsr=0x1f80", "--area", "#0", "-o", new)
        assert run("diff", core, new, "--area", "all", code=1).stdout == (
            "  A                  B                  differs in\n"
            "  thread 16907 (#0)  thread 16907 (#0)  sse, opmask (2)\n"
            "  thread 16908 (#1)  thread 16908 (#1)  nothing\n"
            "  thread 16909 (#2)  thread 16909 (#2)  nothing\n"
        )
        run("diff", core, new, "--area", "*[89]")
        told = tell("diff", core, new, "--area", "all", code=1)["areas"]
        assert [len(area["deltas"]) for area in told] == [2, 0, 0]
        assert told[1] == {
            "a": {"index": 1, "label": "thread 16908"},
            "b": {"index": 1, "label": "thread 16908"},
            "deltas": [],
        }
        raw = tell("diff", core, new, "--area", "all", "--bytes", code=1)["areas"]
        assert [bool(area["bytes"]) for area in raw] == [True, False, False]
        assert "sse" in run("diff", core, new, "--area", "all", "--bytes", code=1).stdout

    def test_one_against_each(self, core: str) -> None:
        for args, column in (
            (["--area", "#0", "--area-b", "all"], 1),
            (["--area", "all", "--area-b", "#0"], 0),
        ):
            rows = run("diff", core, core, *args, code=1).stdout.splitlines()[1:]
            assert [row.split("  ")[column + 1] for row in rows] == [
                "thread 16907 (#0)",
                "thread 16908 (#1)",
                "thread 16909 (#2)",
            ]
            assert [row.split("  ")[3] for row in rows] == ["nothing", "opmask (1)", "nothing"]

    def test_what_only_one_has(self, core: str, faulty: str, tmp_path: Path) -> None:
        path = tmp_path / "more"
        path.write_bytes(cores.core(cores.threads([ZEN4, ZEN4], 16909)))
        rows = run("diff", core, str(path), "--area", "all", code=1).stdout.splitlines()[1:]
        assert [row.split("  ")[-1] for row in rows] == [
            "only in A",
            "only in A",
            "nothing",
            "only in B",
        ]
        said = run("diff", core, faulty, "--area", "all", code=1).stderr
        assert said.startswith(f"xsaveschema: error: {faulty}: thread 101: ")
        assert "choose one (area=" in fails("diff", core, core)


@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        # A digit too few for bytes in memory is no decimal number.
        (["k1=hex:123"], 1, "k1: hex takes 0x and digits, or whole bytes, not '123'"),
        (["k1=hex:00ff"], 1, "k1 takes exactly 8 bytes, not 2 bytes"),
        (["k1=5", "zmm1=1", "k1=6"], 2, "k1 is set twice"),
    ],
)
def test_settings_that_are_refused(
    settings: list[str], code: int, said: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    args = ["patch", "sample:zen4-kernel-core", *settings, "-o", str(out)]
    assert said in fails(*args, code=code)
    assert not out.exists()


def test_lanes_of_hex_are_patched_as_decode_shows_them(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    run("patch", "sample:zen4-kernel-core", "xmm3=hex:0x1,0x22", "k1=hex:0x1ff", "-o", out)
    (area,) = tell("decode", out, "--registers", "xmm3,k1")["areas"]
    assert int(area["registers"]["xmm3"], 16) == 0x22 << 64 | 1
    assert area["registers"]["k1"] == "0x1ff"

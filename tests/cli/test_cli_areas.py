"""The command areas, and --area on every command that reads areas."""

from __future__ import annotations

from pathlib import Path

import cores
import pytest
from artefact_areas import ZEN4, intel_area
from command import fails, run, tell

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


def test_the_list(core: str) -> None:
    used = "x87 sse avx opmask zmm_hi256 hi16_zmm"
    assert run("areas", core).stdout == (
        f"{core}: 3 areas\n"
        "  model      zen4, or 1 other laid out alike\n"
        "  layout     identified by XCR0 mask at byte 464 and size\n"
        "  format     standard\n"
        "  size       2432 bytes\n"
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
    assert head.split() == ["#", "area", "model", "size", "in", "use"]
    assert "2432 bytes  x87 sse" in rows[0]
    assert "2688 bytes  x87 sse" in rows[1]


def test_what_is_not_in_the_file_and_headers_at_fault(tmp_path: Path) -> None:
    (area,) = tell("areas", CRIU)["areas"]
    assert area["missing"] == ["tilecfg", "tiledata"]
    assert "tiledata" in area["in_use"]
    assert "(not in this file: tilecfg tiledata)" in run("areas", CRIU).stdout
    path = tmp_path / "area"
    path.write_bytes(samples.read("zen4-bad-header"))
    assert "(the header is at fault)" in run("areas", str(path), "--model", "zen4").stdout
    (area,) = tell("areas", str(path), "--model", "zen4")["areas"]
    assert area["faults"] == ["xcomp-bv-form"]


@pytest.mark.parametrize("selector", ["#1", "thread 16908", "16908", "*8"])
def test_one_area_for_every_command(core: str, selector: str, tmp_path: Path) -> None:
    out, new = str(tmp_path / "out"), str(tmp_path / "new")
    area = ("--area", selector)
    run("check", core, *area)
    run("convert", core, *area, "--format", "standard", "-o", out)
    assert tell("decode", out)["areas"][0]["registers"]["k1"] == "0x5"
    assert run("diff", core, out, *area, "--area-b", "all").stdout == ""
    assert "opmask.k[1]" in run("diff", core, core, *area, "--area-b", "#0", code=1).stdout
    assert "thread 16908 patched" in run("patch", core, "k1=6", *area, "-o", new).stderr


def test_errors_list_what_there_is_and_point_to_the_list(core: str) -> None:
    said = fails("check", core, "--area", "thread 7")
    assert said == (
        f"{core}: has no area 'thread 7'; it has thread 16907 (#0), thread 16908 (#1), "
        "thread 16909 (#2)\n"
    )
    assert "the command areas lists them" in fails("convert", core, "-o", "x")

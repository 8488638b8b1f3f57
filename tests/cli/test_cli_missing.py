"""The command line on a file that lacks state in use: a CRIU image of a process with tiles."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import fails, run, tell
from places import DATA
from writers.state import INTEL, State

CRIU = str(DATA / "artefacts" / "criu-4.2-amx-core.img")
LIVE = "live, not in this file"


@pytest.fixture
def whole(tmp_path: Path) -> str:
    """An area with tiles, as a bare file."""
    path = tmp_path / "whole.bin"
    path.write_bytes(State().standard(0x600E7, INTEL))
    return str(path)


def test_decode_shows_that_it_is_not_there() -> None:
    text = run("decode", CRIU).stdout
    assert f"\n  17  tilecfg    {LIVE}\n  18  tiledata   {LIVE}\n" in text
    assert "0x600E6  sse avx opmask zmm_hi256 hi16_zmm tilecfg tiledata" in text
    assert "tmm" not in text
    assert "tmm" not in run("decode", CRIU, "--all").stdout


def test_decode_tells_programs() -> None:
    (area,) = tell("decode", CRIU)["areas"]
    assert area["components"]["tiledata"] == {"number": 18, "missing": True}
    assert area["components"]["avx"]["in_use"] is True
    assert not [name for name in area["registers"] if name.startswith("tmm")]
    assert area["registers"]["zmm0"] != "0x0"
    assert area["xstate_bv"] == "0x600e6"


def test_a_register_that_is_not_there_is_no_zero() -> None:
    for names in ("tmm0", "zmm0,tmm"):
        said = fails("decode", CRIU, "--registers", names)
        assert "tmm0: tilecfg, tiledata are live, but not in this file" in said


def test_a_row_stands_where_its_number_would(tmp_path: Path) -> None:
    from writers import criu

    entry = criu.fields(State(), 0x2C7, live=0x102E7)
    path = tmp_path / "core.json"
    path.write_bytes(criu.as_json(entry))
    rows = [line.split()[:2] for line in run("decode", str(path)).stdout.splitlines()]
    numbers = [row[0] for row in rows if row and row[0].isdecimal()]
    assert numbers == ["0", "1", "2", "5", "6", "7", "9", "16"]
    assert [LIVE in line for line in run("decode", str(path)).stdout.splitlines()].count(True) == 2


def test_check_says_what_it_did_not_look_at() -> None:
    result = run("check", CRIU)
    assert "takes what is there of this area" in result.stdout
    assert f"not looked at: tilecfg, tiledata: {LIVE}" in result.stdout
    told = {"faults": [], "notes": [], "missing": ["tilecfg", "tiledata"]}
    assert tell("check", CRIU) == told


def test_check_judges_the_rest(tmp_path: Path) -> None:
    from writers import criu

    path = tmp_path / "core.json"
    path.write_bytes(criu.as_json(criu.fields(State(mxcsr=1 << 31), 0xE7, live=0x600E7)))
    told = tell("check", str(path), code=1)
    assert [fault["rule"] for fault in told["faults"]] == ["mxcsr"]
    assert told["missing"] == ["tilecfg", "tiledata"]
    assert "refuses this area" in run("check", str(path), code=1).stdout


def test_check_tells_of_a_whole_area_that_nothing_is_missing(whole: str) -> None:
    assert tell("check", whole, "--model", "sapphire-rapids")["missing"] == []
    assert "not looked at" not in run("check", whole, "--model", "sapphire-rapids").stdout


def test_nothing_is_written_of_what_is_not_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    model = ["--model", "sapphire-rapids"]
    for command in (["check", CRIU, "--fix"], ["convert", CRIU, *model, "-o"]):
        assert "tilecfg, tiledata" in fails(*command, str(out))
        assert not out.exists()


def test_convert_writes_what_is_there_if_told_to_drop_the_rest(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["convert", CRIU, "--drop", "tilecfg,tiledata", "-o", str(out)]
    # No offsets are in the image: whose layout is wanted?
    assert "holds registers but no offsets" in fails(*command)
    for choice in (["--model", "sapphire-rapids"], ["--cpu", "sapphire-rapids"]):
        said = run(*command, *choice).stderr
        assert "sapphire-rapids, standard format" in said
        assert "dropped: tilecfg tiledata" in said
        (area,) = tell("decode", str(out), "--model", "sapphire-rapids")["areas"]
        assert area["xstate_bv"] == "0xe6"


def test_diff_says_unknown(whole: str) -> None:
    model = "sapphire-rapids"
    text = run("diff", CRIU, whole, "--model", model, code=1).stdout
    assert f"tilecfg: {LIVE} | in use [unknown]" in text
    same = run("diff", CRIU, CRIU, code=1).stdout.splitlines()
    assert same == [f"{name}: {LIVE} | {LIVE} [unknown]" for name in ("tilecfg", "tiledata")]
    (first, _) = tell("diff", CRIU, CRIU, code=1)["deltas"]
    assert first == {
        "component": "tilecfg",
        "path": "tilecfg",
        "kind": "unknown",
        "a": None,
        "b": None,
        "bits": [],
    }
    assert run("diff", CRIU, CRIU, "--ignore", "tilecfg,tiledata").stdout == ""
    assert "tilecfg" in fails("diff", CRIU, whole, "--model", model, "--bytes")

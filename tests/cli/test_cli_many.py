"""``convert --batch`` as a person runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import fails, run
from test_stream import BAD, GOOD, MIXED, STRIDE, ZEN4, expected

from xsaveschema import to_compacted, to_standard
from xsaveschema.model import XCR0_OFFSET

pytest.importorskip("numpy", reason="the extra batch is not installed")

TO = ("--to", "compacted", "--xcomp-bv", "0xE7", "--model", "zen4", "--stride", str(STRIDE))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in"
    path.write_bytes(b"".join(MIXED))
    return path


def test_a_file(source: Path) -> None:
    source.write_bytes(b"".join(GOOD))
    out = source.with_name("out")
    result = run("convert", "--batch", str(source), *TO, "-o", str(out))
    assert result.stdout == ""
    assert result.stderr == f"{out}: 50 areas, zen4, compacted format, 2,432 bytes each\n"
    assert out.read_bytes() == expected(GOOD)


@pytest.mark.parametrize("on_error", ["skip", "copy"])
def test_bad_areas(source: Path, on_error: str) -> None:
    out, bad = source.with_name("out"), source.with_name("bad")
    result = run(
        "convert", "--batch", str(source), *TO, "-o", str(out), "--on-error", on_error,
        "--bad", str(bad), code=1,
    )  # fmt: skip
    assert out.read_bytes() == expected(MIXED, on_error)
    lines = [json.loads(line) for line in bad.read_text().splitlines()]
    assert tuple(line["index"] for line in lines) == BAD
    assert all("XCOMP_BV" in line["fault"] for line in lines)
    assert [f"note: area {index}: " in result.stderr for index in BAD] == [True] * 4
    assert "4 could not be converted: " in result.stderr


def test_many_bad_areas_do_not_flood_the_terminal(source: Path) -> None:
    source.write_bytes(MIXED[3] * 500)
    out = source.with_name("out")
    args = ("convert", "--batch", str(source), *TO, "-o", str(out), "--on-error", "skip")
    result = run(*args, code=1)
    assert len(result.stderr.splitlines()) == 22
    assert "480 more" in result.stderr
    assert "500 could not be converted: zeros in their places" in result.stderr


def test_a_bad_area_stops_and_the_same_command_goes_on(source: Path) -> None:
    out = source.with_name("out")
    args = ("convert", "--batch", str(source), *TO, "-o", str(out))
    said = fails(*args)
    assert said.startswith(f"{source}: area 3: illegal XSAVE header")
    assert f"{out}.part keeps the areas before it" in said
    assert not out.exists()
    result = run(*args, "--on-error", "skip", code=1)
    assert "50 areas" in result.stderr
    assert "3 of them by an earlier run" in result.stderr
    assert out.read_bytes() == expected(MIXED, "skip")
    assert sorted(path.name for path in out.parent.iterdir()) == ["in", "out"]


def test_standard_input_and_output(source: Path) -> None:
    data = b"".join(GOOD)
    result = run("convert", "--batch", "-", *TO, "-o", "-", data=data)
    assert result.stdout_bytes == expected(GOOD)
    assert result.stderr.startswith("standard output: 50 areas")
    assert "is cut off" in fails_with_output("-", data[:-1])
    assert "has 100 bytes" in fails("convert", "--batch", "-", *TO, "-o", "-", data=data[:100])
    assert "has 0 bytes" in fails("convert", "--batch", "-", *TO, "-o", "-", data=b"")


def fails_with_output(source: str, data: bytes) -> str:
    return run("convert", "--batch", source, *TO, "-o", "-", data=data, code=1).stderr


def test_a_device_is_written_to_as_it_is(source: Path) -> None:
    source.write_bytes(b"".join(GOOD))
    result = run("convert", "--batch", str(source), *TO, "-o", os.devnull)
    assert "50 areas" in result.stderr


def test_the_length_of_the_first_area_is_the_stride(tmp_path: Path) -> None:
    """And the XCR0 that software left in it limits the model, as for one area."""
    areas = []
    for index in range(5):
        data = bytearray(GOOD[index][:2432])
        data[XCR0_OFFSET : XCR0_OFFSET + 8] = (0xE7).to_bytes(8, "little")
        areas.append(bytes(data))
    (tmp_path / "in").write_bytes(b"".join(areas))
    out = tmp_path / "out"
    args = ("--to", "compacted", "--model", "zen4", "-o", str(out))
    result = run("convert", "--batch", str(tmp_path / "in"), *args)
    assert "note: model zen4 limited to XCR0 0xE7 at byte 464 of the first area" in result.stderr
    back = tmp_path / "back"
    result = run(
        "convert", "--batch", str(out), "--to", "standard", "--model", "zen4", "--xcr0", "0xE7",
        "-o", str(back),
    )  # fmt: skip
    want = [to_standard(to_compacted(area, ZEN4).data, ZEN4).data for area in areas]
    assert back.read_bytes() == b"".join(want)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--stride", "2440"), "need --batch"),
        (("--on-error", "skip"), "need --batch"),
        (("--batch",), "--batch needs --model"),
        (("--batch", "--model", "zen4", "--as-qemu"), "--as-qemu"),
        (("--batch", "--model", "zen4", "--area", "x"), "--area"),
        (("--batch", "--model", "zen4", "--stride", "0"), "--stride"),
        (("--batch", "--model", "zen4", "--threads", "0"), "--threads"),
    ],
)
def test_wrong_usage(source: Path, args: tuple[str, ...], said: str) -> None:
    out = source.with_name("out")
    assert said in fails("convert", str(source), "--to", "compacted", "-o", str(out), *args, code=2)
    assert not out.exists()


def test_without_numpy_the_remedy_is_told(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    for name in ("xsaveschema.stream", "xsaveschema.batch"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    said = fails("convert", "--batch", str(source), *TO, "-o", str(source.with_name("out")))
    assert "--batch needs numpy: pip install 'xsaveschema[batch]'" in said


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_a_terminal_sees_a_bar(source: Path) -> None:
    import pty

    source.write_bytes(b"".join(GOOD))
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "xsaveschema", "convert", "--batch", str(source), *TO]
    with subprocess.Popen([*command, "-o", str(source.with_name("out"))], stderr=follower) as child:
        assert child.wait(60) == 0
    os.close(follower)
    seen = os.read(leader, 65536).decode()
    os.close(leader)
    assert "50/50" in seen
    assert "50 areas, zen4" in seen

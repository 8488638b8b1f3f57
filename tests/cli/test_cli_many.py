"""``convert --batch`` as a person runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import fails, run
from test_stream import BAD, GOOD, MIXED, STRIDE, expected

from xsaveschema import XsaveArea, load_model, to_compacted, to_standard
from xsaveschema.model import HEADER_OFFSET, XCR0_OFFSET
from xsaveschema.samples import read as read_sample

pytest.importorskip("numpy", reason="the extra batch is not installed")

TO = ("--format", "compacted", "--xcomp-bv", "0xE7", "--model", "zen4", "--stride", str(STRIDE))


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


@pytest.mark.parametrize("to", [(), ("--format", "standard"), ("--format", "compacted")])
@pytest.mark.parametrize("cpu", [(), ("--cpu", "zen4"), ("--cpu", "zen5")])
@pytest.mark.parametrize("xcomp_bv", [None, 0xE7, 0x67])
def test_one_area_has_the_result_that_it_has_alone(
    to: tuple[str, ...], cpu: tuple[str, ...], xcomp_bv: int | None, tmp_path: Path
) -> None:
    """The mask at byte 464 limits both, and a compacted area that stays one keeps XCOMP_BV."""
    data = read_sample("zen4-kernel-core")
    if xcomp_bv is not None:
        lost = () if xcomp_bv == 0xE7 else ("hi16_zmm",)
        data = bytes(to_compacted(data, load_model("zen4"), xcomp_bv=xcomp_bv, drop=lost).data)
    path = tmp_path / "in"
    path.write_bytes(data)
    args = ("convert", str(path), "--model", "zen4", *to, *cpu, "-o")
    alone, batch = tmp_path / "alone", tmp_path / "batch"
    run(*args, str(alone))
    said = run(*args, str(batch), "--batch").stderr
    assert alone.read_bytes() == batch.read_bytes()
    assert f"{batch}: 1 area, " in said
    if xcomp_bv is None:
        # What its writer had enabled: no room for PKRU, in the same CPU's layout or in Zen 5's.
        assert "limited to XCR0 0xE7 by the first area" in said
        if "compacted" not in to:
            assert len(batch.read_bytes()) == 2432
    elif not to:
        assert int.from_bytes(batch.read_bytes()[520:528], "little") == xcomp_bv | 1 << 63


@pytest.mark.parametrize("errors", ["skip", "copy"])
def test_bad_areas(source: Path, errors: str) -> None:
    out, bad = source.with_name("out"), source.with_name("bad")
    result = run(
        "convert", "--batch", str(source), *TO, "-o", str(out), "--errors", errors,
        "--bad", str(bad), code=1,
    )  # fmt: skip
    assert out.read_bytes() == expected(MIXED, errors)
    lines = [json.loads(line) for line in bad.read_text().splitlines()]
    assert tuple(line["index"] for line in lines) == BAD
    assert all("XCOMP_BV" in line["fault"] for line in lines)
    assert [f"note: area {index}: " in result.stderr for index in BAD] == [True] * 4
    assert "4 could not be converted: " in result.stderr


def test_many_bad_areas_do_not_flood_the_terminal(source: Path) -> None:
    source.write_bytes(MIXED[3] * 500)
    out = source.with_name("out")
    args = ("convert", "--batch", str(source), *TO, "-o", str(out), "--errors", "skip")
    result = run(*args, code=1)
    assert len(result.stderr.splitlines()) == 22
    assert "480 more" in result.stderr
    assert "500 could not be converted: zeros in their places" in result.stderr


def test_a_bad_area_stops_and_the_same_command_goes_on(source: Path) -> None:
    out = source.with_name("out")
    args = ("convert", "--batch", str(source), *TO, "-o", str(out))
    said = fails(*args)
    assert said.startswith(f"{source}: area 3: illegal XSAVE header")
    assert f"{out}.part keeps what is done: the same command goes on from there" in said
    assert not out.exists()
    result = run(*args, "--errors", "skip", code=1)
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


@pytest.mark.parametrize("more", [[], ["--cpu", "zen4"], ["--format", "compacted"]])
def test_the_mask_in_kvms_areas_limits_no_guest(more: list[str], tmp_path: Path) -> None:
    """It is the host's: many areas of struct kvm_xsave become what each becomes by itself."""
    area = bytearray(bytes(XsaveArea.new(load_model("sapphire-rapids"), xcr0=0x2E7)).ljust(4096))
    area[XCR0_OFFSET:HEADER_OFFSET] = (0x600E7).to_bytes(48, "little")
    area[2696:] = bytes(4096 - 2696)
    one, many = tmp_path / "one", tmp_path / "many"
    one.write_bytes(area)
    many.write_bytes(area * 3)
    model = ["--model", "sapphire-rapids", *more]
    run("convert", str(one), *model, "-o", str(tmp_path / "single"))
    run("convert", str(many), "--batch", "--stride", "4096", *model, "-o", str(tmp_path / "batch"))
    assert (tmp_path / "batch").read_bytes() == 3 * (tmp_path / "single").read_bytes()


def test_the_length_of_the_first_area_is_the_stride(tmp_path: Path) -> None:
    """By the XCR0 that software left in it, and so is what the results have enabled."""
    areas = []
    for index in range(5):
        data = bytearray(GOOD[index][:2432])
        data[XCR0_OFFSET:HEADER_OFFSET] = (0xE7).to_bytes(48, "little")
        areas.append(bytes(data))
    (tmp_path / "in").write_bytes(b"".join(areas))
    out = tmp_path / "out"
    args = ("--format", "compacted", "--model", "zen4", "-o", str(out))
    result = run("convert", "--batch", str(tmp_path / "in"), *args)
    assert "5 areas, zen4, compacted format, 2,472 bytes each" in result.stderr
    back = tmp_path / "back"
    result = run(
        "convert", "--batch", str(out), "--format", "standard", "--model", "zen4", "--xcr0", "0xE7",
        "-o", str(back),
    )  # fmt: skip
    zen4 = load_model("zen4")
    packed = [to_compacted(area, zen4, xcomp_bv=0xE7 | zen4.xss).data for area in areas]
    assert out.read_bytes() == b"".join(packed)
    want = [to_standard(area, zen4, xcr0=0xE7).data for area in packed]
    assert back.read_bytes() == b"".join(want)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--stride", "2440"), "need --batch"),
        (("--errors", "skip"), "need --batch"),
        (("--batch",), "--batch needs --model"),
        (("--batch", "--model", "zen4", "--as-qemu"), "--as-qemu"),
        (("--batch", "--model", "zen4", "--area", "x"), "--area"),
        (("--batch", "--model", "zen4", "--stride", "0"), "--stride"),
        (("--batch", "--model", "zen4", "--stride", "575"), "--stride"),
        (("--batch", "--model", "zen4", "--bad", "-"), "--bad"),
        (("--batch", "--model", "zen4", "--threads", "0"), "--threads"),
    ],
)
def test_wrong_usage(source: Path, args: tuple[str, ...], said: str) -> None:
    out = source.with_name("out")
    assert said in fails(
        "convert", str(source), "--format", "compacted", "-o", str(out), *args, code=2
    )
    assert not out.exists()


def test_without_numpy_the_remedy_is_told(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    for name in ("cli.convert_batch", "many.stream", "many.batch"):
        monkeypatch.delitem(sys.modules, f"xsaveschema.{name}", raising=False)
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
    seen = " ".join(os.read(leader, 65536).decode().split())  # wherever a line was broken
    os.close(leader)
    assert "50/50" in seen
    assert "50 areas, zen4" in seen


@pytest.mark.parametrize("name", ["in", "out", "out.part", "out.part.journal", "link", "twin"])
def test_the_report_is_written_over_nothing_of_the_run(source: Path, name: str) -> None:
    out = source.with_name("out")
    out.write_bytes(b"before")
    source.with_name("link").symlink_to(source)
    source.with_name("twin").hardlink_to(out)
    before = {path: path.read_bytes() for path in source.parent.iterdir()}
    bad = str(source.with_name(name))
    args = ("convert", "--batch", str(source), *TO, "-o", str(out), "--errors", "skip")
    assert "--bad names a file" in fails(*args, "--bad", bad, code=2)
    assert {path: path.read_bytes() for path in source.parent.iterdir()} == before


def test_the_area_that_stops_the_work_is_in_the_report(source: Path) -> None:
    bad = source.with_name("bad")
    out = source.with_name("out")
    fails("convert", "--batch", str(source), *TO, "-o", str(out), "--bad", str(bad))
    (line,) = map(json.loads, bad.read_text().splitlines())
    assert line["index"] == 3
    assert line["fault"].startswith("illegal XSAVE header")


def test_a_first_area_that_is_bad_leaves_nothing(source: Path) -> None:
    source.write_bytes(MIXED[3] + GOOD[0])
    out = source.with_name("out")
    args = ("--format", "compacted", "--model", "zen4", "-o", str(out))
    source.write_bytes((MIXED[3] + GOOD[0])[: 2 * 2440])
    said = fails("convert", "--batch", str(source), *args)
    assert "area 0: illegal" in said
    assert "--stride BYTES" in said
    assert "keeps" not in said
    assert [path.name for path in out.parent.iterdir()] == ["in"]


def test_from_a_pipe_a_file_is_written_whole_or_not_at_all(source: Path) -> None:
    out = source.with_name("out")
    out.write_bytes(b"before")
    out.chmod(0o640)
    data = b"".join(GOOD)
    said = fails("convert", "--batch", "-", *TO, "-o", str(out), data=data[:-1])
    assert "is cut off" in said
    assert out.read_bytes() == b"before"
    run("convert", "--batch", "-", *TO, "-o", str(out), data=data)
    assert out.read_bytes() == expected(GOOD)
    assert out.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in out.parent.iterdir()) == ["in", "out"]


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_a_sample_on_a_terminal(source: Path) -> None:
    import pty

    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "xsaveschema", "convert", "--batch", "sample:zen4-kernel-core"]
    command += ["--format", "compacted", "--model", "zen4", "-o", str(source.with_name("out"))]
    with subprocess.Popen(command, stderr=follower) as child:
        assert child.wait(60) == 0
    os.close(follower)
    assert "1 area, zen4" in " ".join(os.read(leader, 65536).decode().split())
    os.close(leader)


def test_only_what_can_go_on_is_offered(source: Path) -> None:
    """Copied areas are wider than these results: what is done has no room for them."""
    out = source.with_name("out")
    args = ("convert", "--batch", str(source), *TO, "-o", str(out))
    assert "with --errors skip past it" in fails(*args)
    with source.open("rb") as file:
        said = fails("convert", "--batch", "-", *TO, "-o", str(out), data=file.read())
    assert "keeps" not in said, "a pipe begins anew"


def test_a_run_that_is_refused_leaves_the_report_of_another(source: Path) -> None:
    bad = source.with_name("bad")
    args = ("convert", "--batch", str(source), *TO, "-o", str(source.with_name("out")))
    fails(*args, "--bad", str(bad))
    before = bad.read_bytes()
    os.utime(source, ns=(1, 1))
    assert "is not what this command left" in fails(*args, "--bad", str(bad))
    assert bad.read_bytes() == before != b""


def test_the_report_is_not_standard_input(source: Path) -> None:
    before = source.read_bytes()
    command = [sys.executable, "-m", "xsaveschema", "convert", "--batch", "-", *TO]
    command += ["-o", str(source.with_name("out")), "--bad", str(source)]
    with source.open("rb") as file:
        done = subprocess.run(command, stdin=file, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--bad names a file of its own" in done.stderr
    assert source.read_bytes() == before


def test_bad_areas_are_not_skipped_onto_the_only_copy(source: Path) -> None:
    before = source.read_bytes()
    args = ("convert", "--batch", str(source), *TO, "-o", str(source))
    assert "would lose the bad areas" in fails(*args, "--errors", "skip", code=2)
    assert source.read_bytes() == before
    source.write_bytes(b"".join(GOOD))
    run(*args)
    assert source.read_bytes() == expected(GOOD)

"""Files of many areas: every area in its place, whatever happens on the way."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from places import TESTS

from xsaveschema import XsaveError, load_model, relayout, to_compacted
from xsaveschema.catalog import Catalog
from xsaveschema.errors import TooShortError
from xsaveschema.model import CpuModel

np = pytest.importorskip("numpy", reason="the extra batch is not installed")
stream = pytest.importorskip("xsaveschema.many.stream")
batch = pytest.importorskip("xsaveschema.many.batch")

ZEN4: CpuModel = load_model("zen4").limited(xcr0=0xE7, xss=0)
STRIDE = 2440  # more than the 2,432 bytes of an area
AREAS = 50
BAD = (3, 17, 18, 49)


def area(index: int, bad: bool = False) -> bytes:
    """An area of its own for every index."""
    rng = random.Random(index)
    data = bytearray(rng.randbytes(STRIDE))
    data[24:28] = (0x1F80).to_bytes(4, "little")
    data[512:576] = (rng.getrandbits(8) & 0xE7).to_bytes(8, "little") + bytes(56)
    if bad:
        data[520] = 1  # XCOMP_BV without bit 63
    return bytes(data)


GOOD = [area(index) for index in range(AREAS)]
MIXED = [area(index, index in BAD) for index in range(AREAS)]


def task(errors: str = "raise", **options: Any) -> Any:
    options = {"source": ZEN4, "model": ZEN4, "format": "compacted", "stride": STRIDE} | options
    return stream.Task(errors=errors, **options)


def expected(areas: list[bytes], errors: str = "raise") -> bytes:
    """The same by conversions of one area."""
    parts = []
    for data in areas:
        try:
            result = bytes(to_compacted(data, ZEN4).data)
        except XsaveError:
            result = data if errors == "copy" else bytes(2432)
        parts.append(result.ljust(STRIDE if errors == "copy" else 2432, b"\0"))
    return b"".join(parts)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven areas a piece, three pieces a checkpoint."""
    monkeypatch.setattr(stream, "_PIECE", 7 * STRIDE)
    monkeypatch.setattr(stream, "_CHECKPOINT", 3 * 7 * 2432)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    source = tmp_path / "in"
    source.write_bytes(b"".join(GOOD))
    return source, tmp_path / "out"


def convert(task: Any, source: Path, output: Path) -> list[Any]:
    with source.open("rb") as file:
        return list(stream.convert_file(task, file, output))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_every_area_is_converted_as_alone(files: tuple[Path, Path]) -> None:
    source, output = files
    pieces = convert(task(), source, output)
    assert output.read_bytes() == expected(GOOD)
    assert [(p.first, p.count) for p in pieces] == [(n, min(7, AREAS - n)) for n in range(0, 50, 7)]
    assert names(output.parent) == {"in", "out"}


@pytest.mark.parametrize("errors", ["skip", "copy"])
def test_a_bad_area_keeps_its_place(files: tuple[Path, Path], errors: str) -> None:
    source, output = files
    source.write_bytes(b"".join(MIXED))
    pieces = convert(task(errors), source, output)
    assert output.read_bytes() == expected(MIXED, errors)
    faults = {index: text for piece in pieces for index, text in piece.bad.items()}
    assert tuple(faults) == BAD
    assert all("XCOMP_BV" in text for text in faults.values())


def test_a_bad_area_stops_the_work_at_that_very_area(files: tuple[Path, Path]) -> None:
    source, output = files
    output.write_bytes(b"what was there")
    source.write_bytes(b"".join(MIXED))
    with pytest.raises(batch.BatchError, match="area 3: illegal XSAVE header") as caught:
        convert(task(), source, output)
    assert caught.value.index == 3
    assert output.read_bytes() == b"what was there"
    assert (output.parent / "out.part").read_bytes() == expected(MIXED[:3])
    # The very same again, and it stops there again, with nothing done twice.
    pieces = []
    with source.open("rb") as file, pytest.raises(batch.BatchError, match="area 3"):
        pieces += stream.convert_file(task(), file, output)
    assert [piece.resumed for piece in pieces] == [True]
    # Told to skip bad areas, the work goes on from there.
    convert(task("skip"), source, output)
    assert output.read_bytes() == expected(MIXED, "skip")


@pytest.mark.parametrize("taken", range(1, 9))
def test_an_interrupted_run_is_gone_on_with(
    files: tuple[Path, Path], taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = files
    source.write_bytes(b"".join(MIXED))
    with source.open("rb") as file:
        run = stream.convert_file(task("skip"), file, output)
        for _ in range(taken):
            next(run)
        run.close()
    assert not output.exists()
    converted: list[int] = []
    inner = stream.Task.convert

    def counted(self: Any, areas: Any, out: Any) -> Any:
        converted.append(len(areas))
        return inner(self, areas, out)

    monkeypatch.setattr(stream.Task, "convert", counted)
    pieces = convert(task("skip"), source, output)
    assert output.read_bytes() == expected(MIXED, "skip")
    assert sum(converted) == AREAS - min(7 * taken, AREAS)
    assert [p.first for p in pieces] == list(range(0, 50, 7))
    assert [p.resumed for p in pieces] == [n < taken for n in range(8)]
    assert tuple(index for piece in pieces for index in piece.bad) == BAD
    assert names(output.parent) == {"in", "out"}


def test_a_run_that_was_killed_is_gone_on_with(files: tuple[Path, Path]) -> None:
    """No cleaning up at all: what no checkpoint covers is done again."""
    source, output = files
    script = f"""
import os, sys
sys.path[:0] = {[os.fspath(TESTS), os.fspath(TESTS / "many")]!r}
import test_stream as t
t.stream._PIECE, t.stream._CHECKPOINT = 7 * t.STRIDE, 3 * 7 * 2432
for number, piece in enumerate(t.stream.convert_file(t.task(), open(sys.argv[1], "rb"),
                                                     t.Path(sys.argv[2]))):
    if number == 4:
        os._exit(9)
"""
    ended = subprocess.run([sys.executable, "-c", script, source, output], check=False)
    assert ended.returncode == 9
    assert (output.parent / "out.part").stat().st_size == 5 * 7 * 2432
    pieces = convert(task(), source, output)
    # The checkpoint may have been under way.
    resumed = sum(p.resumed for p in pieces)
    assert resumed in (0, 3)
    assert [p.resumed for p in pieces] == [True] * resumed + [False] * (8 - resumed)
    assert output.read_bytes() == expected(GOOD)


def test_what_the_disk_refused_is_done_again(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk tells of an error once: what is written later does not make the earlier safe."""
    source, output = files
    whole, calls = os.fsync, []

    def fails_once(file: int) -> None:
        calls.append(file)
        if len(calls) == 2:
            raise OSError(errno.EIO, "Input/output error")
        whole(file)

    monkeypatch.setattr(os, "fsync", fails_once)
    with pytest.raises(OSError, match="Input/output error"):
        convert(task(), source, output)
    assert not output.exists()
    pieces = convert(task(), source, output)
    assert [p.resumed for p in pieces] == [True] * 3 + [False] * 5
    assert output.read_bytes() == expected(GOOD)


@pytest.mark.parametrize(
    "harm",
    [
        lambda part, journal: journal.write_bytes(journal.read_bytes()[:-20]),
        lambda part, journal: os.truncate(part, 5 * 2432 + 9),
        lambda part, journal: part.unlink(),
        lambda part, journal: part.write_bytes(part.read_bytes() + bytes(50 * 2432)),
        lambda part, journal: journal.write_text(journal.read_text() + "[0, 7, {}, {}]\n"),
        lambda part, journal: journal.write_text(journal.read_text() + "[21, -9, {}, {}]\n[]\n{}"),
    ],
    ids=["torn journal", "short part", "no part", "long part", "wrong line", "rubbish"],
)
def test_what_is_left_is_not_trusted_beyond_what_it_holds(
    files: tuple[Path, Path], harm: Any
) -> None:
    source, output = files
    with source.open("rb") as file:
        run = stream.convert_file(task(), file, output)
        for _ in range(3):
            next(run)
        run.close()
    part = output.parent / "out.part"
    harm(part, output.parent / "out.part.journal")
    pieces = convert(task(), source, output)
    assert output.read_bytes() == expected(GOOD)
    assert min(piece.count for piece in pieces) > 0
    assert sum(piece.count for piece in pieces) == AREAS


def test_a_journal_that_was_torn_is_whole_again(files: tuple[Path, Path]) -> None:
    """What a third run finds is what the first two did, and nothing of the line between them."""
    source, output = files
    journal = output.parent / "out.part.journal"

    def some(count: int) -> list[bool]:
        with source.open("rb") as file:
            run = stream.convert_file(task(), file, output)
            resumed = [next(run).resumed for _ in range(count)]
            run.close()
        return resumed

    some(3)
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 4
    journal.write_bytes(b"".join(lines[:3]) + lines[3][:-1] + b" " * 99)
    assert some(5) == [True] * 2 + [False] * 3
    _, *told = journal.read_text().splitlines()
    assert [json.loads(line)[:2] for line in told] == [[7 * n, 7] for n in range(5)]
    assert [piece.resumed for piece in convert(task(), source, output)] == [n < 5 for n in range(8)]
    assert output.read_bytes() == expected(GOOD)


@pytest.mark.parametrize("change", ["input", "mask", "policy", "no journal"])
def test_what_another_task_left_is_not_touched(files: tuple[Path, Path], change: str) -> None:
    source, output = files
    with source.open("rb") as file:
        run = stream.convert_file(task(), file, output)
        next(run)
        run.close()
    other = task("copy" if change == "policy" else "raise", mask=7 if change == "mask" else None)
    if change == "input":
        source.write_bytes(b"".join(GOOD[1:]))
    if change == "no journal":
        (output.parent / "out.part.journal").unlink()
    before = {path: path.read_bytes() for path in output.parent.iterdir()}
    options = {"drop": (2, 5, 6, 7)} if change == "mask" else {}
    other = task(other.errors, mask=other.mask, **options)
    with pytest.raises(XsaveError, match=r"out\.part exists, and is not what this command left"):
        convert(other, source, output)
    assert {path: path.read_bytes() for path in output.parent.iterdir()} == before


def test_a_schema_that_changes_meanwhile(files: tuple[Path, Path], tmp_path: Path) -> None:
    """Another initial value is another work."""
    source, output = files
    schemas = tmp_path / "schemas"
    for folder in ("components", "models"):
        (schemas / folder).mkdir(parents=True)
    (schemas / "models" / "newer.yaml").write_text(
        "model: newer\ntitle: x\nextends: zen4\ncomponents: {new: {size: 64, offset: 2440}}\n"
        "sizes: {standard: 2504, compacted: 2544}\nconfirmed: false\nsource: made up\n"
    )

    def newer(initial: int) -> CpuModel:
        (schemas / "components" / "20-new.yaml").write_text(
            "component: new\nnumber: 20\ntitle: x\nfields:\n"
            f"  - {{name: control, type: u64, initial: {initial}}}\n"
        )
        return Catalog([schemas]).model("newer")

    with source.open("rb") as file:
        run = stream.convert_file(task(model=newer(1), format="standard"), file, output)
        next(run)
        run.close()
    with pytest.raises(XsaveError, match="is not what this command left"):
        convert(task(model=newer(2), format="standard"), source, output)
    convert(task(model=newer(1), format="standard"), source, output)


def test_two_processes_do_not_write_one_file(files: tuple[Path, Path]) -> None:
    source, output = files
    with source.open("rb") as file:
        run = stream.convert_file(task(), file, output)
        next(run)
        with pytest.raises(XsaveError, match="another process is writing it"):
            convert(task(), source, output)
        assert len(list(run)) == 7
    assert output.read_bytes() == expected(GOOD)


def test_a_file_that_is_cut_off_is_told_before_anything_is_written(
    files: tuple[Path, Path],
) -> None:
    source, output = files
    source.write_bytes(b"".join(GOOD)[:-1])
    message = "49 areas of 2440 bytes, and 2439 bytes of one more"
    with pytest.raises(TooShortError, match=message):
        convert(task(), source, output)
    assert names(output.parent) == {"in"}
    sink = io.BytesIO()
    with source.open("rb") as file, pytest.raises(TooShortError, match=message):
        list(stream.convert_stream(task(), file, sink))
    assert sink.getvalue() == expected(GOOD[:49])


@pytest.mark.parametrize("first", ["skip", "copy"])
def test_bad_areas_of_one_run_have_one_fate(files: tuple[Path, Path], first: str) -> None:
    """A stride as long as the result: only what is asked for tells the two apart."""
    source, output = files
    source.write_bytes(b"".join(area[:2432] for area in MIXED))
    with source.open("rb") as file:
        run = stream.convert_file(task(first, stride=2432), file, output)
        for _ in range(3):
            next(run)
        run.close()
    other = {"skip": "copy", "copy": "skip"}[first]
    with pytest.raises(XsaveError, match="is not what this command left"):
        convert(task(other, stride=2432), source, output)
    convert(task(first, stride=2432), source, output)
    assert len(output.read_bytes()) == AREAS * 2432


@pytest.mark.parametrize(
    "change",
    [
        lambda path: os.truncate(path, 40 * STRIDE),
        lambda path: path.write_bytes(b"".join(GOOD) + GOOD[0]),
        lambda path: path.write_bytes(b"".join(reversed(GOOD))),
    ],
    ids=["shorter", "longer", "others"],
)
def test_an_input_that_changes_meanwhile(files: tuple[Path, Path], change: Any) -> None:
    source, output = files
    with source.open("rb") as file:
        run = stream.convert_file(task(), file, output)
        next(run)
        change(source)
        os.utime(source, ns=(1, 1))
        with pytest.raises(XsaveError, match="the input changed while it was read"):
            list(run)
    assert not output.exists()


def test_no_areas_at_all(files: tuple[Path, Path]) -> None:
    source, output = files
    source.write_bytes(b"")
    assert convert(task(), source, output) == []
    assert output.read_bytes() == b""
    assert names(output.parent) == {"in", "out"}


@pytest.mark.skipif(sys.platform == "win32", reason="pipes there always block")
def test_a_pipe_that_does_not_block() -> None:
    """What is not there yet is waited for: it is not the end."""
    import threading
    import time

    reading, writing = os.pipe()
    os.set_blocking(reading, False)

    def write() -> None:
        with os.fdopen(writing, "wb") as pipe:
            for data in GOOD:
                pipe.write(data)
                pipe.flush()
                time.sleep(0.002)

    writer = threading.Thread(target=write)
    sink = io.BytesIO()
    with os.fdopen(reading, "rb") as pipe:
        writer.start()
        list(stream.convert_stream(task(), pipe, sink))
    writer.join()
    assert sink.getvalue() == expected(GOOD)


class Dripping(io.RawIOBase):
    """A pipe that gives a little at a time."""

    def __init__(self, data: bytes):
        self.data = data

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), 1000, len(self.data))
        buffer[:count], self.data = self.data[:count], self.data[count:]
        return count


def test_a_pipe() -> None:
    data, sink = b"".join(GOOD), io.BytesIO()
    pieces = stream.convert_stream(task(), Dripping(data[576:]), sink, data[:576])
    assert sum(piece.count for piece in pieces) == AREAS
    assert sink.getvalue() == expected(GOOD)


def test_the_other_direction_and_the_other_model(tmp_path: Path) -> None:
    model = load_model("skylake-server").limited(xcr0=0xE7, xss=0)
    (tmp_path / "in").write_bytes(b"".join(GOOD))
    convert(task(model=model, format="standard"), tmp_path / "in", tmp_path / "out")
    want = [relayout(each, source=ZEN4, target=model, format="standard").data for each in GOOD]
    assert (tmp_path / "out").read_bytes() == b"".join(want)


def test_a_file_keeps_its_permissions_and_a_link_its_file(files: tuple[Path, Path]) -> None:
    source, output = files
    output.write_bytes(b"x")
    output.chmod(0o640)
    link = output.with_name("link")
    link.symlink_to(output)
    convert(task(), source, link)
    assert link.is_symlink()
    assert output.stat().st_mode & 0o777 == 0o640
    assert output.read_bytes() == expected(GOOD)


@pytest.mark.parametrize("name", ["out.part", "out.part.journal"])
@pytest.mark.parametrize("kind", ["link", "hard link", "fifo", "other's"])
def test_what_somebody_else_prepared_is_no_result(
    name: str, kind: str, files: tuple[Path, Path]
) -> None:
    """A file and a journal that say all is done already, by a run that stopped."""
    source, output = files
    source.write_bytes(b"".join(MIXED))
    with source.open("rb") as file:
        run = stream.convert_file(task("skip"), file, output)
        next(run)
        run.close()
    prepared, other = output.with_name(name), output.with_name("other")
    if kind == "link":
        prepared.rename(other)
        prepared.symlink_to(other)
    elif kind == "hard link":
        other.hardlink_to(prepared)
    elif kind == "fifo":
        prepared.unlink()
        os.mkfifo(prepared)
    else:
        try:
            os.chown(prepared, 1234, -1)
        except PermissionError:
            pytest.skip("only root gives files away")
    before = other.read_bytes() if other.exists() else b""
    with pytest.raises(XsaveError, match="is no file of this user's alone, and is not gone on"):
        convert(task("skip"), source, output)
    assert not output.exists()
    assert (other.read_bytes() if other.exists() else b"") == before


@pytest.mark.parametrize(
    ("given", "replaced", "part", "want"),
    [(0o600, None, 0o600, 0o600), (0o440, None, 0o640, 0o440), (0o644, 0o600, 0o600, 0o600)],
)
def test_permissions(
    given: int, replaced: int | None, part: int, want: int, files: tuple[Path, Path]
) -> None:
    """Of what is not done yet, and of the result."""
    source, output = files
    if replaced is not None:
        output.write_bytes(b"before")
        output.chmod(replaced)
    source.chmod(given)
    before = os.umask(0o022)
    try:
        with source.open("rb") as file:
            for _ in stream.convert_file(task(), file, output):
                unfinished = output.with_name("out.part").stat().st_mode & 0o777
                assert unfinished & ~0o600 == part & ~0o600
                assert output.with_name("out.part.journal").stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)
    assert output.stat().st_mode & 0o777 == want


def test_a_file_that_is_cut_off_while_it_is_converted(files: tuple[Path, Path]) -> None:
    source, output = files
    with source.open("rb") as file:
        run = stream.convert_file(task(), file, output)
        next(run)
        os.truncate(source, 14 * STRIDE)
        with pytest.raises(XsaveError, match="the input changed while it was read"):
            list(run)
    assert not output.exists()


def test_a_stride_that_holds_no_area() -> None:
    with pytest.raises(XsaveError, match="stride of 575 bytes"):
        task(stride=575)


CONVERT_AND_TELL = """
import sys
from xsaveschema.cli.program import program
from memory import peak
program.main(sys.argv[1:], standalone_mode=False)
print(peak())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is told by /proc")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks = []
    for count in (10_000, 40_000):
        source = tmp_path / "in"
        with source.open("wb") as file:
            for _ in range(count // 1000):
                file.write(GOOD[0] * 1000)
        command = [sys.executable, "-c", CONVERT_AND_TELL, "convert", "--batch", os.fspath(source)]
        command += ["--model", "zen4", "--stride", str(STRIDE), "--format", "compacted"]
        done = subprocess.run(
            [*command, "-o", os.devnull],
            env={**os.environ, "PYTHONPATH": os.fspath(TESTS)},
            capture_output=True,
            check=True,
        )
        peaks.append(int(done.stdout))
    # KiB: the larger file alone has 71,000 more.
    assert peaks[1] - peaks[0] < 8_000, peaks


def test_the_journal_is_text_that_a_person_can_read(files: tuple[Path, Path]) -> None:
    source, output = files
    source.write_bytes(b"".join(MIXED))
    with source.open("rb") as file:
        run = stream.convert_file(task("skip"), file, output)
        next(run)
        run.close()
    digest, line = (output.parent / "out.part.journal").read_text().splitlines()
    assert len(digest) == 64
    first, count, bad, dropped = json.loads(line)
    assert (first, count, list(bad), dropped) == (0, 7, ["3"], {})

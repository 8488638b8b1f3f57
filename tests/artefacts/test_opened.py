"""From what people name to areas: files of any size, damaged ones, and what are no files."""

from __future__ import annotations

import os
import random
import re
import struct
import subprocess
import sys
import time
from pathlib import Path

import captures
import cores
import pytest
from artefact_areas import MADE_UP, ZEN4
from places import TESTS

import xsaveschema as xs
from xsaveschema import artefacts
from xsaveschema.errors import XsaveError


def test_an_area_may_be_edited_and_outlives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(MADE_UP["elf-core"] + bytes(17 << 20))  # not in memory
    found = list(artefacts.open(path))
    path.write_bytes(b"")
    for each in found:
        each.area.registers["zmm17"] = 5
        assert each.area.registers["zmm17"] == 5


def test_bytes_of_any_kind() -> None:
    core = MADE_UP["elf-core"]
    core += bytes(-len(core) % 8)
    for data in (core, bytearray(core), memoryview(core), memoryview(core).cast("Q")):
        assert [found.label for found in artefacts.read_bytes(data)] == ["thread 100", "thread 101"]


# What is no file that can be read.


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(artefacts.ArtefactError, match="is no regular file"):
            artefacts.open(path)
    with pytest.raises(artefacts.ArtefactError, match="is a folder"):
        artefacts.open(tmp_path)
    with pytest.raises(artefacts.ArtefactError, match="null"):
        artefacts.open("a\0b")
    with pytest.raises(FileNotFoundError) as caught:
        artefacts.open(tmp_path / "none")
    assert caught.value.filename
    empty = tmp_path / "empty"
    empty.touch()
    with pytest.raises(artefacts.ArtefactError, match="is empty"):
        artefacts.open(empty)


def test_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(ZEN4)
    path.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        with pytest.raises(PermissionError):
            artefacts.open(path)
    finally:
        if root:
            os.seteuid(0)


def test_descriptors_are_closed(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(MADE_UP["elf-core"] + bytes(17 << 20))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        next(artefacts.open(path))  # not read to its end
        artefacts.open(path)
        with pytest.raises(artefacts.ArtefactError):
            list(artefacts.open("/proc/self/exe"))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("name", MADE_UP)
def test_mutated_files_give_areas_or_clear_errors(name: str) -> None:
    """Hundreds of files with a few bytes changed: no other exception, and no long wait."""
    good = MADE_UP[name]
    rng = random.Random(name)
    marks = [m.start() for m in re.finditer(rb"LINUX|CORE", good)]
    hot = [at + d for at in marks for d in range(-12, 40)] or list(range(400, 600))
    if name == "elf-core":
        hot += list(range(64 + 2 * 56))
    for number in range(250):
        data = bytearray(good)
        for _ in range(rng.choice((1, 1, 2, 4))):
            at = rng.choice(hot) if rng.random() < 0.8 else rng.randrange(len(data))
            if rng.random() < 0.3:
                data[at : at + 4] = rng.choice(
                    (b"\xff" * 4, bytes(4), b"\0\0\0\x80", b"\0\x10\0\0")
                )
            else:
                data[at] = rng.randrange(256)
        start = time.process_time()
        try:
            for found in artefacts.read_bytes(bytes(data), strict=number % 2 == 0):
                found.area.values()
                assert found.layout_source
        except XsaveError as error:
            assert str(error)  # noqa: PT017
        assert time.process_time() - start < 1


SMALL_AND_LARGE = """
import sys, time
from memory import peak
from xsaveschema import artefacts
start = time.process_time()
try:
    n = sum(1 for _ in artefacts.open(sys.argv[1]))
except artefacts.ArtefactError as error:
    n = str(error)
if len(sys.argv) > 2:
    artefacts.patch(sys.argv[1], sys.argv[2], {"k1": 1}, "thread 100")
    artefacts.add_layout(sys.argv[2], in_place=True)
print(n, time.process_time() - start, peak(), sep="|")
"""


def measured(*arguments: Path) -> tuple[str, float, int]:
    command = [sys.executable, "-c", SMALL_AND_LARGE, *map(os.fspath, arguments)]
    env = {**os.environ, "PYTHONPATH": os.fspath(TESTS)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    what, seconds, peak = done.stdout.strip().split("|")
    return what, float(seconds), int(peak)


def test_a_sparse_core_of_8_gib_costs_no_more_than_a_small_one(tmp_path: Path) -> None:
    size = 8 << 30
    data = bytearray(cores.core(cores.threads([ZEN4] * 200)))
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(data)
    (at,) = struct.unpack_from("<Q", data, 64 + 56 + 8)
    struct.pack_into("<QQ", data, 64 + 56 + 32, size - at, size - at)
    with large.open("wb") as file:
        file.write(data)
        try:
            file.truncate(size)
        except OSError as error:
            pytest.skip(f"no sparse files here: {error}")
    if large.stat().st_blocks * 512 > 1 << 24:
        pytest.skip("this file system has no holes")
    _, of_small, peak_of_small = measured(small, tmp_path / "small.out")
    what, of_large, peak_of_large = measured(large, tmp_path / "large.out")
    assert what == "200"
    assert peak_of_large < peak_of_small + 4096  # KiB
    assert of_large < 3 * of_small + 1
    out = list(artefacts.open(tmp_path / "large.out"))
    assert {found.layout_source for found in out} == {"NT_X86_XSAVE_LAYOUT"}


def test_endless_notes_end(tmp_path: Path) -> None:
    """8 GiB of zeros that say they are 700 million notes."""
    path = tmp_path / "core"
    data = bytearray(cores.core(cores.threads([ZEN4])))
    struct.pack_into("<Q", data, 64 + 32, (8 << 30) - 200)
    with path.open("wb") as file:
        file.write(data[: data.index(b"memory of")])
        try:
            file.truncate(8 << 30)
        except OSError as error:
            pytest.skip(f"no sparse files here: {error}")
    what, seconds, peak = measured(path)
    assert "more than 1048576 notes" in what
    assert seconds < 15
    assert peak < 128 << 10


def test_captures_are_read(tmp_path: Path) -> None:
    for name in ("linux-kernel_core.elf.xstate.bin", "linux-ptrace_xstate.bin"):
        (found,) = artefacts.open(captures.FOLDER / name)
        assert (found.label, found.area.model.name) == ("area", "zen4")
    (found,) = artefacts.open(captures.FOLDER / "linux-ptrace_xstate.bin", xs.load_model("zen5"))
    assert found.area.model.name == "zen5"

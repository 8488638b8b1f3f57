"""What comes by standard input and through pipes: areas, cores and CPUID dumps."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Thread

import pytest
from artefact_areas import zen4_core
from command import fails, run, tell
from places import DATA

from xsaveschema import cpuid, samples

DUMP = (DATA / "cpuid" / "aida64.txt").read_bytes()
AREA = samples.read("zen4-kernel-core")

Pipe = Callable[[bytes], str]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """Makes a pipe as shells do for ``<(...)``: its path, with a writer at the other end."""

    def write(end: int, data: bytes) -> None:
        with os.fdopen(end, "wb") as file:
            file.write(data)

    def make(data: bytes) -> str:
        out, into = os.pipe()
        held.callback(os.close, out)
        writer = Thread(target=write, args=(into, data))
        writer.start()
        held.callback(writer.join)
        return f"/dev/fd/{out}"

    with ExitStack() as held:
        yield make


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="no /dev/fd here")
class TestPipes:
    def test_identify_takes_a_dump_however_it_comes(self, pipe: Pipe) -> None:
        path = str(DATA / "cpuid" / "aida64.txt")
        wanted = tell("identify", path)
        assert wanted["candidates"][0]["model"] == "skylake"
        for source in ("-", pipe(DUMP)):
            data = DUMP if source == "-" else None
            assert tell("identify", source, data=data) == wanted

    @pytest.mark.parametrize("kind", ["area", "core"])
    def test_identify_takes_an_area_however_it_comes(
        self, kind: str, tmp_path: Path, pipe: Pipe
    ) -> None:
        data = AREA if kind == "area" else zen4_core()
        path = tmp_path / "file"
        path.write_bytes(data)
        wanted = tell("identify", str(path))
        assert wanted["candidates"][0]["model"].startswith("zen")
        assert tell("identify", "-", data=data) == wanted
        assert tell("identify", pipe(data)) == wanted

    def test_new_takes_a_dump_however_it_comes(self, pipe: Pipe) -> None:
        path = str(DATA / "cpuid" / "aida64.txt")
        wanted = run("new", "mine", "--force", path).stdout
        assert "aida64.txt" in wanted
        for name, source in (("standard input", "-"), ("a pipe", pipe(DUMP))):
            made = run("new", "mine", "--force", source, data=DUMP).stdout
            assert made == wanted.replace("aida64.txt", name)

    def test_the_library_reads_a_pipe_that_is_open(self, pipe: Pipe) -> None:
        (record,) = cpuid.read(pipe(DUMP))
        assert record.signature == 0x000506E3
        with pytest.raises(cpuid.CpuidDumpError, match="more than 16777216 bytes"):
            cpuid.read(pipe(b" " * ((16 << 20) + 1)))

    def test_a_fifo_that_nobody_has_open_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "dump")
        assert "is no regular file" in fails("identify", str(tmp_path / "dump"))
